"""A monitor: reference scores, and the threshold above which images are flagged."""

import dataclasses
import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from flipjax.metrics.inputs.host import read_array, read_numbers
from flipjax.metrics.statistics import selective
from flipjax.metrics.statistics.intervals import Estimate

LEAST_ALARM = 1e-300
"""Smallest false-alarm probability; the evidence for a smaller one overflows a float."""
FLAG_RATE = 0.05
"""Fraction of images that is flagged unless another is asked for."""
RARELY_EMPTY = 0.05
"""Images without predicted foreground are flagged if at most this fraction of the reference images have none."""
ERROR_LOSS = 0.5
"""Loss above which an image counts as an error, as for `risk_auroc`."""


@dataclasses.dataclass(frozen=True, eq=False)
class Monitor:
    """A fitted monitor.

    Example:
        >>> monitor = fit(np.arange(99.0), flag_rate=0.05)
        >>> monitor.threshold, monitor.false_alarm, len(monitor.scores), monitor.flags_empty
        (94.0, 0.01, 99, True)
    """

    scores: np.ndarray
    """float64 (n,), the reference scores that the drift test ranks against, in ascending order: of images, or means of
    clusters; a high score predicts an error."""
    threshold: float
    """An image with a higher score is flagged."""
    false_alarm: float = 0.01
    """The probability that `watch` ever alarms on a stream that is exchangeable with the reference."""
    without_region: int = 0
    """Reference images, or clusters, whose score was NaN: the model predicted no foreground."""
    cluster_key: str = ""
    """The key of a line that names its cluster, such as `patient`, whose images count as one in the drift test; '' for
    images that are independent."""

    @property
    def flags_empty(self) -> bool:
        """Whether images without predicted foreground are flagged: at most 5% of the reference had none."""
        return self.without_region <= RARELY_EMPTY * (len(self.scores) + self.without_region)


def fit(
    scores: ArrayLike,
    *,
    losses: ArrayLike | None = None,
    flag_rate: float | None = None,
    risk: float | None = None,
    false_alarm: float = 0.01,
    clusters: ArrayLike | None = None,
    cluster_key: str = "cluster",
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
        clusters: (n,) names or numbers of patients, films or other units of similar images: the drift test ranks the
            mean score of each, and its streams need them, too. None: each image alone.
        cluster_key: the key of a line that names its cluster.

    Raises:
        TypeError: what are no arrays of real numbers, such as masked ones.
        ValueError: flag_rate and risk together or out of range, shapes that do not fit, or too few images.

    Example:
        >>> monitor = fit(np.arange(99.0), flag_rate=0.05)
        >>> monitor.threshold, flag(monitor, [94.0, 94.5, np.nan]).tolist()
        (94.0, [False, True, True])
        >>> fit([0.1, 0.2, 0.3, 0.4], losses=[0, 0, 1, 1], risk=0.4).threshold
        0.3
    """
    values = read_scores(scores)
    if np.isinf(values).any():
        raise ValueError(f"scores: expected numbers or NaN, found {np.isinf(values).sum()} infinite.")
    if not LEAST_ALARM <= false_alarm < 1:
        raise ValueError(f"false_alarm: expected {LEAST_ALARM} <= P < 1, found {false_alarm}.")
    if risk is not None and not 0 <= risk <= 1:
        raise ValueError(f"risk: expected a mean loss in [0, 1], found {risk}.")
    if risk is not None and flag_rate is not None:
        raise ValueError("flag_rate: expected either flag_rate or risk, found both.")
    if clusters is None:
        ranked = values
        key = ""
    else:
        ranked = cluster_means(values, clusters)
        key = cluster_key
    reference = np.sort(ranked[~np.isnan(ranked)])
    if risk is not None:
        threshold = _threshold_at_risk(values, losses, risk)
    else:
        if flag_rate is None:
            flag_rate = FLAG_RATE
        threshold = _quantile(np.sort(values[~np.isnan(values)]), flag_rate)
    return Monitor(
        scores=reference,
        threshold=threshold,
        false_alarm=false_alarm,
        without_region=len(ranked) - len(reference),
        cluster_key=key,
    )


def _threshold_at_risk(scores: np.ndarray, losses: ArrayLike | None, risk: float) -> float:
    """Returns the largest score up to which the mean loss is at most `risk`."""
    if losses is None:
        raise ValueError("losses: expected (n,), the loss of each image, for a wanted risk; found none.")
    threshold = selective.threshold_at_risk(scores, losses, risk=risk)
    if threshold == -math.inf:
        raise ValueError(f"risk: expected at least the mean loss of the images with the lowest scores, found {risk}.")
    return threshold


def read_scores(scores: ArrayLike) -> np.ndarray:
    """Returns scores (n,) as float64.

    Raises:
        TypeError: no array, or one of other things than real numbers, such as a masked one, whose masked scores would
            be read as scores.
        ValueError: another shape.
    """
    values = read_numbers(scores, name="scores")
    if values.ndim != 1:
        raise ValueError(f"scores: expected (n,), found shape {values.shape}.")
    return values


def cluster_means(scores: np.ndarray, clusters: ArrayLike) -> np.ndarray:
    """Returns the mean score of each cluster, NaN for one whose images have none: float64 (clusters,).

    Raises:
        ValueError: not a cluster for each score.

    Example:
        >>> cluster_means(np.array([1.0, 3.0, np.nan, np.nan]), ["a", "a", "a", "b"]).tolist()
        [2.0, nan]
    """
    import pandas as pd  # Imported here because it is slow and `watch` does not need it.

    names = read_array(clusters, name="clusters").astype(np.str_)
    if names.shape != scores.shape:
        raise ValueError(f"clusters: expected {scores.shape}, one a score, found shape {names.shape}.")
    # pandas leaves NaN out of a mean.
    return pd.Series(scores).groupby(names).mean().to_numpy()


def _quantile(ordered: np.ndarray, rate: float) -> float:
    """Returns the score that a new image exceeds with probability `rate` at most.

    Of n + 1 exchangeable scores, the new one is equally likely to have each rank, so it is among the k highest with
    probability k / (n + 1).

    Args:
        ordered: (n,) reference scores, ascending.
        rate: the probability.
    """
    n = len(ordered)
    highest = 0
    if 0 < rate < 1:
        # A rate such as 0.07 times 100 is a little less than 7 in floating point.
        highest = math.floor(rate * (n + 1) + 1e-9)
    if highest < 1:
        least = f"at least {1 / (n + 1):.3g}, for {n} images with a score,"
        raise ValueError(f"flag_rate: expected {least} and less than 1; found {rate}.")
    return float(ordered[n - min(highest, n)])


def flag(monitor: Monitor, scores: ArrayLike) -> np.ndarray:
    """Flags scores (n,) above the threshold: bool (n,). For NaN see `Monitor.flags_empty`.

    Example:
        >>> monitor = fit(np.arange(99.0), flag_rate=0.05)
        >>> flag(monitor, [50.0, 98.0, np.nan]).tolist()
        [False, True, True]
    """
    values = read_scores(scores)
    return np.where(np.isnan(values), monitor.flags_empty, values > monitor.threshold)


class Detection(NamedTuple):
    """Flag rate, precision and recall of a monitor, each with its 95% interval; NaN where undefined.

    Example:
        >>> found = detection(fit(np.arange(99.0), flag_rate=0.2), [70.0, 90.0, 95.0], [0.0, 1.0, 0.0])
        >>> found.precision.value, round(found.precision.low, 2), round(found.precision.high, 2)
        (0.5, 0.09, 0.91)
    """

    flagged: Estimate
    """Flagged images among all; intervals are Wilson's."""
    precision: Estimate
    """Errors among the flagged images."""
    recall: Estimate
    """Flagged images among the errors."""


def detection(monitor: Monitor, scores: ArrayLike, losses: ArrayLike) -> Detection:
    """Computes the fraction of images flagged, and the precision and recall of flags for losses above 0.5.

    Args:
        monitor: of `fit`.
        scores: (n,), NaN without predicted foreground.
        losses: (n,) in 0..1, NaN where unknown.

    Raises:
        TypeError: what are no arrays of real numbers, such as masked ones.
        ValueError: shapes that do not fit, or losses outside 0..1.

    Example:
        >>> result = detection(fit(np.arange(99.0), flag_rate=0.2), [70.0, 90.0, 95.0], [0.0, 1.0, 0.1])
        >>> [round(value, 2) for value in result.flagged], result.precision.value, result.recall.value
        ([0.67, 0.21, 0.94], 0.5, 1.0)
    """
    flagged = flag(monitor, scores)
    values = read_numbers(losses, name="losses")
    if values.shape != flagged.shape:
        raise ValueError(f"losses: expected {flagged.shape}, one a score, found shape {values.shape}.")
    selective.check_losses(values)
    has_loss = ~np.isnan(values)
    error = values > ERROR_LOSS
    return Detection(_fraction(flagged), _fraction(error[flagged & has_loss]), _fraction(flagged[error]))


def _fraction(events: np.ndarray) -> Estimate:
    """Returns the fraction of events, bool (n,), and its Wilson 95% interval."""
    from scipy.stats import binomtest  # Imported here because it is slow and `watch` does not need it.

    if not len(events):
        return Estimate(math.nan, math.nan, math.nan)
    test = binomtest(int(events.sum()), len(events))
    interval = test.proportion_ci(method="wilson")
    return Estimate(float(test.statistic), float(interval.low), float(interval.high))
