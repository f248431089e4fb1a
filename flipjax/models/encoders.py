"""Encoders of the large U-Nets, which map images (B, H, W, 3) in [0, 1] to features at 1/2, 1/4, ... 1/32 of the size.

ResNet-50 (He et al., 2016) has its stride in the 3 x 3 convolution, as torchvision's; MiT-B2 is SegFormer's (Xie et
al., 2021); EfficientNet-Lite0 (Tan and Le, 2019) is padded as TensorFlow pads. Names of layers, and the two epsilons,
are those of the published weights. ResNet-50 and MiT-B2 take images as they are, without the mean of ImageNet.

An encoder is made of `rngs`, Flax's source of PRNG keys, as every network is. Its kernels are zero until
`smp.build_unet` draws all of a network's at once; MiT-B2 alone takes a key, for the branches that training drops.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax

from flipjax.models.depthwise import taps
from flipjax.models.layers import BatchNorm, Convolution, Depthwise, LayerNorm, Linear, gelu, softmax

BLOCKS = (3, 4, 6, 3)
"""Blocks in each stage of ResNet-50 and MiT-B2."""
EXPANSION = 4
"""Channels of a block of ResNet-50 after its last convolution, as a multiple of those before."""
RESNET_WIDTHS = (64, 128, 256, 512)
"""Channels in each stage of ResNet-50, before the expansion."""
MIT_WIDTHS = (64, 128, 320, 512)
"""Channels in each stage of MiT-B2."""
HEADS = (1, 2, 5, 8)
"""Attention heads in each stage of MiT-B2."""
REDUCTIONS = (8, 4, 2, 1)
"""Factors by which keys and values of attention are smaller, in each stage of MiT-B2."""
MLP_RATIO = 4
"""Hidden channels of MiT-B2's feed-forward layers, as a multiple of a stage's."""
DROP_PATH = 0.1
"""Largest probability that a block of MiT-B2 is left out in training."""
MIT_EPSILON = 1e-6
"""Added to the variance by MiT-B2's norms within and after stages; the others have PyTorch's default."""
STEM = 32
"""Channels after the first convolution of EfficientNet-Lite0."""
LITE_BLOCKS = (1, 2, 2, 3, 3, 4, 1)
"""Blocks in each stage of EfficientNet-Lite0."""
LITE_WIDTHS = (16, 24, 40, 80, 112, 192, 320)
"""Channels in each stage of EfficientNet-Lite0."""
LITE_SIZES = (3, 3, 5, 3, 5, 5, 3)
"""Sides of the kernels in each stage."""
LITE_STRIDES = (1, 2, 2, 2, 1, 2, 1)
"""Strides of the first block in each stage."""
FEATURES = (2, 4, 10, 15)
"""Blocks whose outputs are features, besides the stem's."""
LITE_EPSILON = 1e-3
"""Added to the variance by EfficientNet-Lite0's norms."""


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

    channels = (RESNET_WIDTHS[0], *(EXPANSION * width for width in RESNET_WIDTHS))

    def __init__(self, rngs: nnx.Rngs):
        """Makes the layers; draws nothing."""
        self.conv1 = Convolution(3, RESNET_WIDTHS[0], 7, stride=2)
        self.bn1 = BatchNorm(RESNET_WIDTHS[0])
        for stage, (inputs, width) in enumerate(zip(self.channels[:-1], RESNET_WIDTHS, strict=True)):
            first = Bottleneck(inputs, width, stride=2 if stage else 1)
            rest = [Bottleneck(EXPANSION * width, width, stride=1) for _ in range(BLOCKS[stage] - 1)]
            setattr(self, f"layer{stage + 1}", nnx.List([first, *rest]))

    def __call__(self, images: jax.Array) -> list[jax.Array]:
        """Maps (B, H, W, 3) to features of `channels` channels at 1/2, 1/4, ... 1/32 of the size."""
        hidden = nnx.relu(self.bn1(self.conv1(images)))
        features = [hidden]
        # The greatest of 3 x 3 pixels, at every other one.
        padding = ((0, 0), (1, 1), (1, 1), (0, 0))
        hidden = lax.reduce_window(hidden, -jnp.inf, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), padding)
        for stage in range(1, 1 + len(RESNET_WIDTHS)):
            for block in getattr(self, f"layer{stage}"):
                hidden = block(hidden)
            features.append(hidden)
        return features


class Randomness(nnx.Variable):
    """Key data of the random numbers that training draws; not a weight."""


class Attention(nnx.Module):
    """Attention from every pixel to an image `reduction` times smaller."""

    def __init__(self, width: int, heads: int, reduction: int):
        """Makes the layers; the reduction is a convolution of patches that abut."""
        self.q = Linear(width, width)
        self.kv = Linear(width, 2 * width)
        self.proj = Linear(width, width)
        # Set once: an attribute that was None is static to Flax and takes no layer.
        if reduction > 1:
            self.sr = Convolution(width, width, reduction, stride=reduction, bias=True)
            self.norm = LayerNorm(width)
        else:
            self.sr = None
            self.norm = None
        self.heads = heads

    def __call__(self, images: jax.Array) -> jax.Array:
        """Maps (B, H, W, width) to the same shape."""
        B, H, W, C = images.shape
        depth = C // self.heads
        reduced = images
        if self.sr is not None and self.norm is not None:
            reduced = self.norm(self.sr(images))
        # Heads before pixels: XLA:CPU is up to three times slower on products whose batch axes are not the first.
        query = self.q(images).reshape(B, H * W, self.heads, depth).swapaxes(1, 2)
        key, value = self.kv(reduced).reshape(B, -1, 2, self.heads, depth).transpose(2, 0, 3, 1, 4)
        weights = softmax(jnp.einsum("bhqd,bhkd->bhqk", query * depth**-0.5, key))
        mixed = jnp.einsum("bhqk,bhkd->bhqd", weights, value)
        return self.proj(mixed.swapaxes(1, 2).reshape(B, H, W, C))


class Mlp(nnx.Module):
    """Two linear maps, between them a depthwise convolution and the exact GELU."""

    def __init__(self, width: int):
        """Makes the layers."""
        self.fc1 = Linear(width, MLP_RATIO * width)
        self.fc2 = Linear(MLP_RATIO * width, width)
        self.dwconv = nnx.Dict(dwconv=Depthwise(MLP_RATIO * width, bias=True))

    def __call__(self, images: jax.Array) -> jax.Array:
        """Maps (B, H, W, width) to the same shape."""
        return self.fc2(gelu(self.dwconv["dwconv"](self.fc1(images))))


class AttentionBlock(nnx.Module):
    """Attention and MLP, each behind a norm and beside a shortcut."""

    def __init__(self, width: int, heads: int, reduction: int):
        """Makes the layers."""
        self.norm1 = LayerNorm(width, epsilon=MIT_EPSILON)
        self.norm2 = LayerNorm(width, epsilon=MIT_EPSILON)
        self.attn = Attention(width, heads, reduction)
        self.mlp = Mlp(width)

    def __call__(self, images: jax.Array, scales: jax.Array) -> jax.Array:
        """Maps (B, H, W, width) to the same shape; `scales` (2, B) scales the two branches of each image."""
        attention, mlp = scales.astype(images.dtype)[:, :, None, None, None]
        images = images + attention * self.attn(self.norm1(images))
        return images + mlp * self.mlp(self.norm2(images))


class MitB2(nnx.Module):
    """MiT-B2; training drops whole branches at random (stochastic depth, Huang et al., 2016). Tokens stay images."""

    channels = (0, *MIT_WIDTHS)

    def __init__(self, rngs: nnx.Rngs):
        """Makes the layers; draws the first key of stochastic depth."""
        for stage, (inputs, width) in enumerate(zip((3, *MIT_WIDTHS[:-1]), MIT_WIDTHS, strict=True)):
            size, stride = (3, 2) if stage else (7, 4)
            blocks = [AttentionBlock(width, HEADS[stage], REDUCTIONS[stage]) for _ in range(BLOCKS[stage])]
            overlapping = Convolution(inputs, width, size, stride=stride, bias=True)
            setattr(self, f"patch_embed{stage + 1}", nnx.Dict(proj=overlapping, norm=LayerNorm(width)))
            setattr(self, f"block{stage + 1}", nnx.List(blocks))
            setattr(self, f"norm{stage + 1}", LayerNorm(width, epsilon=MIT_EPSILON))
        self.drop_path_key = Randomness(jax.random.key_data(rngs.params()))
        self.deterministic = False

    def __call__(self, images: jax.Array) -> list[jax.Array]:
        """Maps (B, H, W, 3) to features of `channels` channels at 1/2 (empty), 1/4, ... 1/32 of the size."""
        B, H, W, _ = images.shape
        scales = iter(self._branch_scales(B))
        hidden = images
        features = [jnp.zeros((B, H // 2, W // 2, 0), images.dtype)]
        for stage in range(1, 1 + len(MIT_WIDTHS)):
            embed = getattr(self, f"patch_embed{stage}")
            hidden = embed["norm"](embed["proj"](hidden))
            for block in getattr(self, f"block{stage}"):
                hidden = block(hidden, next(scales))
            hidden = getattr(self, f"norm{stage}")(hidden)
            features.append(hidden)
        return features

    def _branch_scales(self, images: int) -> jax.Array:
        """Returns the scale of each branch of each image, (blocks, 2, B): 1, or in training 0 or 1 / (1 - rate)."""
        shape = (sum(BLOCKS), 2, images)
        if self.deterministic:
            return jnp.ones(shape)
        rates = np.linspace(0, DROP_PATH, sum(BLOCKS), dtype=np.float32)[:, None, None]
        draw, following = jax.random.split(jax.random.wrap_key_data(self.drop_path_key[...]))
        self.drop_path_key[...] = jax.random.key_data(following)
        return (jax.random.uniform(draw, shape) >= rates) / (1 - rates)


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
            self._bn0 = BatchNorm(hidden, epsilon=LITE_EPSILON)
        self._depthwise_conv = Depthwise(hidden, size, stride=stride)
        self._bn1 = BatchNorm(hidden, epsilon=LITE_EPSILON)
        self._project_conv = Convolution(hidden, outputs, 1)
        self._bn2 = BatchNorm(outputs, epsilon=LITE_EPSILON)
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

    channels = (STEM, 24, 40, 112, 320)

    def __init__(self, rngs: nnx.Rngs):
        """Makes the layers; draws nothing."""
        self._conv_stem = Stem(3, STEM, 3, stride=2)
        self._bn0 = BatchNorm(STEM, epsilon=LITE_EPSILON)
        blocks = []
        for stage, (inputs, width) in enumerate(zip((STEM, *LITE_WIDTHS[:-1]), LITE_WIDTHS, strict=True)):
            size = LITE_SIZES[stage]
            # The first stage does not expand.
            expansion = 6 if stage else 1
            blocks.append(InvertedResidual(inputs, width, size, LITE_STRIDES[stage], expansion))
            blocks += [InvertedResidual(width, width, size, 1, expansion) for _ in range(LITE_BLOCKS[stage] - 1)]
        self._blocks = nnx.List(blocks)

    def __call__(self, images: jax.Array) -> list[jax.Array]:
        """Maps (B, H, W, 3) in [0, 1] to features of `channels` channels at 1/2, 1/4, ... 1/32 of the size."""
        # Its weights expect images in [-1, 1].
        hidden = nnx.relu6(self._bn0(self._conv_stem(2 * images - 1)))
        features = [hidden]
        for index, block in enumerate(self._blocks):
            hidden = block(hidden)
            if index in FEATURES:
                features.append(hidden)
        return features
