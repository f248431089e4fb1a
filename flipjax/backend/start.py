"""The start of JAX: devices, random bits and the compilation cache."""

import contextlib
import dataclasses
from collections.abc import Iterable
from typing import TYPE_CHECKING

from flipjax.backend.memory import keep_freed
from flipjax.config import ConfigError, PopulationSpec
from flipjax.support.files import cache_folder, keep_newest
from flipjax.support.terminal import say
from flipjax.support.threads import cores

if TYPE_CHECKING:
    from jax.sharding import AbstractMesh, Mesh

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
    check_mesh([jax.sharding.get_abstract_mesh()])
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


@dataclasses.dataclass(frozen=True)
class Requirement:
    """A setting of JAX that training needs.

    Attributes:
        name: as in `jax.config`; in capitals, of the environment.
        taken: the values that it may have.
        expected: these in words, and why.
    """

    name: str
    taken: tuple[str | bool | None, ...]
    expected: str


UNGUARDED = (None, "allow", "log", "log_explicit")
"""Values of a transfer guard under which arrays can be moved."""
REQUIREMENTS = (
    Requirement("jax_enable_x64", (False,), "0, or unset: flipjax trains in float32"),
    Requirement("jax_threefry_partitionable", (True,), "1, or unset: other random bits are another run"),
    Requirement("jax_numpy_rank_promotion", ("allow", "warn"), "allow, or unset: training broadcasts"),
    Requirement("jax_numpy_dtype_promotion", ("standard",), "standard, or unset: training mixes types"),
    Requirement("jax_debug_nans", (False,), "0, or unset: what is not defined, or diverged, is NaN"),
    Requirement("jax_debug_infs", (False,), "0, or unset: a score that no epoch has reached yet is infinite"),
    Requirement("jax_default_matmul_precision", (None, "default"), "default, or unset: other products are another run"),
    Requirement("jax_transfer_guard_host_to_device", UNGUARDED, "allow, or unset: members are made on the host"),
    Requirement("jax_transfer_guard_device_to_host", UNGUARDED, "allow, or unset: results are read on the host"),
    Requirement("jax_transfer_guard_device_to_device", UNGUARDED, "allow, or unset: devices share members"),
)
"""The settings of JAX that runs need."""


def check_settings() -> None:
    """Raises ConfigError for JAX settings that would change results, or end training with an error of JAX.

    Example:
        >>> import jax
        >>> with jax.numpy_rank_promotion("raise"):
        ...     check_settings()
        Traceback (most recent call last):
        flipjax.config.ConfigError: JAX_NUMPY_RANK_PROMOTION: expected allow, or unset: training broadcasts; found raise
    """
    import jax

    for requirement in REQUIREMENTS:
        value = getattr(jax.config, requirement.name)
        if value not in requirement.taken:
            found = int(value) if isinstance(value, bool) else value
            raise ConfigError(requirement.name.upper(), requirement.expected, found)


def check_mesh(meshes: "Iterable[Mesh | AbstractMesh]") -> None:
    """Raises ConfigError if an axis of a mesh has the type Explicit."""
    import jax

    explicit = jax.sharding.AxisType.Explicit
    if any(explicit in mesh.axis_types for mesh in meshes):
        expected = "axes of type Auto (axis_types= of jax.make_mesh), or a shard_map over them"
        raise ConfigError("mesh", expected, "an axis of type Explicit")


def _check_addresses() -> None:
    """Raises ConfigError if the process may have less address space than XLA needs."""
    try:
        import resource
    except ImportError:  # Unix only.
        return
    most = resource.getrlimit(resource.RLIMIT_AS)[0]
    if most != resource.RLIM_INFINITY and most < ADDRESSES:
        raise ConfigError("ulimit -v", f"unlimited, or at least {ADDRESSES >> 10}", most >> 10)
