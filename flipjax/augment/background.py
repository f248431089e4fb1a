"""Augmentations of the background, which leave objects and masks unchanged."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

SIDES = (0.1, 0.4)
"""Smallest and largest side of a CutMix rectangle, as a fraction of the image side."""
LEAST_SHARED = 0.3
"""Least share of the rectangle that is background in both images, where the partner fills it."""


def background_cutmix(
    key: Array,
    images: Array,
    masks: Array,
    partners: Array,
    partner_masks: Array,
    *,
    partnered: Array | bool = True,
    probability: float | Array = 0.5,
    reference: bool = False,
) -> Array:
    """Fills the background in a rectangle with that of a partner, an image of the same class in another scene.

    Draws a rectangle of 10 to 40% of each side, and copies the partner's pixels where both are background. If that is
    under 30% of the rectangle, or there is no partner, the background pixels take one random colour instead.

    Args:
        key: PRNG key.
        images: (B, H, W, 3) float in [0, 1].
        masks: (B, H, W) integer; 0 is background.
        partners: (B, H, W, 3) float in [0, 1].
        partner_masks: (B, H, W) integer.
        partnered: (B,) bool, whether there is a partner.
        probability: in [0, 1].
        reference: whether to follow the paper's code, which rounds sides down, and for half of the images without a
            partner draws a colour for each pixel. Where a partner shares too little background, it draws one colour.

    Returns:
        (B, H, W, 3), the dtype of `images`.

    Source: Achara et al., arXiv 2604.13326, `CUTMIX`; after Yun et al., 2019.

    Example:
        >>> land, sea, empty = jnp.zeros((1, 10, 10, 3)), jnp.ones((1, 10, 10, 3)), jnp.zeros((1, 10, 10), int)
        >>> mixed = jax.jit(background_cutmix)(jax.random.key(0), land, empty, sea, empty, probability=1.0)
        >>> bool(((mixed == 0) | (mixed == 1)).all()), 1 <= float(mixed[..., 0].sum()) <= 16
        (True, True)
    """
    B, H, W = masks.shape
    if reference:
        key, noise_key = jax.random.split(key)
        round_side = jnp.floor
    else:
        noise_key = None
        round_side = jnp.round
    # One array of draws for each image: whether it is changed, the rectangle, and the three channels of a colour.
    draws = jax.random.uniform(key, (B, 8))
    change, height, top, width, left = draws[:, :5].T
    colours = draws[:, None, None, 5:]
    in_rows = _random_interval(height, top, H, round_side)
    in_columns = _random_interval(width, left, W, round_side)
    in_rectangle = in_rows[:, :, None] & in_columns[:, None, :]
    is_background = in_rectangle & (masks == 0)
    is_shared = is_background & (partner_masks == 0)
    takes_partner = (is_shared.sum((1, 2)) >= LEAST_SHARED * in_rectangle.sum((1, 2))) & partnered
    is_filled = jnp.where(takes_partner[:, None, None], is_shared, is_background)
    is_filled &= (change < probability)[:, None, None]
    if noise_key is not None:
        colours = _with_noise(noise_key, colours, images, partnered)
    filling = jnp.where(takes_partner[:, None, None, None], partners, colours)
    return jnp.where(is_filled[..., None], filling, images)


def _with_noise(key: Array, colours: Array, images: Array, partnered: Array | bool) -> Array:
    """Replaces the colours (B, 1, 1, 3) of half of the images without a partner by noise (B, H, W, 3)."""
    noise_key, coin_key = jax.random.split(key)
    has_no_partner = jnp.broadcast_to(jnp.logical_not(partnered), images.shape[:1])
    noisy = jax.random.bernoulli(coin_key, shape=images.shape[:1]) & has_no_partner
    noise = jax.random.uniform(noise_key, images.shape)
    return jnp.where(noisy[:, None, None, None], noise, colours)


def _random_interval(length: Array, start: Array, size: int, round_side: Callable[[Array], Array]) -> Array:
    """Marks a random interval of a side of `size` pixels: (B, size) bool.

    Args:
        length: (B,) uniform draws in [0, 1), for the length of the interval between the two `SIDES`.
        start: (B,) uniform draws in [0, 1), for its first pixel among those at which it fits.
        size: of the side, in pixels.
        round_side: makes the length a whole number of pixels.
    """
    shortest, longest = SIDES
    pixels_long = jnp.clip(round_side((shortest + (longest - shortest) * length) * size), 1, size)
    first_pixel = jnp.floor(start * (size - pixels_long + 1))
    pixels = jnp.arange(size)
    return (pixels >= first_pixel[:, None]) & (pixels < (first_pixel + pixels_long)[:, None])


def background_swap(
    key: Array,
    rows: Array,
    groups: Array,
    others: Array,
    other_groups: Array,
    *,
    partnered: Array | bool = True,
    probability: float | Array = 0.5,
) -> tuple[Array, Array]:
    """Replaces the scene of objects in a composite pool by another scene, with the given probability.

    Args:
        key: PRNG key.
        rows: (B, 2) int32, object and scene photo.
        groups: (B,) int32, group of each (`flipjax.config.groups`).
        others: (B,) int32, a photo of another scene for each row.
        other_groups: (B,) int32, the group in that scene.
        partnered: (B,) bool, whether there is such a photo.
        probability: in [0, 1].

    Returns:
        New rows and groups, of the same shapes and dtypes.

    Example:
        >>> rows, groups = background_swap(jax.random.key(0), jnp.array([[5, 1]]), jnp.array([3]), jnp.array([8]),
        ...                                jnp.array([2]), probability=1.0)
        >>> rows.tolist(), groups.tolist()
        ([[5, 8]], [2])
    """
    swapped = jax.random.bernoulli(key, probability, groups.shape) & partnered
    scenes = jnp.where(swapped, others, rows[:, 1])
    return rows.at[:, 1].set(scenes), jnp.where(swapped, other_groups, groups)
