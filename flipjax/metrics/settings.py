"""Settings of JAX that users turn on to check their own code, set aside while flipjax computes."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax

FORBIDDEN = "disallow_explicit"
"""A transfer guard under which no array can be moved, not even where the code says so."""
NOT_GUARDED = ("allow", None, "log", "log_explicit")
"""Values of a transfer guard under which arrays can be moved."""


@dataclasses.dataclass(frozen=True)
class JaxSetting:
    """A setting of JAX under which code of flipjax would end in an error of JAX, print its warnings, or round."""

    name: str
    """Its name in `jax.config`."""
    taken: tuple[Any, ...]
    """Its values under which that code runs as it is."""
    set_aside: Callable[[], contextlib.AbstractContextManager]
    """Makes the context in which it has the value that JAX begins with."""


CHECKS = (
    JaxSetting("jax_debug_nans", (False,), functools.partial(jax.debug_nans, False)),
    JaxSetting("jax_debug_infs", (False,), functools.partial(jax.debug_infs, False)),
)
"""Checks for NaN and infinity: NaN is the value of what has no pixels, and of the flip-risk of masks."""
PROMOTIONS = (
    JaxSetting("jax_numpy_rank_promotion", ("allow",), functools.partial(jax.numpy_rank_promotion, "allow")),
    JaxSetting("jax_numpy_dtype_promotion", ("standard",), functools.partial(jax.numpy_dtype_promotion, "standard")),
)
"""How arrays of other ranks and types are joined."""
GUARDS = (
    JaxSetting(
        "jax_transfer_guard_host_to_device", NOT_GUARDED, functools.partial(jax.transfer_guard_host_to_device, "allow")
    ),
    JaxSetting(
        "jax_transfer_guard_device_to_host", NOT_GUARDED, functools.partial(jax.transfer_guard_device_to_host, "allow")
    ),
    JaxSetting(
        "jax_transfer_guard_device_to_device",
        NOT_GUARDED,
        functools.partial(jax.transfer_guard_device_to_device, "allow"),
    ),
)
"""Guards of transfers: functions that take arrays of the host are there to move them."""
PRECISION = JaxSetting(
    "jax_default_matmul_precision", (None, "default"), functools.partial(jax.default_matmul_precision, None)
)
"""Precision of matrix products."""
SETTINGS = (*CHECKS, *PROMOTIONS, *GUARDS, PRECISION)
"""All settings that are set aside by default."""


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
