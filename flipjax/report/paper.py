"""The paper's table and its figure of Flip by flip-risk decile: `flipjax report --table paper RUN [RUN ...]`."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from flipjax.config import ConfigError
from flipjax.config.values import leaves
from flipjax.page.charts import Chart
from flipjax.page.document import to_latex
from flipjax.page.panels import Look, curve_panel
from flipjax.page.rankings import DECILES, FLIP_BY_DECILE, mean_ranking
from flipjax.page.style import shades
from flipjax.page.tables import TextTable, to_markdown, to_text
from flipjax.results.cells import cells_by_member
from flipjax.results.run import StoredRun, load
from flipjax.results.statistics.estimates import INTERVAL_IN_WORDS
from flipjax.results.text import mean_text, setting_label, varying_axes, wide
from flipjax.support.files import write_text
from flipjax.support.frames import Row, groups_of, read_csv, records_of, write_csv

PUBLISHED = Path(__file__).with_name("published_deciles.csv")
"""Mean flip share by decile of flip-risk at rho 0.95, read off the figure of the README of acharaakshit/label-flips,
the code of arXiv 2604.13326: within 0.002."""
PUBLISHED_RHO = 0.95
"""The level of rho of that figure."""
KEYS = ("data", "encoder", "method", "rho")
"""Columns that name a setting."""
NAMES = [*KEYS, "classes", "seeds"]
"""Columns that name a row."""
TITLES = {
    "iou/foreground": "foreground IoU",
    "fg_correct": "FG-Corr",
    "fg_flip": "FG-Flip",
    "fg_miss": "FG-Miss",
    "flip_image_mean": "Flip",
    "top_decile_flip_share": "top-decile share",
    "top_decile_of_ceiling": "gain over chance",
}
"""The paper's quantities, by key."""


def paper_means(runs: Iterable[StoredRun]) -> pd.DataFrame:
    """Returns the paper's quantities, one row per data set, encoder, method, rho and quantity.

    Columns: KEYS; `classes`, the foreground classes in order; `seeds`; `quantity`, a key of TITLES, or `iou/1`, `gap/1`
    and so on of each class; `mean` over seeds of the first selection rule, and its Student's t interval `low`, `high`.

    Raises:
        ConfigError: runs differ in their number of classes, or settings share data set, encoder, method and rho.
        FileNotFoundError: a run has no member that enters means.
    """
    table = pd.concat([_means_of(run) for run in runs], ignore_index=True)
    counts = sorted(table["classes"].str.count(",").add(1).unique())
    if len(counts) > 1:
        raise ConfigError("--table", "runs with one number of classes", f"{' and '.join(map(str, counts))} classes")
    repeated = table[table.duplicated([*KEYS, "quantity"])]
    if len(repeated):
        first = records_of(repeated)[0]
        setting = ", ".join(str(first[name]) for name in ("setting", *KEYS) if first[name] != "")
        raise ConfigError("--table", "one setting of each data set, encoder, method and rho", f"two of {setting}")
    return table[[*NAMES, "quantity", "mean", "low", "high"]]


def _means_of(run: StoredRun) -> pd.DataFrame:
    """Returns the rows of `paper_means` of one run, with a column `setting`."""
    if run.first_rule.kept.empty:
        raise FileNotFoundError(f"{run.folder}: expected a run with members that enter means")
    names = run.example.class_names[1:]
    keys = {key: key for key in TITLES}
    for number, name in enumerate(names, start=1):
        keys[f"iou/{name}"] = f"iou/{number}"
        keys[f"gap/{name}"] = f"gap/{number}"
    means = run.first_rule.means
    axes = varying_axes(means)
    means = means[means["quantity"].isin(keys)]
    means = means.assign(
        quantity=means["quantity"].map(keys),
        classes=", ".join(names),
        data=_data_of(run),
        encoder=_encoder_of(run, means),
        method=means.get("method", ""),
        rho=means.get("rho", math.nan),
        setting=[setting_label(row, axes) for row in records_of(means)],
    )
    return means.assign(seeds=means.groupby([*KEYS], dropna=False)["n"].transform("max"))


def _data_of(run: StoredRun) -> str:
    return leaves(run.config_record).get("config.pool.name", run.config_record.get("name", run.name))


def _encoder_of(run: StoredRun, table: pd.DataFrame) -> pd.Series:
    """Returns the encoder of each row, an axis of the run or its configuration's."""
    of_run = pd.Series(leaves(run.config_record).get("config.model.name", ""), table.index)
    return table.get("model.name", of_run).str.removeprefix("smp_")


def paper_text(means: pd.DataFrame) -> TextTable:
    """Returns the rows of `paper_means` as text, with an interval over seeds after each mean."""
    titles = {}
    for name in means["quantity"].unique():
        if name not in TITLES:
            # Of a class, such as iou/1.
            titles[name] = name.replace("/", ", class ").replace("iou", "IoU")
    titles = {**titles, **TITLES}

    def cell(row: Row, first: Row) -> str:
        return mean_text(row)

    return wide(means.assign(n=means["seeds"]), NAMES, titles, cell)


def decile_curves(runs: Iterable[StoredRun]) -> dict[str, pd.DataFrame]:
    """Returns mean Flip by decile of flip-risk, over seeds, by data set, with a column for each encoder.

    Those of the first run of both and its first method at rho 0.95, or at its highest rho without that level.
    """
    curves: dict[str, pd.DataFrame] = {}
    for run in runs:
        records = run.first_rule.kept
        if "method" in records:
            records = records[records["method"] == records["method"].iloc[0]]
        cells = cells_by_member(run.cells)
        of_data = curves.setdefault(_data_of(run), pd.DataFrame(index=DECILES))
        for (encoder,), members in groups_of(records.assign(encoder=_encoder_of(run, records)), ["encoder"]):
            if encoder in of_data:
                continue
            at_level = _at_published_rho(members)
            images = [cells[name].decomposition(name, "test") for name in at_level["member"]]
            of_data[encoder] = mean_ranking(images)[FLIP_BY_DECILE.key]
    return curves


def _at_published_rho(records: pd.DataFrame) -> pd.DataFrame:
    """Returns the records at the level of the paper's figure, or at the highest level without it."""
    if "rho" not in records:
        return records
    level = records["rho"].max()
    if (records["rho"] == PUBLISHED_RHO).any():
        level = PUBLISHED_RHO
    return records[records["rho"] == level]


def decile_chart(curves: Mapping[str, pd.DataFrame], *, published: bool) -> Chart:
    """Returns `decile_curves` as a panel per data set on one axis, with the paper's curves, dashed, if `published`.

    Example:
        >>> curves = {"waterbirds": pd.DataFrame({"unet": np.linspace(0, 0.9, 10)}, index=DECILES)}
        >>> chart = decile_chart(curves, published=False)
        >>> len(chart.panels), chart.title
        (1, 'Flip by decile of flip-risk')
    """
    facets = {data: of_data.copy() for data, of_data in curves.items()}
    if published:
        for (data, encoder), rows in groups_of(read_csv(PUBLISHED), ["dataset", "encoder"]):
            of_data = facets.setdefault(data, pd.DataFrame(index=DECILES))
            of_data[f"{encoder}, published"] = rows["mean_flip"].to_numpy()
    names = [str(name) for of_data in facets.values() for name in of_data]
    encoders = list(dict.fromkeys(name.removesuffix(", published") for name in names))
    looks = {}
    for encoder, colour in zip(encoders, shades(len(encoders)), strict=True):
        looks[encoder] = Look(colour)
        looks[f"{encoder}, published"] = Look(colour, "--")
    shares = np.concatenate([of_data.to_numpy().ravel() for of_data in facets.values()])
    y_end = 1.05 * float(np.nanmax([0.01, *shares]))
    panels = []
    for data, of_data in facets.items():
        title = data
        if of_data.shape[1] == 1:
            # One curve has no legend.
            title = f"{data}, {of_data.columns[0]}"
        x = "decile of flip-risk"
        panels.append(curve_panel(of_data, title=title, x=x, y="mean Flip", y_end=y_end, looks=looks))
    text = "Images sorted by flip-risk."
    return Chart("paper_deciles", "Flip by decile of flip-risk", text, "Means over seeds.", panels)


def _column(end: str, quantity: str) -> str:
    """Returns the column of a quantity's mean, or of an end of its interval."""
    if end == "mean":
        return quantity
    return f"{quantity}_{end}"


def write_paper(folders: Sequence[str | Path], folder: Path, *, published: bool = False) -> str:
    """Writes paper.csv, paper.md, paper.tex and paper_deciles.svg and .png, and returns the table as text.

    Args:
        folders: run folders.
        folder: the output folder.
        published: whether to add the paper's published curves, dashed.
    """
    runs = [load(run) for run in folders]
    means = paper_means(runs)
    text = paper_text(means)
    chart = decile_chart(decile_curves(runs), published=published)
    table = means.pivot(index=NAMES, columns="quantity", values=["mean", "low", "high"])
    table.columns = [_column(end, name) for end, name in table.columns.to_flat_index()]
    write_csv(folder / "paper.csv", table.reset_index())
    write_text(folder / "paper.md", f"{to_markdown(text)}\n\nMeans over seeds; {INTERVAL_IN_WORDS}.\n")
    caption = f"Means over seeds with the {INTERVAL_IN_WORDS}."
    write_text(folder / "paper.tex", f"% \\usepackage{{booktabs}}\n{to_latex(text, caption=caption)}\n")
    chart.save(folder)
    return to_text(text)
