"""ResNet-50 (He et al., 2016), an encoder with its stride in the 3 x 3 convolution, as torchvision's.

Names of layers are those of the published weights. Images are taken as they are, without the mean of ImageNet.
"""

import jax
from flax import nnx

from flipjax.models.convolutions.max_pool import max_pool
from flipjax.models.encoders.layers import BatchNorm, Convolution

STEM = 64
"""Channels after the first convolution."""
STAGES = ((64, 3), (128, 4), (256, 6), (512, 3))
"""Channels before the expansion, and blocks, of each stage."""
EXPANSION = 4
"""Channels of a block after its last convolution, as a multiple of those before."""


class Bottleneck(nnx.Module):
    """1 x 1, 3 x 3 and 1 x 1 convolutions around a shortcut."""

    def __init__(self, inputs: int, width: int, *, stride: int):
        """Makes the layers; the shortcut is a convolution where shapes change."""
        outputs = EXPANSION * width
        self.conv1 = Convolution(inputs, width, 1)
        self.bn1 = BatchNorm(width)
        self.conv2 = Convolution(width, width, 3, stride=stride)
        self.bn2 = BatchNorm(width)
        self.conv3 = Convolution(width, outputs, 1)
        self.bn3 = BatchNorm(outputs)
        shortcut = []
        if stride > 1 or inputs != outputs:
            shortcut = [Convolution(inputs, outputs, 1, stride=stride), BatchNorm(outputs)]
        self.downsample = nnx.List(shortcut)

    def __call__(self, images: jax.Array) -> jax.Array:
        """Maps (B, H, W, inputs) to (B, H / stride, W / stride, 4 * width)."""
        hidden = nnx.relu(self.bn1(self.conv1(images)))
        hidden = nnx.relu(self.bn2(self.conv2(hidden)))
        shortcut = images
        for layer in self.downsample:
            shortcut = layer(shortcut)
        return nnx.relu(self.bn3(self.conv3(hidden)) + shortcut)


class ResNet50(nnx.Module):
    """ResNet-50 without its classifier."""

    channels = (STEM, *(EXPANSION * width for width, _ in STAGES))
    """Channels of the features at 1/2, 1/4, ... 1/32 of the size."""

    def __init__(self, rngs: nnx.Rngs):
        """Makes the layers, kernels zero; draws nothing from `rngs`."""
        inputs = self.channels[0]
        self.conv1 = Convolution(3, inputs, 7, stride=2)
        self.bn1 = BatchNorm(inputs)
        # The pooling before the first stage halves the images already.
        stride = 1
        for number, (width, blocks) in enumerate(STAGES, start=1):
            first = Bottleneck(inputs, width, stride=stride)
            inputs = EXPANSION * width
            stride = 2
            rest = [Bottleneck(inputs, width, stride=1) for _ in range(blocks - 1)]
            setattr(self, f"layer{number}", nnx.List([first, *rest]))

    def __call__(self, images: jax.Array) -> list[jax.Array]:
        """Maps (B, H, W, 3) to features of `channels` channels at 1/2, 1/4, ... 1/32 of the size."""
        hidden = nnx.relu(self.bn1(self.conv1(images)))
        features = [hidden]
        hidden = max_pool(hidden)
        for number in range(1, 1 + len(STAGES)):
            for block in getattr(self, f"layer{number}"):
                hidden = block(hidden)
            features.append(hidden)
        return features
