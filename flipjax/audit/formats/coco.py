"""Finds the images of COCO's JSON files: panoptic segmentations, instances and results."""

import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from flipjax.audit.formats.arrays import StoredArray
from flipjax.audit.formats.label_maps import LabelMap
from flipjax.audit.formats.names import check_names
from flipjax.audit.formats.pictures import picture_errors
from flipjax.audit.formats.problems import AuditError, BrokenFileError, naming
from flipjax.support.files import JsonObject
from flipjax.support.terminal import listed

Outline: TypeAlias = Any
"""Polygons of a segment, or its run lengths, as pycocotools takes them."""
VOID = -1
"""Label of crowds and of pixels without a panoptic segment, which is ignored. In predictions, such pixels are a class
of their own."""
VOID_NAME = "void"
"""Name of the class of pixels without a panoptic segment."""
LARGEST_ID = (1 << 24) - 1
"""The largest id of a segment, which a pixel of 24 bits holds."""
BESIDE_RESULTS = "expected --labels in COCO's instances format beside results"
"""The error where COCO results come without the labels that name their categories."""
LEAST_SCORE = 0.5
"""Lowest score of a COCO result that counts. Higher scores cover lower ones."""


@dataclasses.dataclass(frozen=True)
class InstanceImage:
    """An image that instances belong to."""

    name: str
    """Its file's name without suffix."""
    shape: tuple[int, int]
    """Height and width."""


@dataclasses.dataclass(frozen=True)
class Coco:
    """The categories of a COCO file of labels. For instances, class 0 is background; panoptic labels have none."""

    panoptic: bool
    """Whether pixels belong to segments of a PNG, rather than to outlines."""
    categories: Mapping[int, int]
    """Class by category id."""
    class_names: tuple[str, ...]
    """Names of the classes. Where there are instances, the first is the background."""
    images: Mapping[int, InstanceImage]
    """Images by their ids, if the file holds instances; panoptic labels have none here."""


Content: TypeAlias = JsonObject | list[JsonObject]
"""A COCO JSON: an object with categories, images and annotations, or a list of results."""


def read_categories(path: Path, content: Content) -> Coco:
    """Returns the categories of a COCO file of labels, panoptic or instances; raises AuditError for results."""
    if isinstance(content, list):
        raise AuditError(f"{path}: {BESIDE_RESULTS}")
    if _holds_instances(content):
        return _instance_categories(content)
    return _panoptic_categories(content)


def find_images(path: Path, content: Content, truth: Coco, *, predicted: bool) -> dict[str, StoredArray]:
    """Returns the images of a COCO file by name, from its JSON and the headers of its PNGs.

    Args:
        path: the JSON's file.
        content: the JSON: of labels, or of predictions in the same format, or as results.
        truth: the categories of the labels.
        predicted: whether these are predictions, of which pixels without a panoptic segment are a class of their own.

    Raises:
        AuditError: the JSON lacks images or repeats one, or PNGs are missing or not RGB.
    """
    if isinstance(content, list):
        if truth.panoptic:
            raise AuditError(f"{path}: {BESIDE_RESULTS}")
        images = _results(path, content, truth)
    elif _holds_instances(content):
        images = _instances(path, content["annotations"], truth)
    else:
        void = VOID
        if predicted:
            void = len(truth.class_names)
        images = _panoptic(path, content["annotations"], truth, void=void)
    if not images:
        raise AuditError(f"{path}: expected images, found none")
    return images


def _holds_instances(content: JsonObject) -> bool:
    """Returns whether a JSON is in the format of instances, rather than panoptic."""
    return "images" in content and not any("segments_info" in entry for entry in content["annotations"])


def _category_names(content: JsonObject) -> dict[int, str]:
    """Returns the names of the categories by id."""
    return {int(entry["id"]): str(entry["name"]) for entry in content["categories"]}


def _panoptic_categories(content: JsonObject) -> Coco:
    """Returns the categories of a panoptic file, which are all classes."""
    names = _category_names(content)
    categories = {category: c for c, category in enumerate(names)}
    return Coco(panoptic=True, categories=categories, class_names=tuple(names.values()), images={})


def _instance_categories(content: JsonObject) -> Coco:
    """Returns the categories of an instances file, whose classes begin with the background, and its images."""
    names = _category_names(content)
    categories = {category: c for c, category in enumerate(names, 1)}
    images = {}
    for entry in content["images"]:
        shape = (int(entry["height"]), int(entry["width"]))
        images[entry["id"]] = InstanceImage(Path(entry["file_name"]).stem, shape)
    class_names = ("background", *names.values())
    return Coco(panoptic=False, categories=categories, class_names=class_names, images=images)


def _class_of(entry: JsonObject, truth: Coco, void: int, source: str) -> int:
    """Returns the class of a segment, or `void` for a crowd."""
    category = int(entry["category_id"])
    if category not in truth.categories:
        raise AuditError(f"{source}: expected a category of the labels ({listed(truth.categories)}), found {category}")
    if entry.get("iscrowd", 0):
        return void
    return truth.categories[category]


def _read_ids(path: Path) -> np.ndarray:
    """Reads the ids R + 256 G + 65536 B of segments."""
    from flipjax.data.decoding.images import read_image

    with picture_errors():
        return np.asarray(read_image(path)).astype(np.int32) @ np.array([1, 1 << 8, 1 << 16], np.int32)


def _size_of_ids(path: Path) -> tuple[int, int]:
    """Returns the height and width of a PNG of ids; raises BrokenFileError for one of another mode."""
    from PIL import Image

    with naming(path), Image.open(path, formats=["PNG"]) as image:
        if image.mode != "RGB":
            raise BrokenFileError(f"{path}: expected ids in a PNG of mode RGB, found mode {image.mode}")
        return image.height, image.width


def _panoptic(path: Path, annotations: Sequence[JsonObject], truth: Coco, *, void: int) -> dict[str, StoredArray]:
    """Returns the images of panoptic annotations, each a PNG of ids."""
    files = [path.with_suffix("") / Path(annotation["file_name"]).name for annotation in annotations]
    check_names(path, [file.stem for file in files])
    images = {}
    for file, annotation in zip(files, annotations, strict=True):
        classes = {0: void}
        for entry in annotation["segments_info"]:
            number = int(entry["id"])
            if number in classes or not 0 < number <= LARGEST_ID:
                raise AuditError(f"{path}: {file.name}: expected different ids in 1..{LARGEST_ID}, found {number}")
            classes[number] = _class_of(entry, truth, void, f"{path}: {file.name}: segment {number}")
        load = functools.partial(_read_ids, file)
        images[file.stem] = StoredArray(str(file), _size_of_ids(file), load, LabelMap(str(path), classes))
    return images


def _score(entry: JsonObject) -> float:
    """Returns the score of a result; 1 where it has none."""
    return float(entry.get("score", 1))


def _results(path: Path, entries: Iterable[JsonObject], truth: Coco) -> dict[str, StoredArray]:
    """Returns the images of results, of which those with higher scores cover the others."""
    kept = [entry for entry in entries if _score(entry) >= LEAST_SCORE]
    return _painted(path, sorted(kept, key=_score), truth)


def _painting_order(entry: JsonObject) -> tuple[bool, float]:
    """Returns what annotations are sorted by: crowds are painted first, then the others by decreasing size."""
    return not entry.get("iscrowd", 0), -float(entry.get("area", 0))


def _instances(path: Path, entries: Iterable[JsonObject], truth: Coco) -> dict[str, StoredArray]:
    """Returns the images of instances, of which smaller ones cover larger ones."""
    return _painted(path, sorted(entries, key=_painting_order), truth)


def _painted(path: Path, entries: Sequence[JsonObject], truth: Coco) -> dict[str, StoredArray]:
    """Returns the images of outlines, which are painted in this order when the image is read."""
    outlines: dict[int, dict[int, Outline]] = {image_id: {} for image_id in truth.images}
    classes = {image_id: {0: 0} for image_id in truth.images}
    for number, entry in enumerate(entries, 1):
        image_id = entry["image_id"]
        source = f"{path}: annotation {entry.get('id', number)}"
        if image_id not in outlines:
            raise AuditError(f"{source}: expected an image of the labels, found image_id {image_id}")
        if "segmentation" not in entry:
            raise AuditError(f"{source}: expected a segmentation, found {listed(entry)}")
        outlines[image_id][number] = entry["segmentation"]
        classes[image_id][number] = _class_of(entry, truth, VOID, source)
    check_names(path, [image.name for image in truth.images.values()])
    images = {}
    for image_id, image in truth.images.items():
        load = functools.partial(_paint, image.shape, outlines[image_id])
        label_map = LabelMap(str(path), classes[image_id])
        images[image.name] = StoredArray(f"{path}[{image.name}]", image.shape, load, label_map)
    return images


def _paint(shape: tuple[int, int], outlines: Mapping[int, Outline]) -> np.ndarray:
    """Returns the segment id of each pixel, 0 for none. Later outlines cover earlier ones."""
    from pycocotools import mask as coder

    ids = np.zeros(shape, np.int32)
    for number, outline in outlines.items():
        encoded = outline
        if isinstance(outline, list) or isinstance(outline["counts"], list):
            encoded = coder.frPyObjects(outline, *shape)
        if isinstance(encoded, list):
            # The run lengths of each polygon.
            encoded = coder.merge(encoded)
        ids[coder.decode(encoded) > 0] = number
    return ids
