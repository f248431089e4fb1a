"""The files of an audit: tables, the decomposition, figures and a plain page, each written whole or not at all."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flipjax.audit.arrays import AuditError
from flipjax.audit.figures import deciles_figure, flip_matrix_figure, pictures_figure, shares_figure
from flipjax.audit.pictures import Picture
from flipjax.audit.results import Audit, findings, image_rows, summary_rows
from flipjax.audit.tables import details, everything, main_tables, summary_text
from flipjax.files import make_folder
from flipjax.report.html import Shown, page
from flipjax.report.style import save
from flipjax.results import flip_rows, replacing, to_markdown, write_csv
from flipjax.results.text import literal

PROGRAM = "flipjax.audit"
TERMS = ("correct, flip, miss", "common, rare", "IoU gap", "flip-risk")
CAPTIONS = {
    "shares": "Shares of the true foreground, pooled over the images; they sum to 1.",
    "deciles": "Images sorted by flip-risk, in tenths. A line that rises to the right: flip-risk points at the flips.",
    "flip_matrix": "Of each true class, the share of its pixels that is predicted as each class.",
    "pictures": (
        "The images of the highest flip-risk; and the most flipped ones of the less risky half, where the model flips "
        "with confidence and flip-risk does not point at them."
    ),
}
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
        found = {path.name for path in folder.iterdir() if not (path.name[0] == "." and path.suffix == ".tmp")}
    except OSError as error:
        raise AuditError(f"--out: expected a folder that can be written, found {folder} ({error})") from error
    if found - set(FILES) or (found and not _is_audit(folder / "summary.json")):
        raise AuditError(f"--out: expected a new or empty folder, or an earlier audit; found other files in {folder}")


def _is_audit(path: Path) -> bool:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and found.get("program") == PROGRAM


def write(
    folder: Path, audit: Audit, pictures: Sequence[Picture], *, options: Mapping[str, Any], facts: Sequence[str]
) -> str:
    """Writes all files and returns the tables as text for a terminal.

    summary.json comes first: it says that the folder is an audit's, so that one that was interrupted can be made again.
    """
    lines, first, more, title = findings(audit), main_tables(audit), details(audit), "Audit of flips"
    _write(folder / "summary.json", json.dumps(_as_json(audit, lines, options), indent=2, ensure_ascii=False) + "\n")
    shown = _figures(folder, audit, pictures)
    write_csv(folder / "images.csv", image_rows(audit))
    flips = flip_rows(audit.confusion, audit.class_names, background=audit.background)
    write_csv(folder / "flip_matrix.csv", flips)
    write_csv(folder / "summary.csv", summary_rows(audit))
    arrays = {"confusion": audit.decomposition.confusion, "risk_sum": audit.decomposition.risk_sum}
    arrays |= {"names": np.array(audit.names, np.str_), "class_names": np.array(audit.class_names, np.str_)}
    arrays |= {} if audit.groups is None else {"groups": audit.groups}
    with replacing(folder / "decomposition.npz") as stream:
        np.savez_compressed(stream, allow_pickle=False, **arrays)
    written = first | more | {"All numbers of flipjax.metrics.summarize": everything(audit)}
    sections = [f"## {name}\n\n{to_markdown(table)}" for name, table in written.items()]
    bullets = "\n".join(f"- {literal(line)}" for line in lines)
    _write(
        folder / "summary.md", "\n\n".join([f"# {title}", "  \n".join(map(literal, facts)), bullets, *sections]) + "\n"
    )
    terms = TERMS if audit.groups is not None and len(audit.class_names) == 3 else (TERMS[0], TERMS[3])
    parts = {"lines": lines, "facts": facts, "tables": first, "shown": shown, "details": more, "terms": terms}
    _write(folder / "index.html", page(title=title, config=options, **parts))
    return summary_text(audit, facts)


def _figures(folder: Path, audit: Audit, pictures: Sequence[Picture]) -> list[Shown]:
    charts = {
        "shares": ("What becomes of the true foreground", shares_figure),
        "deciles": ("Flips and flip-risk by flip-risk decile", deciles_figure),
        "flip_matrix": ("Which class is taken for which", flip_matrix_figure),
    }
    shown = []
    for name, (title, draw) in charts.items():
        figure = draw(audit, title=title)
        for suffix in ("png", "svg"):
            save(folder / "figures" / f"{name}.{suffix}", figure)
        shown.append(Shown(f"figures/{name}.svg", title, CAPTIONS[name]))
    path = folder / "figures" / "pictures.png"
    if not pictures:
        path.unlink(missing_ok=True)
        return shown
    title = "Images to look at"
    save(path, pictures_figure(audit, pictures, title=title))
    return [*shown, Shown("figures/pictures.png", title, CAPTIONS["pictures"])]


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
