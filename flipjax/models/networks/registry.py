"""The networks that a configuration may name."""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flax import nnx

    from flipjax.config import ModelSpec


def build_small(spec: "ModelSpec", *, num_classes: int, rngs: "nnx.Rngs") -> "nnx.Module":
    """Returns the small U-Net.

    Example:
        >>> from flax import nnx
        >>> from flipjax.config import ModelSpec
        >>> network = nnx.eval_shape(lambda: build_small(ModelSpec(width=4, depth=2), num_classes=3, rngs=nnx.Rngs(0)))
        >>> network.head.kernel.shape  # Of the 1 x 1 convolution that ends it.
        (4, 3)
    """
    # These modules load JAX and Flax, so import them only when a network is built.
    from flipjax.models.networks.unet import UNet

    return UNet(spec, num_classes=num_classes, rngs=rngs)


def build_large(spec: "ModelSpec", *, num_classes: int, rngs: "nnx.Rngs") -> "nnx.Module":
    """Returns a U-Net of `segmentation_models_pytorch`, with the encoder of the network's name.

    Example:
        >>> from flax import nnx
        >>> from flipjax.config import ModelSpec
        >>> spec = ModelSpec("smp_efficientnet_lite0")
        >>> network = nnx.eval_shape(lambda: build_large(spec, num_classes=3, rngs=nnx.Rngs(0)))
        >>> network.segmentation_head[0].weight.shape
        (3, 3, 16, 3)
    """
    from flipjax.models.networks.smp import build_unet

    return build_unet(spec, num_classes=num_classes, rngs=rngs)


def build_frozen(spec: "ModelSpec", *, num_classes: int, rngs: "nnx.Rngs") -> "nnx.Module":
    """Returns the decoder of frozen features.

    Example:
        >>> from flax import nnx
        >>> from flipjax.config import ModelSpec
        >>> network = nnx.eval_shape(lambda: build_frozen(ModelSpec("frozen"), num_classes=3, rngs=nnx.Rngs(0)))
        >>> network.head.kernel.shape
        (32, 3)
    """
    from flipjax.models.networks.frozen import FrozenDecoder

    return FrozenDecoder(spec, num_classes=num_classes, rngs=rngs)


MODELS: dict[str, Callable[..., "nnx.Module"]] = {
    "unet": build_small,
    "smp_resnet50": build_large,
    "smp_mit_b2": build_large,
    "smp_efficientnet_lite0": build_large,
    "frozen": build_frozen,
}
"""Functions of a `ModelSpec` and `num_classes`, `rngs` that return a fresh network in training mode, float32.

Example:
    >>> from flipjax.config import MODEL_NAMES
    >>> {*MODELS} == {*MODEL_NAMES}
    True
"""
