"""Pools of images, and the index tables that make correlation levels out of them."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from flipjax.config import PoolSpec
    from flipjax.data.pool import Catalog, Pool

    POOLS: dict[str, Callable[[PoolSpec], tuple[Pool, Catalog]]]
    """What `config.pool.name` may name."""


def __getattr__(name: str) -> Any:
    """Returns POOLS, which loads JAX: not before it is asked for."""
    if name != "POOLS":
        raise AttributeError(f"module 'flipjax.data' has no attribute {name!r}")
    from flipjax.data import folder, synthetic, tfds

    return {
        "coco_cd": tfds.load,
        "folder": folder.load,
        "synthetic": synthetic.load,
        "tfds": tfds.load,
        "waterbirds_seg": tfds.load,
    }
