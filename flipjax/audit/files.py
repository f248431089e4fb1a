"""Writes the files of an audit atomically: tables, decomposition, masks and samples for FiftyOne."""

import contextlib
import functools
import importlib.util
import json
import math
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flipjax.audit.arrays import AuditError
from flipjax.audit.pairs import Arrays, Pair
from flipjax.audit.results import Audit, image_rows, summary_rows, write_segments
from flipjax.files import make_folder, replacing, write_text
from flipjax.report.document import Document, write_summary
from flipjax.results.frames import records_of, write_csv
from flipjax.results.rows import flip_rows

PROGRAM = "flipjax.audit"
FILES = {"summary.json", "summary.md", "summary.csv", "images.csv", "flip_matrix.csv", "decomposition.npz"}
FILES |= {"segments.parquet", "segments.csv", "index.html", "figures", "fiftyone.json", "masks", "flips_by_group.csv"}
FIELDS = ("ground_truth", "prediction")
"""Masks of a sample of FiftyOne."""
SAMPLE_NUMBERS = ("flip", "miss", "flip_risk", "flip_risk_share")
DRAWN_WITH = {"jinja2": "jinja2", "matplotlib": "matplotlib", "PIL": "pillow"}
"""Package of each module that the page needs besides JAX and NumPy."""


def claim_folder(folder: Path) -> None:
    """Creates the output folder, and checks that it is writable and holds at most an earlier audit.

    Raises:
        AuditError: the folder is not writable, or holds other files.
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


def draws_pages(*, quiet: bool = False) -> bool:
    """Returns whether the packages of a page are installed; names missing ones on stderr."""
    lacking = [package for module, package in DRAWN_WITH.items() if importlib.util.find_spec(module) is None]
    if lacking and not quiet:
        print(f"no page: it needs {', '.join(lacking)}; python -m pip install {' '.join(lacking)}", file=sys.stderr)
    return not lacking


def write_audit(
    folder: Path,
    audit: Audit,
    document: Document,
    maps_of: Callable[[int], Mapping[str, Any]],
    *,
    gates: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Writes all files and, if its packages are installed, the page. `maps_of` returns the maps of an image."""
    write_tables(folder, audit, document, gates=gates)
    if not draws_pages():
        return
    # Imported here, because tables need no drawing packages.
    from flipjax.audit import page

    items, segments = page.draw_items(audit, maps_of), page.draw_segments(audit, maps_of)
    page.write_audit_page(folder, audit, document, items, segments)


def write_tables(folder: Path, audit: Audit, document: Document, *, gates: Sequence[Mapping[str, Any]] = ()) -> None:
    """Writes all files except the page.

    summary.json comes first. It marks the folder as an audit, so that an interrupted audit can be repeated in it.
    """
    stored = json.dumps(_finite(_as_json(audit, document, gates)), indent=2, ensure_ascii=False)
    write_text(folder / "summary.json", f"{stored}\n")
    write_csv(folder / "images.csv", image_rows(audit))
    write_csv(folder / "flip_matrix.csv", flip_rows(audit.confusion, audit.class_names, background=audit.background))
    write_csv(folder / "flips_by_group.csv", audit.by_group)
    write_csv(folder / "summary.csv", summary_rows(audit))
    write_segments(folder, audit.objects, audit.names)
    arrays = {"confusion": audit.decomposition.confusion, "risk_sum": audit.decomposition.risk_sum}
    arrays |= {"names": np.array(audit.names, np.str_), "class_names": np.array(audit.class_names, np.str_)}
    arrays |= {} if audit.groups is None else {"groups": audit.groups}
    if audit.groups is not None:
        arrays["group_names"] = np.array([audit.group_names[group] for group in audit.groups.tolist()], np.str_)
    arrays |= {} if audit.clusters is None else {"clusters": audit.clusters}
    with replacing(folder / "decomposition.npz") as stream:
        np.savez_compressed(stream, allow_pickle=False, **arrays)
    write_summary(folder, document)


def write_masks(pair: Pair, arrays: Arrays, *, folder: Path, classes: int, ignore_index: int | None) -> None:
    """Writes labels and prediction as PNGs of class indices for viewers; skips volumes."""
    from PIL import Image

    if arrays.labels.ndim != 2:
        return
    ignored = ignored_value(classes)
    scores = arrays.scores
    for field, values in ((FIELDS[0], arrays.labels), (FIELDS[1], scores if scores.ndim == 2 else scores.argmax(-1))):
        mask = np.where(values == ignore_index, ignored, values).astype(np.uint8 if ignored < 256 else np.uint16)
        path = mask_path(folder, field, pair.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as stream:
            Image.fromarray(mask).save(stream, "PNG")


@contextlib.contextmanager
def collect_masks(folder: Path, *, classes: int, ignore_index: int | None) -> Iterator[Callable[[Pair, Arrays], None]]:
    """Yields `write_masks`. Its masks replace those of an earlier audit, with their samples, at the end only."""
    with tempfile.TemporaryDirectory(prefix=".masks-", suffix=".tmp", dir=folder) as partial:
        yield functools.partial(write_masks, folder=Path(partial), classes=classes, ignore_index=ignore_index)
        shutil.rmtree(folder / "masks", ignore_errors=True)
        (folder / "fiftyone.json").unlink(missing_ok=True)
        if (made := Path(partial) / "masks").is_dir():
            made.rename(folder / "masks")


def ignored_value(classes: int) -> int:
    """Returns the value of ignored pixels in written masks."""
    return 255 if classes < 256 else 65535


def mask_path(folder: Path, field: str, name: str) -> Path:
    """Returns the path of a written mask."""
    return folder / "masks" / field / f"{name}.png"


def write_samples(folder: Path, audit: Audit, photos: Mapping[str, Path], shapes: Sequence[tuple[int, ...]]) -> None:
    """Writes fiftyone.json: {"samples": [...], "mask_targets": {...}}; needs no FiftyOne.

    Samples have the format of `fiftyone.Sample.from_dict`. Boxes are fractions of the image's width and height.

    Args:
        folder: the audit's folder, with files of `write_masks`.
        audit: an audit of n images.
        photos: the photo of each image, by name.
        shapes: the shape of each image.
    """
    rows = {row["name"]: row for row in image_rows(audit)}
    samples = []
    for index, (name, shape) in enumerate(zip(audit.names, shapes, strict=True)):
        sample: dict[str, Any] = {"filepath": str(photos[name].resolve()), "tags": []}
        for field in FIELDS:
            path = mask_path(folder, field, name)
            if path.is_file():
                sample[field] = {"_cls": "Segmentation", "mask_path": str(path.resolve())}
        numbers = {key: rows[name].get(key, "") for key in SAMPLE_NUMBERS}
        sample |= {key: value for key, value in numbers.items() if value != ""}
        sample["flips"] = {"_cls": "Detections", "detections": _flips(audit, index, shape)}
        samples.append(sample)
    targets = {str(c): name for c, name in enumerate(audit.class_names)}
    targets[str(ignored_value(len(audit.class_names)))] = "ignored"
    stored = {"samples": samples, "mask_targets": dict.fromkeys(FIELDS, targets), "classes": list(audit.class_names)}
    write_text(folder / "fiftyone.json", json.dumps(stored, ensure_ascii=False) + "\n")


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


def _as_json(audit: Audit, document: Document, gates: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "program": PROGRAM,
        "options": dict(document.config),
        **({"gates": list(gates)} if gates else {}),
        "findings": list(document.lines),
        "class_names": list(audit.class_names),
        "summary": dict(audit.summary),
        "flips_by_group": records_of(audit.by_group),
        "intervals": {key: np.stack(ends, axis=-1).tolist() for key, ends in audit.intervals.items()},
        "flip_matrix": audit.confusion.tolist(),
        **audit.objects.as_json(),
    }


def _finite(value: Any) -> Any:
    """Replaces non-finite numbers by None, because JSON has no NaN."""
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
