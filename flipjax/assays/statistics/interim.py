"""Interim analyses of a contrast while seeds are added: how much of the level each may spend, and p over all of them.

An assay that tested its contrast after each batch of seeds and stopped at the first small p would accuse too often. The
level is therefore spent: by the analysis of n seeds no more than `spent_level(n)` of it is gone, however many analyses
there were. Means over seeds are those of the canonical group-sequential model. No analysis is the last, so that more
seeds can be asked for at any time.

Sources: Lan and DeMets, Discrete sequential boundaries for clinical trials, 1983 (spending, with Pocock's function);
Jennison and Turnbull, Group sequential methods, 2000 (the canonical model, and its levels for Student's t); Mehta,
Patel, Senchaudhuri and Tsiatis, Exact permutational group sequential tests, 1994 (boundaries from the permutations).
"""

import math
from collections.abc import Sequence

import numpy as np
from scipy.optimize import root_scalar
from scipy.stats import norm

from flipjax.metrics.statistics.permutation import LEVEL, permutation_p

HALF_INFORMATION = 8.0
"""Seeds that give half of the information that endlessly many would."""
GRID = 500
"""Points at which the density of a sum of seeds is computed."""
FARTHEST = 8.0
"""Standard deviations of a sum beyond which its density is taken for 0."""


def spent_level(seeds: int) -> float:
    """Returns how much of LEVEL may be spent by the analysis of some seeds: Pocock's function of the information.

    Example:
        >>> [round(spent_level(seeds), 4) for seeds in (4, 8, 16, 10**6)]
        [0.0226, 0.031, 0.0382, 0.05]
    """
    information = seeds / (seeds + HALF_INFORMATION)
    return LEVEL * math.log1p((math.e - 1) * information)


def level_of_analysis(seeds: Sequence[int]) -> float:
    """Returns the level of the last analysis alone: a one-sided p at most this large is significant over all.

    Args:
        seeds: (L,), the number of seeds at each analysis, ascending.

    Example:
        >>> [round(level_of_analysis(seeds), 4) for seeds in ([4], [4, 8], [8])]
        [0.0226, 0.0138, 0.031]
    """
    # Without an effect the sum over seeds is normal. These are values of the sum, and the probability of each that no
    # analysis has stopped it so far; before the first one it is 0.
    sums = np.zeros(1)
    probability = np.ones(1)
    seeds_before = 0
    spent = 0.0
    boundary = 0.0
    for count in seeds:
        # Of the part that the seeds since the last analysis add.
        deviation = math.sqrt(count - seeds_before)
        largest = FARTHEST * math.sqrt(count)
        allowed = spent_level(count) - spent
        boundary = root_scalar(_excess, (sums, probability, deviation, allowed), bracket=(-largest, largest)).root
        going_on, step = np.linspace(-largest, boundary, GRID, retstep=True)
        probability = step * norm.pdf((going_on[:, None] - sums) / deviation) @ probability / deviation
        # The ends of an integral count half.
        probability[[0, -1]] /= 2
        sums = going_on
        seeds_before = count
        spent = spent_level(count)
    return float(norm.sf(boundary / math.sqrt(seeds_before)))


def _excess(boundary: float, sums: np.ndarray, probability: np.ndarray, deviation: float, allowed: float) -> float:
    """Returns the probability that sums grow beyond a boundary at an analysis, less what may be spent there."""
    return float(probability @ norm.sf((boundary - sums) / deviation)) - allowed


def p_over_analyses(null: np.ndarray, observed: float, seeds: Sequence[int]) -> float:
    """Returns the one-sided p of the last analysis, if none before it stopped.

    It counts the permutations that an earlier analysis would have stopped, and those that are at least as large at the
    last. p is significant if it is at most `spent_level` of the last analysis's seeds.

    Args:
        null: (P, L), the statistic of each permutation at each analysis.
        observed: the statistic at the last analysis.
        seeds: (L,), the number of seeds at each analysis, ascending.

    Example:
        >>> null = np.array([[9.0, 0.0], [1.0, 8.0], [2.0, 1.0], [3.0, 2.0]])
        >>> p_over_analyses(null[:, 1:], 5.0, [8]), p_over_analyses(null, 1.5, [4, 8])
        (0.4, 0.6)
    """
    permutations = len(null)
    stopped = np.zeros(permutations, bool)
    for analysis, count in enumerate(seeds[:-1]):
        # The observed attribute is one more permutation, and did not stop.
        stopping = math.floor(spent_level(count) * (1 + permutations)) - int(stopped.sum()) - 1
        stopped |= _largest(np.where(stopped, -math.inf, null[:, analysis]), stopping)
    # Equal ones count, whatever their rounding.
    at_least = ~stopped & (null[:, -1] >= observed - 1e-12)
    return float(permutation_p(stopped.sum() + at_least.sum(), permutations))


def _largest(values: np.ndarray, count: int) -> np.ndarray:
    """Returns which values are the `count` largest, or fewer: equal ones are chosen together or not at all."""
    if count <= 0:
        return np.zeros(len(values), bool)
    first_left_out = np.partition(values, -count - 1)[-count - 1]
    return values > first_left_out
