"""Tables of true segments, predicted segments and error pixels.

`segment_columns` takes one image: it finds the segments (`flipjax.metrics.segment_units`) and makes the columns of the
three tables (`_true_columns`, `_predicted_columns`, `_pixel_columns`). `segment_tables` does so for many images and
joins them. `flipjax.metrics.segment_rates` computes rates from the tables.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Unpack

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

Images = list[ArrayLike] | tuple[ArrayLike, ...] | ArrayLike
"""Images with one leading axis or none, or one array for each image, of different sizes."""


class Columns(NamedTuple):
    """The columns of one image in the three `SegmentTables`, without its number; negative for blanks."""

    true: dict[str, np.ndarray]
    """Columns of the true segments."""
    predicted: dict[str, np.ndarray]
    """Columns of the predicted segments."""
    pixels: dict[str, np.ndarray]
    """Columns of the counted pixels."""


def _outcome_columns(
    segments: Units, counts: np.ndarray, shares: np.ndarray, foreground: np.ndarray
) -> dict[str, np.ndarray]:
    """Returns the columns of predicted classes and outcome.

    Args:
        segments: the true segments.
        counts: pixels of each segment by predicted class, (segments, C).
        shares: the share of the image that each true class covers, (C,).
        foreground: whether a class is foreground, (C,).
    """
    # Two classes alone have no third.
    lacking = max(0, len(LARGEST) - len(foreground))
    counts = np.pad(counts, ((0, 0), (0, lacking)))
    is_foreground = np.pad(foreground, (0, lacking))
    most_frequent = _most_frequent(segments.classes, counts, is_foreground)
    pixels = np.take_along_axis(counts, most_frequent, axis=1)
    columns: dict[str, np.ndarray] = {}
    for name, predicted, count in zip(LARGEST, most_frequent.T, pixels.T, strict=True):
        columns[name] = np.where(count > 0, predicted, -1)
        columns[f"{name}_share"] = np.where(count > 0, count / segments.pixels, np.nan)
    winner = most_frequent[:, 0]
    most_of_foreground = counts.max(1, where=is_foreground, initial=0)
    # The first condition that holds counts.
    conditions = {
        "correct": winner == segments.classes,
        "flip": foreground[winner] & (2 * pixels[:, 0] >= segments.pixels),
        "miss": pixels[:, 0] > most_of_foreground,
    }
    codes = np.select(
        list(conditions.values()),
        [OUTCOMES.index(name) for name in conditions],
        default=OUTCOMES.index("mixed"),
    )
    columns["outcome"] = np.array(OUTCOMES)[codes]
    # The winner of a flip is another class than the segment's, so its true pixels lie elsewhere in the image.
    elsewhere = (shares[winner] > 0).astype(np.int8)
    columns["bleeding"] = np.where(codes == OUTCOMES.index("flip"), elsewhere, -1)
    return columns


def _most_frequent(classes: np.ndarray, counts: np.ndarray, is_foreground: np.ndarray) -> np.ndarray:
    """Returns the three most frequent predicted classes of each segment, the most frequent first: (segments, 3).

    Among classes with equal counts (segments, C) another foreground class comes first, and the segment's class last.
    """
    precedence = np.tile(np.where(is_foreground, 2, 1), (len(counts), 1))
    precedence[np.arange(len(counts)), classes] = 0
    return np.argsort(-(3 * counts + precedence), axis=1, kind="stable")[:, : len(LARGEST)]


def _matches(segments: Units, predictions: Units, counts: PairCounts) -> dict[str, np.ndarray]:
    """Returns, for each segment, class and IoU of the predicted unit with an IoU above 1/2; -1 and NaN for none."""
    segment = segments.of_parts(counts.true)
    predicted = predictions.of_parts(counts.predicted)
    are_units = (segment >= 0) & (predicted >= 0)
    base = max(1, len(predictions.chosen))
    pairs, pair_of_entry = np.unique(segment[are_units] * base + predicted[are_units], return_inverse=True)
    intersection = np.bincount(pair_of_entry, counts.pixels[are_units], minlength=len(pairs)).astype(np.int64)
    true_unit, predicted_unit = np.divmod(pairs, base)
    union = segments.pixels[true_unit] + predictions.pixels[predicted_unit] - intersection
    matches = 2 * intersection > union
    classes = np.full(len(segments.pixels), -1)
    classes[true_unit[matches]] = predictions.classes[predicted_unit[matches]]
    iou = np.full(len(segments.pixels), np.nan)
    iou[true_unit[matches]] = intersection[matches] / union[matches]
    return {"matched": classes, "iou": iou}


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

    unit: ArrayLike
    rim: int
    min_pixels: int


def segments(predictions: Images, labels: Images, **options: Unpack[SegmentOptions]) -> pd.DataFrame:
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
    predictions: Images,
    labels: Images,
    *,
    unit: Images = "class",
    rim: int = RIM,
    min_pixels: int = 1,
    **spec: Unpack[LabelOptions],
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
        **spec: fields of `LabelSpec`.

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
    read = LabelSpec(**spec)
    if rim < 1:
        raise ValueError(f"rim: expected a number of pixels above 0, found {rim}.")
    truth = _images(labels, "labels", 2)
    axes = 3
    if read.kind == "masks":
        axes = 2
    scores = _images(predictions, "predictions", axes)
    if not 0 < len(truth) == len(scores):
        raise ValueError(f"labels: expected an image or more, one for each of {len(scores)}, found {len(truth)}.")
    units = _units_of_images(unit, len(truth))
    if read.kind == "masks" and read.num_classes is None:
        classes = [checks.check_pair(masks, labels, read)[2] for masks, labels in zip(scores, truth, strict=True)]
        read = dataclasses.replace(read, num_classes=max(classes))

    def measure(image: tuple[Array, Array, str | np.ndarray]) -> Columns:
        """Returns the columns of an image from its scores, its labels and its unit."""
        given_scores, given_labels, unit_of_image = image
        prediction, labels_of_image, C = checks.check_pair(given_scores, given_labels, read)
        risks = {}
        if read.kind != "masks":
            maps = read_pixels(prediction, read)
            prediction = maps.prediction
            risks = {"flip_risk": np.asarray(maps.risk), "max_softmax": 1 - np.asarray(maps.probability)}
        return segment_columns(
            prediction,
            labels_of_image,
            dataclasses.replace(read, num_classes=C),
            unit=unit_of_image,
            risks=risks,
            rim=rim,
            min_pixels=min_pixels,
        )

    return join_columns(list(in_order(measure, zip(scores, truth, units, strict=True))))


def _units_of_images(unit: Images, images: int) -> Sequence[str | np.ndarray]:
    """Returns the unit of each image: `class`, `component` or ids (H, W)."""
    if isinstance(unit, str):
        if unit not in UNITS:
            raise ValueError(f"unit: expected one of {', '.join(UNITS)}, or ids of the labels' shape, found {unit!r}.")
        return [unit] * images
    units = [np.asarray(ids) for ids in _images(unit, "unit", 2)]
    if len(units) != images:
        raise ValueError(f"unit: expected ids of {images} images, as of the labels, found ids of {len(units)}.")
    return units


def segment_columns(
    prediction: Array,
    labels: Array,
    spec: LabelSpec,
    *,
    unit: str | np.ndarray = "class",
    predicted_unit: str | np.ndarray | None = None,
    risks: dict[str, np.ndarray] | None = None,
    rim: int = RIM,
    min_pixels: int = 1,
) -> Columns:
    """Returns the columns of one image, for `join_columns`. Serves images that come one by one.

    Args:
        prediction: class indices (H, W); all values are in range, also of the labels.
        labels: integers (H, W).
        spec: options of the labels, with `num_classes`.
        unit: `class`, `component` or ids (H, W).
        predicted_unit: unit of predicted segments; None: classes where `unit` is `class`, else components.
        risks: maps (H, W) of scores, if known: `flip_risk` and `max_softmax`.
        rim: as in `segment_tables`.
        min_pixels: as in `segment_tables`.

    Raises:
        ValueError: ids of another shape.
    """
    risks = risks or {}
    truth = np.asarray(labels)
    has_ids = not isinstance(unit, str)
    if has_ids and (unit.shape != truth.shape or unit.dtype.kind not in "iu"):
        raise ValueError(f"unit: expected integers {truth.shape} as the labels, found {unit.dtype} {unit.shape}.")
    image = _read_image(prediction, truth, spec)
    label_of_pixel = image.truth
    if not has_ids and unit == "component" and image.known is not None:
        # So that ignored pixels do not cut a component in two.
        label_of_pixel = fill_void(image.truth, image.known)
    if predicted_unit is None:
        predicted_unit = _predicted_unit(unit)
    true_parts = find_parts(label_of_pixel, image.known, image.foreground, unit)
    predicted_parts = find_parts(image.predicted, image.known, image.foreground, predicted_unit)
    near = near_border(image.truth, image.known, rim)
    # One pass over the pixels: what follows is arithmetic on a few counts.
    counts = count_pairs(true_parts, predicted_parts, near)
    entries = _Entries(counts, true_parts.classes[counts.true], predicted_parts.classes[counts.predicted])
    segments = choose_units(true_parts, counts.true, counts.pixels, least=min_pixels)
    all_predicted = choose_units(predicted_parts, counts.predicted, counts.pixels)
    listed_predicted = choose_units(predicted_parts, counts.predicted, counts.pixels, least=min_pixels)
    true = _true_columns(segments, all_predicted, entries, image, risks.get("flip_risk"), has_ids=has_ids)
    segment = segments.of_parts(counts.true)
    # The segment of a pixel without any is -1, and so the last place.
    is_flipped = np.append(true["outcome"] == "flip", False)
    return Columns(
        true=true,
        predicted=_predicted_columns(listed_predicted, entries, image, risks),
        pixels=_pixel_columns(entries, is_flipped[segment], image.foreground),
    )


def _predicted_unit(unit: str | np.ndarray) -> str:
    """Returns the unit of predicted segments: `class` if true segments are classes, else `component`."""
    if isinstance(unit, str) and unit == "class":
        return "class"
    return "component"


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

    @functools.cached_property
    def detected(self) -> np.ndarray:
        """The pixels that are predicted as foreground, bool (H, W)."""
        return self.foreground[self.predicted]


class _Entries(NamedTuple):
    """Counted pixels. Pixels with equal true part, predicted part and nearness to a border share an entry."""

    counts: PairCounts
    """The parts, nearness and number of the pixels of each entry."""
    truth: np.ndarray
    """int64 (entries,), the true class."""
    predicted: np.ndarray
    """int64 (entries,), the predicted class."""


def _read_image(prediction: Array, labels: np.ndarray, spec: LabelSpec) -> _Image:
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
    return _Image(truth.astype(dtype, copy=False), np.asarray(prediction).astype(dtype, copy=False), known, foreground)


def _true_columns(
    segments: Units,
    predictions: Units,
    entries: _Entries,
    image: _Image,
    flip_risk: np.ndarray | None,
    *,
    has_ids: bool,
) -> dict[str, np.ndarray]:
    """Returns the columns of true segments, with their ids if these are instances."""
    C = len(image.foreground)
    counts = entries.counts
    shares = np.bincount(entries.truth, counts.pixels, minlength=C) / image.truth.size
    segment = segments.of_parts(counts.true)
    wrong = np.where(entries.truth != entries.predicted, counts.pixels, 0)
    rim_errors = segments.sum(segment, np.where(counts.near, wrong, 0))
    # A row for each segment: the share of each class in the image, without the segment itself.
    segment_shares = segments.pixels / image.truth.size
    outside = shares - np.eye(C)[segments.classes] * segment_shares[:, None]
    by_class = segments.sum_by_class(segment, entries.predicted, counts.pixels, C)
    return {
        **segments.columns(with_ids=has_ids),
        **_outcome_columns(segments, by_class, shares, image.foreground),
        "rim_pixels": segments.sum(segment, np.where(counts.near, counts.pixels, 0)),
        "rim_errors": rim_errors,
        "inside_errors": segments.sum(segment, wrong) - rim_errors,
        "flip_risk": segments.mean(flip_risk, None if flip_risk is None else image.detected),
        **_matches(segments, predictions, counts),
        **{f"context_{c}": outside[:, c].astype(np.float32) for c in range(C)},
    }


def _predicted_columns(
    predictions: Units, entries: _Entries, image: _Image, risks: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Returns the columns of predicted segments."""
    C = len(image.foreground)
    predicted = predictions.of_parts(entries.counts.predicted)
    by_class = predictions.sum_by_class(predicted, entries.truth, entries.counts.pixels, C)
    most_frequent = by_class.argmax(1)
    detected = image.detected if risks else None
    return {
        **predictions.columns(),
        "flip_risk": predictions.mean(risks.get("flip_risk"), detected),
        "max_softmax": predictions.mean(risks.get("max_softmax"), detected),
        "truth": most_frequent,
        "truth_share": by_class.max(1, initial=0) / predictions.pixels,
        "right": most_frequent == predictions.classes,
    }


def _pixel_columns(entries: _Entries, in_flipped_segment: np.ndarray, foreground: np.ndarray) -> dict[str, np.ndarray]:
    """Returns counts of pixels by kind, class and prediction; a pixel has the first kind that fits, else `inside`."""
    C = len(foreground)
    detected = foreground[entries.predicted]
    on_foreground = foreground[entries.truth]
    conditions = {
        "correct": entries.truth == entries.predicted,
        "spill": ~on_foreground & detected,
        "background": ~on_foreground,
        "miss": ~detected,
        "whole": in_flipped_segment,
        "rim": entries.counts.near,
    }
    kind_of_entry = np.select(
        list(conditions.values()), [KINDS.index(name) for name in conditions], default=KINDS.index("inside")
    )
    # Kind, class and prediction are one integer, so that entries with equal ones are added up.
    row_code = kind_of_entry * C * C + entries.truth * C + entries.predicted
    rows, row_of_entry = np.unique(row_code, return_inverse=True)
    pixels = np.bincount(row_of_entry, entries.counts.pixels, minlength=len(rows)).astype(np.int64)
    kind, truth, prediction = np.unravel_index(rows, (len(KINDS), C, C))
    return {"kind": np.array(KINDS)[kind], "class": truth, "predicted": prediction, "pixels": pixels}


def _images(values: Images, name: str, ndim: int) -> Sequence[Array]:
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


def join_columns(parts: Sequence[Columns]) -> SegmentTables:
    """Joins the columns of images, numbered from 0 in order, into tables.

    Raises:
        ValueError: images of different numbers of classes.
    """
    import pandas as pd

    if len({len(part.true) for part in parts}) > 1:
        raise ValueError("predictions: expected one number of classes in all images, found several.")
    tables: list[dict[str, Any]] = []
    for columns in zip(*parts, strict=True):
        sizes = [len(part["class"]) for part in columns]
        table = {"image": np.repeat(np.arange(len(parts)), sizes)}
        for key in columns[0]:
            table[key] = np.concatenate([part[key] for part in columns])
        tables.append(table)
    true = tables[0]
    for key in ("second", "third", "matched"):
        true[key] = pd.arrays.IntegerArray(true[key], true[key] < 0)
    true["bleeding"] = pd.arrays.BooleanArray(true["bleeding"] > 0, true["bleeding"] < 0)
    return SegmentTables(*map(pd.DataFrame, tables))
