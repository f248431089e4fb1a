"""Whether scores still come as the reference scores did: a test that may look after every image, for ever.

A conformal test martingale: each score is ranked among the reference scores and all scores before it. While the stream
is exchangeable with the reference, the ranks are independent and uniform, whatever the distribution of the scores.
Capital is bet on them without borrowing, so that by Ville's inequality it ever reaches 1 / a with probability a at
most.

Sources: Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World, 2005 (conformal test martingales); Ville,
1939; the mixture over the times of change after Shiryaev and Roberts.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from scipy.special import betaln

from flipjax.monitor.threshold import Monitor

BETS = np.array(
    [(0.8, 1.2), (0.6, 1.6), (0.4, 2.5), (1.2, 0.8), (1.6, 0.6), (2.5, 0.4), (0.6, 0.6), (1.8, 1.8)], np.float64
)
"""The densities that are bet on: Beta(a, b), for scores that rise, that fall, that spread and that draw together."""
_NORM = betaln(BETS[:, 0], BETS[:, 1])
_LEAST = 1e-12


class Capital(NamedTuple):
    """What the bets after so many images have, float64 (8,); 1 / (images + 1) is not bet yet."""

    images: int = 0
    bets: np.ndarray = np.zeros(len(BETS))

    @property
    def total(self) -> float:
        """All that there is: 1 at the start."""
        return 1 / (self.images + 1) + float(self.bets.sum())


def bet(capital: Capital, rank: float) -> Capital:
    """Returns the capital after one more rank in (0, 1): near 0 for a score higher than those before it.

    A change may come at any image t: 1 / (t (t + 1)) of the first capital waits for it, shared over the bets.

    Example:
        >>> bet(Capital(), 0.5).total < 1 < bet(Capital(), 0.001).total
        True
    """
    t = capital.images + 1
    p = min(max(rank, _LEAST), 1 - _LEAST)
    density = np.exp((BETS[:, 0] - 1) * np.log(p) + (BETS[:, 1] - 1) * np.log1p(-p) - _NORM)
    return Capital(t, (capital.bets + 1 / (t * (t + 1) * len(BETS))) * density)


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
    call is a stream of its own; the same scores and seed give the same verdicts. Until the alarm, memory grows by 8
    bytes an image, and an image costs O(log(n)^2) of n before it.

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
    seen = [array("d", monitor.scores)]
    count = len(monitor.scores)
    capital = Capital()
    largest = 1.0
    for score in map(float, scores):
        if score == score and largest * monitor.false_alarm < 1:
            below = sum(bisect_left(run, score) for run in seen)
            equal = sum(bisect_right(run, score) for run in seen) - below
            rank = (count - below - equal + generator.random() * (equal + 1)) / (count + 1)
            _insert(seen, score)
            count += 1
            capital = bet(capital, rank)
            largest = max(largest, capital.total)
        alarm = largest * monitor.false_alarm >= 1
        yield Verdict(score, score > monitor.threshold, capital.total, 1 / largest, alarm)


def _insert(runs: list[array], score: float) -> None:
    """Adds a score to ascending runs, of which each is longer than the next: merging them costs O(log n) a score."""
    runs.append(array("d", [score]))
    while len(runs) > 1 and len(runs[-2]) <= len(runs[-1]):
        last = runs.pop()
        runs[-1] = array("d", sorted(runs[-1] + last))
