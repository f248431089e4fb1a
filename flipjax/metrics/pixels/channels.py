"""Arithmetic on the classes of a pixel: prediction, softmax and entropy, the same code for few and for many classes.

A *channel* holds the logits of one class. Channels have two forms. Few classes are a list with an array over all pixels
for each class. Many classes are one array (C,), the logits of one pixel. `apply_to_pixels` chooses the form. Only
`map_channels`, `class_indices`, `sum_channels`, `largest_channel`, `foreground_channels` and `predict` know both; the
other functions call these.
"""

from __future__ import annotations

import functools
import itertools
import operator
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

_LARGEST_GAP = 128.0
"""Largest gap between logits, in nats. exp(-128) is already 0 in float32, and times an infinite gap it would be NaN."""
SMALLEST_NORMAL = np.finfo(np.float32).tiny
"""Smallest normal float32, which stands for 0 in logarithms and quotients."""
_MOST_UNROLLED_CLASSES = 192
"""Most classes that have a channel each, in one loop of XLA:CPU. With more, a loop reads blocks of pixels, so that the
program does not grow with the number of classes."""
_MOST_OUTPUTS_OF_BLOCK = 1 << 18
"""Most outputs in one of these blocks: pixels times classes."""

Classes = tuple[int, ...]
"""Class indices."""
Channels = list[jax.Array] | jax.Array
"""The logits of each class at all pixels, as a list; or the logits of one pixel, (C,)."""
Indices = list[int] | jax.Array
"""The class of each channel, in the same form."""


def apply_to_pixels(
    function: Callable[[Channels], tuple[jax.Array, ...]], outputs: jax.Array, kind: str
) -> tuple[jax.Array, ...]:
    """Applies a function of channels to the pixels of outputs (..., C).

    Args:
        function: maps the logits of the classes to arrays with a number for each pixel.
        outputs: logits or probabilities (..., C), as `kind` says.
        kind: `logits` or `probabilities`.

    Returns:
        Arrays (...).
    """
    C = outputs.shape[-1]
    if C <= _MOST_UNROLLED_CLASSES or not outputs.size:
        # XLA:CPU fuses slices into one loop; a reduction over the last axis would be a separate pass.
        if outputs.dtype == jnp.bfloat16 and jax.__version_info__ < (0, 11):
            channels: Channels = _widened_channels(outputs)
        else:
            channels = [outputs[..., c].astype(jnp.float32) for c in range(C)]
        return function(_as_logits(channels, kind))
    # The largest power of two that fits. It divides the pixels of an array from outside jit, which comes in blocks of a
    # power of two (`flipjax.metrics.pixels.blocks`).
    most_pixels = max(1, _MOST_OUTPUTS_OF_BLOCK // C)
    exponent = most_pixels.bit_length() - 1
    pixels_of_block = 1 << exponent

    def of_pixel(outputs_of_pixel: jax.Array) -> tuple[jax.Array, ...]:
        return function(_as_logits(outputs_of_pixel.astype(jnp.float32), kind))

    of_pixels = lax.map(of_pixel, outputs.reshape(-1, C), batch_size=pixels_of_block)
    return tuple(value.reshape(outputs.shape[:-1]) for value in of_pixels)


@jax.custom_jvp
def _widened_channels(outputs: jax.Array) -> list[jax.Array]:
    """Returns the channels of bfloat16 outputs, the upper halves of float32, in float32.

    XLA:CPU of JAX 0.10 writes each channel of bfloat16 outputs to memory before it reads it; it does not of integers.
    Without the barrier it would write all of them in float32, from ten classes on.
    """
    halves = lax.optimization_barrier(lax.bitcast_convert_type(outputs, jnp.uint16))
    channels = []
    for c in range(outputs.shape[-1]):
        bits = halves[..., c].astype(jnp.uint32) << 16
        channels.append(lax.bitcast_convert_type(bits, jnp.float32))
    return channels


@_widened_channels.defjvp
def _widened_tangents(outputs: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[list[jax.Array], list[jax.Array]]:
    """Returns the channels and their tangents, which JAX does not see through the bits."""
    changes = [tangents[0][..., c].astype(jnp.float32) for c in range(tangents[0].shape[-1])]
    return _widened_channels(*outputs), changes


def _as_logits(channels: Channels, kind: str) -> Channels:
    """Returns logits as they are, and the logarithms of probabilities, less a constant at each pixel."""
    if kind == "logits":
        return channels
    top = largest_channel(channels)

    def logarithm(channel: jax.Array) -> jax.Array:
        # Divided by the largest: probabilities that differ in the last bit could have equal logarithms.
        return jnp.log(jnp.maximum(channel, SMALLEST_NORMAL) / top)

    return map_channels(logarithm, channels)


def map_channels(function: Callable[..., jax.Array], *columns: Channels | Indices) -> Channels:
    """Applies an elementwise function to each channel, and to several columns of one class at once."""
    if isinstance(columns[0], list):
        return [function(*values) for values in zip(*columns, strict=True)]
    return function(*columns)


def class_indices(channels: Channels) -> Indices:
    """Returns the class of each channel, from 0 on."""
    if isinstance(channels, list):
        return list(range(len(channels)))
    return jnp.arange(len(channels))


def sum_channels(channels: Channels) -> jax.Array:
    """Returns the sum of the channels."""
    if isinstance(channels, list):
        return functools.reduce(operator.add, channels)
    return channels.sum()


def largest_channel(channels: Channels) -> jax.Array:
    """Returns the largest channel, NaN where any is NaN."""
    if isinstance(channels, list):
        return functools.reduce(jnp.maximum, channels)
    # A reduction of XLA:CPU ignores NaN.
    return jnp.where(jnp.isnan(channels).any(), jnp.nan, channels.max())


def predict(channels: Channels) -> tuple[jax.Array, jax.Array]:
    """Returns the index of the first largest channel and its value, NaN where any channel is NaN."""
    top = largest_channel(channels)
    if not isinstance(channels, list):
        indices = jnp.arange(len(channels), dtype=jnp.float32)
        indices_of_largest = jnp.where((channels == top) | jnp.isnan(channels), indices, jnp.inf)
        return indices_of_largest.min().astype(jnp.int32), top
    # From the last class to the first, so that of equal channels the first stays.
    prediction = jnp.full(top.shape, len(channels) - 1, jnp.int32)
    for c in reversed(range(len(channels) - 1)):
        prediction = jnp.where((channels[c] == top) | jnp.isnan(channels[c]), c, prediction)
    return prediction, top


def foreground_channels(channels: Channels, background: Classes) -> Channels:
    """Returns the channels of the foreground classes, in order."""
    if isinstance(channels, list):
        return [channel for c, channel in enumerate(channels) if c not in background]
    # Runs of foreground lie between two bounds: background classes, or the ends of the channels.
    bounds = [-1, *sorted(background), len(channels)]
    runs = [channels[before + 1 : after] for before, after in itertools.pairwise(bounds)]
    return jnp.concatenate(runs)


def gaps_below(channels: Channels, top: jax.Array) -> Channels:
    """Returns how far each channel is below the largest, `top`, in nats; 0 for one that equals it, also if infinite."""

    def gap(channel: jax.Array) -> jax.Array:
        return jnp.minimum(jnp.where(channel == top, 0.0, top - channel), _LARGEST_GAP)

    return map_channels(gap, channels)


def exp_minus(gap: jax.Array) -> jax.Array:
    """Returns the exponential of minus a gap."""
    return jnp.exp(-gap)


def softmax_of(channels: Channels) -> Channels:
    """Returns the softmax over the channels."""
    shares = map_channels(exp_minus, gaps_below(channels, largest_channel(channels)))
    total = sum_channels(shares)

    def share_of_total(share: jax.Array) -> jax.Array:
        return share / total

    return map_channels(share_of_total, shares)


def largest_softmax(channels: Channels, top: jax.Array) -> jax.Array:
    """Returns the softmax of the largest channel, whose logit is `top`."""
    return 1 / sum_channels(map_channels(exp_minus, gaps_below(channels, top)))


def entropy_of(channels: Channels, background: Classes) -> jax.Array:
    """Returns the entropy in nats of the softmax over the foreground channels.

    Let g be the gaps to the largest channel, e = exp(-g), and r the sum of e over the other channels. Then
    H = log(1 + r) + sum(g e) / (1 + r). For two channels, with difference d: log1p(exp(-|d|)) + |d| sigmoid(-|d|).
    """
    channels = foreground_channels(channels, background)
    if len(channels) == 2:
        gap = jnp.where(channels[0] == channels[1], 0.0, jnp.abs(channels[0] - channels[1]))
        gap = jnp.minimum(gap, _LARGEST_GAP)
        rest = jnp.exp(-gap)
        weighted = gap * rest
    else:
        gaps = gaps_below(channels, largest_channel(channels))
        # The sum r leaves out one of the largest channels, whose e is 1. So r is the number of largest channels less 1,
        # plus the sum of e below them. To find that channel with `predict` would make XLA:CPU six times slower at 150
        # classes (JAX 0.10.2).
        number_of_largest = sum_channels(map_channels(_one_of_largest, gaps))
        below_largest = sum_channels(map_channels(_exp_minus_below, gaps))
        rest = below_largest + (number_of_largest - 1.0)
        weighted = sum_channels(map_channels(_gap_times_exp_minus, gaps))
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
