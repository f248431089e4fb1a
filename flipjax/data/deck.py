"""Draws orderings of the training images from a seed (decks), and deals training sets of any rho from them.

Uses NumPy, or JAX if the seed or the level is a JAX array, which may be traced. For a traced seed it computes the
orders of `flipjax.data.split.shuffle`, NumPy's SeedSequence and PCG64, in 32-bit words.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import linear_sum_assignment

from flipjax.data.split import Split, name_words, shuffle, strata
from flipjax.groups import Groups

if TYPE_CHECKING:
    from flipjax.data.pool import Catalog

WORD = 2**32 - 1
MULTIPLIER = 0x2360ED051FC65DA44385DF649FCCF645
"""The multiplier of the generator PCG64."""
U32 = jnp.uint32


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
    if isinstance(seed, jax.Array):
        orders = traced_orders(seed, {name: len(each) for name, each in items.items()})
        drawn = [jnp.asarray(each)[order] for each, order in zip(items.values(), orders, strict=True)]
    else:
        drawn = [shuffle(each, seed, name) for name, each in items.items()]
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


def traced_orders(seed: jax.Array, counts: Mapping[str, int]) -> list[jax.Array]:
    """Returns `shuffle` of arange(count) for each name.

    Args:
      seed: integer scalar in [0, 2**32), which may be traced.
      counts: how many positions, by name.
    """
    words = np.stack([name_words(name) for name in counts])
    # One call for all names, since the program takes seconds to compile.
    low, high = jax.vmap(functools.partial(_draws, seed, count=max(counts.values())))(jnp.asarray(words))
    return [jnp.lexsort((low[i, :count], high[i, :count])) for i, count in enumerate(counts.values())]


def _constants(value: int, factor: int) -> Iterator[np.uint32]:
    return map(np.uint32, itertools.accumulate(itertools.repeat(factor), lambda a, b: a * b & WORD, initial=value))


def _seed_words(entropy: Sequence[Any]) -> list[Any]:
    """Returns SeedSequence(entropy).generate_state(8), for entropy of more than four words."""
    constants = itertools.pairwise(_constants(0x43B0D7E5, 0x931E8875))

    def hashed(value: Any, constants: Iterator) -> Any:
        before, after = next(constants)
        value = (value ^ before) * after
        return value ^ (value >> 16)

    pool = [hashed(word, constants) for word in entropy[:4]]
    # Each word of the pool, then the rest of the entropy, is mixed into all others.
    for source in range(len(entropy)):
        for target in range(4):
            if source != target:
                word = hashed(pool[source] if source < 4 else entropy[source], constants)
                mixed = U32(0xCA01F9DD) * pool[target] - U32(0x4973F715) * word
                pool[target] = mixed ^ (mixed >> 16)
    constants = itertools.pairwise(_constants(0x8B51F9DD, 0x58F38DED))
    return [hashed(pool[i % 4], constants) for i in range(8)]


def _limbs(number: int) -> jax.Array:
    return jnp.array([number >> 16 * k & 0xFFFF for k in range(8)], U32)


def _multiply_add(a: jax.Array, b: jax.Array, c: jax.Array) -> jax.Array:
    """Returns a b + c modulo 2**128, each in eight limbs of 16 bits, the lowest first."""
    products = a[:, None] * b
    place = np.add.outer(np.arange(8), np.arange(8))
    sums = c.at[place].add(products & 0xFFFF, mode="drop").at[place + 1].add(products >> 16, mode="drop")
    limbs, carry = [], U32(0)
    for k in range(8):
        total = sums[k] + carry
        limbs.append(total & 0xFFFF)
        carry = total >> 16
    return jnp.stack(limbs)


def _draws(seed: jax.Array, name: jax.Array, *, count: int) -> tuple[jax.Array, jax.Array]:
    """Returns the low and the high words (count,) of the first numbers of PCG64."""
    words = _seed_words([jnp.asarray(seed).astype(U32), *name])
    # 64-bit numbers, the high one first, each with its low word first.
    start, sequence = (
        jnp.stack([limb for i in order for limb in (words[i] & 0xFFFF, words[i] >> 16)])
        for order in ((2, 3, 0, 1), (6, 7, 4, 5))
    )
    increment = _multiply_add(sequence, _limbs(2), _limbs(1))
    step = functools.partial(_multiply_add, b=_limbs(MULTIPLIER), c=increment)

    def draw(state: jax.Array, _: None) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        state = step(state)
        w = state[::2] | state[1::2] << 16
        # XSL-RR: the halves joined by xor, rotated to the right by the six highest bits.
        low, high, turn = w[0] ^ w[2], w[1] ^ w[3], w[3] >> 26
        low, high = jnp.where(turn >= 32, high, low), jnp.where(turn >= 32, low, high)
        right, left = turn & 31, -turn & 31
        rotated = (low >> right) | (high << left), (high >> right) | (low << left)
        return state, (jnp.where(right == 0, low, rotated[0]), jnp.where(right == 0, high, rotated[1]))

    _, drawn = jax.lax.scan(draw, step(_multiply_add(increment, _limbs(1), start)), None, length=count)
    return drawn
