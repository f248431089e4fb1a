"""Says how many more counter-examples would end a shortcut, and measures the methods that may end it without them."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from scipy.optimize import isotonic_regression
from scipy.special import logit

from flipjax.assays.options import FROZEN
from flipjax.assays.population import NetworkSetting
from flipjax.assays.statistics.estimates import FlipEstimate, estimate_flip
from flipjax.assays.statistics.outcomes import Outcomes
from flipjax.assays.statistics.units import AssayUnits

LARGEST_FACTOR = 8.0
"""The largest multiple of the counter-examples that is extrapolated to."""
FEWEST_LEVELS = 3
"""Levels with counter-examples below which nothing is extrapolated: a line through two has no check."""
FLIP_LIMITS = (0.005, 0.995)
"""Limits of Flip before its log-odds are taken, which are infinite at 0 and 1."""

SETTINGS = (
    NetworkSetting(0.5, "ce"),
    NetworkSetting(0.25, "ce"),
    NetworkSetting(1.0, "balanced"),
    NetworkSetting(1.0, "group_dro"),
    NetworkSetting(0.0, "ce"),
)
"""Fewer counter-examples, for the curve, and methods that need no new data; the budget leaves out the last first.

Two fractions come first: nothing is extrapolated from fewer than FEWEST_LEVELS levels.
"""
SWAP = NetworkSetting(1.0, "bg_swap")
"""A method of composite pools, tried before the other methods."""


def settings_of(kind: str, network: str) -> list[NetworkSetting]:
    """Returns the settings that show how a shortcut ends, the most important first.

    Args:
        kind: of the pool, `composite` or `photo`.
        network: of `options.NETWORKS`; frozen features have no method that changes pixels.
    """
    if kind == "composite" and network != FROZEN:
        return [*SETTINGS[:2], SWAP, *SETTINGS[2:]]
    return [*SETTINGS]


@dataclasses.dataclass(frozen=True, eq=False)
class Level:
    """The population at a number of counter-examples, or with a method.

    Attributes:
        name: of the level or method.
        kept: fraction of the counter-examples in training.
        flip_rare: Flip in the rare groups.
        flip_common: Flip in the common groups.
        foreground_iou: IoU of foreground against background.
    """

    name: str
    kept: float
    flip_rare: FlipEstimate
    flip_common: FlipEstimate
    foreground_iou: float


@dataclasses.dataclass(frozen=True, eq=False)
class CounterExamples:
    """How many counter-examples bring Flip in the rare groups to a target.

    Attributes:
        target: the wanted Flip.
        factor: the needed number, as a multiple of what the data holds; NaN if it cannot be told.
        to_collect: int64 (F, V), images to add to each rare group.
        kind: `enough` (the data's own number suffices), `extrapolated`, or `more than can be told`.
        sufficient: the smallest fraction of the data's own that suffices; NaN if not even all do.
    """

    target: float
    factor: float
    to_collect: np.ndarray
    kind: str
    sufficient: float


def measure_level(name: str, kept: float, units: AssayUnits, rare: np.ndarray, outcomes: Outcomes) -> Level:
    """Measures the population of a level.

    Args:
        name: of the level or method.
        kept: fraction of the counter-examples in training.
        units: class, value and cluster of each image.
        rare: bool (F, V), the rare groups.
        outcomes: of the same images.
    """
    held = units.counts > 0
    intersection = outcomes.correct + outcomes.flip
    union = np.where(np.isfinite(intersection), outcomes.foreground + outcomes.spill, np.nan)
    iou = np.nansum(intersection, axis=1) / np.nansum(union, axis=1)
    return Level(
        name=name,
        kept=kept,
        flip_rare=estimate_flip(units, outcomes, _mean_weights(rare & held)),
        flip_common=estimate_flip(units, outcomes, _mean_weights(~rare & held)),
        foreground_iou=float(iou.mean()),
    )


def fewest_first(levels: Sequence[Level]) -> list[Level]:
    """Returns levels in order of the counter-examples that they keep."""
    return sorted(levels, key=_kept)


def _kept(level: Level) -> float:
    return level.kept


def _mean_weights(chosen: np.ndarray) -> np.ndarray:
    """Returns the weights of a mean over the chosen groups, bool (F, V)."""
    return chosen / max(1, chosen.sum())


def count_counter_examples(
    levels: Sequence[Level], counts: np.ndarray, rare: np.ndarray, *, target: float
) -> CounterExamples:
    """Returns how many counter-examples bring Flip in the rare groups to a target.

    Flip is made monotone over the levels (isotonic regression). Within the data the smallest level that reaches the
    target is enough. Beyond, the log-odds of Flip are a line over the log of the number of counter-examples, which at a
    fixed number of common images is minus the log-odds of rho; it is followed to LARGEST_FACTOR times the data's own,
    and no farther than to balance: a class then has as many images in a rare group as in its largest common one.

    Args:
        levels: with different fractions kept, all of the data's own among them.
        counts: (F, V), images of each group.
        rare: bool (F, V).
        target: the wanted Flip in the rare groups.
    """
    ordered = fewest_first(levels)
    kept = np.array([level.kept for level in ordered])
    flips = isotonic_regression([level.flip_rare.value for level in ordered], increasing=False).x
    unknown = CounterExamples(
        target=target,
        factor=math.nan,
        to_collect=np.zeros(counts.shape, np.int64),
        kind="more than can be told",
        sufficient=math.nan,
    )
    reached = kept[flips <= target]
    if len(reached):
        return dataclasses.replace(unknown, factor=1.0, kind="enough", sufficient=float(reached.min()))
    factor = _extrapolated(kept, flips, target)
    if factor > LARGEST_FACTOR:
        return unknown
    # A product that lies above a whole number by rounding alone must not ask for one more image.
    to_collect = np.ceil(np.where(rare, counts, 0) * (factor - 1) - 1e-9).astype(np.int64)
    largest_common = np.where(rare, 0, counts).max(axis=1, keepdims=True)
    if (rare & (counts + to_collect > largest_common)).any():
        return unknown
    return dataclasses.replace(unknown, factor=factor, to_collect=to_collect, kind="extrapolated")


def _extrapolated(kept: np.ndarray, flips: np.ndarray, target: float) -> float:
    """Returns the multiple of the data's own counter-examples at which Flip would reach the target, or infinity.

    Example:
        >>> from scipy.special import expit
        >>> flips = expit(np.log(1 / np.array([0.25, 0.5, 1.0])))
        >>> round(_extrapolated(np.array([0.25, 0.5, 1.0]), flips, 0.1), 3)
        9.0
    """
    has_logarithm = kept > 0
    if has_logarithm.sum() < FEWEST_LEVELS:
        return math.inf
    log_kept = np.log(kept[has_logarithm])
    log_odds = logit(np.clip(flips[has_logarithm], *FLIP_LIMITS))
    slope, log_odds_of_all = np.polyfit(log_kept, log_odds, 1)
    # More counter-examples do not lower Flip, but for rounding.
    if slope >= -1e-9:
        return math.inf
    log_factor = (logit(target) - log_odds_of_all) / slope
    # Its exponential could be too large for a float.
    if log_factor > math.log(1e6):
        return math.inf
    return float(max(1.0, math.exp(log_factor)))
