"""Augmentations of colour."""

import jax
import jax.numpy as jnp
from jax import Array

from flipjax.augment.geometry import Scalar

LUMA = (0.2989, 0.587, 0.114)
"""Weights of red, green and blue in a grey value, as in torchvision."""


def colour_jitter(
    key: Array, images: Array, *, probability: Scalar = 0.3, strength: Scalar = 0.2, ordered: Scalar = False
) -> Array:
    """Changes brightness, contrast and saturation of each image with the given probability, in random order.

    Each computes factor * image + (1 - factor) * other, clipped to [0, 1]. The other image is black (brightness), the
    mean grey of the image (contrast) or the grey of each pixel (saturation); each factor is uniform in
    [1 - strength, 1 + strength].

    Args:
        key: PRNG key.
        images: (B, H, W, 3) float in [0, 1].
        probability: in [0, 1].
        strength: in [0, 1].
        ordered: whether to keep the order brightness, contrast, saturation.

    Returns:
        (B, H, W, 3) in [0, 1], the dtype of `images`.

    Source: Achara et al., arXiv 2604.13326, training; torchvision's ColorJitter.

    Example:
        >>> grey = jnp.full((1, 2, 2, 3), 0.5)
        >>> jittered = jax.jit(colour_jitter)(jax.random.key(3), grey, probability=1.0)
        >>> bool((jnp.abs(jittered - 0.5) <= 0.1).all()), bool(jnp.ptp(jittered) < 1e-6)
        (True, True)
    """
    # One array of draws for each image: whether it is changed, a factor for each operation, and a number by which the
    # operations are ordered.
    draws = jax.random.uniform(key, (images.shape[0], 7))
    factors = 1 + strength * (2 * draws[:, 1:4] - 1)
    order = jnp.where(ordered, jnp.arange(3), jnp.argsort(draws[:, 4:], axis=1))
    luma = jnp.array(LUMA, images.dtype)
    changed = images
    for turn in range(3):
        operation = order[:, turn, None, None, None]
        factor = jnp.take_along_axis(factors, order[:, turn, None], axis=1)[:, :, None, None]
        grey = (changed * luma).sum(-1, keepdims=True)
        # Brightness is operation 0, contrast 1, saturation 2.
        uniform = jnp.where(operation == 1, grey.mean((1, 2, 3), keepdims=True), 0.0)
        other = jnp.where(operation == 2, grey, uniform)
        changed = jnp.clip(factor * changed + (1 - factor) * other, 0.0, 1.0)
    is_changed = draws[:, 0] < probability
    return jnp.where(is_changed[:, None, None, None], changed, images)
