"""Layers of the networks that members share a device with: of a pack, which of a member alone is a pack of one."""

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jax.flatten_util import ravel_pytree

from flipjax.models.convolutions.tracing import Arrays, materialised, with_gradient
from flipjax.models.packs.pack import Pack, convolve_pack, map_chunks, sound, sum_pixels

MOMENTUM = 0.9
"""Momentum of the running statistics: runs have a few hundred steps, so they must settle within tens."""
EPSILON = 1e-5
"""Added to the variance of a norm."""


def he_kernels(key: jax.Array, shapes: list[tuple[int, ...]]) -> list[jax.Array]:
    """Draws kernels (height, width, inputs, outputs) with variance 2 / (height * width * inputs) (He et al., 2015)."""
    # One draw for all: XLA:CPU takes half a second and more to compile each use of the generator.
    flat, unravel = ravel_pytree([jnp.zeros(shape) for shape in shapes])
    kernels = unravel(jax.random.normal(key, flat.shape))
    return [kernel * math.sqrt(2 / math.prod(kernel.shape[:-1])) for kernel in kernels]


def _rectify(values: jax.Array) -> jax.Array:
    """Returns values, or 0 if they are negative."""
    # The second term is zero. Without it, here and in the gradient, LLVM in JAX 0.10 unrolls loops over 16 channels and
    # vectorises those over pixels, badly.
    return jnp.maximum(values, 0) + 0 * jnp.minimum(values, 0)


def _rectify_backward(saved: Arrays, gradient: jax.Array) -> Arrays:
    """Returns the gradient of `_rectify`: the output's where the value is positive."""
    (values,) = saved
    return (jnp.where(_rectify(values) > 0, gradient, 0),)


rectify = with_gradient(_rectify, _rectify_backward)
"""ReLU. It maps -inf to NaN."""


class PackBatchNorm(nnx.Module):
    """Batch normalisation of each channel (Ioffe and Szegedy, 2015), computed as Flax's."""

    def __init__(self, channels: int):
        """Starts as the plain normalisation, in training mode."""
        self.scale = nnx.Param(jnp.ones((channels,)))
        self.bias = nnx.Param(jnp.zeros((channels,)))
        self.mean = nnx.BatchStat(jnp.zeros((channels,)))
        self.var = nnx.BatchStat(jnp.ones((channels,)))
        self.use_running_average = False

    def __call__(self, pack: Pack) -> Pack:
        """Normalises a pack, to float32; in training moves the running statistics."""
        wide = [chunk.astype(jnp.float32) for chunk in pack]
        scale = self.scale[...]
        bias = self.bias[...]
        if self.use_running_average:
            return map_chunks(_normalise, wide, self.mean[...], lax.rsqrt(self.var[...] + EPSILON), scale, bias)
        outputs, means, variances = zip(*map_chunks(_normalise_by_batch, wide, scale, bias), strict=True)
        _move(self.mean, means)
        _move(self.var, variances)
        return list(outputs)


def _move(running: nnx.BatchStat, moments: Sequence[jax.Array]) -> None:
    """Moves a running statistic towards that of a batch, chunk by chunk."""
    of_batch = jnp.stack(moments).reshape(running.shape)
    running[...] = MOMENTUM * running[...] + (1 - MOMENTUM) * of_batch


def _normalise(images: jax.Array, mean: jax.Array, inverse: jax.Array, scale: jax.Array, bias: jax.Array) -> jax.Array:
    """Normalises images by a mean and the inverse of a standard deviation, then scales and shifts them, (C,) each."""
    return (images - mean) * (inverse * scale) + bias


@jax.custom_vjp
def _normalise_by_batch(images: jax.Array, scale: jax.Array, bias: jax.Array) -> Arrays:
    """Normalises float32 images (B, H, W, C) by their mean and variance (C,), which are returned without a gradient.

    The gradient is written out: two sums over pixels suffice for it, and XLA:CPU makes fewer passes over images of it
    than of the derived one (sweeps/benchmarks/throughput).
    """
    return _normalise_forward(images, scale, bias)[0]


def _normalise_forward(images: jax.Array, scale: jax.Array, bias: jax.Array) -> tuple[Arrays, Arrays]:
    """Returns the result of `_normalise_by_batch`, and what its gradient needs."""
    count = images.size // images.shape[-1]
    mean = sum_pixels(images) / count
    variance = jnp.maximum(0.0, sum_pixels(lax.square(images)) / count - lax.square(mean))
    inverse = lax.rsqrt(variance + EPSILON)
    output = _normalise(images, mean, inverse, scale, bias)
    return (output, mean, variance), (images, mean, inverse, scale)


def _normalise_backward(saved: Arrays, gradients: Arrays) -> Arrays:
    """Returns the gradients of images, scale and bias.

    For an image x over n pixels, z = (x - mean) / deviation and the output's gradient g, they are

        bias    sum g
        scale   sum g z
        x       scale / deviation (g - sum g / n - z sum g z / n),    linear in g and x: factor g + slope x + offset
    """
    images, mean, inverse, scale = saved
    gradient, _, _ = gradients
    of_bias = sum_pixels(gradient)
    of_scale = (sum_pixels(gradient * images) - mean * of_bias) * inverse
    factor = inverse * scale
    count = images.size // images.shape[-1]
    slope = -factor * inverse * of_scale / count
    offset = -factor * of_bias / count - slope * mean
    return factor * gradient + (slope * images + offset), of_scale, of_bias


_normalise_by_batch.defvjp(_normalise_forward, _normalise_backward)


class PackBias(nnx.Module):
    """A learned offset per channel, for blocks without a norm."""

    def __init__(self, channels: int):
        """Starts at zero."""
        self.bias = nnx.Param(jnp.zeros((channels,)))

    def __call__(self, pack: Pack) -> Pack:
        """Adds the offset."""
        return map_chunks(lambda chunk, offset: chunk + offset.astype(chunk.dtype), pack, self.bias[...])


NORM_LAYERS = {"batch": PackBatchNorm, "none": PackBias}
"""What follows a convolution, by `ModelSpec.norm`."""


class ConvolutionBlock(nnx.Module):
    """Convolution, norm and ReLU, twice."""

    def __init__(self, first: jax.Array, second: jax.Array, *, norm: str):
        """Takes the kernels of two convolutions, (3, 3, inputs, outputs) float32; makes their norms."""
        self.first = nnx.Param(first)
        self.first_norm = NORM_LAYERS[norm](first.shape[-1])
        self.second = nnx.Param(second)
        self.second_norm = NORM_LAYERS[norm](second.shape[-1])

    def __call__(self, pack: Pack, *, skip: Pack | None = None) -> tuple[Pack, jax.Array]:
        """Maps a pack to one of its dtype, and to whether each member is finite; `skip` as in `convolve_pack`."""
        dtype = pack[0].dtype
        finite = []
        for kernel, norm in ((self.first, self.first_norm), (self.second, self.second_norm)):
            # The kernels of a pack have a leading member axis.
            weights = kernel.astype(dtype).reshape(-1, *kernel.shape[-4:])
            convolved = convolve_pack(pack, weights, skip=skip)
            finite.append(sound(convolved, members=weights.shape[0]))
            pack = [rectify(chunk.astype(dtype)) for chunk in norm(convolved)]
            skip = None
        return pack, finite[0] & finite[1]


@jax.custom_vjp
@materialised
def halve(images: jax.Array) -> jax.Array:
    """Max-pools 2 x 2: (B, H, W, C) to (B, H / 2, W / 2, C)."""
    return functools.reduce(jnp.maximum, _quarters(images))


def _quarters(images: jax.Array) -> list[jax.Array]:
    """Returns the four pixels of each 2 x 2, each (B, H / 2, W / 2, C)."""
    B, H, W, C = images.shape
    halves = images.reshape(B, H // 2, 2, W // 2, 2, C)
    return [halves[:, :, 0, :, 0], halves[:, :, 0, :, 1], halves[:, :, 1, :, 0], halves[:, :, 1, :, 1]]


@materialised
def _halve_backward(images: jax.Array, top: jax.Array, gradient: jax.Array) -> jax.Array:
    """Shares the gradient of a maximum, `top`, among the pixels equal to it, as XLA does."""
    B, H, W, C = images.shape
    count = functools.reduce(jnp.add, [(quarter == top).astype(images.dtype) for quarter in _quarters(images)])
    share = gradient / count
    equal = images.reshape(B, H // 2, 2, W // 2, 2, C) == top[:, :, None, :, None]
    return (equal.astype(images.dtype) * share[:, :, None, :, None]).reshape(images.shape)


def _halve_forward(images: jax.Array) -> tuple[jax.Array, Arrays]:
    """Returns the maxima, and what their gradient needs."""
    top = halve(images)
    return top, (images, top)


halve.defvjp(_halve_forward, lambda saved, gradient: (_halve_backward(*saved, gradient),))


def halve_by_slices(images: jax.Array) -> jax.Array:
    """Equals `halve`, rows before columns: faster if channels fill the lanes (sweeps/benchmarks/accelerators)."""
    B, H, W, C = images.shape
    rows = images.reshape(B, H // 2, 2, W, C)
    rows = jnp.maximum(rows[:, :, 0], rows[:, :, 1]).reshape(B, H // 2, W // 2, 2, C)
    return jnp.maximum(rows[:, :, :, 0], rows[:, :, :, 1])
