"""What the context of a photo does to a model: whether it says which wrong class a flip takes.

Any model's predictions on any labelled photos; the statistics of contexts come from training labels. All of it is
observational: photos with another context differ in other things, too.
"""

from flipjax.context.choice import Choice, context_beta, count_others, fit_logit, rival_rates
from flipjax.context.evidence import context_classes, context_evidence, image_shares
from flipjax.context.scene_flip import SceneFlip, scene_flip
from flipjax.context.scenes import cluster_scenes, fill_objects, scene_evidence, scene_features
from flipjax.context.strata import Gap, context_pairs, natural_gap
from flipjax.context.use import Use, context_use, segment_shift

__all__ = [
    "Choice",
    "Gap",
    "SceneFlip",
    "Use",
    "cluster_scenes",
    "context_beta",
    "context_classes",
    "context_evidence",
    "context_pairs",
    "context_use",
    "count_others",
    "fill_objects",
    "fit_logit",
    "image_shares",
    "natural_gap",
    "rival_rates",
    "scene_evidence",
    "scene_features",
    "scene_flip",
    "segment_shift",
]
