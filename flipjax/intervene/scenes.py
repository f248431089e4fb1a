"""Makes scenes for scene swap and pastes regions onto them, with pure functions."""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage

from flipjax.metrics.inputs.checks import to_array
from flipjax.metrics.inputs.host import Array

SceneChoice = Literal["mean", "sampled", "both"]
"""Which scenes of each kind regions are pasted onto, see `choose_scenes`."""

EDGE_SIGMA = 0.7 / 48
"""Standard deviation of the blur of a region's edge, relative to the image height."""
SCENE_SIGMA = 0.1
"""Standard deviation of the blur of an image that becomes a scene, relative to the image height."""
BLUR_RADIUS = 4.0
"""Radius of a blur kernel, in standard deviations."""


def mean_scenes(images: ArrayLike, *, kinds: ArrayLike | None = None) -> jax.Array:
    """Returns the pixelwise mean of the scene images of each kind.

    Args:
        images: (S, H, W, channels) floating point, scenes in the units of the model's images.
        kinds: (S,) integers, the kind of each scene, with each of 0..K-1 at least once; None: a single kind.

    Returns:
        (K, H, W, channels) float32.

    Raises:
        TypeError: images are not floating point.
        ValueError: shapes do not fit, or a kind has no scene.

    Example:
        >>> scenes = np.arange(4.0).reshape(4, 1, 1, 1)
        >>> mean_scenes(scenes, kinds=[0, 0, 1, 1]).ravel().tolist()
        [0.5, 2.5]
    """
    photos, kind_of = _check_scenes(images, kinds)
    return jnp.stack([photos[kind_of == kind].mean(0) for kind in range(kind_of.max() + 1)])


def choose_scenes(
    key: jax.Array, images: ArrayLike, *, kinds: ArrayLike | None = None, scenes: SceneChoice = "mean", count: int = 1
) -> tuple[jax.Array, jax.Array]:
    """Chooses scenes of each kind, and their weights, for `scene_marginal`.

    Small models trained from scratch do better on mean scenes; ImageNet-pretrained models, which never saw such blurs,
    on several real ones. `both` was never worse in our trials.

    Args:
        key: a JAX PRNG key; not used for `mean`.
        images: (S, H, W, channels) floating point.
        kinds: (S,) integers in 0..K-1; None: a single kind.
        scenes: `mean`; `sampled`: `count` scenes of each kind without replacement; or `both`, half the weight each.
        count: number of sampled scenes of each kind.

    Returns:
        Scenes (K, D, H, W, channels) float32 and weights (D,) float32, which sum to 1. `mean` has D = 1.

    Raises:
        TypeError: images are not floating point.
        ValueError: `scenes` is unknown, or a kind has fewer scenes than `count`.

    Example:
        >>> images = np.arange(4.0).reshape(4, 1, 1, 1)
        >>> pasted, weights = choose_scenes(jax.random.key(0), images, kinds=[0, 0, 1, 1], scenes="both")
        >>> pasted.shape, weights.tolist(), pasted[:, 0].ravel().tolist()
        ((2, 2, 1, 1, 1), [0.5, 0.5], [0.5, 2.5])
    """
    if scenes not in ("mean", "sampled", "both"):
        raise ValueError(f"scenes: expected 'mean', 'sampled' or 'both', found {scenes!r}.")
    photos, kind_of = _check_scenes(images, kinds)
    means = mean_scenes(photos, kinds=kind_of)
    if scenes == "mean":
        # No samples of each kind.
        samples = means[:, None][:, :0]
    else:
        samples = photos[draw_scenes(key, kind_of, count=count)]
    return join_scenes(means, samples, scenes=scenes)


def draw_scenes(key: jax.Array, kinds: ArrayLike, *, count: int) -> np.ndarray:
    """Draws scenes of each kind without replacement: indices (K, count) into kinds (S,).

    Raises:
        ValueError: a kind has fewer scenes than `count`.

    Example:
        >>> draw_scenes(jax.random.key(0), [0, 1, 0], count=1).shape
        (2, 1)
    """
    kind_of = np.asarray(kinds)
    scenes_of_kinds = [np.flatnonzero(kind_of == kind) for kind in range(kind_of.max() + 1)]
    fewest = min(map(len, scenes_of_kinds))
    if not 1 <= count <= fewest:
        raise ValueError(f"count: expected 1 to {fewest}, the scenes of the rarest kind, found {count}.")
    drawn = []
    for kind, scenes in enumerate(scenes_of_kinds):
        shuffled = jax.random.permutation(jax.random.fold_in(key, kind), scenes)
        drawn.append(np.asarray(shuffled)[:count])
    return np.stack(drawn)


def join_scenes(means: ArrayLike, samples: ArrayLike, *, scenes: SceneChoice) -> tuple[jax.Array, jax.Array]:
    """Combines mean and sampled scenes, with the weights of `choose_scenes`.

    Args:
        means: (K, H, W, channels) float32.
        samples: (K, count, H, W, channels) float32; not used for `mean`.
        scenes: as in `choose_scenes`.

    Example:
        >>> join_scenes(np.zeros((2, 1, 1, 1)), np.ones((2, 2, 1, 1, 1)), scenes="both")[1].tolist()
        [0.5, 0.25, 0.25]
    """
    mean = jnp.asarray(means)[:, None]
    if scenes == "mean":
        return mean, jnp.ones(1, jnp.float32)
    sampled = jnp.asarray(samples)
    count = sampled.shape[1]
    equal_weights = jnp.full(count, 1 / count, jnp.float32)
    if scenes == "sampled":
        return sampled, equal_weights
    both = jnp.concatenate([mean, sampled], axis=1)
    return both, jnp.concatenate([jnp.array([0.5]), equal_weights / 2])


def mean_surroundings(images: ArrayLike, regions: ArrayLike) -> jax.Array:
    """Returns the pixelwise mean of images outside their regions, as a scene when no scene images exist.

    Regions are dilated by one pixel. A pixel covered in every image takes the mean of all uncovered pixels.

    Args:
        images: (n, H, W, channels) floating point, unlabelled.
        regions: (n, H, W) bool, the predicted foreground of each.

    Returns:
        (1, H, W, channels) float32; NaN if regions cover everything.

    Raises:
        TypeError: images are not floating point.
        ValueError: regions have another shape.

    Example:
        >>> images = np.array([[[1.0], [3.0], [5.0], [7.0]]])[..., None]
        >>> mean_surroundings(images, np.array([[[True], [False], [False], [False]]])).ravel().tolist()
        [6.0, 6.0, 5.0, 7.0]
    """
    return finish_surroundings(*sum_surroundings(*check_photos(images, regions, name="regions")))


def sum_surroundings(images: ArrayLike, regions: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """Sums a batch for `mean_surroundings`: sums (H, W, channels) and counts (H, W, 1), float32."""
    photos = jnp.asarray(to_array(images), jnp.float32)
    near = jax.lax.reduce_window(jnp.asarray(to_array(regions), bool), False, jax.lax.max, (1, 3, 3), (1, 1, 1), "SAME")
    outside = ~near[..., None]
    return jnp.where(outside, photos, 0).sum(0), outside.sum(0).astype(jnp.float32)


def finish_surroundings(sums: jax.Array, counts: jax.Array) -> jax.Array:
    """Returns the mean (1, H, W, channels) from sums and counts of `sum_surroundings`, added over batches."""
    overall = sums.sum((0, 1)) / counts.sum()
    return jnp.where(counts > 0, sums / jnp.maximum(counts, 1), overall)[None]


def soft_edge(regions: ArrayLike, *, sigma: float | None = None) -> jax.Array:
    """Returns the cover of regions: their masks blurred by a Gaussian, without dilation.

    Args:
        regions: (..., H, W) bool.
        sigma: standard deviation in pixels; None: 0.7 at 48 rows, in proportion at other sizes; 0: a hard edge.

    Returns:
        (..., H, W) float32 in [0, 1]. Images are padded by reflection.

    Raises:
        ValueError: sigma is negative, infinite or NaN.

    Example:
        >>> print(np.asarray(soft_edge(np.array([[False, False, True, True]]), sigma=0.5)).round(3))
        [[0.    0.107 0.893 1.   ]]
    """
    cover = jnp.asarray(to_array(regions)).astype(jnp.float32)
    H, W = cover.shape[-2:]
    if sigma is None:
        sigma = EDGE_SIGMA * H
    if not 0 <= sigma < np.inf:
        raise ValueError(f"sigma: expected a number of pixels, 0 or more, found {sigma}.")
    if sigma == 0:
        return cover
    return jnp.clip(_blur_matrix(H, sigma) @ cover @ _blur_matrix(W, sigma).T, 0, 1)


def paste(images: ArrayLike, cover: jax.Array, scene: ArrayLike) -> jax.Array:
    """Blends images (..., H, W, channels) onto a scene of the same trailing shape, by their cover (..., H, W).

    Example:
        >>> paste(np.ones((1, 1, 1)), jnp.full((1, 1), 0.25), np.zeros((1, 1, 1))).item()
        0.25
    """
    alpha = cover[..., None]
    return alpha * jnp.asarray(to_array(images)) + (1 - alpha) * jnp.asarray(to_array(scene))


def grey_scenes(images: ArrayLike) -> jax.Array:
    """Returns a uniform scene with the mean colour of each image. It is smooth, but not neutral.

    Classes often seen on smooth scenes benefit: published models classify objects on grey as birds. A fairer control is
    a scene of the object's own class.

    Args:
        images: (B, H, W, channels) floating point.

    Example:
        >>> grey_scenes(np.array([[[[0.0], [1.0]]]])).ravel().tolist()
        [0.5, 0.5]
    """
    photos = jnp.asarray(check_floating(images))
    return jnp.broadcast_to(photos.mean((1, 2), keepdims=True), photos.shape)


def blurred_scenes(images: ArrayLike, *, sigma: float | None = None) -> jax.Array:
    """Blurs each image into a scene with its colours but no texture. It is no more neutral than `grey_scenes`.

    Args:
        images: (B, H, W, channels) floating point.
        sigma: standard deviation in pixels; None: a tenth of the height.

    Returns:
        (B, H, W, channels). Images are padded by reflection.

    Example:
        >>> print(np.asarray(blurred_scenes(np.array([[[[0.0], [0.0], [1.0], [1.0]]]]), sigma=0.5)).ravel().round(3))
        [0.    0.107 0.893 1.   ]
    """
    photos = check_floating(images)
    H, W = photos.shape[1:3]
    if sigma is None:
        deviation = SCENE_SIGMA * H
    else:
        deviation = sigma
    blur_rows = _blur_matrix(H, deviation)
    blur_columns = _blur_matrix(W, deviation)
    return jnp.einsum("yi,xj,bijc->byxc", blur_rows, blur_columns, photos)


def _check_scenes(images: ArrayLike, kinds: ArrayLike | None) -> tuple[jax.Array, np.ndarray]:
    """Returns scenes (S, H, W, channels) float32 and the kind of each, int (S,)."""
    photos = jnp.asarray(check_floating(images), jnp.float32)
    if photos.ndim != 4 or not len(photos):
        raise ValueError(f"images: expected (S, H, W, channels) with S > 0, found shape {photos.shape}.")
    kind_of = np.zeros(len(photos), np.int64)
    if kinds is not None:
        kind_of = np.asarray(to_array(kinds))
    if kind_of.shape != (len(photos),):
        raise ValueError(f"kinds: expected {len(photos)} integers, found shape {kind_of.shape}.")
    if not np.bincount(kind_of).all():
        raise ValueError(f"kinds: expected 0..K-1, each at least once, found {np.unique(kind_of).tolist()}.")
    return photos, kind_of


def check_floating(images: ArrayLike, *, name: str = "images") -> Array:
    """Returns images as an array.

    Raises:
        TypeError: images are not floating point.
    """
    array = to_array(images, name=name)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(f"{name}: expected floating point, in the units of the model, found {array.dtype}.")
    return array


def check_photos(images: ArrayLike, masks: ArrayLike, *, name: str = "labels") -> tuple[Array, Array]:
    """Returns images (n, H, W, channels) and labels or regions (n, H, W) as arrays, traced ones as they are.

    Raises:
        TypeError, ValueError: images are not floating point, or masks have another shape.
    """
    photos = check_floating(images)
    classes = to_array(masks, name=name)
    if photos.ndim != 4 or classes.shape != photos.shape[:3]:
        raise ValueError(f"{name}: expected (n, H, W) of images {photos.shape}, found shape {classes.shape}.")
    return photos, classes


def _blur_matrix(size: int, sigma: float) -> np.ndarray:
    """Returns the Gaussian blur of a line of pixels as a matrix (size, size), with reflection padding."""
    matrix = ndimage.gaussian_filter1d(np.eye(size), sigma, axis=0, mode="reflect", truncate=BLUR_RADIUS)
    return matrix.astype(np.float32)
