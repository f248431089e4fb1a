"""The traced parts of a member as pytrees; `flipjax.config` and `flipjax.methods` declare them without JAX.

Whatever maps or traces them imports them from here.
"""

from typing import Any, TypeAlias

import jax
import numpy as np

from flipjax.config import Cue, Recipe
from flipjax.methods import Augmentation, Knobs

__all__ = ["Array", "Augmentation", "Cue", "Knobs", "PyTree", "Recipe"]

Array: TypeAlias = np.ndarray | jax.Array
"""An array that is read: of NumPy, on the host, or of JAX, perhaps traced; as `flipjax.metrics.host.Array`."""

PyTree: TypeAlias = Any
"""Arrays, or shapes of arrays, in nested dicts, tuples and registered classes: JAX has no type for it."""

for part in (Recipe, Knobs, Augmentation, Cue):
    jax.tree_util.register_dataclass(part)
