"""The statistics of scene swap: risk, repair, reliance and context use, from log-odds on scenes. NumPy only."""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from flipjax.config.groups import Groups
from flipjax.metrics.decomposition import Decomposition
from flipjax.metrics.inputs.classes import is_foreground
from flipjax.metrics.scenes.flips import usual_table

LEAST_EVIDENCE = 1e-12
"""Variance of the evidence, in squared nats, below which scenes count as equally informative."""


class SceneSwap(NamedTuple):
    """What swapped scenes say about n images."""

    risk: np.ndarray
    """Swap risk, float64 (n,); NaN without a region."""
    repaired: Decomposition
    """The images after repair."""


def scene_swap(decomposition: Decomposition, log_odds: np.ndarray, center: np.ndarray) -> SceneSwap:
    """Returns swap risk and the decomposition after repair, from the confusion matrices of images.

    Repair gives the predicted foreground one class, so it moves counts between columns of a confusion matrix. The
    predicted label of a region follows from the columns, which exclude ignored pixels.

    Args:
        decomposition: NumPy leaves (n, C, C) and (n,).
        log_odds: (n, K, F) of `scene_marginal` for F foreground classes.
        center: (F,) of `flipjax.intervene.split_point`.

    Example:
        >>> one = Decomposition(np.array([[[4, 1, 0], [0, 3, 1], [0, 0, 0]]]), np.zeros(1))
        >>> swap = scene_swap(one, np.array([[[-2.0, 2.0]]]), np.zeros(2))
        >>> swap.risk.tolist(), swap.repaired.confusion.tolist()
        ([4.0], [[[4, 0, 1], [0, 0, 4], [0, 0, 0]]])
    """
    confusion = np.asarray(decomposition.confusion)
    inside = is_foreground(confusion.shape[-1], decomposition.background)
    foreground = np.flatnonzero(inside)
    risk, elsewhere = swap_regions(confusion.sum(1)[:, foreground], log_odds, center=center)
    # All predicted foreground becomes the class on other scenes. Images without a region, -1, keep their counts below.
    moved = np.where(inside, 0, confusion)
    moved[np.arange(len(moved)), :, foreground[elsewhere]] += confusion[..., foreground].sum(-1)
    repaired = np.where((elsewhere >= 0)[:, None, None], moved, confusion)
    return SceneSwap(risk, dataclasses.replace(decomposition, confusion=repaired))


def swap_regions(counts: np.ndarray, log_odds: ArrayLike, *, center: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the swap risk of each region, float64 (N,), and its class on other scenes, int64 (N,).

    Args:
        counts: int (N, F), pixels of each region predicted as each foreground class.
        log_odds: (N, K, F) of `scene_marginal`.
        center: (F,) of `flipjax.intervene.split_point`.

    Returns:
        The largest centred log-odds of the other classes less those of the predicted class, and the index of the
        largest among all F classes; NaN and -1 without a region.

    Example:
        >>> risk, elsewhere = swap_regions(np.array([[3, 1]]), np.array([[[-2.0, 2.0]]]), center=np.zeros(2))
        >>> risk.tolist(), elsewhere.tolist()
        ([4.0], [1])
    """
    centered = np.asarray(log_odds).astype(np.float64).mean(1) - center
    has_region = ~np.isnan(centered).any(1) & (counts.sum(1) > 0)
    predicted = counts.argmax(1)[:, None]
    of_others = np.where(np.arange(counts.shape[1]) == predicted, -np.inf, centered)
    # An infinite centre less an infinite one is NaN.
    with np.errstate(invalid="ignore"):
        risk = of_others.max(1) - np.take_along_axis(centered, predicted, 1)[:, 0]
    elsewhere = np.where(has_region[:, None], centered, 0).argmax(1)
    return np.where(has_region, risk, np.nan), np.where(has_region, elsewhere, -1)


def scene_reliance(log_odds: ArrayLike) -> float:
    """Returns the fraction of the variance in log-odds that is due to the scene, in [0, 1]. It needs no labels.

    It is the variance over scenes, averaged over images, divided by the sum of that and the variance of the mean
    log-odds over images. It ranks members with one architecture and data set by Flip(rare) - Flip(common), but not
    published models.

    Args:
        log_odds: (n, K, F) of `scene_marginal`, K >= 2; images with NaN are left out.

    Returns:
        A fraction; NaN for one kind of scene or without regions.

    Example:
        >>> half = np.array([-0.5, 0.5])
        >>> round(scene_reliance(np.array([[3.0, 1.0], [-1.0, -3.0]])[..., None] * half), 6)
        0.2
    """
    values = np.asarray(log_odds)
    within = np.var(values, axis=1).sum(-1)
    if values.shape[1] < 2 or not np.isfinite(within).any():
        return math.nan
    between = np.nanvar(values.mean(1), axis=0).sum()
    return float(np.nanmean(within) / (np.nanmean(within) + between))


def scene_shift(log_odds: np.ndarray, all_groups: Groups) -> float:
    """Returns the gain in a class's log-odds from its other scenes to its usual ones, in nats.

    It is twice the mean over the classes; with two classes and two scenes, the change in logit_2 - logit_1.

    Args:
        log_odds: (n, S, F) of `scene_marginal`, on one scene of each kind; regions with NaN are left out.
        all_groups: the F classes and S scenes.

    Example:
        >>> scene_shift(np.array([[[3.0, -3.0], [2.0, -2.0]]]), Groups())
        2.0
    """
    has_region = ~np.isnan(log_odds).any((1, 2))
    if log_odds.shape[1:] != (all_groups.scenes, all_groups.classes) or not has_region.any():
        return math.nan
    means = log_odds[has_region].mean(0, dtype=np.float64)
    usual = usual_table(all_groups).T
    return float(2 * (means.mean(0, where=usual) - means.mean(0, where=~usual)).mean())


def training_evidence(groups: np.ndarray, all_groups: Groups) -> np.ndarray:
    """Returns log P(scene | class) in a training table, float64 (S, F); -inf for a group without images.

    Args:
        groups: int (n,), groups of the table.
        all_groups: the F classes and S scenes.

    Example:
        >>> np.exp(training_evidence(np.array([0, 0, 0, 1, 2, 3, 3, 3]), Groups())).tolist()
        [[0.75, 0.25], [0.25, 0.75]]
    """
    counts = np.bincount(groups, minlength=all_groups.count).reshape(all_groups.classes, -1).T
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log(counts / counts.sum(0))


def scene_use(log_odds: np.ndarray, evidence: np.ndarray) -> float:
    """Returns context use: the change in regions' log-odds per nat of evidence from the scene.

    It is the slope over scenes, within regions and pairs of classes (`slope_within`). With two classes and two scenes
    it is the mean shift in log-odds between the scenes divided by 2 log(rho / (1 - rho)).

    Args:
        log_odds: (n, S, F) of `scene_marginal`, on one scene of each kind; regions with NaN are left out.
        evidence: (S, F) of `training_evidence`.

    Returns:
        0 if the scene has no influence, 1 if it has as much as in the training set. NaN if the evidence is equal for
        all scenes, as at rho 0.5, or infinite, as at rho 1.

    Example:
        >>> log_odds = np.array([[[3.0, -3.0], [2.0, -2.0]]])  # logit_2 - logit_1 rises by 2 from scene 1 to 2
        >>> evidence = training_evidence(np.array([0, 0, 0, 1, 2, 3, 3, 3]), Groups())
        >>> round(scene_use(log_odds, evidence), 6), round(2 / (2 * math.log(3)), 6)
        (0.910239, 0.910239)
    """
    has_region = ~np.isnan(log_odds).any((1, 2))
    if log_odds.shape[1:] != evidence.shape or not has_region.any() or not np.isfinite(evidence).all():
        return math.nan
    means = log_odds[has_region].mean(0, dtype=np.float64)
    # Differences between the classes of each pair, (S, pairs).
    first, second = np.triu_indices(evidence.shape[1], 1)
    x = evidence[:, second] - evidence[:, first]
    y = means[:, second] - means[:, first]
    return float(slope_within(len(x), x.sum(0), y.sum(0), (x * x).sum(0), (x * y).sum(0)))


def slope_within(n: np.ndarray | int, x: np.ndarray, y: np.ndarray, xx: np.ndarray, xy: np.ndarray) -> np.ndarray:
    """Returns the least-squares slope of y on x with one intercept per stratum: (..., strata) to (...).

    Args:
        n: number of points in each stratum.
        x: sums of x.
        y: sums of y.
        xx: sums of x * x.
        xy: sums of x * y.

    Example:
        >>> slope_within(np.array([2, 1]), np.array([1, 5]), np.array([6, 0]), np.array([1, 25]), np.array([4, 0]))
        array(2.)
    """
    n = np.maximum(n, 1)
    variance = (xx - x * x / n).sum(-1)
    varies = variance > LEAST_EVIDENCE
    slope = (xy - x * y / n).sum(-1) / np.where(varies, variance, 1)
    return np.where(varies, slope, np.nan)
