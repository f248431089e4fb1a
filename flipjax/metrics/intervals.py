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

from flipjax.metrics.decomposition import Ratio, divide, mean_over_classes

LEVEL = 0.95
"""Share of the intervals that hold the truth.

Example:
    >>> f"{LEVEL:.0%}"
    '95%'
"""
_LARGEST_SIZE = 1e9
"""Largest effective number of images, where shares vary no more than rounding does: Beta quantiles stay exact."""


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


def estimate_rate(ratio: Ratio, *, clusters: ArrayLike | None = None, level: float = LEVEL) -> Estimate:
    """Returns the rate of all images, sums of parts over sums of wholes, with its interval.

    The interval is Clopper and Pearson's of as many independent images as would have the rate's variance, which is
    linearised over images; fewer by Student's t, and no fewer than Kish's number, which whole objects have. Where
    nothing or everything flips it is that of Kish's number: of none in n images of equal size the upper end is about
    3.7 / n. Where each image has about the same share it is narrow; where no organ has flipped yet, and borders do,
    nothing tells that one may.

    Args:
        ratio: (n,); parts at most the wholes.
        clusters: int (n,), images that count as one; None: each alone.
        level: share of the intervals that hold the truth, between 0 and 1.

    Returns:
        All three are NaN without images that have the rate.

    Source: Korn and Graubard, Confidence intervals for proportions with small expected number of positive counts
    estimated from survey data, Survey Methodology 24, 1998, 193-201; recommended by Parker et al., National Center for
    Health Statistics data presentation standards for proportions, 2017; the least number is Kish's, Survey Sampling,
    1965. `sweeps/studies/coverage` measures the coverage.

    Example:
        >>> none = estimate_rate(Ratio(np.zeros(3), np.full(3, 40)))  # 1 - .025 ** (1 / 3)
        >>> none.text()
        '0.000 [0.000, 0.708]'
    """
    return estimate_rates(_as_column(ratio), clusters=clusters, level=level).at(0)


def estimate_rates(ratio: Ratio, *, clusters: ArrayLike | None = None, level: float = LEVEL) -> Estimates:
    """Returns `estimate_rate` of k rates (n, k) at once.

    Example:
        >>> estimate_rates(Ratio(np.array([[0, 1], [0, 3]]), np.full((2, 2), 4))).value.tolist()
        [0.0, 0.5]
    """
    sums = _of_clusters(ratio, clusters)
    value, influence = _linearise(sums)
    units = (sums.whole > 0).sum(0)
    # Kish's number, of images of one size. Shares vary most if each image flips as a whole or not at all.
    least = np.nan_to_num(divide(sums.whole.sum(0) ** 2, (sums.whole**2).sum(0)), nan=1.0)
    return _interval(value, influence, units, least, tail=(1 - level) / 2)


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
    rates = estimate_rates(ratio, clusters=clusters)
    _, influence = _linearise(_of_clusters(ratio, clusters))
    return _mean(_mean_of(rates.value), rates, influence)


def paired_difference(old: Ratio, new: Ratio, *, clusters: ArrayLike | None = None, level: float = LEVEL) -> Estimate:
    """Returns the rates of a new model minus those of an old one over the same images, with their intervals.

    The interval is Student's t of the linearised differences of the images and of two more, one each way, that differ
    as much as the most different image does. Equal predictions have [0, 0].

    Args:
        old: (n,).
        new: the same of the new model.
        clusters: as in `estimate_rate`.
        level: as in `estimate_rate`.

    Returns:
        All three are NaN where either model lacks the rate.

    Source: Bonett and Price, Adjusted Wald confidence interval for a difference of binomial proportions based on paired
    data, J. Educ. Behav. Stat. 37, 2012, 479-488, whose further images differ entirely. That they differ as the most
    different image does is flipjax's; `sweeps/studies/coverage` measures the coverage.

    Example:
        >>> flips = Ratio(np.array([0, 0, 5]), np.full(3, 10))
        >>> paired_difference(flips, flips).text(".1f")
        '0.0 [0.0, 0.0]'
    """
    return paired_differences(_as_column(old), _as_column(new), clusters=clusters, level=level).at(0)


def paired_differences(old: Ratio, new: Ratio, *, clusters: ArrayLike | None = None, level: float = LEVEL) -> Estimates:
    """Returns `paired_difference` of k rates (n, k) at once.

    Example:
        >>> none, half = (Ratio(np.full((2, 1), part), np.full((2, 1), 4)) for part in (0, 2))
        >>> paired_differences(none, half).value.tolist()
        [0.5]
    """
    value, variance, units = _paired_moments(old, new, clusters)
    return _students_t(value, variance, units, tail=(1 - level) / 2)


def paired_p_values(old: Ratio, new: Ratio, *, clusters: ArrayLike | None = None) -> np.ndarray:
    """Returns the probabilities (k,) of such differences of k rates (n, k) by chance, as `paired_differences` sees it.

    One is below 0.05 where the interval of the difference does not hold 0; 1 where no image differs, NaN where either
    model lacks the rate.

    Example:
        >>> whole = np.ones((8, 2))
        >>> new = np.array([[1, 0]] * 8)  # The first flips newly in each of eight images.
        >>> paired_p_values(Ratio(0 * whole, whole), Ratio(new, whole)).round(3).tolist()
        [0.003, 1.0]
    """
    from scipy.special import stdtr  # Imported here because it is slow.

    value, variance, units = _paired_moments(old, new, clusters)
    middle = np.abs(value) * units / (units + 2)
    distance = np.divide(middle, np.sqrt(variance), out=np.zeros_like(middle), where=variance > 0)
    return np.where(np.isnan(value), np.nan, 2 * stdtr(units + 1, -distance))


def _paired_moments(old: Ratio, new: Ratio, clusters: ArrayLike | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the differences of k rates, their variances with two more units, and the numbers of units: (k,) each."""
    before = _of_clusters(old, clusters)
    after = _of_clusters(new, clusters)
    largest = np.nan_to_num(np.abs(after.value - before.value)).max(0, initial=0)
    units = ((before.whole > 0) | (after.whole > 0)).sum(0)
    _, influence_before = _linearise(_with_two_more(before, units, np.zeros_like(largest), largest))
    _, influence_after = _linearise(_with_two_more(after, units, largest, np.zeros_like(largest)))
    value = after.total().value - before.total().value
    return value, _variance(influence_after - influence_before, units + 2), units


def paired_mean_difference(old: Ratio, new: Ratio, *, clusters: ArrayLike | None = None) -> Estimate:
    """Returns the difference of the means over k rates (n, k), such as mean IoU, with its interval.

    A rate that a model lacks is left out of its mean. The interval is that of `paired_difference` for the mean itself:
    one pair of further images, whose means differ as much as those of the most different image do. It covers too
    little for fewer than 20 images, or where few images have some of the k rates.

    Example:
        >>> old = Ratio(np.array([[0, 1], [0, 1]]), np.full((2, 2), 4))
        >>> new = Ratio(np.array([[2, 1], [2, 1]]), np.full((2, 2), 4))
        >>> paired_mean_difference(old, new).value
        0.25
    """
    before = _of_clusters(old, clusters)
    after = _of_clusters(new, clusters)
    value = _mean_of(after.total().value) - _mean_of(before.total().value)
    units = int(((before.whole > 0) | (after.whole > 0)).any(1).sum())
    if math.isnan(value):
        return Estimate(value, math.nan, math.nan)
    moved = (_mean_influence(after) - _mean_influence(before)) * units
    # What each unit says of the difference: its own mean, and that which moves the difference by as much.
    of_own_means = np.nan_to_num(mean_over_classes(after) - mean_over_classes(before))
    largest = max(np.abs(of_own_means).max(), np.abs(moved + value).max())
    middle = value * units / (units + 2)
    squares = (moved**2).sum() + units * (value - middle) ** 2
    squares += (largest - middle) ** 2 + (largest + middle) ** 2
    variance = np.array([squares / (units + 1) / (units + 2)])
    return _students_t(np.array([value]), variance, np.array([units]), tail=(1 - LEVEL) / 2).at(0)


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


def _as_column(ratio: Ratio) -> Ratio:
    """Returns what a rate (n,) divides as that of one rate, (n, 1)."""
    return Ratio(np.asarray(ratio.part)[:, None], np.asarray(ratio.whole)[:, None])


def _of_clusters(ratio: Ratio, clusters: ArrayLike | None) -> Ratio:
    """Returns what rates divide of each cluster, float64 (units, k)."""
    return Ratio(pool_clusters(ratio.part, clusters), pool_clusters(ratio.whole, clusters))


def _linearise(sums: Ratio) -> tuple[np.ndarray, np.ndarray]:
    """Returns rates (k,), and what each unit moves them by, (units, k), which sums to 0."""
    total = sums.whole.sum(0)
    value = sums.total().value
    residual = sums.part - np.nan_to_num(value) * sums.whole
    return value, residual / np.where(total > 0, total, 1.0)


def _mean_influence(sums: Ratio) -> np.ndarray:
    """Returns what each unit moves the mean over rates by, (units,), of those rates that any unit has."""
    _, influence = _linearise(sums)
    return influence[:, sums.whole.sum(0) > 0].mean(1)


def _mean_of(values: np.ndarray) -> float:
    """Returns the mean of the numbers that are not NaN; NaN of none."""
    known = ~np.isnan(values)
    return float(divide(values[known].sum(), known.sum()))


def _mean(value: float, rates: Estimates, influence: np.ndarray) -> Estimate:
    """Returns a mean of k rates with the interval that follows from theirs and from what units move them by."""
    known = ~np.isnan(rates.low)
    moved = influence[:, known]
    length = np.sqrt((moved**2).sum(0))
    lengths = np.outer(length, length)
    together = np.where(lengths > 0, moved.T @ moved / np.where(lengths > 0, lengths, 1.0), 1.0)
    np.fill_diagonal(together, 1.0)
    below = (rates.value - rates.low)[known]
    above = (rates.high - rates.value)[known]
    # Rounding may make the sum of squares of no width negative.
    half_below = divide(math.sqrt(max(below @ together @ below, 0.0)), known.sum())
    half_above = divide(math.sqrt(max(above @ together @ above, 0.0)), known.sum())
    return Estimate(value, max(value - float(half_below), 0.0), min(value + float(half_above), 1.0))


def _interval(
    value: np.ndarray, influence: np.ndarray, units: np.ndarray, least: np.ndarray, *, tail: float
) -> Estimates:
    """Returns rates (k,) with their intervals, of units (k,) that count as `least` or more."""
    from scipy.special import betaincinv, ndtri, stdtrit  # Imported here because it is slow.

    variance = _variance(influence, units)
    quantile = ndtri(1 - tail) / stdtrit(np.maximum(units - 1, 1), 1 - tail)
    effective = divide(value * (1 - value) * quantile**2, variance)
    # Shares that do not vary at all are those that vary least.
    effective = np.clip(np.nan_to_num(effective, nan=_LARGEST_SIZE), least, _LARGEST_SIZE)
    # Where all units agree on nothing or everything their variance says nothing, and one unit has none.
    at_end = (value <= 0) | (value >= 1) | (units < 2)
    effective = np.where(at_end, least, effective)
    positive = np.clip(value, 0.0, 1.0) * effective
    negative = effective - positive
    low = betaincinv(np.maximum(positive, np.finfo(float).tiny), negative + 1, tail)
    high = betaincinv(positive + 1, np.maximum(negative, np.finfo(float).tiny), 1 - tail)
    low = np.where(positive > 0, low, 0.0)
    high = np.where(negative > 0, high, 1.0)
    known = ~np.isnan(value)
    return Estimates(value, np.where(known, low, np.nan), np.where(known, high, np.nan))


def _variance(influence: np.ndarray, units: np.ndarray) -> np.ndarray:
    """Returns the variance (k,) of what units (rows) move: rows of units that lack a rate are 0."""
    return (influence**2).sum(0) * divide(units, units - 1)


def _with_two_more(sums: Ratio, units: np.ndarray, first: np.ndarray, second: np.ndarray) -> Ratio:
    """Returns the sums of units and of two more of mean size, whose rates are `first` and `second`, (k,)."""
    size = np.nan_to_num(divide(sums.whole.sum(0), units))
    part = np.vstack([sums.part, first * size, second * size])
    return Ratio(part, np.vstack([sums.whole, size, size]))


def _students_t(value: np.ndarray, variance: np.ndarray, units: np.ndarray, *, tail: float) -> Estimates:
    """Returns differences (k,) with the intervals of units (k,) and two more, which draw their middle towards 0."""
    from scipy.special import stdtrit  # Imported here because it is slow.

    number = units + 2
    middle = value * units / number
    half = stdtrit(number - 1, 1 - tail) * np.sqrt(variance)
    return Estimates(value, np.maximum(middle - half, -1.0), np.minimum(middle + half, 1.0))
