"""Selective prediction: AUROC, risk-coverage curves and thresholds of scores.

NumPy only. A high score predicts an error. Images with a NaN score or loss are left out.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from flipjax.metrics.decomposition import divide

_Z = 1.959963984540054
_HALVINGS = 40


def auroc(scores: ArrayLike, events: ArrayLike, *, weights: np.ndarray | None = None) -> Any:
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
    scores, losses = _ranked(scores, losses)
    return _running(_order(scores[None]), losses)[0] / np.arange(1, len(losses) + 1)


class Areas(NamedTuple):
    """Areas of J scores, float64 (J,) each.

    Attributes:
        auroc: of `auroc` for losses above 0.5.
        aurc: of `aurc`.
        excess_aurc: E-AURC, `aurc` minus that of a perfect ranking.
        augrc: area under the generalised risk-coverage curve, risk times coverage, in trapezoids from coverage 1 / n
            to 1: the mean risk of silent failures. NaN for fewer than two images.

    Source: Geifman, Uziel and El-Yaniv, Bias-reduced uncertainty estimation for deep neural classifiers, 2019, for
        E-AURC; Traub et al., Overcoming common flaws in the evaluation of selective classification systems, 2024, for
        AUGRC, and the trapezoids of torch-uncertainty's `AUGRC`.
    """

    auroc: np.ndarray
    aurc: np.ndarray
    excess_aurc: np.ndarray
    augrc: np.ndarray


def areas(scores: np.ndarray, losses: np.ndarray) -> Areas:
    """Returns the areas of J scores of n images at once.

    Args:
        scores: (J, n) without NaN.
        losses: (n,) without NaN.

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


def aurc(scores: ArrayLike, losses: ArrayLike) -> float:
    """Computes the area under the risk-coverage curve.

    The mean loss of the k images with the lowest score, averaged over k; NaN without images.
    `risk_aurc` of `flipjax.metrics.summarize`. Implementations with trapezoids, such as torch-uncertainty's, give the
    end points half weight.

    Source: Geifman and El-Yaniv, 2017; the sum over n coverages of Geifman, Uziel and El-Yaniv, 2019.

    Example:
        >>> round(aurc([0.3, 0.4, 0.2], [0, 1, 0]), 4)
        0.1111
    """
    scores, losses = _ranked(scores, losses)
    return areas(scores[None], losses).aurc.item()


def threshold_at_risk(scores: ArrayLike, losses: ArrayLike, *, risk: float) -> float:
    """Finds the largest threshold at which the accepted images have a mean loss of at most `risk`.

    Fit it on validation images and evaluate it on others with `accepted`.

    Returns:
        A score; -inf if no threshold keeps the risk: nothing is then accepted.

    Example:
        >>> threshold_at_risk([0.1, 0.2, 0.3, 0.4], [0, 0, 1, 1], risk=0.4)
        0.3
    """
    scores, losses = _ranked(scores, losses)
    return float(thresholds_at_risk(scores[None], losses, risk=risk)[0])


def thresholds_at_risk(scores: np.ndarray, losses: np.ndarray, *, risk: float) -> np.ndarray:
    """Returns `threshold_at_risk` for J scores (J, n) and losses (n,), all without NaN: float64 (J,).

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
    J, n = scores.shape
    return count / n if n else np.full(J, math.nan), divide(inside @ losses, count)


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
    """Returns columns (n,) as float64, without images whose score or loss is NaN."""
    columns = [np.asarray(column, np.float64) for column in (scores, losses, *others)]
    if columns[0].ndim != 1 or columns[0].shape != columns[1].shape:
        raise ValueError(
            f"scores: expected (n,), one for each of the losses, found {columns[0].shape} and {columns[1].shape}."
        )
    known = ~np.isnan(columns[0]) & ~np.isnan(columns[1])
    return [column[known] for column in columns]


class _Order(NamedTuple):
    """Ascending order of J scores (J, n): the images, and the first and last place of each tie."""

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
    """Returns running sums (J, n) of values (n,) over the images in order; ties share their mean."""
    sums = np.zeros((len(order.images), len(values) + 1))
    np.cumsum(values[order.images], axis=1, out=sums[:, 1:])
    below, through = np.take_along_axis(sums, order.first, 1), np.take_along_axis(sums, order.last + 1, 1)
    places = np.arange(len(values))
    share = (places + 1 - order.first) / (order.last + 1 - order.first)
    return np.where(order.last == places, through, below + share * (through - below))
