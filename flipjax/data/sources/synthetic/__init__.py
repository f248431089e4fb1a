"""Draws the synthetic pool in JAX from a seed: creatures as cut-outs and landscapes as scenes, four kinds of each.

The class of a creature shows in its shape and coat, more clearly in some creatures than in others, so that the fraction
of flips grows gradually with reliance on the scene. Its position, pose, size and colours are uninformative. The scene
is obvious. Other cues than the scene are a coloured marker, a tint of the image, or a fine texture behind the object.
Nothing is downloaded.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import TypeAlias, cast

import jax
import jax.numpy as jnp
import numpy as np

from flipjax.backend.compiler import program
from flipjax.backend.random import key_of, random_bits
from flipjax.config import PoolSpec
from flipjax.config.naming import CREATURES, CUES, drawn_names
from flipjax.data import store
from flipjax.data.pool import TEXTURE_GREY, Catalog, CueName, Pool, PoolItem
from flipjax.data.sources.synthetic import creatures, landscapes, render
from flipjax.data.store import with_usual
from flipjax.support.arrays import Array

Render: TypeAlias = Callable[..., jax.Array]
"""Draws one image (H, W, channels) in [0, 1] from a PRNG key and a kind, the index in `drawn`."""

CHUNK = 32
"""Images rendered at once: bounds the memory of the supersampled layers."""
PERIOD = 4
"""Pixels from one stripe of a texture to the next."""
TURNS = (0.0, 0.5, 0.25, 0.75)
"""Of the values of a cue in their order: the hue of a marker or tint, as a fraction of the circle of colours; the angle
of a texture's stripes, as a fraction of half a turn."""


@random_bits()
def load_synthetic(spec: PoolSpec) -> tuple[Pool, Catalog]:
    """Draws the pool.

    Args:
        spec: `size` (side in pixels), `seed`, `objects` (per class), `scenes` (per kind), `cue`, `classes` and
            `scene_kinds` (of `flipjax.config.naming`; empty: the first two) and `usual`.

    Returns:
        A composite pool and its catalog, the same on every call; objects and scenes alternate between their kinds.

    Raises:
        ConfigError: the pool is larger than memory.

    Example:
        >>> pool, catalog = load_synthetic(PoolSpec(size=16, objects=4, scenes=3))
        >>> pool.images.shape, pool.scenes.shape, catalog.class_names
        ((8, 16, 16, 3), (6, 16, 16, 3), ('mossling', 'ripplet'))
    """
    catalog = list_synthetic(spec)
    object_class = catalog.object_class
    scene_kind = catalog.scene_kind
    store.check_memory(store.drawn_shapes(spec, len(object_class), len(scene_kind)))
    creature_key, scene_key = jax.random.split(key_of(spec.seed))
    drawn_classes = tuple(map(CREATURES.index, catalog.class_names))
    rgba = _in_chunks(_creature, creature_key, object_class, size=spec.size, drawn=drawn_classes)
    scenes = _in_chunks(_scene, scene_key, scene_kind, size=spec.size, drawn=_drawn_scenes(spec, catalog))
    return _pool_of(rgba, scenes, spec, catalog), catalog


def _drawn_scenes(spec: PoolSpec, catalog: Catalog) -> tuple[int, ...]:
    """Returns the number of each scene of a pool, among all values of its cue."""
    return tuple(map(CUES[spec.cue].index, catalog.scene_names))


def outline_synthetic(spec: PoolSpec) -> Pool:
    """Returns the shapes of the pool's arrays without drawing them; see `load_synthetic`."""
    catalog = list_synthetic(spec)
    rgba = jax.ShapeDtypeStruct((len(catalog.object_class), spec.size, spec.size, 4), jnp.uint8)
    scenes = jax.ShapeDtypeStruct((len(catalog.scene_kind), spec.size, spec.size, 3), jnp.uint8)
    return jax.eval_shape(partial(_pool_of, spec=spec, catalog=catalog), rgba, scenes)


def _pool_of(rgba: Array, scenes: Array, spec: PoolSpec, catalog: Catalog) -> Pool:
    """Returns the pool of drawn cut-outs (N, H, W, 4) and scenes (M, H, W, 3), with the cue in place of the scenes.

    Both are on the host, where cutting them compiles nothing, or traced. `device_put`, unlike `jnp.asarray`, compiles
    nothing for a new shape.
    """
    object_class = catalog.object_class
    scene_kind = catalog.scene_kind
    images = jax.device_put(rgba[..., :3])
    masks = jax.device_put(rgba[..., 3])
    scenes = cast(jax.Array, jax.device_put(scenes))
    cue = cast(CueName, spec.cue)
    layers = scenes
    backdrops = None
    if cue != "scene":
        # The drawn scenes become backdrops independent of the class, and the cue replaces them.
        drawn = _drawn_scenes(spec, catalog)
        scene_key = jax.random.split(key_of(spec.seed))[1]
        cue_key, place_key = jax.random.split(jax.random.fold_in(scene_key, len(scene_kind)))
        backdrops = scenes[jax.random.randint(place_key, (len(object_class),), 0, len(scene_kind))]
        layers = _cues(jax.random.split(cue_key, len(scene_kind)), scene_kind, cue=cue, size=spec.size, drawn=drawn)
    elif spec.blended:
        backdrops = scenes.astype(jnp.float32).mean(0, keepdims=True).round().astype(jnp.uint8)
    return Pool(
        kind="composite",
        images=images,
        masks=masks,
        labels=jax.device_put((1 + object_class).astype(np.uint8)),
        scenes=layers,
        aspects=jax.device_put(np.ones(len(object_class), np.float32)),
        cue=cue,
        backdrops=backdrops,
        strength=jnp.float32(1) if spec.blended else None,
    )


def list_synthetic(spec: PoolSpec) -> Catalog:
    """Returns the catalog of the pool without drawing it; see `load_synthetic`."""
    class_names, scene_names = drawn_names(spec)
    objects = []
    for i in range(spec.objects):
        objects += [PoolItem(f"{name}_{i:04d}", y=y) for y, name in enumerate(class_names)]
    scenes = []
    for i in range(spec.scenes):
        scenes += [PoolItem(f"{name}_{i:04d}", scene=kind) for kind, name in enumerate(scene_names)]
    catalog = Catalog("the synthetic pool", "composite", class_names, scene_names, objects, scenes)
    return with_usual(catalog, spec.usual)


def _creature(key: jax.Array, kind: jax.Array, *, size: int, drawn: tuple[int, ...]) -> jax.Array:
    """Draws a creature (H, W, 4); `kind` is its index in `drawn`, numbers of CREATURES."""
    return render.render_creature(creatures.draw_creature(key, kind, drawn=drawn), size)


def _scene(key: jax.Array, kind: jax.Array, *, size: int, drawn: tuple[int, ...]) -> jax.Array:
    """Draws a landscape (H, W, 3); `kind` is its index in `drawn`, numbers of LANDSCAPES."""
    # Its shore is of another kind, so many steps on in `drawn`.
    step = jax.random.randint(jax.random.fold_in(key, 1), (), 1, len(drawn))
    return landscapes.render_landscape(landscapes.draw_landscape(key), kind, size, drawn=drawn, step=step)


def _in_chunks(render: Render, key: jax.Array, kinds: np.ndarray, *, size: int, drawn: tuple[int, ...]) -> np.ndarray:
    """Renders an image of each of N kinds: uint8 (N, H, W, channels), on the host.

    Image i depends on `fold_in(key, i)` and its kind alone, so that a larger pool begins with the images of a smaller.
    """
    numbers = np.arange(math.ceil(len(kinds) / CHUNK) * CHUNK).reshape(-1, CHUNK)
    # One shape for all chunks: the last one is filled with images that are dropped.
    filled_kinds = np.resize(kinds, numbers.shape)
    render_chunk = program(_render_chunk, brief=True, static_argnames=("render", "size", "drawn"))
    chunks = []
    for chunk_numbers, chunk_kinds in zip(numbers, filled_kinds, strict=True):
        chunks.append(render_chunk(key, chunk_numbers, chunk_kinds, render=render, size=size, drawn=drawn))
    # Joining them on a device would compile a program for each number of chunks.
    return np.concatenate(jax.device_get(chunks))[: len(kinds)]


def _render_chunk(
    key: jax.Array, numbers: jax.Array, kinds: jax.Array, *, render: Render, size: int, drawn: tuple[int, ...]
) -> jax.Array:
    """Renders the images of some numbers and kinds, (CHUNK,) each: uint8 (CHUNK, H, W, channels)."""
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, numbers)
    images = jax.vmap(partial(render, size=size, drawn=drawn))(keys, kinds)
    return jnp.round(255 * images).astype(jnp.uint8)


@partial(jax.jit, static_argnames=("cue", "size", "drawn"))
def _cues(keys: jax.Array, kinds: jax.Array, *, cue: str, size: int, drawn: tuple[int, ...]) -> jax.Array:
    """Draws the layers of a cue, one of each key and kind: uint8 (M, size, size, 3)."""
    return jax.vmap(partial(draw_cue, cue=cue, size=size, drawn=drawn))(keys, kinds)


def draw_cue(key: jax.Array, kind: int | jax.Array, *, cue: str, size: int, drawn: tuple[int, ...]) -> jax.Array:
    """Draws the layer of a cue, which `flipjax.data.pool.gather` puts over an image or behind its object.

    Args:
        key: PRNG key of position, shade and phase, which do not depend on the kind.
        kind: int32 (), value of the cue, as its index in `drawn`.
        cue: 'marker' (a square of the kind's colour, 0 elsewhere), 'tint' (the kind's colour everywhere) or 'texture'
            (stripes in the kind's direction about a grey of 128).
        size: side of the image in pixels.
        drawn: the possible values, as indices into the names of the cue in `flipjax.config.naming.CUES`.

    Returns:
        uint8 (size, size, 3).

    Example:
        >>> layer = draw_cue(jax.random.key(0), 1, cue="marker", size=12, drawn=(0, 1))
        >>> layer.shape, int((layer > 0).any(-1).sum())
        ((12, 12, 3), 4)
    """
    turn = jnp.take(jnp.array([TURNS[hue] for hue in drawn]), kind)
    return jnp.round(255 * _LAYERS[cue](key, turn, size)).astype(jnp.uint8)


def _colour(key: jax.Array, turn: jax.Array) -> jax.Array:
    """Returns a colour (3,) of a hue, as a part of a turn, with random brightness."""
    # Hues of one lightness: red, green and blue are cosines a third of a turn apart.
    hue = jnp.cos(2 * jnp.pi * (turn - jnp.arange(3) / 3))
    return (0.5 + 0.4 * hue) * jax.random.uniform(key, minval=0.8, maxval=1.0)


def _marker(key: jax.Array, turn: jax.Array, size: int) -> jax.Array:
    """Draws a square of the hue at a random place, on black."""
    side = max(2, size // 6)
    shade_key, place_key = jax.random.split(key)
    first = jax.random.randint(place_key, (2, 1), 0, size - side + 1)
    inside = (jnp.arange(size) >= first) & (jnp.arange(size) < first + side)
    return jnp.where((inside[0][:, None] & inside[1])[..., None], _colour(shade_key, turn), 0.0)


def _tint(key: jax.Array, turn: jax.Array, size: int) -> jax.Array:
    """Draws an even colour of the hue."""
    return jnp.broadcast_to(_colour(key, turn), (size, size, 3))


def _texture(key: jax.Array, turn: jax.Array, size: int) -> jax.Array:
    """Draws grey stripes of a direction."""
    angle = jnp.pi * turn
    y, x = jnp.mgrid[:size, :size]
    phase = jax.random.uniform(key) + (x * jnp.cos(angle) + y * jnp.sin(angle)) / PERIOD
    grey = TEXTURE_GREY / 255 + 0.2 * jnp.sin(2 * jnp.pi * phase)
    return jnp.broadcast_to(grey[..., None], (size, size, 3))


_LAYERS = {"marker": _marker, "tint": _tint, "texture": _texture}
"""Functions that draw the layer of each cue."""
