"""Training curves of a run: its losses and scores on validation images over epochs."""

import dataclasses
from itertools import islice

import pandas as pd

from flipjax.page import panels
from flipjax.page.charts import Chart
from flipjax.page.document import Numbers, PageBlock
from flipjax.results.statistics.setting_tables import FirstRule
from flipjax.results.text import TextTable, level_text, number, setting_label, varying_axes
from flipjax.support.frames import groups_of

MOST_TRAINING_CURVES = 12
"""The settings whose training curves are drawn, at most."""


@dataclasses.dataclass(frozen=True)
class DrawnMeasure:
    """A column of history.csv that is drawn over epochs."""

    column: str
    """Its name in history.csv."""
    title: str
    """The name of the y axis."""
    y_end: float | None = None
    """The end of the y axis; None uses the range of the values."""


DRAWN_MEASURES = (
    DrawnMeasure("valid_cross_entropy", "validation cross-entropy"),
    DrawnMeasure("valid_flip", "validation flip", 1.0),
    DrawnMeasure("valid_worst_group_iou", "validation worst-group IoU", 1.0),
)
"""The training curves of a setting, a panel each.

Example:
    >>> [measure.column for measure in DRAWN_MEASURES]
    ['valid_cross_entropy', 'valid_flip', 'valid_worst_group_iou']
"""


def training_charts(tables: FirstRule) -> list[Chart]:
    """Returns training curves of two epochs or more, averaged over the members of a setting that still train."""
    if tables.history.empty:
        return []
    return [curve_chart(tables.history, tables.members, note=tables.note_on_counts())]


def curves_so_far(history: pd.DataFrame, members: pd.DataFrame, *, note: str) -> list[PageBlock]:
    """Returns the curves of members that have not trained to their end, and a table of their latest epoch.

    Arguments are those of `curve_chart`.
    """
    chart = dataclasses.replace(curve_chart(history, members, note=note), name="training_so_far")
    latest = history.groupby("member", sort=False).tail(1)
    measures = [measure for measure in DRAWN_MEASURES if measure.column in latest]
    header = ["member", "epoch", *(measure.title for measure in measures)]
    cells = []
    for row in latest.to_dict("records"):
        numbers = [number(row[measure.column]) for measure in measures]
        cells.append([row["member"], str(row["epoch"]), *numbers])
    return [chart, Numbers("The latest epoch of each member", TextTable(header, cells))]


def curve_chart(history: pd.DataFrame, members: pd.DataFrame, *, note: str) -> Chart:
    """Returns the training curves of members, averaged over the seeds of each setting.

    Args:
        history: rows of history.csv.
        members: a row for each member, whose axes come before the column `member`.
        note: of the chart.
    """
    axes = [name for name in varying_axes(members, until="member") if name != "seed"]
    axes_of_curves = []
    if "rho" in members:
        axes_of_curves.append("rho")
    # An axis such as learning_rate is also a history column, with the value of the last step.
    of_epochs = history.drop(columns=axes, errors="ignore")
    table = of_epochs.merge(members[["member", *axes, *axes_of_curves]], on="member")
    drawn = []
    for values, rows in islice(groups_of(table, axes), MOST_TRAINING_CURVES):
        title = setting_label(dict(zip(axes, values, strict=True)), axes)
        for measure in DRAWN_MEASURES:
            if measure.column not in rows:
                continue
            # A row an epoch, a column a level of rho: means over seeds.
            curves = rows.pivot_table(index="epoch", columns=axes_of_curves, values=measure.column)
            if axes_of_curves:
                curves.columns = [f"rho {level_text(float(rho))}" for rho in curves.columns]
            if len(curves) > 1:
                panel = panels.curve_panel(curves, title=title, x="epoch", y=measure.title, y_end=measure.y_end)
                drawn.append(panel)
    caption = "Each curve is the mean over the seeds that are still training."
    return Chart("training", "Training curves", caption, note, drawn)
