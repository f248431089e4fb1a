"""Draws the index table of a correlation level: the objects and scenes of a training or evaluation set.

A seed orders the training images, and a training set of any rho follows from this order (`flipjax.data.seeded_order`).
"""

import dataclasses
from collections.abc import Sequence
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from flipjax.config.groups import Groups
from flipjax.config.keys import Integer, Scalar
from flipjax.data.pool import Catalog
from flipjax.data.seeded_order import assign_scenes, draw_order, scene_orders
from flipjax.data.split import Split, SplitPart, count_content, interleave, strata, strata_names
from flipjax.support.arrays import Array

_TOLERANCE = 1e-6
"""How far below independence a traced rho may be: fractions such as 1/3 have no exact float32."""


class Table(NamedTuple):
    """An index table with one row per image.

    Attributes:
        rows: int32 (n, 2), object (or photo) index and scene-photo index (-1 in a photo pool), as `gather` takes.
        groups: int32 (n,), as in `flipjax.config.groups.Groups`.
        pairs: int32 (n,), id of the counterfactual set (an object in all S scenes), or -1.
        refit: bool (n,), whether DFR refits its head on the image; the others select the epoch. True for half of each
            group of an evaluation table, with counterfactual sets kept together; False in a training table.

    Example:
        >>> evaluation = Table(np.array([[0, 7], [0, 9]]), np.array([0, 1]), np.array([0, 0]), np.array([True, True]))
        >>> evaluation.rows[evaluation.groups == 1].tolist()  # Object 0 on scene photo 9.
        [[0, 9]]
    """

    rows: np.ndarray
    groups: np.ndarray
    pairs: np.ndarray
    refit: np.ndarray


def training_table(
    catalog: Catalog, split: Split, *, rho: float, seed: int, n_train: int, rhos: Sequence[float] = ()
) -> Table:
    """Draws one member's training set: n = n_train / F images of each class, round(rho * n) of them in usual scenes.

    Common images are spread evenly over the usual scenes of their class, rare images over its other scenes. The draws
    are nested: the seed orders the objects of each class (`draw_order`), the first round(rho n) ranks
    are common, and `assign_scenes` assigns their scenes. So every rho uses the same objects and, if each scene
    is usual for equally many classes, the same multiset of scene photos. In a photo pool the seed orders each group,
    and the first photos are used. In both, row i has the same class at every rho, and as few rows as possible change.

    Args:
        catalog: the pool's catalog.
        split: its split.
        rho: fraction of each class in its usual scenes, in `catalog.groups.rho_range`.
        seed: the member's seed, >= 0.
        n_train: number of training images, a multiple of F.
        rhos: all levels of the grid; an error names the largest n_train for all of them. Empty: only `rho`.

    Returns:
        A table of n_train rows with alternating classes; the trainer shuffles it.

    Raises:
        ValueError: an argument is out of range, or the pool is too small; the message states its contents, the
            largest n_train and the rho that this n_train allows.

    Example:
        >>> from flipjax.data.pool import Catalog, PoolItem
        >>> from flipjax.data.split import split_pool
        >>> names = ("cat", "dog"), ("land", "water")
        >>> objects = [PoolItem(f"{i}", y=i // 12) for i in range(24)]
        >>> scenes = [PoolItem(f"{i}", scene=i // 12) for i in range(24)]
        >>> catalog = Catalog("an example", "composite", *names, objects, scenes)
        >>> split = split_pool(catalog, n_val=4, n_test=4, seed=0)
        >>> largest_n_train(catalog, split, rhos=[0.5, 0.9])
        20
        >>> table = training_table(catalog, split, rho=0.9, seed=0, n_train=20)
        >>> print(np.bincount(table.groups), np.bincount(evaluation_table(catalog, split, "test").groups))
        [9 1 1 9] [1 1 1 1]
    """
    common = _common_count(catalog, split, rho=rho, n_train=n_train, rhos=rhos)
    order = draw_order(catalog, split, seed=seed, n_train=n_train)
    rows, groups = assign_scenes(catalog.groups, order, common, n=n_train // catalog.groups.classes)
    return _make_table(rows, groups, pairs=np.full(n_train, -1), refit=np.zeros(n_train, bool))


def traced_table(
    catalog: Catalog, split: Split, *, rho: Scalar, seed: Integer, n_train: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns rows (n, 2) and groups (n,) of `training_table`, and whether the pool allows this rho.

    `rho` and `seed` may be JAX arrays, also traced ones, whose values raise no errors. rho n is then rounded in
    float32: if it ends in 0.5, the table may differ by one image per class from that of a Python number.

    Example:
        >>> from flipjax.config import PoolSpec
        >>> from flipjax.data.split import split_pool
        >>> from flipjax.data.sources.synthetic import list_synthetic
        >>> catalog = list_synthetic(PoolSpec(objects=12, scenes=12))
        >>> split = split_pool(catalog, n_val=4, n_test=4, seed=0)
        >>> draw = jax.jit(lambda rho: traced_table(catalog, split, rho=rho, seed=0, n_train=20))
        >>> rows, groups, possible = draw(0.9)
        >>> rows.tolist() == training_table(catalog, split, rho=0.9, seed=0, n_train=20).rows.tolist(), bool(possible)
        (True, True)
    """
    n = n_train // catalog.groups.classes
    possible = jnp.bool_(True)
    if isinstance(rho, jax.Array):
        common = jnp.round(rho * n).astype(jnp.int32)
        low = catalog.groups.independence - _TOLERANCE
        possible = (low <= rho) & (rho <= 1) & capacity_of(catalog, split).allow(common, n)
    else:
        common = _common_count(catalog, split, rho=rho, n_train=n_train, rhos=())
    order = draw_order(catalog, split, seed=seed, n_train=n_train)
    rows, groups = assign_scenes(catalog.groups, order, jnp.asarray(common), n=n)
    return jnp.asarray(rows), jnp.asarray(groups), possible


def _common_count(catalog: Catalog, split: Split, *, rho: float, n_train: int, rhos: Sequence[float]) -> int:
    """Returns the number of common images per class; raises ValueError if it is impossible."""
    rho_range = catalog.groups.rho_range
    if not rho_range.accepts(rho):
        raise ValueError(f"rho: expected {rho_range.text}, found {rho}")
    classes = catalog.groups.classes
    if n_train < 1 or n_train % classes:
        raise ValueError(f"n_train: expected a positive multiple of {classes}, equal classes, found {n_train}")
    n = n_train // classes
    if not capacity_of(catalog, split).allow(round(rho * n), n):
        raise ValueError(_impossible(catalog, split, rho, n_train, rhos or [rho]))
    return round(rho * n)


def evaluation_table(catalog: Catalog, split: Split, part: Literal["val", "test"]) -> Table:
    """Lists the images of a part, balanced over the groups. It depends only on the split.

    In a composite pool the objects alternate between the classes, and each is shown in scene 0, scene 1, ... (rows S i
    to S i + S - 1 are set i). The photos of a scene are used for the objects of class 0, then of class 1, ..., and
    repeat when all were used. In a photo pool the groups alternate, and there are no counterfactual sets.

    Args:
        catalog: the pool's catalog.
        split: its split.
        part: 'val' or 'test'.

    Returns:
        A table of n_val or n_test rows.

    Example:
        >>> from flipjax.config import PoolSpec
        >>> from flipjax.data.split import split_pool
        >>> from flipjax.data.sources.synthetic import list_synthetic
        >>> catalog = list_synthetic(PoolSpec(objects=12, scenes=12))
        >>> table = evaluation_table(catalog, split_pool(catalog, n_val=4, n_test=8, seed=0), "test")
        >>> print(table.groups, table.pairs)  # Each object in both scenes.
        [0 1 2 3 0 1 2 3] [0 0 1 1 2 2 3 3]
    """
    chosen: SplitPart = {"val": split.val, "test": split.test}[part]
    n = len(chosen.objects)
    if catalog.kind == "photo":
        rows = np.stack([chosen.objects, np.full(n, -1)], axis=1)
        groups = strata(catalog)[chosen.objects]
        return _make_table(rows, groups, pairs=np.full(n, -1), refit=half_of_each_group(groups))
    all_groups = catalog.groups
    y = catalog.object_class[chosen.objects]
    # The classes alternate, and the objects of class 0 use the first photos of each scene.
    of_class = n // all_groups.classes
    slots = np.arange(n) // all_groups.classes + y * of_class
    rows_of_scene = []
    groups_of_scene = []
    for scene in range(all_groups.scenes):
        photos = chosen.scenes[catalog.scene_kind[chosen.scenes] == scene]
        rows_of_scene.append(np.stack([chosen.objects, photos[slots % len(photos)]], axis=1))
        groups_of_scene.append(all_groups.of(y, scene))
    rows = interleave(rows_of_scene)
    groups = interleave(groups_of_scene)
    pairs = np.repeat(np.arange(n), all_groups.scenes)
    return _make_table(rows, groups, pairs=pairs, refit=half_of_each_group(groups))


def largest_n_train(catalog: Catalog, split: Split, *, rhos: Sequence[float]) -> int:
    """Returns the largest n_train that every rho allows, so that the levels of a grid are comparable.

    Args:
        catalog: the pool's catalog.
        split: its split.
        rhos: the levels, at least one.

    Returns:
        A multiple of F; 0 if no size is possible.

    Raises:
        ValueError: no rho, or one that is out of range.

    Example:
        >>> from flipjax.config import PoolSpec
        >>> from flipjax.data.split import split_pool
        >>> from flipjax.data.sources.synthetic import list_synthetic
        >>> catalog = list_synthetic(PoolSpec(objects=12, scenes=12))
        >>> largest_n_train(catalog, split_pool(catalog, n_val=4, n_test=4, seed=0), rhos=(0.5, 0.95))
        20
    """
    rho_range = catalog.groups.rho_range
    if not len(rhos) or not all(map(rho_range.accepts, rhos)):
        raise ValueError(f"rhos: expected {rho_range.text}, found {rhos}")
    capacity = capacity_of(catalog, split)
    largest = 0
    for n in range(capacity.total + 1):
        if all(capacity.allow(round(rho * n), n) for rho in rhos):
            largest = n
    return catalog.groups.classes * largest


@dataclasses.dataclass(frozen=True)
class Capacity:
    """Largest numbers of training images per class.

    Example:
        >>> capacity = Capacity(usual=10, rare=4, total=14)
        >>> capacity.allow(9, 10), capacity.allow(5, 10)
        (True, False)
    """

    usual: int
    """The largest number in usual scenes."""
    rare: int
    """The largest number in other scenes."""
    total: int
    """The largest number in all scenes together."""

    def allow(self, common: Integer, n: int) -> bool | jax.Array:
        """Returns whether n images per class, `common` of them common, are possible; `common` may be traced."""
        return (common <= self.usual) & (n - common <= self.rare) & (n <= self.total)


def capacity_of(catalog: Catalog, split: Split) -> Capacity:
    """Returns the capacity of the training part of a pool.

    Example:
        >>> from flipjax.config import PoolSpec
        >>> from flipjax.data.split import split_pool
        >>> from flipjax.data.sources.synthetic import list_synthetic
        >>> catalog = list_synthetic(PoolSpec(objects=12, scenes=12))
        >>> capacity_of(catalog, split_pool(catalog, n_val=4, n_test=4, seed=0))
        Capacity(usual=10, rare=10, total=10)
    """
    groups = catalog.groups
    counts = np.bincount(strata(catalog)[split.train.objects], minlength=len(strata_names(catalog)))
    if catalog.kind == "composite":
        objects = int(counts.min())
        return Capacity(usual=objects, rare=objects, total=objects)
    usual_orders, other_orders = scene_orders(groups)
    usual = _photos_in_turn(groups, usual_orders, counts)
    rare = _photos_in_turn(groups, other_orders, counts)
    return Capacity(usual, rare, usual + rare)


def _photos_in_turn(groups: Groups, orders: Sequence[Sequence[int]], counts: np.ndarray) -> int:
    """Returns how many photos every class can give when its scenes take turns.

    Args:
        groups: of the pool.
        orders: the scenes of each class in the order of their turns.
        counts: number of photos of each group, (groups,).
    """
    limits = []
    for y, scenes in enumerate(orders):
        for turn, scene in enumerate(scenes):
            # When j groups take turns, group i has no photo left at image j * count + i.
            limits.append(len(scenes) * int(counts[groups.of(y, scene)]) + turn)
    return min(limits)


def half_of_each_group(groups: np.ndarray) -> np.ndarray:
    """Marks every other image of each group, beginning with its first: bool (n,).

    Example:
        >>> half_of_each_group(np.array([0, 0, 1, 1, 3, 3, 2, 2])).astype(int).tolist()
        [1, 0, 1, 0, 1, 0, 1, 0]
    """
    return pd.Series(groups).groupby(groups).cumcount().to_numpy() % 2 == 0


def _make_table(rows: Array, groups: Array, *, pairs: np.ndarray, refit: np.ndarray) -> Table:
    """Returns a table on the host with the dtypes that programs take."""
    return Table(
        rows=np.asarray(rows).astype(np.int32),
        groups=np.asarray(groups).astype(np.int32),
        pairs=pairs.astype(np.int32),
        refit=refit,
    )


def _impossible(catalog: Catalog, split: Split, rho: float, n_train: int, rhos: Sequence[float]) -> str:
    """Returns the error message of a level of rho for which the pool has too few images."""
    n = n_train // catalog.groups.classes
    levels = ", ".join(f"{level:g}" for level in sorted(set(rhos)))
    capacity = capacity_of(catalog, split)
    low = catalog.groups.independence
    possible_rhos = [common / n for common in range(round(low * n), n + 1) if capacity.allow(common, n)]
    allowed = "no rho is possible"
    if possible_rhos:
        allowed = f"rho must lie in [{max(low, possible_rhos[0]):.6g}, {possible_rhos[-1]:.6g}]"
    parts = []
    for name, part in split._asdict().items():
        content = count_content(catalog, part)
        parts.append(f"{name} {', '.join(f'{head} {count}' for head, count in content.items())}")
    return (
        f"n_train {n_train} at rho {rho:g} needs {round(rho * n)} images of each class in usual scenes and "
        f"{n - round(rho * n)} in others; the pool holds: {'; '.join(parts)}. Largest n_train at rho {levels}: "
        f"{largest_n_train(catalog, split, rhos=rhos)}, which config.split.n_train = 0 takes. With n_train {n_train}: "
        f"{allowed}"
    )
