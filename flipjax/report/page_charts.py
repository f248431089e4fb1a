"""The charts of a run's page, section by section; `flipjax.report.page_tables` has its tables.

Each function takes the tables of the settings that are drawn. An axis is one of the grid, such as method. Charts of
training are in `flipjax.report.training_curves`, of where a scene's flips go in `flipjax.report.scene_pull`.
"""

from itertools import cycle

import numpy as np
import pandas as pd

from flipjax.metrics.summary.names import title_of
from flipjax.page import panels, rankings
from flipjax.page.charts import Chart
from flipjax.page.style import CLASSES, COMMON, RARE, REPAIRED, WHOLE
from flipjax.report.grid_panels import Line, forest_panels, line_panels, map_panels, share_panels
from flipjax.report.over_rho import line_chart, overlay_chart
from flipjax.report.scene_pull import images_by_setting, pull_charts
from flipjax.results.statistics.setting_tables import FirstRule
from flipjax.results.statistics.verdicts import FEWEST_SEEDS, JUDGED
from flipjax.results.text import level_text, setting_label, varying_axes

COMMON_FLIP = Line("group/common/fg_flip", "common groups", COMMON, "o")
RARE_FLIP = Line("group/rare/fg_flip", "rare groups", RARE, "s")
COMMON_REPAIRED = Line("group/common/repair_flip", "common, repaired", COMMON, "v")
RARE_REPAIRED = Line("group/rare/repair_flip", "rare, repaired", REPAIRED, "D")
COMMON_ERROR = Line("group/common/fg_ece", "common groups", COMMON, "o")
RARE_ERROR = Line("group/rare/fg_ece", "rare groups", RARE, "s")
AUROC = (
    Line("risk_auroc", "entropy, all", WHOLE),
    Line("group/rare/risk_auroc", "entropy, rare", RARE, "s"),
    Line("swap_auroc", "scene swap, all", REPAIRED, "D"),
)
CONTEXT = Line("context_use", "context use", REPAIRED)
FLIP_SHARE = "flip, share of the true foreground"
"""The y axis of charts of Flip."""
CLASS_COLOURS = CLASSES[1:]
"""Colours of the lines of the classes, in turn."""
CLASS_MARKERS = "^v"
"""Marks of the lines of the classes, in turn."""
GAP_MARGIN = 0.05
"""How far the y axis of gaps reaches below the lowest one, so that its mark is whole."""


def flip_charts(tables: FirstRule) -> list[Chart]:
    """Returns charts of flips, the IoU gap, context use if it was measured, and pixel shares."""
    charts = [flip_chart(tables.means, tables.kept, note=tables.note_on_dots()), gap_chart(tables)]
    if tables.has_mean(CONTEXT.quantity):
        charts.append(context_chart(tables))
    charts.append(panels.shares_chart(share_panels(tables.means), note=tables.note_on_counts()))
    return charts


def flip_chart(summary: pd.DataFrame, records: pd.DataFrame, *, note: str, repaired: bool = True) -> Chart:
    """Returns the chart of flips over rho, from a summary and the records of its members.

    Args:
        summary: rows of `flipjax.results.statistics.estimates.aggregate`.
        records: rows of `flipjax.results.rows.member_quantities`, without left-out members.
        note: of the chart.
        repaired: whether to draw Flip after repair, where it was measured.

    Example:
        >>> rhos = {"rho": [0.5, 0.95]}
        >>> means = {"quantity": "group/rare/fg_flip", "n": 1, "mean": [0.1, 0.7], "low": np.nan, "high": np.nan}
        >>> records = pd.DataFrame({"member": ["m000", "m001"], **rhos, "group/rare/fg_flip": [0.1, 0.7]})
        >>> chart = flip_chart(pd.DataFrame({**rhos, **means}), records, note="One seed.")
        >>> chart.title, len(chart.panels)
        ('Flip of common and rare groups', 1)
    """
    caption = "Flip: pixels of the true foreground predicted as another foreground class, pooled over a group's images."
    lines = [COMMON_FLIP, RARE_FLIP]
    if repaired:
        lines += [COMMON_REPAIRED, RARE_REPAIRED]
        if RARE_REPAIRED.quantity in set(summary["quantity"]):
            caption += " Repair raises Flip where scenes stay correlated with classes."
    return Chart(
        name="flip",
        title="Flip of common and rare groups",
        caption=caption,
        note=note,
        panels=line_panels(summary, records, lines, y_name=FLIP_SHARE),
    )


def gap_chart(tables: FirstRule) -> Chart:
    """Returns the chart of the IoU gap of each class and their mean."""
    quantities = tables.means["quantity"].unique()
    names = [name for name in quantities if name.startswith("gap/") and name != "gap/mean"]
    lines = []
    # Colours and marks begin again where there are more classes.
    for name, colour, marker in zip(names, cycle(CLASS_COLOURS), cycle(CLASS_MARKERS), strict=False):
        lines.append(Line(name, title_of(name).removeprefix("IoU gap of "), colour, marker))
    lines.append(Line("gap/mean", "mean", WHOLE))
    return line_chart(
        tables,
        "gap",
        "IoU gap of each class",
        "IoU of a class in its common groups minus that in its rare groups. 0: the scene does not matter.",
        lines,
        y="IoU, common minus rare",
        limits=(_least_gap(tables) - GAP_MARGIN, 1.0),
        reference=panels.ReferenceLevel(0.0),
    )


def _least_gap(tables: FirstRule) -> float:
    """Returns the lowest gap in the chart, over seeds and intervals, or 0 if none is negative."""
    means = tables.means
    of_gaps = means[means["quantity"].str.startswith("gap/") & (means["n"] >= FEWEST_SEEDS)]
    of_seeds = np.ravel(tables.kept.filter(like="gap/"))
    return max(-1.0, float(np.nanmin([0.0, *of_gaps["low"], *of_seeds])))


def context_chart(tables: FirstRule) -> Chart:
    """Returns the chart of context use."""
    return line_chart(
        tables,
        "context_use",
        "Context use",
        "Share of the evidence 2 log(rho / (1 - rho)) of the scene that members use, measured on unlabelled images. "
        "0: none of it; 1: all.",
        [CONTEXT],
        y="share of the evidence",
        limits=None,
        reference=panels.ReferenceLevel(0.0),
    )


def risk_charts(tables: FirstRule) -> list[Chart]:
    """Returns charts of how well flip-risk ranks flips."""
    charts = [
        line_chart(
            tables,
            "risk",
            "How well flip-risk ranks flipped images",
            "AUROC for images with a flip share above 0.5. At 0.5 the score is no better than chance.",
            AUROC,
            y="AUROC",
            reference=panels.ReferenceLevel(0.5, "chance"),
        ),
    ]
    if tables.has_mean(RARE_ERROR.quantity):
        charts.append(
            line_chart(
                tables,
                "calibration",
                "Calibration inside regions",
                "Expected calibration error of the class of predicted regions. 0: confidence equals accuracy.",
                [COMMON_ERROR, RARE_ERROR],
                y="calibration error",
            )
        )
    return [*charts, *_ranking_charts(tables)]


def _ranking_charts(tables: FirstRule) -> list[Chart]:
    """Returns charts of risk-coverage and deciles: a panel for each setting beside rho, a curve for each rho."""
    facets: dict[str, dict[str, rankings.Ranking]] = {}
    axes = varying_axes(tables.means)
    for setting in images_by_setting(tables):
        label = setting_label(setting.axes, axes)
        if "rho" in setting.axes:
            facet = label
            curve = f"rho {level_text(setting.axes['rho'])}"
        else:
            facet = ""
            curve = label or "this run"
        ranking = rankings.mean_ranking([images.decomposition for images in setting.members])
        facets.setdefault(facet, {})[curve] = ranking
    if not facets:
        return []
    return rankings.ranking_charts(facets, note=tables.note_on_counts())


def map_charts(tables: FirstRule) -> list[Chart]:
    """Returns the chart of maps and distributions over all settings of a run; none of a run without an axis rho."""
    if "rho" not in tables.means:
        return []
    caption = "Means over seeds of every setting beside rho. Boxes: quartiles; line: median."
    drawn = map_panels(tables.means, JUDGED)
    return [Chart("settings", "All settings", caption, tables.note_on_counts(), drawn, columns=2)]


def method_charts(tables: FirstRule) -> list[Chart]:
    """Returns the chart of differences between methods; none for one method."""
    if tables.comparison.empty:
        return []
    caption = (
        "Differences from the first method of the grid, paired by seed at each rho. Bars are not corrected for "
        "multiple comparisons; the table has the verdicts. Lower is better for flip and gap, higher for IoU."
    )
    drawn = forest_panels(tables.comparison)
    return [Chart("methods", "Differences between methods", caption, tables.note_on_dots(), drawn)]


def class_charts(tables: FirstRule) -> list[Chart]:
    """Returns the confusion between classes, and where a scene's flips go."""
    matrices = []
    for setting in images_by_setting(tables):
        # Summed over the images of each member, then over members.
        confusion = np.sum([images.confusion.sum(0, dtype=np.int64) for images in setting.members], axis=0)
        matrices.append(panels.matrix_panel(confusion, setting.members[0].class_names, title=setting.title))
    charts = []
    if matrices:
        charts.append(panels.matrix_chart(matrices, note=tables.note_on_counts()))
    return [*charts, *pull_charts(tables)]


def front_chart(tables: FirstRule, flip: Chart) -> Chart | None:
    """Returns the chart beside the findings: a line of Flip in the rare groups over rho for each setting.

    Args:
        tables: of the settings that are drawn.
        flip: of `flip_chart`, a panel a setting. With one panel it is itself the result; with none, it is None.
    """
    if len(flip.panels) > 1:
        axes = varying_axes(tables.means)
        return overlay_chart(tables, RARE_FLIP.quantity, axes, name="flip_rare", title="Flip in the rare groups")
    if flip.panels:
        return flip
    return None
