"""Computes centre, swap risk, repair and context use from the log-odds of regions on scenes. Imports no JAX."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

import numpy as np

from flipjax.groups import Groups
from flipjax.metrics.classes import Background, is_foreground
from flipjax.metrics.decomposition import Decomposition
from flipjax.metrics.pull import usual_table

CENTERS = ("median", "quota")
SUM = 1e-3
"""Largest distance of the sum of a prior from 1."""
MOST_REGIONS = 2000
"""Regions from which a quota is estimated; of more, evenly spaced ones."""
LEAST_EVIDENCE = 1e-12
"""Variance of the evidence, in squared nats, below which scenes count as equally informative."""


class SceneSwap(NamedTuple):
    """Swap risk of n images, float64 (n,), NaN without a region, and their decomposition after repair."""

    risk: np.ndarray
    repaired: Decomposition


def split_point(log_odds: Any, *, center: Any = None, prior: Any = None) -> np.ndarray:
    """Estimates the log-odds at which a model is undecided between classes, from unlabelled images.

    Pasting shifts log-odds, so zero is a poor centre. `median` assumes equally frequent classes. `quota` chooses
    per-class offsets so that predicted class counts match the prior, on at most 2,000 evenly spaced images; use it for
    more than two classes, which are rarely balanced. Both agree for two classes, equal frequencies and an even number
    of regions.

    Args:
        log_odds: (n, K, F) of `scene_marginal`; images with NaN are left out.
        center: 'median', 'quota', (F,) numbers, or for F = 2 one number, logit_2 - logit_1. None: 'quota' with a prior
            or F > 2, else 'median'.
        prior: (F,) class frequencies that sum to 1, for 'quota': known ones, or those predicted on usual images
            (`label_shares`). A class of frequency 0 has an infinite centre and is never predicted.

    Returns:
        (F,) float32 that sum to 0 over the classes in use; NaN if no image has a region.

    Raises:
        ValueError: `center` is unknown, the prior is missing, superfluous or invalid, or shapes do not fit.

    Source: the correction of class frequencies, Saerens, Latinne and Decaestecker, Adjusting the outputs of a
    classifier to new a priori probabilities, 2002.

    Example:
        >>> log_odds = np.array([-4.0, -3.0, -3.0, 5.0])[:, None, None] * np.array([-0.5, 0.5])
        >>> split_point(log_odds).tolist(), split_point(log_odds, center=1.0).tolist()
        ([1.5, -1.5], [-0.5, 0.5])
    """
    log_odds = np.asarray(log_odds, np.float64)
    if log_odds.ndim != 3 or log_odds.shape[-1] < 2:
        raise ValueError(f"log_odds: expected (images, kinds of scenes, F), F >= 2, found shape {log_odds.shape}.")
    identity = log_odds.mean(1)
    identity = identity[~np.isnan(identity).any(1)]
    F = identity.shape[1]
    if center is None:
        center = "quota" if prior is not None or F > 2 else "median"
    named = isinstance(center, str)
    if named and center not in CENTERS:
        raise ValueError(f"center: expected one of {', '.join(CENTERS)}, or numbers, found {center!r}.")
    if (named and center == "quota") == (prior is None):
        found = "none" if prior is None else "some"
        raise ValueError(f"prior: expected {F} class frequencies with center='quota' and none else, found {found}.")
    shares = None if prior is None else _check_prior(prior, F)
    if not named:
        points = np.asarray(center, np.float64)
        points = np.stack([-points, points]) / 2 if points.ndim == 0 and F == 2 else points
        if points.shape != (F,):
            raise ValueError(f"center: expected {F} numbers, one for each class, found shape {points.shape}.")
    elif not len(identity):
        return np.full(F, np.nan, np.float32)
    else:
        points = np.quantile(identity, (F - 1) / F, axis=0) if shares is None else _quota(identity, shares)
    return (points - points.mean(where=points < np.inf)).astype(np.float32)


def label_shares(labels: Any, *, num_classes: int, background: Background = 0) -> np.ndarray:
    """Returns the class frequencies of region labels, float64 (F,), as a prior for `split_point`.

    Args:
        labels: integers (n,) of `region_label` on usual images; background and -1 are ignored.
        num_classes: C, including background.
        background: the background class, a tuple of several, or None.

    Raises:
        ValueError: no label is a foreground class.

    Example:
        >>> label_shares([1, 1, 2, 0, 1], num_classes=4).tolist()
        [0.75, 0.25, 0.0]
    """
    array = np.asarray(labels)
    counts = np.bincount(array[array >= 0], minlength=num_classes)[:num_classes]
    counts = counts[is_foreground(num_classes, background)]
    if not counts.any():
        raise ValueError("labels: expected a label of a foreground class, found none.")
    return counts / counts.sum()


def _check_prior(prior: Any, F: int) -> np.ndarray:
    shares = np.asarray(prior, np.float64)
    # The negated form also rejects NaN.
    fits = shares.shape == (F,) and shares.min() >= 0 and abs(shares.sum() - 1) <= SUM and (shares > 0).sum() > 1
    if not fits:
        raise ValueError(f"prior: expected {F} numbers of 0 or more, two above 0, with sum 1, found {shares.tolist()}.")
    return shares / shares.sum()


def _quota(identity: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Returns offsets (F,) that assign n regions to classes with counts closest to n * shares.

    The offsets lie in the middle of the dual solutions of the assignment with these counts and the largest log-odds.
    """
    # Imported here because it is slow, and most who read log-odds need no quota.
    from scipy.optimize import linear_sum_assignment

    used = shares > 0
    # The solver needs n^2 memory and up to n^3 time.
    scores = identity[:: -(-len(identity) // MOST_REGIONS), used]
    exact = len(scores) * shares[used]
    counts = np.floor(exact).astype(np.int64)
    counts[np.argsort(counts - exact, kind="stable")[: len(scores) - counts.sum()]] += 1
    places = np.repeat(np.arange(len(counts)), counts)
    classes = places[linear_sum_assignment(scores[:, places], maximize=True)[1]]
    points = np.full(len(shares), np.inf)
    points[used] = _middle(scores, classes)
    return points


def _middle(scores: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Returns the middle of the offsets (F,) that keep regions in their classes.

    A class without regions has no upper bound; its offset exceeds all regions by their mean distance.
    """
    F = scores.shape[1]
    own = np.take_along_axis(scores, classes[:, None], 1)
    held = np.flatnonzero(np.bincount(classes, minlength=F))
    # Least loss of a move from class c to d, first directly, then through other classes.
    losses = np.stack([(own - scores)[classes == c].min(0)[held] for c in held])
    for k in range(len(held)):
        losses = np.minimum(losses, losses[:, [k]] + losses[k])
    points = np.zeros(F)
    points[held] = (losses - losses.T).mean(1) / 2
    entry = scores - own + points[classes][:, None]
    empty = np.setdiff1d(np.arange(F), held)
    points[empty] = (entry.max(0) + (entry.max(0) - entry.min(0)) / len(scores))[empty]
    return points


def scene_swap(decomposition: Decomposition, log_odds: np.ndarray, center: np.ndarray) -> SceneSwap:
    """Returns swap risk and the decomposition after repair, from the confusion matrices of images.

    Repair gives the predicted foreground one class, so it moves counts between columns of a confusion matrix. The
    predicted label of a region follows from the columns, which exclude ignored pixels.

    Args:
        decomposition: NumPy leaves (n, C, C) and (n,).
        log_odds: (n, K, F) of `scene_marginal` for F foreground classes.
        center: (F,) of `split_point`.

    Example:
        >>> one = Decomposition(np.array([[[4, 1, 0], [0, 3, 1], [0, 0, 0]]]), np.zeros(1))
        >>> swap = scene_swap(one, np.array([[[-2.0, 2.0]]]), np.zeros(2))
        >>> swap.risk.tolist(), swap.repaired.confusion.tolist()
        ([4.0], [[[4, 0, 1], [0, 0, 4], [0, 0, 0]]])
    """
    confusion = np.asarray(decomposition.confusion)
    inside = is_foreground(confusion.shape[-1], decomposition.background)
    foreground = np.flatnonzero(inside)
    risk, place = swap_regions(confusion.sum(1)[:, foreground], log_odds, center=center)
    moved = np.where(inside, 0, confusion)
    moved[np.arange(len(moved)), :, foreground[place]] += confusion[..., foreground].sum(-1)
    repaired = np.where((place >= 0)[:, None, None], moved, confusion)
    return SceneSwap(risk, dataclasses.replace(decomposition, confusion=repaired))


def swap_regions(counts: np.ndarray, log_odds: Any, *, center: Any) -> tuple[np.ndarray, np.ndarray]:
    """Returns the swap risk of each region, float64 (N,), and its class on other scenes, int64 (N,).

    Args:
        counts: int (N, F), pixels of each region predicted as each foreground class.
        log_odds: (N, K, F) of `scene_marginal`.
        center: (F,) of `split_point`.

    Returns:
        The largest centred log-odds of the other classes less those of the predicted class, and the index of the
        largest among all F classes; NaN and -1 without a region.

    Example:
        >>> risk, place = swap_regions(np.array([[3, 1]]), np.array([[[-2.0, 2.0]]]), center=np.zeros(2))
        >>> risk.tolist(), place.tolist()
        ([4.0], [1])
    """
    relative = np.asarray(log_odds).astype(np.float64).mean(1) - center
    known = ~np.isnan(relative).any(1) & (counts.sum(1) > 0)
    own = counts.argmax(1)[:, None]
    others = np.where(np.arange(counts.shape[1]) == own, -np.inf, relative)
    with np.errstate(invalid="ignore"):
        risk = others.max(1) - np.take_along_axis(relative, own, 1)[:, 0]
    return np.where(known, risk, np.nan), np.where(known, np.where(known[:, None], relative, 0).argmax(1), -1)


def scene_reliance(log_odds: Any) -> float:
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
    log_odds = np.asarray(log_odds)
    within = np.var(log_odds, axis=1).sum(-1)
    if log_odds.shape[1] < 2 or not np.isfinite(within).any():
        return math.nan
    between = np.nanvar(log_odds.mean(1), axis=0).sum()
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
    known = ~np.isnan(log_odds).any((1, 2))
    if log_odds.shape[1:] != (all_groups.scenes, all_groups.classes) or not known.any():
        return math.nan
    means = log_odds[known].mean(0, dtype=np.float64)
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
        all scenes, as at rho .5, or infinite, as at rho 1.

    Example:
        >>> log_odds = np.array([[[3.0, -3.0], [2.0, -2.0]]])  # logit_2 - logit_1 rises by 2 from scene 1 to 2
        >>> evidence = training_evidence(np.array([0, 0, 0, 1, 2, 3, 3, 3]), Groups())
        >>> round(scene_use(log_odds, evidence), 6), round(2 / (2 * math.log(3)), 6)
        (0.910239, 0.910239)
    """
    known = ~np.isnan(log_odds).any((1, 2))
    if log_odds.shape[1:] != evidence.shape or not known.any() or not np.isfinite(evidence).all():
        return math.nan
    first, second = np.triu_indices(evidence.shape[1], 1)
    means = log_odds[known].mean(0, dtype=np.float64)
    x, y = (each[:, second] - each[:, first] for each in (evidence, means))
    return float(slope_within(len(x), x.sum(0), y.sum(0), (x * x).sum(0), (x * y).sum(0)))


def slope_within(n: Any, x: Any, y: Any, xx: Any, xy: Any) -> np.ndarray:
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
    slope = (xy - x * y / n).sum(-1) / np.where(variance > LEAST_EVIDENCE, variance, 1)
    return np.where(variance > LEAST_EVIDENCE, slope, np.nan)
