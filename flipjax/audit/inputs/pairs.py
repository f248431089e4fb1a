"""Pairs predictions with labels by name or position; checks that volumes lie in one place; names a pair in errors."""

import contextlib
import dataclasses
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from flipjax.audit.formats.arrays import StoredArray
from flipjax.audit.formats.names import check_matched
from flipjax.audit.formats.problems import AuditError
from flipjax.audit.formats.sources import Source

AFFINE_RTOL = 1e-4
"""How far the affines of a prediction and its labels may differ, relatively."""
AFFINE_ATOL = 1e-3
"""How far they may differ beside that, in mm."""
OPTIONS = ("background", "class_names", "ignore_index", "min_size", "num_classes", "spacing")
"""Arguments of metrics and of `stream` that are options of the command."""


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
            _check_order(paths, predictions, labels)
        truth = list(labels.images.values())
    names = predictions.images
    if labels.named and not predictions.named:
        names = labels.images
    pairs = []
    for name, prediction, true_labels in zip(names, predictions.images.values(), truth, strict=True):
        pairs.append(Pair(name, prediction, true_labels))
    for pair in pairs:
        _check_place(pair)
    return pairs


def _check_order(paths: str, predictions: Source, labels: Source) -> None:
    """Raises AuditError for images that cannot be paired by position: only two stacks without names can."""
    if not (predictions.stacked and labels.stacked):
        raise AuditError(f"{paths}: expected two folders, or two stacks, which may hold names; found one of each")
    if predictions.named or labels.named:
        named = labels
        unnamed = predictions
        if predictions.named:
            named = predictions
            unnamed = labels
        problem = f"expected names in both stacks or in neither, found them in {named.path} alone"
        raise AuditError(f"{unnamed.path}: {problem}; save the array `names` in both, or in neither")
    if len(predictions.images) != len(labels.images):
        counts = f"{len(predictions.images)} predictions and {len(labels.images)} labels"
        raise AuditError(f"{paths}: expected as many labels as predictions, found {counts}")


def _check_place(pair: Pair) -> None:
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


@contextlib.contextmanager
def in_options(pair: Pair | None = None) -> Iterator[None]:
    """Converts a metric's error to an AuditError that names the file and spells arguments as options.

    Args:
        pair: the image whose values are wrong; None where no file is at fault.

    Example:
        >>> with in_options():
        ...     raise ValueError("num_classes: expected 3 classes; pass ignore_index=255.")
        Traceback (most recent call last):
        flipjax.audit.formats.problems.AuditError: --num_classes: expected 3 classes; pass --ignore_index 255
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
