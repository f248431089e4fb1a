"""The convolution with stride 1, which stays fast on XLA:CPU: in a loop, in its gradients, and with few channels.

On a CPU neighbouring pixels are computed together, to fill the columns of a matrix product, and gradients are written
out. How many pixels depends on `traced_library.value`, the library of the program that is being traced:
`backend.convolutions.with_library` sets it.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from flipjax.backend.convolutions import ONEDNN, XLA, traced_library
from flipjax.models.convolutions import tracing
from flipjax.models.convolutions.cross_correlation import Offsets, cross_correlate
from flipjax.models.convolutions.plain import LAYOUT, convolve_on_accelerator, half_padding
from flipjax.models.convolutions.tracing import Arrays, materialised, with_gradient

ONEDNN_COLUMNS = 16
"""Least number of columns in a product by oneDNN: the numbers of float32 in a vector of AVX-512."""
EIGEN_COLUMNS = 32
"""Columns of a product with which Eigen is fastest (sweeps/benchmarks/throughput/roofline.py)."""
EIGEN_CHANNELS = 16
"""Most channels with which XLA:CPU calls Eigen for a convolution's products. With more it calls YNNPACK."""
ABREAST = (1, 2, 4)
"""How many neighbouring pixels of a row may be computed together."""


def convolve(images: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolves with stride 1 and zero padding that keeps the size.

    On a CPU the image's gradient is itself a plain NHWC/HWIO convolution, and the kernel's a correlation
    (`kernel_gradient`). XLA derives the same sums as convolutions with permuted dimensions, and inside a loop its CPU
    backend has no fast path for those. Elsewhere this is `convolve_on_accelerator`.

    Args:
        images: (B, H, W, C) float.
        kernel: (h, w, C, O) float of the same dtype, h and w odd.

    Returns:
        (B, H, W, O), the dtype of `images`.

    Example:
        >>> convolve(jnp.ones((1, 3, 3, 1)), jnp.ones((3, 3, 1, 1)))[0, :, :, 0].tolist()
        [[4.0, 6.0, 4.0], [6.0, 9.0, 6.0], [4.0, 6.0, 4.0]]
    """
    if tracing.for_cpu():
        return _convolve_on_cpu(images, kernel)
    return convolve_on_accelerator(images, kernel)


def _forward(images: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolves as `convolve` does, on a CPU."""
    if _has_three_channels(images):
        images = _with_fourth_channel(images)
        kernel = jnp.pad(kernel, ((0, 0), (0, 0), (0, 1), (0, 0)))
    return convolve_abreast(images, kernel, half_padding(kernel))


def _has_three_channels(images: jax.Array) -> bool:
    """Returns whether images have three channels, as photos have, and gradients of three outputs."""
    return images.shape[-1] == 3


def _with_fourth_channel(images: jax.Array) -> jax.Array:
    """Adds a channel of zeros: a pixel of four values is read two to three times as fast as one of three."""
    # The barrier keeps XLA from taking the zeros out again; that of JAX 0.10.2 leaves them in without one, too.
    return lax.optimization_barrier(jnp.pad(images, ((0, 0), (0, 0), (0, 0), (0, 1))))


def convolve_abreast(
    images: jax.Array, kernel: jax.Array, padding: list[tuple[int, int]], *, stride: int = 1
) -> jax.Array:
    """Convolves with a stride, several pixels of a row together, as further outputs of a wider kernel.

    For two pixels abreast a row `a b c` of the kernel becomes two rows, each with zeros where only the other looks:

                 stride 1    stride 2
        first    a b c 0     a b c 0 0
        second   0 a b c     0 0 a b c

    The convolution then moves on by two pixels at a time, and its outputs for the two lie beside one another.

    Args:
        images: (B, H, W, C) float.
        kernel: (h, w, C, O) float of the same dtype.
        padding: rows and columns of zeros before and behind the images, with which the result has H / stride rows.
        stride: in both directions.

    Returns:
        (B, H / stride, W / stride, O).

    Example:
        >>> images, kernel = jnp.ones((1, 4, 4, 1)), jnp.ones((3, 3, 1, 1))
        >>> convolve_abreast(images, kernel, [(1, 1), (1, 1)], stride=2)[0, :, :, 0].tolist()
        [[4.0, 6.0], [6.0, 9.0]]
    """
    B, H, W, C = images.shape
    height, width, _, outputs = kernel.shape
    pixels = _pixels_abreast(W // stride, C, outputs)
    if pixels > 1:
        shifted = []
        for pixel in range(pixels):
            zeros_before = pixel * stride
            zeros_behind = (pixels - 1 - pixel) * stride
            shifted.append(jnp.pad(kernel, ((0, 0), (zeros_before, zeros_behind), (0, 0), (0, 0))))
        # The barrier keeps XLA from taking the wide kernel apart again; that of JAX 0.10.2 keeps it whole anyway.
        kernel = lax.optimization_barrier(jnp.concatenate(shifted, axis=-1))
    if height > H or width > W:
        # Written out: XLA would let the smaller images move over the kernel, for which it has no fast path.
        images = lax.optimization_barrier(jnp.pad(images, ((0, 0), *padding, (0, 0))))
        padding = [(0, 0), (0, 0)]
    # (B, H / stride, W / stride / pixels, pixels * O)
    rows = lax.conv_general_dilated(images, kernel, (stride, stride * pixels), padding, dimension_numbers=LAYOUT)
    return rows.reshape(B, H // stride, W // stride, outputs)


def _pixels_abreast(width: int, inputs: int, outputs: int) -> int:
    """Returns how many of `ABREAST` fill the columns of a product, in rows of `width` pixels."""
    if traced_library.value == ONEDNN:
        full_product = max(1, ONEDNN_COLUMNS // outputs)
    elif max(inputs, outputs) <= EIGEN_CHANNELS:
        # Eigen: the zeros in a wider kernel cost less than empty columns. So few outputs fit at least twice.
        full_product = EIGEN_COLUMNS // outputs
    else:
        # YNNPACK is fastest with one pixel at a time.
        full_product = 1
    return max(pixels for pixels in ABREAST if pixels <= full_product and width % pixels == 0)


def _backward(saved: Arrays, gradient: jax.Array) -> Arrays:
    """Returns the gradients of `_forward` by its saved inputs: of images, a convolution by the turned kernel."""
    images, kernel = saved
    height, width, _, outputs = kernel.shape
    image_gradient = _forward(gradient, kernel[::-1, ::-1].swapaxes(2, 3))
    if not _has_three_channels(images):
        return image_gradient, kernel_gradient(images, gradient, kernel.shape)
    # Written out before the fourth channel is cut off: XLA:CPU would otherwise take its last sums into each use.
    of_four_channels = materialised(functools.partial(kernel_gradient, shape=(height, width, 4, outputs)))
    return image_gradient, of_four_channels(_with_fourth_channel(images), gradient)[:, :, :3]


# `with_gradient` saves the inputs of `_forward`, images and kernel, for `_backward`.
_convolve_on_cpu = with_gradient(_forward, _backward)


def kernel_gradient(images: jax.Array, gradient: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Returns the gradient of `convolve`'s kernel on a CPU: the images correlated with the output's gradient.

    Args:
        images: (B, H, W, C) float.
        gradient: (B, H, W, O) of the output.
        shape: of the kernel, (h, w, C, O), h and w odd.

    Returns:
        (h, w, C, O).

    Example:
        >>> images, gradient = jnp.ones((1, 3, 3, 1)), jnp.ones((1, 3, 3, 1))
        >>> kernel_gradient(images, gradient, (3, 3, 1, 1))[:, :, 0, 0].tolist()
        [[4.0, 6.0, 4.0], [6.0, 9.0, 6.0], [4.0, 6.0, 4.0]]
    """
    height, width, inputs, outputs = shape
    margins = height // 2, width // 2
    # By XLA's own library few outputs leave columns of a product empty, and more inputs fill them.
    if traced_library.value == XLA and outputs <= EIGEN_CHANNELS < inputs:
        return _kernel_gradient_swapped(images, gradient, margins)
    return _kernel_gradient_abreast(images, gradient, margins, width=width)


def _kernel_gradient_abreast(
    images: jax.Array, gradient: jax.Array, margins: tuple[int, int], *, width: int
) -> jax.Array:
    """Returns `kernel_gradient`, with neighbouring pixels of the output's gradient as one pixel of more channels.

    As in `convolve_abreast` they fill the columns of a product. The sums of two pixels abreast hold the gradient of a
    kernel's row `a b c` in two parts, that of the second pixel one offset further on:

        offset    0 1 2 3
        first     a b c .
        second    . a b c

    The sums at a dot belong to no column of the kernel. The gradient is the sum of the parts.
    """
    B, H, W, C = images.shape
    outputs = gradient.shape[-1]
    pixels = _pixels_abreast(W, C, outputs)
    abreast = gradient.reshape(B, H, W // pixels, pixels * outputs)
    sums = cross_correlate(images, abreast, Offsets(margins, steps=(1, pixels)))  # (C, h, w + pixels - 1, pixels * O)
    parts = [sums[:, :, i : i + width, i * outputs : (i + 1) * outputs] for i in range(pixels)]
    return functools.reduce(jnp.add, parts).transpose(1, 2, 0, 3)


def _kernel_gradient_swapped(images: jax.Array, gradient: jax.Array, margins: tuple[int, int]) -> jax.Array:
    """Returns `kernel_gradient` with the two correlated the other way round: the output's gradient moves.

    So the images, which have more channels, supply the columns of a product. Moving the gradient to the left is moving
    the images to the right, so that rows and columns of the sums come in reverse.
    """
    sums = cross_correlate(gradient, images, Offsets(margins))  # (O, h, w, C)
    return sums[:, ::-1, ::-1].transpose(1, 2, 3, 0)
