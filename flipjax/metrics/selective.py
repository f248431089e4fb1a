"""Selective prediction: how well a score says where a model errs, and what is left when the worst are handed on.

NumPy only. A score is high where an error is expected; images whose score or loss is NaN have no place in any ranking.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike


class RiskCoverage(NamedTuple):
    """Coverage k / n and the mean loss of the k images of least score: float64 (n,) each."""

    coverage: np.ndarray
    risk: np.ndarray


def auroc(scores: ArrayLike, events: ArrayLike) -> float:
    """Returns the share of pairs (an event, none) that the scores order; a tie is half; NaN where one side is empty.

    Example:
        >>> auroc([0.1, 0.4, 0.4, 0.9], [False, False, True, True])
        0.875
    """
    scores, events = _ranked(scores, np.asarray(events, bool))
    return float(weighted_auroc(scores, events > 0, np.ones((1, len(scores)), np.int64))[0])


def weighted_auroc(scores: np.ndarray, events: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Returns the AUROC of many resamples of n images at once, from exact integers.

    Args:
        scores: (n,), none of them NaN.
        events: bool (n,).
        weights: int (S, n), how often each resample holds each image.

    Returns:
        float64 (S,).

    Example:
        >>> weighted_auroc(np.array([0.1, 0.4, 0.9]), np.array([False, True, False]), np.array([[1, 1, 1], [2, 1, 0]]))
        array([0.5, 1. ])
    """
    order = np.argsort(scores, kind="stable")
    if not len(order):
        return np.full(len(weights), np.nan)
    weights = weights[:, order]
    events = events[order]
    scores = scores[order]
    ties = np.flatnonzero(np.append(True, np.diff(scores) > 0))
    positives = np.add.reduceat(weights * events, ties, axis=1)
    negatives = np.add.reduceat(weights * ~events, ties, axis=1)
    twice_below = 2 * np.cumsum(negatives, axis=1) - negatives
    pairs = 2 * positives.sum(1) * negatives.sum(1)
    ordered = (positives * twice_below).sum(1)
    return np.divide(ordered, pairs, out=np.full(len(weights), np.nan), where=pairs > 0)


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
    known = ~np.isnan(np.asarray(scores, np.float64)) & ~np.isnan(np.asarray(losses, np.float64))
    scores, losses = _ranked(scores, losses)
    members = np.ones(len(losses)) if inside is None else np.asarray(inside, np.float64)[known]
    _, place, sizes = np.unique(scores, return_inverse=True, return_counts=True)

    def running(values: np.ndarray) -> np.ndarray:
        # The order among equal scores is nobody's: each of them has their mean.
        return np.cumsum(np.repeat(np.bincount(place, weights=values, minlength=len(sizes)) / sizes, sizes))

    whole = running(members)
    risk = np.divide(running(losses * members), whole, out=np.full(len(whole), np.nan), where=whole > 0)
    return RiskCoverage(np.arange(1, len(whole) + 1) / max(1, len(whole)), risk)


def aurc(scores: ArrayLike, losses: ArrayLike) -> float:
    """Returns the area under the risk-coverage curve from coverage 1 / n to 1, over its width; NaN below two images.

    `flipjax.metrics.summarize` reports the plain mean over k as `risk_aurc`; the two differ by the curve's ends.

    Source: Geifman and El-Yaniv, 2017; the trapezoids of torch-uncertainty's `AURC`.

    Example:
        >>> round(aurc([0.3, 0.4, 0.2], [0, 1, 0]), 4)
        0.0833
    """
    return _area(risk_coverage(scores, losses).risk)


def excess_aurc(scores: ArrayLike, losses: ArrayLike) -> float:
    """Returns E-AURC: the area under the risk-coverage curve less that of the best ranking there is.

    Source: Geifman, Uziel and El-Yaniv, Bias-reduced uncertainty estimation for deep neural classifiers, 2019.

    Example:
        >>> excess_aurc([0.3, 0.4, 0.2], [0, 1, 0])
        0.0
    """
    scores, losses = _ranked(scores, losses)
    return aurc(scores, losses) - aurc(losses, losses)


def augrc(scores: ArrayLike, losses: ArrayLike) -> float:
    """Returns the area under the generalised risk-coverage curve: the risk times its coverage.

    It is the mean risk of silent failure, and does not weigh the few most confident images more than others.

    Source: Traub et al., Overcoming common flaws in the evaluation of selective classification systems, 2024.

    Example:
        >>> round(augrc([0.3, 0.4, 0.2], [0, 1, 0]), 4)
        0.0833
    """
    coverage, risk = risk_coverage(scores, losses)
    return _area(risk * coverage)


def threshold_at_risk(scores: ArrayLike, losses: ArrayLike, *, risk: float) -> float:
    """Returns the largest score such that the images at or below it have a mean loss of at most `risk`.

    To be fitted on validation images and carried to others: `accepted` says what it gives there.

    Returns:
        A score; -inf where even the images of least score have a higher loss: nothing is accepted then.

    Example:
        >>> threshold_at_risk([0.1, 0.2, 0.3, 0.4], [0, 0, 1, 1], risk=0.4)
        0.3
    """
    ordered = np.sort(_ranked(scores, losses)[0])
    curve = risk_coverage(scores, losses).risk
    last = np.append(ordered[1:] != ordered[:-1], True) if len(ordered) else np.zeros(0, bool)
    allowed = np.flatnonzero(last & (curve <= risk))
    return float(ordered[allowed[-1]]) if len(allowed) else -math.inf


def accepted(scores: ArrayLike, losses: ArrayLike, *, threshold: float) -> tuple[float, float]:
    """Returns the coverage and the mean loss of the images whose score is at most a threshold; NaN where none is.

    Example:
        >>> accepted([0.1, 0.2, 0.3, 0.4], [0, 1, 0, 1], threshold=0.3)
        (0.75, 0.3333333333333333)
    """
    scores, losses = _ranked(scores, losses)
    inside = losses[scores <= threshold]
    if len(inside) == 0:
        return (0.0 if len(scores) else math.nan), math.nan
    return len(inside) / len(scores), float(inside.mean())


def calibration_error(confidence: ArrayLike, correct: ArrayLike, *, bins: int = 15) -> float:
    """Returns the expected calibration error: mean |confidence - accuracy| of equal-width bins, weighted by size.

    Args:
        confidence: (n,) in 0..1, of the predicted class: of the foreground, pixels or images of it.
        correct: (n,) bool.
        bins: number of bins over 0..1.

    Source: Guo et al., On calibration of modern neural networks, 2017.

    Example:
        >>> round(calibration_error([0.9, 0.9, 0.6], [True, False, True], bins=5), 6)
        0.4
    """
    confidence, correct = _ranked(confidence, correct)
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gaps = np.bincount(place, weights=confidence - correct, minlength=bins)
    return float(np.abs(gaps).sum() / len(confidence)) if len(confidence) else math.nan


def _ranked(scores: ArrayLike, losses: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    scores = np.asarray(scores, np.float64)
    losses = np.asarray(losses, np.float64)
    if scores.ndim != 1 or scores.shape != losses.shape:
        raise ValueError(f"scores: expected (n,), one for each of the losses, found {scores.shape} and {losses.shape}.")
    known = ~np.isnan(scores) & ~np.isnan(losses)
    return scores[known], losses[known]


def _area(curve: np.ndarray) -> float:
    """The area under values at even places, over their width."""
    if len(curve) < 2:
        return math.nan
    return float((curve.sum() - (curve[0] + curve[-1]) / 2) / (len(curve) - 1))
