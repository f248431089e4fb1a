"""Pools of images, and the index tables that make correlation levels out of them."""

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


# The modules load JAX: not before a pool is made.
POOLS: dict[str, Callable[[Any], Any]] = {
    "coco_cd": _tfds,
    "folder": _folder,
    "synthetic": _synthetic,
    "tfds": _tfds,
    "waterbirds_seg": _tfds,
}
"""What `config.pool.name` may name: functions of a `PoolSpec` that return a `Pool` and its `Catalog`."""


def benchmark(config: Any, *, rho: float, seed: int = 0) -> Any:
    """Returns the images that a member of a sweep is trained, validated and tested on, for training of any framework.

    They are the very ones: the draw of `seed` at `rho`, before any augmentation. Predictions of the test images become
    rows as in results.csv by `flipjax.results.score`.

    Args:
        config: a configuration, the name of one that ships, or a file; its pool, split and levels of rho count.
        rho: share of a class's training images that show its usual scene; one of `config.axes.rho` where the sweep is
            to have the same images and `config.split.n_train` is 0.
        seed: of the member.

    Returns:
        A `flipjax.data.arrays.Benchmark`: `train`, `val` and `test`, each with images, masks, classes, scenes, groups
        and pairs as NumPy arrays, and the names of classes and scenes.

    Raises:
        ConfigError: a field that cannot be, or a grid of pools or splits.
        ValueError: the pool has too few images.

    Example:
        >>> images = benchmark("smoke", rho=0.9)
        >>> images.test.images.shape, images.test.groups[:4].tolist(), images.test.pairs[:4].tolist()
        ((128, 32, 32, 3), [0, 1, 2, 3], [0, 0, 1, 1])
        >>> from flipjax.results import score
        >>> rows = score(images.test.masks, images, kind="masks", method="oracle")
        >>> rows[["method", "group", "fg_correct"]].tail(1).values.tolist()
        [['oracle', 'rare', 1.0]]
    """
    from flipjax.data.arrays import make_benchmark

    return make_benchmark(config, rho=rho, seed=seed)
