"""Tables of true segments, predicted segments and error pixels.

`segment_columns` takes one image: it finds the segments (`flipjax.metrics.segment_units`) and makes the columns of the
three tables (`_true_columns`, `_predicted_columns`, `_pixel_columns`). `segment_tables` does so for many images and
joins them. `flipjax.metrics.segment_rates` computes rates from the tables.

Words: an image is divided into *parts*: its segments, and what is left of each class. A *segment* is the pixels of one
class, component or instance, as the option `unit` says. *Units* are the parts that are segments of a foreground class
and large enough; tables have a row for each. An *entry* counts the pixels of one true part, one predicted part and
one nearness to a border (`PairCounts`).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Unpack

import numpy as np
from numpy.typing import ArrayLike

from flipjax.metrics import checks
from flipjax.metrics.checks import to_array
from flipjax.metrics.classes import LabelOptions, LabelSpec
from flipjax.metrics.host import Array
from flipjax.metrics.kernels import read_pixels
from flipjax.metrics.segment_units import (
    UNITS,
    PairCounts,
    Units,
    choose_units,
    count_pairs,
    fill_void,
    find_parts,
    near_border,
)
from flipjax.support.threads import in_order

if TYPE_CHECKING:
    import pandas as pd

OUTCOMES = ("correct", "flip", "miss", "mixed")
"""Outcomes of a true segment, see `segments`."""
KINDS = ("correct", "whole", "rim", "inside", "miss", "spill", "background")
"""Error type of each pixel: correct; flip in a flipped segment; flip near the border of, or inside, another segment;
missed; spill; confusion between background classes."""
LARGEST = ("predicted", "second", "third")
"""Columns of the most frequent predictions of a segment, the most frequent first."""
RIM = 4
"""Default width of the rim, in pixels on each side of a label boundary."""

Stack = list[ArrayLike] | tuple[ArrayLike, ...] | ArrayLike
"""Images with one leading axis or none, or one array for each image, of different sizes."""
NamedColumns = dict[str, np.ndarray]
"""The columns of a table by their names, of one length; negative where blank."""


class SegmentTables(NamedTuple):
    """Three DataFrames of the same images.

    Example:
        >>> tables = segment_tables(np.array([[1, 1, 2]]), np.array([[1, 1, 1]]), kind="masks", min_pixels=1)
        >>> tables.predicted[["class", "truth", "right"]].values.tolist()
        [[1, 1, True], [2, 1, False]]
        >>> tables.pixels.values.tolist()
        [[0, 'correct', 1, 1, 2], [0, 'inside', 1, 2, 1]]
    """

    true: pd.DataFrame
    """One row per true segment, see `segments`."""
    predicted: pd.DataFrame
    """One row per predicted segment of a foreground class: image, class, pixels, box (top, left, bottom, right; ends
    exclusive), stratum, flip_risk, max_softmax (1 minus the largest probability), truth (its most frequent true class)
    with truth_share, right."""
    pixels: pd.DataFrame
    """All counted pixels by image, kind (`KINDS`), class and prediction."""


class SegmentOptions(LabelOptions, total=False):
    """Options of `segment_tables` as keywords of a function."""

    unit: Stack
    rim: int
    min_pixels: int


def segments(predictions: Stack, labels: Stack, **options: Unpack[SegmentOptions]) -> pd.DataFrame:
    """Tabulates true segments of foreground classes with their predictions, one row per segment.

    Takes the arguments of `segment_tables` and raises the same errors. Columns:

    - `image`, `class`, `pixels`, the box `top`, `left`, `bottom`, `right` (ends exclusive), `stratum` 0..4 of its
      share of the image (below 1/256, 1/64, 1/16, 1/4, above); with ids `instance`.
    - `predicted`, `second`, `third` with `..._share`: the three most frequent predictions; blank where there are fewer.
    - `outcome`: `correct`: more of it is predicted as its class than as any other; `flip`: at least half as one other
      foreground class; `miss`: more as a background class than as any foreground class; else `mixed`. `bleeding`: of a
      flip, whether the image has that class elsewhere.
    - `rim_pixels`: those within `rim` pixels of another label. `rim_errors`, `inside_errors`: wrong pixels.
    - `flip_risk`: mean entropy over its pixels that are predicted as foreground; blank for masks.
    - `matched`, `iou`: class and IoU of the predicted segment with an IoU above 1/2, of any class; there is at most one
      (Kirillov et al., Panoptic segmentation, 2019).
    - `context_<c>`: the share of the image that class c covers outside of the segment.

    Example:
        >>> table = segments(np.array([[2, 2, 1, 0]]), np.array([[1, 1, 1, 0]]), kind="masks", min_pixels=1)
        >>> table[["class", "pixels", "predicted", "outcome", "matched"]].values.tolist()
        [[1, 3, 2, 'flip', 2]]
    """
    return segment_tables(predictions, labels, **options).true


def segment_tables(
    predictions: Stack,
    labels: Stack,
    *,
    unit: Stack = "class",
    rim: int = RIM,
    min_pixels: int = 1,
    **options: Unpack[LabelOptions],
) -> SegmentTables:
    """Tabulates true segments, predicted segments and pixels in one pass over the images.

    Args:
        predictions: logits or probabilities (..., H, W, C) or class indices (..., H, W), with one image axis or none;
            or a sequence of images of different sizes.
        labels: integers (..., H, W), or a sequence of them.
        unit: the pixels of a segment. `class`: all pixels of one class in an image; `component`: an 8-connected
            component, where ignored pixels take the nearest label; or instance ids, integers of the labels' shape: all
            pixels of one id and class. With ids predicted segments are components.
        rim: in pixels, the width of the rim.
        min_pixels: smaller segments have no row; by default every segment has one.
        **options: fields of `LabelSpec`.

    Returns:
        `SegmentTables`; needs pandas.

    Raises:
        TypeError: invalid dtypes.
        ValueError: invalid shapes, classes or options, or empty images.

    Source: shares of a segment's pixels, as in Rottmann et al., Prediction error meta classification (MetaSeg), 2020.

    Example:
        >>> segment_tables(np.array([[1, 2, 1]]), np.array([[1, 1, 1]]), kind="masks").true["outcome"].item()
        'correct'
    """
    spec = LabelSpec(**options)
    if rim < 1:
        raise ValueError(f"rim: expected a number of pixels above 0, found {rim}.")
    truth = _list_images(labels, "labels", 2)
    axes = 3
    if spec.kind == "masks":
        axes = 2
    scores = _list_images(predictions, "predictions", axes)
    if len(truth) == 0 or len(truth) != len(scores):
        raise ValueError(f"labels: expected an image or more, one for each of {len(scores)}, found {len(truth)}.")
    if isinstance(unit, str):
        unit_of_segments = unit
        ids: Sequence[np.ndarray | None] = [None] * len(truth)
    else:
        # Of the predicted segments, which have no ids.
        unit_of_segments = "component"
        ids = _read_ids(unit, truth)
    if unit_of_segments not in UNITS:
        raise ValueError(f"unit: expected one of {', '.join(UNITS)}, or ids of the labels' shape, found {unit!r}.")

    def check_image(image: int) -> tuple[Array, Array, int]:
        """Returns prediction, labels and number of classes of an image, checked."""
        return checks.check_pair(scores[image], truth[image], spec)

    checked = list(in_order(check_image, range(len(truth))))
    # Masks show only some of the classes, so all images have those of the one with the most; scores tell their own.
    fewest_classes = 0
    if spec.kind == "masks":
        fewest_classes = max(C for _, _, C in checked)

    def measure(image: int) -> Columns:
        """Returns the columns of an image."""
        prediction, labels_of_image, C = checked[image]
        risks = {}
        if spec.kind != "masks":
            maps = read_pixels(prediction, spec)
            prediction = maps.prediction
            risks = {"flip_risk": np.asarray(maps.risk), "max_softmax": 1 - np.asarray(maps.probability)}
        return segment_columns(
            prediction,
            labels_of_image,
            dataclasses.replace(spec, num_classes=max(C, fewest_classes)),
            unit=unit_of_segments,
            ids=ids[image],
            risks=risks,
            rim=rim,
            min_pixels=min_pixels,
        )

    return join_columns(list(in_order(measure, range(len(truth)))))


def _list_images(values: Stack, name: str, ndim: int) -> Sequence[Array]:
    """Returns a sequence of images (H, W) or (H, W, C), from a sequence or an array with or without an image axis."""
    if isinstance(values, list | tuple):
        images = [to_array(value, name=name) for value in values]
    else:
        array = to_array(values, name=name)
        images = [array]
        if array.ndim == ndim + 1:
            images = list(array)
    for image in images:
        if image.ndim != ndim:
            raise ValueError(f"{name}: expected images of {ndim} axes or slices of volumes, found shape {image.shape}.")
    return images


def _read_ids(unit: Stack, truth: Sequence[Array]) -> list[np.ndarray]:
    """Returns the instance ids (H, W) of each image.

    Raises:
        ValueError: ids of another number of images, of other shapes than the labels, or no integers.
    """
    ids = [np.asarray(of_image) for of_image in _list_images(unit, "unit", 2)]
    if len(ids) != len(truth):
        raise ValueError(f"unit: expected ids of {len(truth)} images, as of the labels, found ids of {len(ids)}.")
    for of_image, labels in zip(ids, truth, strict=True):
        if of_image.shape != labels.shape or of_image.dtype.kind not in "iu":
            found = f"{of_image.dtype} {of_image.shape}"
            raise ValueError(f"unit: expected integers {labels.shape} as the labels, found {found}.")
    return ids


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
    """Returns the columns of one image (H, W), for `join_columns`. Serves images that come one by one, and volumes.

    Args:
        prediction: class indices (H, W); all values are in range, also of the labels.
        labels: integers (H, W).
        spec: options of the labels, with `num_classes`.
        unit: `class` or `component`, of segments without ids.
        ids: int (H, W), of the true segments.
        predicted_ids: int (H, W), of the predicted segments.
        risks: maps (H, W) of scores, if known: `flip_risk` and `max_softmax`.
        rim: as in `segment_tables`.
        min_pixels: as in `segment_tables`.
    """
    image = _read_image(prediction, np.asarray(labels), spec, risks or {})
    label_of_pixel = image.truth
    if ids is None and unit == "component" and image.known is not None:
        # So that ignored pixels do not cut a component in two.
        label_of_pixel = fill_void(image.truth, image.known)
    true_parts = find_parts(label_of_pixel, image.known, image.foreground, unit=unit, ids=ids)
    predicted_parts = find_parts(image.predicted, image.known, image.foreground, unit=unit, ids=predicted_ids)
    # One pass over the pixels: what follows is arithmetic on a few counts.
    counts = count_pairs(true_parts, predicted_parts, near_border(image.truth, image.known, rim))
    true_units = choose_units(true_parts, counts.true_part, counts.pixels, least=min_pixels)
    # Small predicted segments have no row, but a true segment may match them.
    all_predicted = choose_units(predicted_parts, counts.predicted_part, counts.pixels)
    listed_predicted = choose_units(predicted_parts, counts.predicted_part, counts.pixels, least=min_pixels)
    true = _true_columns(true_units, all_predicted, counts, image, with_ids=ids is not None)
    # The unit of a pixel without any is -1, and so the last place.
    is_flipped = np.append(true["outcome"] == "flip", False)
    in_flipped_segment = is_flipped[true_units.of_parts(counts.true_part)]
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
    known: np.ndarray | None
    """Whether a pixel counts because it is not ignored, bool (H, W); None: all pixels count."""
    foreground: np.ndarray
    """Whether a class is foreground, bool (C,)."""
    risks: Mapping[str, np.ndarray]
    """Maps (H, W) of scores, if known: `flip_risk` and `max_softmax`."""

    @functools.cached_property
    def detected(self) -> np.ndarray:
        """The pixels that are predicted as foreground, bool (H, W)."""
        return self.foreground[self.predicted]

    def mean_risk(self, name: str, units: Units) -> np.ndarray:
        """Returns the mean score of each unit's pixels that are predicted as foreground; NaN if it is not known."""
        if name not in self.risks:
            return np.full(len(units.chosen), np.nan)
        return units.mean(self.risks[name], self.detected)


def _read_image(prediction: Array, labels: np.ndarray, spec: LabelSpec, risks: Mapping[str, np.ndarray]) -> _Image:
    """Returns truth and prediction of an image whose values were checked, in the smallest integers."""
    foreground = spec.foreground(spec.num_classes or 0)
    dtype = np.min_scalar_type(len(foreground))
    known = None
    truth = labels
    if spec.ignore_index is not None:
        known = labels != spec.ignore_index
        if known.all():
            known = None
        else:
            truth = np.where(known, labels, 0)
    # In C's order, which passes over pixels follow; NIfTI files hold the first axis fastest.
    truth = truth.astype(dtype, order="C", copy=False)
    predicted = np.asarray(prediction).astype(dtype, order="C", copy=False)
    return _Image(truth, predicted, known, foreground, risks)


def _true_columns(
    units: Units, predicted_units: Units, counts: PairCounts, image: _Image, *, with_ids: bool
) -> NamedColumns:
    """Returns the columns of true segments."""
    C = len(image.foreground)
    size = image.truth.size
    shares = np.bincount(counts.truth, counts.pixels, minlength=C) / size
    unit_of_entry = units.of_parts(counts.true_part)
    wrong = np.where(counts.truth != counts.prediction, counts.pixels, 0)
    errors = units.sum(unit_of_entry, wrong)
    rim_errors = units.sum(unit_of_entry, np.where(counts.near, wrong, 0))
    columns = units.columns(with_ids=with_ids)
    columns.update(_outcome_columns(units, counts, shares, image.foreground))
    columns["rim_pixels"] = units.sum(unit_of_entry, np.where(counts.near, counts.pixels, 0))
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
    by_class = units.sum_by_class(units.of_parts(counts.true_part), counts.prediction, counts.pixels, C)
    # Two classes alone have no third.
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

    Among classes with equal counts (segments, C) another foreground class comes first, and the segment's class last.
    """
    precedence = np.tile(np.where(is_foreground, 2, 1), (len(counts), 1))
    precedence[np.arange(len(counts)), classes] = 0
    # One number sorts by both: a pixel more weighs 3, and the precedence is 2 at most, so that it only settles ties.
    return np.argsort(-(3 * counts + precedence), axis=1, kind="stable")[:, : len(LARGEST)]


def _match_columns(units: Units, predicted_units: Units, counts: PairCounts) -> NamedColumns:
    """Returns, for each true segment, class and IoU of the predicted one with an IoU above 1/2; -1 and NaN for none."""
    true = units.of_parts(counts.true_part)
    predicted = predicted_units.of_parts(counts.predicted_part)
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
    unit_of_entry = units.of_parts(counts.predicted_part)
    by_class = units.sum_by_class(unit_of_entry, counts.truth, counts.pixels, len(image.foreground))
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


def join_columns(parts: Sequence[Columns]) -> SegmentTables:
    """Joins the columns of images, numbered from 0 in order, into tables.

    Raises:
        ValueError: images of different numbers of classes.
    """
    import pandas as pd

    if len({part.classes for part in parts}) > 1:
        raise ValueError("predictions: expected one number of classes in all images, found several.")
    true = _join([part.true for part in parts])
    for key in ("second", "third", "matched"):
        classes = true[key].to_numpy()
        true[key] = pd.arrays.IntegerArray(classes, classes < 0)
    bleeding = true["bleeding"].to_numpy()
    true["bleeding"] = pd.arrays.BooleanArray(bleeding > 0, bleeding < 0)
    return SegmentTables(true, _join([part.predicted for part in parts]), _join([part.pixels for part in parts]))


def _join(images: Sequence[NamedColumns]) -> pd.DataFrame:
    """Returns the rows of all images, with the number of each row's image."""
    import pandas as pd

    table = {"image": np.repeat(np.arange(len(images)), [len(columns["class"]) for columns in images])}
    for key in images[0]:
        table[key] = np.concatenate([columns[key] for columns in images])
    return pd.DataFrame(table)
