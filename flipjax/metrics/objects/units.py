"""Segments of one image, and the pixels that true and predicted segments share.

`find_parts` divides an image into *parts*: segments (the pixels of a class, an 8-connected component or an instance),
and what is left of each class. `count_pairs` counts the pixels of each pair of a true and a predicted part.
`choose_units` chooses *units*, the parts that are segments of a foreground class and large enough.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from flipjax.metrics.decomposition import divide

STRATA = (1 / 256, 1 / 64, 1 / 16, 1 / 4)
"""Boundaries of the size strata, as fractions of the image: 256, 1024, 4096 and 16384 pixels of 256 x 256."""
BOXES = {2: ("top", "left", "bottom", "right"), 3: ("first", "top", "left", "last", "bottom", "right")}
"""Columns of the bounding box of an image and of a volume; ends are exclusive."""
_MOST_ENTRIES_A_PIXEL = 4
"""Most possible entries for each pixel. Up to it a table of all possible entries is counted, which is faster; with more
it would take too much memory, and the entries that occur are sorted."""
UNITS = ("class", "component")
"""What the pixels of a segment may have in common, see `flipjax.metrics.segment_tables`."""


class ImageParts(NamedTuple):
    """A division of an image: its segments, and what is left of each class, are its parts."""

    numbers: np.ndarray
    """Unsigned (H, W), one more than the index of each pixel's part; 0 where a pixel does not count."""
    classes: np.ndarray
    """int64 (parts,), the class of each part."""
    ids: np.ndarray
    """int64 (parts,), the instance or component of each part."""
    are_units: np.ndarray
    """bool (parts,), whether it may be a unit: a segment of a foreground class."""


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
    """Units of an image: the parts that are segments of a foreground class and large enough."""

    parts: ImageParts
    """The division of the image."""
    chosen: np.ndarray
    """int64 (units,), the index of the part that is each unit."""
    unit_of_part: np.ndarray
    """int64 (parts,), the index of the unit that each part is; -1 for none."""
    pixels: np.ndarray
    """int64 (units,), the number of pixels of each unit."""

    @property
    def classes(self) -> np.ndarray:
        """The class of each unit, int64 (units,)."""
        return self.parts.classes[self.chosen]

    def sum(self, part_of_entry: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Returns the sums of the integers of entries (n,) over each unit: int64 (units,)."""
        unit = self.unit_of_part[part_of_entry]
        inside = unit >= 0
        sums = np.bincount(unit[inside], values[inside], minlength=len(self.chosen))
        return sums.astype(np.int64)

    def sum_by_class(self, part_of_entry: np.ndarray, classes: np.ndarray, values: np.ndarray, C: int) -> np.ndarray:
        """Returns the sums of the integers of entries (n,) over each unit and each of C classes: int64 (units, C)."""
        unit = self.unit_of_part[part_of_entry]
        inside = unit >= 0
        unit_and_class = unit[inside] * C + classes[inside]
        sums = np.bincount(unit_and_class, values[inside], minlength=len(self.chosen) * C)
        return sums.reshape(-1, C).astype(np.int64)

    def mean(self, values: np.ndarray, inside: np.ndarray) -> np.ndarray:
        """Returns the mean value (H, W) of each unit's pixels that are inside, bool (H, W); NaN without any."""
        # Numbered from 1 on, as parts are: number 0 takes the pixels without a unit, and is left out of the sums.
        number_of_part = np.append(0, self.unit_of_part + 1)
        number = number_of_part[self.parts.numbers[inside]]
        sums = np.bincount(number, values[inside], minlength=len(self.chosen) + 1)[1:]
        pixels = np.bincount(number, minlength=len(self.chosen) + 1)[1:]
        return divide(sums, pixels)

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
    """Finds runs: neighbours along the last axis that are equal in all maps (H, W).

    Returns:
        The index in the flat maps at which each run begins, and the length of each: int64 (runs,). Images of objects
        have tens of pixels a run, so that passes over runs are faster than over pixels.
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
    """Returns the boxes of chosen parts that have pixels: the begin along each axis, then each end, int64 (n, 2 axes).

    Five times as fast as `scipy.ndimage.find_objects` for images of 2 megapixels.
    """
    shape = parts.numbers.shape
    starts, lengths = _find_runs(parts.numbers)
    part_of_run = parts.numbers.reshape(-1)[starts].astype(np.int64) - 1
    first_pixels = np.unravel_index(starts, shape)
    last_pixels = np.unravel_index(starts + lengths - 1, shape)
    # A further column, at index -1, takes the pixels without a part.
    begins = np.full((len(shape), len(parts.classes) + 1), max(shape))
    ends = np.zeros_like(begins)
    for axis in range(len(shape)):
        np.minimum.at(begins[axis], part_of_run, first_pixels[axis])
        np.maximum.at(ends[axis], part_of_run, last_pixels[axis] + 1)
    return np.concatenate([begins, ends])[:, chosen].T


def choose_units(parts: ImageParts, part_of_entry: np.ndarray, pixels: np.ndarray, *, least: int = 1) -> Units:
    """Chooses the parts that are segments of a foreground class and have `least` pixels or more.

    Args:
        parts: of the image.
        part_of_entry: int (n,), the index of the part of each entry.
        pixels: int (n,), the pixels of each entry.
        least: parts that no pixel has are never chosen.
    """
    pixels_of_part = np.bincount(part_of_entry, pixels, minlength=len(parts.classes)).astype(np.int64)
    chosen = np.flatnonzero(parts.are_units & (pixels_of_part >= max(1, least)))
    unit_of_part = np.full(len(parts.classes), -1)
    unit_of_part[chosen] = np.arange(len(chosen))
    return Units(parts, chosen, unit_of_part, pixels_of_part[chosen])


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
    starts, lengths = _find_runs(true.numbers, predicted.numbers, near.view(np.uint8))
    # True part, predicted part and nearness of a run, as one integer: its index in a table (true, predicted, 2).
    predicted_numbers = len(predicted.classes) + 1
    table_size = (len(true.classes) + 1) * predicted_numbers * 2
    code = true.numbers.reshape(-1)[starts].astype(np.int64)
    code = code * predicted_numbers + predicted.numbers.reshape(-1)[starts]
    code = code * 2 + near.reshape(-1)[starts]
    if table_size <= _MOST_ENTRIES_A_PIXEL * near.size:
        table = np.bincount(code, lengths, minlength=table_size).astype(np.int64)
        occurring = np.flatnonzero(table)
        pixels = table[occurring]
    else:
        occurring, entry_of_run = np.unique(code, return_inverse=True)
        pixels = np.bincount(entry_of_run, lengths).astype(np.int64)
    pair, is_near = np.divmod(occurring, 2)
    true_number, predicted_number = np.divmod(pair, predicted_numbers)
    # Number 0 is that of pixels which do not count.
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


def fill_void(labels: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """Replaces the labels (H, W) of pixels that do not count with the nearest counted label.

    Example:
        >>> fill_void(np.array([[3, 9, 9, 9, 5]]), np.array([[True, False, False, False, True]])).tolist()
        [[3, 3, 3, 5, 5]]
    """
    from scipy import ndimage

    if counted.all() or not counted.any():
        return labels
    nearest = ndimage.distance_transform_edt(~counted, return_distances=False, return_indices=True)
    return labels[tuple(np.asarray(nearest))]


def find_parts(
    labels: np.ndarray,
    counted: np.ndarray | None,
    foreground: np.ndarray,
    *,
    unit: str = "class",
    ids: np.ndarray | None = None,
) -> ImageParts:
    """Divides an image of class indices (H, W).

    Args:
        labels: class indices in 0..C-1.
        counted: bool (H, W), the pixels that count; None: all.
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
    if counted is not None:
        numbers = np.where(counted, numbers, 0).astype(numbers.dtype)
    return ImageParts(numbers, classes, ids_of_parts, foreground[classes])


def _parts_of_ids(labels: np.ndarray, ids: np.ndarray, C: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns `numbers`, `classes` and `ids` of `ImageParts`: a part is all pixels of one id and class."""
    import pandas as pd

    index_of_id, sorted_ids = pd.factorize(ids.ravel(), sort=True)
    # A number for each id and class; those that occur become the parts.
    code = index_of_id.reshape(labels.shape) * C + labels
    codes = np.flatnonzero(np.bincount(code.ravel()))
    number_of_code = np.zeros(codes.max(initial=0) + 1, np.uint32)
    number_of_code[codes] = np.arange(1, len(codes) + 1)
    return number_of_code[code], codes % C, sorted_ids[codes // C].astype(np.int64)


def _number_components(labels: np.ndarray, foreground: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns `numbers`, `classes` and `ids` of `ImageParts`: a part is a background class or an 8-connected component.

    The background classes come first, with id 0; the ids of components count from 1 on.
    """
    from scipy import ndimage

    background = np.flatnonzero(~foreground)
    number_of_class = np.zeros(len(foreground), np.uint32)
    number_of_class[background] = np.arange(1, len(background) + 1)
    numbers = number_of_class[labels]
    classes = [background]
    last_number = len(background)
    structure = np.ones((3,) * labels.ndim)
    # From 1 on, as `find_objects` counts.
    shifted = labels.astype(np.min_scalar_type(len(foreground))) + np.uint8(1)
    boxes = ndimage.find_objects(shifted, max_label=len(foreground))
    for c in np.flatnonzero(foreground).tolist():
        box = boxes[c]
        if box is None:
            # The image lacks the class.
            continue
        components = np.zeros(labels[box].shape, np.int32)
        ndimage.label(labels[box] == c, structure=structure, output=components)
        count = int(components.max())
        np.copyto(numbers[box], components + last_number, where=components > 0, casting="unsafe")
        classes.append(np.full(count, c))
        last_number += count
    ids = np.maximum(np.arange(1, last_number + 1) - len(background), 0)
    return numbers, np.concatenate(classes), ids


def near_border(labels: np.ndarray, counted: np.ndarray | None, width: int) -> np.ndarray:
    """Returns the pixels within `width` (1 or more) rows and columns of a pixel with another label: bool (H, W).

    Pixels that are not `counted` (all are for None) and those outside of the image have no label.

    Example:
        >>> near_border(np.array([[1, 1, 1, 2]]), np.ones((1, 4), bool), 2).tolist()
        [[False, True, True, True]]
    """
    # In the smallest integers, as passes are bound by memory; 0 and the largest stand for pixels without a label.
    shifted = labels.astype(np.min_scalar_type(int(labels.max(initial=0)) + 2)) + np.uint8(1)
    if counted is None:
        return _in_windows(shifted, width, np.maximum) > _in_windows(shifted, width, np.minimum)
    largest = _in_windows(np.where(counted, shifted, 0), width, np.maximum)
    least = _in_windows(np.where(counted, shifted, np.iinfo(shifted.dtype).max), width, np.minimum)
    return largest > least


def _in_windows(values: np.ndarray, width: int, choose: np.ufunc) -> np.ndarray:
    """Returns the largest or the least value within `width` pixels along all axes, by np.maximum or np.minimum.

    Ten times as fast as the filters of scipy.ndimage for the widths of rims.
    """
    for axis in range(values.ndim):
        reach = 0
        while reach < min(width, values.shape[axis] - 1):
            # Each pixel holds the choice among those within `reach`. A pixel that is `reach + 1` away knows those up to
            # `2 * reach + 1` away, so that reach doubles and rim widths take few passes.
            step = min(reach + 1, width - reach, values.shape[axis] - 1)
            chosen = values.copy()
            # Views along one axis, so that memory is passed in its order.
            lines = np.moveaxis(values, axis, 0)
            chosen_lines = np.moveaxis(chosen, axis, 0)
            choose(chosen_lines[step:], lines[:-step], out=chosen_lines[step:])
            choose(chosen_lines[:-step], lines[step:], out=chosen_lines[:-step])
            values = chosen
            reach += step
    return values
