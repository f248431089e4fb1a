"""What a member of a sweep trains and is tested on, as NumPy arrays for any framework."""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from flipjax.command import find_config, read_config
from flipjax.config import ConfigError, PoolSpec, SplitSpec, check, leaves
from flipjax.data import POOLS
from flipjax.data.correlation import Table, evaluation_table, largest_n_train, training_table
from flipjax.data.naming import check_sizes
from flipjax.data.pool import Pool, gather
from flipjax.data.split import split_pool
from flipjax.groups import Groups

AT_ONCE = 256
"""Images that are made at once."""

_gather = jax.jit(gather)


class GroupedImages(NamedTuple):
    """n images: images float32 (n, H, W, 3) in [0, 1], masks int32 (n, H, W), 0 the background and 1 + class elsewhere.

    Of each image, int32 (n,): `classes` and `scenes` from 0, `groups` as in results.csv, and `pairs`, the number that
    the images of one object in all scenes share; -1: none.
    """

    images: np.ndarray
    masks: np.ndarray
    classes: np.ndarray
    scenes: np.ndarray
    groups: np.ndarray
    pairs: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Benchmark:
    """The images of one member: `train` at its rho and seed, `val` and `test` the same for all members.

    `class_names` begins with the background's; `all_groups` says which groups are common, and which rare.
    """

    train: GroupedImages
    val: GroupedImages
    test: GroupedImages
    class_names: tuple[str, ...]
    scene_names: tuple[str, ...]
    all_groups: Groups
    rho: float
    seed: int


def make_benchmark(config: Any, *, rho: float, seed: int) -> Benchmark:
    """Returns what `flipjax.data.benchmark` does."""
    if isinstance(config, str | Path):
        config = read_config(find_config(str(config)), [])
    check(config)
    varied = [name for name in leaves(config.grid) if name.startswith(("pool.", "split."))]
    if varied:
        raise ConfigError(f"config.grid.{varied[0]}", f"one value, as config.{varied[0]}", "several")
    spec, sizes = PoolSpec(**config.pool), SplitSpec(**config.split)
    pool, catalog = POOLS[spec.name](spec)
    rhos = (*config.axes.rho, rho)
    check_sizes(catalog.groups, sizes, rhos)
    split = split_pool(catalog, n_val=sizes.n_val, n_test=sizes.n_test, seed=sizes.seed)
    n_train = sizes.n_train or largest_n_train(catalog, split, rhos=rhos)
    own = training_table(catalog, split, rho=rho, seed=seed, n_train=n_train, rhos=rhos)
    tables = (own, evaluation_table(catalog, split, "val"), evaluation_table(catalog, split, "test"))
    train, val, test = (_images_of(pool, table, catalog.groups) for table in tables)
    class_names = ("background", *catalog.class_names)
    return Benchmark(train, val, test, class_names, catalog.scene_names, catalog.groups, rho, seed)


def _images_of(pool: Pool, table: Table, all_groups: Groups) -> GroupedImages:
    made = [_gather(pool, table.rows[start : start + AT_ONCE]) for start in range(0, len(table.rows), AT_ONCE)]
    images, masks = (np.concatenate([np.asarray(part) for part in parts]) for parts in zip(*made, strict=True))
    classes, scenes = all_groups.class_of(table.groups), all_groups.scene_of(table.groups)
    return GroupedImages(images, masks, classes, scenes, table.groups, table.pairs)
