"""The contrast of an assay: how much more rare than common images flip, with classes and values cancelled.

A plain difference of Flip between rare and common groups would accuse a value of the attribute whose images are harder
for every class, such as a noisy scanner. The contrast is the effect of being rare beside those of class and value in a
table of the groups; for two classes and two values it is half of their interaction.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from flipjax.assays.statistics.association import usual_mask
from flipjax.assays.statistics.estimates import FlipEstimate, estimate_flip
from flipjax.assays.statistics.interim import p_over_analyses
from flipjax.assays.statistics.outcomes import Outcomes, group_shares, mean_over_seeds
from flipjax.assays.statistics.units import AssayUnits, permuted_values

PERMUTATIONS = 2000
"""Permutations of the attribute within classes, under which the same predictions have no contrast."""


@dataclasses.dataclass(frozen=True, eq=False)
class Contrast:
    """The contrast of a population, and its place among those of permuted attributes."""

    estimate: FlipEstimate
    """In [-1, 1]."""
    p: float
    """One-sided: fraction of permuted attributes whose contrast is as large, or stopped at an earlier analysis."""
    permuted: float
    """95th percentile of the contrast under permuted attributes."""
    unit: str
    """The unit that was permuted: `images` or `clusters`."""
    analyses: tuple[int, ...]
    """Seeds at each interim analysis, ascending; at the last one all."""


def measure_contrast(
    units: AssayUnits,
    usual: tuple[tuple[int, ...], ...],
    outcomes: Outcomes,
    *,
    analyses: Sequence[int] = (),
    seed: int = 0,
    permutations: int = PERMUTATIONS,
) -> Contrast | None:
    """Measures the contrast of a population, its interval, and its place among permuted attributes.

    The null permutes the attribute within the classes and keeps the predictions, so that nothing is trained for it.

    Args:
        units: class, value and cluster of each image.
        usual: the usual values of each class.
        outcomes: of the same images.
        analyses: the number of seeds at each interim analysis so far, ascending; empty: one analysis of all seeds.
        seed: of the permutations.
        permutations: their number.

    Returns:
        The contrast; None if the groups that hold images do not determine it.
    """
    weights = contrast_weights(units.counts, usual)
    if weights is None:
        return None
    analyses = tuple(analyses) or (outcomes.seeds,)
    estimate = estimate_flip(units, outcomes, weights)
    # A row for each analysis: flipped pixels (L, n), the mean over the seeds so far.
    flip_of_analyses = np.stack([mean_over_seeds(outcomes.flip[:count]) for count in analyses])
    unit, permuted = permuted_values(units, np.random.default_rng(seed), permutations, within_classes=True)
    null = np.empty((permutations, len(analyses)))
    for permutation, values in enumerate(permuted):
        flips = group_shares(dataclasses.replace(units, value=values), outcomes.foreground, flip_of_analyses)
        null[permutation] = np.nansum(weights * flips, axis=(1, 2))
    p = p_over_analyses(null, estimate.value, analyses)
    return Contrast(estimate, p, float(np.quantile(null[:, -1], 0.95)), unit, analyses)


def contrast_weights(counts: np.ndarray, usual: tuple[tuple[int, ...], ...]) -> np.ndarray | None:
    """Returns the weight of each group's Flip in the contrast, or None if the groups with images do not determine it.

    Flip of class y at value v is modelled as a_y + b_v + contrast x rare(y, v), and the weights are those of least
    squares over the groups that hold images, each counted once.

    Args:
        counts: (F, V), images of each group.
        usual: the usual values of each class.

    Returns:
        float64 (F, V), 0 in groups without images.

    Example:
        >>> contrast_weights(np.ones((2, 2)), ((0,), (1,))).tolist()
        [[-0.5, 0.5], [0.5, -0.5]]
        >>> contrast_weights(np.array([[9, 1], [0, 9]]), ((0,), (1,))) is None
        True
    """
    classes, values = counts.shape
    y, v = np.nonzero(counts)
    rare = ~usual_mask(usual, values)[y, v]
    effects = np.concatenate([np.eye(classes)[y], np.eye(values)[v]], axis=1)
    # The part of rareness that classes and values do not explain is what least squares weighs Flip by.
    unexplained = rare - effects @ np.linalg.pinv(effects) @ rare
    squares = unexplained @ unexplained
    # 0 but for rounding: classes and values explain all of rareness.
    if squares < 1e-9:
        return None
    weights = np.zeros(counts.shape)
    weights[y, v] = (unexplained / squares).round(12) + 0.0
    return weights
