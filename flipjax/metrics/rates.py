"""Rates over images with an interval that is honest at 0 and 1, and their differences. NumPy and SciPy only.

A rate is a sum over images divided by a sum over images, such as flipped pixels by foreground pixels. Its interval says
how far the rate of all images like these may lie from it, also where no image flips, or a few flip as a whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import betaincinv

from flipjax.metrics.decomposition import divide

TAIL = 0.025
"""Probability that the truth lies beyond one end of an interval.

Example:
    >>> f"{1 - 2 * TAIL:.0%}"
    '95%'
"""


class Estimate(NamedTuple):
    """Numbers with their 95% intervals, each float64 (k,); NaN where a denominator is empty.

    Example:
        >>> rate = pooled_rate(np.array([[2], [6]]), np.array([[10], [10]]))  # Of two images' pixels 8 of 20 flip.
        >>> rate.value.tolist(), bool(rate.low[0] < 0.4 < rate.high[0])
        ([0.4], True)
    """

    value: np.ndarray
    """The numbers."""
    low: np.ndarray
    """Lower ends."""
    high: np.ndarray
    """Upper ends."""


def pool_clusters(counts: ArrayLike, clusters: ArrayLike | None) -> np.ndarray:
    """Sums counts (n, k) over the images of each cluster.

    Args:
        counts: (n, k) numbers of n images.
        clusters: int (n,), or None where each image is one.

    Returns:
        float64 (clusters, k), in order of their numbers.

    Example:
        >>> pool_clusters([[1], [2], [5]], [7, 3, 7]).tolist()
        [[2.0], [6.0]]
    """
    of_images = np.asarray(counts, np.float64)
    if clusters is None:
        return of_images
    present, row = np.unique(np.asarray(clusters), return_inverse=True)
    sums = np.zeros((len(present), of_images.shape[1]))
    np.add.at(sums, row, of_images)
    return sums


def pooled_rate(part: ArrayLike, whole: ArrayLike, *, clusters: ArrayLike | None = None) -> Estimate:
    """Returns sums of `part` over sums of `whole` with their 95% intervals over images.

    The upper end is that of a Bayesian bootstrap of the images and one more whose rate is 1, the lower end that with
    one whose rate is 0: Gaffke's bound for the mean of numbers between 0 and 1. A Beta distribution of the same mean
    and variance stands for the draws, which is exact where each image flips as a whole or not at all and all are of one
    size: then the interval is that of Clopper and Pearson. The further image is as large as an image to which a pixel
    belongs on average, so that its weight is one over Kish's effective number of images.

    `sweeps/studies/coverage` measures the coverage: .95 or more for whole objects and for pixels, with and without
    clusters.

    Args:
        part: (n, k) numbers, each at most those of `whole`.
        whole: (n, k) numbers, 0 or more.
        clusters: int (n,), images that are alike, such as those of one patient or film, which count as one; None: each
            image alone.

    Returns:
        `Estimate` of shape (k,). Without images of a rate all three are NaN.

    Source: Gaffke, Three test statistics for a nonparametric one-sided hypothesis on the mean of a nonnegative
    variable, 2005; Learned-Miller and Thomas, arXiv 1905.06208; Kish, Survey Sampling, 1965.

    Example:
        >>> value, low, high = pooled_rate(np.zeros((3, 1)), np.full((3, 1), 40))
        >>> value.tolist(), low.tolist(), high.round(3).tolist()  # 1 - .025 ** (1 / 3)
        ([0.0], [0.0], [0.708])
    """
    parts = pool_clusters(part, clusters)
    wholes = pool_clusters(whole, clusters)
    value = divide(parts.sum(0), wholes.sum(0))
    return Estimate(value, _bound(parts, wholes, further=0.0), _bound(parts, wholes, further=1.0))


def _bound(part: np.ndarray, whole: np.ndarray, *, further: float) -> np.ndarray:
    """Returns the end of the intervals towards `further`, the rate of the further image, 0 or 1: float64 (k,)."""
    images = (whole > 0).sum(0)
    total = whole.sum(0)
    size = divide((whole**2).sum(0), total)
    rate = divide(part.sum(0) + further * size, total + size)
    squares = ((part - rate * whole) ** 2).sum(0) + (size * (further - rate)) ** 2
    # Dirichlet weights of n + 1 images have variance n / ((n + 1)^2 (n + 2)) and covariance -1 / ((n + 1)^2 (n + 2)).
    variance = divide(squares, (total + size) ** 2) * (images + 1) / (images + 2)
    inside = (rate > 0) & (rate < 1)
    strength = divide(rate * (1 - rate), variance) - 1
    a = np.where(inside, rate * strength, 1.0)
    b = np.where(inside, (1 - rate) * strength, 1.0)
    probability = TAIL
    if further:
        probability = 1 - TAIL
    end = betaincinv(a, b, probability)
    return np.where(inside, end, rate)


def difference_of(first: Estimate, second: Estimate) -> Estimate:
    """Returns first minus second, rates of other images, with the interval that follows from theirs.

    Source: Newcombe, Interval estimation for the difference between independent proportions, 1998, method 10; Zou and
    Donner, Construction of confidence limits about effect measures, 2008.

    Example:
        >>> none, half = (pooled_rate(np.array([[0], [n]]), np.full((2, 1), 4)) for n in (0, 4))
        >>> [end.round(2).tolist() for end in difference_of(half, none)]
        [[0.5], [-0.47], [0.99]]
    """
    value = first.value - second.value
    below = np.hypot(first.value - first.low, second.high - second.value)
    above = np.hypot(first.high - first.value, second.value - second.low)
    return Estimate(value, np.maximum(value - below, -1.0), np.minimum(value + above, 1.0))


def mean_of(estimates: Sequence[Estimate]) -> Estimate:
    """Returns the mean of estimates of other images, those that are not NaN, with the interval that follows.

    Example:
        >>> two = [Estimate(*np.array([[0.2], [0.1], [0.4]])), Estimate(*np.array([[0.4], [0.3], [0.6]]))]
        >>> [end.round(3).tolist() for end in mean_of(two)]
        [[0.3], [0.229], [0.441]]
    """
    value, low, high = (np.stack(ends) for ends in zip(*estimates, strict=True))
    number = (~np.isnan(value)).sum(0)
    mean = divide(np.nansum(value, axis=0), number)
    below = divide(np.sqrt(np.nansum((value - low) ** 2, axis=0)), number)
    above = divide(np.sqrt(np.nansum((high - value) ** 2, axis=0)), number)
    return Estimate(mean, mean - below, mean + above)
