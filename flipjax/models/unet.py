"""A small U-Net (Ronneberger et al., 2015) for populations: written for packs, and a member alone is a pack of one."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jax.flatten_util import ravel_pytree

from flipjax.backend.convolutions import ONEDNN, library
from flipjax.config import ModelSpec
from flipjax.models.pack import Pack, apart, block_diag, convolve_pack, join, map_chunks, row_size, sound, sum_pixels
from flipjax.models.tracing import Arrays, materialised, with_gradient

MOMENTUM = 0.9
"""Momentum of the running statistics: runs have a few hundred steps, so they must settle within tens."""
EPSILON = 1e-5
"""Added to the variance of a norm."""


def he_kernels(key: jax.Array, shapes: list[tuple[int, ...]]) -> list[jax.Array]:
    """Draws kernels (height, width, inputs, outputs) with variance 2 / (height * width * inputs) (He et al., 2015)."""
    # One draw for all: XLA:CPU takes half a second and more to compile each use of the generator.
    flat, unravel = ravel_pytree([jnp.zeros(shape) for shape in shapes])
    kernels = unravel(jax.random.normal(key, flat.shape))
    return [kernel * math.sqrt(2 / math.prod(kernel.shape[:-1])) for kernel in kernels]


def _rectify(values: jax.Array) -> jax.Array:
    # The second term is zero. Without it, here and in the gradient, LLVM in JAX 0.10 unrolls loops over 16 channels and
    # vectorises those over pixels, badly.
    return jnp.maximum(values, 0) + 0 * jnp.minimum(values, 0)


def _rectify_backward(saved: Arrays, gradient: jax.Array) -> Arrays:
    return (jnp.where(_rectify(saved[0]) > 0, gradient, 0),)


rectify = with_gradient(_rectify, _rectify_backward)
"""ReLU, but NaN of -inf."""


class PackBatchNorm(nnx.Module):
    """Batch normalisation of each channel (Ioffe and Szegedy, 2015), computed as Flax's."""

    def __init__(self, channels: int):
        """Starts as the plain normalisation, in training mode."""
        self.scale = nnx.Param(jnp.ones((channels,)))
        self.bias = nnx.Param(jnp.zeros((channels,)))
        self.mean = nnx.BatchStat(jnp.zeros((channels,)))
        self.var = nnx.BatchStat(jnp.ones((channels,)))
        self.use_running_average = False

    def __call__(self, pack: Pack) -> Pack:
        """Normalises a pack, to float32; in training moves the running statistics."""
        wide = [chunk.astype(jnp.float32) for chunk in pack]
        affine = self.scale[...], self.bias[...]
        if self.use_running_average:
            return map_chunks(_normalise, wide, self.mean[...], lax.rsqrt(self.var[...] + EPSILON), *affine)
        outputs, means, variances = zip(*map_chunks(_normalise_by_batch, wide, *affine), strict=True)
        for running, moments in ((self.mean, means), (self.var, variances)):
            moment = jnp.stack(moments).reshape(running.shape)
            running[...] = MOMENTUM * running[...] + (1 - MOMENTUM) * moment
        return list(outputs)


def _normalise(images: jax.Array, mean: jax.Array, inverse: jax.Array, scale: jax.Array, bias: jax.Array) -> jax.Array:
    return (images - mean) * (inverse * scale) + bias


@jax.custom_vjp
def _normalise_by_batch(images: jax.Array, scale: jax.Array, bias: jax.Array) -> Arrays:
    """Normalises float32 images (B, H, W, C) by their mean and variance (C,), which are returned without a gradient.

    The gradient is written out: two sums over pixels suffice for it, and XLA:CPU makes fewer passes over images of it
    than of the derived one (sweeps/benchmarks/throughput).
    """
    return _normalise_forward(images, scale, bias)[0]


def _normalise_forward(images: jax.Array, scale: jax.Array, bias: jax.Array) -> tuple[Arrays, Arrays]:
    count = images.size // images.shape[-1]
    mean = sum_pixels(images) / count
    variance = jnp.maximum(0.0, sum_pixels(lax.square(images)) / count - lax.square(mean))
    inverse = lax.rsqrt(variance + EPSILON)
    output = _normalise(images, mean, inverse, scale, bias)
    return (output, mean, variance), (images, mean, inverse, scale)


def _normalise_backward(saved: Arrays, gradients: Arrays) -> Arrays:
    images, mean, inverse, scale = saved
    gradient, _, _ = gradients
    of_bias = sum_pixels(gradient)
    of_scale = (sum_pixels(gradient * images) - mean * of_bias) * inverse
    factor = inverse * scale
    count = images.size // images.shape[-1]
    slope = -factor * inverse * of_scale / count
    offset = -factor * of_bias / count - slope * mean
    return factor * gradient + (slope * images + offset), of_scale, of_bias


_normalise_by_batch.defvjp(_normalise_forward, _normalise_backward)


class PackBias(nnx.Module):
    """A learned offset per channel, for blocks without a norm."""

    def __init__(self, channels: int):
        """Starts at zero."""
        self.bias = nnx.Param(jnp.zeros((channels,)))

    def __call__(self, pack: Pack) -> Pack:
        """Adds the offset."""
        return map_chunks(lambda chunk, offset: chunk + offset.astype(chunk.dtype), pack, self.bias[...])


NORM_LAYERS = {"batch": PackBatchNorm, "none": PackBias}
"""What follows a convolution, by `ModelSpec.norm`."""


class ConvolutionBlock(nnx.Module):
    """Convolution, norm and ReLU, twice."""

    def __init__(self, first: jax.Array, second: jax.Array, *, norm: str):
        """Takes the kernels of two convolutions, (3, 3, inputs, outputs) float32; makes their norms."""
        self.first = nnx.Param(first)
        self.first_norm = NORM_LAYERS[norm](first.shape[-1])
        self.second = nnx.Param(second)
        self.second_norm = NORM_LAYERS[norm](second.shape[-1])

    def __call__(self, pack: Pack, *, skip: Pack | None = None) -> tuple[Pack, jax.Array]:
        """Maps a pack to one of its dtype, and to whether each member is finite; `skip` as in `convolve_pack`."""
        dtype = pack[0].dtype
        finite = []
        for kernel, norm in ((self.first, self.first_norm), (self.second, self.second_norm)):
            # The kernels of a pack have a leading member axis.
            weights = kernel.astype(dtype).reshape(-1, *kernel.shape[-4:])
            convolved = convolve_pack(pack, weights, skip=skip)
            finite.append(sound(convolved, members=weights.shape[0]))
            pack = [rectify(chunk.astype(dtype)) for chunk in norm(convolved)]
            skip = None
        return pack, finite[0] & finite[1]


@jax.custom_vjp
@materialised
def halve(images: jax.Array) -> jax.Array:
    """Max-pools 2 x 2: (B, H, W, C) to (B, H / 2, W / 2, C)."""
    return functools.reduce(jnp.maximum, _quarters(images))


def _quarters(images: jax.Array) -> list[jax.Array]:
    B, H, W, C = images.shape
    halves = images.reshape(B, H // 2, 2, W // 2, 2, C)
    return [halves[:, :, 0, :, 0], halves[:, :, 0, :, 1], halves[:, :, 1, :, 0], halves[:, :, 1, :, 1]]


@materialised
def _halve_backward(images: jax.Array, top: jax.Array, gradient: jax.Array) -> jax.Array:
    """Shares the gradient of a maximum among those equal to it, as XLA does."""
    B, H, W, C = images.shape
    count = functools.reduce(jnp.add, [(view == top).astype(images.dtype) for view in _quarters(images)])
    share = gradient / count
    equal = images.reshape(B, H // 2, 2, W // 2, 2, C) == top[:, :, None, :, None]
    return (equal.astype(images.dtype) * share[:, :, None, :, None]).reshape(images.shape)


def _halve_forward(images: jax.Array) -> tuple[jax.Array, Arrays]:
    top = halve(images)
    return top, (images, top)


halve.defvjp(_halve_forward, lambda saved, gradient: (_halve_backward(*saved, gradient),))


def halve_by_slices(images: jax.Array) -> jax.Array:
    """Equals `halve`, rows before columns: faster if channels fill the lanes (sweeps/benchmarks/accelerators)."""
    B, H, W, C = images.shape
    rows = images.reshape(B, H // 2, 2, W, C)
    rows = jnp.maximum(rows[:, :, 0], rows[:, :, 1]).reshape(B, H // 2, W // 2, 2, C)
    return jnp.maximum(rows[:, :, :, 0], rows[:, :, :, 1])


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
        classes); of a member whose activations are not finite they are NaN.
        """
        pack, finite = self.inputs_of_head(images)
        head: Any = self.head
        kernel = head.kernel[...]
        bias = head.bias[...]
        if kernel.ndim == 2:
            return jnp.moveaxis(self.enlarge(_planes(pack[0], kernel, bias)), 0, -1)
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


class UNet(PackNetwork):
    """Encoder of `depth` levels, decoder with skip connections, and head; 2**(depth - 1) divides height and width."""

    def __init__(self, spec: ModelSpec, *, num_classes: int, rngs: nnx.Rngs):
        """Makes the levels with `spec.width * 2**level` channels."""
        widths = [spec.width * 2**level for level in range(spec.depth)]
        # Channels into and out of each block, of the encoder and then of the decoder.
        channels = [*zip([3, *widths[:-1]], widths, strict=True)]
        channels += [(deep + skip, skip) for deep, skip in zip(widths[:0:-1], widths[-2::-1], strict=True)]
        shapes: list[tuple[int, ...]] = []
        for inputs, outputs in channels:
            shapes.append((3, 3, inputs, outputs))
            shapes.append((3, 3, outputs, outputs))
        *kernels, head = he_kernels(rngs.params(), [*shapes, (1, 1, widths[0], num_classes)])
        blocks = []
        for first, second in zip(kernels[::2], kernels[1::2], strict=True):
            blocks.append(ConvolutionBlock(first, second, norm=spec.norm))
        self.dtype = jnp.dtype(spec.dtype)
        self.encoder = nnx.List(blocks[: spec.depth])
        self.decoder = nnx.List(blocks[spec.depth :])
        self.head = nnx.Linear(widths[0], num_classes, kernel_init=lambda *_: head[0, 0], rngs=rngs)

    def inputs_of_head(self, images: jax.Array) -> tuple[Pack, jax.Array]:
        """Maps images (B, H, W, 3) in [0, 1] to a pack of `width` channels, and to whether members are finite."""
        pack = self.as_pack(images, channels=self.head.kernel.shape[-2])
        pool = halve if self.head.kernel.ndim == 2 else halve_by_slices
        skips = []
        finite = []
        for level, block in enumerate(self.encoder):
            pack, whole = block([pool(chunk) for chunk in pack] if level else pack)
            skips.append(pack)
            finite.append(whole)
        for block, skip in zip(self.decoder, skips[-2::-1], strict=True):
            pack, whole = block(pack, skip=skip)
            finite.append(whole)
        return [chunk.astype(jnp.float32) for chunk in pack], jnp.stack(finite).all(0)


def _affine_by_class(images: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
    """Maps images (B, H, W, C) by a kernel (C, classes) and a bias (classes,) to a plane a class, (classes, B, H, W).

    The images' gradient is a sum over classes: they are too few for a matrix product to be fast on a CPU. The kernel's
    is a product of rows of `row_size` pixels, whose blocks off the diagonal are not used.
    """
    *grid, C = images.shape
    # Written as an einsum, XLA:CPU would transpose the images first.
    planes = lax.dot_general(kernel, images.reshape(-1, C), (((0,), (1,)), ((), ())))
    if library.value == ONEDNN:
        # It has no fast product with a bias for this layout, and takes one apart from the other.
        planes = lax.optimization_barrier(planes)
    return (planes + bias[:, None]).reshape(-1, *grid)


def _planes_backward(saved: Arrays, gradient: jax.Array) -> Arrays:
    images, kernel, _ = saved
    parts = [plane[..., None] * column for plane, column in zip(gradient, kernel.T, strict=True)]
    flat = gradient.reshape(len(gradient), -1)
    return functools.reduce(jnp.add, parts), _head_gradient(images, gradient), flat @ jnp.ones(flat.shape[1])


@materialised
def _head_gradient(images: jax.Array, gradient: jax.Array) -> jax.Array:
    pixels = row_size(images)
    rows = images.reshape(-1, pixels, images.shape[-1])
    columns = gradient.reshape(len(gradient), -1, pixels)
    return jnp.einsum("kiic->ck", jnp.einsum("pic,kpj->kjic", rows, columns))


_planes = with_gradient(_affine_by_class, _planes_backward)


def _product(images: jax.Array, kernel: jax.Array) -> jax.Array:
    # Pixels on the last axis fill the lanes; the few classes would not.
    return jnp.einsum("bhwl,lgo->gobhw", images, kernel)
