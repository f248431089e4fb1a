"""MiT-B2, the transformer of SegFormer (Xie et al., 2021), an encoder whose tokens stay images.

Names of layers, and the epsilon, are those of the published weights. Images are taken as they are, without the mean of
ImageNet. Training leaves out branches at random, with a key that is part of the network's state.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from flipjax.models.encoders.layers import Convolution, Depthwise, LayerNorm, Linear, gelu, softmax


class MitStage(NamedTuple):
    """A row of attention blocks at one size of images."""

    width: int
    """Channels."""
    blocks: int
    """Number of blocks."""
    heads: int
    """Attention heads."""
    reduction: int
    """Factor by which keys and values of attention are smaller, in height and width."""


STAGES = (
    MitStage(width=64, blocks=3, heads=1, reduction=8),
    MitStage(width=128, blocks=4, heads=2, reduction=4),
    MitStage(width=320, blocks=6, heads=5, reduction=2),
    MitStage(width=512, blocks=3, heads=8, reduction=1),
)
"""The stages, at 1/4 to 1/32 of the size."""
MLP_RATIO = 4
"""Hidden channels of the feed-forward layers, as a multiple of a stage's."""
DROP_PATH = 0.1
"""Largest probability that a block is left out in training."""
EPSILON = 1e-6
"""Added to the variance by the norms within and after stages; the others have PyTorch's default."""


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
        self.norm1 = LayerNorm(width, epsilon=EPSILON)
        self.norm2 = LayerNorm(width, epsilon=EPSILON)
        self.attn = Attention(width, heads, reduction)
        self.mlp = Mlp(width)

    def __call__(self, images: jax.Array, scales: jax.Array) -> jax.Array:
        """Maps (B, H, W, width) to the same shape; `scales` (2, B) scales the two branches of each image."""
        attention, mlp = scales.astype(images.dtype)[:, :, None, None, None]
        images = images + attention * self.attn(self.norm1(images))
        return images + mlp * self.mlp(self.norm2(images))


class MitB2(nnx.Module):
    """MiT-B2; training drops whole branches at random (stochastic depth, Huang et al., 2016). Tokens stay images."""

    channels = (0, *(stage.width for stage in STAGES))
    """Channels of the features at 1/2, 1/4, ... 1/32 of the size."""

    def __init__(self, rngs: nnx.Rngs):
        """Makes the layers, kernels zero; draws the first key of stochastic depth."""
        inputs = 3
        size = 7
        stride = 4
        for number, stage in enumerate(STAGES, start=1):
            overlapping = Convolution(inputs, stage.width, size, stride=stride, bias=True)
            blocks = [AttentionBlock(stage.width, stage.heads, stage.reduction) for _ in range(stage.blocks)]
            setattr(self, f"patch_embed{number}", nnx.Dict(proj=overlapping, norm=LayerNorm(stage.width)))
            setattr(self, f"block{number}", nnx.List(blocks))
            setattr(self, f"norm{number}", LayerNorm(stage.width, epsilon=EPSILON))
            inputs = stage.width
            size = 3
            stride = 2
        self.drop_path_key = Randomness(jax.random.key_data(rngs.params()))
        self.deterministic = False

    def __call__(self, images: jax.Array) -> list[jax.Array]:
        """Maps (B, H, W, 3) to features of `channels` channels at 1/2 (empty), 1/4, ... 1/32 of the size."""
        B, H, W, _ = images.shape
        scales = iter(self._branch_scales(B))
        hidden = images
        features = [jnp.zeros((B, H // 2, W // 2, 0), images.dtype)]
        for number in range(1, 1 + len(STAGES)):
            embed = getattr(self, f"patch_embed{number}")
            hidden = embed["norm"](embed["proj"](hidden))
            for block in getattr(self, f"block{number}"):
                hidden = block(hidden, next(scales))
            hidden = getattr(self, f"norm{number}")(hidden)
            features.append(hidden)
        return features

    def _branch_scales(self, images: int) -> jax.Array:
        """Returns the scale of each branch of each image, (blocks, 2, B): 1, or in training 0 or 1 / (1 - rate)."""
        blocks = sum(stage.blocks for stage in STAGES)
        shape = (blocks, 2, images)
        if self.deterministic:
            return jnp.ones(shape)
        rates = np.linspace(0, DROP_PATH, blocks, dtype=np.float32)[:, None, None]
        draw, following = jax.random.split(jax.random.wrap_key_data(self.drop_path_key[...]))
        self.drop_path_key[...] = jax.random.key_data(following)
        return (jax.random.uniform(draw, shape) >= rates) / (1 - rates)
