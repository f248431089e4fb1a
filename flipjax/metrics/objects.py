"""Segments of one image and their outcomes: the columns of the segment tables. NumPy and SciPy."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from flipjax.metrics.decomposition import divide

LEAST_PIXELS, LEAST_SHARE = 64, 0.001
"""Least pixels of a segment, and least share of its image."""
STRATA = (1 / 256, 1 / 64, 1 / 16, 1 / 4)
"""Limits of the size strata, as shares of the image: 256, 1024, 4096 and 16384 pixels of 256 x 256."""
OUTCOMES = ("correct", "flip", "miss", "mixed")
KINDS = ("correct", "whole", "rim", "inside", "miss", "spill", "background")
"""Error type of each pixel: correct; flip in a flipped segment; flip near the border or inside of another segment;
missed; spill; confusion between background classes."""
LARGEST = ("predicted", "second", "third")
BOXES = {2: ("top", "left", "bottom", "right"), 3: ("first", "top", "left", "last", "bottom", "right")}
"""Columns of the bounding box of an image and of a volume; ends are exclusive."""
UNITS = ("class", "component")
_DENSE = 1 << 20
"""Most entries of a table that is counted densely."""


class Columns(NamedTuple):
    """The columns of one image without its number; -1 for blanks."""

    true: dict[str, np.ndarray]
    predicted: dict[str, np.ndarray]
    pixels: dict[str, np.ndarray]


def measure_image(
    prediction: np.ndarray,
    truth: np.ndarray,
    known: np.ndarray,
    risks: dict[str, np.ndarray],
    foreground: np.ndarray,
    *,
    unit: str | np.ndarray,
    predicted_unit: str | np.ndarray,
    rim: int,
    min_pixels: int | None,
) -> Columns:
    """Returns the columns of one image; see `flipjax.metrics.segment_tables`.

    Args:
        prediction: int (H, W) in 0..C-1.
        truth: int (H, W) in 0..C-1.
        known: bool (H, W), the pixels that count.
        risks: float (H, W) by name: `flip_risk` and `max_softmax`, or none.
        foreground: bool (C,).
        unit: `class`, `component` or ids (H, W).
        predicted_unit: unit of predicted segments.
        rim: in pixels.
        min_pixels: of a segment; None: 64 or 0.1 % of the image.
    """
    classes = len(foreground)
    least = max(LEAST_PIXELS, LEAST_SHARE * truth.size) if min_pixels is None else max(1, min_pixels)
    filled = fill_void(truth, known) if isinstance(unit, str) and unit == "component" else truth
    near = near_border(truth, known, rim)
    units = find_units(filled, foreground, unit)
    others = find_units(prediction, foreground, predicted_unit)
    rows, predicted = _Rows(units, known, least), _Rows(others, known, least)
    found = foreground[prediction]
    shares = np.bincount(truth[known], minlength=classes) / truth.size
    true = rows.columns()
    true |= _fates(rows.count(prediction, classes), true, shares, foreground)
    wrong = known & (prediction != truth)
    true["rim_pixels"] = rows.total(near)
    true["rim_errors"] = rows.total(near & wrong)
    true["inside_errors"] = rows.total(wrong) - true["rim_errors"]
    true["flip_risk"] = rows.mean(risks.get("flip_risk"), found)
    true |= _matches(rows, predicted)
    true |= _context(true, shares, size=truth.size)
    pixels = _pixels(prediction, truth, known, near, foreground, rows.chosen(true["outcome"] == "flip"))
    return Columns(true, _ownership(predicted, truth, risks, found, classes), pixels)


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
        cells = self.places * C + classes[self.inside]
        return np.bincount(cells, minlength=self.number * C).reshape(self.number, C)[self.kept]

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


def _fates(
    counts: np.ndarray, true: dict[str, np.ndarray], shares: np.ndarray, foreground: np.ndarray
) -> dict[str, np.ndarray]:
    """Returns predictions and outcome of each segment from its counts (segments, C)."""
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


def _context(true: dict[str, np.ndarray], shares: np.ndarray, *, size: int) -> dict[str, np.ndarray]:
    """Returns the share of the image that each class covers outside of each segment."""
    outside = np.repeat(shares[None], len(true["class"]), 0)
    outside[np.arange(len(outside)), true["class"]] -= true["pixels"] / size
    return {f"context_{c}": outside[:, c].astype(np.float32) for c in range(len(shares))}


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


def _ownership(
    rows: _Rows, truth: np.ndarray, risks: dict[str, np.ndarray], found: np.ndarray, classes: int
) -> dict[str, np.ndarray]:
    """Returns the columns of predicted segments: their risks and the true class of most of their pixels."""
    columns = rows.columns()
    counts = rows.count(truth, classes)
    owner = counts.argmax(1)
    columns |= {name: rows.mean(risks.get(name), found) for name in ("flip_risk", "max_softmax")}
    columns |= {"truth": owner, "truth_share": counts.max(1) / columns["pixels"]}
    return columns | {"right": owner == columns["class"]}


def _pixels(
    prediction: np.ndarray,
    truth: np.ndarray,
    known: np.ndarray,
    near: np.ndarray,
    foreground: np.ndarray,
    flipped: np.ndarray,
) -> dict[str, np.ndarray]:
    """Returns counts of the known pixels by kind, class and prediction."""
    C = len(foreground)
    right = prediction == truth
    places = np.nonzero(known & ~right)
    t, p = truth[places], prediction[places]
    cases = [~foreground[t] & foreground[p], ~foreground[t], ~foreground[p], flipped[places], near[places]]
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
    cells = first.astype(np.int64) * shape[1] + second
    if shape[0] * shape[1] <= _DENSE:
        counts = np.bincount(cells, minlength=shape[0] * shape[1])
        found = np.flatnonzero(counts)
        counts = counts[found]
    else:
        found, counts = np.unique(cells, return_counts=True)
    return found // shape[1], found % shape[1], counts
