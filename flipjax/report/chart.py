"""A chart: panels in one figure, written as SVG and PNG. Pages embed the SVG."""

import io
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from flipjax.report.style import NOTE, PLAIN

DPI = 150
NOTE_INCHES = 0.3
PANELS = 18


class Panel(NamedTuple):
    """One pair of axes: a drawing function, a description in words, and a size (width, height) in inches."""

    draw: Callable[[Axes], Any]
    text: str
    size: tuple[float, float] = (3.9, 3.3)


class Chart(NamedTuple):
    """Panels under one title. `caption` explains how to read them, and `note` states n and the kind of interval.

    At most PANELS panels are drawn; the caption states how many are left out. `stretch` scales their widths.
    """

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


def draw_chart(chart: Chart) -> dict[str, bytes]:
    """Draws a chart and returns the bytes of its `svg` and `png` files, deterministically."""
    svg, png = io.BytesIO(), io.BytesIO()
    with matplotlib.rc_context(PLAIN):
        layout = ConstrainedLayoutEngine()
        figure = Figure(figsize=chart.size, dpi=DPI, facecolor="white", layout=layout)
        columns = len(chart.widths)
        rows = math.ceil(len(chart.drawn) / columns)
        grid = figure.subplots(rows, columns, squeeze=False, width_ratios=chart.widths).ravel()
        for axes, panel in zip(grid, chart.drawn, strict=False):
            panel.draw(axes)
        for axes in grid[len(chart.drawn) :]:
            axes.set_axis_off()
        figure.supxlabel(chart.note, **NOTE)
        # The layout is computed once for both files.
        layout.execute(figure)
        figure.set_layout_engine("none")
        # Figure.savefig would draw the figure twice for each file.
        FigureCanvasAgg(figure).print_png(png, metadata={"Software": None}, pil_kwargs={"compress_level": 3})
        FigureCanvasSVG(figure).print_svg(svg, metadata={"Date": None})
    return {"svg": svg.getvalue(), "png": png.getvalue()}
