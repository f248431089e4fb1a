"""Predictions and labels of an audit: the images of folders and files, paired by name or place, checked by headers."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from flipjax.audit.arrays import ArrayReader, AuditError, Limits, StoredArray, listed, read_headers
from flipjax.audit.gather import check_values
from flipjax.audit.label_maps import LabelMap, apply_label_map
from flipjax.metrics.checks import Options
from flipjax.metrics.classes import Background, background_classes

RESERVED = ("logits", "probabilities", "masks", "labels", "groups", "names", "images")
INDICES = ("masks", "labels")
"""What holds class indices, in PNG files too."""


class Source(NamedTuple):
    """The images that one argument names, in order; without names they are known by their place alone."""

    path: Path
    names: tuple[str, ...] | None
    images: tuple[StoredArray, ...]

    @property
    def stacked(self) -> bool:
        """Whether the images are the rows of one array."""
        return self.images[0].row is not None


class Pair(NamedTuple):
    """One image: its name, its prediction and its labels."""

    name: str
    prediction: StoredArray
    labels: StoredArray


class Encoding(NamedTuple):
    """What the values mean: `kind` as in `flipjax.metrics`, the axis of the classes (first or last), their number.

    Masks have no such axis; their classes are 0 until they are counted. Maps, where given, are applied on reading.
    """

    kind: str
    channels: str
    classes: int
    background: Background = 0
    ignore_index: int | None = None
    label_map: LabelMap | None = None
    prediction_map: LabelMap | None = None

    @property
    def options(self) -> Options:
        """What the kernels take, of scores with the classes last."""
        known = background_classes(self.background)
        return Options(known, self.ignore_index, 2, self.kind, self.classes if self.kind == "masks" else None)


def check_names(where: object, names: Iterable[str]) -> tuple[str, ...]:
    """Returns the names of images; an AuditError where one stands twice, or would steer a terminal or break a table."""
    names = tuple(names)
    wrong = [ascii(name) for name in names if not name.isprintable()]
    if wrong:
        raise AuditError(f"{where}: expected names without control characters, found {listed(wrong)}")
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise AuditError(f"{where}: expected a name an image, found some more than once, {listed(twice)}")
    return names


def open_source(path: Path, *, wanted: str, rank: int, reader: ArrayReader, limits: Limits) -> Source:
    """Finds the images of a folder (one file an image) or of a file (a stack of images, or an array for each).

    Reads headers, and the names in an npz.

    Args:
        path: a folder of npy, npz and, for labels and masks, PNG files; or one of them.
        wanted: the array to take from an npz that holds several: logits, probabilities, masks or labels.
        rank: axes of one image's array; a stack has one more.
        reader: reads the array `names` of an npz.
        limits: of what an npz unpacks to.

    Raises:
        AuditError: nothing there, files or values of another type, or damaged, or names that stand for two images.
    """
    suffixes = (".npy", ".npz", ".png") if wanted in INDICES else (".npy", ".npz")
    files = sorted(file for file in path.iterdir() if file.name[0] != ".") if path.is_dir() else [path]
    wrong = [file.name for file in files if not file.is_file() or file.suffix.lower() not in suffixes]
    if wrong or not files:
        found = listed(wrong) if files and path.exists() else "nothing there"
        raise AuditError(f"{path}: expected files of type {' '.join(suffixes)}, found {found}")
    if path.is_dir():
        names = check_names(path, [file.stem for file in files])
        return Source(path, names, tuple(_alone(file, wanted, rank, limits) for file in files))
    arrays = read_headers(path, limits=limits)
    array = _member(arrays, wanted)
    if array is None:
        each = {name: arrays[name] for name in sorted(arrays) if name not in RESERVED}
        if not each or any(len(member.shape) != rank for member in each.values()):
            texts = listed(f"{name} {member.shape}" for name, member in arrays.items())
            raise AuditError(f"{path}: expected an array named {wanted}, or for each image one of {rank} axes; {texts}")
        for member in each.values():
            _check_form(member, member.shape, wanted, rank)
        return Source(path, check_names(path, each), tuple(each.values()))
    single = len(array.shape) == rank
    _check_form(array, array.shape if single else array.shape[1:], wanted, rank)
    if single:
        return Source(path, (path.stem,), (array,))
    rows = tuple(array._replace(shape=array.shape[1:], row=row) for row in range(array.shape[0]))
    if not rows or 0 in array.shape:
        raise AuditError(f"{array}: expected images, found an array of shape {array.shape}")
    if "names" not in arrays:
        return Source(path, None, rows)
    stored = arrays["names"]
    if stored.shape != (len(rows),) or stored.dtype.kind != "U":
        raise AuditError(f"{stored}: expected {len(rows)} strings, found {stored.dtype} of shape {stored.shape}")
    return Source(path, check_names(stored, map(str, reader.read(stored))), rows)


def _alone(file: Path, wanted: str, rank: int, limits: Limits) -> StoredArray:
    """Returns the one image of a file in a folder."""
    arrays = read_headers(file, limits=limits)
    array = _member(arrays, wanted)
    if array is None:
        raise AuditError(f"{file}: expected one array, or one named {wanted}; found {listed(arrays)}")
    # Models often save a batch of one.
    batch = len(array.shape) == rank + 1 and array.shape[0] == 1
    array = array._replace(shape=array.shape[1:]) if batch else array
    _check_form(array, array.shape, wanted, rank)
    return array


def _member(arrays: dict[str, StoredArray], wanted: str) -> StoredArray | None:
    """Returns the array to take from a file: the one of that name, or the only one that has no other meaning."""
    others = [array for name, array in arrays.items() if name not in RESERVED]
    return arrays.get(wanted, others[0] if len(others) == 1 else None)


def _check_form(array: StoredArray, shape: tuple[int, ...], wanted: str, rank: int) -> None:
    if len(shape) != rank or array.dtype.kind not in ("iu" if wanted in INDICES else "f"):
        form = f"{wanted} (H, W, C) or (C, H, W) in floating point; for class indices pass --kind masks"
        form = "class indices (H, W) of an integer type, the argmax of one-hot ones" if wanted in INDICES else form
        raise AuditError(f"{array}: expected {form}; found {array.dtype} of shape {array.shape}")


def pair_images(predictions: Source, labels: Source) -> list[Pair]:
    """Pairs each prediction with its labels: by name where both have names, else by place.

    Raises:
        AuditError: names that only one side has, other orders, other counts, or names on one side alone.
    """
    where = f"{predictions.path} and {labels.path}"
    ours, theirs = predictions.names, labels.names
    both = predictions.stacked and labels.stacked
    # Two files of one image each are a pair, whatever they are called.
    single = len(predictions.images) == len(labels.images) == 1 and not predictions.path.is_dir()
    if ours is not None and theirs is not None and not single:
        lacking = {"predictions without labels": set(ours) - set(theirs), "labels without a prediction": set(theirs)}
        lacking["labels without a prediction"] -= set(ours)
        found = [f"{what}, {listed(sorted(names))}" for what, names in lacking.items() if names]
        moved = [name for name, other in zip(ours, theirs, strict=False) if name != other] if both else []
        found += [f"another order of the rows, {listed(moved)}"] if moved and not found else []
        if found:
            raise AuditError(f"expected the same names in {where}; found {'; '.join(found)}")
        by_name = dict(zip(theirs, labels.images, strict=True))
        return [Pair(name, image, by_name[name]) for name, image in zip(ours, predictions.images, strict=True)]
    if not single and not both:
        raise AuditError(
            f"{where}: images with names are matched by name, those of a stack by place; give two folders, two stacks, "
            "or npz files that also hold the array names"
        )
    if len(predictions.images) != len(labels.images):
        counts = f"{len(predictions.images)} predictions and {len(labels.images)} labels"
        raise AuditError(f"{where}: expected as many labels as predictions, found {counts}")
    names = ours or theirs or tuple(map(str, range(len(labels.images))))
    return [Pair(*entry) for entry in zip(names, predictions.images, labels.images, strict=True)]


def find_encoding(
    pairs: Sequence[Pair],
    *,
    kind: str,
    channels: str | None,
    background: Background,
    ignore_index: int | None,
    limits: Limits,
) -> Encoding:
    """Finds the axis of the classes by comparing the predictions' shapes with their labels', by headers alone.

    Args:
        pairs: the images.
        kind: what the predictions are.
        channels: first or last, where the user has said it.
        background: the class that is background, several or None.
        ignore_index: the label of pixels that count nowhere.
        limits: of what an image may take.

    Raises:
        AuditError: sizes that do not fit or are too large, or an axis that could be either.
    """
    if kind == "masks":
        for each in pairs:
            check_size(each.prediction, 1, limits)
            if each.prediction.shape != each.labels.shape:
                sizes = [" x ".join(map(str, array.shape)) for array in (each.labels, each.prediction)]
                raise AuditError(f"{each.prediction}: expected the size of its labels, {sizes[0]}, found {sizes[1]}")
        return Encoding(kind, "none", 0, background, ignore_index)
    axes = ("last", "first") if channels is None else (channels,)
    fitting = [[axis for axis in axes if _split(each.prediction, axis)[0] == each.labels.shape] for each in pairs]
    wrong = [each for each, fits in zip(pairs, fitting, strict=True) if not fits]
    if wrong:
        texts = listed(f"{each.name} {each.prediction.shape} with labels {each.labels.shape}" for each in wrong)
        where = "" if channels is None else f" with the classes {channels}"
        raise AuditError(f"expected predictions (H, W, C) or (C, H, W){where} for labels (H, W); found others, {texts}")
    possible = set(axes).intersection(*fitting)
    if len(possible) != 1:
        what = "may be on the first or on the last axis" if possible else "are on the first axis in some images alone"
        raise AuditError(f"{pairs[0].prediction}: its classes {what}; pass --channels first or --channels last")
    axis = possible.pop()
    counts = [_split(each.prediction, axis)[1] for each in pairs]
    others = [f"{each.name} ({count})" for each, count in zip(pairs, counts, strict=True) if count != counts[0]]
    if others:
        raise AuditError(f"expected {counts[0]} classes in all images, as in {pairs[0].name}; found {listed(others)}")
    for each in pairs:
        check_size(each.prediction, counts[0], limits)
    check_matrices(len(pairs), counts[0], limits)
    return Encoding(kind, axis, counts[0], background, ignore_index)


def check_matrices(images: int, classes: int, limits: Limits) -> None:
    """Raises AuditError where the confusion matrices of all images take too much."""
    matrices = 4 * images * classes**2
    if matrices > limits.unpacked:
        raise AuditError(_beyond(f"confusion matrices of {classes} classes", matrices, limits, "unpacked"))


def check_size(array: StoredArray, classes: int, limits: Limits) -> None:
    """Raises AuditError where a prediction has too many pixels or scores."""
    taken = {
        "pixels": math.prod(array.shape) // classes,
        "bytes": math.prod(array.shape) * max(4, array.dtype.itemsize),
    }
    for name, value in taken.items():
        if value > getattr(limits, name):
            raise AuditError(_beyond(str(array), value, limits, name))


def _beyond(what: str, value: int, limits: Limits, name: str) -> str:
    unit = "pixels" if name == "pixels" else "bytes"
    return f"{what}: expected at most {getattr(limits, name):,} {unit}, found {value:,} (--max_{name} sets the limit)"


def _split(array: StoredArray, axis: str) -> tuple[tuple[int, ...], int]:
    """Returns the sizes of the image and the number of classes."""
    return (array.shape[:-1], array.shape[-1]) if axis == "last" else (array.shape[1:], array.shape[0])


def read_pair(reader: ArrayReader, pair: Pair, encoding: Encoding) -> tuple[np.ndarray, np.ndarray]:
    """Reads the scores float32 (H, W, C), or the mask (H, W), and the labels (H, W) of one image.

    Raises:
        AuditError: what `read_scores` raises, and labels that a map does not name.
    """
    ignore_index = encoding.ignore_index
    labels = reader.read(pair.labels)
    if encoding.label_map is not None:
        labels = apply_label_map(labels, encoding.label_map, ignore_index=ignore_index, where=pair.labels)
    if encoding.kind != "masks":
        return read_scores(reader, pair.prediction, encoding), labels
    mask = reader.read(pair.prediction)
    if encoding.prediction_map is not None:
        mask = apply_label_map(mask, encoding.prediction_map, ignore_index=None, where=pair.prediction)
    return mask, labels


def read_scores(reader: ArrayReader, array: StoredArray, encoding: Encoding) -> np.ndarray:
    """Reads the prediction of one image, float32 (H, W, C).

    Raises:
        AuditError: a damaged file, a pixel without a finite largest score, or probabilities that were called logits.
    """
    raw = reader.read(array)
    with np.errstate(over="ignore"):
        scores = np.asarray(np.moveaxis(raw, 0, -1) if encoding.channels == "first" else raw, np.float32, order="C")
    try:
        check_values(scores, encoding.kind)
    except ValueError as error:
        raise AuditError(f"{array}: {in_options(error)}") from error
    return scores


def in_options(error: Exception) -> str:
    """Returns what a metric's error says beyond its field, with arguments spelled as the command line does.

    Example:
        >>> in_options(ValueError("labels: expected 3 classes; pass ignore_index=255."))
        'expected 3 classes; pass --ignore_index 255'
    """
    problem = str(error).rstrip(".").partition(": ")[2].replace("background=None", "--background none")
    return re.sub(r"\b(kind|ignore_index|num_classes)=['\"]?(\w+)['\"]?", r"--\1 \2", problem)
