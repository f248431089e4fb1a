"""Convolutions that stay fast on XLA:CPU: in a loop, in their gradients, and with few channels.

Each has one form for a CPU, with gradients written out, and one for accelerators. `_correlate` sums the gradients
of kernels. Forms of a CPU depend on `library.value`, the library of the program that is being traced.
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
        wanted = max(1, LANES // outputs)
    elif max(inputs, outputs) <= 16:
        # XLA:CPU calls Eigen: wasted taps cost less than empty columns.
        wanted = EIGEN_COLUMNS // outputs
    else:
        # It calls YNNPACK, which is fastest with a pixel a time.
        wanted = 1
    return max(pixels for pixels in (1, 2, 4) if pixels <= wanted and width % pixels == 0)


def _convolve_forward(images: jax.Array, kernel: jax.Array) -> jax.Array:
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

    Two pixels at once by a row `a b c` of a kernel, whose outputs then lie beside one another:

        first    a b c 0
        second   0 a b c
    """
    B, H, W, C = images.shape
    outputs = kernel.shape[-1]
    pixels = _pixels_at_once(W // stride, C, outputs)
    if pixels > 1:
        ends = ((i * stride, (pixels - 1 - i) * stride) for i in range(pixels))
        shifted = [jnp.pad(kernel, ((0, 0), end, (0, 0), (0, 0))) for end in ends]
        kernel = lax.optimization_barrier(jnp.concatenate(shifted, axis=-1))
    rows = lax.conv_general_dilated(images, kernel, (stride, stride * pixels), padding, dimension_numbers=LAYOUT)
    return rows.reshape(B, H // stride, W // stride, outputs)


def _kernel_gradient(images: jax.Array, gradient: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Returns the gradient of a kernel of this shape: the images correlated with the output's gradient.

    As in the forward pass several pixels of a row are taken at once, to fill the columns of a product.
    """
    H, W, C = images.shape[1:]
    height, width, _, O = shape  # noqa: E741
    margins = height // 2, width // 2
    if library.value == XLA and O <= 16 < C:
        # The two trade places, so that the wider one supplies the columns; the offsets change sign.
        sums = _correlate(gradient, images, Offsets(margins))
        return sums[:, ::-1, ::-1].transpose(1, 2, 3, 0)
    pixels = _pixels_at_once(W, C, O)
    columns = gradient.reshape(len(gradient), H, W // pixels, pixels * O)
    sums = _correlate(images, columns, Offsets(margins, steps=(1, pixels)))
    # The kernel's offsets begin one column further to the right for each next pixel.
    parts = [sums[:, :, i : i + width, i * O : (i + 1) * O] for i in range(pixels)]
    return functools.reduce(jnp.add, parts).transpose(1, 2, 0, 3)


@dataclasses.dataclass(frozen=True)
class Offsets:
    """The offsets at which two stacks of images are correlated, one of which moves over the other.

    Across, with a margin of 1 and a step of 1, these are -1, 0 and 1: three, as in a kernel of three columns. With a
    step of 2 the moving row is twice as long, and a pixel more of it lies over each fixed one: -1, 0, 1 and 2.
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

    def add(index: jax.Array, total: jax.Array) -> jax.Array:
        reached = lax.dynamic_slice_in_dim(moving, index * images, images)
        block = lax.dynamic_slice_in_dim(fixed, index * images, images)
        return total + _correlate_channels_in_rows(reached, block, offsets)

    zeros = jnp.zeros((moving.shape[-1], *offsets.shape, fixed.shape[-1]), moving.dtype)
    return lax.fori_loop(0, B // images, add, zeros)


def _images_at_once(moving: jax.Array, fixed: jax.Array) -> int:
    """Returns how many images fit a block of `BLOCKED` values; at least one."""
    B = len(moving)
    values = max(moving.size, fixed.size) // B
    return max((images for images in range(1, B + 1) if B % images == 0 and images * values <= BLOCKED), default=1)


def _correlate_channels_in_rows(moving: jax.Array, fixed: jax.Array, offsets: Offsets) -> jax.Array:
    """Correlates as `_correlate` does, with the channels of a pixel beside one another in a row of one image.

    Of channels r, g, b a moving row becomes `r0 g0 b0 r1 g1 b1 ...`, its batch the channels. The output's row has
    offsets times channels values, of which oneDNN makes a stretch at once; were channels images of their own, its rows
    would be as short as the offsets.
    """
    B, H, W, M = moving.shape
    above, beside = offsets.margins
    down, across = offsets.steps
    padding = (above, above), (beside * M, beside * M)

    @materialised
    def convolved(moving: jax.Array, fixed: jax.Array) -> jax.Array:
        dilation = down, across * M
        return lax.conv_general_dilated(moving, fixed, (1, 1), padding, rhs_dilation=dilation, dimension_numbers=LAYOUT)

    if B == 1:
        # Else XLA computes what made them anew, in the shape of the rows.
        moving, fixed = lax.optimization_barrier((moving, fixed))
    in_rows = moving.transpose(1, 2, 3, 0).reshape(1, H, W * M, B)
    sums = convolved(in_rows, fixed.transpose(1, 2, 0, 3))
    return sums.reshape(*offsets.shape, M, -1).transpose(2, 0, 1, 3)


def _correlate_by_rows(moving: jax.Array, fixed: jax.Array, offsets: Offsets) -> jax.Array:
    """Correlates as `_correlate` does, in the form that is fast by XLA's own convolutions, a few rows at once."""
    H = fixed.shape[1]
    above, beside = offsets.margins
    down = offsets.steps[0]

    def correlated(moving: jax.Array, fixed: jax.Array, *, margin: int) -> jax.Array:
        options = {"padding": ((margin, margin), (beside, beside)), "rhs_dilation": offsets.steps}

        # Written out, the transposes are not folded back into permuted dimensions of the convolution.
        @materialised
        def convolved(moving: jax.Array, fixed: jax.Array) -> jax.Array:
            return lax.conv_general_dilated(moving, fixed, (1, 1), dimension_numbers=LAYOUT, **options)

        return convolved(moving.transpose(3, 1, 2, 0), fixed.transpose(1, 2, 0, 3))

    rows = _rows_at_once(moving, fixed)
    if rows == H:
        return correlated(moving, fixed, margin=above)
    padded = jnp.pad(moving, ((0, 0), (above, above), (0, 0), (0, 0)))
    padded, fixed = lax.optimization_barrier((padded, fixed))

    def add(index: jax.Array, total: jax.Array) -> jax.Array:
        reached = lax.dynamic_slice_in_dim(padded, index * rows * down, rows * down + 2 * above, axis=1)
        block = lax.dynamic_slice_in_dim(fixed, index * rows, rows, axis=1)
        return total + correlated(reached, block, margin=0)

    zeros = jnp.zeros((moving.shape[-1], *offsets.shape, fixed.shape[-1]), moving.dtype)
    return lax.fori_loop(0, H // rows, add, zeros)


def _rows_at_once(moving: jax.Array, fixed: jax.Array) -> int:
    """Returns the rows of a block: all where they fit `BLOCKED` values, otherwise those of a quarter of it or one.

    Up to `BLOCKED` nothing is cut, although blocks are smaller: the default grid keeps its rounding.
    """
    H = fixed.shape[1]
    values = max(moving.size, fixed.size)
    if values <= BLOCKED:
        return H
    return max((rows for rows in range(1, H) if H % rows == 0 and values // H * rows <= BLOCKED // 4), default=1)


def _convolve_backward(saved: tuple[jax.Array, ...], gradient: jax.Array) -> tuple[jax.Array, ...]:
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
    """Convolves doubled images, the four outputs about each corner between pixels at once."""
    B, H, W, _ = images.shape
    outputs = kernel.shape[-1]
    corners = _corners(images, lax.optimization_barrier(_fold(kernel))).reshape(B, H + 1, W + 1, 2, 2, outputs)
    return corners.swapaxes(2, 3).reshape(B, 2 * H + 2, 2 * W + 2, outputs)[:, 1:-1, 1:-1]


def _fold(kernel: jax.Array) -> jax.Array:
    """Folds a kernel (3, 3, C, O) over doubled pixels into (2, 2, C, 4 O), for the four outputs about a corner."""
    for axis in (0, 1):
        first, middle, last = jnp.split(kernel, 3, axis)
        above = jnp.concatenate([first + middle, last], axis)
        below = jnp.concatenate([first, middle + last], axis)
        kernel = jnp.stack([above, below], axis=-2)
    return kernel.reshape(2, 2, kernel.shape[2], -1)


def _corners(images: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolves at every corner between pixels, those at the edge as well: (B, H, W, C) to (B, H + 1, W + 1, O)."""
    # The convolution pads one row and column: XLA:CPU has a fast path only for an output no larger than its input.
    padded = lax.optimization_barrier(jnp.pad(images, ((0, 0), (1, 0), (1, 0), (0, 0))))
    return lax.conv_general_dilated(padded, kernel, (1, 1), ((0, 1),) * 2, dimension_numbers=LAYOUT)


def _double_backward(saved: tuple[jax.Array, ...], gradient: jax.Array) -> tuple[jax.Array, ...]:
    # A pixel reaches 4 x 4 outputs: both gradients are those of a convolution with stride 2.
    images, kernel = saved
    turned = lax.optimization_barrier(_unfold(kernel).swapaxes(2, 3))
    image_gradient = _columns_at_once(gradient, turned, [(1, 1)] * 2, stride=2)
    sums = _correlate(gradient, images, Offsets(margins=(1, 1), steps=(2, 2)))
    return image_gradient, _unfold_backward(sums.transpose(1, 2, 3, 0))


def _unfold(kernel: jax.Array) -> jax.Array:
    """Returns the weights (4, 4, C, O) by which a pixel, doubled, reaches the 4 x 4 outputs about it."""
    for axis in (0, 1):
        first, middle, last = jnp.split(kernel, 3, axis)
        kernel = jnp.concatenate([last, middle + last, first + middle, first], axis)
    return kernel


def _unfold_backward(sums: jax.Array) -> jax.Array:
    """Returns the gradient of the kernel of `_unfold` from that of its result."""
    for axis in (0, 1):
        one, two, three, four = jnp.split(sums, 4, axis)
        sums = jnp.concatenate([three + four, two + three, one + two], axis)
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
    # XLA keeps the gradient that it derives, and its programs their rounding, on which recorded studies rest.
    forward = functools.partial(_with_stride, stride=stride)
    if library.value == ONEDNN:
        backward = functools.partial(_strided_backward, stride=stride)
        return with_gradient(forward, backward)(images, kernel)
    return forward(images, kernel)


def _with_stride(images: jax.Array, kernel: jax.Array, *, stride: int) -> jax.Array:
    return lax.conv_general_dilated(images, kernel, (stride, stride), _margins(kernel), dimension_numbers=LAYOUT)


def _strided_backward(saved: tuple[jax.Array, ...], gradient: jax.Array, *, stride: int) -> tuple[jax.Array, ...]:
    images, kernel = saved
    height, width = kernel.shape[:2]
    of_images = jax.linear_transpose(lambda images: _with_stride(images, kernel, stride=stride), images)
    (image_gradient,) = of_images(gradient)
    # The last offsets lie beyond the kernel.
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
    images, kernel = saved
    inputs, outputs = kernel.shape
    # The one of more channels moves: a stretch of a row is made of it.
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

    def forward(images: jax.Array, kernel: jax.Array, all_groups: int = groups) -> jax.Array:
        options = {"dimension_numbers": LAYOUT, "feature_group_count": all_groups}
        return lax.conv_general_dilated(images, kernel, (stride, stride), _margins(kernel), **options)

    def transposed(images: jax.Array, gradient: jax.Array, kernel: jax.Array, all_groups: int = groups) -> jax.Array:
        # Of the kernel the shape alone is used.
        return jax.linear_transpose(lambda kernel: forward(images, kernel, all_groups), kernel)(gradient)[0]

    kernel_gradient = custom_vmap(lambda *arguments: transposed(*arguments))

    @kernel_gradient.def_vmap
    def rule(members: int, batched: list[bool], *arguments: jax.Array) -> tuple[jax.Array, bool]:
        stacked = spread(members, [*batched], [*arguments])
        images, gradient, kernels = (jnp.moveaxis(value, 0, 3).reshape(*value.shape[1:4], -1) for value in stacked)
        result = transposed(images, gradient, kernels, members * groups)
        return jnp.moveaxis(result.reshape(*kernels.shape[:3], members, -1), 3, 0), True

    def backward(saved: tuple[jax.Array, ...], gradient: jax.Array) -> tuple[jax.Array, ...]:
        images, kernel = saved
        (image_gradient,) = jax.linear_transpose(lambda images: forward(images, kernel), images)(gradient)
        return image_gradient, kernel_gradient(images, gradient, kernel)

    return with_gradient(lambda images, kernel: forward(images, kernel), backward)(images, kernel)
