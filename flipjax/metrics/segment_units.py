"""Segments of one image: the pixels of a class, an 8-connected component or an instance, and counts over them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from flipjax.metrics.decomposition import divide

STRATA = (1 / 256, 1 / 64, 1 / 16, 1 / 4)
"""Boundaries of the size strata, as fractions of the image: 256, 1024, 4096 and 16384 pixels of 256 x 256."""
BOXES = {2: ("top", "left", "bottom", "right"), 3: ("first", "top", "left", "last", "bottom", "right")}
"""Columns of the bounding box of an image and of a volume; ends are exclusive."""
_MOST_ENTRIES_A_PIXEL = 4
"""Pairs of parts for each pixel, at most, for which a table of all pairs is counted; if there are more, the pairs that
occur are sorted."""
UNITS = ("class", "component")
"""What the pixels of a segment may have in common, see `flipjax.metrics.segment_tables`."""


class ImageParts(NamedTuple):
    """A division of an image: each unit is a part, and what is left of each class."""

    numbers: np.ndarray
    """Unsigned (H, W), the number of each pixel's part, from 1 on; 0 where a pixel does not count."""
    classes: np.ndarray
    """int64 (parts,), the class of each."""
    ids: np.ndarray
    """int64 (parts,), the instance or component of each."""
    are_units: np.ndarray
    """bool (parts,), whether it is a unit: of a foreground class."""


class PairCounts(NamedTuple):
    """Counted pixels by their true and predicted part and by nearness to a border, an entry for each that occurs."""

    true_part: np.ndarray
    """int64 (entries,), the index of the true part."""
    predicted_part: np.ndarray
    """int64 (entries,), the index of the predicted part."""
    truth: np.ndarray
    """int64 (entries,), the true class."""
    prediction: np.ndarray
    """int64 (entries,), the predicted class."""
    near: np.ndarray
    """bool (entries,), whether the pixels are near a border."""
    pixels: np.ndarray
    """int64 (entries,), their number."""


class Units(NamedTuple):
    """Units of an image, some of its parts."""

    parts: ImageParts
    """The division of the image."""
    chosen: np.ndarray
    """int64 (units,), the index of the part that is each unit."""
    pixels: np.ndarray
    """int64 (units,), the pixels of each."""

    @property
    def classes(self) -> np.ndarray:
        """The class of each unit, int64 (units,)."""
        return self.parts.classes[self.chosen]

    def of_parts(self, parts: np.ndarray) -> np.ndarray:
        """Returns the index of the unit that is each of some parts (n,), -1 for none."""
        unit_of_part = np.full(len(self.parts.classes), -1)
        unit_of_part[self.chosen] = np.arange(len(self.chosen))
        return unit_of_part[parts]

    def sum(self, units: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Returns the sums of integers (n,) over each of `units` (n,), as of `of_parts`: int64 (units,)."""
        inside = units >= 0
        sums = np.bincount(units[inside], values[inside], minlength=len(self.chosen))
        return sums.astype(np.int64)

    def sum_by_class(self, units: np.ndarray, classes: np.ndarray, values: np.ndarray, C: int) -> np.ndarray:
        """Returns the sums of integers (n,) over each of `units` (n,) and of C classes (n,): int64 (units, C)."""
        inside = units >= 0
        entries = units[inside] * C + classes[inside]
        sums = np.bincount(entries, values[inside], minlength=len(self.chosen) * C)
        return sums.reshape(-1, C).astype(np.int64)

    def mean(self, values: np.ndarray, inside: np.ndarray) -> np.ndarray:
        """Returns the mean value (H, W) of each unit's pixels that are inside, bool (H, W); NaN without any."""
        number_of_part = np.zeros(len(self.parts.classes) + 1, np.int64)
        number_of_part[self.chosen + 1] = np.arange(1, len(self.chosen) + 1)
        numbers = number_of_part[self.parts.numbers[inside]]
        sums = np.bincount(numbers, values[inside], minlength=len(self.chosen) + 1)[1:]
        return divide(sums, np.bincount(numbers, minlength=len(self.chosen) + 1)[1:])

    def columns(self, *, with_ids: bool = False) -> dict[str, np.ndarray]:
        """Returns the columns that follow from the units alone, with or without their ids."""
        numbers = self.parts.numbers
        names = BOXES[numbers.ndim]
        columns = {"class": self.classes}
        if with_ids:
            columns["instance"] = self.parts.ids[self.chosen]
        columns["pixels"] = self.pixels
        columns.update(zip(names, _find_boxes(self.parts, self.chosen).T, strict=True))
        columns["stratum"] = np.digitize(self.pixels / numbers.size, STRATA)
        return columns


def _find_runs(*maps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns where runs begin, neighbours along the last axis that are equal in all maps, and how long they are.

    Both int64 (runs,), of the flat maps (H, W). Images of objects have tens of pixels a run.
    """
    begins = np.zeros(maps[0].shape, bool)
    begins[..., 0] = True
    flat_begins = begins.reshape(-1)[1:]
    for values in maps:
        flat = values.reshape(-1)
        flat_begins |= flat[1:] != flat[:-1]
    starts = np.flatnonzero(begins)
    return starts, np.diff(starts, append=begins.size)


def _find_boxes(parts: ImageParts, chosen: np.ndarray) -> np.ndarray:
    """Returns the boxes of chosen parts, that occur: first places, then the ends, int64 (n, 2 axes)."""
    shape = parts.numbers.shape
    starts, lengths = _find_runs(parts.numbers)
    # Pixels without a part are in the last row, -1.
    part = parts.numbers.reshape(-1)[starts].astype(np.int64) - 1
    first_places = np.unravel_index(starts, shape)
    last_places = np.unravel_index(starts + lengths - 1, shape)
    begins = np.full((len(shape), len(parts.classes) + 1), max(shape))
    ends = np.zeros_like(begins)
    for axis in range(len(shape)):
        np.minimum.at(begins[axis], part, first_places[axis])
        np.maximum.at(ends[axis], part, last_places[axis] + 1)
    return np.concatenate([begins, ends])[:, chosen].T


def choose_units(parts: ImageParts, part_of_entry: np.ndarray, pixels: np.ndarray, *, least: int = 1) -> Units:
    """Returns the units of `least` pixels or more, of entries (n,) with their part and number of pixels."""
    pixels_of_part = np.bincount(part_of_entry, pixels, minlength=len(parts.classes)).astype(np.int64)
    chosen = np.flatnonzero(parts.are_units & (pixels_of_part >= max(1, least)))
    return Units(parts, chosen, pixels_of_part[chosen])


def count_pairs(true: ImageParts, predicted: ImageParts, near: np.ndarray) -> PairCounts:
    """Counts the pixels of an image by their true and predicted part, and by nearness to a border.

    Args:
        true: parts of the truth.
        predicted: parts of the prediction, which count at the same pixels.
        near: bool (H, W).

    Example:
        >>> foreground = np.array([False, True])
        >>> rows = np.array([[[0, 1, 1]], [[0, 1, 0]]])
        >>> truth, prediction = (find_parts(row, None, foreground) for row in rows)
        >>> counts = count_pairs(truth, prediction, np.zeros((1, 3), bool))
        >>> np.stack([counts.truth, counts.prediction, counts.pixels]).T.tolist()
        [[0, 0, 1], [1, 0, 1], [1, 1, 1]]
    """
    # True part, predicted part and nearness of a run are one integer, its entry in a table of all of them.
    rows = len(true.classes) + 1
    columns = len(predicted.classes) + 1
    size = 2 * rows * columns
    starts, lengths = _find_runs(true.numbers, predicted.numbers, near.view(np.uint8))
    entry = true.numbers.reshape(-1)[starts].astype(np.int64)
    entry = entry * columns + predicted.numbers.reshape(-1)[starts]
    entry = entry * 2 + near.reshape(-1)[starts]
    if size <= _MOST_ENTRIES_A_PIXEL * near.size:
        pixels_of_all = np.bincount(entry, lengths, minlength=size).astype(np.int64)
        entries = np.flatnonzero(pixels_of_all)
        pixels = pixels_of_all[entries]
    else:
        entries, entry_of_run = np.unique(entry, return_inverse=True)
        pixels = np.bincount(entry_of_run, lengths).astype(np.int64)
    pair, is_near = np.divmod(entries, 2)
    true_number, predicted_number = np.divmod(pair, columns)
    counted = true_number > 0
    true_part = true_number[counted] - 1
    predicted_part = predicted_number[counted] - 1
    return PairCounts(
        true_part=true_part,
        predicted_part=predicted_part,
        truth=true.classes[true_part],
        prediction=predicted.classes[predicted_part],
        near=is_near[counted] > 0,
        pixels=pixels[counted],
    )


def fill_void(labels: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Replaces the labels (H, W) of unknown pixels with the nearest known label.

    Example:
        >>> fill_void(np.array([[3, 9, 9, 9, 5]]), np.array([[True, False, False, False, True]])).tolist()
        [[3, 3, 3, 5, 5]]
    """
    from scipy import ndimage

    if known.all() or not known.any():
        return labels
    nearest = ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True)
    return labels[tuple(np.asarray(nearest))]


def find_parts(
    labels: np.ndarray,
    known: np.ndarray | None,
    foreground: np.ndarray,
    *,
    unit: str = "class",
    ids: np.ndarray | None = None,
) -> ImageParts:
    """Divides an image of class indices (H, W).

    Args:
        labels: class indices in 0..C-1.
        known: bool (H, W), the pixels that count; None: all.
        foreground: bool (C,); only these classes have units.
        unit: `class`, all pixels of a class; or `component`, 8-connected.
        ids: int (H, W), in place of `unit`: the pixels of one id and class are a part.

    Example:
        >>> parts = find_parts(np.array([[1, 0, 1, 2]]), None, np.array([False, True, True]), unit="component")
        >>> parts.numbers.tolist(), parts.classes.tolist(), parts.are_units.tolist()
        ([[2, 1, 3, 4]], [0, 1, 1, 2], [False, True, True, True])
    """
    C = len(foreground)
    if ids is not None:
        numbers, classes, ids_of_parts = _parts_of_ids(labels, ids, C)
    elif unit == "component":
        numbers, classes, ids_of_parts = _number_components(labels, foreground)
    else:
        numbers = labels.astype(np.min_scalar_type(C))
        numbers += 1
        classes = np.arange(C)
        ids_of_parts = np.zeros(C, np.int64)
    if known is not None:
        numbers = np.where(known, numbers, 0).astype(numbers.dtype)
    return ImageParts(numbers, classes, ids_of_parts, foreground[classes])


def _parts_of_ids(labels: np.ndarray, ids: np.ndarray, C: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the part of each pixel, all of one id and class, from 1 on, and the class and id of each part."""
    import pandas as pd

    place_of_id, sorted_ids = pd.factorize(ids.ravel(), sort=True)
    # A number for each id and class; those that occur become the parts.
    code = place_of_id.reshape(labels.shape) * C + labels
    codes = np.flatnonzero(np.bincount(code.ravel()))
    number_of_code = np.zeros(codes.max(initial=0) + 1, np.uint32)
    number_of_code[codes] = np.arange(1, len(codes) + 1)
    return number_of_code[code], codes % C, sorted_ids[codes // C].astype(np.int64)


def _number_components(labels: np.ndarray, foreground: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the part of each pixel, from 1 on, and the class and the number of each part.

    The background classes come first; then the 8-connected components of each foreground class, numbered from 1 on.
    """
    from scipy import ndimage

    background = np.flatnonzero(~foreground)
    number_of_class = np.zeros(len(foreground), np.uint32)
    number_of_class[background] = np.arange(1, len(background) + 1)
    numbers = number_of_class[labels]
    classes = [background]
    number = len(background)
    structure = np.ones((3,) * labels.ndim)
    # From 1 on, as `find_objects` counts.
    shifted = labels.astype(np.min_scalar_type(len(foreground))) + np.uint8(1)
    boxes = ndimage.find_objects(shifted, max_label=len(foreground))
    for c in np.flatnonzero(foreground).tolist():
        box = boxes[c]
        # None of a class that the image lacks.
        if box is not None:
            components = np.zeros(labels[box].shape, np.int32)
            ndimage.label(labels[box] == c, structure=structure, output=components)
            count = int(components.max())
            np.copyto(numbers[box], components + number, where=components > 0, casting="unsafe")
            classes.append(np.full(count, c))
            number += count
    ids = np.maximum(np.arange(1, number + 1) - len(background), 0)
    return numbers, np.concatenate(classes), ids


def near_border(labels: np.ndarray, known: np.ndarray | None, width: int) -> np.ndarray:
    """Returns the pixels within `width` (1 or more) rows and columns of a pixel with another label: bool (H, W).

    Pixels that are not `known` (all are for None) and those outside of the image have no label.

    Example:
        >>> near_border(np.array([[1, 1, 1, 2]]), np.ones((1, 4), bool), 2).tolist()
        [[False, True, True, True]]
    """
    # In the smallest integers, as passes are bound by memory; 0 and the largest stand for unknown.
    shifted = labels.astype(np.min_scalar_type(int(labels.max(initial=0)) + 2)) + np.uint8(1)
    if known is None:
        return _in_windows(shifted, width, np.maximum) > _in_windows(shifted, width, np.minimum)
    largest = _in_windows(np.where(known, shifted, 0), width, np.maximum)
    least = _in_windows(np.where(known, shifted, np.iinfo(shifted.dtype).max), width, np.minimum)
    return largest > least


def _in_windows(values: np.ndarray, width: int, choose: np.ufunc) -> np.ndarray:
    """Returns the largest or the least value within `width` places along all axes, by np.maximum or np.minimum.

    Ten times as fast as the filters of scipy.ndimage for the widths of rims.
    """
    for axis in range(values.ndim):
        reached = 0
        while reached < min(width, values.shape[axis] - 1):
            # What each place has seen of `reached` places reaches as many and one more.
            step = min(reached + 1, width - reached, values.shape[axis] - 1)
            chosen = values.copy()
            # Views along one axis, so that memory is passed in its order.
            lines = np.moveaxis(values, axis, 0)
            chosen_lines = np.moveaxis(chosen, axis, 0)
            choose(chosen_lines[step:], lines[:-step], out=chosen_lines[step:])
            choose(chosen_lines[:-step], lines[step:], out=chosen_lines[:-step])
            values = chosen
            reached += step
    return values
