"""The tables of an audit, its decomposition and samples of FiftyOne, each written whole or not at all."""

import importlib.util
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flipjax.audit.arrays import AuditError
from flipjax.audit.read import Pair
from flipjax.audit.results import Audit, findings, image_rows, summary_rows, write_segments
from flipjax.audit.tables import details, folded_tables, main_tables
from flipjax.files import make_folder, replacing, write_text
from flipjax.results.frames import write_csv
from flipjax.results.image_columns import flip_rows
from flipjax.results.text import literal, to_markdown

PROGRAM = "flipjax.audit"
TITLE = "Audit of flips"
FILES = {"summary.json", "summary.md", "summary.csv", "images.csv", "flip_matrix.csv", "decomposition.npz"}
FILES |= {"segments.parquet", "segments.csv", "index.html", "figures", "fiftyone.json"}
SAMPLE_NUMBERS = ("flip", "miss", "flip_risk", "flip_risk_share")
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


def write_samples(folder: Path, audit: Audit, pairs: Sequence[Pair], photos: Mapping[str, Path]) -> None:
    """Writes fiftyone.json: {"samples": [...]}, each as `fiftyone.Sample.from_dict` takes it; needs no FiftyOne.

    Masks that are PNGs of class indices are named by their paths. Boxes are shares of the image's width and height.

    Args:
        folder: of the audit.
        audit: of n images.
        pairs: the n images.
        photos: of each by its name.
    """
    rows = {row["name"]: row for row in image_rows(audit)}
    samples = []
    for index, (name, pair) in enumerate(zip(audit.names, pairs, strict=True)):
        masks = {"ground_truth": pair.labels, "prediction": pair.prediction}
        sample: dict[str, Any] = {"filepath": str(photos[name].resolve()), "tags": []}
        for field, array in masks.items():
            if array.path.suffix.lower() == ".png":
                sample[field] = {"_cls": "Segmentation", "mask_path": str(array.path.resolve())}
        numbers = {key: rows[name].get(key, "") for key in SAMPLE_NUMBERS}
        sample |= {key: value for key, value in numbers.items() if value != ""}
        sample["flips"] = {"_cls": "Detections", "detections": _flips(audit, index, pair.labels.shape)}
        samples.append(sample)
    write_text(folder / "fiftyone.json", json.dumps({"samples": samples}, ensure_ascii=False) + "\n")


def _flips(audit: Audit, index: int, shape: tuple[int, ...]) -> list[dict[str, Any]]:
    if len(shape) != 2:
        return []
    true = audit.objects.tables.true
    found = true[(true["image"] == index) & (true["outcome"] == "flip")]
    height, width = shape
    detections = []
    for row in found.to_dict("records"):
        top, left = row["top"] / height, row["left"] / width
        box = [left, top, row["right"] / width - left, row["bottom"] / height - top]
        label = f"{audit.class_names[row['class']]} as {audit.class_names[row['predicted']]}"
        detections.append({"_cls": "Detection", "label": label, "bounding_box": box, "tags": [], "attributes": {}})
    return detections


def _as_json(audit: Audit, options: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "program": PROGRAM,
        "options": dict(options),
        "findings": findings(audit),
        "class_names": list(audit.class_names),
        "summary": {key: _finite(value) for key, value in audit.summary.items()},
        "intervals": {key: _finite(np.stack(ends, axis=-1).tolist()) for key, ends in audit.intervals.items()},
        "flip_matrix": audit.confusion.tolist(),
        **audit.objects.as_json(),
    }


def _finite(value: Any) -> Any:
    """Replaces numbers that are not finite by None: JSON has no NaN."""
    if isinstance(value, list):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
