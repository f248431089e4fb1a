"""Numbers of an audit as text, and tables of rows; used by its sentences and by its tables."""

import dataclasses
import math
import string
from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from flipjax.audit.statistics.results import Audit
from flipjax.page.document import Numbers
from flipjax.page.tables import TextTable, number, with_interval
from flipjax.support.frames import Row, records_of

SHOWN = 10
"""Rows that a table of classes or of pairs shows at once."""
DIFFERENCE_COLUMNS = ("difference", "difference_low", "difference_high")
"""Columns of a difference and its interval."""
TENTHS = ("top_decile_flip_share", "top_decile_ceiling", "top_decile_of_ceiling")
"""Quantities of the tenth of the images with the highest flip-risk: an audit of few images lacks them."""
RANKED = ("n_images_without_risk", "risk_auroc", "risk_aurc", *TENTHS)
"""Quantities that need logits or probabilities: an audit of masks lacks them."""
OF_BACKGROUND = ("fg_miss", "iou/foreground", "dice/foreground")
"""Quantities that are constant where no class is background."""


class _Formatter(string.Formatter):
    """Formats undefined numbers as a dash."""

    def format_field(self, value: object, format_spec: str) -> str:
        if isinstance(value, float):
            return number(value, format_spec)
        return super().format_field(value, format_spec)


def tabulate(rows: pd.DataFrame, columns: Mapping[str, str | Callable[[Row], str]], *, names: int = 1) -> TextTable:
    """Returns a table with columns by title: a format of a row's values, or a function of the row.

    Example:
        >>> rows = pd.DataFrame({"name": ["cat", "dog"], "flip": [0.25, math.nan]})
        >>> tabulate(rows, {"class": "{name}", "Flip": "{flip:.1%}"}).rows
        [['cat', '25.0%'], ['dog', '-']]
    """
    formatter = _Formatter()

    def cell_text(cell: str | Callable[[Row], str], row: Row) -> str:
        if isinstance(cell, str):
            return formatter.vformat(cell, (), row)
        return cell(row)

    cells = [[cell_text(cell, row) for cell in columns.values()] for row in records_of(rows)]
    return TextTable(list(columns), cells, names)


def interval_column(name: str, low: str = "low", high: str = "high", form: str = ".3f") -> Callable[[Row], str]:
    """Returns a column of values with their intervals, where they have one."""

    def cell(row: Row) -> str:
        return with_interval({low: math.nan, **row}, name, low, high, form=form)

    return cell


def with_its_interval(row: Row, name: str) -> str:
    """Returns a rate of segments with its interval, in the columns `<name>_low` and `<name>_high`."""
    return interval_column(name, f"{name}_low", f"{name}_high")(row)


def first_and_others(first: str, others: str, table: TextTable, shown: int = SHOWN) -> list[Numbers]:
    """Returns the first rows of a table, and its other rows folded."""
    return [
        Numbers(first, dataclasses.replace(table, rows=table.rows[:shown])),
        Numbers(others, dataclasses.replace(table, rows=table.rows[shown:]), folded=True),
    ]


def q_text(q: float) -> str:
    """Returns q as text.

    Example:
        >>> q_text(0.00004), q_text(0.04), q_text(math.nan)
        ('<0.001', '0.040', '-')
    """
    if q < 0.001:
        return "<0.001"
    return number(q)


def keys_without_information(audit: Audit) -> set[str]:
    """Returns keys of the summary that do not depend on predictions, or that masks or few images lack."""
    keys: set[str] = set()
    if len(audit.foreground) == len(audit.class_names):
        keys.update(OF_BACKGROUND)
    if not audit.risk_ranks_images:
        keys.update(RANKED)
    elif not audit.has_tenths:
        keys.update(TENTHS)
    return keys


def cell_of(audit: Audit, key: str, *, form: str = ".4f", index: int | None = None) -> str:
    """Returns a value of the summary with its interval in brackets, '-' if it is undefined, '' if there is none.

    Args:
        audit: the audit.
        key: of the summary.
        form: of the numbers.
        index: the place in a list of ten; None for a number.
    """
    if key not in audit.summary:
        return ""
    low: float = math.nan
    high: float = math.nan
    if index is None:
        value = audit.number(key)
        if key in audit.intervals:
            low, high = (float(end) for end in audit.intervals[key])
    else:
        value = float(audit.tenths(key)[index])
        if key in audit.intervals:
            low, high = (float(np.asarray(end)[index]) for end in audit.intervals[key])
    if isinstance(value, int):
        return f"{value:,}"
    if math.isnan(value):
        low = math.nan
    return with_interval({"value": value, "low": low, "high": high}, "value", form=form)
