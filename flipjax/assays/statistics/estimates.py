"""A weighted sum of the groups' Flip, such as a contrast or a mean, with its 95% interval over seeds and images.

Other seeds would have trained other networks, and other images would have tested them. `Spread` holds how much of the
variance of the sum is due to either, so that an assay can say whether more seeds or more images would help.
"""

import dataclasses
import math

import numpy as np
from scipy.special import stdtr, stdtrit

from flipjax.assays.statistics.outcomes import Outcomes, group_of_images, group_shares, mean_over_seeds
from flipjax.assays.statistics.units import AssayUnits


@dataclasses.dataclass(frozen=True, eq=False)
class Spread:
    """The variance of a weighted sum of the groups' Flip, by its two parts, which add up."""

    over_seeds: float
    """Variance of the mean over seeds; infinite for one seed."""
    seed_freedom: float
    """Degrees of freedom of `over_seeds`."""
    over_images: float
    """Variance over images, or clusters; infinite where a group is one cluster."""
    image_freedom: float
    """Degrees of freedom of `over_images`."""
    of_groups: np.ndarray
    """Variance over images that each group contributes, float64 (F, V)."""

    @property
    def total(self) -> float:
        """The variance of both parts."""
        return self.over_seeds + self.over_images

    @property
    def freedom(self) -> float:
        """Satterthwaite's degrees of freedom of the total; infinite without any variance."""
        if self.total == 0:
            return math.inf
        squares = self.over_seeds**2 / self.seed_freedom + self.over_images**2 / self.image_freedom
        return self.total**2 / squares


@dataclasses.dataclass(frozen=True, eq=False)
class FlipEstimate:
    """A weighted sum of the groups' Flip.

    Example:
        >>> spread = Spread(0.01, 1, 0.001, 9, np.full((2, 2), 0.001))
        >>> estimate = FlipEstimate(0.5, np.array([0.4, 0.6]), 0.3, 0.7, spread)
        >>> estimate.text, round(estimate.p, 3)
        ('0.50 [0.30, 0.70]', 0.05)
    """

    value: float
    """The mean over seeds."""
    of_seeds: np.ndarray
    """The sum by each seed, float64 (S,)."""
    low: float
    """Lower end of the 95% interval over seeds and images."""
    high: float
    """Upper end of the interval."""
    spread: Spread
    """The variance that the interval rests on."""

    @property
    def text(self) -> str:
        """The value with its interval."""
        if math.isnan(self.value):
            return "-"
        # Rounded before it is written, so that nothing is -0.00.
        value, low, high = (round(number, 2) + 0.0 for number in (self.value, self.low, self.high))
        return f"{value:.2f} [{low:.2f}, {high:.2f}]"

    @property
    def p(self) -> float:
        """One-sided p that the sum is 0 or less, by Student's t.

        It is NaN if the sum or its variance is unknown. Without any variance it is 0 for a sum above 0, and else 1.
        """
        total = self.spread.total
        if math.isnan(self.value) or math.isinf(total):
            return math.nan
        if total == 0:
            return float(self.value <= 0)
        return float(stdtr(self.spread.freedom, -self.value / math.sqrt(total)))


def estimate_flip(units: AssayUnits, outcomes: Outcomes, weights: np.ndarray) -> FlipEstimate:
    """Returns a weighted sum of the groups' Flip with its 95% interval.

    The interval is Student's t with the variance over seeds and that over images (or clusters) added, and the degrees
    of freedom of Satterthwaite's sum. It is clipped to what the weights allow.

    Args:
        units: class, value and cluster of each image.
        outcomes: of the same images.
        weights: of the groups, (F, V).
    """
    flips = group_shares(units, outcomes.foreground, outcomes.flip)
    of_seeds = np.nansum(weights * flips, axis=(1, 2))
    mean = float(of_seeds.mean())
    spread = _spread(units, outcomes, weights, of_seeds)
    low, high = _interval(mean, spread)
    least = float(np.minimum(weights, 0).sum())
    largest = float(np.maximum(weights, 0).sum())
    return FlipEstimate(mean, of_seeds, max(least, low), min(largest, high), spread)


def _interval(mean: float, spread: Spread) -> tuple[float, float]:
    """Returns the 95% interval of a mean by Student's t."""
    if math.isinf(spread.total):
        return -math.inf, math.inf
    if spread.total == 0:
        return mean, mean
    half = float(stdtrit(spread.freedom, 0.975)) * math.sqrt(spread.total)
    return mean - half, mean + half


def _spread(units: AssayUnits, outcomes: Outcomes, weights: np.ndarray, of_seeds: np.ndarray) -> Spread:
    """Returns the variance over seeds, and that over images or clusters by linearisation of the groups' ratios.

    A group of G images or clusters is a sample with G - 1 degrees of freedom. Where a group is one cluster, such as the
    only patient of a scanner, nothing tells the variance.
    """
    seeds = len(of_seeds)
    over_seeds = math.inf
    seed_freedom = 1.0
    if seeds > 1:
        over_seeds = float(of_seeds.var(ddof=1)) / seeds
        seed_freedom = seeds - 1.0
    influence, clusters = _influence_of_clusters(units, outcomes, weights)
    is_weighed = (weights.ravel() != 0) & (clusters > 0)
    if (clusters[is_weighed] < 2).any():
        return Spread(over_seeds, seed_freedom, math.inf, 1.0, np.full(weights.shape, math.nan))
    freedom = np.where(is_weighed, clusters - 1.0, math.inf)
    # A sample's variance is the mean square times G / (G - 1), which is 1 + 1 / freedom.
    influence = influence * np.sqrt(1 + 1 / freedom)[:, None]
    # Summed over groups before squared: a patient with images in several groups moves them together.
    over_images = float((influence.sum(0) ** 2).sum())
    of_groups = (influence**2).sum(1)
    image_freedom = float(freedom.min())
    if of_groups.any():
        image_freedom = float(of_groups.sum() ** 2 / (of_groups**2 / freedom).sum())
    return Spread(over_seeds, seed_freedom, over_images, image_freedom, of_groups.reshape(weights.shape))


def _influence_of_clusters(units: AssayUnits, outcomes: Outcomes, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns how far each cluster moves the sum by each group, (F * V, clusters), and each group's clusters (F * V,).

    An image moves its group's ratio by its deviation from the ratio, as a share of the group's pixels; one that no seed
    tested moves nothing.
    """
    flip = mean_over_seeds(outcomes.flip)
    share = group_shares(units, outcomes.foreground, flip[None])[0][units.class_, units.value]
    pixels = np.where(np.isfinite(flip), np.nan_to_num(outcomes.foreground), 0.0)
    group = group_of_images(units)
    groups = units.classes * units.values
    pixels_of_group = np.bincount(group, pixels, minlength=groups)[group]
    with np.errstate(invalid="ignore", divide="ignore"):
        of_images = weights[units.class_, units.value] * (np.nan_to_num(flip) - share * pixels) / pixels_of_group
    names, cluster = np.unique(units.cluster, return_inverse=True)
    influence = np.zeros((groups, len(names)))
    np.add.at(influence, (group, cluster), np.nan_to_num(of_images))
    is_present = np.zeros(influence.shape, bool)
    is_present[group, cluster] = True
    return influence, is_present.sum(1)
