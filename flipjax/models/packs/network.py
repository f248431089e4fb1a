"""What networks for packs have in common: the head, which maps its inputs to logits, alone and in a pack."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from flipjax.backend.convolutions import ONEDNN, traced_library
from flipjax.models.convolutions.tracing import Arrays, materialised, with_gradient
from flipjax.models.packs.pack import Pack, apart, block_diag, join, row_size


class PackNetwork(nnx.Module):
    """A network that ends in a plain 1 x 1 head: no norm touches the logits.

    Its arrays are one member's, or those of several with a leading axis of members: then it is a packed network.
    """

    dtype: jnp.dtype
    head: nnx.Linear

    def inputs_of_head(self, images: jax.Array) -> tuple[Pack, jax.Array]:
        """Maps images to the inputs of the head, a pack float32, and to whether each member is finite."""
        raise NotImplementedError

    def enlarge(self, planes: jax.Array) -> jax.Array:
        """Maps the head's outputs (..., H, W) to the size of the images."""
        return planes

    def features(self, images: jax.Array) -> jax.Array:
        """Maps images (B, H, W, channels) to the inputs of the head, float32, for one member."""
        ((chunk,), _) = self.inputs_of_head(images)
        return chunk

    def as_pack(self, images: jax.Array, *, channels: int) -> Pack:
        """Returns images (B, ...) for all members, or (members, B, ...), as inputs of layers of so many outputs."""
        images = images.astype(self.dtype)
        if images.ndim == 4:
            return [images]
        return join(images, channels=channels)

    def __call__(self, images: jax.Array) -> jax.Array:
        """Maps images (B, H, W, channels) to logits (B, H, W, classes) float32, of the images' own size.

        In a pack: images (members, B, H, W, channels), or (B, H, W, channels) for all, to logits (members, B, H, W,
        classes). Those of a member whose activations are not finite are NaN.
        """
        pack, finite = self.inputs_of_head(images)
        head: Any = self.head
        kernel = head.kernel[...]
        bias = head.bias[...]
        if kernel.ndim == 2:
            return jnp.moveaxis(self.enlarge(planes_by_class(pack[0], kernel, bias)), 0, -1)
        return self._logits_of_members(pack, kernel, bias, finite)

    def _logits_of_members(self, pack: Pack, kernel: jax.Array, bias: jax.Array, finite: jax.Array) -> jax.Array:
        """Returns logits (members, B, H, W, classes) of kernels (members, C, classes), NaN where one is not finite."""
        size = kernel.shape[0] // len(pack)
        parts = []
        for chunk, kernels in zip(pack, kernel.reshape(len(pack), size, 1, 1, *kernel.shape[1:]), strict=True):
            wide = block_diag(kernels, members=size, first=0)[0, 0].reshape(-1, size, kernel.shape[2])
            parts.append(apart(_product, chunk, wide))
        planes = self.enlarge(jnp.concatenate(parts))
        logits = jnp.moveaxis(planes, 1, -1) + bias[:, None, None, None]
        return jnp.where(finite[:, None, None, None, None], logits, jnp.nan)


def _affine_by_class(images: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
    """Maps images (B, H, W, C) by a kernel (C, classes) and a bias (classes,) to a plane a class, (classes, B, H, W).

    The images' gradient is a sum over classes: they are too few for a matrix product to be fast on a CPU. The kernel's
    is a product of rows of `row_size` pixels, whose blocks off the diagonal are not used.
    """
    *grid, C = images.shape
    # Written as an einsum, XLA:CPU would transpose the images first.
    planes = lax.dot_general(kernel, images.reshape(-1, C), (((0,), (1,)), ((), ())))
    if traced_library.value == ONEDNN:
        # It has no fast product with a bias for this layout, and takes one apart from the other.
        planes = lax.optimization_barrier(planes)
    return (planes + bias[:, None]).reshape(-1, *grid)


def _affine_backward(saved: Arrays, gradient: jax.Array) -> Arrays:
    """Returns the gradients of `_affine_by_class`: of images, kernel and bias."""
    images, kernel, _ = saved
    of_classes = [plane[..., None] * column for plane, column in zip(gradient, kernel.T, strict=True)]
    flat = gradient.reshape(len(gradient), -1)
    bias_gradient = flat @ jnp.ones(flat.shape[1])
    return functools.reduce(jnp.add, of_classes), _head_gradient(images, gradient), bias_gradient


@materialised
def _head_gradient(images: jax.Array, gradient: jax.Array) -> jax.Array:
    """Returns the gradient of the kernel, (C, classes)."""
    pixels = row_size(images)
    rows = images.reshape(-1, pixels, images.shape[-1])
    columns = gradient.reshape(len(gradient), -1, pixels)
    # Of row p, pixel i of the images by pixel j of class k's gradient; the kernel's is the sum where i is j.
    products = jnp.einsum("pic,kpj->kjic", rows, columns)
    return jnp.einsum("kiic->ck", products)


planes_by_class = with_gradient(_affine_by_class, _affine_backward)


def _product(images: jax.Array, kernel: jax.Array) -> jax.Array:
    """Multiplies a chunk (B, H, W, L) by the kernels (L, members, classes): (members, classes, B, H, W)."""
    # Pixels on the last axis fill the lanes; the few classes would not.
    return jnp.einsum("bhwl,lgo->gobhw", images, kernel)
