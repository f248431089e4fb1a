"""Reads and checks one batch of a stream, as a model makes it: each argument of `AuditStream.add`.

Errors name the argument. A batch has N images; C is the number of classes.
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from flipjax.audit.formats.names import check_names, check_texts
from flipjax.audit.inputs.records import Encoding
from flipjax.metrics.inputs.checks import on_host, to_array
from flipjax.metrics.inputs.host import Outputs, is_tensor


def read_arrays(predictions: ArrayLike, labels: ArrayLike, encoding: Encoding) -> tuple[Outputs, np.ndarray]:
    """Returns predictions, with classes last, and labels (N, *spatial).

    Scores on a device, a tensor of PyTorch or an array of JAX, stay there, and a tensor stays one on the CPU, too.
    Labels, masks and scores in host memory become NumPy arrays.

    Raises:
        ValueError: labels are of another shape than predictions, or than images or volumes have.
    """
    spec = encoding.spec
    masks_or_scores: Outputs = predictions
    if not is_tensor(predictions) or spec.kind == "masks":
        masks_or_scores = to_array(predictions, name="predictions")
    truth = np.asarray(to_array(labels, name="labels"))
    if truth.ndim != spec.spatial_ndim + 1 or len(masks_or_scores) != len(truth):
        form = "(N, H, W)"
        if spec.spatial_ndim == 3:
            form = "(N, D, H, W)"
        raise ValueError(f"labels: expected {form} beside predictions {masks_or_scores.shape}, found {truth.shape}.")
    if spec.kind == "masks":
        return np.asarray(masks_or_scores), truth
    if is_tensor(masks_or_scores):
        scores = masks_or_scores.detach()
        if encoding.channels == "first" and scores.ndim > 1:
            scores = scores.movedim(1, -1)
        return scores, truth
    if not on_host(masks_or_scores):
        if encoding.channels == "first":
            return jnp.moveaxis(masks_or_scores, 1, -1), truth
        return masks_or_scores, truth
    masks_or_scores = np.asarray(masks_or_scores)
    if encoding.channels == "first":
        masks_or_scores = np.moveaxis(masks_or_scores, 1, -1)
    # Other types are refused by the kernels, with their names.
    dtype = masks_or_scores.dtype
    if np.issubdtype(dtype, np.floating):
        dtype = np.float32
    return np.asarray(masks_or_scores, dtype, order="C"), truth


def read_photos(images: ArrayLike | None, shape: tuple[int, ...]) -> Sequence[np.ndarray | None]:
    """Returns the photo of each image, for labels of this shape (N, H, W); None of each if there are no photos."""
    if images is None:
        return [None] * shape[0]
    photos = np.asarray(to_array(images, name="images"))
    if photos.dtype != np.uint8 or photos.shape != (*shape, 3) or len(shape) != 3:
        expected = f"uint8 of shape {(*shape, 3)}"
        raise ValueError(f"images: expected {expected}, found {photos.dtype} of shape {photos.shape}.")
    return list(photos)


def read_spacings(spacing: ArrayLike, count: int, axes: int) -> list[tuple[float, ...]]:
    """Returns the spacing of each of N images in mm: one for all, (axes,), or a row an image, (N, axes)."""
    sizes = np.asarray(spacing, np.float64)
    if sizes.shape not in ((axes,), (count, axes)) or not (np.isfinite(sizes) & (sizes > 0)).all():
        expected = f"{axes} distances above 0 in mm, or a row of them an image"
        raise ValueError(f"spacing: expected {expected}, found {spacing!r}.")
    return [tuple(row) for row in np.broadcast_to(sizes, (count, axes)).tolist()]


def read_image_names(names: Sequence[str] | None, count: int, earlier: Sequence[str]) -> list[str]:
    """Returns the names of N images, by default their numbers, which follow those of the earlier images.

    Raises:
        ValueError: not N names, or one that is no line of text, or that an image has already.
    """
    if names is None:
        names = [str(number) for number in range(len(earlier), len(earlier) + count)]
    texts = [str(name) for name in names]
    if len(texts) != count:
        raise ValueError(f"names: expected {count}, one an image, found {len(texts)}.")
    check_texts("names", texts, blank=True)
    check_names("names", [*earlier, *texts])
    return texts
