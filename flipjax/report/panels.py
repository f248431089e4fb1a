"""The panels that the pages of sweeps, audits and evaluations share, drawn from decompositions alone.

Pure functions from arrays to what draws them. No pyplot, so no global state.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.ticker import MaxNLocator

from flipjax.metrics import statistics
from flipjax.metrics.classes import Background, background_classes
from flipjax.metrics.decomposition import Decomposition
from flipjax.report.chart import Chart, Panel
from flipjax.report.style import CORRECT, DARK, FAINT, FLIP, LIGHT, MISS, PAPER, dress, legend, plain, shades

SHARES = (("fg_correct", "correct", CORRECT, DARK), ("fg_flip", "flip", FLIP, LIGHT), ("fg_miss", "miss", MISS, LIGHT))
COVERAGE, TENTHS = np.linspace(0.02, 1, 50), np.arange(1.0, 11.0)
DECILES = {"flip_by_risk_decile": "mean flip share", "risk_decile": "mean flip-risk (nats)"}
IN_WORDS = 6
"""Curves of a panel that its description names."""
LABELLED = 12
"""Columns of a matrix, or bars, whose values are written out."""


class Curve(NamedTuple):
    """One curve of a panel: its name in the legend, its points (n,), and its colour; None: a shade by its place."""

    label: str
    xs: np.ndarray
    ys: np.ndarray
    colour: str | None = None


class Ranking(NamedTuple):
    """Images sorted by flip-risk: mean risk, nats, and flip share (10,) of each tenth; flip share (50,) at COVERAGE."""

    risk_decile: np.ndarray
    flip_by_risk_decile: np.ndarray
    remaining: np.ndarray


def remaining(decomposition: Decomposition) -> np.ndarray:
    """Returns the mean flip share (50,) of the images of least flip-risk, at the shares of images COVERAGE.

    NaN where no image has a flip-risk.

    Example:
        >>> counts = np.array([[[5, 0, 0], [0, 4, 0], [0, 0, 0]], [[5, 0, 0], [0, 0, 0], [0, 2, 2]]])
        >>> remaining(Decomposition(counts, np.array([1.0, 2.0])))[[0, 24, 25, 49]].tolist()
        [0.0, 0.0, 0.25, 0.25]
    """
    images = statistics.read_images(decomposition)
    flip = images.flip[np.argsort(images.rank)][: images.ranked.sum()]
    return at_coverage(np.cumsum(flip) / np.arange(1, len(flip) + 1))


def at_coverage(risks: np.ndarray) -> np.ndarray:
    """Returns risks (n,), each of the k images of least score, at the shares COVERAGE of the n: (50,); NaN of none."""
    if not len(risks):
        return np.full(len(COVERAGE), np.nan)
    # A share that is not a whole number of images is rounded up.
    return risks[np.ceil(np.round(COVERAGE * len(risks), 9)).astype(int) - 1]


def mean_curve(curves: Sequence[np.ndarray]) -> np.ndarray:
    """Returns the mean (n,) of curves (n,) over those that have a value there; NaN where none has."""
    return pd.DataFrame(curves).mean().to_numpy()


def ranking_charts(
    facets: Mapping[str, Mapping[str, Ranking]],
    *,
    note: str,
    mean: float | None = None,
    intervals: Mapping[str, Any] | None = None,
) -> list[Chart]:
    """Returns risk-coverage and the flip-risk deciles: panels for each facet, a curve for each ranking by its label.

    Args:
        facets: by the titles of their panels.
        note: n and the kind of interval.
        mean: flip share of all images, to compare with.
        intervals: low and high (10,) of `flip_by_risk_decile` and `risk_decile`.
    """
    reference = None if mean is None else (mean, f"mean of all images, {mean:.2f}")
    x, y = "coverage: share of the images kept, least risk first", "mean flip share of the images kept"
    coverage = []
    deciles = []
    for title, rankings in facets.items():
        left = [Curve(label, COVERAGE, ranking.remaining) for label, ranking in rankings.items()]
        coverage.append(curve_panel(left, title=title, x=x, y=y, reference=reference))
        for name, mean_of in DECILES.items():
            curves = [Curve(label, TENTHS, getattr(ranking, name)) for label, ranking in rankings.items()]
            more = {"reference": None if name == "risk_decile" else reference, "interval": (intervals or {}).get(name)}
            tenth = "flip-risk decile (10: the riskiest tenth)"
            deciles.append(curve_panel(curves, title=title, x=tenth, y=mean_of, ticks=TENTHS.tolist(), **more))
    kept = (
        "Mean flip share of the images that are left when the riskiest are set aside. A curve that rises to the right: "
        "setting aside helps."
    )
    tenth = "Images sorted by flip-risk, in tenths. A line that rises to the right: flip-risk points at the flips."
    return [
        Chart("coverage", "Risk-coverage", kept, note, coverage),
        Chart("deciles", "Flips and flip-risk by flip-risk decile", tenth, note, deciles, columns=2),
    ]


def shares_chart(panels: Sequence[Panel], *, note: str) -> Chart:
    """Returns the chart of what becomes of the true foreground, from panels of `bar_panel`."""
    caption = "Shares of the true foreground, pooled over the images; they sum to 1."
    return Chart("shares", "What becomes of the true foreground", caption, note, panels, columns=2)


def matrix_chart(panels: Sequence[Panel], *, note: str) -> Chart:
    """Returns the chart of which class is taken for which, from panels of `matrix_panel`."""
    caption = "Of each true class, the share of its pixels that is predicted as each class."
    return Chart("flip_matrix", "Which class is taken for which", caption, note, panels)


def bar_panel(shares: Sequence[Sequence[float]], labels: Sequence[str], *, title: str, x: str = "") -> Panel:
    """Returns a panel of stacked bars side by side: `shares` are those of correct, flip and miss, a value a bar."""

    def draw(axes: Axes) -> None:
        base = 0.0
        for (_, label, colour, ink), values in zip(SHARES, shares, strict=True):
            height = np.array(values, np.float64)
            look: dict[str, Any] = {"color": colour, "edgecolor": PAPER, "linewidth": 0.6, "label": label}
            bars = axes.bar(range(len(height)), height, bottom=base, width=0.78, **look)
            texts = [f"{value:.2f}" if value >= 0.06 and len(height) <= LABELLED else "" for value in height]
            axes.bar_label(bars, texts, label_type="center", fontsize=8, color=ink)
            base = base + np.nan_to_num(height)
        dress(axes, title=title, x=x, y="share of the true foreground", ticks=range(len(labels)), labels=labels)
        axes.set_ylim(0, 1)
        axes.set_xlim(-0.6, max(2, len(labels)) - 0.4)
        legend(axes, columns=3)

    words = (
        f"{label}: {', '.join(f'{name} {value:.2f}' for (_, name, *_), value in zip(SHARES, bar, strict=True))}"
        for label, bar in zip(labels, zip(*shares, strict=True), strict=False)
    )
    return Panel(draw, f"{title}. {'; '.join(words)}.".replace("\n", " "), (max(3.9, 0.45 * len(labels)), 3.3))


def curve_panel(
    curves: Sequence[Curve],
    *,
    title: str,
    x: str,
    y: str,
    limits: tuple[float | None, float | None] = (0.0, None),
    ticks: Sequence[float] | None = None,
    reference: tuple[float, str] | None = None,
    interval: tuple[np.ndarray, np.ndarray] | None = None,
) -> Panel:
    """Returns a panel of curves over one x axis, from blue to orange in their order.

    Args:
        curves: what to draw.
        title: of the panel.
        x: name of the x axis.
        y: name of the y axis.
        limits: of the y axis; None where the values say.
        ticks: of the x axis.
        reference: a level to compare with, and its name.
        interval: low and high (n,) at the first curve's points.
    """

    def draw(axes: Axes) -> None:
        colours: list[Any] = [curve.colour or shade for curve, shade in zip(curves, shades(len(curves)), strict=True)]
        for curve, colour in zip(curves, colours, strict=True):
            marker: dict[str, Any] = {"marker": "o", "markersize": 3.5} if len(curve.xs) <= LABELLED else {}
            axes.plot(curve.xs, curve.ys, color=colour, linewidth=1.8, label=plain(curve.label, most=20), **marker)
        if interval is not None:
            axes.vlines(curves[0].xs, *interval, color=colours[0], linewidth=1.4, alpha=0.6)
        low, high = min(curve.xs[0] for curve in curves), max(curve.xs[-1] for curve in curves)
        locator = MaxNLocator(6, integer=high > 1)
        places = list(ticks) if ticks is not None else [x for x in locator.tick_values(low, high) if low <= x <= high]
        dress(axes, title=title, x=x, y=y, ticks=places, labels=[f"{place:g}" for place in places])
        room = 0.04 * max(high - low, 0.5)
        axes.set_xlim(low - room, high + room)
        axes.set_ylim(*limits)
        if limits == (0.0, None):
            # Else points that differ little would lie on the upper edge.
            axes.set_ylim(top=axes.get_ylim()[1] + 0.05 * axes.get_ylim()[1])
        if reference:
            draw_reference(axes, *reference)
        if len(curves) > 1:
            legend(axes, columns=min(3, len(curves)))

    ends = ((c.label or y, *(f"{v:.2f}" if math.isfinite(v) else "none" for v in (c.ys[0], c.ys[-1]))) for c in curves)
    words = "; ".join(f"{label}: from {first} to {last}" for label, first, last in list(ends)[:IN_WORDS])
    return Panel(draw, f"{title or y}, {y} by {x}. {words}.")


def draw_reference(axes: Axes, level: float, text: str) -> None:
    """Draws a dashed level to compare with, and its name."""
    axes.axhline(level, color=FAINT, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    offset: dict[str, Any] = {"xytext": (0, -2), "textcoords": "offset points", "ha": "right", "va": "top"}
    axes.annotate(text, (1, level), xycoords=("axes fraction", "data"), fontsize=8.5, color=FAINT, **offset)


def matrix_panel(
    confusion: np.ndarray,
    class_names: Sequence[str],
    *,
    background: Background = 0,
    classes: Sequence[int] | None = None,
    title: str = "",
) -> Panel:
    """Returns a panel of shares of each true class by prediction, coloured by what they mean.

    Args:
        confusion: int (C, C), rows the truth.
        class_names: C names.
        background: its class, several or None; they have columns and no rows.
        classes: the foreground classes to show; all unless given.
        title: of the panel.
    """
    outside = background_classes(background)
    rows = [c for c in range(len(class_names)) if c not in outside] if classes is None else list(classes)
    columns = sorted([*rows, *outside])
    shares = confusion[np.ix_(rows, columns)] / np.maximum(confusion[rows].sum(1, keepdims=True), 1)
    outcomes = [[CORRECT if p == t else MISS if p in outside else FLIP for p in columns] for t in rows]
    names = [class_names[c] for c in rows], [class_names[c] for c in columns]
    draw, size = cell_drawing(shares, outcomes, *names, title=title, y="truth")
    most = shares * (np.array(columns) != np.array(rows)[:, None])
    t, p = np.unravel_index(most.argmax(), most.shape)
    error = f"{class_names[rows[t]]} as {class_names[columns[p]]} {most[t, p]:.1%}"
    text = f"{title or 'Which class is taken for which'}. The largest error: {error} of the class's pixels."
    return Panel(draw, text, size)


def cell_drawing(
    shares: np.ndarray, colours: Sequence[Sequence[str]], rows: Sequence[str], columns: Sequence[str], **names: str
) -> tuple[Callable[[Axes], Any], tuple[float, float]]:
    """Returns what draws shares (R, C) as cells of a colour each, by the names of rows and columns, and its size."""
    C = len(columns)

    def draw(axes: Axes) -> None:
        tints = 1 - np.array([[to_rgb(colour) for colour in row] for row in colours])
        # The root, so that small shares can be seen.
        axes.imshow(1 - np.sqrt(shares)[..., None] * tints, aspect="auto")
        dress(axes, x="predicted as", ticks=range(C), labels=columns, **names)
        axes.set_yticks(range(len(rows)), [plain(name, most=20) for name in rows])
        axes.grid(False)
        axes.hlines(np.arange(len(rows) - 1) + 0.5, -0.5, C - 0.5, color=LIGHT, linewidth=1.5)
        axes.vlines(np.arange(C - 1) + 0.5, -0.5, len(rows) - 0.5, color=LIGHT, linewidth=1.5)
        if C > LABELLED:
            axes.tick_params(axis="x", rotation=90)
            return
        for (row, column), share in np.ndenumerate(shares):
            ink = LIGHT if share > 0.7 and colours[row][column] != CORRECT else DARK
            axes.text(column, row, f"{share:.1%}" if share else "", ha="center", va="center", fontsize=8.5, color=ink)

    cell = 0.95 if C <= 8 else 0.6 if C <= LABELLED else 0.25
    return draw, (max(3.9, cell * C + 2.0), max(2.6, cell * 0.75 * len(rows) + 1.2))
