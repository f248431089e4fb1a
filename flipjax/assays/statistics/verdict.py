"""The verdict of an assay, used, not used, or cannot be told, and what would tell where it cannot be."""

import dataclasses
import enum
import math

import numpy as np

from flipjax.assays.statistics.contrast import Contrast
from flipjax.assays.statistics.interim import level_of_analysis, spent_level
from flipjax.assays.statistics.outcomes import Outcomes, group_shares, mean_over_seeds
from flipjax.assays.statistics.units import AssayUnits
from flipjax.results.statistics.verdicts import FEWEST_SEEDS

USED = "used"
"""Verdict: models use the attribute."""
NOT_USED = "not used"
"""Verdict: models do not use the attribute."""
UNKNOWN = "cannot be told"
"""Verdict: it cannot be told."""
ERRORS = 2.0
"""Standard errors by which a contrast must be off 0, or within the margin, to be told."""
OVERESTIMATE = 2
"""Factor by which the number of seeds that would tell may be too large: it rests on the spread of a few."""
MOST_IMAGES = 20.0
"""The largest multiple of the images that is advised."""


@dataclasses.dataclass(frozen=True)
class Learnt:
    """Whether networks learnt the classes in the common groups.

    Attributes:
        accuracy: of the class among the found pixels of the common groups, mean over groups and seeds.
        needed: the least accuracy, half way from chance to 1.
    """

    accuracy: float
    needed: float

    @property
    def enough(self) -> bool:
        """Whether the classes are learnt."""
        return self.accuracy >= self.needed


@dataclasses.dataclass(frozen=True)
class AssayVerdict:
    """The verdict of an assay and its reason.

    Attributes:
        word: `used`, `not used` or `cannot be told`.
        reason: one sentence.
        help: one sentence on how to find out; '' where the verdict is clear.
    """

    word: str
    reason: str
    help: str = ""


@dataclasses.dataclass(frozen=True, eq=False)
class Outlook:
    """What would tell a contrast, if its size and its variance stay as they are.

    Attributes:
        seeds: how many in all; 0 if no number of seeds would.
        collect: int64 (F, V), images (or clusters) of each group in addition; empty if none that can be advised would.
        image_share: of the variance, the part over images.
    """

    seeds: int
    collect: np.ndarray
    image_share: float


class Step(enum.Enum):
    """The next step of an assay after a batch of seeds."""

    NOT_LEARNT = "the classes are not learnt"
    SURE = "the verdict is sure"
    MORE_SEEDS = "more seeds can tell"
    MORE_IMAGES = "only more images can tell"
    OUT_OF_SEEDS = "more seeds can tell than are allowed"
    OUT_OF_BUDGET = "more seeds can tell than there is time for"


def measure_learning(units: AssayUnits, rare: np.ndarray, outcomes: Outcomes) -> Learnt:
    """Returns whether networks learnt the classes.

    Args:
        units: class, value and cluster of each image.
        rare: bool (F, V), the rare groups.
        outcomes: of the same images.
    """
    # Correct pixels are counted among those that are predicted as any foreground.
    found = mean_over_seeds(outcomes.correct + outcomes.flip)
    shares = group_shares(units, found, outcomes.correct)[:, ~rare]
    accuracy = math.nan
    if np.isfinite(shares).any():
        accuracy = float(np.nanmean(shares))
    return Learnt(accuracy, (1 + 1 / units.classes) / 2)


def judge_contrast(contrast: Contrast, learnt: Learnt, *, margin: float, attribute: str) -> AssayVerdict:
    """Returns the verdict on a contrast, of the interim analyses so far.

    A verdict needs as many seeds as those of `flipjax.results.statistics.verdicts`, and learnt classes. `used`: the
    contrast is above 0 over seeds and images, and beyond permuted attributes, each at the level that the analysis may
    spend (`assays.statistics.interim`), and its interval does not lie within the margin. `not used`: its interval lies
    within the margin, which is evidence of equivalence and not the absence of evidence.

    Args:
        contrast: of the population.
        learnt: whether it learnt the classes.
        margin: the largest contrast that does not matter.
        attribute: its name.
    """
    estimate = contrast.estimate
    seeds = len(estimate.of_seeds)
    if not learnt.enough:
        return AssayVerdict(UNKNOWN, not_learnt_sentence(learnt))
    if seeds < FEWEST_SEEDS:
        number = f"{seeds} were"
        if seeds == 1:
            number = "one was"
        reason = f"The contrast is {estimate.text}; a verdict needs {FEWEST_SEEDS} seeds, and {number} trained."
        return AssayVerdict(UNKNOWN, reason)
    if -margin <= estimate.low and estimate.high <= margin:
        return AssayVerdict(NOT_USED, f"The contrast, {estimate.text}, lies within the margin of {margin:g}.")
    above = estimate.p <= level_of_analysis(contrast.analyses)
    if above and contrast.p <= spent_level(contrast.analyses[-1]):
        reason = (
            f"Images with an unusual {attribute} flip more, by {estimate.text}; with a permuted {attribute} it would "
            f"be at most {contrast.permuted:.2f} in 95% of cases."
        )
        return AssayVerdict(USED, reason)
    reason = f"The contrast, {estimate.text}, is neither clearly above 0 nor within the margin of {margin:g}."
    return AssayVerdict(UNKNOWN, reason)


def not_learnt_sentence(learnt: Learnt) -> str:
    """Returns what networks do not learn."""
    return (
        f"The networks do not learn the classes: in common groups {learnt.accuracy:.2f} of the found pixels have the "
        f"right class, and {learnt.needed:.2f} are needed."
    )


def look_ahead(contrast: Contrast, counts: np.ndarray, *, margin: float) -> Outlook:
    """Returns what would tell a contrast that cannot be told yet.

    Its standard error has to be so small that ERRORS of it fit between the contrast and 0, for *used*, or between the
    contrast and the margin, for *not used*, whichever is the easier.

    Args:
        contrast: of the population.
        counts: (F, V), images (or clusters) of each group.
        margin: the largest contrast that does not matter.

    Example:
        >>> from flipjax.assays.statistics.estimates import FlipEstimate, Spread
        >>> spread = Spread(1e-6, 3, 4e-4, 90, np.array([[0, 2e-4], [2e-4, 0]]))
        >>> contrast = Contrast(FlipEstimate(0.03, np.full(4, 0.03), -0.01, 0.07, spread), 0.1, 0.02, "images", (4,))
        >>> look_ahead(contrast, np.array([[90, 10], [10, 90]]), margin=0.05).collect.tolist()
        [[0, 8], [8, 0]]
    """
    value = contrast.estimate.value
    spread = contrast.estimate.spread
    needed_variance = (max(value, margin - abs(value)) / ERRORS) ** 2
    no_images = np.zeros((0, 0), np.int64)
    if not math.isfinite(spread.total) or spread.total == 0:
        return Outlook(0, no_images, math.nan)
    seeds = 0
    if needed_variance > spread.over_images:
        trained = len(contrast.estimate.of_seeds)
        variance_of_one_seed = spread.over_seeds * trained
        seeds = max(trained + 1, math.ceil(variance_of_one_seed / (needed_variance - spread.over_images)))
    # Half of the variance may be over seeds, of which there can be more.
    allowed_over_images = needed_variance - min(spread.over_seeds, needed_variance / 2)
    # The groups' parts add up to more or less than the whole, where clusters have images in several groups.
    target = allowed_over_images * spread.of_groups.sum() / spread.over_images
    collect = images_needed(spread.of_groups, counts, target=target)
    if collect.sum() > MOST_IMAGES * counts.sum():
        collect = no_images
    return Outlook(seeds, collect, spread.over_images / spread.total)


def images_needed(of_groups: np.ndarray, counts: np.ndarray, *, target: float) -> np.ndarray:
    """Returns the fewest further images that bring the sum of the groups' variances to a target.

    A group's variance is inverse to its number of images; the fewest are those of Neyman's allocation, which raises
    groups to numbers in proportion to their standard deviations.

    Args:
        of_groups: (F, V), the variance of each group's part.
        counts: (F, V), its images.
        target: above 0.

    Returns:
        int64 (F, V).

    Example:
        >>> images_needed(np.array([[1.0, 4.0]]), np.array([[10, 10]]), target=3.0).tolist()
        [[0, 10]]
    """
    if of_groups.sum() <= target:
        return np.zeros(counts.shape, np.int64)
    variance = of_groups.ravel()
    images = counts.ravel()
    # The standard deviation of one image of each group, times its weight.
    deviation = np.sqrt(variance * images)
    varying = np.flatnonzero(deviation)
    # The group with the fewest images for its deviation is raised first.
    order = varying[np.argsort(images[varying] / deviation[varying])]
    scale = 0.0
    for count in range(1, len(order) + 1):
        raised = order[:count]
        others = variance.sum() - variance[raised].sum()
        if others >= target:
            continue
        # With `scale * deviation` images each, the raised groups bring the sum to the target.
        scale = deviation[raised].sum() / (target - others)
        # The group that would be raised next, if any, has as many already.
        following = order[count : count + 1]
        if (scale * deviation[following] <= images[following]).all():
            break
    # Rounding alone asks for no image.
    needed = np.ceil(scale * deviation - images - 1e-6)
    return np.maximum(needed, 0).astype(np.int64).reshape(counts.shape)


def next_step(
    verdict: AssayVerdict,
    learnt: Learnt,
    outlook: Outlook,
    *,
    seeds: int,
    allowed: int,
    affordable: int,
) -> Step:
    """Returns what comes after a batch of seeds.

    The seeds that are allowed are trained unless more than `OVERESTIMATE` times as many would tell.

    Args:
        verdict: so far.
        learnt: whether the networks learnt the classes.
        outlook: what would tell.
        seeds: trained so far.
        allowed: the most seeds.
        affordable: the most that there is time for.
    """
    if not learnt.enough:
        return Step.NOT_LEARNT
    if verdict.word != UNKNOWN:
        return Step.SURE
    # Fewer seeds tell too little of the variance to stop at.
    needed = FEWEST_SEEDS
    if seeds >= FEWEST_SEEDS:
        needed = outlook.seeds
    if needed == 0:
        return Step.MORE_IMAGES
    if seeds >= allowed or needed > OVERESTIMATE * allowed:
        return Step.OUT_OF_SEEDS
    if min(needed, allowed) > affordable:
        return Step.OUT_OF_BUDGET
    return Step.MORE_SEEDS
