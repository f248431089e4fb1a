"""The page: one HTML file that holds all it shows, from a template that escapes every text."""

import base64
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jinja2

from flipjax.files import replacing, write_text
from flipjax.report import pictures
from flipjax.report.chart import Chart, draw_chart
from flipjax.report.pictures import Item, Palette
from flipjax.report.style import OUTCOMES, visible
from flipjax.results.repair_sign import SAFE
from flipjax.results.scores import SCORES
from flipjax.results.swapped_scenes import REPAIR_NOTE
from flipjax.results.text import TextTable

LONGEST = 600
ROW, GAP = 12.08, 0.164
"""Inches of a page's width, and between two charts in it."""
STRETCH = 1.6
"""The most by which a chart is widened to fill the page."""
WIDE = 5.0
"""Inches from which a chart scrolls where the page is narrower."""
SCREEN, DENSE = 24, 16
"""Rows of a table that a screen holds, and of one of many columns, whose cells break: longer ones open on a click."""
FIRST, WARNING = 4, "Warning"
"""Sentences of the answer that a page shows at once, and how those begin that it never folds."""
FILTERS = {"member": "Member", "group": "Group", "kind": "Chosen as", "error": "Main error"}


class Numbers(NamedTuple):
    """A table with its caption; the cells of `values`, where given, carry their exact values for machines.

    `folded` tables, and those that a screen does not hold, open on a click; `searched` ones have a field that keeps the
    rows with a text, and the cells of `words` are texts.
    `links` are the places on the page that cells (row, column) lead to.
    """

    template = "numbers"
    caption: str
    table: TextTable
    values: Sequence[Sequence[Any]] | None = None
    folded: bool = False
    searched: bool = False
    words: bool = False
    links: Mapping[tuple[int, int], str] = {}

    @property
    def closed(self) -> bool:
        """Whether the table opens on a click."""
        return self.folded or len(self.table.rows) > (DENSE if self.dense else SCREEN)

    @property
    def dense(self) -> bool:
        """Whether the columns are so many that their cells break."""
        return len(self.table.header) > 7


@dataclass(frozen=True)
class Picture:
    """A chart on the page, drawn when it is first asked for."""

    template = "picture"
    chart: Chart

    @functools.cached_property
    def drawing(self) -> dict[str, bytes]:
        """Its files, of which the page shows the SVG."""
        return draw_chart(self.chart)

    @property
    def uri(self) -> str:
        """The SVG as a data URI."""
        return f"data:image/svg+xml;base64,{base64.b64encode(self.drawing['svg']).decode()}"

    @property
    def pixels(self) -> tuple[int, int]:
        """Its width and height on the page."""
        width, height = self.chart.size
        return round(96 * width), round(96 * height)

    @property
    def wide(self) -> bool:
        """Whether it would be too small to read in the width of a phone."""
        return self.chart.size[0] / self.chart.stretch > WIDE


def pictures_of(charts: Sequence[Chart]) -> list[Picture]:
    """Returns charts as a section shows them: side by side where they fit, and stretched to fill the page's width."""
    rows: list[list[Chart]] = []
    for chart in charts:
        if not rows or sum(each.size[0] + GAP for each in rows[-1]) + chart.size[0] > ROW:
            rows.append([])
        rows[-1].append(chart)
    pictures = []
    for row in rows:
        fill = (ROW - GAP * (len(row) - 1)) / sum(each.size[0] for each in row)
        pictures += [Picture(chart._replace(stretch=min(STRETCH, max(1.0, fill)))) for chart in row]
    return pictures


class Gallery(NamedTuple):
    """Images with filters; of more than LONGEST the first are shown."""

    template = "gallery"
    items: Sequence[Item]
    palette: Palette
    caption: str

    @property
    def shown(self) -> list[tuple[Item, dict[str, str]]]:
        """The items that the page shows, each with its pictures as data URIs."""
        return [(item, pictures.tile_uris(item, self.palette)) for item in self.items[:LONGEST]]

    @property
    def choices(self) -> dict[str, list[str]]:
        """The values of each filter that has more than one."""
        values = {name: list(dict.fromkeys(str(getattr(item, name)) for item in self.items)) for name in FILTERS}
        return {name: values[name] for name in FILTERS if len(values[name]) > 1}

    @property
    def swapped(self) -> bool:
        """Whether scene swap says something of any item."""
        return any(item.swap_risk == item.swap_risk for item in self.items)


class Section(NamedTuple):
    """A section of the page: its title, an introduction, and its tables, charts and galleries."""

    title: str
    blocks: Sequence[Numbers | Picture | Gallery]
    lead: str = ""

    @property
    def anchor(self) -> str:
        """Its place in the page's address."""
        return "".join(letter if letter.isalnum() else "-" for letter in self.title.lower())


def write_index(
    folder: Path,
    sections: Sequence[Section],
    *,
    title: str,
    lines: Sequence[str],
    facts: Sequence[str],
    config: Mapping[str, Any],
    terms: Sequence[str] | None = None,
    missing: Sequence[str] = (),
    front: tuple[Picture | None, Gallery | None] = (None, None),
) -> None:
    """Writes index.html and the figures on it to figures/, as SVG and PNG.

    The page says what was found (`lines`), facts, what is missing, the sections, `terms` of
    templates/terms.html (all unless given) and the configuration;
    `front` are a chart and images beside the lines.
    """
    blocks = [block for section in sections for block in section.blocks]
    for picture in [block for block in (*blocks, front[0]) if isinstance(block, Picture)]:
        for kind, data in picture.drawing.items():
            with replacing(folder / "figures" / f"{picture.chart.name}.{kind}") as stream:
                stream.write(data)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("flipjax.report", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        finalize=_finalize,
    )
    environment.globals |= {"filters": FILTERS, "outcomes": OUTCOMES, "risk_colours": pictures.colour_bar()}
    environment.globals |= {"scores": SCORES, "safe": SAFE, "repair_note": REPAIR_NOTE}
    page = environment.get_template("page.html").render(
        title=title,
        lines=[line for place, line in enumerate(lines) if place < FIRST or line.startswith(WARNING)],
        more=[line for line in lines[FIRST:] if not line.startswith(WARNING)],
        front=front,
        facts=facts,
        missing=missing,
        sections=[section for section in sections if section.blocks],
        terms=terms,
        config=config,
    )
    write_text(folder / "index.html", page)


def _finalize(value: Any) -> Any:
    return visible(value) if isinstance(value, str) else value
