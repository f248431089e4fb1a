"""The U-Nets of `segmentation_models_pytorch` (`smp.Unet`) with a ResNet-50 or a MiT-B2 encoder, with the same weights.

A third one, with an EfficientNet-Lite0 encoder and a decoder of half the width, is meant for CPUs.

Paths of parameters follow PyTorch's state_dict: `decoder.blocks.0.conv1.0.weight` is
`model.decoder.blocks[0].conv1[0].weight`. Kernels (outputs, inputs, height, width) become (height, width, inputs,
outputs), and matrices are transposed; nothing else changes.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.flatten_util import ravel_pytree

from flipjax.config import ModelSpec
from flipjax.models.convolutions.doubled import convolve_doubled
from flipjax.models.encoders.efficientnet import EfficientNetLite0
from flipjax.models.encoders.layers import BatchNorm, Convolution
from flipjax.models.encoders.mit import MitB2
from flipjax.models.encoders.resnet import ResNet50

DECODER_CHANNELS = (256, 128, 64, 32, 16)
"""Channels in each stage of the decoder."""
NARROW_CHANNELS = (128, 64, 32, 16, 16)
"""Channels in each stage of the decoder of EfficientNet-Lite0."""
ENCODERS = {"efficientnet_lite0": EfficientNetLite0, "mit_b2": MitB2, "resnet50": ResNet50}
"""Encoders by name: `encoder(rngs)` maps images (B, H, W, 3) in [0, 1] to features at 1/2, 1/4, ... 1/32 of the size.

`rngs` is Flax's source of PRNG keys. Kernels are zero until `build_unet` draws all of a network's at once.
"""


class DecoderBlock(nnx.Module):
    """Doubles the size, appends the skip connection, and convolves twice."""

    def __init__(self, inputs: int, skip: int, outputs: int):
        """Makes the layers."""
        self.conv1 = nnx.List([Convolution(inputs + skip, outputs, 3), BatchNorm(outputs)])
        self.conv2 = nnx.List([Convolution(outputs, outputs, 3), BatchNorm(outputs)])

    def __call__(self, images: jax.Array, skip: jax.Array | None) -> jax.Array:
        """Maps (B, H, W, inputs) and (B, 2 H, 2 W, skip) to (B, 2 H, 2 W, outputs)."""
        first, first_norm = self.conv1
        second, second_norm = self.conv2
        kernel = first.weight[...].astype(images.dtype)
        hidden = nnx.relu(first_norm(convolve_doubled(images, skip, kernel)))
        return nnx.relu(second_norm(second(hidden)))


class Unet(nnx.Module):
    """The whole network, in training mode until `eval()`; five blocks decode, from 1/32 of the size up to the whole."""

    def __init__(self, encoder: str, *, num_classes: int, dtype: str, rngs: nnx.Rngs):
        """Makes the layers with zero kernels; computes in `dtype`, parameters are float32."""
        self.encoder = ENCODERS[encoder](rngs)
        outputs = DECODER_CHANNELS
        if encoder == "efficientnet_lite0":
            outputs = NARROW_CHANNELS
        *skips, deepest = self.encoder.channels
        sizes = zip((deepest, *outputs[:-1]), (*skips[::-1], 0), outputs, strict=True)
        self.decoder = nnx.Dict(blocks=nnx.List([DecoderBlock(*size) for size in sizes]))
        self.segmentation_head = nnx.List([Convolution(outputs[-1], num_classes, 3, bias=True)])
        self.dtype = jnp.dtype(dtype)

    def __call__(self, images: jax.Array) -> jax.Array:
        """Maps images (B, H, W, 3) in [0, 1] to logits (B, H, W, classes) float32; 32 divides H and W."""
        *skips, hidden = self.encoder(images.astype(self.dtype))
        for block, skip in zip(self.decoder["blocks"], [*skips[::-1], None], strict=True):
            hidden = block(hidden, skip)
        return self.segmentation_head[0](hidden.astype(jnp.float32))


def build_unet(spec: ModelSpec, *, num_classes: int, rngs: nnx.Rngs) -> Unet:
    """Returns a fresh U-Net in training mode, float32 parameters drawn as PyTorch's are; `spec.name` is smp_ENCODER."""
    model = Unet(spec.name.removeprefix("smp_"), num_classes=num_classes, dtype=spec.dtype, rngs=rngs)
    kernels = {path: leaf for path, leaf in nnx.to_flat_state(nnx.state(model, nnx.Param)) if leaf.ndim > 1}
    # One draw for all: XLA:CPU takes half a second and more to compile each use of the generator.
    flat, unravel = ravel_pytree([leaf[...] for leaf in kernels.values()])
    above = np.nextafter(np.float32(-1), np.float32(0))  # At -1 itself a normal number is infinite.
    drawn = unravel(jax.random.uniform(rngs.params(), flat.shape, minval=above))
    for (path, leaf), uniform in zip(kernels.items(), drawn, strict=True):
        leaf[...] = _initial(str(path[0]), uniform)
    return model


def _initial(part: str, uniform: jax.Array) -> jax.Array:
    """Returns first kernels from uniform numbers in [-1, 1): He (2015) or Glorot (2010) scaled; 0.02 for matrices."""
    *taps, inputs, outputs = uniform.shape
    receptive = math.prod(taps)
    if part == "segmentation_head":
        return uniform * math.sqrt(6 / (receptive * (inputs + outputs)))
    if part == "decoder":
        return uniform * math.sqrt(6 / (receptive * inputs))
    # Encoder kernels are drawn from a normal distribution; a depthwise kernel has one output per input.
    fan_out = receptive * outputs
    if inputs == 1:
        fan_out = receptive
    deviation = 0.02
    if taps:
        deviation = math.sqrt(2 / fan_out)
    return jax.scipy.special.erfinv(uniform) * math.sqrt(2) * deviation
