"""The sufficient statistic of a segmentation and the maps drawn from it: pure kernels over logits and labels."""

from __future__ import annotations

import functools
import math
import operator
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from flipjax.metrics import checks
from flipjax.metrics.decomposition import Decomposition

# Here, where JAX is loaded: what reads stored counts does without it.
jax.tree_util.register_dataclass(Decomposition, data_fields=["confusion", "risk_sum"], meta_fields=["background"])

# Three counters of 10 bits share an int32, so at most 1,023 pixels are counted before they are unpacked.
_COUNTER_BITS = 10
_COUNTER_LIMIT = (1 << _COUNTER_BITS) - 1
# exp(-128) is zero in float32, and a finite limit keeps inf * 0 out of the entropy.
_LARGEST_GAP = 128.0


def decompose(
    logits: Any, labels: Any, *, background: int = 0, ignore_label: int | None = None, spatial_ndim: int = 2
) -> Decomposition:
    """Count truth against prediction in each image and sum the flip-risk over its predicted foreground, in one pass.

    A pixel is predicted as its largest logit, the first of equals. A NaN logit counts as the largest, as in
    ``numpy.argmax``, so the pixel is counted, and the ``risk_sum`` of its image is NaN. Logits may be -inf.
    Under jit or vmap the values of labels cannot be checked: a label outside 0..C-1 then counts nowhere.

    Args:
        logits: (..., *spatial, C) floating point of any precision, C >= 3; computed in float32.
            NumPy, JAX or PyTorch (CPU).
        labels: (..., *spatial) integers in 0..C-1, or ``ignore_label``.
        background: the class that is background.
        ignore_label: label of pixels that leave every count and the flip-risk; may lie outside 0..C-1.
        spatial_ndim: 2 for images, 3 for volumes.

    Returns:
        A ``Decomposition`` with leaves of shape (..., C, C) and (...).

    Raises:
        TypeError: logits that are not floating point, or labels that are not integers.
        ValueError: rank, shapes, C, background or label values that do not fit.

    Source: Achara et al., arXiv 2604.13326, foreground decomposition and flip-risk.

    Example:
        >>> import numpy as np
        >>> labels = np.array([[0, 1, 1, 2]])
        >>> predicted = np.array([[0, 1, 2, 0]])
        >>> result = decompose(np.eye(3, dtype=np.float32)[predicted], labels)
        >>> result.confusion.tolist()
        [[1, 0, 0], [0, 1, 1], [1, 0, 0]]
        >>> print(f"{result.correct:.3f} {result.flip:.3f} {result.miss:.3f}")
        0.333 0.333 0.333
    """
    logits = checks.check_logits(logits, background=background, spatial_ndim=spatial_ndim)
    labels = checks.check_labels(labels, logits, ignore_label=ignore_label, spatial_ndim=spatial_ndim)
    return _decompose(logits, labels, int(background), ignore_label, spatial_ndim)


def flip_risk(logits: Any, *, background: int = 0, spatial_ndim: int = 2) -> jax.Array:
    """Return each image's mean entropy of the foreground classes over its predicted foreground: it needs no labels.

    Without labels no pixel can be ignored. Where ``decompose`` is given an ``ignore_label``, its ``flip_risk`` leaves
    those pixels out and may differ from this one.

    Args:
        logits: (..., *spatial, C) floating point of any precision, C >= 3; computed in float32.
        background: the class that is background.
        spatial_ndim: 2 for images, 3 for volumes.

    Returns:
        (...) float32, nats, in 0..log(C - 1); NaN for an image without predicted foreground, or with a NaN logit.

    Raises:
        TypeError: logits that are not floating point.
        ValueError: rank, C or background that do not fit.

    Source: Achara et al., arXiv 2604.13326, flip-risk.

    Example:
        >>> import numpy as np
        >>> print(f"{flip_risk(np.array([[[0.0, 2.0, 2.0], [3.0, 1.0, 0.0]]])):.4f}")
        0.6931
    """
    logits = checks.check_logits(logits, background=background, spatial_ndim=spatial_ndim)
    return _flip_risk(logits, int(background), spatial_ndim)


def error_map(
    logits: Any, labels: Any, *, background: int = 0, ignore_label: int | None = None, spatial_ndim: int = 2
) -> jax.Array:
    """Say of each pixel what happened to it.

    Takes the arguments of ``decompose``, and raises what it raises.

    Returns:
        (..., *spatial) uint8: 0 background (rightly so, or ignored), 1 correct, 2 flip, 3 miss, 4 spill.

    Source: Achara et al., arXiv 2604.13326, foreground decomposition.

    Example:
        >>> import numpy as np
        >>> predicted = np.array([[0, 1, 2, 0, 1]])
        >>> error_map(np.eye(3, dtype=np.float32)[predicted], np.array([[0, 1, 1, 2, 0]])).tolist()
        [[0, 1, 2, 3, 4]]
    """
    logits = checks.check_logits(logits, background=background, spatial_ndim=spatial_ndim)
    labels = checks.check_labels(labels, logits, ignore_label=ignore_label, spatial_ndim=spatial_ndim)
    return _error_map(logits, labels, int(background), ignore_label)


def risk_map(logits: Any, *, background: int = 0, spatial_ndim: int = 2) -> jax.Array:
    """Return the entropy of the foreground classes at each pixel, whatever is predicted there.

    Takes the arguments of ``flip_risk``, which is the mean of this map over the predicted foreground, and raises what
    it raises.

    Returns:
        (..., *spatial) float32, nats, in 0..log(C - 1); NaN where a foreground logit is.

    Source: Achara et al., arXiv 2604.13326, flip-risk.

    Example:
        >>> import numpy as np
        >>> print(risk_map(np.array([[[0.0, 2.0, 2.0], [0.0, 99.0, -99.0]]])).round(4))
        [[0.6931 0.    ]]
    """
    logits = checks.check_logits(logits, background=background, spatial_ndim=spatial_ndim)
    return _risk_map(logits, int(background))


@functools.partial(jax.jit, static_argnums=(2, 3, 4))
def _decompose(
    logits: jax.Array, labels: jax.Array, background: int, ignore_label: int | None, spatial_ndim: int
) -> Decomposition:
    C = logits.shape[-1]
    logits, labels = _chunked(logits, spatial_ndim, 1), _chunked(labels, spatial_ndim, 0)
    channels = _channels(logits)
    labels = _counted_label(labels, C, ignore_label)
    prediction, top = _predict(channels)
    risk = jnp.where(labels < C, _predicted_risk(channels, prediction, top, background), 0.0)
    if C == 3:
        counts, risk_sum = _packed_counts(labels, prediction, risk)
    else:
        counts, risk_sum = _scattered_counts(labels, prediction, C), risk.sum(-1)
    return Decomposition(counts, risk_sum.sum(-1), background)


@functools.partial(jax.jit, static_argnums=(1, 2))
def _flip_risk(logits: jax.Array, background: int, spatial_ndim: int) -> jax.Array:
    channels = _channels(_chunked(logits, spatial_ndim, 1))
    prediction, top = _predict(channels)
    foreground = (prediction != background).astype(jnp.int32)
    count, risk_sum = _sum_together(foreground, _predicted_risk(channels, prediction, top, background))
    count = count.sum(-1, dtype=jnp.int32)
    return jnp.where(count > 0, risk_sum.sum(-1) / jnp.maximum(count, 1), jnp.nan)


@functools.partial(jax.jit, static_argnums=(2, 3))
def _error_map(logits: jax.Array, labels: jax.Array, background: int, ignore_label: int | None) -> jax.Array:
    C = logits.shape[-1]
    labels = _counted_label(labels, C, ignore_label)
    prediction, _ = _predict(_channels(logits))
    found = prediction != background
    on_foreground = jnp.where(labels == prediction, 1, jnp.where(found, 2, 3))
    code = jnp.where(labels == background, jnp.where(found, 4, 0), on_foreground)
    return jnp.where(labels < C, code, 0).astype(jnp.uint8)


@functools.partial(jax.jit, static_argnums=1)
def _risk_map(logits: jax.Array, background: int) -> jax.Array:
    return _entropy(_foreground(_channels(logits), background))


def _chunked(array: jax.Array, spatial_ndim: int, trailing: int) -> jax.Array:
    """Reshape the spatial axes to (chunks, pixels); a divisor of the number of pixels needs no padding, so no copy."""
    split = array.ndim - trailing
    lead, spatial, rest = (
        array.shape[: split - spatial_ndim],
        array.shape[split - spatial_ndim : split],
        array.shape[split:],
    )
    pixels = math.prod(spatial)
    chunk = next((k for k in range(min(pixels, _COUNTER_LIMIT), 0, -1) if pixels % k == 0), 1)
    return array.reshape(*lead, pixels // chunk, chunk, *rest)


def _channels(logits: jax.Array) -> list[jax.Array]:
    # Slices stay inside one XLA:CPU loop, where a reduction over the last axis would be a pass of its own.
    return [logits[..., c].astype(jnp.float32) for c in range(logits.shape[-1])]


def _foreground(channels: list[jax.Array], background: int) -> list[jax.Array]:
    return [channel for c, channel in enumerate(channels) if c != background]


def _counted_label(labels: jax.Array, classes: int, ignore_label: int | None) -> jax.Array:
    """Labels as int32, with ``classes`` for those that count nowhere."""
    labels = labels.astype(jnp.int32)
    counted = (labels >= 0) & (labels < classes)
    if ignore_label is not None:
        counted &= labels != ignore_label
    return jnp.where(counted, labels, classes)


def _predict(channels: list[jax.Array]) -> tuple[jax.Array, jax.Array]:
    """The index of the first largest channel and its value, which is NaN where any channel is."""
    top = functools.reduce(jnp.maximum, channels)
    prediction = jnp.full(top.shape, len(channels) - 1, jnp.int32)
    for c in reversed(range(len(channels) - 1)):
        prediction = jnp.where((channels[c] == top) | jnp.isnan(channels[c]), c, prediction)
    return prediction, top


def _predicted_risk(channels: list[jax.Array], prediction: jax.Array, top: jax.Array, background: int) -> jax.Array:
    """The entropy where foreground is predicted, 0 elsewhere, and NaN where a logit is."""
    elsewhere = jnp.where(jnp.isnan(top), jnp.nan, 0.0)
    return jnp.where(prediction != background, _entropy(_foreground(channels, background)), elsewhere)


def _entropy(channels: list[jax.Array]) -> jax.Array:
    """Entropy in nats of the softmax over the channels.

    With g the gaps to the largest channel, e = exp(-g), and r the sum of e without that channel's own 1:
    H = log(1 + r) + sum(g e) / (1 + r). For two channels, with difference d: log1p(exp(-|d|)) + |d| sigmoid(-|d|).
    """
    if len(channels) == 2:
        gap = jnp.minimum(jnp.abs(channels[0] - channels[1]), _LARGEST_GAP)
        rest = jnp.exp(-gap)
        weighted = gap * rest
    else:
        prediction, top = _predict(channels)
        gaps = [jnp.minimum(top - channel, _LARGEST_GAP) for channel in channels]
        terms = [jnp.exp(-gap) for gap in gaps]
        rest = sum(jnp.where(prediction == c, 0.0, term) for c, term in enumerate(terms))
        weighted = sum(gap * term for gap, term in zip(gaps, terms, strict=True))
    # A series where 1 + r would round r off: as precise as jnp.log1p, and cheaper on XLA:CPU.
    series = rest * (1.0 - rest * (1 / 2 - rest * (1 / 3 - rest / 4)))
    return jnp.where(rest < 1 / 64, series, jnp.log(1.0 + rest)) + weighted / (1.0 + rest)


def _sum_together(*terms: jax.Array) -> tuple[jax.Array, ...]:
    """Sum arrays over their last axis in one pass; separate sums are separate passes on XLA:CPU."""
    zeros = tuple(jnp.zeros((), term.dtype) for term in terms)
    return lax.reduce(terms, zeros, lambda left, right: tuple(map(operator.add, left, right)), (terms[0].ndim - 1,))


def _packed_counts(labels: jax.Array, prediction: jax.Array, risk: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Confusion (..., 3, 3) and the risk of each chunk: one int32 a true class, with a counter for each prediction."""
    one = jnp.left_shift(jnp.int32(1), _COUNTER_BITS * prediction)
    *words, risk_sum = _sum_together(*(jnp.where(labels == c, one, 0) for c in range(3)), risk)
    words = jnp.stack(words, axis=-2)
    counters = [(words >> (_COUNTER_BITS * p)) & _COUNTER_LIMIT for p in range(3)]
    return jnp.stack([counter.sum(-1, dtype=jnp.int32) for counter in counters], axis=-1), risk_sum


def _scattered_counts(labels: jax.Array, prediction: jax.Array, classes: int) -> jax.Array:
    """Confusion (..., C, C) by a scatter, whose cost does not grow with the number of classes."""
    lead = labels.shape[:-2]
    cells = (labels * classes + prediction).reshape(math.prod(lead), -1 if labels.size else 0)
    images = jnp.arange(len(cells))[:, None]
    counts = jnp.zeros((len(cells), classes * classes), jnp.int32).at[images, cells].add(1, mode="drop")
    return counts.reshape(*lead, classes, classes)
