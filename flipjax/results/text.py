"""Formats summaries and comparisons as tables of text; `flipjax.results.sentences` makes sentences of their rows."""

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import pandas as pd

from flipjax.metrics.statistics.permutation import LEVEL
from flipjax.metrics.summary.names import title_of
from flipjax.page.tables import CUT, SIGNED, TextTable, cut_interval, number
from flipjax.results.statistics.estimates import range_of, weighted_range
from flipjax.results.statistics.verdicts import CORRECTION, FEWEST_SEEDS, JUDGED
from flipjax.support.frames import Row, groups_of, level_text, records_of

COLUMNS = (
    "group/common/fg_flip",
    "group/rare/fg_flip",
    "gap/mean",
    "worst_group_iou",
    "iou/foreground",
    "risk_auroc",
)
"""The quantities that a reader compares first."""
FURTHER_COLUMNS = (
    "top_decile_flip_share",
    "top_decile_of_ceiling",
    "scene_pull",
    "context_use",
    "group/common/fg_ece",
    "group/rare/fg_ece",
)
"""Further quantities of runs that have them."""


def varying_axes(table: pd.DataFrame, *, until: str = "quantity") -> list[str]:
    """Returns the axes other than rho (columns before `until`) that take more than one value."""
    if table.empty:
        return []
    names = list(table.columns)[: list(table.columns).index(until)]
    return [name for name in names if name != "rho" and table[name].nunique(dropna=False) > 1]


def setting_label(row: Row, axes: Sequence[str]) -> str:
    """Returns a setting's values on `axes` as text, without those that its method does not use.

    Example:
        >>> setting_label({"rho": 1 / 3, "method": "ce", "learning_rate": 0.001}, ["method", "learning_rate", "rho"])
        'method ce, learning_rate 0.001, rho 0.333'
    """
    used = [name for name in axes if not (pd.isna(row[name]) or row[name] == "")]
    return ", ".join(f"{name} {value_text(name, row[name])}" for name in used)


def value_text(axis: str, value: object) -> str:
    """Returns a value of an axis as text: rho as `level_text`, numbers to six digits, and a dash for none."""
    if not isinstance(value, float):
        return str(value)
    if math.isnan(value):
        return "-"
    if axis == "rho":
        return level_text(value)
    # Random search draws numbers of 16 digits.
    return f"{value:g}"


def mean_text(row: Row, n: int | None = None) -> str:
    """Returns the mean of an `aggregate` row with its interval: over seeds, over images for one seed, none for two."""
    text = number(row["mean"])
    if row["n"] > 2:
        text += cut_interval(row["low"], row["mean"], row["high"], range_of(row["quantity"]))
    elif row["n"] == 1 and not math.isnan(row.get("images_low", math.nan)):
        text += f" images [{row['images_low']:.3f}, {row['images_high']:.3f}]"
    if n is not None and row["n"] != n and not math.isnan(row["mean"]):
        text += f" ({row['n']} of {n} seeds)"
    return text


def difference_text(row: Row) -> str:
    """Returns the difference of a judged row with its interval from three seeds on, starred if it has a verdict."""
    text = number(row["difference"], SIGNED)
    if row["n"] > 2:
        ends = weighted_range(row["quantity"], (1, -1))
        text += cut_interval(row["low"], row["difference"], row["high"], ends, SIGNED)
    if row["verdict"]:
        text += "*"
    return text


def marks(*tables: TextTable) -> str:
    """Explains the intervals that tables have and their marks; empty without any."""
    cells = [cell for table in tables for row in table.rows for cell in row]
    words = []
    if any(re.search(r"\d \[", cell) for cell in cells):
        words.append("in brackets 95% intervals over seeds")
    if any("images [" in cell for cell in cells):
        words.append("in brackets 95% intervals over the test images")
    if any(f"{CUT}," in cell or f"{CUT}]" in cell for cell in cells):
        words.append(f"{CUT} inside an interval: cut at the end of the range")
    if any("[-]" in cell for cell in cells):
        words.append("[-]: wider than the range")
    return "; ".join(words)


def legend(judged: pd.DataFrame, name: str = "comparisons") -> str:
    """Explains the star of a judged table, whose family has a `name`; says why if no row was tested."""
    tested = judged[judged["quantity"].isin(JUDGED)]
    if tested.empty:
        return "no verdicts"
    size = int(tested["comparisons"].iloc[0])
    if not size:
        return str(tested["reason"].mode().iloc[0])
    rule = f"p below {LEVEL:g} after {CORRECTION} over {size} {name}, from {FEWEST_SEEDS} seeds on"
    return f"* lower or higher: {rule}"


def wide(
    rows: pd.DataFrame,
    names: Sequence[str],
    columns: Mapping[str, str] | Mapping[float, str],
    cell: Callable[[Row, Row], str],
    *,
    across: str = "quantity",
    counts: Mapping[str, str] | None = None,
) -> TextTable:
    """Returns a table with a row for each setting on `names` and a column for each value of `across`.

    Args:
        rows: rows of `aggregate` or `compare`.
        names: the axes that name a row.
        columns: titles by value of `across`.
        cell: the text of one of `rows`, given with the first one of its setting.
        across: the column of `rows` whose values are the table's columns.
        counts: columns of a setting's first value that stand after its names, by title.
    """
    counts = counts or {}
    body = []
    for values, rows_of_setting in groups_of(rows[rows[across].isin(columns)], names):
        by_column = {row[across]: row for row in records_of(rows_of_setting)}
        first = next(by_column[column] for column in columns if column in by_column)
        line = [value_text(name, value) for name, value in zip(names, values, strict=True)]
        line += [str(first[name]) for name in counts.values()]
        for column in columns:
            text = "-"
            if column in by_column:
                text = cell(by_column[column], first)
            line.append(text)
        body.append(line)
    return TextTable([*names, *counts, *columns.values()], body, len(names) + len(counts))


def by_rho(rows: pd.DataFrame, names: Sequence[str]) -> TextTable:
    """Returns the means of one quantity with a column for each rho, one row per setting.

    Args:
        rows: rows of `aggregate`, of one quantity.
        names: the axes that name a row.
    """
    planned_seeds = rows["n"].max()

    def cell(row: Row, first: Row) -> str:
        return mean_text(row, planned_seeds)

    if "rho" not in rows:
        return wide(rows.assign(rho=""), names, {"": "all"}, cell, across="rho")
    columns = {rho: f"rho {level_text(rho)}" for rho in sorted(rows["rho"].unique())}
    return wide(rows, names, columns, cell, across="rho")


def titles(quantities: Iterable[str]) -> dict[str, str]:
    """Returns the titles of quantities by key."""
    return {name: title_of(name) for name in quantities}


def summary_table(summary: pd.DataFrame, quantities: Sequence[str] = COLUMNS) -> TextTable:
    """Returns the mean and interval of some quantities, one row per setting."""
    axes = varying_axes(summary)
    if "rho" in summary:
        axes.append("rho")
    counts = {"seeds": "n"}
    if summary["left_out"].any():
        counts["left out"] = "left_out"

    def cell(row: Row, first: Row) -> str:
        return mean_text(row, first["n"])

    return wide(summary, axes, titles(quantities), cell, counts=counts)


def known_quantities(summary: pd.DataFrame, quantities: Iterable[str]) -> list[str]:
    """Returns those of some quantities that have a mean in any setting."""
    with_mean = {*summary["quantity"][summary["mean"].notna()]}
    return [quantity for quantity in quantities if quantity in with_mean]


def in_order(rows: pd.DataFrame, axes: Sequence[str], quantities: Iterable[str]) -> Iterator[Row]:
    """Yields the rows of some quantities in their order, setting by setting on `axes`."""
    ordered = list(quantities)
    for _, rows_of_setting in groups_of(rows, axes):
        by_quantity = {row["quantity"]: row for row in records_of(rows_of_setting)}
        for quantity in ordered:
            if quantity in by_quantity:
                yield by_quantity[quantity]


def trend_table(trends: pd.DataFrame) -> TextTable:
    """Returns the change between both ends of rho, one row per setting and judged quantity."""
    axes = varying_axes(trends, until="from")
    rows = []
    for row in in_order(trends, axes, JUDGED):
        setting = [value_text(name, row[name]) for name in axes]
        levels = f"{level_text(row['from'])} to {level_text(row['to'])}"
        rows.append([*setting, title_of(row["quantity"]), levels, str(row["n"]), difference_text(row)])
    return TextTable([*axes, "quantity", "rho", "seeds", "change"], rows, len(axes) + 1)


def comparison_table(comparison: pd.DataFrame, axis: str = "method", *, axes: Sequence[str] | None = None) -> TextTable:
    """Returns differences from the reference with intervals, one row per setting and value of `axis`.

    A star marks a verdict. `axes` name a setting and default to those that vary.
    """
    if axes is None:
        axes = setting_axes(comparison, axis)
    names = [axis, *axes]
    if "rho" in comparison:
        names.append("rho")

    def cell(row: Row, first: Row) -> str:
        return difference_text(row)

    return wide(comparison, names, titles(JUDGED), cell, counts={"seeds": "n"})


def setting_axes(comparison: pd.DataFrame, axis: str) -> list[str]:
    """Returns the axes other than rho and the compared one that vary in a table of differences."""
    return [name for name in varying_axes(comparison) if name not in (axis, "reference")]
