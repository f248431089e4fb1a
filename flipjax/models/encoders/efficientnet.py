"""EfficientNet-Lite0 (Tan and Le, 2019), an encoder for CPUs, padded as TensorFlow pads.

Names of layers, and the epsilon, are those of the published weights.
"""

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from flipjax.models.convolutions.depthwise import taps
from flipjax.models.encoders.layers import BatchNorm, Convolution, Depthwise


class EfficientNetStage(NamedTuple):
    """A row of blocks with as many channels."""

    width: int
    """Channels."""
    blocks: int
    """Number of blocks."""
    size: int
    """Side of the depthwise kernels."""
    stride: int
    """Stride of the first block."""
    expansion: int = 6
    """Channels within a block, as a multiple of those that it takes."""
    is_feature: bool = False
    """Whether its output is a feature of the encoder: the last stage of each size of images."""


STAGES = (
    EfficientNetStage(width=16, blocks=1, size=3, stride=1, expansion=1),
    EfficientNetStage(width=24, blocks=2, size=3, stride=2, is_feature=True),
    EfficientNetStage(width=40, blocks=2, size=5, stride=2, is_feature=True),
    EfficientNetStage(width=80, blocks=3, size=3, stride=2),
    EfficientNetStage(width=112, blocks=3, size=5, stride=1, is_feature=True),
    EfficientNetStage(width=192, blocks=4, size=5, stride=2),
    EfficientNetStage(width=320, blocks=1, size=3, stride=1, is_feature=True),
)
"""The stages."""
STEM = 32
"""Channels after the first convolution."""
EPSILON = 1e-3
"""Added to the variance by the norms."""


class Stem(Convolution):
    """A 3 x 3 convolution of photos with stride 2, padded as TensorFlow pads, and computed as one matrix product."""

    def __call__(self, images: jax.Array) -> jax.Array:
        """Maps (B, H, W, 3) to (B, H / 2, W / 2, outputs)."""
        weight = self.weight[...].astype(images.dtype)
        return jnp.concatenate(taps(images, (3, 3), stride=2), axis=-1) @ weight.reshape(27, -1)


class InvertedResidual(nnx.Module):
    """Expands, filters each channel and projects; adds the input where the shapes agree."""

    def __init__(self, inputs: int, outputs: int, size: int, stride: int, expansion: int):
        """Makes the layers."""
        hidden = expansion * inputs
        if expansion > 1:
            self._expand_conv = Convolution(inputs, hidden, 1)
            self._bn0 = BatchNorm(hidden, epsilon=EPSILON)
        self._depthwise_conv = Depthwise(hidden, size, stride=stride)
        self._bn1 = BatchNorm(hidden, epsilon=EPSILON)
        self._project_conv = Convolution(hidden, outputs, 1)
        self._bn2 = BatchNorm(outputs, epsilon=EPSILON)
        self.expands = expansion > 1
        self.adds = stride == 1 and inputs == outputs

    def __call__(self, images: jax.Array) -> jax.Array:
        """Maps (B, H, W, inputs) to (B, H / stride, W / stride, outputs)."""
        hidden = images
        if self.expands:
            hidden = nnx.relu6(self._bn0(self._expand_conv(images)))
        # Without barriers XLA:CPU fuses the neighbouring operations into each tap: minutes to compile, and slow.
        filtered = lax.optimization_barrier(self._depthwise_conv(lax.optimization_barrier(hidden)))
        hidden = nnx.relu6(self._bn1(filtered))
        output = self._bn2(self._project_conv(hidden))
        return images + output if self.adds else output


class EfficientNetLite0(nnx.Module):
    """EfficientNet-Lite0 without its classifier; training drops no branches."""

    channels = (STEM, *(stage.width for stage in STAGES if stage.is_feature))
    """Channels of the features at 1/2, 1/4, ... 1/32 of the size."""

    def __init__(self, rngs: nnx.Rngs):
        """Makes the layers, kernels zero; draws nothing from `rngs`."""
        self._conv_stem = Stem(3, STEM, 3, stride=2)
        self._bn0 = BatchNorm(STEM, epsilon=EPSILON)
        blocks = []
        inputs = STEM
        for stage in STAGES:
            blocks.append(InvertedResidual(inputs, stage.width, stage.size, stage.stride, stage.expansion))
            for _ in range(stage.blocks - 1):
                blocks.append(InvertedResidual(stage.width, stage.width, stage.size, 1, stage.expansion))
            inputs = stage.width
        self._blocks = nnx.List(blocks)

    def __call__(self, images: jax.Array) -> list[jax.Array]:
        """Maps (B, H, W, 3) in [0, 1] to features of `channels` channels at 1/2, 1/4, ... 1/32 of the size."""
        # Its weights expect images in [-1, 1].
        hidden = nnx.relu6(self._bn0(self._conv_stem(2 * images - 1)))
        features = [hidden]
        blocks = iter(self._blocks)
        for stage in STAGES:
            for block in itertools.islice(blocks, stage.blocks):
                hidden = block(hidden)
            if stage.is_feature:
                features.append(hidden)
        return features
