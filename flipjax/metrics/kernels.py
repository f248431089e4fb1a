"""Kernels over logits and labels: `decompose`, `flip_risk`, `error_map`, `risk_map` and `logit_scores`.

Jitted functions of whole arrays come first, then the public functions, which check their arrays and cut host arrays
into blocks.
"""

from __future__ import annotations

import functools
import itertools
import math
import operator
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from flipjax.metrics import checks
from flipjax.metrics.blocks import cut, of_windows
from flipjax.metrics.checks import on_host
from flipjax.metrics.classes import Background, LabelSpec
from flipjax.metrics.decomposition import Decomposition, divide

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


@partial(jax.jit, static_argnames=("spec", "classes"))
def count_pixels(scores: jax.Array, labels: jax.Array, *, spec: LabelSpec, classes: int) -> tuple[jax.Array, jax.Array]:
    """Returns the confusion matrix (..., C, C) and the summed entropy (...) of each image; NaN for masks."""
    scores = _chunked(scores, spec.spatial_ndim, 0 if spec.kind == "masks" else 1)
    labels = _chunked(labels, spec.spatial_ndim, 0)
    if spec.kind == "masks":
        prediction, labels = _indices(scores, labels, classes, spec.ignore_index)
        counts = _scattered_counts(labels, prediction, classes)
        return counts, jnp.full(counts.shape[:-2], jnp.nan, jnp.float32)
    labels = counted_label(labels, classes, spec.ignore_index)
    predicted_risk = partial(_predicted_risk, background=spec.background_classes)
    prediction, risk = _per_pixel(predicted_risk, scores, spec.kind)
    risk = jnp.where(labels < classes, risk, 0.0)
    if classes <= _PACKED:
        counts, risk_sum = _packed_counts(labels, prediction, risk, classes)
    else:
        # Without the barrier XLA computes the prediction anew for each index of the scatter.
        counts = _scattered_counts(labels, lax.optimization_barrier(prediction), classes)
        risk_sum = risk.sum(-1)
    return counts, risk_sum.sum(-1)


@partial(jax.jit, static_argnames=("spec", "p"))
def sum_scores(
    scores: jax.Array, counted: jax.Array | None = None, *, spec: LabelSpec, p: int | None = None
) -> tuple[jax.Array, ...]:
    """Returns the number of `counted` pixels predicted as foreground (...) and their summed entropy.

    With `p`, appends the sums of the other scores of `logit_scores`, in order.
    """

    def terms_of(channels: Channels) -> tuple[jax.Array, ...]:
        prediction, risk = _predicted_risk(channels, spec.background_classes)
        return prediction, risk, *([] if p is None else _other_scores(channels, spec.kind, p))

    prediction, risk, *others = _per_pixel(terms_of, _chunked(scores, spec.spatial_ndim, 1), spec.kind)
    foreground = is_foreground(prediction, spec.background_classes)
    terms = [risk, *(jnp.where(foreground | jnp.isnan(risk), value, 0.0) for value in others)]
    if counted is not None:
        counted = _chunked(counted, spec.spatial_ndim, 0)
        foreground = foreground & counted
        terms = [jnp.where(counted, term, 0.0) for term in terms]
    number, *sums = sum_together(foreground.astype(jnp.int32), *terms)
    return number.sum(-1, dtype=jnp.int32), *(each.sum(-1) for each in sums)


def _other_scores(channels: Channels, kind: str, p: int) -> list[jax.Array]:
    """Returns the scores of `logit_scores` other than the entropy, per pixel; NaN where a logit is NaN.

    Let g be the gaps to the largest channel and r the sum of exp(-g) over the other channels. Then the largest
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


@partial(jax.jit, static_argnames="background")
def mean_entropy(scores: jax.Array, *, background: Classes) -> tuple[jax.Array, ...]:
    """Returns the prediction of the first of two logits (..., 2 C), and the entropy of the mean of their softmax.

    Both are (...); the softmax is over the foreground classes.
    """

    def values(channels: Channels) -> tuple[jax.Array, jax.Array]:
        halves = channels[: len(channels) // 2], channels[len(channels) // 2 :]
        first, second = (_softmax(_foreground(half, background)) for half in halves)
        mean = _each(lambda c, share: (share + second[c]) / 2, first)
        logs = _each(lambda _, share: share * jnp.log(jnp.maximum(share, _SMALLEST)), mean)
        return predict(halves[0])[0], -_add(logs)

    return _per_pixel(values, scores, "logits")


@partial(jax.jit, static_argnames=("spec", "classes"))
def find_errors(scores: jax.Array, labels: jax.Array, *, spec: LabelSpec, classes: int) -> tuple[jax.Array]:
    """Returns uint8 (..., *spatial): 0 true negative or not counted, 1 correct, 2 flip, 3 miss, 4 spill."""
    if spec.kind == "masks":
        prediction, labels = _indices(scores, labels, classes, spec.ignore_index)
    else:
        (prediction,) = _per_pixel(lambda channels: predict(channels)[:1], scores, spec.kind)
        labels = counted_label(labels, classes, spec.ignore_index)
    detected = is_foreground(prediction, spec.background_classes)
    on_foreground = jnp.where(labels == prediction, 1, jnp.where(detected, 2, 3))
    code = jnp.where(is_foreground(labels, spec.background_classes), on_foreground, jnp.where(detected, 4, 0))
    return (jnp.where(labels < classes, code, 0).astype(jnp.uint8),)


@partial(jax.jit, static_argnames="spec")
def map_pixels(scores: jax.Array, *, spec: LabelSpec) -> tuple[jax.Array, ...]:
    """Returns prediction, largest softmax and entropy over the foreground, and largest softmax: (..., *spatial)."""

    def values(channels: Channels) -> tuple[jax.Array, ...]:
        prediction, top = predict(channels)
        inside = _foreground(channels, spec.background_classes)
        tops = ((inside, _largest(inside)), (channels, top))
        confidence, probability = (
            1 / _add(_each(lambda _, gap: jnp.exp(-gap), _gaps(each, largest))) for each, largest in tops
        )
        return prediction, confidence, _entropy(channels, spec.background_classes), probability

    return _per_pixel(values, scores, spec.kind)


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


def _per_pixel(function: Callable[[Channels], Any], scores: jax.Array, kind: str) -> tuple[jax.Array, ...]:
    """Applies a function of channels to the pixels of scores (..., C)."""
    C = scores.shape[-1]
    if C <= _UNROLLED or not scores.size:
        # XLA:CPU fuses slices into one loop; a reduction over the last axis would be a separate pass.
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


def _softmax(channels: Channels) -> Channels:
    shares = _each(lambda _, gap: jnp.exp(-gap), _gaps(channels, _largest(channels)))
    total = _add(shares)
    return _each(lambda _, share: share / total, shares)


def _foreground(channels: Channels, background: Classes) -> Channels:
    if isinstance(channels, list):
        return [channel for c, channel in enumerate(channels) if c not in background]
    ends = [-1, *sorted(background), len(channels)]
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


def _indices(prediction: jax.Array, labels: jax.Array, classes: int, ignore_index: int | None) -> tuple[jax.Array, ...]:
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

    Let g be the gaps to the largest channel, e = exp(-g), and r the sum of e over the other channels. Then
    H = log(1 + r) + sum(g e) / (1 + r). For two channels, with difference d: log1p(exp(-|d|)) + |d| sigmoid(-|d|).
    """
    channels = _foreground(channels, background)
    if len(channels) == 2:
        gap = jnp.where(channels[0] == channels[1], 0.0, jnp.abs(channels[0] - channels[1]))
        gap = jnp.minimum(gap, _LARGEST_GAP)
        rest = jnp.exp(-gap)
        weighted = gap * rest
    else:
        gaps = _gaps(channels, _largest(channels))
        # Counting the largest avoids a prediction, which makes XLA:CPU six times slower at 150 classes (JAX 0.10.2).
        largest = _add(_each(lambda _, gap: jnp.where(gap == 0.0, 1.0, 0.0), gaps))
        rest = _add(_each(lambda _, gap: jnp.where(gap == 0.0, 0.0, jnp.exp(-gap)), gaps)) + (largest - 1.0)
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


def _packed_counts(labels: jax.Array, prediction: jax.Array, risk: jax.Array, classes: int) -> tuple[jax.Array, ...]:
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
    entries = (labels * classes + prediction).reshape(math.prod(lead), -1 if labels.size else 0)
    images = jnp.arange(len(entries))[:, None]
    counts = jnp.zeros((len(entries), classes * classes), jnp.int32).at[images, entries].add(1, mode="drop")
    return counts.reshape(*lead, classes, classes)


LOGIT_SCORES = ("flip_risk", "max_softmax", "margin", "energy", "p_norm")
NORM = 5
"""Exponent of the p-norm score, which its authors tune on labelled images."""

# Registered here because `decomposition` does not import JAX.
jax.tree_util.register_dataclass(Decomposition, data_fields=["confusion", "risk_sum"], meta_fields=["background"])


def decompose(
    logits: Any,
    labels: Any,
    *,
    background: Background = 0,
    ignore_index: int | None = None,
    spatial_ndim: int = 2,
    kind: str = "logits",
    channels: str = "last",
    num_classes: int | None = None,
) -> Decomposition:
    """Computes the confusion matrix and the summed flip-risk of each image in one pass over the logits.

    The prediction is the first largest logit. NaN counts as the largest, as in `numpy.argmax`, and makes the `risk_sum`
    of its image NaN. Infinite logits are valid. Logits below 1.2e-38, subnormal in float32, count as 0.
    Under jit or vmap label values are not checked: labels outside 0..C-1 are then not counted.
    Outside jit, host arrays are padded to a few block sizes, so that new image sizes compile nothing. Counts are exact;
    only the rounding of `risk_sum` depends on the blocks.

    Args:
        logits: (..., *spatial, C) floating point of any precision, with two classes or more beside the background;
            computed in float32. NumPy, JAX or PyTorch (CPU). For `kind="masks"` class indices (..., *spatial).
        labels: (..., *spatial) integers in 0..C-1, or `ignore_index`.
        background: the background class, a tuple of them, or None: then there is no miss or spill, and flip-risk is
            over all pixels.
        ignore_index: label of pixels to leave out of all counts and of flip-risk; may lie outside 0..C-1.
        spatial_ndim: 2 for images, 3 for volumes.
        kind: `logits`; `probabilities`, a softmax over all classes; or `masks`, whose `risk_sum` is NaN.
        channels: `last`, or `first` for (..., C, *spatial), as in PyTorch.
        num_classes: C of masks; None: one more than the largest class.

    Returns:
        A `Decomposition` with leaves of shape (..., C, C) and (...).

    Raises:
        TypeError: logits that are not floating point, or labels that are not integers.
        ValueError: invalid rank, shape, C, background or values.

    Warns:
        UserWarning: logits that look like probabilities; outside jit.

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
        >>> decompose(predicted, labels, kind="masks").confusion.tolist() == result.confusion.tolist()
        True
    """
    spec = LabelSpec(background, ignore_index, spatial_ndim, kind, channels, num_classes)
    scores, labels, C = checks.check_pair(logits, labels, spec)
    counts, sums = _apply(count_pixels, scores, labels, spec, width=C, classes=C)
    return Decomposition(jnp.asarray(counts), jnp.asarray(sums.astype(np.float32)), spec.background)


def flip_risk(logits: Any, **spec: Any) -> jax.Array:
    """Computes the mean entropy of the foreground classes over the predicted foreground of each image, without labels.

    `Decomposition.flip_risk` differs where `ignore_index` leaves pixels out.

    Args:
        logits: (..., *spatial, C) floating point of any precision; computed in float32.
        **spec: `background`, `spatial_ndim`, `kind` and `channels` of `LabelSpec`.

    Returns:
        (...) float32, nats, in 0..log F of F foreground classes; NaN for an image without predicted foreground,
            or with a NaN logit.

    Raises:
        TypeError: logits that are not floating point.
        ValueError: rank, C, background or values that do not fit.

    Source: Achara et al., arXiv 2604.13326, flip-risk.

    Example:
        >>> import numpy as np
        >>> print(f"{flip_risk(np.array([[[0.0, 2.0, 2.0], [3.0, 1.0, 0.0]]])):.4f}")
        0.6931
    """
    read = LabelSpec(**spec)
    scores = checks.check_scores(logits, read, guess_channels="channels" not in spec)
    return foreground_means(scores, read)[0]


def error_map(logits: Any, labels: Any, **spec: Any) -> jax.Array:
    """Computes the error type of each pixel.

    Takes the arguments of `decompose` and raises the same errors.

    Returns:
        (..., *spatial) uint8: 0 true negative or ignored, 1 correct, 2 flip, 3 miss, 4 spill.

    Source: Achara et al., arXiv 2604.13326, foreground decomposition.

    Example:
        >>> import numpy as np
        >>> predicted = np.array([[0, 1, 2, 0, 1]])
        >>> error_map(np.eye(3, dtype=np.float32)[predicted], np.array([[0, 1, 1, 2, 0]])).tolist()
        [[0, 1, 2, 3, 4]]
    """
    read = LabelSpec(**spec)
    scores, labels, C = checks.check_pair(logits, labels, read)
    (codes,) = _apply(find_errors, scores, labels, read, width=C, maps=True, classes=C)
    # Unlike `jnp.asarray`, compiles nothing for a new shape.
    return jax.device_put(codes)


def risk_map(logits: Any, **spec: Any) -> jax.Array:
    """Computes the entropy of the foreground classes at each pixel.

    Takes the arguments of `flip_risk`, which is the mean of this map over the predicted foreground, and raises the same
    errors.

    Returns:
        (..., *spatial) float32, nats, in 0..log F of F foreground classes; NaN where a foreground logit is.

    Source: Achara et al., arXiv 2604.13326, flip-risk.

    Example:
        >>> import numpy as np
        >>> print(risk_map(np.array([[[0.0, 2.0, 2.0], [0.0, 99.0, -99.0]]])).round(4))
        [[0.6931 0.    ]]
    """
    read = LabelSpec(**spec)
    scores = checks.check_scores(logits, read, guess_channels="channels" not in spec)
    return jax.device_put(read_pixels(scores, read).risk)


class PixelMaps(NamedTuple):
    """Maps (..., *spatial): prediction int32; confidence and entropy over the foreground classes; largest softmax."""

    prediction: Any
    confidence: Any
    risk: Any
    probability: Any


def read_pixels(scores: Any, spec: LabelSpec) -> PixelMaps:
    """Reduces checked scores (..., *spatial, C) to maps in one pass, to NumPy arrays if they are on the host."""
    return PixelMaps(*_apply(map_pixels, scores, None, spec, width=scores.shape[-1], maps=True))


def logit_scores(logits: Any, *, p: int = NORM, **spec: Any) -> dict[str, jax.Array]:
    """Computes label-free scores of each image, means over its predicted foreground; high scores predict errors.

    - `flip_risk`: the entropy of the foreground classes, as `flipjax.metrics.flip_risk`.
    - `max_softmax`: 1 less the largest probability, over all classes (Hendrycks and Gimpel, arXiv 1610.02136).
    - `margin`: 1 less the gap between the two largest probabilities (Scheffer et al., 2001).
    - `energy`: minus the logarithm of the summed exponentials (Liu et al., arXiv 2010.03759); NaN for probabilities.
    - `p_norm`: minus the largest logit over the p-norm of all, the logits less their mean (Cattelan and Silva, arXiv
      2305.15508).

    Args:
        logits: (..., *spatial, C) floating point of any precision; computed in float32.
        p: of the norm, an integer above 0.
        **spec: `background`, `spatial_ndim`, `kind` and `channels` of `LabelSpec`.

    Returns:
        (...) float32 by name; NaN for an image without predicted foreground, or with a NaN logit. Gaps between logits
        above 128 count as 128.

    Raises:
        TypeError: logits that are not floating point.
        ValueError: rank, C, background, p or values that do not fit.

    Example:
        >>> import numpy as np
        >>> scores = logit_scores(np.log(np.array([[[0.2, 0.5, 0.3], [0.9, 0.05, 0.05]]])))
        >>> {name: round(score.item(), 3) for name, score in scores.items()}
        {'flip_risk': 0.662, 'max_softmax': 0.5, 'margin': 0.8, 'energy': 0.0, 'p_norm': -0.901}
    """
    read = LabelSpec(**spec)
    scores = checks.check_scores(logits, read, guess_channels="channels" not in spec)
    if not isinstance(p, int) or p < 1:
        raise ValueError(f"p: expected an integer above 0, found {p!r}.")
    return dict(zip(LOGIT_SCORES, foreground_means(scores, read, p=p), strict=True))


def foreground_means(scores: Any, spec: LabelSpec, *, p: int | None = None) -> list[jax.Array]:
    """Returns means (...) over the predicted foreground, NaN if none: of the entropy, with a `p` of all scores."""
    count, *sums = _apply(sum_scores, scores, None, spec, width=scores.shape[-1], p=p)
    return [jnp.asarray(divide(total, count), jnp.float32) for total in sums]


def _apply(
    program: Callable[..., Any],
    scores: Any,
    labels: Any,
    spec: LabelSpec,
    *,
    width: int,
    maps: bool = False,
    **options: int | None,
) -> Any:
    """Applies a program to predictions and labels, if any: at once, or if they are on the host, block by block.

    Args:
        program: of arrays (images, *spatial, ...).
        scores: checked predictions.
        labels: checked labels, or None.
        spec: of both.
        width: C.
        maps: whether the program returns maps (..., *spatial), not sums over the pixels of each image (...).
        **options: of the program, as is `spec`.

    Returns:
        The outputs of the program; of host arrays NumPy arrays, sums as int32 and float64.
    """
    given = [scores] if labels is None else [scores, labels]
    shape = scores.shape if spec.kind == "masks" else scores.shape[:-1]
    lead = len(shape) - spec.spatial_ndim
    images, pixels = math.prod(shape[:lead]), math.prod(shape[lead:])
    if not images or not on_host(*given):
        whole = partial(program, spec=spec, **options)
        return run(whole, *map(jnp.asarray, given), kept=len(shape) if maps else lead)
    arrays = [np.asarray(each) for each in given]
    if labels is not None and np.iinfo(arrays[1].dtype).max < width:
        arrays[1] = arrays[1].astype(np.int32)
    if labels is None and not maps:
        arrays.append(np.broadcast_to(np.True_, shape))
    totals: list[np.ndarray] = []
    with jax.ensure_compile_time_eval():
        # Of 9 to 15 channels XLA vectorises the reads only from a constant place, of more it copies the block.
        constant = _PACKED < width < 16 and spec.kind != "masks"
        shapes, blocks = cut(arrays, spatial_ndim=spec.spatial_ndim, lead=lead, width=width, constant=constant)
        on_block = of_windows(program, shapes, constant=constant, spec=spec, **options)
        begun = ((place, new, on_block(*windows)) for place, new, windows in blocks)
        outputs: Iterator[Any] = itertools.chain(begun, [None])
        # In pairs, so that a block is computed while the one before it is read.
        for ((rows, columns), new, parts), _ in itertools.pairwise(outputs):
            parts = [np.asarray(part)[: rows.stop - rows.start] for part in parts]
            if maps:
                totals = totals or [np.empty((images, pixels), part.dtype) for part in parts]
                for total, part in zip(totals, parts, strict=True):
                    here = total[rows, columns]
                    here[new] = part.reshape(len(part), -1)[:, : here.shape[1]][new]
                continue
            # Keeps int32 and widens float32 to float64.
            totals = totals or [np.zeros((images, *part.shape[1:]), np.result_type(part, np.int32)) for part in parts]
            for total, part in zip(totals, parts, strict=True):
                total[rows] += part
    return [total.reshape(shape if maps else (*shape[:lead], *total.shape[1:])) for total in totals]
