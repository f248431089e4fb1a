"""Settings of JAX that users turn on to check their own code, set aside while flipjax computes."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax

FORBIDDEN = "disallow_explicit"
"""A transfer guard under which no array can be moved, not even where the code says so."""
NOT_GUARDED = ("allow", None, "log", "log_explicit")


@dataclasses.dataclass(frozen=True)
class JaxSetting:
    """A setting of JAX under which code of flipjax would end in an error of JAX, print its warnings, or round."""

    name: str
    """As in `jax.config`."""
    taken: tuple[Any, ...]
    """Its values under which that code runs as it is."""
    set_aside: Callable[[], contextlib.AbstractContextManager]
    """Makes the context in which it has the first of these values."""


CHECKS = (
    # NaN is the value of what has no pixels, and of the flip-risk of masks.
    JaxSetting("jax_debug_nans", (False,), lambda: jax.debug_nans(False)),
    JaxSetting("jax_debug_infs", (False,), lambda: jax.debug_infs(False)),
)
PROMOTIONS = (
    JaxSetting("jax_numpy_rank_promotion", ("allow",), lambda: jax.numpy_rank_promotion("allow")),
    JaxSetting("jax_numpy_dtype_promotion", ("standard",), lambda: jax.numpy_dtype_promotion("standard")),
)
# A guard lets through what is moved on purpose, and functions that take arrays of the host are there to move them.
GUARDS = (
    JaxSetting("jax_transfer_guard_host_to_device", NOT_GUARDED, lambda: jax.transfer_guard_host_to_device("allow")),
    JaxSetting("jax_transfer_guard_device_to_host", NOT_GUARDED, lambda: jax.transfer_guard_device_to_host("allow")),
    JaxSetting(
        "jax_transfer_guard_device_to_device", NOT_GUARDED, lambda: jax.transfer_guard_device_to_device("allow")
    ),
)
PRECISION = JaxSetting("jax_default_matmul_precision", (None, "default"), lambda: jax.default_matmul_precision(None))
SETTINGS = (*CHECKS, *PROMOTIONS, *GUARDS, PRECISION)


@contextlib.contextmanager
def jax_defaults(settings: Sequence[JaxSetting] = SETTINGS) -> Iterator[None]:
    """Gives settings the values that JAX begins with, in a context or, as a decorator, in a function.

    Under jit this holds for what is traced inside; JAX still checks the outputs of the user's own program.

    Raises:
        ValueError: a transfer guard forbids all transfers.

    Example:
        >>> with jax.debug_nans(True), jax_defaults():
        ...     print(jax.numpy.zeros(1) / 0)
        [nan]
    """
    with contextlib.ExitStack() as stack:
        for setting in settings:
            value = getattr(jax.config, setting.name)
            if value == FORBIDDEN:
                expected = "allow, log or disallow, under which flipjax reads arrays of the host"
                raise ValueError(f"{setting.name}: expected {expected}, found {value}.")
            if value not in setting.taken:
                stack.enter_context(setting.set_aside())
        yield
