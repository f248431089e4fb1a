"""Geometric augmentations of images and their masks."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array

DRAWS = 10
"""Rectangles drawn for a crop; the first that qualifies is taken."""
ASSUMED_HEIGHT = 512
"""Assumed height of a non-square photo in pixels, to which rectangles are rounded before checking that they fit."""
Scalar = float | Array
"""A number, perhaps traced."""


def horizontal_flip(
    key: Array,
    images: Array,
    masks: Array,
    *,
    probability: Scalar = 0.5,
    pairs: Sequence[tuple[int, int]] = (),
) -> tuple[Array, Array]:
    """Mirrors each image and its mask left to right with the given probability.

    Args:
        key: PRNG key.
        images: (B, H, W, 3).
        masks: (B, H, W).
        probability: in [0, 1].
        pairs: classes that a mirrored image exchanges, such as the left and the right kidney
            (`flipjax.metrics.Anatomy.mirror`).

    Returns:
        Images and masks of the same shapes and dtypes.

    Example:
        >>> images, masks = jnp.arange(6.0).reshape(1, 1, 2, 3), jnp.array([[[0, 1]]])
        >>> horizontal_flip(jax.random.key(0), images, masks, probability=1.0)[1].tolist()
        [[[1, 0]]]
        >>> horizontal_flip(jax.random.key(0), images, masks, probability=1.0, pairs=((1, 2),))[1].tolist()
        [[[2, 0]]]
    """
    mirrored = jax.random.bernoulli(key, probability, (images.shape[0],))
    return mirror(images, masks, mirrored, pairs=pairs)


def mirror(
    images: Array, masks: Array, mirrored: Array, *, pairs: Sequence[tuple[int, int]] = ()
) -> tuple[Array, Array]:
    """Mirrors the images (B, H, W, 3) and masks (B, H, W) where `mirrored` (B,) is true; `pairs` as `horizontal_flip`.

    Example:
        >>> images, masks = jnp.zeros((2, 1, 2, 3)), jnp.array([[[0, 1]], [[0, 1]]])
        >>> mirror(images, masks, jnp.array([True, False]))[1].tolist()
        [[[1, 0]], [[0, 1]]]
    """
    return (
        jnp.where(mirrored[:, None, None, None], images[:, :, ::-1], images),
        jnp.where(mirrored[:, None, None], exchanged(masks[:, :, ::-1], pairs), masks),
    )


def exchanged(labels: Array, pairs: Sequence[tuple[int, int]]) -> Array:
    """Returns labels with the classes of each pair exchanged.

    Example:
        >>> exchanged(jnp.arange(5), ((1, 3),)).tolist()
        [0, 3, 2, 1, 4]
    """
    result = labels
    for left, right in pairs:
        result = jnp.where(labels == right, left, result)
        result = jnp.where(labels == left, right, result)
    return result.astype(labels.dtype)


def random_resized_crop(
    key: Array,
    images: Array,
    masks: Array,
    *,
    probability: Scalar = 1.0,
    scale: tuple[Scalar, Scalar] = (0.8, 1.0),
    ratio: tuple[float, float] = (0.9, 1.1),
    aspects: Array | None = None,
) -> tuple[Array, Array]:
    """Crops a random rectangle of each image and resizes it to the image's size, with the given probability.

    Draws ten rectangles, with uniform area in `scale` and log-uniform aspect ratio in `ratio`, and takes the first that
    fits and contains foreground. If none does, takes the largest central rectangle within `ratio` if it contains
    foreground, else the whole image. With `aspects` rectangles are drawn on the original photos, before they were
    resized to squares. A 4:3 photo then mostly gives its central crop, because a nearly square rectangle of 0.8 or more
    of its area is mostly taller than the photo. Images are resampled bilinearly (enlarged only, so without a filter),
    masks by the nearest pixel.

    Args:
        key: PRNG key.
        images: (B, H, W, 3) float.
        masks: (B, H, W) integer; foreground is above 0.
        probability: in [0, 1].
        scale: minimum and maximum fraction of the area, in (0, 1].
        ratio: minimum and maximum aspect ratio (width / height), above 0.
        aspects: (B,) float32, aspect ratio of each original photo, above 0; None: the images are the photos, and no
            central crop is tried.

    Returns:
        Images and masks of the same shapes and dtypes.

    Source: Achara et al., arXiv 2604.13326, training; the draw of torchvision's RandomResizedCrop.

    Example:
        >>> images, masks = jnp.ones((1, 8, 8, 3)), jnp.zeros((1, 8, 8), int).at[0, 4, 4].set(2)
        >>> cropped, labels = jax.jit(random_resized_crop)(jax.random.key(0), images, masks)
        >>> cropped.shape, bool(jnp.allclose(cropped, 1)), int(labels.max())
        ((1, 8, 8, 3), True, 2)
    """
    boxes = _draw_boxes(key, masks, probability, scale, ratio, aspects)
    top, left, height, width = boxes.T[:, :, None]  # Each (B, 1).
    _, H, W, _ = images.shape
    rows = _places(top, height, H)
    columns = _places(left, width, W)
    images = jnp.einsum("bih,bhwc->biwc", _bilinear(rows, top, height, H), images)
    images = jnp.einsum("bjw,biwc->bijc", _bilinear(columns, left, width, W), images)
    # start - 0.5 < row < end - 0.5: half a pixel further it lies within the rectangle, and the floor is its pixel.
    nearest_rows = jnp.floor(rows + 0.5).astype(jnp.int32)
    nearest_columns = jnp.floor(columns + 0.5).astype(jnp.int32)
    masks = jnp.take_along_axis(masks, nearest_rows[:, :, None], axis=1)
    masks = jnp.take_along_axis(masks, nearest_columns[:, None, :], axis=2)
    return images, masks


def _draw_boxes(
    key: Array,
    masks: Array,
    probability: Scalar,
    scale: tuple[Scalar, Scalar],
    ratio: tuple[float, float],
    aspects: Array | None = None,
) -> Array:
    """Returns top, left, height and width in mask pixels, (B, 4) float32, whole numbers without `aspects`."""
    B, H, W = masks.shape
    if aspects is None:
        rows = jnp.full((B, 1), H, jnp.float32)
        columns = jnp.full((B, 1), W, jnp.float32)
    else:
        # A square photo has the mask's pixels, so its rectangles are exactly those without `aspects`.
        rows = jnp.where(aspects == 1, H, max(H, ASSUMED_HEIGHT))[:, None]
        columns = jnp.round(rows * aspects[:, None])
    # A single draw, since XLA:CPU compiles each use of the generator separately.
    draws = jax.random.uniform(key, (B, 1 + 4 * DRAWS))
    is_cropped = draws[:, 0] < probability
    boxes, fits = _boxes_of_draws(draws[:, 1:], rows, columns, scale, ratio)
    if aspects is not None:
        boxes = jnp.concatenate([boxes, _central_boxes(rows, columns, ratio)], axis=1)
        fits = jnp.concatenate([fits, jnp.ones((B, 1), bool)], axis=1)
        # From pixels of the photo to pixels of the mask, for top and left as for height and width.
        to_mask = jnp.tile(jnp.stack([H / rows, W / columns], axis=-1), 2)
        boxes = boxes * to_mask
    qualifies = fits & _holds_foreground(masks, boxes)
    place_of_first = jnp.argmax(qualifies, axis=1)
    first = jnp.take_along_axis(boxes, place_of_first[:, None, None], axis=1)[:, 0]
    whole = jnp.array([0, 0, H, W], jnp.float32)
    return jnp.where((qualifies.any(1) & is_cropped)[:, None], first, whole)


def _boxes_of_draws(
    draws: Array, rows: Array, columns: Array, scale: tuple[Scalar, Scalar], ratio: tuple[float, float]
) -> tuple[Array, Array]:
    """Returns rectangles (B, DRAWS, 4) from uniform draws (B, 4 * DRAWS), and whether each fits into its photo.

    Rows and columns (B, 1) are the size of each photo.
    """
    area, aspect, down, right = jnp.split(draws, 4, axis=1)
    area = (scale[0] + (scale[1] - scale[0]) * area) * (rows * columns)
    low = jnp.log(ratio[0])
    high = jnp.log(ratio[1])
    aspect = jnp.exp(low + (high - low) * aspect)
    height = jnp.round(jnp.sqrt(area / aspect))
    width = jnp.round(jnp.sqrt(area * aspect))
    fits = (height >= 1) & (width >= 1) & (height <= rows) & (width <= columns)
    top = jnp.clip(jnp.floor(down * (rows - height + 1)), 0, rows - 1)
    left = jnp.clip(jnp.floor(right * (columns - width + 1)), 0, columns - 1)
    return jnp.stack([top, left, height, width], axis=-1), fits


def _central_boxes(rows: Array, columns: Array, ratio: tuple[float, float]) -> Array:
    """Returns the largest central rectangle within `ratio` of each photo of `rows` by `columns` (B, 1): (B, 1, 4)."""
    height = jnp.minimum(rows, jnp.round(columns / ratio[0]))
    width = jnp.minimum(columns, jnp.round(rows * ratio[1]))
    return jnp.stack([(rows - height) // 2, (columns - width) // 2, height, width], axis=-1)


def _holds_foreground(masks: Array, boxes: Array) -> Array:
    """Returns whether each rectangle (B, N, 4) contains a pixel above 0, from a summed-area table.

    The table holds the number of such pixels above and to the left of each corner between pixels. Those inside are what
    is above and to the left of the last corner, less what is above the first row and what is left of the first column;
    what is both was taken twice, and is given back.
    """
    B, H, W = masks.shape
    sums = jnp.pad(jnp.cumsum(jnp.cumsum(masks > 0, axis=1), axis=2), ((0, 0), (1, 0), (1, 0)))
    top, left, height, width = jnp.moveaxis(boxes, -1, 0)
    first_row = jnp.round(top).astype(jnp.int32)
    first_column = jnp.round(left).astype(jnp.int32)
    last_row = jnp.minimum(jnp.round(top + height).astype(jnp.int32), H)
    last_column = jnp.minimum(jnp.round(left + width).astype(jnp.int32), W)
    image = jnp.arange(B)[:, None]
    inside = (
        sums[image, last_row, last_column]
        - sums[image, first_row, last_column]
        - sums[image, last_row, first_column]
        + sums[image, first_row, first_column]
    )
    return inside > 0


def _places(start: Array, length: Array, size: int) -> Array:
    """Returns the sampling positions of `size` output pixels along an axis, (B, size), in input pixels."""
    return start - 0.5 + (jnp.arange(size) + 0.5) * (length / size)


def _bilinear(places: Array, start: Array, length: Array, size: int) -> Array:
    """Returns the weights (B, outputs, inputs) of linear interpolation at `places`, within the rectangle."""
    inside = jnp.clip(places, start, start + length - 1)
    return jnp.maximum(0.0, 1.0 - jnp.abs(inside[:, :, None] - jnp.arange(size)))
