"""ResNet's max-pooling on a CPU: equal to a slow twin and to XLA's own, bit for bit, gradients too."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from flipjax.models.convolutions.max_pool import max_pool


def twin(images, gradient):
    """Returns the maxima and the gradient of images, window by window."""
    pooled, of_images = np.empty_like(gradient), np.zeros_like(images)
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
    for b, i, j, c in np.ndindex(gradient.shape):
        window = padded[b, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3, c]
        row, column = np.unravel_index(window.argmax(), window.shape)
        pooled[b, i, j, c] = window.max()
        of_images[b, 2 * i - 1 + row, 2 * j - 1 + column, c] += gradient[b, i, j, c]
    return pooled, of_images


def by_xla(images):
    padding = ((0, 0), (1, 1), (1, 1), (0, 0))
    return lax.reduce_window(images, -jnp.inf, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), padding)


@pytest.mark.parametrize("levels", [1, 2, 1000], ids=["all equal", "many equal", "few equal"])
def test_maxima_and_gradient_are_the_twins_and_xlas(levels):
    rng = np.random.default_rng(0)
    images = rng.integers(-levels, 0, (2, 6, 8, 3)).astype(np.float32)
    gradient = rng.standard_normal((2, 3, 4, 3), np.float32)
    pooled, pull = jax.vjp(max_pool, images)
    wanted, wanted_gradient = twin(images, gradient)
    np.testing.assert_array_equal(pooled, wanted)
    np.testing.assert_array_equal(pull(gradient)[0], wanted_gradient)
    np.testing.assert_array_equal(pull(gradient)[0], jax.vjp(by_xla, images)[1](gradient)[0])


def test_what_is_no_number_is_not_lost():
    images = jnp.zeros((1, 4, 4, 1)).at[0, 1, 1, 0].set(jnp.nan)
    np.testing.assert_array_equal(jnp.isnan(max_pool(images)), jnp.isnan(by_xla(images)))
    assert jnp.isnan(max_pool(images)).all()
