"""Random keys of seeds, and the random bits of a run."""

import contextlib
from collections.abc import Iterator
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


@contextlib.contextmanager
def random_bits() -> Iterator[None]:
    """Sets JAX's random bits to those of a command, in this thread alone; also a decorator.

    Example:
        >>> import jax
        >>> with random_bits():
        ...     print(jax.config.jax_default_prng_impl)
        threefry2x32
    """
    import jax

    with jax.threefry_partitionable(True), jax.default_prng_impl("threefry2x32"):
        yield
