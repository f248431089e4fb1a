"""Panels of shares, curves and matrices, for the pages of sweeps, audits and evaluations.

A panel is made by a pure function of arrays; `flipjax.report.grid_panels` has those of a grid's summary.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from matplotlib.typing import ColorType
from numpy.typing import ArrayLike

from flipjax.metrics.inputs.classes import Background, background_classes
from flipjax.page import style
from flipjax.page.charts import Chart, Panel
from flipjax.page.style import CORRECT, DARK, FLIP, LIGHT, MISS, dress, legend, plain, shades


@dataclasses.dataclass(frozen=True)
class Share:
    """A share of stacked bars."""

    key: str
    """The key of its quantity."""
    name: str
    """Its name in the legend."""
    colour: str
    """The colour of its bars."""
    ink: str
    """The colour of the numbers on its bars."""


SHARES = (
    Share("fg_correct", "correct", CORRECT, DARK),
    Share("fg_flip", "flip", FLIP, LIGHT),
    Share("fg_miss", "miss", MISS, LIGHT),
)
"""The shares of the true foreground, in the order of their bars."""
LABELLED = 12
"""Largest number of bars, or of columns of a matrix, whose values are written out."""
MOST_IN_WORDS = 8
"""Classes that the description of a matrix names, at most."""
LEAST_NUMBERED_SHARE = 0.06
"""The smallest share whose bar has room for its number."""
LEAST_DARK_SHARE = 0.7
"""A cell of a larger share is so dark that its number is light."""


def shares_chart(panels: Sequence[Panel], *, note: str) -> Chart:
    """Returns the chart of correct, flip and miss, from panels of `bar_panel`."""
    caption = "Shares of the true foreground, pooled over the images; they sum to 1."
    return Chart("shares", "Correct, flip and miss", caption, note, panels, columns=2)


def matrix_chart(panels: Sequence[Panel], *, note: str) -> Chart:
    """Returns the chart of predictions by true class, from panels of `matrix_panel`."""
    caption = "Of each true class, the share of its pixels that is predicted as each class."
    return Chart("flip_matrix", "Predictions of each true class", caption, note, panels)


def bar_panel(shares: Sequence[Sequence[float]], labels: Sequence[str], *, title: str, x: str = "") -> Panel:
    """Returns a panel of stacked bars.

    Args:
        shares: of correct, flip and miss, one value per bar; NaN where a bar is not known.
        labels: of the bars.
        title: of the panel.
        x: name of the x axis.

    Example:
        >>> bar_panel([[0.7], [0.2], [0.1]], ["0.95"], title="Shares at rho").text
        'Shares at rho. 0.95: correct 0.70, flip 0.20, miss 0.10.'
    """

    def draw(axes: Axes) -> None:
        tops = np.zeros(len(labels))
        for share, values in zip(SHARES, shares, strict=True):
            tops = _stack_bars(axes, np.array(values, np.float64), tops, share)
        dress(axes, title=title, x=x, y="share of the true foreground", ticks=range(len(labels)), labels=labels)
        axes.set_ylim(0, 1)
        axes.set_xlim(-0.6, max(2, len(labels)) - 0.4)
        legend(axes, columns=3)

    bars_in_words = []
    for label, values in zip(labels, np.transpose(shares), strict=True):
        if np.isnan(values).any():
            continue
        parts = [f"{share.name} {value:.2f}" for share, value in zip(SHARES, values, strict=True)]
        bars_in_words.append(f"{label}: {', '.join(parts)}")
    text = f"{title}. {'; '.join(bars_in_words)}.".replace("\n", " ")
    return Panel(draw, text, (max(3.9, 0.45 * len(labels)), 3.3))


def _stack_bars(axes: Axes, heights: np.ndarray, base: np.ndarray, share: Share) -> np.ndarray:
    """Draws one bar on top of each of `base`, with its number if there is room, and returns the new tops."""
    bars = axes.bar(
        range(len(heights)),
        heights,
        bottom=base,
        width=0.78,
        color=share.colour,
        edgecolor=style.PAPER,
        linewidth=0.6,
        label=share.name,
    )
    numbers = [""] * len(heights)
    for index, height in enumerate(heights):
        if height >= LEAST_NUMBERED_SHARE and len(heights) <= LABELLED:
            numbers[index] = f"{height:.2f}"
    axes.bar_label(bars, numbers, label_type="center", fontsize=8, color=share.ink)
    return base + np.nan_to_num(heights)


@dataclasses.dataclass(frozen=True)
class ReferenceLevel:
    """A level that values are read against, drawn as a dashed line."""

    level: float
    """The level, on the y axis."""
    name: str = ""
    """What stands beside it."""


@dataclasses.dataclass(frozen=True)
class Look:
    """How a curve is drawn."""

    colour: ColorType
    """Colour of the line and its marks."""
    linestyle: str = "-"
    """Style of the line, as matplotlib names it."""


def curve_panel(
    curves: pd.DataFrame,
    *,
    title: str,
    x: str,
    y: str,
    y_end: float | None = None,
    reference: ReferenceLevel | None = None,
    interval: tuple[np.ndarray, np.ndarray] | None = None,
    looks: Mapping[str, Look] | None = None,
) -> Panel:
    """Returns a panel of curves.

    Args:
        curves: values by point, with a column for each curve.
        title: of the panel.
        x: name of the x axis.
        y: name of the y axis, which begins at 0.
        y_end: end of the y axis; None uses the range of the values.
        reference: a level that is drawn.
        interval: low and high (n,) at the first curve's points.
        looks: of each curve by its name; None: solid, coloured from blue to orange in order.
    """
    if looks is None:
        looks = {str(label): Look(colour) for label, colour in zip(curves, shades(curves.shape[1]), strict=True)}

    def draw(axes: Axes) -> None:
        for label, values in curves.items():
            look = looks[str(label)]
            (line,) = axes.plot(
                values.index,
                values,
                label=plain(str(label), characters=24),
                color=look.colour,
                linewidth=1.8,
                linestyle=look.linestyle,
            )
            if len(values) <= LABELLED:
                line.set(marker="o", markersize=3.5)
        if interval is not None:
            low, high = interval
            colour = looks[str(curves.columns[0])].colour
            axes.vlines(curves.index, low, high, color=colour, linewidth=1.4, alpha=0.6)
        dress(axes, title=title, x=x, y=y)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=bool(curves.index[-1] > 1)))
        axes.set_ylim(0, y_end)
        if reference:
            draw_reference(axes, reference)
        if curves.shape[1] > 1:
            legend(axes, columns=min(3, curves.shape[1]))

    curves_in_words = []
    for label, values in curves.items():
        defined = values.dropna()
        if len(defined):
            curves_in_words.append(f"{label or y}: from {defined.iloc[0]:.2f} to {defined.iloc[-1]:.2f}")
    return Panel(draw, f"{title or y}, {y} by {x}. {'; '.join(curves_in_words)}.")


def draw_reference(axes: Axes, reference: ReferenceLevel) -> None:
    """Draws a dashed reference level and its name."""
    axes.axhline(reference.level, color=style.FAINT, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    axes.annotate(
        reference.name,
        (1, reference.level),
        xycoords=("axes fraction", "data"),
        xytext=(0, -2),
        textcoords="offset points",
        ha="right",
        va="top",
        fontsize=8.5,
        color=style.FAINT,
    )


def matrix_panel(
    confusion: np.ndarray,
    class_names: Sequence[str],
    *,
    background: Background = 0,
    classes: Sequence[int] | None = None,
    title: str = "",
) -> Panel:
    """Returns a panel of shares of each true class by prediction, coloured by outcome.

    Args:
        confusion: int (C, C), rows the truth.
        class_names: C names.
        background: its class, several or None; background classes have columns but no rows.
        classes: the foreground classes to show, by default all.
        title: of the panel.
    """
    outside = background_classes(background)
    if classes is None:
        classes = [c for c in range(len(class_names)) if c not in outside]
    rows = list(classes)
    columns = sorted([*rows, *outside])
    shares = confusion[np.ix_(rows, columns)] / np.maximum(confusion[rows].sum(1, keepdims=True), 1)
    colours = []
    for truth in rows:
        colours.append([_outcome_colour(truth, predicted, outside) for predicted in columns])
    accuracies = []
    for truth in rows[:MOST_IN_WORDS]:
        share = confusion[truth, truth] / max(confusion[truth].sum(), 1)
        accuracies.append(f"{class_names[truth]} {share:.1%}")
    text = f"{title or 'Predictions of each true class'}. Predicted as itself: {'; '.join(accuracies)}."
    row_names = [class_names[c] for c in rows]
    column_names = [class_names[c] for c in columns]
    return cell_panel(shares, colours, row_names, column_names, text=text, title=title, y="truth")


def _outcome_colour(truth: int, predicted: int, background: Sequence[int]) -> str:
    """Returns the colour of the outcome of a foreground class."""
    if predicted == truth:
        return CORRECT
    if predicted in background:
        return MISS
    return FLIP


def cell_panel(
    shares: np.ndarray,
    colours: Sequence[Sequence[str]],
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    text: str,
    title: str,
    y: str,
    framed: ArrayLike = (),
) -> Panel:
    """Returns a panel of shares as coloured cells.

    Args:
        shares: float (R, C) in 0..1.
        colours: of each cell if its share is 1; a smaller share is paler.
        rows: R names.
        columns: C names, of predicted classes.
        text: what the panel shows, in words.
        title: of the panel.
        y: name of the y axis.
        framed: int (n, 2), row and column of the cells that have a frame.
    """
    count = len(columns)
    frames = np.asarray(framed, np.int64).reshape(-1, 2)

    def draw(axes: Axes) -> None:
        tints = 1 - np.array([[to_rgb(colour) for colour in row] for row in colours])
        # The square root makes small shares visible.
        axes.imshow(1 - np.sqrt(shares)[..., None] * tints, aspect="auto")
        dress(axes, title=title, x="predicted as", y=y, ticks=range(count), labels=columns)
        axes.set_yticks(range(len(rows)), [plain(name, characters=20) for name in rows])
        axes.grid(False)
        axes.hlines(np.arange(len(rows) - 1) + 0.5, -0.5, count - 0.5, color=LIGHT, linewidth=1.5)
        axes.vlines(np.arange(count - 1) + 0.5, -0.5, len(rows) - 0.5, color=LIGHT, linewidth=1.5)
        for row, column in frames:
            axes.add_patch(frame(row, column))
        if count > LABELLED:
            axes.tick_params(axis="x", rotation=90)
        else:
            _write_shares(axes, shares, colours)

    return Panel(draw, text, _cells_size(len(rows), count))


def frame(row: int, column: int) -> Rectangle:
    """Returns the frame of a cell, a little smaller than it: frames of neighbours do not touch."""
    corner = (column - 0.47, row - 0.47)
    return Rectangle(corner, 0.94, 0.94, fill=False, edgecolor=DARK, linewidth=2.5, clip_on=False, zorder=3)


def _write_shares(axes: Axes, shares: np.ndarray, colours: Sequence[Sequence[str]]) -> None:
    """Writes the shares that are not 0 into their cells."""
    for (row, column), share in np.ndenumerate(shares):
        if not share:
            continue
        ink = DARK
        if share > LEAST_DARK_SHARE and colours[row][column] != CORRECT:
            ink = LIGHT
        axes.text(column, row, f"{share:.1%}", ha="center", va="center", fontsize=8.5, color=ink)


def _cells_size(rows: int, columns: int) -> tuple[float, float]:
    """Returns width and height of a panel of cells, in inches: the fewer columns, the wider a cell."""
    if columns <= 8:
        width = 0.95
    elif columns <= LABELLED:
        width = 0.6
    else:
        width = 0.25
    height = 0.75 * width
    # Beside the cells stand the names of rows; above and below them title and names of columns.
    return max(3.9, width * columns + 2.0), max(2.6, height * rows + 1.2)
