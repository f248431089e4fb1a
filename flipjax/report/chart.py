"""A chart: panels that stand side by side in a file, and one by one on a page, where they wrap and follow its mode."""

import io
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from flipjax.files import replacing
from flipjax.report.style import FAINT, GRID, INK, NOTE, PAPER, PLAIN, TITLE, visible

DPI = 150
PANELS = 18
MODES = {INK: "var(--ink)", FAINT: "var(--faint)", GRID: "var(--line)", PAPER: "var(--page)"}


class Panel(NamedTuple):
    """One pair of axes: what draws it, its size (width, height) in inches, and what it shows in words."""

    draw: Callable[[Axes], Any]
    text: str
    size: tuple[float, float] = (3.9, 3.3)


class Chart(NamedTuple):
    """Panels under one title. `caption` says how to read them, `note` n and the kind of interval.

    Of more than PANELS panels the first are drawn, and the note says so.
    """

    name: str
    title: str
    caption: str
    note: str
    panels: Sequence[Panel]
    columns: int = 3

    @property
    def drawn(self) -> Sequence[Panel]:
        """The panels that are drawn."""
        return self.panels[:PANELS]

    @property
    def text(self) -> str:
        """Caption and note, and what is left out."""
        left_out = len(self.panels) - len(self.drawn)
        more = f" {left_out} further panels are left out; their numbers are in the tables." if left_out else ""
        return f"{self.caption} {self.note}{more}".strip()


def figure_of(chart: Chart) -> Figure:
    """Draws all panels of a chart as one figure."""
    columns = min(chart.columns, len(chart.drawn))
    rows = math.ceil(len(chart.drawn) / columns)
    width = max(panel.size[0] for panel in chart.drawn) * columns
    height = max(panel.size[1] for panel in chart.drawn) * rows
    figure = Figure(figsize=(max(width, 5.5), height + 0.8), layout="constrained")
    figure.suptitle(chart.title, **TITLE)
    figure.supxlabel(chart.note, **NOTE)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat[len(chart.drawn) :]:
        axes.set_visible(False)
    for axes, panel in zip(grid.flat, chart.drawn, strict=False):
        panel.draw(axes)
    return figure


def save(folder: Path, chart: Chart) -> None:
    """Writes a chart as `<name>.png` (150 dpi) and `<name>.svg`; equal charts give equal bytes."""
    metadata: dict[str, dict[str, Any]] = {"png": {"Software": None}, "svg": {"Date": None}}
    with matplotlib.rc_context(PLAIN):
        figure = figure_of(chart)
        _lay_out(figure)
        for kind, facts in metadata.items():
            with replacing(folder / f"{chart.name}.{kind}") as stream:
                figure.savefig(stream, format=kind, dpi=DPI, metadata=facts, facecolor="white")


def _lay_out(figure: Figure) -> None:
    """Lays a figure out once, whatever it is saved as: matplotlib would draw it once more for each file."""
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
        figure.set_layout_engine("none")


def inline(chart: Chart) -> list[str]:
    """Returns each panel as an svg element of its own: text is text, and ink and paper are those of the page."""
    return [_inline(panel, f"{chart.name}{index}") for index, panel in enumerate(chart.drawn)]


def _inline(panel: Panel, name: str) -> str:
    stream = io.StringIO()
    with matplotlib.rc_context(PLAIN | {"svg.fonttype": "none"}):
        figure = Figure(figsize=panel.size, layout="constrained")
        panel.draw(figure.subplots())
        _lay_out(figure)
        figure.savefig(stream, format="svg", metadata={"Date": None}, transparent=True)
    svg = stream.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg, flags=re.S)
    svg = re.sub(r"\bid=\"[^\"]*(figure|axes|patch|line2d|text|matplotlib|xtick|ytick|Collection)[^\"]*\"", "", svg)
    svg = re.sub(r'\bid="|(?<=href=")#|(?<=url\()#', lambda mark: f"{mark[0]}{name}-", svg)
    svg = re.sub(r"font: (?:\d+ )?([\d.]+)px [^;\"]*", r"font-size: \1px", svg)
    for colour, variable in MODES.items():
        svg = re.sub(colour, variable, svg, flags=re.I)
    width, height = (round(inches * 96) for inches in panel.size)
    head = f'<svg class="panel" role="img" aria-label="{_attribute(panel.text)}" width="{width}" height="{height}"'
    box = re.search(r'viewBox="[^"]*"', svg)
    return f"{head} {box[0] if box else ''} {svg[svg.index('>', 1) :]}".replace("  >", ">").replace(" \n", "\n")


def _attribute(text: str) -> str:
    return visible(text).replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
