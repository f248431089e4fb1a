"""The convolutions of large networks: with a stride, of patches that abut, and of single pixels."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from flipjax.backend.convolutions import ONEDNN, traced_library
from flipjax.models.convolutions import tracing
from flipjax.models.convolutions.cross_correlation import Offsets, cross_correlate
from flipjax.models.convolutions.plain import LAYOUT, convolve_on_accelerator, convolve_plainly
from flipjax.models.convolutions.stride_one import convolve
from flipjax.models.convolutions.tracing import Arrays, with_gradient


def convolve_strided(images: jax.Array, kernel: jax.Array, *, stride: int) -> jax.Array:
    """Convolves as PyTorch does, with a stride and zero padding of half the kernel, or none where patches abut.

    On a CPU both gradients are written out. XLA derives a dilated convolution and one with permuted dimensions, and
    inside a loop its CPU backend has no fast path for those.

    Args:
        images: (B, H, W, C) float, H and W multiples of the stride.
        kernel: (h, h, C, O) float of the same dtype; h odd, or equal to the stride: then patches abut.
        stride: in both directions.

    Returns:
        (B, H / stride, W / stride, O), the dtype of `images`.

    Example:
        >>> convolve_strided(jnp.ones((1, 4, 4, 1)), jnp.ones((3, 3, 1, 1)), stride=2)[0, :, :, 0].tolist()
        [[4.0, 6.0], [6.0, 9.0]]
    """
    size = kernel.shape[0]
    if size == stride:
        return _convolve_patches(images, kernel)
    if size == 1:
        return multiply(images[:, ::stride, ::stride], kernel[0, 0])
    if stride == 1:
        return convolve(images, kernel)
    if not tracing.for_cpu():
        return convolve_on_accelerator(images, kernel, stride=stride)
    forward = functools.partial(convolve_plainly, stride=stride)
    backward = functools.partial(_strided_backward, stride=stride)
    return with_gradient(forward, backward)(images, kernel)


def _convolve_patches(images: jax.Array, kernel: jax.Array) -> jax.Array:
    """Multiplies patches that abut, of the size of the kernel (h, h, C, O), by it: (B, H / h, W / h, O)."""
    B, H, W, C = images.shape
    size = kernel.shape[0]
    patches = images.reshape(B, H // size, size, W // size, size, C).swapaxes(2, 3)
    rows = patches.reshape(B, H // size, W // size, size * size * C)
    return multiply(rows, kernel.reshape(size * size * C, -1))


def _strided_backward(saved: Arrays, gradient: jax.Array, *, stride: int) -> Arrays:
    """Returns the gradients of `convolve_plainly`, that of the kernel by `cross_correlate`."""
    images, kernel = saved
    height, width = kernel.shape[:2]
    # (C, h + stride - 1, w + stride - 1, O): a step adds stride - 1 offsets, which lie beyond the kernel.
    sums = cross_correlate(images, gradient, Offsets((height // 2, width // 2), steps=(stride, stride)))
    return _image_gradient(gradient, kernel, stride=stride), sums[:, :height, :width].transpose(1, 2, 0, 3)


def _image_gradient(gradient: jax.Array, kernel: jax.Array, *, stride: int) -> jax.Array:
    """Returns the gradient of the images from that of the output, all pixels of a square of stride x stride at once."""
    B, H, W, _ = gradient.shape
    size, _, inputs, _ = kernel.shape
    padding = [_reach(size, stride)] * 2
    # Without the barrier XLA folds the kernel's transpose into permuted dimensions of the convolution.
    by_square = lax.optimization_barrier(_by_square(kernel, stride))
    rows = lax.conv_general_dilated(gradient, by_square, (1, 1), padding, dimension_numbers=LAYOUT)
    squares = rows.reshape(B, H, W, stride, stride, inputs)
    return squares.swapaxes(2, 3).reshape(B, stride * H, stride * W, inputs)


def _reach(size: int, stride: int) -> tuple[int, int]:
    """Returns how many outputs before its own, and how many behind it, see a pixel of a square."""
    margin = size // 2
    return margin // stride, (margin + stride - 1) // stride


def _by_square(kernel: jax.Array, stride: int) -> jax.Array:
    """Returns the weights (n, n, O, stride * stride * C) by which n x n outputs see the pixels of a square.

    Along one axis, by a kernel `a b c` with stride 2, the outputs p and q see the two pixels of p's square:

        pixels of p's square     1 2
        p sees                 a b c
        q sees                     a b c

    So the weights are b and 0 for the first pixel, c and a for the second.
    """
    size, _, inputs, outputs = kernel.shape
    before, behind = _reach(size, stride)
    count = before + 1 + behind
    # Rows of stride weights, those of the last output first: (0 a) and (b c) above.
    zeros_before = behind * stride - size // 2
    zeros_behind = count * stride - size - zeros_before
    zeros = zeros_before, zeros_behind
    padded = jnp.pad(kernel, (zeros, zeros, (0, 0), (0, 0)))
    weights = padded.reshape(count, stride, count, stride, inputs, outputs)[::-1, :, ::-1]
    return weights.transpose(0, 2, 5, 1, 3, 4).reshape(count, count, outputs, stride * stride * inputs)


def multiply(images: jax.Array, kernel: jax.Array) -> jax.Array:
    """Multiplies each pixel by a matrix, as a 1 x 1 convolution does.

    By oneDNN the matrix's gradient is a convolution: a matrix product would transpose all pixels first.

    Args:
        images: (B, H, W, C) float.
        kernel: (C, O) float of the same dtype.

    Returns:
        (B, H, W, O), the dtype of `images`.

    Example:
        >>> multiply(jnp.ones((1, 1, 2, 3)), jnp.ones((3, 1)))[0, 0, :, 0].tolist()
        [3.0, 3.0]
    """
    if tracing.for_cpu() and traced_library.value == ONEDNN:
        return _multiply_by_onednn(images, kernel)
    return images @ kernel


def _multiply_backward(saved: Arrays, gradient: jax.Array) -> Arrays:
    """Returns the gradients of `multiply`: that of the matrix is a sum of products at a single offset."""
    images, kernel = saved
    inputs, outputs = kernel.shape
    single = Offsets(margins=(0, 0))
    # oneDNN computes a stretch of a row at once, which holds the channels of what moves: the one of more channels.
    if inputs >= outputs:
        kernel_gradient = cross_correlate(images, gradient, single)[:, 0, 0]
    else:
        kernel_gradient = cross_correlate(gradient, images, single)[:, 0, 0].T
    return gradient @ kernel.T, kernel_gradient


_multiply_by_onednn = with_gradient(jnp.matmul, _multiply_backward)
