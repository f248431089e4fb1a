"""Errors in the rim and the interior of regions, and calibration of the class inside them."""

from __future__ import annotations

import functools
from typing import Unpack

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from flipjax.metrics.decomposition import RegionSums
from flipjax.metrics.inputs import checks
from flipjax.metrics.inputs.classes import LabelOptions, LabelSpec
from flipjax.metrics.inputs.host import Array
from flipjax.metrics.kernels import PixelMaps, read_pixels
from flipjax.metrics.pixels.reductions import counted_label, sum_together, where_foreground

RIMS_OF_HEIGHT = 24
"""The width of the rim is the height divided by this, and at least a pixel: two pixels of 48."""
BINS = 15
"""Bins of equal width over confidences of 0..1, as in Guo et al., 2017."""
NO_LABEL = -1
"""The label of padding, which is not counted."""


def region_sums(logits: ArrayLike, labels: ArrayLike, **options: Unpack[LabelOptions]) -> RegionSums:
    """Sums flips over rim and interior of the true region, and flip-risk over those of the predicted region.

    The rim are the pixels of a region within 1/24 of the height (at least a pixel) of a pixel outside; the border of
    the image does not count as outside. A flipped object flips rim and interior alike; a confused boundary flips the
    rim only. Also sums the calibration gap where truth and prediction are foreground, in 15 bins. Confidence is the
    largest softmax over the foreground classes, and a pixel is correct if that class is the true one.

    Args:
        logits: (..., *spatial, C) floating point of any precision, C >= 3; computed in float32.
        labels: (..., *spatial) integers in 0..C-1, or `ignore_index`.
        **options: fields of `LabelSpec`. Ignored pixels do not make a rim.

    Returns:
        `RegionSums`; `flipjax.metrics.quantities` computes rates and the expected calibration error.

    Raises:
        TypeError: logits that are not floating point, or labels that are not integers.
        ValueError: rank, shapes, C, background or values that do not fit.

    Source: Guo et al., On calibration of modern neural networks, 2017, for the bins.

    Example:
        >>> import numpy as np
        >>> logits = np.log(np.array([[[0.8, 0.1, 0.1], [0.1, 0.6, 0.3], [0.1, 0.3, 0.6], [0.1, 0.3, 0.6]]]))
        >>> sums = region_sums(logits, np.array([[0, 1, 1, 2]]))
        >>> sums.true.tolist(), sums.flips.tolist(), sums.shared.item(), abs(sums.gaps).sum().round(3).item()
        ([1, 2], [0, 1], 3, 0.0)
    """
    spec = LabelSpec(**options)
    scores, truth, C = checks.check_pair(logits, labels, spec, allow_masks=False)
    return sum_regions(read_pixels(scores, spec), truth, spec, classes=C)


def sum_regions(maps: PixelMaps, labels: Array, spec: LabelSpec, *, classes: int) -> RegionSums:
    """Computes `region_sums` from the maps of its logits with `classes` classes."""
    width = max(1, round(labels.shape[-2] / RIMS_OF_HEIGHT))
    pixel_maps: list[Array] = [maps.prediction, maps.confidence, maps.risk]
    if labels.size and checks.on_host(labels, *pixel_maps):
        padding = _padding(labels.shape, spec.spatial_ndim)
        labels = np.pad(np.asarray(labels, np.int32), padding, constant_values=NO_LABEL)
        pixel_maps = [np.pad(np.asarray(of_pixels), padding) for of_pixels in pixel_maps]
    return _sums(labels, *pixel_maps, width, spec=spec, classes=classes)


def _padding(shape: tuple[int, ...], spatial_ndim: int) -> list[tuple[int, int]]:
    """Returns the pixels to add before and after each axis, so that images have few sizes and few programs compile."""
    padding = [(0, 0)] * (len(shape) - spatial_ndim)
    for size in shape[len(shape) - spatial_ndim :]:
        # Sizes become multiples of a quarter of the next power of two, at least of 8.
        step = 2 ** max(3, (size - 1).bit_length() - 2)
        padding.append((0, -size % step))
    return padding


# The width is traced, so that images of different heights share a program.
@functools.partial(jax.jit, static_argnames=("spec", "classes"))
def _sums(
    labels: jax.Array,
    prediction: jax.Array,
    confidence: jax.Array,
    risk: jax.Array,
    width: jax.Array,
    *,
    spec: LabelSpec,
    classes: int,
) -> RegionSums:
    """Computes `region_sums` from maps; `width` is that of the rim, in pixels."""
    background = spec.background_classes
    spatial_ndim = spec.spatial_ndim
    counted = counted_label(labels, classes, spec.ignore_index) < classes
    true = counted & where_foreground(labels, background)
    predicted = counted & where_foreground(prediction, background)
    shared = true & predicted
    wrong = shared & (prediction != labels)
    bin_of = jnp.clip(jnp.ceil(confidence * BINS).astype(jnp.int32) - 1, 0, BINS - 1)
    true_rim = _near(counted & ~true, width, spatial_ndim)
    predicted_rim = _near(counted & ~predicted, width, spatial_ndim)
    in_rim = true & true_rim
    inside = true & ~true_rim
    in_predicted_rim = predicted & predicted_rim
    inside_predicted = predicted & ~predicted_rim
    pixel_sets = {
        "true rim": in_rim,
        "true interior": inside,
        "flips of rim": wrong & in_rim,
        "flips of interior": wrong & inside,
        "predicted rim": in_predicted_rim,
        "predicted interior": inside_predicted,
        "shared": shared,
    }
    # Counts come first, because XLA:CPU sums them faster then.
    terms = {name: pixels.astype(jnp.int32) for name, pixels in pixel_sets.items()}
    terms["risk of rim"] = jnp.where(in_predicted_rim, risk, 0)
    terms["risk of interior"] = jnp.where(inside_predicted, risk, 0)
    gap = confidence - ~wrong
    for b in range(BINS):
        terms[f"gap {b}"] = jnp.where(shared & (bin_of == b), gap, 0)
    # One pass over the pixels, row by row; then the rows are added.
    sums_of_rows = dict(zip(terms, sum_together(*terms.values()), strict=True))
    sums = {name: of_rows.sum(tuple(range(1 - spatial_ndim, 0))) for name, of_rows in sums_of_rows.items()}
    return RegionSums(
        true=jnp.stack([sums["true rim"], sums["true interior"]], axis=-1),
        flips=jnp.stack([sums["flips of rim"], sums["flips of interior"]], axis=-1),
        predicted=jnp.stack([sums["predicted rim"], sums["predicted interior"]], axis=-1),
        risk=jnp.stack([sums["risk of rim"], sums["risk of interior"]], axis=-1),
        shared=sums["shared"],
        gaps=jnp.stack([sums[f"gap {b}"] for b in range(BINS)], axis=-1),
    )


def _near(outside: jax.Array, width: jax.Array, spatial_ndim: int) -> jax.Array:
    """Returns the pixels that lie within `width` pixels of `outside` along every axis, bool (..., *spatial)."""

    def grow(step: jax.Array, near: jax.Array) -> jax.Array:
        """Adds the neighbours along each axis."""
        for axis in range(near.ndim - spatial_ndim, near.ndim):
            size = near.shape[axis]
            padding = [(0, 0)] * near.ndim
            padding[axis] = (1, 1)
            padded = jnp.pad(near, padding)
            before = jax.lax.slice_in_dim(padded, 0, size, axis=axis)
            after = jax.lax.slice_in_dim(padded, 2, 2 + size, axis=axis)
            near = before | near | after
        return near

    return jax.lax.fori_loop(0, width, grow, outside)
