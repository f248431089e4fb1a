"""Test-time augmentation by a mirror: what a model says of an image and of its mirror image."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flipjax.metrics.checks import check_logits
from flipjax.metrics.classes import Background, is_foreground


def mirror_risk(logits: Any, mirrored: Any, *, background: Background = 0) -> jax.Array:
    """Returns the entropy of the mean of two predictions, of the foreground classes over the predicted foreground.

    Args:
        logits: (B, H, W, C) floating point, of the images as they are.
        mirrored: (B, H, W, C), of the images mirrored left to right, in the mirror's own coordinates.
        background: the class that is background, several in a tuple, or None.

    Returns:
        (B,) float32, nats; NaN for an image without predicted foreground.

    Raises:
        TypeError, ValueError: logits or shapes that do not fit.

    Source: Wang et al., Aleatoric uncertainty estimation with test-time augmentation, arXiv 1807.07356.

    Example:
        >>> logits = jnp.array([[[[0.0, 9.0, -9.0], [9.0, 0.0, 0.0]]]])
        >>> round(mirror_risk(logits, -logits[:, :, ::-1]).item(), 4)
        0.6931
    """
    logits = check_logits(logits, background=background, spatial_ndim=2)
    mirrored = check_logits(mirrored, background=background, spatial_ndim=2)
    kept = is_foreground(logits.shape[-1], background)
    both = jnp.stack([logits, mirrored[:, :, ::-1]]).astype(jnp.float32)
    mean = jax.nn.softmax(both[..., np.flatnonzero(kept)]).mean(0)
    entropy = jax.scipy.special.entr(mean).sum(-1)
    inside = jnp.asarray(kept)[logits.argmax(-1)]
    count = inside.sum((-2, -1))
    return jnp.where(count > 0, jnp.where(inside, entropy, 0).sum((-2, -1)) / jnp.maximum(count, 1), jnp.nan)
