"""Panels of a grid's summary over seeds: lines over rho, differences, shares and maps of many settings."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from matplotlib.typing import ColorType

from flipjax.report import style
from flipjax.report.charts import Panel
from flipjax.report.panels import LABELLED, SHARES, ReferenceLevel, bar_panel, draw_reference
from flipjax.report.style import dress, legend, plain, shades
from flipjax.results.estimates import FEWEST
from flipjax.results.frames import records_of
from flipjax.results.quantities import title_of
from flipjax.results.text import level_text, setting_axes, setting_label, value_text, varying_axes

DIFFERENCES = ("group/rare/fg_flip", "gap/mean", "worst_group_iou")
"""The quantities whose differences are drawn."""
STEP = 0.014
"""The part of the x axis by which lines stand beside each other, so that no mark hides another."""


@dataclass(frozen=True)
class Line:
    """One line of a chart."""

    quantity: str
    """Its key."""
    label: str
    """Its name in the legend."""
    colour: ColorType
    """Of line, marks and intervals."""
    marker: str = "o"
    """The mark of a mean, as matplotlib names it."""


@dataclass(frozen=True)
class Placed:
    """Tables with columns `facet`, the panel of a row, and `x`, its place in it."""

    axis: str
    """The name of the x axis: 'rho', or '' where settings stand beside each other."""
    ticks: dict[float, str]
    """The names of the places."""
    tables: list[pd.DataFrame]
    """The tables, in the order in which they were given."""


def place(*tables: pd.DataFrame) -> Placed:
    """Returns tables with the panel and place of each row.

    With two levels of rho or more, the place is rho, in a facet for each setting of the other axes; otherwise it is the
    index of the setting, in one facet.

    Example:
        >>> table = pd.DataFrame({"method": ["ce", "ce", "ema", "ema"], "rho": [0.5, 0.95] * 2, "quantity": "fg_flip"})
        >>> placed = place(table)
        >>> placed.axis, placed.ticks, placed.tables[0]["facet"].tolist()
        ('rho', {0.5: '0.5', 0.95: '0.95'}, ['method ce', 'method ce', 'method ema', 'method ema'])
    """
    first = tables[0]
    axes = varying_axes(first)
    named = [table.assign(facet=[setting_label(row, axes) for row in records_of(table)]) for table in tables]
    if "rho" in first and first["rho"].nunique() > 1:
        ticks = {rho: level_text(rho) for rho in sorted(first["rho"].unique().tolist())}
        return Placed("rho", ticks, [table.assign(x=table["rho"]) for table in named])
    labels = named[0]["facet"].unique().tolist()
    ticks = {}
    for x, label in enumerate(labels):
        ticks[float(x)] = label or "this run"
    return Placed("", ticks, [table.assign(facet="", x=table["facet"].map(labels.index)) for table in named])


def line_panels(
    summary: pd.DataFrame,
    records: pd.DataFrame,
    lines: Sequence[Line],
    *,
    y: str,
    limits: tuple[float, float] | None = (0.0, 1.0),
    reference: ReferenceLevel | None = None,
) -> list[Panel]:
    """Returns a panel per setting of the other axes: quantities against rho, with a small dot per seed.

    Without two levels of rho, one panel has the settings on its x axis. A facet with one place has no panel.

    Args:
        summary: rows of `flipjax.results.estimates.aggregate`.
        records: rows of `flipjax.results.rows.member_quantities`, without left-out members.
        lines: the lines to draw; those without values are skipped.
        y: name of the y axis.
        limits: of the y axis; None uses the range of the values.
        reference: a level that is drawn.
    """
    placed = place(summary, records)
    means, seeds = placed.tables
    drawable = means[means["mean"].notna() & means["quantity"].isin([line.quantity for line in lines])]
    panels = []
    for facet in means["facet"].unique():
        of_facet = drawable[drawable["facet"] == facet].sort_values("x", kind="stable")
        if of_facet["x"].nunique() > 1:
            drawn = _Lines(placed, lines, of_facet, seeds[seeds["facet"] == facet])
            panels.append(drawn.panel(facet, y=y, limits=limits, reference=reference))
    return panels


@dataclass(frozen=True)
class _Lines:
    """The lines of one panel."""

    placed: Placed
    """All tables, and the x axis."""
    lines: Sequence[Line]
    """Those asked for."""
    means: pd.DataFrame
    """Rows of `aggregate`, in order of `x`."""
    seeds: pd.DataFrame
    """Rows of `member_quantities`."""

    @property
    def shown(self) -> list[tuple[Line, pd.DataFrame]]:
        """The lines that have values, with their means."""
        shown = []
        for line in self.lines:
            means = self.means[self.means["quantity"] == line.quantity]
            if len(means):
                shown.append((line, means))
        return shown

    def panel(
        self,
        title: str,
        *,
        y: str,
        limits: tuple[float, float] | None,
        reference: ReferenceLevel | None,
    ) -> Panel:
        """Returns the panel."""
        places = list(self.placed.ticks)

        def draw(axes: Axes) -> None:
            self.draw(axes)
            dress(axes, title=title, x=self.placed.axis, y=y, ticks=places, labels=list(self.placed.ticks.values()))
            if not self.placed.axis:
                axes.set_xlim(places[0] - 0.5, places[-1] + 0.5)
            if limits:
                axes.set_ylim(*limits)
            if reference:
                draw_reference(axes, reference)
            if len(self.shown) > 1:
                legend(axes, columns=2)

        return Panel(draw, f"{title or y}. {self.words()}")

    def draw(self, axes: Axes) -> None:
        """Draws each line beside the others, and its seeds beside their mean."""
        step = STEP * max(np.ptp(list(self.placed.ticks)), 0.1)
        for index, (line, means) in enumerate(self.shown):
            shift = step * (index - (len(self.shown) - 1) / 2)
            seeds = self.seeds.assign(x=self.seeds["x"] + shift + step / 2)
            _draw_line(axes, line, means.assign(x=means["x"] + shift), seeds, joined=self.placed.axis == "rho")

    def words(self) -> str:
        """Returns the means in words."""
        preposition = "at rho" if self.placed.axis else "in"
        sentences = []
        for line, means in self.shown:
            words = []
            for x, mean in zip(means["x"], means["mean"], strict=True):
                words.append(f"{mean:.2f} {preposition} {self.placed.ticks[x]}")
            sentences.append(f"{line.label}: {', '.join(words)}.")
        return " ".join(sentences)


def _draw_line(axes: Axes, line: Line, means: pd.DataFrame, seeds: pd.DataFrame, *, joined: bool) -> None:
    """Draws the means of a line with their intervals, and a small dot for each seed."""
    if joined:
        axes.plot(means["x"], means["mean"], color=line.colour, linewidth=1.8)
    # With fewer seeds, dots are more informative than a wide interval.
    intervals = means[means["n"] >= FEWEST].dropna(subset=["low", "high"])
    axes.vlines(intervals["x"], intervals["low"], intervals["high"], color=line.colour, linewidth=1.6)
    axes.scatter(
        means["x"],
        means["mean"],
        label=plain(line.label, most=24),
        s=36,
        zorder=3,
        edgecolor=style.PAPER,
        linewidth=0.6,
        color=line.colour,
        marker=line.marker,
    )
    axes.scatter(
        seeds["x"],
        seeds[line.quantity],
        s=11,
        alpha=0.45,
        linewidth=0,
        color=line.colour,
        marker=line.marker,
    )


def map_panels(summary: pd.DataFrame, quantities: Sequence[str]) -> list[Panel]:
    """Returns panels over all settings: maps, their distributions at each rho, and by axis at the highest rho.

    Args:
        summary: rows of `flipjax.results.estimates.aggregate`, with a rho axis.
        quantities: the quantities that are mapped; the first one is also drawn by axis.
    """
    axes = varying_axes(summary)
    rows = summary[summary["quantity"].isin(quantities) & summary["mean"].notna()]
    rows = rows.assign(label=[setting_label(row, axes) for row in records_of(rows)])
    panels = []
    for quantity in quantities:
        of_quantity = rows[rows["quantity"] == quantity]
        if len(of_quantity):
            table = of_quantity.pivot_table(index="label", columns="rho", values="mean")
            panels += [_map_panel(table, quantity), _box_panel(of_quantity, quantity, by="rho")]
    first = rows[(rows["quantity"] == quantities[0]) & (rows["rho"] == rows["rho"].max())]
    for axis in axes:
        if first[axis].nunique() <= LABELLED:
            panels.append(_box_panel(first, quantities[0], by=axis))
    return panels


def _map_panel(table: pd.DataFrame, quantity: str) -> Panel:
    """Returns a map of means (settings, rhos), settings sorted by the last column."""
    table = table.sort_values(table.columns[-1])
    title = title_of(quantity)
    rhos = [level_text(float(rho)) for rho in table.columns]

    def draw(axes: Axes) -> None:
        image = axes.imshow(table, aspect="auto", cmap="viridis", interpolation="nearest")
        dress(axes, title=title, x="rho", y="settings, sorted", ticks=range(len(rhos)), labels=rhos)
        axes.grid(False)
        axes.set_yticks([])
        axes.figure.colorbar(image, ax=axes)

    ends = []
    for rho, name in zip(table.columns, rhos, strict=True):
        ends.append(f"{name}: {table[rho].min():.2f} to {table[rho].max():.2f}")
    return Panel(draw, f"{title} of {len(table)} settings. Lowest to highest at rho {'; '.join(ends)}.")


def _box_panel(rows: pd.DataFrame, quantity: str, *, by: str) -> Panel:
    """Returns the distribution of means over settings at each value of an axis."""
    groups = {}
    for value, of_value in rows.groupby(by):
        groups[value_text(by, value)] = of_value["mean"].to_numpy()
    title = title_of(quantity)
    if by != "rho":
        title += f" at rho {level_text(rows['rho'].max())}"

    def draw(axes: Axes) -> None:
        axes.boxplot([*groups.values()], positions=range(len(groups)), widths=0.6, flierprops={"markersize": 2})
        dress(axes, title="over settings", x=by, y=title, ticks=range(len(groups)), labels=[*groups])

    medians = "; ".join(f"{name}: {np.median(means):.2f}" for name, means in groups.items())
    return Panel(draw, f"{title}, median over settings by {by} {medians}.")


def share_panels(summary: pd.DataFrame) -> list[Panel]:
    """Returns panels of correct, flip and miss as stacked shares of the true foreground, common then rare groups."""
    placed = place(summary)
    (table,) = placed.tables
    labels = list(placed.ticks.values())
    panels = []
    for facet, group in itertools.product(table["facet"].unique(), ("common", "rare")):
        means = table[table["facet"] == facet].sort_values("x", kind="stable").set_index("quantity")["mean"]
        shares = [means[[f"group/{group}/{share.key}"]].tolist() for share in SHARES]
        title = f"{group} groups"
        if facet:
            title = f"{facet} · {title}"
        panels.append(bar_panel(shares, labels, title=title, x=placed.axis))
    return panels


def forest_panels(comparison: pd.DataFrame, axis: str = "method") -> list[Panel]:
    """Returns a panel of differences for each of DIFFERENCES, with a row per value of `axis` and a bar per rho.

    Differences are from the reference. Settings of further axes have their own rows. One difference alone has no panel.

    Args:
        comparison: rows of `flipjax.results.estimates.compare` along `axis`.
        axis: the compared axis.
    """
    names = setting_axes(comparison, axis)
    # The only value of the axis names no row.
    named_by_axis = not names or comparison[axis].nunique() > 1
    table = comparison
    if "rho" not in comparison:
        table = comparison.assign(rho=np.nan)
    labels = []
    levels = []
    for row in records_of(table):
        words = [setting_label(row, names)]
        if named_by_axis:
            words.insert(0, str(row[axis]))
        labels.append(", ".join(word for word in words if word))
        levels.append("" if np.isnan(row["rho"]) else level_text(row["rho"]))
    table = table.assign(label=labels, level=levels)
    panels = []
    for quantity in DIFFERENCES:
        rows = table[table["quantity"] == quantity]
        if len(rows) > 1:
            panels.append(_forest_panel(rows, quantity))
    return panels


def _forest_panel(rows: pd.DataFrame, quantity: str) -> Panel:
    """Returns a panel of the differences of one quantity, rows by `label` and bars by `level`."""
    labels = rows["label"].unique().tolist()
    levels = rows.sort_values("rho")["level"].unique().tolist()
    reference = plain(str(rows["reference"].iloc[0]))

    def draw(axes: Axes) -> None:
        for index, (level, colour) in enumerate(zip(levels, shades(len(levels)), strict=True)):
            of_level = rows[rows["level"] == level]
            heights = of_level["label"].map(labels.index) + 0.7 * ((index + 0.5) / len(levels) - 0.5)
            _draw_differences(axes, of_level, heights, colour=colour, label=f"rho {level}")
        axes.axvline(0, color=style.FAINT, linewidth=1, zorder=1)
        dress(axes, title=title_of(quantity), x=f"difference from {reference}", y="")
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.xaxis.set_major_formatter(_signed)
        axes.set_yticks(range(len(labels)), [plain(label, most=30) for label in labels])
        axes.set_ylim(len(labels) - 0.5, -0.5)
        if len(levels) > 1:
            legend(axes, columns=2)

    words = []
    for row in records_of(rows[:8]):
        level = f" at rho {row['level']}" if row["level"] else ""
        words.append(f"{row['label']}{level}: {row['difference']:+.2f}")
    text = f"{title_of(quantity)}, difference from {reference}. {'; '.join(words)}."
    return Panel(draw, text, (4.4, 1.5 + len(labels) * (0.2 + 0.1 * len(levels))))


def _draw_differences(axes: Axes, rows: pd.DataFrame, heights: pd.Series, *, colour: ColorType, label: str) -> None:
    """Draws differences with their intervals, or with a dot a seed where there are fewer than a verdict needs."""
    too_few = rows["n"] < FEWEST
    judged = rows[~too_few]
    axes.hlines(heights[~too_few], judged["low"], judged["high"], linewidth=1.4, color=colour)
    seeds = rows["values"][too_few].str.split().explode().dropna().astype(float)
    axes.scatter(seeds, heights[seeds.index], s=11, alpha=0.45, linewidth=0, color=colour)
    axes.scatter(rows["difference"], heights, s=16, zorder=3, label=label, color=colour)


def _signed(x: float, _: float) -> str:
    """Returns a tick of a difference as text."""
    if abs(x) < 1e-9:
        return "0"
    return f"{x:+.3g}"
