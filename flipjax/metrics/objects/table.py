"""Tables of true segments, predicted segments and error pixels of many images.

`flipjax.metrics.objects.columns` computes the rows of one image; `segment_tables` does so for each image and joins
them. `flipjax.metrics.objects.rates` computes rates from the tables.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Unpack

import numpy as np
from numpy.typing import ArrayLike

from flipjax.metrics.inputs import checks
from flipjax.metrics.inputs.checks import to_array
from flipjax.metrics.inputs.classes import LabelOptions, LabelSpec
from flipjax.metrics.inputs.host import Array
from flipjax.metrics.kernels import read_pixels
from flipjax.metrics.objects.columns import RIM, Columns, NamedColumns, segment_columns
from flipjax.metrics.objects.units import UNITS
from flipjax.support.threads import in_order

if TYPE_CHECKING:
    import pandas as pd

Stack = list[ArrayLike] | tuple[ArrayLike, ...] | ArrayLike
"""Images with one leading axis or none, or one array for each image, of different sizes."""


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
    label_maps = _list_images(labels, "labels", ndim=2)
    if spec.kind == "masks":
        outputs = _list_images(predictions, "predictions", ndim=2)
    else:
        outputs = _list_images(predictions, "predictions", ndim=3)
    if len(label_maps) == 0 or len(label_maps) != len(outputs):
        raise ValueError(f"labels: expected an image or more, one for each of {len(outputs)}, found {len(label_maps)}.")
    if not isinstance(unit, str):
        ids: Sequence[np.ndarray | None] = _read_ids(unit, label_maps)
        # Predicted segments have no ids.
        unit_without_ids = "component"
    elif unit in UNITS:
        ids = [None] * len(label_maps)
        unit_without_ids = unit
    else:
        raise ValueError(f"unit: expected one of {', '.join(UNITS)}, or ids of the labels' shape, found {unit!r}.")

    def check_image(image: int) -> tuple[Array, Array, int]:
        """Returns prediction, labels and number of classes of an image, checked."""
        return checks.check_pair(outputs[image], label_maps[image], spec)

    checked = list(in_order(check_image, range(len(label_maps))))
    # Each image of masks shows only some of the classes: the image that shows most says how many there are.
    most_classes = max(C for _, _, C in checked)

    def columns_of_image(image: int) -> Columns:
        """Returns the columns of an image."""
        prediction, label_map, C = checked[image]
        if spec.kind == "masks":
            C = most_classes
            risks = {}
        else:
            maps = read_pixels(prediction, spec)
            prediction = maps.prediction
            risks = {"flip_risk": np.asarray(maps.risk), "max_softmax": 1 - np.asarray(maps.probability)}
        return segment_columns(
            prediction,
            label_map,
            dataclasses.replace(spec, num_classes=C),
            unit=unit_without_ids,
            ids=ids[image],
            risks=risks,
            rim=rim,
            min_pixels=min_pixels,
        )

    return join_columns(list(in_order(columns_of_image, range(len(label_maps)))))


def _list_images(values: Stack, name: str, *, ndim: int) -> Sequence[Array]:
    """Returns the images of a sequence, of an array with an image axis, or of one image, each of `ndim` axes."""
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


def _read_ids(ids: Stack, label_maps: Sequence[Array]) -> list[np.ndarray]:
    """Returns the instance ids (H, W) of each image.

    Raises:
        ValueError: ids of another number of images, of other shapes than the labels, or no integers.
    """
    id_maps = [np.asarray(id_map) for id_map in _list_images(ids, "unit", ndim=2)]
    if len(id_maps) != len(label_maps):
        expected = f"ids of {len(label_maps)} images, as of the labels"
        raise ValueError(f"unit: expected {expected}, found ids of {len(id_maps)}.")
    for id_map, label_map in zip(id_maps, label_maps, strict=True):
        if id_map.shape != label_map.shape or id_map.dtype.kind not in "iu":
            found = f"{id_map.dtype} {id_map.shape}"
            raise ValueError(f"unit: expected integers {label_map.shape} as the labels, found {found}.")
    return id_maps


def join_columns(parts: Sequence[Columns]) -> SegmentTables:
    """Joins the columns of images into tables, in which images are numbered from 0 in this order.

    Raises:
        ValueError: images of different numbers of classes.
    """
    import pandas as pd

    if len({part.classes for part in parts}) > 1:
        raise ValueError("predictions: expected one number of classes in all images, found several.")
    true = _join([part.true for part in parts])
    # Columns that may be blank hold a negative number there, which pandas masks.
    for key in ("second", "third", "matched"):
        classes = true[key].to_numpy()
        true[key] = pd.arrays.IntegerArray(classes, mask=classes < 0)
    bleeding = true["bleeding"].to_numpy()
    true["bleeding"] = pd.arrays.BooleanArray(bleeding > 0, mask=bleeding < 0)
    predicted = _join([part.predicted for part in parts])
    pixels = _join([part.pixels for part in parts])
    return SegmentTables(true, predicted, pixels)


def _join(columns_of_images: Sequence[NamedColumns]) -> pd.DataFrame:
    """Returns the rows of all images, with the number of each row's image."""
    import pandas as pd

    rows = [len(columns["class"]) for columns in columns_of_images]
    table = {"image": np.repeat(np.arange(len(rows)), rows)}
    for key in columns_of_images[0]:
        table[key] = np.concatenate([columns[key] for columns in columns_of_images])
    return pd.DataFrame(table)
