"""What a model says of its own region on other scenes."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flipjax.intervene.scenes import paste, soft_edge
from flipjax.metrics.checks import check_logits, to_array
from flipjax.metrics.classes import background_classes, check_background, is_foreground

Predict = Callable[[Any], Any]
"""Images (B, H, W, channels) to logits (B, H, W, C), classes last: any framework's."""


def foreground(logits: Any, *, background: int | tuple[int, ...] | None = 0) -> jax.Array:
    """Returns where logits (..., H, W, C) say foreground: bool (..., H, W)."""
    classes = jnp.asarray(to_array(logits, name="logits"))
    C = classes.shape[-1]
    return jnp.asarray(is_foreground(C, check_background(background, C, name="logits")))[classes.argmax(-1)]


def region_log_odds(logits: Any, regions: Any, *, background: int | tuple[int, ...] | None = 0) -> jax.Array:
    """Returns the log-odds of the foreground classes over a region: means of logits, less their mean over the classes.

    Args:
        logits: (..., H, W, C) floating point.
        regions: (..., H, W) bool.
        background: the class that is background, several in a tuple, or None.

    Returns:
        (..., F) float32 of F foreground classes, which sum to 0; NaN for an empty region. Of two classes the second
        value is half of logit_2 - logit_1.

    Example:
        >>> region_log_odds(jnp.array([[[0.0, 1.0, 3.0], [5.0, 9.0, 0.0]]]), jnp.array([[True, False]])).tolist()
        [-1.0, 1.0]
    """
    logits = jnp.asarray(to_array(logits), jnp.float32)
    inside = jnp.asarray(to_array(regions), jnp.float32)[..., None]
    count = inside.sum((-3, -2))
    C = logits.shape[-1]
    classes = np.flatnonzero(is_foreground(C, check_background(background, C, name="logits")))
    scores = (logits[..., classes] * inside).sum((-3, -2)) / jnp.maximum(count, 1)
    return jnp.where(count > 0, scores - scores.mean(-1, keepdims=True), jnp.nan)


def scene_marginal(
    predict: Predict,
    images: Any,
    scenes: Any,
    *,
    weights: Any = None,
    logits: Any = None,
    background: int | tuple[int, ...] | None = 0,
    sigma: float | None = None,
    mirror: bool = False,
) -> jax.Array:
    """Returns what the model says of its own predicted region when that stands on other scenes.

    The region of each image is pasted on every scene with a slightly soft edge; the log-odds of the foreground classes
    are averaged over the region. Their mean over the kinds of scenes is the *scene-marginal identity*: what the model
    takes the object for, whatever is around it. It brings out what the model knows of the object and no more.

    Args:
        predict: images (B, H, W, channels) to logits (B, H, W, C), C >= 3; a JAX function (then all of this can be
            jitted), or any other: a wrapped PyTorch model.
        images: (B, H, W, channels) floating point.
        scenes: (K, H, W, channels) or (K, D, H, W, channels): one or D scenes of each of K kinds, in the units of the
            images (`mean_scenes`, `choose_scenes`, `mean_surroundings`, or scenes of yours).
        weights: (D,) floats that sum to 1; None: equal ones.
        logits: of `predict(images)`, where they are known: saves one pass.
        background: the class that is background, several in a tuple, or None: the region is then the whole image, and
            no scene shows.
        sigma: of the edge, as in `soft_edge`.
        mirror: whether each pasted image is also asked mirrored, left to right, and the two averaged: for models to
            which a mirrored object is the same object.

    Returns:
        (B, K, F) float32 of F foreground classes, log-odds on each kind of scene (`region_log_odds`); NaN for an image
        without predicted foreground. Costs K * D passes, twice as many with `mirror`, and one more where `logits` are
        not given.

    Raises:
        TypeError: images that are not floating point.
        ValueError: shapes that do not fit.

    Warns:
        UserWarning: no background.

    Example:
        >>> def predict(images):  # the class of an object is the sign of its first channel
        ...     x = jnp.asarray(images)[..., 0]
        ...     return jnp.stack([0.5 - jnp.abs(x), -x, x], axis=-1)
        >>> image = jnp.zeros((1, 4, 4, 1)).at[:, :, 2:].set(1.0)
        >>> scene_marginal(predict, image, jnp.zeros((2, 4, 4, 1)), sigma=0.0).tolist()
        [[[-1.0, 1.0], [-1.0, 1.0]]]
    """
    images = to_array(images, name="images")
    scenes = to_array(scenes, name="scenes")
    if not background_classes(background):
        warnings.warn(
            "background: found None, so each region is its whole image and no scene shows in the log-odds.",
            stacklevel=2,
        )
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise TypeError(f"images: expected floating point, in the units of the model, found {images.dtype}.")
    if images.ndim != 4 or scenes.ndim not in (4, 5) or scenes.shape[-3:] != images.shape[1:]:
        raise ValueError(
            f"scenes: expected (K, H, W, channels) or (K, D, H, W, channels) for images {images.shape}, "
            f"found {scenes.shape}."
        )
    scenes = scenes[:, None] if scenes.ndim == 4 else scenes
    K, D = scenes.shape[:2]
    weights = jnp.full(D, 1 / D, jnp.float32) if weights is None else jnp.asarray(to_array(weights))
    if weights.shape != (D,):
        raise ValueError(f"weights: expected {D} numbers, one a scene of each kind, found shape {weights.shape}.")
    logits = check_logits(predict(images) if logits is None else logits, background=background, spatial_ndim=2)
    if logits.shape[:-1] != images.shape[:-1]:
        raise ValueError(f"logits: expected {images.shape[:-1]} and classes last, found {logits.shape}.")
    regions = foreground(logits, background=background)
    cover = soft_edge(regions, sigma=sigma)

    def on_scene(scene: Any) -> jax.Array:
        pasted = paste(images, cover, scene)
        log_odds = region_log_odds(predict(pasted), regions, background=background)
        if not mirror:
            return log_odds
        turned = region_log_odds(predict(pasted[:, :, ::-1]), regions[:, :, ::-1], background=background)
        return (log_odds + turned) / 2

    kinds = [sum(weights[d] * on_scene(scenes[k, d]) for d in range(D)) for k in range(K)]
    return jnp.stack(kinds, axis=1)
