"""Pairs stored predictions with labels: by name or position, in space, and by the axis of classes."""

import contextlib
import dataclasses
import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from flipjax.audit.arrays import StoredArray
from flipjax.audit.names import check_matched
from flipjax.audit.problems import AuditError
from flipjax.audit.sources import Source
from flipjax.support.terminal import listed

OPTIONS = ("background", "class_names", "ignore_index", "min_size", "num_classes", "spacing")
"""Arguments of metrics and of `stream` that are options of the command."""
STORED = "xyz"
"""The order of axes in NIfTI files."""
REVERSED = "zyx"
"""The order in arrays of SimpleITK."""
USED_ORDERS = (STORED, REVERSED, "zxy")
"""The orders that programs write, the last one with slices first."""
ORDERS = tuple("".join(order) for order in itertools.permutations(STORED))
"""All orders of the axes of a volume."""
AFFINE_RTOL = 1e-4
"""How far the affines of a prediction and its labels may differ, relatively."""
AFFINE_ATOL = 1e-3
"""How far they may differ beside that, in mm."""


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
    volume: StoredArray | None = None
    """The volume that its labels were drawn on, for the page, with the shape and place of the labels."""


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
    paths = f"{predictions.path} and {labels.path}"
    # Two files with one image each form a pair, whatever their names.
    single = len(predictions.images) == len(labels.images) == 1 and not predictions.path.is_dir()
    if predictions.named and labels.named and not single:
        check_matched(paths, predictions.images, labels.images)
        truth = [labels.images[name] for name in predictions.images]
    else:
        if not single:
            _check_positions(paths, predictions, labels)
        truth = list(labels.images.values())
    names = predictions.images
    if labels.named and not predictions.named:
        names = labels.images
    pairs = [Pair(*entry) for entry in zip(names, predictions.images.values(), truth, strict=True)]
    for pair in pairs:
        _check_position(pair)
    return pairs


def _check_positions(paths: str, predictions: Source, labels: Source) -> None:
    """Raises AuditError for images that cannot be paired by position: only two stacks without names can."""
    if not (predictions.stacked and labels.stacked):
        raise AuditError(f"{paths}: expected two folders, or two stacks, which may hold names; found one of each")
    if predictions.named or labels.named:
        named, unnamed = labels, predictions
        if predictions.named:
            named, unnamed = predictions, labels
        problem = f"expected names in both stacks or in neither, found them in {named.path} alone"
        raise AuditError(f"{unnamed.path}: {problem}; save the array `names` in both, or in neither")
    if len(predictions.images) != len(labels.images):
        counts = f"{len(predictions.images)} predictions and {len(labels.images)} labels"
        raise AuditError(f"{paths}: expected as many labels as predictions, found {counts}")


def _check_position(pair: Pair) -> None:
    """Raises AuditError if two volumes differ in voxel size, direction or position."""
    affine = pair.prediction.affine
    expected = pair.labels.affine
    if affine is not None and expected is not None:
        _check_affine(pair.prediction, affine, expected)


def check_volume(volume: StoredArray, labels: StoredArray) -> None:
    """Raises AuditError if a volume and the labels drawn on it differ in shape or place."""
    if volume.shape != labels.shape:
        raise AuditError(f"{volume}: expected the shape of its labels, {labels.shape}, found {volume.shape}")
    if volume.affine is not None and labels.affine is not None:
        _check_affine(volume, volume.affine, labels.affine)


def _check_affine(array: StoredArray, affine: np.ndarray, expected: np.ndarray) -> None:
    """Raises AuditError for an affine of a file that is not that of its labels."""
    if np.allclose(affine, expected, rtol=AFFINE_RTOL, atol=AFFINE_ATOL):
        return
    raise AuditError(
        f"{array}: expected the affine of its labels, {expected[:3].round(3).tolist()}, found "
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

    NIfTI has the axes X, Y, Z. Arrays do not say theirs: most programs write X, Y, Z or Z, Y, X, and where both fit the
    shapes, `--axes` must say it. nnU-Net stores probabilities (C, Z, Y, X).

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
    of_nnunet = all(pair.prediction.of_nnunet for pair in pairs)
    orders = (STORED,)
    if axis_order is not None:
        orders = (axis_order,)
    elif has_loose_arrays:
        orders = (STORED, REVERSED)
    class_axes = ("last", "first")
    if kind == "masks":
        class_axes = ("none",)
    elif channels:
        class_axes = (channels,)
    fits = [_fit(pairs, axis, order) for order in orders for axis in class_axes]
    fitting = [fit for fit in fits if not fit.misfits]
    if has_loose_arrays and axis_order is None and of_nnunet:
        by_rule = [fit for fit in fitting if fit.class_axis == "first" and fit.order == REVERSED]
        if by_rule:
            fact = (
                f"Axes of {pairs[0].prediction} and the like, as nnU-Net writes them: (C, Z, Y, X); --axes sets others."
            )
            return dataclasses.replace(by_rule[0], fact=fact)
    if axis_order is None and any(fit.order != STORED for fit in fitting):
        raise AuditError(_ask_for_axes(pairs, class_axes))
    if len(fitting) == 1:
        return fitting[0]
    # An error shows the misfits of the fit with the fewest: most files fit it, so the others are likely the faults.
    fewest = min((fit.misfits for fit in fits), key=len) or pairs
    spatial = "D, H, W" if len(pairs[0].labels.shape) == 3 else "H, W"
    shown = listed(f"{pair.name} {pair.prediction.shape} with labels {pair.labels.shape}" for pair in fewest)
    forms = " or ".join(form_of(axis, spatial) for axis in class_axes)
    advice = ""
    if fitting:
        advice = "; pass --channels first or --channels last"
    elif has_loose_arrays:
        advice = _other_orders(pairs, class_axes)
    raise AuditError(f"expected predictions {forms} for labels ({spatial}), C alike in all; found {shown}{advice}")


def _fit(pairs: Sequence[Pair], class_axis: str, order: str) -> Fit:
    """Returns how pairs fit with the axes of space in this order; the first one that fits says how many classes."""
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
    """Returns the question how arrays beside NIfTI are stored."""
    pair = next(pair for pair in pairs if _is_loose(pair))
    array, volume = pair.prediction, pair.labels
    if pair.labels.affine is None:
        array, volume = pair.labels, pair.prediction
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
