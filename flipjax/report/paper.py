"""The paper's table and its figure of Flip by flip-risk decile: `flipjax report --table paper RUN [RUN ...]`."""

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from flipjax.config import ConfigError, leaves
from flipjax.report.document import to_latex
from flipjax.report.panels import Ranking, mean_ranking, ranking_charts
from flipjax.report.run import RunTables, read_run
from flipjax.results.estimates import SEEDS_INTERVAL
from flipjax.results.frames import groups_of, records_of, write_csv
from flipjax.results.text import TextTable, mean_text, to_markdown, to_text, wide
from flipjax.support.files import write_text

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
        ConfigError: runs or settings share data set, encoder, method and rho.
    """
    tables = []
    for run in runs:
        names = next(iter(run.cells.values())).class_names[1:]
        numbered = itertools.product(("iou", "gap"), enumerate(names, start=1))
        keys = {f"{kind}/{name}": f"{kind}/{number}" for kind, (number, name) in numbered}
        keys |= {key: key for key in TITLES}
        means = run.summary[run.summary["quantity"].isin(keys)].assign(classes=", ".join(names), data=_data_of(run))
        means["quantity"] = means["quantity"].map(keys)
        means["encoder"] = _encoder_of(run, means)
        means["method"], means["rho"] = means.get("method", ""), means.get("rho", math.nan)
        tables.append(means.assign(seeds=means.groupby([*KEYS], dropna=False)["n"].transform("max")))
    table = pd.concat(tables, ignore_index=True)
    for setting in records_of(table[table.duplicated([*KEYS, "quantity"])][:1]):
        found = ", ".join(str(setting[name]) for name in KEYS)
        raise ConfigError("--table", "one setting of each data set, encoder, method and rho", f"two of {found}")
    return table[[*NAMES, "quantity", "mean", "low", "high"]]


def _data_of(run: RunTables) -> str:
    return leaves(run.config).get("config.pool.name", run.name)


def _encoder_of(run: RunTables, table: pd.DataFrame) -> pd.Series:
    """Returns the encoder of each row, an axis of the run or its configuration's."""
    own = leaves(run.config).get("config.model.name", "")
    return table.get("model.name", pd.Series(own, table.index)).str.removeprefix("smp_")


def paper_text(means: pd.DataFrame) -> TextTable:
    """Returns the rows of `paper_means` as text, with an interval over seeds after each mean."""
    numbered = [name for name in means["quantity"].unique() if name not in TITLES]
    titles = {name: name.replace("/", ", class ").replace("iou", "IoU") for name in numbered} | TITLES
    return wide(means, NAMES, titles, lambda row, first: mean_text(row))


def rankings(runs: Iterable[RunTables]) -> dict[str, dict[str, Ranking]]:
    """Returns the mean ranking over seeds by data set and encoder.

    That of the first method at rho .95, or at the run's highest rho without that level.
    """
    facets: dict[str, dict[str, Ranking]] = {}
    for run in runs:
        records = run.kept()
        records = records[records["method"] == records["method"].iloc[0]] if "method" in records else records
        of = {member: cell for cell in run.cells.values() for member in cell.members}
        for (encoder,), own in groups_of(records.assign(encoder=_encoder_of(run, records)), ["encoder"]):
            if "rho" in own:
                own = own[own["rho"] == (0.95 if (own["rho"] == 0.95).any() else own["rho"].max())]
            images = [of[name].decomposition(name, "test") for name in own["member"]]
            facets.setdefault(_data_of(run), {})[encoder] = mean_ranking(images)
    return facets


def write_paper(folders: Sequence[str | Path], folder: Path) -> str:
    """Writes paper.csv, paper.md, paper.tex and paper_deciles.svg and .png, and returns the table as text."""
    runs = [read_run(each) for each in folders]
    means = paper_means(runs)
    text = paper_text(means)
    # One curve has no legend.
    facets = {f"{name}, {next(iter(own))}" if len(own) < 2 else name: own for name, own in rankings(runs).items()}
    _, deciles = ranking_charts(facets, note="Means over seeds.")
    table = means.pivot(index=NAMES, columns="quantity", values=["mean", "low", "high"])
    table.columns = [
        quantity if end == "mean" else f"{quantity}_{end}" for end, quantity in table.columns.to_flat_index()
    ]
    write_csv(folder / "paper.csv", table.reset_index())
    write_text(folder / "paper.md", f"{to_markdown(text)}\n\nMeans over seeds; {SEEDS_INTERVAL}.\n")
    caption = f"Means over seeds with the {SEEDS_INTERVAL}."
    write_text(folder / "paper.tex", f"% \\usepackage{{booktabs}}\n{to_latex(text, caption=caption)}\n")
    replace(deciles, name="paper_deciles").save(folder)
    return to_text(text)
