"""The public names, which `__init__.py` loads on first access, for type checkers and editors."""

from flipjax.intervene.centers import label_shares as label_shares
from flipjax.intervene.centers import split_point as split_point
from flipjax.intervene.regions import find_regions as find_regions
from flipjax.intervene.regions import foreground as foreground
from flipjax.intervene.regions import region_images as region_images
from flipjax.intervene.regions import region_label as region_label
from flipjax.intervene.scenes import blurred_scenes as blurred_scenes
from flipjax.intervene.scenes import choose_scenes as choose_scenes
from flipjax.intervene.scenes import grey_scenes as grey_scenes
from flipjax.intervene.scenes import mean_scenes as mean_scenes
from flipjax.intervene.scenes import mean_surroundings as mean_surroundings
from flipjax.intervene.scenes import paste as paste
from flipjax.intervene.scenes import soft_edge as soft_edge
from flipjax.intervene.swap import log_odds_on_scenes as log_odds_on_scenes
from flipjax.intervene.swap import mirror_risk as mirror_risk
from flipjax.intervene.swap import region_log_odds as region_log_odds
from flipjax.intervene.swap import repair as repair
from flipjax.intervene.swap import scene_marginal as scene_marginal
from flipjax.intervene.swap import scene_swap_risk as scene_swap_risk
from flipjax.metrics.scene_swap import scene_reliance as scene_reliance
from flipjax.metrics.scene_swap import scene_shift as scene_shift
from flipjax.metrics.scene_swap import scene_swap as scene_swap
from flipjax.metrics.scene_swap import scene_use as scene_use
from flipjax.metrics.scene_swap import training_evidence as training_evidence
