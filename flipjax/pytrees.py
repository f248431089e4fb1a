"""The traced parts of a member as pytrees; `flipjax.config` and `flipjax.methods` declare them without JAX.

Whatever maps or traces them imports them from here.
"""

import jax

from flipjax.config import Cue, Recipe
from flipjax.methods import Augmentation, Knobs

__all__ = ["Augmentation", "Cue", "Knobs", "Recipe"]

for part in (Recipe, Knobs, Augmentation, Cue):
    jax.tree_util.register_dataclass(part)
