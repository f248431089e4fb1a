"""Finds stored predictions and labels by header, matches them by name or position, and reads them one by one."""

import contextlib
import math
import re
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from flipjax.audit.arrays import (
    IGNORED,
    NIFTI,
    ArrayReader,
    AuditError,
    LabelMap,
    Limits,
    StoredArray,
    apply_label_map,
    open_volume,
    read_label_map,
    read_photo,
    suffix_of,
)
from flipjax.audit.sources import VOID, Coco, Source, find_photos, open_source
from flipjax.metrics.classes import (
    Background,
    LabelSpec,
    background_classes,
    check_background,
    is_foreground,
    read_background,
)
from flipjax.terminal import listed

FORMS = {"none": "(H, W)", "last": "(H, W, C)", "first": "(C, H, W)"}
"""Axes of a prediction, by position of the class axis."""
OPTIONS = ("background", "class_names", "ignore_index", "num_classes")
"""Arguments of metrics that are options of the command."""
Predict = Callable[[np.ndarray], np.ndarray]
"""From a photo uint8 (H, W, 3) to logits float32 (H, W, C)."""


class Pair(NamedTuple):
    """One image: its name, its prediction and its labels."""

    name: str
    prediction: StoredArray
    labels: StoredArray


class Arrays(NamedTuple):
    """One image: scores float32 (H, W, C) or a mask (H, W), labels (H, W), and the segment units of both."""

    scores: np.ndarray
    labels: np.ndarray
    unit: str | np.ndarray
    predicted_unit: str | np.ndarray | None = None


class Encoding(NamedTuple):
    """How to read values: `kind` as in `flipjax.metrics`, class axis (first or last) and number of classes.

    Masks have class axis "none", and 0 classes until they are counted. Maps are applied on reading. `unit` is `class`,
    `component`, or `instance` (segments of a COCO file). `predict` computes logits from photos if predictions are not
    stored.
    """

    kind: str
    channels: str | None
    classes: int
    background: Background = 0
    ignore_index: int | None = None
    label_map: LabelMap | None = None
    prediction_map: LabelMap | None = None
    unit: str = "class"
    spatial_ndim: int = 2
    predict: Predict | None = None

    @property
    def foreground(self) -> list[int]:
        """The foreground classes."""
        return np.flatnonzero(is_foreground(self.classes, self.background)).tolist()

    @property
    def options(self) -> LabelSpec:
        """Kernel options, for scores with classes last."""
        known = background_classes(self.background)
        classes = self.classes if self.kind == "masks" else None
        return LabelSpec(known, self.ignore_index, self.spatial_ndim, self.kind, num_classes=classes)


class Inputs(NamedTuple):
    """Images, their encoding, whether they are matched by position only, and COCO categories if any."""

    pairs: list[Pair]
    encoding: Encoding
    positional: bool
    coco: Coco | None = None


def open_pairs(
    predictions: Path | None,
    labels: Path,
    *,
    predict: Predict | None = None,
    images: Path | None = None,
    kind: str = "logits",
    channels: str | None = None,
    background: Background = 0,
    ignore_index: int | None = None,
    class_names: Sequence[str] | None = None,
    num_classes: int | None = None,
    label_map: str | None = None,
    prediction_map: str | None = None,
    unit: str | None = None,
    min_score: float = 0.5,
    suffixes: Sequence[str] = (),
    limits: Limits | None = None,
) -> Inputs:
    """Finds the images of two folders or files by headers only, except that masks without a class count are read.

    Args:
        predictions: a folder with one file per image, or one file with all; None with `predict`.
        labels: the same.
        predict: computes logits from a photo.
        images: the folder of the photos.
        kind: `logits`, `probabilities` or `masks`.
        channels: `first` or `last`, needed if shapes fit both.
        background: the background class, several, or None.
        ignore_index: the label of pixels to ignore.
        class_names: names of all classes, or of all except the background.
        num_classes: number of classes of masks, if names and values do not determine it.
        label_map: a CSV, or the name of a map from labels to classes.
        prediction_map: the same for predicted masks.
        unit: segment unit, `class`, `component` or `instance`.
        min_score: lowest score of COCO results.
        suffixes: endings to drop from names.
        limits: size limits of images.

    Raises:
        AuditError: an input is unusable, or an option does not fit it.
    """
    limits = limits or Limits()
    masks = kind == "masks"
    for name, value in (("prediction_map", prediction_map), ("num_classes", num_classes)):
        if value and not masks:
            raise AuditError(f"--{name}: expected --kind masks beside it, found {kind}")
    sides: dict[str, Any] = {"suffixes": tuple(suffixes), "limits": limits}
    truth_source = open_source(labels, wanted="labels", **sides)
    coco = truth_source.coco
    if coco and (label_map or prediction_map):
        raise AuditError(f"{labels}: expected no label map beside a COCO JSON, which has its own categories")
    if predict:
        source = _predicted(predict, images, truth_source, kind, suffixes)
    elif predictions is None:
        raise AuditError("--predictions: expected a folder or a file, or --model with --images, found none")
    else:
        source = open_source(predictions, wanted=kind, truth=coco, min_score=min_score, **sides)
    pairs = pair_images(source, truth_source)
    unit = unit or ("instance" if coco else "class")
    if unit == "instance" and not coco:
        raise AuditError(f"--unit instance: expected labels in COCO's panoptic or instances format, found {labels}")
    to_class = read_label_map(label_map) if label_map else None
    if to_class and ignore_index is None and IGNORED in to_class.classes.values():
        ignore_index = IGNORED
    ignore_index = VOID if coco else ignore_index
    found = read_label_map(prediction_map, option="--prediction_map") if prediction_map else None
    background = _background(background, coco, masks=masks)
    encoding = Encoding(kind, channels, 0, background, ignore_index, to_class, found, unit, predict=predict)
    encoding = find_encoding(pairs, encoding, limits)
    if masks:
        count = coco.classes(kind) if coco else _count_classes(pairs, encoding, num_classes, class_names or ())
        encoding = encoding._replace(classes=count)
    with in_options():
        check_background(background, encoding.classes, name=str(predictions or "--model"))
    return Inputs(pairs, encoding, source.names is None and truth_source.names is None, coco)


def _predicted(predict: Predict, images: Path | None, labels: Source, kind: str, suffixes: Sequence[str]) -> Source:
    """Returns photos of labelled images as predictions to compute, with C taken from the first one."""
    if kind != "logits" or images is None:
        raise AuditError(f"--model: expected --images beside it and --kind logits, found {images} and {kind}")
    photos = find_photos(images, labels.names, suffixes=suffixes)
    if labels.names is None:
        raise AuditError(f"{labels.path}: expected labels with names beside --model, those of the photos")
    first = predict(read_photo(photos[labels.names[0]], labels.images[0].shape))
    shapes = [(*array.shape, first.shape[-1]) for array in labels.images]
    pairs = zip(labels.names, shapes, strict=True)
    arrays = [StoredArray(photos[name], "", shape, np.dtype(np.float32)) for name, shape in pairs]
    return Source(labels.path, labels.names, tuple(arrays))


def _background(given: Background, coco: Coco | None, *, masks: bool) -> Background:
    """Returns the background. Panoptic masks add the class of pixels without predicted segment."""
    with in_options():
        if not (coco and coco.panoptic):
            return read_background(given)
        own = () if given == 0 else background_classes(given)
        return read_background([*own, *([len(coco.class_names)] if masks else [])])


def _count_classes(pairs: Sequence[Pair], encoding: Encoding, given: int | None, names: Sequence[str]) -> int:
    """Returns the number of classes of masks: given, from a map or names, or counted."""
    least = encoding.label_map.count if encoding.label_map else 0
    all_named = encoding.background is None or any("background" in name.lower() for name in names)
    if not (given or least or (names and all_named)):
        with contextlib.closing(read_values(pairs, encoding)) as values:
            for each, (predicted, labels, *_) in zip(pairs, values, strict=True):
                top = int(labels[labels != encoding.ignore_index].max(initial=0))
                if top == IGNORED and predicted.max(initial=0) < IGNORED and encoding.ignore_index is None:
                    raise AuditError(f"{each.labels}: expected classes, found 255; pass --ignore_index 255")
                least = max(least, top + 1, int(predicted.max(initial=0)) + 1)
    if names:
        least = len(names) + (0 if least <= len(names) else len(background_classes(encoding.background)))
    return given or least


def pair_images(predictions: Source, labels: Source) -> list[Pair]:
    """Pairs predictions with labels, by name if both have names, else by position.

    Raises:
        AuditError: names, order or counts differ, only one side has names, or volumes and labels differ in position.
    """
    where = f"{predictions.path} and {labels.path}"
    ours, theirs = predictions.names, labels.names
    both = predictions.stacked and labels.stacked
    # Two files with one image each form a pair, whatever their names.
    single = len(predictions.images) == len(labels.images) == 1 and not predictions.path.is_dir()
    if ours is not None and theirs is not None and not single:
        lacking = {"predictions without labels": set(ours) - set(theirs)}
        lacking["labels without a prediction"] = set(theirs) - set(ours)
        found = [f"{what}, {listed(sorted(names))}" for what, names in lacking.items() if names]
        moved = [name for name, other in zip(ours, theirs, strict=False) if name != other] if both else []
        found += [f"another order of the rows, {listed(moved)}"] if moved and not found else []
        if found:
            advice = " (--suffixes names endings to leave out)" if all(lacking.values()) else ""
            raise AuditError(f"expected the same names in {where}; found {'; '.join(found)}{advice}")
        by_name = dict(zip(theirs, labels.images, strict=True))
        pairs = [Pair(name, image, by_name[name]) for name, image in zip(ours, predictions.images, strict=True)]
    else:
        if not single and not both:
            raise AuditError(
                f"{where}: images with names are matched by name, those of a stack by place; give two folders, two "
                "stacks, or npz files that also hold the array names"
            )
        if len(predictions.images) != len(labels.images):
            counts = f"{len(predictions.images)} predictions and {len(labels.images)} labels"
            raise AuditError(f"{where}: expected as many labels as predictions, found {counts}")
        names = ours or theirs or tuple(map(str, range(len(labels.images))))
        pairs = [Pair(*entry) for entry in zip(names, predictions.images, labels.images, strict=True)]
    for pair in pairs:
        _check_place(pair)
    return pairs


def _check_place(pair: Pair) -> None:
    """Raises AuditError if two volumes differ in voxel size, direction or position."""
    if suffix_of(pair.prediction.path) in NIFTI and suffix_of(pair.labels.path) in NIFTI:
        found, expected = (open_volume(array.path).affine for array in (pair.prediction, pair.labels))
        if not np.allclose(found, expected, rtol=1e-4, atol=1e-3):
            raise AuditError(
                f"{pair.prediction}: expected the affine of its labels, {expected[:3].round(3).tolist()}, found "
                f"{found[:3].round(3).tolist()}; resample one onto the other"
            )


def find_encoding(pairs: Sequence[Pair], encoding: Encoding, limits: Limits) -> Encoding:
    """Finds the class axis by comparing the shapes of predictions and labels, from headers only.

    Args:
        pairs: the images.
        encoding: its channels are as given, or None.
        limits: size limits of images.

    Raises:
        AuditError: sizes do not fit or are too large, or the axis is ambiguous.
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
        where = "may be on the first or on the last axis" if possible else "are on the first axis in some images alone"
        raise AuditError(f"{pairs[0].prediction}: its classes {where}; pass --channels first or --channels last")
    axis = possible.pop()
    counts = [_split(each.prediction, axis)[1] for each in pairs]
    others = [f"{each.name} ({count})" for each, count in zip(pairs, counts, strict=True) if count != counts[0]]
    if others:
        raise AuditError(f"expected {counts[0]} classes in all images, as in {pairs[0].name}; found {listed(others)}")
    for each in pairs:
        size = math.prod(each.prediction.shape)
        check_limit(str(each.prediction), size // counts[0], limits, "pixels")
        check_limit(str(each.prediction), size * max(4, each.prediction.dtype.itemsize), limits, "bytes")
    ndim = max(len(each.labels.shape) for each in pairs)
    return encoding._replace(channels=axis, classes=0 if axis == "none" else counts[0], spatial_ndim=ndim)


def check_limit(what: str, value: int, limits: Limits, name: str) -> None:
    """Raises AuditError if a number of pixels or bytes exceeds its limit."""
    if value > getattr(limits, name):
        unit = "pixels" if name == "pixels" else "bytes"
        most = f"{getattr(limits, name):,} {unit}"
        raise AuditError(f"{what}: expected at most {most}, found {value:,} (--max_{name} sets the limit)")


def _split(array: StoredArray, axis: str) -> tuple[tuple[int, ...], int]:
    """Returns the image size and the number of classes (1 for masks)."""
    if axis == "none":
        return array.shape, 1
    return (array.shape[:-1], array.shape[-1]) if axis == "last" else (array.shape[1:], array.shape[0])


def read_values(pairs: Sequence[Pair], encoding: Encoding) -> Generator[Arrays]:
    """Reads images in order, prefetching the next one."""
    with ArrayReader() as reader, ThreadPoolExecutor(1) as thread:
        following = thread.submit(read_pair, reader, pairs[0], encoding)
        for each in pairs[1:]:
            arrays = following.result()
            following = thread.submit(read_pair, reader, each, encoding)
            yield arrays
        yield following.result()


def read_pair(reader: ArrayReader, pair: Pair, encoding: Encoding) -> Arrays:
    """Reads one image, with scores as float32.

    Raises:
        AuditError: a file is damaged, or a map lacks some labels.
    """
    own = encoding.ignore_index
    labels, ids = read_labels(reader, pair.labels, encoding.label_map, ignore_index=own)
    unit = encoding.unit if ids is None or encoding.unit != "instance" else ids
    if encoding.predict:
        return Arrays(encoding.predict(read_photo(pair.prediction.path, labels.shape)), labels, unit)
    if encoding.kind != "masks":
        raw = reader.read(pair.prediction)
        with np.errstate(over="ignore"):
            scores = np.asarray(np.moveaxis(raw, 0, -1) if encoding.channels == "first" else raw, np.float32, order="C")
        return Arrays(scores, labels, unit)
    mask, ids = read_labels(reader, pair.prediction, encoding.prediction_map, ignore_index=None)
    return Arrays(mask, labels, unit, ids if encoding.unit == "instance" else None)


def read_labels(
    reader: ArrayReader, array: StoredArray, label_map: LabelMap | None, *, ignore_index: int | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Returns classes, and segment ids of a COCO file."""
    values = reader.read(array)
    if array.classes is not None:
        origin = f"{array.path.parent}.json"
        return apply_label_map(values, array.classes, ignore_index=None, where=array, origin=origin), values
    if label_map is None:
        return values, None
    own: dict[str, Any] = {"where": array, "origin": label_map.origin}
    return apply_label_map(values, label_map.classes, ignore_index=ignore_index, **own), None


@contextlib.contextmanager
def in_options(pair: Pair | None = None) -> Iterator[None]:
    """Converts a metric's error to an AuditError that names the file and spells arguments as options.

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
            if "expected class indices" in problem:
                own = "label_map" if name == "labels" else "prediction_map"
                problem += f"; where they are other numbers, --{own} maps them to classes"
        raise AuditError(f"{where}: {problem}") from error
