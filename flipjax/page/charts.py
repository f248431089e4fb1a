"""Charts of pages: panels under one title, drawn to SVG and PNG. Nothing uses pyplot and its global state."""

import base64
import dataclasses
import functools
import io
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from flipjax.config import ConfigError
from flipjax.page import style
from flipjax.support.files import replacing

NOTE_INCHES = 0.3
"""Inches of the note below the panels."""
PANELS = 18
"""Panels that are drawn, at most."""


@dataclasses.dataclass(frozen=True)
class Panel:
    """One pair of axes."""

    draw: Callable[[Axes], None]
    """Draws on empty axes."""
    text: str
    """What it shows, in words."""
    size: tuple[float, float] = (3.9, 3.3)
    """Width and height in inches."""


@dataclasses.dataclass(frozen=True)
class Chart:
    """Panels under one title, of which at most PANELS are drawn, on first use.

    Example:
        >>> def draw(axes):
        ...     axes.plot([0.5, 0.95], [0.1, 0.7])
        >>> panel = Panel(draw, "Flip rises with rho.")
        >>> chart = Chart("flip", "Flip over rho", "Share of the true foreground.", "One seed.", [panel, panel])
        >>> chart.widths, chart.text, len(make_figure(chart).axes)
        ([3.9, 3.9], 'Share of the true foreground.', 2)
    """

    template: ClassVar[str] = "chart"
    name: str
    """The name of its files."""
    title: str
    """What it shows."""
    caption: str
    """How to read it."""
    note: str
    """The numbers of seeds and images, and the kind of interval."""
    panels: Sequence[Panel]
    """All panels, in rows."""
    columns: int = 3
    """Panels beside each other, at most."""

    @property
    def drawn(self) -> Sequence[Panel]:
        """The panels that are drawn."""
        return self.panels[:PANELS]

    @property
    def widths(self) -> list[float]:
        """The width of each column, in inches."""
        columns = min(self.columns, len(self.drawn))
        return [max(panel.size[0] for panel in self.drawn[column::columns]) for column in range(columns)]

    @property
    def size(self) -> tuple[float, float]:
        """Width and height of the figure, in inches."""
        rows = math.ceil(len(self.drawn) / len(self.widths))
        return sum(self.widths), rows * max(panel.size[1] for panel in self.drawn) + NOTE_INCHES

    @property
    def text(self) -> str:
        """The caption, with the number of panels left out."""
        left_out = len(self.panels) - len(self.drawn)
        if not left_out:
            return self.caption
        return f"{self.caption} {left_out} further panels are left out; their numbers are in the tables."

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
        figure.supxlabel(chart.note, x=0.012, ha="left", fontsize=8.5, color=style.FAINT, wrap=True)
    return figure


def draw_on(chart: Chart, axes: Sequence[Axes]) -> Figure:
    """Draws each panel of a chart on axes of the caller, and returns their figure.

    Raises:
        ConfigError: there are more or fewer axes than panels.
    """
    if len(axes) != len(chart.drawn):
        titles = "; ".join(panel.text.partition(".")[0] for panel in chart.drawn)
        raise ConfigError("ax", f"as many axes as panels, {len(chart.drawn)} ({titles})", len(axes))
    for one, panel in zip(axes, chart.drawn, strict=True):
        panel.draw(one)
    figure = axes[0].get_figure(root=True)
    assert figure is not None
    return figure


def draw_chart(chart: Chart) -> dict[str, bytes]:
    """Draws a chart and returns the bytes of its `svg` and `png` files, deterministically."""
    svg = io.BytesIO()
    png = io.BytesIO()
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
