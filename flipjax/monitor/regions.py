"""Scores of predicted regions, for monitors of several objects an image or volume."""

import math
from typing import Any, NamedTuple

import numpy as np
from scipy import ndimage

from flipjax.intervene.regions import count_labels, find_regions, foreground, region_images
from flipjax.metrics.checks import check_logits
from flipjax.metrics.classes import Background, LabelSpec, is_foreground
from flipjax.metrics.kernels import read_pixels


class RegionScores(NamedTuple):
    """Image and most frequent label of N regions, int64 (N,), and their scores, float64 (N,).

    `flip_risk` is in nats; `flip_risk_share` is its fraction of log F, the maximum with F foreground classes;
    `max_softmax` is 1 minus the largest probability. All are high where an error is expected.
    """

    image: np.ndarray
    label: np.ndarray
    flip_risk: np.ndarray
    flip_risk_share: np.ndarray
    max_softmax: np.ndarray


def region_scores(
    logits: Any, *, regions: Any = "objects", background: Background = 0, spatial_ndim: int = 2
) -> RegionScores:
    """Returns flip-risk and maximum softmax of each predicted region, averaged over its pixels.

    Args:
        logits: (B, H, W, C) floating point, of volumes (B, D, H, W, C).
        regions: 'objects', the connected components of predicted foreground; 'image', all of it; or numbers
            (B, H, W) of instances (`flipjax.intervene.find_regions`).
        background: the class that is background, several in a tuple, or None.
        spatial_ndim: 2 for images, 3 for volumes.

    Returns:
        `RegionScores`, image by image; an image without predicted foreground has no row.

    Raises:
        TypeError, ValueError: logits or regions that do not fit.

    Example:
        >>> scores = region_scores(np.array([[[[0.0, 2.0, 2.0], [9.0, 0.0, 0.0], [0.0, 1.0, 9.0]]]]))
        >>> scores.label.tolist(), scores.flip_risk_share.round(3).tolist(), scores.max_softmax.round(3).tolist()
        ([1, 2], [1.0, 0.004], [0.532, 0.0])
    """
    logits = np.asarray(check_logits(logits, background=background))
    if spatial_ndim == 3:
        logits, regions = _flatten_volumes(logits, regions, background)
    numbers = find_regions(logits, regions=regions, background=background)
    if numbers is None:
        numbers = np.asarray(foreground(logits, background=background), np.int32)
    rows, labels = count_labels(logits, regions=numbers, background=background)
    inside, count = rows >= 0, labels.sum(1)
    maps = read_pixels(logits, LabelSpec(background))
    risk, softmax = (np.bincount(rows[inside], each[inside]) / count for each in (maps.risk, maps.probability))
    share = risk / math.log(is_foreground(logits.shape[-1], background).sum())
    return RegionScores(region_images(numbers), labels.argmax(1), risk, share, 1 - softmax)


def _flatten_volumes(logits: np.ndarray, regions: Any, background: Background) -> tuple[np.ndarray, Any]:
    """Returns volumes (B, D, H, W, C) as images (B, D * H, W, C), and the numbers of their regions likewise.

    Objects are 26-connected components, found before the volumes are flattened.
    """
    if logits.ndim != 5:
        raise ValueError(f"logits: expected (B, D, H, W, C), found the shape {logits.shape}.")
    B, D, H, W, C = logits.shape
    if isinstance(regions, str) and regions == "objects":
        inside = np.asarray(foreground(logits, background=background))
        numbers = np.zeros(inside.shape, np.int32)
        for volume, into in zip(inside, numbers, strict=True):
            ndimage.label(volume, np.ones((3, 3, 3)), output=into)
        regions = numbers
    if not isinstance(regions, str):
        regions = np.asarray(regions)
        if regions.shape != (B, D, H, W):
            raise ValueError(f"regions: expected 'image', 'objects' or integers {(B, D, H, W)}, found {regions.shape}.")
        regions = regions.reshape(B, D * H, W)
    return logits.reshape(B, D * H, W, C), regions
