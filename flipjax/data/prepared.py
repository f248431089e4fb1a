"""Prepared pools on disk: what `python -m flipjax.data prepare` writes, and what a configuration names by `pool.name`.

A pool is a folder with `pool.json` (written last; without it there is no pool) and the arrays and the catalog in a
folder beside it, named by their content.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from math import isqrt, prod
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flipjax.config import ConfigError, PoolSpec, check_value
from flipjax.data.pool import Catalog, Pool
from flipjax.data.stored import ARRAYS, CONTENT, MANIFEST, default_folder, folder_of, stored
from flipjax.files import replacing

CATALOG = "catalog.json"
PARTIAL = re.compile(r"\.\d+\.tmp")
"""Names of such folders that are not whole."""
SOURCES = {
    "coco_cd": "--coco_root COCO --stuff_dir COCO/annotations",
    "waterbirds_seg": "--cub_dir CUB_200_2011 --places_dir places365",
}
"""The data sets that `prepare` knows, and where it finds them."""
BLOCK = 1 << 24
"""Bytes written at once."""


class Blocks(NamedTuple):
    """A uint8 array that is never whole in memory: its shape, and a function that yields it row block by row block."""

    shape: tuple[int, ...]
    read: Callable[[], Iterator[np.ndarray]]


def write_pool(
    folder: Path, arrays: Mapping[str, np.ndarray | Blocks], catalog: Catalog, facts: Mapping[str, Any]
) -> dict[str, Any]:
    """Writes a pool, whole or not at all; one that was there before is found until the new one is whole.

    Nothing is deleted but files that a pool's folders hold by name.

    Args:
        folder: of the pool.
        arrays: `images` uint8 (N, H, W, 3), `masks` uint8 (N, H, W), `labels` uint8 (N,), `scenes` uint8 (S, H, W, 3),
            as of a `Pool`.
        catalog: of the pool.
        facts: what was made, as JSON values: `name`, the data set's name in a configuration, `holds`, what it is in
            words, and anything else that tells this pool from another.

    Returns:
        What `pool.json` says.

    Raises:
        ValueError: arrays and catalog do not fit together.
        OSError: the folder cannot be written to.
    """
    wanted = _shapes(catalog, arrays["images"].shape[1])
    found = {name: tuple(arrays[name].shape) for name in ARRAYS}
    if found != wanted:
        raise ValueError(f"arrays: expected the shapes {wanted} for this catalog, found {found}")
    _remove_folders(folder, PARTIAL)
    partial = folder / f".{os.getpid()}.tmp"
    partial.mkdir(parents=True)
    try:
        content = hashlib.sha256()
        for name in ARRAYS:
            _write_array(partial / f"{name}.npy", arrays[name], content)
        text = json.dumps(_to_json(catalog))
        content.update(text.encode())
        (partial / CATALOG).write_text(text, encoding="utf-8")
        key = content.hexdigest()[:32]
        _remove_folder(folder / key)
        partial.rename(folder / key)
    finally:
        _remove_folder(partial)
    manifest = {"content": key, "shapes": {name: list(shape) for name, shape in wanted.items()}, "facts": dict(facts)}
    with replacing(folder / MANIFEST) as stream:
        stream.write((json.dumps(manifest, indent=2) + "\n").encode())
    _remove_folders(folder, re.compile(f"(?!{key}){CONTENT.pattern}"))
    return manifest


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """Returns what `pool.json` says (`content`, `shapes`, `facts`); None where there is no pool, or it is not whole."""
    manifest = stored(folder)
    if manifest is None or not (folder / manifest["content"] / CATALOG).is_file():
        return None
    try:
        for name in ARRAYS:
            _open_array(folder, manifest, name)
    except (OSError, ValueError):
        return None
    return manifest


def describe(manifest: Mapping[str, Any]) -> str:
    """Returns in words what a pool holds, of what `pool.json` says."""
    images, scenes = manifest["shapes"]["images"], manifest["shapes"]["scenes"]
    holds = manifest["facts"].get("holds") or manifest["facts"].get("name")
    return f"{holds} ({images[0]} images, {scenes[0]} scenes at size {images[1]})"


def identify(spec: PoolSpec) -> dict[str, str]:
    """Returns `content`, which tells a prepared pool from any other, and `holds`, what it is in words.

    Empty where there is none, and for the pools of other names, which their configuration tells apart.
    """
    manifest = stored(folder_of(spec)) if spec.name in SOURCES else None
    return {"content": manifest["content"], "holds": describe(manifest)} if manifest else {}


def load(spec: PoolSpec) -> tuple[Pool, Catalog]:
    """Loads a prepared pool; nothing is read before it is known to fit in memory.

    Args:
        spec: `name`, `size` (pixels a side), and `root`, the folder that `prepare --out` wrote (empty: its default).

    Returns:
        The pool and its catalog.

    Raises:
        ConfigError: there is no such pool, or one of another name or size, or it is damaged or too large for memory;
            says which command prepares it, and which size would fit.
    """
    check_value("pool.size", spec.size)
    folder = folder_of(spec)
    manifest = stored(folder)
    if manifest is None:
        advice = f"{_other_sizes(spec)}{_advice(spec)}"
        raise ConfigError("config.pool.root", problem=f"no prepared pool in {folder}; {advice}")
    name, size = manifest["facts"].get("name"), manifest["shapes"]["images"][1]
    if (name, size) != (spec.name, spec.size):
        field = "name" if name != spec.name else "size"
        raise ConfigError(
            f"config.pool.{field}",
            problem=f"{folder} holds {name} at size {size}, found {spec.name} at size {spec.size}; "
            f"set config.pool.{field} to {name if field == 'name' else size}, or {_advice(spec)}",
        )
    check_memory(manifest["shapes"], memory_limit())
    try:
        arrays = {name: _open_array(folder, manifest, name) for name in ARRAYS}
        catalog = _from_json(json.loads((folder / manifest["content"] / CATALOG).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        problem = f"the pool in {folder} is damaged ({error}); {_advice(spec)}"
        raise ConfigError("config.pool.root", problem=problem) from error
    return Pool(kind=catalog.kind, **{name: jnp.asarray(array) for name, array in arrays.items()}), catalog


def check_memory(shapes: Mapping[str, list[int]], limit: tuple[int, str] | None) -> None:
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


def _advice(spec: PoolSpec) -> str:
    out = f" --out {spec.root}" if spec.root else ""
    return f"prepare it with: python -m flipjax.data prepare {spec.name} {SOURCES[spec.name]} --size {spec.size}{out}"


def _other_sizes(spec: PoolSpec) -> str:
    """Returns which sizes are prepared at the default place, as the beginning of a sentence."""
    folders = [] if spec.root else default_folder(spec.name, 0).parent.glob(f"*/{MANIFEST}")
    sizes = sorted(int(path.parent.name) for path in folders if path.parent.name.isdigit())
    return f"config.pool.size may be {', '.join(map(str, sizes))}, or " if sizes else ""


def _shapes(catalog: Catalog, size: int) -> dict[str, tuple[int, ...]]:
    n, s = len(catalog.object_names), len(catalog.scene_photo_names)
    return {"images": (n, size, size, 3), "masks": (n, size, size), "labels": (n,), "scenes": (s, size, size, 3)}


def _write_array(path: Path, array: np.ndarray | Blocks, content: Any) -> None:
    header = {"descr": "|u1", "fortran_order": False, "shape": tuple(array.shape)}
    rows = 0
    with path.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, header)
        content.update(repr(header).encode())
        for block in array.read() if isinstance(array, Blocks) else _split(array):
            if block.dtype != np.uint8 or block.shape[1:] != array.shape[1:]:
                raise ValueError(f"{path.stem}: expected uint8 of shape (..., {array.shape[1:]}), found {block.shape}")
            data = block.tobytes()
            stream.write(data)
            content.update(data)
            rows += len(block)
    if rows != array.shape[0]:
        raise ValueError(f"{path.stem}: expected {array.shape[0]} rows, found {rows}")


def _split(array: np.ndarray) -> Iterator[np.ndarray]:
    step = max(1, BLOCK // max(1, prod(array.shape[1:])))
    for start in range(0, len(array), step):
        yield array[start : start + step]


def _remove_folders(folder: Path, names: re.Pattern[str]) -> None:
    for path in folder.iterdir() if folder.is_dir() else ():
        if names.fullmatch(path.name):
            _remove_folder(path)


def _remove_folder(path: Path) -> None:
    """Deletes arrays and catalog, and the folder if nothing else is in it."""
    with contextlib.suppress(OSError):
        for name in (*(f"{name}.npy" for name in ARRAYS), CATALOG):
            (path / name).unlink(missing_ok=True)
        path.rmdir()


def _open_array(folder: Path, manifest: Mapping[str, Any], name: str) -> np.ndarray:
    """Maps an array, so that its bytes go to the device without a second copy of the pool on the host."""
    shape = tuple(manifest["shapes"][name])
    path = folder / manifest["content"] / f"{name}.npy"
    array = np.load(path, mmap_mode="r" if prod(shape) else None, allow_pickle=False)
    if array.shape != shape or array.dtype != np.uint8:
        raise ValueError(f"{name}.npy has {array.dtype} of shape {array.shape}")
    return array


def _to_json(catalog: Catalog) -> dict[str, Any]:
    values = {field.name: getattr(catalog, field.name) for field in dataclasses.fields(catalog)}
    return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in values.items()}


def _from_json(values: Mapping[str, Any]) -> Catalog:
    arrays = {"object_class", "object_scene", "scene_kind", "object_split", "scene_split"}
    fields: dict[str, Any] = {name: value if name == "kind" else tuple(value) for name, value in values.items()}
    fields.update({name: np.array(fields[name], np.int32) for name in arrays})
    return Catalog(**fields)
