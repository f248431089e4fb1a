"""Matches stored predictions with labels, finds out from headers how to read them, and reads one image at a time."""

import contextlib
import dataclasses
import re
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypedDict

import numpy as np

from flipjax.audit import arrays, coco
from flipjax.audit.arrays import StoredArray, read_photo
from flipjax.audit.coco import Coco
from flipjax.audit.label_maps import IGNORED, LabelMap, read_label_map
from flipjax.audit.names import check_matched, read_pattern
from flipjax.audit.problems import AuditError, BrokenFileError, raise_broken
from flipjax.audit.sources import Source, open_source, predicted_source
from flipjax.metrics.classes import Background, LabelSpec, check_background
from flipjax.support.terminal import listed

OPTIONS = ("background", "class_names", "ignore_index", "min_size", "num_classes", "spacing")
"""Arguments of metrics and of `stream` that are options of the command."""
AFFINE_RTOL = 1e-4
"""How far the affines of a prediction and its labels may differ, relatively."""
AFFINE_ATOL = 1e-3
"""How far they may differ beside that, in mm."""
Predict = Callable[[np.ndarray], np.ndarray]
"""From a photo uint8 (H, W, 3) to logits float32 (H, W, C)."""


@dataclasses.dataclass(frozen=True)
class ImageRecord:
    """One image as it is counted. Files, batches of a stream and models make these."""

    name: str
    """Its name."""
    prediction: np.ndarray
    """Scores float32 (*spatial, C), or class indices (*spatial)."""
    labels: np.ndarray
    """Class indices, integers (*spatial)."""
    spacing: tuple[float, ...] | None = None
    """Distance of pixels in mm along each axis of space, if known."""
    unit: str | np.ndarray = "class"
    """Unit of true segments: `class`, `component`, or ids (*spatial)."""
    predicted_unit: str | np.ndarray | None = None
    """Unit of predicted segments; None follows `unit`."""
    photo: np.ndarray | Path | None = None
    """The photo uint8 (H, W, 3) for the page, or its file, which is read if the page may show it."""
    pair: "Pair | None" = None
    """The files, for messages; None in a stream."""


@dataclasses.dataclass(frozen=True)
class Pair:
    """One image in files: its name, its prediction, its labels and maybe its photo."""

    name: str
    """Its name."""
    prediction: StoredArray
    """Where its prediction is."""
    labels: StoredArray
    """Where its labels are."""
    photo: Path | None = None
    """Its photo for the page."""


@dataclasses.dataclass(frozen=True)
class Encoding:
    """How to read values."""

    spec: LabelSpec
    """Describes what is read, with classes last and, once it is known, their number."""
    channels: str
    """The class axis of stored scores, `first` or `last`; `none` of masks."""
    unit: str = "class"
    """Unit of segments: `class`, `component`, or `instance` (segments of a COCO file)."""
    spacing: tuple[float, ...] | None = None
    """Distance of pixels in mm along each axis of space, of images whose files do not say it."""
    name_count: int = 0
    """Number of names, where these may be of all classes or of the foreground alone; 0 if C does not depend on it."""

    @property
    def classes(self) -> int:
        """The number of classes; 0 until it is known."""
        return self.spec.num_classes or 0

    def with_classes(self, count: int) -> "Encoding":
        """Returns the encoding of this number of classes.

        Raises:
            ValueError: the background is not among them, or leaves fewer than two.
        """
        check_background(self.spec.background, count)
        return dataclasses.replace(self, spec=dataclasses.replace(self.spec, num_classes=count), name_count=0)

    def as_json(self) -> dict[str, object]:
        """Returns the options that summary.json stores."""
        options: dict[str, object] = {
            "kind": self.spec.kind,
            "channels": self.channels,
            "background": self.spec.background,
            "ignore_index": self.spec.ignore_index,
            "unit": self.unit,
        }
        if self.spacing is not None:
            options["spacing"] = list(self.spacing)
        return options


@dataclasses.dataclass(frozen=True)
class OpenedPairs:
    """The images of two arguments, before any values are read."""

    pairs: list[Pair]
    """The images."""
    encoding: Encoding
    """How to read them."""
    coco: Coco | None = None
    """Categories of a COCO file."""
    class_names: tuple[str, ...] | None = None
    """Names of the classes, of an option, a COCO file or a label map."""
    facts: tuple[str, ...] = ()
    """Sentences on what was left out."""


class ReadingOptions(TypedDict, total=False):
    """Arguments of `open_pairs` that say how values are read."""

    kind: str
    channels: str | None
    num_classes: int | None
    label_map: str | None
    prediction_map: str | None
    ignore_index: int | None
    unit: str | None
    names: str | None
    spacing: Sequence[float] | None
    spatial_ndim: int | None


def open_pairs(
    predictions: Path | None,
    labels: Path,
    *,
    predict: Predict | None = None,
    images: Path | None = None,
    kind: str = "logits",
    background: Background = 0,
    class_names: Sequence[str] | None = None,
    num_classes: int | None = None,
    ignore_index: int | None = None,
    channels: str | None = None,
    label_map: str | None = None,
    prediction_map: str | None = None,
    unit: str | None = None,
    names: str | None = None,
    spacing: Sequence[float] | None = None,
    spatial_ndim: int | None = None,
    max_bytes: int = arrays.MAX_BYTES,
) -> OpenedPairs:
    """Finds the images of two folders or files, by headers only.

    Args:
        predictions: a folder with one file per image, or one file with all; None with `predict`.
        labels: the same.
        predict: computes logits from a photo.
        images: the folder of the photos.
        kind: of predictions, `logits`, `probabilities` or `masks`.
        background: the background class, several, or None.
        class_names: names of all classes, or of all except the background.
        num_classes: of masks, where neither names nor values give it.
        ignore_index: label of pixels to leave out.
        channels: `first` or `last`, needed if shapes fit both.
        label_map: a CSV, or the name of a map from labels to classes.
        prediction_map: the same for predicted masks.
        unit: segment unit, `class`, `component` or `instance`.
        names: a regular expression of one group, the image's name in a file's path below its folder without suffix.
        spacing: distance of pixels in mm along each axis of space, where files do not say it.
        spatial_ndim: 2 for images, 3 for volumes; None: as the labels say.
        max_bytes: most bytes of an image's values, of an unpacked npz, and of the confusion matrices.

    Raises:
        AuditError: an input is unusable, or an option does not fit it; broken files are listed together.
    """
    with in_options():
        asked = LabelSpec(
            background=background,
            ignore_index=ignore_index,
            kind=kind,
            num_classes=num_classes,
            class_names=class_names,
        )
    masks = asked.kind == "masks"
    for name, value in (("prediction_map", prediction_map), ("num_classes", asked.num_classes)):
        if value and not masks:
            raise AuditError(f"--{name}: expected --kind masks beside it, found {asked.kind}")
    to_class = None
    if label_map:
        to_class = read_label_map(label_map)
    to_predicted = None
    if prediction_map:
        to_predicted = read_label_map(prediction_map, option="--prediction_map")
    pattern = read_pattern(names)
    truth = open_source(labels, wanted="labels", axes=spatial_ndim, label_map=to_class, pattern=pattern, most=max_bytes)
    if truth.coco and (to_class or to_predicted):
        raise AuditError(f"{labels}: expected no label map beside a COCO JSON, which has its own categories")
    if predict:
        raise_broken(truth.broken)
        source = predicted_source(predict, images, truth, kind=asked.kind, pattern=pattern, most=max_bytes)
    elif predictions is None:
        raise AuditError("--predictions: expected a folder or a file, or --model with --images, found none")
    else:
        source = open_source(
            predictions,
            wanted=asked.kind,
            axes=truth.axes,
            label_map=to_predicted,
            truth=truth.coco,
            pattern=pattern,
            most=max_bytes,
        )
    raise_broken((*source.broken, *truth.broken))
    if unit == "instance" and not truth.coco:
        raise AuditError(f"--unit instance: expected labels in COCO's panoptic or instances format, found {labels}")
    label_spec = _complete_spec(asked, truth, to_class, background=background)
    pairs = pair_images(source, truth)
    axis, score_classes = find_axis(pairs, label_spec.kind, channels)
    common_spacing = _read_spacing(spacing, truth)
    check_spacing(pairs, common_spacing)
    all_names = label_spec.class_names or _names_of(truth.coco, to_class, label_spec)
    count, name_count = _count_classes(label_spec, score_classes, all_names, to_class)
    if count:
        arrays.check_size(f"confusion matrices of {count} classes", 4 * len(pairs) * count**2, max_bytes)
        with in_options():
            check_background(label_spec.background, count, name=str(predictions or "--model"))
        label_spec = dataclasses.replace(label_spec, num_classes=count)
    if unit is None:
        unit = "instance" if truth.coco else "class"
    encoding = Encoding(
        spec=label_spec,
        channels=axis,
        unit=unit,
        spacing=common_spacing,
        name_count=name_count,
    )
    return OpenedPairs(
        pairs=pairs,
        encoding=encoding,
        coco=truth.coco,
        class_names=tuple(all_names) if all_names else None,
        facts=_facts(source, truth),
    )


def _facts(*sources: Source) -> tuple[str, ...]:
    """Returns sentences on the files of each argument that are left out."""
    lines = []
    for source in sources:
        if source.left_out:
            lines.append(f"Left out of {source.path}: {source.left_out} files that --names does not match.")
        if source.hidden:
            lines.append(f"Left out of {source.path}: hidden files, {listed(source.hidden)}.")
    return tuple(lines)


def _complete_spec(asked: LabelSpec, truth: Source, to_class: LabelMap | None, *, background: Background) -> LabelSpec:
    """Returns what the options say, with what the labels add: classes, ignored values and the number of axes."""
    complete = asked
    if truth.coco:
        complete = _of_coco(asked, truth.coco, background)
    elif to_class and asked.ignore_index is None and IGNORED in to_class.classes.values():
        complete = dataclasses.replace(asked, ignore_index=IGNORED)
    return dataclasses.replace(complete, spatial_ndim=truth.axes)


def _names_of(categories: Coco | None, to_class: LabelMap | None, spec: LabelSpec) -> tuple[str, ...] | None:
    """Returns the class names of a COCO file or of a label map."""
    if categories:
        names = (*categories.class_names, coco.VOID_NAME)
        return names[: spec.num_classes or len(categories.class_names) + categories.panoptic]
    if to_class:
        return to_class.class_names
    return None


def _of_coco(spec: LabelSpec, truth: Coco, background: Background) -> LabelSpec:
    """Adds the classes of a COCO file. Panoptic masks have a further class, of pixels without predicted segment."""
    masks = spec.kind == "masks"
    C = len(truth.class_names)
    if truth.panoptic:
        # Panoptic labels have no background of their own.
        background = () if background == 0 else spec.background_classes
        if masks:
            background = (*background, C)
        C += 1
    with in_options():
        return dataclasses.replace(
            spec, ignore_index=coco.VOID, background=background, num_classes=C if masks else None
        )


def _count_classes(
    spec: LabelSpec, scores: int, names: Sequence[str] | None, to_class: LabelMap | None
) -> tuple[int, int]:
    """Returns the number of classes as far as it is known before values are read, and `Encoding.name_count`.

    Args:
        spec: whose `num_classes` is an option, or None.
        scores: the number of classes of scores, 0 of masks.
        names: of all classes or of the foreground.
        to_class: the map of labels, which has a number of classes.
    """
    if scores:
        return scores, 0
    if spec.num_classes:
        return spec.num_classes, 0
    if to_class:
        return to_class.count, 0
    if not names:
        return 0, 0
    if spec.background is None or any("background" in name.lower() for name in names):
        return len(names), 0
    return len(names) + len(spec.background_classes), len(names)


def _read_spacing(spacing: Sequence[float] | None, labels: Source) -> tuple[float, ...] | None:
    """Returns the spacing of an option.

    Raises:
        AuditError: it has another number of axes than the images, or is not positive.
    """
    if spacing is None:
        return None
    if len(spacing) != labels.axes or not all(0 < size < np.inf for size in spacing):
        expected = f"{labels.axes} distances above 0 in mm, one for each axis of {labels.path}"
        raise AuditError(f"--spacing: expected {expected}, found {', '.join(f'{size:g}' for size in spacing)}")
    return tuple(float(size) for size in spacing)


def check_spacing(pairs: Sequence[Pair], spacing: tuple[float, ...] | None) -> None:
    """Raises AuditError if a header says another spacing than the option."""
    for pair in pairs:
        for array in (pair.labels, pair.prediction):
            if spacing and array.spacing and not np.allclose(array.spacing, spacing, rtol=1e-3):
                raise AuditError(
                    f"--spacing: expected what the header of {array} says, {array.spacing}, found {spacing}"
                )


def pair_images(predictions: Source, labels: Source) -> list[Pair]:
    """Pairs predictions with labels, by name if both have names, else by position.

    Raises:
        AuditError: names or counts differ, only one side has names, or volumes and labels differ in position.
    """
    where = f"{predictions.path} and {labels.path}"
    truth = labels.images
    # Two files with one image each form a pair, whatever their names.
    single = len(predictions.images) == len(truth) == 1 and not predictions.path.is_dir()
    if predictions.names and labels.names and not single:
        check_matched(where, predictions.names, labels.names)
        by_name = dict(zip(labels.names, truth, strict=True))
        truth = tuple(by_name[name] for name in predictions.names)
    elif not single and not (predictions.stacked and labels.stacked):
        raise AuditError(f"{where}: expected two folders, or two stacks, which may hold names; found one of each")
    elif len(predictions.images) != len(truth):
        counts = f"{len(predictions.images)} predictions and {len(truth)} labels"
        raise AuditError(f"{where}: expected as many labels as predictions, found {counts}")
    names = predictions.names or labels.names or tuple(map(str, range(len(truth))))
    pairs = [Pair(*entry) for entry in zip(names, predictions.images, truth, strict=True)]
    for pair in pairs:
        _check_position(pair)
    return pairs


def _check_position(pair: Pair) -> None:
    """Raises AuditError if two volumes differ in voxel size, direction or position."""
    affine = pair.prediction.affine
    expected = pair.labels.affine
    if affine is None or expected is None:
        return
    if np.allclose(affine, expected, rtol=AFFINE_RTOL, atol=AFFINE_ATOL):
        return
    raise AuditError(
        f"{pair.prediction}: expected the affine of its labels, {expected[:3].round(3).tolist()}, found "
        f"{affine[:3].round(3).tolist()}; resample one onto the other"
    )


def form_of(axis: str, spatial: str) -> str:
    """Returns the axes of a prediction in words, by the position of the class axis.

    Example:
        >>> form_of("first", "H, W"), form_of("none", "D, H, W")
        ('(C, H, W)', '(D, H, W)')
    """
    texts = {"none": f"({spatial})", "last": f"({spatial}, C)", "first": f"(C, {spatial})"}
    return texts[axis]


def _classes_at(axis: str, pair: Pair) -> int | None:
    """Returns the number of classes of a prediction with this class axis, 0 of masks; None if it does not fit."""
    shape = pair.prediction.shape
    if axis == "none":
        spatial = shape
        classes = 0
    elif axis == "last":
        spatial = shape[:-1]
        classes = shape[-1]
    else:
        spatial = shape[1:]
        classes = shape[0]
    if spatial != pair.labels.shape:
        return None
    return classes


def find_axis(pairs: Sequence[Pair], kind: str, channels: str | None) -> tuple[str, int]:
    """Returns the class axis, `first` or `last` (`channels` if given) or `none` of masks, and the number of classes.

    Raises:
        AuditError: predictions do not fit the labels, or fit them both ways.
    """
    if kind == "masks":
        axes = ("none",)
    elif channels:
        axes = (channels,)
    else:
        axes = ("last", "first")
    fitting: dict[str, int] = {}
    # An error shows the misfits of the axis with the fewest: most files fit it, so the others are likely the faults.
    fewest_misfits: Sequence[Pair] = pairs
    for axis in axes:
        counts = [_classes_at(axis, pair) for pair in pairs]
        class_count = next((count for count in counts if count is not None), None)
        misfits = [pair for pair, count in zip(pairs, counts, strict=True) if count is None or count != class_count]
        if class_count is not None and not misfits:
            fitting[axis] = class_count
        elif len(misfits) < len(fewest_misfits):
            fewest_misfits = misfits
    if len(fitting) == 1:
        return next(iter(fitting.items()))
    spatial = "D, H, W" if len(pairs[0].labels.shape) == 3 else "H, W"
    shown = listed(f"{pair.name} {pair.prediction.shape} with labels {pair.labels.shape}" for pair in fewest_misfits)
    forms = " or ".join(form_of(axis, spatial) for axis in axes)
    advice = "; pass --channels first or --channels last" if fitting else ""
    raise AuditError(f"expected predictions {forms} for labels ({spatial}), C alike in all; found {shown}{advice}")


def read_records(pairs: Sequence[Pair], encoding: Encoding) -> Generator[ImageRecord | BrokenFileError]:
    """Reads images in order, prefetching the next one; a broken one is yielded as its error."""
    with ThreadPoolExecutor(1) as thread:
        following = thread.submit(_read_or_error, pairs[0], encoding)
        for pair in pairs[1:]:
            record = following.result()
            following = thread.submit(_read_or_error, pair, encoding)
            yield record
        yield following.result()


def _read_or_error(pair: Pair, encoding: Encoding) -> ImageRecord | BrokenFileError:
    try:
        return read_record(pair, encoding)
    except BrokenFileError as error:
        return error


def read_record(pair: Pair, encoding: Encoding) -> ImageRecord:
    """Reads one image, with scores as float32.

    Raises:
        AuditError: a file is damaged, or a map lacks some labels.
    """
    values = pair.labels.read()
    labels = pair.labels.to_classes(values, ignore_index=encoding.spec.ignore_index)
    instances = encoding.unit == "instance"
    photo: np.ndarray | Path | None = pair.photo
    computed = pair.prediction.computed
    if computed is None:
        prediction = pair.prediction.read()
    else:
        image = computed.read()
        prediction = computed.predict(image)
        # Volumes have no photo.
        photo = image if labels.ndim == 2 else None
    predicted_unit = None
    if encoding.spec.kind == "masks":
        if instances and pair.prediction.label_map:
            # The ids of segments.
            predicted_unit = prediction
        prediction = pair.prediction.to_classes(prediction)
    else:
        if encoding.channels == "first":
            prediction = np.moveaxis(prediction, 0, -1)
        prediction = _channels_last(prediction)
    return ImageRecord(
        name=pair.name,
        prediction=prediction,
        labels=labels,
        spacing=pair.labels.spacing or pair.prediction.spacing or encoding.spacing,
        unit=values if instances else encoding.unit,
        predicted_unit=predicted_unit,
        photo=photo,
        pair=pair,
    )


def _channels_last(scores: np.ndarray) -> np.ndarray:
    """Returns scores as float32 in C order; NIfTI files hold one class after the other."""
    with np.errstate(over="ignore"):
        if scores.flags.c_contiguous or not scores.flags.f_contiguous:
            return np.asarray(scores, np.float32, order="C")
        ordered = np.empty(scores.shape, np.float32)
        # Twice as fast as one copy, which jumps between classes.
        for c in range(scores.shape[-1]):
            ordered[..., c] = scores[..., c]
        return ordered


def load_photo(photo: np.ndarray | Path, shape: tuple[int, ...]) -> np.ndarray:
    """Returns a photo uint8 (H, W, 3) of this shape, read if it is a file.

    Raises:
        AuditError: it is damaged or has another size.
    """
    if isinstance(photo, Path):
        source = str(photo)
        values = read_photo(photo)
    else:
        source = "images"
        values = photo
    if values.shape[:2] != shape:
        raise AuditError(f"{source}: expected the size of its labels, {shape}, found {values.shape[:2]}")
    return values


@contextlib.contextmanager
def in_options(pair: Pair | None = None) -> Iterator[None]:
    """Converts a metric's error to an AuditError that names the file and spells arguments as options.

    Example:
        >>> with in_options():
        ...     raise ValueError("num_classes: expected 3 classes; pass ignore_index=255.")
        Traceback (most recent call last):
        flipjax.audit.problems.AuditError: --num_classes: expected 3 classes; pass --ignore_index 255
    """
    try:
        yield
    except AuditError:
        raise
    except (TypeError, ValueError) as error:
        name, _, problem = str(error).rstrip(".").replace("background=None", "--background none").partition(": ")
        problem = re.sub(r"\b(kind|ignore_index|num_classes|channels)=['\"]?(\w+)['\"]?", r"--\1 \2", problem)
        if name in OPTIONS:
            raise AuditError(f"--{name}: {problem}") from error
        if pair is None:
            raise AuditError(f"{name}: {problem}") from error
        if name == "labels":
            file = pair.labels
            option = "--label_map"
        else:
            file = pair.prediction
            option = "--prediction_map"
        if "expected class indices" in problem:
            problem += f"; where they are other numbers, {option} maps them to classes"
        raise AuditError(f"{file}: {problem}") from error
