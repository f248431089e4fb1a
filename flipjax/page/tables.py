"""Tables as text: numbers and intervals in their cells, and their output on a terminal and in Markdown."""

import dataclasses
import math
import re
from collections.abc import Sequence

from flipjax.support.frames import Row

SIGNED = "+z.3f"
"""The format of differences; z makes -0 of small ones +0."""
WIDTH = 80
"""Columns of the terminal for which tables are split."""
CUT = "*"
"""Marks an end of an interval that is cut at the end of the quantity's range."""


@dataclasses.dataclass(frozen=True)
class TextTable:
    """A table as text."""

    header: list[str]
    """The titles of the columns."""
    rows: list[list[str]]
    """The cells of each row."""
    name_columns: int = 1
    """The number of columns, from the left, that name a row."""


def number(value: float, form: str = ".3f") -> str:
    """Returns a number as text, or a dash if it is undefined.

    Example:
        >>> number(math.nan), number(-0.0004, SIGNED), number(-0.0006, SIGNED)
        ('-', '+0.000', '-0.001')
    """
    if math.isnan(value):
        return "-"
    return format(value, form)


def with_interval(row: Row, value: str, low: str = "low", high: str = "high", *, form: str = ".3f") -> str:
    """Returns a row's value with its interval, if any.

    Example:
        >>> with_interval({"mean": 0.25, "low": 0.2, "high": 0.3}, "mean", form=".2f")
        '0.25 [0.20, 0.30]'
    """
    if math.isnan(row[low]):
        return number(row[value], form)
    return f"{number(row[value], form)} [{row[low]:{form}}, {row[high]:{form}}]"


def cut_interval(low: float, value: float, high: float, ends: tuple[float, float], form: str = ".3f") -> str:
    """Returns an interval that was cut at the ends of a range as text; one that is wider than the range says nothing.

    Example:
        >>> cut_interval(0.0, 0.1, 0.25, (0.0, 1.0), ".2f"), cut_interval(0.0, 0.4, 1.0, (0.0, 1.0))
        (' [0*, 0.25]', ' [-]')
    """
    if math.isnan(low):
        return ""
    cut_low = low == ends[0] and low < value
    cut_high = high == ends[1] and value < high
    if cut_low and cut_high:
        return " [-]"
    return f" [{_end_text(low, form, cut=cut_low)}, {_end_text(high, form, cut=cut_high)}]"


def _end_text(value: float, form: str, *, cut: bool) -> str:
    """Returns an end of an interval as text; one that was cut is a whole number, as the ends of ranges are."""
    if cut:
        without_decimals = re.sub(r"\.\d", ".0", form)
        return format(value, without_decimals) + CUT
    return format(value, form)


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
    name_columns = list(range(table.name_columns))
    # The numbers of the columns of each part.
    parts = [[*name_columns]]
    for column in range(table.name_columns, len(widths)):
        # Two blanks stand between columns.
        needed = sum(widths[index] + 2 for index in (*parts[-1], column)) - 2
        if len(parts[-1]) > len(name_columns) and needed > width:
            parts.append([*name_columns])
        parts[-1].append(column)
    return "\n\n".join(_aligned(table, widths, part) for part in parts)


def _aligned(table: TextTable, widths: Sequence[int], columns: Sequence[int]) -> str:
    """Returns some columns of a table as lines."""
    first, *right_aligned = columns
    lines = []
    for cells in (table.header, ["-" * width for width in widths], *table.rows):
        aligned = [cells[first].ljust(widths[first])]
        for column in right_aligned:
            aligned.append(cells[column].rjust(widths[column]))
        lines.append("  ".join(aligned).rstrip())
    return "\n".join(lines)


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
    # Only before a letter, a slash or a mark does it begin a tag.
    text = re.sub(r"<(?=[a-zA-Z/!?])", "&lt;", text)
    return text.replace("|", "\\|").replace("](", "]\\(").replace("`", "\\`")
