"""Pools by name, each loaded by the module of its kind."""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flipjax.config import PoolSpec
    from flipjax.data.pool import Catalog, Pool


# The modules of pools load JAX, so import them only when a pool is made.
def _load_synthetic(spec: "PoolSpec") -> "tuple[Pool, Catalog]":
    from flipjax.data.synthetic import load_synthetic

    return load_synthetic(spec)


def _load_flips(spec: "PoolSpec") -> "tuple[Pool, Catalog]":
    from flipjax.data.flips import load_flips

    return load_flips(spec)


def _load_folder(spec: "PoolSpec") -> "tuple[Pool, Catalog]":
    from flipjax.data.folder import load_folder

    return load_folder(spec)


def _load_tfds(spec: "PoolSpec") -> "tuple[Pool, Catalog]":
    from flipjax.data.tfds import load_tfds

    return load_tfds(spec)


POOLS: "dict[str, Callable[[PoolSpec], tuple[Pool, Catalog]]]" = {
    "coco_cd": _load_tfds,
    "flips-1": _load_flips,
    "folder": _load_folder,
    "synthetic": _load_synthetic,
    "tfds": _load_tfds,
    "waterbirds_seg": _load_tfds,
}
"""Pools by the value of `config.pool.name`: functions of a `PoolSpec` that return a `Pool` and its `Catalog`.

Example:
    >>> from flipjax.config import POOL_NAMES
    >>> {*POOLS} == {*POOL_NAMES} - {"arrays"}  # These are given from Python.
    True
"""
