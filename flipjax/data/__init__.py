"""Loads pools of images, and draws correlation levels from them as index tables."""

import importlib
from collections.abc import Callable
from typing import Any


def _folder(spec: Any) -> Any:
    from flipjax.data.folder import load_folder

    return load_folder(spec)


def _synthetic(spec: Any) -> Any:
    from flipjax.data.synthetic import load_synthetic

    return load_synthetic(spec)


def _tfds(spec: Any) -> Any:
    from flipjax.data.tfds import load_tfds

    return load_tfds(spec)


# These modules load JAX, so import them only when a pool is made.
POOLS: dict[str, Callable[[Any], Any]] = {
    "coco_cd": _tfds,
    "folder": _folder,
    "synthetic": _synthetic,
    "tfds": _tfds,
    "waterbirds_seg": _tfds,
}
"""Pools by the value of `config.pool.name`: functions of a `PoolSpec` that return a `Pool` and its `Catalog`."""


_ARRAYS = ("benchmark", "from_arrays", "from_cut_outs")


def __getattr__(name: str) -> Any:
    if name in _ARRAYS:
        return getattr(importlib.import_module("flipjax.data.arrays"), name)
    raise AttributeError(f"module 'flipjax.data' has no attribute {name!r}; it has POOLS, {', '.join(_ARRAYS)}")
