"""Programs jitted with the compiler options that suit a CPU; on other devices with none."""

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import jax

    from flipjax.backend.convolutions import Uncached

Jitted: TypeAlias = "jax.stages.Wrapped | Uncached"
"""A jitted function: it is called as the function, or lowered and compiled."""
Options: TypeAlias = dict[str, str | int | bool]
"""Compiler options of XLA by name."""


def fast_jit(function: Callable, *, brief: bool = False, convolutions: str = "xla", **options: Any) -> Jitted:
    """Returns a function jitted with `fast_runtime`, or with `fast_compile` for a few short runs (`brief`).

    Args:
        function: to be jitted.
        brief: whether to compile in less time; ignored with oneDNN, which is for long runs.
        convolutions: the library of its convolutions on a CPU, xla or onednn. A program of oneDNN is compiled anew in
            each process: it is never written to JAX's compilation cache.
        **options: of `jax.jit`.

    Raises:
        ConfigError: another library, or oneDNN where it is absent.

    Example:
        >>> double = fast_jit(lambda x: 2 * x)
        >>> double(3.0).item()
        6.0
    """
    import jax

    from flipjax.backend.convolutions import ONEDNN, OPTIONS, XLA, Uncached, check_library, with_library
    from flipjax.config import ConfigError

    if convolutions not in (XLA, ONEDNN):
        raise ConfigError("convolutions", expected=f"{XLA} or {ONEDNN}", found=repr(convolutions))
    check_library(convolutions)
    if convolutions == ONEDNN:
        compiler_options = {**fast_runtime(), **OPTIONS}
        return Uncached(jax.jit(with_library(function, ONEDNN), compiler_options=compiler_options, **options))
    compiler_options = fast_compile() if brief else fast_runtime()
    return jax.jit(function, compiler_options=compiler_options, **options)


program = functools.cache(fast_jit)
"""`fast_jit` that returns the same jitted function for the same arguments.

Pass functions of a module alone: it keeps every function, and what the function encloses, until the process ends.
"""


@functools.cache
def fast_runtime() -> Options:
    """Returns the compiler options of a sweep on a CPU, those that XLA has; none on other devices.

    Independent operations run side by side. From JAX 0.11 on LLVM also optimises less, and convolutions are Eigen's,
    which are faster there than YNNPACK's (sweeps/benchmarks/throughput/upstream.py). A program compiled with other
    options rounds otherwise: what is to equal a sweep bit by bit needs these.
    """
    import jax

    options: Options = {"xla_cpu_opt_preset": "CPU_OPT_PRESET_FAST_RUNTIME"}
    if jax.__version_info__ >= (0, 11):
        # What YNNPACK computes: all but convolutions.
        kinds = ("DOT", "INDIVIDUAL_DOT", "REDUCE")
        options["xla_cpu_experimental_ynn_fusion_type"] = ",".join(f"LIBRARY_FUSION_TYPE_{kind}" for kind in kinds)
        options["xla_backend_optimization_level"] = 1
    return known_options(options)


@functools.cache
def fast_compile() -> Options:
    """Returns the compiler options with which a CPU compiles in less time, those that XLA has; none on other devices.

    LLVM optimises less, and XLA of JAX 0.10 emits loops without setting up MLIR for each.
    """
    return known_options({"xla_cpu_use_fusion_emitters": False, "xla_backend_optimization_level": 1})


def known_options(options: Mapping[str, str | int | bool]) -> Options:
    """Returns those compiler options that this version of XLA has; none on devices other than a CPU."""
    import jax

    if jax.default_backend() != "cpu":
        return {}
    supported = dict(options)
    if not _is_known(options):
        supported = {name: value for name, value in options.items() if _is_known({name: value})}
    # This flag of JAX sets the level, too, and lower; the option would override it.
    if jax.config.read("jax_disable_most_optimizations"):
        supported.pop("xla_backend_optimization_level", None)
    return supported


def _is_known(options: Mapping[str, str | int | bool]) -> bool:
    """Returns whether this version of XLA has all of some compiler options.

    XLA lists no options, but refuses to compile with one that it does not know. Each attempt compiles a program, so all
    options of a kind are tried together first.
    """
    import jax

    try:
        jax.jit(lambda: 0, compiler_options=dict(options)).lower().compile()
    except jax.errors.JaxRuntimeError:
        return False
    return True
