"""Renders a document as one self-contained HTML file. The template escapes all text."""

import base64
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import jinja2

from flipjax.report import pictures
from flipjax.report.document import Document, terminal_text, visible, write_latex, write_summary
from flipjax.report.panels import Chart, draw_chart
from flipjax.report.pictures import Item, Palette
from flipjax.report.style import OUTCOMES
from flipjax.results.rows import REPAIR_NOTE
from flipjax.results.scores import SCORES
from flipjax.support.files import replacing, write_text

LONGEST = 600
ROW, GAP = 12.08, 0.164
"""Inches of a page's width, and between two charts in it."""
STRETCH = 1.6
"""Largest factor by which a chart is stretched to fill the page."""
FIRST, WARNING = 4, "Warning"
"""Number of findings shown unfolded, and the beginning of those that are never folded."""
FILTERS = {"member": "Member", "group": "Group", "kind": "Chosen as", "error": "Main error"}


@dataclass(frozen=True)
class Picture:
    """A chart on the page, drawn on first use."""

    template = "picture"
    chart: Chart

    @functools.cached_property
    def drawing(self) -> dict[str, bytes]:
        """Its files; the page shows the SVG."""
        return draw_chart(self.chart)

    def save(self, folder: Path) -> None:
        """Writes its files."""
        for kind, data in self.drawing.items():
            with replacing(folder / f"{self.chart.name}.{kind}") as stream:
                stream.write(data)

    @property
    def uri(self) -> str:
        """The SVG as a data URI."""
        return f"data:image/svg+xml;base64,{base64.b64encode(self.drawing['svg']).decode()}"


def pictures_of(charts: Sequence[Chart]) -> list[Picture]:
    """Arranges charts side by side where they fit, stretched to the page's width."""
    rows: list[list[Chart]] = []
    for chart in charts:
        if not rows or sum(each.size[0] + GAP for each in rows[-1]) + chart.size[0] > ROW:
            rows.append([])
        rows[-1].append(chart)
    made = []
    for row in rows:
        fill = (ROW - GAP * (len(row) - 1)) / sum(each.size[0] for each in row)
        made += [Picture(chart._replace(stretch=min(STRETCH, max(1.0, fill)))) for chart in row]
    return made


class Gallery(NamedTuple):
    """Images with filters. At most LONGEST are shown."""

    template = "gallery"
    items: Sequence[Item]
    palette: Palette
    caption: str

    @property
    def choices(self) -> dict[str, list[str]]:
        """The values of each filter with more than one value."""
        values = {name: list(dict.fromkeys(str(getattr(item, name)) for item in self.items)) for name in FILTERS}
        return {name: values[name] for name in FILTERS if len(values[name]) > 1}

    @property
    def ranked(self) -> bool:
        """Whether any item has a flip-risk: masks have none."""
        return any(item.flip_risk == item.flip_risk for item in self.items)

    @property
    def swapped(self) -> bool:
        """Whether the scene of any item was swapped."""
        return any(item.swap_risk == item.swap_risk for item in self.items)


def write_page(folder: Path, document: Document) -> None:
    """Writes a self-contained index.html, and its charts as figures/*.png and *.svg."""
    blocks = [block for section in document.sections for block in section.blocks]
    for block in (*blocks, document.front[0]):
        if isinstance(block, Picture):
            block.save(folder / "figures")
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("flipjax.report", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: visible(value) if isinstance(value, str) else value,
    )
    environment.globals |= {"filters": FILTERS, "outcomes": OUTCOMES, "risk_colours": pictures.colour_bar()}
    environment.globals |= {"scores": SCORES, "repair_note": REPAIR_NOTE, "longest": LONGEST}
    environment.globals |= {"tile_uris": pictures.tile_uris}
    lines = document.lines
    shown = {
        "lines": [line for place, line in enumerate(lines) if place < FIRST or line.startswith(WARNING)],
        "more": [line for line in lines[FIRST:] if not line.startswith(WARNING)],
        "sections": [section for section in document.sections if section.blocks],
    }
    write_text(folder / "index.html", environment.get_template("page.html").render(document._asdict() | shown))


def write_report(folder: Path, document: Document) -> str:
    """Writes the page, summary.md and summary.tex, and returns the document as terminal text."""
    for write in (write_page, write_summary, write_latex):
        write(folder, document)
    return terminal_text(document)
