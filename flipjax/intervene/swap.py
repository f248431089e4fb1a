"""Scene swap: pastes predicted regions onto other scenes, and computes swap risk and repair from their log-odds."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from numpy.typing import ArrayLike

from flipjax.intervene.centers import SUM_TOLERANCE, split_point
from flipjax.intervene.regions import count_labels, find_regions, foreground, region_rows, warn_of_objects
from flipjax.intervene.scenes import check_floating, paste, soft_edge
from flipjax.metrics.decomposition import divide
from flipjax.metrics.inputs.checks import check_logits, to_array
from flipjax.metrics.inputs.classes import Background, background_classes, check_background, is_foreground
from flipjax.metrics.inputs.host import Array
from flipjax.metrics.pixels import reductions
from flipjax.metrics.scenes.swap import scene_reliance as scene_reliance
from flipjax.metrics.scenes.swap import scene_shift as scene_shift
from flipjax.metrics.scenes.swap import scene_swap as scene_swap
from flipjax.metrics.scenes.swap import scene_use as scene_use
from flipjax.metrics.scenes.swap import swap_regions
from flipjax.metrics.scenes.swap import training_evidence as training_evidence

Predict = Callable[[Any], ArrayLike]
"""Images (B, H, W, channels) to logits (B, H, W, C), classes last: a `flipjax.Model`, or any framework's, which takes
arrays of `Any` type."""
OTHER_UNITS = 30
"""Ratio of the largest values of scenes and images above which one is probably in 0..255, the other in model units."""


def log_odds_on_scenes(
    predict: Callable[[Iterable[jax.Array]], Iterable[ArrayLike]],
    images: ArrayLike,
    regions: Array,
    scenes: Sequence[ArrayLike] | Array,
    *,
    mirror: ArrayLike = False,
    sigma: float | None = None,
    background: Background = 0,
) -> jax.Array:
    """Returns the log-odds of each region pasted on each scene: (N, D, F) float32.

    Args:
        predict: maps an iterable of D image batches to D logit batches, such as `lambda inputs: map(model, inputs)`.
        images: (B, H, W, channels) floating point.
        regions: as in `region_log_odds`.
        scenes: D arrays (H, W, channels), or (B, H, W, channels) with one scene per image.
        mirror: whether to average with the mirrored paste, for all scenes or for each.
        sigma: as in `soft_edge`.
        background: the background class, a tuple of several, or None.

    Example:
        >>> image, region = np.ones((1, 2, 2, 1)), np.array([[[True, True], [False, False]]])
        >>> def models(inputs):
        ...     return (jnp.concatenate([0 * x, -x, x], axis=-1) for x in inputs)
        >>> log_odds_on_scenes(models, image, region, [np.zeros((2, 2, 1))], sigma=0).tolist()
        [[[-1.0, 1.0]]]
    """
    inside = regions
    if regions.dtype != bool:
        inside = regions >= 0
    cover = soft_edge(inside, sigma=sigma)
    is_mirrored = np.broadcast_to(mirror, len(scenes))

    def inputs() -> Iterator[jax.Array]:
        """Yields the pasted images of each scene, and their mirror images after them."""
        for scene, also_mirrored in zip(scenes, is_mirrored, strict=True):
            pasted = paste(images, cover, scene)
            yield pasted
            if also_mirrored:
                yield pasted[:, :, ::-1]

    logits = iter(predict(inputs()))
    log_odds = []
    for also_mirrored in is_mirrored:
        of_scene = region_log_odds(next(logits), regions, background=background)
        if also_mirrored:
            of_mirrored = region_log_odds(next(logits), regions[:, :, ::-1], background=background)
            of_scene = (of_scene + of_mirrored) / 2
        log_odds.append(of_scene)
    return jnp.stack(log_odds, axis=1)


def region_log_odds(logits: ArrayLike, regions: ArrayLike, *, background: Background = 0) -> jax.Array:
    """Returns the log-odds of the foreground classes over each region: mean logits, centred over the classes.

    Args:
        logits: (..., H, W, C) floating point.
        regions: (..., H, W) bool, one region per image; or int, the row of each pixel's region as in `region_rows`.
        background: the background class, a tuple of several, or None.

    Returns:
        (..., F) or (N, F) float32 for F foreground classes, which sum to 0; NaN for an empty region. With two classes
        the second value is half of logit_2 - logit_1.

    Example:
        >>> region_log_odds(jnp.array([[[0.0, 1.0, 3.0], [5.0, 9.0, 0.0]]]), jnp.array([[True, False]])).tolist()
        [-1.0, 1.0]
    """
    all_scores = jnp.asarray(to_array(logits), jnp.float32)
    region_of_pixel = to_array(regions)
    C = all_scores.shape[-1]
    classes = np.flatnonzero(is_foreground(C, check_background(background, C, name="logits")))
    scores = all_scores[..., classes]
    if region_of_pixel.dtype == bool:
        inside = jnp.asarray(region_of_pixel, jnp.float32)[..., None]
        count = inside.sum((-3, -2))
        sums = (scores * inside).sum((-3, -2))
    else:
        N = int(region_of_pixel.max(initial=-1)) + 1
        # Row N takes the pixels without a region, and is left out.
        rows = np.where(region_of_pixel < 0, N, region_of_pixel).ravel()
        sums = jax.ops.segment_sum(scores.reshape(-1, len(classes)), rows, num_segments=N + 1)[:N]
        count = np.bincount(rows, minlength=N + 1)[:N, None]
    # Recorded results depend on how this division rounds.
    means = sums / jnp.maximum(count, 1)
    return jnp.where(count > 0, means - means.mean(-1, keepdims=True), jnp.nan)


def scene_marginal(
    predict: Predict,
    images: ArrayLike,
    scenes: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    logits: ArrayLike | None = None,
    regions: ArrayLike = "image",
    background: Background = 0,
    sigma: float | None = None,
    mirror: bool = False,
) -> jax.Array:
    """Returns the log-odds of a model's predicted regions when they are pasted onto other scenes.

    Each region is pasted onto every scene with a slightly soft edge, and the log-odds of the foreground classes are
    averaged over it. Their mean over scenes, the *scene-marginal identity*, gives the class predicted independently of
    the scene. Costs K * D forward passes, twice as many with `mirror`, and one more without `logits`.

    Args:
        predict: maps images (B, H, W, channels) to logits (B, H, W, C), C >= 3: a `flipjax.Model` or another JAX
            function (which allows jit), or any other callable, such as a wrapped PyTorch model.
        images: (B, H, W, channels) floating point.
        scenes: (K, H, W, channels) or (K, D, H, W, channels): one or D scenes of each of K kinds, in the units of the
            images (`mean_scenes`, `choose_scenes`, `mean_surroundings`, or your own).
        weights: (D,) nonnegative floats that sum to 1; None: equal weights.
        logits: `predict(images)` if known, which saves one pass.
        regions: 'image': all predicted foreground of an image is one region; 'objects': each component is one; or
            instance numbers (B, H, W) (`find_regions`). The objects of an image are pasted together.
        background: the background class, a tuple of several, or None: the region is then the whole image, which hides
            every scene.
        sigma: as in `soft_edge`.
        mirror: whether to average with the mirrored paste, for models whose classes have no handedness.

    Returns:
        (N, K, F) float32, log-odds of F foreground classes on each kind of scene (`region_log_odds`). For 'image' N is
        B, with NaN for an image without predicted foreground; else it is the number of regions, ordered by image
        (`region_images`).

    Raises:
        TypeError: images or scenes are not floating point, or `predict` returns no logits.
        ValueError: shapes do not fit, also of the output of `predict`, or weights or sigma are out of range.

    Warns:
        UserWarning: there is no background, an image with several objects of different classes is one region, or scenes
            and images probably have different units.

    Example:
        >>> def predict(images):  # the class of an object is the sign of its first channel
        ...     x = jnp.asarray(images)[..., 0]
        ...     return jnp.stack([0.5 - jnp.abs(x), -x, x], axis=-1)
        >>> image = jnp.zeros((1, 4, 4, 1)).at[:, :, 2:].set(1.0)
        >>> scene_marginal(predict, image, jnp.zeros((2, 4, 4, 1)), sigma=0.0).tolist()
        [[[-1.0, 1.0], [-1.0, 1.0]]]
    """
    photos = check_floating(images)
    scene_photos = _read_scenes(scenes, photos)
    if not background_classes(background):
        warnings.warn("background: found None, so each region is its whole image and hides every scene.", stacklevel=2)
    _warn_of_units(photos, scene_photos)
    weight_of_draw = _read_weights(weights, draws=scene_photos.shape[1])
    if logits is None:
        # A predict function may overwrite its input.
        logits = predict(photos.copy())
    scores = check_logits(logits, background=background)
    if scores.shape[:-1] != photos.shape[:-1]:
        raise ValueError(f"logits: expected {photos.shape[:-1]} and classes last, found {scores.shape}.")
    warn_of_objects(scores, regions=regions, background=background)
    numbers = find_regions(scores, regions=regions, background=background)
    if numbers is None:
        # One region an image.
        inside = foreground(scores, background=background)
    else:
        inside = region_rows(numbers)

    def ask(pasted: Iterable[jax.Array]) -> Iterator[jax.Array]:
        """Yields the checked logits of each batch of pasted images."""
        for batch in pasted:
            logits_of_batch = check_logits(predict(batch), background=background)
            if logits_of_batch.shape != scores.shape:
                found = f"logits {scores.shape} of pasted images too, found {logits_of_batch.shape}"
                raise ValueError(f"predict: expected {found}.")
            yield logits_of_batch

    # All D scenes of a kind side by side: (K * D, H, W, channels).
    pasted_scenes = scene_photos.reshape(-1, *photos.shape[1:])
    log_odds = log_odds_on_scenes(ask, photos, inside, pasted_scenes, mirror=mirror, sigma=sigma, background=background)
    return average_draws(log_odds, weight_of_draw)


def _read_scenes(scenes: ArrayLike, images: Array) -> Array:
    """Returns the scenes of each kind, (K, D, H, W, channels), for images (B, H, W, channels)."""
    photos = check_floating(scenes, name="scenes")
    if images.ndim != 4 or photos.ndim not in (4, 5) or photos.shape[-3:] != images.shape[1:]:
        raise ValueError(f"scenes: expected (K, H, W, channels) as images {images.shape}, found {photos.shape}.")
    if not photos.size:
        raise ValueError(f"scenes: expected at least one, found {photos.shape}.")
    if photos.ndim == 4:
        return photos[:, None]
    return photos


def _read_weights(weights: ArrayLike | None, *, draws: int) -> jax.Array:
    """Returns the weights of the D scenes of each kind, float32 (D,); equal ones for None."""
    if weights is None:
        weights = np.full(draws, 1 / draws)
    array = jnp.asarray(to_array(weights, name="weights"), jnp.float32)
    fits = array.shape == (draws,)
    if fits and not isinstance(array, Tracer):
        fits = bool(array.min() >= 0 and abs(array.sum() - 1) <= SUM_TOLERANCE)
    if not fits:
        raise ValueError(f"weights: expected {draws} numbers of 0 or more that sum to 1, found {array}.")
    return array


def average_draws(log_odds: jax.Array, weights: Array) -> jax.Array:
    """Averages log-odds (N, K * D, F), the D scenes of a kind side by side, with weights (D,): (N, K, F)."""
    D = len(weights)
    return sum((weights[d] * log_odds[:, d::D] for d in range(D)), start=jnp.zeros(()))


def scene_swap_risk(
    logits: ArrayLike,
    log_odds: ArrayLike,
    *,
    center: ArrayLike,
    regions: ArrayLike = "image",
    background: Background = 0,
) -> np.ndarray:
    """Returns the swap risk of each region, which needs no labels and also detects confident flips.

    Equals the largest centred log-odds among the other classes minus those of the predicted class, averaged over
    scenes. Above 0 the model predicts another class on average scenes.

    Evaluate it over all groups: within rare groups, any detector of agreement with the scene has a high AUROC.

    Args:
        logits: (B, H, W, C) floating point, for the original images.
        log_odds: (N, K, F) of `scene_marginal`, with the same regions.
        center: centre of `split_point`: (F,) numbers, or one number for two foreground classes.
        regions: as in `scene_marginal`.
        background: the background class, a tuple of several, or None.

    Returns:
        (N,) float64, in nats; NaN for an image without predicted foreground.

    Raises:
        TypeError, ValueError: logits or shapes do not fit.

    Example:
        >>> logits = jax.nn.one_hot(jnp.array([[[0, 1, 1]]]), 3)
        >>> scene_swap_risk(logits, jnp.array([[[-2.0, 2.0]]]), center=0.0).tolist()
        [4.0]
    """
    return _swap(logits, log_odds, center=center, regions=regions, background=background).risk


def repair(
    logits: ArrayLike,
    log_odds: ArrayLike,
    *,
    center: ArrayLike,
    regions: ArrayLike = "image",
    background: Background = 0,
) -> np.ndarray:
    """Relabels each region with the class predicted when it is pasted onto other scenes.

    Use it only on balanced test sets with unseen scenes; elsewhere it increases flips
    (sweeps/studies/published_models, sweeps/studies/scene_swap). Regions, and so foreground IoU, do not change.

    Args:
        logits: as in `scene_swap_risk`, like the further arguments.
        log_odds: (N, K, F).
        center: (F,) numbers, or one number.
        regions: as in `scene_marginal`.
        background: the background class, a tuple of several, or None.

    Returns:
        (B, H, W) int32; unchanged outside regions.

    Raises:
        TypeError, ValueError: logits or shapes do not fit.

    Warns:
        UserWarning: an image with several objects of different classes is one region.

    Example:
        >>> logits = jax.nn.one_hot(jnp.array([[[0, 1, 2]]]), 3)
        >>> repair(logits, jnp.array([[[-2.0, 2.0]]]), center=0.0).tolist()
        [[[0, 2, 2]]]
    """
    warn_of_objects(logits, regions=regions, background=background)
    swap = _swap(logits, log_odds, center=center, regions=regions, background=background)
    # Pixels without a region have row -1, and read the appended -1.
    target = np.append(swap.target, -1)[swap.rows]
    return np.where(target >= 0, target, swap.labels).astype(np.int32)


def mirror_risk(logits: ArrayLike, mirrored: ArrayLike, *, background: Background = 0) -> jax.Array:
    """Returns the entropy of the prediction averaged with that of the mirrored image, over the predicted foreground.

    Args:
        logits: (B, H, W, C) floating point, for the original images.
        mirrored: (B, H, W, C), for the images mirrored left to right, in mirrored coordinates.
        background: the background class, a tuple of several, or None.

    Returns:
        (B,) float32, in nats, over the foreground classes; NaN for an image without predicted foreground.

    Raises:
        TypeError, ValueError: logits or shapes do not fit.

    Source: Wang et al., Aleatoric uncertainty estimation with test-time augmentation, arXiv 1807.07356.

    Example:
        >>> logits = jnp.array([[[[0.0, 9.0, -9.0], [9.0, 0.0, 0.0]]]])
        >>> round(jax.jit(mirror_risk)(logits, -logits[:, :, ::-1]).item(), 4)
        0.6931
    """
    scores = check_logits(logits, background=background)
    other = check_logits(mirrored, background=background)
    if scores.ndim != 4 or other.shape != scores.shape:
        found = f"{scores.shape} and {other.shape}"
        raise ValueError(f"mirrored: expected (B, H, W, C) as the logits, found logits {found}.")
    # In float32, because JAX joins no floats of 8 bits with others.
    answers = jnp.concatenate([scores.astype(jnp.float32), other[:, :, ::-1].astype(jnp.float32)], axis=-1)
    classes = background_classes(background)
    prediction, entropy = reductions.mean_entropy(answers, background=classes)
    inside = reductions.where_foreground(prediction, classes)
    return divide(jnp.where(inside, entropy, 0).sum((-2, -1)), inside.sum((-2, -1)))


@dataclasses.dataclass(frozen=True)
class _Swap:
    """Regions after a scene swap."""

    risk: np.ndarray
    """float64 (N,), nats, the swap risk of each region."""
    target: np.ndarray
    """int (N,), the class of each region on other scenes; -1 for none."""
    rows: np.ndarray
    """int (B, H, W), the row of each pixel's region in the arrays above; -1 for none."""
    labels: np.ndarray
    """int (B, H, W), the predicted label of each pixel."""


def _swap(
    logits: ArrayLike, log_odds: ArrayLike, *, center: ArrayLike, regions: ArrayLike, background: Background
) -> _Swap:
    """Returns the risk of each region and its class on other scenes."""
    scores = check_logits(logits, background=background)
    rows, counts = count_labels(scores, regions=regions, background=background)
    classes = np.flatnonzero(is_foreground(scores.shape[-1], background))
    log_odds = to_array(log_odds, name="log_odds")
    if not jnp.issubdtype(log_odds.dtype, jnp.floating):
        raise TypeError(f"log_odds: expected floating point, found {log_odds.dtype}.")
    on_scenes = np.asarray(log_odds)
    if on_scenes.ndim != 3 or (on_scenes.shape[0], on_scenes.shape[2]) != (len(counts), len(classes)):
        expected = f"({len(counts)} regions, kinds of scenes, {len(classes)})"
        raise ValueError(f"log_odds: expected {expected} as the logits, found {on_scenes.shape}.")
    points = split_point(on_scenes, center=center)
    risk, elsewhere = swap_regions(counts[:, classes], on_scenes, center=points)
    target = np.where(elsewhere >= 0, classes[elsewhere], -1)
    return _Swap(risk, target, rows, labels=np.asarray(scores).argmax(-1))


def _warn_of_units(images: Array, scenes: Array) -> None:
    """Warns if images and scenes seem to be in different units, such as 0..1 and 0..255."""
    if isinstance(images, Tracer) or isinstance(scenes, Tracer):
        return
    largest = [float(np.abs(np.asarray(array)).max(initial=0)) for array in (images, scenes)]
    if min(largest) > 0 and max(largest) > OTHER_UNITS * min(largest):
        found = f"{largest[1]:.3g}, of the images {largest[0]:.3g}"
        warnings.warn(f"scenes: the largest value is {found}; both must be in the units of the model.", stacklevel=3)
