"""How strongly an attribute goes with the class in a user's data, before any training."""

import dataclasses

import numpy as np
from scipy.stats.contingency import association

from flipjax.assays.statistics.units import AssayUnits, permuted_values
from flipjax.config.groups import Groups
from flipjax.metrics.statistics.permutation import permutation_p

PERMUTATIONS = 2000
"""Permutations of the attribute over images or clusters."""


@dataclasses.dataclass(frozen=True, eq=False)
class Association:
    """Counts of classes and values, and how far they are from independence.

    Attributes:
        counts: int64 (F, V), images of each class with each value.
        usual: the values that go with each class, which it has more often than the other classes do.
        rho: fraction of the images of each class that show a usual value, float64 (F,).
        cramers_v: Cramer's V in [0, 1]; 0 is independence.
        p: fraction of permutations of the attribute whose V is as large.
        unit: what was permuted, `images` or `clusters`.
    """

    counts: np.ndarray
    usual: tuple[tuple[int, ...], ...]
    rho: np.ndarray
    cramers_v: float
    p: float
    unit: str

    @property
    def groups(self) -> Groups:
        """The groups of classes and values."""
        return Groups(len(self.counts), self.counts.shape[1], self.usual)

    @property
    def rare(self) -> np.ndarray:
        """Whether each value is unusual for each class, bool (F, V)."""
        return ~usual_mask(self.usual, self.counts.shape[1])

    @property
    def counter_examples(self) -> np.ndarray:
        """Images of each class with an unusual value, int64 (F,)."""
        return np.where(self.rare, self.counts, 0).sum(1)


def associate(
    units: AssayUnits,
    usual: tuple[tuple[int, ...], ...] = (),
    *,
    seed: int = 0,
    permutations: int = PERMUTATIONS,
) -> Association:
    """Measures the association of class and attribute.

    Args:
        units: class, value and cluster of each image.
        usual: the values that go with each class; empty: by the counts.
        seed: of the permutations.
        permutations: their number.

    Returns:
        The counts, and Cramer's V with its permutation p. Whole clusters are permuted where each has one value.

    Example:
        >>> units = AssayUnits(np.repeat([0, 1], 50), np.repeat([0, 1, 0, 1], [45, 5, 5, 45]), np.arange(100), 2, 2)
        >>> result = associate(units, permutations=200)
        >>> result.counts.tolist(), result.rho.tolist(), round(result.cramers_v, 3), result.p < 0.01
        ([[45, 5], [5, 45]], [0.9, 0.9], 0.8, True)
    """
    counts = units.counts
    usual = usual or usual_values(counts)
    mask = usual_mask(usual, units.values)
    rho = np.where(mask, counts, 0).sum(1) / counts.sum(1)
    observed = cramers_v(counts)
    random = np.random.default_rng(seed)
    unit, drawn = permuted_values(units, random, permutations, within_classes=False)
    at_least = 0
    for values in drawn:
        # Equal ones count, whatever their rounding.
        at_least += cramers_v(dataclasses.replace(units, value=values).counts) >= observed - 1e-12
    p = float(permutation_p(np.array(at_least), permutations))
    return Association(counts, usual, rho, observed, p, unit)


def cramers_v(counts: np.ndarray) -> float:
    """Returns Cramer's V of a table of counts; 0 if all images are in one row or one column."""
    held = counts[counts.any(1)][:, counts.any(0)]
    if min(held.shape) < 2:
        return 0.0
    return float(association(held, method="cramer"))


def usual_values(counts: np.ndarray) -> tuple[tuple[int, ...], ...]:
    """Returns the values that go with each class: those that it shows more often than independence would.

    A value that no class shows more often goes with the class that has the fewest, and to a class without any goes
    value y mod V, as in a sweep.

    Args:
        counts: (F, V), images of each class with each value.

    Example:
        >>> usual_values(np.array([[95, 5], [85, 15]]))
        ((0,), (1,))
        >>> usual_values(np.full((2, 3), 9))
        ((0, 2), (1,))
    """
    mask = more_often(counts)
    for value in np.flatnonzero(~mask.any(0)):
        mask[np.argmin(mask.sum(1)), value] = True
    for y in np.flatnonzero(~mask.any(1)):
        mask[y, y % counts.shape[1]] = True
    return tuple(tuple(np.flatnonzero(of_class).tolist()) for of_class in mask)


def more_often(counts: np.ndarray) -> np.ndarray:
    """Returns whether each class shows each value more often than independence would, bool (F, V)."""
    expected = counts.sum(1, keepdims=True) * counts.sum(0, keepdims=True) / counts.sum()
    # Relative to chance, so that rounding of equal shares marks nothing.
    return counts > expected * (1 + 1e-9)


def usual_mask(usual: tuple[tuple[int, ...], ...], values: int) -> np.ndarray:
    """Returns whether each value is usual for each class, bool (F, V)."""
    mask = np.zeros((len(usual), values), bool)
    for y, chosen in enumerate(usual):
        mask[y, list(chosen)] = True
    return mask
