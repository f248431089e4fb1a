"""The paper's table and its figure of Flip by flip-risk decile: `flipjax report --table paper RUN [RUN ...]`."""

import itertools
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from flipjax.config import ConfigError
from flipjax.report.document import to_latex
from flipjax.report.panels import Ranking, mean_ranking, ranking_charts
from flipjax.results.cells import mark_unlearnt, read_cells
from flipjax.results.estimates import SEEDS_INTERVAL, aggregate
from flipjax.results.frames import Row, groups_of, read_csv, records_of, write_csv
from flipjax.results.rows import axes_of, kept_records, member_quantities
from flipjax.results.text import TextTable, mean_text, to_markdown, to_text
from flipjax.support.files import write_text

KEYS = ("data", "encoder", "method", "rho")
SHARES = {
    "iou/foreground": "foreground IoU",
    "fg_correct": "FG-Corr",
    "fg_flip": "FG-Flip",
    "fg_miss": "FG-Miss",
    "flip_image_mean": "Flip",
    "top_decile_flip_share": "top-decile share",
    "top_decile_of_ceiling": "of its ceiling",
}


def paper_table(runs: Sequence[str | Path]) -> pd.DataFrame:
    """Returns the paper's quantities with `_low` and `_high`, one row per data set, encoder, method and rho.

    Columns: KEYS; `classes`, the foreground classes in order; `seeds`; `iou/1`, `gap/1` and so on of each class; the
    keys of SHARES. Numbers are means over seeds of the first selection rule, with Student's t interval.

    Raises:
        ConfigError: runs share data set, encoder, method and rho.
    """
    table = pd.DataFrame([row for run in runs for row in _rows_of(Path(run))])
    for setting in records_of(table[table.duplicated(list(KEYS))]):
        found = ", ".join(str(setting[name]) for name in KEYS)
        raise ConfigError("--table", "one run for each data set, encoder, method and rho", f"two of {found}")
    return table


def _rows_of(folder: Path) -> list[Row]:
    results, cells, setting = _read(folder)
    class_names = next(iter(cells.values())).class_names[1:]
    numbered = itertools.product(("iou", "gap"), enumerate(class_names, start=1))
    quantities = {f"{kind}/{number}": f"{kind}/{name}" for kind, (number, name) in numbered}
    quantities |= {key: key for key in SHARES}
    rows = []
    keys = [name for name in ("model.name", "method", "rho") if name in results]
    for values, means in groups_of(aggregate(results), keys):
        if means["quantity"].duplicated().any():
            varying = [name for name in axes_of(results) if name not in ("seed", *keys) and means[name].nunique() > 1]
            raise ConfigError("--table", "one setting of each method and rho", f"{folder}, over {', '.join(varying)}")
        row: Row = setting | {"method": "", "rho": np.nan} | dict(zip(keys, values, strict=True))
        row["encoder"] = str(row.pop("model.name", row["encoder"])).removeprefix("smp_")
        by_key = {each["quantity"]: each for each in records_of(means)}
        row |= {"classes": ", ".join(class_names), "seeds": by_key["fg_flip"]["n"]}
        ends = itertools.product(quantities.items(), {"mean": "", "low": "_low", "high": "_high"}.items())
        row |= {f"{name}{end}": by_key[key][column] for (name, key), (column, end) in ends}
        rows.append(row)
    return rows


def _read(folder: Path) -> tuple[pd.DataFrame, dict[str, Any], Row]:
    """Returns the test rows of the first selection rule, the cells, and the run's data set and encoder."""
    table = read_csv(folder / "results.csv")
    cells = dict(read_cells(folder, results=table))
    if not cells:
        raise FileNotFoundError(f"{folder}: expected a run folder with stored cells")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))["config"]
    rows = mark_unlearnt(table[table["selection"] == table["selection"].iloc[0]], cells)
    return rows, cells, {"data": config["pool"]["name"], "encoder": config["model"]["name"].removeprefix("smp_")}


def paper_text(table: pd.DataFrame) -> TextTable:
    """Returns the table as text, with an interval over seeds after each mean."""
    numbers = [str(name) for name in table if f"{name}_low" in table]
    titles = {name: name.replace("iou/", "IoU, class ").replace("gap/", "gap, class ") for name in numbers} | SHARES
    rows = []
    for row in records_of(table):
        cells = [mean_text({"mean": row[n], "low": row[f"{n}_low"], "high": row[f"{n}_high"]}) for n in numbers]
        rows.append([*(str(row[name]) for name in (*KEYS, "classes", "seeds")), *cells])
    return TextTable([*KEYS, "classes", "seeds", *(titles[name] for name in numbers)], rows, len(KEYS) + 2)


def rankings(runs: Sequence[str | Path]) -> dict[str, dict[str, Ranking]]:
    """Returns the mean ranking over seeds by data set and encoder.

    That of the first method at rho .95, or at the run's highest rho without that level.
    """
    facets: dict[str, dict[str, Ranking]] = {}
    for run in runs:
        results, cells, setting = _read(Path(run))
        records = kept_records(member_quantities(results))
        records = records[records["method"] == records["method"].iloc[0]] if "method" in records else records
        of = {member: cell for cell in cells.values() for member in cell.members}
        records = records.assign(encoder=records.get("model.name", setting["encoder"]))
        for (encoder,), own in groups_of(records, ["encoder"]):
            if "rho" in own:
                own = own[own["rho"] == (0.95 if (own["rho"] == 0.95).any() else own["rho"].max())]
            images = [of[name].decomposition(name, "test") for name in own["member"]]
            facets.setdefault(setting["data"], {})[encoder.removeprefix("smp_")] = mean_ranking(images)
    return facets


def write_paper(runs: Sequence[str | Path], folder: Path) -> str:
    """Writes paper.csv, paper.md, paper.tex and paper_deciles.svg and .png, and returns the table as text."""
    table = paper_table(runs)
    text = paper_text(table)
    # One curve has no legend.
    facets = {f"{name}, {next(iter(own))}" if len(own) < 2 else name: own for name, own in rankings(runs).items()}
    _, deciles = ranking_charts(facets, note="Means over seeds.")
    write_csv(folder / "paper.csv", table)
    write_text(folder / "paper.md", f"{to_markdown(text)}\n\nMeans over seeds; {SEEDS_INTERVAL}.\n")
    caption = f"Means over seeds with the {SEEDS_INTERVAL}."
    write_text(folder / "paper.tex", f"% \\usepackage{{booktabs}}\n{to_latex(text, caption=caption)}\n")
    replace(deciles, name="paper_deciles").save(folder)
    return to_text(text)
