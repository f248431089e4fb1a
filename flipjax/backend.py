"""JAX start-up: devices, PRNG, compilation cache, software versions and start-up errors."""

import contextlib
import ctypes
import datetime
import functools
import importlib.metadata
import platform
import subprocess
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from flipjax.config import ConfigError, PopulationSpec
from flipjax.support.files import cache_folder, keep_newest
from flipjax.support.terminal import say
from flipjax.support.threads import cores

PACKAGES = ("flipjax", "jax", "jaxlib", "flax", "optax", "numpy")
BITS = "random bits"
COMPARED = ("flipjax", "jax", "jaxlib", "flax", "backend", BITS)
"""Entries of a session record that can change results; `backend` is the kind of device, not the number."""
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
    with contextlib.suppress(ImportError):  # Unix only.
        import resource

        most = resource.getrlimit(resource.RLIMIT_AS)[0]
        if most != resource.RLIM_INFINITY and most < ADDRESSES:
            raise ConfigError("ulimit -v", f"unlimited, or at least {ADDRESSES >> 10}", most >> 10)
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

    if jax.config.jax_enable_x64:  # type: ignore[attr-defined]
        raise ConfigError("JAX_ENABLE_X64", "0, or unset: flipjax trains in float32", 1)
    if not jax.config.jax_threefry_partitionable:  # type: ignore[attr-defined]
        raise ConfigError("JAX_THREEFRY_PARTITIONABLE", "1, or unset: other random bits are another run", 0)


def key_of(seed: Any) -> Any:
    """Returns the PRNG key of a seed in [0, 2**31), which may be traced, regardless of JAX settings."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    # On the host nothing compiles.
    stack: Any = jnp if isinstance(seed, jax.Array) else np
    words = stack.stack([stack.uint32(0), stack.asarray(seed).astype(stack.uint32)])
    return jax.random.wrap_key_data(words, impl="threefry2x32")


def fast_jit(function: Callable, *, brief: bool = False, **options: Any) -> Any:
    """Returns a function jitted with `fast_runtime`; for a few short runs (`brief`) with `fast_compile`."""
    import jax

    return jax.jit(function, compiler_options=fast_compile() if brief else fast_runtime(), **options)


program = functools.cache(fast_jit)
"""`fast_jit` of a function that lives as long as the process, the same each time."""


@functools.cache
def fast_runtime() -> dict[str, Any]:
    """Returns the compiler options of a sweep on a CPU, those that XLA has; none on other devices.

    Independent operations run side by side. From JAX 0.11 on LLVM also optimises less, and convolutions are Eigen's,
    which are faster there than YNNPACK's (sweeps/benchmarks/throughput/upstream.py); programs that are compiled
    otherwise round otherwise.
    """
    import jax

    options: dict[str, Any] = {"xla_cpu_opt_preset": "CPU_OPT_PRESET_FAST_RUNTIME"}
    if jax.__version_info__ >= (0, 11):
        libraries = ("DOT", "INDIVIDUAL_DOT", "REDUCE")
        options["xla_cpu_experimental_ynn_fusion_type"] = ",".join(f"LIBRARY_FUSION_TYPE_{kind}" for kind in libraries)
        options["xla_backend_optimization_level"] = 1
    return _known(options)


@functools.cache
def fast_compile() -> dict[str, Any]:
    """Returns the compiler options with which a CPU compiles in less time, those that XLA has; none on other devices.

    LLVM optimises less, and XLA of JAX 0.10 emits loops without setting up MLIR for each.
    """
    return _known({"xla_cpu_use_fusion_emitters": False, "xla_backend_optimization_level": 1})


def _known(options: Mapping[str, Any]) -> dict[str, Any]:
    import jax

    known = {}
    for name, value in options.items() if jax.default_backend() == "cpu" else ():
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            jax.jit(lambda: 0, compiler_options={name: value}).lower().compile()
            known[name] = value
    # An option would override the configuration.
    if jax.config.read("jax_disable_most_optimizations"):
        known.pop("xla_backend_optimization_level", None)
    return known


def keep_freed() -> None:
    """Keeps freed blocks of up to 32 MB in glibc for the next ones; an epoch on a CPU takes .94 of the time.

    `trim` returns them.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):
        libc = ctypes.CDLL(None)
        # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h.
        libc.mallopt(-1, 2**31 - 1)
        libc.mallopt(-3, 2**25)


def trim() -> None:
    """Returns freed memory to the system; glibc keeps what compiling and checkpoints freed, some hundred megabytes."""
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def describe_start(device: str) -> dict[str, str]:
    """Returns the record of a start for config.json: place and time, device, versions, git commit and random bits."""
    import jax

    facts = {"device": device, "host": platform.node()}
    facts["started"] = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    line = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        facts["commit"] = subprocess.run(line, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    facts |= {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in PACKAGES}
    bits = jax.jit(lambda: jax.random.bits(key_of(0), (2,)))().tolist()
    return facts | {BITS: " ".join(f"{word:08x}" for word in bits)}


def differing_software(earlier: Iterable[Mapping[str, Any]], now: Mapping[str, Any]) -> str:
    """Lists the software that differs from earlier starts; empty if none does.

    Example:
        >>> first = {"jax": "0.10.2", "flax": "0.12", "device": "2 x cpu (cpu)"}
        >>> differing_software([first], {"jax": "0.12.0", "flax": "0.12", "device": "8 x cpu (cpu)"})
        'jax 0.12.0 (before 0.10.2)'
    """
    new, *before = map(_compared, (now, *earlier))
    others = {name: {start.get(name, value) for start in before} - {value} for name, value in new.items()}
    return ", ".join(f"{name} {new[name]} (before {', '.join(sorted(old))})" for name, old in others.items() if old)


def _compared(start: Mapping[str, Any]) -> dict[str, str]:
    known = {**start, "backend": str(start["device"]).partition(" x ")[2]} if "device" in start else start
    return {name: str(known[name]) for name in COMPARED if name in known}
