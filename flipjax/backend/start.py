"""The start of JAX: devices, random bits and the compilation cache."""

import contextlib

from flipjax.backend.memory import keep_freed
from flipjax.config import ConfigError, PopulationSpec
from flipjax.support.files import cache_folder, keep_newest
from flipjax.support.terminal import say
from flipjax.support.threads import cores

PROGRAMS = 2**31
"""Bytes of compiled programs that are kept on a machine."""
ADDRESSES = 2_500_000 << 10
"""Address space, in bytes, that the smallest sweep needs on two cores; with less, XLA exits silently."""


def start_backend(spec: PopulationSpec, members: int) -> str:
    """Configures JAX: one CPU device per core (at most one per member) and a persistent compilation cache.

    The PRNG implementation is pinned, so neither the environment nor a JAX default changes the random bits.

    Returns:
        A description of the devices.

    Raises:
        ConfigError: process settings prevent training or would change its results.
    """
    import jax

    keep_freed()
    jax.config.update("jax_threefry_partitionable", True)
    check_settings()
    _check_addresses()
    jax.config.update("jax_default_prng_impl", "threefry2x32")
    wanted = min(spec.devices or cores(), members * max(1, spec.batch_devices))
    # The device count cannot change once JAX is running.
    with contextlib.suppress(RuntimeError):
        jax.config.update("jax_num_cpu_devices", wanted)
    keep_programs()
    devices = jax.devices()
    if devices[0].platform == "cpu" and len(devices) < wanted:
        say(f"JAX runs with {len(devices)} CPU devices; JAX_NUM_CPU_DEVICES={wanted}, set before, uses all cores")
    return f"{len(devices)} x {devices[0].device_kind} ({devices[0].platform})"


def keep_programs(*, small: bool = False) -> None:
    """Sets JAX's compilation cache to this machine's folder.

    Args:
        small: whether to keep programs that compile within a second, too.
    """
    import jax

    programs = cache_folder() / "xla"
    keep_newest(programs, most=PROGRAMS)
    jax.config.update("jax_compilation_cache_dir", str(programs))
    if small:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)


def check_settings() -> None:
    """Raises ConfigError for JAX settings that would change results."""
    import jax

    if jax.config.jax_enable_x64:  # pyright: ignore[reportAttributeAccessIssue]
        raise ConfigError("JAX_ENABLE_X64", "0, or unset: flipjax trains in float32", 1)
    if not jax.config.jax_threefry_partitionable:  # pyright: ignore[reportAttributeAccessIssue]
        raise ConfigError("JAX_THREEFRY_PARTITIONABLE", "1, or unset: other random bits are another run", 0)


def _check_addresses() -> None:
    """Raises ConfigError if the process may have less address space than XLA needs."""
    try:
        import resource
    except ImportError:  # Unix only.
        return
    most = resource.getrlimit(resource.RLIMIT_AS)[0]
    if most != resource.RLIM_INFINITY and most < ADDRESSES:
        raise ConfigError("ulimit -v", f"unlimited, or at least {ADDRESSES >> 10}", most >> 10)
