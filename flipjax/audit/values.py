"""The values of one image: finite scores of the kind that was named, and labels that name classes."""

from typing import NamedTuple

import numpy as np

from flipjax.audit.arrays import AuditError, Reader
from flipjax.audit.layout import Layout
from flipjax.audit.sources import Pair, Place

IGNORED = -1
# Half a percent: sums of 150 classes in float16 stay within it.
TOLERANCE = 5e-3


class Values(NamedTuple):
    """How values are read: logits or probabilities, the background's class, and the label of ignored pixels."""

    kind: str = "logits"
    background: int = 0
    ignore_index: int | None = None


def read_pair(reader: Reader, pair: Pair, layout: Layout, values: Values) -> tuple[np.ndarray, np.ndarray]:
    """Reads one image.

    Returns:
        Logits float32 (H, W, C), for probabilities their logarithms up to a constant at each pixel; and labels int32
        (H, W), -1 where ignored.

    Raises:
        AuditError: NaN or infinite scores, probabilities that are none, labels out of range, or a damaged file.
    """
    scores = read_scores(reader, pair.prediction, layout, kind=values.kind)
    labels = reader.read(pair.labels.array, pair.labels.row)
    return scores, to_labels(labels, classes=layout.classes, ignore_index=values.ignore_index, name=str(pair.labels))


def read_scores(reader: Reader, place: Place, layout: Layout, *, kind: str) -> np.ndarray:
    """Reads the prediction of one image: logits float32 (H, W, C), as `read_pair` does, and raises what it raises."""
    raw = reader.read(place.array, place.row)
    with np.errstate(over="ignore"):
        scores = np.asarray(np.moveaxis(raw, 0, -1) if layout.channels == "first" else raw, np.float32, order="C")
    _check_finite(scores, place)
    if kind == "probabilities":
        return to_logits(scores, name=str(place))
    if _sums_to_one(scores):
        raise AuditError(
            f"{place}: expected logits, found values that are all in 0..1 and sum to 1 at each pixel; "
            "pass --kind probabilities"
        )
    return scores


def _check_finite(scores: np.ndarray, place: Place) -> None:
    low, high = scores.min(initial=0.0), scores.max(initial=0.0)
    if np.isnan(high):
        count = np.count_nonzero(np.isnan(scores))
        row, column, c = np.argwhere(np.isnan(scores))[0]
        raise AuditError(
            f"{place}: expected numbers, found {count} NaN, the first at row {row}, column {column}, class {c}"
        )
    half = ": float16 ends at 65504, so scale or clip before you round" if place.array.dtype == np.float16 else ""
    if np.isposinf(high):
        raise AuditError(f"{place}: expected finite scores, found {np.count_nonzero(np.isposinf(scores))} inf{half}")
    # A class may be ruled out by -inf, but not all of them.
    if np.isneginf(low) and np.isneginf(scores.max(-1)).any():
        raise AuditError(
            f"{place}: expected a finite score at each pixel, found pixels with -inf for all classes{half}"
        )


def _sums_to_one(scores: np.ndarray) -> bool:
    if scores.size == 0 or scores.min() < 0 or scores.max() > 1:
        return False
    return bool(np.abs(scores @ np.ones(scores.shape[-1], np.float32) - 1).max() <= TOLERANCE)


def to_logits(probabilities: np.ndarray, *, name: str) -> np.ndarray:
    """Returns the logarithm of each probability over the largest at its pixel; a probability of 0 gets about -87.

    Over the largest, because two probabilities that differ in their last bit could have equal logarithms.

    Args:
        probabilities: float32 (H, W, C).
        name: the image's, for errors.

    Raises:
        AuditError: values that do not lie in 0..1 and sum to 1 at each pixel.

    Example:
        >>> to_logits(np.array([[[0.0, 0.25, 0.75]]], np.float32), name="a").round(2).tolist()
        [[[-87.05000305175781, -1.100000023841858, 0.0]]]
    """
    low, high = probabilities.min(initial=0.0), probabilities.max(initial=0.0)
    if low < -TOLERANCE or high > 1 + TOLERANCE:
        raise AuditError(
            f"{name}: expected probabilities in 0..1, found {low:.4g} to {high:.4g}; for logits pass --kind logits"
        )
    sums = probabilities @ np.ones(probabilities.shape[-1], np.float32)
    worst = np.unravel_index(np.abs(sums - 1).argmax(), sums.shape) if sums.size else None
    if worst is not None and abs(sums[worst] - 1) > TOLERANCE:
        raise AuditError(
            f"{name}: expected probabilities that sum to 1 over the classes, found {sums[worst]:.4g} at row "
            f"{worst[0]}, column {worst[1]}; take a softmax over all classes, not a sigmoid for each"
        )
    smallest = np.finfo(np.float32).tiny
    return np.log(np.maximum(probabilities, smallest) / probabilities.max(-1, keepdims=True))


def to_labels(labels: np.ndarray, *, classes: int, ignore_index: int | None, name: str) -> np.ndarray:
    """Returns labels as int32, -1 where they are to be ignored.

    Args:
        labels: integers (H, W) in 0..classes-1, or `ignore_index`.
        classes: C.
        ignore_index: the label of pixels that count nowhere; None: there are none.
        name: the image's, for errors.

    Raises:
        AuditError: other labels.

    Example:
        >>> to_labels(np.array([[0, 2, 255]]), classes=3, ignore_index=255, name="a").tolist()
        [[0, 2, -1]]
    """
    ignored = np.zeros(labels.shape, bool) if ignore_index is None else labels == ignore_index
    known = labels[~ignored] if ignored.any() else labels
    if known.size and (known.min() < 0 or known.max() >= classes):
        values = np.unique(known).tolist()
        bad = [value for value in values if not 0 <= value < classes]
        examples = ", ".join([*map(str, bad[:10]), *["..."] * (len(bad) > 10)])
        besides = "" if ignore_index is None else f" or --ignore_index {ignore_index}"
        hint = f"; to leave them out, pass --ignore_index {bad[0]}" if ignore_index is None and len(bad) == 1 else ""
        raise AuditError(f"{name}: expected class indices 0..{classes - 1}{besides}, found {examples}{hint}")
    return np.where(ignored, np.int32(IGNORED), labels.astype(np.int32))
