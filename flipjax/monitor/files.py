"""Stores monitors as JSON with a digest."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np

from flipjax.monitor.threshold import LEAST_ALARM, Monitor
from flipjax.support.files import DamagedError, JsonObject, check_regular, read_json, replacing, sha256

FORMAT = "flipjax monitor 3"
"""What a monitor's file calls its format; another layout has another number."""
EARLIER = ("flipjax monitor 2",)
"""Formats that can be read, too: of monitors without clusters."""


def digest_of(monitor: Monitor) -> str:
    """Returns the digest of a monitor's values."""
    return _digest(_values_of(monitor))


def _values_of(monitor: Monitor) -> JsonObject:
    return {**dataclasses.asdict(monitor), "format": FORMAT, "scores": monitor.scores.tolist()}


def save_monitor(monitor: Monitor, path: str | Path) -> None:
    """Writes a monitor as JSON with a digest; equal monitors give equal files.

    Example:
        >>> import tempfile
        >>> from flipjax.monitor import fit
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_monitor(fit(np.arange(99.0)), Path(folder, "monitor.json"))
        ...     load_monitor(Path(folder, "monitor.json")).threshold
        94.0
    """
    write_record(path, _values_of(monitor))


def load_monitor(path: str | Path) -> Monitor:
    """Reads a monitor that `save_monitor` wrote.

    Raises:
        DamagedError: the file holds no monitor, or was changed.
        OSError: there is no such file, or it is a folder.

    Example:
        >>> import tempfile
        >>> from flipjax.monitor import fit
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_monitor(fit(np.arange(99.0)), Path(folder, "monitor.json"))
        ...     monitor = load_monitor(Path(folder, "monitor.json"))
        >>> monitor.threshold, monitor.false_alarm
        (94.0, 0.01)
    """
    try:
        values = read_record(path)
        if values.pop("format") not in (FORMAT, *EARLIER):
            raise ValueError("another format")
        return _monitor_of(values)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise DamagedError(f"{path}: expected a monitor as `flipjax monitor fit` writes it ({error})") from error


def write_record(path: str | Path, values: JsonObject) -> None:
    """Writes values as JSON with their digest, atomically; equal values give equal files."""
    with replacing(path) as stream:
        stream.write(json.dumps({**values, "digest": _digest(values)}, sort_keys=True).encode() + b"\n")


def read_record(path: str | Path) -> JsonObject:
    """Returns the values of a file of `write_record`.

    Raises:
        ValueError, TypeError, KeyError, AttributeError: it is no such file, or was changed.
        OSError: it cannot be read.
    """
    check_regular(Path(path))
    values = read_json(path)
    if values.pop("digest") != _digest(values):
        raise ValueError("its values do not match its digest")
    return values


def _monitor_of(values: JsonObject) -> Monitor:
    """Returns the monitor of stored values; raises ValueError or TypeError for others than `fit` can give."""
    scores = _array_of(values.pop("scores"))
    if not len(scores) or not np.isfinite(scores).all() or (np.diff(scores) < 0).any():
        raise ValueError("scores: expected numbers in order")
    monitor = Monitor(scores, **values)
    numbers = (monitor.threshold, monitor.false_alarm, monitor.without_region)
    if not all(isinstance(number, int | float) for number in numbers) or not isinstance(monitor.cluster_key, str):
        raise ValueError("expected numbers, and the name of a key")
    if math.isnan(monitor.threshold) or not LEAST_ALARM <= monitor.false_alarm < 1 or monitor.without_region < 0:
        raise ValueError("threshold, false_alarm, without_region: expected those that fit gives")
    return monitor


def _array_of(scores: object) -> np.ndarray:
    """Returns stored scores as float64; raises ValueError unless all are floats, as `save_monitor` writes them."""
    if not isinstance(scores, list) or not all(isinstance(score, float) for score in scores):
        raise ValueError("scores: expected a list of numbers")
    return np.array(scores, np.float64)


def _digest(values: JsonObject) -> str:
    """Returns the digest of stored values."""
    return sha256(json.dumps(values, sort_keys=True))
