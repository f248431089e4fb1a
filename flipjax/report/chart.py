"""A chart: panels that stand side by side in a file, and one by one on a page, where they wrap and follow its mode."""

import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from PIL import Image

from flipjax.files import replacing
from flipjax.report.style import FAINT, GRID, INK, NOTE, PAPER, PLAIN, TITLE, visible

DPI = 150
# Inches.
PADDING = 0.05
HEAD = 0.42
MOST_MARGIN = 0.4
FONTS = "DejaVu Sans, Verdana, Arial, sans-serif"
PANELS = 18
MODES = {INK: "var(--ink)", FAINT: "var(--faint)", GRID: "var(--line)", PAPER: "var(--page)"}


class Panel(NamedTuple):
    """One pair of axes: what draws it, its size (width, height) in inches, and what it shows in words."""

    draw: Callable[[Axes], Any]
    text: str
    size: tuple[float, float] = (3.9, 3.3)


class Drawing(NamedTuple):
    """A chart as it was drawn: each panel as an svg element for a page, and the bytes of an SVG and of a PNG file.

    The text of a panel is text, its ink and paper are those of the page.
    """

    panels: Sequence[str]
    svg: bytes
    png: bytes


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


def draw(chart: Chart) -> Drawing:
    """Draws each panel of a chart once; equal charts give equal bytes."""
    with matplotlib.rc_context(PLAIN | {"svg.fonttype": "none"}):
        figures = [_figure(panel) for panel in chart.drawn]
        _lay_out(figures)
        frame, places = _frame(chart)
        pixels = _pixels(frame)
        for figure, (x, y) in zip(figures, places, strict=True):
            pixels.alpha_composite(_pixels(figure), (round(x * DPI), round(y * DPI)))
        parts = [_part(figure, f"{chart.name}{index}") for index, figure in enumerate(figures)]
        whole = _svg(frame).removesuffix("</svg>\n")
    inside = "".join(
        _element(part, f'x="{72 * x:g}" y="{72 * y:g}"') for part, (x, y) in zip(parts, places, strict=True)
    )
    stream = io.BytesIO()
    pixels.convert("RGB").save(stream, format="png", dpi=(DPI, DPI))
    panels = [_inline(panel, part) for panel, part in zip(chart.drawn, parts, strict=True)]
    return Drawing(panels, f'{whole}<g font-family="{FONTS}">\n{inside}</g>\n</svg>\n'.encode(), stream.getvalue())


def save(folder: Path, name: str, drawing: Drawing) -> None:
    """Writes a drawing as `<name>.svg` and `<name>.png` (150 dpi)."""
    for kind in ("svg", "png"):
        with replacing(folder / f"{name}.{kind}") as stream:
            stream.write(getattr(drawing, kind))


def _figure(panel: Panel) -> Figure:
    figure = Figure(figsize=panel.size, dpi=DPI)
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    panel.draw(axes)
    for patch in (figure.patch, axes.patch):
        patch.set_visible(False)
    return figure


def _lay_out(figures: Sequence[Figure]) -> None:
    """Gives the axes of all panels the same margins, as wide as the longest of their texts need."""
    margins = np.max([_margins(figure) for figure in figures], axis=0)
    for figure in figures:
        width, height = figure.get_size_inches()
        left, bottom, right, top = np.minimum(margins, MOST_MARGIN * np.array([width, height, width, height]))
        place = (left / width, bottom / height, 1 - (left + right) / width, 1 - (bottom + top) / height)
        axes = figure.axes[0]
        axes.set_position(place)
        # In the middle of the axes, unless it is too long for that.
        label = axes.yaxis.label
        half = label.get_window_extent().height / DPI / 2 + PADDING
        middle = max(half, min(height - half, (bottom + height - top) / 2))
        label.set_y((middle - bottom) / (height - bottom - top))


def _margins(figure: Figure) -> list[float]:
    """What the texts around the axes of a panel need, inches: left, below, right, above."""
    axes = figure.axes[0]
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    legend = axes.get_legend()
    if legend is not None:
        # It begins at the left of the axes: a narrower panel would not make room for it.
        legend.set_in_layout(False)
    outer = axes.get_tightbbox(renderer, for_layout_only=True) or axes.bbox
    inner = axes.bbox
    top = max(outer.y1, legend.get_window_extent(renderer).y1 if legend is not None else 0)
    needs = (inner.x0 - outer.x0, inner.y0 - outer.y0, outer.x1 - inner.x1, top - inner.y1)
    return [need / DPI + PADDING for need in needs]


def _frame(chart: Chart) -> tuple[Figure, list[tuple[float, float]]]:
    """The title and the note of a chart, and where its panels stand between them: inches from the upper left."""
    columns = min(chart.columns, len(chart.drawn))
    width, height = (max(panel.size[side] for panel in chart.drawn) for side in (0, 1))
    figure = Figure(dpi=DPI, facecolor="white")
    renderer = FigureCanvasAgg(figure).get_renderer()
    title = figure.suptitle(chart.title, **TITLE)
    note = figure.supxlabel(chart.note, **NOTE)
    across = max(columns * width, title.get_window_extent(renderer).width / DPI + 4 * PADDING)
    figure.set_size_inches(across, 1)
    below = note.get_window_extent(renderer).height / DPI + 2 * PADDING
    places = [(index % columns * width, HEAD + index // columns * height) for index in range(len(chart.drawn))]
    down = places[-1][1] + height + below
    figure.set_size_inches(across, down)
    title.set(y=1 - 2 * PADDING / down, va="top")
    note.set(y=PADDING / down, va="bottom")
    return figure, places


def _pixels(figure: Figure) -> Image.Image:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba()))


def _svg(figure: Figure) -> str:
    stream = io.StringIO()
    # Not by way of `savefig`, which draws a figure twice.
    FigureCanvasSVG(figure).print_svg(stream, metadata={"Date": None})
    return stream.getvalue()


def _part(figure: Figure, name: str) -> str:
    """A panel as SVG that can stand beside others: text is text, without a font, and ids are its own."""
    svg = _svg(figure)
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg, flags=re.S)
    svg = re.sub(r"\bid=\"[^\"]*(figure|axes|patch|line2d|text|matplotlib|xtick|ytick|Collection)[^\"]*\"", "", svg)
    svg = re.sub(r'\bid="|(?<=href=")#|(?<=url\()#', lambda mark: f"{mark[0]}{name}-", svg)
    return re.sub(r"font: (?:\d+ )?([\d.]+)px [^;\"]*", r"font-size: \1px", svg)


def _element(part: str, attributes: str) -> str:
    """A panel as an svg element with other attributes; its box stays."""
    box = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', part)
    size = f' width="{box[1]}" height="{box[2]}"' if box and "width" not in attributes else ""
    return f"<svg {attributes}{size} {box[0] if box else ''}{part[part.index('>') :]}".replace(" \n", "\n")


def _inline(panel: Panel, part: str) -> str:
    for colour, variable in MODES.items():
        part = re.sub(colour, variable, part, flags=re.I)
    width, height = (round(inches * 96) for inches in panel.size)
    label = f'role="img" aria-label="{_attribute(panel.text)}"'
    return _element(part, f'class="panel" {label} width="{width}" height="{height}"')


def _attribute(text: str) -> str:
    return visible(text).replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
