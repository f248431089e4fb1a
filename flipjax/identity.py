"""What tells a run from another: a digest of its configuration, the same of one that was read from its config.json."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from flipjax.config import Config, leaves

SAME_RUN = {"population.memory_gb"}
"""Fields of which other values make no other run."""


def digest_of(config: Config | Mapping[str, Any]) -> str:
    """Returns a digest of all that makes another run; 1 and 1.0 are the same."""
    fields = {name: value for name, value in leaves(config).items() if name not in SAME_RUN}
    text = json.dumps(_plain(fields), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return float(value) if isinstance(value, int) else value
