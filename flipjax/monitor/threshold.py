"""A monitor: the reference scores, and the threshold above which an image is flagged."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from flipjax.files import DamagedError, replacing, sha256
from flipjax.metrics import selective

FORMAT = "flipjax monitor 2"
LARGEST = 1 << 28
"""Bytes of a monitor's file."""
LEAST_ALARM = 1e-300
"""Probability below which the evidence against it would be no float."""


@dataclasses.dataclass(frozen=True, eq=False)
class Monitor:
    """What `fit` makes of reference images.

    Attributes:
        scores: float64 (n,), those of the reference images, ascending; high where an error is expected.
        threshold: an image with a higher score is flagged.
        false_alarm: the probability that `watch` ever alarms on a stream that is exchangeable with the reference.
        without_region: reference images whose score was NaN, as of a model that predicted no foreground.
    """

    scores: np.ndarray
    threshold: float
    false_alarm: float = 0.01
    without_region: int = 0


def fit(
    scores: ArrayLike,
    *,
    losses: ArrayLike | None = None,
    flag_rate: float | None = None,
    risk: float | None = None,
    false_alarm: float = 0.01,
) -> Monitor:
    """Returns the monitor of a model from the scores of reference images, which need no labels.

    By `flag_rate` the threshold is a conformal quantile: a new image that is exchangeable with the reference images is
    flagged with at most that probability (over draws of both). By `risk`, where losses are known, it is
    `selective.threshold_at_risk`: the reference images that are not flagged have at most that mean loss.

    Args:
        scores: (n,) numbers, high where an error is expected: flip-risk, scene-swap risk. Images with NaN have no
            place.
        losses: (n,) in 0..1, such as each image's flip share; for `risk`.
        flag_rate: wanted share of flagged images; None without `risk`: 0.05.
        risk: wanted mean loss of the images that are not flagged.
        false_alarm: of the drift alarm, over a whole stream.

    Raises:
        ValueError: both or unusable wishes, shapes that do not fit, or too few images for them.

    Example:
        >>> monitor = fit(np.arange(99.0), flag_rate=0.05)
        >>> monitor.threshold, flag(monitor, [94.0, 94.5, np.nan]).tolist()
        (94.0, [False, True, False])
        >>> fit([0.1, 0.2, 0.3, 0.4], losses=[0, 0, 1, 1], risk=0.4).threshold
        0.3
    """
    values = np.asarray(scores, np.float64)
    if values.ndim != 1:
        raise ValueError(f"scores: expected (n,), found shape {values.shape}.")
    if np.isinf(values).any():
        raise ValueError(f"scores: expected numbers or NaN, found {int(np.isinf(values).sum())} infinite.")
    if not LEAST_ALARM <= false_alarm < 1:
        raise ValueError(f"false_alarm: expected a number in [{LEAST_ALARM}, 1), found {false_alarm}.")
    if risk is not None and not 0 <= risk <= 1:
        raise ValueError(f"risk: expected a mean loss in [0, 1], found {risk}.")
    if risk is not None and flag_rate is not None:
        raise ValueError("flag_rate: expected either flag_rate or risk, found both.")
    ordered = np.sort(values[~np.isnan(values)])
    if risk is not None:
        if losses is None:
            raise ValueError("losses: expected (n,), the loss of each image, for a wanted risk; found none.")
        threshold = selective.threshold_at_risk(values, losses, risk=risk)
        if threshold == -math.inf:
            raise ValueError(
                f"risk: expected a mean loss that the images of least score have; those of no threshold have {risk}."
            )
    else:
        threshold = _quantile(ordered, 0.05 if flag_rate is None else flag_rate)
    return Monitor(ordered, threshold, false_alarm, len(values) - len(ordered))


def _quantile(ordered: np.ndarray, rate: float) -> float:
    """Returns the score that a new image exceeds with probability `rate` at most."""
    n = len(ordered)
    if not 0 < rate < 1:
        raise ValueError(f"flag_rate: expected a number in (0, 1), found {rate}.")
    above = math.floor(rate * (n + 1) + 1e-9)
    if above < 1:
        images = math.ceil(1 / rate - 1 - 1e-9)
        least = f"at least {1 / (n + 1):.3g} for {n} images with a score, or {images} images"
        raise ValueError(f"flag_rate: expected {least}; found {rate}.")
    return float(ordered[n - min(above, n)])


def flag(monitor: Monitor, scores: ArrayLike) -> np.ndarray:
    """Returns which scores (n,) exceed the threshold: bool (n,); NaN does not."""
    return np.asarray(scores, np.float64) > monitor.threshold


def save_monitor(monitor: Monitor, path: str | Path) -> None:
    """Writes a monitor as JSON with a digest; equal monitors give equal bytes."""
    values = dataclasses.asdict(monitor) | {"format": FORMAT, "scores": monitor.scores.tolist()}
    with replacing(path) as stream:
        stream.write(json.dumps(values | {"digest": _digest(values)}, sort_keys=True).encode() + b"\n")


def load_monitor(path: str | Path) -> Monitor:
    """Reads what `save_monitor` wrote.

    Raises:
        DamagedError: it is no monitor, or not what was written.
        OSError: there is no such file.
    """
    path = Path(path)
    if path.exists() and (not path.is_file() or path.stat().st_size > LARGEST):
        raise DamagedError(f"{path}: expected a monitor, a file of at most {LARGEST:,} bytes")
    try:
        values = json.loads(path.read_bytes())
        if values.pop("digest") != _digest(values) or values["format"] != FORMAT:
            raise ValueError("its values are not those that were written")
        numbers = float(values["threshold"]), float(values["false_alarm"]), int(values["without_region"])
        return Monitor(np.array([float(score) for score in values["scores"]]), *numbers)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise DamagedError(f"{path}: expected a monitor as `flipjax monitor fit` writes it ({error})") from error


def _digest(values: dict[str, Any]) -> str:
    return sha256(json.dumps(values, sort_keys=True))
