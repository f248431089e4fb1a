"""Panels of shares, curves, rankings and matrices, for the pages of sweeps, audits and evaluations.

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

from flipjax.metrics import summarize
from flipjax.metrics.classes import Background, background_classes
from flipjax.metrics.decomposition import Decomposition
from flipjax.metrics.selective import risk_coverage
from flipjax.report import style
from flipjax.report.charts import Chart, Panel
from flipjax.report.style import CORRECT, DARK, FLIP, LIGHT, MISS, dress, legend, plain, shades


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
COVERAGE = np.linspace(0.02, 1, 50)
"""Shares of the images that are kept."""
TENTHS = np.arange(1.0, 11.0)
"""Numbers of the deciles."""
TENTH = "flip-risk decile (10: the riskiest tenth)"
"""The x axis of charts by decile."""
RANKED = {
    "remaining": (
        COVERAGE,
        "coverage: share of the images kept, lowest risk first",
        "mean flip share of the images kept",
    ),
    "flip_by_risk_decile": (TENTHS, TENTH, "mean flip share"),
    "risk_decile": (TENTHS, TENTH, "mean flip-risk (nats)"),
}
"""The curves of a `Ranking`: their points, and the names of the axes."""
LABELLED = 12
"""Largest number of bars, or of columns of a matrix, whose values are written out."""
Ranking = Mapping[str, np.ndarray]
"""Images sorted by flip-risk: the arrays that RANKED names."""


def remaining(decomposition: Decomposition) -> np.ndarray:
    """Returns the mean flip share (50,) of the images with lowest flip-risk, at each COVERAGE.

    NaN if no image has a flip-risk.

    Example:
        >>> counts = np.array([[[5, 0, 0], [0, 4, 0], [0, 0, 0]], [[5, 0, 0], [0, 0, 0], [0, 2, 2]]])
        >>> remaining(Decomposition(counts, np.array([1.0, 2.0])))[[0, 24, 25, 49]].tolist()
        [0.0, 0.0, 0.25, 0.25]
    """
    risks = risk_coverage(decomposition.flip_risk, decomposition.flip)
    if not len(risks):
        return np.full(len(COVERAGE), np.nan)
    # Rounds fractional numbers of images up.
    return risks[np.ceil(np.round(COVERAGE * len(risks), 9)).astype(int) - 1]


def mean_ranking(members: Sequence[Decomposition]) -> Ranking:
    """Returns the mean of members' rankings at each point, ignoring NaN; NaN where none has a value."""
    rankings = [summarize(images) | {"remaining": remaining(images)} for images in members]
    means = {}
    for name in RANKED:
        means[name] = pd.DataFrame([ranking[name] for ranking in rankings]).mean().to_numpy()
    return means


def ranking_charts(
    facets: Mapping[str, Mapping[str, Ranking]],
    *,
    note: str,
    mean: float | None = None,
    intervals: Mapping[str, tuple[np.ndarray, np.ndarray]] | None = None,
) -> list[Chart]:
    """Returns charts of risk-coverage and flip-risk deciles, with a panel per facet and a curve per labelled ranking.

    Args:
        facets: rankings by panel title.
        note: n and the kind of interval.
        mean: flip share of all images, drawn as reference.
        intervals: low and high (10,) of `flip_by_risk_decile` and `risk_decile`.
    """
    if intervals is None:
        intervals = {}
    coverage = []
    deciles = []
    for title, rankings in facets.items():
        for name, (points, x, y) in RANKED.items():
            curves = pd.DataFrame({label: ranking[name] for label, ranking in rankings.items()}, index=points)
            reference = None
            if mean is not None and name != "risk_decile":
                reference = ReferenceLevel(mean, f"mean of all images, {mean:.2f}")
            panel = curve_panel(curves, title=title, x=x, y=y, reference=reference, interval=intervals.get(name))
            if name == "remaining":
                coverage.append(panel)
            else:
                deciles.append(panel)
    kept = (
        "Mean flip share of the images that are kept when the riskiest are set aside. If a curve rises to the right, "
        "setting images aside helps."
    )
    tenth = "Images sorted by flip-risk, in tenths. If a line rises to the right, flip-risk finds the flips."
    return [
        Chart("coverage", "Risk-coverage", kept, note, coverage),
        Chart("deciles", "Flips and flip-risk by flip-risk decile", tenth, note, deciles, columns=2),
    ]


def shares_chart(panels: Sequence[Panel], *, note: str) -> Chart:
    """Returns the chart of correct, flip and miss, from panels of `bar_panel`."""
    caption = "Shares of the true foreground, pooled over the images; they sum to 1."
    return Chart("shares", "Correct, flip and miss", caption, note, panels, columns=2)


def matrix_chart(panels: Sequence[Panel], *, note: str) -> Chart:
    """Returns the chart of predictions by true class, from panels of `matrix_panel`."""
    caption = "Of each true class, the share of its pixels that is predicted as each class."
    return Chart("flip_matrix", "Predictions of each true class", caption, note, panels)


def bar_panel(shares: Sequence[Sequence[float]], labels: Sequence[str], *, title: str, x: str = "") -> Panel:
    """Returns a panel of stacked bars. `shares` are those of correct, flip and miss, one value per bar."""

    def draw(axes: Axes) -> None:
        base = np.zeros(len(labels))
        for share, values in zip(SHARES, shares, strict=True):
            base = _stack_bars(axes, np.array(values, np.float64), base, share)
        dress(axes, title=title, x=x, y="share of the true foreground", ticks=range(len(labels)), labels=labels)
        axes.set_ylim(0, 1)
        axes.set_xlim(-0.6, max(2, len(labels)) - 0.4)
        legend(axes, columns=3)

    words = []
    for label, values in zip(labels, zip(*shares, strict=True), strict=False):
        if np.isnan(values).any():
            continue
        parts = [f"{share.name} {value:.2f}" for share, value in zip(SHARES, values, strict=True)]
        words.append(f"{label}: {', '.join(parts)}")
    text = f"{title}. {'; '.join(words)}.".replace("\n", " ")
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
    texts = [""] * len(heights)
    if len(heights) <= LABELLED:
        texts = [f"{height:.2f}" if height >= 0.06 else "" for height in heights]
    axes.bar_label(bars, texts, label_type="center", fontsize=8, color=share.ink)
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

    words = []
    for label, values in curves.items():
        defined = values.dropna()
        if len(defined):
            words.append(f"{label or y}: from {defined.iloc[0]:.2f} to {defined.iloc[-1]:.2f}")
    return Panel(draw, f"{title or y}, {y} by {x}. {'; '.join(words)}.")


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
    right = []
    for truth in rows[:8]:
        share = confusion[truth, truth] / max(confusion[truth].sum(), 1)
        right.append(f"{class_names[truth]} {share:.1%}")
    text = f"{title or 'Predictions of each true class'}. Predicted as itself: {'; '.join(right)}."
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
    """Returns a panel of shares (R, C) as coloured cells with row and column names, some of them `framed` (n, 2)."""
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
    """Returns the frame of a cell."""
    corner = (column - 0.47, row - 0.47)
    return Rectangle(corner, 0.94, 0.94, fill=False, edgecolor=DARK, linewidth=2.5, clip_on=False, zorder=3)


def _write_shares(axes: Axes, shares: np.ndarray, colours: Sequence[Sequence[str]]) -> None:
    """Writes the shares that are not 0 into their cells."""
    for (row, column), share in np.ndenumerate(shares):
        if not share:
            continue
        dark_cell = share > 0.7 and colours[row][column] != CORRECT
        ink = DARK
        if dark_cell:
            ink = LIGHT
        axes.text(column, row, f"{share:.1%}", ha="center", va="center", fontsize=8.5, color=ink)


def _cells_size(rows: int, columns: int) -> tuple[float, float]:
    """Returns width and height of a panel of cells, in inches."""
    side = 0.25
    if columns <= LABELLED:
        side = 0.6
    if columns <= 8:
        side = 0.95
    return max(3.9, side * columns + 2.0), max(2.6, side * 0.75 * rows + 1.2)
