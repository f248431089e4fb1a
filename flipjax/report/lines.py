"""Panels over the levels of rho and between settings: pure functions from tables to what draws them."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from flipjax.report.chart import Chart, Panel
from flipjax.report.panels import SHARES, bar_panel, draw_reference
from flipjax.report.run import Run
from flipjax.report.style import FAINT, PAPER, dress, legend, plain, shades
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
    """Where rows stand: in the facet of their setting, at their rho; without rho, at the place of the setting."""

    axes: list[str]
    facets: list[str]
    ticks: dict[float, str]
    over: str

    @classmethod
    def of(cls, table: pd.DataFrame) -> "Places":
        """Returns the places of a summary's rows."""
        axes = varying_axes(table)
        labels = list(dict.fromkeys(setting_label(row, axes) for row in records_of(table)))
        if "rho" in table:
            return cls(axes, labels, {rho: f"{rho:g}" for rho in sorted(table["rho"].unique().tolist())}, "rho")
        return cls(axes, [""], {float(x): label or "this run" for x, label in enumerate(labels)}, "")

    def placed(self, table: pd.DataFrame) -> pd.DataFrame:
        """Returns rows with their `facet` and their place `x` on the x axis, from left to right."""
        labels = [setting_label(row, self.axes) for row in records_of(table)]
        if self.over:
            table = table.assign(facet=labels, x=table["rho"])
        else:
            place = {label: x for x, label in self.ticks.items()}
            table = table.assign(facet="", x=[place[label or "this run"] for label in labels])
        return table.sort_values("x", kind="stable")


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
    ticks, labels = list(places.ticks), list(places.ticks.values())
    known = places.placed(summary[summary["mean"].notna()])
    members = places.placed(records)

    def panel(facet: str) -> Panel:
        inside = known[known["facet"] == facet]
        drawn = [(line, rows) for line in lines if len(rows := inside[inside["quantity"] == line.quantity])]
        dots = members[members["facet"] == facet]

        def draw(axes: Axes) -> None:
            # Lines are set a little apart, and seeds beside their mean, so that no mark hides another.
            step = 0.014 * max(np.ptp(ticks), 0.1)
            for index, (line, rows) in enumerate(drawn):
                shift = step * (index - (len(drawn) - 1) / 2)
                seeds = dots.assign(x=dots["x"] + shift + step / 2)
                _draw_line(axes, line, rows.assign(x=rows["x"] + shift), seeds, joined=places.over == "rho")
            dress(axes, title=facet, x=places.over, y=y, ticks=ticks, labels=labels)
            if not places.over:
                axes.set_xlim(-0.5, len(ticks) - 0.5)
            elif len(ticks) == 1:
                axes.set_xlim(ticks[0] - 0.03, ticks[0] + 0.03)
            if limits:
                axes.set_ylim(*limits)
            if reference:
                draw_reference(axes, *reference)
            if len(drawn) > 1:
                legend(axes, columns=2)

        where = "at rho" if places.over else "in"
        texts = []
        for line, rows in drawn:
            values = (f"{mean:.2f} {where} {places.ticks[x]}" for x, mean in zip(rows["x"], rows["mean"], strict=True))
            texts.append(f"{line.label}: {', '.join(values)}.")
        return Panel(draw, f"{facet or y}. {' '.join(texts) or 'No values.'}")

    return [panel(facet) for facet in places.facets]


def line_chart(run: Run, name: str, title: str, caption: str, lines: Sequence[Line], **options: Any) -> Chart:
    """Returns a chart of quantities over rho, with the options of `line_panels`."""
    return Chart(name, title, caption, run.note(dots=True), line_panels(run.summary, run.kept(), lines, **options))


def _draw_line(axes: Axes, line: Line, means: pd.DataFrame, seeds: pd.DataFrame, *, joined: bool) -> None:
    if joined:
        axes.plot(means["x"], means["mean"], color=line.colour, linewidth=1.8)
    known = means.dropna(subset=["low", "high"])
    axes.vlines(known["x"], known["low"], known["high"], color=line.colour, linewidth=1.6)
    look: dict[str, Any] = {"color": line.colour, "marker": line.marker}
    mark: dict[str, Any] = {"s": 36, "zorder": 3, "edgecolor": PAPER, "linewidth": 0.6}
    axes.scatter(means["x"], means["mean"], label=plain(line.label, most=24), **mark, **look)
    axes.scatter(seeds["x"], seeds[line.quantity], s=11, alpha=0.45, linewidth=0, **look)


def share_panels(summary: pd.DataFrame) -> list[Panel]:
    """Returns panels of correct, flip and miss as stacked shares of the true foreground: common groups, then rare."""
    places = Places.of(summary)
    labels = list(places.ticks.values())
    placed = places.placed(summary).set_index("quantity")
    panels = []
    for facet in places.facets:
        means = placed[placed["facet"] == facet]["mean"]
        for group in ("common", "rare"):
            shares = [means[[f"{name}/{group}"]].tolist() for name, *_ in SHARES]
            title = " · ".join(text for text in (facet, f"{group} groups") if text)
            panels.append(bar_panel(shares, labels, title=title, x=places.over))
    return panels


def forest_panels(comparison: pd.DataFrame, axis: str = "method") -> list[Panel]:
    """Returns a panel for each of DIFFERENCES: a row per value of `axis`, a bar per rho, how far from the reference.

    Settings of further axes are rows of their own.

    Args:
        comparison: of `flipjax.results.seeds.compare` along `axis`.
        axis: what is compared.
    """
    names = [name for name in varying_axes(comparison) if name not in (axis, "reference")]
    shown = [axis] if comparison[axis].nunique() > 1 or not names else []
    table = comparison if "rho" in comparison else comparison.assign(rho="")
    of_rows = [
        ", ".join([*(str(row[name]) for name in shown), *([setting_label(row, names)] if names else [])])
        for row in records_of(table)
    ]
    table = table.assign(label=of_rows)
    labels = list(dict.fromkeys(of_rows))
    rhos = sorted(table["rho"].unique().tolist())
    reference = str(table["reference"].iloc[0])

    def panel(quantity: str) -> Panel:
        rows = table[table["quantity"] == quantity]

        def draw(axes: Axes) -> None:
            for place, (rho, colour) in enumerate(zip(rhos, shades(len(rhos)), strict=True)):
                chosen = rows[rows["rho"] == rho]
                heights = chosen["label"].map(labels.index) + 0.7 * ((place + 0.5) / len(rhos) - 0.5)
                axes.hlines(heights, chosen["low"], chosen["high"], linewidth=1.4, color=colour)
                axes.scatter(chosen["difference"], heights, s=16, zorder=3, label=f"rho {rho}", color=colour)
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

        first = records_of(rows[:8])
        words = "; ".join(f"{row['label']} at rho {row['rho']}: {row['difference']:+.2f}" for row in first)
        text = f"{title_of(quantity)}, difference from {reference}. {words}."
        return Panel(draw, text, (4.4, 1.5 + len(labels) * (0.2 + 0.1 * len(rhos))))

    return [panel(quantity) for quantity in DIFFERENCES]
