"""The charts of a run's page, section by section; `flipjax.report.page_tables` has its tables.

Each function takes the tables of the settings that are drawn. An axis is one of the grid, such as method.
"""

import dataclasses
from collections.abc import Sequence
from itertools import cycle, islice

import numpy as np
import pandas as pd

from flipjax.config.groups import Groups
from flipjax.metrics.images import Images
from flipjax.metrics.scene_flips import flip_cube, pull_chance, usual_table
from flipjax.report import panels, rankings
from flipjax.report.charts import Chart, Panel
from flipjax.report.grid_panels import Line, forest_panels, line_panels, map_panels, share_panels
from flipjax.report.style import CLASSES, COMMON, FLIP, RARE, REPAIRED, WHOLE, shades
from flipjax.results import text
from flipjax.results.cells import cells_by_member
from flipjax.results.estimates import range_of
from flipjax.results.first_rule import FirstRule
from flipjax.results.frames import Row, groups_of, records_of
from flipjax.results.quantities import title_of
from flipjax.results.rows import axes_of
from flipjax.results.text import level_text, setting_label, varying_axes
from flipjax.results.verdicts import FEWEST_SEEDS, JUDGED

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
PULL = Line("scene_pull", "pull of the scene", FLIP)
CONTEXT = Line("context_use", "context use", REPAIRED)
FLIP_SHARE = "flip, share of the true foreground"
"""The y axis of charts of Flip."""
CLASS_COLOURS = CLASSES[1:]
"""Colours of the lines of the classes, in turn."""
CLASS_MARKERS = "^v"
"""Marks of the lines of the classes, in turn."""
SETTING_MARKERS = "osD^vP*"
"""Marks of the lines of settings, in turn."""
GAP_MARGIN = 0.05
"""How far the y axis of gaps reaches below the lowest one, so that its mark is whole."""
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
"""The training curves of a setting, a panel each."""


@dataclasses.dataclass(frozen=True)
class SettingImages:
    """The test images of the members of a setting, by the first rule."""

    title: str
    """Its values of the axes that vary."""
    axes: Row
    """Its values of all axes."""
    members: list[Images]
    """The images of each member."""


def images_by_setting(tables: FirstRule) -> list[SettingImages]:
    """Returns settings in order of rho, each with its members; left-out members have none."""
    axes = [name for name in axes_of(tables.rows) if name != "seed"]
    title_axes = varying_axes(tables.means)
    if "rho" in axes:
        title_axes.append("rho")
    cells = cells_by_member(tables.cells)
    settings = []
    for values, records in groups_of(tables.kept, axes):
        images = [cells[member].images_of(member, "test") for member in records["member"] if member in cells]
        if images:
            value_of_axis = dict(zip(axes, values, strict=True))
            settings.append(SettingImages(setting_label(value_of_axis, title_axes), value_of_axis, images))
    return sorted(settings, key=_rho_of)


def _rho_of(setting: SettingImages) -> float:
    return setting.axes.get("rho", 0.0)


def flip_charts(tables: FirstRule) -> list[Chart]:
    """Returns charts of flips, the IoU gap, context use if it was measured, and pixel shares."""
    charts = [flip_chart(tables.means, tables.kept, note=tables.note_on_dots()), gap_chart(tables)]
    if tables.has_mean(CONTEXT.quantity):
        charts.append(context_chart(tables))
    charts.append(panels.shares_chart(share_panels(tables.means), note=tables.note_on_counts()))
    return charts


def flip_chart(summary: pd.DataFrame, records: pd.DataFrame, *, note: str) -> Chart:
    """Returns the chart of flips over rho, from a summary and the records of its members.

    Example:
        >>> rhos = {"rho": [0.5, 0.95]}
        >>> means = {"quantity": "group/rare/fg_flip", "n": 1, "mean": [0.1, 0.7], "low": np.nan, "high": np.nan}
        >>> records = pd.DataFrame({"member": ["m000", "m001"], **rhos, "group/rare/fg_flip": [0.1, 0.7]})
        >>> chart = flip_chart(pd.DataFrame({**rhos, **means}), records, note="One seed.")
        >>> chart.title, len(chart.panels)
        ('Flip of common and rare groups', 1)
    """
    caption = "Flip: pixels of the true foreground predicted as another foreground class, pooled over a group's images."
    if RARE_REPAIRED.quantity in set(summary["quantity"]):
        caption += " Repair raises Flip where scenes stay correlated with classes."
    lines = [COMMON_FLIP, RARE_FLIP, COMMON_REPAIRED, RARE_REPAIRED]
    return Chart(
        name="flip",
        title="Flip of common and rare groups",
        caption=caption,
        note=note,
        panels=line_panels(summary, records, lines, y_name=FLIP_SHARE),
    )


def _line_chart(
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


def gap_chart(tables: FirstRule) -> Chart:
    """Returns the chart of the IoU gap of each class and their mean."""
    quantities = tables.means["quantity"].unique()
    names = [name for name in quantities if name.startswith("gap/") and name != "gap/mean"]
    lines = []
    # Colours and marks begin again where there are more classes.
    for name, colour, marker in zip(names, cycle(CLASS_COLOURS), cycle(CLASS_MARKERS), strict=False):
        lines.append(Line(name, title_of(name).removeprefix("IoU gap of "), colour, marker))
    lines.append(Line("gap/mean", "mean", WHOLE))
    return _line_chart(
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
    """Returns the lowest gap that is drawn, of a seed or an interval; 0 if none is below."""
    means = tables.means
    of_gaps = means[means["quantity"].str.startswith("gap/") & (means["n"] >= FEWEST_SEEDS)]
    of_seeds = np.ravel(tables.kept.filter(like="gap/"))
    return max(-1.0, float(np.nanmin([0.0, *of_gaps["low"], *of_seeds])))


def context_chart(tables: FirstRule) -> Chart:
    """Returns the chart of context use."""
    return _line_chart(
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
        _line_chart(
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
            _line_chart(
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


def training_charts(tables: FirstRule) -> list[Chart]:
    """Returns training curves of two epochs or more, averaged over the members of a setting that still train."""
    if tables.history.empty:
        return []
    axes = [name for name in varying_axes(tables.members, until="member") if name != "seed"]
    axes_of_curves = []
    if "rho" in tables.members:
        axes_of_curves.append("rho")
    # An axis such as learning_rate is also a history column, with the value of the last step.
    history = tables.history.drop(columns=axes, errors="ignore")
    table = history.merge(tables.members[["member", *axes, *axes_of_curves]], on="member")
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
    return [Chart("training", "Training curves", caption, tables.note_on_counts(), drawn)]


def pull_charts(tables: FirstRule) -> list[Chart]:
    """Returns the pull over rho and the matrices of scenes and predicted classes; none for two classes."""
    if PULL.quantity not in set(tables.means["quantity"]):
        return []
    cell = next(iter(tables.cells.values()))
    chance = pull_chance(cell.groups)
    over_rho = _line_chart(
        tables,
        "pull",
        "Pull of the scene",
        "Share of the flips in rare groups that go to a class whose usual scene the image shows.",
        [PULL],
        y="share of the flips in rare groups",
        reference=panels.ReferenceLevel(chance, f"chance, {chance:.2f}"),
    )
    scene_names = cell.results.scene_name.tolist()
    matrices = []
    for setting in images_by_setting(tables):
        flips = unusual_flips(setting.members, cell.groups)
        if flips.any():
            matrices.append(pull_panel(flips, cell.groups, cell.class_names[1:], scene_names, title=setting.title))
    caption = (
        "Predicted class of the flips in each scene that is unusual for the object. Framed: the class whose usual "
        f"scene it is; flips spread evenly put {chance:.0%} of all into the frames."
    )
    return [over_rho, Chart("pull_matrix", "Where a scene's flips go", caption, tables.note_on_counts(), matrices)]


def unusual_flips(members: Sequence[Images], groups: Groups) -> np.ndarray:
    """Returns flipped pixels of members of one setting in scenes that are unusual for their class.

    Returns:
        int (S, F), by scene and predicted class.
    """
    # Pixels by true class, scene and predicted class, (F, S, F).
    flips = np.sum([flip_cube(images.confusion, images.group, all_groups=groups) for images in members], axis=0)
    is_unusual = ~usual_table(groups)
    return (flips * is_unusual[..., None]).sum(0)


def pull_panel(
    flips: np.ndarray, groups: Groups, class_names: Sequence[str], scene_names: Sequence[str], *, title: str
) -> Panel:
    """Returns a panel of the flips in each scene by predicted class.

    Args:
        flips: pixels (S, F) of S scenes and F foreground classes, at least one.
        groups: of the images.
        class_names: of the foreground classes.
        scene_names: of the scenes.
        title: the setting.
    """
    # By scene and class, as flips are.
    is_usual = usual_table(groups).T
    shares = flips / np.maximum(flips.sum(1, keepdims=True), 1)
    pull = flips[is_usual].sum() / flips.sum()
    title_with_pull = f"{title}: {pull:.0%} in the frames"
    return panels.cell_panel(
        shares,
        [[FLIP] * len(class_names)] * len(scene_names),
        scene_names,
        class_names,
        text=f"{title_with_pull}.",
        title=title_with_pull,
        y="flips on",
        framed=np.argwhere(is_usual),
    )


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
    means = summary.assign(quantity=_line_names(summary, axes, y_name)).drop(columns=[*axes])
    line_names = means["quantity"].unique()
    line_of_record = pd.Series(_line_names(records, axes, y_name), records.index)
    other_axes = [axis for axis in varying_axes(summary) if axis not in axes]
    seeds = records[["rho", *other_axes]].copy()
    lines = []
    for name, colour, marker in zip(line_names, shades(len(line_names)), cycle(SETTING_MARKERS), strict=False):
        seeds[name] = records[quantity].where(line_of_record == name)
        lines.append(Line(name, name, colour, marker))
    return line_panels(means, seeds, lines, y_name=y_name, limits=limits)


def _line_names(table: pd.DataFrame, axes: Sequence[str], default: str) -> list[str]:
    """Returns the values of `axes` in each row, without those that its method does not use, or `default` for none."""
    names = []
    for row in records_of(table):
        values = [text.value_text(axis, row[axis]) for axis in axes if not pd.isna(row[axis])]
        names.append(", ".join(values) or default)
    return names
