"""Convolution of each channel by itself, in the forms that are fast on a CPU."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from flipjax.backend.convolutions import ONEDNN, traced_library
from flipjax.models.convolutions import tracing
from flipjax.models.convolutions.plain import LAYOUT, convolve_on_accelerator
from flipjax.models.convolutions.tracing import Arrays, with_gradient


def depthwise(images: jax.Array, kernel: jax.Array, *, stride: int = 1) -> jax.Array:
    """Convolves each channel by itself, zero-padded as TensorFlow pads.

    On a CPU, and with a stride, this is a sum of shifted products, which XLA fuses into one pass; elsewhere, and by
    oneDNN, a grouped convolution. A kernel's gradient is summed on a CPU in parts that stay in its cache.

    Args:
        images: (B, H, W, C) float, H and W multiples of the stride.
        kernel: (h, w, 1, C) float of the same dtype, h and w odd.
        stride: 1 or 2, in both directions.

    Returns:
        (B, H / stride, W / stride, C), the dtype of `images`.

    Example:
        >>> depthwise(jnp.ones((1, 3, 3, 1)), jnp.ones((3, 3, 1, 1)))[0, :, :, 0].tolist()
        [[4.0, 6.0, 4.0], [6.0, 9.0, 6.0], [4.0, 6.0, 4.0]]
    """
    if not tracing.for_cpu():
        if stride > 1:
            return _sum_of_taps(images, kernel, stride=stride)
        return convolve_on_accelerator(images, kernel, groups=images.shape[-1])
    forward = functools.partial(_forward, stride=stride)
    backward = functools.partial(_backward, stride=stride)
    return with_gradient(forward, backward)(images, kernel)


def _backward(saved: Arrays, gradient: jax.Array, *, stride: int) -> Arrays:
    """Returns the gradients of `_forward`."""
    images, kernel = saved
    if traced_library.value == ONEDNN:
        kernel_gradient = _kernel_gradient_by_rows(images, gradient, kernel.shape, stride=stride)
    else:
        kernel_gradient = _kernel_gradient_by_images(images, gradient, kernel.shape, stride=stride)
    # The images' gradient is a convolution of the output's by the turned kernel. With a stride of 2 the output's pixels
    # stand apart: a zero before each, down and across.
    between = (stride - 1, 0, stride - 1)
    apart = lax.pad(gradient, jnp.zeros((), gradient.dtype), ((0, 0, 0), between, between, (0, 0, 0)))
    return _forward(apart, kernel[::-1, ::-1], stride=1), kernel_gradient


def _forward(images: jax.Array, kernel: jax.Array, *, stride: int) -> jax.Array:
    """Convolves on a CPU."""
    if traced_library.value != ONEDNN:
        return _sum_of_taps(images, kernel, stride=stride)
    # Without barriers XLA would fuse it with a product before or behind it, or with the turning of the kernel, and
    # then compute it itself, slowly.
    images, kernel = lax.optimization_barrier((images, kernel))
    padding = _tensorflow_padding(kernel.shape[:2], stride)
    convolved = lax.conv_general_dilated(
        images, kernel, (stride, stride), padding, dimension_numbers=LAYOUT, feature_group_count=images.shape[-1]
    )
    return lax.optimization_barrier(convolved)


def _kernel_gradient_by_images(
    images: jax.Array, gradient: jax.Array, shape: tuple[int, ...], *, stride: int
) -> jax.Array:
    """Sums a kernel's gradient image by image, all taps at once, in the dtype of the images."""

    def add(index: jax.Array, total: jax.Array) -> jax.Array:
        image = lax.dynamic_slice_in_dim(images, index, 1)
        slope = lax.dynamic_slice_in_dim(gradient, index, 1)
        return total + jnp.stack([(view * slope).sum((0, 1, 2)) for view in taps(image, shape[:2], stride=stride)])

    zero = jnp.zeros((math.prod(shape[:2]), shape[-1]), images.dtype)
    return lax.fori_loop(0, len(images), add, zero).reshape(shape)


def _kernel_gradient_by_rows(
    images: jax.Array, gradient: jax.Array, shape: tuple[int, ...], *, stride: int
) -> jax.Array:
    """Sums a kernel's gradient row by row of the outputs, all taps at once, in float32.

    Image by image, JAX 0.12 would write out what each tap sees. In bfloat16 a sum of so many rows would stop growing.
    """
    B, H, W, C = gradient.shape
    height, width = shape[:2]
    # (B, H stride + height - stride, W stride + width - stride, C)
    padding = (0, 0), *_tensorflow_padding(shape[:2], stride), (0, 0)
    padded = lax.optimization_barrier(jnp.pad(images, padding))
    right = stride * (W - 1) + 1

    def add(index: jax.Array, total: jax.Array) -> jax.Array:
        image = index // H
        row = index % H
        # The rows that the kernel sees from this row of outputs, (height, ..., C).
        (seen,) = lax.dynamic_slice(padded, (image, stride * row, 0, 0), (1, height, *padded.shape[2:]))
        slope = lax.dynamic_slice(gradient, (image, row, 0, 0), (1, 1, W, C))[0, 0].astype(total.dtype)
        sums = [(seen[i, j : j + right : stride] * slope).sum(0) for i, j in np.ndindex(height, width)]
        return total + jnp.stack(sums)

    zero = jnp.zeros((height * width, C), jnp.float32)
    return lax.fori_loop(0, B * H, add, zero).reshape(shape).astype(images.dtype)


def _tensorflow_padding(size: tuple[int, ...], stride: int) -> list[tuple[int, int]]:
    """Returns rows and columns of zeros before and behind images, as TensorFlow pads."""
    return [((length - stride) // 2, (length - stride + 1) // 2) for length in size]


def taps(images: jax.Array, size: tuple[int, ...], *, stride: int = 1) -> list[jax.Array]:
    """Returns what each tap of a kernel sees, row by row: views (B, H / stride, W / stride, C).

    Args:
        images: (B, H, W, C), H and W multiples of the stride; zero-padded as TensorFlow pads.
        size: height and width of the kernel.
        stride: in both directions.
    """
    _, H, W, _ = images.shape
    padded = jnp.pad(images, ((0, 0), *_tensorflow_padding(size, stride), (0, 0)))
    down = H - stride + 1
    right = W - stride + 1
    return [padded[:, i : i + down : stride, j : j + right : stride] for i, j in np.ndindex(*size)]


def _sum_of_taps(images: jax.Array, kernel: jax.Array, *, stride: int) -> jax.Array:
    """Convolves as the sum, over the taps of a kernel, of what each sees times its weights."""
    seen = taps(images, kernel.shape[:2], stride=stride)
    weights = kernel.reshape(len(seen), -1)
    return functools.reduce(jnp.add, map(jnp.multiply, seen, weights))
