"""What the values of predictions and labels mean, and one image's arrays, read and checked."""

import contextlib
import math
import re
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from flipjax.audit.arrays import ArrayReader, AuditError, Limits, StoredArray, listed
from flipjax.audit.label_maps import LabelMap, Panoptic, apply_label_map
from flipjax.audit.read import Pair
from flipjax.metrics.classes import Background, LabelSpec, background_classes

FORMS = {"none": "(H, W)", "last": "(H, W, C)", "first": "(C, H, W)"}
"""The axes of predictions, by that of the classes."""
OPTIONS = ("background", "class_names", "ignore_index", "num_classes")
"""Arguments of metrics that are options of the command."""


class Arrays(NamedTuple):
    """One image: scores float32 (H, W, C) or a mask (H, W), labels (H, W), and the units of both: a word or ids."""

    scores: np.ndarray
    labels: np.ndarray
    unit: str | np.ndarray
    predicted_unit: str | np.ndarray | None = None


class Encoding(NamedTuple):
    """What the values mean: `kind` as in `flipjax.metrics`, the axis of the classes (first or last), their number.

    Masks have no such axis ("none"); their classes are 0 until they are counted. Maps are applied on reading;
    `unit` is `class`, `component`, or `instance`: the segments of a panoptic map.
    """

    kind: str
    channels: str | None
    classes: int
    background: Background = 0
    ignore_index: int | None = None
    label_map: LabelMap | Panoptic | None = None
    prediction_map: LabelMap | Panoptic | None = None
    unit: str = "class"
    spatial_ndim: int = 2

    @property
    def options(self) -> LabelSpec:
        """What the kernels take, of scores with the classes last."""
        known = background_classes(self.background)
        classes = self.classes if self.kind == "masks" else None
        return LabelSpec(known, self.ignore_index, self.spatial_ndim, self.kind, num_classes=classes)


def find_encoding(pairs: Sequence[Pair], encoding: Encoding, limits: Limits) -> Encoding:
    """Finds the axis of the classes by comparing the predictions' shapes with their labels', by headers alone.

    Args:
        pairs: the images.
        encoding: its channels are those that the user has said, or None.
        limits: of what an image may take.

    Raises:
        AuditError: sizes that do not fit or are too large, or an axis that could be either.
    """
    axes = ("none",) if encoding.kind == "masks" else (encoding.channels,) if encoding.channels else ("last", "first")
    fitting = [[axis for axis in axes if _split(each.prediction, axis)[0] == each.labels.shape] for each in pairs]
    wrong = [each for each, fits in zip(pairs, fitting, strict=True) if not fits]
    if wrong:
        texts = listed(f"{each.name} {each.prediction.shape} with labels {each.labels.shape}" for each in wrong)
        form = " or ".join(FORMS[axis] for axis in axes)
        raise AuditError(f"expected predictions {form} for labels (H, W); found others, {texts}")
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
    ndim = max(len(each.labels.shape) for each in pairs)
    return encoding._replace(channels=axis, classes=0 if axis == "none" else counts[0], spatial_ndim=ndim)


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
    """Returns the sizes of the image and the number of classes, of masks 1."""
    if axis == "none":
        return array.shape, 1
    return (array.shape[:-1], array.shape[-1]) if axis == "last" else (array.shape[1:], array.shape[0])


def read_values(pairs: Sequence[Pair], encoding: Encoding) -> Generator[Arrays]:
    """Reads the images in order, the next one while one is used."""
    with ArrayReader() as reader, ThreadPoolExecutor(1) as thread:
        following = thread.submit(read_pair, reader, pairs[0], encoding)
        for each in pairs[1:]:
            arrays = following.result()
            following = thread.submit(read_pair, reader, each, encoding)
            yield arrays
        yield following.result()


def read_pair(reader: ArrayReader, pair: Pair, encoding: Encoding) -> Arrays:
    """Reads one image, scores as float32.

    Raises:
        AuditError: a damaged file, or labels that a map does not name.
    """
    labels, unit = _mapped(reader, pair.labels, pair.name, encoding, encoding.label_map)
    if encoding.kind != "masks":
        raw = reader.read(pair.prediction)
        with np.errstate(over="ignore"):
            scores = np.asarray(np.moveaxis(raw, 0, -1) if encoding.channels == "first" else raw, np.float32, order="C")
        return Arrays(scores, labels, unit)
    predicted = encoding._replace(ignore_index=None)
    mask, predicted_unit = _mapped(reader, pair.prediction, pair.name, predicted, encoding.prediction_map)
    return Arrays(mask, labels, unit, predicted_unit if isinstance(predicted_unit, np.ndarray) else None)


def _mapped(
    reader: ArrayReader, array: StoredArray, name: str, encoding: Encoding, label_map: LabelMap | Panoptic | None
) -> tuple[np.ndarray, str | np.ndarray]:
    """Returns classes, and what their units are: the ids of a panoptic map."""
    values = reader.read(array)
    if label_map is None:
        return values, encoding.unit
    instances = isinstance(label_map, Panoptic) and encoding.unit == "instance"
    own = label_map.maps[name] if isinstance(label_map, Panoptic) else label_map
    classes = apply_label_map(values, own, ignore_index=encoding.ignore_index, where=array)
    return classes, values if instances else encoding.unit


@contextlib.contextmanager
def in_options(pair: Pair | None = None) -> Iterator[None]:
    """Makes an AuditError of what a metric refuses, which names the file and spells arguments as options.

    Example:
        >>> with in_options():
        ...     raise ValueError("num_classes: expected 3 classes; pass ignore_index=255.")
        Traceback (most recent call last):
        flipjax.audit.arrays.AuditError: --num_classes: expected 3 classes; pass --ignore_index 255
    """
    try:
        yield
    except (TypeError, ValueError) as error:
        if isinstance(error, AuditError):
            raise
        name, _, problem = str(error).rstrip(".").replace("background=None", "--background none").partition(": ")
        problem = re.sub(r"\b(kind|ignore_index|num_classes)=['\"]?(\w+)['\"]?", r"--\1 \2", problem)
        where: object = f"--{name}" if name in OPTIONS else name
        if pair and name not in OPTIONS:
            where = pair.labels if name == "labels" else pair.prediction
        raise AuditError(f"{where}: {problem}") from error
