"""Renders a document as one self-contained HTML file. The template escapes all text."""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import jinja2

from flipjax.metrics.summary.columns import REPAIR_NOTE
from flipjax.page.charts import Chart
from flipjax.page.document import Document, Front, PageBlock, terminal_text, visible, write_latex, write_summary
from flipjax.page.style import OUTCOMES
from flipjax.page.tiles import Item, Palette, colour_bar, tile_uris
from flipjax.support.files import write_text

LONGEST = 600
"""Images of a gallery that are shown, at most."""
MAIN = '<main id="content">\n'
"""The line of a page below which its content begins."""
FILTERS = {"member": "Member", "group": "Group", "kind": "Chosen as", "error": "Main error"}
"""Properties of an item by which a gallery is filtered, with their titles."""


@dataclasses.dataclass(frozen=True)
class Gallery:
    """Images. At most LONGEST are shown."""

    template: ClassVar[str] = "gallery"
    items: Sequence[Item]
    """The images, in order."""
    palette: Palette
    """The colours of their classes."""
    caption: str
    """How to read it."""
    filtered: bool = True
    """Whether there are so many that filters help."""


def write_page(folder: Path, document: Document) -> None:
    """Writes a self-contained index.html, and its charts as `figures/*.png` and `figures/*.svg`.

    Charts without panels, of which nothing is known, are left out.

    Example:
        >>> import tempfile
        >>> from flipjax.page.document import Section
        >>> document = Document("smoke", ["4 members."], ["Flip rises with rho."], [Section("Results", [])])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_page(Path(folder), document)
        ...     "Flip rises with rho." in Path(folder, "index.html").read_text()
        True
    """
    blocks = [block for section in document.sections for block in section.blocks]
    for block in _drawable([*blocks, *document.front.charts]):
        if isinstance(block, Chart):
            block.save(folder / "figures")
    write_text(folder / "index.html", page_text(document))


def write_page_in_training(folder: Path, text: str, note: str, blocks: Sequence[PageBlock]) -> None:
    """Writes index.html from the text of a page, with what is known of members that train at its top.

    Args:
        folder: of the page.
        text: of `page_text`.
        note: how far the run is.
        blocks: tables and charts of the members that train.
    """
    values = {"note": note, "blocks": _drawable(blocks), "front": Front()}
    progress = _environment().get_template("progress.html").render(values)
    write_text(folder / "index.html", text.replace(MAIN, MAIN + progress, 1))


def page_text(document: Document) -> str:
    """Returns the page of `write_page` as text, and writes no file."""
    sections = [dataclasses.replace(section, blocks=_drawable(section.blocks)) for section in document.sections]
    front = dataclasses.replace(document.front, charts=_drawable(document.front.charts))
    # Only later lines are folded.
    lines = sorted(document.lines, key=_is_no_warning)
    arranged = dataclasses.replace(document, lines=lines, sections=sections, front=front)
    values = {field.name: getattr(arranged, field.name) for field in dataclasses.fields(Document)}
    return _environment().get_template("page.html").render(values)


def _drawable(blocks: Sequence[PageBlock]) -> list[PageBlock]:
    """Returns the blocks without charts that have no panels."""
    return [block for block in blocks if not isinstance(block, Chart) or block.panels]


@functools.cache
def _environment() -> jinja2.Environment:
    """Returns the templates, each of which is compiled once in a process."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("flipjax.page", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        finalize=_printed,
    )
    environment.globals.update(
        filters=FILTERS,
        outcomes=OUTCOMES,
        risk_colours=colour_bar(),
        repair_note=REPAIR_NOTE,
        longest=LONGEST,
        tile_uris=tile_uris,
    )
    return environment


def _printed(value: object) -> object:
    """Returns a value of the template as it is printed."""
    if isinstance(value, str):
        return visible(value)
    return value


def _is_no_warning(line: str) -> bool:
    return not line.startswith("Warning")


def write_report(folder: Path, document: Document) -> str:
    """Writes the page, summary.md and summary.tex, and returns the document as terminal text."""
    write_page(folder, document)
    write_summary(folder, document)
    write_latex(folder, document)
    return terminal_text(document)
