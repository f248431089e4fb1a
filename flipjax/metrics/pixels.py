"""What happens to each pixel, and the counts and sums of it: traced kernels over checked arrays."""

from __future__ import annotations

import functools
import math
import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

# Three counters of 10 bits share an int32, so at most 1,023 pixels are counted before they are unpacked.
_COUNTER_BITS = 10
_COUNTER_LIMIT = (1 << _COUNTER_BITS) - 1
# exp(-128) is zero in float32, and a finite limit keeps inf * 0 out of the entropy.
_LARGEST_GAP = 128.0
_SMALLEST = np.finfo(np.float32).tiny

Classes = tuple[int, ...]


@functools.partial(jax.jit, static_argnums=(2, 3, 4, 5, 6))
def count(
    scores: jax.Array,
    labels: jax.Array,
    classes: int,
    background: Classes,
    ignore_index: int | None,
    spatial_ndim: int,
    kind: str,
) -> tuple[jax.Array, jax.Array]:
    """Returns the confusion matrix (..., C, C) and the sum of entropies (...) of each image: NaN of class indices."""
    scores = _chunked(scores, spatial_ndim, 0 if kind == "masks" else 1)
    labels = _chunked(labels, spatial_ndim, 0)
    if kind == "masks":
        prediction, labels = _indices(scores, labels, classes, ignore_index)
        counts = _scattered_counts(labels, prediction, classes)
        return counts, jnp.full(counts.shape[:-2], jnp.nan, jnp.float32)
    channels = _channels(scores, kind)
    labels = counted_label(labels, classes, ignore_index)
    prediction, top = predict(channels)
    risk = jnp.where(labels < classes, _predicted_risk(channels, prediction, top, background), 0.0)
    if classes == 3:
        counts, risk_sum = _packed_counts(labels, prediction, risk)
    else:
        counts = _scattered_counts(labels, prediction, classes)
        risk_sum = risk.sum(-1)
    return counts, risk_sum.sum(-1)


@functools.partial(jax.jit, static_argnums=(2, 3, 4, 5))
def sum_scores(
    scores: jax.Array,
    counted: jax.Array | None,
    background: Classes,
    spatial_ndim: int,
    kind: str,
    p: int | None = None,
) -> tuple[jax.Array, ...]:
    """Returns how many of the `counted` pixels are predicted as foreground (...), and the sum of their entropies.

    With a `p`, the sums of the other scores of logits follow, in their order.
    """
    channels = _channels(_chunked(scores, spatial_ndim, 1), kind)
    prediction, top = predict(channels)
    foreground = is_foreground(prediction, background)
    terms = [_predicted_risk(channels, prediction, top, background)]
    if p is not None:
        values = _other_scores(channels, prediction, top, kind, p)
        terms += [jnp.where(jnp.isnan(top), jnp.nan, jnp.where(foreground, value, 0.0)) for value in values]
    if counted is not None:
        counted = _chunked(counted, spatial_ndim, 0)
        foreground = foreground & counted
        terms = [jnp.where(counted, term, 0.0) for term in terms]
    pixels, *sums = sum_together(foreground.astype(jnp.int32), *terms)
    return pixels.sum(-1, dtype=jnp.int32), *(each.sum(-1) for each in sums)


def _other_scores(
    channels: list[jax.Array], prediction: jax.Array, top: jax.Array, kind: str, p: int
) -> list[jax.Array]:
    """Returns the scores of each pixel that `logit_scores` has beside the entropy.

    With g the gaps to the largest channel and r the sum of exp(-g) without that channel's own 1, the largest
    probability is 1 / (1 + r), and the logits less their mean are mean(g) - g.
    """
    gaps = [jnp.minimum(jnp.where(channel == top, 0.0, top - channel), _LARGEST_GAP) for channel in channels]
    others = [jnp.where(prediction == c, 0.0, jnp.exp(-gap)) for c, gap in enumerate(gaps)]
    rest, centre = functools.reduce(operator.add, others), functools.reduce(operator.add, gaps) / len(gaps)
    distances = [jnp.abs(centre - gap) for gap in gaps]
    largest = jnp.maximum(functools.reduce(jnp.maximum, distances), _SMALLEST)
    norm = largest * sum((distance / largest) ** p for distance in distances) ** (1 / p)
    return [
        rest / (1.0 + rest),
        (rest + functools.reduce(jnp.maximum, others)) / (1.0 + rest),
        -(top + jnp.log1p(rest)) if kind == "logits" else jnp.full_like(top, jnp.nan),
        -centre / jnp.maximum(norm, _SMALLEST),
    ]


@functools.partial(jax.jit, static_argnums=(2, 3, 4, 5))
def errors(
    scores: jax.Array, labels: jax.Array, classes: int, background: Classes, ignore_index: int | None, kind: str
) -> jax.Array:
    """Returns uint8 (..., *spatial): 0 background or not counted, 1 correct, 2 flip, 3 miss, 4 spill."""
    if kind == "masks":
        prediction, labels = _indices(scores, labels, classes, ignore_index)
    else:
        prediction, _ = predict(_channels(scores, kind))
        labels = counted_label(labels, classes, ignore_index)
    detected = is_foreground(prediction, background)
    on_foreground = jnp.where(labels == prediction, 1, jnp.where(detected, 2, 3))
    code = jnp.where(is_foreground(labels, background), on_foreground, jnp.where(detected, 4, 0))
    return jnp.where(labels < classes, code, 0).astype(jnp.uint8)


@functools.partial(jax.jit, static_argnums=(1, 2))
def risks(scores: jax.Array, background: Classes, kind: str) -> jax.Array:
    """Returns the entropy (..., *spatial) of the foreground classes at each pixel."""
    return _entropy(_foreground(_channels(scores, kind), background))


def is_foreground(indices: jax.Array, background: Classes) -> jax.Array:
    """Returns where class indices are none of the background classes."""
    apart = [indices != b for b in background]
    return functools.reduce(jnp.logical_and, apart) if apart else jnp.ones(indices.shape, bool)


def _chunked(array: jax.Array, spatial_ndim: int, trailing: int) -> jax.Array:
    """Reshapes the spatial axes to (chunks, pixels); a divisor of the number of pixels needs no padding, so no copy."""
    split = array.ndim - trailing
    lead = array.shape[: split - spatial_ndim]
    spatial = array.shape[split - spatial_ndim : split]
    rest = array.shape[split:]
    pixels = math.prod(spatial)
    chunk = next((k for k in range(min(pixels, _COUNTER_LIMIT), 0, -1) if pixels % k == 0), 1)
    return array.reshape(*lead, pixels // chunk, chunk, *rest)


def _channels(scores: jax.Array, kind: str) -> list[jax.Array]:
    """Returns the logits of each class; for probabilities their logarithms, up to a constant at each pixel."""
    # Slices stay inside one XLA:CPU loop, where a reduction over the last axis would be a pass of its own.
    channels = [scores[..., c].astype(jnp.float32) for c in range(scores.shape[-1])]
    if kind == "logits":
        return channels
    # Over the largest: two probabilities that differ in their last bit could have equal logarithms.
    top = functools.reduce(jnp.maximum, channels)
    return [jnp.log(jnp.maximum(channel, _SMALLEST) / top) for channel in channels]


def _foreground(channels: list[jax.Array], background: Classes) -> list[jax.Array]:
    return [channel for c, channel in enumerate(channels) if c not in background]


def counted_label(labels: jax.Array, classes: int, ignore_index: int | None) -> jax.Array:
    """Returns labels as int32, with `classes` for those that count nowhere."""
    labels = labels.astype(jnp.int32)
    counted = (labels >= 0) & (labels < classes)
    if ignore_index is not None:
        counted &= labels != ignore_index
    return jnp.where(counted, labels, classes)


def _indices(
    prediction: jax.Array, labels: jax.Array, classes: int, ignore_index: int | None
) -> tuple[jax.Array, jax.Array]:
    """Returns class indices and labels as int32: `classes` for an index that is none, and for a label beside one."""
    prediction = counted_label(prediction, classes, None)
    return prediction, jnp.where(prediction < classes, counted_label(labels, classes, ignore_index), classes)


def predict(channels: list[jax.Array]) -> tuple[jax.Array, jax.Array]:
    """Returns the index of the first largest channel and its value, which is NaN where any channel is."""
    top = functools.reduce(jnp.maximum, channels)
    prediction = jnp.full(top.shape, len(channels) - 1, jnp.int32)
    for c in reversed(range(len(channels) - 1)):
        prediction = jnp.where((channels[c] == top) | jnp.isnan(channels[c]), c, prediction)
    return prediction, top


def _predicted_risk(channels: list[jax.Array], prediction: jax.Array, top: jax.Array, background: Classes) -> jax.Array:
    """Returns the entropy where foreground is predicted, 0 elsewhere, and NaN where a logit is."""
    elsewhere = jnp.where(jnp.isnan(top), jnp.nan, 0.0)
    return jnp.where(is_foreground(prediction, background), _entropy(_foreground(channels, background)), elsewhere)


def _entropy(channels: list[jax.Array]) -> jax.Array:
    """Returns the entropy in nats of the softmax over the channels.

    With g the gaps to the largest channel, e = exp(-g), and r the sum of e without that channel's own 1:
    H = log(1 + r) + sum(g e) / (1 + r). Equal channels have no gap, infinite ones neither.
    For two channels, with difference d: log1p(exp(-|d|)) + |d| sigmoid(-|d|).
    """
    if len(channels) == 2:
        gap = jnp.where(channels[0] == channels[1], 0.0, jnp.abs(channels[0] - channels[1]))
        gap = jnp.minimum(gap, _LARGEST_GAP)
        rest = jnp.exp(-gap)
        weighted = gap * rest
    else:
        prediction, top = predict(channels)
        gaps = [jnp.minimum(jnp.where(channel == top, 0.0, top - channel), _LARGEST_GAP) for channel in channels]
        terms = [jnp.exp(-gap) for gap in gaps]
        rest = sum(jnp.where(prediction == c, 0.0, term) for c, term in enumerate(terms))
        weighted = sum(gap * term for gap, term in zip(gaps, terms, strict=True))
    # A series where 1 + r would round r off: as precise as jnp.log1p, and cheaper on XLA:CPU.
    series = rest * (1.0 - rest * (1 / 2 - rest * (1 / 3 - rest / 4)))
    return jnp.where(rest < 1 / 64, series, jnp.log(1.0 + rest)) + weighted / (1.0 + rest)


@jax.custom_jvp
def sum_together(*terms: jax.Array) -> tuple[jax.Array, ...]:
    """Sums arrays over their last axis in one pass; separate sums are separate passes on XLA:CPU."""
    zeros = tuple(jnp.zeros((), term.dtype) for term in terms)
    return lax.reduce(terms, zeros, lambda left, right: tuple(map(operator.add, left, right)), (terms[0].ndim - 1,))


@sum_together.defjvp
def _sum_tangents(terms: tuple[jax.Array, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
    # JAX has no derivative of a reduction over counts and sums at once; counts have none.
    sums = sum_together(*terms)
    changes = [
        tangent.sum(-1) if jnp.issubdtype(each.dtype, jnp.floating) else np.zeros(each.shape, jax.dtypes.float0)
        for each, tangent in zip(sums, tangents, strict=True)
    ]
    return sums, tuple(changes)


def _packed_counts(labels: jax.Array, prediction: jax.Array, risk: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Counts each chunk, (..., 3, 3), and sums its risk: one int32 a true class, with a counter for each prediction."""
    one = jnp.left_shift(jnp.int32(1), _COUNTER_BITS * prediction)
    *words, risk_sum = sum_together(*(jnp.where(labels == c, one, 0) for c in range(3)), risk)
    words = jnp.stack(words, axis=-2)
    counters = [(words >> (_COUNTER_BITS * p)) & _COUNTER_LIMIT for p in range(3)]
    return jnp.stack([counter.sum(-1, dtype=jnp.int32) for counter in counters], axis=-1), risk_sum


def _scattered_counts(labels: jax.Array, prediction: jax.Array, classes: int) -> jax.Array:
    """Returns the confusion (..., C, C) by a scatter, whose cost does not grow with the number of classes."""
    lead = labels.shape[:-2]
    cells = (labels * classes + prediction).reshape(math.prod(lead), -1 if labels.size else 0)
    images = jnp.arange(len(cells))[:, None]
    counts = jnp.zeros((len(cells), classes * classes), jnp.int32).at[images, cells].add(1, mode="drop")
    return counts.reshape(*lead, classes, classes)
