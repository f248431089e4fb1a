"""Which pixels are one region: all predicted foreground of an image, or each object of it. NumPy and SciPy."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from jax.core import Tracer

from flipjax.metrics.checks import to_array
from flipjax.metrics.classes import check_background, is_foreground

REGIONS = ("image", "objects")
_EIGHT = np.ones((3, 3), bool)


def find_regions(
    logits: Any, *, regions: Any = "objects", background: int | tuple[int, ...] | None = 0
) -> np.ndarray | None:
    """Returns which region of its image each pixel belongs to.

    An object is an 8-connected component of predicted foreground, whatever its classes: a flipped half and its other
    half are one object, and so are two objects that touch.

    Args:
        logits: (B, H, W, C) floating point.
        regions: 'image', 'objects', or numbers (B, H, W), of instances: 0 for none; predicted background has none.
        background: the class that is background, several in a tuple, or None.

    Returns:
        int32 (B, H, W): 0 for none, 1, 2, ... in each image; None for 'image'. Not under `jax.jit`.

    Raises:
        ValueError: another choice, or numbers that do not fit.

    Example:
        >>> find_regions(np.eye(3)[[[[1, 2, 0, 1]]]]).tolist()
        [[[1, 1, 0, 2]]]
    """
    if isinstance(regions, str) and regions not in REGIONS:
        raise ValueError(f"regions: expected one of {', '.join(REGIONS)}, or numbers (B, H, W), found {regions!r}.")
    if isinstance(regions, str) and regions == "image":
        return None
    inside = _foreground(logits, background)
    if isinstance(regions, str):
        return _components(inside)
    numbers = np.asarray(to_array(regions, name="regions"))
    if numbers.shape != inside.shape or numbers.dtype.kind not in "iu" or numbers.min(initial=0) < 0:
        raise ValueError(
            f"regions: expected integers of 0 or more of shape {inside.shape}, found {numbers.dtype} of shape "
            f"{numbers.shape}{', some below 0' if numbers.dtype.kind == 'i' and numbers.min(initial=0) < 0 else ''}."
        )
    found = np.zeros(inside.shape, np.int32)
    for image, own, into in zip(numbers, inside, found, strict=True):
        into[own] = np.searchsorted(np.unique(image[own & (image > 0)]), image[own], side="right")
    return found


def region_images(regions: Any) -> np.ndarray:
    """Returns the image of each region of `find_regions`: int64 (N,), in the order in which regions have rows.

    Example:
        >>> region_images(np.array([[[1, 1, 0, 2]], [[0, 0, 0, 0]], [[1, 0, 0, 0]]])).tolist()
        [0, 0, 2]
    """
    numbers = np.asarray(regions)
    counts = numbers.reshape(len(numbers), -1).max(1, initial=0)
    return np.repeat(np.arange(len(numbers)), counts)


def region_places(regions: np.ndarray) -> np.ndarray:
    """Returns the row of the region of each pixel, int32 (B, H, W), -1 for none: regions counted over all images."""
    counts = regions.reshape(len(regions), -1).max(1, initial=0)
    first = (np.cumsum(counts) - counts)[:, None, None]
    return np.where(regions > 0, regions - 1 + first, -1).astype(np.int32)


def warn_of_objects(logits: Any, *, background: int | tuple[int, ...] | None, stacklevel: int) -> None:
    """Warns where images predict several objects of different classes, which are one region each; not under jit.

    Warns:
        UserWarning: how many do, and what it means.
    """
    if isinstance(logits, Tracer):
        return
    inside = _foreground(logits, background)
    labels = np.asarray(logits).argmax(-1)
    several = sum(_differ(*image) for image in zip(_components(inside), labels, strict=True))
    if several:
        warnings.warn(
            f"regions: {several} of {len(labels)} images predict several objects of different classes, and each image "
            "is one region: it has one log-odds, one risk, and repair gives all its objects one class. Pass "
            "regions='objects' to tell them apart.",
            stacklevel=stacklevel + 1,
        )


def _foreground(logits: Any, background: int | tuple[int, ...] | None) -> np.ndarray:
    array = np.asarray(to_array(logits, name="logits"))
    C = array.shape[-1]
    return is_foreground(C, check_background(background, C, name="logits"))[array.argmax(-1)]


def _components(inside: np.ndarray) -> np.ndarray:
    from scipy import ndimage

    found: list[Any] = [ndimage.label(image, structure=_EIGHT) for image in inside]
    return np.stack([each[0] for each in found]).astype(np.int32) if found else np.zeros(inside.shape, np.int32)


def _differ(components: np.ndarray, labels: np.ndarray) -> bool:
    """Says whether two components of an image have most pixels of different classes."""
    inside = components > 0
    if components.max(initial=0) < 2:
        return False
    counts = np.zeros((components.max() + 1, labels.max() + 1), np.int64)
    np.add.at(counts, (components[inside], labels[inside]), 1)
    return len(set(counts[1:].argmax(1).tolist())) > 1
