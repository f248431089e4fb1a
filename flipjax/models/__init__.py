"""The models that a config may name."""

from collections.abc import Callable
from typing import Any


def _unet(spec: Any, **options: Any) -> Any:
    from flipjax.models.unet import UNet

    return UNet(spec, **options)


def _smp(spec: Any, **options: Any) -> Any:
    from flipjax.models.smp import build_unet

    return build_unet(spec, **options)


# The modules load JAX and Flax: not before a model is built.
MODELS: dict[str, Callable[..., Any]] = {
    "unet": _unet,
    "smp_resnet50": _smp,
    "smp_mit_b2": _smp,
    "smp_efficientnet_lite0": _smp,
}
"""Functions of a `ModelSpec` and `num_classes`, `rngs` that return a fresh model in training mode, float32."""
