"""What a model says of its own region on other scenes."""

import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from flipjax.intervene.center import check_shares
from flipjax.intervene.regions import find_regions, foreground, region_places, warn_of_objects
from flipjax.intervene.scenes import check_floating, paste, soft_edge
from flipjax.metrics.checks import check_logits, to_array
from flipjax.metrics.classes import Background, background_classes, check_background, is_foreground

Predict = Callable[[Any], Any]
"""Images (B, H, W, channels) to logits (B, H, W, C), classes last: any framework's."""
UNITS = 30
"""How many times larger the largest value of scenes or images is when one is in 0..255 and the other in model units."""


def region_log_odds(logits: Any, regions: Any, *, background: Background = 0) -> jax.Array:
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
    regions: Any = "image",
    background: Background = 0,
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
        weights: (D,) floats of 0 or more that sum to 1; None: equal ones.
        logits: of `predict(images)`, where they are known: saves one pass.
        regions: 'image': all predicted foreground of an image is one region; 'objects': each of its components is, or
            numbers (B, H, W) of instances (`find_regions`). Objects of an image stay together on a scene.
        background: the class that is background, several in a tuple, or None: the region is then the whole image, and
            no scene shows.
        sigma: of the edge, as in `soft_edge`.
        mirror: whether each pasted image is also asked mirrored, left to right, and the two averaged: for models to
            which a mirrored object is the same object.

    Returns:
        (N, K, F) float32 of F foreground classes, log-odds on each kind of scene (`region_log_odds`). N is B for
        'image', with NaN for an image without predicted foreground; else the number of regions, image by image
        (`region_images`). Costs K * D passes, twice as many with `mirror`, and one more where `logits` are
        not given.

    Raises:
        TypeError: images or scenes that are not floating point, answers of `predict` that are no logits.
        ValueError: shapes that do not fit, of an answer of `predict` too; weights or sigma out of range.

    Warns:
        UserWarning: no background; images with several objects of different classes that are one region each; scenes
            that are probably in other units than the images.

    Example:
        >>> def predict(images):  # the class of an object is the sign of its first channel
        ...     x = jnp.asarray(images)[..., 0]
        ...     return jnp.stack([0.5 - jnp.abs(x), -x, x], axis=-1)
        >>> image = jnp.zeros((1, 4, 4, 1)).at[:, :, 2:].set(1.0)
        >>> scene_marginal(predict, image, jnp.zeros((2, 4, 4, 1)), sigma=0.0).tolist()
        [[[-1.0, 1.0], [-1.0, 1.0]]]
    """
    images, scenes = check_floating(images), check_floating(scenes, name="scenes")
    if not background_classes(background):
        warnings.warn(
            "background: found None, so each region is its whole image and no scene shows in the log-odds.",
            stacklevel=2,
        )
    if images.ndim != 4 or scenes.ndim not in (4, 5) or scenes.shape[-3:] != images.shape[1:]:
        raise ValueError(
            f"scenes: expected (K, H, W, channels) or (K, D, H, W, channels) for images {images.shape}, "
            f"found {scenes.shape}."
        )
    _warn_of_units(images, scenes)
    scenes = scenes[:, None] if scenes.ndim == 4 else scenes
    K, D = scenes.shape[:2]
    weights = check_shares(np.full(D, 1 / D) if weights is None else weights, D, name="weights")
    # A predict may write to what it is given.
    logits = predict(images.copy()) if logits is None else logits
    logits = check_logits(logits, background=background, spatial_ndim=2)
    if logits.shape[:-1] != images.shape[:-1]:
        raise ValueError(f"logits: expected {images.shape[:-1]} and classes last, found {logits.shape}.")
    warn_of_objects(logits, regions=regions, background=background, stacklevel=2)
    numbers = find_regions(logits, regions=regions, background=background)
    inside = foreground(logits, background=background) if numbers is None else jnp.asarray(numbers > 0)
    places = None if numbers is None else region_places(numbers)
    cover = soft_edge(inside, sigma=sigma)

    def ask(pasted: jax.Array, turn: int) -> jax.Array:
        answer = check_logits(predict(pasted[:, :, ::turn]), background=background, spatial_ndim=2)
        if answer.shape != logits.shape:
            raise ValueError(f"predict: expected logits {logits.shape} of pasted images too, found {answer.shape}.")
        if places is None:
            return region_log_odds(answer, inside[:, :, ::turn], background=background)
        return _pool(answer, places[:, :, ::turn], background=background)

    def on_scene(scene: Any) -> jax.Array:
        pasted = paste(images, cover, scene)
        return (ask(pasted, 1) + ask(pasted, -1)) / 2 if mirror else ask(pasted, 1)

    kinds = [sum(weights[d] * on_scene(scenes[k, d]) for d in range(D)) for k in range(K)]
    return jnp.stack(kinds, axis=1)


def _pool(logits: jax.Array, places: np.ndarray, *, background: Background) -> jax.Array:
    """Returns what `region_log_odds` gives for each of N regions, (N, F), by the region of each pixel, -1 for none."""
    count = int(places.max(initial=-1)) + 1
    classes = np.flatnonzero(is_foreground(logits.shape[-1], background))
    scores = logits[..., classes].astype(jnp.float32).reshape(-1, len(classes))
    rows = np.where(places < 0, count, places).ravel()
    sums = jax.ops.segment_sum(scores, rows, num_segments=count + 1)[:count]
    means = sums / np.bincount(rows, minlength=count + 1)[:count, None]
    return means - means.mean(-1, keepdims=True)


def _warn_of_units(images: Any, scenes: Any) -> None:
    if isinstance(images, Tracer) or isinstance(scenes, Tracer) or 0 in (images.size, scenes.size):
        return
    largest = [float(np.abs(np.asarray(array)).max()) for array in (images, scenes)]
    if min(largest) > 0 and max(largest) > UNITS * min(largest):
        warnings.warn(
            f"scenes: the largest value is {largest[1]:.3g}, of the images {largest[0]:.3g}; both must be in the units "
            "of the model.",
            stacklevel=3,
        )
