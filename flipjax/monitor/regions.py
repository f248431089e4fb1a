"""Scores of predicted regions, for monitors of several objects an image or volume."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage

from flipjax.intervene.regions import count_labels, find_regions, foreground, region_images
from flipjax.metrics.inputs.checks import check_logits
from flipjax.metrics.inputs.classes import Background, LabelSpec, is_foreground
from flipjax.metrics.kernels import read_pixels


class RegionScores(NamedTuple):
    """N predicted regions and their scores, which are high where an error is expected.

    Example:
        >>> logits = np.array([[[[0.0, 3.0, 1.0], [9.0, 0.0, 0.0], [0.0, 1.0, 9.0]]]])  # Objects of labels 1 and 2.
        >>> scores = region_scores(logits)
        >>> scores.image.tolist(), scores.label.tolist(), scores.flip_risk.round(3).tolist()
        ([0, 0], [1, 2], [0.365, 0.003])
    """

    image: np.ndarray
    """The image of each region, int64 (N,)."""
    label: np.ndarray
    """Its most frequent label, int64 (N,)."""
    flip_risk: np.ndarray
    """Its mean flip-risk in nats, float64 (N,): -sum(p * log p) over the softmax p of the foreground classes alone."""
    flip_risk_share: np.ndarray
    """Its `flip_risk` over log F, the largest with F foreground classes, float64 (N,)."""
    max_softmax: np.ndarray
    """1 minus its mean maximum softmax, the largest probability over all classes, float64 (N,)."""


def region_scores(
    logits: ArrayLike, *, regions: ArrayLike = "objects", background: Background = 0, spatial_ndim: int = 2
) -> RegionScores:
    """Returns flip-risk and maximum softmax of each predicted region, averaged over its pixels.

    Args:
        logits: (B, H, W, C) floating point, of volumes (B, D, H, W, C); two foreground classes or more.
        regions: 'objects', the connected components of predicted foreground; 'image', all of it; or numbers
            (B, H, W) of instances (`flipjax.intervene.find_regions`), of volumes (B, D, H, W).
        background: the class that is background, several in a tuple, or None.
        spatial_ndim: 2 for images, 3 for volumes.

    Returns:
        `RegionScores`, image by image; an image without predicted foreground has no row.

    Raises:
        TypeError, ValueError: logits or regions that do not fit, or another `spatial_ndim`.

    Example:
        >>> scores = region_scores(np.array([[[[0.0, 2.0, 2.0], [9.0, 0.0, 0.0], [0.0, 1.0, 9.0]]]]))
        >>> scores.label.tolist(), scores.flip_risk_share.round(3).tolist(), scores.max_softmax.round(3).tolist()
        ([1, 2], [1.0, 0.004], [0.532, 0.0])
    """
    LabelSpec(background, spatial_ndim=spatial_ndim)  # Raises for other numbers of axes.
    scores = np.asarray(check_logits(logits, background=background))
    if spatial_ndim == 3:
        scores, regions = _flatten_volumes(scores, regions, background)
    numbers = _number_regions(scores, regions, background)
    rows, label_counts = count_labels(scores, regions=numbers, background=background)
    maps = read_pixels(scores, LabelSpec(background))
    inside = rows >= 0
    pixels = label_counts.sum(1)
    risk = np.bincount(rows[inside], maps.risk[inside]) / pixels
    softmax = np.bincount(rows[inside], maps.probability[inside]) / pixels
    # `check_logits` refuses fewer than two foreground classes, so the logarithm is not 0.
    largest_risk = math.log(is_foreground(scores.shape[-1], background).sum())
    return RegionScores(
        image=region_images(numbers),  # In the order of `rows`.
        label=label_counts.argmax(1),
        flip_risk=risk,
        flip_risk_share=risk / largest_risk,
        max_softmax=1 - softmax,
    )


def _number_regions(logits: np.ndarray, regions: ArrayLike, background: Background) -> np.ndarray:
    """Returns the number of each pixel's region within its image: int (B, H, W), 0 for none."""
    numbers = find_regions(logits, regions=regions, background=background)
    if numbers is None:
        # Of 'image', which has no numbers: all foreground is region 1.
        return np.asarray(foreground(logits, background=background), np.int32)
    return numbers


def _flatten_volumes(logits: np.ndarray, regions: ArrayLike, background: Background) -> tuple[np.ndarray, ArrayLike]:
    """Returns volumes (B, D, H, W, C) as images (B, D * H, W, C), and the numbers of their regions likewise.

    Objects are 26-connected components, found before the volumes are flattened.
    """
    if logits.ndim != 5:
        raise ValueError(f"logits: expected (B, D, H, W, C), found the shape {logits.shape}.")
    B, D, H, W, C = logits.shape
    flat = logits.reshape(B, D * H, W, C)
    if isinstance(regions, str):
        if regions != "objects":
            return flat, regions
        regions = _label_volumes(np.asarray(foreground(logits, background=background)))
    numbers = np.asarray(regions)
    if numbers.shape != (B, D, H, W):
        raise ValueError(f"regions: expected 'image', 'objects' or integers {(B, D, H, W)}, found {numbers.shape}.")
    return flat, numbers.reshape(B, D * H, W)


def _label_volumes(inside: np.ndarray) -> np.ndarray:
    """Returns the number of each voxel's 26-connected component in its volume, 0 outside: int32 (B, D, H, W)."""
    numbers = np.zeros(inside.shape, np.int32)
    for volume, components in zip(inside, numbers, strict=True):
        # `components` is a view, through which the numbers are written.
        ndimage.label(volume, np.ones((3, 3, 3)), output=components)
    return numbers
