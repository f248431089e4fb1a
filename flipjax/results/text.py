"""Summaries and trends as tables and sentences that a person reads."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import pandas as pd

from flipjax.results.frames import Row, groups_of, records_of
from flipjax.results.quantities import title_of
from flipjax.results.repair_sign import SAFE
from flipjax.results.scores import SCORES

COLUMNS = ("group/common/fg_flip", "group/rare/fg_flip", "gap/mean", "worst_group_iou", "iou/foreground")
COLUMNS += ("risk_auroc", "top_decile_flip_share")
DIFFERENCES = ("group/rare/fg_flip", "gap/mean", "worst_group_iou", "iou/foreground")
SIGNED = "+z.3f"
WIDTH = 80


class TextTable(NamedTuple):
    """A table as text: the header, the rows, and how many columns name a row."""

    header: list[str]
    rows: list[list[str]]
    names: int = 1


def varying_axes(table: pd.DataFrame, *, until: str = "quantity") -> list[str]:
    """Returns the axes of a summary or trend, but rho, that take more than one value: columns before `until`."""
    return [name for name in _shown_axes(table, until=until) if name != "rho"] if len(table) else []


def _shown_axes(table: pd.DataFrame, *, until: str) -> list[str]:
    """Returns rho and the axes that take more than one value, in the order of their columns."""
    names = list(table.columns)[: list(table.columns).index(until)]
    return [name for name in names if name == "rho" or table[name].nunique(dropna=False) > 1]


def setting_label(row: Row, axes: Sequence[str]) -> str:
    """Names a setting by its values on `axes`.

    Example:
        >>> setting_label({"rho": 0.9, "method": "ce", "learning_rate": 0.001}, ["method", "learning_rate"])
        'method ce, learning_rate 0.001'
    """
    return ", ".join(f"{name} {row[name]}" for name in axes)


def by_setting(table: pd.DataFrame, axes: Sequence[str]) -> Iterator[tuple[tuple, dict[str, Row]]]:
    """Yields each setting on `axes` with its rows by quantity."""
    for setting, rows in groups_of(table, axes):
        yield setting, {row["quantity"]: row for row in records_of(rows)}


def number(value: float, form: str = ".3f") -> str:
    """Returns a number as text, a dash where it does not exist.

    Example:
        >>> number(math.nan), number(-0.0004, SIGNED), number(-0.0006, SIGNED)
        ('-', '+0.000', '-0.001')
    """
    return "-" if math.isnan(value) else format(value, form)


def with_interval(row: Row, value: str, low: str = "low", high: str = "high", *, form: str = ".3f") -> str:
    """Returns a value of a row with its interval where it has one.

    Example:
        >>> with_interval({"mean": 0.25, "low": 0.2, "high": 0.3}, "mean", form=".2f")
        '0.25 [0.20, 0.30]'
    """
    ends = "" if math.isnan(row[low]) else f" [{row[low]:{form}}, {row[high]:{form}}]"
    return number(row[value], form) + ends


def probability(p: float) -> str:
    """Returns the p of a test as text."""
    return "below 0.0001" if p < 1e-4 else f"{p:.4f}"


def _mean(row: Row, n: int) -> str:
    few = row["n"] != n and not math.isnan(row["mean"])
    return with_interval(row, "mean") + (f" ({row['n']} of {n} seeds)" if few else "")


def _starred(row: Row, value: str) -> str:
    # Of an interval that says nothing of other seeds a star would promise too much.
    excludes = row["interval"] == "seeds" and (row["low"] > 0 or row["high"] < 0)
    return with_interval(row, value, form=SIGNED) + ("*" if excludes else "")


def summary_table(summary: pd.DataFrame) -> TextTable:
    """Returns a row per setting: its main quantities as mean and interval."""
    axes = varying_axes(summary) + (["rho"] if "rho" in summary else [])
    counts = {"seeds": "n"} | ({"left out": "left_out"} if summary["left_out"].any() else {})
    columns = [*COLUMNS, *({"scene_pull"} & {*summary["quantity"]})]
    rows = []
    for values, by_name in by_setting(summary, axes):
        first = by_name["fg_flip"]
        means = [_mean(by_name[name], first["n"]) for name in columns]
        rows.append([*map(str, values), *(str(first[name]) for name in counts.values()), *means])
    return TextTable([*axes, *counts, *map(title_of, columns)], rows, len(axes) + len(counts))


def trend_table(trends: pd.DataFrame) -> TextTable:
    """Returns a row per setting and main quantity: the change over rho with its interval."""
    axes = varying_axes(trends)
    rows = []
    for values, by_name in by_setting(trends, axes):
        for name in COLUMNS:
            row = by_name[name]
            change = with_interval(row, "change", "change_low", "change_high", form=SIGNED)
            rows.append([*map(str, values), title_of(name), f"{row['from']} to {row['to']}", str(row["n"]), change])
    return TextTable([*axes, "quantity", "rho", "seeds", "change"], rows, len(axes) + 1)


def comparison_table(comparison: pd.DataFrame, axis: str = "method", *, axes: Sequence[str] | None = None) -> TextTable:
    """Returns a row per setting and value of `axis`: differences from the reference with intervals.

    A star marks an interval over seeds that excludes 0; `axes` name a setting, those that vary unless given.
    """
    varying = [name for name in varying_axes(comparison) if name not in (axis, "reference")]
    axes = varying if axes is None else [*axes]
    axes += ["rho"] if "rho" in comparison else []
    rows = []
    for values, by_name in by_setting(comparison, [axis, *axes]):
        cells = [_starred(by_name[name], "difference") for name in DIFFERENCES]
        rows.append([*map(str, values), str(by_name[DIFFERENCES[0]]["n"]), *cells])
    return TextTable([axis, *axes, "seeds", *map(title_of, DIFFERENCES)], rows, len(axes) + 2)


def regret_table(regrets: pd.DataFrame) -> TextTable:
    """Returns a row per selection rule and quantity: its value and its regret with the interval."""
    rows = [
        [row["selection"], title_of(row["quantity"]), str(row["members"]), number(row["mean"]), _starred(row, "regret")]
        for row in records_of(regrets)
    ]
    return TextTable(["selection", "quantity", "members", "value", "regret"], rows, 2)


def pair_table(tests: pd.DataFrame) -> TextTable:
    """Returns a row per test of `pair_tests`: shares of the pairs that change, and McNemar's p."""
    axis = str(tests.columns[0])
    axes = [axis, *(name for name in _shown_axes(tests, until="reference") if name != axis)]
    rows = []
    for row in records_of(tests):
        names = [str(row[name]) for name in (*axes, "seeds", "n")]
        shares = [number(row[name]) for name in ("share", "reference_share")]
        rows.append([*names, *shares, str(row["only"]), str(row["only_reference"]), probability(row["p"])])
    base = f"{axis} {tests['reference'].iloc[0]}"
    titles = ["seeds", "pairs", "changed", f"changed, {base}", "changed here only", f"only at {base}", "p"]
    return TextTable([*axes, *titles], rows, len(axes) + 1)


def score_table(summary: pd.DataFrame, *quantities: str) -> TextTable:
    """Returns a row per score and setting of `score_summary`: one quantity by rho, or several, rho in a column."""
    axes = [name for name in varying_axes(summary) if name not in ("score", "passes")]
    across = "rho" if "rho" in summary and len(quantities) == 1 else "quantity"
    names = ["score", "passes", *axes, *(["rho"] if "rho" in summary and across == "quantity" else [])]
    columns = sorted(summary["rho"].unique()) if across == "rho" else list(quantities)
    most = int(summary["n"].max())
    rows = []
    for (score, *values), members in groups_of(summary[summary["quantity"].isin(quantities)], names):
        cells = {row[across]: _mean(row, most) for row in records_of(members)}
        rows.append([SCORES[score].title, *map(str, values), *(cells.get(column, "-") for column in columns)])
    header = [f"rho {column}" if across == "rho" else title_of(column) for column in columns]
    return TextTable([*names, *header], rows, len(names))


def sign_table(signs: pd.DataFrame) -> TextTable:
    """Returns a row per setting of `repair_signs`: how far seeds agree, and what repair is expected to do.

    Flip before and after repair is not in it: the test images are balanced, and this is of others.
    """
    axes = _shown_axes(signs, until="seeds")
    rows = []
    for row in records_of(signs):
        expected = "raises Flip" if disagree(row) else "no harm"
        kappa = with_interval(row, "agreement", form=".2f")
        rows.append([*(str(row[name]) for name in (*axes, "seeds")), kappa, expected])
    return TextTable([*axes, "seeds", "kappa", "expected of repair"], rows, len(axes) + 1)


def disagree(row: Row) -> bool:
    """Says whether the seeds of a row of `repair_signs` agree too little on repair, or whether that is not known."""
    return not row["agreement"] >= SAFE


def to_text(table: TextTable, *, width: int = WIDTH) -> str:
    """Returns a table as aligned lines: text to the left, numbers to the right.

    A table wider than `width` is told in parts, one below the other, each with the columns that name its rows.

    Example:
        >>> table = TextTable(["rho", "flip", "IoU"], [["0.5", "0.100", "0.900"], ["0.95", "0.4", "0.8"]])
        >>> print(to_text(table, width=12))
        rho    flip
        ----  -----
        0.5   0.100
        0.95    0.4
        <BLANKLINE>
        rho     IoU
        ----  -----
        0.5   0.900
        0.95    0.8
    """
    widths = [max(map(len, column)) for column in zip(table.header, *table.rows, strict=True)]
    names = list(range(table.names))
    parts = [[*names]]
    for column in range(table.names, len(widths)):
        if len(parts[-1]) > len(names) and sum(widths[c] + 2 for c in (*parts[-1], column)) - 2 > width:
            parts.append([*names])
        parts[-1].append(column)
    return "\n\n".join(_aligned(table, widths, part) for part in parts)


def _aligned(table: TextTable, widths: Sequence[int], part: Sequence[int]) -> str:
    form = "  ".join(f"{{{column}:{'>' if place else '<'}{widths[column]}}}" for place, column in enumerate(part))
    lines = (table.header, ["-" * width for width in widths], *table.rows)
    return "\n".join(form.format(*cells).rstrip() for cells in lines)


def to_markdown(table: TextTable) -> str:
    """Returns a table in Markdown.

    Example:
        >>> print(to_markdown(TextTable(["rho", "flip"], [["0.5", "0.1"]])))
        | rho | flip |
        | --- | ---: |
        | 0.5 | 0.1 |
    """
    rules = ["---", *("---:" for _ in table.header[1:])]
    rows = [[literal(cell) for cell in row] for row in (table.header, *table.rows)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (rows[0], rules, *rows[1:]))


def literal(text: str) -> str:
    r"""Returns a text as Markdown that shows it as it is: names cannot end a cell or become HTML.

    Example:
        >>> print(literal("a|b <i>"))
        a\|b &lt;i>
    """
    return text.replace("|", "\\|").replace("<", "&lt;")
