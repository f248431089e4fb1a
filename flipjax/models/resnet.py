"""ResNet-50 (He et al., 2016), its stride in the 3 x 3 convolution as torchvision has it, as an encoder."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from flipjax.models.layers import BatchNorm, Convolution

EXPANSION = 4
WIDTHS = (64, 128, 256, 512)
BLOCKS = (3, 4, 6, 3)


class Bottleneck(nnx.Module):
    """1 x 1, 3 x 3 and 1 x 1 convolutions around a shortcut."""

    def __init__(self, inputs: int, width: int, *, stride: int):
        """Makes the layers; the shortcut is a convolution where shapes change."""
        outputs = EXPANSION * width
        self.conv1, self.bn1 = Convolution(inputs, width, 1), BatchNorm(width)
        self.conv2, self.bn2 = Convolution(width, width, 3, stride=stride), BatchNorm(width)
        self.conv3, self.bn3 = Convolution(width, outputs, 1), BatchNorm(outputs)
        changes = stride > 1 or inputs != outputs
        shortcut = [Convolution(inputs, outputs, 1, stride=stride), BatchNorm(outputs)] if changes else []
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
    """The encoder, without the classifier."""

    channels = (WIDTHS[0], *(EXPANSION * width for width in WIDTHS))

    def __init__(self, rngs: nnx.Rngs):
        """Makes the layers; draws nothing."""
        self.conv1, self.bn1 = Convolution(3, WIDTHS[0], 7, stride=2), BatchNorm(WIDTHS[0])
        for stage, (inputs, width) in enumerate(zip(self.channels, WIDTHS, strict=False)):
            first = Bottleneck(inputs, width, stride=2 if stage else 1)
            others = [Bottleneck(EXPANSION * width, width, stride=1) for _ in range(BLOCKS[stage] - 1)]
            setattr(self, f"layer{stage + 1}", nnx.List([first, *others]))

    def __call__(self, images: jax.Array) -> list[jax.Array]:
        """Maps (B, H, W, 3) to features of `channels` channels at 1/2, 1/4, ... 1/32 of the size."""
        hidden = nnx.relu(self.bn1(self.conv1(images)))
        features = [hidden]
        padding = ((0, 0), (1, 1), (1, 1), (0, 0))
        hidden = lax.reduce_window(hidden, -jnp.inf, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), padding)
        for stage in range(1, 1 + len(WIDTHS)):
            for block in getattr(self, f"layer{stage}"):
                hidden = block(hidden)
            features.append(hidden)
        return features
