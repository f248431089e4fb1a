"""Jitted functions of the outputs of a model and of labels, pixel by pixel.

`count_pixels`, `sum_scores`, `find_errors` and `map_pixels` serve `flipjax.metrics.kernels`, which checks the arrays;
`mean_entropy` serves `flipjax.intervene`. They are built alike:

1. `_per_pixel` turns probabilities into logits and applies a function of `Channels` to all pixels.
2. Sums over the pixels of an image are made by chunks: `_chunked` cuts the pixels into chunks of at most 1,023, which
   the counters of `_packed_counts` can hold, and the sums of the chunks are added last.
3. `sum_together` makes several sums over one chunk in one pass.

`outputs` are what a model returns: logits or probabilities (..., *spatial, C), or masks (..., *spatial) of predicted
classes. A *score* is a number of a pixel or an image that is high where an error is likely.

The risk of a pixel is its entropy over the foreground classes where foreground is predicted, and 0 elsewhere.

Functions of `Channels`, such as `predict` and `_entropy`, are written once for both forms that channels have: with few
classes a list of arrays, one a class, over all pixels; with many one array, of the classes at one pixel. The helpers
that know the two forms are `_each`, `_indices`, `_sum`, `_largest`, `_foreground` and `predict`.
"""

from __future__ import annotations

import functools
import itertools
import math
import operator
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from flipjax.metrics.classes import LabelSpec

_COUNTER_BITS = 10
"""Bits of a counter of pixels: three counters share an int32."""
_COUNTER_LIMIT = (1 << _COUNTER_BITS) - 1
"""Most pixels that a counter holds, and so the most pixels of a chunk."""
_LARGEST_GAP = 128.0
"""Largest gap between logits, in nats. exp(-128) is already 0 in float32, and times an infinite gap it would be NaN."""
_SMALLEST_NORMAL = np.finfo(np.float32).tiny
"""Smallest normal float32, which stands for 0 in logarithms and quotients."""
_MOST_UNROLLED_CLASSES = 192
"""Most classes that are unrolled into one loop of XLA:CPU; with more a loop reads blocks of pixels, so that the program
does not grow."""
_MOST_OUTPUTS_OF_BLOCK = 1 << 18
"""Most outputs in one of these blocks: pixels times classes."""
MOST_PACKED_CLASSES = 8
"""Most classes whose confusion is counted by `_packed_counts`, whose cost grows with C * C; others are scattered."""

Classes = tuple[int, ...]
"""Class indices."""
Channels = list[jax.Array] | jax.Array
"""The logits of each class at all pixels, as a list; or the logits of one pixel, (C,)."""
Indices = list[int] | jax.Array
"""The class of each channel, in the same form."""


@partial(jax.jit, static_argnames=("spec", "classes"))
def count_pixels(
    outputs: jax.Array, labels: jax.Array, *, spec: LabelSpec, classes: int
) -> tuple[jax.Array, jax.Array]:
    """Returns the confusion matrix (..., C, C) and the summed risk (...) of each image; the risk of masks is NaN."""
    if spec.kind == "masks":
        masks = _chunked(outputs, spec.spatial_ndim, 0)
        labels = _chunked(labels, spec.spatial_ndim, 0)
        counts = _scattered_counts(*_counted_masks(masks, labels, classes, spec.ignore_index), classes)
        return counts, jnp.full(counts.shape[:-2], jnp.nan, jnp.float32)
    # Fused with what makes the outputs, the entropies of one network would round otherwise in each program.
    outputs = lax.optimization_barrier(_chunked(outputs, spec.spatial_ndim, 1))
    labels = _chunked(labels, spec.spatial_ndim, 0)
    labels = counted_label(labels, classes, spec.ignore_index)
    predicted_risk = partial(_predicted_risk, background=spec.background_classes)
    prediction, risk = _per_pixel(predicted_risk, outputs, spec.kind)
    risk = jnp.where(labels < classes, risk, 0.0)
    if classes <= MOST_PACKED_CLASSES:
        counts, risk_of_chunks = _packed_counts(prediction, labels, risk, classes)
    else:
        # Without the barrier XLA computes the prediction anew for each index of the scatter.
        counts = _scattered_counts(lax.optimization_barrier(prediction), labels, classes)
        risk_of_chunks = risk.sum(-1)
    return counts, risk_of_chunks.sum(-1)


@partial(jax.jit, static_argnames=("spec", "p"))
def sum_scores(
    outputs: jax.Array, counted: jax.Array | None = None, *, spec: LabelSpec, p: int | None = None
) -> tuple[jax.Array, ...]:
    """Returns the number of `counted` pixels predicted as foreground (...) and their summed risk.

    With `p`, appends the sums of the other scores of `logit_scores`, in order.
    """

    def terms_of(channels: Channels) -> tuple[jax.Array, ...]:
        prediction, risk = _predicted_risk(channels, spec.background_classes)
        if p is None:
            return prediction, risk
        return prediction, risk, *_other_scores(channels, spec.kind, p)

    prediction, risk, *other_scores = _per_pixel(terms_of, _chunked(outputs, spec.spatial_ndim, 1), spec.kind)
    foreground = is_foreground(prediction, spec.background_classes)
    terms = [risk]
    for score in other_scores:
        # As in the risk, a NaN logit of any pixel makes the score of its image NaN.
        terms.append(jnp.where(foreground | jnp.isnan(risk), score, 0.0))
    if counted is not None:
        counted = _chunked(counted, spec.spatial_ndim, 0)
        foreground = foreground & counted
        terms = [jnp.where(counted, term, 0.0) for term in terms]
    foreground_pixels, *term_sums = sum_together(foreground.astype(jnp.int32), *terms)
    foreground_count = foreground_pixels.sum(-1, dtype=jnp.int32)
    sums_of_images = [sums_of_chunks.sum(-1) for sums_of_chunks in term_sums]
    return foreground_count, *sums_of_images


def _other_scores(channels: Channels, kind: str, p: int) -> list[jax.Array]:
    """Returns the scores of `logit_scores` other than the entropy, per pixel; NaN where a logit is NaN.

    All are high where an error is likely. Let g be the gaps to the largest channel, r the sum of exp(-g) over the other
    channels, and s the largest of these exp(-g). Then the largest probability is 1 / (1 + r), the second largest
    s / (1 + r), and the logits less their mean are mean(g) - g. So

    - max_softmax, 1 minus the largest probability, is r / (1 + r);
    - margin, 1 minus the difference of the two largest probabilities, is (r + s) / (1 + r);
    - energy, minus the log-sum-exp of the logits, is -(top + log(1 + r)); NaN for probabilities, which stay the
      same if a constant is added to all logits of a pixel, while the energy changes;
    - p_norm is minus the largest centred logit, mean(g), over the p-norm of the centred logits.
    """
    prediction, top = predict(channels)
    gaps = _gaps(channels, top)

    def zero_where_predicted(c: int | jax.Array, gap: jax.Array) -> jax.Array:
        return jnp.where(prediction == c, 0.0, jnp.exp(-gap))

    exp_minus_gaps = _each(zero_where_predicted, _indices(gaps), gaps)
    rest = _sum(exp_minus_gaps)
    centre = _sum(gaps) / len(gaps)

    def distance_from_centre(gap: jax.Array) -> jax.Array:
        return jnp.abs(centre - gap)

    distances = _each(distance_from_centre, gaps)
    largest = jnp.maximum(_largest(distances), _SMALLEST_NORMAL)

    def power(distance: jax.Array) -> jax.Array:
        # Divided by the largest, so that no power overflows.
        return (distance / largest) ** p

    norm = largest * _sum(_each(power, distances)) ** (1 / p)
    max_softmax = rest / (1.0 + rest)
    margin = (rest + _largest(exp_minus_gaps)) / (1.0 + rest)
    if kind == "logits":
        energy = -(top + jnp.log1p(rest))
    else:
        energy = jnp.full_like(top, jnp.nan)
    p_norm = -centre / jnp.maximum(norm, _SMALLEST_NORMAL)
    scores = [max_softmax, margin, energy, p_norm]
    return [jnp.where(jnp.isnan(top), jnp.nan, score) for score in scores]


@partial(jax.jit, static_argnames="background")
def mean_entropy(logits: jax.Array, *, background: Classes) -> tuple[jax.Array, ...]:
    """Returns a prediction (...) and the entropy (...) of the mean of two softmax distributions over the foreground.

    The last axis of `logits` (..., 2 C) holds the C logits of a first answer, then those of a second one. The
    prediction is that of the first.
    """

    def prediction_and_entropy(channels: Channels) -> tuple[jax.Array, jax.Array]:
        classes = len(channels) // 2
        first = channels[:classes]
        second = channels[classes:]
        softmax_of_first = _softmax(_foreground(first, background))
        softmax_of_second = _softmax(_foreground(second, background))

        def term(share: jax.Array, other_share: jax.Array) -> jax.Array:
            mean = (share + other_share) / 2
            return mean * jnp.log(jnp.maximum(mean, _SMALLEST_NORMAL))

        terms = _each(term, softmax_of_first, softmax_of_second)
        prediction, _ = predict(first)
        return prediction, -_sum(terms)

    return _per_pixel(prediction_and_entropy, logits, "logits")


@partial(jax.jit, static_argnames=("spec", "classes"))
def find_errors(outputs: jax.Array, labels: jax.Array, *, spec: LabelSpec, classes: int) -> tuple[jax.Array]:
    """Returns uint8 (..., *spatial): 0 true negative or not counted, 1 correct, 2 flip, 3 miss, 4 spill.

    It is a tuple of one, as all functions here return several arrays to `flipjax.metrics.kernels`.
    """
    if spec.kind == "masks":
        prediction, labels = _counted_masks(outputs, labels, classes, spec.ignore_index)
    else:
        prediction, _ = _per_pixel(predict, outputs, spec.kind)
        labels = counted_label(labels, classes, spec.ignore_index)
    detected = is_foreground(prediction, spec.background_classes)
    correct = labels == prediction
    on_foreground = jnp.where(correct, 1, jnp.where(detected, 2, 3))
    foreground = is_foreground(labels, spec.background_classes)
    on_background = jnp.where(detected, 4, 0)
    code = jnp.where(foreground, on_foreground, on_background)
    return (jnp.where(labels < classes, code, 0).astype(jnp.uint8),)


@partial(jax.jit, static_argnames="spec")
def map_pixels(outputs: jax.Array, *, spec: LabelSpec) -> tuple[jax.Array, ...]:
    """Returns four maps (..., *spatial).

    They are the prediction, the largest softmax over the foreground classes, the entropy over them, and the largest
    softmax over all classes.
    """

    def values_of(channels: Channels) -> tuple[jax.Array, ...]:
        prediction, top = predict(channels)
        foreground = _foreground(channels, spec.background_classes)
        foreground_softmax = _largest_softmax(foreground, _largest(foreground))
        softmax = _largest_softmax(channels, top)
        return prediction, foreground_softmax, _entropy(channels, spec.background_classes), softmax

    return _per_pixel(values_of, outputs, spec.kind)


def _largest_softmax(channels: Channels, top: jax.Array) -> jax.Array:
    """Returns the softmax of the largest channel, `top`."""
    return 1 / _sum(_each(_exp_minus, _gaps(channels, top)))


def is_foreground(indices: jax.Array, background: Classes) -> jax.Array:
    """Returns where class indices are foreground."""
    if not background:
        return jnp.ones(indices.shape, bool)
    return functools.reduce(jnp.logical_and, [indices != b for b in background])


def _chunked(array: jax.Array, spatial_ndim: int, trailing: int) -> jax.Array:
    """Reshapes the spatial axes, which `trailing` axes follow, to (chunks, pixels of a chunk).

    The size of a chunk is the largest that divides the number of pixels, so that nothing is padded or copied. A prime
    number of pixels above the limit has chunks of one pixel, which are as right and slower.
    """
    stop = array.ndim - trailing
    start = stop - spatial_ndim
    pixels = math.prod(array.shape[start:stop])
    divisors = [size for size in range(1, min(pixels, _COUNTER_LIMIT) + 1) if pixels % size == 0]
    chunk = divisors[-1]
    return array.reshape(*array.shape[:start], pixels // chunk, chunk, *array.shape[stop:])


def _per_pixel(
    function: Callable[[Channels], tuple[jax.Array, ...]], outputs: jax.Array, kind: str
) -> tuple[jax.Array, ...]:
    """Applies a function of channels to the pixels of outputs (..., C)."""
    C = outputs.shape[-1]
    if C <= _MOST_UNROLLED_CLASSES or not outputs.size:
        # XLA:CPU fuses slices into one loop; a reduction over the last axis would be a separate pass.
        channels: Channels = [outputs[..., c].astype(jnp.float32) for c in range(C)]
        return function(_logits(channels, kind))
    # The largest power of two that fits. It divides the pixels of an array from outside jit, which comes in blocks of a
    # power of two (`flipjax.metrics.blocks`).
    most_pixels = max(1, _MOST_OUTPUTS_OF_BLOCK // C)
    exponent = most_pixels.bit_length() - 1
    pixels_of_block = 1 << exponent

    def of_pixel(outputs_of_pixel: jax.Array) -> tuple[jax.Array, ...]:
        return function(_logits(outputs_of_pixel.astype(jnp.float32), kind))

    of_pixels = lax.map(of_pixel, outputs.reshape(-1, C), batch_size=pixels_of_block)
    return tuple(value.reshape(outputs.shape[:-1]) for value in of_pixels)


def _logits(channels: Channels, kind: str) -> Channels:
    """Returns logits unchanged, and logarithms of probabilities up to a constant per pixel."""
    if kind == "logits":
        return channels
    top = _largest(channels)

    def logarithm(channel: jax.Array) -> jax.Array:
        # Divided by the largest: probabilities that differ in the last bit could have equal logarithms.
        return jnp.log(jnp.maximum(channel, _SMALLEST_NORMAL) / top)

    return _each(logarithm, channels)


def _each(function: Callable[..., jax.Array], *columns: Channels | Indices) -> Channels:
    """Applies an elementwise function to each channel, or to the corresponding channels of several."""
    if isinstance(columns[0], list):
        return [function(*values) for values in zip(*columns, strict=True)]
    return function(*columns)


def _indices(channels: Channels) -> Indices:
    """Returns the class of each channel, from 0 on."""
    if isinstance(channels, list):
        return list(range(len(channels)))
    return jnp.arange(len(channels))


def _exp_minus(gap: jax.Array) -> jax.Array:
    """Returns the exponential of minus a gap."""
    return jnp.exp(-gap)


def _sum(channels: Channels) -> jax.Array:
    """Returns the sum of the channels."""
    if isinstance(channels, list):
        return functools.reduce(operator.add, channels)
    return channels.sum()


def _largest(channels: Channels) -> jax.Array:
    """Returns the largest channel, NaN where any is NaN."""
    if isinstance(channels, list):
        return functools.reduce(jnp.maximum, channels)
    # A reduction of XLA:CPU ignores NaN.
    return jnp.where(jnp.isnan(channels).any(), jnp.nan, channels.max())


def _gaps(channels: Channels, top: jax.Array) -> Channels:
    """Returns the gap of each channel to the largest; 0 for equal channels, also infinite ones."""

    def gap(channel: jax.Array) -> jax.Array:
        return jnp.minimum(jnp.where(channel == top, 0.0, top - channel), _LARGEST_GAP)

    return _each(gap, channels)


def _softmax(channels: Channels) -> Channels:
    """Returns the softmax over the channels."""
    shares = _each(_exp_minus, _gaps(channels, _largest(channels)))
    total = _sum(shares)

    def share_of_total(share: jax.Array) -> jax.Array:
        return share / total

    return _each(share_of_total, shares)


def _foreground(channels: Channels, background: Classes) -> Channels:
    """Returns the channels of the foreground classes, in order."""
    if isinstance(channels, list):
        return [channel for c, channel in enumerate(channels) if c not in background]
    # Runs of foreground lie between two bounds: background classes, or the ends of the channels.
    bounds = [-1, *sorted(background), len(channels)]
    runs = [channels[before + 1 : after] for before, after in itertools.pairwise(bounds)]
    return jnp.concatenate(runs)


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


def _counted_masks(
    prediction: jax.Array, labels: jax.Array, classes: int, ignore_index: int | None
) -> tuple[jax.Array, jax.Array]:
    """Returns predicted masks and labels as int32, with `classes` for pixels that are not counted.

    Labels are not counted either where the mask is invalid, so that such a pixel leaves every count.
    """
    prediction = counted_label(prediction, classes, None)
    return prediction, jnp.where(prediction < classes, counted_label(labels, classes, ignore_index), classes)


def predict(channels: Channels) -> tuple[jax.Array, jax.Array]:
    """Returns the index of the first largest channel and its value, NaN where any channel is NaN."""
    top = _largest(channels)
    if not isinstance(channels, list):
        indices = jnp.arange(len(channels), dtype=jnp.float32)
        indices_of_largest = jnp.where((channels == top) | jnp.isnan(channels), indices, jnp.inf)
        return indices_of_largest.min().astype(jnp.int32), top
    # From the last class to the first, so that of equal channels the first stays.
    prediction = jnp.full(top.shape, len(channels) - 1, jnp.int32)
    for c in reversed(range(len(channels) - 1)):
        prediction = jnp.where((channels[c] == top) | jnp.isnan(channels[c]), c, prediction)
    return prediction, top


def _predicted_risk(channels: Channels, background: Classes) -> tuple[jax.Array, jax.Array]:
    """Returns the prediction and the risk: the entropy over the foreground classes where foreground is predicted.

    The risk is 0 where background is predicted, and NaN where a logit is NaN.
    """
    prediction, top = predict(channels)
    on_background = jnp.where(jnp.isnan(top), jnp.nan, 0.0)
    foreground = is_foreground(prediction, background)
    return prediction, jnp.where(foreground, _entropy(channels, background), on_background)


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
        # r leaves out one channel, a largest one, whose e is 1. So r is the number of largest channels less 1, plus the
        # sum of e below them. Finding the one by `predict` makes XLA:CPU six times slower at 150 classes (JAX 0.10.2).
        number_of_largest = _sum(_each(_one_of_largest, gaps))
        below_largest = _sum(_each(_exp_minus_below, gaps))
        rest = below_largest + (number_of_largest - 1.0)
        weighted = _sum(_each(_gap_times_exp_minus, gaps))
    # A series where 1 + r would round r: as precise as jnp.log1p and cheaper on XLA:CPU.
    series = rest * (1.0 - rest * (1 / 2 - rest * (1 / 3 - rest / 4)))
    return jnp.where(rest < 1 / 64, series, jnp.log(1.0 + rest)) + weighted / (1.0 + rest)


def _one_of_largest(gap: jax.Array) -> jax.Array:
    """Returns 1 for a largest channel, 0 for the others."""
    return jnp.where(gap == 0.0, 1.0, 0.0)


def _exp_minus_below(gap: jax.Array) -> jax.Array:
    """Returns exp(-gap), 0 for a largest channel."""
    return jnp.where(gap == 0.0, 0.0, jnp.exp(-gap))


def _gap_times_exp_minus(gap: jax.Array) -> jax.Array:
    """Returns gap * exp(-gap)."""
    return gap * jnp.exp(-gap)


@jax.custom_jvp
def sum_together(*terms: jax.Array) -> tuple[jax.Array, ...]:
    """Sums arrays over their last axis in one pass; XLA:CPU makes a pass for each separate sum."""

    def add(left: tuple[jax.Array, ...], right: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        return tuple(map(operator.add, left, right))

    zeros = tuple(jnp.zeros((), term.dtype) for term in terms)
    last_axis = terms[0].ndim - 1
    return lax.reduce(terms, zeros, add, (last_axis,))


@sum_together.defjvp
def _sum_tangents(
    terms: tuple[jax.Array, ...], tangents: tuple[Any, ...]
) -> tuple[tuple[jax.Array, ...], tuple[Any, ...]]:
    """Returns the sums and their tangents: JAX cannot differentiate a joint reduction over integers and floats."""
    sums = sum_together(*terms)
    changes = []
    for total, tangent in zip(sums, tangents, strict=True):
        if jnp.issubdtype(total.dtype, jnp.floating):
            changes.append(tangent.sum(-1))
        else:
            changes.append(np.zeros(total.shape, jax.dtypes.float0))
    return sums, tuple(changes)


def _packed_counts(
    prediction: jax.Array, labels: jax.Array, risk: jax.Array, classes: int
) -> tuple[jax.Array, jax.Array]:
    """Counts the confusion of each image, (..., C, C), and sums the risk of each chunk, (..., chunks), in one pass.

    The C * C counters of the matrix lie in words of int32, three neighbours in each. A pixel adds 1 to its counter: a
    number with a 1 at the counter's place is added to the word. Counters of a chunk are unpacked before chunks are
    added, so that none flows over into the next.
    """
    # A pixel that is not counted has the label C, so its entry is C * C or more. It adds to no word, or to a counter at
    # the end of the last word, which is cut off below.
    entry = labels * classes + prediction
    if classes == 3:
        # A word is a row of the matrix, so no quotient is needed.
        word_of_pixel = labels
        counter_of_pixel = prediction
    else:
        word_of_pixel = entry // 3
        counter_of_pixel = entry % 3
    one = jnp.left_shift(jnp.int32(1), _COUNTER_BITS * counter_of_pixel)
    word_count = math.ceil(classes * classes / 3)
    ones_of_words = [jnp.where(word_of_pixel == word, one, 0) for word in range(word_count)]
    *words, risk_sum = sum_together(*ones_of_words, risk)
    packed = jnp.stack(words, axis=-1)
    counts_of_chunks = [(packed >> (_COUNTER_BITS * k)) & _COUNTER_LIMIT for k in range(3)]
    # The three counters of each word, side by side again: (..., words, 3).
    counts = jnp.stack([of_chunks.sum(-2, dtype=jnp.int32) for of_chunks in counts_of_chunks], axis=-1)
    # The last word may have counters past the C * C entries, empty or of pixels that are not counted.
    counts = counts.reshape(*counts.shape[:-2], 3 * word_count)[..., : classes * classes]
    return counts.reshape(*counts.shape[:-1], classes, classes), risk_sum


def _scattered_counts(prediction: jax.Array, labels: jax.Array, classes: int) -> jax.Array:
    """Returns the confusion (..., C, C) by a scatter, whose cost per pixel does not depend on C."""
    lead = labels.shape[:-2]
    pixels = math.prod(labels.shape[-2:])
    # Entries of pixels that are not counted, whose label is C, lie past the end and are dropped.
    entries = (labels * classes + prediction).reshape(math.prod(lead), pixels)
    images = jnp.arange(len(entries))[:, None]
    counts = jnp.zeros((len(entries), classes * classes), jnp.int32).at[images, entries].add(1, mode="drop")
    return counts.reshape(*lead, classes, classes)
