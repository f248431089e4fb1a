"""Numbers with 95% intervals over images, by closed forms: rates, their means and their differences. NumPy and SciPy.

A rate is a sum over images divided by a sum over images, such as flipped pixels by foreground pixels. Images that are
alike, such as the slices of one patient, count as one unit. Pixels of different size weigh in both sums.
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
_TAIL = (1 - LEVEL) / 2
"""Probability beyond either end."""
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
    return estimate_rates(_as_column(ratio), clusters=clusters).at(0)


def estimate_rates(ratio: Ratio, *, clusters: ArrayLike | None = None) -> Estimates:
    """Returns `estimate_rate` of k rates (n, k) at once.

    Example:
        >>> estimate_rates(Ratio(np.array([[0, 1], [0, 3]]), np.full((2, 2), 4))).value.tolist()
        [0.0, 0.5]
    """
    sums = _sum_clusters(ratio, clusters)
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
    value = _nanmean(rates.value)
    known = ~np.isnan(rates.low)
    influence = _influence(_sum_clusters(ratio, clusters))
    correlations = _correlations(influence[:, known])
    below = (rates.value - rates.low)[known]
    above = (rates.high - rates.value)[known]
    # Rounding may make the sum of squares of no width negative.
    half_below = divide(math.sqrt(max(below @ correlations @ below, 0.0)), known.sum())
    half_above = divide(math.sqrt(max(above @ correlations @ above, 0.0)), known.sum())
    return Estimate(value, max(value - float(half_below), 0.0), min(value + float(half_above), 1.0))


def paired_difference(old: Ratio, new: Ratio, *, clusters: ArrayLike | None = None) -> Estimate:
    """Returns the rate of a new model minus the rate of an old one over the same images, with its interval.

    The interval is Student's t of the linearised differences. Two images of mean size are added: one in which only the
    old model errs, one in which only the new one does. Both differ as much as the most different image. Equal
    predictions have [0, 0].

    Args:
        old: (n,), the rate of the old model.
        new: (n,), the rate of the new model.
        clusters: as in `estimate_rate`.

    Returns:
        All three numbers are NaN where either model lacks the rate.

    Source: Bonett and Price, Adjusted Wald confidence interval for a difference of binomial proportions based on paired
    data, J. Educ. Behav. Stat. 37, 2012, 479-488. Their added images differ entirely; flipjax's differ as much as the
    most different image. `sweeps/studies/coverage` measures the coverage.

    Example:
        >>> flips = Ratio(np.array([0, 0, 5]), np.full(3, 10))
        >>> paired_difference(flips, flips).text(".1f")
        '0.0 [0.0, 0.0]'
    """
    return paired_differences(_as_column(old), _as_column(new), clusters=clusters).at(0)


def paired_differences(old: Ratio, new: Ratio, *, clusters: ArrayLike | None = None) -> Estimates:
    """Returns `paired_difference` of k rates (n, k) at once.

    Example:
        >>> none, half = (Ratio(np.full((2, 1), part), np.full((2, 1), 4)) for part in (0, 2))
        >>> paired_differences(none, half).value.tolist()
        [0.5]
    """
    value, variance, units = _paired_moments(old, new, clusters)
    return _students_t(value, variance, units)


def paired_p_values(old: Ratio, new: Ratio, *, clusters: ArrayLike | None = None) -> np.ndarray:
    """Returns the two-sided p-values (k,) of the differences of k rates (n, k), from the interval of the difference.

    A p-value is below 0.05 where the 95% interval of `paired_differences` does not hold 0. It is 1 where no image
    differs, and NaN where either model lacks the rate.

    Example:
        >>> whole = np.ones((8, 2))
        >>> new = np.array([[1, 0]] * 8)  # The first flips newly in each of eight images.
        >>> paired_p_values(Ratio(0 * whole, whole), Ratio(new, whole)).round(3).tolist()
        [0.003, 1.0]
    """
    from scipy.special import stdtr  # Imported here because it is slow.

    value, variance, units = _paired_moments(old, new, clusters)
    # How far the middle of the interval is from 0, in standard errors.
    middle = _shrunk_middle(np.abs(value), units)
    distance = np.divide(middle, np.sqrt(variance), out=np.zeros_like(middle), where=variance > 0)
    return np.where(np.isnan(value), np.nan, 2 * stdtr(units + 1, -distance))


def _paired_moments(old: Ratio, new: Ratio, clusters: ArrayLike | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the differences of k rates, their variances with two added units, and the numbers of units: (k,) each."""
    before = _sum_clusters(old, clusters)
    after = _sum_clusters(new, clusters)
    largest = np.nan_to_num(np.abs(after.value - before.value)).max(0, initial=0)
    zero = np.zeros_like(largest)
    units = ((before.whole > 0) | (after.whole > 0)).sum(0)
    # The rates of two added units. One gains the largest difference from the old to the new model, the other loses it.
    #               gains    loses
    added_before = (zero, largest)
    added_after = (largest, zero)
    influence_before = _influence(_with_added_units(before, units, added_rates=added_before))
    influence_after = _influence(_with_added_units(after, units, added_rates=added_after))
    value = after.total().value - before.total().value
    return value, _variance(influence_after - influence_before, units + 2), units


def paired_mean_difference(old: Ratio, new: Ratio, *, clusters: ArrayLike | None = None) -> Estimate:
    """Returns the difference of the means over k rates (n, k), such as mean IoU, with its interval.

    A rate that a model lacks is left out of its mean. The interval is computed as in `paired_difference`, of the mean
    instead of a rate: two images are added, whose means differ as much as the means of the most different image. It
    covers too little for fewer than 20 images, or where few images have some of the k rates.

    Example:
        >>> old = Ratio(np.array([[0, 1], [0, 1]]), np.full((2, 2), 4))
        >>> new = Ratio(np.array([[2, 1], [2, 1]]), np.full((2, 2), 4))
        >>> paired_mean_difference(old, new).value
        0.25
    """
    before = _sum_clusters(old, clusters)
    after = _sum_clusters(new, clusters)
    value = _nanmean(after.total().value) - _nanmean(before.total().value)
    if math.isnan(value):
        return Estimate(value, math.nan, math.nan)
    has_rate = ((before.whole > 0) | (after.whole > 0)).any(1)
    units = int(has_rate.sum())
    # Pseudo-values, like those of a jackknife: the value plus n times each unit's influence on it. Influences sum to 0,
    # so the mean of the pseudo-values is the value, which is as sure as the mean of n independent numbers.
    influence = (_mean_influence(after) - _mean_influence(before))[has_rate]
    pseudo_values = value + units * influence
    # The difference between the means of the rates of each unit; 0 if either model lacks them all.
    unit_differences = np.nan_to_num(mean_over_classes(after) - mean_over_classes(before))
    largest = max(np.abs(unit_differences).max(), np.abs(pseudo_values).max())
    padded = np.append(pseudo_values, [largest, -largest])
    variance = padded.var(ddof=1) / len(padded)
    return _students_t(np.array([value]), np.array([variance]), np.array([units])).at(0)


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


def _as_column(ratio: Ratio) -> Ratio:
    """Returns the part and whole (n,) of a rate as columns (n, 1)."""
    return Ratio(np.asarray(ratio.part)[:, None], np.asarray(ratio.whole)[:, None])


def _sum_clusters(ratio: Ratio, clusters: ArrayLike | None) -> Ratio:
    """Returns the parts and wholes of rates, summed over each cluster, float64 (units, k)."""
    return Ratio(pool_clusters(ratio.part, clusters), pool_clusters(ratio.whole, clusters))


def _influence(sums: Ratio) -> np.ndarray:
    """Returns each unit's contribution to the error of each rate, (units, k): over units they sum to 0.

    It is the unit's part less the rate times its whole, divided by the sum of all wholes.
    """
    total = sums.whole.sum(0)
    residual = sums.part - np.nan_to_num(sums.total().value) * sums.whole
    return residual / np.where(total > 0, total, 1.0)


def _mean_influence(sums: Ratio) -> np.ndarray:
    """Returns the influence of each unit, (units,), on the mean over the rates that any unit has."""
    return _influence(sums)[:, sums.whole.sum(0) > 0].mean(1)


def _nanmean(values: np.ndarray) -> float:
    """Returns the mean of the numbers that are not NaN; NaN if all are."""
    known = ~np.isnan(values)
    # `divide` gives NaN where it divides by 0.
    return float(divide(values[known].sum(), known.sum()))


def _correlations(influence: np.ndarray) -> np.ndarray:
    """Returns the correlations (k, k) of influences (units, k); 1 where one does not vary, and is unknown."""
    length = np.sqrt((influence**2).sum(0))
    lengths = np.outer(length, length)
    safe = np.where(lengths > 0, lengths, 1.0)
    correlations = np.where(lengths > 0, influence.T @ influence / safe, 1.0)
    np.fill_diagonal(correlations, 1.0)
    return correlations


def _effective_units(sums: Ratio) -> np.ndarray:
    """Returns for each of k rates the number of independent units whose rate would vary as much, from (units, k)."""
    from scipy.special import ndtri, stdtrit  # Imported here because it is slow.

    value = sums.total().value
    units = (sums.whole > 0).sum(0)
    variance = _variance(_influence(sums), units)
    reduction = ndtri(1 - _TAIL) / stdtrit(np.maximum(units - 1, 1), 1 - _TAIL)
    effective = divide(value * (1 - value) * reduction**2, variance)
    # `divide` gives NaN where the variance is 0: the number is then unlimited.
    effective = np.nan_to_num(effective, nan=_LARGEST_SIZE)
    # Kish's number holds if each image flips as a whole or not at all, where rates vary most.
    least = np.nan_to_num(divide(sums.whole.sum(0) ** 2, (sums.whole**2).sum(0)), nan=1.0)
    effective = np.clip(effective, least, _LARGEST_SIZE)
    # Where nothing or everything flips the variance is 0 and says nothing, and one unit has no variance.
    says_nothing = (value <= 0) | (value >= 1) | (units < 2)
    return np.where(says_nothing, least, effective)


def _beta_interval(value: np.ndarray, effective: np.ndarray) -> Estimates:
    """Returns rates (k,) with Clopper and Pearson's intervals for `effective` (k,) independent units."""
    from scipy.special import betaincinv  # Imported here because it is slow.

    positive = np.clip(value, 0.0, 1.0) * effective
    negative = effective - positive
    low = betaincinv(np.maximum(positive, np.finfo(float).tiny), negative + 1, _TAIL)
    high = betaincinv(positive + 1, np.maximum(negative, np.finfo(float).tiny), 1 - _TAIL)
    low = np.where(positive > 0, low, 0.0)
    high = np.where(negative > 0, high, 1.0)
    known = ~np.isnan(value)
    return Estimates(value, np.where(known, low, np.nan), np.where(known, high, np.nan))


def _variance(influence: np.ndarray, units: np.ndarray) -> np.ndarray:
    """Returns the variance (k,) of rates, from the influence of each unit (rows, k) and the number of units (k,).

    A unit that lacks a rate has no influence on it and is not counted, so that `units` may be less than the rows.
    """
    return (influence**2).sum(0) * divide(units, units - 1)


def _with_added_units(sums: Ratio, units: np.ndarray, *, added_rates: tuple[np.ndarray, np.ndarray]) -> Ratio:
    """Returns the sums of units with two units of mean size added, which have the rates `added_rates`, (k,) each."""
    size = np.nan_to_num(divide(sums.whole.sum(0), units))
    first, second = added_rates
    part = np.vstack([sums.part, first * size, second * size])
    return Ratio(part, np.vstack([sums.whole, size, size]))


def _students_t(value: np.ndarray, variance: np.ndarray, units: np.ndarray) -> Estimates:
    """Returns differences (k,) of `units` (k,) units with their intervals, by Student's t with two units added."""
    from scipy.special import stdtrit  # Imported here because it is slow.

    middle = _shrunk_middle(value, units)
    half = stdtrit(units + 1, 1 - _TAIL) * np.sqrt(variance)
    return Estimates(value, np.maximum(middle - half, -1.0), np.minimum(middle + half, 1.0))


def _shrunk_middle(value: np.ndarray, units: np.ndarray) -> np.ndarray:
    """Returns the middles (k,) of the intervals of differences: the two added units, opposite, draw them towards 0."""
    return value * units / (units + 2)
