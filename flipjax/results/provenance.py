"""Where, when and with what software a run was started, and what differs between its starts."""

import contextlib
import datetime
import importlib.metadata
import platform
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

PACKAGES = ("flipjax", "jax", "jaxlib", "flax", "optax", "numpy")
BITS = "random bits"
COMPARED = ("flipjax", "jax", "jaxlib", "flax", "backend", BITS)
"""What gives other numbers: `backend` is the device without how many of them there are."""


def describe_start(device: str) -> dict[str, str]:
    """Returns what config.json says of a start: where and when, device, versions, commit of a checkout, random bits."""
    import jax

    facts = {"device": device, "host": platform.node()}
    facts["started"] = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    line = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        facts["commit"] = subprocess.run(line, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    facts |= {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in PACKAGES}
    return facts | {BITS: " ".join(f"{word:08x}" for word in jax.random.bits(jax.random.key(0), (2,)).tolist())}


def differing_software(earlier: Iterable[Mapping[str, Any]], now: Mapping[str, Any]) -> str:
    """Returns what a start has of other software than earlier ones, as a list; empty where nothing differs.

    Example:
        >>> first = {"jax": "0.10.2", "flax": "0.12", "device": "2 x cpu (cpu)"}
        >>> differing_software([first], {"jax": "0.12.0", "flax": "0.12", "device": "8 x cpu (cpu)"})
        'jax 0.12.0 (before 0.10.2)'
    """
    new, before = _compared(now), [_compared(start) for start in earlier]
    others = {name: {start.get(name, value) for start in before} - {value} for name, value in new.items()}
    return ", ".join(f"{name} {new[name]} (before {', '.join(sorted(old))})" for name, old in others.items() if old)


def _compared(start: Mapping[str, Any]) -> dict[str, str]:
    known = {**start, "backend": str(start["device"]).partition(" x ")[2]} if "device" in start else start
    return {name: str(known[name]) for name in COMPARED if name in known}
