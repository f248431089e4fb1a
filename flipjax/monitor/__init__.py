"""Monitors a deployed model without labels: which images to inspect, and whether their scores have drifted.

A monitor holds scores of reference images, a threshold above which images are flagged, and a drift test.

The drift test is a conformal test martingale: each score is ranked among the reference scores and all scores before it.
While the stream is exchangeable with the reference, the ranks are independent and uniform, whatever the distribution of
the scores. Capital is bet on them without borrowing, so by Ville's inequality it ever reaches 1 / a with probability at
most a.

Sources: Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World, 2005 (conformal test martingales); Ville,
1939; the mixture over the times of change after Shiryaev and Roberts.
"""

import dataclasses
import json
import math
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import betaln

from flipjax.intervene.regions import count_labels, find_regions, foreground, region_images
from flipjax.metrics import selective
from flipjax.metrics.checks import check_logits
from flipjax.metrics.classes import Background, LabelSpec, is_foreground
from flipjax.metrics.kernels import read_pixels
from flipjax.support.files import DamagedError, replacing, sha256

__all__ = [
    "Detection",
    "Monitor",
    "RegionScores",
    "Verdict",
    "alarm_delay",
    "detection",
    "fit",
    "flag",
    "load_monitor",
    "region_scores",
    "save_monitor",
    "watch",
]
FORMAT = "flipjax monitor 2"
LEAST_ALARM = 1e-300
"""Smallest false-alarm probability; the evidence for a smaller one overflows a float."""
STREAMS, LONGEST_DELAY = 21, 1000
"""Streams, and the images of each, on which the delay of the drift alarm is measured."""
RARE = 0.05
"""Images without predicted foreground are flagged if at most this fraction of the reference images have none."""
ERROR = 0.5
"""Loss above which an image counts as an error, as for `risk_auroc`."""
BETS = np.array([(0.8, 1.2), (0.6, 1.6), (0.4, 2.5), (1.2, 0.8), (1.6, 0.6), (2.5, 0.4), (0.6, 0.6), (1.8, 1.8)])
"""Beta(a, b) densities to bet on: scores that rise, fall, spread and contract."""
_NORM = betaln(BETS[:, 0], BETS[:, 1])
_LEAST = 1e-12


@dataclasses.dataclass(frozen=True, eq=False)
class Monitor:
    """A fitted monitor.

    Attributes:
        scores: float64 (n,), reference scores in ascending order; a high score predicts an error.
        threshold: an image with a higher score is flagged.
        false_alarm: the probability that `watch` ever alarms on a stream that is exchangeable with the reference.
        without_region: reference images whose score was NaN: the model predicted no foreground.
    """

    scores: np.ndarray
    threshold: float
    false_alarm: float = 0.01
    without_region: int = 0

    @property
    def flags_empty(self) -> bool:
        """Whether images without predicted foreground are flagged: at most 5% of the reference images were such."""
        return self.without_region <= RARE * (len(self.scores) + self.without_region)


def fit(
    scores: ArrayLike,
    *,
    losses: ArrayLike | None = None,
    flag_rate: float | None = None,
    risk: float | None = None,
    false_alarm: float = 0.01,
) -> Monitor:
    """Fits a monitor to the scores of reference images, which need no labels.

    With `flag_rate` the threshold is a conformal quantile: the score of a new image that is exchangeable with the
    reference images exceeds it with at most that probability (over draws of both). With `risk`, which needs losses, it
    is `selective.threshold_at_risk`: the reference images below it have at most that mean loss.

    Args:
        scores: (n,) numbers, high where an error is expected: flip-risk, scene-swap risk. NaN: no predicted
            foreground; see `Monitor.flags_empty`.
        losses: (n,) in 0..1, such as each image's flip share; for `risk`.
        flag_rate: fraction of images to flag; None without `risk`: 0.05.
        risk: largest mean loss of the reference images that are not flagged.
        false_alarm: of the drift alarm, over a whole stream.

    Raises:
        ValueError: flag_rate and risk together or out of range, shapes that do not fit, or too few images.

    Example:
        >>> monitor = fit(np.arange(99.0), flag_rate=0.05)
        >>> monitor.threshold, flag(monitor, [94.0, 94.5, np.nan]).tolist()
        (94.0, [False, True, True])
        >>> fit([0.1, 0.2, 0.3, 0.4], losses=[0, 0, 1, 1], risk=0.4).threshold
        0.3
    """
    values = np.asarray(scores, np.float64)
    problems = {
        f"scores: expected (n,), found shape {values.shape}.": values.ndim != 1,
        f"scores: expected numbers or NaN, found {np.isinf(values).sum()} infinite.": np.isinf(values).any(),
        f"false_alarm: expected {LEAST_ALARM} <= P < 1, found {false_alarm}.": not LEAST_ALARM <= false_alarm < 1,
        f"risk: expected a mean loss in [0, 1], found {risk}.": risk is not None and not 0 <= risk <= 1,
        "flag_rate: expected either flag_rate or risk, found both.": None not in (flag_rate, risk),
    }
    for problem, found in problems.items():
        if found:
            raise ValueError(problem)
    ordered = np.sort(values[~np.isnan(values)])
    if risk is None:
        threshold = _quantile(ordered, 0.05 if flag_rate is None else flag_rate)
    elif losses is None:
        raise ValueError("losses: expected (n,), the loss of each image, for a wanted risk; found none.")
    elif (threshold := selective.threshold_at_risk(values, losses, risk=risk)) == -math.inf:
        raise ValueError(f"risk: expected at least the mean loss of the images with the lowest scores, found {risk}.")
    return Monitor(ordered, threshold, false_alarm, len(values) - len(ordered))


def _quantile(ordered: np.ndarray, rate: float) -> float:
    """Returns the score that a new image exceeds with probability `rate` at most."""
    n = len(ordered)
    above = math.floor(rate * (n + 1) + 1e-9) if 0 < rate < 1 else 0
    if above < 1:
        least = f"at least {1 / (n + 1):.3g}, for {n} images with a score,"
        raise ValueError(f"flag_rate: expected {least} and less than 1; found {rate}.")
    return float(ordered[n - min(above, n)])


def flag(monitor: Monitor, scores: ArrayLike) -> np.ndarray:
    """Flags scores (n,) above the threshold: bool (n,). For NaN see `Monitor.flags_empty`."""
    values = np.asarray(scores, np.float64)
    return np.where(np.isnan(values), monitor.flags_empty, values > monitor.threshold)


class Detection(NamedTuple):
    """Flag rate, precision and recall of a monitor, each with its 95% interval; NaN where undefined.

    flagged: of all images. precision: errors among the flagged images. recall: flagged images among the errors.
    """

    flagged: tuple[float, float, float]
    precision: tuple[float, float, float]
    recall: tuple[float, float, float]


def detection(monitor: Monitor, scores: ArrayLike, losses: ArrayLike) -> Detection:
    """Computes the fraction of images flagged, and the precision and recall of flags for losses above 0.5.

    Args:
        monitor: of `fit`.
        scores: (n,), NaN without predicted foreground.
        losses: (n,) in 0..1, NaN where unknown.

    Example:
        >>> found = detection(fit(np.arange(99.0), flag_rate=0.2), [70.0, 90.0, 95.0], [0.0, 1.0, 0.1])
        >>> [round(value, 2) for value in found.flagged], found.precision[0], found.recall[0]
        ([0.67, 0.21, 0.94], 0.5, 1.0)
    """
    flagged, losses = flag(monitor, scores), np.asarray(losses, np.float64)
    known = ~np.isnan(losses)
    error = losses > ERROR
    return Detection(_fraction(flagged), _fraction(error[flagged & known]), _fraction(flagged[error]))


def _fraction(events: np.ndarray) -> tuple[float, float, float]:
    """Returns the fraction of events, bool (n,), and its Wilson 95% interval."""
    from scipy.stats import binomtest  # Imported here because it is slow and `watch` does not need it.

    if not len(events):
        return math.nan, math.nan, math.nan
    test = binomtest(int(events.sum()), len(events))
    interval = test.proportion_ci(method="wilson")
    return float(test.statistic), float(interval.low), float(interval.high)


def save_monitor(monitor: Monitor, path: str | Path) -> None:
    """Writes a monitor as JSON with a digest; equal monitors give equal files."""
    values = dataclasses.asdict(monitor) | {"format": FORMAT, "scores": monitor.scores.tolist()}
    with replacing(path) as stream:
        stream.write(json.dumps(values | {"digest": _digest(values)}, sort_keys=True).encode() + b"\n")


def load_monitor(path: str | Path) -> Monitor:
    """Reads a monitor that `save_monitor` wrote.

    Raises:
        DamagedError: the file holds no monitor, or was changed.
        OSError: there is no such file, or it is a folder.
    """
    try:
        values = json.loads(Path(path).read_bytes())
        if values.pop("digest") != _digest(values) or values.pop("format") != FORMAT:
            raise ValueError("its values do not match its digest")
        return Monitor(np.array(values.pop("scores")), **values)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise DamagedError(f"{path}: expected a monitor as `flipjax monitor fit` writes it ({error})") from error


def _digest(values: dict[str, Any]) -> str:
    return sha256(json.dumps(values, sort_keys=True))


class Verdict(NamedTuple):
    """Verdict on an image, and on the stream up to it.

    Attributes:
        score: as given; NaN without predicted foreground.
        flagged: result of `flag`.
        evidence: the capital of the drift test, 1 at the start; constant after the alarm.
        p_value: of no drift so far, valid at any time: one over the largest evidence.
        alarm: whether `p_value` has reached the monitor's `false_alarm`.
    """

    score: float
    flagged: bool
    evidence: float
    p_value: float
    alarm: bool


def watch(monitor: Monitor, scores: Iterable[float], *, seed: int = 0) -> Iterator[Verdict]:
    """Yields a verdict on each score as it comes.

    While the images are exchangeable with the reference images (drawn alike and independently, in any order: not the
    frames of a film) the probability of an alarm at any time, however long the stream, is at most
    `monitor.false_alarm`. An alarm means that the distribution of scores changed, not that the model errs more. Images
    without predicted foreground rank above all scores, so a model that begins to miss everything raises the alarm.
    Each call is a new stream; equal scores and seeds give equal verdicts. Until the alarm, memory grows by 8 bytes an
    image.

    Args:
        monitor: of `fit`.
        scores: numbers, or NaN.
        seed: of the order among equal scores.

    Example:
        >>> monitor = fit(np.random.default_rng(0).normal(size=200))
        >>> same, other = np.random.default_rng(1).normal(size=(2, 100))
        >>> [any(verdict.alarm for verdict in watch(monitor, scores)) for scores in (same, other + 2)]
        [False, True]
    """
    generator = np.random.default_rng(seed)
    seen = array("d", [*monitor.scores, *[math.inf] * monitor.without_region])
    bets = np.zeros(len(BETS))
    evidence = largest = 1.0
    for t, score in enumerate(map(float, scores), start=1):
        if largest * monitor.false_alarm < 1:
            value = math.inf if math.isnan(score) else score
            first, last = bisect_left(seen, value), bisect_right(seen, value)
            rank = (len(seen) - last + generator.random() * (last - first + 1)) / (len(seen) + 1)
            seen.insert(last, value)
            # A change may come at any image t: 1 / (t (t + 1)) of the capital is reserved for it, split over the bets.
            bets = (bets + 1 / (t * (t + 1) * len(BETS))) * _densities(rank)
            evidence = 1 / (t + 1) + float(bets.sum())
            largest = max(largest, evidence)
        flagged = monitor.flags_empty if math.isnan(score) else score > monitor.threshold
        yield Verdict(score, flagged, evidence, 1 / largest, largest * monitor.false_alarm >= 1)


def _densities(rank: float) -> np.ndarray:
    """Returns the density of each bet at a rank in (0, 1), which is near 0 for a score higher than those before it."""
    p = min(max(rank, _LEAST), 1 - _LEAST)
    return np.exp((BETS[:, 0] - 1) * np.log(p) + (BETS[:, 1] - 1) * np.log1p(-p) - _NORM)


def alarm_delay(monitor: Monitor, scores: ArrayLike, *, longest: int = LONGEST_DELAY) -> float:
    """Returns the median number of images until the drift alarm, on 21 streams drawn from `scores` with replacement.

    Args:
        monitor: of `fit`.
        scores: (n,), of images after a change, or the reference scores with a shift added.
        longest: images of each.

    Returns:
        Infinite where half of the streams or more raise no alarm.

    Example:
        >>> monitor = fit(np.random.default_rng(0).normal(size=200))
        >>> alarm_delay(monitor, monitor.scores + 2) < 20, alarm_delay(monitor, monitor.scores, longest=50)
        (True, inf)
    """
    draws = np.random.default_rng(0).choice(np.asarray(scores, np.float64), (STREAMS, longest))
    delays = [
        next((t for t, verdict in enumerate(watch(monitor, draw), start=1) if verdict.alarm), math.inf)
        for draw in draws
    ]
    return float(np.median(delays))


class RegionScores(NamedTuple):
    """Image and most frequent label of N regions, int64 (N,), and their scores, float64 (N,).

    `flip_risk` is in nats; `flip_risk_share` is its fraction of log F, the maximum with F foreground classes;
    `max_softmax` is 1 minus the largest probability. All are high where an error is expected.
    """

    image: np.ndarray
    label: np.ndarray
    flip_risk: np.ndarray
    flip_risk_share: np.ndarray
    max_softmax: np.ndarray


def region_scores(logits: Any, *, regions: Any = "objects", background: Background = 0) -> RegionScores:
    """Returns flip-risk and maximum softmax of each predicted region, averaged over its pixels.

    Args:
        logits: (B, H, W, C) floating point.
        regions: 'objects', the connected components of predicted foreground; 'image', all of it; or numbers (B, H, W)
            of instances (`flipjax.intervene.find_regions`).
        background: the class that is background, several in a tuple, or None.

    Returns:
        `RegionScores`, image by image; an image without predicted foreground has no row.

    Raises:
        TypeError, ValueError: logits or regions that do not fit.

    Example:
        >>> scores = region_scores(np.array([[[[0.0, 2.0, 2.0], [9.0, 0.0, 0.0], [0.0, 1.0, 9.0]]]]))
        >>> scores.label.tolist(), scores.flip_risk_share.round(3).tolist(), scores.max_softmax.round(3).tolist()
        ([1, 2], [1.0, 0.004], [0.532, 0.0])
    """
    logits = np.asarray(check_logits(logits, background=background))
    numbers = find_regions(logits, regions=regions, background=background)
    if numbers is None:
        numbers = np.asarray(foreground(logits, background=background), np.int32)
    rows, labels = count_labels(logits, regions=numbers, background=background)
    inside, count = rows >= 0, labels.sum(1)
    maps = read_pixels(logits, LabelSpec(background))
    risk, softmax = (np.bincount(rows[inside], each[inside]) / count for each in (maps.risk, maps.probability))
    share = risk / math.log(is_foreground(logits.shape[-1], background).sum())
    return RegionScores(region_images(numbers), labels.argmax(1), risk, share, 1 - softmax)


def __dir__() -> list[str]:
    return __all__
