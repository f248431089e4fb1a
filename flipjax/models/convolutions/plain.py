"""The convolution as XLA has it, and its form for accelerators, where the members of a map become groups."""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_batching import custom_vmap

from flipjax.models.convolutions.tracing import Arrays, spread, with_gradient

LAYOUT = ("NHWC", "HWIO", "NHWC")
"""The axes of images, kernels and outputs."""


def half_padding(kernel: jax.Array) -> list[tuple[int, int]]:
    """Returns rows and columns of zeros before and behind images: half of the kernel (h, w, C, O)."""
    height, width = kernel.shape[:2]
    return [(height // 2, height // 2), (width // 2, width // 2)]


def convolve_plainly(images: jax.Array, kernel: jax.Array, *, stride: int = 1, groups: int = 1) -> jax.Array:
    """Convolves each group of channels by itself, with zero padding of half the kernel; XLA derives the gradients.

    Arguments and result are those of `convolve_on_accelerator`.

    Example:
        >>> convolve_plainly(jnp.ones((1, 3, 3, 1)), jnp.ones((3, 3, 1, 1)))[0, :, :, 0].tolist()
        [[4.0, 6.0, 4.0], [6.0, 9.0, 6.0], [4.0, 6.0, 4.0]]
    """
    return lax.conv_general_dilated(
        images,
        kernel,
        (stride, stride),
        half_padding(kernel),
        dimension_numbers=LAYOUT,
        feature_group_count=groups,
    )


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
    forward = functools.partial(convolve_plainly, stride=stride, groups=groups)
    backward = functools.partial(_backward, stride=stride, groups=groups)
    return with_gradient(forward, backward)(images, kernel)


def _backward(saved: Arrays, gradient: jax.Array, *, stride: int, groups: int) -> Arrays:
    """Returns the gradients of `convolve_plainly`, that of the kernel with a rule for the map over members."""
    images, kernel = saved
    of_kernel = custom_vmap(functools.partial(_kernel_gradient, stride=stride, groups=groups))
    of_kernel.def_vmap(functools.partial(_kernel_gradients_of_members, stride=stride, groups=groups))
    image_gradient = _image_gradient(images, gradient, kernel, stride=stride, groups=groups)
    return image_gradient, of_kernel(images, gradient, kernel)


def _image_gradient(
    images: jax.Array, gradient: jax.Array, kernel: jax.Array, *, stride: int, groups: int
) -> jax.Array:
    """Returns the gradient of the images, of which the shape and dtype alone are used, as XLA derives it."""

    def convolved(images: jax.Array) -> jax.Array:
        return convolve_plainly(images, kernel, stride=stride, groups=groups)

    (image_gradient,) = jax.linear_transpose(convolved, images)(gradient)
    return image_gradient


def _kernel_gradient(
    images: jax.Array, gradient: jax.Array, kernel: jax.Array, *, stride: int, groups: int
) -> jax.Array:
    """Returns the gradient of the kernel, of which the shape and dtype alone are used, as XLA derives it."""

    def convolved(kernel: jax.Array) -> jax.Array:
        return convolve_plainly(images, kernel, stride=stride, groups=groups)

    (kernel_gradient,) = jax.linear_transpose(convolved, kernel)(gradient)
    return kernel_gradient


def _kernel_gradients_of_members(
    members: int, mapped: list[bool], *arrays: jax.Array, stride: int, groups: int
) -> tuple[jax.Array, bool]:
    """Returns `_kernel_gradient` of all members at once, and that it has an axis of members: a rule of `custom_vmap`.

    Args:
        members: their number.
        mapped: whether images, gradient and kernel have a leading axis of members.
        *arrays: these three.
        stride: of the convolution.
        groups: of each member.
    """
    images, gradient, kernel = (_as_groups(array) for array in spread(members, [*mapped], [*arrays]))
    result = _kernel_gradient(images, gradient, kernel, stride=stride, groups=members * groups)
    return _as_members(result, members), True


def _as_groups(arrays: jax.Array) -> jax.Array:
    """Lays the channels of members beside one another: (members, a, b, c, C) to (a, b, c, members * C)."""
    return jnp.moveaxis(arrays, 0, 3).reshape(*arrays.shape[1:4], -1)


def _as_members(array: jax.Array, members: int) -> jax.Array:
    """Undoes `_as_groups`: (a, b, c, members * C) to (members, a, b, c, C)."""
    return jnp.moveaxis(array.reshape(*array.shape[:3], members, -1), 3, 0)
