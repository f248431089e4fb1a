"""Pairs stored predictions with labels: by name or position, in space, and by the axis of classes."""

import contextlib
import dataclasses
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
    truth = labels.images
    # Two files with one image each form a pair, whatever their names.
    single = len(predictions.images) == len(truth) == 1 and not predictions.path.is_dir()
    if predictions.names and labels.names and not single:
        check_matched(paths, predictions.names, labels.names)
        by_name = dict(zip(labels.names, truth, strict=True))
        truth = tuple(by_name[name] for name in predictions.names)
    elif not single and not (predictions.stacked and labels.stacked):
        raise AuditError(f"{paths}: expected two folders, or two stacks, which may hold names; found one of each")
    elif len(predictions.images) != len(truth):
        counts = f"{len(predictions.images)} predictions and {len(truth)} labels"
        raise AuditError(f"{paths}: expected as many labels as predictions, found {counts}")
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
