"""Scene swap at inference: pastes a model's predicted regions onto other scenes, without labels.

A model that relies on the scene flips confidently, so its entropy does not reveal flips. But it finds the region, which
can be pasted onto other scenes, for any callable from images to logits. Modules are imported when a name is first used,
so that functions of stored log-odds need no JAX.
"""

# ruff: noqa: F401
import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flipjax.intervene.identity import (
        label_shares,
        scene_reliance,
        scene_shift,
        scene_swap,
        scene_use,
        split_point,
        training_evidence,
    )
    from flipjax.intervene.regions import find_regions, foreground, region_images, region_label
    from flipjax.intervene.scenes import (
        blurred_scenes,
        choose_scenes,
        grey_scenes,
        mean_scenes,
        mean_surroundings,
        paste,
        soft_edge,
    )
    from flipjax.intervene.swap import (
        log_odds_on_scenes,
        mirror_risk,
        region_log_odds,
        repair,
        scene_marginal,
        scene_swap_risk,
    )

_MODULES = {
    "identity": "label_shares scene_reliance scene_shift scene_swap scene_use split_point training_evidence",
    "regions": "find_regions foreground region_images region_label",
    "scenes": "blurred_scenes choose_scenes grey_scenes mean_scenes mean_surroundings paste soft_edge",
    "swap": "log_odds_on_scenes mirror_risk region_log_odds repair scene_marginal scene_swap_risk",
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names.split()}
__all__ = sorted(_HOMES)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'flipjax.intervene' has no attribute {name!r}")
    return getattr(importlib.import_module(f"flipjax.intervene.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
