"""The start of JAX: devices, random bits and the compilation cache."""

import contextlib
import dataclasses
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from flipjax.backend.memory import keep_freed
from flipjax.config import ConfigError, PopulationSpec
from flipjax.config.checks import check_value
from flipjax.support.files import cache_folder, keep_newest
from flipjax.support.process import Process
from flipjax.support.terminal import say
from flipjax.support.threads import cores, cores_of_affinity

if TYPE_CHECKING:
    from jax.sharding import AbstractMesh, Mesh

PROGRAMS = 2**31
"""Bytes of compiled programs that are kept on a machine."""
ADDRESSES = 2_500_000 << 10
"""Address space, in bytes, that the smallest sweep needs on two cores; with less, XLA exits silently."""


def setup(devices: int = 0) -> str:
    """Gives calls from Python what commands have: a CPU device per core, programs kept on disk, and kept memory.

    Call it first, before JAX starts. It is for the whole process and cannot be undone: it sets JAX's number of CPU
    devices, its compilation cache unless you have set one, and glibc's malloc.

    Args:
        devices: the number of CPU devices; 0: one per core.

    Returns:
        A description of the devices.

    Raises:
        ConfigError: process settings prevent training or would change its results.

    Example:
        >>> devices = setup()  # Such as 8 x cpu (cpu).
        >>> " x " in devices
        True
    """
    check_value("population.devices", devices)
    check_settings()
    _set_up(devices or cores())
    return start_backend(PopulationSpec(devices=devices), members=sys.maxsize)


def start_backend(spec: PopulationSpec, members: int) -> str:
    """Checks JAX's settings and starts it; a command, to which the process belongs, sets it up first.

    Returns:
        A description of the devices.

    Raises:
        ConfigError: process settings prevent training or would change its results.
    """
    import jax

    if Process.is_command:
        # Neither the environment nor a JAX default changes the random bits; `random_bits` pins those of other calls.
        jax.config.update("jax_threefry_partitionable", True)
        jax.config.update("jax_default_prng_impl", "threefry2x32")
    check_settings()
    check_mesh([jax.sharding.get_abstract_mesh()])
    _check_addresses()
    device_count = min(spec.devices or cores(), members * max(1, spec.batch_devices))
    if Process.is_command:
        _set_up(device_count)
    devices = jax.devices()
    if devices[0].platform == "cpu" and len(devices) < device_count:
        faster = f"flipjax.setup() or JAX_NUM_CPU_DEVICES={device_count}, before JAX starts, uses all cores"
        say(f"JAX runs with {len(devices)} CPU devices; {faster}")
    return f"{len(devices)} x {devices[0].device_kind} ({devices[0].platform})"


def _set_up(device_count: int) -> None:
    """Sets what cannot be undone: what glibc keeps, the number of CPU devices, and the cache, which JAX reads once."""
    import jax

    keep_freed()
    # The device count cannot change once JAX is running.
    with contextlib.suppress(RuntimeError):
        jax.config.update("jax_num_cpu_devices", device_count)
    keep_programs()


def keep_programs(*, small: bool = False) -> None:
    """Sets JAX's compilation cache to this machine's folder, unless it has one.

    Args:
        small: whether to keep programs that compile within a second, too.
    """
    import jax

    if jax.config.values["jax_compilation_cache_dir"] is None:
        programs = programs_folder()
        keep_newest(programs, most_bytes=PROGRAMS)
        jax.config.update("jax_compilation_cache_dir", str(programs))
    if small:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)


def programs_folder() -> Path:
    """Returns the folder of this machine's compiled programs for as many threads as XLA has here.

    XLA compiles that number into a program, and with it the order of sums; JAX's cache does not tell such programs
    apart.
    """
    threads = os.environ.get("NPROC") or cores_of_affinity()
    return cache_folder() / f"xla-{threads}-threads"


@dataclasses.dataclass(frozen=True)
class Requirement:
    """A setting of JAX that decides the numbers of a run.

    Attributes:
        name: as in `jax.config`; in capitals, of the environment.
        taken: the values that it may have.
        expected: these in words, and why.
    """

    name: str
    taken: tuple[str | bool | None, ...]
    expected: str


REQUIREMENTS = (
    Requirement("jax_enable_x64", (False,), "0, or unset: flipjax trains in float32"),
    Requirement("jax_default_matmul_precision", (None, "default"), "default, or unset: other products are another run"),
)
"""The settings of JAX that would change the numbers of a run, and say nothing of it."""


def check_settings() -> None:
    """Raises ConfigError for JAX settings that would change results without a word.

    Example:
        >>> import jax
        >>> with jax.enable_x64(True):
        ...     check_settings()
        Traceback (most recent call last):
        flipjax.config.ConfigError: JAX_ENABLE_X64: expected 0, or unset: flipjax trains in float32; found 1
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
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit != resource.RLIM_INFINITY and limit < ADDRESSES:
        raise ConfigError("ulimit -v", f"unlimited, or at least {ADDRESSES >> 10}", limit >> 10)
