"""Where prepared pools lie and what their `pool.json` says. Imports no JAX."""

import json
import os
from math import prod
from pathlib import Path
from typing import Any

from flipjax.config import PoolSpec

MANIFEST = "pool.json"


def default_folder(name: str, size: int) -> Path:
    """Returns ~/.cache/flipjax/NAME/SIZE, or its like under XDG_CACHE_HOME."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "flipjax" / name / str(size)


def folder_of(spec: PoolSpec) -> Path:
    """Returns the folder of a prepared pool: `root`, or the default for its name and size."""
    return Path(spec.root).expanduser() if spec.root else default_folder(spec.name, spec.size)


def stored(folder: Path) -> dict[str, Any] | None:
    """Returns `content`, `shapes` and `facts` of a folder's `pool.json`; None where there is none to read."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return manifest if manifest.keys() >= {"content", "shapes", "facts"} else None
    except (OSError, ValueError, AttributeError):
        return None


def stored_bytes(spec: PoolSpec) -> int | None:
    """Returns the size of a prepared pool's arrays, uint8; None where none of that name and size is prepared."""
    manifest = stored(folder_of(spec))
    if manifest is None or manifest["facts"].get("name") != spec.name:
        return None
    shapes = manifest["shapes"]
    return sum(prod(shape) for shape in shapes.values()) if shapes["images"][1] == spec.size else None
