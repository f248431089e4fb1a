"""Errors in the rim and the interior of regions, and calibration of the class inside them."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flipjax.metrics import checks, kernels
from flipjax.metrics.classes import LabelSpec
from flipjax.metrics.decomposition import RegionSums
from flipjax.metrics.kernels import PixelMaps, read_pixels

SHARE = 24
"""The width of the rim is the height divided by this, and at least a pixel: two pixels of 48."""
BINS = 15
"""Bins of equal width over confidences of 0..1."""
NOWHERE = -1
"""A label that is not counted."""


def region_sums(logits: Any, labels: Any, **spec: Any) -> RegionSums:
    """Sums flips over rim and interior of the true region, and flip-risk over those of the predicted region.

    The rim are the pixels of a region within 1/24 of the height (at least a pixel) of a pixel outside; the border of
    the image does not count as outside. A flipped object flips rim and interior alike; a confused boundary flips the
    rim only. Also sums the calibration gap where truth and prediction are foreground, in 15 bins. Confidence is the
    largest softmax over the foreground classes, and a pixel is correct if that class is the true one.

    Args:
        logits: (..., *spatial, C) floating point of any precision, C >= 3; computed in float32.
        labels: (..., *spatial) integers in 0..C-1, or `ignore_index`.
        **spec: fields of `LabelSpec`. Ignored pixels do not make a rim.

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
    read = LabelSpec(**spec)
    scores, labels, C = checks.check_pair(logits, labels, read, masks=False)
    return sum_regions(read_pixels(scores, read), labels, read, classes=C)


def sum_regions(maps: PixelMaps, labels: Any, spec: LabelSpec, *, classes: int) -> RegionSums:
    """Computes `region_sums` from the maps of its logits with `classes` classes."""
    width = max(1, round(labels.shape[-2] / SHARE))
    arrays = [labels, maps.prediction, maps.confidence, maps.risk]
    if labels.size and checks.on_host(*arrays):
        arrays = _padded([np.asarray(array) for array in arrays], spec.spatial_ndim)
    return _sums(*arrays, width, spec=spec, classes=classes)


def _padded(arrays: list[np.ndarray], spatial_ndim: int) -> list[np.ndarray]:
    """Pads labels and maps to one of a few sizes, so that few programs compile, with pixels that are not counted."""
    labels = arrays[0].astype(np.int32)
    spatial = labels.shape[labels.ndim - spatial_ndim :]
    steps = [2 ** max(3, (size - 1).bit_length() - 2) for size in spatial]
    more = [(0, 0)] * (labels.ndim - spatial_ndim)
    more += [(0, -size % step) for size, step in zip(spatial, steps, strict=True)]
    return [np.pad(labels, more, constant_values=NOWHERE), *(np.pad(array, more) for array in arrays[1:])]


# The width is traced, so that images of different heights share a program.
@functools.partial(jax.jit, static_argnames=("spec", "classes"))
def _sums(
    labels: Any, prediction: Any, confidence: Any, risk: Any, width: Any, *, spec: LabelSpec, classes: int
) -> RegionSums:
    background, spatial_ndim = spec.background_classes, spec.spatial_ndim
    counted = kernels.counted_label(labels, classes, spec.ignore_index) < classes
    true = counted & kernels.is_foreground(labels, background)
    predicted = counted & kernels.is_foreground(prediction, background)
    shared = true & predicted
    wrong = shared & (prediction != labels)
    place = jnp.clip(jnp.ceil(confidence * BINS).astype(jnp.int32) - 1, 0, BINS - 1)
    true_rim = _near(counted & ~true, width, spatial_ndim)
    predicted_rim = _near(counted & ~predicted, width, spatial_ndim)
    of_true = [true & true_rim, true & ~true_rim]
    of_predicted = [predicted & predicted_rim, predicted & ~predicted_rim]
    pixels = RegionSums(
        true=of_true,
        flips=[wrong & half for half in of_true],
        predicted=of_predicted,
        risk=[jnp.where(half, risk, 0) for half in of_predicted],
        shared=shared,
        gaps=[jnp.where(shared & (place == b), confidence - ~wrong, 0) for b in range(BINS)],
    )
    leaves, structure = jax.tree.flatten(pixels)
    counts = [leaf.astype(jnp.int32) for leaf in leaves if leaf.dtype == bool]
    values = [leaf for leaf in leaves if leaf.dtype != bool]
    # One pass over the pixels, row by row; counts come first, which XLA:CPU sums faster.
    summed = kernels.sum_together(*counts, *values)
    of_counts, of_values = iter(summed[: len(counts)]), iter(summed[len(counts) :])
    rows = [next(of_counts if leaf.dtype == bool else of_values) for leaf in leaves]
    sums = jax.tree.unflatten(structure, [row.sum(tuple(range(1 - spatial_ndim, 0))) for row in rows])
    return RegionSums(
        true=jnp.stack(sums.true, axis=-1),
        flips=jnp.stack(sums.flips, axis=-1),
        predicted=jnp.stack(sums.predicted, axis=-1),
        risk=jnp.stack(sums.risk, axis=-1),
        shared=sums.shared,
        gaps=jnp.stack(sums.gaps, axis=-1),
    )


def _near(outside: jax.Array, width: Any, spatial_ndim: int) -> jax.Array:
    """Returns the pixels that lie within `width` pixels of `outside` along every axis; `width` may be traced."""

    def grow(_: Any, near: jax.Array) -> jax.Array:
        for axis in range(near.ndim - spatial_ndim, near.ndim):
            size = near.shape[axis]
            padded = jnp.pad(near, [(1, 1) if a == axis else (0, 0) for a in range(near.ndim)])
            before, after = (jax.lax.slice_in_dim(padded, start, start + size, axis=axis) for start in (0, 2))
            near = before | near | after
        return near

    return jax.lax.fori_loop(0, width, grow, outside)
