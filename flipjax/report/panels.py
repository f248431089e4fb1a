"""Charts and their panels, shared by the pages of sweeps, audits and evaluations.

A panel is a pure function from arrays to a drawing function. Nothing uses pyplot and its global state.
"""

import base64
import functools
import io
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from flipjax.metrics import summarize
from flipjax.metrics.classes import Background, background_classes
from flipjax.metrics.decomposition import Decomposition
from flipjax.metrics.selective import risk_coverage
from flipjax.report import style
from flipjax.report.run import RunTables
from flipjax.report.style import CORRECT, DARK, FLIP, LIGHT, MISS, dress, legend, plain, shades
from flipjax.results.estimates import FEWEST
from flipjax.results.frames import records_of
from flipjax.results.quantities import title_of
from flipjax.results.text import setting_axes, setting_label, varying_axes
from flipjax.support.files import replacing

NOTE_INCHES = 0.3
PANELS = 18
ROW, GAP = 12.08, 0.164
"""Inches of a page's width, and between two charts in it."""
STRETCH = 1.6
"""Largest factor by which a chart is stretched to fill the page."""


class Panel(NamedTuple):
    """One pair of axes: a drawing function, a description in words, and a size (width, height) in inches."""

    draw: Callable[[Axes], Any]
    text: str
    size: tuple[float, float] = (3.9, 3.3)


@dataclass(frozen=True)
class Chart:
    """Panels under one title. `caption` explains how to read them, and `note` states n and the kind of interval.

    At most PANELS panels are drawn, on first use; the caption states how many are left out. `stretch` scales their
    widths.
    """

    template = "chart"
    name: str
    title: str
    caption: str
    note: str
    panels: Sequence[Panel]
    columns: int = 3
    stretch: float = 1.0

    @property
    def drawn(self) -> Sequence[Panel]:
        """The panels that are drawn."""
        return self.panels[:PANELS]

    @property
    def widths(self) -> list[float]:
        """The width of each column, in inches."""
        columns = min(self.columns, len(self.drawn))
        widths = [max(panel.size[0] for panel in self.drawn[column::columns]) for column in range(columns)]
        return [self.stretch * width for width in widths]

    @property
    def size(self) -> tuple[float, float]:
        """Width and height of the figure, in inches."""
        rows = math.ceil(len(self.drawn) / len(self.widths))
        return sum(self.widths), rows * max(panel.size[1] for panel in self.drawn) + NOTE_INCHES

    @property
    def text(self) -> str:
        """The caption, with the number of panels left out."""
        left_out = len(self.panels) - len(self.drawn)
        more = f" {left_out} further panels are left out; their numbers are in the tables." if left_out else ""
        return f"{self.caption}{more}"

    @functools.cached_property
    def files(self) -> dict[str, bytes]:
        """The bytes of its `svg` and `png` files; the page shows the SVG."""
        return draw_chart(self)

    def save(self, folder: Path) -> None:
        """Writes its files."""
        for kind, data in self.files.items():
            with replacing(folder / f"{self.name}.{kind}") as stream:
                stream.write(data)

    @property
    def uri(self) -> str:
        """The SVG as a data URI."""
        return f"data:image/svg+xml;base64,{base64.b64encode(self.files['svg']).decode()}"


def fill_rows(charts: Sequence[Chart]) -> list[Chart]:
    """Returns charts that fill the page's width, side by side where they fit."""
    rows: list[list[Chart]] = []
    for chart in charts:
        if not rows or sum(each.size[0] + GAP for each in rows[-1]) + chart.size[0] > ROW:
            rows.append([])
        rows[-1].append(chart)
    filled = []
    for row in rows:
        room = (ROW - GAP * (len(row) - 1)) / sum(chart.size[0] for chart in row)
        filled += [replace(chart, stretch=min(STRETCH, max(1.0, room))) for chart in row]
    return filled


def make_figure(chart: Chart) -> Figure:
    """Returns a chart as a figure of matplotlib, which belongs to no window and to no list of figures."""
    with matplotlib.rc_context(fname=style.SHEET):
        figure = Figure(figsize=chart.size, layout=ConstrainedLayoutEngine())
        columns = len(chart.widths)
        rows = math.ceil(len(chart.drawn) / columns)
        grid = figure.subplots(rows, columns, squeeze=False, width_ratios=chart.widths).ravel()
        for axes, panel in zip(grid, chart.drawn, strict=False):
            panel.draw(axes)
        for axes in grid[len(chart.drawn) :]:
            axes.set_axis_off()
        figure.supxlabel(chart.note, **style.NOTE)
    return figure


def draw_chart(chart: Chart) -> dict[str, bytes]:
    """Draws a chart and returns the bytes of its `svg` and `png` files, deterministically."""
    svg, png = io.BytesIO(), io.BytesIO()
    with matplotlib.rc_context(fname=style.SHEET):
        figure = make_figure(chart)
        # The layout is computed once for both files.
        layout = figure.get_layout_engine()
        assert layout is not None
        layout.execute(figure)
        figure.set_layout_engine("none")
        # Figure.savefig would draw the figure twice for each file.
        FigureCanvasAgg(figure).print_png(png, metadata={"Software": None}, pil_kwargs={"compress_level": 3})
        FigureCanvasSVG(figure).print_svg(svg, metadata={"Date": None})
    return {"svg": svg.getvalue(), "png": png.getvalue()}


SHARES = (("fg_correct", "correct", CORRECT, DARK), ("fg_flip", "flip", FLIP, LIGHT), ("fg_miss", "miss", MISS, LIGHT))
COVERAGE, TENTHS = np.linspace(0.02, 1, 50), np.arange(1.0, 11.0)
TENTH = "flip-risk decile (10: the riskiest tenth)"
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
OUTLINE: dict[str, Any] = {"fill": False, "edgecolor": DARK, "linewidth": 2.5, "clip_on": False, "zorder": 3}
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
    return {name: pd.DataFrame([each[name] for each in rankings]).mean().to_numpy() for name in RANKED}


def ranking_charts(
    facets: Mapping[str, Mapping[str, Ranking]],
    *,
    note: str,
    mean: float | None = None,
    intervals: Mapping[str, Any] | None = None,
) -> list[Chart]:
    """Returns charts of risk-coverage and flip-risk deciles, with a panel per facet and a curve per labelled ranking.

    Args:
        facets: rankings by panel title.
        note: n and the kind of interval.
        mean: flip share of all images, drawn as reference.
        intervals: low and high (10,) of `flip_by_risk_decile` and `risk_decile`.
    """
    reference = None if mean is None else (mean, f"mean of all images, {mean:.2f}")
    coverage, deciles = [], []
    for (title, rankings), (name, (xs, x, y)) in itertools.product(facets.items(), RANKED.items()):
        curves = pd.DataFrame({label: ranking[name] for label, ranking in rankings.items()}, index=xs)
        options = {"reference": None if name == "risk_decile" else reference, "interval": (intervals or {}).get(name)}
        drawn = coverage if name == "remaining" else deciles
        drawn.append(curve_panel(curves, title=title, x=x, y=y, **options))
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
        base = 0.0
        for (_, label, colour, ink), values in zip(SHARES, shares, strict=True):
            height = np.array(values, np.float64)
            look: dict[str, Any] = {"color": colour, "edgecolor": style.PAPER, "linewidth": 0.6, "label": label}
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
    curves: pd.DataFrame,
    *,
    title: str,
    x: str,
    y: str,
    most: float | None = None,
    reference: tuple[float, str] | None = None,
    interval: tuple[np.ndarray, np.ndarray] | None = None,
    looks: Mapping[str, Mapping[str, Any]] | None = None,
) -> Panel:
    """Returns a panel of curves, coloured from blue to orange in order.

    Args:
        curves: values by point, with a column for each curve.
        title: of the panel.
        x: name of the x axis.
        y: name of the y axis, which begins at 0.
        most: end of the y axis; None uses the range of the values.
        reference: a reference level and its name.
        interval: low and high (n,) at the first curve's points.
        looks: matplotlib's options of a curve by its name.
    """

    def draw(axes: Axes) -> None:
        colours = shades(curves.shape[1])
        for (label, ys), colour in zip(curves.items(), colours, strict=True):
            look: dict[str, Any] = {"marker": "o", "markersize": 3.5} if len(ys) <= LABELLED else {}
            look |= {"color": colour, "linewidth": 1.8, **(looks or {}).get(str(label), {})}
            axes.plot(ys.index, ys, label=plain(str(label), most=24), **look)
        if interval is not None:
            axes.vlines(curves.index, *interval, color=colours[0], linewidth=1.4, alpha=0.6)
        dress(axes, title=title, x=x, y=y)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=bool(curves.index[-1] > 1)))
        axes.set_ylim(0, most)
        if reference:
            draw_reference(axes, *reference)
        if curves.shape[1] > 1:
            legend(axes, columns=min(3, curves.shape[1]))

    known = {label or y: ys.dropna() for label, ys in curves.items() if ys.notna().any()}
    words = "; ".join(f"{label}: from {ys.iloc[0]:.2f} to {ys.iloc[-1]:.2f}" for label, ys in known.items())
    return Panel(draw, f"{title or y}, {y} by {x}. {words}.")


def draw_reference(axes: Axes, level: float, text: str) -> None:
    """Draws a dashed reference level and its name."""
    axes.axhline(level, color=style.FAINT, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    offset: dict[str, Any] = {"xytext": (0, -2), "textcoords": "offset points", "ha": "right", "va": "top"}
    axes.annotate(text, (1, level), xycoords=("axes fraction", "data"), fontsize=8.5, color=style.FAINT, **offset)


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
    rows = [c for c in range(len(class_names)) if c not in outside] if classes is None else list(classes)
    columns = sorted([*rows, *outside])
    shares = confusion[np.ix_(rows, columns)] / np.maximum(confusion[rows].sum(1, keepdims=True), 1)
    outcomes = [[CORRECT if p == t else MISS if p in outside else FLIP for p in columns] for t in rows]
    names = [class_names[c] for c in rows], [class_names[c] for c in columns]
    right = "; ".join(f"{class_names[c]} {confusion[c, c] / max(confusion[c].sum(), 1):.1%}" for c in rows[:8])
    text = f"{title or 'Predictions of each true class'}. Predicted as itself: {right}."
    return cell_panel(shares, outcomes, *names, text=text, title=title, y="truth")


def cell_panel(
    shares: np.ndarray,
    colours: Sequence[Sequence[str]],
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    text: str,
    framed: Any = (),
    **names: str,
) -> Panel:
    """Returns a panel of shares (R, C) as coloured cells with row and column names, some of them `framed`."""
    C = len(columns)

    def draw(axes: Axes) -> None:
        tints = 1 - np.array([[to_rgb(colour) for colour in row] for row in colours])
        # The square root makes small shares visible.
        axes.imshow(1 - np.sqrt(shares)[..., None] * tints, aspect="auto")
        dress(axes, x="predicted as", ticks=range(C), labels=columns, **names)
        axes.set_yticks(range(len(rows)), [plain(name, most=20) for name in rows])
        axes.grid(False)
        axes.hlines(np.arange(len(rows) - 1) + 0.5, -0.5, C - 0.5, color=LIGHT, linewidth=1.5)
        axes.vlines(np.arange(C - 1) + 0.5, -0.5, len(rows) - 0.5, color=LIGHT, linewidth=1.5)
        for row, column in framed:
            axes.add_patch(Rectangle((column - 0.47, row - 0.47), 0.94, 0.94, **OUTLINE))
        if C > LABELLED:
            axes.tick_params(axis="x", rotation=90)
            return
        for (row, column), share in np.ndenumerate(shares):
            ink = LIGHT if share > 0.7 and colours[row][column] != CORRECT else DARK
            axes.text(column, row, f"{share:.1%}" if share else "", ha="center", va="center", fontsize=8.5, color=ink)

    cell = 0.95 if C <= 8 else 0.6 if C <= LABELLED else 0.25
    return Panel(draw, text, (max(3.9, cell * C + 2.0), max(2.6, cell * 0.75 * len(rows) + 1.2)))


DIFFERENCES = ("group/rare/fg_flip", "gap/mean", "worst_group_iou")


class Line(NamedTuple):
    """One line of a chart: quantity, legend name and style."""

    quantity: str
    label: str
    colour: Any
    marker: str = "o"


def place(*tables: pd.DataFrame) -> tuple[dict[float, str], list[pd.DataFrame]]:
    """Returns the ticks of the first table's settings, and the tables with `facet` and position `x`.

    The position is rho, in a facet for each setting of the other axes; without a rho axis, the index of the setting.
    """
    axes = varying_axes(tables[0])
    named = [table.assign(facet=[setting_label(row, axes) for row in records_of(table)]) for table in tables]
    if "rho" in tables[0]:
        ticks = {rho: f"{rho:g}" for rho in sorted(tables[0]["rho"].unique().tolist())}
        return ticks, [table.assign(x=table["rho"]) for table in named]
    labels = named[0]["facet"].unique().tolist()
    ticks = {float(x): label or "this run" for x, label in enumerate(labels)}
    return ticks, [table.assign(facet="", x=table["facet"].map(labels.index)) for table in named]


def line_panels(
    summary: pd.DataFrame,
    records: pd.DataFrame,
    lines: Sequence[Line],
    *,
    y: str,
    limits: tuple[float, float] | None = (0.0, 1.0),
    reference: tuple[float, str] | None = None,
) -> list[Panel]:
    """Returns a panel per setting of the other axes: quantities against rho, with a small dot per seed.

    Without a rho axis, one panel has the settings on its x axis.

    Args:
        summary: rows of `flipjax.results.estimates.aggregate`.
        records: rows of `flipjax.results.rows.member_quantities`, without left-out members.
        lines: the lines to draw; those without values are skipped.
        y: name of the y axis.
        limits: of the y axis; None uses the range of the values.
        reference: a reference level and its name.
    """
    over = "rho" if "rho" in summary else ""
    ticks, (summary, records) = place(summary, records)
    places = list(ticks)

    def panel(facet: str) -> Panel:
        inside, dots = (own[own["facet"] == facet].sort_values("x", kind="stable") for own in (summary, records))
        inside = inside[inside["mean"].notna()]
        drawn = [(line, rows) for line in lines if len(rows := inside[inside["quantity"] == line.quantity])]

        def draw(axes: Axes) -> None:
            # Offsets lines from each other and seeds from their mean, so that no mark hides another.
            step = 0.014 * max(np.ptp(places), 0.1)
            for index, (line, rows) in enumerate(drawn):
                shift = step * (index - (len(drawn) - 1) / 2)
                seeds = dots.assign(x=dots["x"] + shift + step / 2)
                _draw_line(axes, line, rows.assign(x=rows["x"] + shift), seeds, joined=over == "rho")
            dress(axes, title=facet, x=over, y=y, ticks=places, labels=list(ticks.values()))
            if not over or len(ticks) == 1:
                room = 0.03 if over else 0.5
                axes.set_xlim(places[0] - room, places[-1] + room)
            if limits:
                axes.set_ylim(*limits)
            if reference:
                draw_reference(axes, *reference)
            if len(drawn) > 1:
                legend(axes, columns=2)

        where = "at rho" if over else "in"
        texts = []
        for line, rows in drawn:
            values = (f"{mean:.2f} {where} {ticks[x]}" for x, mean in zip(rows["x"], rows["mean"], strict=True))
            texts.append(f"{line.label}: {', '.join(values)}.")
        return Panel(draw, f"{facet or y}. {' '.join(texts) or 'No values.'}")

    return [panel(facet) for facet in summary["facet"].unique()]


def line_chart(run: RunTables, name: str, title: str, caption: str, lines: Sequence[Line], **options: Any) -> Chart:
    """Returns a chart of quantities over rho, with the options of `line_panels`."""
    return Chart(name, title, caption, run.note(dots=True), line_panels(run.summary, run.kept(), lines, **options))


def _draw_line(axes: Axes, line: Line, means: pd.DataFrame, seeds: pd.DataFrame, *, joined: bool) -> None:
    if joined:
        axes.plot(means["x"], means["mean"], color=line.colour, linewidth=1.8)
    # With fewer seeds, dots are more informative than a wide interval.
    known = means[means["n"] >= FEWEST].dropna(subset=["low", "high"])
    axes.vlines(known["x"], known["low"], known["high"], color=line.colour, linewidth=1.6)
    look: dict[str, Any] = {"color": line.colour, "marker": line.marker}
    mark: dict[str, Any] = {"s": 36, "zorder": 3, "edgecolor": style.PAPER, "linewidth": 0.6}
    axes.scatter(means["x"], means["mean"], label=plain(line.label, most=24), **mark, **look)
    axes.scatter(seeds["x"], seeds[line.quantity], s=11, alpha=0.45, linewidth=0, **look)


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
        own = rows[rows["quantity"] == quantity]
        if len(own):
            table = own.pivot_table(index="label", columns="rho", values="mean")
            panels += [_map_panel(table, quantity), _box_panel(own, quantity, by="rho")]
    first = rows[(rows["quantity"] == quantities[0]) & (rows["rho"] == rows["rho"].max())]
    return panels + [_box_panel(first, quantities[0], by=axis) for axis in axes if first[axis].nunique() <= LABELLED]


def _map_panel(table: pd.DataFrame, quantity: str) -> Panel:
    """Returns a map of means (settings, rhos), settings sorted by the last column."""
    table = table.sort_values(table.columns[-1])
    title, rhos = title_of(quantity), [f"{rho:g}" for rho in table.columns]

    def draw(axes: Axes) -> None:
        image = axes.imshow(table, aspect="auto", cmap="viridis", interpolation="nearest")
        dress(axes, title=title, x="rho", y="settings, sorted", ticks=range(len(rhos)), labels=rhos)
        axes.grid(False)
        axes.set_yticks([])
        axes.figure.colorbar(image, ax=axes)

    ends = [f"{rho}: {table[rho].min():.2f} to {table[rho].max():.2f}" for rho in table.columns]
    return Panel(draw, f"{title} of {len(table)} settings. Lowest to highest at rho {'; '.join(ends)}.")


def _box_panel(rows: pd.DataFrame, quantity: str, *, by: str) -> Panel:
    """Returns the distribution of means over settings at each value of an axis."""
    groups = {f"{value}": own["mean"].to_numpy() for value, own in rows.groupby(by)}
    title = title_of(quantity) + ("" if by == "rho" else f" at rho {rows['rho'].max():g}")

    def draw(axes: Axes) -> None:
        axes.boxplot([*groups.values()], positions=range(len(groups)), widths=0.6, flierprops={"markersize": 2})
        dress(axes, title="over settings", x=by, y=title, ticks=range(len(groups)), labels=[*groups])

    medians = "; ".join(f"{value}: {np.median(own):.2f}" for value, own in groups.items())
    return Panel(draw, f"{title}, median over settings by {by} {medians}.")


def share_panels(summary: pd.DataFrame) -> list[Panel]:
    """Returns panels of correct, flip and miss as stacked shares of the true foreground, common then rare groups."""
    ticks, (placed,) = place(summary)
    panels = []
    for facet, group in itertools.product(placed["facet"].unique(), ("common", "rare")):
        means = placed[placed["facet"] == facet].sort_values("x", kind="stable").set_index("quantity")["mean"]
        shares = [means[[f"group/{group}/{name}"]].tolist() for name, *_ in SHARES]
        title = " · ".join(filter(None, (facet, f"{group} groups")))
        panels.append(bar_panel(shares, list(ticks.values()), title=title, x="rho" if "rho" in summary else ""))
    return panels


def forest_panels(comparison: pd.DataFrame, axis: str = "method") -> list[Panel]:
    """Returns a panel of differences for each of DIFFERENCES, with a row per value of `axis` and a bar per rho.

    Differences are from the reference. Settings of further axes have their own rows.

    Args:
        comparison: rows of `flipjax.results.estimates.compare` along `axis`.
        axis: the compared axis.
    """
    names = setting_axes(comparison, axis)
    # The only value of the axis names no row.
    first = "" if names and comparison[axis].nunique() == 1 else axis
    table = comparison if "rho" in comparison else comparison.assign(rho="")
    settings = ((str(row.get(first, "")), setting_label(row, names)) for row in records_of(table))
    table = table.assign(label=[", ".join(filter(None, words)) for words in settings])
    labels, rhos = table["label"].unique().tolist(), sorted(table["rho"].unique().tolist())
    reference = plain(str(table["reference"].iloc[0]))

    def panel(quantity: str) -> Panel:
        rows = table[table["quantity"] == quantity]

        def draw(axes: Axes) -> None:
            for place, (rho, colour) in enumerate(zip(rhos, shades(len(rhos)), strict=True)):
                own = rows[rows["rho"] == rho]
                heights = own["label"].map(labels.index) + 0.7 * ((place + 0.5) / len(rhos) - 0.5)
                few = own["n"] < FEWEST
                axes.hlines(heights[~few], own["low"][~few], own["high"][~few], linewidth=1.4, color=colour)
                seeds = own["values"][few].str.split().explode().dropna().astype(float)
                axes.scatter(seeds, heights[seeds.index], s=11, alpha=0.45, linewidth=0, color=colour)
                axes.scatter(own["difference"], heights, s=16, zorder=3, label=f"rho {rho}", color=colour)
            axes.axvline(0, color=style.FAINT, linewidth=1, zorder=1)
            dress(axes, title=title_of(quantity), x=f"difference from {reference}", y="")
            axes.xaxis.set_major_locator(MaxNLocator(4))
            axes.xaxis.set_major_formatter(lambda x, _: f"{x:+.3g}" if abs(x) > 1e-9 else "0")
            axes.set_yticks(range(len(labels)), [plain(each, most=30) for each in labels])
            axes.set_ylim(len(labels) - 0.5, -0.5)
            if len(rhos) > 1:
                legend(axes, columns=2)

        first = records_of(rows[:8])
        words = "; ".join(f"{row['label']} at rho {row['rho']}: {row['difference']:+.2f}" for row in first)
        text = f"{title_of(quantity)}, difference from {reference}. {words}."
        return Panel(draw, text, (4.4, 1.5 + len(labels) * (0.2 + 0.1 * len(rhos))))

    return [panel(quantity) for quantity in DIFFERENCES]
