"""The public names, which `__init__.py` loads on first access, for type checkers and editors."""

from .centers import label_shares as label_shares
from .centers import split_point as split_point
from .regions import find_regions as find_regions
from .regions import foreground as foreground
from .regions import region_images as region_images
from .regions import region_label as region_label
from .scenes import blurred_scenes as blurred_scenes
from .scenes import choose_scenes as choose_scenes
from .scenes import grey_scenes as grey_scenes
from .scenes import mean_scenes as mean_scenes
from .scenes import mean_surroundings as mean_surroundings
from .scenes import paste as paste
from .scenes import soft_edge as soft_edge
from .swap import log_odds_on_scenes as log_odds_on_scenes
from .swap import mirror_risk as mirror_risk
from .swap import region_log_odds as region_log_odds
from .swap import repair as repair
from .swap import scene_marginal as scene_marginal
from .swap import scene_reliance as scene_reliance
from .swap import scene_shift as scene_shift
from .swap import scene_swap as scene_swap
from .swap import scene_swap_risk as scene_swap_risk
from .swap import scene_use as scene_use
from .swap import training_evidence as training_evidence
