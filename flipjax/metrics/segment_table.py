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
from flipjax.metrics.summary import draw_images, percentile_ends
from flipjax.support.threads import in_order

if TYPE_CHECKING:
    import jax
    import pandas as pd

LEAST_PIXELS, LEAST_SHARE = 64, 0.001
"""Smallest segment: in pixels, and as a fraction of the image."""
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
_DENSE = 1 << 20
"""Largest table that is counted densely, in entries."""


class Columns(NamedTuple):
    """The columns of one image without its number; -1 for blanks."""

    true: dict[str, np.ndarray]
    predicted: dict[str, np.ndarray]
    pixels: dict[str, np.ndarray]


class _Rows:
    """The units of an image that are large enough for a row, with sums over their known pixels."""

    def __init__(self, units: Units, known: np.ndarray, least: float):
        self.units = units
        self.number = len(units.classes)
        self.inside = known & (units.places >= 0)
        self.places = units.places[self.inside]
        self.pixels = np.bincount(self.places, minlength=self.number)
        self.kept = np.flatnonzero(self.pixels >= least)

    def count(self, classes: np.ndarray, C: int) -> np.ndarray:
        entries = self.places * C + classes[self.inside]
        return np.bincount(entries, minlength=self.number * C).reshape(self.number, C)[self.kept]

    def total(self, chosen: np.ndarray) -> np.ndarray:
        return np.bincount(self.places[chosen[self.inside]], minlength=self.number)[self.kept]

    def mean(self, values: np.ndarray | None, chosen: np.ndarray) -> np.ndarray:
        if values is None:
            return np.full(len(self.kept), np.nan)
        chosen = chosen[self.inside]
        places = self.places[chosen]
        sums = np.bincount(places, values[self.inside][chosen], minlength=self.number)[self.kept]
        number = np.bincount(places, minlength=self.number)[self.kept]
        return divide(sums, number)

    def chosen(self, rows: np.ndarray) -> np.ndarray:
        """Returns the pixels of the units of some rows: bool (H, W)."""
        units = np.zeros(self.number + 1, bool)
        units[self.kept] = rows
        return units[self.units.places]

    def columns(self) -> dict[str, np.ndarray]:
        from scipy import ndimage

        kept = np.full(self.number + 1, -1, np.int32)
        kept[self.kept] = np.arange(len(self.kept))
        boxes = ndimage.find_objects(kept[np.where(self.inside, self.units.places, -1)] + 1, max_label=len(self.kept))
        corners = [[side.start for side in box] + [side.stop for side in box] for box in boxes]
        pixels = self.pixels[self.kept]
        names = BOXES[self.inside.ndim]
        return {
            "class": self.units.classes[self.kept],
            "instance": self.units.numbers[self.kept],
            "pixels": pixels,
            **dict(zip(names, np.array(corners, np.int64).reshape(-1, len(names)).T, strict=True)),
            "stratum": np.digitize(pixels / self.inside.size, STRATA),
        }


def _outcomes(
    counts: np.ndarray, true: dict[str, np.ndarray], shares: np.ndarray, foreground: np.ndarray
) -> dict[str, np.ndarray]:
    """Returns the predicted classes and the outcome of each segment from its counts (segments, C)."""
    order = np.argsort(-counts, axis=1, kind="stable")[:, : len(LARGEST)]
    order = np.pad(order, ((0, 0), (0, len(LARGEST) - order.shape[1])))
    largest = np.take_along_axis(counts, order, 1)
    largest[:, counts.shape[1] :] = 0
    columns: dict[str, np.ndarray] = {}
    for k, name in enumerate(LARGEST):
        absent = largest[:, k] == 0
        columns[name] = np.where(absent, -1, order[:, k])
        columns[f"{name}_share"] = np.where(absent, np.nan, largest[:, k] / true["pixels"])
    own, winner = true["class"], columns["predicted"]
    flip = foreground[winner] & (2 * largest[:, 0] >= true["pixels"])
    codes = np.select([winner == own, flip, ~foreground[winner]], [0, 1, 2], default=3)
    columns["outcome"] = np.array(OUTCOMES)[codes]
    columns["bleeding"] = np.where(codes == 1, (shares[winner] > 0).astype(np.int8), -1)
    return columns


def _matches(rows: _Rows, others: _Rows) -> dict[str, np.ndarray]:
    """Returns class and IoU of the predicted unit that has an IoU above 1/2 with each segment."""
    both = rows.inside & others.inside
    first, second, shared = count_pairs(
        rows.units.places[both], others.units.places[both], (rows.number, others.number)
    )
    union = rows.pixels[first] + others.pixels[second] - shared
    matched = 2 * shared > union
    classes = np.full(rows.number, -1)
    classes[first[matched]] = others.units.classes[second[matched]]
    iou = np.full(rows.number, np.nan)
    iou[first[matched]] = shared[matched] / union[matched]
    return {"matched": classes[rows.kept], "iou": iou[rows.kept]}


def _pixels(
    prediction: np.ndarray, truth: np.ndarray, known: np.ndarray, rim: np.ndarray, flipped: np.ndarray, spec: LabelSpec
) -> dict[str, np.ndarray]:
    """Returns counts of the known pixels by kind, class and prediction."""
    C = spec.num_classes or 0
    foreground = spec.foreground(C)
    right = prediction == truth
    wrong = np.nonzero(known & ~right)
    t, p = truth[wrong], prediction[wrong]
    cases = [~foreground[t] & foreground[p], ~foreground[t], ~foreground[p], flipped[wrong], rim[wrong]]
    names = ["spill", "background", "miss", "whole", "rim"]
    codes = np.select(cases, [KINDS.index(name) for name in names], default=KINDS.index("inside"))
    kinds, pairs, counts = count_pairs(codes, t * C + p, (len(KINDS), C * C))
    same = np.bincount(truth[known & right], minlength=C)
    own = np.flatnonzero(same)
    return {
        "kind": np.array(KINDS)[np.append(np.zeros(len(own), np.int64), kinds)],
        "class": np.append(own, pairs // C),
        "predicted": np.append(own, pairs % C),
        "pixels": np.append(same[own], counts),
    }


class Units(NamedTuple):
    """The unit of each pixel, int32 (H, W), -1 for none, and the class and number of each unit.

    The number of a class is itself, of a component its index within the class, of an instance its id.
    """

    places: np.ndarray
    classes: np.ndarray
    numbers: np.ndarray


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
    filled = labels.copy()
    filled[~known] = labels[tuple(nearest[:, ~known])]
    return filled


def find_units(labels: np.ndarray, foreground: np.ndarray, unit: str | np.ndarray) -> Units:
    """Returns the units of class indices (H, W).

    Args:
        labels: class indices in 0..C-1.
        foreground: bool (C,); only these classes have units.
        unit: `class`, all pixels of a class; `component`, 8-connected; or ids (H, W): the pixels of one id and class.

    Example:
        >>> units = find_units(np.array([[1, 0, 1, 2]]), np.array([False, True, True]), "component")
        >>> units.places.tolist(), units.classes.tolist(), units.numbers.tolist()
        ([[0, -1, 1, 2]], [1, 1, 2], [0, 1, 0])
    """
    from scipy import ndimage

    C = len(foreground)
    if isinstance(unit, np.ndarray):
        low = int(unit.min(initial=0))
        keys, inverse = np.unique((unit.astype(np.int64) - low) * C + labels, return_inverse=True)
        chosen = foreground[keys % C]
        places = np.where(chosen, np.cumsum(chosen) - 1, -1).astype(np.int32)[inverse.reshape(labels.shape)]
        return Units(places, keys[chosen] % C, keys[chosen] // C + low)
    if unit == "class":
        classes = np.flatnonzero(np.bincount(labels.ravel(), minlength=C)[:C] * foreground)
        place = np.full(C, -1, np.int32)
        place[classes] = np.arange(len(classes))
        return Units(place[labels], classes, classes)
    places = np.full(labels.shape, -1, np.int32)
    classes, numbers = [], []
    boxes: Any = ndimage.find_objects(np.where(foreground[labels], labels, -1) + 1, max_label=C)
    for c, box in enumerate(boxes):
        if box is None:
            continue
        found: Any = ndimage.label(labels[box] == c, structure=np.ones((3,) * labels.ndim))
        components, count = found
        np.copyto(places[box], components + (len(classes) - 1), where=components > 0)
        classes += [c] * count
        numbers += range(count)
    return Units(places, np.array(classes, np.int64), np.array(numbers, np.int64))


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


def count_pairs(
    first: np.ndarray, second: np.ndarray, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Counts the pairs (first, second) that occur; returns both in ascending order, and the counts."""
    entries = first.astype(np.int64) * shape[1] + second
    if shape[0] * shape[1] <= _DENSE:
        counts = np.bincount(entries, minlength=shape[0] * shape[1])
        found = np.flatnonzero(counts)
        counts = counts[found]
    else:
        found, counts = np.unique(entries, return_counts=True)
    return found // shape[1], found % shape[1], counts


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
    predictions: Any, labels: Any, *, unit: Any = "class", rim: int = RIM, min_pixels: int | None = None, **spec: Any
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
        min_pixels: smaller segments have no row; None: 64 or 0.1 % of the image, whichever is more.
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
    if not len(scores) == len(truth) == len(units):
        raise ValueError(f"labels: expected as many images as predictions, {len(scores)}, found {len(truth)}.")
    if not len(truth):
        raise ValueError("labels: expected at least one image, found none.")
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

    parts = list(in_order(measure, zip(scores, truth, units, strict=True)))
    return join_columns(parts, with_ids=not isinstance(unit, str))


def segment_columns(
    prediction: Any,
    labels: Any,
    spec: LabelSpec,
    *,
    unit: Any = "class",
    predicted_unit: Any = None,
    risks: dict[str, np.ndarray] | None = None,
    rim: int = RIM,
    min_pixels: int | None = None,
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
    risks, C = risks or {}, spec.num_classes or 0
    if predicted_unit is None:
        predicted_unit = "class" if isinstance(unit, str) and unit == "class" else "component"
    prediction, truth, foreground = np.asarray(prediction).astype(np.int32), np.asarray(labels), spec.foreground(C)
    if not isinstance(unit, str) and (unit.shape != truth.shape or unit.dtype.kind not in "iu"):
        raise ValueError(f"unit: expected integers {truth.shape} as the labels, found {unit.dtype} {unit.shape}.")
    known = np.ones(truth.shape, bool) if spec.ignore_index is None else truth != spec.ignore_index
    truth = np.where(known, truth, 0).astype(np.int32)
    least = max(LEAST_PIXELS, LEAST_SHARE * truth.size) if min_pixels is None else max(1, min_pixels)
    near = near_border(truth, known, rim)
    found, wrong = foreground[prediction], known & (prediction != truth)
    shares = np.bincount(truth[known], minlength=C) / truth.size

    filled = fill_void(truth, known) if isinstance(unit, str) and unit == "component" else truth
    rows = _Rows(find_units(filled, foreground, unit), known, least)
    others = _Rows(find_units(prediction, foreground, predicted_unit), known, least)
    true = rows.columns()
    true |= _outcomes(rows.count(prediction, C), true, shares, foreground)
    true |= {"rim_pixels": rows.total(near), "rim_errors": rows.total(near & wrong)}
    true["inside_errors"] = rows.total(wrong) - true["rim_errors"]
    true["flip_risk"] = rows.mean(risks.get("flip_risk"), found)
    true |= _matches(rows, others)
    outside = shares - np.eye(C)[true["class"]] * (true["pixels"] / truth.size)[:, None]
    true |= {f"context_{c}": outside[:, c].astype(np.float32) for c in range(C)}

    predicted, counts = others.columns(), others.count(truth, C)
    predicted |= {name: others.mean(risks.get(name), found) for name in ("flip_risk", "max_softmax")}
    owner = counts.argmax(1)
    predicted |= {"truth": owner, "truth_share": counts.max(1) / predicted["pixels"]}
    predicted["right"] = owner == predicted["class"]
    pixels = _pixels(prediction, truth, known, near, rows.chosen(true["outcome"] == "flip"), spec)
    return Columns(true, predicted, pixels)


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


def join_columns(parts: Sequence[Columns], *, with_ids: bool = False) -> SegmentTables:
    """Joins the columns of images, numbered from 0 in order, into tables; `with_ids` keeps `instance`.

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

    truth = np.asarray(true["class"], np.int64)
    classes = np.unique(truth)
    images, place = np.unique(np.asarray(true["image"], np.int64), return_inverse=True)
    own = np.column_stack([truth[:, None] == classes, np.ones(len(true), bool)])
    outcome = np.asarray(true["outcome"], str)
    matched = np.asarray(true["matched"].notna(), bool)
    strict = matched & (np.asarray(true["matched"].fillna(-1), np.int64) != truth)
    events = {name: outcome == name for name in OUTCOMES} | {"segments": np.ones(len(true), bool)}
    events |= {"matched": matched, "strict": strict, "bleeding": np.asarray(true["bleeding"].fillna(False), bool)}
    sums = {}
    for name, event in events.items():
        sums[name] = np.zeros((len(images), len(classes) + 1))
        np.add.at(sums[name], place, own & event[:, None])
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

    def judge(inside: np.ndarray) -> dict[str, Any]:
        row: dict[str, Any] = {"segments": int(inside.sum()), "wrong": int(wrong[inside].sum())}
        return row | {name: selective.auroc(values[inside], wrong[inside]) for name, values in scores.items()}

    stratum = np.asarray(table["stratum"], np.int64)
    strata = {k: judge(stratum == k) for k in np.unique(stratum).tolist()}
    pairs = np.array([row["wrong"] * (row["segments"] - row["wrong"]) for row in strata.values()])
    whole = judge(np.ones(len(table), bool))
    within = {}
    for name in scores:
        areas = np.array([row[name] for row in strata.values()])
        within[name] = float(divide((pairs * areas)[pairs > 0].sum(), pairs.sum()))
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
