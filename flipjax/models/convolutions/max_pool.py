"""Max-pooling of 3 x 3 pixels at every other one, as ResNet's first, with a gradient that is fast on a CPU."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from flipjax.models.convolutions import tracing
from flipjax.models.convolutions.tracing import Arrays, with_gradient

SIZE = 3
"""Rows and columns of a window."""
NOWHERE = -SIZE * SIZE
"""Row or column of a pixel that lies outside of a window."""
PLACES = np.array([[1, 2], [NOWHERE, 0]])
"""Places of a pair of pixels along one axis: row 0 in the window centred on the first pixel, row 1 in the next window.

    pixels           a b | c d
    window       . a b          a in the middle, b last
    next window        b c d    b first
"""


def max_pool(images: jax.Array) -> jax.Array:
    """Takes the greatest of 3 x 3 pixels about every other one, of those in the image.

    The gradient goes to the first of equal pixels, row by row. For it XLA:CPU would compare pixel by pixel, with four
    indices of each, and scatter; here every pixel looks at the four windows that it may lie in.

    Args:
        images: (B, H, W, C) float, H and W even.

    Returns:
        (B, H / 2, W / 2, C), the dtype of `images`.

    Example:
        >>> max_pool(jnp.arange(16.0).reshape(1, 4, 4, 1))[0, :, :, 0].tolist()
        [[5.0, 7.0], [13.0, 15.0]]
    """
    if tracing.for_cpu():
        return _pool_on_cpu(images)
    padding = ((0, 0), (1, 1), (1, 1), (0, 0))
    return lax.reduce_window(images, -jnp.inf, lax.max, (1, SIZE, SIZE, 1), (1, 2, 2, 1), padding)


def _seen(images: jax.Array) -> list[jax.Array]:
    """Returns what each place of a window sees, row by row: views (B, H / 2, W / 2, C), -infinity outside."""
    _, H, W, _ = images.shape
    padded = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-jnp.inf)
    return [padded[:, i : i + H - 1 : 2, j : j + W - 1 : 2] for i, j in np.ndindex(SIZE, SIZE)]


def _forward(images: jax.Array) -> jax.Array:
    """Pools as `max_pool` does, on a CPU."""
    return functools.reduce(jnp.maximum, _seen(images))


def _place_of_first(images: jax.Array) -> jax.Array:
    """Returns where in its window the first greatest pixel lies, 0 to 8 row by row, (B, H / 2, W / 2, C) int32."""
    greatest, *later = _seen(images)
    place = jnp.zeros(greatest.shape, jnp.int32)
    for number, pixel in enumerate(later, start=1):
        place = jnp.where(pixel > greatest, number, place)
        greatest = jnp.maximum(greatest, pixel)
    return place


def _backward(saved: Arrays, gradient: jax.Array) -> Arrays:
    """Returns the gradient of `_forward`: each pixel adds those of the windows whose first greatest pixel it is."""
    (images,) = saved
    B, H, W, C = gradient.shape
    behind = ((0, 0), (0, 1), (0, 1), (0, 0))
    # Written out: each of the four windows below would otherwise compute both again.
    place_of_first, gradient = lax.optimization_barrier((_place_of_first(images), gradient))
    place_of_first = jnp.pad(place_of_first, behind)
    gradient = jnp.pad(gradient, behind)
    total = jnp.zeros((B, H, 2, W, 2, C), gradient.dtype)
    for down, across in np.ndindex(2, 2):
        place = SIZE * PLACES[down][:, None, None, None] + PLACES[across][:, None]  # (2, 1, 2, 1)
        window_place = place_of_first[:, down : down + H, None, across : across + W, None]  # (B, H, 1, W, 1, C)
        window_gradient = gradient[:, down : down + H, None, across : across + W, None]
        total += jnp.where(window_place == place, window_gradient, 0)
    return (total.reshape(images.shape),)


_pool_on_cpu = with_gradient(_forward, _backward)
