"""Stores monitors as JSON with a digest."""

import dataclasses
import json
from pathlib import Path

import numpy as np

from flipjax.monitor.threshold import Monitor
from flipjax.support.files import JsonObject, check_regular, naming_malformed, read_json, replacing, sha256

FORMAT = "flipjax monitor 3"
"""What a monitor's file calls its format; another layout has another number."""


def digest_of(monitor: Monitor) -> str:
    """Returns the digest of a monitor, by which a stream's history names it."""
    return _digest(_values_of(monitor))


def _values_of(monitor: Monitor) -> JsonObject:
    """Returns what is stored of a monitor."""
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
    with naming_malformed(Path(path), "expected a monitor as `flipjax monitor fit` writes it"):
        values = read_record(path)
        stored_format = values.pop("format")
        if stored_format != FORMAT:
            raise ValueError(f"expected the format {FORMAT!r}, found {stored_format!r}")
        scores = np.array(values.pop("scores"), np.float64)
        return Monitor(scores, **values)


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


def _digest(values: JsonObject) -> str:
    """Returns the digest of stored values."""
    return sha256(json.dumps(values, sort_keys=True))
