"""Selective prediction: AUROC, risk-coverage curves and thresholds of scores.

NumPy only. A high score predicts an error. Images with a NaN score or loss are left out.
"""

from __future__ import annotations

import math
from typing import NamedTuple, overload

import numpy as np
from numpy.typing import ArrayLike

from flipjax.metrics.decomposition import divide
from flipjax.metrics.inputs.host import read_numbers

_Z = 1.959963984540054
"""Quantile 0.975 of the normal distribution, for intervals of 95%."""
_HALVINGS = 40
"""Halvings of the range in which an end lies: to 1e-12 of it."""
_ROUNDING = 1e-6
"""How far a float32 loss may exceed 1."""


@overload
def auroc(scores: ArrayLike, events: ArrayLike, *, weights: None = None) -> float: ...


@overload
def auroc(scores: ArrayLike, events: ArrayLike, *, weights: np.ndarray) -> np.ndarray: ...


def auroc(scores: ArrayLike, events: ArrayLike, *, weights: np.ndarray | None = None) -> float | np.ndarray:
    """Computes the AUROC of scores for events: ties count half; NaN where one side is empty.

    Args:
        scores: (n,).
        events: bool (n,).
        weights: (S, n) whole numbers, the count of each image in each of S resamples; None: 1.

    Returns:
        A float; with weights float64 (S,).

    Example:
        >>> auroc([0.1, 0.4, 0.4, 0.9], [False, False, True, True])
        0.875
        >>> auroc([0.1, 0.4, 0.9], [False, True, False], weights=np.array([[1, 1, 1], [2, 1, 0]])).tolist()
        [0.5, 1.0]
    """
    all_scores, all_events, is_ranked = _read_scores(scores, events)
    if weights is None:
        counts = np.ones((1, int(is_ranked.sum())))
    else:
        counts = _check_weights(weights)[:, is_ranked]
    order, ends = sort_scores(all_scores[is_ranked])
    counts = counts[:, order]
    is_event = all_events[is_ranked][order] > 0.5
    # The points of the ROC curve, between which a tie is a straight line: events and others up to each score.
    events_below = _cumulative_sums(counts * is_event, ends)
    others_below = _cumulative_sums(counts * ~is_event, ends)
    pairs_in_order = np.trapezoid(others_below, events_below, axis=1)
    aurocs = divide(pairs_in_order, events_below[:, -1] * others_below[:, -1])
    if weights is None:
        return aurocs.item()
    return aurocs


def risk_coverage(scores: ArrayLike, losses: ArrayLike) -> np.ndarray:
    """Computes the risk-coverage curve (n,): the mean loss of the k images with the lowest score.

    Ties share their mean loss.

    Args:
        scores: (n,).
        losses: (n,) in 0..1.

    Source: Geifman and El-Yaniv, Selective classification for deep neural networks, 2017.

    Example:
        >>> risk_coverage([0.3, 0.1, 0.2, 0.4], [1, 0, 0, 1]).round(3).tolist()
        [0.0, 0.0, 0.333, 0.5]
    """
    values, loss = _ranked_losses(scores, losses)
    order, ends = sort_scores(values)
    numbers = np.arange(1, len(loss) + 1)
    return first_sums(numbers[None], np.ones((1, len(loss))), loss[order], ends)[0] / numbers


class Areas(NamedTuple):
    """Areas under the curves of J scores, float64 (J,) each; NaN without images.

    Source: Geifman, Uziel and El-Yaniv, Bias-reduced uncertainty estimation for deep neural classifiers, 2019, for
        AURC and E-AURC; Traub et al., Overcoming common flaws in the evaluation of selective classification systems,
        2024, for AUGRC, and the trapezoids of torch-uncertainty's `AUGRC`.
    """

    auroc: np.ndarray
    """`auroc` for losses above 0.5."""
    aurc: np.ndarray
    """Area under the risk-coverage curve: the mean loss of the k images with the lowest score, averaged over k.
    Implementations with trapezoids, such as torch-uncertainty's, give the end points half weight."""
    excess_aurc: np.ndarray
    """E-AURC: `aurc` minus that of a perfect ranking."""
    augrc: np.ndarray
    """Area under the generalised risk-coverage curve, risk times coverage, in trapezoids from coverage 1 / n to 1: the
    mean risk of silent failures. NaN for fewer than two images."""


def areas(scores: np.ndarray, losses: np.ndarray) -> Areas:
    """Returns the areas under the curves of J scores of n images.

    Args:
        scores: (J, n) without NaN.
        losses: (n,) without NaN.

    Example:
        >>> areas(np.array([[0.3, 0.4, 0.2], [0.2, 0.1, 0.3]]), np.array([0.0, 1.0, 0.0])).aurc.round(4).tolist()
        [0.1111, 0.6111]
    """
    J, n = scores.shape
    if n == 0:
        unknown = np.full(J, math.nan)
        return Areas(unknown, unknown, unknown, unknown)
    curves = np.stack([risk_coverage(of_images, losses) for of_images in scores])
    sizes = np.arange(1, n + 1)
    best = (np.cumsum(np.sort(losses)) / sizes).mean()
    augrc = np.full(J, math.nan)
    if n > 1:
        # By trapezoids between coverage 1 / n and 1, over that width.
        augrc = np.trapezoid(curves * sizes, axis=1) / n / (n - 1)
    # The area is the mean over all coverages.
    aurc = curves.mean(1)
    aurocs = np.array([auroc(of_images, losses > 0.5) for of_images in scores])
    return Areas(aurocs, aurc, aurc - best, augrc)


def threshold_at_risk(scores: ArrayLike, losses: ArrayLike, *, risk: float) -> float:
    """Finds the largest threshold at which the accepted images have a mean loss of at most `risk`.

    Fit it on validation images and evaluate it on others with `accepted`.

    Returns:
        A score; -inf if no threshold keeps the risk: nothing is then accepted.

    Example:
        >>> threshold_at_risk([0.1, 0.2, 0.3, 0.4], [0, 0, 1, 1], risk=0.4)
        0.3
    """
    values, loss = _ranked_losses(scores, losses)
    order, ends = sort_scores(values)
    keeps_risk = ends & (risk_coverage(values, loss) <= risk)
    return float(np.max(values[order], initial=-math.inf, where=keeps_risk))


def accepted(scores: np.ndarray, losses: np.ndarray, *, thresholds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns coverage and mean loss of the images with scores up to a threshold; NaN loss if there are none.

    Args:
        scores: (J, n) without NaN.
        losses: (n,) without NaN.
        thresholds: (J,).

    Returns:
        Two float64 (J,).

    Example:
        >>> accepted(np.array([[0.1, 0.2], [0.2, 0.1]]), np.array([0, 1]), thresholds=np.array([0.1, 0.1]))
        (array([0.5, 0.5]), array([0., 1.]))
    """
    inside = scores <= thresholds[:, None]
    count = inside.sum(1)
    return divide(count, scores.shape[1]), divide(inside @ losses, count)


def auroc_ends(auroc: float, events: int, others: int) -> tuple[float, float]:
    """Computes the 95% interval of an AUROC by Newcombe's score method.

    It contains the values within 1.96 standard errors of the estimate, with the standard error at each value that
    exponentially distributed scores have. It needs only one event and does not collapse at 0 or 1.
    `sweeps/studies/coverage` measures its coverage.

    Args:
        auroc: in [0, 1].
        events: independent images with an event, at least 1.
        others: independent images without, at least 1.

    Source: Newcombe, Confidence intervals for an effect size measure based on the Mann-Whitney statistic, part 2, 2006,
        method 5, on the variance of Hanley and McNeil, 1982.

    Example:
        >>> low, high = auroc_ends(1.0, 2, 18)
        >>> round(low, 3), high
        (0.573, 1.0)
    """
    if not 0 <= auroc <= 1:
        raise ValueError(f"auroc: expected a number in 0..1, found {auroc}.")
    if not (events >= 1 and others >= 1):
        raise ValueError(f"events, others: expected 1 or more, found {events} and {others}.")
    return _auroc_end(auroc, events, others, outer=0.0), _auroc_end(auroc, events, others, outer=1.0)


def _auroc_end(auroc: float, events: int, others: int, *, outer: float) -> float:
    """Returns the end of the interval between an AUROC and `outer`, 0 or 1, by halving the range in which it lies."""
    size = (events + others) / 2 - 1
    inside = auroc
    for _ in range(_HALVINGS):
        middle = (inside + outer) / 2
        spread = 1 + size * ((1 - middle) / (2 - middle) + middle / (1 + middle))
        variance = middle * (1 - middle) * spread / (events * others)
        if (middle - auroc) ** 2 <= _Z**2 * variance:
            inside = middle
        else:
            outer = middle
    return outer


def _read_scores(scores: ArrayLike, losses: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns scores and losses (n,) as float64, and which images have both, bool (n,)."""
    values = read_numbers(scores, name="scores")
    loss = read_numbers(losses, name="losses")
    if values.ndim != 1 or values.shape != loss.shape:
        raise ValueError(f"scores: expected (n,), one for each loss, found {values.shape} and {loss.shape}.")
    return values, loss, ~np.isnan(values) & ~np.isnan(loss)


def _ranked_losses(scores: ArrayLike, losses: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Returns scores and losses of the images that have both; raises a ValueError for losses outside 0..1."""
    values, loss, is_ranked = _read_scores(scores, losses)
    check_losses(loss[is_ranked])
    return values[is_ranked], loss[is_ranked]


def check_losses(losses: np.ndarray) -> None:
    """Raises ValueError for losses outside 0..1; NaN is unknown.

    Example:
        >>> check_losses(np.array([0.0, 1.5]))
        Traceback (most recent call last):
        ...
        ValueError: losses: expected numbers in 0..1, found 1.5.
    """
    low = np.fmin.reduce(losses, initial=0)
    high = np.fmax.reduce(losses, initial=1)
    if low < 0:
        raise ValueError(f"losses: expected numbers in 0..1, found {low:g}.")
    if high > 1 + _ROUNDING:
        raise ValueError(f"losses: expected numbers in 0..1, found {high:g}.")


def _check_weights(weights: ArrayLike) -> np.ndarray:
    """Returns the weights (S, n); raises a ValueError for other shapes, negative numbers and NaN."""
    rows = read_numbers(weights, name="weights")
    if rows.ndim != 2:
        raise ValueError(f"weights: expected (resamples, n), found shape {rows.shape}.")
    if not (rows >= 0).all():
        raise ValueError("weights: expected numbers of 0 or more.")
    return rows


def sort_scores(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the indices of scores (n,) in ascending order, and in that order whether each ends a tie: bool (n,).

    Example:
        >>> [values.tolist() for values in sort_scores(np.array([0.5, 0.2, 0.5]))]
        [[1, 0, 2], [True, False, True]]
    """
    order = np.argsort(scores, kind="stable")
    ascending = scores[order]
    ends = np.ones(len(order), bool)
    ends[:-1] = ascending[1:] != ascending[:-1]
    return order, ends


def first_sums(
    numbers: np.ndarray, weights: np.ndarray, values: np.ndarray, ends: np.ndarray | None = None
) -> np.ndarray:
    """Sums the values (n,) of the first `numbers` (S, k) images, in order, of S resamples.

    Args:
        numbers: int (S, k).
        weights: (S, n), how often each resample holds each image.
        values: (n,).
        ends: bool (n,), whether an image is the last of its tie, from `sort_scores`: within a tie sums grow evenly, so
            that the order of its images does not matter. None: there is no tie.

    Example:
        >>> first_sums(np.array([[1, 2]]), np.ones((1, 3)), np.array([1, 3, 5]), np.array([False, True, True]))
        array([[2., 4.]])
    """
    sizes = _cumulative_sums(weights, ends)
    sums = _cumulative_sums(weights * values, ends)
    rows = zip(numbers, sizes, sums, strict=True)
    return np.stack([np.interp(of_row, sizes_of_row, sums_of_row) for of_row, sizes_of_row, sums_of_row in rows])


def _cumulative_sums(rows: np.ndarray, ends: np.ndarray | None) -> np.ndarray:
    """Returns 0 and the cumulative sums of rows (S, n), at the ends of ties if given."""
    sums = np.cumsum(rows, axis=1)
    if ends is not None:
        sums = sums[:, ends]
    return np.pad(sums, ((0, 0), (1, 0)))
