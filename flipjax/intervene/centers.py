"""The log-odds at which a model is undecided between classes, from unlabelled images. Imports no JAX."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from flipjax.metrics.inputs.classes import Background, is_foreground

CENTERS = ("median", "quota")
"""Names of the ways to estimate the split point."""
SUM_TOLERANCE = 1e-3
"""Largest distance from 1 of the sum of a prior or of weights."""
MOST_REGIONS = 2000
"""Most regions from which a quota is estimated. If there are more, evenly spaced ones are taken."""


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
    if center is None and prior is None and F == 2:
        center = "median"
    elif center is None:
        center = "quota"
    _check_center(center, has_prior=prior is not None, F=F)
    shares = np.full(F, 1 / F)
    if prior is not None:
        shares = _read_prior(prior, F)
    if not isinstance(center, str):
        points = _read_points(center, F)
    elif not len(mean_log_odds):
        return np.full(F, np.nan, np.float32)
    elif center == "quota":
        points = _quota(mean_log_odds, shares)
    else:
        # Of F equally frequent classes each has 1 / F of the regions, those with its largest log-odds.
        points = np.quantile(mean_log_odds, (F - 1) / F, axis=0)
    # The point of a class that is never predicted is infinite, and has no part in the mean.
    return (points - points.mean(where=points < np.inf)).astype(np.float32)


def _check_center(center: ArrayLike, *, has_prior: bool, F: int) -> None:
    """Raises ValueError for an unknown name, for a quota without a prior, or for a prior without a quota."""
    if isinstance(center, str) and center not in CENTERS:
        raise ValueError(f"center: expected one of {', '.join(CENTERS)}, or numbers, found {center!r}.")
    is_quota = isinstance(center, str) and center == "quota"
    expected = f"expected {F} class frequencies with center='quota' and none else"
    if is_quota and not has_prior:
        raise ValueError(f"prior: {expected}, found none.")
    if not is_quota and has_prior:
        raise ValueError(f"prior: {expected}, found some.")


def _read_points(center: ArrayLike, F: int) -> np.ndarray:
    """Returns a center that is given in numbers, with one number for each class, float64 (F,)."""
    points = np.asarray(center, np.float64)
    if points.ndim == 0 and F == 2:
        # One number is the difference of the two classes' points.
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
    label_of_region = np.asarray(labels)
    counts = np.bincount(label_of_region[label_of_region >= 0], minlength=num_classes)[:num_classes]
    counts = counts[is_foreground(num_classes, background)]
    if not counts.any():
        raise ValueError("labels: expected a label of a foreground class, found none.")
    return counts / counts.sum()


def _read_prior(prior: ArrayLike, F: int) -> np.ndarray:
    """Returns the prior as frequencies of F classes that sum to 1; raises ValueError if it cannot be one."""
    shares = np.asarray(prior, np.float64)
    # The negated form also rejects NaN.
    fits = shares.shape == (F,) and shares.min() >= 0 and (shares > 0).sum() > 1
    fits = fits and abs(shares.sum() - 1) <= SUM_TOLERANCE
    if not fits:
        raise ValueError(f"prior: expected {F} numbers of 0 or more, two above 0, with sum 1, found {shares.tolist()}.")
    return shares / shares.sum()


def _quota(mean_log_odds: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Returns the offset of each class (F,): log-odds (n, F) less offsets predict n * shares regions of each class.

    First, regions are assigned to classes in these numbers, with the largest sum of log-odds. Many offsets predict this
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
    # Each class has as many seats as regions it shall have, and each region takes one seat.
    class_of_seat = np.repeat(np.arange(len(counts)), counts)
    _, seats = linear_sum_assignment(scores[:, class_of_seat], maximize=True)
    classes = class_of_seat[seats]
    points = np.full(len(shares), np.inf)
    points[used] = _middle(scores, classes)
    return points


def _middle(scores: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Returns the middle of the offsets (F,) that keep regions in their classes, from log-odds (n, F).

    A region of class c moves to d if offset[c] - offset[d] exceeds its loss, score[c] - score[d]. With losses[c, d] the
    smallest loss of a region of class c, directly or through other classes, the difference of two offsets has two
    bounds:

        -losses[d, c] <= offset[c] - offset[d] <= losses[c, d]

    Its middle is (losses[c, d] - losses[d, c]) / 2, and the mean of these over d is the offset of c, up to a constant.
    A class without regions has no upper bound: its offset is above all at which a region would move to it, by their
    mean distance.
    """
    F = scores.shape[1]
    score_of_class = np.take_along_axis(scores, classes[:, None], 1)
    with_regions = np.flatnonzero(np.bincount(classes, minlength=F))
    # Direct moves first, then those through other classes (Floyd and Warshall).
    losses = np.stack([(score_of_class - scores)[classes == c].min(0)[with_regions] for c in with_regions])
    for k in range(len(with_regions)):
        losses = np.minimum(losses, losses[:, [k]] + losses[k])
    offsets = np.zeros(F)
    offsets[with_regions] = (losses - losses.T).mean(1) / 2
    # The offset of each class at which a region would move to it.
    offset_of_move = scores - score_of_class + offsets[classes][:, None]
    lowest = offset_of_move.min(0)
    highest = offset_of_move.max(0)
    empty = np.setdiff1d(np.arange(F), with_regions)
    offsets[empty] = (highest + (highest - lowest) / len(scores))[empty]
    return offsets
