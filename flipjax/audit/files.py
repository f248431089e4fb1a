"""Writes the files of an audit atomically: tables, decomposition, masks and samples for FiftyOne."""

import contextlib
import functools
import importlib.util
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flipjax.audit.arrays import AuditError, check_folder
from flipjax.audit.pairs import Arrays, Pair
from flipjax.audit.results import Audit, summary_rows, write_segments
from flipjax.report.document import Document, write_summary
from flipjax.results.frames import DIGITS, records_of, write_csv
from flipjax.results.rows import flip_rows
from flipjax.support.files import make_folder, replacing, write_text

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
    stored = folder / "summary.json"
    try:
        make_folder(folder)
        ours = stored.is_file() and f'"program": "{PROGRAM}"' in stored.read_text(errors="replace")
    except OSError as error:
        raise AuditError(f"--out: expected a folder that can be written, found {folder} ({error})") from error
    check_folder(folder, FILES if ours else ())


@contextlib.contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Claims the output folder; a new one that is still empty after an error is removed."""
    new = not folder.exists()
    claim_folder(folder)
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            if new:
                folder.rmdir()
        raise


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
    if draws_pages():
        from flipjax.audit import page  # Imported here, because tables need no drawing packages.

        items, segments = page.draw_items(audit, maps_of), page.draw_segments(audit, maps_of)
        page.write_audit_page(folder, audit, document, items, segments)


def write_tables(folder: Path, audit: Audit, document: Document, *, gates: Sequence[Mapping[str, Any]] = ()) -> None:
    """Writes all files except the page.

    summary.json comes first. It marks the folder as an audit, so that an interrupted audit can be repeated in it.
    """
    stored = {"program": PROGRAM, "options": dict(document.config), **({"gates": gates} if gates else {})}
    stored |= {"findings": document.lines, "class_names": audit.class_names, "summary": audit.summary}
    stored["flips_by_group"] = records_of(audit.by_group)
    stored["intervals"] = {key: np.stack(ends, axis=-1).tolist() for key, ends in audit.intervals.items()}
    tables = {"segments": audit.objects.flips, "budget": audit.objects.budget}
    stored |= {"flip_matrix": audit.confusion.tolist(), "segment_matrix": audit.objects.confusion.tolist()}
    stored |= {name: table.round(DIGITS).to_dict("index") for name, table in tables.items()}
    # JSON has no NaN.
    stored = json.loads(json.dumps(stored), parse_constant=lambda _: None)
    write_text(folder / "summary.json", json.dumps(stored, indent=2, ensure_ascii=False) + "\n")
    write_csv(folder / "images.csv", audit.images)
    write_csv(folder / "flip_matrix.csv", flip_rows(audit.confusion, audit.class_names, background=audit.background))
    write_csv(folder / "flips_by_group.csv", audit.by_group)
    write_csv(folder / "summary.csv", summary_rows(audit))
    images = audit.images.sort_index()
    write_segments(folder, audit.objects, images["name"].tolist())
    arrays = {"confusion": audit.decomposition.confusion, "risk_sum": audit.decomposition.risk_sum}
    arrays |= {"names": np.array([*images["name"]], np.str_), "class_names": np.array(audit.class_names, np.str_)}
    if audit.groups is not None:
        arrays |= {"groups": audit.groups, "group_names": np.array([*images["group"]], np.str_)}
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
    predicted = arrays.scores if arrays.scores.ndim == 2 else arrays.scores.argmax(-1)
    for field, values in zip(FIELDS, (arrays.labels, predicted), strict=True):
        mask = np.where(values == ignore_index, ignored, values).astype(np.uint8 if ignored < 256 else np.uint16)
        path = mask_path(folder, field, pair.name)
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
    samples = []
    for (index, row), shape in zip(audit.images.sort_index().iterrows(), shapes, strict=True):
        paths = {field: mask_path(folder, field, row["name"]).resolve() for field in FIELDS}
        masks = {f: {"_cls": "Segmentation", "mask_path": str(path)} for f, path in paths.items() if path.is_file()}
        flips = {"_cls": "Detections", "detections": _flips(audit, index, shape)}
        sample = {"filepath": str(photos[row["name"]].resolve()), "tags": [], **masks}
        samples.append(sample | row.reindex(SAMPLE_NUMBERS).dropna().to_dict() | {"flips": flips})
    targets = {str(c): name for c, name in enumerate(audit.class_names)}
    targets[str(ignored_value(len(audit.class_names)))] = "ignored"
    stored = {"samples": samples, "mask_targets": dict.fromkeys(FIELDS, targets), "classes": list(audit.class_names)}
    write_text(folder / "fiftyone.json", json.dumps(stored, ensure_ascii=False) + "\n")


def _flips(audit: Audit, index: Any, shape: tuple[int, ...]) -> list[dict[str, Any]]:
    if len(shape) != 2:
        return []
    height, width = shape
    detections = []
    for row in records_of(audit.objects.flipped[audit.objects.flipped["image"] == index]):
        top, left = row["top"] / height, row["left"] / width
        box = [left, top, row["right"] / width - left, row["bottom"] / height - top]
        label = f"{audit.class_names[row['class']]} as {audit.class_names[row['predicted']]}"
        detections.append({"_cls": "Detection", "label": label, "bounding_box": box, "tags": [], "attributes": {}})
    return detections
