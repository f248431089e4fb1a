"""The content of a report (sentences, tables, pictures), and its output as Markdown, LaTeX and terminal text."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Protocol

from flipjax.page.tables import WIDTH, TextTable, literal, to_markdown, to_text
from flipjax.support.files import write_text

HEIGHT = 48
"""Largest number of lines, of `WIDTH` characters, that a document takes on a terminal."""
FINDINGS_HEIGHT = 12
"""Largest number of lines of findings among them."""
MISSING_HEIGHT = 6
"""Largest number of lines among them on what could not be read."""
ESCAPES = str.maketrans(
    {
        "&": r"\&",
        "%": r"\%",
        "$": r"\$",
        "#": r"\#",
        "_": r"\_",
        "{": r"\{",
        "}": r"\}",
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "±": r"$\pm$",
        "·": r"$\cdot$",
    }
)
"""What LaTeX writes for characters that it reads as commands or lacks."""


class PageBlock(Protocol):
    """What a section shows: a table, a chart or a gallery."""

    template: ClassVar[str]
    """The template that shows it."""


@dataclasses.dataclass(frozen=True)
class Numbers:
    """A table with its caption."""

    template: ClassVar[str] = "numbers"
    caption: str
    """What its numbers are."""
    table: TextTable
    """Its cells."""
    folded: bool = False
    """Whether it opens on a click; such tables are not printed on a terminal."""
    searched: bool = False
    """Whether a field filters rows by text; such tables are on the page alone."""
    words: bool = False
    """Whether the columns are text."""
    links: Mapping[tuple[int, int], str] = dataclasses.field(default_factory=dict)
    """Anchors on the page by cell (row, column)."""


@dataclasses.dataclass(frozen=True)
class Section:
    """A section of the page."""

    title: str
    """Its heading."""
    blocks: Sequence[PageBlock]
    """Tables, charts and galleries."""
    folded: bool = False
    """Whether it opens on a click."""


@dataclasses.dataclass(frozen=True)
class Front:
    """What stands beside the findings."""

    charts: Sequence[PageBlock] = ()
    """Charts, below each other."""
    gallery: PageBlock | None = None
    """A gallery of few images, or None."""


@dataclasses.dataclass(frozen=True)
class Document:
    """A report."""

    title: str
    """Its heading."""
    facts: Sequence[str]
    """What describes the input."""
    lines: Sequence[str]
    """The findings; those that begin with "Warning" come first."""
    sections: Sequence[Section]
    """Its sections; those without blocks are left out."""
    missing: Sequence[str] = ()
    """What could not be read."""
    terms: Sequence[str] = ()
    """The definitions of templates/terms.html that the page has."""
    definitions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Further definitions, by term, before those."""
    glossary: Mapping[str, object] = dataclasses.field(default_factory=dict)
    """What the definitions of terms name, such as the margin of a rule."""
    config: Mapping[str, object] | None = None
    """Shown as JSON."""
    front: Front = Front()
    """Charts and a gallery beside the findings."""
    findings_shown: int = 4
    """Findings that are shown; the page folds the others."""
    findings_height: int = FINDINGS_HEIGHT
    """Largest number of lines of findings on a terminal."""

    @property
    def tables(self) -> list[Numbers]:
        """All result tables, in order."""
        blocks = [block for section in self.sections for block in section.blocks if isinstance(block, Numbers)]
        return [block for block in blocks if not (block.searched or block.words)]


def terminal_text(document: Document) -> str:
    """Returns facts, findings and as much of the tables as fits on HEIGHT lines."""
    first, *facts = document.facts
    lines = [f"{document.title}: {first}", *facts, ""]
    lines += _cut(document.lines, document.findings_height)
    lines += _cut(document.missing, MISSING_HEIGHT)
    left_out = 0
    for block in document.tables:
        if block.folded:
            left_out += 1
            continue
        # A table that is wider than the terminal is in parts below each other, between which are blank lines.
        parts = to_text(block.table).split("\n\n")
        fitting = _fitting(parts, HEIGHT - _height([*lines, "", block.caption]))
        if fitting:
            lines += ["", block.caption, *"\n\n".join(fitting).splitlines()]
        if len(fitting) < len(parts):
            left_out += 1
    if left_out:
        lines.append(f"\nTables that are whole on the page and in summary.md alone: {left_out}")
    return "\n".join(lines).rstrip()


def _fitting(parts: Sequence[str], room: int) -> list[str]:
    """Returns the first parts of a table that fit on `room` lines, with a blank line between them."""
    fitting: list[str] = []
    height = 0
    for part in parts:
        if fitting:
            # The blank line before it.
            height += 1
        height += _height(part.splitlines())
        if height > room:
            break
        fitting.append(part)
    return fitting


def _height(lines: Sequence[str]) -> int:
    """Returns the number of terminal lines that lines take, wrapped at WIDTH."""
    return sum(max(1, math.ceil(len(line) / WIDTH)) for line in lines)


def _cut(lines: Sequence[str], height: int) -> list[str]:
    """Returns the first lines, at least one, and the number of the others."""
    count = min(1, len(lines))
    while count < len(lines) and _height(lines[: count + 1]) <= height:
        count += 1
    shown = list(lines[:count])
    if count < len(lines):
        shown.append(f"{len(lines) - count} more in summary.md")
    return shown


def write_summary(folder: Path, document: Document) -> None:
    """Writes summary.md, with all tables of results."""
    facts = "  \n".join(map(literal, document.facts))
    bullets = "\n".join(f"- {literal(line)}" for line in (*document.lines, *document.missing))
    sections = [f"## {literal(block.caption)}\n\n{to_markdown(block.table)}" for block in document.tables]
    parts = [f"# {literal(document.title)}", facts, bullets, *sections]
    write_text(folder / "summary.md", "\n\n".join(filter(None, parts)) + "\n")


def write_latex(folder: Path, document: Document) -> None:
    """Writes summary.tex, with all tables of results."""
    facts = " ".join(document.facts)
    floats = [to_latex(block.table, caption=f"{block.caption}. {facts}") for block in document.tables]
    write_text(folder / "summary.tex", "% \\usepackage{booktabs}\n" + "\n\n".join(floats) + "\n")


def to_latex(table: TextTable, *, caption: str) -> str:
    r"""Returns a table as a LaTeX `table` with booktabs rules.

    Example:
        >>> print(to_latex(TextTable(["rho", "flip"], [["0.5", "0.1 ± 0.0"]]), caption="5% of a_b"))
        \begin{table}
        \centering
        \caption{5\% of a\_b}
        \begin{tabular}{lr}
        \toprule
        rho & flip \\
        \midrule
        0.5 & 0.1 $\pm$ 0.0 \\
        \bottomrule
        \end{tabular}
        \end{table}
    """
    lines = [" & ".join(map(escape, cells)) + r" \\" for cells in (table.header, *table.rows)]
    body = [r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule"]
    tabular = [rf"\begin{{tabular}}{{l{'r' * (len(table.header) - 1)}}}", *body, r"\end{tabular}"]
    return "\n".join([r"\begin{table}", r"\centering", rf"\caption{{{escape(caption)}}}", *tabular, r"\end{table}"])


def escape(text: str) -> str:
    r"""Escapes text for LaTeX.

    Example:
        >>> print(escape(r"a_b\c & 50% $z$ #1"))
        a\_b\textbackslash{}c \& 50\% \$z\$ \#1
    """
    return visible(text).translate(ESCAPES)


def visible(text: str) -> str:
    r"""Escapes control characters and writing-direction marks, so that they are visible.

    Example:
        >>> visible("a\u202eb\x07")
        'a\\u202eb\\u0007'
    """
    escapes = {}
    for character in dict.fromkeys(text):
        if not character.isprintable() and not character.isspace():
            escapes[ord(character)] = f"\\u{ord(character):04x}"
    return text.translate(escapes)
