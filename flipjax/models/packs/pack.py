"""A pack: activations of several members side by side in channels, so that narrow models fill a device's lanes.

A pack is a list of chunks (B, H, W, members * C) of at most `LANES` channels, the members in order. A member alone is a
pack of one. Because zero times NaN is NaN, non-finite values of one member are masked before they reach the others.
"""

import math
from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from jax import lax

from flipjax.models.convolutions import tracing
from flipjax.models.convolutions.doubled import convolve_doubled, double
from flipjax.models.convolutions.stride_one import convolve
from flipjax.models.convolutions.tracing import Arrays, with_gradient

Out = TypeVar("Out")

LANES = 128
"""Most channels of a chunk."""
CPU_LANES = 64
"""Most values of neighbouring pixels that a CPU adds up at once: four vectors of AVX-512."""
Pack = list[jax.Array]
"""Chunks of members side by side."""


def join(images: jax.Array, *, channels: int) -> Pack:
    """Puts the images (members, B, H, W, C) of members side by side, for layers of `channels` outputs."""
    members, B, H, W, C = images.shape
    size = chunk_size(members, channels)
    chunks = images.reshape(members // size, size, B, H, W, C)
    return [jnp.moveaxis(chunk, 0, 3).reshape(B, H, W, size * C) for chunk in chunks]


def chunk_size(members: int, channels: int) -> int:
    """Returns how many members share a chunk: as many as fit into `LANES` and divide their number.

    Example:
        >>> [chunk_size(16, 8), chunk_size(16, 32), chunk_size(6, 32), chunk_size(2, 200)]
        [16, 4, 3, 1]
    """
    most = max(1, min(members, LANES // channels))
    return max(size for size in range(1, most + 1) if members % size == 0)


def map_chunks(function: Callable[..., Out], pack: Pack, *values: jax.Array) -> list[Out]:
    """Calls a function of each chunk and its part of values a channel, (members, C) or (C,) of one."""
    parts = (value.reshape(len(pack), -1) for value in values)
    return [function(*chunk) for chunk in zip(pack, *parts, strict=True)]


def row_size(images: jax.Array) -> int:
    """Returns how many pixels of images (B, H, W, C) make a row that fills a CPU's lanes; 1 elsewhere."""
    if not tracing.for_cpu():
        return 1
    C = images.shape[-1]
    fitting = [pixels for pixels in (2, 4, 8, 16) if pixels * C <= CPU_LANES and images.size % (pixels * C) == 0]
    return max(fitting, default=1)


def sum_pixels(images: jax.Array) -> jax.Array:
    """Sums images (B, H, W, C) over all pixels, (C,)."""
    pixels = row_size(images)
    C = images.shape[-1]
    return images.reshape(-1, pixels * C).sum(0).reshape(pixels, C).sum(0)


def sound(pack: Pack, *, members: int) -> jax.Array:
    """Returns whether all values of each member are finite, (members,) bool."""
    sums = jnp.stack([sum_pixels(chunk.astype(jnp.float32)) for chunk in pack])
    return jnp.isfinite(sums).reshape(members, -1).all(1)


def convolve_pack(pack: Pack, kernel: jax.Array, *, skip: Pack | None = None) -> Pack:
    """Convolves with stride 1 and zero padding that keeps the size.

    In a pack the kernel is block-diagonal. With a `skip` it is divided where the two meet, so that no channels need be
    interleaved.

    Args:
        pack: the input; one batch (B, H, W, C) is shared by all members.
        kernel: (members, h, w, C, O) float of its dtype, C with that of `skip`.
        skip: twice the size of `pack`, which is doubled pixel by pixel; its channels follow, member by member.

    Returns:
        A pack of O channels a member.
    """
    members, *_, outputs = kernel.shape
    if members == 1:
        if skip is None:
            return [convolve(pack[0], kernel[0])]
        return [convolve_doubled(pack[0], skip[0], kernel[0])]
    size = chunk_size(members, outputs)
    starts = range(0, members, size)
    inputs = sum(chunk.shape[-1] for chunk in pack)
    if skip is not None:
        doubled = [double(chunk) for chunk in pack]
        of_pack, of_skip = jnp.split(kernel, [inputs // members], axis=3)
        chunks = []
        for start in starts:
            convolved = _convolve_chunk(doubled, of_pack, start, size)
            chunks.append(convolved + _convolve_chunk(skip, of_skip, start, size))
        return chunks
    if inputs == kernel.shape[3]:
        return [_convolve_shared(pack[0], kernel, start, size) for start in starts]
    return [_convolve_chunk(pack, kernel, start, size) for start in starts]


def _convolve_shared(images: jax.Array, kernel: jax.Array, start: int, size: int) -> jax.Array:
    """Convolves one batch (B, H, W, C) by the kernels of `size` members from `start` on: (B, H, W, size * O)."""
    _, height, width, inputs, outputs = kernel.shape
    wide = jnp.moveaxis(kernel[start : start + size], 0, 3).reshape(height, width, inputs, size * outputs)
    return apart(convolve, images, wide)


def _convolve_chunk(pack: Pack, kernel: jax.Array, start: int, size: int) -> jax.Array:
    """Convolves `size` members from `start` on, and those that share their chunks, by a block-diagonal kernel.

    The kernel is zero for the other members: (B, H, W, size * O).
    """
    members_of_chunk = kernel.shape[0] // len(pack)
    first_chunk = start // members_of_chunk
    end_chunk = math.ceil((start + size) / members_of_chunk)
    images = jnp.concatenate(pack[first_chunk:end_chunk], axis=-1)
    wide = block_diag(
        kernel[start : start + size],
        members=(end_chunk - first_chunk) * members_of_chunk,
        first=start - first_chunk * members_of_chunk,
    )
    return apart(convolve, images, wide)


def block_diag(kernel: jax.Array, *, members: int, first: int) -> jax.Array:
    """Returns the block-diagonal kernel (h, w, members * C, g * O) of kernels (g, h, w, C, O).

    The outputs of kernel i take the inputs of member first + i.

    Example:
        >>> block_diag(jnp.array([2.0, 3.0]).reshape(2, 1, 1, 1, 1), members=3, first=1)[0, 0].tolist()
        [[0.0, 0.0], [2.0, 0.0], [0.0, 3.0]]
    """
    g, height, width, inputs, outputs = kernel.shape
    # Built by a product and a mask, so that its transpose is a product, too, not a gather.
    repeat = jnp.tile(jnp.eye(outputs, dtype=kernel.dtype), (1, g))
    rows = jnp.moveaxis(kernel, 0, 2).reshape(-1, outputs)
    repeated = jnp.dot(rows, repeat, precision=lax.Precision.HIGHEST).reshape(height, width, g * inputs, g * outputs)
    is_diagonal = jnp.arange(g * inputs)[:, None] // inputs == jnp.arange(g * outputs) // outputs
    blocks = jnp.where(is_diagonal, repeated, 0)
    zeros_before = first * inputs
    zeros_behind = (members - g - first) * inputs
    return jnp.pad(blocks, ((0, 0), (0, 0), (zeros_before, zeros_behind), (0, 0)))


def _clean(values: jax.Array) -> jax.Array:
    """Returns values, with 0 in place of those that are not finite."""
    return jnp.where(jnp.isfinite(values), values, 0)


def apart(product: Callable, images: jax.Array, kernel: jax.Array) -> jax.Array:
    """Returns the bilinear `product` of a chunk and a block-diagonal kernel, without spreading the NaN of one member.

    Values and gradients that are not finite are read as 0. The kernel's own gradient keeps them: there they meet no
    other member.
    """

    def backward(saved: Arrays, gradient: jax.Array) -> Arrays:
        images, kernel = saved
        pull = jax.vjp(product, _clean(images), kernel)[1]
        return pull(_clean(gradient))[0], pull(gradient)[1]

    return with_gradient(lambda images, kernel: product(_clean(images), kernel), backward)(images, kernel)
