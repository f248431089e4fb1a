"""Sums of products of two stacks of images at every offset between the two: gradients of kernels, on a CPU.

The gradient of a convolution's kernel at an offset is the sum, over all pixels, of the images there times the gradient
of the output. XLA derives it as a convolution with permuted dimensions, for which XLA:CPU has no fast path in a loop.
Here it is a plain one, in the form that is fast by the library of the program that is being traced: by oneDNN
`by_images`, by XLA's own `by_rows`. `backend.convolutions.with_library` sets the library, `traced_library.value`.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental.layout import Layout, with_layout_constraint

from flipjax.backend.convolutions import ONEDNN, traced_library
from flipjax.models.convolutions.plain import LAYOUT
from flipjax.models.convolutions.tracing import materialised

BLOCKED = 2**19
"""Values that stay in a core's cache. Sums over more of them are taken in blocks."""


@dataclasses.dataclass(frozen=True)
class Offsets:
    """The offsets between two stacks of images, one of which moves over the other.

    Across, a moving row (m) with a margin of one zero (.) on each side, and two fixed pixels (f) at each offset:

        step 1         step 2
        . m m .        . m m m m .
        f f            f   f           offset 0
          f f            f   f                1
            f f            f   f              2
                             f   f            3

    Of n fixed pixels the moving row has step n places and 2 margin zeros. They span step (n - 1) + 1 places, so that
    they fit at 2 margin + step offsets. With a step of 1 and a margin of h // 2 these are the h of an odd kernel.
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


def cross_correlate(moving: jax.Array, fixed: jax.Array, offsets: Offsets) -> jax.Array:
    """Sums the products of two stacks of images over all pixels, at every offset between the two.

    It is a convolution in which channels and batch trade places, and the fixed images are the kernel.

    Args:
        moving: (B, steps[0] H, steps[1] W, M) float.
        fixed: (B, H, W, F) of the same dtype.
        offsets: with its margins and steps.

    Returns:
        (M, *offsets.shape, F), the same dtype.

    Example:
        >>> row = jnp.array([1.0, 2.0, 3.0]).reshape(1, 1, 3, 1)
        >>> cross_correlate(row, row, Offsets(margins=(0, 1)))[0, 0, :, 0].tolist()  # 1 * 2 + 2 * 3, and so on.
        [8.0, 14.0, 8.0]
    """
    if traced_library.value == ONEDNN:
        return by_images(moving, fixed, offsets)
    return by_rows(moving, fixed, offsets)


def by_images(moving: jax.Array, fixed: jax.Array, offsets: Offsets) -> jax.Array:
    """Computes `cross_correlate` in the form that is fast by oneDNN, in blocks of a few images."""
    B = len(moving)
    images = images_at_once(moving, fixed)
    if images == B:
        return _all_images(moving, fixed, offsets)

    def add(block: jax.Array, total: jax.Array) -> jax.Array:
        moving_block = lax.dynamic_slice_in_dim(moving, block * images, images)
        fixed_block = lax.dynamic_slice_in_dim(fixed, block * images, images)
        return total + _all_images(moving_block, fixed_block, offsets)

    return lax.fori_loop(0, B // images, add, _zeros(moving, fixed, offsets))


def images_at_once(moving: jax.Array, fixed: jax.Array) -> int:
    """Returns the images of a block, a divisor of their number: as many as fit `BLOCKED` values, at least one."""
    B = len(moving)
    values_of_image = max(moving.size, fixed.size) // B
    divisors = [images for images in range(1, B + 1) if B % images == 0]
    return max((images for images in divisors if images * values_of_image <= BLOCKED), default=1)


def _zeros(moving: jax.Array, fixed: jax.Array, offsets: Offsets) -> jax.Array:
    """Returns zeros in the shape of `cross_correlate`."""
    return jnp.zeros((moving.shape[-1], *offsets.shape, fixed.shape[-1]), moving.dtype)


def _all_images(moving: jax.Array, fixed: jax.Array, offsets: Offsets) -> jax.Array:
    """Computes `cross_correlate` of all images at once, the channels of a pixel beside one another in a row.

    Of channels r, g, b a moving row becomes `r0 g0 b0 r1 g1 b1 ...`, and the batch becomes the channels. A step of one
    pixel is then one of M places, and an output's row holds M values for each offset. oneDNN computes a stretch of a
    row at once; were channels images of their own, its rows would be as short as the offsets.
    """
    B, H, W, M = moving.shape
    above, beside = offsets.margins
    down, across = offsets.steps
    if B == 1:
        # The transposes below are then reshapes. Without the barrier XLA would take them into what makes these images,
        # and compute these a second time, in the shape of the rows.
        moving, fixed = lax.optimization_barrier((moving, fixed))
    in_rows = moving.transpose(1, 2, 3, 0).reshape(1, H, W * M, B)
    sums = _convolve_apart(in_rows, _as_kernel(fixed), margins=(above, beside * M), steps=(down, across * M))
    # From (1, offsets down, offsets across * M, F) to (M, offsets down, offsets across, F).
    return sums.reshape(*offsets.shape, M, -1).transpose(2, 0, 1, 3)


def by_rows(moving: jax.Array, fixed: jax.Array, offsets: Offsets) -> jax.Array:
    """Computes `cross_correlate` in the form that is fast by XLA's own convolutions, in blocks of a few rows.

    A block of fixed rows meets the moving rows over it, and those of the margin above and below.
    """
    H = fixed.shape[1]
    above, beside = offsets.margins
    down = offsets.steps[0]
    rows = _rows_at_once(moving, fixed)
    if rows == H:
        return _all_rows(moving, fixed, offsets)
    batch_last = _batch_last(moving, margin=above)
    # Written out before the loop, which reads a block of both at a time.
    batch_last, fixed = lax.optimization_barrier((batch_last, fixed))

    def add(block: jax.Array, total: jax.Array) -> jax.Array:
        moving_block = lax.dynamic_slice_in_dim(batch_last, block * rows * down, rows * down + 2 * above)
        fixed_block = lax.dynamic_slice_in_dim(fixed, block * rows, rows, axis=1)
        as_images = moving_block.transpose(2, 0, 1, 3)  # (M, h, W, B)
        # A block needs no margin above and below: these rows are in `batch_last`.
        return total + _convolve_apart(as_images, _as_kernel(fixed_block), margins=(0, beside), steps=offsets.steps)

    return lax.fori_loop(0, H // rows, add, _zeros(moving, fixed, offsets))


def _batch_last(images: jax.Array, *, margin: int) -> jax.Array:
    """Returns images (B, H, W, C) as (H + 2 margin, W, C, B), with rows of zeros above and below.

    The constraint has them written in this order. XLA of JAX 0.12 would otherwise keep the batch first in memory, and
    put the pixels of each block in order within the loop.
    """
    padded = jnp.pad(images.transpose(1, 2, 3, 0), ((margin, margin), (0, 0), (0, 0), (0, 0)))
    return with_layout_constraint(padded, Layout(major_to_minor=(0, 1, 2, 3)))


def _rows_at_once(moving: jax.Array, fixed: jax.Array) -> int:
    """Returns the rows of a block, a divisor of their number: all of them where they fit `BLOCKED` values.

    Otherwise as many as fit a quarter of it, at least one. Do not lower the first bound to the second: cut sums round
    otherwise, and recorded results of the default grid, which stays below it, would change.
    """
    H = fixed.shape[1]
    values = max(moving.size, fixed.size)
    if values <= BLOCKED:
        return H
    values_of_row = values // H
    divisors = [rows for rows in range(1, H) if H % rows == 0]
    return max((rows for rows in divisors if rows * values_of_row <= BLOCKED // 4), default=1)


def _all_rows(moving: jax.Array, fixed: jax.Array, offsets: Offsets) -> jax.Array:
    """Computes `cross_correlate` of all rows at once: each moving channel is an image, and `fixed` the kernel."""
    as_images = moving.transpose(3, 1, 2, 0)  # (M, H, W, B)
    return _convolve_apart(as_images, _as_kernel(fixed), margins=offsets.margins, steps=offsets.steps)


def _as_kernel(fixed: jax.Array) -> jax.Array:
    """Returns fixed images (B, H, W, F) as a kernel (H, W, B, F)."""
    return fixed.transpose(1, 2, 0, 3)


def _convolve_apart(
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
