"""The record of a start for config.json, and what differs between two of them."""

import contextlib
import datetime
import importlib.metadata
import platform
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

from flipjax.backend.random import key_of

PACKAGES = ("flipjax", "jax", "jaxlib", "flax", "optax", "numpy")
"""Packages whose versions a start records."""
BITS = "random bits"
"""Entry of a start with some random bits, which show another generator."""
COMPARED = ("flipjax", "jax", "jaxlib", "flax", "backend", BITS)
"""Entries of a start that can change results; `backend` is the kind of device, not the number."""


def describe_start(device: str) -> dict[str, str]:
    """Returns the record of a start for config.json: place and time, device, versions, git commit and random bits."""
    import jax

    record = {
        "device": device,
        "host": platform.node(),
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    line = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        described = subprocess.run(line, capture_output=True, text=True, check=True, timeout=10)
        record["commit"] = described.stdout.strip()
    record["python"] = platform.python_version()
    for name in PACKAGES:
        record[name] = importlib.metadata.version(name)
    bits = jax.jit(lambda: jax.random.bits(key_of(0), (2,)))().tolist()
    record[BITS] = " ".join(f"{word:08x}" for word in bits)
    return record


def differing_software(earlier: Iterable[Mapping[str, object]], now: Mapping[str, object]) -> str:
    """Lists the software that differs from earlier starts; empty if none does.

    Example:
        >>> first = {"jax": "0.10.2", "flax": "0.12", "device": "2 x cpu (cpu)"}
        >>> differing_software([first], {"jax": "0.12.0", "flax": "0.12", "device": "8 x cpu (cpu)"})
        'jax 0.12.0 (before 0.10.2)'
    """
    before = [_compared(start) for start in earlier]
    differences = []
    for name, value in _compared(now).items():
        earlier_values = {start[name] for start in before if name in start} - {value}
        if earlier_values:
            differences.append(f"{name} {value} (before {', '.join(sorted(earlier_values))})")
    return ", ".join(differences)


def _compared(start: Mapping[str, object]) -> dict[str, str]:
    """Returns the entries of a start that can change results."""
    entries = dict(start)
    if "device" in start:
        entries["backend"] = str(start["device"]).partition(" x ")[2]
    return {name: str(entries[name]) for name in COMPARED if name in entries}
