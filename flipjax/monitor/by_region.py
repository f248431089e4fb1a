"""Scores of each region of an image: what a monitor is given where images hold several objects."""

import math
from typing import Any, NamedTuple

import numpy as np

from flipjax import metrics
from flipjax.intervene.regions import find_regions, foreground, region_images, region_label, region_places
from flipjax.metrics.checks import check_logits
from flipjax.metrics.classes import Background, is_foreground


class RegionScores(NamedTuple):
    """Of N regions: the image and the label of most of each, int64 (N,), and their scores, float64 (N,).

    `flip_risk` in nats; `flip_risk_share` of log F, the largest that flip-risk can be with F foreground classes;
    `max_softmax` is 1 less the largest probability. High where an error is expected.
    """

    image: np.ndarray
    label: np.ndarray
    flip_risk: np.ndarray
    flip_risk_share: np.ndarray
    max_softmax: np.ndarray


def region_scores(logits: Any, *, regions: Any = "objects", background: Background = 0) -> RegionScores:
    """Returns flip-risk and maximum softmax of each predicted region, means over its pixels, from logits alone.

    Args:
        logits: (B, H, W, C) floating point.
        regions: 'objects', the connected components of predicted foreground; 'image', all of it; or numbers (B, H, W)
            of instances (`flipjax.intervene.find_regions`).
        background: the class that is background, several in a tuple, or None.

    Returns:
        `RegionScores`, image by image; an image without predicted foreground has no row.

    Raises:
        TypeError, ValueError: logits or regions that do not fit.

    Example:
        >>> scores = region_scores(np.array([[[[0.0, 2.0, 2.0], [9.0, 0.0, 0.0], [0.0, 1.0, 9.0]]]]))
        >>> scores.label.tolist(), scores.flip_risk_share.round(3).tolist(), scores.max_softmax.round(3).tolist()
        ([1, 2], [1.0, 0.004], [0.532, 0.0])
    """
    logits = np.asarray(check_logits(logits, background=background, spatial_ndim=2))
    numbers = find_regions(logits, regions=regions, background=background)
    if numbers is None:
        numbers = np.asarray(foreground(logits, background=background), np.int32)
    label = np.asarray(region_label(logits, regions=numbers, background=background), np.int64)
    place = region_places(numbers)
    inside = place >= 0
    place = place[inside]
    count = np.bincount(place)
    risk = np.bincount(place, np.asarray(metrics.risk_map(logits, background=background))[inside]) / count
    likely = logits[inside].astype(np.float64)
    softmax = 1 / np.exp(likely - likely.max(1, keepdims=True)).sum(1)
    share = risk / math.log(is_foreground(logits.shape[-1], background).sum())
    return RegionScores(region_images(numbers), label, risk, share, np.bincount(place, 1 - softmax) / count)
