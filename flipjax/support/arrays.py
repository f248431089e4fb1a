"""Types of arrays and of trees of arrays."""

from typing import Any, TypeAlias

import jax
import numpy as np

Array: TypeAlias = np.ndarray | jax.Array
"""An array that is read: of NumPy, on the host, or of JAX, perhaps traced."""
PyTree: TypeAlias = Any
"""Arrays, or shapes of arrays, in nested dicts, tuples and registered classes: JAX has no type for it."""
