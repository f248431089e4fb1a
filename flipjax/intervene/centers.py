"""The log-odds at which a model is undecided between classes, from unlabelled images. Imports no JAX."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from flipjax.metrics.classes import Background, is_foreground

CENTERS = ("median", "quota")
"""Names of the ways to estimate it."""
SUM_TOLERANCE = 1e-3
"""Largest distance from 1 of the sum of a prior or of weights."""
MOST_REGIONS = 2000
"""Regions from which a quota is estimated; of more, evenly spaced ones."""


def split_point(log_odds: ArrayLike, *, center: ArrayLike | None = None, prior: ArrayLike | None = None) -> np.ndarray:
    """Estimates the log-odds at which a model is undecided between classes, from unlabelled images.

    Pasting shifts log-odds, so zero is a poor centre. `median` assumes equally frequent classes. `quota` chooses
    per-class offsets so that predicted class counts match the prior, on at most 2,000 evenly spaced regions; use it for
    more than two classes, which are rarely balanced. Both agree for two classes, equal frequencies and an even number
    of regions.

    Args:
        log_odds: (n, K, F) of `scene_marginal`: n regions, one an image, on K kinds of scenes, for F foreground
            classes. Regions with NaN are left out.
        center: 'median', 'quota', (F,) numbers, or for F = 2 one number, logit_2 - logit_1. None: 'quota' with a prior
            or F > 2, else 'median'.
        prior: (F,) class frequencies that sum to 1, for 'quota': known ones, or those predicted on usual images
            (`label_shares`). A class of frequency 0 has an infinite centre and is never predicted.

    Returns:
        (F,) float32 that sum to 0 over the classes in use; NaN if no region is left.

    Raises:
        ValueError: `center` is unknown, the prior is missing, superfluous or invalid, or shapes do not fit.

    Source: the correction of class frequencies, Saerens, Latinne and Decaestecker, Adjusting the outputs of a
    classifier to new a priori probabilities, 2002.

    Example:
        >>> log_odds = np.array([-4.0, -3.0, -3.0, 5.0])[:, None, None] * np.array([-0.5, 0.5])
        >>> split_point(log_odds).tolist(), split_point(log_odds, center=1.0).tolist()
        ([1.5, -1.5], [-0.5, 0.5])
    """
    on_scenes = np.asarray(log_odds, np.float64)
    if on_scenes.ndim != 3 or on_scenes.shape[-1] < 2:
        raise ValueError(f"log_odds: expected (images, kinds of scenes, F), F >= 2, found shape {on_scenes.shape}.")
    mean_log_odds = on_scenes.mean(1)
    mean_log_odds = mean_log_odds[~np.isnan(mean_log_odds).any(1)]
    F = mean_log_odds.shape[1]
    chosen = _resolve_center(center, has_prior=prior is not None, F=F)
    shares = None
    if prior is not None:
        shares = _check_prior(prior, F)
    if isinstance(chosen, str) and not len(mean_log_odds):
        return np.full(F, np.nan, np.float32)
    if not isinstance(chosen, str):
        points = _given_points(chosen, F)
    elif shares is not None:
        points = _quota(mean_log_odds, shares)
    else:
        # Of F equally frequent classes one has 1 / F of the regions, those of its largest log-odds.
        points = np.quantile(mean_log_odds, (F - 1) / F, axis=0)
    # Without the classes that are never predicted, whose point is infinite.
    return (points - points.mean(where=points < np.inf)).astype(np.float32)


def _resolve_center(center: ArrayLike | None, *, has_prior: bool, F: int) -> ArrayLike:
    """Returns the name of a way, or the given numbers; raises ValueError if the name or the prior does not fit."""
    if center is None:
        center = "median"
        if has_prior or F > 2:
            center = "quota"
    is_named = isinstance(center, str)
    if is_named and center not in CENTERS:
        raise ValueError(f"center: expected one of {', '.join(CENTERS)}, or numbers, found {center!r}.")
    is_quota = is_named and center == "quota"
    expected = f"expected {F} class frequencies with center='quota' and none else"
    if is_quota and not has_prior:
        raise ValueError(f"prior: {expected}, found none.")
    if not is_quota and has_prior:
        raise ValueError(f"prior: {expected}, found some.")
    return center


def _given_points(center: ArrayLike, F: int) -> np.ndarray:
    """Returns a given center as one number for each class."""
    points = np.asarray(center, np.float64)
    if points.ndim == 0 and F == 2:
        points = np.stack([-points, points]) / 2
    if points.shape != (F,):
        raise ValueError(f"center: expected {F} numbers, one for each class, found shape {points.shape}.")
    return points


def label_shares(labels: ArrayLike, *, num_classes: int, background: Background = 0) -> np.ndarray:
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


def _check_prior(prior: ArrayLike, F: int) -> np.ndarray:
    """Returns the prior as frequencies of F classes that sum to 1; raises ValueError if it cannot be one."""
    shares = np.asarray(prior, np.float64)
    # The negated form also rejects NaN.
    fits = shares.shape == (F,) and shares.min() >= 0 and (shares > 0).sum() > 1
    fits = fits and abs(shares.sum() - 1) <= SUM_TOLERANCE
    if not fits:
        raise ValueError(f"prior: expected {F} numbers of 0 or more, two above 0, with sum 1, found {shares.tolist()}.")
    return shares / shares.sum()


def _quota(mean_log_odds: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Returns the offset of each class (F,), subtracted from log-odds (n, F) so that counts come closest to n * shares.

    First regions are assigned to classes, with these counts and the largest sum of log-odds. Many offsets give this
    assignment (dual solutions); `_middle` chooses among them.
    """
    # Imported here because it is slow, and most who read log-odds need no quota.
    from scipy.optimize import linear_sum_assignment

    used = shares > 0
    # The solver needs n^2 memory and up to n^3 time.
    step = math.ceil(len(mean_log_odds) / MOST_REGIONS)
    scores = mean_log_odds[::step, used]
    exact_counts = len(scores) * shares[used]
    counts = np.floor(exact_counts).astype(np.int64)
    # The regions that are left go to the classes whose counts were rounded down the most.
    most_rounded_first = np.argsort(counts - exact_counts, kind="stable")
    regions_left = len(scores) - counts.sum()
    counts[most_rounded_first[:regions_left]] += 1
    # A column for each region that a class shall have.
    class_of_column = np.repeat(np.arange(len(counts)), counts)
    _, columns = linear_sum_assignment(scores[:, class_of_column], maximize=True)
    classes = class_of_column[columns]
    points = np.full(len(shares), np.inf)
    points[used] = _middle(scores, classes)
    return points


def _middle(scores: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Returns the middle of the offsets (F,) that keep regions in their classes, from log-odds (n, F).

    A region stays in class c, and does not move to d, while offset[c] - offset[d] <= score[c] - score[d], what it would
    lose. Of all regions and ways the smallest loss counts, so that the difference of two offsets has two bounds:

        -losses[d, c] <= offset[c] - offset[d] <= losses[c, d]

    Its middle is (losses[c, d] - losses[d, c]) / 2, and the mean of these over d is the offset of c, up to a constant.
    A class without regions has no upper bound; its offset exceeds all regions by their mean distance.
    """
    F = scores.shape[1]
    score_of_class = np.take_along_axis(scores, classes[:, None], 1)
    held = np.flatnonzero(np.bincount(classes, minlength=F))
    # Least loss of a move from class c to d, first directly, then through other classes (Floyd and Warshall).
    losses = np.stack([(score_of_class - scores)[classes == c].min(0)[held] for c in held])
    for k in range(len(held)):
        losses = np.minimum(losses, losses[:, [k]] + losses[k])
    points = np.zeros(F)
    points[held] = (losses - losses.T).mean(1) / 2
    # The offset of each class at which a region would move to it.
    offset_of_move = scores - score_of_class + points[classes][:, None]
    lowest = offset_of_move.min(0)
    highest = offset_of_move.max(0)
    empty = np.setdiff1d(np.arange(F), held)
    points[empty] = (highest + (highest - lowest) / len(scores))[empty]
    return points
