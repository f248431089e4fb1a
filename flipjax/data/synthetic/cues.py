"""Draws cues other than scenes: a coloured marker, a tint of the image, or a fine texture behind the object."""

import jax
import jax.numpy as jnp

PERIOD = 4
"""Pixels from one stripe of a texture to the next."""
TURNS = (0.0, 0.5, 0.25, 0.75)
"""Hue of each of `flipjax.data.naming.HUES`, and direction of STRIPES in half turns."""


def draw_cue(key: jax.Array, kind: int | jax.Array, *, cue: str, size: int, drawn: tuple[int, ...]) -> jax.Array:
    """Draws the layer of a cue, which `flipjax.data.pool.gather` puts over an image or behind its object.

    Args:
        key: PRNG key of position, shade and phase, which do not depend on the kind.
        kind: int32 (), value of the cue, as its index in `drawn`.
        cue: 'marker' (a square of the kind's colour, 0 elsewhere), 'tint' (the kind's colour everywhere) or 'texture'
            (stripes in the kind's direction about a grey of 128).
        size: side of the image in pixels.
        drawn: the possible values, as indices into `flipjax.data.naming.CUES`.

    Returns:
        uint8 (size, size, 3).

    Example:
        >>> layer = draw_cue(jax.random.key(0), 1, cue="marker", size=12, drawn=(0, 1))
        >>> layer.shape, int((layer > 0).any(-1).sum())
        ((12, 12, 3), 4)
    """
    turn = jnp.take(jnp.array([TURNS[place] for place in drawn]), kind)
    return jnp.round(255 * _LAYERS[cue](key, turn, size)).astype(jnp.uint8)


def _colour(key: jax.Array, turn: jax.Array) -> jax.Array:
    # Hues of one lightness: red, green and blue are cosines a third of a turn apart.
    hue = jnp.cos(2 * jnp.pi * (turn - jnp.arange(3) / 3))
    return (0.5 + 0.4 * hue) * jax.random.uniform(key, minval=0.8, maxval=1.0)


def _marker(key: jax.Array, turn: jax.Array, size: int) -> jax.Array:
    side = max(2, size // 6)
    shade_key, place_key = jax.random.split(key)
    first = jax.random.randint(place_key, (2, 1), 0, size - side + 1)
    inside = (jnp.arange(size) >= first) & (jnp.arange(size) < first + side)
    return jnp.where((inside[0][:, None] & inside[1])[..., None], _colour(shade_key, turn), 0.0)


def _tint(key: jax.Array, turn: jax.Array, size: int) -> jax.Array:
    return jnp.broadcast_to(_colour(key, turn), (size, size, 3))


def _texture(key: jax.Array, turn: jax.Array, size: int) -> jax.Array:
    angle = jnp.pi * turn
    y, x = jnp.mgrid[:size, :size]
    phase = jax.random.uniform(key) + (x * jnp.cos(angle) + y * jnp.sin(angle)) / PERIOD
    grey = 128 / 255 + 0.2 * jnp.sin(2 * jnp.pi * phase)
    return jnp.broadcast_to(grey[..., None], (size, size, 3))


_LAYERS = {"marker": _marker, "tint": _tint, "texture": _texture}
