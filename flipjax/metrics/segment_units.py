"""Segments of one image: the pixels of a class, an 8-connected component or an instance, and counts over them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from flipjax.metrics.decomposition import divide

STRATA = (1 / 256, 1 / 64, 1 / 16, 1 / 4)
"""Boundaries of the size strata, as fractions of the image: 256, 1024, 4096 and 16384 pixels of 256 x 256."""
BOXES = {2: ("top", "left", "bottom", "right"), 3: ("first", "top", "left", "last", "bottom", "right")}
"""Columns of the bounding box of an image and of a volume; ends are exclusive."""
UNITS = ("class", "component")
"""What the pixels of a segment may have in common, see `flipjax.metrics.segment_tables`."""


class Units(NamedTuple):
    """The units of an image, over its known pixels: those that are not ignored."""

    numbers: np.ndarray
    """int (H, W), the number of each pixel's unit, from 1 on, and 0 for none."""
    classes: np.ndarray
    """int (units,), the class of each."""
    ids: np.ndarray
    """int (units,), the instance or component of each."""
    pixels: np.ndarray
    """int (units,), the number of known pixels of each."""

    def of_size(self, least: float) -> Units:
        """Returns the units of `least` pixels or more."""
        kept = np.flatnonzero(self.pixels >= least)
        numbers = np.zeros(len(self.pixels) + 1, np.int32)
        numbers[kept + 1] = np.arange(1, len(kept) + 1)
        return Units(numbers[self.numbers], self.classes[kept], self.ids[kept], self.pixels[kept])

    def count_classes(self, classes: np.ndarray, C: int) -> np.ndarray:
        """Counts the pixels of each unit by their class: (units, C)."""
        entries = (self.numbers * np.int64(C) + classes).ravel()
        return np.bincount(entries, minlength=(len(self.pixels) + 1) * C).reshape(-1, C)[1:]

    def total(self, chosen: np.ndarray, values: np.ndarray | None = None) -> np.ndarray:
        """Counts the chosen pixels of each unit, or sums their values."""
        weights = None if values is None else values[chosen]
        return np.bincount(self.numbers[chosen], weights, minlength=len(self.pixels) + 1)[1:]

    def mean(self, values: np.ndarray | None, chosen: np.ndarray) -> np.ndarray:
        """Returns the mean value of the chosen pixels of each unit; NaN without values or pixels."""
        number = self.total(chosen)
        if values is None:
            return np.full(len(number), np.nan)
        return divide(self.total(chosen, values), number)

    def columns(self) -> dict[str, np.ndarray]:
        """Returns the columns that follow from the units alone."""
        from scipy import ndimage

        names = BOXES[self.numbers.ndim]
        corners = []
        for box in ndimage.find_objects(self.numbers, max_label=len(self.pixels)):
            starts = [side.start for side in box]
            stops = [side.stop for side in box]
            corners.append([*starts, *stops])
        columns = {"class": self.classes, "instance": self.ids, "pixels": self.pixels}
        columns.update(zip(names, np.array(corners, np.int64).reshape(-1, len(names)).T, strict=True))
        columns["stratum"] = np.digitize(self.pixels / self.numbers.size, STRATA)
        return columns


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


def find_units(labels: np.ndarray, known: np.ndarray, foreground: np.ndarray, unit: str | np.ndarray) -> Units:
    """Returns the units of class indices (H, W).

    Args:
        labels: class indices in 0..C-1.
        known: bool (H, W), the pixels that count.
        foreground: bool (C,); only these classes have units.
        unit: `class`, all pixels of a class; `component`, 8-connected; or ids (H, W): the pixels of one id and class.

    Example:
        >>> units = find_units(np.array([[1, 0, 1, 2]]), np.ones((1, 4), bool), np.array([0, 1, 1], bool), "component")
        >>> units.numbers.tolist(), units.classes.tolist(), units.pixels.tolist()
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
    unit_of_pixel = numbers[entries] * known
    pixels = np.bincount(unit_of_pixel.ravel(), minlength=len(kinds) + 1)[1:]
    unit_ids = kinds // C
    if names is not None:
        unit_ids = names[unit_ids].astype(np.int64)
    return Units(unit_of_pixel, kinds % C, unit_ids, pixels)


def _number_components(labels: np.ndarray, foreground: np.ndarray) -> np.ndarray:
    """Returns the number of each pixel's 8-connected component of a foreground class, from 1 on: int32 (H, W)."""
    from scipy import ndimage

    ids = np.zeros(labels.shape, np.int32)
    number = 0
    structure = np.ones((3,) * labels.ndim)
    boxes = ndimage.find_objects(np.where(foreground[labels], labels, -1) + 1, max_label=len(foreground))
    for c, box in enumerate(boxes):
        if box is not None:
            components = np.zeros(labels[box].shape, np.int32)
            count: Any = ndimage.label(labels[box] == c, structure=structure, output=components)
            np.copyto(ids[box], components + number, where=components > 0)
            number += count
    return ids


def near_border(labels: np.ndarray, known: np.ndarray, width: int) -> np.ndarray:
    """Returns the pixels within `width` (1 or more) rows and columns of a pixel with another label: bool (H, W).

    Unknown pixels and those outside of the image have no label.

    Example:
        >>> near_border(np.array([[1, 1, 1, 2]]), np.ones((1, 4), bool), 2).tolist()
        [[False, True, True, True]]
    """
    # In the smallest integers, as passes are bound by memory; 0 and the largest stand for unknown.
    shifted = labels.astype(np.min_scalar_type(int(labels.max(initial=0)) + 2)) + np.uint8(1)
    largest = _in_windows(np.where(known, shifted, 0), width, np.maximum)
    least = _in_windows(np.where(known, shifted, np.iinfo(shifted.dtype).max), width, np.minimum)
    return largest > least


def _in_windows(values: np.ndarray, width: int, choose: np.ufunc) -> np.ndarray:
    """Returns the largest or the least value within `width` places along all axes, by np.maximum or np.minimum.

    Six times as fast as the filters of scipy.ndimage for the widths of rims.
    """
    for axis in range(values.ndim):
        chosen = values.copy()
        # Views along one axis, so that memory is passed in its order.
        lines = np.moveaxis(values, axis, 0)
        chosen_lines = np.moveaxis(chosen, axis, 0)
        for step in range(1, min(width, len(lines) - 1) + 1):
            choose(chosen_lines[step:], lines[:-step], out=chosen_lines[step:])
            choose(chosen_lines[:-step], lines[step:], out=chosen_lines[:-step])
        values = chosen
    return values
