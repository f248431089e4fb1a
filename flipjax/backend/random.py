"""Random keys of seeds."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import jax


def key_of(seed: "int | jax.Array") -> "jax.Array":
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
    numpy: Any = jnp if isinstance(seed, jax.Array) else np
    words = numpy.stack([numpy.uint32(0), numpy.asarray(seed).astype(numpy.uint32)])
    return jax.random.wrap_key_data(words, impl="threefry2x32")
