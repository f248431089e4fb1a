"""Reads COCO's annotation files item by item, so that memory does not grow with their size.

The categories that determine the scene, in scenes.csv, are the paper's. Every other category (walls, floors, house,
paper, window-other, cell phone ...) is neutral.
"""

import dataclasses
import itertools
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import ijson
import numpy as np
import pandas as pd
from pycocotools import mask

from flipjax.config import ConfigError
from flipjax.data.decoding.images import MAX_PIXELS, BadFileError
from flipjax.data.pool import PoolItem
from flipjax.data.prepare.coco_cd.reference import CLASSES, SCENES

_NAMES = pd.read_csv(Path(__file__).with_name("scenes.csv")).groupby(["scene", "kind"])["category"].agg(frozenset)
THINGS = {scene: _NAMES[scene, "things"] for scene in SCENES}
"""Categories in an instances file that indicate each scene; other scenes have none."""

STUFF = {scene: _NAMES[scene, "stuff"] | THINGS[scene] for scene in SCENES}
"""Categories in a stuff file that indicate each scene; any other scene is the name of a category or supercategory."""

LEAST_SHARE = 0.02
"""Share of the image that a scene's categories must cover."""

Annotation: TypeAlias = dict[str, Any]
"""An item of a COCO file, as JSON has it."""


class Segment(NamedTuple):
    """The pixels of an animal."""

    label: int
    """1 + y."""
    runs: np.ndarray
    """Lengths of the runs of pixels, column by column; background and animal alternate, background first."""


class Category(NamedTuple):
    """A category of COCO."""

    name: str
    """Its name, as `dog`."""
    supercategory: str
    """The name of its supercategory, as `animal`; empty if the file has none."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Photo(PoolItem):
    """An image with animals of the chosen classes, whose class and scene `select` assigns.

    Attributes:
        image_id: COCO's id.
        width: of the photo, pixels.
        height: of the photo, pixels.
        segments: of each animal, including crowds.
        areas: areas of the things of each scene in pixels.
    """

    image_id: int
    width: int
    height: int
    segments: tuple[Segment, ...]
    areas: Sequence[float]


def read_instances(
    path: Path, folder: Path, *, classes: Sequence[str] = CLASSES, scenes: Sequence[str] = SCENES
) -> list[Photo]:
    """Reads the images with animals of some classes from an instances file.

    Args:
        path: of `instances_*.json`.
        folder: of the photos, named as COCO names it.
        classes: names of categories.
        scenes: as in `read_stuff`.

    Returns:
        The images, in the order of the file.

    Raises:
        BadFileError: the file is truncated or damaged, or it is no instances file.
    """
    categories = _categories(path)
    labels = {}
    for category_id, category in categories.items():
        if category.name in classes:
            labels[category_id] = 1 + classes.index(category.name)
    _check_found(path, categories, [name for y, name in enumerate(classes) if 1 + y not in labels.values()])
    scene_of_category = _scene_of_category(categories, [THINGS.get(scene, frozenset()) for scene in scenes])
    areas, animals = _read_annotations(path, scene_of_category, len(scenes), labels)
    photos = []
    for image in _items(path, "images", ("id", "file_name", "width", "height")):
        annotations = animals.pop(image["id"], ())
        if not annotations:
            continue
        width = image["width"]
        height = image["height"]
        if not _is_side(width) or not _is_side(height) or width * height > MAX_PIXELS:
            expected = f"expected sides in whole numbers, and at most {MAX_PIXELS:,} pixels"
            raise BadFileError(f"{path}: image {image['id']}: {expected}: {image}")
        segments = []
        for item in annotations:
            segments.append(Segment(labels[item["category_id"]], run_lengths(item, width, height, path)))
        photo = Photo(
            f"{folder.name}/{image['file_name']}",
            (folder.resolve() / image["file_name"],),
            image_id=image["id"],
            width=width,
            height=height,
            segments=tuple(segments),
            areas=areas[image["id"]],
        )
        photos.append(photo)
    if animals:
        raise BadFileError(f"{path}: annotations of image {min(animals)}, which 'images' does not list")
    return photos


def _is_side(value: object) -> bool:
    """Returns whether a value can be the side of an image, in pixels."""
    return isinstance(value, int) and value > 0


def read_stuff(path: Path, *, scenes: Sequence[str] = SCENES) -> dict[int, list[float]]:
    """Sums the areas of each scene's categories in every image of a stuff file; parses the file twice.

    Args:
        path: of `stuff_*.json`.
        scenes: indoor, outdoor, or names of categories or of supercategories.

    Returns:
        Areas by image id, of the images that have any.

    Raises:
        BadFileError: as in `read_instances`.
    """
    categories = _categories(path)
    scene_of_category = _scene_of_category(categories, [STUFF.get(scene, frozenset([scene])) for scene in scenes])
    with_stuff = set()
    for category_id, number in scene_of_category.items():
        # Things are in an instances file, too, and do not show that this one lists stuff.
        if categories[category_id].name not in THINGS.get(scenes[number], ()):
            with_stuff.add(scenes[number])
    _check_found(path, categories, [scene for scene in scenes if scene not in with_stuff])
    areas, _ = _read_annotations(path, scene_of_category, len(scenes))
    return areas


def run_lengths(item: Annotation, width: int, height: int, path: Path) -> np.ndarray:
    """Returns the run lengths of an annotation: of polygons, of run lengths, or of compressed ones.

    Polygons of fewer than three points have no pixels.

    Raises:
        BadFileError: they do not describe pixels of an image of that size.
    """
    shape: Any = item.get("segmentation")
    try:
        if isinstance(shape, list):
            shape = _filled(shape, width, height)
        if list(shape["size"]) != [height, width]:
            raise ValueError(f"a mask of {shape['size']} rows and columns, but an image of {[height, width]}")
        runs = shape["counts"]
        if isinstance(runs, str):
            runs = runs.encode("ascii")
        if isinstance(runs, bytes):
            runs = decode_runs(runs)
        if sum(runs) != height * width or min(runs) < 0:
            raise ValueError(f"its runs do not fill {height} x {width} pixels")
        return np.array(runs, np.int32)
    except Exception as error:  # pycocotools raises bare exceptions on damaged files.
        where = f"{path}: annotation {item.get('id')} of image {item['image_id']}"
        raise BadFileError(f"{where}: its segmentation cannot be used: {error or type(error).__name__}") from error


def _filled(polygons: list[Any], width: int, height: int) -> dict[str, Any]:
    """Returns the run lengths of the pixels inside polygons, as COCO has them.

    Raises:
        ValueError: a polygon lies far outside of the image.
    """
    kept = [polygon for polygon in polygons if len(polygon) >= 6 or list in map(type, polygon)]
    if not kept:
        return {"size": [height, width], "counts": [height * width]}
    for polygon in kept:
        # pycocotools visits every pixel of an outline, so a damaged coordinate could take forever.
        inside_x = all(-width <= x <= 2 * width for x in polygon[::2])
        inside_y = all(-height <= y <= 2 * height for y in polygon[1::2])
        if not inside_x or not inside_y:
            raise ValueError(f"a polygon far outside the image of {width} x {height} pixels")
    outlines = mask.frPyObjects(kept, height, width)
    if not outlines:
        return {"size": [height, width], "counts": [height * width]}
    return dict(mask.merge(outlines))


def decode_runs(counts: bytes) -> list[int]:
    """Returns the lengths of the runs, background first, of compressed run lengths.

    Each character from '0' on encodes five bits, low bits first; a sixth bit marks that more follow, and the fifth bit
    of the last is the sign. From the fourth run on, values are differences to the run two before.

    Example:
        >>> decode_runs(b"41317")
        [4, 1, 3, 2, 10]
    """
    runs: list[int] = []
    value = shift = 0
    for character in counts:
        bits = character - 48
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= (bits & 16) << (shift - 4)
            if len(runs) > 2:
                value += runs[-2]
            runs.append(value)
            value = shift = 0
    return runs


def label_mask(segments: Sequence[Segment], width: int, height: int) -> np.ndarray:
    """Draws animals: uint8 (height, width), 0 background, 1 + class; the higher label wins where they overlap.

    Example:
        >>> print(label_mask([Segment(1, np.array([4, 1, 3, 2, 10]))], 5, 4))
        [[0 1 1 0 0]
         [0 0 1 0 0]
         [0 0 0 0 0]
         [0 0 0 0 0]]
    """
    labels = np.zeros(width * height, np.uint8)
    for segment in segments:
        label_of_run = np.resize(np.array([0, segment.label], np.uint8), len(segment.runs))
        np.maximum(labels, np.repeat(label_of_run, segment.runs), out=labels)
    return np.ascontiguousarray(labels.reshape(width, height).T)


def scene_of(areas: Sequence[float], pixels: int) -> int | None:
    """Returns the first scene whose categories cover half of the area of all scenes, and 2% of the image.

    Args:
        areas: total area of each scene's categories in pixels; overlapping annotations count twice.
        pixels: number of pixels of the image.

    Returns:
        The index of the scene, or None if unknown.

    Example:
        >>> scene_of([50, 50], 1000), scene_of([10, 50], 1000), scene_of([10, 5], 1000), scene_of([0, 0], 1000)
        (0, 1, None, None)
        >>> scene_of([30, 30, 70], 1000), scene_of([30, 30, 50], 1000)
        (2, None)
    """
    largest = max(areas)
    if largest < sum(areas) / 2 or largest / pixels < LEAST_SHARE:
        return None
    return areas.index(largest)


def _categories(path: Path) -> dict[int, Category]:
    """Returns the categories of a file by their ids."""
    categories = {}
    for item in _items(path, "categories", ("id", "name")):
        categories[item["id"]] = Category(str(item["name"]), str(item.get("supercategory", "")))
    return categories


def _check_found(path: Path, categories: Mapping[int, Category], absent: Sequence[str]) -> None:
    """Raises BadFileError if names are absent from the categories of a file."""
    if absent:
        present = dict.fromkeys(itertools.chain.from_iterable(categories.values()))
        problem = f"none of its {len(categories)} categories is {', '.join(absent)}: is it another file?"
        raise BadFileError(f"{path}: {problem} There are {', '.join(filter(None, present))}")


def _scene_of_category(categories: Mapping[int, Category], names_of_scenes: Sequence[frozenset[str]]) -> dict[int, int]:
    """Returns the number of the scene that each category indicates, without categories of no scene.

    Args:
        categories: by id.
        names_of_scenes: the categories and supercategories of each scene.

    Raises:
        ConfigError: two scenes share a category.
    """
    scene_of_category: dict[int, int] = {}
    shared = []
    for category_id, category in categories.items():
        fitting = [number for number, names in enumerate(names_of_scenes) if names & {*category}]
        if len(fitting) > 1:
            shared.append(category.name)
        if fitting:
            scene_of_category[category_id] = fitting[-1]
    if shared:
        raise ConfigError("--scenes", "scenes that share no category", ", ".join(shared))
    return scene_of_category


def _read_annotations(
    path: Path, scene_of_category: Mapping[int, int], scene_count: int, animals: Collection[int] = ()
) -> tuple[dict[int, list[float]], dict[int, list[Annotation]]]:
    """Returns the area of each scene's categories, and the annotations of animals; both by image id.

    Args:
        path: of the file.
        scene_of_category: numbers of scenes by the ids of categories.
        scene_count: number of scenes.
        animals: ids of the categories of animals.
    """
    areas: dict[int, list[float]] = defaultdict(lambda: [0.0] * scene_count)
    annotations_of_animals: dict[int, list[Annotation]] = defaultdict(list)
    for item in _items(path, "annotations", ("image_id", "category_id", "area")):
        image = item["image_id"]
        category = item["category_id"]
        area = item["area"]
        if category in animals:
            annotations_of_animals[image].append(item)
        elif category in scene_of_category:
            if not isinstance(area, int | float) or not area >= 0:
                raise BadFileError(f"{path}: annotation {item.get('id')}: expected a number >= 0 as its area: {area}")
            areas[image][scene_of_category[category]] += area
    return areas, annotations_of_animals


def _items(path: Path, field: str, keys: tuple[str, ...]) -> Iterator[Annotation]:
    """Yields the items of a list in a COCO file, each a mapping with numbers or names at these keys."""
    empty = True
    try:
        with path.open("rb") as file:
            for item in ijson.items(file, f"{field}.item", buf_size=1 << 20, use_float=True):
                empty = False
                if not isinstance(item, dict) or any(isinstance(item.get(key, []), list | dict) for key in keys):
                    raise BadFileError(f"{path}: expected items of {field!r} with {', '.join(keys)}: {item}"[:300])
                yield item
    except ijson.JSONError as error:
        size = path.stat().st_size
        reason = str(error).splitlines()[0]
        raise BadFileError(f"{path}: truncated or damaged JSON ({size:,} bytes): {reason}") from error
    if empty:
        raise BadFileError(f"{path}: its {field!r} list is missing or empty")
