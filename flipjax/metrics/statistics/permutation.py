"""Permutation tests over images, or over clusters of them. NumPy and SciPy.

`group_p_values` tests whether the images of a group flip more or less than those of other groups. For another
statistic, compute it for each row of `permute_within`, and its p with `permutation_p`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import betaln

from flipjax.metrics.decomposition import divide

STAGES = {199: 20, 1_999: 100}
"""Permutations after which a test ends early, and how many of them must then be at least as extreme as the data: p is
then above 0.1 or 0.05."""
FEWEST_PERMUTATIONS = 9_999
"""Least permutations of a test that does not end early."""
MOST_PERMUTATIONS = 99_999
"""Most permutations of a test."""
PER_TEST = 40
"""Permutations for each test of the family, so that one finding among all tests can have q = 1 / 40."""
CORRECTION = "Benjamini-Hochberg"
"""What pages call `false_discovery_q`."""
BUDGET = 1_000_000_000
"""Most units permuted in all tests, about half a minute."""
MOST_UNITS_AT_ONCE = 4_000_000
"""Most units permuted at once, 32 MB."""
ROUNDING = 1e-12
"""Largest difference of two means that count as equal: it is due to rounding."""
LEVEL = 0.05
"""Probability of any verdict in a family without true differences, at most."""


@dataclasses.dataclass(frozen=True)
class PermutationUnits:
    """What is permuted for one class: its images, or their clusters, in order of the groups."""

    share: np.ndarray
    """The flipped share of each unit's pixels of the class, float64 (u,)."""
    stratum: np.ndarray
    """The stratum within which each unit changes places, int64 (u,): 0, or a number above 0 for the units of a cluster
    that is in several groups."""
    starts: np.ndarray
    """The index of the first unit of each group, int64 (groups,)."""

    @property
    def sizes(self) -> np.ndarray:
        """The number of units of each group, int64 (groups,)."""
        return np.diff(self.starts, append=len(self.share))

    @property
    def differences(self) -> np.ndarray:
        """The mean share of each group's units minus that of all others, float64 (groups,)."""
        return _differences(self.share[None], self)[0]


def make_units(
    part: np.ndarray, whole: np.ndarray, group: np.ndarray, clusters: np.ndarray | None = None
) -> PermutationUnits:
    """Makes the units of one class.

    A cluster is one unit, whose share is that of its pooled pixels. A cluster with images in several groups is a unit
    in each; these units change places only with one another, because they share what is peculiar to the cluster.

    Args:
        part: the flipped pixels of the class in each of n images.
        whole: all its pixels in each image, at least one.
        group: int (n,), 0 to the number of groups - 1, each of which occurs.
        clusters: int (n,), or None where each image is a unit.
    """
    if clusters is None:
        order = np.argsort(group, kind="stable")
        share = divide(part, whole)[order]
        return PermutationUnits(share, np.zeros(len(share), np.int64), _starts(group[order]))
    pairs, unit = np.unique(np.stack([group, clusters], axis=1), axis=0, return_inverse=True)
    unit = unit.ravel()
    flipped = np.bincount(unit, weights=part, minlength=len(pairs))
    pixels = np.bincount(unit, weights=whole, minlength=len(pairs))
    present, cluster, groups_of_cluster = np.unique(pairs[:, 1], return_inverse=True, return_counts=True)
    several = groups_of_cluster > 1
    # Number 0 is the stratum of all clusters of one group.
    stratum = np.where(several, 1 + np.arange(len(present)), 0)[cluster]
    return PermutationUnits(divide(flipped, pixels), stratum, _starts(pairs[:, 0]))


def _starts(ordered: np.ndarray) -> np.ndarray:
    """Returns where each number of an ordered array begins."""
    return np.searchsorted(ordered, np.unique(ordered))


def permute_within(
    values: np.ndarray, strata: np.ndarray, *, permutations: int, generator: np.random.Generator
) -> np.ndarray:
    """Returns values in random order within each stratum, a row for each permutation: (permutations, n).

    Args:
        values: (n,).
        strata: int (n,): values of one number change places.
        permutations: their number.
        generator: draws them.

    Example:
        >>> strata = np.array([0, 1, 0])
        >>> rows = permute_within(np.array([1, 5, 2]), strata, permutations=9, generator=np.random.default_rng(0))
        >>> np.unique(rows, axis=0).tolist()
        [[1, 5, 2], [2, 5, 1]]
    """
    rows = np.tile(values, (permutations, 1))
    for stratum in np.unique(strata):
        inside = np.flatnonzero(strata == stratum)
        if len(inside) == len(values):
            return generator.permuted(rows, axis=1, out=rows)
        rows[:, inside] = generator.permuted(rows[:, inside], axis=1)
    return rows


def permutation_p(extreme: np.ndarray, permutations: int) -> np.ndarray:
    """Returns the p-values of tests in which `extreme` permutations were at least as extreme as the data.

    The data count as one more permutation, so that no p is 0.

    Source: Phipson and Smyth, Permutation p-values should never be zero, 2010.

    Example:
        >>> permutation_p(np.array([0, 9]), 99).tolist()
        [0.01, 0.1]
    """
    return (np.asarray(extreme) + 1) / (permutations + 1)


def false_discovery_q(p_values: ArrayLike) -> np.ndarray:
    """Returns the q-value of each of a family of p-values (n,).

    Equals `scipy.stats.false_discovery_control`, which takes half a second to import.

    Source: Benjamini and Hochberg, Controlling the false discovery rate, 1995.

    Example:
        >>> false_discovery_q([0.01, 0.5, 0.02]).round(3).tolist()
        [0.03, 0.5, 0.03]
    """
    p = np.asarray(p_values, np.float64)
    order = np.argsort(p)
    scaled = p[order] * (len(p) / np.arange(1, len(p) + 1))
    q = np.empty(len(p))
    # At most the q of any larger p.
    q[order] = np.minimum.accumulate(scaled[::-1])[::-1]
    return np.clip(q, 0.0, 1.0)


def group_p_values(classes: Sequence[PermutationUnits], *, seed: int = 0) -> list[np.ndarray]:
    """Tests each group of each class against the other groups of the class.

    The statistic is the mean share of the group's units minus that of all others; p is the fraction of permutations,
    the data among them, whose statistic is at least as far from 0. Every unit counts alike, so that one large organ
    does not decide. Where units flip as a whole or not at all, p is exact, a sum of hypergeometric probabilities as
    Fisher's; otherwise permutations are drawn, more of them for a small p.

    Args:
        classes: the units of each class.
        seed: of the permutations.

    Returns:
        p of each group, float64 (groups,), for each class: 1 where the units of all groups flip alike, NaN for a group
        of one unit, or if all other groups have one unit together.

    Source: Besag and Clifford, Sequential Monte Carlo p-values, 1991, for when a test ends.

    Example:
        >>> units = make_units(np.array([1, 1, 1, 0, 0, 0]), np.ones(6), np.repeat([0, 1], 3))
        >>> group_p_values([units])[0].round(9).tolist()  # 2 of 20 divisions are as extreme.
        [0.1, 0.1]
    """
    tests = [_Test(units, np.zeros(len(units.starts), np.int64), exact=_exact_p(units)) for units in classes]
    number_of_tests = sum(len(units.starts) for units in classes)
    most = int(np.clip(PER_TEST * number_of_tests, FEWEST_PERMUTATIONS, MOST_PERMUTATIONS))
    _draw_permutations([test for test in tests if test.exact is None], most, np.random.default_rng(seed))
    return [test.p for test in tests]


def _draw_permutations(tests: Sequence[_Test], most: int, generator: np.random.Generator) -> None:
    """Draws permutations stage by stage, `most` in all, for the tests that are not settled yet."""
    unsettled = list(tests)
    budget = BUDGET
    for target, enough in (*STAGES.items(), (most, 0)):
        if not unsettled:
            return
        affordable = budget // sum(len(test.units.share) for test in unsettled)
        for test in unsettled:
            permutations = min(target - test.permutations, affordable)
            test.extreme += _count_extreme(test.units, permutations, generator)
            test.permutations += permutations
            budget -= permutations * len(test.units.share)
        unsettled = [test for test in unsettled if not test.is_settled(enough)]


def _exact_p(units: PermutationUnits) -> np.ndarray | None:
    """Returns p of each group if shares take two values and all units may change places; None otherwise.

    The number of units with the higher share in a group is then hypergeometric.
    """
    shares = np.unique(units.share)
    if len(shares) > 2 or units.stratum.any():
        return None
    total = len(units.share)
    high = int((units.share == shares[-1]).sum())
    step = shares[-1] - shares[0]
    p = np.ones(len(units.starts))
    for group, (size, difference) in enumerate(zip(units.sizes.tolist(), units.differences.tolist(), strict=True)):
        if 0 < size < total and step > 0:
            # How many high units the group may have, and the difference of means that follows.
            high_in_group = np.arange(max(0, high - (total - size)), min(size, high) + 1)
            possible_differences = step * (high_in_group / size - (high - high_in_group) / (total - size))
            is_extreme = np.abs(possible_differences) >= abs(difference) - ROUNDING
            p[group] = min(1.0, _hypergeometric(high_in_group[is_extreme], total, high, size).sum())
    return p


def _hypergeometric(high_in_group: np.ndarray, total: int, high: int, size: int) -> np.ndarray:
    """Returns the probabilities that `high_in_group` of `size` units, drawn from `total`, are among the `high` ones.

    Equals `scipy.stats.hypergeom.pmf`, which takes half a second to import.
    """
    log_ways = _log_choose(high, high_in_group) + _log_choose(total - high, size - high_in_group)
    return np.exp(log_ways - _log_choose(total, np.array(size)))


def _log_choose(number: int, chosen: np.ndarray) -> np.ndarray:
    """Returns the logarithm of the binomial coefficients, the ways to choose `chosen` of `number`."""
    return -betaln(number - chosen + 1, chosen + 1) - np.log(number + 1)


@dataclasses.dataclass
class _Test:
    """The tests of the groups of one class, and how far they are."""

    units: PermutationUnits
    """What is permuted."""
    extreme: np.ndarray
    """Permutations at least as extreme as the data, int64 (groups,)."""
    permutations: int = 0
    """Permutations drawn."""
    exact: np.ndarray | None = None
    """p of each group where it is known without drawing permutations."""

    @property
    def tested(self) -> np.ndarray:
        """Which groups have two units and more, and two and more against them."""
        sizes = self.units.sizes
        return (sizes > 1) & (sizes.sum() - sizes > 1)

    def is_settled(self, enough: int) -> bool:
        """Returns whether at least `enough` permutations were extreme for every tested group."""
        return bool((self.extreme[self.tested] >= enough).all())

    @property
    def p(self) -> np.ndarray:
        """The fraction of permutations, the data among them, at least as extreme as the data."""
        p = self.exact
        if p is None:
            p = permutation_p(self.extreme, self.permutations)
        return np.where(self.tested, p, np.nan)


def _count_extreme(units: PermutationUnits, permutations: int, generator: np.random.Generator) -> np.ndarray:
    """Returns how many permutations are at least as extreme as the data, for each group: int64 (groups,)."""
    least = np.abs(units.differences) - ROUNDING
    block = max(1, MOST_UNITS_AT_ONCE // len(units.share))
    count = np.zeros(len(units.starts), np.int64)
    for start in range(0, permutations, block):
        rows = min(block, permutations - start)
        drawn = permute_within(units.share, units.stratum, permutations=rows, generator=generator)
        count += (np.abs(_differences(drawn, units)) >= least).sum(0)
    return count


def _differences(shares: np.ndarray, units: PermutationUnits) -> np.ndarray:
    """Returns each group's mean share minus that of all other units, of shares (rows, u): (rows, groups)."""
    sums = np.add.reduceat(shares, units.starts, axis=1)
    sums_elsewhere = shares.sum(1, keepdims=True) - sums
    sizes = units.sizes
    return divide(sums, sizes) - divide(sums_elsewhere, sizes.sum() - sizes)
