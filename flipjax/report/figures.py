"""Panels of a run's charts: pure functions from tables to what draws them. No pyplot, so no global state."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from flipjax.report.chart import Panel
from flipjax.report.style import CORRECT, DARK, FAINT, FLIP, LIGHT, MISS, PAPER, dress, legend, plain, shades
from flipjax.results.cells import Row
from flipjax.results.rows import number
from flipjax.results.text import setting_label, varying_axes

SHARES = (("fg_correct", "correct", CORRECT, DARK), ("fg_flip", "flip", FLIP, LIGHT), ("fg_miss", "miss", MISS, LIGHT))
DECILE = "flip-risk decile (10: the riskiest tenth)"
MOST = 6


class Line(NamedTuple):
    """One line of a chart: a quantity, its name in the legend, and how it looks."""

    quantity: str
    label: str
    colour: Any
    marker: str = "o"


class Curve(NamedTuple):
    """One curve of a panel: its name in the legend, its level of rho or None, and its points (n,)."""

    label: str
    xs: np.ndarray
    ys: np.ndarray


class Places(NamedTuple):
    """Where a row stands: in the facet of its setting, at its rho; without a rho axis, at the place of its setting."""

    axes: list[str]
    labels: list[str]
    levels: list[float]

    @classmethod
    def of(cls, table: Sequence[Row]) -> "Places":
        """Returns the places of a summary's rows."""
        axes = varying_axes(table)
        labels = list(dict.fromkeys(setting_label(row, axes) for row in table))
        return cls(axes, labels, sorted({row["rho"] for row in table if "rho" in row}))

    def facets(self) -> list[str]:
        """Returns the titles of the facets."""
        return self.labels if self.levels else [""]

    def place(self, row: Row) -> tuple[str, float]:
        """Returns a row's facet and its place on the x axis."""
        label = setting_label(row, self.axes)
        return (label, float(row["rho"])) if self.levels else ("", float(self.labels.index(label)))

    def within(self, facet: str, rows: Sequence[Row]) -> list[tuple[float, Row]]:
        """Returns the rows of a facet with their places, from left to right."""
        placed = [(*self.place(row), row) for row in rows]
        return sorted(((x, row) for label, x, row in placed if label == facet), key=lambda point: point[0])

    def ticks(self) -> tuple[list[float], list[str]]:
        """Returns the ticks of the x axis and their labels."""
        if self.levels:
            return self.levels, [f"{level:g}" for level in self.levels]
        return [float(x) for x in range(len(self.labels))], [label or "this run" for label in self.labels]


def line_panels(
    summary: Sequence[Row],
    records: Sequence[Row],
    lines: Sequence[Line],
    *,
    y: str,
    limits: tuple[float, float] | None = (0.0, 1.0),
    reference: tuple[float, str] | None = None,
) -> list[Panel]:
    """Returns a panel for each setting of the other axes: quantities against rho, and a small dot for each seed.

    Without a rho axis there is one panel, and the settings stand side by side on its x axis.

    Args:
        summary: rows of `flipjax.results.seeds.aggregate`.
        records: records of `flipjax.results.rows.member_quantities`, without the members that were left out.
        lines: what to draw; a line without a value is left out.
        y: name of the y axis.
        limits: of the y axis; None where the values say.
        reference: a level to compare with, and its name.
    """
    places = Places.of(summary)
    panels = []
    for facet in places.facets():
        inside = [(line, places.within(facet, _known(summary, line))) for line in lines]
        inside = [(line, points) for line, points in inside if points]
        dots = places.within(facet, records)
        draw = partial(
            _draw_lines, places=places, facet=facet, lines=inside, dots=dots, y=y, limits=limits, reference=reference
        )
        panels.append(Panel(draw, f"{facet or y}. {_in_words(inside, places)}"))
    return panels


def _known(summary: Sequence[Row], line: Line) -> list[Row]:
    return [row for row in summary if row["quantity"] == line.quantity and math.isfinite(number(row["mean"]))]


def _in_words(lines: Sequence[tuple[Line, Sequence[tuple[float, Row]]]], places: Places) -> str:
    names = dict(zip(*places.ticks(), strict=True))
    where = "at rho" if places.levels else "in"
    texts = []
    for line, points in lines:
        values = (f"{row['mean']:.2f} {where} {names[x]}" for x, row in points)
        texts.append(f"{line.label}: {', '.join(values)}.")
    return " ".join(texts) or "No values."


def _draw_lines(
    axes: Axes,
    *,
    places: Places,
    facet: str,
    lines: Sequence[tuple[Line, Sequence[tuple[float, Row]]]],
    dots: Sequence[tuple[float, Row]],
    y: str,
    limits: tuple[float, float] | None,
    reference: tuple[float, str] | None,
) -> None:
    ticks, labels = places.ticks()
    for index, (line, points) in enumerate(lines):
        # Lines are set a little apart, and seeds beside their mean, so that no mark hides another.
        step = 0.014 * max(np.ptp(ticks), 0.1)
        shift = step * (index - (len(lines) - 1) / 2)
        _draw_line(axes, line, points, dots, shift=shift, beside=step / 2, joined=bool(places.levels))
    x = "rho" if places.levels else ""
    dress(axes, title=facet, x=x, y=y, ticks=ticks, labels=labels)
    if not places.levels:
        axes.set_xlim(-0.5, len(ticks) - 0.5)
    if limits:
        axes.set_ylim(*limits)
    draw_reference(axes, reference)
    if len(lines) > 1:
        legend(axes, columns=2)


def _draw_line(
    axes: Axes,
    line: Line,
    points: Sequence[tuple[float, Row]],
    dots: Sequence[tuple[float, Row]],
    *,
    shift: float,
    beside: float,
    joined: bool,
) -> None:
    xs = np.array([x for x, _ in points]) + shift
    mean, low, high = (np.array([number(row[name]) for _, row in points]) for name in ("mean", "low", "high"))
    if joined:
        axes.plot(xs, mean, color=line.colour, linewidth=1.8)
    known = np.isfinite(low) & np.isfinite(high)
    axes.vlines(xs[known], low[known], high[known], color=line.colour, linewidth=1.6)
    look: dict[str, Any] = {"color": line.colour, "marker": line.marker}
    axes.scatter(xs, mean, s=36, zorder=3, edgecolor=PAPER, linewidth=0.6, label=plain(line.label, most=24), **look)
    seeds = [x + shift + beside for x, _ in dots], [record[line.quantity] for _, record in dots]
    axes.scatter(*seeds, s=11, alpha=0.45, linewidth=0, **look)


def draw_reference(axes: Axes, reference: tuple[float, str] | None) -> None:
    """Draws a dashed level to compare with, and its name."""
    if reference is None:
        return
    level, text = reference
    axes.axhline(level, color=FAINT, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    offset: dict[str, Any] = {"xytext": (0, -2), "textcoords": "offset points", "ha": "right", "va": "top"}
    axes.annotate(text, (1, level), xycoords=("axes fraction", "data"), fontsize=8.5, color=FAINT, **offset)


def share_panels(summary: Sequence[Row]) -> list[Panel]:
    """Returns panels of correct, flip and miss as stacked shares of the true foreground: common groups, then rare."""
    places = Places.of(summary)
    labels = places.ticks()[1]
    panels = []
    for facet in places.facets():
        for group in ("common", "rare"):
            rows = places.within(facet, summary)
            shares = [
                [number(row["mean"]) for _, row in rows if row["quantity"] == f"{name}/{group}"] for name, *_ in SHARES
            ]
            title = " · ".join(text for text in (facet, f"{group} groups") if text)
            panels.append(bar_panel(shares, labels, title=title, x="rho" if places.levels else ""))
    return panels


def bar_panel(
    shares: Sequence[Sequence[float]], labels: Sequence[str], *, title: str, x: str = "", width: float = 3.9
) -> Panel:
    """Returns a panel of stacked bars side by side: `shares` are those of correct, flip and miss, a value a bar."""
    words = (
        f"{label}: {', '.join(f'{name} {value:.2f}' for (_, name, *_), value in zip(SHARES, bar, strict=True))}"
        for label, bar in zip(labels, zip(*shares, strict=True), strict=False)
    )
    text = f"{title}. {'; '.join(words)}.".replace("\n", " ")
    return Panel(partial(_draw_bars, shares=shares, labels=labels, title=title, x=x), text, (width, 3.3))


def _draw_bars(axes: Axes, *, shares: Sequence[Sequence[float]], labels: Sequence[str], title: str, x: str) -> None:
    base = 0.0
    for (_, label, colour, ink), values in zip(SHARES, shares, strict=True):
        height = np.array(values, np.float64)
        look: dict[str, Any] = {"color": colour, "edgecolor": PAPER, "linewidth": 0.6, "label": label}
        bars = axes.bar(range(len(height)), height, bottom=base, width=0.78, **look)
        texts = [f"{value:.2f}" if value >= 0.06 and len(height) <= 12 else "" for value in height]
        axes.bar_label(bars, texts, label_type="center", fontsize=8, color=ink)
        base = base + np.nan_to_num(height)
    dress(axes, title=title, x=x, y="share of the true foreground", ticks=range(len(labels)), labels=labels)
    axes.set_ylim(0, 1)
    axes.set_xlim(-0.6, max(2, len(labels)) - 0.4)
    legend(axes, columns=3)


def curve_panel(
    curves: Sequence[Curve],
    *,
    title: str,
    x: str,
    y: str,
    limits: tuple[float | None, float | None] = (0.0, None),
    ticks: Sequence[float] | None = None,
    colours: Sequence[Any] | None = None,
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
        colours: one a curve, in place of the shades.
        reference: a level to compare with, and its name.
        interval: low and high (n,) at the first curve's points.
    """
    first = "; ".join(f"{c.label or y}: from {_value(c.ys[0])} to {_value(c.ys[-1])}" for c in curves[:MOST])
    options: dict[str, Any] = {"title": title, "x": x, "y": y, "limits": limits, "ticks": ticks}
    draw: Callable[[Axes], None] = partial(
        _draw_curves,
        curves=curves,
        colours=shades(len(curves)) if colours is None else colours,
        reference=reference,
        interval=interval,
        **options,
    )
    return Panel(draw, f"{title or y}, {y} by {x}. {first}.")


def _value(value: float) -> str:
    return f"{value:.2f}" if math.isfinite(value) else "none"


def _draw_curves(
    axes: Axes,
    *,
    curves: Sequence[Curve],
    colours: Sequence[Any],
    title: str,
    x: str,
    y: str,
    limits: tuple[float | None, float | None],
    ticks: Sequence[float] | None,
    reference: tuple[float, str] | None,
    interval: tuple[np.ndarray, np.ndarray] | None,
) -> None:
    for curve, colour in zip(curves, colours, strict=True):
        marker: dict[str, Any] = {"marker": "o", "markersize": 3.5} if len(curve.xs) <= 12 else {}
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
    draw_reference(axes, reference)
    if len(curves) > 1:
        legend(axes, columns=min(3, len(curves)))
