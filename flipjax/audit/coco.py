"""Finds the images of COCO's JSON files: panoptic segmentations, instances and results."""

import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flipjax.audit.arrays import StoredArray, open_png, read_png
from flipjax.audit.label_maps import LabelMap
from flipjax.audit.problems import AuditError, naming
from flipjax.support.terminal import listed

VOID = -1
"""Label of crowds and of pixels without a panoptic segment. Ignored in labels; a class of its own in predictions."""
VOID_NAME = "void"
"""Name of the class of pixels without a panoptic segment."""
LARGEST_ID = (1 << 24) - 1
LEAST_SCORE = 0.5
"""Lowest score of a COCO result that counts. Higher scores cover lower ones."""


@dataclasses.dataclass(frozen=True)
class Coco:
    """The labels of a COCO file. For instances, class 0 is background; panoptic labels have none."""

    panoptic: bool
    """Whether pixels belong to segments of a PNG, rather than to outlines."""
    categories: Mapping[int, int]
    """Class by category id."""
    class_names: tuple[str, ...]
    """Names of the classes; of instances the first is the background."""
    images: Mapping[int, tuple[str, tuple[int, int]]]
    """Of instances, name and size of each image by its id."""


@dataclasses.dataclass(frozen=True)
class CocoImages:
    """The images of a COCO file, in its order."""

    labels: Coco
    """Its categories; of predictions, those of the labels."""
    names: tuple[str, ...]
    """The images' names; one may occur twice."""
    images: tuple[StoredArray, ...]
    """Their segments."""


def open_coco(path: Path, *, truth: Coco | None = None) -> CocoImages:
    """Finds the images of a COCO file, from its JSON and the headers of its PNGs.

    Args:
        path: the JSON.
        truth: for predictions, the categories of the labels.

    Raises:
        AuditError: the JSON has another format, the labels lack categories or images, or PNGs are missing or not RGB.
    """
    with naming(f"{path}: expected COCO's panoptic, instances or results JSON"):
        stored = json.loads(path.read_bytes())
        if isinstance(stored, list):
            if truth is None or truth.panoptic:
                raise AuditError(f"{path}: expected --labels in COCO's instances format beside results")
            found = _results(path, stored, truth)
        elif "images" in stored and not any("segments_info" in entry for entry in stored["annotations"]):
            truth = truth or _categories(stored, panoptic=False)
            found = _instances(path, stored["annotations"], truth)
        else:
            void = VOID if truth is None else len(truth.class_names)
            truth = truth or _categories(stored, panoptic=True)
            found = _panoptic(path, stored["annotations"], truth, void=void)
    if not found:
        raise AuditError(f"{path}: expected images, found none")
    return CocoImages(truth, tuple(name for name, _ in found), tuple(array for _, array in found))


def _categories(stored: Any, *, panoptic: bool) -> Coco:
    names = {int(entry["id"]): str(entry["name"]) for entry in stored["categories"]}
    class_names = tuple(names.values()) if panoptic else ("background", *names.values())
    images = {
        entry["id"]: (Path(entry["file_name"]).stem, (int(entry["height"]), int(entry["width"])))
        for entry in (() if panoptic else stored["images"])
    }
    return Coco(panoptic, {number: c for c, number in enumerate(names, not panoptic)}, class_names, images)


def _class_of(entry: Mapping[str, Any], truth: Coco, void: int, where: str) -> int:
    """Returns the class of a segment, or `void` for a crowd."""
    category = int(entry["category_id"])
    if category not in truth.categories:
        raise AuditError(f"{where}: expected a category of the labels ({listed(truth.categories)}), found {category}")
    return void if entry.get("iscrowd", 0) else truth.categories[category]


def _read_ids(path: Path) -> np.ndarray:
    """Reads the ids R + 256 G + 65536 B of segments."""
    return read_png(path, ["RGB"]) @ np.array([1, 1 << 8, 1 << 16], np.int32)


def _panoptic(path: Path, annotations: Sequence[Any], truth: Coco, *, void: int) -> list[tuple[str, StoredArray]]:
    found = []
    for annotation in annotations:
        file = path.with_suffix("") / Path(annotation["file_name"]).name
        classes = {0: void}
        for entry in annotation["segments_info"]:
            number = int(entry["id"])
            if number in classes or not 0 < number <= LARGEST_ID:
                raise AuditError(f"{path}: {file.name}: expected different ids in 1..{LARGEST_ID}, found {number}")
            classes[number] = _class_of(entry, truth, void, f"{path}: {file.name}: segment {number}")
        with naming(file), open_png(file, ["RGB"]) as image:
            shape = image.height, image.width
        load = functools.partial(_read_ids, file)
        found.append((file.stem, StoredArray(str(file), shape, load, LabelMap(str(path), classes))))
    return found


def _score(entry: Mapping[str, Any]) -> float:
    return float(entry.get("score", 1))


def _results(path: Path, entries: Sequence[Any], truth: Coco) -> list[tuple[str, StoredArray]]:
    kept = [entry for entry in entries if _score(entry) >= LEAST_SCORE]
    return _painted(path, sorted(kept, key=_score), truth)


def _painting_order(entry: Mapping[str, Any]) -> tuple[bool, float]:
    """Crowds are painted first, then the others by decreasing size."""
    return not entry.get("iscrowd", 0), -float(entry.get("area", 0))


def _instances(path: Path, entries: Sequence[Any], truth: Coco) -> list[tuple[str, StoredArray]]:
    return _painted(path, sorted(entries, key=_painting_order), truth)


def _painted(path: Path, entries: Sequence[Any], truth: Coco) -> list[tuple[str, StoredArray]]:
    outlines: dict[Any, list[tuple[int, Any]]] = {image: [] for image in truth.images}
    classes = {image: {0: 0} for image in truth.images}
    for number, entry in enumerate(entries, 1):
        image = entry["image_id"]
        where = f"{path}: annotation {entry.get('id', number)}"
        if image not in outlines:
            raise AuditError(f"{where}: expected an image of the labels, found image_id {image}")
        if "segmentation" not in entry:
            raise AuditError(f"{where}: expected a segmentation, found {listed(entry)}")
        outlines[image].append((number, entry["segmentation"]))
        classes[image][number] = _class_of(entry, truth, VOID, where)
    found = []
    for image, (name, shape) in truth.images.items():
        load = functools.partial(_paint, shape, outlines[image])
        found.append((name, StoredArray(f"{path}[{name}]", shape, load, LabelMap(str(path), classes[image]))))
    return found


def _paint(shape: tuple[int, int], outlines: Sequence[tuple[int, Any]]) -> np.ndarray:
    """Returns the segment id of each pixel, 0 for none. Later outlines cover earlier ones."""
    from pycocotools import mask as coder

    ids = np.zeros(shape, np.int32)
    for number, outline in outlines:
        if isinstance(outline, list) or isinstance(outline["counts"], list):
            outline = coder.frPyObjects(outline, *shape)
        if isinstance(outline, list):
            outline = coder.merge(outline)
        ids[coder.decode(outline) > 0] = number
    return ids
