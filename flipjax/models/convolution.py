"""Convolutions that stay fast on XLA:CPU: in a loop, in their gradients, and with few channels.

Each has one form for a CPU, with gradients written out, and one for accelerators. `_correlate` sums the gradients
of kernels. The form on a CPU depends on `library.value`, the library of the program that is being traced:
`backend.convolutions.with_library` sets it, and nothing in this module does.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_batching import custom_vmap
from jax.experimental.xla_metadata import set_xla_metadata

from flipjax.backend.convolutions import ONEDNN, XLA, library
from flipjax.support.arrays import PyTree

LAYOUT = ("NHWC", "HWIO", "NHWC")
"""The axes of images, kernels and outputs."""
Backward: TypeAlias = Callable[[tuple[jax.Array, ...], jax.Array], tuple[jax.Array, ...]]
"""Gradients of a function's inputs, from these inputs and the gradient of its output."""
LANES = 16
"""Numbers of float32 in a vector of AVX-512: oneDNN's least number of columns in a product."""
EIGEN_COLUMNS = 32
"""Columns of a product with which Eigen is fastest (sweeps/benchmarks/throughput/roofline.py)."""
EIGEN_CHANNELS = 16
"""Most channels with which XLA:CPU calls Eigen for a convolution's products. With more it calls YNNPACK."""
BLOCKED = 2**19
"""Values of a batch above which a gradient on XLA:CPU is summed in blocks that stay in a core's cache."""


def _margins(kernel: jax.Array) -> list[tuple[int, int]]:
    """Returns rows and columns of zeros on each side of images, half of the kernel."""
    return [(size // 2, size // 2) for size in kernel.shape[:2]]


def for_cpu() -> bool:
    """Returns whether programs are traced for a CPU.

    Tests and benchmarks replace it, to trace programs for an accelerator that is not there.
    """
    return jax.default_backend() == "cpu"


def spread(members: int, mapped: PyTree, values: PyTree) -> PyTree:
    """Repeats arrays for each member, except those that `mapped` marks as having a leading axis of members."""

    def of_all(is_mapped: bool, array: jax.Array) -> jax.Array:
        return array if is_mapped else jnp.broadcast_to(array, (members, *array.shape))

    return jax.tree.map(of_all, mapped, values)


def materialised(function: Callable) -> Callable:
    """Returns a function of arrays whose inputs and results XLA:CPU writes out, not computing them anew in each use."""
    program = jax.jit(function)

    @functools.wraps(function)
    def call(*arrays: jax.Array) -> PyTree:
        if not for_cpu():
            return function(*arrays)
        with set_xla_metadata(inlineable="false"):
            return program(*arrays)

    return call


def with_gradient(function: Callable, backward: Backward) -> Callable:
    """Returns a function of arrays whose gradients are `backward` of a tuple of these and of the output's gradient."""
    differentiable = jax.custom_vjp(function)
    differentiable.defvjp(lambda *inputs: (function(*inputs), inputs), backward)
    return differentiable


def convolve(images: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolves with stride 1 and zero padding that keeps the size.

    On a CPU the gradients are themselves plain NHWC/HWIO convolutions. XLA derives the same sums as convolutions with
    permuted dimensions, and inside a loop its CPU backend has no fast path for those. Elsewhere this is
    `convolve_on_accelerator`.

    Args:
        images: (B, H, W, C) float.
        kernel: (h, w, C, O) float of the same dtype, h and w odd.

    Returns:
        (B, H, W, O), the dtype of `images`.

    Example:
        >>> convolve(jnp.ones((1, 3, 3, 1)), jnp.ones((3, 3, 1, 1)))[0, :, :, 0].tolist()
        [[4.0, 6.0, 4.0], [6.0, 9.0, 6.0], [4.0, 6.0, 4.0]]
    """
    if for_cpu():
        return _convolve_on_cpu(images, kernel)
    return convolve_on_accelerator(images, kernel)


def _pixels_at_once(width: int, inputs: int, outputs: int) -> int:
    """Returns how many neighbouring pixels of a row to make at once, as columns of one product."""
    if library.value == ONEDNN:
        full_product = max(1, LANES // outputs)
    elif max(inputs, outputs) <= EIGEN_CHANNELS:
        # Eigen: the zeros in a wider kernel cost less than empty columns.
        full_product = EIGEN_COLUMNS // outputs
    else:
        # YNNPACK is fastest with one pixel at a time.
        full_product = 1
    return max(pixels for pixels in (1, 2, 4) if pixels <= full_product and width % pixels == 0)


def _convolve_forward(images: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolves as `convolve` does, on a CPU."""
    if _are_photos(images):
        images = _with_fourth(images)
        kernel = jnp.pad(kernel, ((0, 0), (0, 0), (0, 1), (0, 0)))
    return _columns_at_once(images, kernel, _margins(kernel))


def _are_photos(images: jax.Array) -> bool:
    """Whether images have the three channels of a photo, which `_with_fourth` pads."""
    return images.shape[-1] == 3


def _with_fourth(images: jax.Array) -> jax.Array:
    """Adds a channel of zeros: a pixel of four values is read two to three times as fast as one of three."""
    return lax.optimization_barrier(jnp.pad(images, ((0, 0), (0, 0), (0, 0), (0, 1))))


def _columns_at_once(
    images: jax.Array, kernel: jax.Array, padding: list[tuple[int, int]], *, stride: int = 1
) -> jax.Array:
    """Convolves with a stride, `_pixels_at_once` of a row together, as further outputs of a wider kernel.

    For two pixels at once a row `a b c` of the kernel becomes two rows, each with zeros where only the other looks. The
    two outputs lie beside one another.

                 stride 1    stride 2
        first    a b c 0     a b c 0 0
        second   0 a b c     0 0 a b c
    """
    B, H, W, C = images.shape
    outputs = kernel.shape[-1]
    pixels = _pixels_at_once(W // stride, C, outputs)
    if pixels > 1:
        shifted = []
        for pixel in range(pixels):
            zeros_before = pixel * stride
            zeros_behind = (pixels - 1 - pixel) * stride
            shifted.append(jnp.pad(kernel, ((0, 0), (zeros_before, zeros_behind), (0, 0), (0, 0))))
        kernel = lax.optimization_barrier(jnp.concatenate(shifted, axis=-1))
    rows = lax.conv_general_dilated(images, kernel, (stride, stride * pixels), padding, dimension_numbers=LAYOUT)
    return rows.reshape(B, H // stride, W // stride, outputs)


def _kernel_gradient(images: jax.Array, gradient: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Returns the gradient of a kernel of this shape: the images correlated with the output's gradient.

    As in the forward pass several pixels of a row are taken at once, to fill the columns of a product. Two of them:

        gradient    g0 g1 g2 g3    becomes two pixels of twice the channels, (g0, g1) and (g2, g3)

    The offsets of the second in a pair begin one column further to the right than those of the first.
    """
    H, W, C = images.shape[1:]
    height, width, _, O = shape  # noqa: E741
    margins = height // 2, width // 2
    if library.value == XLA and O <= EIGEN_CHANNELS < C:
        return _kernel_gradient_swapped(images, gradient, margins)
    pixels = _pixels_at_once(W, C, O)
    columns = gradient.reshape(len(gradient), H, W // pixels, pixels * O)
    sums = _correlate(images, columns, Offsets(margins, steps=(1, pixels)))
    of_pixels = [sums[:, :, i : i + width, i * O : (i + 1) * O] for i in range(pixels)]
    return functools.reduce(jnp.add, of_pixels).transpose(1, 2, 0, 3)


def _kernel_gradient_swapped(images: jax.Array, gradient: jax.Array, margins: tuple[int, int]) -> jax.Array:
    """Returns `_kernel_gradient` with the two correlated the other way round: the output's gradient moves.

    So the images, which have more channels, supply the columns of a product. Moving the gradient to the left is moving
    the images to the right, so that rows and columns of the sums come in reverse.
    """
    sums = _correlate(gradient, images, Offsets(margins))
    return sums[:, ::-1, ::-1].transpose(1, 2, 3, 0)


@dataclasses.dataclass(frozen=True)
class Offsets:
    """The offsets at which two stacks of images are correlated, one of which moves over the other.

    Across, a moving row (m) with a margin of one zero (.) on each side, and two fixed pixels (f) at each offset:

        step 1         step 2
        . m m .        . m m m m .
        f f            f   f           offset -1
          f f            f   f                 0
            f f            f   f               1
                             f   f             2

    In general n fixed pixels span step (n - 1) + 1 of the step n + 2 margin places of the moving row, so that they fit
    at 2 margin + step offsets. With a step of 1 and a margin of h // 2 these are the h of an odd kernel.
    """

    margins: tuple[int, int]
    """Rows of zeros above and below the moving images, and columns of zeros on both sides."""
    steps: tuple[int, int] = (1, 1)
    """Rows and columns of the moving images between neighbouring pixels of the fixed ones."""

    @property
    def shape(self) -> tuple[int, int]:
        """How many there are, down and across."""
        above, beside = self.margins
        down, across = self.steps
        return 2 * above + down, 2 * beside + across


def _correlate(moving: jax.Array, fixed: jax.Array, offsets: Offsets) -> jax.Array:
    """Sums the products of two stacks of images over all pixels, at every offset between the two.

    It is a convolution in which channels and batch trade places, and the fixed images are the kernel.

    Args:
        moving: (B, steps[0] H, steps[1] W, M).
        fixed: (B, H, W, F).
        offsets: with its margins and steps.

    Returns:
        (M, *offsets.shape, F).
    """
    if library.value == ONEDNN:
        return _correlate_by_images(moving, fixed, offsets)
    return _correlate_by_rows(moving, fixed, offsets)


def _correlate_by_images(moving: jax.Array, fixed: jax.Array, offsets: Offsets) -> jax.Array:
    """Correlates as `_correlate` does, in the form that is fast by oneDNN, a few images at once."""
    B = len(moving)
    images = _images_at_once(moving, fixed)
    if images == B:
        return _correlate_channels_in_rows(moving, fixed, offsets)

    def add(block: jax.Array, total: jax.Array) -> jax.Array:
        moving_block = lax.dynamic_slice_in_dim(moving, block * images, images)
        fixed_block = lax.dynamic_slice_in_dim(fixed, block * images, images)
        return total + _correlate_channels_in_rows(moving_block, fixed_block, offsets)

    zeros = jnp.zeros((moving.shape[-1], *offsets.shape, fixed.shape[-1]), moving.dtype)
    return lax.fori_loop(0, B // images, add, zeros)


def _images_at_once(moving: jax.Array, fixed: jax.Array) -> int:
    """Returns how many images fit a block of `BLOCKED` values; at least one."""
    B = len(moving)
    values = max(moving.size, fixed.size) // B
    return max((images for images in range(1, B + 1) if B % images == 0 and images * values <= BLOCKED), default=1)


def _correlate_channels_in_rows(moving: jax.Array, fixed: jax.Array, offsets: Offsets) -> jax.Array:
    """Correlates as `_correlate` does, with the channels of a pixel beside one another in a row of one image.

    Of channels r, g, b a moving row becomes `r0 g0 b0 r1 g1 b1 ...`, and the batch becomes the channels. A step of one
    pixel is then one of M places, and an output's row holds M values for each offset. oneDNN computes a stretch of a
    row at once; were channels images of their own, its rows would be as short as the offsets.
    """
    B, H, W, M = moving.shape
    above, beside = offsets.margins
    down, across = offsets.steps
    if B == 1:
        # Without it XLA would run what made them a second time, in the shape of the rows.
        moving, fixed = lax.optimization_barrier((moving, fixed))
    in_rows = moving.transpose(1, 2, 3, 0).reshape(1, H, W * M, B)
    as_kernel = fixed.transpose(1, 2, 0, 3)
    margins = above, beside * M
    sums = _convolve_spread(in_rows, as_kernel, margins=margins, steps=(down, across * M))
    return sums.reshape(*offsets.shape, M, -1).transpose(2, 0, 1, 3)


def _convolve_spread(
    images: jax.Array, kernel: jax.Array, *, margins: tuple[int, int], steps: tuple[int, int]
) -> jax.Array:
    """Convolves with margins of zeros and a kernel whose pixels stand `steps` apart, in a program of its own.

    XLA would otherwise fold the transposes of its inputs into permuted dimensions, for which it has no fast path.
    """
    above, beside = margins
    padding = (above, above), (beside, beside)

    @materialised
    def convolved(images: jax.Array, kernel: jax.Array) -> jax.Array:
        return lax.conv_general_dilated(images, kernel, (1, 1), padding, rhs_dilation=steps, dimension_numbers=LAYOUT)

    return convolved(images, kernel)


def _correlate_by_rows(moving: jax.Array, fixed: jax.Array, offsets: Offsets) -> jax.Array:
    """Correlates as `_correlate` does, in the form that is fast by XLA's own convolutions, a few rows at once.

    A block of fixed rows meets the moving rows over it, and `above` more on either side.
    """
    H = fixed.shape[1]
    above, beside = offsets.margins
    down = offsets.steps[0]
    rows = _rows_at_once(moving, fixed)
    if rows == H:
        return _correlate_rows(moving, fixed, offsets)
    padded = jnp.pad(moving, ((0, 0), (above, above), (0, 0), (0, 0)))
    padded, fixed = lax.optimization_barrier((padded, fixed))
    within_block = Offsets(margins=(0, beside), steps=offsets.steps)

    def add(block: jax.Array, total: jax.Array) -> jax.Array:
        moving_rows = lax.dynamic_slice_in_dim(padded, block * rows * down, rows * down + 2 * above, axis=1)
        fixed_rows = lax.dynamic_slice_in_dim(fixed, block * rows, rows, axis=1)
        return total + _correlate_rows(moving_rows, fixed_rows, within_block)

    zeros = jnp.zeros((moving.shape[-1], *offsets.shape, fixed.shape[-1]), moving.dtype)
    return lax.fori_loop(0, H // rows, add, zeros)


def _correlate_rows(moving: jax.Array, fixed: jax.Array, offsets: Offsets) -> jax.Array:
    """Correlates all rows at once: channels of the moving images are the batch, the fixed images the kernel."""
    as_images = moving.transpose(3, 1, 2, 0)
    as_kernel = fixed.transpose(1, 2, 0, 3)
    return _convolve_spread(as_images, as_kernel, margins=offsets.margins, steps=offsets.steps)


def _rows_at_once(moving: jax.Array, fixed: jax.Array) -> int:
    """Returns the rows of a block: all where they fit `BLOCKED` values, otherwise those of a quarter of it or one.

    Do not lower the first bound to that of a block: cut sums round otherwise, and recorded results of the default grid,
    which stays below it, would change.
    """
    H = fixed.shape[1]
    values = max(moving.size, fixed.size)
    if values <= BLOCKED:
        return H
    return max((rows for rows in range(1, H) if H % rows == 0 and values // H * rows <= BLOCKED // 4), default=1)


def _convolve_backward(saved: tuple[jax.Array, ...], gradient: jax.Array) -> tuple[jax.Array, ...]:
    """Returns the gradients of `_convolve_forward`: of images, a convolution by the turned kernel; of the kernel."""
    images, kernel = saved
    image_gradient = _convolve_forward(gradient, kernel[::-1, ::-1].swapaxes(2, 3))
    if not _are_photos(images):
        return image_gradient, _kernel_gradient(images, gradient, kernel.shape)
    of_four = materialised(functools.partial(_kernel_gradient, shape=(*kernel.shape[:2], 4, kernel.shape[-1])))
    return image_gradient, of_four(_with_fourth(images), gradient)[:, :, :3]


_convolve_on_cpu = with_gradient(_convolve_forward, _convolve_backward)


def double(images: jax.Array) -> jax.Array:
    """Repeats every pixel 2 x 2: (B, H, W, C) to (B, 2 H, 2 W, C)."""
    B, H, W, C = images.shape
    return jnp.broadcast_to(images[:, :, None, :, None], (B, H, 2, W, 2, C)).reshape(B, 2 * H, 2 * W, C)


def convolve_doubled(images: jax.Array, skip: jax.Array | None, kernel: jax.Array) -> jax.Array:
    """Convolves `double(images)` with `skip` behind its channels, as `convolve` does, for a U-Net's decoder.

    On a CPU the doubled image is never made. Of the 3 x 3 pixels that an output sees of it at most 2 x 2 differ, so
    that each of the four outputs over a pixel is a 2 x 2 convolution of `images`: 4 products in place of 9.

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
    if not for_cpu():
        wide = double(images)
        return convolve(wide if skip is None else jnp.concatenate([wide, skip], axis=-1), kernel)
    C = images.shape[-1]
    doubled = _convolve_double(images, kernel[:, :, :C])
    if skip is not None and skip.shape[-1]:
        doubled = doubled + convolve(skip, kernel[:, :, C:])
    # Rounded alike whatever follows it, alone and in a population.
    return lax.optimization_barrier(doubled)


def _double_by_corners(images: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolves doubled images, the four outputs about each corner between pixels at once.

    With the corners at the edge there is one output too many on each side, which is cut off.
    """
    B, H, W, _ = images.shape
    O = kernel.shape[-1]  # noqa: E741
    corners = _corners(images, lax.optimization_barrier(_fold(kernel)))  # (B, H + 1, W + 1, 4 O)
    corners = corners.reshape(B, H + 1, W + 1, 2, 2, O)  # The corner's row and column, then the output's about it.
    rows = corners.swapaxes(2, 3)  # (B, H + 1, 2, W + 1, 2, O)
    doubled = rows.reshape(B, 2 * H + 2, 2 * W + 2, O)
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
    return lax.conv_general_dilated(padded, kernel, (1, 1), ((0, 1),) * 2, dimension_numbers=LAYOUT)


def _double_backward(saved: tuple[jax.Array, ...], gradient: jax.Array) -> tuple[jax.Array, ...]:
    """Returns the gradients of `_double_by_corners`.

    A pixel reaches 4 x 4 outputs (`_unfold`), and the next pixel those two further on: both gradients are those of a
    convolution with stride 2.
    """
    images, kernel = saved
    turned = lax.optimization_barrier(_unfold(kernel).swapaxes(2, 3))
    image_gradient = _columns_at_once(gradient, turned, [(1, 1)] * 2, stride=2)
    sums = _correlate(gradient, images, Offsets(margins=(1, 1), steps=(2, 2)))
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


def _unfold_backward(sums: jax.Array) -> jax.Array:
    """Returns the gradient of the kernel of `_unfold` from that of its result.

    Each weight has the gradients of the outputs in whose sums it stands: `a` of the third and fourth, and so on.
    """
    for axis in (0, 1):
        first, second, third, fourth = jnp.split(sums, 4, axis)
        sums = jnp.concatenate([third + fourth, second + third, first + second], axis)
    return sums


_convolve_double = with_gradient(_double_by_corners, _double_backward)


def convolve_strided(images: jax.Array, kernel: jax.Array, *, stride: int) -> jax.Array:
    """Convolves as PyTorch does, with a stride and zero padding of half the kernel, or none where patches abut.

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
        B, H, W, C = images.shape
        patches = images.reshape(B, H // size, size, W // size, size, C).swapaxes(2, 3)
        return multiply(patches.reshape(B, H // size, W // size, size * size * C), kernel.reshape(size * size * C, -1))
    if size == 1:
        return multiply(images[:, ::stride, ::stride], kernel[0, 0])
    if stride == 1:
        return convolve(images, kernel)
    if not for_cpu():
        return convolve_on_accelerator(images, kernel, stride=stride)
    # By XLA no gradient is written out: recorded results depend on the rounding of the one that it derives.
    forward = functools.partial(_with_stride, stride=stride)
    if library.value == ONEDNN:
        backward = functools.partial(_strided_backward, stride=stride)
        return with_gradient(forward, backward)(images, kernel)
    return forward(images, kernel)


def _with_stride(images: jax.Array, kernel: jax.Array, *, stride: int) -> jax.Array:
    """Convolves with a stride and zero padding of half the kernel."""
    return lax.conv_general_dilated(images, kernel, (stride, stride), _margins(kernel), dimension_numbers=LAYOUT)


def _strided_backward(saved: tuple[jax.Array, ...], gradient: jax.Array, *, stride: int) -> tuple[jax.Array, ...]:
    """Returns the gradients of `_with_stride`: of images as XLA derives it, of the kernel as `_correlate` sums it."""
    images, kernel = saved
    height, width = kernel.shape[:2]
    of_images = jax.linear_transpose(lambda images: _with_stride(images, kernel, stride=stride), images)
    (image_gradient,) = of_images(gradient)
    # (C, h + stride - 1, w + stride - 1, O): a step adds stride - 1 offsets, which lie beyond the kernel.
    sums = _correlate(images, gradient, Offsets((height // 2, width // 2), steps=(stride, stride)))
    return image_gradient, sums[:, :height, :width].transpose(1, 2, 0, 3)


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
    if for_cpu() and library.value == ONEDNN:
        return _multiply_by_onednn(images, kernel)
    return images @ kernel


def _multiply_backward(saved: tuple[jax.Array, ...], gradient: jax.Array) -> tuple[jax.Array, ...]:
    """Returns the gradients of `multiply`: that of the matrix is a correlation at a single offset."""
    images, kernel = saved
    inputs, outputs = kernel.shape
    # oneDNN computes a stretch of a row at once, which holds the channels of what moves: the one of more channels.
    if inputs >= outputs:
        kernel_gradient = _correlate(images, gradient, Offsets((0, 0)))[:, 0, 0]
    else:
        kernel_gradient = _correlate(gradient, images, Offsets((0, 0)))[:, 0, 0].T
    return gradient @ kernel.T, kernel_gradient


_multiply_by_onednn = with_gradient(jnp.matmul, _multiply_backward)


def convolve_on_accelerator(images: jax.Array, kernel: jax.Array, *, stride: int = 1, groups: int = 1) -> jax.Array:
    """Convolves with zero padding of half the kernel; equal to `lax.conv_general_dilated` to rounding.

    Under a map over members, XLA turns a kernel's gradient into a grouped forward convolution with a window as large as
    the image, for which cuDNN has no efficient kernel. Here the members become groups before the gradient is taken,
    which is then a grouped backward filter with the kernel's own window.

    Args:
        images: (B, H, W, C) float, H and W multiples of the stride.
        kernel: (h, w, C / groups, O) float of the same dtype, h and w odd.
        stride: in both directions.
        groups: a divisor of C and O.

    Returns:
        (B, H / stride, W / stride, O), the dtype of `images`.

    Example:
        >>> convolve_on_accelerator(jnp.ones((1, 3, 3, 1)), jnp.ones((3, 3, 1, 1)))[0, :, :, 0].tolist()
        [[4.0, 6.0, 4.0], [6.0, 9.0, 6.0], [4.0, 6.0, 4.0]]
    """
    forward = functools.partial(_convolve_groups, stride=stride, groups=groups)

    @custom_vmap
    def kernel_gradient(images: jax.Array, gradient: jax.Array, kernel: jax.Array) -> jax.Array:
        return _kernel_gradient_of_groups(images, gradient, kernel, stride=stride, groups=groups)

    @kernel_gradient.def_vmap
    def of_members(members: int, batched: list[bool], *arguments: jax.Array) -> tuple[jax.Array, bool]:
        stacked = spread(members, [*batched], [*arguments])
        images, gradient, kernel = (_members_as_groups(values) for values in stacked)
        result = _kernel_gradient_of_groups(images, gradient, kernel, stride=stride, groups=members * groups)
        return _groups_as_members(result, members), True

    def backward(saved: tuple[jax.Array, ...], gradient: jax.Array) -> tuple[jax.Array, ...]:
        images, kernel = saved
        (image_gradient,) = jax.linear_transpose(lambda images: forward(images, kernel), images)(gradient)
        return image_gradient, kernel_gradient(images, gradient, kernel)

    return with_gradient(forward, backward)(images, kernel)


def _convolve_groups(images: jax.Array, kernel: jax.Array, *, stride: int, groups: int) -> jax.Array:
    """Convolves each group of channels by itself, with a stride and zero padding of half the kernel."""
    return lax.conv_general_dilated(
        images,
        kernel,
        (stride, stride),
        _margins(kernel),
        dimension_numbers=LAYOUT,
        feature_group_count=groups,
    )


def _kernel_gradient_of_groups(
    images: jax.Array, gradient: jax.Array, kernel: jax.Array, *, stride: int, groups: int
) -> jax.Array:
    """Returns the gradient of the kernel of `_convolve_groups`, of which the shape and dtype alone are used."""

    def convolved(kernel: jax.Array) -> jax.Array:
        return _convolve_groups(images, kernel, stride=stride, groups=groups)

    (kernel_gradient,) = jax.linear_transpose(convolved, kernel)(gradient)
    return kernel_gradient


def _members_as_groups(values: jax.Array) -> jax.Array:
    """Lays the channels of members beside one another: (members, a, b, c, C) to (a, b, c, members * C)."""
    return jnp.moveaxis(values, 0, 3).reshape(*values.shape[1:4], -1)


def _groups_as_members(values: jax.Array, members: int) -> jax.Array:
    """Undoes `_members_as_groups`: (a, b, c, members * C) to (members, a, b, c, C)."""
    return jnp.moveaxis(values.reshape(*values.shape[:3], members, -1), 3, 0)
