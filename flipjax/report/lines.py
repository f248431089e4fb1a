"""Panels over the levels of rho and between settings: pure functions from tables to what draws them."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from flipjax.report.chart import Panel
from flipjax.report.panels import SHARES, bar_panel, draw_reference
from flipjax.report.style import FAINT, PAPER, dress, legend, plain, shades
from flipjax.results.cells import Row
from flipjax.results.frames import records_of
from flipjax.results.quantities import title_of
from flipjax.results.text import setting_label, varying_axes

DIFFERENCES = ("fg_flip/rare", "gap_mean/all", "worst_group_iou/all")


class Line(NamedTuple):
    """One line of a chart: a quantity, its name in the legend, and how it looks."""

    quantity: str
    label: str
    colour: Any
    marker: str = "o"


class Places(NamedTuple):
    """Where a row stands: in the facet of its setting, at its rho; without a rho axis, at the place of its setting."""

    axes: list[str]
    labels: list[str]
    levels: list[float]

    @classmethod
    def of(cls, table: pd.DataFrame) -> "Places":
        """Returns the places of a summary's rows."""
        axes = varying_axes(table)
        labels = list(dict.fromkeys(setting_label(row, axes) for row in records_of(table)))
        return cls(axes, labels, sorted(table["rho"].unique().tolist()) if "rho" in table else [])

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
    summary: pd.DataFrame,
    records: pd.DataFrame,
    lines: Sequence[Line],
    *,
    y: str,
    limits: tuple[float, float] | None = (0.0, 1.0),
    reference: tuple[float, str] | None = None,
) -> list[Panel]:
    """Returns a panel for each setting of the other axes: quantities against rho, and a small dot for each seed.

    Without a rho axis there is one panel, and the settings stand side by side on its x axis.

    Args:
        summary: of `flipjax.results.seeds.aggregate`.
        records: of `flipjax.results.rows.member_quantities`, without the members that were left out.
        lines: what to draw; a line without a value is left out.
        y: name of the y axis.
        limits: of the y axis; None where the values say.
        reference: a level to compare with, and its name.
    """
    places = Places.of(summary)
    ticks, labels = places.ticks()
    names = dict(zip(ticks, labels, strict=True))
    known = records_of(summary[summary["mean"].notna()])
    members = records_of(records)

    def panel(facet: str) -> Panel:
        inside = [(line, places.within(facet, [r for r in known if r["quantity"] == line.quantity])) for line in lines]
        inside = [(line, points) for line, points in inside if points]
        dots = places.within(facet, members)

        def draw(axes: Axes) -> None:
            for index, (line, points) in enumerate(inside):
                # Lines are set a little apart, and seeds beside their mean, so that no mark hides another.
                step = 0.014 * max(np.ptp(ticks), 0.1)
                shift = step * (index - (len(inside) - 1) / 2)
                _draw_line(axes, line, points, dots, shift=shift, beside=step / 2, joined=bool(places.levels))
            dress(axes, title=facet, x="rho" if places.levels else "", y=y, ticks=ticks, labels=labels)
            if not places.levels:
                axes.set_xlim(-0.5, len(ticks) - 0.5)
            elif len(ticks) == 1:
                axes.set_xlim(ticks[0] - 0.03, ticks[0] + 0.03)
            if limits:
                axes.set_ylim(*limits)
            draw_reference(axes, reference)
            if len(inside) > 1:
                legend(axes, columns=2)

        where = "at rho" if places.levels else "in"
        texts = []
        for line, points in inside:
            values = (f"{row['mean']:.2f} {where} {names[x]}" for x, row in points)
            texts.append(f"{line.label}: {', '.join(values)}.")
        return Panel(draw, f"{facet or y}. {' '.join(texts) or 'No values.'}")

    return [panel(facet) for facet in places.facets()]


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
    mean, low, high = (np.array([row[name] for _, row in points]) for name in ("mean", "low", "high"))
    if joined:
        axes.plot(xs, mean, color=line.colour, linewidth=1.8)
    known = np.isfinite(low) & np.isfinite(high)
    axes.vlines(xs[known], low[known], high[known], color=line.colour, linewidth=1.6)
    look: dict[str, Any] = {"color": line.colour, "marker": line.marker}
    axes.scatter(xs, mean, s=36, zorder=3, edgecolor=PAPER, linewidth=0.6, label=plain(line.label, most=24), **look)
    seeds = [x + shift + beside for x, _ in dots], [record[line.quantity] for _, record in dots]
    axes.scatter(*seeds, s=11, alpha=0.45, linewidth=0, **look)


def share_panels(summary: pd.DataFrame) -> list[Panel]:
    """Returns panels of correct, flip and miss as stacked shares of the true foreground: common groups, then rare."""
    places = Places.of(summary)
    labels = places.ticks()[1]
    panels = []
    for facet in places.facets():
        rows = [row for _, row in places.within(facet, records_of(summary))]
        for group in ("common", "rare"):
            shares = [[row["mean"] for row in rows if row["quantity"] == f"{name}/{group}"] for name, *_ in SHARES]
            title = " · ".join(text for text in (facet, f"{group} groups") if text)
            panels.append(bar_panel(shares, labels, title=title, x="rho" if places.levels else ""))
    return panels


def forest_panels(comparison: pd.DataFrame, axis: str = "method") -> list[Panel]:
    """Returns a panel for each of DIFFERENCES: a row per value of `axis`, a bar per rho, how far from the reference.

    Settings of further axes are rows of their own.

    Args:
        comparison: of `flipjax.results.seeds.compare` along `axis`.
        axis: what is compared.
    """
    names = [name for name in varying_axes(comparison) if name not in (axis, "reference")]
    shown = comparison[axis].nunique() > 1 or not names

    def label(row: Row) -> str:
        return ", ".join(text for text in (str(row[axis]) if shown else "", setting_label(row, names)) if text)

    labels = list(dict.fromkeys(map(label, records_of(comparison))))
    rhos = sorted(comparison["rho"].unique().tolist()) if "rho" in comparison else [""]
    reference = str(comparison["reference"].iloc[0])

    def panel(quantity: str) -> Panel:
        rows = records_of(comparison[comparison["quantity"] == quantity])

        def draw(axes: Axes) -> None:
            for place, (rho, colour) in enumerate(zip(rhos, shades(len(rhos)), strict=True)):
                chosen = [row for row in rows if row.get("rho", "") == rho]
                heights = [labels.index(label(row)) + 0.7 * ((place + 0.5) / len(rhos) - 0.5) for row in chosen]
                ends = ([row[key] for row in chosen] for key in ("difference", "low", "high"))
                middle, low, high = map(np.array, ends)
                axes.hlines(heights, low, high, linewidth=1.4, color=colour)
                axes.scatter(middle, heights, s=16, zorder=3, label=f"rho {rho}", color=colour)
            axes.axvline(0, color=FAINT, linewidth=1, zorder=1)
            low, high = axes.get_xlim()
            ticks = [float(tick) for tick in MaxNLocator(4).tick_values(low, high) if low <= tick <= high]
            signed = [f"{tick:+.3g}" if abs(tick) > 1e-9 else "0" for tick in ticks]
            x = f"difference from {plain(reference)}"
            dress(axes, title=title_of(quantity), x=x, y="", ticks=ticks, labels=signed)
            axes.set_yticks(range(len(labels)), [plain(each, most=30) for each in labels])
            axes.set_ylim(len(labels) - 0.5, -0.5)
            if len(rhos) > 1:
                legend(axes, columns=min(2, len(rhos)))

        words = (f"{label(row)} at rho {row.get('rho', '')}: {row['difference']:+.2f}" for row in rows[:8])
        text = f"{title_of(quantity)}, difference from {reference}. {'; '.join(words)}."
        return Panel(draw, text, (4.4, 1.5 + len(labels) * (0.2 + 0.1 * len(rhos))))

    return [panel(quantity) for quantity in DIFFERENCES]
