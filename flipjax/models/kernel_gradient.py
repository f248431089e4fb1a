"""XLA's own convolution, whose kernels' gradients stay fast on a card under vmap, for accelerators."""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_batching import custom_vmap

_LAYOUT = ("NHWC", "HWIO", "NHWC")


def convolve_on_accelerator(images: jax.Array, kernel: jax.Array, *, stride: int = 1, groups: int = 1) -> jax.Array:
    """Convolves with zero padding of half the kernel; equal to `lax.conv_general_dilated` to rounding.

    Mapped over members, XLA makes of a kernel's gradient a grouped forward convolution whose window is the whole image,
    for which cuDNN has no good kernel. Here the members become groups before the gradient is taken, which is then a
    grouped backward filter with the kernel's own window.

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
    return _convolve(stride, groups, images, kernel)


def _xla(stride: int, groups: int, images: jax.Array, kernel: jax.Array) -> jax.Array:
    padding = [(size // 2, size // 2) for size in kernel.shape[:2]]
    return lax.conv_general_dilated(
        images, kernel, (stride, stride), padding, dimension_numbers=_LAYOUT, feature_group_count=groups
    )


_convolve = jax.custom_vjp(_xla, nondiff_argnums=(0, 1))


def _forward(
    stride: int, groups: int, images: jax.Array, kernel: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _xla(stride, groups, images, kernel), (images, kernel)


def _backward(
    stride: int, groups: int, saved: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    images, kernel = saved
    (image_gradient,) = jax.linear_transpose(lambda images: _xla(stride, groups, images, kernel), images)(gradient)
    return image_gradient, _kernel_gradient(stride, groups, kernel.shape)(images, gradient)


_convolve.defvjp(_forward, _backward)


@functools.cache
def _kernel_gradient(stride: int, groups: int, shape: tuple[int, ...]) -> custom_vmap:
    """Returns the kernel's gradient as a function of images and the output's gradient."""
    height, width, inputs, outputs = shape

    def of(images: jax.Array, gradient: jax.Array, *, members: int = 1) -> jax.Array:
        kernels = jax.ShapeDtypeStruct((height, width, inputs, members * outputs), images.dtype)
        convolved = functools.partial(_xla, stride, members * groups, images)
        return jax.linear_transpose(convolved, kernels)(gradient)[0]

    mapped = custom_vmap(lambda images, gradient: of(images, gradient))

    @mapped.def_vmap
    def rule(members: int, batched: list[bool], *arguments: jax.Array) -> tuple[jax.Array, bool]:
        each = [
            value if own else jnp.broadcast_to(value, (members, *value.shape))
            for value, own in zip(arguments, batched, strict=True)
        ]
        beside = [jnp.moveaxis(value, 0, 3).reshape(*value.shape[1:4], -1) for value in each]
        kernels = of(*beside, members=members)
        return jnp.moveaxis(kernels.reshape(height, width, inputs, members, outputs), 3, 0), True

    return mapped
