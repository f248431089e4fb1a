"""Panels of a grid's summary over seeds, each a drawing with its description in words (`flipjax.page.charts.Panel`).

- `line_panels`: quantities against rho, a panel per setting of the other axes.
- `map_panels`: for grids of many settings, maps and distributions over settings.
- `share_panels`: correct, flip and miss as stacked bars.
- `forest_panels`: differences from a reference with their intervals.

`place` gives the rows of tables the panel and the place on the x axis where lines and shares stand: at their rho if it
varies, otherwise at the index of their setting. In names, `axis` and `axes` are of the grid; the parameter of a drawing
is matplotlib's `Axes`, and called `plot`.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from matplotlib.typing import ColorType

from flipjax.metrics.summary.names import title_of
from flipjax.page import style
from flipjax.page.charts import Panel
from flipjax.page.panels import LABELLED, SHARES, ReferenceLevel, bar_panel, draw_reference
from flipjax.page.style import dress, legend, plain, shades
from flipjax.results.statistics.verdicts import FEWEST_SEEDS
from flipjax.results.text import level_text, setting_axes, setting_label, value_text, varying_axes
from flipjax.support.frames import records_of

DIFFERENCES = ("group/rare/fg_flip", "gap/mean", "worst_group_iou")
"""The quantities whose differences are drawn."""
MOST_IN_WORDS = 8
"""Differences that the description of a panel names, at most."""
LABEL_CHARACTERS = 44
"""Characters of the label of a row of differences, at most."""
BARS_OF_ROW = 0.7
"""The part of the height of a row of differences that its bars share."""
LINE_STEP = 0.014
"""Distance of lines that stand beside each other, as a fraction of the length of the x axis: no mark hides another."""


@dataclass(frozen=True)
class Line:
    """One line of a chart."""

    quantity: str
    """Key of the quantity that it shows."""
    label: str
    """Its name in the legend."""
    colour: ColorType
    """Colour of the line, its marks and its intervals."""
    marker: str = "o"
    """The mark of means and of seeds, as matplotlib names it."""


@dataclass(frozen=True)
class Placed:
    """Tables whose rows have a place in a panel."""

    x_name: str
    """The name of the x axis: 'rho', or '' where settings stand beside each other."""
    ticks: dict[float, str]
    """The name of each place on the x axis, in order."""
    tables: list[pd.DataFrame]
    """The tables in the given order, with columns `facet`, the panel of a row, and `x`, its place in it."""


def place(*tables: pd.DataFrame) -> Placed:
    """Returns tables with the panel and place of each row.

    With two levels of rho or more, the place is rho, in a facet for each setting of the other axes; otherwise it is the
    index of the setting, in one facet.

    Example:
        >>> table = pd.DataFrame({"method": ["ce", "ce", "ema", "ema"], "rho": [0.5, 0.95] * 2, "quantity": "fg_flip"})
        >>> placed = place(table)
        >>> placed.x_name, placed.ticks, placed.tables[0]["facet"].tolist()
        ('rho', {0.5: '0.5', 0.95: '0.95'}, ['method ce', 'method ce', 'method ema', 'method ema'])
    """
    first = tables[0]
    # All that vary but rho.
    other_axes = varying_axes(first)
    labelled = []
    for table in tables:
        labels = [setting_label(row, other_axes) for row in records_of(table)]
        labelled.append(table.assign(setting=labels))
    if "rho" in first and first["rho"].nunique() > 1:
        ticks = {rho: level_text(rho) for rho in sorted(first["rho"].unique().tolist())}
        by_rho = [table.rename(columns={"setting": "facet"}).assign(x=table["rho"]) for table in labelled]
        return Placed("rho", ticks, by_rho)
    settings = labelled[0]["setting"].unique().tolist()
    ticks = {}
    for index, label in enumerate(settings):
        ticks[float(index)] = label or "this run"
    by_setting = []
    for table in labelled:
        index_of_row = table["setting"].map(settings.index)
        by_setting.append(table.drop(columns="setting").assign(facet="", x=index_of_row))
    return Placed("", ticks, by_setting)


def line_panels(
    summary: pd.DataFrame,
    records: pd.DataFrame,
    lines: Sequence[Line],
    *,
    y_name: str,
    limits: tuple[float, float] | None = (0.0, 1.0),
    reference: ReferenceLevel | None = None,
) -> list[Panel]:
    """Returns a panel per setting of the other axes: quantities against rho, with a small dot per seed.

    Without two levels of rho, one panel has the settings on its x axis. A facet with one place has no panel.

    Args:
        summary: rows of `flipjax.results.statistics.estimates.aggregate`.
        records: rows of `flipjax.results.rows.member_quantities`, without left-out members.
        lines: the lines to draw; those without values are skipped.
        y_name: name of the y axis.
        limits: of the y axis; None uses the range of the values.
        reference: a level that is drawn.
    """
    placed = place(summary, records)
    means, seeds = placed.tables
    is_drawn = means["mean"].notna() & means["quantity"].isin([line.quantity for line in lines])
    drawn_means = means[is_drawn]
    panels = []
    for facet in means["facet"].unique():
        of_facet = drawn_means[drawn_means["facet"] == facet].sort_values("x", kind="stable")
        if of_facet["x"].nunique() > 1:
            of_seeds = seeds[seeds["facet"] == facet]
            chart = _LineChart(placed=placed, lines=lines, means=of_facet, seeds=of_seeds)
            panels.append(chart.panel(facet, y_name=y_name, limits=limits, reference=reference))
    return panels


@dataclass(frozen=True)
class _LineChart:
    """The lines of one panel."""

    placed: Placed
    """The x axis, and the tables of all panels."""
    lines: Sequence[Line]
    """The lines that are asked for."""
    means: pd.DataFrame
    """Rows of `aggregate` of this panel, in order of `x`."""
    seeds: pd.DataFrame
    """Rows of `member_quantities` of this panel."""

    @property
    def lines_with_means(self) -> list[tuple[Line, pd.DataFrame]]:
        """The lines that have values, each with its rows of `means`."""
        lines_with_means = []
        for line in self.lines:
            means = self.means[self.means["quantity"] == line.quantity]
            if len(means):
                lines_with_means.append((line, means))
        return lines_with_means

    def panel(
        self,
        title: str,
        *,
        y_name: str,
        limits: tuple[float, float] | None,
        reference: ReferenceLevel | None,
    ) -> Panel:
        """Returns the panel: its drawing, and its means in words."""
        places = list(self.placed.ticks)
        place_names = list(self.placed.ticks.values())

        def draw(plot: Axes) -> None:
            self.draw_lines(plot)
            dress(plot, title=title, x=self.placed.x_name, y=y_name, ticks=places, labels=place_names)
            if not self.placed.x_name:
                plot.set_xlim(places[0] - 0.5, places[-1] + 0.5)
            if limits:
                plot.set_ylim(*limits)
            if reference:
                draw_reference(plot, reference)
            if len(self.lines_with_means) > 1:
                legend(plot, columns=2)

        return Panel(draw, f"{title or y_name}. {self.in_words()}")

    def draw_lines(self, plot: Axes) -> None:
        """Draws each line beside the others, and its seeds beside their mean."""
        length = max(np.ptp(list(self.placed.ticks)), 0.1)
        step = LINE_STEP * length
        lines = self.lines_with_means
        for index, (line, means) in enumerate(lines):
            # The middle line stands at the place itself.
            shift = step * (index - (len(lines) - 1) / 2)
            shifted_means = means.assign(x=means["x"] + shift)
            shifted_seeds = self.seeds.assign(x=self.seeds["x"] + shift + step / 2)
            _draw_line(plot, line, shifted_means, shifted_seeds, joined=self.placed.x_name == "rho")

    def in_words(self) -> str:
        """Returns the means in words, a sentence a line."""
        preposition = "in"
        if self.placed.x_name:
            preposition = "at rho"
        sentences = []
        for line, means in self.lines_with_means:
            means_in_words = []
            for x, mean in zip(means["x"], means["mean"], strict=True):
                means_in_words.append(f"{mean:.2f} {preposition} {self.placed.ticks[x]}")
            sentences.append(f"{line.label}: {', '.join(means_in_words)}.")
        return " ".join(sentences)


def _draw_line(plot: Axes, line: Line, means: pd.DataFrame, seeds: pd.DataFrame, *, joined: bool) -> None:
    """Draws the means of a line with their intervals, and a small dot for each seed."""
    if joined:
        plot.plot(means["x"], means["mean"], color=line.colour, linewidth=1.8)
    # With fewer seeds than a verdict needs, dots are more informative than a wide interval.
    with_interval = means[means["n"] >= FEWEST_SEEDS].dropna(subset=["low", "high"])
    plot.vlines(with_interval["x"], with_interval["low"], with_interval["high"], color=line.colour, linewidth=1.6)
    plot.scatter(
        means["x"],
        means["mean"],
        label=plain(line.label, characters=24),
        s=36,
        zorder=3,
        edgecolor=style.PAPER,
        linewidth=0.6,
        color=line.colour,
        marker=line.marker,
    )
    plot.scatter(
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
        summary: rows of `flipjax.results.statistics.estimates.aggregate`, with a rho axis.
        quantities: the quantities that are mapped; the first one is also drawn by axis.
    """
    # All that vary but rho.
    other_axes = varying_axes(summary)
    rows = summary[summary["quantity"].isin(quantities) & summary["mean"].notna()]
    rows = rows.assign(label=[setting_label(row, other_axes) for row in records_of(rows)])
    panels = []
    for quantity in quantities:
        of_quantity = rows[rows["quantity"] == quantity]
        if len(of_quantity):
            table = of_quantity.pivot_table(index="label", columns="rho", values="mean")
            panels += [_map_panel(table, quantity), _box_panel(of_quantity, quantity, by="rho")]
    at_highest_rho = rows[(rows["quantity"] == quantities[0]) & (rows["rho"] == rows["rho"].max())]
    for axis in other_axes:
        # More boxes could not be named.
        if at_highest_rho[axis].nunique() <= LABELLED:
            panels.append(_box_panel(at_highest_rho, quantities[0], by=axis))
    return panels


def _map_panel(table: pd.DataFrame, quantity: str) -> Panel:
    """Returns a map of means (settings, rhos), settings sorted by the last column."""
    table = table.sort_values(table.columns[-1])
    title = title_of(quantity)
    rhos = [level_text(float(rho)) for rho in table.columns]

    def draw(plot: Axes) -> None:
        image = plot.imshow(table, aspect="auto", cmap="viridis", interpolation="nearest")
        dress(plot, title=title, x="rho", y="settings, sorted", ticks=range(len(rhos)), labels=rhos)
        plot.grid(False)
        plot.set_yticks([])
        plot.figure.colorbar(image, ax=plot)

    ranges_in_words = []
    for rho, name in zip(table.columns, rhos, strict=True):
        ranges_in_words.append(f"{name}: {table[rho].min():.2f} to {table[rho].max():.2f}")
    return Panel(draw, f"{title} of {len(table)} settings. Lowest to highest at rho {'; '.join(ranges_in_words)}.")


def _box_panel(rows: pd.DataFrame, quantity: str, *, by: str) -> Panel:
    """Returns the distribution of means over settings at each value of the axis `by`."""
    means_by_value = {}
    for value, of_value in rows.groupby(by):
        means_by_value[value_text(by, value)] = of_value["mean"].to_numpy()
    names = list(means_by_value)
    title = title_of(quantity)
    if by != "rho":
        title += f" at rho {level_text(rows['rho'].max())}"

    def draw(plot: Axes) -> None:
        places = range(len(names))
        plot.boxplot(list(means_by_value.values()), positions=places, widths=0.6, flierprops={"markersize": 2})
        dress(plot, title="over settings", x=by, y=title, ticks=places, labels=names)

    medians = "; ".join(f"{name}: {np.median(means):.2f}" for name, means in means_by_value.items())
    return Panel(draw, f"{title}, median over settings by {by} {medians}.")


def share_panels(summary: pd.DataFrame) -> list[Panel]:
    """Returns panels of correct, flip and miss as stacked shares of the true foreground, common then rare groups.

    A facet without a mean has no panel.
    """
    placed = place(summary)
    (table,) = placed.tables
    labels = list(placed.ticks.values())
    panels = []
    for facet, group in itertools.product(table["facet"].unique(), ("common", "rare")):
        of_facet = table[table["facet"] == facet]
        # A facet may lack a place, where its setting has no member: its bar is not known.
        means = of_facet.pivot(index="quantity", columns="x", values="mean").reindex(columns=list(placed.ticks))
        shares = [means.loc[f"group/{group}/{share.key}"].tolist() for share in SHARES]
        if np.isnan(shares).all():
            continue
        title = f"{group} groups"
        if facet:
            title = f"{facet} · {title}"
        panels.append(bar_panel(shares, labels, title=title, x=placed.x_name))
    return panels


def forest_panels(comparison: pd.DataFrame, axis: str = "method") -> list[Panel]:
    """Returns a panel of differences for each of DIFFERENCES, with a row per value of `axis` and a bar per rho.

    Differences are from the reference. Settings of further axes have their own rows. One difference alone has no panel,
    and where no seed has both, there is no difference.

    Args:
        comparison: rows of `flipjax.results.statistics.estimates.compare` along `axis`.
        axis: the compared axis.
    """
    table = comparison
    if "rho" not in comparison:
        table = comparison.assign(rho=np.nan)
    table = table.assign(label=_row_labels(table, axis), level=[_level_or_blank(rho) for rho in table["rho"]])
    panels = []
    for quantity in DIFFERENCES:
        rows = table[(table["quantity"] == quantity) & table["difference"].notna()]
        if len(rows) > 1:
            panels.append(_forest_panel(rows, quantity))
    return panels


def _row_labels(table: pd.DataFrame, axis: str) -> list[str]:
    """Returns the name of each row of a panel: the value of the compared axis, and the setting of the others."""
    other_axes = setting_axes(table, axis)
    # An axis of one value tells no row from another, and is named only where nothing else is.
    names_the_value = not other_axes or table[axis].nunique() > 1
    labels = []
    for row in records_of(table):
        parts = []
        if names_the_value:
            parts.append(str(row[axis]))
        for other_axis in other_axes:
            if isinstance(row[other_axis], str):
                # A text says what it is, as methods and rules do; a number needs the name of its axis.
                parts.append(row[other_axis])
            else:
                parts.append(setting_label(row, [other_axis]))
        labels.append(", ".join(part for part in parts if part))
    return labels


def _level_or_blank(rho: float) -> str:
    """Returns a level of rho as text; nothing for NaN, where rho is no axis."""
    if np.isnan(rho):
        return ""
    return level_text(rho)


def _forest_panel(rows: pd.DataFrame, quantity: str) -> Panel:
    """Returns a panel of the differences of one quantity, rows by `label` and bars by `level`."""
    labels = rows["label"].unique().tolist()
    levels = rows.sort_values("rho")["level"].unique().tolist()
    reference_name = plain(str(rows["reference"].iloc[0]))

    def draw(plot: Axes) -> None:
        for index, (level, colour) in enumerate(zip(levels, shades(len(levels)), strict=True)):
            of_level = rows[rows["level"] == level]
            shift = BARS_OF_ROW * ((index + 0.5) / len(levels) - 0.5)
            y = of_level["label"].map(labels.index) + shift
            _draw_differences(plot, of_level, y, colour=colour, label=f"rho {level}")
        plot.axvline(0, color=style.FAINT, linewidth=1, zorder=1)
        dress(plot, title=title_of(quantity), x=f"difference from {reference_name}", y="")
        plot.xaxis.set_major_locator(MaxNLocator(4))
        plot.xaxis.set_major_formatter(_signed)
        plot.set_yticks(range(len(labels)), [plain(label, characters=LABEL_CHARACTERS) for label in labels])
        plot.set_ylim(len(labels) - 0.5, -0.5)
        if len(levels) > 1:
            legend(plot, columns=2)

    differences_in_words = []
    for row in records_of(rows[:MOST_IN_WORDS]):
        name = row["label"]
        if row["level"]:
            name += f" at rho {row['level']}"
        differences_in_words.append(f"{name}: {row['difference']:+.2f}")
    text = f"{title_of(quantity)}, difference from {reference_name}. {'; '.join(differences_in_words)}."
    height = 1.5 + len(labels) * (0.2 + 0.1 * len(levels))
    # A panel is wider for long labels, so that its bars keep their room.
    letters = min(LABEL_CHARACTERS, max(map(len, labels)))
    width = 4.4 + 0.06 * max(0, letters - 24)
    return Panel(draw, text, (width, height))


def _draw_differences(plot: Axes, rows: pd.DataFrame, y: pd.Series, *, colour: ColorType, label: str) -> None:
    """Draws differences with their intervals, or with a dot a seed where there are fewer than a verdict needs.

    Args:
        plot: where they are drawn.
        rows: of one level of rho.
        y: the position of each row.
        colour: of this level.
        label: of this level, in the legend.
    """
    too_few = rows["n"] < FEWEST_SEEDS
    enough = rows[~too_few]
    plot.hlines(y[~too_few], enough["low"], enough["high"], linewidth=1.4, color=colour)
    # A value a seed. The index repeats that of its row, which gives it the row's position.
    seed_texts = rows["values"][too_few].str.split().explode()
    seed_differences = seed_texts.dropna().astype(float)
    plot.scatter(seed_differences, y[seed_differences.index], s=11, alpha=0.45, linewidth=0, color=colour)
    plot.scatter(rows["difference"], y, s=16, zorder=3, label=label, color=colour)


def _signed(x: float, _: float) -> str:
    """Returns a tick of a difference as text."""
    if abs(x) < 1e-9:
        return "0"
    return f"{x:+.3g}"
