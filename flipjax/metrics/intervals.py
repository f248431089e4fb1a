"""Numbers with 95% intervals over images, by closed forms: rates, their means and their differences. NumPy and SciPy.

A rate is a sum over images divided by a sum over images, such as flipped pixels by foreground pixels. Images that are
alike, such as those of one patient, count as one. What a pixel weighs is part of both sums.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import betaincinv, ndtri, stdtrit

from flipjax.metrics.decomposition import Ratio, divide

TAIL = 0.025
"""Probability that the truth lies beyond one end of an interval.

Example:
    >>> f"{1 - 2 * TAIL:.0%}"
    '95%'
"""
_MOST = 1e9
"""Largest effective number of images, where shares vary no more than rounding does: Beta quantiles stay exact."""


class Estimate(NamedTuple):
    """A number, or an array of them, with its 95% interval; NaN where it is undefined.

    Example:
        >>> Estimate(0.4, 0.1, 0.75).text(".0%"), Estimate(0.4, math.nan, math.nan).text(".2f")
        ('40% [10%, 75%]', '0.40')
    """

    value: float
    """The number, or numbers (k,)."""
    low: float
    """The lower end of its interval."""
    high: float
    """The upper end."""

    def at(self, place: int) -> Estimate:
        """Returns that of one number of an array."""
        return Estimate(*(float(np.ravel(end)[place]) for end in self))

    def text(self, form: str = ".3f") -> str:
        """Returns the number with its interval, without one if there is none, or a dash if it is undefined."""
        if math.isnan(self.value):
            return "-"
        if math.isnan(self.low):
            return format(self.value, form)
        return f"{self.value:{form}} [{self.low:{form}}, {self.high:{form}}]"


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


def estimate_rate(ratio: Ratio, *, clusters: ArrayLike | None = None) -> Estimate:
    """Returns the rate of all images, sums of parts over sums of wholes, with its interval.

    The interval is Clopper and Pearson's of as many independent images as would have the rate's variance, which is
    linearised over images; fewer by Student's t, and no fewer than whole objects have. Where nothing or everything
    flips it is that of all images: of none in n the upper end is about 3.7 / n. Where each image has about the same
    share it is narrow; where no organ has flipped yet, and borders do, nothing tells that one may.

    Args:
        ratio: (n,), or (n, k) of k rates; parts at most the wholes.
        clusters: int (n,), images that count as one; None: each alone.

    Returns:
        `Estimate` of floats, or of arrays (k,). Without images of a rate all three are NaN.

    Source: Korn and Graubard, Confidence intervals for proportions with small expected number of positive counts
    estimated from survey data, Survey Methodology 24, 1998, 193-201.

    Example:
        >>> none = estimate_rate(Ratio(np.zeros(3), np.full(3, 40)))  # 1 - .025 ** (1 / 3)
        >>> none.text()
        '0.000 [0.000, 0.708]'
    """
    sums = _in_columns(ratio, clusters)
    value, influence = _linearise(sums)
    units = (sums.whole > 0).sum(0)
    # Kish's number, of images of one size. Shares vary most if each image flips as a whole or not at all.
    least = np.nan_to_num(divide(sums.whole.sum(0) ** 2, (sums.whole**2).sum(0)), nan=1.0)
    return _as_given(_interval(value, influence, units, least), ratio)


def estimate_mean(ratio: Ratio, *, clusters: ArrayLike | None = None) -> Estimate:
    """Returns the mean over k rates (n, k), such as mean IoU, with its interval; a rate that no image has is left out.

    The interval follows from those of the k rates and their correlations, so that a class of few images, of which
    little is known, makes the mean as unsure as it is. Rates whose correlation is not known count as moving together.

    Source: Zou and Donner, Construction of confidence limits about effect measures, 2008; Zou, Toward using confidence
    intervals to compare correlations, Psychological Methods 12, 2007, 399-413, of dependent numbers.

    Example:
        >>> perfect = np.array([[4, 1], [4, 1], [4, 1]])
        >>> estimate_mean(Ratio(perfect, perfect)).text(".2f")
        '1.00 [0.29, 1.00]'
    """
    rates = estimate_rate(ratio, clusters=clusters)
    _, influence = _linearise(_in_columns(ratio, clusters))
    return _mean(_mean_of(rates.value), rates, influence, range_of=(0.0, 1.0))


def paired_difference(old: Ratio, new: Ratio, *, clusters: ArrayLike | None = None) -> Estimate:
    """Returns the rates of a new model minus those of an old one over the same images, with their intervals.

    The interval is Student's t of the linearised differences of the images and of two more, one each way, that differ
    as much as the most different image does. Equal predictions have [0, 0].

    Args:
        old: (n,), or (n, k) of k rates.
        new: the same of the new model.
        clusters: as in `estimate_rate`.

    Returns:
        `Estimate` as in `estimate_rate`; NaN where either model lacks a rate.

    Source: Bonett and Price, Adjusted Wald confidence interval for a difference of binomial proportions based on paired
    data, J. Educ. Behav. Stat. 37, 2012, 479-488, of proportions.

    Example:
        >>> flips = Ratio(np.array([0, 0, 5]), np.full(3, 10))
        >>> paired_difference(flips, flips).text(".1f")
        '0.0 [0.0, 0.0]'
    """
    return _as_given(_paired(old, new, clusters)[0], new)


def paired_mean_difference(old: Ratio, new: Ratio, *, clusters: ArrayLike | None = None) -> Estimate:
    """Returns the difference of the means over k rates (n, k), such as mean IoU, with its interval.

    A rate that a model lacks is left out of its mean.

    Example:
        >>> old = Ratio(np.array([[0, 1], [0, 1]]), np.full((2, 2), 4))
        >>> new = Ratio(np.array([[2, 1], [2, 1]]), np.full((2, 2), 4))
        >>> paired_mean_difference(old, new).value
        0.25
    """
    changes, influence = _paired(old, new, clusters)
    value = _mean_of(_in_columns(new, clusters).total().value) - _mean_of(_in_columns(old, clusters).total().value)
    return _mean(value, changes, influence, range_of=(-1.0, 1.0))


def difference_of(first: Estimate, second: Estimate) -> Estimate:
    """Returns first minus second, rates of other images, with the interval that follows from theirs.

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


def mean_of(estimates: Sequence[Estimate]) -> Estimate:
    """Returns the mean of estimates of other images, those that are not NaN, with the interval that follows.

    Example:
        >>> mean_of([Estimate(0.2, 0.1, 0.4), Estimate(0.4, 0.3, 0.6)]).text()
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


def _in_columns(ratio: Ratio, clusters: ArrayLike | None) -> Ratio:
    """Returns what rates divide of each cluster, float64 (units, k)."""
    part = np.asarray(ratio.part, np.float64)
    whole = np.asarray(ratio.whole, np.float64)
    if whole.ndim == 1:
        part = part[:, None]
        whole = whole[:, None]
    return Ratio(pool_clusters(part, clusters), pool_clusters(whole, clusters))


def _as_given(estimate: Estimate, ratio: Ratio) -> Estimate:
    """Returns floats for a rate that was given as (n,)."""
    if np.ndim(ratio.whole) == 1:
        return estimate.at(0)
    return estimate


def _linearise(sums: Ratio) -> tuple[np.ndarray, np.ndarray]:
    """Returns rates (k,), and what each unit moves them by, (units, k), which sums to 0."""
    total = sums.whole.sum(0)
    value = sums.total().value
    residual = sums.part - np.nan_to_num(value) * sums.whole
    return value, residual / np.where(total > 0, total, 1.0)


def _paired(old: Ratio, new: Ratio, clusters: ArrayLike | None) -> tuple[Estimate, np.ndarray]:
    """Returns the differences (k,) of rates, and what each unit and the two more move them by, (units + 2, k)."""
    before = _in_columns(old, clusters)
    after = _in_columns(new, clusters)
    most = np.nan_to_num(np.abs(after.value - before.value)).max(0, initial=0)
    units = ((before.whole > 0) | (after.whole > 0)).sum(0)
    _, influence_before = _linearise(_with_two_more(before, units, np.zeros_like(most), most))
    _, influence_after = _linearise(_with_two_more(after, units, most, np.zeros_like(most)))
    influence = influence_after - influence_before
    return _students_t(after.total().value - before.total().value, influence, units), influence


def _mean_of(values: np.ndarray) -> float:
    """Returns the mean of the numbers that are not NaN; NaN of none."""
    known = ~np.isnan(values)
    return float(divide(values[known].sum(), known.sum()))


def _mean(value: float, numbers: Estimate, influence: np.ndarray, *, range_of: tuple[float, float]) -> Estimate:
    """Returns a mean of k numbers with the interval that follows from theirs and from what units move them by."""
    known = ~np.isnan(numbers.low)
    moved = influence[:, known]
    length = np.sqrt((moved**2).sum(0))
    lengths = np.outer(length, length)
    together = np.where(lengths > 0, moved.T @ moved / np.where(lengths > 0, lengths, 1.0), 1.0)
    np.fill_diagonal(together, 1.0)
    below = (numbers.value - numbers.low)[known]
    above = (numbers.high - numbers.value)[known]
    # Rounding may make the sum of squares of no width negative.
    half_below = divide(math.sqrt(max(below @ together @ below, 0.0)), known.sum())
    half_above = divide(math.sqrt(max(above @ together @ above, 0.0)), known.sum())
    least, largest = range_of
    return Estimate(value, max(value - float(half_below), least), min(value + float(half_above), largest))


def _interval(value: np.ndarray, influence: np.ndarray, units: np.ndarray, least: np.ndarray) -> Estimate:
    """Returns rates (k,) with their intervals, of units (k,) that count as `least` or more."""
    variance = _variance(influence, units)
    quantile = ndtri(1 - TAIL) / stdtrit(np.maximum(units - 1, 1), 1 - TAIL)
    effective = divide(value * (1 - value) * quantile**2, variance)
    # Shares that do not vary at all are those that vary least.
    effective = np.clip(np.nan_to_num(effective, nan=_MOST), least, _MOST)
    # Where all units agree on nothing or everything their variance says nothing, and one unit has none.
    at_end = (value <= 0) | (value >= 1) | (units < 2)
    effective = np.where(at_end, np.maximum(units, 1), effective)
    positive = np.clip(value, 0.0, 1.0) * effective
    negative = effective - positive
    low = betaincinv(np.maximum(positive, np.finfo(float).tiny), negative + 1, TAIL)
    high = betaincinv(positive + 1, np.maximum(negative, np.finfo(float).tiny), 1 - TAIL)
    low = np.where(positive > 0, low, 0.0)
    high = np.where(negative > 0, high, 1.0)
    known = ~np.isnan(value)
    return Estimate(value, np.where(known, low, np.nan), np.where(known, high, np.nan))


def _variance(influence: np.ndarray, units: np.ndarray) -> np.ndarray:
    """Returns the variance (k,) of what units (rows) move: rows of units that lack a rate are 0."""
    return (influence**2).sum(0) * divide(units, units - 1)


def _with_two_more(sums: Ratio, units: np.ndarray, first: np.ndarray, second: np.ndarray) -> Ratio:
    """Returns the sums of units and of two more of mean size, whose rates are `first` and `second`, (k,)."""
    size = np.nan_to_num(divide(sums.whole.sum(0), units))
    part = np.vstack([sums.part, first * size, second * size])
    return Ratio(part, np.vstack([sums.whole, size, size]))


def _students_t(value: np.ndarray, influence: np.ndarray, units: np.ndarray) -> Estimate:
    """Returns differences (k,) with the intervals of units (k,) and two more, which draw their middle towards 0."""
    number = units + 2
    middle = value * units / number
    half = stdtrit(number - 1, 1 - TAIL) * np.sqrt(_variance(influence, number))
    return Estimate(value, np.maximum(middle - half, -1.0), np.minimum(middle + half, 1.0))
