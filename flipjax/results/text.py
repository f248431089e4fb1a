"""Formats summaries and comparisons as tables and sentences. Each sentence restates a row of a table."""

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from flipjax.results.estimates import FEWEST, JUDGED, LEVEL
from flipjax.results.frames import Row, groups_of, records_of
from flipjax.results.quantities import title_of
from flipjax.support.terminal import listed

COLUMNS = ("group/common/fg_flip", "group/rare/fg_flip", "gap/mean", "worst_group_iou", "iou/foreground")
COLUMNS += ("risk_auroc", "top_decile_flip_share", "top_decile_of_ceiling")
FURTHER = ("scene_pull", "context_use", "group/common/fg_ece", "group/rare/fg_ece")
"""Columns of runs that have them."""
CHANGES = ("group/rare/fg_flip", "gap/mean", "iou/foreground")
"""Quantities whose change over rho makes a sentence."""
BLIND, POOR = 0.5, 0.7
SIGNED = "+z.3f"
WIDTH = 80


class TextTable(NamedTuple):
    """A table as text: header, rows, and the number of columns that name a row."""

    header: list[str]
    rows: list[list[str]]
    names: int = 1


def varying_axes(table: pd.DataFrame, *, until: str = "quantity") -> list[str]:
    """Returns the axes other than rho (columns before `until`) that take more than one value."""
    names = list(table.columns)[: list(table.columns).index(until)] if len(table) else []
    return [name for name in names if name != "rho" and table[name].nunique(dropna=False) > 1]


def setting_label(row: Row, axes: Sequence[str]) -> str:
    """Returns a setting's values on `axes` as text.

    Example:
        >>> setting_label({"rho": 0.9, "method": "ce", "learning_rate": 0.001}, ["method", "learning_rate"])
        'method ce, learning_rate 0.001'
    """
    return ", ".join(f"{name} {_value(row[name])}" for name in axes if row[name] == row[name] and row[name] != "")


def _value(value: object) -> str:
    """Returns a value of an axis as text; random search draws numbers of 16 digits."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def _shown(values: Sequence) -> list[str]:
    """Returns a setting's values as text, with a dash for axes its method does not use."""
    return ["-" if value != value else _value(value) for value in values]


def number(value: float, form: str = ".3f") -> str:
    """Returns a number as text, or a dash if it is undefined.

    Example:
        >>> number(math.nan), number(-0.0004, SIGNED), number(-0.0006, SIGNED)
        ('-', '+0.000', '-0.001')
    """
    return "-" if math.isnan(value) else format(value, form)


def with_interval(row: Row, value: str, low: str = "low", high: str = "high", *, form: str = ".3f") -> str:
    """Returns a row's value with its interval, if any.

    Example:
        >>> with_interval({"mean": 0.25, "low": 0.2, "high": 0.3}, "mean", form=".2f")
        '0.25 [0.20, 0.30]'
    """
    ends = "" if math.isnan(row[low]) else f" [{row[low]:{form}}, {row[high]:{form}}]"
    return number(row[value], form) + ends


def mean_text(row: Row, n: int | None = None) -> str:
    """Returns the mean of an `aggregate` row with its interval over seeds, or over images for one seed."""
    few = n is not None and row["n"] != n and not math.isnan(row["mean"])
    ends = ("images_low", "images_high") if math.isnan(row["low"]) and "images_low" in row else ("low", "high")
    text = with_interval(row, "mean", *ends).replace("[", "[" if ends[0] == "low" else "images [")
    return text + (f" ({row['n']} of {n} seeds)" if few else "")


def difference_text(row: Row) -> str:
    """Returns the difference of a `compare` or `trend` row with its interval, starred if it has a verdict."""
    return with_interval(row, "difference", form=SIGNED) + ("*" if row["verdict"] else "")


def legend(*tables: pd.DataFrame) -> str:
    """Explains the star; empty if no table has enough seeds for one."""
    if not any(len(table) and (table["n"] >= FEWEST).any() for table in tables):
        return f"no verdicts below {FEWEST} seeds"
    return f"* lower or higher: p below {LEVEL} after Holm's correction over the page, from {FEWEST} seeds on"


def wide(
    rows: pd.DataFrame,
    names: Sequence[str],
    columns: Mapping[Any, str],
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
    counts, body = counts or {}, []
    for values, own in groups_of(rows[rows[across].isin(columns)], names):
        found = {row[across]: row for row in records_of(own)}
        first = next(found[column] for column in columns if column in found)
        cells = [cell(found[column], first) if column in found else "-" for column in columns]
        body.append([*_shown(values), *(str(first[name]) for name in counts.values()), *cells])
    return TextTable([*names, *counts, *columns.values()], body, len(names) + len(counts))


def by_rho(rows: pd.DataFrame, names: Sequence[str]) -> TextTable:
    """Returns the means of one quantity with a column for each rho, one row per setting on `names`."""
    rows, most = rows if "rho" in rows else rows.assign(rho=""), rows["n"].max()
    columns = {rho: f"rho {rho}" if rho != "" else "all" for rho in sorted(rows["rho"].unique())}
    return wide(rows, names, columns, lambda row, first: mean_text(row, most), across="rho")


def titles(quantities: Iterable[str]) -> dict[str, str]:
    """Returns the titles of quantities by key."""
    return {name: title_of(name) for name in quantities}


def summary_table(summary: pd.DataFrame) -> TextTable:
    """Returns the mean and interval of the main quantities, one row per setting."""
    axes = varying_axes(summary) + (["rho"] if "rho" in summary else [])
    counts = {"seeds": "n"} | ({"left out": "left_out"} if summary["left_out"].any() else {})
    known = {*summary["quantity"][summary["mean"].notna()]}
    columns = titles(name for name in (*COLUMNS, *FURTHER) if name in known or name in COLUMNS[:6])
    return wide(summary, axes, columns, lambda row, first: mean_text(row, first["n"]), counts=counts)


def _by_setting(rows: pd.DataFrame, axes: Sequence[str], quantities: Iterable[str]) -> Iterator[Row]:
    """Yields the rows of some quantities in their order, setting by setting on `axes`."""
    for _, own in groups_of(rows, axes):
        found = {row["quantity"]: row for row in records_of(own)}
        yield from (found[quantity] for quantity in quantities if quantity in found)


def trend_table(trends: pd.DataFrame) -> TextTable:
    """Returns means at both ends of rho and the change, one row per setting and judged quantity."""
    axes = varying_axes(trends, until="from")
    rows = []
    for row in _by_setting(trends, axes, JUDGED):
        ends = [number(row["before"]), number(row["after"]), difference_text(row)]
        setting = _shown([row[name] for name in axes])
        rows.append([*setting, title_of(row["quantity"]), f"{row['from']} to {row['to']}", str(row["n"]), *ends])
    return TextTable([*axes, "quantity", "rho", "seeds", "before", "after", "change"], rows, len(axes) + 1)


def comparison_table(comparison: pd.DataFrame, axis: str = "method", *, axes: Sequence[str] | None = None) -> TextTable:
    """Returns differences from the reference with intervals, one row per setting and value of `axis`.

    A star marks a verdict. `axes` name a setting and default to those that vary.
    """
    axes = setting_axes(comparison, axis) if axes is None else axes
    names = [axis, *axes, *(["rho"] if "rho" in comparison else [])]
    return wide(comparison, names, titles(JUDGED), lambda row, first: difference_text(row), counts={"seeds": "n"})


def setting_axes(comparison: pd.DataFrame, axis: str) -> list[str]:
    """Returns the axes other than rho and the compared one that vary in a table of differences."""
    return [name for name in varying_axes(comparison) if name not in (axis, "reference")]


def to_text(table: TextTable, *, width: int = WIDTH) -> str:
    """Returns a table as lines, with text left-aligned and numbers right-aligned.

    A table wider than `width` is split into parts, each repeating the columns that name its rows.

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
    r"""Escapes text as one line of Markdown, so that it ends no cell and starts no link, image or HTML.

    Example:
        >>> print(literal("a|b <i> ![i](https://x)"))
        a\|b &lt;i> ![i]\(https://x)
    """
    text = re.sub(r"\s+", " ", text.replace("\\", "\\\\"))
    return text.replace("|", "\\|").replace("<", "&lt;").replace("](", "]\\(").replace("`", "\\`")


def unlearnt_warning(names: Sequence[str], *, members: int) -> list[str]:
    """Returns a sentence on members left out because they hardly find the object, or no sentence."""
    which = "All" if len(names) == members else f"{len(names)} of the"
    why = "more than half of the true foreground missed, or a foreground IoU below that of foreground everywhere"
    left_out = f"They are in no mean: {listed(names)}."
    return [f"Warning: {which} {members} members hardly find the object: {why}. {left_out}"] if names else []


def verdicts(comparison: pd.DataFrame, *, axis: str = "method", axes: Sequence[str] | None = None) -> list[str]:
    """Returns sentences on differences of Flip in the rare groups from the reference.

    Differences with a verdict come first, then the others at the highest rho, least p first.

    Args:
        comparison: judged rows of `compare` along `axis`.
        axis: the compared axis.
        axes: those that name a setting; None means the others that vary.
    """
    rows = comparison[(comparison["quantity"] == JUDGED[0]) & comparison["difference"].notna()]
    axes = setting_axes(comparison, axis) if axes is None and len(rows) else axes or []
    judged = rows["verdict"] != ""
    last = rows["rho"] == rows["rho"].max() if "rho" in rows else ~judged
    sentences = []
    for row in records_of(pd.concat([rows[judged], rows[last & ~judged].sort_values("p", kind="stable")])):
        setting = setting_label(row, [*axes, *(["rho"] if "rho" in row else [])])
        where = f" ({setting})" if setting else ""
        start = f"{row[axis]} against {row['reference']}{where}: {title_of(row['quantity'])} {difference_text(row)}"
        sentences.append(f"{start}, {_seeds(row['n'])}: {_judgement(row)}.")
    return sentences


def headline(summary: pd.DataFrame, trends: pd.DataFrame) -> list[str]:
    """Returns the main findings of a run as sentences: changes over rho, flip-risk's ranking, context use."""
    axes = varying_axes(trends, until="from")
    rows = _by_setting(trends[trends["difference"].notna()], axes, CHANGES)
    found = [(setting_label(row, axes), _change(row)) for row in rows]
    axes, measures = varying_axes(summary), {"risk_auroc": _ranking, "context_use": lambda row: "Context use:"}
    known = summary[summary["quantity"].isin(measures) & summary["mean"].notna()]
    if "rho" in known and len(known):
        # Settings may have levels of their own.
        known = known[known["rho"] == known.groupby([*axes, "quantity"], dropna=False)["rho"].transform("max")]
    for row in _by_setting(known, axes, measures):
        where = f" at rho {row['rho']}" if "rho" in row else ""
        what = f"{measures[row['quantity']](row)} {mean_text(row)}{where}, {_seeds(row['n'])}."
        found.append((setting_label(row, axes), what))
    return [": ".join(filter(None, sentence)) for sentence in found]


def _change(row: Row) -> str:
    name, _, group = title_of(row["quantity"]).partition(", ")
    title = name[0].upper() + name[1:] + (f" in the {group} groups" if group else "")
    verb = {"higher": "rises", "lower": "falls", "": "goes"}[row["verdict"]]
    levels = f"from {number(row['before'])} at rho {row['from']} to {number(row['after'])} at rho {row['to']}"
    judgement = "" if row["verdict"] else f": {_judgement(row)}"
    return f"{title} {verb} {levels} ({difference_text(row)}, {_seeds(row['n'])}){judgement}."


def _judgement(row: Row) -> str:
    if row["n"] < FEWEST:
        return f"no verdict below {FEWEST} seeds"
    inside = row["low"] <= 0 <= row["high"]
    return row["verdict"] or ("no significant difference" if inside else "not significant after Holm's correction")


def _ranking(row: Row) -> str:
    """Returns how well flip-risk ranks flips, by the interval of its AUROC."""
    low, high = row["low"], row["high"]
    cases = {
        "is blind to flips": low <= BLIND <= high < POOR,
        "ranks flips the wrong way": high < BLIND,
        "ranks flips poorly": low > BLIND and high < POOR,
        "ranks flips": low > POOR,
    }
    words = [f"Flip-risk {verdict}" for verdict, holds in cases.items() if holds and row["n"] >= FEWEST]
    return f"{(words or ['No verdict on flip-risk'])[0]}: AUROC"


def _seeds(n: int) -> str:
    return f"{n} seeds" if n > 1 else "one seed"
