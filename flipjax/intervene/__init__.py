"""Scene swap at inference: pastes a model's predicted regions onto other scenes, without labels.

A model that relies on the scene flips confidently, so its entropy does not reveal flips. But it finds the region, which
can be pasted onto other scenes, for any callable from images to logits. Modules are imported when a name is first used,
so that functions of stored log-odds need no JAX.
"""

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

__all__ = [
    "blurred_scenes",
    "choose_scenes",
    "find_regions",
    "foreground",
    "grey_scenes",
    "label_shares",
    "log_odds_on_scenes",
    "mean_scenes",
    "mean_surroundings",
    "mirror_risk",
    "paste",
    "region_images",
    "region_label",
    "region_log_odds",
    "repair",
    "scene_marginal",
    "scene_reliance",
    "scene_shift",
    "scene_swap",
    "scene_swap_risk",
    "scene_use",
    "soft_edge",
    "split_point",
    "training_evidence",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        for home in ("identity", "regions", "scenes", "swap"):
            module = importlib.import_module(f"flipjax.intervene.{home}")
            if hasattr(module, name):
                return getattr(module, name)
    raise AttributeError(f"module 'flipjax.intervene' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
