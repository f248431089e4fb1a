"""The library that computes a program's convolutions on a CPU: XLA's own choice, or oneDNN.

XLA has oneDNN from JAX 0.10 on, on x86 processors, and hands it convolutions from 0.11 on. A program compiled with it
is traced in another form, rounds otherwise, and must not reach the compilation cache: writing it there ends the process
(sweeps/benchmarks/throughput/onednn_crash.py).
"""

import contextlib
import functools
import pathlib
import platform
from collections.abc import Callable
from typing import Any

import jax

from flipjax.config import FROZEN, LARGE, ConfigError, ModelSpec

XLA = "xla"
"""XLA's own library."""
ONEDNN = "onednn"
"""Intel's library, which XLA:CPU can use."""
OPTIONS = {"xla_cpu_experimental_onednn_custom_call": True}
"""Compiler options of a program whose convolutions are oneDNN's."""
PROCESSORS = ("x86_64", "amd64")
"""Names of the processors for which XLA is built with oneDNN."""

CPUINFO = pathlib.Path("/proc/cpuinfo")
"""The file in which Linux describes the processor, its instructions among the words."""
BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16"}
"""Words for instructions that multiply matrices of bfloat16."""

LEAST_WIDTH = 4
"""Least width of a U-Net that was measured. From this width on oneDNN is faster at every image size."""
LEAST_WORK_SMALL = 4e9
"""Least work of small U-Nets, in pixels times width, with which oneDNN gains more than its compiling costs.

Its programs are compiled in each process, because they are never cached.
"""
LEAST_PIXELS_LARGE = 4e8
"""Least pixels of large U-Nets with which oneDNN gains more than its compiling costs."""

traced_library = jax.make_user_context(XLA)
"""The library of the program that is being traced, `traced_library.value`; JAX keeps traces apart by it."""


def with_library(function: Callable, name: str) -> Callable:
    """Returns a function that is traced for a library."""

    @functools.wraps(function)
    def traced(*arguments: Any, **keywords: Any) -> Any:
        with traced_library(name):
            return function(*arguments, **keywords)

    return traced


def never_cached() -> contextlib.AbstractContextManager[None]:
    """Returns a context in which this thread writes no program to the compilation cache, whoever set it.

    JAX decides once in a process, at the first use, whether it uses the cache. It reads the least compile time of a
    cached program at each write, so infinity blocks every write.
    """
    from jax._src import config  # The public `jax.config.update` is for all threads.

    return config.persistent_cache_min_compile_time_secs(float("inf"))


class UncachedLowered:
    """A lowered program that is never written to the compilation cache."""

    def __init__(self, lowered: jax.stages.Lowered):
        """Wraps a program that JAX lowered."""
        self._lowered = lowered

    def compile(self, *arguments: Any, **keywords: Any) -> jax.stages.Compiled:
        """Compiles it."""
        with never_cached():
            return self._lowered.compile(*arguments, **keywords)

    def __getattr__(self, name: str) -> Any:
        """Returns any other attribute of the lowered program."""
        return getattr(self._lowered, name)


class Uncached:
    """A jitted function whose programs, called or lowered, are never written to the compilation cache.

    Do not compile by `trace`: it is the jitted function's own, and its programs are written.
    """

    def __init__(self, jitted: jax.stages.Wrapped):
        """Wraps a function that `jax.jit` returned."""
        self._jitted = jitted

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        """Calls it, and compiles it where it must."""
        with never_cached():
            return self._jitted(*arguments, **keywords)

    def lower(self, *arguments: Any, **keywords: Any) -> UncachedLowered:
        """Lowers it for arguments or their shapes."""
        return UncachedLowered(self._jitted.lower(*arguments, **keywords))

    def __getattr__(self, name: str) -> Any:
        """Returns any other attribute of the jitted function."""
        return getattr(self._jitted, name)


def faster_library(model: ModelSpec, *, pixels: int) -> str:
    """Returns the faster library for a model with this version of JAX, on a CPU that has both.

    sweeps/benchmarks/README.md has the rule and its measurements. A user's own network and frozen features are
    computed by XLA.

    Args:
        model: the network.
        pixels: of all images that pass through it in this process; those of training images count three times, for
            the forward pass and two gradients.
    """
    # XLA of JAX 0.10 has oneDNN, but hands it no convolution.
    if jax.__version_info__ < (0, 11) or model.build or model.name == FROZEN:
        return XLA
    if model.name in LARGE:
        gains = pixels >= LEAST_PIXELS_LARGE
    else:
        gains = model.width >= LEAST_WIDTH and pixels * model.width >= LEAST_WORK_SMALL
    if gains:
        return ONEDNN
    return XLA


@functools.cache
def has_onednn() -> bool:
    """Returns whether this machine computes on CPUs with oneDNN, and JAX can leave its programs out of the cache."""
    if jax.default_backend() != "cpu" or platform.machine().lower() not in PROCESSORS:
        return False
    try:
        with never_cached():
            jax.jit(lambda: 0, compiler_options=OPTIONS).lower().compile()
    except jax.errors.JaxRuntimeError:
        # This XLA does not know the option.
        return False
    except (ImportError, AttributeError, TypeError):
        # This JAX has its private configuration elsewhere, or with other arguments.
        return False
    return True


def multiplies_bfloat16() -> bool:
    """Returns whether this processor multiplies matrices of bfloat16, as far as the system tells.

    There oneDNN trains faster in bfloat16 than in float32 (sweeps/benchmarks/throughput/precisions.csv).
    """
    if not CPUINFO.is_file():
        return False
    return not BFLOAT16_FLAGS.isdisjoint(CPUINFO.read_text().split())


def check_library(name: str) -> None:
    """Raises ConfigError for oneDNN where it is absent."""
    if name == ONEDNN and not has_onednn():
        reason = f"XLA of JAX {jax.__version__} has no oneDNN for {jax.default_backend()} on {platform.machine()}"
        raise ConfigError("config.population.convolutions", f"auto or xla, for {reason}", repr(name))
