"""Loads pools of images, and draws correlation levels from them as index tables."""

import functools
import importlib
from collections.abc import Callable
from typing import Any


def _load(module: str, spec: Any) -> Any:
    # These modules load JAX, so import them only when a pool is made.
    return getattr(importlib.import_module(f"flipjax.data.{module}"), f"load_{module}")(spec)


_tfds = functools.partial(_load, "tfds")
POOLS: dict[str, Callable[[Any], Any]] = {
    "coco_cd": _tfds,
    "folder": functools.partial(_load, "folder"),
    "synthetic": functools.partial(_load, "synthetic"),
    "tfds": _tfds,
    "waterbirds_seg": _tfds,
}
"""Pools by the value of `config.pool.name`: functions of a `PoolSpec` that return a `Pool` and its `Catalog`."""


_ARRAYS = ("benchmark", "from_arrays", "from_cut_outs")


def __getattr__(name: str) -> Any:
    if name in _ARRAYS:
        return getattr(importlib.import_module("flipjax.data.arrays"), name)
    raise AttributeError(f"module 'flipjax.data' has no attribute {name!r}; it has POOLS, {', '.join(_ARRAYS)}")
