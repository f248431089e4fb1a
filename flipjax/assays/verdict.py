"""The verdict of an assay: used, not used, or cannot be told."""

import dataclasses

import numpy as np

from flipjax.assays.contrast import Contrast, Outcomes, group_flips, mean_over_seeds
from flipjax.assays.units import AssayUnits
from flipjax.results.verdicts import FEWEST, LEVEL, shared_p

USED = "used"
"""Verdict: models use the attribute."""
NOT_USED = "not used"
"""Verdict: models do not use the attribute."""
UNKNOWN = "cannot be told"
"""Verdict: it cannot be told."""


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
        p_seeds: of the rule of verdicts, two-sided over seeds; NaN if nothing was tested.
    """

    word: str
    reason: str
    help: str = ""
    p_seeds: float = float("nan")


def measure_learning(units: AssayUnits, rare: np.ndarray, tested: Outcomes) -> Learnt:
    """Returns whether networks learnt the classes.

    Args:
        units: class, value and cluster of each image.
        rare: bool (F, V), the rare groups.
        tested: of the images.
    """
    # Of the pixels that are predicted as any foreground.
    as_foreground = dataclasses.replace(tested, foreground=mean_over_seeds(tested.correct + tested.flip))
    shares = group_flips(units, as_foreground, tested.correct)
    common = (units.counts > 0) & ~rare
    accuracy = float(np.nanmean(shares[:, common]))
    return Learnt(accuracy, (1 + 1 / units.classes) / 2)


def judge_contrast(contrast: Contrast, learnt: Learnt, *, margin: float, attribute: str) -> AssayVerdict:
    """Returns the verdict on a contrast.

    A verdict needs as many seeds as those of `flipjax.results.verdicts`, and learnt classes. `used`: the contrast is
    above 0 by their rule, exceeds 95% of permuted attributes, and its interval does not lie within the margin. `not
    used`: its interval lies within the margin, which is evidence of equivalence and not the absence of evidence.

    Args:
        contrast: of the population.
        learnt: whether it learnt the classes.
        margin: the largest contrast that does not matter.
        attribute: its name.
    """
    estimate = contrast.estimate
    seeds = len(estimate.of_seeds)
    p_seeds = float("nan")
    if seeds > 1:
        variance = float(estimate.of_seeds.var(ddof=1))
        p_seeds = float(shared_p([estimate.value], [variance], [seeds])[0])
    if not learnt.enough:
        reason = (
            f"The networks do not learn the classes: in common groups {learnt.accuracy:.2f} of the found pixels "
            f"have the right class, and {learnt.needed:.2f} are needed."
        )
        advice = "More epochs (--budget), larger images (--size) or a pretrained encoder (--network) may help."
        return AssayVerdict(UNKNOWN, reason, advice, p_seeds)
    if seeds < FEWEST:
        reason = f"The contrast is {estimate.text}; a verdict needs {FEWEST} seeds, and {seeds} were trained."
        return AssayVerdict(UNKNOWN, reason, f"--seeds {FEWEST} or more.", p_seeds)
    if -margin <= estimate.low and estimate.high <= margin:
        reason = f"The contrast, {estimate.text}, lies within the margin of {margin:g}."
        return AssayVerdict(NOT_USED, reason, p_seeds=p_seeds)
    above = estimate.value > 0 and p_seeds < LEVEL
    if above and contrast.p < LEVEL:
        reason = (
            f"Images with an unusual {attribute} flip more, by {estimate.text}; with a permuted {attribute} it would "
            f"be at most {contrast.permuted:.2f} in 95% of cases."
        )
        return AssayVerdict(USED, reason, p_seeds=p_seeds)
    reason = f"The contrast, {estimate.text}, is neither clearly above 0 nor within the margin of {margin:g}."
    return AssayVerdict(UNKNOWN, reason, "More seeds (--seeds) or more images make the interval shorter.", p_seeds)
