"""The embedded pool: creatures as cut-outs, land and water as scenes, drawn by seeded, pure JAX code.

A creature's kind shows in its shape and coat, more or less plainly from one to the next, so that a model which trusts
the scene more flips more of them, by degrees. Its place, pose, size and colours tell nothing. The scene shows at a
glance. Nothing is downloaded.
"""

import math
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from flipjax.config import PoolSpec, check_value
from flipjax.data import store
from flipjax.data.pool import Catalog, Listing, Pool, PoolItem, catalog_of
from flipjax.data.synthetic import creatures, landscapes

CHUNK = 32
"""Images rendered at once: bounds the memory of the supersampled layers."""


def load_synthetic(spec: PoolSpec) -> tuple[Pool, Catalog]:
    """Makes the pool.

    Args:
        spec: `size` (pixels a side), `seed`, `objects` (per class) and `scenes` (per kind).

    Returns:
        A composite pool and its catalog; objects and scenes alternate between the two kinds. The same on every call.

    Raises:
        ConfigError: a field is out of its range, or memory has no room for the pool.

    Example:
        >>> pool, catalog = load_synthetic(PoolSpec(size=16, objects=4, scenes=3))
        >>> pool.images.shape, pool.scenes.shape, catalog.class_names
        ((8, 16, 16, 3), (6, 16, 16, 3), ('mossling', 'ripplet'))
    """
    for field in ("size", "objects", "scenes"):
        check_value(f"pool.{field}", getattr(spec, field))
    store.check_memory(store.shapes_of(2 * spec.objects, 2 * spec.scenes, spec.size), store.memory_limit())
    object_class = np.arange(2 * spec.objects, dtype=np.int32) % 2
    scene_kind = np.arange(2 * spec.scenes, dtype=np.int32) % 2
    creature_key, scene_key = jax.random.split(jax.random.key(spec.seed))
    rgba = _in_chunks(_creature, creature_key, object_class, 1.0, size=spec.size)
    scenes = _in_chunks(_scene, scene_key, scene_kind, 1.0, size=spec.size)
    pool = Pool(
        kind="composite",
        images=rgba[..., :3],
        masks=rgba[..., 3],
        labels=jnp.asarray(1 + object_class, jnp.uint8),
        scenes=scenes,
    )
    return pool, _catalog(object_class, scene_kind)


def _catalog(object_class: np.ndarray, scene_kind: np.ndarray) -> Catalog:
    listing = Listing(
        source="the synthetic pool",
        kind="composite",
        class_names=creatures.NAMES,
        scene_names=landscapes.NAMES,
        objects=[PoolItem(f"{creatures.NAMES[y]}_{i // 2:04d}", y=y) for i, y in enumerate(object_class.tolist())],
        scenes=[PoolItem(f"{landscapes.NAMES[s]}_{i // 2:04d}", scene=s) for i, s in enumerate(scene_kind.tolist())],
    )
    return catalog_of(listing)


def _creature(key: jax.Array, kind: jax.Array, strength: jax.Array, size: int) -> jax.Array:
    return creatures.render_creature(creatures.draw_creature(key, kind, identity_strength=strength), size)


def _scene(key: jax.Array, kind: jax.Array, strength: jax.Array, size: int) -> jax.Array:
    return landscapes.render_landscape(landscapes.draw_landscape(key), kind, size, scene_strength=strength)


def _in_chunks(item: Callable, key: jax.Array, kinds: np.ndarray, strength: float, *, size: int) -> jax.Array:
    """Renders item i from `fold_in(key, i)`, whatever their number: uint8 (N, H, W, channels)."""
    count = len(kinds)
    index = np.arange(math.ceil(count / CHUNK) * CHUNK).reshape(-1, CHUNK)
    kinds = np.resize(kinds, index.shape)
    parts = [_chunk(key, *rows, strength, item=item, size=size) for rows in zip(index, kinds, strict=True)]
    return jnp.concatenate(parts)[:count]


@partial(jax.jit, static_argnames=("item", "size"))
def _chunk(key: jax.Array, index: jax.Array, kinds: jax.Array, strength: jax.Array, *, item: Callable, size: int):
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, index)
    images = jax.vmap(item, (0, 0, None, None))(keys, kinds, strength, size)
    return jnp.round(255 * images).astype(jnp.uint8)
