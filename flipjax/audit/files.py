"""The tables of an audit and its decomposition, each written whole or not at all."""

import importlib.util
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flipjax.audit.arrays import AuditError
from flipjax.audit.results import Audit, findings, image_rows, summary_rows
from flipjax.audit.segments import write_segments
from flipjax.audit.tables import details, folded_tables, main_tables
from flipjax.files import make_folder, replacing, write_text
from flipjax.results.frames import write_csv
from flipjax.results.image_columns import flip_rows
from flipjax.results.text import literal, to_markdown

PROGRAM = "flipjax.audit"
TITLE = "Audit of flips"
FILES = {"summary.json", "summary.md", "summary.csv", "images.csv", "flip_matrix.csv", "decomposition.npz"}
FILES |= {"segments.parquet", "segments.csv", "index.html", "figures", "fiftyone.json"}
DRAWN_WITH = {"jinja2": "jinja2", "matplotlib": "matplotlib", "PIL": "pillow"}
"""What a page needs beside JAX and NumPy: modules, and the packages that bring them."""


def claim_folder(folder: Path) -> None:
    """Makes the folder, and sees that it can be written and holds nothing but an earlier audit.

    Raises:
        AuditError: it cannot be written, or holds other files.
    """
    try:
        make_folder(folder)
        names = {path.name for path in folder.iterdir() if not (path.name[0] == "." and path.suffix == ".tmp")}
    except OSError as error:
        raise AuditError(f"--out: expected a folder that can be written, found {folder} ({error})") from error
    if names - FILES or (names and not _is_audit(folder / "summary.json")):
        raise AuditError(f"--out: expected a new or empty folder, or an earlier audit; found other files in {folder}")


def _is_audit(path: Path) -> bool:
    try:
        stored = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(stored, dict) and stored.get("program") == PROGRAM


def lacking_packages() -> list[str]:
    """Returns the packages that a page needs and that are not installed."""
    return [package for module, package in DRAWN_WITH.items() if importlib.util.find_spec(module) is None]


def write_audit(
    folder: Path,
    audit: Audit,
    maps_of: Callable[[int], Mapping[str, Any]],
    *,
    options: Mapping[str, Any],
    facts: Sequence[str],
) -> None:
    """Writes all files and, where what draws it is installed, the page; `maps_of` gives the maps of an image."""
    write_tables(folder, audit, options=options, facts=facts)
    lacking = lacking_packages()
    if lacking:
        print(f"no page: it needs {', '.join(lacking)}; python -m pip install flipjax brings them", file=sys.stderr)
        return
    # Here: the tables need none of what draws.
    from flipjax.audit import page, pictures

    items, segments = pictures.draw_items(audit, maps_of), pictures.draw_segments(audit, maps_of)
    page.write_page(folder, audit, items, segments, options=options, facts=facts)


def write_tables(folder: Path, audit: Audit, *, options: Mapping[str, Any], facts: Sequence[str]) -> None:
    """Writes all files but the page.

    summary.json comes first: it says that the folder is an audit's, so that one that was interrupted can be made again.
    """
    stored = json.dumps(_as_json(audit, options), indent=2, ensure_ascii=False)
    write_text(folder / "summary.json", f"{stored}\n")
    write_csv(folder / "images.csv", image_rows(audit))
    write_csv(folder / "flip_matrix.csv", flip_rows(audit.confusion, audit.class_names, background=audit.background))
    write_csv(folder / "summary.csv", summary_rows(audit))
    if audit.objects is not None:
        write_segments(folder, audit.objects, audit.names)
    arrays = {"confusion": audit.decomposition.confusion, "risk_sum": audit.decomposition.risk_sum}
    arrays |= {"names": np.array(audit.names, np.str_), "class_names": np.array(audit.class_names, np.str_)}
    arrays |= {} if audit.groups is None else {"groups": audit.groups}
    with replacing(folder / "decomposition.npz") as stream:
        np.savez_compressed(stream, allow_pickle=False, **arrays)
    tables = main_tables(audit) | details(audit) | folded_tables(audit)
    sections = [f"## {name}\n\n{to_markdown(table)}" for name, table in tables.items()]
    bullets = "\n".join(f"- {literal(line)}" for line in findings(audit))
    head = "  \n".join(literal(fact) for fact in facts)
    write_text(folder / "summary.md", "\n\n".join([f"# {TITLE}", head, bullets, *sections]) + "\n")


def _as_json(audit: Audit, options: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "program": PROGRAM,
        "options": dict(options),
        "findings": findings(audit),
        "class_names": list(audit.class_names),
        "summary": {key: _finite(value) for key, value in audit.summary.items()},
        "intervals": {key: _finite(np.stack(ends, axis=-1).tolist()) for key, ends in audit.intervals.items()},
        "flip_matrix": audit.confusion.tolist(),
        **({} if audit.objects is None else audit.objects.as_json()),
    }


def _finite(value: Any) -> Any:
    """Replaces numbers that are not finite by None: JSON has no NaN."""
    if isinstance(value, list):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
