"""The true segments, predicted segments and error pixels of one image, as columns of tables.

`segment_columns` divides truth and prediction into parts (`flipjax.metrics.objects.units`), counts pixels by true and
predicted part in one pass, and makes the columns of three tables from these counts (`_true_columns`,
`_predicted_columns`, `_pixel_columns`).

Words: an image is divided into *parts*: its segments, and what is left of each class. A *segment* is the pixels of one
class, component or instance, as the option `unit` says. *Units* are the parts that are segments of a foreground class
and large enough; tables have a row for each. An *entry* counts the pixels of one true part, one predicted part and
one nearness to a border (`PairCounts`).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from flipjax.metrics.inputs.classes import LabelSpec
from flipjax.metrics.inputs.host import Array
from flipjax.metrics.objects.units import (
    PairCounts,
    Units,
    choose_units,
    count_pairs,
    fill_void,
    find_parts,
    near_border,
)

OUTCOMES = ("correct", "flip", "miss", "mixed")
"""Outcomes of a true segment, see `segments`."""
KINDS = ("correct", "whole", "rim", "inside", "miss", "spill", "background")
"""Error type of each pixel: correct; flip in a flipped segment; flip near the border of, or inside, another segment;
missed; spill; confusion between background classes."""
LARGEST = ("predicted", "second", "third")
"""Columns of the most frequent predictions of a segment, the most frequent first."""
RIM = 4
"""Default width of the rim, in pixels on each side of a label boundary."""
NamedColumns = dict[str, np.ndarray]
"""The columns of a table by their names, of one length; negative where blank."""


class Columns(NamedTuple):
    """The columns of one image in the three `SegmentTables`, without its number."""

    true: NamedColumns
    """Columns of the true segments."""
    predicted: NamedColumns
    """Columns of the predicted segments."""
    pixels: NamedColumns
    """Columns of the counted pixels."""
    classes: int
    """The number of classes of the image."""


def segment_columns(
    prediction: Array,
    labels: Array,
    spec: LabelSpec,
    *,
    unit: str = "class",
    ids: np.ndarray | None = None,
    predicted_ids: np.ndarray | None = None,
    risks: Mapping[str, np.ndarray] | None = None,
    rim: int = RIM,
    min_pixels: int = 1,
) -> Columns:
    """Returns the columns of one image (H, W) or volume, for `flipjax.metrics.objects.table.join_columns`.

    Args:
        prediction: class indices (H, W); their range is not checked, nor that of the labels.
        labels: integers (H, W).
        spec: options of the labels, with `num_classes`.
        unit: `class` or `component`, of segments without ids.
        ids: int (H, W), of the true segments.
        predicted_ids: int (H, W), of the predicted segments.
        risks: maps (H, W) of scores, if there are any: `flip_risk` and `max_softmax`.
        rim: as in `segment_tables`.
        min_pixels: as in `segment_tables`.
    """
    image = _read_image(prediction, np.asarray(labels), spec, risks or {})
    label_of_pixel = image.truth
    if ids is None and unit == "component" and image.counted is not None:
        # Ignored pixels take the nearest label, so that they do not cut a component in two.
        label_of_pixel = fill_void(image.truth, image.counted)
    true_parts = find_parts(label_of_pixel, image.counted, image.foreground, unit=unit, ids=ids)
    predicted_parts = find_parts(image.predicted, image.counted, image.foreground, unit=unit, ids=predicted_ids)
    # One pass over the pixels; the columns follow from these counts.
    counts = count_pairs(true_parts, predicted_parts, near_border(image.truth, image.counted, rim))
    true_units = choose_units(true_parts, counts.true_part, counts.pixels, least=min_pixels)
    # Small predicted segments have no row, but a true segment may match them.
    all_predicted = choose_units(predicted_parts, counts.predicted_part, counts.pixels)
    listed_predicted = choose_units(predicted_parts, counts.predicted_part, counts.pixels, least=min_pixels)
    true = _true_columns(true_units, all_predicted, counts, image, with_ids=ids is not None)
    # The unit of a part without one is -1: it reads the appended False.
    is_flipped = np.append(true["outcome"] == "flip", False)
    in_flipped_segment = is_flipped[true_units.unit_of_part[counts.true_part]]
    return Columns(
        true=true,
        predicted=_predicted_columns(listed_predicted, counts, image),
        pixels=_pixel_columns(counts, in_flipped_segment, image.foreground),
        classes=len(image.foreground),
    )


@dataclasses.dataclass(frozen=True, eq=False)
class _Image:
    """Truth and prediction of one image (H, W)."""

    truth: np.ndarray
    """True class of each pixel, unsigned (H, W); 0 where ignored."""
    predicted: np.ndarray
    """Predicted class of each pixel, unsigned (H, W)."""
    counted: np.ndarray | None
    """Whether a pixel counts because it is not ignored, bool (H, W); None: all pixels count."""
    foreground: np.ndarray
    """Whether a class is foreground, bool (C,)."""
    risks: Mapping[str, np.ndarray]
    """Maps (H, W) of scores, if there are any: `flip_risk` and `max_softmax`."""

    @functools.cached_property
    def detected(self) -> np.ndarray:
        """The pixels that are predicted as foreground, bool (H, W)."""
        return self.foreground[self.predicted]

    def mean_risk(self, name: str, units: Units) -> np.ndarray:
        """Returns the mean score of each unit's pixels that are predicted as foreground; NaN without such a score."""
        if name not in self.risks:
            return np.full(len(units.chosen), np.nan)
        return units.mean(self.risks[name], self.detected)


def _read_image(prediction: Array, labels: np.ndarray, spec: LabelSpec, risks: Mapping[str, np.ndarray]) -> _Image:
    """Returns truth and prediction of an image whose values were checked, in the smallest integers."""
    foreground = spec.foreground(spec.num_classes or 0)
    dtype = np.min_scalar_type(len(foreground))
    counted = None
    truth = labels
    if spec.ignore_index is not None:
        counted = labels != spec.ignore_index
        if counted.all():
            counted = None
        else:
            truth = np.where(counted, labels, 0)
    # In C's order, which passes over pixels follow; NIfTI files hold the first axis fastest.
    truth = truth.astype(dtype, order="C", copy=False)
    predicted = np.asarray(prediction).astype(dtype, order="C", copy=False)
    return _Image(truth, predicted, counted, foreground, risks)


def _true_columns(
    units: Units, predicted_units: Units, counts: PairCounts, image: _Image, *, with_ids: bool
) -> NamedColumns:
    """Returns the columns of true segments."""
    C = len(image.foreground)
    size = image.truth.size
    # The share of the image that each true class covers.
    shares = np.bincount(counts.truth, counts.pixels, minlength=C) / size
    wrong = np.where(counts.truth != counts.prediction, counts.pixels, 0)
    errors = units.sum(counts.true_part, wrong)
    rim_errors = units.sum(counts.true_part, np.where(counts.near, wrong, 0))
    columns = units.columns(with_ids=with_ids)
    columns.update(_outcome_columns(units, counts, shares, image.foreground))
    columns["rim_pixels"] = units.sum(counts.true_part, np.where(counts.near, counts.pixels, 0))
    columns["rim_errors"] = rim_errors
    columns["inside_errors"] = errors - rim_errors
    columns["flip_risk"] = image.mean_risk("flip_risk", units)
    columns.update(_match_columns(units, predicted_units, counts))
    # A row for each segment: the share of each class in the image, without the segment itself.
    outside = np.tile(shares, (len(units.pixels), 1))
    outside[np.arange(len(units.pixels)), units.classes] -= units.pixels / size
    for c in range(C):
        columns[f"context_{c}"] = outside[:, c].astype(np.float32)
    return columns


def _outcome_columns(units: Units, counts: PairCounts, shares: np.ndarray, foreground: np.ndarray) -> NamedColumns:
    """Returns the columns of predicted classes and outcome.

    Args:
        units: the true segments.
        counts: of the image.
        shares: the share of the image that each true class covers, (C,).
        foreground: whether a class is foreground, (C,).
    """
    C = len(foreground)
    by_class = units.sum_by_class(counts.true_part, counts.prediction, counts.pixels, C)
    # With two classes there is no third prediction: a class without pixels stands for it.
    lacking = max(0, len(LARGEST) - C)
    by_class = np.pad(by_class, ((0, 0), (0, lacking)))
    is_foreground = np.pad(foreground, (0, lacking))
    most_frequent = _most_frequent(units.classes, by_class, is_foreground)
    pixels = np.take_along_axis(by_class, most_frequent, axis=1)
    columns: NamedColumns = {}
    for name, predicted, count in zip(LARGEST, most_frequent.T, pixels.T, strict=True):
        columns[name] = np.where(count > 0, predicted, -1)
        columns[f"{name}_share"] = np.where(count > 0, count / units.pixels, np.nan)
    winner = most_frequent[:, 0]
    most_of_foreground = by_class.max(1, where=is_foreground, initial=0)
    # The first condition that holds counts.
    conditions = {
        "correct": winner == units.classes,
        "flip": foreground[winner] & (2 * pixels[:, 0] >= units.pixels),
        "miss": pixels[:, 0] > most_of_foreground,
    }
    outcome = np.select(list(conditions.values()), list(conditions), default="mixed")
    columns["outcome"] = outcome
    # The winner of a flip is another class than the segment's, so its true pixels lie elsewhere in the image.
    elsewhere = (shares[winner] > 0).astype(np.int8)
    columns["bleeding"] = np.where(outcome == "flip", elsewhere, -1)
    return columns


def _most_frequent(classes: np.ndarray, counts: np.ndarray, is_foreground: np.ndarray) -> np.ndarray:
    """Returns the three most frequent predicted classes of each segment, the most frequent first: (segments, 3).

    Among classes with equal counts another foreground class comes first, then background, and the segment's class last.

    Args:
        classes: int (segments,), the class of each segment.
        counts: int (segments, C), its pixels by predicted class.
        is_foreground: bool (C,).
    """
    precedence = np.tile(np.where(is_foreground, 2, 1), (len(counts), 1))
    precedence[np.arange(len(counts)), classes] = 0
    # A pixel more counts 3 and the precedence is 2 at most, so that it only settles ties.
    return np.argsort(-(3 * counts + precedence), axis=1, kind="stable")[:, : len(LARGEST)]


def _match_columns(units: Units, predicted_units: Units, counts: PairCounts) -> NamedColumns:
    """Returns class and IoU of the predicted segment that has an IoU above 1/2 with each true one; -1, NaN for none."""
    true = units.unit_of_part[counts.true_part]
    predicted = predicted_units.unit_of_part[counts.predicted_part]
    are_units = (true >= 0) & (predicted >= 0)
    (true_of_pair, predicted_of_pair), intersection = _sum_equal(
        (true[are_units], predicted[are_units]),
        (len(units.chosen), len(predicted_units.chosen)),
        counts.pixels[are_units],
    )
    union = units.pixels[true_of_pair] + predicted_units.pixels[predicted_of_pair] - intersection
    matches = 2 * intersection > union
    classes = np.full(len(units.pixels), -1)
    classes[true_of_pair[matches]] = predicted_units.classes[predicted_of_pair[matches]]
    iou = np.full(len(units.pixels), np.nan)
    iou[true_of_pair[matches]] = intersection[matches] / union[matches]
    return {"matched": classes, "iou": iou}


def _predicted_columns(units: Units, counts: PairCounts, image: _Image) -> NamedColumns:
    """Returns the columns of predicted segments."""
    by_class = units.sum_by_class(counts.predicted_part, counts.truth, counts.pixels, len(image.foreground))
    most_frequent = by_class.argmax(1)
    columns = units.columns()
    columns["flip_risk"] = image.mean_risk("flip_risk", units)
    columns["max_softmax"] = image.mean_risk("max_softmax", units)
    columns["truth"] = most_frequent
    columns["truth_share"] = by_class.max(1, initial=0) / units.pixels
    columns["right"] = most_frequent == units.classes
    return columns


def _pixel_columns(counts: PairCounts, in_flipped_segment: np.ndarray, foreground: np.ndarray) -> NamedColumns:
    """Returns counts of pixels by kind, class and prediction; a pixel has the first kind that fits, else `inside`."""
    C = len(foreground)
    on_foreground = foreground[counts.truth]
    detected = foreground[counts.prediction]
    conditions = {
        "correct": counts.truth == counts.prediction,
        "spill": ~on_foreground & detected,
        "background": ~on_foreground,
        "miss": ~detected,
        "whole": in_flipped_segment,
        "rim": counts.near,
    }
    kind_of_entry = np.select(
        list(conditions.values()), [KINDS.index(name) for name in conditions], default=KINDS.index("inside")
    )
    (kind, truth, prediction), pixels = _sum_equal(
        (kind_of_entry, counts.truth, counts.prediction), (len(KINDS), C, C), counts.pixels
    )
    return {"kind": np.array(KINDS)[kind], "class": truth, "predicted": prediction, "pixels": pixels}


def _sum_equal(
    keys: tuple[np.ndarray, ...], sizes: tuple[int, ...], pixels: np.ndarray
) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    """Adds up the pixels of entries whose keys are equal; returns the sorted keys that occur, and the sums.

    Args:
        keys: integers (entries,) each, in 0..size-1.
        sizes: of the keys.
        pixels: of each entry (entries,).

    Example:
        >>> truth, prediction = np.array([1, 0, 1]), np.array([2, 0, 2])
        >>> (truth, prediction), pixels = _sum_equal((truth, prediction), (3, 3), np.array([5, 6, 7]))
        >>> truth.tolist(), prediction.tolist(), pixels.tolist()
        ([0, 1], [0, 2], [6, 12])
    """
    # NumPy sorts single integers faster than rows of them. An image may have no segments, but a table has a size.
    shape = tuple(max(1, size) for size in sizes)
    occurring, index_of_entry = np.unique(np.ravel_multi_index(keys, shape), return_inverse=True)
    sums = np.bincount(index_of_entry, pixels, minlength=len(occurring)).astype(np.int64)
    return np.unravel_index(occurring, shape), sums
