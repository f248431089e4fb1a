"""The convolution of images that are doubled in size, for the decoder of a U-Net."""

import jax
import jax.numpy as jnp
from jax import lax

from flipjax.models.convolutions import tracing
from flipjax.models.convolutions.cross_correlation import Offsets, cross_correlate
from flipjax.models.convolutions.plain import LAYOUT
from flipjax.models.convolutions.stride_one import convolve, convolve_abreast
from flipjax.models.convolutions.tracing import Arrays, with_gradient


def double(images: jax.Array) -> jax.Array:
    """Repeats every pixel 2 x 2: (B, H, W, C) to (B, 2 H, 2 W, C)."""
    B, H, W, C = images.shape
    return jnp.broadcast_to(images[:, :, None, :, None], (B, H, 2, W, 2, C)).reshape(B, 2 * H, 2 * W, C)


def convolve_doubled(images: jax.Array, skip: jax.Array | None, kernel: jax.Array) -> jax.Array:
    """Convolves `double(images)` with `skip` behind its channels, as `convolve` does.

    On a CPU the doubled image is never made. At most 2 x 2 of the 3 x 3 pixels that an output sees differ, so that
    each of the four outputs over a pixel is a 2 x 2 convolution of `images`: 4 products in place of 9.

    Args:
        images: (B, H, W, C) float.
        skip: (B, 2 H, 2 W, S) of the same dtype, or None: no more channels.
        kernel: (3, 3, C + S, O) of the same dtype.

    Returns:
        (B, 2 H, 2 W, O), the dtype of `images`.

    Example:
        >>> images, skip = jnp.ones((1, 1, 1, 1)), jnp.zeros((1, 2, 2, 1))
        >>> convolve_doubled(images, skip, jnp.ones((3, 3, 2, 1)))[0, :, :, 0].tolist()
        [[4.0, 4.0], [4.0, 4.0]]
    """
    if not tracing.for_cpu():
        wide = double(images)
        if skip is not None:
            wide = jnp.concatenate([wide, skip], axis=-1)
        return convolve(wide, kernel)
    C = images.shape[-1]
    doubled = _convolve_on_cpu(images, kernel[:, :, :C])
    if skip is not None and skip.shape[-1]:
        doubled = doubled + convolve(skip, kernel[:, :, C:])
    # Rounded alike whatever follows it, alone and in a population.
    return lax.optimization_barrier(doubled)


def _forward(images: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolves doubled images, the four outputs about each corner between pixels at once.

    With the corners at the edge there is one output too many on each side, which is cut off.
    """
    B, H, W, _ = images.shape
    outputs = kernel.shape[-1]
    corners = _corners(images, lax.optimization_barrier(_fold(kernel)))  # (B, H + 1, W + 1, 4 O)
    corners = corners.reshape(B, H + 1, W + 1, 2, 2, outputs)  # The corner's row, its column; the output's about it.
    rows = corners.swapaxes(2, 3)  # (B, H + 1, 2, W + 1, 2, O)
    doubled = rows.reshape(B, 2 * H + 2, 2 * W + 2, outputs)
    return doubled[:, 1:-1, 1:-1]


def _fold(kernel: jax.Array) -> jax.Array:
    """Folds a kernel (3, 3, C, O) over doubled pixels into (2, 2, C, 4 O), for the four outputs about a corner.

    Along one axis, by a kernel `a b c`, about the corner between two pixels p and q:

        doubled pixels                 p p | q q
        output just before it          a b   c       (a + b) p + c q
        output just after it             a   b c     a p + (b + c) q
    """
    for axis in (0, 1):
        first, middle, last = jnp.split(kernel, 3, axis)
        output_before = jnp.concatenate([first + middle, last], axis)
        output_after = jnp.concatenate([first, middle + last], axis)
        kernel = jnp.stack([output_before, output_after], axis=-2)
    return kernel.reshape(2, 2, kernel.shape[2], -1)


def _corners(images: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolves at every corner between pixels, those at the edge as well: (B, H, W, C) to (B, H + 1, W + 1, O)."""
    # The convolution pads one row and column: XLA:CPU has a fast path only for an output no larger than its input.
    padded = lax.optimization_barrier(jnp.pad(images, ((0, 0), (1, 0), (1, 0), (0, 0))))
    return lax.conv_general_dilated(padded, kernel, (1, 1), ((0, 1), (0, 1)), dimension_numbers=LAYOUT)


def _backward(saved: Arrays, gradient: jax.Array) -> Arrays:
    """Returns the gradients of `_forward`.

    A pixel reaches 4 x 4 outputs (`_unfold`), and the next pixel those two further on: both gradients are those of a
    convolution with stride 2.
    """
    images, kernel = saved
    turned = lax.optimization_barrier(_unfold(kernel).swapaxes(2, 3))
    image_gradient = convolve_abreast(gradient, turned, [(1, 1), (1, 1)], stride=2)
    sums = cross_correlate(gradient, images, Offsets(margins=(1, 1), steps=(2, 2)))  # (O, 4, 4, C)
    return image_gradient, _unfold_backward(sums.transpose(1, 2, 3, 0))


def _unfold(kernel: jax.Array) -> jax.Array:
    """Returns the weights (4, 4, C, O) by which a pixel, doubled, reaches the 4 x 4 outputs about it.

    Along one axis, by a kernel `a b c`, the pixel p reaches four outputs:

        doubled pixels    . p p .
        first output    a b c            c
        second            a b c          b + c
        third               a b c        a + b
        fourth                a b c      a
    """
    for axis in (0, 1):
        first, middle, last = jnp.split(kernel, 3, axis)
        kernel = jnp.concatenate([last, middle + last, first + middle, first], axis)
    return kernel


def _unfold_backward(weights_gradient: jax.Array) -> jax.Array:
    """Returns the gradient of the kernel (3, 3, C, O) of `_unfold` from that of its weights (4, 4, C, O).

    Each of `a b c` gets the gradients of the outputs that it is summed into: `a` of the third and fourth, and so on.
    """
    gradient = weights_gradient
    for axis in (0, 1):
        first, second, third, fourth = jnp.split(gradient, 4, axis)
        gradient = jnp.concatenate([third + fourth, second + third, first + second], axis)
    return gradient


_convolve_on_cpu = with_gradient(_forward, _backward)
