"""EfficientNet-Lite0 (Tan and Le, 2019; without squeeze and excitation) as an encoder, padded as TensorFlow pads."""

import functools

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from flipjax.models.convolution import depthwise
from flipjax.models.layers import BatchNorm, Convolution

STEM = 32
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
"""Blocks, size of the kernel, stride of the first block, expansion and outputs of each stage."""
FEATURES = (1, 2, 4, 6)
"""Stages whose outputs are features, after the stem's."""
EPSILON = 1e-3


class Depthwise(nnx.Module):
    """A convolution of each channel by itself; `weight` (size, size, 1, channels)."""

    def __init__(self, channels: int, size: int, *, stride: int):
        """Starts at zero."""
        self.weight = nnx.Param(jnp.zeros((size, size, 1, channels)))
        self.stride = stride

    def __call__(self, images: jax.Array) -> jax.Array:
        """Maps (B, H, W, channels) to (B, H / stride, W / stride, channels); 2 divides H and W where it strides."""
        kernel = self.weight[...].astype(images.dtype)
        # XLA:CPU would fuse what is before and after into each of the taps: minutes of compiling, and slow.
        images = lax.optimization_barrier(images)
        if self.stride == 1:
            return lax.optimization_barrier(depthwise(images, kernel))
        taps = _taps(images, len(kernel))
        weights = kernel.reshape(len(taps), -1)
        output = functools.reduce(jnp.add, [seen * weight for seen, weight in zip(taps, weights, strict=True)])
        return lax.optimization_barrier(output)


class Stem(nnx.Module):
    """A 3 x 3 convolution of stride 2, as one matrix product."""

    def __init__(self, outputs: int):
        """Starts at zero; `weight` (3, 3, 3, outputs)."""
        self.weight = nnx.Param(jnp.zeros((3, 3, 3, outputs)))

    def __call__(self, images: jax.Array) -> jax.Array:
        """Maps (B, H, W, 3) to (B, H / 2, W / 2, outputs)."""
        weight = self.weight[...].astype(images.dtype)
        return jnp.concatenate(_taps(images, 3), axis=-1) @ weight.reshape(27, -1)


def _taps(images: jax.Array, size: int) -> list[jax.Array]:
    """Returns the images as each tap of a kernel of stride 2 sees them: rows first, (B, H / 2, W / 2, C) each."""
    _, H, W, _ = images.shape
    padding = ((size - 2) // 2, (size - 1) // 2)
    padded = jnp.pad(images, ((0, 0), padding, padding, (0, 0)))
    return [padded[:, i : i + H - 1 : 2, j : j + W - 1 : 2] for i in range(size) for j in range(size)]


class InvertedResidual(nnx.Module):
    """Expands, filters each channel, projects; added to its input where shapes agree."""

    def __init__(self, inputs: int, outputs: int, *, size: int, stride: int, expansion: int):
        """Makes the layers."""
        hidden = expansion * inputs
        if expansion > 1:
            self._expand_conv, self._bn0 = Convolution(inputs, hidden, 1), BatchNorm(hidden, epsilon=EPSILON)
        self._depthwise_conv, self._bn1 = Depthwise(hidden, size, stride=stride), BatchNorm(hidden, epsilon=EPSILON)
        self._project_conv, self._bn2 = Convolution(hidden, outputs, 1), BatchNorm(outputs, epsilon=EPSILON)
        self.expands, self.adds = expansion > 1, stride == 1 and inputs == outputs

    def __call__(self, images: jax.Array) -> jax.Array:
        """Maps (B, H, W, inputs) to (B, H / stride, W / stride, outputs)."""
        hidden = nnx.relu6(self._bn0(self._expand_conv(images))) if self.expands else images
        hidden = nnx.relu6(self._bn1(self._depthwise_conv(hidden)))
        output = self._bn2(self._project_conv(hidden))
        return images + output if self.adds else output


class EfficientNetLite0(nnx.Module):
    """The encoder, without the classifier and without the dropped branches of its own training."""

    channels = (STEM, *(STAGES[stage][-1] for stage in FEATURES))

    def __init__(self, rngs: nnx.Rngs):
        """Makes the layers; draws nothing."""
        self._conv_stem, self._bn0 = Stem(STEM), BatchNorm(STEM, epsilon=EPSILON)
        inputs, blocks = STEM, []
        for count, size, stride, expansion, outputs in STAGES:
            for index in range(count):
                first = {"stride": 1 if index else stride, "size": size, "expansion": expansion}
                blocks.append(InvertedResidual(inputs, outputs, **first))
                inputs = outputs
        self._blocks = nnx.List(blocks)

    def __call__(self, images: jax.Array) -> list[jax.Array]:
        """Maps (B, H, W, 3) in [0, 1] to features of `channels` channels at 1/2, 1/4, ... 1/32 of the size."""
        # Its weights were trained on images in [-1, 1].
        hidden = nnx.relu6(self._bn0(self._conv_stem(2 * images - 1)))
        features, blocks = [hidden], iter(self._blocks)
        for stage, (count, *_) in enumerate(STAGES):
            for _ in range(count):
                hidden = next(blocks)(hidden)
            if stage in FEATURES:
                features.append(hidden)
        return features
