"""MiT-B2, the encoder of SegFormer (Xie et al., 2021): overlapping patches, attention over reduced keys, a mixing MLP.

Tokens stay images (B, H, W, C) throughout.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from flipjax.models.layers import Convolution, DepthwiseConvolution, LayerNorm, Linear, gelu, softmax

WIDTHS = (64, 128, 320, 512)
BLOCKS = (3, 4, 6, 3)
HEADS = (1, 2, 5, 8)
REDUCTIONS = (8, 4, 2, 1)
MLP_RATIO = 4
DROP_PATH = 0.1
BLOCK_EPSILON = 1e-6
OTHER_EPSILON = 1e-5


class Randomness(nnx.Variable):
    """The key data of a stream of random numbers that training draws from; no weight."""


class PatchEmbedding(nnx.Module):
    """A strided convolution whose patches overlap, and a norm."""

    def __init__(self, inputs: int, outputs: int, size: int, *, stride: int):
        """Makes the layers."""
        self.proj = Convolution(inputs, outputs, size, stride=stride, bias=True)
        self.norm = LayerNorm(outputs, epsilon=OTHER_EPSILON)

    def __call__(self, images: jax.Array) -> jax.Array:
        """Maps (B, H, W, inputs) to (B, H / stride, W / stride, outputs)."""
        return self.norm(self.proj(images))


class Attention(nnx.Module):
    """Attention of every pixel to the pixels of an image `reduction` times smaller."""

    def __init__(self, width: int, *, heads: int, reduction: int):
        """Makes the layers; the reduction is a convolution of patches that abut."""
        self.q = Linear(width, width)
        self.kv = Linear(width, 2 * width)
        self.proj = Linear(width, width)
        self.sr = Convolution(width, width, reduction, stride=reduction, bias=True) if reduction > 1 else None
        self.norm = LayerNorm(width, epsilon=OTHER_EPSILON) if reduction > 1 else None
        self.heads = heads

    def __call__(self, images: jax.Array) -> jax.Array:
        """Maps (B, H, W, width) to the same shape."""
        B, H, W, C = images.shape
        depth = C // self.heads
        reduced = images if self.sr is None or self.norm is None else self.norm(self.sr(images))
        # Heads before pixels: XLA:CPU takes up to three times as long over products whose batch axes stand inside.
        query = self.q(images).reshape(B, H * W, self.heads, depth).swapaxes(1, 2)
        key, value = self.kv(reduced).reshape(B, -1, 2, self.heads, depth).transpose(2, 0, 3, 1, 4)
        scores = jnp.einsum("bhqd,bhkd->bhqk", query * depth**-0.5, key)
        weights = softmax(scores)
        mixed = jnp.einsum("bhqk,bhkd->bhqd", weights, value)
        return self.proj(mixed.swapaxes(1, 2).reshape(B, H, W, C))


class Mixing(nnx.Module):
    """The depthwise convolution inside the MLP, under PyTorch's name."""

    def __init__(self, channels: int):
        """Makes the layer."""
        self.dwconv = DepthwiseConvolution(channels)

    def __call__(self, images: jax.Array) -> jax.Array:
        """Maps (B, H, W, channels) to the same shape."""
        return self.dwconv(images)


class Mlp(nnx.Module):
    """Two linear maps, between them a depthwise convolution and the exact GELU."""

    def __init__(self, width: int):
        """Makes the layers."""
        self.fc1 = Linear(width, MLP_RATIO * width)
        self.fc2 = Linear(MLP_RATIO * width, width)
        self.dwconv = Mixing(MLP_RATIO * width)

    def __call__(self, images: jax.Array) -> jax.Array:
        """Maps (B, H, W, width) to the same shape."""
        return self.fc2(gelu(self.dwconv(self.fc1(images))))


class AttentionBlock(nnx.Module):
    """Attention and MLP, each behind a norm and beside a shortcut."""

    def __init__(self, width: int, *, heads: int, reduction: int):
        """Makes the layers."""
        self.norm1, self.norm2 = (LayerNorm(width, epsilon=BLOCK_EPSILON) for _ in range(2))
        self.attn = Attention(width, heads=heads, reduction=reduction)
        self.mlp = Mlp(width)

    def __call__(self, images: jax.Array, scales: jax.Array) -> jax.Array:
        """Maps (B, H, W, width) to the same shape; `scales` (2, B) scales the two branches of each image."""
        attention, mlp = scales.astype(images.dtype)[:, :, None, None, None]
        images = images + attention * self.attn(self.norm1(images))
        return images + mlp * self.mlp(self.norm2(images))


class MitB2(nnx.Module):
    """The encoder. In training whole branches are left out at random (stochastic depth, Huang et al., 2016)."""

    channels = (0, *WIDTHS)

    def __init__(self, rngs: nnx.Rngs):
        """Makes the layers; draws the first key of the branches that training leaves out."""
        for stage, (inputs, width) in enumerate(zip((3, *WIDTHS), WIDTHS, strict=False)):
            size, stride = (3, 2) if stage else (7, 4)
            blocks = [
                AttentionBlock(width, heads=HEADS[stage], reduction=REDUCTIONS[stage]) for _ in range(BLOCKS[stage])
            ]
            setattr(self, f"patch_embed{stage + 1}", PatchEmbedding(inputs, width, size, stride=stride))
            setattr(self, f"block{stage + 1}", nnx.List(blocks))
            setattr(self, f"norm{stage + 1}", LayerNorm(width, epsilon=BLOCK_EPSILON))
        self.drop_path_key = Randomness(jax.random.key_data(rngs.params()))
        self.deterministic = False

    def __call__(self, images: jax.Array) -> list[jax.Array]:
        """Maps (B, H, W, 3) to features of `channels` channels at 1/2 (empty), 1/4, ... 1/32 of the size."""
        B, H, W, _ = images.shape
        scales = iter(self._branch_scales(B))
        hidden = images
        features = [jnp.zeros((B, H // 2, W // 2, 0), images.dtype)]
        for stage in range(1, 1 + len(WIDTHS)):
            hidden = getattr(self, f"patch_embed{stage}")(hidden)
            for block in getattr(self, f"block{stage}"):
                hidden = block(hidden, next(scales))
            hidden = getattr(self, f"norm{stage}")(hidden)
            features.append(hidden)
        return features

    def _branch_scales(self, images: int) -> jax.Array:
        """Returns what scales each branch of each image, (blocks, 2, B): 1, or in training 0 or 1 / (1 - rate)."""
        shape = (sum(BLOCKS), 2, images)
        if self.deterministic:
            return jnp.ones(shape)
        rates = np.linspace(0, DROP_PATH, sum(BLOCKS), dtype=np.float32)[:, None, None]
        draw, following = jax.random.split(jax.random.wrap_key_data(self.drop_path_key[...]))
        self.drop_path_key[...] = jax.random.key_data(following)
        return (jax.random.uniform(draw, shape) >= rates) / (1 - rates)
