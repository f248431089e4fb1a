"""The start of JAX: its devices, its draws and its cache of programs, and what is said where it cannot be started."""

import contextlib
import os
import sys

from flipjax.config import ConfigError, PopulationSpec
from flipjax.files import cache_folder, keep_newest
from flipjax.terminal import one_line
from flipjax.threads import cores

PROGRAMS = 2**31
"""Bytes of compiled programs that are kept on a machine."""

ADDRESSES = 2_500_000 << 10
"""Bytes of address space with which the smallest sweep runs on two cores; with less XLA ends without a word."""


def start_backend(spec: PopulationSpec, members: int) -> str:
    """Gives a CPU one device a core, no more than are used; turns the cache of programs on; names the devices.

    Draws are pinned: neither the environment nor another default of JAX gives other random bits.

    Raises:
        ConfigError: settings of the process under which nothing is trained, or in other numbers.
    """
    import jax

    if jax.config.jax_enable_x64:  # type: ignore[attr-defined]
        raise ConfigError("JAX_ENABLE_X64", "0, or unset: flipjax trains in float32", 1)
    with contextlib.suppress(ImportError):  # Of Unix alone.
        import resource

        most = resource.getrlimit(resource.RLIMIT_AS)[0]
        if most != resource.RLIM_INFINITY and most < ADDRESSES:
            raise ConfigError("ulimit -v", f"unlimited, or at least {ADDRESSES >> 10}", most >> 10)
    jax.config.update("jax_default_prng_impl", "threefry2x32")
    jax.config.update("jax_threefry_partitionable", True)
    # A process that has JAX running keeps its devices.
    with contextlib.suppress(RuntimeError):
        jax.config.update("jax_num_cpu_devices", min(spec.devices or cores(), members * max(1, spec.batch_devices)))
    programs = cache_folder() / "xla"
    keep_newest(programs, most=PROGRAMS)
    jax.config.update("jax_compilation_cache_dir", str(programs))
    devices = jax.devices()
    return f"{len(devices)} x {devices[0].device_kind} ({devices[0].platform})"


def backend_problem() -> str:
    """Says why JAX, where it is loaded, cannot start the devices that its environment names; empty where it can."""
    try:
        sys.modules["jax"].devices()
    except KeyError:
        return ""
    except Exception as error:
        named = os.environ.get("JAX_PLATFORMS")
        found = f"{named!r} ({one_line(str(error)) or 'no such device'})"
        return f"JAX_PLATFORMS: expected a platform that is here, or no such variable; found {found}"
    return ""
