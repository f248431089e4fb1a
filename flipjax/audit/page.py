"""The files of an audit: tables, the decomposition, figures and a plain page, each written whole or not at all."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flipjax.audit.arrays import AuditError
from flipjax.audit.figures import charts
from flipjax.audit.pictures import palette_of
from flipjax.audit.results import Audit, findings, image_rows, summary_rows
from flipjax.audit.tables import details, everything, main_tables, summary_text
from flipjax.files import make_folder
from flipjax.report.html import Gallery, Numbers, Picture, Section, page
from flipjax.report.page import save_figures
from flipjax.report.pictures import Item, save_items
from flipjax.results import Table, flip_rows, replacing, to_markdown, write_csv
from flipjax.results.text import literal

PROGRAM = "flipjax.audit"
TITLE = "Audit of flips"
EVERYTHING = "All numbers of flipjax.metrics.summarize"
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
FILES = (
    "summary.json",
    "summary.md",
    "summary.csv",
    "images.csv",
    "flip_matrix.csv",
    "decomposition.npz",
    "index.html",
    "figures",
)


def claim(folder: Path) -> None:
    """Makes the folder, and sees that it can be written and holds nothing but an earlier audit.

    Raises:
        AuditError: it cannot be written, or holds other files.
    """
    try:
        make_folder(folder)
        names = {path.name for path in folder.iterdir() if not (path.name[0] == "." and path.suffix == ".tmp")}
    except OSError as error:
        raise AuditError(f"--out: expected a folder that can be written, found {folder} ({error})") from error
    if names - set(FILES) or (names and not _is_audit(folder / "summary.json")):
        raise AuditError(f"--out: expected a new or empty folder, or an earlier audit; found other files in {folder}")


def _is_audit(path: Path) -> bool:
    try:
        stored = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(stored, dict) and stored.get("program") == PROGRAM


def write(
    folder: Path, audit: Audit, items: Sequence[Item], *, options: Mapping[str, Any], facts: Sequence[str]
) -> str:
    """Writes all files and returns the tables as text for a terminal.

    summary.json comes first: it says that the folder is an audit's, so that one that was interrupted can be made again.
    """
    lines = findings(audit)
    _write(folder / "summary.json", json.dumps(_as_json(audit, lines, options), indent=2, ensure_ascii=False) + "\n")
    write_csv(folder / "images.csv", image_rows(audit))
    flips = flip_rows(audit.confusion, audit.class_names, background=audit.background)
    write_csv(folder / "flip_matrix.csv", flips)
    write_csv(folder / "summary.csv", summary_rows(audit))
    arrays = {"confusion": audit.decomposition.confusion, "risk_sum": audit.decomposition.risk_sum}
    arrays |= {"names": np.array(audit.names, np.str_), "class_names": np.array(audit.class_names, np.str_)}
    arrays |= {} if audit.groups is None else {"groups": audit.groups}
    with replacing(folder / "decomposition.npz") as stream:
        np.savez_compressed(stream, allow_pickle=False, **arrays)
    tables = main_tables(audit) | details(audit)
    sections = [
        f"## {name}\n\n{to_markdown(table)}" for name, table in (tables | {EVERYTHING: everything(audit)}).items()
    ]
    bullets = "\n".join(f"- {literal(line)}" for line in lines)
    head = "  \n".join(literal(fact) for fact in facts)
    _write(folder / "summary.md", "\n\n".join([f"# {TITLE}", head, bullets, *sections]) + "\n")
    write_page(folder, audit, items, lines=lines, options=options, facts=facts)
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
    _write(folder / "index.html", text)


def _numbers(tables: Mapping[str, Table], *, folded: bool = False) -> list[Numbers]:
    return [Numbers(caption, table, folded=folded) for caption, table in tables.items()]


def _as_json(audit: Audit, lines: Sequence[str], options: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "program": PROGRAM,
        "options": dict(options),
        "findings": list(lines),
        "class_names": list(audit.class_names),
        "summary": {key: _finite(value) for key, value in audit.summary.items()},
        "intervals": {key: _finite(np.stack(ends, axis=-1).tolist()) for key, ends in audit.intervals.items()},
        "flip_matrix": audit.confusion.tolist(),
    }


def _finite(value: Any) -> Any:
    """JSON has no NaN: null stands for it."""
    if isinstance(value, list):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _write(path: Path, text: str) -> None:
    with replacing(path) as stream:
        stream.write(text.encode())
