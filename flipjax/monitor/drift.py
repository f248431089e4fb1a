"""The drift test of a monitor: whether the scores of a stream are still like those of the reference images.

A conformal test martingale: each score is ranked among the reference scores and all scores before it. While the stream
is exchangeable with the reference, the ranks are independent and uniform, whatever the distribution of the scores.
Capital is bet on them without borrowing, so by Ville's inequality it ever reaches 1 / a with probability at most a.

Sources: Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World, 2005 (conformal test martingales); Ville,
1939; the mixture over the times of change after Shiryaev and Roberts.
"""

import math
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import betaln

from flipjax.monitor.threshold import Monitor, read_scores

STREAMS = 101
"""Streams on which the delay of the drift alarm is measured."""
LONGEST_DELAY = 1000
"""Images of each stream after the change."""
BETS = np.array([(0.8, 1.2), (0.6, 1.6), (0.4, 2.5), (1.2, 0.8), (1.6, 0.6), (2.5, 0.4), (0.6, 0.6), (1.8, 1.8)])
"""Beta(a, b) densities to bet on: scores that rise, fall, spread and contract."""
LOG_NORMALIZERS = betaln(BETS[:, 0], BETS[:, 1])
"""Logarithms of the integrals by which the densities are divided, (bets,)."""
LEAST_RANK = 1e-12
"""Smallest distance of a rank from 0 and 1, where densities are infinite."""


class Verdict(NamedTuple):
    """Verdict on an image, and on the stream up to it.

    Attributes:
        score: as given; NaN without predicted foreground.
        flagged: result of `flag`.
        evidence: the capital of the drift test, 1 at the start; constant after the alarm.
        p_value: of no drift so far, valid at any time: one over the largest evidence.
        alarm: whether `p_value` has reached the monitor's `false_alarm`.

    Example:
        >>> from flipjax.monitor import fit
        >>> monitor = fit(np.random.default_rng(0).normal(size=200))
        >>> *_, last = watch(monitor, np.full(40, 4.0))
        >>> last.flagged, last.alarm, last.p_value <= monitor.false_alarm
        (True, True, True)
    """

    score: float
    flagged: bool
    evidence: float
    p_value: float
    alarm: bool


class DriftTest:
    """The drift test of a stream so far.

    Until the alarm, memory grows by 8 bytes an image or cluster, and by the clusters' names.

    Example:
        >>> from flipjax.monitor import fit
        >>> test = DriftTest(fit(np.random.default_rng(0).normal(size=200)))
        >>> for score in (4.0, 4.1):
        ...     test.add(score)
        >>> test.evidence > 1, test.alarm
        (True, False)
    """

    def __init__(self, monitor: Monitor, *, seed: int = 0):
        """Begins with a capital of 1; `seed` orders equal scores."""
        self.evidence = 1.0
        """The capital."""
        self.largest = 1.0
        """The largest capital so far."""
        self._false_alarm = monitor.false_alarm
        self._generator = np.random.default_rng(seed)
        # The reference scores and those of the stream, in ascending order.
        self._ordered_scores = array("d", [*monitor.scores, *[math.inf] * monitor.without_region])
        # The capital of each bet.
        self._bets = np.zeros(len(BETS))
        # The number of images or clusters that were ranked.
        self._ranked = 0
        # The cluster that is being read, and its scores.
        self._cluster: str | None = None
        self._cluster_scores: list[float] = []
        self._ranked_clusters: set[str] = set()

    @property
    def alarm(self) -> bool:
        """Whether the capital has ever reached 1 / false_alarm."""
        return self.largest * self._false_alarm >= 1

    def add(self, score: float, cluster: object = None) -> None:
        """Adds an image.

        Images of one cluster that follow one another are ranked together by their mean, once another cluster begins;
        images of a cluster that was ranked before are left out.
        """
        if cluster is None:
            self._rank(score)
            return
        name = str(cluster)
        if name != self._cluster:
            self.finish()
            self._cluster = name
        if name not in self._ranked_clusters:
            self._cluster_scores.append(score)

    def finish(self) -> None:
        """Ranks the cluster that is being read."""
        if self._cluster is not None and self._cluster_scores:
            self._ranked_clusters.add(self._cluster)
            scores = [score for score in self._cluster_scores if not math.isnan(score)]
            mean = math.nan
            if scores:
                mean = math.fsum(scores) / len(scores)
            self._rank(mean)
        self._cluster = None
        self._cluster_scores = []

    def _rank(self, score: float) -> None:
        """Bets on the rank of a score; after the alarm nothing changes."""
        if self.alarm:
            return
        self._ranked += 1
        t = self._ranked
        if math.isnan(score):
            # An image without predicted foreground ranks above all scores.
            score = math.inf
        position = bisect_right(self._ordered_scores, score)
        higher = len(self._ordered_scores) - position
        # With this image.
        equal = position - bisect_left(self._ordered_scores, score) + 1
        rank = (higher + self._generator.random() * equal) / (len(self._ordered_scores) + 1)
        self._ordered_scores.insert(position, score)
        self._bets = _next_bets(self._bets, min(max(rank, LEAST_RANK), 1 - LEAST_RANK), t)
        self.evidence = float(_evidence(self._bets, t))
        self.largest = max(self.largest, self.evidence)


def watch(
    monitor: Monitor, scores: Iterable[float], *, clusters: Iterable[object] | None = None, seed: int = 0
) -> Iterator[Verdict]:
    """Yields a verdict on each score as it comes.

    While the images are exchangeable with the reference images (drawn alike and independently, in any order: not the
    frames of a film) the probability of an alarm at any time, however long the stream, is at most
    `monitor.false_alarm`. Several images of a patient are alike: pass `clusters`, here and to `fit`, and patients are
    what must be exchangeable; the images of one follow one another. An alarm means that the distribution of scores
    changed, not that the model errs more. Images without predicted foreground rank above all scores, so a model that
    begins to miss everything raises the alarm. Each call is a new stream; equal scores and seeds give equal verdicts.

    Args:
        monitor: of `fit`.
        scores: numbers, or NaN.
        clusters: the patient or film of each image, for a monitor that was fitted with clusters.
        seed: of the order among equal scores.

    Raises:
        TypeError: an array of other things than real numbers, such as a masked one.
        ValueError: clusters, and a monitor without, or the other way round.

    Example:
        >>> from flipjax.monitor import fit
        >>> monitor = fit(np.random.default_rng(0).normal(size=200))
        >>> same, other = np.random.default_rng(1).normal(size=(2, 100))
        >>> [any(verdict.alarm for verdict in watch(monitor, scores)) for scores in (same, other + 2)]
        [False, True]
    """
    if (clusters is not None) != bool(monitor.cluster_key):
        if monitor.cluster_key:
            raise ValueError("clusters: expected clusters, as fit had, found none.")
        raise ValueError("clusters: expected no clusters, as fit had none, found them.")
    if hasattr(scores, "__array__"):
        # Masked scores would be read as NaN, and a table as its columns. Other iterables may be endless, and are not
        # read before they are asked for.
        scores = read_scores(cast("ArrayLike", scores))
    return _verdicts(monitor, DriftTest(monitor, seed=seed), scores, clusters)


def _verdicts(
    monitor: Monitor, test: DriftTest, scores: Iterable[float], clusters: Iterable[object] | None
) -> Iterator[Verdict]:
    """Yields the verdict on each score, with its cluster if there are any."""
    if clusters is None:
        for score in scores:
            yield judge(monitor, test, float(score))
        return
    for score, cluster in zip(scores, clusters, strict=True):
        yield judge(monitor, test, float(score), cluster)


def judge(monitor: Monitor, test: DriftTest, score: float, cluster: object = None) -> Verdict:
    """Adds an image to a drift test, and returns the verdict on it and on the stream up to it."""
    test.add(score, cluster)
    if math.isnan(score):
        flagged = monitor.flags_empty
    else:
        flagged = score > monitor.threshold
    return Verdict(score, flagged, test.evidence, 1 / test.largest, test.alarm)


def alarm_delay(monitor: Monitor, scores: ArrayLike, *, before: int = 0, longest: int = LONGEST_DELAY) -> float:
    """Returns the median number of images from a change until the drift alarm, on STREAMS drawn with replacement.

    What came before the change is learnt as normal, so that a later change takes longer to see. A monitor with
    clusters counts clusters.

    Args:
        monitor: of `fit`.
        scores: (n,), of images after the change, or the reference scores with a shift added.
        before: images like the reference that come before the change.
        longest: images of each stream after it.

    Returns:
        Infinite where half of the streams or more raise no alarm; streams that alarm before the change are left out.

    Example:
        >>> from flipjax.monitor import fit
        >>> monitor = fit(np.random.default_rng(0).normal(size=200))
        >>> alarm_delay(monitor, monitor.scores + 2) < 20, alarm_delay(monitor, monitor.scores, longest=50)
        (True, inf)
        >>> alarm_delay(monitor, monitor.scores + 2, before=200) > alarm_delay(monitor, monitor.scores + 2)
        True
    """
    generator = np.random.default_rng(0)
    values = read_scores(scores)
    if not len(values):
        raise ValueError("scores: expected at least one, found none.")
    normal = generator.choice(monitor.scores, (STREAMS, before))
    changed = generator.choice(values, (STREAMS, longest))
    delays = _first_alarms(monitor, np.concatenate([normal, changed], axis=1)) - before
    after_change = delays[delays > 0]
    if not len(after_change):
        return math.nan
    return float(np.median(after_change))


def _first_alarms(monitor: Monitor, streams: np.ndarray) -> np.ndarray:
    """Returns the image, counted from 1, at which a `DriftTest` of each stream alarms: infinite without an alarm.

    Args:
        monitor: of `fit`.
        streams: (S, T), scores; NaN without predicted foreground.
    """
    scores = np.where(np.isnan(streams), math.inf, streams)
    reference = np.array([*monitor.scores, *[math.inf] * monitor.without_region])
    # The test of each stream orders its equal scores by the same numbers.
    draws = np.random.default_rng(0).random(scores.shape[1])
    bets = np.zeros((len(scores), len(BETS)))
    # The streams without an alarm so far.
    silent = np.arange(len(scores))
    first_alarms = np.full(len(scores), math.inf)
    for t, draw in enumerate(draws, 1):
        score = scores[:, t - 1]
        earlier = scores[:, : t - 1]
        position = np.searchsorted(reference, score, side="right")
        higher = len(reference) - position + np.sum(earlier > score[:, None], axis=1)
        equal_references = position - np.searchsorted(reference, score, side="left")
        # With this image.
        equal = equal_references + np.sum(earlier == score[:, None], axis=1) + 1
        ranks = (higher + draw * equal) / (len(reference) + t)
        bets = _next_bets(bets, np.clip(ranks, LEAST_RANK, 1 - LEAST_RANK), t)
        alarm = _evidence(bets, t) * monitor.false_alarm >= 1
        if alarm.any():
            first_alarms[silent[alarm]] = t
            scores = scores[~alarm]
            bets = bets[~alarm]
            silent = silent[~alarm]
    return first_alarms


def _next_bets(bets: np.ndarray, rank: ArrayLike, t: int) -> np.ndarray:
    """Returns the capital of each bet, (..., bets), after the rank, (...), of image t."""
    # A change may come at any image t: 1 / (t (t + 1)) of the capital is reserved for it, split over the bets.
    return (bets + 1 / (t * (t + 1) * len(BETS))) * _densities(np.asarray(rank)[..., None])


def _evidence(bets: np.ndarray, t: int) -> np.ndarray:
    """Returns the capital, (...), after image t: that of the bets and what is reserved for later changes."""
    return 1 / (t + 1) + bets.sum(axis=-1)


def _densities(p: np.ndarray) -> np.ndarray:
    """Returns the density of each bet at a rank in (0, 1), which is near 0 for a score higher than those before it."""
    a, b = BETS.T
    return np.exp((a - 1) * np.log(p) + (b - 1) * np.log1p(-p) - LOG_NORMALIZERS)
