"""What a report is made of: the tables of a run folder, read from its files alone."""

import json
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from flipjax.metrics import summarize
from flipjax.metrics.decomposition import Decomposition
from flipjax.report.figures import Deciles
from flipjax.results import (
    INTERVAL,
    LEFT_OUT,
    Row,
    StoredCell,
    aggregate,
    axes_of,
    compare,
    load_cell,
    member_quantities,
    read_csv,
    regret,
    trend,
)


class Run(NamedTuple):
    """The tables of a run folder, and its cells by the names of their folders.

    `rows`, `records`, `summary`, `trends` and `comparison` (of methods) are of the first selection rule; `regrets`
    compares all of them.
    """

    folder: Path
    config: dict[str, Any]
    rows: list[Row]
    records: list[Row]
    summary: list[Row]
    trends: list[Row]
    comparison: list[Row]
    regrets: list[Row]
    cells: dict[str, StoredCell]

    def kept(self) -> list[Row]:
        """Returns the records of the members that were not left out."""
        return [record for record in self.records if record["status"] not in LEFT_OUT]

    def members(self) -> str:
        """Says how many members there are of each status."""
        counts = Counter(record["status"] for record in self.records)
        return f"{len(self.records)} members: {', '.join(f'{n} {status}' for status, n in sorted(counts.items()))}."

    def seeds(self) -> tuple[int, int]:
        """Returns the fewest and the most seeds behind a mean."""
        counts = [row["n"] for row in self.summary if row["quantity"] == "fg_flip/all"]
        return min(counts), max(counts)

    def note(self, *, interval: bool = True) -> str:
        """Says what the numbers are means of, and which interval they carry."""
        fewest, most = self.seeds()
        test = (row for row in self.rows if (row["split"], row["group"]) == ("test", "all"))
        images = " or ".join(str(n) for n in sorted({row["n_images"] for row in test} - {""})) or "no"
        if most < 2:
            return f"{'One seed' if most else 'No seed'}, {images} test images; no interval."
        count = f"{most}" if fewest == most else f"{fewest} to {most}"
        note = f"Means over {count} seeds, {images} test images each"
        return f"{note}; {INTERVAL}." if interval else f"{note}."


def read(workdir: str | Path) -> Run:
    """Reads a run folder; FileNotFoundError where it holds no results."""
    folder = Path(workdir)
    path = folder / "results.csv"
    rows = read_csv(path) if path.is_file() else []
    if not any(row["split"] == "test" for row in rows):
        raise FileNotFoundError(
            f"{folder}: expected a run folder whose results.csv has test rows; make one with python -m flipjax.sweep"
        )
    cells = {path.parent.name: load_cell(path) for path in sorted(folder.glob("cells/*/decomposition.npz"))}
    config = folder / "config.json"
    settings = json.loads(config.read_text(encoding="utf-8")) if config.is_file() else {}
    shown = [row for row in rows if row["selection"] == rows[0]["selection"]]
    tables = member_quantities(shown), aggregate(shown), trend(shown), compare(shown), regret(rows)
    return Run(folder, settings, shown, *tables, cells)


def deciles(run: Run) -> list[Deciles]:
    """Returns the risk deciles of the test images, as means over the seeds of each setting."""
    names = [name for name in axes_of(run.rows) if name != "seed"]
    records = {record["member"]: record for record in run.kept()}
    curves: dict[tuple, list[np.ndarray]] = {}
    for cell in run.cells.values():
        for member in cell.members:
            if member in records:
                part, place = cell.parts["test"], cell.members.index(member)
                found = summarize(Decomposition(part.confusion[0, place], part.risk_sum[0, place]))
                setting = tuple(records[member][name] for name in names)
                curves.setdefault(setting, []).append(np.array([found["risk_decile"], found["flip_by_risk_decile"]]))
    means = {setting: _mean_of_finite(np.stack(values)) for setting, values in curves.items()}
    return [Deciles(dict(zip(names, setting, strict=True)), *mean) for setting, mean in means.items()]


def _mean_of_finite(values: np.ndarray) -> np.ndarray:
    """Returns the mean over the first axis; NaN where no value is finite."""
    finite = np.isfinite(values)
    count = finite.sum(axis=0)
    total = np.where(finite, values, 0.0).sum(axis=0)
    return np.divide(total, count, out=np.full(count.shape, np.nan), where=count > 0)
