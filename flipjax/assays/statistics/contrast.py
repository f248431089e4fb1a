"""The contrast of an assay: how much more rare than common images flip, with classes and values cancelled.

A plain difference of Flip between rare and common groups would accuse a value whose images are harder for every class,
such as a noisy scanner. The contrast is the effect of being rare beside those of class and value in a table of the
groups; for two classes and two values it is half of their interaction.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from scipy.special import stdtr, stdtrit

from flipjax.assays.statistics.association import usual_mask
from flipjax.assays.statistics.looks import p_over_looks
from flipjax.assays.statistics.units import AssayUnits, permuted_values

PERMUTATIONS = 2000
"""Permutations of the attribute within classes, under which the same predictions have no contrast."""


@dataclasses.dataclass(frozen=True, eq=False)
class Outcomes:
    """The outcomes of images, by networks that did not train on them.

    Attributes:
        correct: correct pixels of the true object, float64 (S, n) for S seeds.
        flip: flipped pixels of the true object, float64 (S, n).
        spill: background pixels predicted as foreground, float64 (S, n).
        foreground: pixels of the true object, float64 (n,).
    """

    correct: np.ndarray
    flip: np.ndarray
    spill: np.ndarray
    foreground: np.ndarray

    @property
    def seeds(self) -> int:
        """Number of seeds."""
        return len(self.flip)

    @property
    def tested(self) -> np.ndarray:
        """Whether each image was tested by any seed, bool (n,)."""
        return np.isfinite(self.flip).max(axis=0)

    def where(self, images: np.ndarray) -> "Outcomes":
        """Returns the outcomes of the images that a bool (n,) chooses."""
        return Outcomes(
            self.correct[:, images],
            self.flip[:, images],
            self.spill[:, images],
            self.foreground[images],
        )


@dataclasses.dataclass(frozen=True)
class Variance:
    """The estimated variance of a mean."""

    value: float
    """Infinite if it cannot be estimated."""
    freedom: float
    """Degrees of freedom of the estimate."""


@dataclasses.dataclass(frozen=True, eq=False)
class Spread:
    """The variance of a weighted sum of the groups' Flip, by its parts, which add up."""

    seeds: Variance
    """Variance of the mean over seeds."""
    images: Variance
    """Over images, or clusters."""
    of_groups: np.ndarray
    """Variance over images that each group contributes, float64 (F, V)."""

    @property
    def total(self) -> float:
        """The variance of both parts."""
        return self.seeds.value + self.images.value

    @property
    def freedom(self) -> float:
        """Satterthwaite's degrees of freedom of the total; infinite without any variance."""
        if self.total == 0:
            return math.inf
        squares = self.seeds.value**2 / self.seeds.freedom + self.images.value**2 / self.images.freedom
        return self.total**2 / squares


@dataclasses.dataclass(frozen=True, eq=False)
class FlipEstimate:
    """A weighted sum of the groups' Flip.

    Attributes:
        value: mean over seeds.
        of_seeds: float64 (S,).
        low: of the 95% interval over seeds and images.
        high: of it.
        spread: the variance that the interval rests on.
    """

    value: float
    of_seeds: np.ndarray
    low: float
    high: float
    spread: Spread

    @property
    def text(self) -> str:
        """The value with its interval.

        Example:
            >>> spread = Spread(Variance(0.01, 1), Variance(0.001, 9), np.full((2, 2), 0.001))
            >>> FlipEstimate(0.5, np.array([0.4, 0.6]), 0.3, 0.7, spread).text
            '0.50 [0.30, 0.70]'
        """
        if math.isnan(self.value):
            return "-"
        # Rounded before it is written, so that nothing is -0.00.
        value, low, high = (round(number, 2) + 0.0 for number in (self.value, self.low, self.high))
        return f"{value:.2f} [{low:.2f}, {high:.2f}]"

    @property
    def p(self) -> float:
        """One-sided p that the sum is 0 or less, by Student's t; NaN if its variance is 0 or unknown."""
        total = self.spread.total
        if total == 0 or math.isinf(total):
            return math.nan
        return float(stdtr(self.spread.freedom, -self.value / math.sqrt(total)))


@dataclasses.dataclass(frozen=True, eq=False)
class Contrast:
    """The contrast of a population, and its place among those of permuted attributes.

    Attributes:
        estimate: in [-1, 1].
        p: one-sided; fraction of permuted attributes that have as large a contrast, or had stopped at an earlier look.
        permuted: 95th percentile of the contrast under permuted attributes.
        unit: what was permuted, `images` or `clusters`.
        looks: seeds at each look, ascending; at the last one all.
    """

    estimate: FlipEstimate
    p: float
    permuted: float
    unit: str
    looks: tuple[int, ...]


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
    y, value = np.nonzero(counts)
    rare = ~usual_mask(usual, values)[y, value]
    effects = np.concatenate([np.eye(classes)[y], np.eye(values)[value]], axis=1)
    # The part of rareness that classes and values do not explain is what least squares weighs Flip by.
    unexplained = rare - effects @ np.linalg.pinv(effects) @ rare
    squares = unexplained @ unexplained
    # 0 but for rounding: classes and values explain all of rareness.
    if squares < 1e-9:
        return None
    weights = np.zeros(counts.shape)
    weights[y, value] = (unexplained / squares).round(12) + 0.0
    return weights


def _group_of_images(units: AssayUnits) -> np.ndarray:
    """Returns the group of each image, class * V + value of V values, int (n,)."""
    return units.class_ * units.values + units.value


def group_flips(units: AssayUnits, outcomes: Outcomes, numerator: np.ndarray) -> np.ndarray:
    """Returns the share of each group's true foreground that a numerator covers, (S, F, V).

    Args:
        units: class and value of each image.
        outcomes: whose foreground is the denominator.
        numerator: (S, n), NaN for images that a seed did not test.

    Returns:
        float64, NaN for groups without tested images.
    """
    group = _group_of_images(units)
    in_group = np.zeros((len(group), units.classes * units.values))
    in_group[np.arange(len(group)), group] = 1
    was_tested = np.isfinite(numerator)
    denominator = np.where(was_tested, np.nan_to_num(outcomes.foreground), 0.0) @ in_group
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = (np.where(was_tested, numerator, 0.0) @ in_group) / denominator
    return shares.reshape(-1, units.classes, units.values)


def estimate_flip(units: AssayUnits, outcomes: Outcomes, weights: np.ndarray) -> FlipEstimate:
    """Returns a weighted sum of the groups' Flip with its 95% interval.

    The interval is Student's t with the variance over seeds and that over images (or clusters) added, and the degrees
    of freedom of Satterthwaite's sum. It is clipped to what the weights allow.

    Args:
        units: class, value and cluster of each image.
        outcomes: of the same images.
        weights: (F, V).
    """
    flips = group_flips(units, outcomes, outcomes.flip)
    of_seeds = np.nansum(weights * flips, axis=(1, 2))
    value = float(of_seeds.mean())
    over_images, of_groups = _image_variance(units, outcomes, weights)
    spread = Spread(_seed_variance(of_seeds), over_images, of_groups)
    low, high = _interval(value, spread)
    least = float(np.minimum(weights, 0).sum())
    largest = float(np.maximum(weights, 0).sum())
    return FlipEstimate(value, of_seeds, max(least, low), min(largest, high), spread)


def measure_contrast(
    units: AssayUnits,
    usual: tuple[tuple[int, ...], ...],
    outcomes: Outcomes,
    *,
    looks: Sequence[int] = (),
    seed: int = 0,
    permutations: int = PERMUTATIONS,
) -> Contrast | None:
    """Measures the contrast of a population, its interval, and its place among permuted attributes.

    The null permutes the attribute within the classes and keeps the predictions, so that nothing is trained for it.

    Args:
        units: class, value and cluster of each image.
        usual: the usual values of each class.
        outcomes: of the same images.
        looks: the number of seeds at each look so far, ascending; empty: one look at all.
        seed: of the permutations.
        permutations: their number.

    Returns:
        The contrast; None if the groups that hold images do not determine it.
    """
    weights = contrast_weights(units.counts, usual)
    if weights is None:
        return None
    looks = tuple(looks) or (outcomes.seeds,)
    estimate = estimate_flip(units, outcomes, weights)
    # A row a look, whose outcomes are the means over the seeds so far.
    means = np.stack([mean_over_seeds(outcomes.flip[:count]) for count in looks])
    averaged = dataclasses.replace(outcomes, flip=means)
    unit, drawn = permuted_values(units, np.random.default_rng(seed), permutations, within_classes=True)
    null = np.empty((permutations, len(looks)))
    for draw, values in enumerate(drawn):
        shares = group_flips(dataclasses.replace(units, value=values), averaged, averaged.flip)
        null[draw] = np.nansum(weights * shares, axis=(1, 2))
    p = p_over_looks(null, estimate.value, looks)
    return Contrast(estimate, p, float(np.quantile(null[:, -1], 0.95)), unit, looks)


def mean_over_seeds(values: np.ndarray) -> np.ndarray:
    """Returns the mean over the seeds that tested an image, NaN where none did."""
    was_tested = np.isfinite(values)
    count = was_tested.sum(0)
    total = np.where(was_tested, values, 0.0).sum(0)
    return np.where(count > 0, total / np.maximum(1, count), np.nan)


def _seed_variance(of_seeds: np.ndarray) -> Variance:
    """Returns the variance of the mean of seeds."""
    count = len(of_seeds)
    if count < 2:
        return Variance(math.inf, 1.0)
    return Variance(float(of_seeds.var(ddof=1)) / count, count - 1.0)


def _image_variance(units: AssayUnits, outcomes: Outcomes, weights: np.ndarray) -> tuple[Variance, np.ndarray]:
    """Returns the variance over images or clusters, by linearisation of the groups' ratios, and each group's part.

    A group of G images or clusters is a sample with G - 1 degrees of freedom. Where a group is one cluster, such as the
    only patient of a scanner, nothing tells the variance.
    """
    group = _group_of_images(units)
    groups = units.classes * units.values
    names, cluster = np.unique(units.cluster, return_inverse=True)
    # Influence and presence of each cluster in each group, (groups, clusters).
    influence = np.zeros((groups, len(names)))
    np.add.at(influence, (group, cluster), _influences(units, outcomes, weights))
    is_present = np.zeros(influence.shape, bool)
    is_present[group, cluster] = True
    clusters_of_group = is_present.sum(1)
    is_weighed = (weights.ravel() != 0) & (clusters_of_group > 0)
    if (clusters_of_group[is_weighed] < 2).any():
        return Variance(math.inf, 1.0), np.full(weights.shape, math.nan)
    freedom = np.where(is_weighed, clusters_of_group - 1.0, math.inf)
    # A sample's variance is the mean square times G / (G - 1), which is 1 + 1 / freedom.
    influence *= np.sqrt(1 + 1 / freedom)[:, None]
    # Summed over groups before squared: a patient with images in several groups moves them together.
    variance = float((influence.sum(0) ** 2).sum())
    of_groups = (influence**2).sum(1)
    freedom_of_sum = float(freedom.min())
    if of_groups.any():
        freedom_of_sum = float(of_groups.sum() ** 2 / (of_groups**2 / freedom).sum())
    return Variance(variance, freedom_of_sum), of_groups.reshape(weights.shape)


def _influences(units: AssayUnits, outcomes: Outcomes, weights: np.ndarray) -> np.ndarray:
    """Returns how far each image moves the weighted sum of the groups' Flip, float64 (n,); 0 if no seed tested it.

    It moves its group's ratio by its deviation from the ratio, as a share of the group's pixels.
    """
    flip = mean_over_seeds(outcomes.flip)
    share = group_flips(units, outcomes, flip[None])[0][units.class_, units.value]
    pixels = np.where(np.isfinite(flip), np.nan_to_num(outcomes.foreground), 0.0)
    group = _group_of_images(units)
    pixels_of_group = np.bincount(group, pixels, minlength=units.classes * units.values)[group]
    with np.errstate(invalid="ignore", divide="ignore"):
        influence = weights[units.class_, units.value] * (np.nan_to_num(flip) - share * pixels) / pixels_of_group
    return np.nan_to_num(influence)


def _interval(mean: float, spread: Spread) -> tuple[float, float]:
    """Returns the 95% interval of a mean by Student's t."""
    if math.isinf(spread.total):
        return -math.inf, math.inf
    if spread.total == 0:
        return mean, mean
    half = float(stdtrit(spread.freedom, 0.975)) * math.sqrt(spread.total)
    return mean - half, mean + half
