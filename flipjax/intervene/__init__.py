"""Acting on the background at inference: what a model says of its own region on other scenes.

A model that leans on the scene flips with confidence, so the entropy of its prediction does not show it. But it finds
the region, and the region can be put on other scenes: without labels, for any callable from images to logits.
"""

from flipjax.intervene.center import label_shares, split_point
from flipjax.intervene.identity import (
    join_members,
    repair,
    repaired_class,
    scene_reliance,
    scene_swap_risk,
    spread,
)
from flipjax.intervene.marginal import region_log_odds, scene_marginal
from flipjax.intervene.mirror import mirror_risk
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
from flipjax.results.swapped_scenes import scene_swap

__all__ = [
    "blurred_scenes",
    "choose_scenes",
    "find_regions",
    "foreground",
    "grey_scenes",
    "join_members",
    "label_shares",
    "mean_scenes",
    "mean_surroundings",
    "mirror_risk",
    "paste",
    "region_images",
    "region_label",
    "region_log_odds",
    "repair",
    "repaired_class",
    "scene_marginal",
    "scene_reliance",
    "scene_swap",
    "scene_swap_risk",
    "soft_edge",
    "split_point",
    "spread",
]
