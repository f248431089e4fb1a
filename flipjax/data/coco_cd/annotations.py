"""Reads COCO's annotation files item by item, so that memory does not grow with their size.

The lists of categories that determine the scene are the paper's. Every other category (walls, floors, house, paper,
window-other, cell phone ...) is neutral.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from flipjax.config import ConfigError
from flipjax.data.images import MAX_PIXELS, BadFileError

CLASSES = ("cat", "dog")
"""Class y; its label in a mask is 1 + y."""

SCENES = ("indoor", "outdoor")
"""Default scenes."""

N_VAL = 50
N_TEST = 125
"""Validation and test images per group in the reference's split."""


def _names(text: str) -> frozenset[str]:
    return frozenset(" ".join(text.split()).split(", "))


INDOOR_THINGS = _names(
    """
    bed, blender, book, chair, clock, couch, desk, dining table, hair brush, hair drier, keyboard, laptop,
    microwave, mirror, mouse, oven, refrigerator, remote, scissors, sink, teddy bear, toaster, toilet, toothbrush,
    tv, vase
    """
)

OUTDOOR_THINGS = _names(
    """
    airplane, bench, bicycle, boat, bus, car, fire hydrant, kite, motorcycle, parking meter, skateboard, skis,
    snowboard, stop sign, street sign, surfboard, traffic light, train, truck
    """
)

INDOOR_STUFF = _names(
    """
    blanket, cabinet, carpet, ceiling-other, ceiling-tile, counter, cupboard, curtain, desk-stuff, door-stuff,
    mat, mirror-stuff, pillow, rug, shelf, stairs, table, textile-other, towel, window-blind
    """
)

OUTDOOR_STUFF = _names(
    """
    branch, bridge, building-other, bush, clouds, dirt, fence, flower, fog, grass, gravel, ground-other, hill,
    leaves, moss, mountain, mud, pavement, plant-other, platform, playingfield, railing, railroad, river, road,
    rock, roof, sand, sea, sky-other, skyscraper, snow, tent, tree, water-other, waterdrops
    """
)

THINGS = {"indoor": INDOOR_THINGS, "outdoor": OUTDOOR_THINGS}
"""Categories in an instances file that indicate each scene; other scenes have none."""

STUFF = {"indoor": INDOOR_STUFF | INDOOR_THINGS, "outdoor": OUTDOOR_STUFF | OUTDOOR_THINGS}
"""Categories in a stuff file that indicate each scene; any other scene is the name of a category or supercategory."""

LEAST_SHARE = 0.02
"""Share of the image that a scene's categories must cover."""
BUFFER = 1 << 20
"""Bytes read at once."""

Segment = tuple[int, bytes]
"""A label, 1 + y, and the compressed run lengths of its pixels, as in `pycocotools.mask`."""
Categories = dict[int, tuple[str, str]]
"""Names and supercategories by id."""
Areas = dict[int, list[float]]
"""Summed areas in pixels of each scene's categories, by image id."""


class Animals(NamedTuple):
    """An image with animals of the chosen classes.

    Attributes:
        image_id: COCO's id.
        file_name: of the photo, below COCO's root, such as 'val2017/000000000139.jpg'.
        width: of the photo, pixels.
        height: of the photo, pixels.
        segments: label and run lengths of each animal, including crowds.
        areas: areas of the things of each scene in pixels.
    """

    image_id: int
    file_name: str
    width: int
    height: int
    segments: tuple[Segment, ...]
    areas: tuple[float, ...]


def require_packages() -> tuple[ModuleType, ModuleType]:
    """Returns the modules `pycocotools.mask` and `ijson`, which only this data set needs.

    Raises:
        ConfigError: one of them is missing; the message says how to install both.
    """
    try:
        import ijson
        from pycocotools import mask
    except ImportError as error:
        name = (error.name or "").split(".")[0]
        advice = "python -m pip install 'flipjax[coco]'"
        raise ConfigError("flipjax[coco]", problem=f"coco_cd needs the package {name}: {advice}") from error
    return mask, ijson


def read_instances(
    path: Path, *, folder: str, classes: Sequence[str] = CLASSES, scenes: Sequence[str] = SCENES
) -> list[Animals]:
    """Reads the images with animals of some classes from an instances file.

    Args:
        path: of `instances_*.json`.
        folder: of the photos, below COCO's root.
        classes: names of categories.
        scenes: as in `read_stuff`.

    Returns:
        The images, in the order of their ids.

    Raises:
        BadFileError: the file is truncated or damaged, or it is no instances file.
        ConfigError: pycocotools or ijson is missing.
    """
    names = _categories(path)
    labels = {key: 1 + classes.index(name) for key, (name, _) in names.items() if name in classes}
    _check_found(path, names, [name for y, name in enumerate(classes) if 1 + y not in labels.values()])
    kinds = _scene_of_category(names, [THINGS.get(scene, frozenset()) for scene in scenes])
    areas: Areas = {}
    animals: dict[int, list[dict]] = {}
    for item in _items(path, "annotations", ("image_id", "category_id", "area")):
        if item["category_id"] in labels:
            animals.setdefault(item["image_id"], []).append(item)
        elif item["category_id"] in kinds:
            _add_area(areas, item, kinds[item["category_id"]], len(scenes), path)
    images = []
    for image in _items(path, "images", ("id", "file_name", "width", "height")):
        if not animals:
            break
        annotations = animals.pop(image["id"], None)
        if annotations:
            width = image["width"]
            height = image["height"]
            if not all(isinstance(side, int) and side > 0 for side in (width, height)) or width * height > MAX_PIXELS:
                expected = f"expected sides in whole numbers, and at most {MAX_PIXELS:,} pixels"
                raise BadFileError(f"{path}: image {image['id']}: {expected}: {image}")
            segments = [(labels[item["category_id"]], run_lengths(item, width, height, path)) for item in annotations]
            beside = tuple(areas.get(image["id"], [0.0] * len(scenes)))
            name = f"{folder}/{image['file_name']}"
            images.append(Animals(image["id"], name, width, height, tuple(segments), beside))
    if animals:
        raise BadFileError(f"{path}: annotations of image {min(animals)}, which 'images' does not list")
    return sorted(images)


def read_stuff(path: Path, *, scenes: Sequence[str] = SCENES) -> Areas:
    """Sums the areas of each scene's categories in every image of a stuff file; parses the file twice.

    Args:
        path: of `stuff_*.json`.
        scenes: indoor, outdoor, or names of categories or of supercategories.

    Returns:
        Areas by image id, of the images that have any.

    Raises:
        BadFileError: as in `read_instances`.
        ConfigError: pycocotools or ijson is missing.
    """
    names = _categories(path)
    # An instances file has the things of a scene.
    defined = [STUFF.get(scene, frozenset([scene])) - THINGS.get(scene, frozenset()) for scene in scenes]
    found = _scene_of_category(names, defined)
    _check_found(path, names, [scene for s, scene in enumerate(scenes) if s not in found.values()])
    kinds = _scene_of_category(names, [STUFF.get(scene, frozenset([scene])) for scene in scenes])
    areas: Areas = {}
    for item in _items(path, "annotations", ("image_id", "category_id", "area")):
        if item["category_id"] in kinds:
            _add_area(areas, item, kinds[item["category_id"]], len(scenes), path)
    return areas


def run_lengths(item: Mapping[str, Any], width: int, height: int, path: Path) -> bytes:
    """Returns the compressed run lengths of an annotation: of polygons, of run lengths, or of compressed ones.

    Polygons of fewer than three points have no pixels.

    Raises:
        BadFileError: they do not describe pixels of an image of that size.
    """
    mask, _ = require_packages()
    where = f"{path}: annotation {item.get('id')} of image {item['image_id']}"
    shape = item.get("segmentation")
    try:
        if isinstance(shape, list):
            polygons = [polygon for polygon in shape if len(polygon) >= 6 or list in map(type, polygon)]
            # pycocotools visits every pixel of an outline, so a damaged coordinate could take forever.
            if not all(-width <= x <= 2 * width for polygon in polygons for x in polygon[::2]) or not all(
                -height <= y <= 2 * height for polygon in polygons for y in polygon[1::2]
            ):
                raise ValueError(f"a polygon far outside the image of {width} x {height} pixels")
            return mask.merge(mask.frPyObjects(polygons, height, width))["counts"] if polygons else b""
        if not isinstance(shape, dict):
            raise ValueError("neither polygons nor run lengths")
        if list(shape["size"]) != [height, width]:
            raise ValueError(f"a mask of {shape['size']} rows and columns, but an image of {[height, width]}")
        if isinstance(shape["counts"], list):
            shape = mask.frPyObjects(shape, height, width)
        counts = shape["counts"] if isinstance(shape["counts"], bytes) else shape["counts"].encode("ascii")
        # pycocotools leaves pixels beyond the last run uninitialised.
        runs = decode_runs(counts)
        if sum(runs) != height * width or min(runs) < 0:
            raise ValueError(f"its runs do not fill {height} x {width} pixels")
        return counts
    except Exception as error:  # pycocotools raises bare exceptions on damaged files.
        raise BadFileError(f"{where}: its segmentation cannot be used: {error or type(error).__name__}") from error


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
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return runs


def label_mask(segments: tuple[Segment, ...], width: int, height: int) -> np.ndarray:
    """Draws animals: uint8 (height, width), 0 background, 1 + class; the higher label wins where they overlap.

    Example:
        >>> print(label_mask(((1, b"41317"),), 5, 4))
        [[0 1 1 0 0]
         [0 0 1 0 0]
         [0 0 0 0 0]
         [0 0 0 0 0]]
    """
    labels = np.zeros((width, height), np.uint8)
    for label, counts in segments:
        runs = decode_runs(counts)
        if runs:
            # NumPy 2 warns about pycocotools' decode, and warnings cannot be suppressed in threads.
            values = np.zeros(len(runs), np.uint8)
            values[1::2] = label
            np.maximum(labels, np.repeat(values, runs).reshape(width, height), out=labels)
    return np.ascontiguousarray(labels.T)


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
    most = max(areas)
    return areas.index(most) if most >= sum(areas) / 2 and most / pixels >= LEAST_SHARE else None


def _categories(path: Path) -> Categories:
    items = _items(path, "categories", ("id", "name"))
    return {item["id"]: (str(item["name"]), str(item.get("supercategory", ""))) for item in items}


def _check_found(path: Path, names: Categories, absent: Sequence[str]) -> None:
    if absent:
        there = ", ".join(dict.fromkeys(name for each in names.values() for name in each if name))
        problem = f"none of its {len(names)} categories is {', '.join(absent)}: is it another file?"
        raise BadFileError(f"{path}: {problem} There are {there}")


def _scene_of_category(names: Categories, scenes: Sequence[frozenset[str]]) -> dict[int, int]:
    """Returns the scene of each category; scenes must not share categories."""
    pairs = [(key, s) for key, each in names.items() for s, wanted in enumerate(scenes) if wanted & set(each)]
    twice = [names[key][0] for key, count in Counter(key for key, _ in pairs).items() if count > 1]
    if twice:
        raise ConfigError("--scenes", "scenes that share no category", ", ".join(twice))
    return dict(pairs)


def _add_area(areas: Areas, item: Mapping[str, Any], scene: int, count: int, path: Path) -> None:
    if not isinstance(item["area"], int | float) or not item["area"] >= 0:
        raise BadFileError(f"{path}: annotation {item.get('id')}: expected a number >= 0 as its area: {item['area']}")
    areas.setdefault(item["image_id"], [0.0] * count)[scene] += item["area"]


def _items(path: Path, field: str, keys: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    _, ijson = require_packages()
    empty = True
    try:
        with path.open("rb") as file:
            for item in ijson.items(file, f"{field}.item", buf_size=BUFFER, use_float=True):
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
