"""Cues other than scenes: a coloured marker, a tint of the whole image, a fine texture behind the object."""

import jax
import jax.numpy as jnp

STEPS = 4
"""Pixels from one stripe of a texture to the next."""


def draw_cue(key: jax.Array, kind: int | jax.Array, *, cue: str, kinds: int, size: int) -> jax.Array:
    """Draws the layer of one cue: `flipjax.data.pool.gather` lays it over an image or behind its object.

    Args:
        key: decides place, shade and phase, which say nothing of the kind.
        kind: int32 (), value of the cue, below `kinds`.
        cue: 'marker' (a square of the kind's colour, 0 elsewhere), 'tint' (the kind's colour everywhere) or 'texture'
            (stripes in the kind's direction about a grey of 128).
        kinds: number of values: colours or directions are evenly apart.
        size: side of the image in pixels.

    Returns:
        uint8 (size, size, 3).

    Example:
        >>> layer = draw_cue(jax.random.key(0), 1, cue="marker", kinds=2, size=12)
        >>> layer.shape, int((layer > 0).any(-1).sum())
        ((12, 12, 3), 4)
    """
    return jnp.round(255 * DRAW[cue](key, kind, kinds=kinds, size=size)).astype(jnp.uint8)


def _colour(key: jax.Array, kind: int | jax.Array, kinds: int) -> jax.Array:
    # Hues of one lightness: red, green and blue are cosines a third of a turn apart.
    turns = kind / kinds - jnp.arange(3) / 3
    return (0.5 + 0.4 * jnp.cos(2 * jnp.pi * turns)) * jax.random.uniform(key, minval=0.8, maxval=1.0)


def _marker(key: jax.Array, kind: int | jax.Array, *, kinds: int, size: int) -> jax.Array:
    side = max(2, size // 6)
    shade_key, place_key = jax.random.split(key)
    first = jax.random.randint(place_key, (2, 1), 0, size - side + 1)
    inside = (jnp.arange(size) >= first) & (jnp.arange(size) < first + side)
    return jnp.where((inside[0][:, None] & inside[1])[..., None], _colour(shade_key, kind, kinds), 0.0)


def _tint(key: jax.Array, kind: int | jax.Array, *, kinds: int, size: int) -> jax.Array:
    return jnp.broadcast_to(_colour(key, kind, kinds), (size, size, 3))


def _texture(key: jax.Array, kind: int | jax.Array, *, kinds: int, size: int) -> jax.Array:
    angle = jnp.pi * kind / kinds
    y, x = jnp.mgrid[:size, :size]
    phase = jax.random.uniform(key) + (x * jnp.cos(angle) + y * jnp.sin(angle)) / STEPS
    grey = 128 / 255 + 0.2 * jnp.sin(2 * jnp.pi * phase)
    return jnp.broadcast_to(grey[..., None], (size, size, 3))


DRAW = {"marker": _marker, "tint": _tint, "texture": _texture}
