"""Sums over the pixels of images: counts of labels and predictions, and several sums in one pass.

The pixels of an image are cut into chunks of at most 1,023, which the counters of `packed_counts` can hold; the sums of
the chunks are added last. XLA:CPU vectorises these sums, and would pass over the pixels once for each separate one.
"""

from __future__ import annotations

import math
import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

_COUNTER_BITS = 10
"""Bits of a counter of pixels: three counters share an int32."""
_COUNTER_LIMIT = (1 << _COUNTER_BITS) - 1
"""Most pixels that a counter holds, and so the most pixels of a chunk."""


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
