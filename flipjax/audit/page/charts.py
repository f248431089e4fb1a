"""The charts of an audit's page."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb

from flipjax.audit.page.findings import groups_with_sentence
from flipjax.audit.statistics.flips import GroupFlip
from flipjax.audit.statistics.results import Audit
from flipjax.page import panels, rankings
from flipjax.page.charts import Chart, Panel
from flipjax.page.style import DARK, EMPTY, FLIP, LIGHT, dress, plain

MAP_ROWS = 16
"""Classes that the heat map shows, at most."""
MAP_COLUMNS = 12
"""Groups that it shows, at most."""
WIDEST = 4.9
"""Inches of a chart that does not scroll on a narrow screen."""
FEWEST_CELLS = 3
"""Cells below which there is no map."""


def note_of(audit: Audit) -> str:
    """Returns how many images and classes there are."""
    images = f"{len(audit.images)} {audit.measured.image_noun}"
    return f"{images}, {len(audit.foreground)} foreground classes, by {audit.measured.weight_noun}."


def flip_risk_charts(audit: Audit) -> list[Chart]:
    """Returns the charts of risk-coverage and of flip by decile of flip-risk.

    Without a ranking there are none. Few images have no chart of deciles.
    """
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
    # One panel without a title, and in it one curve without a label.
    facets = {"": {"": ranking}}
    coverage, deciles = rankings.ranking_charts(facets, note=note, mean=mean, intervals=intervals)
    if not audit.has_tenths:
        return [coverage]
    if intervals:
        deciles = dataclasses.replace(deciles, note=f"{note} Lines: 95% intervals over the images.")
    return [coverage, deciles]


def heat_chart(audit: Audit) -> Chart | None:
    """Returns Flip of each class in each group as a map, those that flip significantly more framed; None of few cells.

    Of many classes or groups those with the largest differences are shown, MAP_ROWS and MAP_COLUMNS of them.
    """
    flipping = [row for row in audit.compared if row.flips]
    flipping.sort(key=_size_of_difference, reverse=True)
    all_classes = list(dict.fromkeys(row.class_name for row in flipping))
    all_groups = list(dict.fromkeys(row.group for row in flipping))
    if len(all_classes) * len(all_groups) < FEWEST_CELLS:
        return None
    classes = sorted(all_classes[:MAP_ROWS], key=audit.class_names.index)
    groups = sorted(all_groups[:MAP_COLUMNS])
    cells = flip_cells(audit.compared, classes, groups)
    panel = heat_panel(cells, classes, groups, framed=_framed_cells(audit, classes, groups))
    note = note_of(audit)
    if len(classes) < len(all_classes):
        note = f"{note} Shown are {len(classes)} of {len(all_classes)} that flip, with the largest differences."
    elif len(classes) < len(audit.foreground):
        note = f"{note} Shown are {len(classes)} that flip."
    if len(groups) < len(all_groups):
        note = f"{note} Shown are {len(groups)} of {len(all_groups)} groups, with the largest differences."
    caption = "Framed: significantly more flips than in the other groups."
    return Chart("flip_by_group", "Flip by class and group", caption, note, [panel], columns=1)


def _size_of_difference(row: GroupFlip) -> float:
    return abs(float(row.difference.value))


def _framed_cells(audit: Audit, classes: Sequence[str], groups: Sequence[str]) -> list[tuple[int, int]]:
    """Returns row and column of the cells whose class flips significantly more in their group."""
    cells = []
    for row in groups_with_sentence(audit):
        flips_more = row.difference.value > 0
        if flips_more and row.class_name in classes and row.group in groups:
            cells.append((classes.index(row.class_name), groups.index(row.group)))
    return cells


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
    colours = _cell_colours(shares)

    def draw(axes: Axes) -> None:
        axes.imshow(colours, aspect="auto")
        dress(axes, title="", x="", y="", ticks=range(len(columns)), labels=columns)
        axes.set_yticks(range(len(rows)), [plain(name, characters=18) for name in rows])
        axes.grid(False)
        axes.hlines(np.arange(len(rows) - 1) + 0.5, -0.5, len(columns) - 0.5, color=LIGHT, linewidth=1.5)
        axes.vlines(np.arange(len(columns) - 1) + 0.5, -0.5, len(rows) - 0.5, color=LIGHT, linewidth=1.5)
        for row, column in framed:
            axes.add_patch(panels.frame(row=row, column=column))
        if len(columns) > 6:
            axes.tick_params(axis="x", rotation=90)
        for (row, column), share in np.ndenumerate(shares):
            if not np.isnan(share):
                ink = DARK
                if share > 0.5:
                    ink = LIGHT
                axes.text(column, row, f"{share:.0%}", ha="center", va="center", fontsize=8.5, color=ink)

    words = []
    for row, column in framed:
        words.append(f"{rows[row]} in {columns[column]} {shares[row, column]:.1%}")
    text = f"Flip by class and group. Significantly more: {'; '.join(words) or 'none'}."
    width = min(WIDEST, 1.9 + 0.75 * len(columns))
    return Panel(draw, text, (max(3.0, width), 1.0 + 0.36 * len(rows)))


def _cell_colours(shares: np.ndarray) -> np.ndarray:
    """Returns the colours (R, C, 3) of shares (R, C): from white to red, and grey where there is none."""
    # The square root makes small shares visible.
    redness = np.sqrt(np.nan_to_num(shares))[..., None]
    colours = 1 - redness * (1 - np.array(to_rgb(FLIP)))
    return np.where(np.isnan(shares)[..., None], to_rgb(EMPTY), colours)
