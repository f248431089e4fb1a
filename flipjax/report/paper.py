"""The paper's table and its figure of Flip by flip-risk decile: `flipjax report --table paper RUN [RUN ...]`."""

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from flipjax.config import ConfigError
from flipjax.metrics import summarize
from flipjax.report.document import to_latex
from flipjax.report.html import Picture
from flipjax.report.panels import TENTHS, Chart, Curve, curve_panel
from flipjax.results.cells import mark_unlearnt, read_cells
from flipjax.results.estimates import SEEDS_INTERVAL, aggregate
from flipjax.results.frames import Row, groups_of, read_csv, records_of, write_csv
from flipjax.results.rows import axes_of, kept_records, member_quantities
from flipjax.results.text import TextTable, mean_text, to_markdown, to_text
from flipjax.support.files import write_text

PUBLISHED = Path(__file__).with_name("published_deciles.csv")
"""Mean flip share by decile of flip-risk at rho .95, read off the figure of the README of acharaakshit/label-flips, the
code of arXiv 2604.13326: within .002."""
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
        ConfigError: runs differ in their number of classes, or share data set, encoder, method and rho.
    """
    table = pd.DataFrame([row for run in runs for row in _rows_of(Path(run))])
    counts = sorted({classes.count(",") + 1 for classes in table["classes"]})
    if len(counts) > 1:
        found = " and ".join(map(str, counts))
        raise ConfigError("--table", "runs with one number of classes", f"{found} classes")
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


def decile_curves(runs: Sequence[str | Path], *, rho: float = 0.95) -> pd.DataFrame:
    """Returns mean Flip by decile of flip-risk, in the format of published_deciles.csv, one row per run and decile.

    Averages over seeds of the first method at `rho`, or at the run's highest rho without that level.
    """
    rows = []
    for run in runs:
        results, cells, setting = _read(Path(run))
        records = kept_records(member_quantities(results))
        records = records[records["method"] == records["method"].iloc[0]] if "method" in records else records
        of = {member: cell for cell in cells.values() for member in cell.members}
        records = records.assign(encoder=records.get("model.name", setting["encoder"]))
        for (encoder,), own in groups_of(records, ["encoder"]):
            level = np.nan
            if "rho" in own:
                level = rho if (own["rho"] == rho).any() else own["rho"].max()
                own = own[own["rho"] == level]
            curves = [summarize(of[name].decomposition(name, "test"))["flip_by_risk_decile"] for name in own["member"]]
            row = setting | {"encoder": str(encoder).removeprefix("smp_"), "rho": level}
            means = np.mean(curves, axis=0).tolist()
            rows += [row | {"decile": d, "mean_flip": mean} for d, mean in enumerate(means, start=1)]
    return pd.DataFrame(rows).rename(columns={"data": "dataset"})


def published_curves() -> pd.DataFrame:
    """Returns the paper's curves: `dataset`, `encoder`, `rho`, `decile` 1 to 10, `mean_flip`."""
    return pd.read_csv(PUBLISHED)


COLOURS = ("#3F74D6", "#D4672F", "#222222", "#B8860B")


def write_paper(runs: Sequence[str | Path], folder: Path, *, published: bool = False) -> str:
    """Writes paper.csv, paper.md, paper.tex and paper_deciles.svg and .png, and returns the table as text.

    Args:
        runs: run folders.
        folder: the output folder.
        published: whether to add the paper's published curves, dashed.
    """
    table = paper_table(runs)
    text = paper_text(table)
    curves = decile_curves(runs)
    chart = decile_chart(curves, published_curves() if published else curves[:0])
    write_csv(folder / "paper.csv", table)
    write_text(folder / "paper.md", f"{to_markdown(text)}\n\nMeans over seeds; {SEEDS_INTERVAL}.\n")
    caption = f"Means over seeds with the {SEEDS_INTERVAL}."
    write_text(folder / "paper.tex", f"% \\usepackage{{booktabs}}\n{to_latex(text, caption=caption)}\n")
    Picture(chart).save(folder)
    return to_text(text)


def decile_chart(curves: pd.DataFrame, published: pd.DataFrame) -> Chart:
    """Returns mean Flip by decile of flip-risk: a panel per data set, a line per encoder, published curves dashed."""
    whole = pd.concat([curves.assign(style="-"), published.assign(style="--")])
    encoders = whole["encoder"].unique().tolist()
    options = {"x": "decile of flip-risk", "y": "mean Flip", "ticks": TENTHS.tolist()}
    options["limits"] = (0.0, 1.05 * float(whole["mean_flip"].max()))
    panels = []
    for name, rows in whole.groupby("dataset", sort=False):
        lines = []
        for (encoder, style), line in rows.groupby(["encoder", "style"], sort=False):
            label = f"{encoder}, published" if style == "--" else str(encoder)
            colour = COLOURS[encoders.index(encoder) % len(COLOURS)]
            lines.append(Curve(label, line["decile"].to_numpy(), line["mean_flip"].to_numpy(), colour, str(style)))
        # One line has no legend.
        panels.append(curve_panel(lines, title=str(name) if lines[1:] else f"{name}, {lines[0].label}", **options))
    title, caption = "Flip by decile of flip-risk", "Images sorted by flip-risk."
    return Chart("paper_deciles", title, caption, "Means over seeds.", panels)
