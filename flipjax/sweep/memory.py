"""Memory that training takes, by the compiler, and how many members of a program a device has room for."""

import dataclasses

from flipjax.backend.random import random_bits
from flipjax.config import PopulationSpec
from flipjax.config.program import Program
from flipjax.sweep.programs import compile_epoch, layout_of
from flipjax.training.population.memory import USED, device_bytes, memory_of
from flipjax.training.task import Task


class TooLargeError(ValueError):
    """A single member does not fit on a device."""


@dataclasses.dataclass(frozen=True)
class MemoryUse:
    """Bytes that an epoch of some members of a program takes on each of the devices that they use."""

    members: int
    """How many train at a time."""
    devices: int
    """How many devices they use."""
    held: int
    """Inputs and outputs: states and data."""
    working: int
    """Temporaries."""

    @property
    def total(self) -> int:
        """All of it."""
        return self.held + self.working


def compiled_memory(program: Program, spec: PopulationSpec, task: Task, *, members: int) -> MemoryUse:
    """Compiles an epoch of `members` members, without allocating arrays, and returns its memory use."""
    memory = memory_of(compile_epoch(program, spec, task, members=members))
    devices = layout_of(program, spec, members=members).mesh.size
    return MemoryUse(members, devices, held=memory.held, working=memory.working)


@random_bits()
def fit(program: Program, spec: PopulationSpec, task: Task) -> MemoryUse:
    """Returns how many of a program's members to train at a time, and the memory that they take.

    Starts with all and halves until they fit. The run reuses what is compiled here.

    Raises:
        TooLargeError: a single member does not fit.
    """
    limit = USED * device_bytes(spec)
    use = compiled_memory(program, spec, task, members=len(program.names))
    while use.total > limit and use.members > 1:
        use = compiled_memory(program, spec, task, members=(use.members + 1) // 2)
    # A single member may have all of its devices' memory.
    if use.members == 1 and use.total > device_bytes(spec, devices=use.devices):
        raise TooLargeError(_too_large(program, spec, use))
    return use


def describe_use(program: Program, spec: PopulationSpec, use: MemoryUse) -> str:
    """Returns a line on the members that fit, their memory and the device's."""
    return (
        f"program {program.name}: {use.members} of {len(program.names)} members at a time take {megabytes(use.held)} "
        f"of states and data and {megabytes(use.working)} of work on each of {use.devices} devices, "
        f"which have {megabytes(device_bytes(spec))}"
    )


def _too_large(program: Program, spec: PopulationSpec, use: MemoryUse) -> str:
    """Returns the error message for a member that does not fit, with its memory and the keys to lower."""
    limit = device_bytes(spec, devices=use.devices)
    return (
        f"no memory for one member alone, {program.names[0]}: it takes {megabytes(use.total)} "
        f"({megabytes(use.held)} of states and data, {megabytes(use.working)} of work) of the {megabytes(limit)} of a "
        "device or of config.population.memory_gb; lower config.train.batch_size, config.pool.size or the size of the "
        "model, or, except on a CPU, raise config.population.batch_devices"
    )


def halve(error: Exception, program: Program, spec: PopulationSpec, task: Task) -> int:
    """Returns how many members to train at a time after a program ran out of memory.

    Raises:
        TooLargeError: it was a single member.
        Exception: `error`, if it is not about memory.
    """
    if "RESOURCE_EXHAUSTED" not in str(error):
        raise error
    if len(program.names) == 1:
        use = compiled_memory(program, spec, task, members=1)
        raise TooLargeError(_too_large(program, spec, use)) from error
    return (len(program.names) + 1) // 2


def megabytes(count: int) -> str:
    """Formats a number of bytes.

    Example:
        >>> megabytes(1_500_000)
        '1.5 MB'
    """
    return f"{count / 1e6:,.1f} MB"
