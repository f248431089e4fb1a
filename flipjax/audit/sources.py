"""Finds the images of a folder, a stack or a COCO file, from headers alone."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from flipjax.audit.arrays import (
    NIFTI,
    PHOTOS,
    ArrayReader,
    AuditError,
    Limits,
    StoredArray,
    mask_header,
    naming,
    read_headers,
    suffix_of,
)
from flipjax.terminal import listed

RESERVED = ("logits", "probabilities", "masks", "labels", "groups", "names", "images")
INDICES = ("masks", "labels")
"""Kinds of class indices, which PNG files may hold."""
RANKS = {"logits": 3, "probabilities": 3, "masks": 2, "labels": 2}
"""Axes of one image's array; a stack has one more."""
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


class Source(NamedTuple):
    """The images of one argument, in order. Without names they are identified by position. `coco` is None elsewhere."""

    path: Path
    names: tuple[str, ...] | None
    images: tuple[StoredArray, ...]
    coco: Coco | None = None

    @property
    def stacked(self) -> bool:
        """Whether the images are the rows of one array."""
        return self.images[0].row is not None


def open_source(
    path: Path,
    *,
    wanted: str,
    limits: Limits,
    suffixes: Sequence[str] = (),
    truth: Coco | None = None,
    min_score: float = 0.5,
) -> Source:
    """Finds the images of a folder (one file per image) or of a file (a stack, one array per image, or COCO's JSON).

    Reads only headers, the names in an npz, and the JSON.

    Args:
        path: a folder of npy, npz and, for labels and masks, PNG or NIfTI files; or one of them.
        wanted: the array to take from an npz that holds several: logits, probabilities, masks or labels.
        limits: size limits of an unpacked npz.
        suffixes: endings to drop from names.
        truth: for COCO predictions, the categories of the labels.
        min_score: lowest score of COCO results.

    Raises:
        AuditError: nothing is found, files are damaged or of another type, or a name is ambiguous.
    """
    if path.suffix.lower() == ".json":
        if wanted != "labels" and not (wanted == "masks" and truth):
            raise AuditError(f"{path}: expected --kind masks and --labels in COCO's panoptic or instances format, too")
        arrays, coco = open_coco(path, truth=truth, min_score=min_score)
        named = [_without(name, suffixes) for name in arrays]
        return Source(path, check_names(path, named), tuple(arrays.values()), coco)
    endings = (".npy", ".npz") if RANKS[wanted] == 3 else (".npy", ".npz", ".png", *NIFTI)
    files = sorted(file for file in path.iterdir() if file.name[0] != ".") if path.is_dir() else [path]
    wrong = [file.name for file in files if not file.is_file() or suffix_of(file) not in endings]
    if wrong or not files:
        found = listed(wrong) if files and path.exists() else "nothing there"
        raise AuditError(f"{path}: expected files of type {' '.join(endings)}, found {found}")
    if path.is_dir():
        names = check_names(path, [stem_of(file, suffixes) for file in files])
        return Source(path, names, tuple(_alone(file, wanted, limits) for file in files))
    return _open_file(path, wanted, limits, suffixes)


def _open_file(path: Path, wanted: str, limits: Limits, suffixes: Sequence[str] = ()) -> Source:
    rank, arrays = RANKS[wanted], read_headers(path, limits=limits)
    array = _member(arrays, wanted)
    if array is None:
        each = {name: arrays[name] for name in sorted(arrays) if name not in RESERVED}
        if not each or any(len(member.shape) != rank for member in each.values()):
            texts = listed(f"{name} {member.shape}" for name, member in arrays.items())
            raise AuditError(f"{path}: expected an array named {wanted}, or for each image one of {rank} axes; {texts}")
        checked = tuple(_check_form(member, member.shape, wanted) for member in each.values())
        return Source(path, check_names(path, each), checked)
    if len(array.shape) == rank or suffix_of(path) in NIFTI:
        return Source(path, (stem_of(path, suffixes),), (_check_form(array, array.shape, wanted),))
    one = _check_form(array, array.shape[1:], wanted)
    rows = tuple(one._replace(row=row) for row in range(array.shape[0]))
    if "names" not in arrays:
        return Source(path, None, rows)
    stored = arrays["names"]
    if stored.shape != (len(rows),) or stored.dtype.kind != "U":
        raise AuditError(f"{stored}: expected {len(rows)} strings, found {stored.dtype} of shape {stored.shape}")
    with ArrayReader() as reader:
        return Source(path, check_names(stored, map(str, reader.read(stored))), rows)


def _alone(file: Path, wanted: str, limits: Limits) -> StoredArray:
    """Returns the one image of a file in a folder. Accepts a batch of one, which models often save."""
    array = _member(read_headers(file, limits=limits), wanted)
    if array and wanted in INDICES and len(array.shape) == 3 and array.shape[0] != 1 and suffix_of(file) not in NIFTI:
        return _check_form(array, array.shape, wanted)
    image, *others = _open_file(file, wanted, limits).images
    if others:
        raise AuditError(f"{file}: expected one image in each file of a folder, found {1 + len(others)}")
    return image._replace(row=None)


def _member(arrays: dict[str, StoredArray], wanted: str) -> StoredArray | None:
    """Returns the array named `wanted`, or the only array whose name has no other meaning."""
    others = [array for name, array in arrays.items() if name not in RESERVED]
    return arrays.get(wanted, others[0] if len(others) == 1 else None)


def _check_form(array: StoredArray, shape: tuple[int, ...], wanted: str) -> StoredArray:
    """Checks an array for images of `shape`, and finds the class axis of one-hot masks."""
    volume = suffix_of(array.path) in NIFTI
    rank = 3 if volume else RANKS[wanted]
    hot = wanted in INDICES and not volume and len(shape) == rank + 1
    if len(shape) - hot != rank or array.dtype.kind not in ("iub" if hot else "iu" if wanted in INDICES else "f"):
        form = f"{wanted} (H, W, C) or (C, H, W) in floating point; for class indices pass --kind masks"
        form = "class indices (H, W) or one-hot masks of an integer type" if wanted in INDICES else form
        raise AuditError(f"{array}: expected {form}; found {array.dtype} of shape {array.shape}")
    if 0 in array.shape:
        raise AuditError(f"{array}: expected images, found an array of shape {array.shape}")
    if not hot:
        return array._replace(shape=shape)
    # Assumes fewer classes than rows or columns.
    last = shape[-1] <= shape[0]
    return array._replace(shape=shape[:-1] if last else shape[1:], axis=-1 if last else -3)


def find_photos(folder: Path, names: Sequence[str] | None = None, *, suffixes: Sequence[str] = ()) -> dict[str, Path]:
    """Returns the photos of images by name, or all photos of the folder without names.

    Raises:
        AuditError: the folder is missing, or an image has no photo or several.
    """
    if not folder.is_dir():
        raise AuditError(f"--images: expected a folder of photos ({' '.join(PHOTOS)}), found {folder}")
    paths = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in PHOTOS and path.is_file()]
    named = check_names(f"--images: {folder}", [stem_of(path, suffixes) for path in paths])
    photos = dict(zip(named, paths, strict=True))
    missing = [name for name in names or () if name not in photos]
    if missing or not photos:
        found = f"none for {listed(missing)}" if missing else "found none"
        raise AuditError(f"--images: expected a photo named as each image in {folder}; {found}")
    return photos if names is None else {name: photos[name] for name in names}


def stem_of(path: Path, suffixes: Sequence[str] = ()) -> str:
    """Returns the name of an image: its file name without extension and without one of the suffixes."""
    return _without(path.name[: len(path.name) - len(suffix_of(path))], suffixes)


def _without(name: str, suffixes: Sequence[str]) -> str:
    return next((name.removesuffix(ending) for ending in suffixes if ending and name.endswith(ending)), name)


def check_names(where: object, names: Iterable[str]) -> tuple[str, ...]:
    """Returns image names; raises AuditError for duplicates."""
    names = tuple(names)
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise AuditError(f"{where}: expected a name an image, found some more than once, {listed(twice)}")
    return names


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
