"""How many members of a program the devices hold at once, as the compiler says; the others wait."""

import functools
import os

import jax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from flipjax.config import PopulationSpec
from flipjax.plan import Program, restrict
from flipjax.sweep.dry_run import megabytes
from flipjax.sweep.program import layout_of
from flipjax.task import Task, make_members
from flipjax.training import devices, population
from flipjax.training.member import init_state

# Share of a device's memory that a program may be planned to take: the rest is the runtime's.
USED = 0.9


class TooLargeError(ValueError):
    """A device has no memory for one member alone."""


def compiled_bytes(program: Program, spec: PopulationSpec, task: Task, *, members: int) -> tuple[int, int]:
    """Compiles the epoch of so many members, makes none of their arrays, and returns what the compiler says.

    Returns:
        Bytes on a device: what the epoch is given and returns, and what it works in.
    """
    experiment = program.experiment
    layout = layout_of(program, spec, members=members)
    slots = members + -members % layout.devices

    def stacked(leaf: jax.Array) -> jax.ShapeDtypeStruct:
        sharding = NamedSharding(layout.mesh, P(devices.AXIS))
        return jax.ShapeDtypeStruct((slots, *leaf.shape), leaf.dtype, sharding=sharding)

    read = (task.pool, task.tables["val"])
    everywhere = NamedSharding(layout.mesh, P())
    shared = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=everywhere), read)
    member = make_members(restrict(program, program.names[:1]), task)[0]
    one = member, jax.eval_shape(functools.partial(init_state, experiment), member)
    lowered = population.lower_epoch(experiment, layout, *jax.tree.map(stacked, one), *shared)
    analysis = lowered.compile().memory_analysis()
    given = analysis.argument_size_in_bytes + analysis.output_size_in_bytes - analysis.alias_size_in_bytes
    return given, analysis.temp_size_in_bytes


def device_bytes(spec: PopulationSpec, *, devices: int | None = None) -> int:
    """Returns the memory of a device: as `spec` or the device says, and for a CPU its part of the machine's.

    Args:
        spec: of the population.
        devices: how many are at work; None: all.
    """
    if spec.memory_gb:
        return int(spec.memory_gb * 1e9)
    device = jax.devices()[0]
    limit = (device.memory_stats() or {}).get("bytes_limit", 0)
    return limit or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // (devices or jax.device_count())


def fit(program: Program, spec: PopulationSpec, task: Task) -> tuple[int, str]:
    """Returns how many of a program's members are trained at a time, and a line that says what they take.

    All, or half as many until the device holds them. What is compiled here is not compiled again to run it.

    Raises:
        TooLargeError: one member alone takes more than the device has.
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
        f"cell {program.name}: {size} of {members} members at a time take {given} of states and data and {working} of "
        f"work on each of {devices} devices, which have {megabytes(limit)}"
    )


def no_room(program: Program, spec: PopulationSpec, task: Task) -> str:
    """Returns a sentence: a device has no memory for the first member alone, what that takes, and what to lower."""
    given, working = compiled_bytes(program, spec, task, members=1)
    devices = layout_of(program, spec, members=1).mesh.size
    whose = "that config.population.memory_gb allows" if spec.memory_gb else "of a device"
    # The devices of a CPU share its memory: a batch on several of them takes as much.
    idle = devices < jax.device_count() and jax.default_backend() != "cpu"
    return (
        f"no memory for one member alone, {program.names[0]}: it takes {megabytes(given + working)} "
        f"({megabytes(given)} of states and data, {megabytes(working)} of work) of the "
        f"{megabytes(device_bytes(spec, devices=devices))} {whose}; lower config.train.batch_size, config.pool.size or "
        "the size of the model" + (f", or raise config.population.batch_devices ({devices})" if idle else "")
    )


def halve(error: Exception, program: Program, spec: PopulationSpec, task: Task) -> int:
    """Returns how many members to train at a time where those of a program were too many for a device.

    Raises:
        TooLargeError: it was one.
        Exception: `error`, where that says nothing of memory.
    """
    if not out_of_memory(error):
        raise error
    count = len(program.names)
    if count == 1:
        raise TooLargeError(no_room(program, spec, task)) from error
    return (count + 1) // 2


def out_of_memory(error: BaseException) -> bool:
    """Says whether an error of the backend is that a device has no more memory."""
    return isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" in str(error)
