"""The page of an audit and its figures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flipjax.audit.figures import charts
from flipjax.audit.files import EVERYTHING, TITLE, write_tables, write_text
from flipjax.audit.pictures import palette_of
from flipjax.audit.results import Audit, findings
from flipjax.audit.tables import details, everything, main_tables, summary_text
from flipjax.report.html import Gallery, Numbers, Picture, Section, page
from flipjax.report.page import save_figures
from flipjax.report.pictures import Item, save_items
from flipjax.results.text import TextTable

TERMS = ("correct, flip, miss", "common, rare", "IoU gap", "flip-risk", "risk-coverage")
CAPTION = (
    "The images of the highest flip-risk; and the most flipped ones of the less risky half, where the model flips with "
    "confidence and flip-risk does not point at them. Flip-risk is drawn where foreground is predicted."
)
PAIRED = (
    "The images of the highest flip-risk, typical ones, the most flipped ones of the less risky half, and pairs, one "
    "object in both scenes, whose flip changes most. Flip-risk is drawn where foreground is predicted."
)
SWAP = (
    "Flips that follow the scene are confident, and flip-risk does not see them. Scene-swap risk and repair do, but "
    "they ask the model: flipjax evaluate --intervene for converted weights, flipjax.intervene for any model."
)
HINT = "Photos are shown where --images names their folder."


def write(
    folder: Path, audit: Audit, items: Sequence[Item], *, options: Mapping[str, Any], facts: Sequence[str]
) -> str:
    """Writes all files and returns the tables as text for a terminal."""
    write_tables(folder, audit, options=options, facts=facts)
    write_page(folder, audit, items, lines=findings(audit), options=options, facts=facts)
    return summary_text(audit, facts)


def write_page(
    folder: Path,
    audit: Audit,
    items: Sequence[Item],
    *,
    lines: Sequence[str],
    options: Mapping[str, Any],
    facts: Sequence[str],
    title: str = TITLE,
) -> None:
    """Writes index.html, which needs no other file, and its figures as SVG and PNG."""
    shares, deciles, coverage, matrix = map(Picture, charts(audit))
    palette = palette_of(audit, items)
    caption = PAIRED if any(item.pair for item in items) else CAPTION
    caption += "" if any(item.image is not None for item in items) else f" {HINT}"
    sections = [
        Section("Results", [*_numbers(main_tables(audit)), shares]),
        Section("Flip-risk", [deciles, coverage], "" if audit.swap else SWAP),
        Section("Classes", [matrix]),
        Section("Images", [Gallery(items, palette, caption)] if items else []),
        Section(
            "Details", [*_numbers(details(audit), folded=True), *_numbers({EVERYTHING: everything(audit)}, folded=True)]
        ),
    ]
    save_figures(folder / "figures", sections)
    path = folder / "figures" / "pictures.png"
    path.unlink(missing_ok=True)
    if items:
        save_items(path, items, palette, title="Images to look at", note=caption)
    swap = ["scene swap", "counterfactual pair"] if audit.swap else []
    terms = TERMS if audit.groups is not None and len(audit.class_names) == 3 else (TERMS[0], *TERMS[3:])
    text = page(title=title, lines=lines, facts=facts, sections=sections, terms=[*terms, *swap], config=options)
    write_text(folder / "index.html", text)


def _numbers(tables: Mapping[str, TextTable], *, folded: bool = False) -> list[Numbers]:
    return [Numbers(caption, table, folded=folded) for caption, table in tables.items()]
