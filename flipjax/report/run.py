"""Reads the tables of a run folder, and lists missing data."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from flipjax.metrics.images import Images
from flipjax.results import estimates
from flipjax.results.estimates import FEWEST, JUDGED, SEEDS_INTERVAL
from flipjax.results.frames import Row, groups_of
from flipjax.results.resamples import IMAGES_INTERVAL, Resamples
from flipjax.results.rows import LEFT_OUT, NOT_LEARNT, axes_of, kept_records, member_quantities
from flipjax.results.run_data import load, mark_unlearnt
from flipjax.results.store import Cell
from flipjax.results.text import setting_label, varying_axes
from flipjax.support.terminal import listed

UNREADABLE = (ValueError, KeyError, OSError, TypeError)
SCORED = 2000
"""Most members whose scores a report compares."""
RESAMPLED = 200
"""Most members with an interval over images."""
MOST, SHOWN = 12, 4
"""Settings beside rho and seed that a page shows one by one, at most, and those it shows of more."""
TABLES = ("summary", "trend", "comparison", "selection")
"""The tables of a run that `report/` holds as CSV files of these names."""


class ReportError(Exception):
    """Unusable run folder. The message states the file, the expected and the found content."""

    exit_code = 1


class RunTables(NamedTuple):
    """The tables of a run folder, and its cells by folder name.

    `rows`, `records`, `summary`, `trend` and `comparison` (of methods) use the first selection rule; `selection`
    compares the other rules with it; each of the three is one family of verdicts. `scores` holds the rows of
    scores.csv, and `missing` a line for each missing item.
    """

    folder: Path
    config: dict[str, Any]
    rows: pd.DataFrame
    records: pd.DataFrame
    summary: pd.DataFrame
    trend: pd.DataFrame
    comparison: pd.DataFrame
    selection: pd.DataFrame
    history: pd.DataFrame
    cells: dict[str, Cell]
    scores: pd.DataFrame
    missing: list[str]

    @property
    def name(self) -> str:
        """The run's name, or its folder's."""
        return str(self.config.get("name") or self.folder.resolve().name)

    def kept(self) -> pd.DataFrame:
        """Returns the records of members that enter means."""
        return kept_records(self.records)

    def has(self, quantity: str) -> bool:
        """Returns whether any setting has a mean of a quantity."""
        return bool(self.summary["mean"][self.summary["quantity"] == quantity].notna().any())

    def shown(self) -> "RunTables":
        """Returns the run limited to SHOWN settings beside rho and seed if it has more than MOST.

        They are spread evenly from the least to the most Flip in the rare groups at the highest rho. Charts of hundreds
        of settings would be slow to draw and hard to read.
        """
        names = [name for name in axes_of(self.rows) if name not in ("rho", "seed", "selection")]
        means = self.summary[self.summary["quantity"] == JUDGED[0]]
        settings = (means[means["rho"] == means["rho"].max()] if "rho" in means else means).sort_values("mean")
        if len(settings) <= MOST or not names:
            return self
        # NaN comes last, and settings without a mean show little.
        most = max(SHOWN, settings["mean"].count())
        chosen = settings[names].iloc[np.linspace(0, most - 1, SHOWN).astype(int)].sort_index()
        tables = {name: getattr(self, name) for name in ("rows", "records", *TABLES)}
        few = {name: table.merge(chosen) for name, table in tables.items() if {*names} <= {*table}}
        if len(self.history):
            few["history"] = self.history.merge(few["records"][["member"]])
        return self._replace(**few)

    def members(self) -> str:
        """Returns a sentence on the number of members of each status."""
        counts = self.records["status"].value_counts().sort_index()
        return f"{len(self.records)} members: {', '.join(f'{n} {status}' for status, n in counts.items())}."

    def note(self, *, interval: bool = True, dots: bool = False) -> str:
        """Returns a note on the numbers of seeds and images, the kind of interval, and a chart's small dots."""
        means = self.summary[self.summary["quantity"] == "fg_flip"]
        fewest, most = min(means["n"]), max(means["n"])
        test = self.rows[(self.rows["split"] == "test") & (self.rows["group"] == "all")]
        images = " or ".join(f"{n:.0f}" for n in sorted(test["n_images"].dropna().unique())) or "none"
        note = f"Seeds: {most if fewest == most else f'{fewest} to {most}'}; test images: {images}"
        kind = IMAGES_INTERVAL if means["images_low"].notna().any() else ""
        kind = SEEDS_INTERVAL if most > 1 else kind
        # Charts draw intervals only with the seeds that a verdict needs.
        note += f"; {kind}." if interval and kind and not (dots and 1 < most < FEWEST) else "."
        return f"{note} Small dots: single seeds." if dots and most > 1 else note


def read_run(workdir: str | Path) -> RunTables:
    """Reads a run folder.

    Raises:
        FileNotFoundError: the folder has no results.
        DamagedError: a cell is missing or damaged, or a file belongs to another run.
    """
    folder = Path(workdir)
    missing: list[str] = []
    data = load(folder)
    stored = data.members
    if not (stored["split"] == "test").any():
        raise FileNotFoundError(f"{folder}: expected a run folder with test rows; make one with flipjax sweep")
    if not (folder / "results.csv").is_file():
        missing.append("results.csv: the run has not ended; these are the results of the cells that have")
    config = _read_or(folder / "config.json", _object, {}, missing, "; how the run was made is not known")
    rows = mark_unlearnt(stored, data.cells)
    first = rows[rows["selection"] == rows["selection"].iloc[0]]
    records = member_quantities(first)
    _count_members(records, config, missing)
    few = sum(len(cell.members) for cell in data.cells.values()) <= SCORED
    if not few:
        missing.append(f"scores.csv: left out for more than {SCORED} members; flipjax.results.scores makes it")
    resamples = Resamples(data.cells) if len(records) <= RESAMPLED else None
    summary = estimates.aggregate(first, resamples=resamples)
    differences = estimates.differences_of(rows)
    scores = data.scores if few else pd.DataFrame()
    judged = (summary, differences.trend, differences.comparison, differences.selection)
    return RunTables(folder, config, first, records, *judged, data.history, data.cells, scores, missing)


def _read_or(path: Path, read: Callable[[Path], Any], default: Any, missing: list[str], loss: str = "") -> Any:
    """Reads a file of the run, or returns the default and notes the loss in `missing`."""
    try:
        return read(path)
    except UNREADABLE as error:
        missing.append(f"{path.name}: cannot be read ({error}){loss}")
        return default


def _object(path: Path) -> dict[str, Any]:
    """Returns config.json; raises TypeError or ValueError if it or its sessions are no objects."""
    found = {} | json.loads(path.read_text(encoding="utf-8"))
    for session in found.get("sessions", []):
        float(({} | session).get("seconds", 0))
    return found


def _count_members(records: pd.DataFrame, config: Mapping[str, Any], missing: list[str]) -> None:
    planned = config.get("members", 0)
    if len(records) < planned:
        missing.append(f"{planned - len(records)} of the {planned} planned members have no results")
    by_status = {status: records["member"][records["status"] == status] for status in LEFT_OUT if status != NOT_LEARNT}
    missing += [f"{status}, and left out of all means: {listed(own)}" for status, own in by_status.items() if len(own)]


def images_by_setting(run: RunTables) -> list[tuple[str, Row, list[Images]]]:
    """Returns settings in order of rho: title, axes, and the test images of their members by the first rule.

    Left-out members have none.
    """
    names = [name for name in axes_of(run.rows) if name != "seed"]
    cells = {member: cell for cell in run.cells.values() for member in cell.members}
    shown = [name for name in (*varying_axes(run.summary), "rho") if name in names]
    settings = []
    for values, records in groups_of(run.kept(), names):
        members = [member for member in records["member"] if member in cells]
        images = [cells[member].images_of(member, "test") for member in members]
        setting = dict(zip(names, values, strict=True))
        settings += [(setting_label(setting, shown), setting, images)] if images else []
    return sorted(settings, key=lambda entry: entry[1].get("rho", 0.0))
