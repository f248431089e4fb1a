"""Jitted functions of the outputs of a model and of labels, pixel by pixel.

`count_pixels`, `sum_scores`, `find_errors` and `map_pixels` serve `flipjax.metrics.kernels`, which checks the
arrays; `mean_entropy` serves `flipjax.intervene`. They compute the values of each pixel by
`flipjax.metrics.pixels.channels`.

`outputs` are what a model returns: logits or probabilities (..., *spatial, C), or masks (..., *spatial) of predicted
classes. A *score* is a number of a pixel or an image that is high where an error is likely.

The risk of a pixel is its entropy over the foreground classes where foreground is predicted, and 0 elsewhere.

Sums over the pixels of an image (`sum_together`, `packed_counts`, `scattered_counts`) cut them into chunks of at most
1,023, which the counters of `packed_counts` can hold; the sums of the chunks are added last. XLA:CPU vectorises these
sums, and would pass over the pixels once for each separate one.
"""

from __future__ import annotations

import functools
import math
import operator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from flipjax.metrics.inputs.classes import LabelSpec
from flipjax.metrics.pixels.channels import (
    SMALLEST_NORMAL,
    Channels,
    Classes,
    apply_to_pixels,
    class_indices,
    entropy_of,
    foreground_channels,
    gaps_below,
    largest_channel,
    largest_softmax,
    map_channels,
    predict,
    softmax_of,
    sum_channels,
)

MOST_PACKED_CLASSES = 9
"""Most classes whose confusion is counted by `packed_counts`, whose cost grows with C * C; others are scattered."""
_COUNTER_BITS = 10
"""Bits of a counter of pixels: three counters share an int32."""
_COUNTER_LIMIT = (1 << _COUNTER_BITS) - 1
"""Most pixels that a counter holds, and so the most pixels of a chunk."""


@partial(jax.jit, static_argnames=("spec", "classes"))
def count_pixels(
    outputs: jax.Array, labels: jax.Array, *, spec: LabelSpec, classes: int
) -> tuple[jax.Array, jax.Array]:
    """Returns the confusion matrix (..., C, C) and the summed risk (...) of each image; the risk of masks is NaN."""
    if spec.kind == "masks":
        masks = chunked(outputs, spec.spatial_ndim, 0)
        labels = chunked(labels, spec.spatial_ndim, 0)
        counts = scattered_counts(*counted_masks(masks, labels, classes, spec.ignore_index), classes)
        return counts, jnp.full(counts.shape[:-2], jnp.nan, jnp.float32)
    # Recorded entropies rest on the barrier: without it XLA fuses them with the network, and the program of a sweep
    # rounds them otherwise. It does not promise equal entropies in two programs: they may differ in the last digit.
    outputs = lax.optimization_barrier(chunked(outputs, spec.spatial_ndim, 1))
    labels = chunked(labels, spec.spatial_ndim, 0)
    labels = counted_label(labels, classes, spec.ignore_index)
    predicted_risk = partial(_predicted_risk, background=spec.background_classes)
    prediction, risk = apply_to_pixels(predicted_risk, outputs, spec.kind)
    risk = jnp.where(labels < classes, risk, 0.0)
    if classes <= MOST_PACKED_CLASSES:
        counts, risk_of_chunks = packed_counts(prediction, labels, risk, classes)
    else:
        # Without the barrier XLA computes the prediction again for each index of the scatter.
        counts = scattered_counts(lax.optimization_barrier(prediction), labels, classes)
        risk_of_chunks = risk.sum(-1)
    return counts, risk_of_chunks.sum(-1)


@partial(jax.jit, static_argnames=("spec", "p"))
def sum_scores(
    outputs: jax.Array, counted: jax.Array | None = None, *, spec: LabelSpec, p: int | None = None
) -> tuple[jax.Array, ...]:
    """Returns the number of pixels that are predicted as foreground (...), and their summed risk.

    Args:
        outputs: logits or probabilities (..., *spatial, C).
        counted: bool (..., *spatial), the pixels to count; None: all.
        spec: options of the outputs.
        p: of the p-norm score; with it the sums of the other scores of `logit_scores` follow, in their order.
    """

    def terms_of(channels: Channels) -> tuple[jax.Array, ...]:
        prediction, risk = _predicted_risk(channels, spec.background_classes)
        if p is None:
            return prediction, risk
        return prediction, risk, *_other_scores(channels, spec.kind, p)

    prediction, risk, *other_scores = apply_to_pixels(terms_of, chunked(outputs, spec.spatial_ndim, 1), spec.kind)
    foreground = where_foreground(prediction, spec.background_classes)
    terms = [risk]
    for score in other_scores:
        # As in the risk, a NaN logit of any pixel makes the score of its image NaN.
        terms.append(jnp.where(foreground | jnp.isnan(risk), score, 0.0))
    if counted is not None:
        counted = chunked(counted, spec.spatial_ndim, 0)
        foreground = foreground & counted
        terms = [jnp.where(counted, term, 0.0) for term in terms]
    foreground_pixels, *term_sums = sum_together(foreground.astype(jnp.int32), *terms)
    foreground_count = foreground_pixels.sum(-1, dtype=jnp.int32)
    sums_of_images = [sums_of_chunks.sum(-1) for sums_of_chunks in term_sums]
    return foreground_count, *sums_of_images


def _predicted_risk(channels: Channels, background: Classes) -> tuple[jax.Array, jax.Array]:
    """Returns the prediction and the risk: the entropy over the foreground classes where foreground is predicted.

    The risk is 0 where background is predicted, and NaN where a logit is NaN.
    """
    prediction, top = predict(channels)
    on_background = jnp.where(jnp.isnan(top), jnp.nan, 0.0)
    foreground = where_foreground(prediction, background)
    return prediction, jnp.where(foreground, entropy_of(channels, background), on_background)


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
    gaps = gaps_below(channels, top)

    def zero_where_predicted(c: int | jax.Array, gap: jax.Array) -> jax.Array:
        return jnp.where(prediction == c, 0.0, jnp.exp(-gap))

    exp_minus_gaps = map_channels(zero_where_predicted, class_indices(gaps), gaps)
    rest = sum_channels(exp_minus_gaps)
    centre = sum_channels(gaps) / len(gaps)

    def distance_from_centre(gap: jax.Array) -> jax.Array:
        return jnp.abs(centre - gap)

    distances = map_channels(distance_from_centre, gaps)
    largest = jnp.maximum(largest_channel(distances), SMALLEST_NORMAL)

    def power(distance: jax.Array) -> jax.Array:
        # Divided by the largest, so that no power overflows.
        return (distance / largest) ** p

    norm = largest * sum_channels(map_channels(power, distances)) ** (1 / p)
    max_softmax = rest / (1.0 + rest)
    margin = (rest + largest_channel(exp_minus_gaps)) / (1.0 + rest)
    if kind == "logits":
        energy = -(top + jnp.log1p(rest))
    else:
        energy = jnp.full_like(top, jnp.nan)
    p_norm = -centre / jnp.maximum(norm, SMALLEST_NORMAL)
    scores = [max_softmax, margin, energy, p_norm]
    return [jnp.where(jnp.isnan(top), jnp.nan, score) for score in scores]


@partial(jax.jit, static_argnames=("spec", "classes"))
def find_errors(outputs: jax.Array, labels: jax.Array, *, spec: LabelSpec, classes: int) -> tuple[jax.Array]:
    """Returns uint8 (..., *spatial): 0 true negative or not counted, 1 correct, 2 flip, 3 miss, 4 spill.

    A tuple with one array, because `flipjax.metrics.kernels` takes a tuple from all functions.
    """
    if spec.kind == "masks":
        prediction, labels = counted_masks(outputs, labels, classes, spec.ignore_index)
    else:
        prediction, _ = apply_to_pixels(predict, outputs, spec.kind)
        labels = counted_label(labels, classes, spec.ignore_index)
    detected = where_foreground(prediction, spec.background_classes)
    correct = labels == prediction
    on_foreground = jnp.where(correct, 1, jnp.where(detected, 2, 3))
    foreground = where_foreground(labels, spec.background_classes)
    on_background = jnp.where(detected, 4, 0)
    code = jnp.where(foreground, on_foreground, on_background)
    return (jnp.where(labels < classes, code, 0).astype(jnp.uint8),)


@partial(jax.jit, static_argnames="spec")
def map_pixels(outputs: jax.Array, *, spec: LabelSpec) -> tuple[jax.Array, ...]:
    """Returns the four maps (..., *spatial) of `metrics.kernels.PixelMaps`, in the order of its fields."""

    def values_of(channels: Channels) -> tuple[jax.Array, ...]:
        prediction, top = predict(channels)
        foreground = foreground_channels(channels, spec.background_classes)
        confidence = largest_softmax(foreground, largest_channel(foreground))
        probability = largest_softmax(channels, top)
        return prediction, confidence, entropy_of(channels, spec.background_classes), probability

    return apply_to_pixels(values_of, outputs, spec.kind)


@partial(jax.jit, static_argnames="background")
def mean_entropy(logits: jax.Array, *, background: Classes) -> tuple[jax.Array, ...]:
    """Averages two answers of a model, each a softmax over the foreground classes.

    Args:
        logits: (..., 2 C), the C logits of the first answer, then those of the second.
        background: the background classes.

    Returns:
        The class that the first answer predicts, int32 (...), and the entropy of the mean of both, float32 (...).
    """

    def prediction_and_entropy(channels: Channels) -> tuple[jax.Array, jax.Array]:
        classes = len(channels) // 2
        first = channels[:classes]
        second = channels[classes:]
        softmax_of_first = softmax_of(foreground_channels(first, background))
        softmax_of_second = softmax_of(foreground_channels(second, background))

        def term(share: jax.Array, other_share: jax.Array) -> jax.Array:
            mean = (share + other_share) / 2
            return mean * jnp.log(jnp.maximum(mean, SMALLEST_NORMAL))

        terms = map_channels(term, softmax_of_first, softmax_of_second)
        prediction, _ = predict(first)
        return prediction, -sum_channels(terms)

    return apply_to_pixels(prediction_and_entropy, logits, "logits")


def where_foreground(indices: jax.Array, background: Classes) -> jax.Array:
    """Returns which class indices (...) are foreground, bool (...)."""
    if not background:
        return jnp.ones(indices.shape, bool)
    return functools.reduce(jnp.logical_and, [indices != b for b in background])


def chunked(array: jax.Array, spatial_ndim: int, trailing: int) -> jax.Array:
    """Cuts images into chunks: reshapes (..., *spatial, ...) to (..., chunks, pixels of a chunk, ...).

    `trailing` is the number of axes after the spatial ones: 1 for scores (..., *spatial, C), 0 for labels. The size
    of a chunk is the largest that divides the number of pixels, so that nothing is padded or copied. A prime number of
    pixels above the limit has chunks of one pixel, which give the same counts more slowly.
    """
    stop = array.ndim - trailing
    start = stop - spatial_ndim
    pixels = math.prod(array.shape[start:stop])
    divisors = [size for size in range(1, min(pixels, _COUNTER_LIMIT) + 1) if pixels % size == 0]
    chunk = divisors[-1]
    return array.reshape(*array.shape[:start], pixels // chunk, chunk, *array.shape[stop:])


def counted_label(labels: jax.Array, classes: int, ignore_index: int | None) -> jax.Array:
    """Returns labels as int32, replaced by C, the number of classes, where a pixel is not counted."""
    if labels.dtype.itemsize > 4:
        # Before int32 could wrap them into 0..C-1.
        labels = jnp.where((labels >= 0) & (labels < classes), labels, -1)
    labels = labels.astype(jnp.int32)
    counted = (labels >= 0) & (labels < classes)
    if ignore_index is not None:
        counted &= labels != ignore_index
    return jnp.where(counted, labels, classes)


def counted_masks(
    prediction: jax.Array, labels: jax.Array, classes: int, ignore_index: int | None
) -> tuple[jax.Array, jax.Array]:
    """Returns predicted masks and labels as int32, replaced by C where a pixel is not counted.

    A pixel with an invalid prediction is not counted, so its label is replaced, too.
    """
    prediction = counted_label(prediction, classes, None)
    return prediction, jnp.where(prediction < classes, counted_label(labels, classes, ignore_index), classes)


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


def packed_counts(
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


def scattered_counts(prediction: jax.Array, labels: jax.Array, classes: int) -> jax.Array:
    """Returns the confusion (..., C, C) by a scatter, whose cost per pixel does not depend on C."""
    lead = labels.shape[:-2]
    pixels = math.prod(labels.shape[-2:])
    # Entries of pixels that are not counted, whose label is C, lie past the end and are dropped.
    entries = (labels * classes + prediction).reshape(math.prod(lead), pixels)
    images = jnp.arange(len(entries))[:, None]
    counts = jnp.zeros((len(entries), classes * classes), jnp.int32).at[images, entries].add(1, mode="drop")
    return counts.reshape(*lead, classes, classes)
