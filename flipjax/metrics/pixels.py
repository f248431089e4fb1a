"""Jitted kernels over checked arrays: predictions, entropies and error types of pixels, and their sums."""

from __future__ import annotations

import functools
import itertools
import math
import operator
from collections.abc import Callable
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

# Up to this many classes the channels are unrolled into one loop of XLA:CPU; with more, a loop reads blocks of pixels,
# so that the program does not grow.
_UNROLLED = 192
_BLOCK_SCORES = 1 << 18
_PACKED = 8

Classes = tuple[int, ...]
Channels = list[jax.Array] | jax.Array
"""The logits of each class at all pixels, as a list; or the logits of one pixel, (C,)."""


def run(program: Callable[..., Any], *arrays: jax.Array, kept: int) -> Any:
    """Calls a program. On a mesh of Explicit axes its inside is Auto; outputs are sharded as the first `kept` axes."""
    sharding = jax.typeof(arrays[0]).sharding
    if jax.sharding.AxisType.Explicit not in sharding.mesh.axis_types:
        return program(*arrays)
    out = jax.NamedSharding(sharding.mesh, jax.P(*sharding.spec[:kept]))
    return jax.sharding.auto_axes(program, out_sharding=out)(*arrays)


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
    """Returns the confusion matrix (..., C, C) and the summed entropy (...) of each image; NaN for masks."""
    scores = _chunked(scores, spatial_ndim, 0 if kind == "masks" else 1)
    labels = _chunked(labels, spatial_ndim, 0)
    if kind == "masks":
        prediction, labels = _indices(scores, labels, classes, ignore_index)
        counts = _scattered_counts(labels, prediction, classes)
        return counts, jnp.full(counts.shape[:-2], jnp.nan, jnp.float32)
    labels = counted_label(labels, classes, ignore_index)
    prediction, risk = _per_pixel(lambda channels: _predicted_risk(channels, background), scores, kind)
    risk = jnp.where(labels < classes, risk, 0.0)
    if classes <= _PACKED:
        counts, risk_sum = _packed_counts(labels, prediction, risk, classes)
    else:
        # Without the barrier XLA computes the prediction anew for each index of the scatter.
        counts = _scattered_counts(labels, lax.optimization_barrier(prediction), classes)
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
    """Returns the number of `counted` pixels predicted as foreground (...) and their summed entropy.

    With `p` also the sums of the other scores of `logit_scores`, in their order.
    """

    def terms_of(channels: Channels) -> tuple[jax.Array, ...]:
        prediction, risk = _predicted_risk(channels, background)
        return prediction, risk, *([] if p is None else _other_scores(channels, kind, p))

    prediction, risk, *others = _per_pixel(terms_of, _chunked(scores, spatial_ndim, 1), kind)
    foreground = is_foreground(prediction, background)
    terms = [risk, *(jnp.where(foreground | jnp.isnan(risk), value, 0.0) for value in others)]
    if counted is not None:
        counted = _chunked(counted, spatial_ndim, 0)
        foreground = foreground & counted
        terms = [jnp.where(counted, term, 0.0) for term in terms]
    number, *sums = sum_together(foreground.astype(jnp.int32), *terms)
    return number.sum(-1, dtype=jnp.int32), *(each.sum(-1) for each in sums)


def _other_scores(channels: Channels, kind: str, p: int) -> list[jax.Array]:
    """Returns the scores of `logit_scores` other than the entropy, per pixel; NaN where a logit is NaN.

    With g the gaps to the largest channel and r the sum of exp(-g) without that channel's own 1, the largest
    probability is 1 / (1 + r), and the logits less their mean are mean(g) - g.
    """
    prediction, top = predict(channels)
    gaps = _gaps(channels, top)
    others = _each(lambda c, gap: jnp.where(prediction == c, 0.0, jnp.exp(-gap)), gaps)
    rest, centre = _add(others), _add(gaps) / len(gaps)
    distances = _each(lambda _, gap: jnp.abs(centre - gap), gaps)
    largest = jnp.maximum(_largest(distances), _SMALLEST)
    norm = largest * _add(_each(lambda _, distance: (distance / largest) ** p, distances)) ** (1 / p)
    scores = [
        rest / (1.0 + rest),
        (rest + _largest(others)) / (1.0 + rest),
        -(top + jnp.log1p(rest)) if kind == "logits" else jnp.full_like(top, jnp.nan),
        -centre / jnp.maximum(norm, _SMALLEST),
    ]
    return [jnp.where(jnp.isnan(top), jnp.nan, score) for score in scores]


@functools.partial(jax.jit, static_argnums=(2, 3, 4, 5))
def errors(
    scores: jax.Array, labels: jax.Array, classes: int, background: Classes, ignore_index: int | None, kind: str
) -> jax.Array:
    """Returns uint8 (..., *spatial): 0 true negative or not counted, 1 correct, 2 flip, 3 miss, 4 spill."""
    if kind == "masks":
        prediction, labels = _indices(scores, labels, classes, ignore_index)
    else:
        (prediction,) = _per_pixel(lambda channels: predict(channels)[:1], scores, kind)
        labels = counted_label(labels, classes, ignore_index)
    detected = is_foreground(prediction, background)
    on_foreground = jnp.where(labels == prediction, 1, jnp.where(detected, 2, 3))
    code = jnp.where(is_foreground(labels, background), on_foreground, jnp.where(detected, 4, 0))
    return jnp.where(labels < classes, code, 0).astype(jnp.uint8)


@functools.partial(jax.jit, static_argnums=(1, 2))
def risks(scores: jax.Array, background: Classes, kind: str) -> jax.Array:
    """Returns the entropy (..., *spatial) of the foreground classes at each pixel."""
    return _per_pixel(lambda channels: (_entropy(channels, background),), scores, kind)[0]


@functools.partial(jax.jit, static_argnums=(1, 2))
def read(scores: jax.Array, background: Classes, kind: str) -> tuple[jax.Array, ...]:
    """Returns prediction, largest softmax and entropy over the foreground, and largest softmax: (..., *spatial)."""

    def values(channels: Channels) -> tuple[jax.Array, ...]:
        prediction, top = predict(channels)
        inside = _foreground(channels, background)
        tops = ((inside, predict(inside)[1]), (channels, top))
        confidence, probability = (
            1 / _add(_each(lambda _, gap: jnp.exp(-gap), _gaps(each, largest))) for each, largest in tops
        )
        return prediction, confidence, _entropy(channels, background), probability

    return _per_pixel(values, scores, kind)


def is_foreground(indices: jax.Array, background: Classes) -> jax.Array:
    """Returns where class indices are foreground."""
    apart = [indices != b for b in background]
    return functools.reduce(jnp.logical_and, apart) if apart else jnp.ones(indices.shape, bool)


def _chunked(array: jax.Array, spatial_ndim: int, trailing: int) -> jax.Array:
    """Reshapes the spatial axes to (chunks, pixels), a divisor of their size, so that nothing is padded or copied."""
    split = array.ndim - trailing
    lead = array.shape[: split - spatial_ndim]
    spatial = array.shape[split - spatial_ndim : split]
    rest = array.shape[split:]
    pixels = math.prod(spatial)
    chunk = next((k for k in range(min(pixels, _COUNTER_LIMIT), 0, -1) if pixels % k == 0), 1)
    return array.reshape(*lead, pixels // chunk, chunk, *rest)


def _per_pixel(
    function: Callable[[Channels], tuple[jax.Array, ...]], scores: jax.Array, kind: str
) -> tuple[jax.Array, ...]:
    """Applies a function of channels to the pixels of scores (..., C)."""
    C = scores.shape[-1]
    if C <= _UNROLLED or not scores.size:
        # Slices stay inside one XLA:CPU loop, where a reduction over the last axis would be a pass of its own.
        return function(_logits([scores[..., c].astype(jnp.float32) for c in range(C)], kind))
    # A power of two, as are the blocks from outside jit.
    rows = max(1, 1 << (_BLOCK_SCORES // C).bit_length() - 1)
    each = lax.map(lambda row: function(_logits(row.astype(jnp.float32), kind)), scores.reshape(-1, C), batch_size=rows)
    return tuple(values.reshape(scores.shape[:-1]) for values in each)


def _logits(channels: Any, kind: str) -> Channels:
    """Returns logits unchanged, and logarithms of probabilities up to a constant per pixel."""
    if kind == "logits":
        return channels
    # Divided by the largest: probabilities that differ in the last bit could have equal logarithms.
    top = _largest(channels)
    return _each(lambda _, channel: jnp.log(jnp.maximum(channel, _SMALLEST) / top), channels)


def _each(function: Callable[[Any, jax.Array], jax.Array], channels: Channels) -> Channels:
    """Applies a function of index and value to each channel."""
    if isinstance(channels, list):
        return [function(c, channel) for c, channel in enumerate(channels)]
    return function(jnp.arange(len(channels)), channels)


def _add(channels: Channels) -> jax.Array:
    return functools.reduce(operator.add, channels) if isinstance(channels, list) else channels.sum()


def _largest(channels: Channels) -> jax.Array:
    """Returns the largest channel, NaN where any is NaN."""
    if isinstance(channels, list):
        return functools.reduce(jnp.maximum, channels)
    # A reduction of XLA:CPU ignores NaN.
    return jnp.where(jnp.isnan(channels).any(), jnp.nan, channels.max())


def _gaps(channels: Channels, top: jax.Array) -> Channels:
    """Returns the gap of each channel to the largest; 0 for equal channels, also infinite ones."""
    return _each(lambda _, z: jnp.minimum(jnp.where(z == top, 0.0, top - z), _LARGEST_GAP), channels)


def _foreground(channels: Channels, background: Classes) -> Channels:
    if isinstance(channels, list):
        return [channel for c, channel in enumerate(channels) if c not in background]
    ends = [-1, *background, len(channels)]
    return jnp.concatenate([channels[a + 1 : b] for a, b in itertools.pairwise(ends)])


def counted_label(labels: jax.Array, classes: int, ignore_index: int | None) -> jax.Array:
    """Returns labels as int32, with `classes` for those that are not counted."""
    if labels.dtype.itemsize > 4:
        # Before int32 could wrap them into 0..C-1.
        labels = jnp.where((labels >= 0) & (labels < classes), labels, -1)
    labels = labels.astype(jnp.int32)
    counted = (labels >= 0) & (labels < classes)
    if ignore_index is not None:
        counted &= labels != ignore_index
    return jnp.where(counted, labels, classes)


def _indices(
    prediction: jax.Array, labels: jax.Array, classes: int, ignore_index: int | None
) -> tuple[jax.Array, jax.Array]:
    """Returns class indices and labels as int32, with `classes` where either is invalid."""
    prediction = counted_label(prediction, classes, None)
    return prediction, jnp.where(prediction < classes, counted_label(labels, classes, ignore_index), classes)


def predict(channels: Channels) -> tuple[jax.Array, jax.Array]:
    """Returns the index of the first largest channel and its value, NaN where any channel is NaN."""
    top = _largest(channels)
    if not isinstance(channels, list):
        indices = jnp.arange(len(channels), dtype=jnp.float32)
        return jnp.where((channels == top) | jnp.isnan(channels), indices, jnp.inf).min().astype(jnp.int32), top
    prediction = jnp.full(top.shape, len(channels) - 1, jnp.int32)
    for c in reversed(range(len(channels) - 1)):
        prediction = jnp.where((channels[c] == top) | jnp.isnan(channels[c]), c, prediction)
    return prediction, top


def _predicted_risk(channels: Channels, background: Classes) -> tuple[jax.Array, jax.Array]:
    """Returns the prediction and the entropy: 0 where background is predicted, NaN where a logit is NaN."""
    prediction, top = predict(channels)
    elsewhere = jnp.where(jnp.isnan(top), jnp.nan, 0.0)
    return prediction, jnp.where(is_foreground(prediction, background), _entropy(channels, background), elsewhere)


def _entropy(channels: Channels, background: Classes) -> jax.Array:
    """Returns the entropy in nats of the softmax over the foreground channels.

    With g the gaps to the largest channel, e = exp(-g), and r the sum of e without that channel's own 1:
    H = log(1 + r) + sum(g e) / (1 + r). For two channels, with difference d: log1p(exp(-|d|)) + |d| sigmoid(-|d|).
    """
    channels = _foreground(channels, background)
    if len(channels) == 2:
        gap = jnp.where(channels[0] == channels[1], 0.0, jnp.abs(channels[0] - channels[1]))
        gap = jnp.minimum(gap, _LARGEST_GAP)
        rest = jnp.exp(-gap)
        weighted = gap * rest
    else:
        prediction, top = predict(channels)
        gaps = _gaps(channels, top)
        rest = _add(_each(lambda c, gap: jnp.where(prediction == c, 0.0, jnp.exp(-gap)), gaps))
        weighted = _add(_each(lambda _, gap: gap * jnp.exp(-gap), gaps))
    # A series where 1 + r would round r: as precise as jnp.log1p and cheaper on XLA:CPU.
    series = rest * (1.0 - rest * (1 / 2 - rest * (1 / 3 - rest / 4)))
    return jnp.where(rest < 1 / 64, series, jnp.log(1.0 + rest)) + weighted / (1.0 + rest)


@jax.custom_jvp
def sum_together(*terms: jax.Array) -> tuple[jax.Array, ...]:
    """Sums arrays over their last axis in one pass; XLA:CPU makes a pass for each separate sum."""
    zeros = tuple(jnp.zeros((), term.dtype) for term in terms)
    return lax.reduce(terms, zeros, lambda left, right: tuple(map(operator.add, left, right)), (terms[0].ndim - 1,))


@sum_together.defjvp
def _sum_tangents(terms: tuple[jax.Array, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
    # JAX cannot differentiate a joint reduction over integers and floats.
    sums = sum_together(*terms)
    changes = [
        tangent.sum(-1) if jnp.issubdtype(each.dtype, jnp.floating) else np.zeros(each.shape, jax.dtypes.float0)
        for each, tangent in zip(sums, tangents, strict=True)
    ]
    return sums, tuple(changes)


def _packed_counts(
    labels: jax.Array, prediction: jax.Array, risk: jax.Array, classes: int
) -> tuple[jax.Array, jax.Array]:
    """Counts each chunk into (..., C, C) and sums its risk in one pass; three counters share an int32."""
    # With three classes a word holds one true class, with more any three neighbours of the C * C.
    place = labels * classes + prediction
    word, counter = (labels, prediction) if classes == 3 else (place // 3, place % 3)
    one = jnp.left_shift(jnp.int32(1), _COUNTER_BITS * counter)
    number = -(-classes * classes // 3)
    *words, risk_sum = sum_together(*(jnp.where(word == w, one, 0) for w in range(number)), risk)
    packed = jnp.stack(words, axis=-1)
    counters = [(packed >> (_COUNTER_BITS * k)) & _COUNTER_LIMIT for k in range(3)]
    counts = jnp.stack([each.sum(-2, dtype=jnp.int32) for each in counters], axis=-1)
    counts = counts.reshape(*counts.shape[:-2], 3 * number)[..., : classes * classes]
    return counts.reshape(*counts.shape[:-1], classes, classes), risk_sum


def _scattered_counts(labels: jax.Array, prediction: jax.Array, classes: int) -> jax.Array:
    """Returns the confusion (..., C, C) by a scatter, whose cost does not depend on C."""
    lead = labels.shape[:-2]
    cells = (labels * classes + prediction).reshape(math.prod(lead), -1 if labels.size else 0)
    images = jnp.arange(len(cells))[:, None]
    counts = jnp.zeros((len(cells), classes * classes), jnp.int32).at[images, cells].add(1, mode="drop")
    return counts.reshape(*lead, classes, classes)
