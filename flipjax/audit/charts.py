"""The charts of an audit's page."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb

from flipjax.audit.findings import told_groups
from flipjax.audit.flips import GroupFlip
from flipjax.audit.results import Audit
from flipjax.audit.segment_tables import most_flipped
from flipjax.metrics.classes import is_foreground
from flipjax.metrics.decomposition import margins
from flipjax.report import panels
from flipjax.report.charts import Chart, Panel
from flipjax.report.style import DARK, EMPTY, FLIP, LIGHT, dress, plain
from flipjax.results.frames import records_of
from flipjax.results.text import with_interval

BARS = 24
"""Classes or groups that a chart of bars shows, at most."""
CELLS = 40
"""Classes that a matrix shows, at most."""
MAP_ROWS = 16
"""Classes that the heat map shows, at most."""
MAP_COLUMNS = 12
"""Groups that it shows, at most."""
ONE_SHIFT = "shift by"
"""Beginning of the kinds of flips that are part of all shifts."""
BAR_ROOM = 2.8
"""Width of a panel of bars, in lengths of the longest one; the rest is for numbers."""
BARS_WIDTH = 4.2
"""Inches of a panel of bars."""
LEAST_SHARE = 1e-6
"""Share for which a panel of bars has room at least."""
WIDEST = 4.9
"""Inches of a chart that does not scroll on a narrow screen."""


def note_of(audit: Audit) -> str:
    """Returns how many images and classes there are."""
    images = f"{len(audit.images)} {audit.measured.image_noun}"
    return f"{images}, {len(audit.foreground)} foreground classes{audit.weighing}."


def part_of(note: str, shown: int, foreground: int) -> str:
    """Returns the note; if classes are omitted, adds how many are shown."""
    if shown == foreground:
        return note
    return f"{note} Shown are the {shown} classes in the most flips."


def shares_chart(audit: Audit) -> Chart:
    """Returns stacked shares of correct, flip and miss, for all images, each group and each true class with pixels."""
    keys = [key for key in audit.summary if key.startswith("group/") and key.endswith("/fg_flip")]
    groups = {"all": ""}
    for key in keys[:BARS]:
        groups[key.split("/")[1]] = key.removesuffix("fg_flip")
    by_group = []
    for share in panels.SHARES:
        by_group.append([audit.number(f"{prefix}{share.key}") for prefix in groups.values()])
    counts = margins(audit.confusion, background=audit.background)
    shown = most_flipped(audit.confusion, background=audit.background, limit=BARS)
    classes = [c for c in shown if counts.truth[c]]
    truth = counts.truth[classes]
    correct = counts.same[classes]
    missed = counts.missed[classes]
    by_class = np.stack([correct, truth - correct - missed, missed]) / truth
    labels = [name.replace("+", "\n") for name in groups]
    names = [audit.class_names[c] for c in classes]
    bars = []
    if keys and classes:
        bars.append(panels.bar_panel(by_group, labels, title="by group"))
    if classes:
        bars.append(panels.bar_panel(by_class.tolist(), names, title="by true class"))
    return panels.shares_chart(bars, note=part_of(note_of(audit), len(shown), len(audit.foreground)))


def ranking_charts(audit: Audit) -> list[Chart]:
    """Returns risk-coverage, and flip by decile of flip-risk; none for masks, no deciles of few images."""
    if not audit.has_scores:
        return []
    ranking = {
        "risk_decile": audit.tenths("risk_decile"),
        "flip_by_risk_decile": audit.tenths("flip_by_risk_decile"),
        "remaining": panels.remaining(audit.decomposition),
    }
    note = note_of(audit)
    if audit.intervals:
        note = f"{note} Bars: 95% intervals over the images."
    intervals = {}
    for name in ranking:
        if name in audit.intervals:
            low, high = audit.intervals[name]
            intervals[name] = (np.asarray(low), np.asarray(high))
    mean = audit.number("flip_image_mean")
    coverage, deciles = panels.ranking_charts({"": {"": ranking}}, note=note, mean=mean, intervals=intervals)
    if not audit.has_tenths:
        return [coverage]
    return [coverage, deciles]


def matrix_chart(audit: Audit) -> Chart:
    """Returns the flip matrix of the classes in the most flips."""
    classes = most_flipped(audit.confusion, background=audit.background, limit=CELLS)
    matrix = panels.matrix_panel(audit.confusion, audit.class_names, background=audit.background, classes=classes)
    foreground = is_foreground(len(audit.class_names), audit.background)
    return panels.matrix_chart([matrix], note=part_of(note_of(audit), len(classes), int(foreground.sum())))


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
    for row in told_groups(audit):
        flips_more = row.difference.value > 0
        if flips_more and row.class_name in classes and row.group in groups:
            frames.append((classes.index(row.class_name), groups.index(row.group)))
    panel = heat_panel(flip_cells(audit.compared, classes, groups), classes, groups, framed=frames)
    note = note_of(audit)
    if len(shown) > len(classes):
        note = part_of(note, len(classes), len(audit.foreground))
    pixels = audit.measured.pixel_noun
    caption = f"Share of a class's {pixels} that flip in a group; framed: significantly more than in the other groups."
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
        axes.set_yticks(range(len(rows)), [plain(name, most=18) for name in rows])
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


def kinds_chart(audit: Audit) -> Chart | None:
    """Returns the kinds of flips as bars, by the class that is predicted and by place; None where nothing flips."""
    if not audit.number("fg_flip") > 0:
        return None
    drawn = []
    if len(audit.kinds.by_class):
        drawn.append(kinds_panel(audit.kinds.by_class, title="by the class that is predicted"))
    drawn.append(kinds_panel(audit.kinds.by_place, title="by their place"))
    measured = audit.measured
    caption = (
        f"Share of the {measured.pixel_noun} of the true foreground, with its 95% interval, and the number of "
        f"{measured.image_noun} that have such flips. The bars of a panel sum to Flip."
    )
    return Chart("kinds_of_flips", "Kinds of flips", caption, note_of(audit), drawn, columns=1)


def kinds_panel(kinds: pd.DataFrame, *, title: str) -> Panel:
    """Returns a panel of a bar for each kind of flip, with its numbers beside it.

    Args:
        kinds: a table of `KindsOfFlips`; the rows of single shifts are left out, as they are part of another row.
        title: of the panel.
    """
    rows = [row for row in records_of(kinds) if not row["kind"].startswith(ONE_SHIFT)]
    names = [row["kind"] for row in rows]
    shares = [row["share"] for row in rows]
    texts = [f"{with_interval(row, 'share', form='.1%')} in {row['images']:,}" for row in rows]
    heights = np.arange(len(rows))

    def draw(axes: Axes) -> None:
        axes.barh(heights, shares, height=0.62, color=FLIP)
        dress(axes, title=title, x="", y="")
        axes.set_yticks(heights, [plain(name, most=24) for name in names])
        axes.set_xticks([])
        axes.spines["bottom"].set_visible(False)
        axes.grid(False)
        axes.invert_yaxis()
        axes.set_xlim(0, BAR_ROOM * max(*shares, LEAST_SHARE))
        for height, share, text in zip(heights, shares, texts, strict=True):
            axes.annotate(text, (share, height), (5, 0), textcoords="offset points", va="center", fontsize=8.5)

    words = [f"{name} {text}" for name, text in zip(names, texts, strict=True)]
    return Panel(draw, f"Kinds of flips {title}: {'; '.join(words)}.", (BARS_WIDTH, 0.62 + 0.27 * len(rows)))
