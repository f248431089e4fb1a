"""Charts of a run: pure functions from tables to matplotlib figures. No pyplot, so no global state."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from flipjax.report.style import CORRECT, FAINT, FLIP, INK, MISS, canvas, dress
from flipjax.results import Row, number, setting_label, varying_axes

SHARES = (
    ("fg_correct", "correct", CORRECT, "white"),
    ("fg_flip", "flip: right region, wrong label", FLIP, "white"),
    ("fg_miss", "miss", MISS, INK),
)
RHO = "rho (share of a class's training images in its usual scene)"


class Line(NamedTuple):
    """One line of a chart: a quantity, its name in the legend, and how it looks."""

    quantity: str
    label: str
    colour: str
    marker: str = "o"


class Panel(NamedTuple):
    """One pair of axes: the name of its y axis, its lines, and a level to compare with."""

    name: str
    lines: tuple[Line, ...]
    reference: tuple[float, str] | None = None


class Deciles(NamedTuple):
    """Of one setting, means over seeds by flip-risk decile: risk (10,) in nats, flip share (10,)."""

    setting: Row
    risk: np.ndarray
    flip: np.ndarray


class _Places(NamedTuple):
    """Where a row stands: in the facet of its setting, at its rho; without a rho axis, at the place of its setting."""

    axes: list[str]
    labels: list[str]
    levels: list[float]

    @classmethod
    def of(cls, table: Sequence[Row]) -> "_Places":
        axes = varying_axes(table)
        labels = list(dict.fromkeys(setting_label(row, axes) for row in table))
        return cls(axes, labels, sorted({row["rho"] for row in table if "rho" in row}))

    def facets(self) -> list[str]:
        return self.labels if self.levels else [""]

    def place(self, row: Row) -> tuple[str, float]:
        label = setting_label(row, self.axes)
        return (label, float(row["rho"])) if self.levels else ("", float(self.labels.index(label)))

    def within(self, facet: str, rows: Sequence[Row]) -> list[tuple[float, Row]]:
        placed = [(*self.place(row), row) for row in rows]
        return sorted(((x, row) for label, x, row in placed if label == facet), key=lambda point: point[0])

    def ticks(self) -> tuple[list[float], list[str]]:
        if self.levels:
            return self.levels, [f"{level:g}" for level in self.levels]
        return [float(x) for x in range(len(self.labels))], [label or "this run" for label in self.labels]


def line_chart(
    summary: Sequence[Row], records: Sequence[Row], panels: Sequence[Panel], *, title: str, note: str
) -> Figure:
    """Draws quantities against rho: means with their intervals, and a small dot for each seed.

    With one panel every setting of the other axes is a facet. With several panels a setting is a row, a panel a column.
    Without a rho axis the settings stand side by side on the x axis.

    Args:
        summary: rows of `flipjax.results.aggregate`.
        records: records of `flipjax.results.member_quantities`, without the members that were left out.
        panels: what to draw.
        title: the quantity that the chart shows.
        note: n and the kind of interval.
    """
    places = _Places.of(summary)
    facets = places.facets()
    columns = len(panels) if len(panels) > 1 else 2 if len(facets) == 4 else min(3, len(facets))
    rows = math.ceil(len(facets) * len(panels) / columns)
    size, share = (7.2 if columns == 1 else 4.9, 3.6), "col" if len(panels) > 1 else "all"
    figure, grid = canvas(rows, columns, size=size, share=share, title=title, note=note)
    plots = [(panel, facet) for facet in facets for panel in panels]
    for axes, (panel, facet) in zip(grid.flat, plots, strict=False):
        drawn = [(line, places.within(facet, _known(summary, line))) for line in panel.lines]
        drawn = [(line, points) for line, points in drawn if points]
        dots = places.within(facet, records)
        for index, (line, points) in enumerate(drawn):
            # Lines are set a little apart, and seeds beside their mean, so that no mark hides another.
            step = 0.014 * max(np.ptp(places.ticks()[0]), 0.1)
            shift = step * (index - (len(drawn) - 1) / 2)
            _draw_line(axes, line, points, dots, shift=shift, beside=step / 2, joined=bool(places.levels))
        ticks, labels = places.ticks()
        dress(axes, title=facet, x=RHO if places.levels else "", y=panel.name, ticks=ticks, labels=labels)
        if not places.levels:
            axes.set_xlim(-0.5, len(ticks) - 0.5)
        draw_reference(axes, panel.reference)
        if len(drawn) > 1:
            # Above the axes: whiskers can reach any place within them.
            place: dict[str, Any] = {"loc": "lower right", "bbox_to_anchor": (1, 1), "borderaxespad": 0.2}
            axes.legend(frameon=False, fontsize=8, ncols=len(drawn), handletextpad=0.2, **place)
    for axes in grid.flat[len(plots) :]:
        axes.set_visible(False)
    return figure


def _known(summary: Sequence[Row], line: Line) -> list[Row]:
    return [row for row in summary if row["quantity"] == line.quantity and math.isfinite(number(row["mean"]))]


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
    axes.vlines(xs, low, high, color=line.colour, linewidth=1.6)
    look: dict[str, Any] = {"color": line.colour, "marker": line.marker}
    axes.scatter(xs, mean, s=36, zorder=3, edgecolor="white", linewidth=0.6, label=line.label, **look)
    seeds = [x + shift + beside for x, _ in dots], [record[line.quantity] for _, record in dots]
    axes.scatter(*seeds, s=11, alpha=0.45, linewidth=0, **look)


def draw_reference(axes: Axes, reference: tuple[float, str] | None) -> None:
    """Draws a dashed level to compare with, and its name."""
    if reference is None:
        return
    level, text = reference
    axes.axhline(level, color=FAINT, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    offset: dict[str, Any] = {"xytext": (0, 2), "textcoords": "offset points", "ha": "right", "va": "bottom"}
    axes.annotate(text, (1, level), xycoords=("axes fraction", "data"), fontsize=8, color=FAINT, **offset)


def share_bars(summary: Sequence[Row], *, title: str, note: str) -> Figure:
    """Draws correct, flip and miss as stacked shares of the true foreground, by rho: common groups left, rare right."""
    places = _Places.of(summary)
    facets = places.facets()
    figure, grid = canvas(len(facets), 2, size=(4.9, 3.3), share="all", title=title, note=note)
    for row, facet in enumerate(facets):
        for axes, group in zip(grid[row], ("common", "rare"), strict=True):
            _draw_bars(axes, group, places.within(facet, summary))
            # Bars stand side by side whatever the distance between levels.
            labels = places.ticks()[1]
            name = " · ".join(text for text in (facet, f"{group} groups") if text)
            y = "share of the true foreground" if group == "common" else ""
            dress(axes, title=name, x="rho" if places.levels else "", y=y, ticks=range(len(labels)), labels=labels)
    figure.legend(
        *grid[0, 0].get_legend_handles_labels(), loc="outside upper right", ncols=3, frameon=False, fontsize=8
    )
    return figure


def _draw_bars(axes: Axes, group: str, points: Sequence[tuple[float, Row]]) -> None:
    names = [f"{name}/{group}" for name, *_ in SHARES]
    draw_shares(axes, [[number(row["mean"]) for _, row in points if row["quantity"] == name] for name in names])


def draw_shares(axes: Axes, shares: Sequence[Sequence[float]]) -> None:
    """Draws stacked bars side by side: `shares` are those of correct, flip and miss, a value for each bar."""
    base = 0.0
    for (_, label, colour, ink), values in zip(SHARES, shares, strict=True):
        height = np.array(values, np.float64)
        look: dict[str, Any] = {"color": colour, "edgecolor": "white", "linewidth": 0.6, "label": label}
        bars = axes.bar(range(len(height)), height, bottom=base, width=0.78, **look)
        texts = [f"{value:.2f}" if value >= 0.06 else "" for value in height]
        axes.bar_label(bars, texts, label_type="center", fontsize=7.5, color=ink)
        base = base + np.nan_to_num(height)
    axes.set_ylim(0, 1)


def decile_chart(deciles: Sequence[Deciles], *, title: str, note: str) -> Figure:
    """Draws mean flip share and mean flip-risk by flip-risk decile: a line per rho, a row per other setting."""
    table = [entry.setting | {"quantity": index} for index, entry in enumerate(deciles)]
    places = _Places.of(table)
    facets = places.facets()
    figure, grid = canvas(len(facets), 2, size=(4.9, 3.3), share="col", title=title, note=note)
    ticks, labels = places.ticks()
    shades = matplotlib.colormaps["viridis"](np.linspace(0.0, 0.88, len(ticks)))
    for row, facet in enumerate(facets):
        for x, entry in places.within(facet, table):
            place = ticks.index(x)
            values = deciles[entry["quantity"]]
            for axes, curve in zip(grid[row], (values.flip, values.risk), strict=True):
                look: dict[str, Any] = {"color": shades[place], "linewidth": 1.7, "marker": "o", "markersize": 3.5}
                axes.plot(range(1, 11), curve, label=labels[place], **look)
        for axes, y in zip(grid[row], ("mean flip share", "mean flip-risk (nats)"), strict=True):
            x = "flip-risk decile (10: the riskiest tenth of the images)"
            dress(axes, title=facet, x=x, y=y, ticks=range(1, 11), labels=[str(decile) for decile in range(1, 11)])
            axes.set_ylim(bottom=0)
    if len(ticks) > 1:
        grid[0, 0].legend(title="rho" if places.levels else None, title_fontsize=8, frameon=False, fontsize=8)
    return figure
