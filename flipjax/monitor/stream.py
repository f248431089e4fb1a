"""A stream of scores: which images are flagged, and whether the stream has drifted."""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from flipjax.monitor.drift import Capital, bet
from flipjax.monitor.threshold import Monitor


class Verdict(NamedTuple):
    """Of one image, and of the stream up to it.

    Attributes:
        score: as given; NaN has no place in the ranking, is never flagged and says nothing of drift.
        flagged: whether it exceeds the threshold.
        evidence: the capital of the drift test, 1 at the start; it stays as it is after the alarm.
        p_value: of no drift so far, valid however often one looks: one over the largest evidence.
        alarm: whether `p_value` is at most the monitor's `false_alarm`; it stays.
    """

    score: float
    flagged: bool
    evidence: float
    p_value: float
    alarm: bool


def watch(monitor: Monitor, scores: Iterable[float], *, seed: int = 0) -> Iterator[Verdict]:
    """Yields a verdict on each score as it comes.

    While the images are exchangeable with the reference images (drawn alike, in any order, each on its own: not the
    frames of a film) the probability of an alarm at any time, however long the stream, is at most
    `monitor.false_alarm`. An alarm says that scores come otherwise than they did, not that the model errs more. Each
    call is a stream of its own; the same scores and seed give the same verdicts. Memory grows by 8 bytes an image until
    the alarm.

    Args:
        monitor: of `fit`.
        scores: numbers, or NaN.
        seed: of the order among equal scores.

    Example:
        >>> from flipjax.monitor import fit
        >>> monitor = fit(np.random.default_rng(0).normal(size=200))
        >>> same, other = np.random.default_rng(1).normal(size=(2, 100))
        >>> [any(verdict.alarm for verdict in watch(monitor, scores)) for scores in (same, other + 2)]
        [False, True]
    """
    generator = np.random.default_rng(seed)
    ordered = array("d", monitor.scores)
    capital = Capital()
    largest = 1.0
    for score in map(float, scores):
        if score == score and largest * monitor.false_alarm < 1:
            low, high = bisect_left(ordered, score), bisect_right(ordered, score)
            rank = (len(ordered) - high + generator.random() * (high - low + 1)) / (len(ordered) + 1)
            ordered.insert(high, score)
            capital = bet(capital, rank)
            largest = max(largest, capital.total)
        alarm = largest * monitor.false_alarm >= 1
        yield Verdict(score, score > monitor.threshold, capital.total, 1 / largest, alarm)
