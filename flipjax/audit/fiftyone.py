"""Writes an audit's masks as PNGs and its samples for FiftyOne, which is not needed."""

import contextlib
import functools
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from flipjax.audit.records import ImageRecord
from flipjax.audit.results import Audit
from flipjax.results.frames import records_of
from flipjax.support.files import replacing, write_text

FIELDS = ("ground_truth", "prediction")
"""Masks of a sample."""
SAMPLE_NUMBERS = ("flip", "miss", "flip_risk", "flip_risk_share")
"""Columns of images.csv that a sample has."""
SMALL = 255
"""Value of ignored pixels in masks of 8 bits."""
LARGE = 65535
"""Value of ignored pixels in masks of 16 bits."""


def ignored_value(classes: int | None) -> int:
    """Returns the value of ignored pixels in written masks; None stands for any number of classes."""
    if classes is None or classes > SMALL:
        return LARGE
    return SMALL


def write_masks(
    record: ImageRecord, prediction: np.ndarray, *, folder: Path, ignored: int, ignore_index: int | None
) -> None:
    """Writes labels and prediction as PNGs of class indices for viewers; skips volumes.

    Args:
        record: the image.
        prediction: its predicted classes.
        folder: the audit's folder.
        ignored: of `ignored_value`.
        ignore_index: label of ignored pixels.
    """
    from PIL import Image

    if record.labels.ndim != 2:
        return
    for field, values in zip(FIELDS, (record.labels, prediction), strict=True):
        if ignore_index is not None:
            values = np.where(values == ignore_index, ignored, values)
        dtype = np.uint8 if values.max() <= SMALL else np.uint16
        mask = values.astype(dtype)
        with replacing(mask_path(folder, field, record.name)) as stream:
            Image.fromarray(mask).save(stream, "PNG")


@contextlib.contextmanager
def collect_masks(
    folder: Path, *, ignored: int, ignore_index: int | None
) -> Iterator[Callable[[ImageRecord, np.ndarray], None]]:
    """Yields `write_masks`. Its masks replace those of an earlier audit, with their samples, at the end only."""
    with tempfile.TemporaryDirectory(prefix=".masks-", suffix=".tmp", dir=folder) as partial:
        yield functools.partial(write_masks, folder=Path(partial), ignored=ignored, ignore_index=ignore_index)
        _remove(folder / "masks")
        (folder / "fiftyone.json").unlink(missing_ok=True)
        written = Path(partial) / "masks"
        if written.is_dir():
            written.rename(folder / "masks")


def _remove(path: Path) -> None:
    """Removes a folder, or a link to one but not what it leads to."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)


def mask_path(folder: Path, field: str, name: str) -> Path:
    """Returns the path of a written mask."""
    return folder / "masks" / field / f"{name}.png"


def write_samples(
    folder: Path,
    audit: Audit,
    photos: Mapping[str, Path],
    *,
    shapes: Sequence[tuple[int, ...]],
    ignored: int,
) -> None:
    """Writes fiftyone.json: {"samples": [...], "mask_targets": {...}}.

    Samples have the format of `fiftyone.Sample.from_dict`. Boxes are fractions of the image's width and height.

    Args:
        folder: the audit's folder, with files of `write_masks`.
        audit: an audit of n images.
        photos: the photo of each image, by name.
        shapes: the shape of each image.
        ignored: of `ignored_value`.
    """
    samples = []
    for index, (row, shape) in enumerate(zip(records_of(audit.images.sort_index()), shapes, strict=True)):
        sample: dict[str, object] = {"filepath": str(photos[row["name"]].resolve()), "tags": []}
        for field in FIELDS:
            path = mask_path(folder, field, row["name"]).resolve()
            if path.is_file():
                sample[field] = {"_cls": "Segmentation", "mask_path": str(path)}
        for name in SAMPLE_NUMBERS:
            if name in row and not np.isnan(row[name]):
                sample[name] = row[name]
        sample["flips"] = {"_cls": "Detections", "detections": _flips(audit, index, shape)}
        samples.append(sample)
    targets = {str(c): name for c, name in enumerate(audit.class_names)}
    targets[str(ignored)] = "ignored"
    stored = {"samples": samples, "mask_targets": dict.fromkeys(FIELDS, targets), "classes": list(audit.class_names)}
    write_text(folder / "fiftyone.json", json.dumps(stored, ensure_ascii=False) + "\n")


def _flips(audit: Audit, index: int, shape: tuple[int, ...]) -> list[dict[str, object]]:
    """Returns the flipped segments of an image as detections; none of a volume."""
    if len(shape) != 2:
        return []
    height, width = shape
    detections = []
    for row in records_of(audit.objects.flipped[audit.objects.flipped["image"] == index]):
        left = row["left"] / width
        top = row["top"] / height
        box = [left, top, row["right"] / width - left, row["bottom"] / height - top]
        label = f"{audit.class_names[row['class']]} as {audit.class_names[row['predicted']]}"
        detections.append({"_cls": "Detection", "label": label, "bounding_box": box, "tags": [], "attributes": {}})
    return detections
