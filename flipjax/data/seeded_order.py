"""The order of a training set: a seed orders objects and photos, and a correlation level assigns them scenes.

Uses NumPy, or JAX if the seed or the level is a JAX array, which may be traced. For a traced seed NumPy draws on the
host while the program runs, so that all orders are those of `flipjax.data.split.shuffle`.
"""

import functools
from collections.abc import Callable
from types import ModuleType
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from flipjax.config.groups import Groups
from flipjax.config.keys import Integer
from flipjax.data.pool import Catalog
from flipjax.data.split import Split, shuffle, strata
from flipjax.support.arrays import Array
from flipjax.support.restoring import imports_leave_no_trace

SceneOrders: TypeAlias = list[list[int]]
"""The scenes of each class in an order."""


class SeededOrder(NamedTuple):
    """The random part of a training set, which depends on the seed but not on rho: int32 arrays.

    Example:
        >>> order = SeededOrder(np.array([[2, 0], [1, 3]]), np.array([[0, 1], [3, 2]]), np.array([2, 2]))
        >>> rows, groups = assign_scenes(Groups(), order, 1, n=2)
        >>> rows.tolist(), groups.tolist()
        ([[2, 0], [1, 3], [0, 2], [3, 1]], [0, 3, 1, 2])
    """

    objects: Array | None
    """(F, n), the objects of each class in order; None in a photo pool."""
    photos: Array
    """(R, P), the ordered photos of each scene, or of each group in a photo pool; padded."""
    counts: Array
    """(R,), number of photos in each row of `photos` before its padding."""


def draw_order(catalog: Catalog, split: Split, *, seed: Integer, n_train: int) -> SeededOrder:
    """Draws the order of a seed.

    Args:
        catalog: the pool's catalog.
        split: its split.
        seed: an integer >= 0, or an integer JAX array, which may be traced.
        n_train: number of training images.

    Example:
        >>> from flipjax.config import PoolSpec
        >>> from flipjax.data.split import split_pool
        >>> from flipjax.data.sources.synthetic import list_synthetic
        >>> catalog = list_synthetic(PoolSpec(objects=12, scenes=12))
        >>> split = split_pool(catalog, n_val=4, n_test=4, seed=0)
        >>> order = draw_order(catalog, split, seed=0, n_train=20)
        >>> order.objects.shape, order.photos.shape, order.counts.tolist()
        ((2, 10), (2, 8), [8, 8])
    """
    groups = catalog.groups
    train = split.train
    stratum = strata(catalog)[train.objects]
    # By the names of their draws: the objects of each class, and the photos of each scene or group.
    object_sets: dict[str, np.ndarray] = {}
    photo_sets: dict[str, np.ndarray] = {}
    if catalog.kind == "photo":
        for group in range(groups.count):
            photo_sets[f"train photos {group}"] = train.objects[stratum == group]
    else:
        kinds = catalog.scene_kind[train.scenes]
        for y in range(groups.classes):
            object_sets[f"train objects {y}"] = train.objects[stratum == y]
        for scene in range(groups.scenes):
            photo_sets[f"train scenes {scene}"] = train.scenes[kinds == scene]
    sets = {name: np.sort(indices).astype(np.int32) for name, indices in {**object_sets, **photo_sets}.items()}

    def draw(seed: Integer) -> list[np.ndarray]:
        """Returns each set in the order of a seed."""
        return [shuffle(indices, int(seed), name) for name, indices in sets.items()]

    if isinstance(seed, jax.Array):
        drawn = jax.pure_callback(draw, [*sets.values()], seed, vmap_method="sequential")
    else:
        drawn = draw(seed)
    xp = _namespace(drawn[0])
    # In the order of `sets`: the objects come first.
    objects = None
    if object_sets:
        n = n_train // groups.classes
        objects = xp.stack([order[:n] for order in drawn[: len(object_sets)]])
    photos = drawn[len(object_sets) :]
    counts = np.array([len(order) for order in photos], np.int32)
    padded = xp.stack([xp.pad(order, (0, counts.max() - len(order))) for order in photos])
    return SeededOrder(objects, padded, counts)


def assign_scenes(groups: Groups, order: SeededOrder, common: Integer, *, n: int) -> tuple[Array, Array]:
    """Assigns the scenes of a training set: n images of each class, the first `common` ranks in usual scenes.

    Common ranks take the usual scenes of their class in turn, from the first; rare ranks take the other scenes in turn,
    from the last. In a composite pool, slot i of a scene shows photo i modulo the number of its photos; common slots
    count from the first, rare slots from the last. So when rho grows, unaffected images keep their scene photo, and
    two classes exchange theirs.

    Args:
        groups: F classes in S scenes.
        order: the order of the member's seed.
        common: integer in 0..n, or an integer JAX array, which may be traced.
        n: images per class.

    Returns:
        Rows int32 (F n, 2) and groups int32 (F n,), the classes alternating.

    Example:
        >>> order = SeededOrder(np.array([[2, 0], [1, 3]]), np.array([[0, 1], [3, 2]]), np.array([2, 2]))
        >>> for common in (1, 2):  # rho 0.5 and 1
        ...     rows, groups = assign_scenes(Groups(), order, common, n=2)
        ...     print(rows.tolist(), groups.tolist())
        [[2, 0], [1, 3], [0, 2], [3, 1]] [0, 3, 1, 2]
        [[2, 0], [1, 3], [0, 1], [3, 2]] [0, 3, 0, 3]
    """
    xp = _namespace(common, order.photos)
    ranks = xp.arange(n)
    is_common = ranks < common
    # Common ranks count from the first, rare ranks from the last.
    steps = xp.where(is_common, ranks, n - 1 - ranks)
    scenes = []
    turns = []
    for usual, others in zip(*scene_orders(groups), strict=True):
        usual_scene = xp.asarray(usual)[steps % len(usual)]
        other_scene = xp.asarray(others)[steps % len(others)]
        scenes.append(xp.where(is_common, usual_scene, other_scene))
        turns.append(steps // xp.where(is_common, len(usual), len(others)))
    # From (n,) of each class to (F n,): the classes alternate within each rank.
    scene = xp.stack(scenes, axis=1).reshape(-1)
    turn = xp.stack(turns, axis=1).reshape(-1)
    group = groups.of(xp.tile(xp.arange(groups.classes), n), scene)
    if order.objects is None:
        images = xp.asarray(order.photos)[group, turn]
        backgrounds = xp.full_like(images, -1)
    else:
        slots = _slots(groups, scene, xp.repeat(is_common, groups.classes), n=n)
        images = xp.asarray(order.objects).T.reshape(-1)
        backgrounds = xp.asarray(order.photos)[scene, slots % xp.asarray(order.counts)[scene]]
    return xp.stack([images, backgrounds], axis=1).astype(np.int32), group.astype(np.int32)


def _slots(groups: Groups, scene: Array, is_common: Array, *, n: int) -> Array:
    """Returns the slot of each image of a composite pool in its scene, from 0: common images first, rare ones last.

    Args:
        groups: F classes in S scenes.
        scene: (F n,), scene of each image.
        is_common: bool (F n,).
        n: images per class.
    """
    xp = _namespace(scene, is_common)
    slots = xp.zeros_like(scene)
    for s in range(groups.scenes):
        common_rows = (scene == s) & is_common
        slots = xp.where(common_rows, xp.cumsum(common_rows) - 1, slots)
        rare_rows = (scene == s) & ~is_common
        # The last slot of a scene is the last of the n F / S that it has if all scenes are used equally.
        first_rare = n * groups.classes // groups.scenes - rare_rows.sum()
        slots = xp.where(rare_rows, xp.cumsum(rare_rows) - 1 + first_rare, slots)
    return slots


def _namespace(*values: Array | int) -> ModuleType:
    """Returns NumPy, or JAX's NumPy if one of the values is JAX's."""
    if any(isinstance(value, jax.Array) for value in values):
        return jnp
    return np


def scene_orders(groups: Groups) -> tuple[SceneOrders, SceneOrders]:
    """Returns the usual scenes and the other scenes of each class, in the order in which ranks use them.

    At each step the classes use scenes that are as different as possible. If every scene is usual for equally many
    classes, each scene has equally many at every step (Koenig: a regular bipartite graph is a union of perfect
    matchings).

    Example:
        >>> usual, others = scene_orders(Groups(2, 4, ((0, 1), (2, 3))))
        >>> usual, others
        ([[0, 1], [2, 3]], [[2, 3], [0, 1]])
    """
    usual = np.zeros((groups.classes, groups.scenes), bool)
    for y, scenes in enumerate(groups.usual):
        usual[y, list(scenes)] = True
    return _orders(usual), _orders(~usual)


@functools.cache
def _assignment() -> Callable:
    """Returns SciPy's assignment of rows to columns, imported here because it is slow."""
    with imports_leave_no_trace():
        from scipy.optimize import linear_sum_assignment
    return linear_sum_assignment


def _orders(allowed: np.ndarray) -> SceneOrders:
    """Orders the scenes that each class may use, bool (F, S); each step gives every class the scene of a matching."""
    classes, scenes = allowed.shape
    # A scene has F places, of which each further one costs more, so that a step uses as many scenes as possible.
    # Square roots make costs unique, so that all versions of SciPy agree.
    roots = np.sqrt(np.arange(classes * scenes)).reshape(classes, scenes, 1)
    costs = np.arange(classes) + 1e-3 * (roots % 1)
    forbidden = (classes * scenes) ** 2
    rest = allowed.copy()
    orders: SceneOrders = [[] for _ in range(classes)]
    while rest.any():
        cost_of_place = np.where(rest[..., None], costs, forbidden).reshape(classes, scenes * classes)
        for y, place in zip(*_assignment()(cost_of_place), strict=True):
            scene = int(place) // classes
            # A class that used all its scenes is matched with a forbidden one.
            if rest[y, scene]:
                orders[y].append(scene)
                rest[y, scene] = False
    return orders
