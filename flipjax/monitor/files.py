"""Stores monitors as JSON with a digest."""

import dataclasses
import json
from pathlib import Path

import numpy as np

from flipjax.monitor.threshold import Monitor
from flipjax.support.files import DamagedError, replacing, sha256

FORMAT = "flipjax monitor 3"
EARLIER = ("flipjax monitor 2",)
"""Formats that can be read, too: of monitors without clusters."""


def digest_of(monitor: Monitor) -> str:
    """Returns the digest of a monitor's values."""
    return _digest(_values_of(monitor))


def _values_of(monitor: Monitor) -> dict[str, object]:
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
    values = _values_of(monitor)
    with replacing(path) as stream:
        stream.write(json.dumps({**values, "digest": _digest(values)}, sort_keys=True).encode() + b"\n")


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
        values = json.loads(Path(path).read_bytes())
        if values.pop("digest") != _digest(values) or values.pop("format") not in (FORMAT, *EARLIER):
            raise ValueError("its values do not match its digest")
        return Monitor(np.array(values.pop("scores")), **values)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise DamagedError(f"{path}: expected a monitor as `flipjax monitor fit` writes it ({error})") from error


def _digest(values: dict[str, object]) -> str:
    return sha256(json.dumps(values, sort_keys=True))
