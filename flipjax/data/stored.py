"""Where prepared pools lie and what their `pool.json` says. Imports no JAX."""

import json
import re
from math import prod
from pathlib import Path
from typing import Any

from flipjax.config import PoolSpec
from flipjax.files import cache_folder

MANIFEST = "pool.json"
ARRAYS = ("images", "masks", "labels", "scenes")
CONTENT = re.compile(r"[0-9a-f]{32}")
"""Names of folders that hold arrays and a catalog."""


def default_folder(name: str, size: int) -> Path:
    """Returns ~/.cache/flipjax/NAME/SIZE, or its like under XDG_CACHE_HOME."""
    return cache_folder() / name / str(size)


def folder_of(spec: PoolSpec) -> Path:
    """Returns the folder of a prepared pool: `root`, or the default for its name and size."""
    return Path(spec.root).expanduser() if spec.root else default_folder(spec.name, spec.size)


def stored(folder: Path) -> dict[str, Any] | None:
    """Returns what `pool.json` says, of a pool that may be damaged; None where there is none, or not flipjax's."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        known = manifest.keys() >= {"content", "shapes", "facts"} and manifest["shapes"].keys() >= set(ARRAYS)
        return manifest if known and CONTENT.fullmatch(manifest["content"]) else None
    except (OSError, ValueError, AttributeError, TypeError):
        return None


def stored_bytes(spec: PoolSpec) -> int | None:
    """Returns the size of a prepared pool's arrays, uint8; None where none of that name and size is prepared."""
    manifest = stored(folder_of(spec))
    if manifest is None or manifest["facts"].get("name") != spec.name:
        return None
    shapes = manifest["shapes"]
    return sum(prod(shape) for shape in shapes.values()) if shapes["images"][1] == spec.size else None
