"""Draws orderings of the training images from a seed (decks), and deals training sets of any rho from them.

Uses NumPy, or JAX if the seed or the level is a JAX array, which may be traced. For a traced seed NumPy draws on the
host while the program runs, so that all orders are those of `flipjax.data.split.shuffle`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import linear_sum_assignment

from flipjax.data.split import Split, shuffle, strata
from flipjax.groups import Groups

if TYPE_CHECKING:
    from flipjax.data.pool import Catalog


class Deck(NamedTuple):
    """The random part of a training set, which depends on the seed but not on rho: int32 arrays.

    Attributes:
        objects: (F, n), the objects of each class in order; None in a photo pool.
        photos: (R, P), the ordered photos of each scene, or of each group in a photo pool; padded.
        counts: (R,), number of photos in each row.
    """

    objects: Any
    photos: Any
    counts: Any


def draw_deck(catalog: Catalog, split: Split, *, seed: Any, n_train: int) -> Deck:
    """Draws the deck of a seed.

    Args:
        catalog: the pool's catalog.
        split: its split.
        seed: an integer >= 0, or an integer JAX array, which may be traced.
        n_train: number of training images.
    """
    groups, train = catalog.groups, split.train
    stratum = strata(catalog)[train.objects]
    if catalog.kind == "photo":
        sets = {f"train photos {g}": train.objects[stratum == g] for g in range(groups.count)}
    else:
        kinds = catalog.scene_kind[train.scenes]
        sets = {f"train objects {y}": train.objects[stratum == y] for y in range(groups.classes)}
        sets |= {f"train scenes {s}": train.scenes[kinds == s] for s in range(groups.scenes)}
    items = {name: np.sort(each).astype(np.int32) for name, each in sets.items()}

    def draw(seed: Any) -> list[np.ndarray]:
        return [shuffle(each, int(seed), name) for name, each in items.items()]

    if isinstance(seed, jax.Array):
        drawn = jax.pure_callback(draw, [*items.values()], seed, vmap_method="sequential")
    else:
        drawn = draw(seed)
    xp = _namespace(drawn[0])
    objects = drawn[: 0 if catalog.kind == "photo" else groups.classes]
    photos = drawn[len(objects) :]
    counts = np.array([len(order) for order in photos], np.int32)
    padded = xp.stack([xp.pad(order, (0, counts.max() - len(order))) for order in photos])
    n = n_train // groups.classes
    return Deck(xp.stack([order[:n] for order in objects]) if objects else None, padded, counts)


def deal(groups: Groups, deck: Deck, common: Any, *, n: int) -> tuple[Any, Any]:
    """Deals a training set: n images of each class, the first `common` ranks in usual scenes.

    Common ranks take the usual scenes of their class in turn, from the first; rare ranks take the other scenes in turn,
    from the last. In a composite pool, slot i of a scene shows photo i modulo the number of its photos; common slots
    count from the first, rare slots from the last. So when rho grows, unaffected images keep their scene photo, and
    two classes exchange theirs.

    Args:
        groups: F classes in S scenes.
        deck: deck of the member's seed.
        common: integer in 0..n, or an integer JAX array, which may be traced.
        n: images per class.

    Returns:
        Rows int32 (F n, 2) and groups int32 (F n,), the classes alternating.
    """
    xp = _namespace(common, deck.photos)
    is_common = xp.arange(n) < common
    steps = xp.where(is_common, xp.arange(n), n - 1 - xp.arange(n))
    scenes, turns = [], []
    for usual, others in zip(*scene_orders(groups), strict=True):
        scenes.append(
            xp.where(is_common, xp.asarray(usual)[steps % len(usual)], xp.asarray(others)[steps % len(others)])
        )
        turns.append(steps // xp.where(is_common, len(usual), len(others)))
    # The classes alternate within each rank.
    scene, turn = (xp.stack(each, axis=1).reshape(-1) for each in (scenes, turns))
    cells = groups.of(xp.tile(xp.arange(groups.classes), n), scene)
    if deck.objects is None:
        first = xp.asarray(deck.photos)[cells, turn]
        second = xp.full_like(first, -1)
    else:
        side = xp.repeat(is_common, groups.classes)
        slots = xp.zeros_like(scene)
        for s in range(groups.scenes):
            for chosen, end in (((scene == s) & side, 0), ((scene == s) & ~side, n * groups.classes // groups.scenes)):
                place = xp.cumsum(chosen) - 1 + (end - chosen.sum() if end else 0)
                slots = xp.where(chosen, place, slots)
        first = xp.asarray(deck.objects).T.reshape(-1)
        second = xp.asarray(deck.photos)[scene, slots % xp.asarray(deck.counts)[scene]]
    return xp.stack([first, second], axis=1).astype(np.int32), cells.astype(np.int32)


def _namespace(*arrays: Any) -> Any:
    return jnp if any(isinstance(array, jax.Array) for array in arrays) else np


def scene_orders(groups: Groups) -> list[list[list[int]]]:
    """Returns the usual scenes and the other scenes of each class, in the order in which ranks use them.

    At each step the classes use scenes that are as different as possible. If every scene is usual for equally many
    classes, each scene has equally many at every step (Koenig: a regular bipartite graph is a union of perfect
    matchings).
    """
    usual = np.array([[scene in own for scene in range(groups.scenes)] for own in groups.usual])
    # Each further class in a scene costs more. Square roots make costs unique, so that all versions of SciPy agree.
    roots = np.sqrt(np.arange(groups.count)).reshape(groups.classes, -1, 1)
    costs = np.arange(groups.classes) + 1e-3 * (roots % 1)
    sides = []
    for rest in (usual, ~usual):
        orders: list[list[int]] = [[] for _ in groups.usual]
        while rest.any():
            places = np.where(rest[..., None], costs, groups.count**2).reshape(groups.classes, -1)
            for y, column in zip(*linear_sum_assignment(places), strict=True):
                scene = int(column) // groups.classes
                if rest[y, scene]:
                    orders[y].append(scene)
                    rest[y, scene] = False
        sides.append(orders)
    return sides
