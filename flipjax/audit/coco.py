"""Reads COCO files: panoptic segments (JSON and PNGs), instances and results (outlines or run lengths)."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from flipjax.audit.arrays import AuditError, StoredArray, listed, mask_header, naming

VOID = -1
"""Label of crowds and of pixels without a panoptic segment. Ignored in labels; a class of its own in predictions."""
VOID_NAME = "void"
LARGEST_ID = (1 << 24) - 1


class Coco(NamedTuple):
    """The labels of a COCO file: class by category id, class names, and for instances the name and size of images.

    For instances, class 0 is background (pixels without instance). Panoptic labels have no background.
    """

    panoptic: bool
    categories: Mapping[int, int]
    class_names: tuple[str, ...]
    images: Mapping[int, tuple[str, tuple[int, int]]]

    def classes(self, kind: str) -> int:
        """Returns the number of classes, with one more in predicted panoptic masks for pixels without segment."""
        return len(self.class_names) + (self.panoptic and kind == "masks")

    def names_of(self, classes: int) -> tuple[str, ...]:
        """Returns the names of the first `classes` classes."""
        return (*self.class_names, VOID_NAME)[:classes]


def open_coco(path: Path, *, truth: Coco | None = None, min_score: float = 0.5) -> tuple[dict[str, StoredArray], Coco]:
    """Returns the images of a COCO file by name and its categories, from the JSON and PNG headers.

    Args:
        path: the JSON.
        truth: for predictions, the categories of the labels.
        min_score: lowest score of results to keep. Higher scores cover lower ones.

    Raises:
        AuditError: the JSON has another format, the labels lack categories or images, or PNGs are missing or not RGB.
    """
    with naming(f"{path}: expected COCO's panoptic, instances or results JSON"):
        stored = json.loads(path.read_bytes())
        if isinstance(stored, list):
            if truth is None or truth.panoptic:
                raise AuditError(f"{path}: expected --labels in COCO's instances format beside results")
            return _results(path, stored, truth, min_score), truth
        if "images" in stored and not any("segments_info" in entry for entry in stored["annotations"]):
            truth = _categories(stored, panoptic=False) if truth is None else truth
            return _instances(path, stored["annotations"], truth), truth
        predicted = truth is not None
        truth = truth or _categories(stored, panoptic=True)
        return _panoptic(path, stored["annotations"], truth, void=len(truth.class_names) if predicted else VOID), truth


def _categories(stored: Any, *, panoptic: bool) -> Coco:
    names = {int(entry["id"]): str(entry["name"]) for entry in stored["categories"]}
    first = 0 if panoptic else 1
    images = {}
    if not panoptic:
        for entry in stored["images"]:
            images[entry["id"]] = Path(entry["file_name"]).stem, (int(entry["height"]), int(entry["width"]))
    class_names = (*(() if panoptic else ("background",)), *names.values())
    return Coco(panoptic, {number: first + c for c, number in enumerate(names)}, class_names, images)


def _class_of(entry: Mapping[str, Any], categories: Mapping[int, int], where: str) -> int:
    category = int(entry["category_id"])
    if category not in categories:
        raise AuditError(f"{where}: expected a category of the labels ({listed(categories)}), found {category}")
    return categories[category]


def _panoptic(path: Path, annotations: Sequence[Any], truth: Coco, *, void: int) -> dict[str, StoredArray]:
    arrays: dict[str, StoredArray] = {}
    for annotation in annotations:
        file = path.with_suffix("") / Path(annotation["file_name"]).name
        classes = {0: void}
        for entry in annotation["segments_info"]:
            number = int(entry["id"])
            label = _class_of(entry, truth.categories, f"{path}: {file.name}: segment {number}")
            if number in classes or not 0 < number <= LARGEST_ID:
                raise AuditError(f"{path}: {file.name}: expected different ids in 1..{LARGEST_ID}, found {number}")
            classes[number] = void if entry.get("iscrowd", 0) else label
        if file.stem in arrays:
            raise AuditError(f"{path}: expected an annotation an image, found several of {file.stem}")
        arrays[file.stem] = mask_header(file, classes=classes)
    if not arrays:
        raise AuditError(f"{path}: expected a PNG for each annotation, found no annotation")
    return arrays


def _instances(path: Path, annotations: Sequence[Any], truth: Coco) -> dict[str, StoredArray]:
    """Returns the images of instances. Crowds are painted first, then the others by decreasing size."""
    order = sorted(annotations, key=lambda entry: (not entry.get("iscrowd", 0), -float(entry.get("area", 0))))
    return _painted(path, order, truth)


def _results(path: Path, results: Sequence[Any], truth: Coco, min_score: float) -> dict[str, StoredArray]:
    kept = [entry for entry in results if float(entry.get("score", 1)) >= min_score]
    return _painted(path, sorted(kept, key=lambda entry: float(entry.get("score", 1))), truth)


def _painted(path: Path, entries: Sequence[Any], truth: Coco) -> dict[str, StoredArray]:
    outlines: dict[Any, list[tuple[int, Any]]] = {image: [] for image in truth.images}
    classes: dict[Any, dict[int, int]] = {image: {0: 0} for image in truth.images}
    for number, entry in enumerate(entries, 1):
        where = f"{path}: annotation {entry.get('id', number)}"
        if entry["image_id"] not in outlines:
            raise AuditError(f"{where}: expected an image of the labels, found image_id {entry['image_id']}")
        if "segmentation" not in entry:
            raise AuditError(f"{where}: expected a segmentation, found a box alone")
        label = _class_of(entry, truth.categories, where)
        outlines[entry["image_id"]].append((number, entry["segmentation"]))
        classes[entry["image_id"]][number] = VOID if entry.get("iscrowd", 0) else label
    names = [name for name, _ in truth.images.values()]
    if len(set(names)) < len(names) or not names:
        raise AuditError(f"{path}: expected images of different names, found {listed(names)}")
    arrays = {}
    for image, (name, shape) in truth.images.items():
        own = {"classes": classes[image], "outlines": outlines[image]}
        arrays[name] = StoredArray(path, name, shape, np.dtype(np.int32), **own)
    return arrays
