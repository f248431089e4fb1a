"""The models that a config may name."""

import functools
import importlib
from collections.abc import Callable
from typing import Any


def _build(module: str, name: str, spec: Any, **options: Any) -> Any:
    # The modules load JAX and Flax: not before a model is built.
    return getattr(importlib.import_module(f"flipjax.models.{module}"), name)(spec, **options)


MODELS: dict[str, Callable[..., Any]] = {
    "unet": functools.partial(_build, "unet", "UNet"),
    "smp_resnet50": functools.partial(_build, "smp", "build_unet"),
    "smp_mit_b2": functools.partial(_build, "smp", "build_unet"),
    "smp_efficientnet_lite0": functools.partial(_build, "smp", "build_unet"),
}
"""Functions of a `ModelSpec` and `num_classes`, `rngs` that return a fresh model in training mode, float32."""
