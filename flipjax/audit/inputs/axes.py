"""Finds the axes of stored predictions: which one holds the classes, and in which order those of a volume are.

NIfTI has the axes X, Y, Z. Arrays in npy and npz files do not say theirs; one beside NIfTI is *loose* here.
"""

import dataclasses
import itertools
from collections.abc import Sequence

from flipjax.audit.formats.problems import AuditError
from flipjax.audit.inputs.pairs import Pair
from flipjax.support.terminal import listed

STORED = "xyz"
"""The order of axes in NIfTI files."""
REVERSED = "zyx"
"""The order in arrays of SimpleITK."""
USED_ORDERS = (STORED, REVERSED, "zxy")
"""The orders that programs write, the last one with slices first."""
ORDERS = tuple("".join(order) for order in itertools.permutations(STORED))
"""All orders of the axes of a volume."""


def shape_in_words(class_axis: str, spatial: str) -> str:
    """Returns the axes of a prediction in words, by the position of the class axis.

    Example:
        >>> shape_in_words("first", "H, W"), shape_in_words("none", "D, H, W")
        ('(C, H, W)', '(D, H, W)')
    """
    texts = {"none": f"({spatial})", "last": f"({spatial}, C)", "first": f"(C, {spatial})"}
    return texts[class_axis]


@dataclasses.dataclass(frozen=True)
class Fit:
    """How predictions fit their labels if their axes are in one order."""

    class_axis: str
    """The class axis of predictions, `first` or `last`; `none` of masks."""
    order: str
    """The order of the axes of arrays beside NIfTI, one of ORDERS."""
    pairs: list[Pair]
    """The pairs, with axes of space in the same order on both sides."""
    classes: int
    """The number of classes of scores, 0 of masks."""
    misfits: Sequence[Pair]
    """The pairs, as they are stored, of another shape or another number of classes."""
    fact: str = ""
    """A sentence on axes that were turned by nnU-Net's rule, or nothing."""


def fit_axes(pairs: Sequence[Pair], kind: str, *, channels: str | None = None, axis_order: str | None = None) -> Fit:
    """Finds the class axis of predictions, and the order of the axes of volumes in arrays beside NIfTI.

    Most programs write such arrays X, Y, Z or Z, Y, X, and where both fit the shapes, `--axes` must say it. nnU-Net
    stores probabilities (C, Z, Y, X).

    Args:
        pairs: by name.
        kind: of the predictions.
        channels: `first` or `last`, if given.
        axis_order: the order of the axes of space in npy and npz files beside NIfTI, such as `zyx`, if given.

    Raises:
        AuditError: predictions do not fit the labels, or fit them in several ways.
    """
    has_loose_arrays = any(_is_loose(pair) for pair in pairs)
    if axis_order is not None and not has_loose_arrays:
        raise AuditError(f"--axes: expected npy or npz files of volumes beside NIfTI, found none for {axis_order}")
    class_axes = _class_axes_of(kind, channels)
    orders = (STORED,)
    if axis_order is not None:
        orders = (axis_order,)
    elif has_loose_arrays:
        orders = (STORED, REVERSED)
    tried = [_fit(pairs, class_axis, order) for order in orders for class_axis in class_axes]
    fitting = [fit for fit in tried if not fit.misfits]
    if axis_order is None and has_loose_arrays and all(pair.prediction.of_nnunet for pair in pairs):
        for fit in fitting:
            if fit.class_axis == "first" and fit.order == REVERSED:
                rule = "as nnU-Net writes them: (C, Z, Y, X); --axes sets others."
                return dataclasses.replace(fit, fact=f"Axes of {pairs[0].prediction} and the like, {rule}")
    if axis_order is None and any(fit.order != STORED for fit in fitting):
        raise AuditError(_ask_for_axes(pairs, class_axes))
    if len(fitting) == 1:
        return fitting[0]
    advice = ""
    if fitting:
        advice = "; pass --channels first or --channels last"
    elif has_loose_arrays:
        advice = _other_orders(pairs, class_axes)
    # An error shows the misfits of the fit with the fewest: most files fit it, so the others are likely the faults.
    fewest = min((fit.misfits for fit in tried), key=len)
    raise AuditError(_describe_misfits(fewest or pairs, class_axes) + advice)


def _class_axes_of(kind: str, channels: str | None) -> tuple[str, ...]:
    """Returns the class axes that predictions may have: none of masks, the one that is given, or either."""
    if kind == "masks":
        return ("none",)
    if channels:
        return (channels,)
    return ("last", "first")


def _describe_misfits(misfits: Sequence[Pair], class_axes: Sequence[str]) -> str:
    """Returns what shapes predictions should have, and those that they have."""
    spatial = "H, W"
    if len(misfits[0].labels.shape) == 3:
        spatial = "D, H, W"
    shapes = " or ".join(shape_in_words(class_axis, spatial) for class_axis in class_axes)
    found = listed(f"{pair.name} {pair.prediction.shape} with labels {pair.labels.shape}" for pair in misfits)
    return f"expected predictions {shapes} for labels ({spatial}), C alike in all; found {found}"


def _fit(pairs: Sequence[Pair], class_axis: str, order: str) -> Fit:
    """Returns how pairs fit with the axes in these positions; the first pair that fits says how many classes."""
    ordered = [_ordered(pair, class_axis, order) for pair in pairs]
    counts = [_classes_at(class_axis, pair) for pair in ordered]
    classes = next((count for count in counts if count is not None), None)
    misfits = [pair for pair, count in zip(pairs, counts, strict=True) if count is None or count != classes]
    return Fit(class_axis, order, ordered, classes or 0, misfits)


def _is_loose(pair: Pair) -> bool:
    """Returns whether one side is a volume in NIfTI and the other an array, which does not say its axes."""
    if pair.prediction.of_model or len(pair.labels.shape) != 3:
        return False
    return (pair.prediction.affine is None) != (pair.labels.affine is None)


def _ordered(pair: Pair, class_axis: str, order: str) -> Pair:
    """Returns a pair whose array beside NIfTI has the axes X, Y, Z, if it is stored in this order."""
    if order == STORED or not _is_loose(pair):
        return pair
    spatial = [order.index(axis) for axis in STORED]
    if pair.labels.affine is None:
        return dataclasses.replace(pair, labels=pair.labels.transposed(spatial))
    prediction = pair.prediction
    if class_axis == "first" and len(prediction.shape) == 4:
        spatial = [0, *(1 + axis for axis in spatial)]
    elif class_axis == "last" and len(prediction.shape) == 4:
        spatial = [*spatial, 3]
    return dataclasses.replace(pair, prediction=prediction.transposed(spatial))


def _ask_for_axes(pairs: Sequence[Pair], class_axes: Sequence[str]) -> str:
    """Returns the error that asks in which order the axes of loose arrays are stored, and shows the first of them."""
    pair = next(pair for pair in pairs if _is_loose(pair))
    array = pair.prediction
    volume = pair.labels
    if pair.labels.affine is None:
        array = pair.labels
        volume = pair.prediction
    orders = [order for order in USED_ORDERS if any(not _fit(pairs, axis, order).misfits for axis in class_axes)]
    advice = " or ".join(f"--axes {order}" for order in orders)
    expected = "--axes: expected the order of the axes of arrays beside NIfTI (X, Y, Z)"
    return f"{expected}, which shapes leave open: {array} {array.shape} beside {volume} {volume.shape}; pass {advice}"


def _other_orders(pairs: Sequence[Pair], class_axes: Sequence[str]) -> str:
    """Returns which --axes fits where neither the stored nor the reversed order does, or nothing."""
    fitting = {order for order in ORDERS for axis in class_axes if not _fit(pairs, axis, order).misfits}
    if not fitting:
        return ""
    return f"; pass {' or '.join(f'--axes {order}' for order in sorted(fitting))} for arrays beside NIfTI (X, Y, Z)"


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
