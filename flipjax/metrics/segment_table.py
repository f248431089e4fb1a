"""Objects in place of pixels: a row for each true segment and each predicted one, and what wrong pixels are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from flipjax.metrics import checks
from flipjax.metrics.checks import Options, to_array
from flipjax.metrics.classes import background_classes, is_foreground
from flipjax.metrics.objects import Columns, measure_image
from flipjax.metrics.units import UNITS
from flipjax.threads import in_order

if TYPE_CHECKING:
    import pandas as pd

RIM = 4
"""Pixels on each side of a border between labels, as in the trials of ESPNetv2 on CamVid."""


class SegmentTables(NamedTuple):
    """What `segment_tables` returns: three DataFrames of the same images.

    true: a row a true segment, as `segments` has it.
    predicted: a row a predicted segment of a foreground class: image, class, pixels, box (top, left, bottom, right;
    bottom and right lie outside), stratum, flip_risk, max_softmax (1 less the largest probability, as in
    `logit_scores`), truth (the true class of most of it) and its share, right.
    pixels: counts by image, kind (`KINDS`), class and prediction; all counted pixels of all images.

    Example:
        >>> tables = segment_tables(np.array([[1, 1, 2]]), np.array([[1, 1, 1]]), kind="masks", min_pixels=1)
        >>> tables.predicted[["class", "truth", "right"]].values.tolist()
        [[1, 1, True], [2, 1, False]]
        >>> tables.pixels.values.tolist()
        [[0, 'correct', 1, 1, 2], [0, 'inside', 1, 2, 1]]
    """

    true: pd.DataFrame
    predicted: pd.DataFrame
    pixels: pd.DataFrame


def segments(predictions: Any, labels: Any, **options: Any) -> pd.DataFrame:
    """Returns a table with a row for each true segment of a foreground class: what it is, and what it is taken for.

    Takes the arguments of `segment_tables`, and raises what it raises. Columns:

    - `image`, `class`, `pixels`, the box `top`, `left`, `bottom`, `right` (the last two lie outside), `stratum` 0..4 of
      its share of the image (below 1/256, 1/64, 1/16, 1/4, above); with ids `instance`.
    - `predicted`, `second`, `third` with `..._share`: the three largest predictions; blank where there are fewer.
    - `outcome`: `correct`: most of it is predicted as its class; `flip`: at least half as one other foreground class;
      `miss`: most of it as background; else `mixed`. `bleeding`: of a flip, whether the image has that class elsewhere.
    - `rim_pixels`: those within `rim` pixels of another label. `rim_errors`, `inside_errors`: wrong pixels.
    - `flip_risk`: mean entropy over its pixels that are predicted as foreground; blank for masks.
    - `matched`, `iou`: class of the predicted segment with an IoU above 1/2, if there is one: it is the only one
      (Kirillov et al., Panoptic segmentation, 2019). Classes have no say in it.
    - `context_<c>`: the share of the image that class c has outside of the segment.

    Example:
        >>> table = segments(np.array([[2, 2, 1, 0]]), np.array([[1, 1, 1, 0]]), kind="masks", min_pixels=1)
        >>> table[["class", "pixels", "predicted", "outcome", "matched"]].values.tolist()
        [[1, 3, 2, 'flip', 2]]
    """
    return segment_tables(predictions, labels, **options).true


def segment_tables(
    predictions: Any,
    labels: Any,
    *,
    background: int | tuple[int, ...] | None = 0,
    ignore_index: int | None = None,
    kind: str = "logits",
    channels: str = "last",
    num_classes: int | None = None,
    unit: Any = "class",
    rim: int = RIM,
    min_pixels: int | None = None,
) -> SegmentTables:
    """Returns the tables of true segments, predicted segments and pixels, in one pass over the images.

    Args:
        predictions: logits or probabilities (..., H, W, C) or class indices (..., H, W), with one image axis or none;
            or a sequence of images of different sizes.
        labels: integers (..., H, W), or a sequence of them.
        background: the class that is background, several in a tuple, or None.
        ignore_index: label of pixels that count nowhere.
        kind: `logits`, `probabilities` or `masks`.
        channels: `last`, or `first` for (..., C, H, W).
        num_classes: C of masks; None: one more than the largest class.
        unit: `class`: all pixels of a class in an image are a segment; `component`: each 8-connected component, where
            ignored pixels have the nearest label; or ids of instances, integers of the labels' shape: all pixels of
            one id and one class. Predicted segments are components in that case.
        rim: in pixels, the width of the rim.
        min_pixels: smaller segments have no row; None: 64 or 0.1 % of the image, whichever is more.

    Returns:
        `SegmentTables`; needs pandas.

    Raises:
        TypeError: arrays of other types than these.
        ValueError: shapes, sizes, classes or options that do not fit.

    Source: shares of a segment's pixels, as in Rottmann et al., Prediction error meta classification (MetaSeg), 2020.

    Example:
        >>> segment_tables(np.array([[1, 2]]), np.array([[1, 1]]), kind="masks", min_pixels=1).true["outcome"].item()
        'correct'
    """
    options = Options(background_classes(background), ignore_index, 2, kind, num_classes, channels)
    if rim < 1:
        raise ValueError(f"rim: expected a number of pixels above 0, found {rim}.")
    truth = _images(labels, "labels", 2)
    scores = _images(predictions, "predictions", 2 if kind == "masks" else 3)
    units = [unit] * len(truth) if isinstance(unit, str) else [np.asarray(ids) for ids in _images(unit, "unit", 2)]
    if isinstance(unit, str) and unit not in UNITS:
        raise ValueError(f"unit: expected one of {', '.join(UNITS)}, or ids of the labels' shape, found {unit!r}.")
    if not len(scores) == len(truth) == len(units):
        raise ValueError(f"labels: expected as many images as predictions, {len(scores)}, found {len(truth)}.")
    if not len(truth):
        raise ValueError("labels: expected at least one image, found none.")
    if kind == "masks" and num_classes is None:
        found = [checks.check_pair(*pair, options)[2] for pair in zip(scores, truth, strict=True)]
        options = options._replace(num_classes=max(found))

    def measure(image: tuple[Any, Any, Any]) -> Columns:
        return segment_columns(*image[:2], options, unit=image[2], rim=rim, min_pixels=min_pixels)

    parts = list(in_order(measure, zip(scores, truth, units, strict=True)))
    return join_columns(parts, with_ids=not isinstance(unit, str))


def segment_columns(
    scores: Any,
    labels: Any,
    options: Options,
    *,
    unit: Any = "class",
    predicted_unit: Any = None,
    rim: int = RIM,
    min_pixels: int | None = None,
) -> Columns:
    """Returns the columns of one image, of which `join_columns` makes the tables: for images that come one by one.

    Args:
        scores: (H, W, C), or class indices (H, W) where `options.kind` is `masks`.
        labels: integers (H, W).
        options: as the kernels take them; masks need `num_classes`.
        unit: `class`, `component` or ids (H, W).
        predicted_unit: of predicted segments, the same; None: classes where `unit` is `class`, else components.
        rim: as in `segment_tables`.
        min_pixels: as in `segment_tables`.

    Raises:
        TypeError, ValueError: what `segment_tables` raises.
    """
    if predicted_unit is None:
        predicted_unit = "class" if isinstance(unit, str) and unit == "class" else "component"
    arrays = _read(scores, labels, unit, options)
    return measure_image(*arrays, unit=unit, predicted_unit=predicted_unit, rim=rim, min_pixels=min_pixels)


def _images(values: Any, name: str, ndim: int) -> Any:
    """Returns a sequence of images (H, W) or (H, W, C), of an array with or without an image axis, or of a sequence."""
    if isinstance(values, (list, tuple)):
        images = [to_array(value, name=name) for value in values]
    else:
        array = to_array(values, name=name)
        images = array if array.ndim == ndim + 1 else [array]
    for image in images:
        if image.ndim != ndim:
            raise ValueError(
                f"{name}: expected images of {ndim} axes, with one image axis or none, found shape {image.shape}. "
                "Segments are of images: pass a volume slice by slice."
            )
    return images


def _read(
    scores: Any, labels: Any, unit: Any, options: Options
) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, np.ndarray], np.ndarray]:
    """Returns predicted classes, labels, which pixels count, risks if there are scores, and which classes count."""
    prediction, truth, C = checks.check_pair(scores, labels, options)
    risks = {}
    if options.kind != "masks":
        from flipjax.metrics.kernels import risk_map

        scores = prediction
        risks["flip_risk"] = np.asarray(risk_map(scores, background=options.background, kind=options.kind))
        values = np.asarray(scores, np.float32)
        prediction, largest = np.asarray(scores).argmax(-1), values.max(-1)
        if options.kind == "logits":
            with np.errstate(invalid="ignore"):
                largest = 1 / np.exp(values - largest[..., None]).sum(-1)
        risks["max_softmax"] = 1 - largest
    if not isinstance(unit, str) and (unit.shape != truth.shape or unit.dtype.kind not in "iu"):
        raise ValueError(
            f"unit: expected integer ids of the labels' shape {truth.shape}, found {unit.dtype} of shape {unit.shape}."
        )
    truth = np.asarray(truth)
    known = np.ones(truth.shape, bool) if options.ignore_index is None else truth != options.ignore_index
    return (
        np.asarray(prediction).astype(np.int32),
        np.where(known, truth, 0).astype(np.int32),
        known,
        risks,
        is_foreground(C, options.background),
    )


def join_columns(parts: Sequence[Columns], *, with_ids: bool = False) -> SegmentTables:
    """Returns the tables of images, numbered from 0 in the order of their columns; `with_ids` keeps `instance`.

    Raises:
        ValueError: images of different numbers of classes.
    """
    import pandas as pd

    if len({len(part.true) for part in parts}) > 1:
        raise ValueError("predictions: expected one number of classes in all images, found several.")
    frames = []
    for name in Columns._fields:
        columns = [getattr(part, name) for part in parts]
        sizes = [len(next(iter(part.values()))) for part in columns]
        table: dict[str, Any] = {"image": np.repeat(np.arange(len(parts)), sizes)}
        table |= {key: np.concatenate([part[key] for part in columns]) for key in columns[0]}
        for key in table.keys() & {"second", "third", "matched"}:
            table[key] = pd.arrays.IntegerArray(table[key].astype(np.int64), table[key] < 0)
        if "bleeding" in table:
            table["bleeding"] = pd.arrays.BooleanArray(table["bleeding"] > 0, table["bleeding"] < 0)
        if not with_ids or name != "true":
            table.pop("instance", None)
        frames.append(pd.DataFrame(table))
    return SegmentTables(*frames)
