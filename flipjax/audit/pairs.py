"""Finds stored predictions and labels by header, matches them by name or position, and reads them one by one."""

import contextlib
import dataclasses
import functools
import re
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from flipjax.audit import arrays
from flipjax.audit.arrays import AuditError, Coco, Source, StoredArray
from flipjax.metrics.classes import Background, LabelSpec, check_background
from flipjax.support.terminal import listed
from flipjax.support.threads import in_order

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
    """How to read values: `spec` describes what is read, with classes last and their number once it is known.

    `channels` is the class axis of stored scores (first or last), "none" for masks. `unit` is `class`, `component`, or
    `instance` (segments of a COCO file).
    """

    spec: LabelSpec
    channels: str
    unit: str = "class"

    @property
    def classes(self) -> int:
        """The number of classes; 0 until it is known."""
        return self.spec.num_classes or 0

    def as_json(self) -> dict[str, Any]:
        """Returns the options that summary.json stores."""
        spec = self.spec
        first = {"kind": spec.kind, "channels": self.channels, "background": spec.background}
        return first | {"ignore_index": spec.ignore_index, "unit": self.unit}


def open_pairs(
    predictions: Path | None,
    labels: Path,
    *,
    predict: Predict | None = None,
    images: Path | None = None,
    channels: str | None = None,
    label_map: str | None = None,
    prediction_map: str | None = None,
    unit: str | None = None,
    max_bytes: int = arrays.MAX_BYTES,
    **spec: Any,
) -> tuple[list[Pair], Encoding, Coco | None]:
    """Finds the images of two folders or files by headers only, except that masks without a class count are read.

    Args:
        predictions: a folder with one file per image, or one file with all; None with `predict`.
        labels: the same.
        predict: computes logits from a photo.
        images: the folder of the photos.
        channels: `first` or `last`, needed if shapes fit both.
        label_map: a CSV, or the name of a map from labels to classes.
        prediction_map: the same for predicted masks.
        unit: segment unit, `class`, `component` or `instance`.
        max_bytes: most bytes of an image's values, of an unpacked npz, and of the confusion matrices.
        **spec: fields of `flipjax.metrics.LabelSpec`; `num_classes`: of masks, where neither names nor values give it.

    Returns:
        Images, their encoding, and COCO categories if any.

    Raises:
        AuditError: an input is unusable, or an option does not fit it.
    """
    with in_options():
        given = LabelSpec(**spec)
    masks = given.kind == "masks"
    for name, value in (("prediction_map", prediction_map), ("num_classes", given.num_classes)):
        if value and not masks:
            raise AuditError(f"--{name}: expected --kind masks beside it, found {given.kind}")
    to_class = arrays.read_label_map(label_map) if label_map else None
    found = arrays.read_label_map(prediction_map, option="--prediction_map") if prediction_map else None
    truth = arrays.open_source(labels, wanted="labels", label_map=to_class, most=max_bytes)
    coco = truth.coco
    if coco and (to_class or found):
        raise AuditError(f"{labels}: expected no label map beside a COCO JSON, which has its own categories")
    if predict:
        source = _predicted(predict, images, truth, given.kind)
    elif predictions is None:
        raise AuditError("--predictions: expected a folder or a file, or --model with --images, found none")
    else:
        own: dict[str, Any] = {"label_map": found, "truth": coco, "most": max_bytes}
        source = arrays.open_source(predictions, wanted=given.kind, **own)
    if unit == "instance" and not coco:
        raise AuditError(f"--unit instance: expected labels in COCO's panoptic or instances format, found {labels}")
    if coco:
        given = _of_coco(given, coco, spec.get("background", 0))
    elif to_class and given.ignore_index is None and arrays.IGNORED in to_class.classes.values():
        given = dataclasses.replace(given, ignore_index=arrays.IGNORED)
    pairs = pair_images(source, truth)
    axis, C = find_axis(pairs, given.kind, channels)
    given = dataclasses.replace(given, spatial_ndim=max(len(each.labels.shape) for each in pairs))
    encoding = Encoding(given, axis, unit or ("instance" if coco else "class"))
    C = C or given.num_classes or _count_classes(pairs, encoding)
    arrays.check_size(f"confusion matrices of {C} classes", 4 * len(pairs) * C**2, max_bytes)
    with in_options():
        check_background(given.background, C, name=str(predictions or "--model"))
    return pairs, encoding._replace(spec=dataclasses.replace(given, num_classes=C)), coco


def _predicted(predict: Predict, images: Path | None, labels: Source, kind: str) -> Source:
    """Returns the photos of labelled images as predictions to compute, with C taken from the first one."""
    if kind != "logits" or images is None:
        raise AuditError(f"--model: expected --images beside it and --kind logits, found {images} and {kind}")
    if labels.names is None:
        raise AuditError(f"{labels.path}: expected labels with names beside --model, those of the photos")
    photos = [*arrays.find_photos(images, labels.names).values()]

    def load(photo: Path) -> np.ndarray:
        return predict(arrays.read_photo(photo))

    C = load(photos[0]).shape[-1]
    found = [
        StoredArray(str(photo), (*array.shape, C), functools.partial(load, photo))
        for photo, array in zip(photos, labels.images, strict=True)
    ]
    return Source(images, labels.names, tuple(found))


def _of_coco(spec: LabelSpec, coco: Coco, background: Background) -> LabelSpec:
    """Adds the classes of a COCO file. Panoptic masks have a further class, of pixels without predicted segment."""
    masks, C = spec.kind == "masks", len(coco.class_names)
    if coco.panoptic:
        own = () if background == 0 else spec.background_classes
        background, C = (*own, C) if masks else own, C + 1
    changes: dict[str, Any] = {"background": background, "num_classes": C if masks else None}
    with in_options():
        return dataclasses.replace(spec, ignore_index=arrays.VOID, **changes)


def _count_classes(pairs: Sequence[Pair], encoding: Encoding) -> int:
    """Returns the number of classes of masks: from a map or names, or counted."""
    spec, label_map = encoding.spec, pairs[0].labels.label_map
    names = spec.class_names or ()
    least = label_map.count if label_map else 0
    all_named = spec.background is None or any("background" in name.lower() for name in names)
    if not (least or (names and all_named)):
        read = in_order(functools.partial(read_pair, encoding=encoding), pairs)
        for each, (predicted, labels, *_) in zip(pairs, read, strict=True):
            top = int(labels[labels != spec.ignore_index].max(initial=0))
            if top == arrays.IGNORED and predicted.max(initial=0) < arrays.IGNORED and spec.ignore_index is None:
                raise AuditError(f"{each.labels}: expected classes, found 255; pass --ignore_index 255")
            least = max(least, top + 1, int(predicted.max(initial=0)) + 1)
    if names:
        return len(names) + (0 if least <= len(names) else len(spec.background_classes))
    return least


def pair_images(predictions: Source, labels: Source) -> list[Pair]:
    """Pairs predictions with labels, by name if both have names, else by position.

    Raises:
        AuditError: names or counts differ, only one side has names, or volumes and labels differ in position.
    """
    where = f"{predictions.path} and {labels.path}"
    ours, theirs, truth = predictions.names, labels.names, labels.images
    # Two files with one image each form a pair, whatever their names.
    single = len(predictions.images) == len(truth) == 1 and not predictions.path.is_dir()
    if ours and theirs and not single:
        own, others = {*ours}, {*theirs}
        lacking = {"predictions without labels": own - others, "labels without a prediction": others - own}
        if found := [f"{what}, {listed(sorted(names))}" for what, names in lacking.items() if names]:
            raise AuditError(f"expected the same names in {where}; found {'; '.join(found)}")
        by_name = dict(zip(theirs, truth, strict=True))
        truth = tuple(by_name[name] for name in ours)
    elif not single and not (predictions.stacked and labels.stacked):
        raise AuditError(f"{where}: expected two folders, or two stacks, which may hold names; found one of each")
    elif len(predictions.images) != len(truth):
        counts = f"{len(predictions.images)} predictions and {len(truth)} labels"
        raise AuditError(f"{where}: expected as many labels as predictions, found {counts}")
    names = ours or theirs or map(str, range(len(truth)))
    pairs = [Pair(*entry) for entry in zip(names, predictions.images, truth, strict=True)]
    for pair in pairs:
        _check_place(Path(pair.prediction.where), Path(pair.labels.where))
    return pairs


def find_axis(pairs: Sequence[Pair], kind: str, channels: str | None) -> tuple[str, int]:
    """Returns the class axis, `first` or `last` (`channels` if given) or `none` of masks, and the number of classes.

    Raises:
        AuditError: predictions do not fit the labels, or fit them both ways.
    """
    axes = ("none",) if kind == "masks" else (channels,) if channels else ("last", "first")

    def fits(pair: Pair) -> dict[str, int]:
        """Returns the number of classes by axis, of the axes that fit the labels."""
        shape = pair.prediction.shape
        parts = {"none": (shape, 0), "last": (shape[:-1], shape[-1]), "first": (shape[1:], shape[0])}
        return {axis: parts[axis][1] for axis in axes if parts[axis][0] == pair.labels.shape}

    fitting = [fits(pair) for pair in pairs]
    possible = set(axes).intersection(*fitting) or {axes[0]}
    axis = possible.pop()
    C = fitting[0].get(axis)
    wrong = [pair for pair, found in zip(pairs, fitting, strict=True) if found.get(axis) is None or found[axis] != C]
    if wrong or possible:
        text = listed(f"{each.name} {each.prediction.shape} with labels {each.labels.shape}" for each in wrong or pairs)
        form = " or ".join(f"{FORMS[each]}" for each in axes)
        advice = "; pass --channels first or --channels last" if possible else ""
        raise AuditError(f"expected predictions {form} for labels (H, W), C alike in all; found {text}{advice}")
    return axis, C or 0


def read_values(pairs: Sequence[Pair], encoding: Encoding) -> Generator[Arrays]:
    """Reads images in order, prefetching the next one."""
    with ThreadPoolExecutor(1) as thread:
        following = thread.submit(read_pair, pairs[0], encoding)
        for each in pairs[1:]:
            values = following.result()
            following = thread.submit(read_pair, each, encoding)
            yield values
        yield following.result()


def read_pair(pair: Pair, encoding: Encoding) -> Arrays:
    """Reads one image, with scores as float32.

    Raises:
        AuditError: a file is damaged, or a map lacks some labels.
    """
    values, instances = pair.labels.read(), encoding.unit == "instance"
    labels = pair.labels.to_classes(values, ignore_index=encoding.spec.ignore_index)
    unit, scores = values if instances else encoding.unit, pair.prediction.read()
    if encoding.spec.kind == "masks":
        ids = scores if instances and pair.prediction.label_map else None
        return Arrays(pair.prediction.to_classes(scores), labels, unit, ids)
    scores = np.moveaxis(scores, 0, -1) if encoding.channels == "first" else scores
    with np.errstate(over="ignore"):
        return Arrays(np.asarray(scores, np.float32, order="C"), labels, unit)


def _check_place(prediction: Path, labels: Path) -> None:
    """Raises AuditError if two volumes differ in voxel size, direction or position."""
    if not all(arrays.suffix_of(path) in arrays.NIFTI for path in (prediction, labels)):
        return
    with arrays.naming(prediction):
        found, expected = (arrays.open_volume(path).affine for path in (prediction, labels))
    if not np.allclose(found, expected, rtol=1e-4, atol=1e-3):
        raise AuditError(
            f"{prediction}: expected the affine of its labels, {expected[:3].round(3).tolist()}, found "
            f"{found[:3].round(3).tolist()}; resample one onto the other"
        )


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
    except AuditError:
        raise
    except (TypeError, ValueError) as error:
        name, _, problem = str(error).rstrip(".").replace("background=None", "--background none").partition(": ")
        problem = re.sub(r"\b(kind|ignore_index|num_classes|channels)=['\"]?(\w+)['\"]?", r"--\1 \2", problem)
        where: object = f"--{name}" if name in OPTIONS else name
        if pair and name not in OPTIONS:
            where, own = (pair.labels, "label_map") if name == "labels" else (pair.prediction, "prediction_map")
            if "expected class indices" in problem:
                problem += f"; where they are other numbers, --{own} maps them to classes"
        raise AuditError(f"{where}: {problem}") from error
