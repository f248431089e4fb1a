"""Reads the images of an audit, one at a time, as the records that are counted."""

import dataclasses
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from flipjax.audit.arrays import read_photo
from flipjax.audit.opening import Encoding
from flipjax.audit.pairs import Pair
from flipjax.audit.problems import AuditError, BrokenFileError


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
    pair: Pair | None = None
    """The files, for messages; None in a stream."""


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
    prediction = pair.prediction.read()
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
        photo=pair.photo,
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
