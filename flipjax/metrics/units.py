"""The units of an image that segments are made of: classes, connected components or instances. NumPy and SciPy."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

UNITS = ("class", "component")
_DENSE = 1 << 20
"""Cells of a table of counts that is counted whole; a larger one by its cells that are not empty."""


class Units(NamedTuple):
    """Which unit each pixel belongs to, int32 (H, W) from 0 on and -1 for none; and each unit's class and number.

    A class's number is itself, a component's its place within the class, an instance's its id.
    """

    places: np.ndarray
    classes: np.ndarray
    numbers: np.ndarray


def fill_void(labels: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Returns labels (H, W) with those of pixels that are not known replaced by the nearest known one's.

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
        foreground: bool (C,), the classes that have units.
        unit: `class`, all pixels of a class; `component`, 8-connected; or ids (H, W): the pixels of one id and class.

    Example:
        >>> units = find_units(np.array([[1, 0, 1, 2]]), np.array([False, True, True]), "component")
        >>> units.places.tolist(), units.classes.tolist(), units.numbers.tolist()
        ([[0, -1, 1, 2]], [1, 1, 2], [0, 1, 0])
    """
    from scipy import ndimage

    C = len(foreground)
    inside = foreground[labels]
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
    boxes: Any = ndimage.find_objects(np.where(inside, labels, -1) + 1, max_label=C)
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
    """Returns the pixels within `width` rows and columns of a pixel with another label: bool (H, W).

    What lies beyond the image and what is not known has no label. The limit is 1 pixel or more.

    Example:
        >>> near_border(np.array([[1, 1, 1, 2]]), np.ones((1, 4), bool), 2).tolist()
        [[False, True, True, True]]
    """
    from scipy import ndimage

    # In the smallest integers, with 0 and the largest for what is not known: filters are bound by memory.
    shifted = labels.astype(np.min_scalar_type(int(labels.max(initial=0)) + 2)) + np.uint8(1)
    low, high = np.where(known, shifted, np.iinfo(shifted.dtype).max), np.where(known, shifted, 0)
    size = 2 * width + 1
    return ndimage.maximum_filter(high, size, mode="nearest") > ndimage.minimum_filter(low, size, mode="nearest")


def count_pairs(
    first: np.ndarray, second: np.ndarray, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the pairs (first, second) that occur, in ascending order, and how often each does."""
    cells = first.astype(np.int64) * shape[1] + second
    if shape[0] * shape[1] <= _DENSE:
        counts = np.bincount(cells, minlength=shape[0] * shape[1])
        found = np.flatnonzero(counts)
        counts = counts[found]
    else:
        found, counts = np.unique(cells, return_counts=True)
    return found // shape[1], found % shape[1], counts
