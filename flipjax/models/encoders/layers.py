"""Layers of the large U-Nets, channels last, with PyTorch's parameters under PyTorch's names.

Parameters are float32. A layer computes in the dtype of its input, normalisations in float32.
"""

import functools
import math

import jax
import jax.numpy as jnp
from flax import nnx

from flipjax.models.convolutions.depthwise import depthwise
from flipjax.models.convolutions.strided import convolve_strided, multiply

MOMENTUM = 0.1
"""Weight of a batch's statistics in the running ones, as in PyTorch."""
EPSILON = 1e-5
"""Added to the variance of a norm, PyTorch's default."""


class Convolution(nnx.Module):
    """A convolution; `weight` (size, size, inputs, outputs). Padding keeps the size; patches that abut have none."""

    convolve = staticmethod(convolve_strided)

    def __init__(self, inputs: int, outputs: int, *size: int, stride: int = 1, bias: bool = False):
        """Initialises the weights to zero; `stride` equal to a `size` above 1 gives patches that abut."""
        self.weight = nnx.Param(jnp.zeros((*size, *size, inputs, outputs)))
        self.bias = nnx.Param(jnp.zeros((outputs,))) if bias else None
        self.stride = stride

    def __call__(self, images: jax.Array) -> jax.Array:
        """Maps (B, H, W, inputs) to (B, H / stride, W / stride, outputs)."""
        output = self.convolve(images, self.weight[...].astype(images.dtype), stride=self.stride)
        if self.bias is None:
            return output
        return output + self.bias[...].astype(images.dtype)


class Depthwise(Convolution):
    """A convolution of each channel by itself; `weight` (size, size, 1, channels)."""

    convolve = staticmethod(depthwise)

    def __init__(self, channels: int, size: int = 3, *, stride: int = 1, bias: bool = False):
        """Initialises the weights to zero."""
        super().__init__(1, channels, size, stride=stride, bias=bias)


def _product(values: jax.Array, weight: jax.Array, *, stride: int) -> jax.Array:
    """Returns `multiply` with the arguments of a convolution; `stride` is 1."""
    return multiply(values, weight)


class Linear(Convolution):
    """A linear map of the last axis; `weight` (inputs, outputs)."""

    convolve = staticmethod(_product)

    def __init__(self, inputs: int, outputs: int):
        """Initialises the weights to zero."""
        super().__init__(inputs, outputs, bias=True)


class LayerNorm(nnx.Module):
    """Layer normalisation of the last axis (Ba et al., 2016)."""

    def __init__(self, channels: int, *, epsilon: float = EPSILON):
        """Initialises to the identity: scale 1, offset 0."""
        self.weight = nnx.Param(jnp.ones((channels,)))
        self.bias = nnx.Param(jnp.zeros((channels,)))
        self.epsilon = epsilon

    def __call__(self, values: jax.Array) -> jax.Array:
        """Maps (..., channels) to the same shape and dtype."""
        return _normalise_last(values, self.weight[...], self.bias[...], self.epsilon)


class BatchNorm(nnx.Module):
    """PyTorch's batch normalisation (Ioffe and Szegedy, 2015).

    In training the batch is normalised by its biased variance, and the running variance is updated with a tenth of the
    unbiased one.
    """

    def __init__(self, channels: int, *, epsilon: float = EPSILON):
        """Starts as the plain normalisation, in training mode."""
        self.weight = nnx.Param(jnp.ones((channels,)))
        self.bias = nnx.Param(jnp.zeros((channels,)))
        self.running_mean = nnx.BatchStat(jnp.zeros((channels,)))
        self.running_var = nnx.BatchStat(jnp.ones((channels,)))
        self.epsilon = epsilon
        self.use_running_average = False

    def __call__(self, images: jax.Array) -> jax.Array:
        """Maps (B, H, W, channels) to the same shape and dtype; in training moves the running statistics."""
        if self.use_running_average:
            moments = self.running_mean[...], self.running_var[...]
            return _normalise(images, *moments, self.weight[...], self.bias[...], self.epsilon)
        output, moments = _normalise_by_batch(images, self.weight[...], self.bias[...], self.epsilon)
        mean, variance = jax.lax.stop_gradient(moments)
        count = images.size // images.shape[-1]
        unbiased = variance * (count / max(count - 1, 1))
        for running, of_batch in ((self.running_mean, mean), (self.running_var, unbiased)):
            running[...] += MOMENTUM * (of_batch - running[...])
        return output


# Backward passes of norms, GELU and softmax recompute from the input: under mixed precision their float32 values would
# take more memory than everything else.


@functools.partial(jax.checkpoint, static_argnums=3)
def _normalise_last(values: jax.Array, weight: jax.Array, bias: jax.Array, epsilon: float) -> jax.Array:
    """Normalises the last axis of values (..., C) by its mean and variance, then scales and shifts it, (C,) each."""
    wide = values.astype(jnp.float32)
    centred = wide - wide.mean(-1, keepdims=True)
    scaled = centred * jax.lax.rsqrt(jnp.square(centred).mean(-1, keepdims=True) + epsilon)
    return (scaled * weight + bias).astype(values.dtype)


@jax.checkpoint
def gelu(values: jax.Array) -> jax.Array:
    """Returns the exact GELU (Hendrycks and Gimpel, 2016), with the error function, in the dtype of `values`."""
    wide = values.astype(jnp.float32)
    return (0.5 * wide * (1 + jax.lax.erf(wide * math.sqrt(0.5)))).astype(values.dtype)


@jax.checkpoint
def softmax(scores: jax.Array) -> jax.Array:
    """Returns the softmax of the last axis, computed in float32, in the dtype of `scores`."""
    return jax.nn.softmax(scores.astype(jnp.float32)).astype(scores.dtype)


def _normalise(
    images: jax.Array, mean: jax.Array, variance: jax.Array, weight: jax.Array, bias: jax.Array, epsilon: float
) -> jax.Array:
    """Normalises images (B, H, W, C) by a mean and a variance, then scales and shifts them, (C,) each."""
    scale = weight * jax.lax.rsqrt(variance + epsilon)
    return (images.astype(jnp.float32) * scale + (bias - mean * scale)).astype(images.dtype)


@functools.partial(jax.checkpoint, static_argnums=3)
def _normalise_by_batch(
    images: jax.Array, weight: jax.Array, bias: jax.Array, epsilon: float
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    """Normalises images (B, H, W, C) by their own mean and variance, which are returned with the result, (C,) each."""
    wide = images.astype(jnp.float32)
    moments = wide.mean((0, 1, 2)), wide.var((0, 1, 2))
    return _normalise(images, *moments, weight, bias, epsilon), moments
