"""Tables of true segments, predicted segments and error pixels, and the rates that follow from them.

`segment_columns` finds the segments of one image with NumPy and SciPy; `segment_tables` joins images.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from flipjax.metrics import checks, selective
from flipjax.metrics.checks import to_array
from flipjax.metrics.classes import LabelSpec
from flipjax.metrics.decomposition import divide, margins, rates
from flipjax.metrics.kernels import read_pixels
from flipjax.metrics.resampling import draw_images, percentile_ends
from flipjax.support.threads import in_order

if TYPE_CHECKING:
    import jax
    import pandas as pd

STRATA = (1 / 256, 1 / 64, 1 / 16, 1 / 4)
"""Boundaries of the size strata, as fractions of the image: 256, 1024, 4096 and 16384 pixels of 256 x 256."""
OUTCOMES = ("correct", "flip", "miss", "mixed")
KINDS = ("correct", "whole", "rim", "inside", "miss", "spill", "background")
"""Error type of each pixel: correct; flip in a flipped segment; flip near the border of, or inside, another segment;
missed; spill; confusion between background classes."""
LARGEST = ("predicted", "second", "third")
BOXES = {2: ("top", "left", "bottom", "right"), 3: ("first", "top", "left", "last", "bottom", "right")}
"""Columns of the bounding box of an image and of a volume; ends are exclusive."""
UNITS = ("class", "component")


class Columns(NamedTuple):
    """The columns of one image without its number; negative for blanks."""

    true: dict[str, np.ndarray]
    predicted: dict[str, np.ndarray]
    pixels: dict[str, np.ndarray]


class Units(NamedTuple):
    """The units of an image: class, id and number of known pixels of each, and sums over these pixels.

    `places` (H, W) holds the number of each pixel's unit, from 1 on, and 0 for none.
    """

    places: np.ndarray
    classes: np.ndarray
    ids: np.ndarray
    pixels: np.ndarray

    def of_size(self, least: float) -> Units:
        """Returns the units of `least` pixels or more."""
        kept = np.flatnonzero(self.pixels >= least)
        numbers = np.zeros(len(self.pixels) + 1, np.int32)
        numbers[kept + 1] = np.arange(1, len(kept) + 1)
        return Units(numbers[self.places], self.classes[kept], self.ids[kept], self.pixels[kept])

    def count_classes(self, classes: np.ndarray, C: int) -> np.ndarray:
        """Counts the pixels of each unit by their class: (units, C)."""
        entries = (self.places * np.int64(C) + classes).ravel()
        return np.bincount(entries, minlength=(len(self.pixels) + 1) * C).reshape(-1, C)[1:]

    def total(self, chosen: np.ndarray, values: np.ndarray | None = None) -> np.ndarray:
        """Counts the chosen pixels of each unit, or sums their values."""
        weights = None if values is None else values[chosen]
        return np.bincount(self.places[chosen], weights, minlength=len(self.pixels) + 1)[1:]

    def mean(self, values: np.ndarray | None, chosen: np.ndarray) -> np.ndarray:
        """Returns the mean value of the chosen pixels of each unit; NaN without values or pixels."""
        number = self.total(chosen)
        return np.full(len(number), np.nan) if values is None else divide(self.total(chosen, values), number)

    def columns(self) -> dict[str, np.ndarray]:
        """Returns the columns that follow from the units alone."""
        from scipy import ndimage

        boxes = ndimage.find_objects(self.places, max_label=len(self.pixels))
        corners = [[side.start for side in box] + [side.stop for side in box] for box in boxes]
        names = BOXES[self.places.ndim]
        return {
            "class": self.classes,
            "instance": self.ids,
            "pixels": self.pixels,
            **dict(zip(names, np.array(corners, np.int64).reshape(-1, len(names)).T, strict=True)),
            "stratum": np.digitize(self.pixels / self.places.size, STRATA),
        }


def _outcomes(rows: Units, counts: np.ndarray, shares: np.ndarray, foreground: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the predicted classes and the outcome of each segment from its counts (segments, C)."""
    # Two classes alone have no third.
    counts = np.pad(counts, ((0, 0), (0, max(0, len(LARGEST) - counts.shape[1]))))
    order = np.argsort(-counts, axis=1, kind="stable")[:, : len(LARGEST)]
    largest = np.take_along_axis(counts, order, axis=1)
    columns: dict[str, np.ndarray] = {}
    for name, place, count in zip(LARGEST, order.T, largest.T, strict=True):
        columns[name] = np.where(count > 0, place, -1)
        columns[f"{name}_share"] = np.where(count > 0, count / rows.pixels, np.nan)
    winner = order[:, 0]
    flip = foreground[winner] & (2 * largest[:, 0] >= rows.pixels)
    codes = np.select([winner == rows.classes, flip, ~foreground[winner]], [0, 1, 2], default=3)
    columns["outcome"] = np.array(OUTCOMES)[codes]
    columns["bleeding"] = np.where(codes == 1, (shares[winner] > 0).astype(np.int8), -1)
    return columns


def _matches(rows: Units, others: Units) -> dict[str, np.ndarray]:
    """Returns class and IoU of the predicted unit that has an IoU above 1/2 with each segment."""
    pairs, shared = np.unique(rows.places * np.int64(len(others.pixels) + 1) + others.places, return_counts=True)
    first, second = np.divmod(pairs, len(others.pixels) + 1)
    both = (first > 0) & (second > 0)
    first, second, shared = first[both] - 1, second[both] - 1, shared[both]
    union = rows.pixels[first] + others.pixels[second] - shared
    matched = 2 * shared > union
    classes, iou = np.full(len(rows.pixels), -1), np.full(len(rows.pixels), np.nan)
    classes[first[matched]] = others.classes[second[matched]]
    iou[first[matched]] = shared[matched] / union[matched]
    return {"matched": classes, "iou": iou}


def _pixels(kinds: dict[str, np.ndarray], truth: np.ndarray, prediction: np.ndarray, C: int) -> dict[str, np.ndarray]:
    """Returns counts of pixels by kind, class and prediction; a pixel has the first kind that holds, else `inside`."""
    codes = np.select(list(kinds.values()), [KINDS.index(name) for name in kinds], default=KINDS.index("inside"))
    entries, counts = np.unique(codes * C * C + truth * C + prediction, return_counts=True)
    codes, truth, prediction = np.unravel_index(entries, (len(KINDS), C, C))
    return {"kind": np.array(KINDS)[codes], "class": truth, "predicted": prediction, "pixels": counts}


def fill_void(labels: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Replaces the labels (H, W) of unknown pixels with the nearest known label.

    Example:
        >>> fill_void(np.array([[3, 9, 9, 9, 5]]), np.array([[True, False, False, False, True]])).tolist()
        [[3, 3, 3, 5, 5]]
    """
    from scipy import ndimage

    if known.all() or not known.any():
        return labels
    nearest: Any = ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True)
    return labels[tuple(nearest)]


def find_units(labels: np.ndarray, known: np.ndarray, foreground: np.ndarray, unit: str | np.ndarray) -> Units:
    """Returns the units of class indices (H, W).

    Args:
        labels: class indices in 0..C-1.
        known: bool (H, W), the pixels that count.
        foreground: bool (C,); only these classes have units.
        unit: `class`, all pixels of a class; `component`, 8-connected; or ids (H, W): the pixels of one id and class.

    Example:
        >>> units = find_units(np.array([[1, 0, 1, 2]]), np.ones((1, 4), bool), np.array([0, 1, 1], bool), "component")
        >>> units.places.tolist(), units.classes.tolist(), units.pixels.tolist()
        ([[1, 0, 2, 3]], [1, 1, 2], [1, 1, 1])
    """
    import pandas as pd

    C = len(foreground)
    names = None
    if not isinstance(unit, str):
        codes, names = pd.factorize(unit.ravel(), sort=True)
        ids = codes.reshape(labels.shape)
    elif unit == "component":
        ids = _number_components(labels, foreground)
    else:
        ids = np.zeros(labels.shape, np.int32)
    entries = ids * C + labels
    kinds = np.flatnonzero(np.bincount(entries.ravel()))
    kinds = kinds[foreground[kinds % C]]
    numbers = np.zeros(entries.max() + 1, np.int32)
    numbers[kinds] = np.arange(1, len(kinds) + 1)
    places = numbers[entries] * known
    pixels = np.bincount(places.ravel(), minlength=len(kinds) + 1)[1:]
    unit_ids = kinds // C
    if names is not None:
        unit_ids = names[unit_ids].astype(np.int64)
    return Units(places, kinds % C, unit_ids, pixels)


def _number_components(labels: np.ndarray, foreground: np.ndarray) -> np.ndarray:
    """Returns the number of each pixel's 8-connected component of a foreground class, from 1 on: int32 (H, W)."""
    from scipy import ndimage

    ids = np.zeros(labels.shape, np.int32)
    number = 0
    boxes: Any = ndimage.find_objects(np.where(foreground[labels], labels, -1) + 1, max_label=len(foreground))
    for c, box in enumerate(boxes):
        if box is not None:
            components, count = _label_components(labels[box] == c)
            np.copyto(ids[box], components + number, where=components > 0)
            number += count
    return ids


def _label_components(inside: np.ndarray) -> tuple[np.ndarray, int]:
    """Returns the number of each pixel's component, from 1 on, and their number."""
    from scipy import ndimage

    labelled: Any = ndimage.label(inside, structure=np.ones((3,) * inside.ndim))
    return labelled


def near_border(labels: np.ndarray, known: np.ndarray, width: int) -> np.ndarray:
    """Returns the pixels within `width` (1 or more) rows and columns of a pixel with another label: bool (H, W).

    Unknown pixels and those outside of the image have no label.

    Example:
        >>> near_border(np.array([[1, 1, 1, 2]]), np.ones((1, 4), bool), 2).tolist()
        [[False, True, True, True]]
    """
    from scipy import ndimage

    # In the smallest integers, as filters are bound by memory; 0 and the largest stand for unknown.
    shifted = labels.astype(np.min_scalar_type(int(labels.max(initial=0)) + 2)) + np.uint8(1)
    low, high = np.where(known, shifted, np.iinfo(shifted.dtype).max), np.where(known, shifted, 0)
    size = 2 * width + 1
    return ndimage.maximum_filter(high, size, mode="nearest") > ndimage.minimum_filter(low, size, mode="nearest")


RIM = 4
"""Default width of the rim, in pixels on each side of a label boundary."""


class SegmentTables(NamedTuple):
    """Three DataFrames of the same images.

    true: one row per true segment; see `segments`.
    predicted: one row per predicted segment of a foreground class: image, class, pixels, box (top, left, bottom, right;
    ends exclusive), stratum, flip_risk, max_softmax (1 minus the largest probability), truth (its most frequent true
    class) with truth_share, right.
    pixels: all counted pixels by image, kind (`KINDS`), class and prediction.

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
    """Tabulates true segments of foreground classes with their predictions, one row per segment.

    Takes the arguments of `segment_tables` and raises the same errors. Columns:

    - `image`, `class`, `pixels`, the box `top`, `left`, `bottom`, `right` (ends exclusive), `stratum` 0..4 of its
      share of the image (below 1/256, 1/64, 1/16, 1/4, above); with ids `instance`.
    - `predicted`, `second`, `third` with `..._share`: the three most frequent predictions; blank where there are fewer.
    - `outcome`: `correct`: most of it is predicted as its class; `flip`: at least half as one other foreground class;
      `miss`: most of it as background; else `mixed`. `bleeding`: of a flip, whether the image has that class elsewhere.
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
    predictions: Any, labels: Any, *, unit: Any = "class", rim: int = RIM, min_pixels: int = 1, **spec: Any
) -> SegmentTables:
    """Tabulates true segments, predicted segments and pixels in one pass over the images.

    Args:
        predictions: logits or probabilities (..., H, W, C) or class indices (..., H, W), with one image axis or none;
            or a sequence of images of different sizes.
        labels: integers (..., H, W), or a sequence of them.
        unit: the pixels of a segment. `class`: all of one class in an image; `component`: an 8-connected component,
            where ignored pixels take the nearest label; or instance ids, integers of the labels' shape: all of one id
            and class. Predicted segments are then components.
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
        >>> segment_tables(np.array([[1, 2]]), np.array([[1, 1]]), kind="masks", min_pixels=1).true["outcome"].item()
        'correct'
    """
    read = LabelSpec(**spec)
    if rim < 1:
        raise ValueError(f"rim: expected a number of pixels above 0, found {rim}.")
    truth = _images(labels, "labels", 2)
    scores = _images(predictions, "predictions", 2 if read.kind == "masks" else 3)
    units = [unit] * len(truth) if isinstance(unit, str) else [np.asarray(ids) for ids in _images(unit, "unit", 2)]
    if isinstance(unit, str) and unit not in UNITS:
        raise ValueError(f"unit: expected one of {', '.join(UNITS)}, or ids of the labels' shape, found {unit!r}.")
    if not 0 < len(truth) == len(scores) == len(units):
        raise ValueError(f"labels: expected an image or more, one for each of {len(scores)}, found {len(truth)}.")
    if read.kind == "masks" and read.num_classes is None:
        found = [checks.check_pair(*pair, read)[2] for pair in zip(scores, truth, strict=True)]
        read = dataclasses.replace(read, num_classes=max(found))

    def measure(image: tuple[Any, Any, Any]) -> Columns:
        prediction, labels, C = checks.check_pair(*image[:2], read)
        risks = {}
        if read.kind != "masks":
            maps = read_pixels(prediction, read)
            prediction = maps.prediction
            risks = {"flip_risk": np.asarray(maps.risk), "max_softmax": 1 - np.asarray(maps.probability)}
        own = dataclasses.replace(read, num_classes=C)
        return segment_columns(prediction, labels, own, unit=image[2], risks=risks, rim=rim, min_pixels=min_pixels)

    return join_columns(list(in_order(measure, zip(scores, truth, units, strict=True))))


def segment_columns(
    prediction: Any,
    labels: Any,
    spec: LabelSpec,
    *,
    unit: Any = "class",
    predicted_unit: Any = None,
    risks: dict[str, np.ndarray] | None = None,
    rim: int = RIM,
    min_pixels: int = 1,
) -> Columns:
    """Returns the columns of one image, for `join_columns`: for images that come one by one.

    Args:
        prediction: class indices (H, W), of checked values as the labels.
        labels: integers (H, W).
        spec: of the labels, with `num_classes`.
        unit: `class`, `component` or ids (H, W).
        predicted_unit: unit of predicted segments; None: classes where `unit` is `class`, else components.
        risks: maps (H, W) of scores, if known: `flip_risk` and `max_softmax`.
        rim: as in `segment_tables`.
        min_pixels: as in `segment_tables`.

    Raises:
        ValueError: ids of another shape.
    """
    risks = risks or {}
    C = spec.num_classes or 0
    prediction = np.asarray(prediction).astype(np.int32)
    truth = np.asarray(labels)
    foreground = spec.foreground(C)
    if not isinstance(unit, str) and (unit.shape != truth.shape or unit.dtype.kind not in "iu"):
        raise ValueError(f"unit: expected integers {truth.shape} as the labels, found {unit.dtype} {unit.shape}.")
    named = unit if isinstance(unit, str) else ""
    if predicted_unit is None:
        predicted_unit = "class" if named == "class" else "component"
    known = np.ones(truth.shape, bool) if spec.ignore_index is None else truth != spec.ignore_index
    truth = np.where(known, truth, 0).astype(np.int32)
    least = max(1, min_pixels)
    near = near_border(truth, known, rim)
    inside = foreground[truth]
    detected = foreground[prediction]
    wrong = known & (prediction != truth)
    shares = np.bincount(truth[known], minlength=C) / truth.size

    filled = fill_void(truth, known) if named == "component" else truth
    rows = find_units(filled, known, foreground, unit).of_size(least)
    others = find_units(prediction, known, foreground, predicted_unit)
    rim_errors = rows.total(near & wrong)
    outside = shares - np.eye(C)[rows.classes] * (rows.pixels / truth.size)[:, None]
    true = {
        **rows.columns(),
        **_outcomes(rows, rows.count_classes(prediction, C), shares, foreground),
        "rim_pixels": rows.total(near),
        "rim_errors": rim_errors,
        "inside_errors": rows.total(wrong) - rim_errors,
        "flip_risk": rows.mean(risks.get("flip_risk"), detected),
        **_matches(rows, others),
        **{f"context_{c}": outside[:, c].astype(np.float32) for c in range(C)},
    }
    kinds = {
        "correct": ~wrong,
        "spill": ~inside & detected,
        "background": ~inside,
        "miss": ~detected,
        "whole": np.append(False, true["outcome"] == "flip")[rows.places],
        "rim": near,
    }
    counted = {name: kind[known] for name, kind in kinds.items()}

    others = others.of_size(least)
    counts = others.count_classes(truth, C)
    owner = counts.argmax(1)
    predicted = {
        **others.columns(),
        "flip_risk": others.mean(risks.get("flip_risk"), detected),
        "max_softmax": others.mean(risks.get("max_softmax"), detected),
        "truth": owner,
        "truth_share": counts.max(1) / others.pixels,
        "right": owner == others.classes,
    }
    del predicted["instance"]
    if named:
        del true["instance"]
    return Columns(true, predicted, _pixels(counted, truth[known], prediction[known], C))


def _images(values: Any, name: str, ndim: int) -> Any:
    """Returns a sequence of images (H, W) or (H, W, C), from a sequence or an array with or without an image axis."""
    if isinstance(values, (list, tuple)):
        images = [to_array(value, name=name) for value in values]
    else:
        array = to_array(values, name=name)
        images = array if array.ndim == ndim + 1 else [array]
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
    tables = []
    for columns in zip(*parts, strict=True):
        sizes = [len(part["class"]) for part in columns]
        joined = {key: np.concatenate([part[key] for part in columns]) for key in columns[0]}
        tables.append({"image": np.repeat(np.arange(len(parts)), sizes)} | joined)
    true: dict[str, Any] = tables[0]
    for key in ("second", "third", "matched"):
        true[key] = pd.arrays.IntegerArray(true[key], true[key] < 0)
    true["bleeding"] = pd.arrays.BooleanArray(true["bleeding"] > 0, true["bleeding"] < 0)
    return SegmentTables(*map(pd.DataFrame, tables))


def segment_flips(
    true: pd.DataFrame, *, key: jax.Array | None = None, samples: int = 1000, class_names: Sequence[str] | None = None
) -> pd.DataFrame:
    """Computes flip rates of the segments of each class, with 95% bootstrap intervals over images with segments.

    Args:
        true: from `segments`.
        key: a JAX PRNG key; None: no intervals.
        samples: the number of resamples of images.
        class_names: of all C classes, for the index; None: class numbers.

    Returns:
        A DataFrame by class that occurs, and `all`:
        `segments`, and the numbers of them that are `correct`, `flip`, `miss`, `mixed`;
        `seg_flip`: flips over segments; `flip_of_found`: flips over segments that are correct or flip;
        `bleeding`: the share of flips to a class that the image has elsewhere;
        `matched`: segments that a predicted one matches at IoU above 1/2, and `strict_flip`, the share of these whose
        match has another class; with a key `..._low` and `..._high` of `seg_flip` and `strict_flip`.
        NaN where the denominator is 0. Intervals leave out resamples without segments of the class.

    Source: Kirillov et al., Panoptic segmentation, 2019, for the match; Efron and Tibshirani, 1993.

    Example:
        >>> truth, prediction = np.array([[[1, 1], [2, 2]]]), np.array([[[2, 2], [2, 2]]])
        >>> table = segment_flips(segments(prediction, truth, kind="masks", min_pixels=1))
        >>> table[["segments", "flip", "seg_flip", "bleeding"]].values.tolist()
        [[1.0, 1.0, 1.0, 1.0], [1.0, 0.0, 0.0, nan], [2.0, 1.0, 0.5, 1.0]]
    """
    import pandas as pd

    truth, outcome = np.asarray(true["class"], np.int64), np.asarray(true["outcome"], str)
    classes = np.unique(truth)
    images, place = np.unique(np.asarray(true["image"], np.int64), return_inverse=True)
    own = np.column_stack([truth[:, None] == classes, np.ones(len(true), bool)])
    match = np.asarray(true["matched"].fillna(-1), np.int64)
    events = {name: outcome == name for name in OUTCOMES} | {"segments": truth >= 0, "matched": match >= 0}
    events |= {"strict": (match >= 0) & (match != truth), "bleeding": np.asarray(true["bleeding"].fillna(False), bool)}
    sums = {name: pd.DataFrame(own & event[:, None]).groupby(place).sum().to_numpy() for name, event in events.items()}
    total = {name: each.sum(0).astype(np.int64) for name, each in sums.items()}
    table = {name: total[name] for name in ("segments", *OUTCOMES)}
    table["seg_flip"] = divide(total["flip"], total["segments"])
    table["flip_of_found"] = divide(total["flip"], total["flip"] + total["correct"])
    table["bleeding"] = divide(total["bleeding"], total["flip"])
    table["matched"] = total["matched"]
    table["strict_flip"] = divide(total["strict"], total["matched"])
    if key is not None and len(images):
        import jax

        generator = np.random.default_rng(np.asarray(jax.random.key_data(key)))
        counts = draw_images(generator, len(images), samples=samples)
        for name, part, whole in (("seg_flip", "flip", "segments"), ("strict_flip", "strict", "matched")):
            drawn = divide(counts @ sums[part], counts @ sums[whole])
            table[f"{name}_low"], table[f"{name}_high"] = percentile_ends(drawn)
    names = [str(c) if class_names is None else class_names[c] for c in classes]
    return pd.DataFrame(table, index=pd.Index([*names, "all"], name="class"))


def segment_confusion(true: pd.DataFrame, *, num_classes: int) -> np.ndarray:
    """Returns the confusion matrix of segments by class (rows) and prediction (columns): int64 (C, C).

    Mixed segments are left out. Flips lie off the diagonal, outside of background columns.

    Example:
        >>> truth, prediction = np.array([[[1, 1], [2, 2]]]), np.array([[[2, 2], [2, 2]]])
        >>> segment_confusion(segments(prediction, truth, kind="masks", min_pixels=1), num_classes=3).tolist()
        [[0, 0, 0], [0, 0, 1], [0, 0, 1]]
    """
    counts = np.zeros((num_classes, num_classes), np.int64)
    clear = true[true["outcome"] != "mixed"]
    np.add.at(counts, (np.asarray(clear["class"], np.int64), np.asarray(clear["predicted"], np.int64)), 1)
    return counts


def segment_auroc(predicted: pd.DataFrame, *, score: str = "flip_risk") -> pd.DataFrame:
    """Computes the AUROC of a score, and of size alone, for wrong predicted segments.

    Small segments are more often wrong and uncertain, so any score correlated with size ranks well. The AUROC within
    strata of size removes this effect.

    Args:
        predicted: from `segment_tables`.
        score: the column to rank by, high where an error is expected; blank segments are left out.

    Returns:
        A DataFrame by `all`, `within strata` (pairs of one stratum) and each stratum: `segments`, `wrong`, `auroc` of
        the score and `size_auroc` of small size. NaN where one side is empty.

    Example:
        >>> import pandas as pd
        >>> rows = {"flip_risk": [0.9, 0.2, 0.4, 0.1], "pixels": [70, 80, 900, 950], "stratum": [0, 0, 1, 1]}
        >>> segment_auroc(pd.DataFrame(rows | {"right": [False, True, False, True]})).round(2)["size_auroc"].tolist()
        [0.75, 1.0, 1.0, 1.0]
    """
    import pandas as pd

    table = predicted[predicted[score].notna()]
    wrong = ~np.asarray(table["right"], bool)
    scores = {"auroc": np.asarray(table[score], np.float64), "size_auroc": -np.asarray(table["pixels"], np.float64)}

    def judge(inside: Any) -> dict[str, Any]:
        row: dict[str, Any] = {"segments": len(wrong[inside]), "wrong": int(wrong[inside].sum())}
        return row | {name: selective.auroc(values[inside], wrong[inside]) for name, values in scores.items()}

    strata = {k: judge(table["stratum"] == k) for k in np.unique(table["stratum"]).tolist()}
    whole = judge(slice(None))
    each = pd.DataFrame.from_dict(strata, orient="index", columns=list(whole))
    pairs = each["wrong"] * (each["segments"] - each["wrong"])
    # Strata without pairs have a NaN AUROC, which the sum leaves out.
    within = {name: float(divide((pairs * each[name]).sum(), pairs.sum())) for name in scores}
    rows = {"all": whole, "within strata": whole | within} | strata
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("stratum")


def error_budget(pixels: pd.DataFrame, *, num_classes: int) -> pd.DataFrame:
    """Counts the wrong pixels of each kind and computes the mIoU gained by correcting that kind alone.

    As in TIDE, each gain is computed by replacing only these predictions with the true class; gains do not add up.
    Kinds:
    `whole`: flipped segments; `rim` and `inside`: flips in other segments; `miss`; `spill`; `background`: confusion
    between background classes.

    Args:
        pixels: from `segment_tables`, of any number of batches.
        num_classes: C.

    Returns:
        A DataFrame by kind and `all`: `pixels`, `share` of the wrong pixels, `mean_iou` once corrected, and `gain`.
        NaN where nothing is wrong or no class occurs.

    Source: Bolya et al., TIDE: A general toolbox for identifying object detection errors, 2020.

    Example:
        >>> import pandas as pd
        >>> rows = [["correct", 1, 1, 6], ["whole", 2, 1, 3], ["miss", 1, 0, 1], ["correct", 0, 0, 5]]
        >>> table = error_budget(pd.DataFrame(rows, columns=["kind", "class", "predicted", "pixels"]), num_classes=3)
        >>> table.loc[["whole", "miss", "all"], ["pixels", "gain"]].round(3).values.tolist()
        [[3.0, 0.419], [1.0, 0.089], [4.0, 0.522]]
    """
    import pandas as pd

    counts = np.zeros((len(KINDS), num_classes, num_classes), np.int64)
    kinds = np.array([KINDS.index(name) for name in pixels["kind"]], np.int64)
    truth, predicted, number = (np.asarray(pixels[name], np.int64) for name in ("class", "predicted", "pixels"))
    np.add.at(counts, (kinds, truth, predicted), number)
    confusion = counts.sum(0)
    base = rates(margins(confusion)).mean_iou
    wrong = confusion.sum() - np.trace(confusion)
    rows = {}
    for name, part in [*zip(KINDS[1:], counts[1:], strict=True), ("all", counts[1:].sum(0))]:
        after = rates(margins(confusion - part + np.diag(part.sum(1)))).mean_iou
        rows[name] = int(part.sum()), float(divide(part.sum(), wrong)), float(after), float(after - base)
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["pixels", "share", "mean_iou", "gain"])
    return table.rename_axis("kind")
