"""Rates with 95% intervals over images, and their means, by closed forms. NumPy and SciPy.

A rate is a sum over images divided by a sum over images, such as flipped pixels by foreground pixels. Images that are
alike, such as the slices of one patient, count as one unit. Pixels of different size weigh in both sums.
Differences of two models over the same images are in `flipjax.metrics.statistics.paired`.

Example:
    >>> flips = Ratio(np.array([0, 2, 30]), np.array([40, 40, 40]))  # Flipped of 40 foreground pixels in three images.
    >>> estimate_rate(flips).text(".2f")
    '0.27 [0.00, 0.88]'
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from flipjax.metrics.decomposition import Ratio, divide
from flipjax.metrics.statistics.units import (
    as_column,
    influence_of_units,
    mean_of_known,
    sum_clusters,
    variance_of_rates,
)

LEVEL = 0.95
"""Share of the intervals that hold the truth.

Example:
    >>> f"{LEVEL:.0%}"
    '95%'
"""
TAIL = (1 - LEVEL) / 2
"""Probability beyond either end.

Example:
    >>> round(TAIL, 3)
    0.025
"""
_LARGEST_SIZE = 1e9
"""Largest effective number of images. Up to it Beta quantiles are exact; shares then vary as little as rounding."""


class Estimate(NamedTuple):
    """A number with its 95% interval; NaN where it is undefined.

    Example:
        >>> Estimate(0.4, 0.1, 0.75).text(".0%"), Estimate(0.4, math.nan, math.nan).text(".2f")
        ('40% [10%, 75%]', '0.40')
    """

    value: float
    """The number."""
    low: float
    """The lower end of its interval."""
    high: float
    """The upper end."""

    def text(self, form: str = ".3f") -> str:
        """Returns the number with its interval, without one if there is none, or a dash if it is undefined."""
        if math.isnan(self.value):
            return "-"
        if math.isnan(self.low):
            return format(self.value, form)
        return f"{self.value:{form}} [{self.low:{form}}, {self.high:{form}}]"


class Estimates(NamedTuple):
    """Several numbers with their intervals, arrays (k,).

    Example:
        >>> Estimates(np.array([0.4, 0.2]), np.array([0.1, 0.0]), np.array([0.75, 0.5])).at(1).text(".1f")
        '0.2 [0.0, 0.5]'
    """

    value: np.ndarray
    """The numbers."""
    low: np.ndarray
    """The lower ends of their intervals."""
    high: np.ndarray
    """The upper ends."""

    def at(self, place: int) -> Estimate:
        """Returns one of them."""
        return Estimate(float(self.value[place]), float(self.low[place]), float(self.high[place]))


def estimate_rate(ratio: Ratio, *, clusters: ArrayLike | None = None) -> Estimate:
    """Returns the rate of all images, sums of parts over sums of wholes, with its interval.

    The interval is computed in four steps:

    1. The variance of the rate follows from how far each image is from it (Taylor linearisation).
    2. The effective number is the number of independent images whose rate would vary as much. It is reduced by the
       squared ratio of the normal quantile to Student's t, because the variance is itself estimated.
    3. It is at least Kish's number: the squared sum of the wholes divided by the sum of their squares, which is n for
       images of equal size. Where nothing or everything flips the variance says nothing, and it is Kish's number.
    4. The ends are Clopper and Pearson's for a proportion in this number of independent images.

    If nothing flips in n images of equal size, the upper end is about 3.7 / n. If all images have about the same share,
    the interval is narrow. It cannot foresee an error of another kind: where borders flip in all images and no organ
    has flipped as a whole yet, it does not show that one may.

    Args:
        ratio: (n,); each part is at most its whole.
        clusters: int (n,), the cluster of each image, which counts as one unit; None: each image is a unit.

    Returns:
        All three numbers are NaN if no image has the rate.

    Source: Korn and Graubard, Confidence intervals for proportions with small expected number of positive counts
    estimated from survey data, Survey Methodology 24, 1998, 193-201; recommended by Parker et al., National Center for
    Health Statistics data presentation standards for proportions, 2017; the least number is Kish's, Survey Sampling,
    1965. `sweeps/studies/coverage` measures the coverage.

    Example:
        >>> none = estimate_rate(Ratio(np.zeros(3), np.full(3, 40)))  # 1 - 0.025 ** (1 / 3)
        >>> none.text()
        '0.000 [0.000, 0.708]'
    """
    return estimate_rates(as_column(ratio), clusters=clusters).at(0)


def estimate_rates(ratio: Ratio, *, clusters: ArrayLike | None = None) -> Estimates:
    """Returns `estimate_rate` of k rates (n, k) at once.

    Example:
        >>> estimate_rates(Ratio(np.array([[0, 1], [0, 3]]), np.full((2, 2), 4))).value.tolist()
        [0.0, 0.5]
    """
    sums = sum_clusters(ratio, clusters)
    return _beta_interval(sums.total().value, _effective_units(sums))


def estimate_mean(ratio: Ratio, *, clusters: ArrayLike | None = None) -> Estimate:
    """Returns the mean over k rates (n, k), such as mean IoU, with its interval; a rate that no image has is left out.

    The interval combines the intervals of the k rates by their correlations, so that a class with few images makes the
    mean as unsure as this class is. Rates whose correlation is unknown count as moving together.

    Source: Zou and Donner, Construction of confidence limits about effect measures, 2008; Zou, Toward using confidence
    intervals to compare correlations, Psychological Methods 12, 2007, 399-413, of dependent numbers.

    Example:
        >>> perfect = np.array([[4, 1], [4, 1], [4, 1]])
        >>> estimate_mean(Ratio(perfect, perfect)).text(".2f")
        '1.00 [0.29, 1.00]'
    """
    rates = estimate_rates(ratio, clusters=clusters)
    value = mean_of_known(rates.value)
    known = ~np.isnan(rates.low)
    influence = influence_of_units(sum_clusters(ratio, clusters))
    correlations = _correlations(influence[:, known])
    below = (rates.value - rates.low)[known]
    above = (rates.high - rates.value)[known]
    # Rounding may make the sum of squares of no width negative.
    half_below = divide(math.sqrt(max(below @ correlations @ below, 0.0)), known.sum())
    half_above = divide(math.sqrt(max(above @ correlations @ above, 0.0)), known.sum())
    return Estimate(value, max(value - float(half_below), 0.0), min(value + float(half_above), 1.0))


def difference_of(first: Estimate, second: Estimate) -> Estimate:
    """Returns first minus second, rates of different images, with an interval from their intervals.

    Source: Newcombe, Interval estimation for the difference between independent proportions, 1998, method 10; Zou and
    Donner, Construction of confidence limits about effect measures, 2008.

    Example:
        >>> none, half = (estimate_rate(Ratio(np.array([0, flipped]), np.array([4, 4]))) for flipped in (0, 4))
        >>> difference_of(half, none).value
        0.5
    """
    value = first.value - second.value
    below = math.hypot(first.value - first.low, second.high - second.value)
    above = math.hypot(first.high - first.value, second.value - second.low)
    return Estimate(value, max(value - below, -1.0), min(value + above, 1.0))


def mean_of_estimates(estimates: Sequence[Estimate]) -> Estimate:
    """Returns the mean of the estimates of different images that are not NaN, with an interval from their intervals.

    Example:
        >>> mean_of_estimates([Estimate(0.2, 0.1, 0.4), Estimate(0.4, 0.3, 0.6)]).text()
        '0.300 [0.229, 0.441]'
    """
    known = [estimate for estimate in estimates if not math.isnan(estimate.value)]
    if not known:
        return Estimate(math.nan, math.nan, math.nan)
    value, low, high = np.array(known).T
    mean = float(value.mean())
    below = float(np.sqrt(((value - low) ** 2).sum())) / len(known)
    above = float(np.sqrt(((high - value) ** 2).sum())) / len(known)
    return Estimate(mean, mean - below, mean + above)


def _effective_units(sums: Ratio) -> np.ndarray:
    """Returns for each of k rates the number of independent units whose rate would vary as much, from (units, k)."""
    from scipy.special import ndtri, stdtrit  # Imported here because it is slow.

    rate = sums.total().value
    units = (sums.whole > 0).sum(0)
    variance = variance_of_rates(influence_of_units(sums), units)
    reduction = ndtri(1 - TAIL) / stdtrit(np.maximum(units - 1, 1), 1 - TAIL)
    effective = divide(rate * (1 - rate) * reduction**2, variance)
    # `divide` gives NaN where the variance is 0: the number is then unlimited.
    effective = np.nan_to_num(effective, nan=_LARGEST_SIZE)
    # Kish's number holds if each image flips as a whole or not at all, where rates vary most.
    least = np.nan_to_num(divide(sums.whole.sum(0) ** 2, (sums.whole**2).sum(0)), nan=1.0)
    effective = np.clip(effective, least, _LARGEST_SIZE)
    # Where nothing or everything flips the variance is 0 and says nothing, and one unit has no variance.
    says_nothing = (rate <= 0) | (rate >= 1) | (units < 2)
    return np.where(says_nothing, least, effective)


def _beta_interval(rate: np.ndarray, effective: np.ndarray) -> Estimates:
    """Returns rates (k,) with Clopper and Pearson's intervals for `effective` (k,) independent units."""
    from scipy.special import betaincinv  # Imported here because it is slow.

    positive = np.clip(rate, 0.0, 1.0) * effective
    negative = effective - positive
    low = betaincinv(np.maximum(positive, np.finfo(float).tiny), negative + 1, TAIL)
    high = betaincinv(positive + 1, np.maximum(negative, np.finfo(float).tiny), 1 - TAIL)
    low = np.where(positive > 0, low, 0.0)
    high = np.where(negative > 0, high, 1.0)
    known = ~np.isnan(rate)
    return Estimates(rate, np.where(known, low, np.nan), np.where(known, high, np.nan))


def _correlations(influence: np.ndarray) -> np.ndarray:
    """Returns the correlations (k, k) of influences (units, k); 1 where one does not vary, and is unknown."""
    length = np.sqrt((influence**2).sum(0))
    lengths = np.outer(length, length)
    safe = np.where(lengths > 0, lengths, 1.0)
    correlations = np.where(lengths > 0, influence.T @ influence / safe, 1.0)
    np.fill_diagonal(correlations, 1.0)
    return correlations
