"""Errors in the rim and the interior of regions, and calibration of the class inside them."""

from __future__ import annotations

import functools
from typing import NamedTuple, Unpack

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from flipjax.metrics import checks
from flipjax.metrics.classes import LabelOptions, LabelSpec
from flipjax.metrics.decomposition import RegionSums
from flipjax.metrics.host import Array
from flipjax.metrics.kernels import PixelMaps, read_pixels
from flipjax.metrics.pixels import counted_label, is_foreground, sum_together

SHARE = 24
"""The width of the rim is the height divided by this, and at least a pixel: two pixels of 48."""
BINS = 15
"""Bins of equal width over confidences of 0..1."""
NOWHERE = -1
"""A label that is not counted."""


def region_sums(logits: ArrayLike, labels: ArrayLike, **spec: Unpack[LabelOptions]) -> RegionSums:
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
    scores, truth, C = checks.check_pair(logits, labels, read, masks=False)
    return sum_regions(read_pixels(scores, read), truth, read, classes=C)


def sum_regions(maps: PixelMaps, labels: Array, spec: LabelSpec, *, classes: int) -> RegionSums:
    """Computes `region_sums` from the maps of its logits with `classes` classes."""
    width = max(1, round(labels.shape[-2] / SHARE))
    arrays: list[Array] = [labels, maps.prediction, maps.confidence, maps.risk]
    if labels.size and checks.on_host(*arrays):
        arrays = [*_padded([np.asarray(array) for array in arrays], spec.spatial_ndim)]
    return _sums(*arrays, width, spec=spec, classes=classes)


def _padded(arrays: list[np.ndarray], spatial_ndim: int) -> list[np.ndarray]:
    """Pads labels and maps to one of a few sizes, so that few programs compile, with pixels that are not counted."""
    labels = arrays[0].astype(np.int32)
    spatial = labels.shape[labels.ndim - spatial_ndim :]
    steps = [2 ** max(3, (size - 1).bit_length() - 2) for size in spatial]
    padding = [(0, 0)] * (labels.ndim - spatial_ndim)
    padding += [(0, -size % step) for size, step in zip(spatial, steps, strict=True)]
    return [np.pad(labels, padding, constant_values=NOWHERE), *(np.pad(array, padding) for array in arrays[1:])]


class _PixelValues(NamedTuple):
    """What `RegionSums` sums, at each pixel; lists stand for its last axes."""

    true: list[jax.Array]
    """Whether it is true foreground, in the rim and inside."""
    flips: list[jax.Array]
    """Whether it flips, there."""
    predicted: list[jax.Array]
    """Whether it is predicted foreground, in the rim and inside of the prediction."""
    risk: list[jax.Array]
    """Its entropy if it is, there."""
    shared: jax.Array
    """Whether it is foreground in truth and prediction."""
    gaps: list[jax.Array]
    """Its confidence minus correctness, in each bin of confidence."""


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
    true = counted & is_foreground(labels, background)
    predicted = counted & is_foreground(prediction, background)
    shared = true & predicted
    wrong = shared & (prediction != labels)
    bin_of = jnp.clip(jnp.ceil(confidence * BINS).astype(jnp.int32) - 1, 0, BINS - 1)
    true_rim = _near(counted & ~true, width, spatial_ndim)
    predicted_rim = _near(counted & ~predicted, width, spatial_ndim)
    of_true = [true & true_rim, true & ~true_rim]
    of_predicted = [predicted & predicted_rim, predicted & ~predicted_rim]
    values = _PixelValues(
        true=of_true,
        flips=[wrong & half for half in of_true],
        predicted=of_predicted,
        risk=[jnp.where(half, risk, 0) for half in of_predicted],
        shared=shared,
        gaps=[jnp.where(shared & (bin_of == b), confidence - ~wrong, 0) for b in range(BINS)],
    )
    leaves, structure = jax.tree.flatten(values)
    counts = [leaf.astype(jnp.int32) for leaf in leaves if leaf.dtype == bool]
    numbers = [leaf for leaf in leaves if leaf.dtype != bool]
    # One pass over the pixels, row by row; counts come first, which XLA:CPU sums faster.
    summed = sum_together(*counts, *numbers)
    of_counts = iter(summed[: len(counts)])
    of_numbers = iter(summed[len(counts) :])
    rows = []
    for leaf in leaves:
        if leaf.dtype == bool:
            rows.append(next(of_counts))
        else:
            rows.append(next(of_numbers))
    sums: _PixelValues = jax.tree.unflatten(structure, [row.sum(tuple(range(1 - spatial_ndim, 0))) for row in rows])
    return RegionSums(
        true=jnp.stack(sums.true, axis=-1),
        flips=jnp.stack(sums.flips, axis=-1),
        predicted=jnp.stack(sums.predicted, axis=-1),
        risk=jnp.stack(sums.risk, axis=-1),
        shared=sums.shared,
        gaps=jnp.stack(sums.gaps, axis=-1),
    )


def _near(outside: jax.Array, width: jax.Array, spatial_ndim: int) -> jax.Array:
    """Returns the pixels that lie within `width` pixels of `outside` along every axis."""

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
