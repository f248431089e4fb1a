"""Caches decoded pools on disk: memory-mapped arrays and `pool.json` with their digest, in a folder named by the key.

A folder may be deleted at any time, since the pool can be made again.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from math import isqrt, prod
from pathlib import Path
from typing import Any

import jax
import numpy as np

from flipjax.config import ConfigError, PoolSpec
from flipjax.data.pool import Catalog
from flipjax.files import DAMAGED, DamagedError
from flipjax.threads import in_order

FORMAT = 2
"""Part of every key: raise it when other pixels are made of the same files."""
ARRAYS = ("images", "masks", "labels", "scenes", "aspects")
COLUMNS = ("object_class", "object_scene", "scene_kind", "object_split", "scene_split")
"""The arrays of a catalog."""
RECORD = "pool.json"
BLOCK = 1 << 24
"""Bytes that are hashed at once."""

Arrays = dict[str, np.ndarray]


def shapes_of(objects: int, scenes: int, size: int) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of a pool's arrays; `dtype_of` gives their dtypes."""
    return {
        "images": (objects, size, size, 3),
        "masks": (objects, size, size),
        "labels": (objects,),
        "scenes": (scenes, size, size, 3),
        "aspects": (objects,),
    }


def dtype_of(name: str) -> type:
    """Returns the dtype of a pool's array."""
    return np.float32 if name == "aspects" else np.uint8


def with_digest(arrays: Arrays, catalog: Catalog) -> Catalog:
    """Returns the catalog with the digest of the pool's arrays and itself as `content`."""
    return dataclasses.replace(catalog, content=_digest(arrays, _to_json(catalog)))


def write_pool(folder: Path, arrays: Arrays, catalog: Catalog) -> None:
    """Writes a pool, whose catalog has its digest, to a folder; raises OSError if the disk is full."""
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    record = {"format": FORMAT, "content": catalog.content, "catalog": _to_json(catalog)}
    (folder / RECORD).write_text(json.dumps(record), encoding="utf-8")


def read_pool(folder: Path) -> tuple[Arrays, Catalog]:
    """Memory-maps a cached pool and compares its digest.

    Raises:
        FileNotFoundError, NotADirectoryError: there is no such pool.
        DamagedError: its content differs from its digest.
        ConfigError: it is too large for memory; raised before it is read.
    """
    text = (folder / RECORD).read_bytes()
    try:
        record = json.loads(text)
        # Memory maps go to the device without a second copy on the host.
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in ARRAYS}
        if any(array.dtype != dtype_of(name) for name, array in arrays.items()):
            raise ValueError("arrays of another type")
        catalog = dataclasses.replace(_from_json(record["catalog"]), content=record["content"])
    except (OSError, ValueError, TypeError, KeyError, AttributeError, *DAMAGED) as error:
        raise DamagedError(f"{type(error).__name__}: {error}") from error
    check_memory({name: array.shape for name, array in arrays.items()}, memory_limit())
    if _digest(arrays, _to_json(catalog)) != catalog.content:
        raise DamagedError("the digest of its arrays is another one")
    return arrays, catalog


def drawn_shapes(spec: PoolSpec, objects: int, scenes: int) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of a drawn pool's arrays; other cues than scenes stand before a backdrop for each object."""
    shapes = shapes_of(objects, scenes, spec.size)
    return shapes if spec.cue == "scene" else shapes | {"backdrops": shapes["images"]}


def check_memory(shapes: Mapping[str, tuple[int, ...]], limit: tuple[int, str] | None) -> None:
    """Raises ConfigError if a pool is larger than memory.

    Args:
        shapes: shapes of the pool's arrays.
        limit: available bytes, and the name of the memory; None: unknown.
    """
    total = sum(prod(shape) for shape in shapes.values())
    if limit is None or total <= limit[0]:
        return
    size = shapes["images"][1]
    fits = isqrt(int(size**2 * limit[0] / total)) // 8 * 8
    largest = f"the largest size that fits is {fits}" if fits >= 16 else "no size fits"
    raise ConfigError(
        "config.pool.size",
        problem=f"the pool at size {size} has {total / 1e6:,.0f} MB ({shapes['images'][0]:,} objects or "
        f"photos, {shapes['scenes'][0]:,} scenes), and {limit[1]} has {limit[0] / 1e6:,.0f} MB; {largest}",
    )


def memory_limit() -> tuple[int, str] | None:
    """Returns the bytes available to a pool and the device or machine that has them; None if unknown."""
    devices = jax.local_devices()
    for device in devices:
        if limit := (device.memory_stats() or {}).get("bytes_limit"):
            return limit, f"the device {device.device_kind}"
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        kilobytes = next(line.split()[1] for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return None
    # Each CPU device gets a copy.
    return 1024 * int(kilobytes) // len(devices), f"each of {len(devices)} CPU devices"


def _digest(arrays: Mapping[str, Any], values: Mapping[str, Any]) -> str:
    """Returns a digest of shapes, blocks (hashed on all cores) and the catalog without its source: 32 hex digits."""
    text = json.dumps({name: value for name, value in values.items() if name != "source"}, sort_keys=True)
    total = hashlib.sha256(text.encode())
    for name in ARRAYS:
        total.update(f"{name} {arrays[name].shape}\n".encode())
        flat = arrays[name].reshape(-1)
        blocks = (flat[start : start + BLOCK] for start in range(0, len(flat), BLOCK))
        for digest in in_order(lambda block: hashlib.sha256(block).digest(), blocks):
            total.update(digest)
    return total.hexdigest()[:32]


def _to_json(catalog: Catalog) -> dict[str, Any]:
    # Usual scenes belong to a configuration, not to the pool.
    values = {name: value for name, value in vars(catalog).items() if name not in ("content", "usual")}
    return {name: value.tolist() if name in COLUMNS else value for name, value in values.items()}


def _from_json(values: Mapping[str, Any]) -> Catalog:
    fields: dict[str, Any] = {name: tuple(value) for name, value in values.items() if name.endswith("_names")}
    fields |= {name: np.array(values[name], np.int32) for name in COLUMNS}
    return Catalog(kind=values["kind"], source=values["source"], **fields)
