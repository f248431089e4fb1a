"""Charts of quantities of a run over rho: a line for each quantity, or one quantity with a line for each setting."""

from collections.abc import Sequence
from itertools import cycle

import pandas as pd

from flipjax.metrics.summary.names import title_of
from flipjax.page import panels
from flipjax.page.charts import Chart, Panel
from flipjax.page.style import WHOLE, shades
from flipjax.report.grid_panels import Line, line_panels
from flipjax.results import text
from flipjax.results.statistics.estimates import range_of
from flipjax.results.statistics.setting_tables import FirstRule
from flipjax.results.text import varying_axes
from flipjax.support.frames import records_of

SETTING_MARKERS = "osD^vP*"
"""Marks of the lines of settings, in turn."""


def line_chart(
    tables: FirstRule,
    name: str,
    title: str,
    caption: str,
    lines: Sequence[Line],
    *,
    y: str,
    limits: tuple[float, float] | None = (0.0, 1.0),
    reference: panels.ReferenceLevel | None = None,
) -> Chart:
    """Returns a chart of quantities over rho."""
    drawn = line_panels(tables.means, tables.kept, lines, y_name=y, limits=limits, reference=reference)
    return Chart(name, title, caption, tables.note_on_dots(), drawn)


def overlay_chart(tables: FirstRule, quantity: str, axes: Sequence[str], *, name: str, title: str) -> Chart:
    """Returns the chart of a quantity over rho, with lines for the values of some axes and panels for the others.

    Of one level of rho the settings stand beside each other.

    Args:
        tables: of the settings that are drawn.
        quantity: its key.
        axes: whose values have a line each.
        name: of the chart's files.
        title: of the chart.
    """
    summary = tables.means[tables.means["quantity"] == quantity]
    y_name = title_of(quantity)
    limits = None
    if range_of(quantity) == (0.0, 1.0):
        limits = (0.0, 1.0)
    caption = f"{title}: means over seeds"
    if "rho" in summary and summary["rho"].nunique() > 1:
        if axes:
            caption += f"; lines by {', '.join(axes)}"
        drawn = _panels_of_settings(summary, tables.kept, quantity, axes, y_name=y_name, limits=limits)
    else:
        drawn = line_panels(summary, tables.kept, [Line(quantity, y_name, WHOLE)], y_name=y_name, limits=limits)
    return Chart(name, title, f"{caption}.", tables.note_on_dots(), drawn)


def _panels_of_settings(
    summary: pd.DataFrame,
    records: pd.DataFrame,
    quantity: str,
    axes: Sequence[str],
    *,
    y_name: str,
    limits: tuple[float, float] | None,
) -> list[Panel]:
    """Returns the panels of one quantity over rho with a line for each combination of values of `axes`.

    `line_panels` draws a line for each quantity, so each line is handed to it as a quantity of its own, by its name.
    """
    means = summary.assign(quantity=line_names(summary, axes, y_name)).drop(columns=[*axes])
    names = means["quantity"].unique()
    line_of_record = pd.Series(line_names(records, axes, y_name), records.index)
    other_axes = [axis for axis in varying_axes(summary) if axis not in axes]
    seeds = records[["rho", *other_axes]].copy()
    lines = []
    for name, colour, marker in zip(names, shades(len(names)), cycle(SETTING_MARKERS), strict=False):
        seeds[name] = records[quantity].where(line_of_record == name)
        lines.append(Line(name, name, colour, marker))
    return line_panels(means, seeds, lines, y_name=y_name, limits=limits)


def line_names(table: pd.DataFrame, axes: Sequence[str], default: str) -> list[str]:
    """Returns the values of `axes` in each row, without those that its method does not use, or `default` for none.

    Example:
        >>> line_names(pd.DataFrame({"method": ["ce", "group_dro"]}), ["method"], "flip")
        ['ce', 'group_dro']
    """
    names = []
    for row in records_of(table):
        values = [text.value_text(axis, row[axis]) for axis in axes if not pd.isna(row[axis])]
        names.append(", ".join(values) or default)
    return names
