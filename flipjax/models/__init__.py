"""The models that a config may name."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    MODELS: dict[str, Callable[..., Any]]


def __getattr__(name: str) -> Any:
    """Returns MODELS, which loads Flax: not before it is asked for."""
    if name != "MODELS":
        raise AttributeError(f"module 'flipjax.models' has no attribute {name!r}")
    from flipjax.models import smp, unet

    return {"unet": unet.build, "smp_resnet50": smp.build, "smp_mit_b2": smp.build}
