"""Decoded pools on disk: one folder each, named by its key; arrays that are mapped, and `pool.json` with their digest.

All in it can be made again: a folder may be deleted at any time.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from math import isqrt, prod
from pathlib import Path
from typing import Any

import jax
import numpy as np

from flipjax.config import ConfigError
from flipjax.data.pool import Catalog
from flipjax.files import DAMAGED, DamagedError, cache_folder
from flipjax.threads import in_order

FORMAT = 1
"""Part of every key: raise it when other pixels are made of the same files."""
ARRAYS = ("images", "masks", "labels", "scenes")
RECORD = "pool.json"
BLOCK = 1 << 24
"""Bytes that are hashed at once."""

Arrays = dict[str, np.ndarray]


def pools_folder() -> Path:
    """Returns the folder of the stored pools, flipjax/pools below ~/.cache or XDG_CACHE_HOME."""
    return cache_folder() / "pools"


def shapes_of(objects: int, scenes: int, size: int) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of a pool's uint8 arrays."""
    return {
        "images": (objects, size, size, 3),
        "masks": (objects, size, size),
        "labels": (objects,),
        "scenes": (scenes, size, size, 3),
    }


def create_arrays(folder: Path, shapes: Mapping[str, tuple[int, ...]]) -> Arrays:
    """Makes files of zeros and maps them to be written; OSError where the disk has no room."""
    arrays = {}
    for name, shape in shapes.items():
        path = folder / f"{name}.npy"
        if not prod(shape):
            np.save(path, np.zeros(shape, np.uint8))
            arrays[name] = np.zeros(shape, np.uint8)
            continue
        arrays[name] = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
        # A map has holes, and a disk that is full when they are filled kills the process.
        if hasattr(os, "posix_fallocate"):
            with path.open("r+b") as stream:
                os.posix_fallocate(stream.fileno(), 0, path.stat().st_size)
    return arrays


def seal_pool(folder: Path, arrays: Arrays, catalog: Catalog) -> Catalog:
    """Writes the record of a pool whose arrays are filled, and returns the catalog with the pool's digest."""
    for array in arrays.values():
        if isinstance(array, np.memmap):
            array.flush()
    values = _to_json(catalog)
    content = _digest(arrays, values)
    shapes = {name: list(array.shape) for name, array in arrays.items()}
    record = {"format": FORMAT, "content": content, "shapes": shapes, "catalog": values}
    (folder / RECORD).write_text(json.dumps(record), encoding="utf-8")
    return dataclasses.replace(catalog, content=content)


def read_pool(folder: Path) -> tuple[Arrays, Catalog]:
    """Maps a stored pool and compares its digest.

    Raises:
        FileNotFoundError: there is none.
        DamagedError: it is not what was written.
        ConfigError: it is too large for memory; nothing is read then.
    """
    if not (folder / RECORD).exists():
        raise FileNotFoundError(folder)
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        arrays = {name: _open(folder / f"{name}.npy", record["shapes"][name]) for name in ARRAYS}
        values = record["catalog"]
        content = record["content"]
        catalog = dataclasses.replace(_from_json(values), content=content)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, *DAMAGED) as error:
        raise DamagedError(f"{type(error).__name__}: {error}") from error
    check_memory({name: array.shape for name, array in arrays.items()}, memory_limit())
    if _digest(arrays, values) != content:
        raise DamagedError("the digest of its arrays is another one")
    return arrays, catalog


def check_memory(shapes: Mapping[str, tuple[int, ...]], limit: tuple[int, str] | None) -> None:
    """Raises ConfigError where a pool is larger than the memory it would stand in.

    Args:
        shapes: of the pool's uint8 arrays.
        limit: bytes, and what has them; None: unknown.
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
    """Returns the bytes that a pool may have and what has them: a device, or this machine; None where unknown."""
    devices = jax.local_devices()
    for device in devices:
        limit = (device.memory_stats() or {}).get("bytes_limit")
        if limit:
            return limit, f"the device {device.device_kind}"
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        kilobytes = next(line.split()[1] for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return None
    # Each device of a CPU gets a copy.
    return 1024 * int(kilobytes) // len(devices), f"each of {len(devices)} CPU devices"


def _open(path: Path, shape: list[int]) -> np.ndarray:
    """Maps an array, so that its bytes go to the device without a second copy of the pool on the host."""
    array = np.load(path, mmap_mode="r" if prod(shape) else None, allow_pickle=False)
    if array.shape != tuple(shape) or array.dtype != np.uint8:
        raise ValueError(f"{path.name} has {array.dtype} of shape {array.shape}")
    return array


def _digest(arrays: Mapping[str, Any], values: Mapping[str, Any]) -> str:
    """Returns 32 hex digits: of the shapes, each block's SHA-256 (on all cores), and the catalog but its source."""
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
    values = {field.name: getattr(catalog, field.name) for field in dataclasses.fields(catalog)}
    # Usual scenes are of a configuration, not of the pool.
    del values["content"], values["usual"]
    return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in values.items()}


def _from_json(values: Mapping[str, Any]) -> Catalog:
    fields = {}
    for field in dataclasses.fields(Catalog):
        value = values.get(field.name, () if field.name == "usual" else "")
        if field.type == "np.ndarray" or field.type is np.ndarray:
            value = np.array(value, np.int32)
        fields[field.name] = tuple(value) if isinstance(value, list) else value
    return Catalog(**fields)
