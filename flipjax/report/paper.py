"""The paper's table and its figure of Flip by flip-risk decile: `flipjax report --table paper RUN [RUN ...]`."""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from flipjax.config import ConfigError, leaves
from flipjax.report.charts import Chart
from flipjax.report.document import to_latex
from flipjax.report.panels import TENTHS, curve_panel, mean_ranking
from flipjax.report.run import RunTables, read_run
from flipjax.report.style import shades
from flipjax.results.estimates import SEEDS_INTERVAL
from flipjax.results.frames import Row, groups_of, read_csv, records_of, write_csv
from flipjax.results.text import TextTable, mean_text, setting_label, to_markdown, to_text, varying_axes, wide
from flipjax.support.files import write_text

PUBLISHED = Path(__file__).with_name("published_deciles.csv")
"""Mean flip share by decile of flip-risk at rho .95, read off the figure of the README of acharaakshit/label-flips, the
code of arXiv 2604.13326: within .002."""
KEYS = ("data", "encoder", "method", "rho")
NAMES = [*KEYS, "classes", "seeds"]
TITLES = {
    "iou/foreground": "foreground IoU",
    "fg_correct": "FG-Corr",
    "fg_flip": "FG-Flip",
    "fg_miss": "FG-Miss",
    "flip_image_mean": "Flip",
    "top_decile_flip_share": "top-decile share",
    "top_decile_of_ceiling": "of its ceiling",
}


def paper_means(runs: Iterable[RunTables]) -> pd.DataFrame:
    """Returns the paper's quantities, one row per data set, encoder, method, rho and quantity.

    Columns: KEYS; `classes`, the foreground classes in order; `seeds`; `quantity`, a key of TITLES, or `iou/1`, `gap/1`
    and so on of each class; `mean` over seeds of the first selection rule, and its Student's t interval `low`, `high`.

    Raises:
        ConfigError: runs differ in their number of classes, or settings share data set, encoder, method and rho.
        FileNotFoundError: a run has no stored cells, or no member that enters means.
    """
    tables = []
    for run in runs:
        if not run.cells or run.kept().empty:
            raise FileNotFoundError(f"{run.folder}: expected a run with stored cells and members that enter means")
        names = next(iter(run.cells.values())).class_names[1:]
        numbered = itertools.product(("iou", "gap"), enumerate(names, start=1))
        keys = {f"{kind}/{name}": f"{kind}/{number}" for kind, (number, name) in numbered}
        keys |= {key: key for key in TITLES}
        means = run.summary[run.summary["quantity"].isin(keys)].assign(classes=", ".join(names), data=_data_of(run))
        means["quantity"] = means["quantity"].map(keys)
        means["encoder"] = _encoder_of(run, means)
        means["method"], means["rho"] = means.get("method", ""), means.get("rho", math.nan)
        means["setting"] = [setting_label(row, varying_axes(run.summary)) for row in records_of(means)]
        tables.append(means.assign(seeds=means.groupby([*KEYS], dropna=False)["n"].transform("max")))
    table = pd.concat(tables, ignore_index=True)
    counts = sorted(table["classes"].str.count(",").add(1).unique())
    if len(counts) > 1:
        raise ConfigError("--table", "runs with one number of classes", f"{' and '.join(map(str, counts))} classes")
    for row in records_of(table[table.duplicated([*KEYS, "quantity"])][:1]):
        found = ", ".join(str(row[name]) for name in ("setting", *KEYS) if row[name] != "")
        raise ConfigError("--table", "one setting of each data set, encoder, method and rho", f"two of {found}")
    return table[[*NAMES, "quantity", "mean", "low", "high"]]


def _data_of(run: RunTables) -> str:
    return leaves(run.config).get("config.pool.name", run.config.get("name", run.name))


def _encoder_of(run: RunTables, table: pd.DataFrame) -> pd.Series:
    """Returns the encoder of each row, an axis of the run or its configuration's."""
    own = leaves(run.config).get("config.model.name", "")
    return table.get("model.name", pd.Series(own, table.index)).str.removeprefix("smp_")


def paper_text(means: pd.DataFrame) -> TextTable:
    """Returns the rows of `paper_means` as text, with an interval over seeds after each mean."""
    numbered = [name for name in means["quantity"].unique() if name not in TITLES]
    titles = {name: name.replace("/", ", class ").replace("iou", "IoU") for name in numbered} | TITLES

    def cell(row: Row, first: Row) -> str:
        return mean_text(row)

    return wide(means.assign(n=means["seeds"]), NAMES, titles, cell)


def decile_curves(runs: Iterable[RunTables]) -> dict[str, pd.DataFrame]:
    """Returns mean Flip by decile of flip-risk, over seeds, by data set, with a column for each encoder.

    Those of the first run of both and its first method at rho .95, or at its highest rho without that level.
    """
    curves: dict[str, pd.DataFrame] = {}
    for run in runs:
        records = run.kept()
        records = records[records["method"] == records["method"].iloc[0]] if "method" in records else records
        of = {member: cell for cell in run.cells.values() for member in cell.members}
        for (encoder,), own in groups_of(records.assign(encoder=_encoder_of(run, records)), ["encoder"]):
            if "rho" in own:
                own = own[own["rho"] == (0.95 if (own["rho"] == 0.95).any() else own["rho"].max())]
            images = [of[name].decomposition(name, "test") for name in own["member"]]
            known = curves.setdefault(_data_of(run), pd.DataFrame(index=TENTHS))
            if encoder not in known:
                known[encoder] = mean_ranking(images)["flip_by_risk_decile"]
    return curves


def decile_chart(curves: Mapping[str, pd.DataFrame], *, published: bool) -> Chart:
    """Returns `decile_curves` as a panel per data set on one axis, with the paper's curves, dashed, if `published`."""
    facets = {data: own.copy() for data, own in curves.items()}
    for (data, encoder), own in groups_of(read_csv(PUBLISHED), ["dataset", "encoder"]) if published else []:
        known = facets.setdefault(data, pd.DataFrame(index=TENTHS))
        known[f"{encoder}, published"] = own["mean_flip"].to_numpy()
    encoders = list(dict.fromkeys(str(name).split(",")[0] for own in facets.values() for name in own))
    looks: dict[str, dict[str, Any]] = {}
    for encoder, colour in zip(encoders, shades(len(encoders)), strict=True):
        looks |= {encoder: {"color": colour}, f"{encoder}, published": {"color": colour, "linestyle": "--"}}
    most = 1.05 * float(np.nanmax([0.01, *(share for own in facets.values() for share in own.to_numpy().flat)]))
    drawn = []
    for data, own in facets.items():
        # One curve has no legend.
        title = data if own.shape[1] > 1 else f"{data}, {own.columns[0]}"
        drawn.append(curve_panel(own, title=title, x="decile of flip-risk", y="mean Flip", most=most, looks=looks))
    text = "Images sorted by flip-risk."
    return Chart("paper_deciles", "Flip by decile of flip-risk", text, "Means over seeds.", drawn)


def write_paper(folders: Sequence[str | Path], folder: Path, *, published: bool = False) -> str:
    """Writes paper.csv, paper.md, paper.tex and paper_deciles.svg and .png, and returns the table as text.

    Args:
        folders: run folders.
        folder: the output folder.
        published: whether to add the paper's published curves, dashed.
    """
    runs = [read_run(each) for each in folders]
    means = paper_means(runs)
    text = paper_text(means)
    chart = decile_chart(decile_curves(runs), published=published)
    table = means.pivot(index=NAMES, columns="quantity", values=["mean", "low", "high"])
    table.columns = [name if end == "mean" else f"{name}_{end}" for end, name in table.columns.to_flat_index()]
    write_csv(folder / "paper.csv", table.reset_index())
    write_text(folder / "paper.md", f"{to_markdown(text)}\n\nMeans over seeds; {SEEDS_INTERVAL}.\n")
    caption = f"Means over seeds with the {SEEDS_INTERVAL}."
    write_text(folder / "paper.tex", f"% \\usepackage{{booktabs}}\n{to_latex(text, caption=caption)}\n")
    chart.save(folder)
    return to_text(text)
