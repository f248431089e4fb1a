"""Finds predicted regions: all foreground of an image, or each of its objects, with NumPy and SciPy."""

import warnings

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from numpy.typing import ArrayLike
from scipy import ndimage

from flipjax.metrics.inputs.checks import to_array
from flipjax.metrics.inputs.classes import Background, background_classes, check_background, is_foreground
from flipjax.metrics.inputs.host import Array


def foreground(logits: ArrayLike, *, background: Background = 0) -> Array:
    """Returns where logits (..., H, W, C) predict foreground: bool (..., H, W), a JAX or NumPy array as the logits.

    Raises:
        TypeError: logits that are not floating point.

    Example:
        >>> logits = np.eye(3)[[[0, 1, 2]]]  # A row of three pixels, each predicted as another class.
        >>> foreground(logits).tolist(), foreground(logits, background=2).tolist()
        ([[False, True, True]], [[True, True, False]])
    """
    scores = to_array(logits, name="logits")
    if not jnp.issubdtype(scores.dtype, jnp.floating):
        raise TypeError(f"logits: expected floating point, found {scores.dtype}.")
    C = scores.shape[-1]
    inside = is_foreground(C, check_background(background, C, name="logits"))
    if isinstance(scores, np.ndarray):
        return inside[scores.argmax(-1)]
    return jnp.asarray(inside)[scores.argmax(-1)]


def find_regions(logits: ArrayLike, *, regions: ArrayLike = "objects", background: Background = 0) -> np.ndarray | None:
    """Returns the number of each pixel's region within its image.

    An object is an 8-connected component of predicted foreground, whatever its classes: a half-flipped object is one
    object, and so are two objects that touch.

    Args:
        logits: (B, H, W, C) floating point.
        regions: 'image', 'objects', or instance numbers (B, H, W), 0 for none; predicted background is excluded.
        background: the background class, a tuple of several, or None.

    Returns:
        int32 (B, H, W): 0 for none, then 1, 2, ... in each image; None for 'image'. Cannot be jitted.

    Raises:
        TypeError: logits that are not floating point.
        ValueError: logits of another rank, or `regions` that are unknown or do not fit.

    Example:
        >>> find_regions(np.eye(3)[[[[1, 2, 0, 1]]]]).tolist()
        [[[1, 1, 0, 2]]]
    """
    if isinstance(regions, str) and regions == "image":
        return None
    inside = np.asarray(foreground(logits, background=background))
    if inside.ndim != 3:
        raise ValueError(f"logits: expected (B, H, W, C), found the shape {np.shape(logits)}.")
    if isinstance(regions, str) and regions == "objects":
        return _find_objects(inside)
    expected = f"expected 'image', 'objects' or integers {inside.shape} from 0 on"
    if isinstance(regions, str):
        raise ValueError(f"regions: {expected}, found {regions!r}.")
    numbers = np.asarray(to_array(regions, name="regions"))
    if numbers.shape != inside.shape or numbers.dtype.kind not in "iu" or numbers.min(initial=0) < 0:
        raise ValueError(f"regions: {expected}, found {numbers.dtype} of shape {numbers.shape}.")
    renumbered = np.zeros(inside.shape, np.int32)
    for numbers_of_image, predicted, target in zip(numbers, inside, renumbered, strict=True):
        instances = np.unique(numbers_of_image[predicted & (numbers_of_image > 0)])
        # From 1 on without gaps; 0, which is below all instances, stays 0.
        target[predicted] = np.searchsorted(instances, numbers_of_image[predicted], side="right")
    return renumbered


def _find_objects(inside: np.ndarray) -> np.ndarray:
    """Returns the number of each pixel's 8-connected component within its image, int32 (B, H, W); 0 for none."""
    numbers = np.zeros(inside.shape, np.int32)
    for inside_of_image, numbers_of_image in zip(inside, numbers, strict=True):
        ndimage.label(inside_of_image, np.ones((3, 3)), output=numbers_of_image)
    return numbers


def region_images(regions: ArrayLike) -> np.ndarray:
    """Returns the image of each region of `find_regions`: int64 (N,), in the order of the regions' rows.

    Example:
        >>> region_images(np.array([[[1, 1, 0, 2]], [[0, 0, 0, 0]], [[1, 0, 0, 0]]])).tolist()
        [0, 0, 2]
    """
    numbers = np.asarray(regions)
    return np.repeat(np.arange(len(numbers)), numbers.max((1, 2), initial=0))


def region_rows(regions: np.ndarray) -> np.ndarray:
    """Returns the row of each pixel's region over all images: int32 (B, H, W), -1 for none."""
    regions_of_image = regions.max((1, 2), initial=0)
    first_row = (np.cumsum(regions_of_image) - regions_of_image)[:, None, None]
    return np.where(regions > 0, regions - 1 + first_row, -1).astype(np.int32)


def count_labels(logits: ArrayLike, *, regions: ArrayLike, background: Background) -> tuple[np.ndarray, np.ndarray]:
    """Returns the row of each pixel's region, int (B, H, W), and the label counts of each region, int64 (N, C)."""
    predicted = np.asarray(foreground(logits, background=background))
    scores = np.asarray(to_array(logits, name="logits"))
    if scores.ndim != 4:
        raise ValueError(f"logits: expected (B, H, W, C), found the shape {scores.shape}.")
    numbers = find_regions(scores, regions=regions, background=background)
    if numbers is None:
        count = len(scores)
        rows = np.where(predicted, np.arange(count)[:, None, None], -1)
    else:
        rows = region_rows(numbers)
        count = len(region_images(numbers))
    inside = rows >= 0
    C = scores.shape[-1]
    counts = np.bincount(rows[inside] * C + scores.argmax(-1)[inside], minlength=count * C)
    return rows, counts.reshape(count, C)


def region_label(logits: ArrayLike, *, regions: ArrayLike = "image", background: Background = 0) -> np.ndarray:
    """Returns the most frequent label of each predicted region, the lowest in a tie: int64 (N,).

    An image without a region gets the first background class, or -1 if there is no background. Regions are as in
    `scene_marginal`.

    Example:
        >>> region_label(np.eye(3)[np.array([[[0, 1, 2, 2]], [[0, 0, 0, 0]]])]).tolist()
        [2, 0]
        >>> region_label(np.eye(3)[np.array([[[1, 0, 2, 2]]])], regions="objects").tolist()
        [1, 2]
    """
    _, counts = count_labels(logits, regions=regions, background=background)
    without_region = next(iter(background_classes(background)), -1)
    return np.where(counts.any(1), counts.argmax(1), without_region)


def warn_of_objects(logits: ArrayLike, *, regions: ArrayLike, background: Background) -> None:
    """Warns if an image with several predicted objects of different classes is one region; silent under jit.

    Warns:
        UserWarning: states the number of such images and the argument to pass.
    """
    is_one_region = isinstance(regions, str) and regions == "image"
    if isinstance(logits, Tracer) or not is_one_region:
        return
    objects = _find_objects(np.asarray(foreground(logits, background=background)))
    label = region_label(logits, regions=objects, background=background)
    image_of_pair, _ = np.unique([region_images(objects), label], axis=1)
    several = np.count_nonzero(np.bincount(image_of_pair) > 1)
    if several:
        found = f"{several} of {len(objects)} images predict objects of several classes, which repair makes one"
        warnings.warn(f"regions: {found}; pass regions='objects' to treat each alone.", stacklevel=3)
