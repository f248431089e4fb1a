"""Selective prediction: how well a score says where a model errs, and what is left when the worst are handed on.

NumPy only. A score is high where an error is expected; images whose score or loss is NaN have no place in any ranking.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from flipjax.metrics.decomposition import divide

_Z = 1.959963984540054
_HALVINGS = 40


class RiskCoverage(NamedTuple):
    """Coverage k / n and the mean loss of the k images of least score: float64 (n,) each."""

    coverage: np.ndarray
    risk: np.ndarray


def auroc(scores: ArrayLike, events: ArrayLike, *, weights: np.ndarray | None = None) -> Any:
    """Returns the share of pairs (an event, none) that the scores order; a tie is half; NaN where one side is empty.

    Args:
        scores: (n,).
        events: bool (n,).
        weights: (S, n) whole numbers, how often each of S resamples holds each image; None: once.

    Returns:
        A float; with weights float64 (S,).

    Example:
        >>> auroc([0.1, 0.4, 0.4, 0.9], [False, False, True, True])
        0.875
        >>> auroc([0.1, 0.4, 0.9], [False, True, False], weights=np.array([[1, 1, 1], [2, 1, 0]])).tolist()
        [0.5, 1.0]
    """
    columns = [scores, events] if weights is None else [scores, events, *weights]
    values, positive, *rows = _ranked(*columns)
    order = _order(values[None])
    areas = _aurocs(order, positive > 0.5, np.ones((1, len(values))) if weights is None else np.array(rows))
    return areas.item() if weights is None else areas


def _aurocs(order: _Order, events: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Returns the AUROC (J,) of J orders of n images, or of one order under J rows of weights (J, n)."""
    weights = np.take_along_axis(weights, order.images, 1)
    positive = weights * events[order.images]
    below = np.zeros((len(weights), weights.shape[1] + 1))
    np.cumsum(weights - positive, axis=1, out=below[:, 1:])
    twice_below = np.take_along_axis(below, order.first, 1) + np.take_along_axis(below, order.last + 1, 1)
    return divide((positive * twice_below).sum(1), 2 * positive.sum(1) * below[:, -1])


def risk_coverage(scores: ArrayLike, losses: ArrayLike, *, inside: ArrayLike | None = None) -> RiskCoverage:
    """Returns the risk-coverage curve of losses (n,) in 0..1 by ascending scores (n,); equal scores share their loss.

    Args:
        scores: (n,).
        losses: (n,).
        inside: bool (n,), the images whose loss is told, where all are ranked together: what one threshold for all
            does to a group. NaN where none of them is among those of least score.

    Source: Geifman and El-Yaniv, Selective classification for deep neural networks, 2017.

    Example:
        >>> risk_coverage([0.3, 0.1, 0.2, 0.4], [1, 0, 0, 1]).risk.round(3).tolist()
        [0.0, 0.0, 0.333, 0.5]
        >>> risk_coverage([0.3, 0.1, 0.2, 0.4], [1, 0, 0, 1], inside=[True, False, True, False]).risk.tolist()
        [nan, 0.0, 0.5, 0.5]
    """
    scores, losses, members = _ranked(scores, losses, np.ones(np.shape(losses)) if inside is None else inside)
    order = _order(scores[None])
    whole = _running(order, members)[0]
    risk = divide(_running(order, losses * members)[0], whole)
    return RiskCoverage(np.arange(1, len(whole) + 1) / max(1, len(whole)), risk)


class Areas(NamedTuple):
    """What single numbers say of J scores: float64 (J,) each, NaN as in the functions of their names."""

    auroc: np.ndarray
    aurc: np.ndarray
    excess_aurc: np.ndarray
    augrc: np.ndarray


def areas(scores: np.ndarray, losses: np.ndarray) -> Areas:
    """Returns `auroc` (of losses above 0.5), `aurc`, `excess_aurc` and `augrc` of J scores of n images at once.

    Args:
        scores: (J, n), none of them NaN.
        losses: (n,), none of them NaN.

    Example:
        >>> areas(np.array([[0.3, 0.4, 0.2], [0.2, 0.1, 0.3]]), np.array([0.0, 1.0, 0.0])).aurc.round(4).tolist()
        [0.1111, 0.6111]
    """
    J, n = scores.shape
    if n == 0:
        return Areas(*np.full((4, J), math.nan))
    order = _order(scores)
    auroc = _aurocs(order, losses > 0.5, np.ones((1, n)))
    sums = _running(order, losses)
    sizes = np.arange(1, n + 1)
    aurc = (sums / sizes).mean(1)
    best = (np.cumsum(np.sort(losses)) / sizes).mean()
    # By trapezoids between coverage 1 / n and 1, over that width.
    trapezoids = (sums.sum(1) - (sums[:, 0] + sums[:, -1]) / 2) / n
    augrc = trapezoids / (n - 1) if n > 1 else np.full(J, math.nan)
    return Areas(auroc, aurc, aurc - best, augrc)


def _areas_of_one(scores: ArrayLike, losses: ArrayLike) -> Areas:
    scores, losses = _ranked(scores, losses)
    return areas(scores[None], losses)


def aurc(scores: ArrayLike, losses: ArrayLike) -> float:
    """Returns the area under the risk-coverage curve: the mean loss of the k images of least score, averaged over k.

    NaN without images. It is what `flipjax.metrics.summarize` calls `risk_aurc`. Packages that sum trapezoids, such as
    torch-uncertainty, leave out half of the curve's two ends.

    Source: Geifman and El-Yaniv, 2017; the sum over n coverages of Geifman, Uziel and El-Yaniv, 2019.

    Example:
        >>> round(aurc([0.3, 0.4, 0.2], [0, 1, 0]), 4)
        0.1111
    """
    return _areas_of_one(scores, losses).aurc.item()


def excess_aurc(scores: ArrayLike, losses: ArrayLike) -> float:
    """Returns E-AURC: the area under the risk-coverage curve less that of the best ranking there is.

    Source: Geifman, Uziel and El-Yaniv, Bias-reduced uncertainty estimation for deep neural classifiers, 2019.

    Example:
        >>> excess_aurc([0.3, 0.4, 0.2], [0, 1, 0])
        0.0
    """
    return _areas_of_one(scores, losses).excess_aurc.item()


def augrc(scores: ArrayLike, losses: ArrayLike) -> float:
    """Returns the area under the generalised risk-coverage curve: the risk times its coverage.

    It is the mean risk of silent failure, and does not weigh the few most confident images more than others. NaN below
    two images: it is summed by trapezoids from coverage 1 / n to 1, over that width.

    Source: Traub et al., Overcoming common flaws in the evaluation of selective classification systems, 2024; the
        trapezoids of torch-uncertainty's `AUGRC`.

    Example:
        >>> round(augrc([0.3, 0.4, 0.2], [0, 1, 0]), 4)
        0.0833
    """
    return _areas_of_one(scores, losses).augrc.item()


def threshold_at_risk(scores: ArrayLike, losses: ArrayLike, *, risk: float) -> float:
    """Returns the largest score such that the images at or below it have a mean loss of at most `risk`.

    To be fitted on validation images and carried to others: `accepted` says what it gives there.

    Returns:
        A score; -inf where even the images of least score have a higher loss: nothing is accepted then.

    Example:
        >>> threshold_at_risk([0.1, 0.2, 0.3, 0.4], [0, 0, 1, 1], risk=0.4)
        0.3
    """
    scores, losses = _ranked(scores, losses)
    return float(thresholds_at_risk(scores[None], losses, risk=risk)[0])


def thresholds_at_risk(scores: np.ndarray, losses: np.ndarray, *, risk: float) -> np.ndarray:
    """Returns `threshold_at_risk` of J scores (J, n) of n images with losses (n,), none of them NaN: float64 (J,).

    Example:
        >>> thresholds_at_risk(np.array([[0.1, 0.2, 0.3], [0.3, 0.2, 0.1]]), np.array([0, 0, 1]), risk=0.2).tolist()
        [0.2, -inf]
    """
    places = np.arange(scores.shape[1])
    order = _order(scores)
    curve = _running(order, np.asarray(losses, np.float64)) / (places + 1)
    allowed = (order.last == places) & (curve <= risk)
    ordered = np.take_along_axis(scores, order.images, 1)
    return np.max(ordered, axis=1, initial=-math.inf, where=allowed)


def accepted(scores: ArrayLike, losses: ArrayLike, *, threshold: float) -> tuple[float, float]:
    """Returns the coverage and the mean loss of the images whose score is at most a threshold; NaN where none is.

    Example:
        >>> accepted([0.1, 0.2, 0.3, 0.4], [0, 1, 0, 1], threshold=0.3)
        (0.75, 0.3333333333333333)
    """
    scores, losses = _ranked(scores, losses)
    coverage, risk = accepted_of_each(scores[None], losses, thresholds=np.array([threshold]))
    return coverage.item(), risk.item()


def accepted_of_each(
    scores: np.ndarray, losses: np.ndarray, *, thresholds: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns `accepted` of J scores (J, n) of n images with losses (n,), none of them NaN: float64 (J,) each.

    Example:
        >>> accepted_of_each(np.array([[0.1, 0.2], [0.2, 0.1]]), np.array([0, 1]), thresholds=np.array([0.1, 0.1]))
        (array([0.5, 0.5]), array([0., 1.]))
    """
    inside = scores <= thresholds[:, None]
    count = inside.sum(1)
    J, n = scores.shape
    risk = divide(inside @ losses, count)
    return count / n if n else np.full(J, math.nan), risk


class AurocEstimate(NamedTuple):
    """An AUROC and the ends of its 95% interval; all NaN where one side is empty."""

    value: float
    low: float
    high: float


def auroc_ends(auroc: float, events: int, others: int) -> tuple[float, float]:
    """Returns the 95% interval of an AUROC of so many events and others, that of Newcombe's score method.

    It holds the values that the AUROC found does not contradict: those nearer than 1.96 standard errors, each with the
    standard error that scores of two exponential distributions have at that value. It needs one event, and is no point
    where the AUROC is 0 or 1. `sweeps/studies/coverage` says how often it holds the truth.

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
    size = (events + others) / 2 - 1
    ends = []
    for outer in (0.0, 1.0):
        inside = auroc
        for _ in range(_HALVINGS):
            middle = (inside + outer) / 2
            spread = 1 + size * ((1 - middle) / (2 - middle) + middle / (1 + middle))
            variance = middle * (1 - middle) * spread / (events * others)
            near = (middle - auroc) ** 2 <= _Z**2 * variance
            inside, outer = (middle, outer) if near else (inside, middle)
        ends.append(outer)
    return ends[0], ends[1]


def _ranked(scores: ArrayLike, losses: ArrayLike, *others: ArrayLike) -> list[np.ndarray]:
    """Returns columns (n,) as float64, without the images that have no score or no loss."""
    columns = [np.asarray(column, np.float64) for column in (scores, losses, *others)]
    if columns[0].ndim != 1 or columns[0].shape != columns[1].shape:
        raise ValueError(
            f"scores: expected (n,), one for each of the losses, found {columns[0].shape} and {columns[1].shape}."
        )
    known = ~np.isnan(columns[0]) & ~np.isnan(columns[1])
    return [column[known] for column in columns]


class _Order(NamedTuple):
    """Of J scores of n images, in ascending order: the images, and the first and last place of those of equal score."""

    images: np.ndarray
    first: np.ndarray
    last: np.ndarray


def _order(scores: np.ndarray) -> _Order:
    images = np.argsort(scores, axis=1, kind="stable")
    ordered = np.take_along_axis(scores, images, 1)
    new = np.ones((len(scores), scores.shape[1] + 1), bool)
    new[:, 1:-1] = ordered[:, 1:] != ordered[:, :-1]
    places = np.broadcast_to(np.arange(scores.shape[1]), scores.shape)
    first = np.maximum.accumulate(np.where(new[:, :-1], places, 0), axis=1)
    last = np.minimum.accumulate(np.where(new[:, 1:], places, scores.shape[1])[:, ::-1], axis=1)[:, ::-1]
    return _Order(images, first, last)


def _running(order: _Order, values: np.ndarray) -> np.ndarray:
    """Sums (J, n) of the values (n,) of the k images of least score: of equal scores each has the mean."""
    sums = np.zeros((len(order.images), len(values) + 1))
    np.cumsum(values[order.images], axis=1, out=sums[:, 1:])
    below, through = np.take_along_axis(sums, order.first, 1), np.take_along_axis(sums, order.last + 1, 1)
    places = np.arange(len(values))
    share = (places + 1 - order.first) / (order.last + 1 - order.first)
    return np.where(order.last == places, through, below + share * (through - below))
