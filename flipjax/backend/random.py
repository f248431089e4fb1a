"""Random keys of seeds."""

from typing import Any


def key_of(seed: Any) -> Any:
    """Returns the PRNG key of a seed in [0, 2**31), which may be traced, regardless of JAX settings.

    Example:
        >>> import jax
        >>> jax.random.key_data(key_of(7)).tolist()
        [0, 7]
    """
    import jax
    import jax.numpy as jnp
    import numpy as np

    # On the host nothing compiles.
    stack: Any = jnp if isinstance(seed, jax.Array) else np
    words = stack.stack([stack.uint32(0), stack.asarray(seed).astype(stack.uint32)])
    return jax.random.wrap_key_data(words, impl="threefry2x32")
