"""Memory: how many members fit on the devices, by the compiler's analysis."""

import functools
import os

import jax

from flipjax.config import PopulationSpec
from flipjax.plan import Program, restrict
from flipjax.sweep.dry_run import megabytes
from flipjax.sweep.program import layout_of
from flipjax.training import devices, population
from flipjax.training.member import init_state
from flipjax.training.task import Task, make_members, starting_weights

# Fraction of a device's memory to plan for; the rest is left to the runtime.
USED = 0.9


class TooLargeError(ValueError):
    """A single member does not fit on a device."""


def compiled_bytes(program: Program, spec: PopulationSpec, task: Task, *, members: int) -> tuple[int, int]:
    """Compiles an epoch of `members` members, without allocating arrays, and returns its memory use.

    Returns:
        Bytes on a device: inputs and outputs, and temporaries.
    """
    experiment = program.experiment
    layout = layout_of(program, spec, members=members)
    shared = devices.shapes_of(layout, (task.pool, task.tables["val"]))
    member = make_members(restrict(program, program.names[:1]), task)[0]
    one = member, jax.eval_shape(functools.partial(init_state, experiment), member)
    stacked = devices.shapes_of(layout, one, members=members)
    analysis = population.lower_epoch(experiment, layout, *stacked, *shared).compile().memory_analysis()
    given = analysis.argument_size_in_bytes + analysis.output_size_in_bytes - analysis.alias_size_in_bytes
    return given, analysis.temp_size_in_bytes


def compile_start(program: Program, task: Task) -> None:
    """Compiles the initial state of a member, as the run makes it."""
    member = make_members(restrict(program, program.names[:1]), task)[0]
    population.lower_start(program.experiment, member, starting_weights(program.experiment)).compile()


def device_bytes(spec: PopulationSpec, *, devices: int | None = None) -> int:
    """Returns a device's memory, from `spec` or the device; for a CPU its share of the machine's.

    Args:
        spec: of the population.
        devices: number in use; None: all.
    """
    if spec.memory_gb:
        return int(spec.memory_gb * 1e9)
    device = jax.devices()[0]
    limit = (device.memory_stats() or {}).get("bytes_limit", 0)
    return limit or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // (devices or jax.device_count())


def fit(program: Program, spec: PopulationSpec, task: Task) -> tuple[int, str]:
    """Returns how many of a program's members to train at a time, and a line on their memory.

    Starts with all and halves until they fit. The run reuses what is compiled here.

    Raises:
        TooLargeError: a single member does not fit.
    """
    size = members = len(program.names)
    limit = device_bytes(spec)
    while sum(taken := compiled_bytes(program, spec, task, members=size)) > USED * limit and size > 1:
        size = (size + 1) // 2
    devices = layout_of(program, spec, members=size).mesh.size
    if size == 1 and sum(taken) > device_bytes(spec, devices=devices):
        raise TooLargeError(no_room(program, spec, task))
    given, working = map(megabytes, taken)
    return size, (
        f"program {program.name}: {size} of {members} members at a time take {given} of states and data and {working} "
        f"of work on each of {devices} devices, which have {megabytes(limit)}"
    )


def no_room(program: Program, spec: PopulationSpec, task: Task) -> str:
    """Returns the error message for a member that does not fit, with its memory and the keys to lower."""
    given, working = compiled_bytes(program, spec, task, members=1)
    devices = layout_of(program, spec, members=1).mesh.size
    whose = "that config.population.memory_gb allows" if spec.memory_gb else "of a device"
    # CPU devices share memory, so splitting a batch over them saves none.
    idle = devices < jax.device_count() and jax.default_backend() != "cpu"
    return (
        f"no memory for one member alone, {program.names[0]}: it takes {megabytes(given + working)} "
        f"({megabytes(given)} of states and data, {megabytes(working)} of work) of the "
        f"{megabytes(device_bytes(spec, devices=devices))} {whose}; lower config.train.batch_size, config.pool.size or "
        "the size of the model" + (f", or raise config.population.batch_devices ({devices})" if idle else "")
    )


def halve(error: Exception, program: Program, spec: PopulationSpec, task: Task) -> int:
    """Returns how many members to train at a time after a program ran out of memory.

    Raises:
        TooLargeError: it was a single member.
        Exception: `error`, if it is not about memory.
    """
    if not out_of_memory(error):
        raise error
    count = len(program.names)
    if count == 1:
        raise TooLargeError(no_room(program, spec, task)) from error
    return (count + 1) // 2


def out_of_memory(error: BaseException) -> bool:
    """Returns whether a backend error means that a device is out of memory."""
    return isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" in str(error)
