"""Where in a region errors lie, in its rim or its interior, and whether the model is as sure of the class as right."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flipjax.metrics import checks, pixels
from flipjax.metrics.checks import to_array
from flipjax.metrics.classes import LabelSpec

SHARE = 24
"""The rim is as wide as the height of the image over this: two pixels of 48."""
BINS = 15
NOWHERE = -1
"""A label that counts nowhere."""


class RegionSums(NamedTuple):
    """Sums over each image's regions, leading axes (...); an axis of two is the rim, then the interior.

    true and flips int32 (..., 2): pixels of the true foreground, and those labelled as another foreground class.
    predicted int32 (..., 2) and risk float32 (..., 2): pixels of the predicted foreground, and the sum of their
    entropies in nats. shared int32 (...): pixels that are foreground in truth and prediction; gaps float32 (..., bins):
    the sum of their confidence less correctness, by bin of confidence.

    Example:
        >>> sums = RegionSums(true=np.array([4, 2]), flips=np.array([1, 2]), predicted=0, risk=0, shared=0, gaps=0)
        >>> (sums.flips / sums.true).tolist()
        [0.25, 1.0]
    """

    true: Any
    flips: Any
    predicted: Any
    risk: Any
    shared: Any
    gaps: Any


def rim(regions: Any, *, width: int | None = None, spatial_ndim: int = 2) -> jax.Array:
    """Returns the pixels of regions that lie within `width` pixels of what is outside, rows, columns or both.

    What lies beyond the image's border is not known, and so not outside.

    Args:
        regions: (..., *spatial) bool.
        width: in pixels; None: a 24th of the height, at least 1.
        spatial_ndim: 2 for images, 3 for volumes.

    Returns:
        (..., *spatial) bool.

    Raises:
        ValueError: a width below 1.

    Example:
        >>> rim(jnp.array([[0, 1, 1, 1, 1]], bool), width=1).astype(int).tolist()
        [[0, 1, 0, 0, 0]]
    """
    regions = jnp.asarray(to_array(regions, name="regions"), bool)
    return regions & _near(~regions, _width(width, regions.shape, spatial_ndim), spatial_ndim)


def region_sums(
    logits: Any,
    labels: Any,
    *,
    width: int | None = None,
    bins: int = BINS,
    **spec: Any,
) -> RegionSums:
    """Sums flips over the rim and the interior of the true region, flip-risk over those of the predicted one.

    A label that is wrong as a whole flips rim and interior alike; a boundary that is confused flips the rim. Beside it,
    the calibration of the class where the region is right: confidence is the largest softmax over the foreground
    classes, whose entropy is flip-risk, and correct a pixel with the right one of them.

    Args:
        logits: (..., *spatial, C) floating point of any precision, C >= 3; computed in float32.
        labels: (..., *spatial) integers in 0..C-1, or `ignore_index`.
        width: of the rim, as in `rim`.
        bins: number of bins of equal width over confidences of 0..1.
        **spec: fields of `LabelSpec`. Ignored pixels lie outside no region.

    Returns:
        `RegionSums`; `flipjax.results.images` makes shares and the expected calibration error of them.

    Raises:
        TypeError: logits that are not floating point, or labels that are not integers.
        ValueError: rank, shapes, C, background, width, bins or values that do not fit.

    Source: Guo et al., On calibration of modern neural networks, 2017, for the bins.

    Example:
        >>> import numpy as np
        >>> logits = np.log(np.array([[[0.8, 0.1, 0.1], [0.1, 0.6, 0.3], [0.1, 0.3, 0.6], [0.1, 0.3, 0.6]]]))
        >>> sums = region_sums(logits, np.array([[0, 1, 1, 2]]), width=1, bins=3)
        >>> sums.true.tolist(), sums.flips.tolist(), sums.shared.item(), sums.gaps.round(3).tolist()
        ([1, 2], [0, 1], 3, [0.0, 0.0, 0.0])
    """
    read = LabelSpec(**spec)
    scores, labels, _ = checks.check_pair(logits, labels, read, kinds=checks.SCORES)
    if bins < 1:
        raise ValueError(f"bins: expected a number above 0, found {bins}.")
    width = _width(width, labels.shape, read.spatial_ndim)
    if labels.size and checks.on_host(scores, labels):
        scores, labels = _padded(np.asarray(scores), np.asarray(labels), read)
    return _sums(jnp.asarray(scores), jnp.asarray(labels), read, width, bins)


def _padded(scores: np.ndarray, labels: np.ndarray, spec: LabelSpec) -> tuple[np.ndarray, np.ndarray]:
    """Fills images up to one of a few sizes, so that few are compiled, with pixels that count nowhere."""
    spatial = labels.shape[-spec.spatial_ndim :]
    steps = [2 ** max(3, (size - 1).bit_length() - 2) for size in spatial]
    more = [(0, -size % step) for size, step in zip(spatial, steps, strict=True)]
    lead = [(0, 0)] * (labels.ndim - spec.spatial_ndim)
    labels = np.pad(labels.astype(np.int32), [*lead, *more], constant_values=NOWHERE)
    return np.pad(scores, [*lead, *more, (0, 0)]), labels


# Heights share a program: the width of the rim is traced.
@functools.partial(jax.jit, static_argnums=(2, 4))
def _sums(scores: jax.Array, labels: jax.Array, spec: LabelSpec, width: Any, bins: int) -> RegionSums:
    background, ignore_index, spatial_ndim = spec.background_classes, spec.ignore_index, spec.spatial_ndim
    C = scores.shape[-1]
    counted = pixels.counted_label(labels, C, ignore_index) < C
    prediction, confidence, risk = pixels.read(scores, background, spec.kind)
    true = counted & pixels.is_foreground(labels, background)
    predicted = counted & pixels.is_foreground(prediction, background)
    shared = true & predicted
    wrong = shared & (prediction != labels)
    place = jnp.clip(jnp.ceil(confidence * bins).astype(jnp.int32) - 1, 0, bins - 1)
    true_rim = _near(counted & ~true, width, spatial_ndim)
    predicted_rim = _near(counted & ~predicted, width, spatial_ndim)
    halves = [true & true_rim, true & ~true_rim]
    risky = [predicted & predicted_rim, predicted & ~predicted_rim]
    counts = [*halves, *(wrong & half for half in halves), *risky, shared]
    values = [jnp.where(half, risk, 0) for half in risky]
    values += [jnp.where(shared & (place == b), confidence - ~wrong, 0) for b in range(bins)]
    # In one pass over the pixels, a row at a time: separate sums are separate passes on XLA:CPU.
    rows = pixels.sum_together(*(count.astype(jnp.int32) for count in counts), *values)
    sums = [row.sum(tuple(range(1 - spatial_ndim, 0))) for row in rows]
    true, flips, predicted, risk = (jnp.stack(sums[k : k + 2], axis=-1) for k in (0, 2, 4, 7))
    return RegionSums(true, flips, predicted, risk, sums[6], jnp.stack(sums[9:], axis=-1))


def _width(width: int | None, shape: tuple[int, ...], spatial_ndim: int) -> int:
    width = max(1, round(shape[-min(2, spatial_ndim)] / SHARE)) if width is None else width
    if width < 1:
        raise ValueError(f"width: expected a number of pixels above 0, found {width}.")
    return width


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
