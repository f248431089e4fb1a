"""What headers say before any value is read: types, sizes, the number of classes and where their axis is."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from flipjax.audit.arrays import AuditError, Limits
from flipjax.audit.sources import Pair, Place, Source, listed


class Layout(NamedTuple):
    """What the predictions have in common: the number of classes, and whether their axis is first or last."""

    classes: int
    channels: str


def check_types(predictions: Source, labels: Source, *, kind: str) -> None:
    """Checks that predictions are floating point with an axis of classes, and labels integers without one.

    Raises:
        AuditError: class indices or 8-bit values as predictions, one-hot labels, and other types or ranks.
    """
    for place in predictions.places:
        check_prediction(place, kind=kind)
    one_hot = labels.places[0].array.shape == predictions.places[0].array.shape
    for place in labels.places:
        if one_hot or len(place.shape) != 2:
            shape = place.array.shape
            single = 1 in (shape[0], shape[-1])
            hint = (
                "save them without the axis of length 1" if single else "if they are one-hot, save labels.argmax(axis)"
            )
            raise AuditError(f"{place}: expected class indices (H, W) for each image, found shape {shape}; {hint}")
        if place.array.dtype.kind not in "iu":
            raise AuditError(
                f"{place}: expected class indices of an integer type, found {place.array.dtype}; "
                "save labels.astype(np.uint8)"
            )


def check_prediction(place: Place, *, kind: str) -> None:
    """Raises AuditError where a prediction is not floating point with an axis of classes."""
    dtype = place.array.dtype
    if dtype.kind != "f":
        raise AuditError(
            f"{place}: expected {kind} in floating point, found {dtype} of shape {place.shape}; neither class "
            "indices nor probabilities rounded to 0..255 say how sure the model was: save float16 or float32"
        )
    if len(place.shape) != 3:
        raise AuditError(f"{place}: expected {kind} (H, W, C) or (C, H, W) of an image, found shape {place.shape}")


def find_layout(pairs: Sequence[Pair], *, channels: str | None) -> Layout:
    """Finds the axis of the classes by comparing each prediction's shape with its labels'.

    Args:
        pairs: the images, of checked types.
        channels: first or last, where the user has said it.

    Raises:
        AuditError: sizes that do not fit, layouts that differ or could be either, or fewer than three classes.
    """
    empty = [pair.name for pair in pairs if 0 in pair.labels.shape]
    if empty:
        raise AuditError(f"{pairs[0].labels.array.path}: expected images, found some without pixels, {listed(empty)}")
    possible = {name for name in ("last", "first") if all(_fits(pair, name) for pair in pairs)}
    sample = pairs[0].prediction
    if not possible:
        raise AuditError(_misfits(pairs))
    if channels is None and len(possible) == 2:
        raise AuditError(
            f"{sample}: its classes may be on the first or on the last axis of shape {sample.shape}; "
            "pass --channels first or --channels last"
        )
    if channels is not None and channels not in possible:
        raise AuditError(
            f"--channels {channels}: expected classes on the {possible.pop()} axis of {sample}, shape {sample.shape}, "
            f"for labels of shape {pairs[0].labels.shape}"
        )
    layout = channels or possible.pop()
    counts = [_classes(pair.prediction, layout) for pair in pairs]
    others = [f"{p.name} ({n})" for p, n in zip(pairs, counts, strict=True) if n != counts[0]]
    if others:
        raise AuditError(f"expected {counts[0]} classes in all images, as in {pairs[0].name}; found {listed(others)}")
    return _of_enough_classes(sample, layout)


def layout_alone(place: Place, *, channels: str | None) -> Layout:
    """Finds the axis of the classes without labels: the shorter of the first and the last.

    Args:
        place: a prediction of checked type.
        channels: first or last, where the user has said it.

    Raises:
        AuditError: both axes are as long, or fewer than three classes.
    """
    first, _, last = place.shape
    if channels is None and first == last:
        raise AuditError(
            f"{place}: its classes may be on the first or on the last axis of shape {place.shape}; "
            "pass --channels first or --channels last"
        )
    return _of_enough_classes(place, channels or ("first" if first < last else "last"))


def _of_enough_classes(place: Place, channels: str) -> Layout:
    count = _classes(place, channels)
    if count < 3:
        raise AuditError(
            f"{place}: expected at least 3 classes (background and two that can be confused), found {count} on "
            f"the {channels} axis of shape {place.shape}"
        )
    return Layout(count, channels)


def check_limits(pairs: Sequence[Pair], layout: Layout, limits: Limits) -> None:
    """Checks what the images take before any value is read.

    Raises:
        AuditError: an image with too many pixels or scores, or too many confusion matrices.
    """
    for pair in pairs:
        check_size(pair.name, pair.prediction, layout, limits)
    matrices = 4 * len(pairs) * layout.classes**2
    if matrices > limits.unpacked:
        what = f"{layout.classes} classes: expected confusion matrices of at most"
        raise AuditError(_beyond(what, limits.unpacked, "bytes in all", matrices, "--max_unpacked"))


def check_size(name: str, place: Place, layout: Layout, limits: Limits) -> None:
    """Raises AuditError where a prediction has too many pixels or scores."""
    pixels = math.prod(place.shape) // layout.classes
    scores = math.prod(place.shape) * max(4, place.array.dtype.itemsize)
    if pixels > limits.pixels:
        raise AuditError(_beyond(f"{name}: expected at most", limits.pixels, "pixels", pixels, "--max_pixels"))
    if scores > limits.bytes:
        what = f"{name}: expected scores of at most"
        raise AuditError(_beyond(what, limits.bytes, "bytes", scores, "--max_bytes"))


def _beyond(what: str, limit: int, unit: str, value: int, option: str) -> str:
    return f"{what} {limit:,} {unit}, found {value:,} ({option} sets the limit)"


def _fits(pair: Pair, layout: str) -> bool:
    shape = pair.prediction.shape
    return (shape[:-1] if layout == "last" else shape[1:]) == pair.labels.shape


def _classes(place: Place, layout: str) -> int:
    return place.shape[-1 if layout == "last" else 0]


def _misfits(pairs: Sequence[Pair]) -> str:
    wrong = [p for p in pairs if not _fits(p, "last") and not _fits(p, "first")]
    if not wrong:
        first = [p.name for p in pairs if not _fits(p, "last")]
        return f"expected one layout in all files; found the classes on the first axis in some, {listed(first)}"
    others = [f"{p.name} {p.prediction.shape} with labels {p.labels.shape}" for p in wrong]
    return f"expected predictions (H, W, C) or (C, H, W) for labels (H, W); found others, {listed(others)}"
