"""The memory of a device, and what a compiled program takes of it."""

import dataclasses
import os

import jax

from flipjax.config import PopulationSpec

USED = 0.9
"""Fraction of a device's memory to plan for; the rest is left to the runtime."""


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes that a program takes on each of its devices, by the compiler.

    Example:
        >>> Memory(held=100, working=20).total
        120
    """

    held: int
    """Inputs and outputs: states and data."""
    working: int
    """Temporaries."""

    @property
    def total(self) -> int:
        """All of it."""
        return self.held + self.working


def memory_of(compiled: jax.stages.Compiled) -> Memory:
    """Returns the memory that a compiled program takes."""
    analysis = compiled.memory_analysis()
    assert analysis is not None, "XLA counts the memory of programs on every device that flipjax runs on"
    held = analysis.argument_size_in_bytes + analysis.output_size_in_bytes - analysis.alias_size_in_bytes
    return Memory(held, analysis.temp_size_in_bytes)


def device_bytes(spec: PopulationSpec, *, devices: int | None = None) -> int:
    """Returns a device's memory, from `spec` or the device, or a CPU's share of the machine's memory.

    Args:
        spec: of the population.
        devices: number in use; None: all.
    """
    if spec.memory_gb:
        return int(spec.memory_gb * 1e9)
    reported = (jax.devices()[0].memory_stats() or {}).get("bytes_limit", 0)
    if reported:
        return reported
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return machine // (devices or jax.device_count())
