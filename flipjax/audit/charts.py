"""The charts of an audit's page."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb

from flipjax.audit.findings import groups_with_sentence
from flipjax.audit.flips import GroupFlip
from flipjax.audit.results import Audit
from flipjax.report import panels, rankings
from flipjax.report.charts import Chart, Panel
from flipjax.report.style import DARK, EMPTY, FLIP, LIGHT, dress, plain

MAP_ROWS = 16
"""Classes that the heat map shows, at most."""
MAP_COLUMNS = 12
"""Groups that it shows, at most."""
WIDEST = 4.9
"""Inches of a chart that does not scroll on a narrow screen."""


def note_of(audit: Audit) -> str:
    """Returns how many images and classes there are."""
    images = f"{len(audit.images)} {audit.measured.image_noun}"
    return f"{images}, {len(audit.foreground)} foreground classes, by {audit.measured.weight_noun}."


def ranking_charts(audit: Audit) -> list[Chart]:
    """Returns risk-coverage, and flip by decile of flip-risk; none without a ranking, no deciles of few images."""
    if not audit.risk_ranks_images:
        return []
    ranking = {
        "risk_decile": audit.tenths("risk_decile"),
        "flip_by_risk_decile": audit.tenths("flip_by_risk_decile"),
        "remaining": rankings.remaining_flip(audit.decomposition),
    }
    note = note_of(audit)
    intervals = {}
    for name in ranking:
        if name in audit.intervals:
            low, high = audit.intervals[name]
            intervals[name] = (np.asarray(low), np.asarray(high))
    mean = audit.number("flip_image_mean")
    coverage, deciles = rankings.ranking_charts({"": {"": ranking}}, note=note, mean=mean, intervals=intervals)
    if not audit.has_tenths:
        return [coverage]
    if intervals:
        deciles = dataclasses.replace(deciles, note=f"{note} Lines: 95% intervals over the images.")
    return [coverage, deciles]


def heat_chart(audit: Audit) -> Chart | None:
    """Returns Flip of each class in each group as a map, those that flip significantly more framed; None of few cells.

    Of many classes or groups those with the largest differences are shown.
    """
    shown = [row for row in audit.compared if row.flips]
    shown.sort(key=_size_of_difference, reverse=True)
    classes = list(dict.fromkeys(row.class_name for row in shown))
    groups = list(dict.fromkeys(row.group for row in shown))
    if not classes or len(classes) * len(groups) < 3:
        return None
    classes = sorted(classes[:MAP_ROWS], key=audit.class_names.index)
    groups = sorted(groups[:MAP_COLUMNS])
    frames = []
    for row in groups_with_sentence(audit):
        flips_more = row.difference.value > 0
        if flips_more and row.class_name in classes and row.group in groups:
            frames.append((classes.index(row.class_name), groups.index(row.group)))
    panel = heat_panel(flip_cells(audit.compared, classes, groups), classes, groups, framed=frames)
    note = note_of(audit)
    if len(classes) < len(audit.foreground):
        note = f"{note} Shown are {len(classes)} that flip."
    caption = "Framed: significantly more flips than in the other groups."
    return Chart("flip_by_group", "Flip by class and group", caption, note, [panel], columns=1)


def _size_of_difference(row: GroupFlip) -> float:
    return abs(float(row.difference.value))


def flip_cells(compared: Sequence[GroupFlip], classes: Sequence[str], groups: Sequence[str]) -> np.ndarray:
    """Returns the Flip of each class in each group (classes, groups); NaN where the group does not show the class."""
    cells = np.full((len(classes), len(groups)), np.nan)
    for row in compared:
        if row.class_name in classes and row.group in groups:
            cells[classes.index(row.class_name), groups.index(row.group)] = row.here.value
    return cells


def heat_panel(
    shares: np.ndarray, rows: Sequence[str], columns: Sequence[str], *, framed: Sequence[tuple[int, int]] = ()
) -> Panel:
    """Returns a panel of shares (R, C) as cells that are redder for a larger share, grey where there is none."""
    tint = 1 - np.array(to_rgb(FLIP))
    has_share = ~np.isnan(shares)
    # The square root makes small shares visible.
    colours = np.where(has_share[..., None], 1 - np.sqrt(np.nan_to_num(shares))[..., None] * tint, to_rgb(EMPTY))

    def draw(axes: Axes) -> None:
        axes.imshow(colours, aspect="auto")
        dress(axes, title="", x="", y="", ticks=range(len(columns)), labels=columns)
        axes.set_yticks(range(len(rows)), [plain(name, characters=18) for name in rows])
        axes.grid(False)
        axes.hlines(np.arange(len(rows) - 1) + 0.5, -0.5, len(columns) - 0.5, color=LIGHT, linewidth=1.5)
        axes.vlines(np.arange(len(columns) - 1) + 0.5, -0.5, len(rows) - 0.5, color=LIGHT, linewidth=1.5)
        for row, column in framed:
            axes.add_patch(panels.frame(row, column))
        if len(columns) > 6:
            axes.tick_params(axis="x", rotation=90)
        for (row, column), share in np.ndenumerate(shares):
            if has_share[row, column]:
                ink = LIGHT if share > 0.5 else DARK
                axes.text(column, row, f"{share:.0%}", ha="center", va="center", fontsize=8.5, color=ink)

    words = []
    for row, column in framed:
        words.append(f"{rows[row]} in {columns[column]} {shares[row, column]:.1%}")
    text = f"Flip by class and group. Significantly more: {'; '.join(words) or 'none'}."
    width = min(WIDEST, 1.9 + 0.75 * len(columns))
    return Panel(draw, text, (max(3.0, width), 1.0 + 0.36 * len(rows)))
