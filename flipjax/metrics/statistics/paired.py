"""Differences between two models over the same images, with 95% intervals and p-values, by closed forms.

Both models meet the same hard images, so a difference varies less than either rate. The intervals are Student's t of
the linearised differences, with two units added that pull them towards 0: few images rarely tell two models apart.

Example:
    >>> foreground = np.full(3, 10)
    >>> old = Ratio(np.array([0, 1, 5]), foreground)
    >>> new = Ratio(np.array([0, 0, 1]), foreground)
    >>> paired_difference(old, new).text(".2f")
    '-0.17 [-0.51, 0.31]'
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from flipjax.metrics.decomposition import Ratio, divide, mean_over_classes
from flipjax.metrics.statistics.intervals import TAIL, Estimate, Estimates
from flipjax.metrics.statistics.units import (
    as_column,
    influence_of_units,
    mean_of_known,
    sum_clusters,
    variance_of_rates,
)


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
    return paired_differences(as_column(old), as_column(new), clusters=clusters).at(0)


def paired_differences(old: Ratio, new: Ratio, *, clusters: ArrayLike | None = None) -> Estimates:
    """Returns `paired_difference` of k rates (n, k) at once.

    Example:
        >>> none, half = (Ratio(np.full((2, 1), part), np.full((2, 1), 4)) for part in (0, 2))
        >>> paired_differences(none, half).value.tolist()
        [0.5]
    """
    return _differences_of_rates(old, new, clusters).estimates()


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

    differences = _differences_of_rates(old, new, clusters)
    variance = differences.variance
    # How far the middle of the interval is from 0, in standard errors.
    middle = np.abs(differences.middle)
    distance = np.divide(middle, np.sqrt(variance), out=np.zeros_like(middle), where=variance > 0)
    return np.where(np.isnan(differences.value), np.nan, 2 * stdtr(differences.units + 1, -distance))


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
    before = sum_clusters(old, clusters)
    after = sum_clusters(new, clusters)
    value = mean_of_known(after.total().value) - mean_of_known(before.total().value)
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
    return _Differences(np.array([value]), np.array([variance]), np.array([units])).estimates().at(0)


class _Differences(NamedTuple):
    """Differences of k rates, with what their intervals rest on: arrays (k,)."""

    value: np.ndarray
    """The rate of the new model minus that of the old one."""
    variance: np.ndarray
    """Its variance, with two units added."""
    units: np.ndarray
    """The number of units, without those added."""

    @property
    def middle(self) -> np.ndarray:
        """The middles of the intervals: the two added units, opposite, draw the values towards 0."""
        return self.value * self.units / (self.units + 2)

    def estimates(self) -> Estimates:
        """Returns the differences with their intervals, by Student's t with the two added units."""
        from scipy.special import stdtrit  # Imported here because it is slow.

        half = stdtrit(self.units + 1, 1 - TAIL) * np.sqrt(self.variance)
        return Estimates(self.value, np.maximum(self.middle - half, -1.0), np.minimum(self.middle + half, 1.0))


def _differences_of_rates(old: Ratio, new: Ratio, clusters: ArrayLike | None) -> _Differences:
    """Returns the differences of k rates (n, k).

    One of the two added units gains the largest difference from the old to the new model; the other loses it.
    """
    before = sum_clusters(old, clusters)
    after = sum_clusters(new, clusters)
    largest = np.nan_to_num(np.abs(after.value - before.value)).max(0, initial=0)
    zero = np.zeros_like(largest)
    units = ((before.whole > 0) | (after.whole > 0)).sum(0)
    influence_before = influence_of_units(_with_two_units(before, units, gaining=zero, losing=largest))
    influence_after = influence_of_units(_with_two_units(after, units, gaining=largest, losing=zero))
    return _Differences(
        value=after.total().value - before.total().value,
        variance=variance_of_rates(influence_after - influence_before, units + 2),
        units=units,
    )


def _with_two_units(sums: Ratio, units: np.ndarray, *, gaining: np.ndarray, losing: np.ndarray) -> Ratio:
    """Returns the sums of units with two units of mean size added, which have these rates (k,)."""
    size = np.nan_to_num(divide(sums.whole.sum(0), units))
    part = np.vstack([sums.part, gaining * size, losing * size])
    return Ratio(part, np.vstack([sums.whole, size, size]))


def _mean_influence(sums: Ratio) -> np.ndarray:
    """Returns the influence of each unit, (units,), on the mean over the rates that any unit has."""
    return influence_of_units(sums)[:, sums.whole.sum(0) > 0].mean(1)
