"""A small U-Net (Ronneberger et al., 2015) for populations."""

import itertools
import math

import jax
import jax.numpy as jnp
from flax import nnx

from flipjax.config import ModelSpec
from flipjax.models.convolution import convolve
from flipjax.models.layers import double


def _he_kernels(key: jax.Array, shapes: list[tuple[int, ...]]) -> list[jax.Array]:
    """Draws kernels (height, width, inputs, outputs) with variance 2 / (height * width * inputs) (He et al., 2015)."""
    # One draw for all: XLA:CPU takes half a second and more to compile each use of the generator.
    sizes = [math.prod(shape) for shape in shapes]
    parts = jnp.split(jax.random.normal(key, (sum(sizes),)), list(itertools.accumulate(sizes))[:-1])
    return [
        part.reshape(shape) * math.sqrt(2 / math.prod(shape[:-1])) for part, shape in zip(parts, shapes, strict=True)
    ]


def _norm(kind: str, channels: int, rngs: nnx.Rngs) -> nnx.Module:
    if kind == "batch":
        # A run has a few hundred steps: running averages must settle within tens of them.
        return nnx.BatchNorm(channels, momentum=0.9, rngs=rngs)
    if kind == "group":
        return nnx.GroupNorm(channels, num_groups=min(8, channels), rngs=rngs)
    return Bias(channels)


class Bias(nnx.Module):
    """A learned offset per channel: what a block without a norm has instead."""

    def __init__(self, channels: int):
        """Starts at zero."""
        self.bias = nnx.Param(jnp.zeros((channels,)))

    def __call__(self, images: jax.Array) -> jax.Array:
        """Adds the offset."""
        return images + self.bias[...].astype(images.dtype)


class Block(nnx.Module):
    """Convolution, norm and ReLU, twice."""

    def __init__(self, first: jax.Array, second: jax.Array, *, norm: str, rngs: nnx.Rngs):
        """Takes the kernels of two convolutions, (3, 3, inputs, outputs) float32; makes their norms."""
        self.first = nnx.Param(first)
        self.first_norm = _norm(norm, first.shape[-1], rngs)
        self.second = nnx.Param(second)
        self.second_norm = _norm(norm, second.shape[-1], rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        """Maps (B, H, W, inputs) to (B, H, W, outputs) in the dtype of `images`."""
        hidden = images
        for kernel, norm in ((self.first, self.first_norm), (self.second, self.second_norm)):
            output = norm(convolve(hidden, kernel[...].astype(images.dtype)))
            hidden = nnx.relu(output.astype(images.dtype))
        return hidden


def halve(images: jax.Array) -> jax.Array:
    """Max-pools 2 x 2: (B, H, W, C) to (B, H / 2, W / 2, C)."""
    B, H, W, C = images.shape
    return images.reshape(B, H // 2, 2, W // 2, 2, C).max((2, 4))


class UNet(nnx.Module):
    """Encoder of `depth` levels, decoder with skip connections, and a plain 1 x 1 head: no norm touches the logits."""

    def __init__(self, spec: ModelSpec, *, num_classes: int, rngs: nnx.Rngs):
        """Makes the levels with `spec.width * 2**level` channels."""
        widths = [spec.width * 2**level for level in range(spec.depth)]
        pairs = [*zip([3, *widths[:-1]], widths, strict=True)]
        pairs += [(deep + skip, skip) for deep, skip in zip(widths[:0:-1], widths[-2::-1], strict=True)]
        shapes = [(3, 3, *pair) for inputs, outputs in pairs for pair in ((inputs, outputs), (outputs, outputs))]
        *kernels, head = _he_kernels(rngs.params(), [*shapes, (1, 1, widths[0], num_classes)])
        blocks = [
            Block(first, second, norm=spec.norm, rngs=rngs)
            for first, second in zip(kernels[::2], kernels[1::2], strict=True)
        ]
        self.dtype = jnp.dtype(spec.dtype)
        self.encoder = nnx.List(blocks[: spec.depth])
        self.decoder = nnx.List(blocks[spec.depth :])
        self.head = nnx.Linear(widths[0], num_classes, kernel_init=lambda *_: head[0, 0], rngs=rngs)

    def features(self, images: jax.Array) -> jax.Array:
        """Maps images (B, H, W, 3) in [0, 1] to what the head sees, (B, H, W, width) float32."""
        hidden = images.astype(self.dtype)
        skips = []
        for level, block in enumerate(self.encoder):
            hidden = block(halve(hidden) if level else hidden)
            skips.append(hidden)
        for block, skip in zip(self.decoder, skips[-2::-1], strict=True):
            hidden = block(jnp.concatenate([double(hidden), skip], axis=-1))
        return hidden.astype(jnp.float32)

    def __call__(self, images: jax.Array) -> jax.Array:
        """Maps images (B, H, W, 3) in [0, 1] to logits (B, H, W, classes) float32; 2**(depth - 1) divides H and W."""
        return self.head(self.features(images))


def build(spec: ModelSpec, *, num_classes: int, rngs: nnx.Rngs) -> UNet:
    """Returns a fresh U-Net in training mode, float32 parameters."""
    return UNet(spec, num_classes=num_classes, rngs=rngs)
