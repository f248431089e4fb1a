"""Pure augmentations of a batch: key first, the same geometry for image and mask."""

import jax
import jax.numpy as jnp


def horizontal_flip(
    key: jax.Array, images: jax.Array, masks: jax.Array, *, probability: float = 0.5
) -> tuple[jax.Array, jax.Array]:
    """Mirrors each image and its mask left to right with the given probability.

    Args:
      key: PRNG key.
      images: (B, H, W, 3).
      masks: (B, H, W).
      probability: in [0, 1].

    Returns:
      Images and masks of the same shapes and dtypes.

    Example:
      >>> images, masks = jnp.arange(6.0).reshape(1, 1, 2, 3), jnp.array([[[0, 1]]])
      >>> horizontal_flip(jax.random.key(0), images, masks, probability=1.0)[1].tolist()
      [[[1, 0]]]
    """
    mirror = jax.random.bernoulli(key, probability, (images.shape[0],))
    return (
        jnp.where(mirror[:, None, None, None], images[:, :, ::-1], images),
        jnp.where(mirror[:, None, None], masks[:, :, ::-1], masks),
    )
