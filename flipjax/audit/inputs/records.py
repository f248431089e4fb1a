"""Reads the images of an audit, one at a time: what the files hold, by their `Encoding`, becomes an `ImageRecord`."""

import dataclasses
import functools
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from flipjax.audit.formats.label_maps import IGNORED
from flipjax.audit.formats.pictures import read_photo
from flipjax.audit.formats.problems import AuditError, BrokenFileError
from flipjax.audit.inputs.pairs import Pair
from flipjax.metrics.inputs.classes import LabelSpec, check_background
from flipjax.metrics.inputs.host import Outputs


@dataclasses.dataclass(frozen=True)
class Encoding:
    """How to read the values of all files of an audit."""

    spec: LabelSpec
    """Describes what is read: with classes on the last axis, and with their number once it is known."""
    channels: str
    """The class axis of stored scores, `first` or `last`; `none` of masks."""
    unit: str = "class"
    """Unit of segments: `class`, `component`, or `instance` (segments of a COCO file)."""
    spacing: tuple[float, ...] | None = None
    """Distance of pixels in mm along each axis of space, of images whose files do not say it."""
    unresolved_names: int = 0
    """The number of class names, if only values can show whether they are of all classes or of the foreground. Until
    then `classes` takes them for the foreground's. 0: nothing is open."""
    kind_is_default: bool = False
    """Whether scores are read as logits because nobody said what they are."""

    @property
    def classes(self) -> int:
        """The number of classes; 0 until it is known."""
        return self.spec.num_classes or 0

    @property
    def settled(self) -> bool:
        """Whether no value has to be read to know the number of classes."""
        return self.classes > 0 and self.unresolved_names == 0

    def with_classes(self, count: int) -> "Encoding":
        """Returns the encoding of this number of classes.

        Raises:
            ValueError: the background is not among them, or leaves fewer than two.
        """
        check_background(self.spec.background, count)
        return dataclasses.replace(self, spec=dataclasses.replace(self.spec, num_classes=count), unresolved_names=0)

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
class ImageRecord:
    """One image as it is counted. Files, batches of a stream and models make these."""

    name: str
    """Its name."""
    prediction: Outputs
    """Scores (*spatial, C), of a stream perhaps on a device, or class indices (*spatial) in NumPy."""
    labels: np.ndarray
    """Class indices, integers (*spatial)."""
    spacing: tuple[float, ...] | None = None
    """Distance of pixels in mm along each axis of space, if known."""
    unit: str = "class"
    """Unit of segments without ids: `class` or `component`."""
    ids: np.ndarray | None = None
    """Ids of the true segments, integers (*spatial)."""
    predicted_ids: np.ndarray | None = None
    """Ids of the predicted segments, integers (*spatial)."""
    photo: np.ndarray | Path | None = None
    """The photo uint8 (H, W, 3) for the page, or its file, which is read if the page may show it."""
    pair: Pair | None = None
    """The files, for messages and for what the page shows of them; None in a stream."""

    @property
    def affine(self) -> np.ndarray | None:
        """From indices of a volume to mm in the scanner, (4, 4); None if no file says it."""
        if self.pair is None:
            return None
        if self.pair.labels.affine is not None:
            return self.pair.labels.affine
        return self.pair.prediction.affine

    def read_scan(self, shape: tuple[int, ...]) -> Callable[[], np.ndarray] | None:
        """Returns a function that reads the photo, or the volume that the labels of this shape were drawn on."""
        if self.pair is not None and self.pair.volume is not None:
            return self.pair.volume.read
        if self.photo is not None:
            return functools.partial(load_photo, self.photo, shape)
        return None


def read_records(pairs: Sequence[Pair], encoding: Encoding) -> Generator[ImageRecord | BrokenFileError]:
    """Reads images in order, prefetching the next one; a broken one is yielded as its error."""
    with ThreadPoolExecutor(1) as thread:
        following = thread.submit(read_or_error, pairs[0], encoding)
        for pair in pairs[1:]:
            record = following.result()
            following = thread.submit(read_or_error, pair, encoding)
            yield record
        yield following.result()


def read_or_error(pair: Pair, encoding: Encoding) -> ImageRecord | BrokenFileError:
    """Reads one image; returns the error of one that is broken, so that the others are read, too."""
    try:
        return read_record(pair, encoding)
    except BrokenFileError as error:
        return error


def read_record(pair: Pair, encoding: Encoding) -> ImageRecord:
    """Reads one image, with scores as float32.

    Raises:
        AuditError: a file is damaged, or a map lacks some labels.
    """
    spec = encoding.spec
    values = pair.labels.read()
    labels = pair.labels.to_classes(values, ignore_index=spec.ignore_index)
    unit = encoding.unit
    ids = None
    predicted_ids = None
    prediction = pair.prediction.read()
    if encoding.unit == "instance":
        unit = "component"
        ids = values
        if spec.kind == "masks" and pair.prediction.label_map:
            predicted_ids = prediction
    if spec.kind == "masks":
        prediction = pair.prediction.to_classes(prediction)
        _check_void(pair, labels, spec)
        prediction = _without_void(pair, prediction, labels, spec)
    else:
        if encoding.channels == "first":
            prediction = np.moveaxis(prediction, 0, -1)
        prediction = _channels_last(prediction)
        if encoding.kind_is_default:
            _check_logits(pair, prediction)
    return ImageRecord(
        name=pair.name,
        prediction=prediction,
        labels=labels,
        spacing=pair.labels.spacing or pair.prediction.spacing or encoding.spacing,
        unit=unit,
        ids=ids,
        predicted_ids=predicted_ids,
        photo=pair.photo,
        pair=pair,
    )


def _check_void(pair: Pair, labels: np.ndarray, spec: LabelSpec) -> None:
    """Raises AuditError for labels of 255 that nobody said to ignore: they are hardly a class."""
    classes = spec.num_classes or 0
    if spec.ignore_index is None and classes <= IGNORED and int(labels.max(initial=0)) == IGNORED:
        raise AuditError(
            f"{pair.labels}: expected classes, found {IGNORED}, which is void in most data; pass --ignore_index "
            f"{IGNORED}, or --num_classes {IGNORED + 1} if it is a class"
        )


def _without_void(pair: Pair, prediction: np.ndarray, labels: np.ndarray, spec: LabelSpec) -> np.ndarray:
    """Returns predicted classes where void, as in labels, is another class: there it does not count.

    Raises:
        AuditError: a pixel that counts is predicted as void.
    """
    void = spec.ignore_index
    if void is None or (void != IGNORED and void >= 0):
        return prediction
    is_void = prediction == void
    if not is_void.any():
        return prediction
    counted = int((is_void & (labels != void)).sum())
    if counted:
        raise AuditError(
            f"{pair.prediction}: expected a class at each pixel that counts, found {void} (--ignore_index) at "
            f"{counted:,} of them; --prediction_map says which class they are"
        )
    return np.where(is_void, 0, prediction)


def _check_logits(pair: Pair, scores: np.ndarray) -> None:
    """Raises AuditError if all scores are in 0..1, as of a sigmoid or softmax, and nobody said that they are logits."""
    if 0 <= scores.flat[0] <= 1 and scores.min() >= 0 and scores.max() <= 1:
        raise AuditError(
            f"{pair.prediction}: expected logits, found all values in 0..1; pass --kind probabilities, or --kind "
            "logits if that is what they are"
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
