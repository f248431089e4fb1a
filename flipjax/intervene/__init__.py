"""Scene swap at inference: pastes a model's predicted regions onto other scenes, without labels.

A model that relies on the scene flips confidently, so its entropy does not reveal flips. But it finds the region, which
can be pasted onto other scenes, for any callable from images to logits. Quantities of the log-odds are in
`flipjax.metrics.scene_swap`. Modules load lazily: these and the centers need no JAX.
"""

from flipjax.support import lazy

_NAMES = {
    ".centers": "label_shares split_point",
    ".regions": "find_regions foreground region_images region_label",
    ".scenes": "blurred_scenes choose_scenes grey_scenes mean_scenes mean_surroundings paste soft_edge",
    ".swap": "log_odds_on_scenes mirror_risk region_log_odds repair scene_marginal scene_swap_risk",
    "..metrics.scene_swap": "scene_reliance scene_shift scene_swap scene_use training_evidence",
}
__getattr__, __dir__, __all__ = lazy.lazy_names(__name__, _NAMES)  # pyright: ignore[reportUnsupportedDunderAll]
