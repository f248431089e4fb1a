"""How many members of a program a device holds at once, as the compiled program says of itself; the others wait."""

import functools
import os
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from flipjax.config import ConfigError, PopulationSpec
from flipjax.plan import Program, restrict
from flipjax.sweep.dry_run import MARGIN, estimate, megabytes, pool_bytes, state_bytes, unet_bytes
from flipjax.sweep.program import Study, layout_of, make_members, starting_weights
from flipjax.training import placement, population
from flipjax.training.member import Member, State, init_state

USED = 0.9
"""The share of a device's memory that a program may be planned to take."""
FAR = 4
"""How many times a device's memory an estimate must be before it is not tried."""
PLAIN = 0.25
"""Where an estimate is below this share of it, the compiler is not asked."""


class TooLargeError(ValueError):
    """A device has no memory for one member alone."""


class Taken(NamedTuple):
    """Bytes that a compiled epoch takes on a device: what it is given and returns, and what it works in."""

    given: int
    working: int

    @property
    def total(self) -> int:
        """Both."""
        return self.given + self.working


def compiled_bytes(program: Program, spec: PopulationSpec, study: Study, *, members: int) -> Taken:
    """Compiles the epoch of so many members, makes none of their arrays, and returns what the compiler says of it."""
    experiment = program.experiment
    layout = layout_of(program, spec, members=members)
    slots = members + -members % layout.devices

    def stacked(leaf: jax.Array) -> jax.ShapeDtypeStruct:
        sharding = NamedSharding(layout.mesh, P(placement.AXIS))
        return jax.ShapeDtypeStruct((slots, *leaf.shape), leaf.dtype, sharding=sharding)

    validation = study.tables["val"]
    read = (study.pool, validation.rows, validation.groups, validation.refit)
    everywhere = NamedSharding(layout.mesh, P())
    shared = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=everywhere), read)
    lowered = population.lower_epoch(experiment, layout, *jax.tree.map(stacked, _one(program, study)), *shared)
    analysis = lowered.compile().memory_analysis()
    given = analysis.argument_size_in_bytes + analysis.output_size_in_bytes - analysis.alias_size_in_bytes
    return Taken(given, analysis.temp_size_in_bytes)


def _one(program: Program, study: Study) -> tuple[Member, State]:
    """Returns one of the members, and the shapes of its state."""
    spec = program.experiment
    member = make_members(restrict(program, program.names[:1]), study)[0]
    return member, jax.eval_shape(functools.partial(init_state, spec), member, starting_weights(spec.model))


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


def _estimated(program: Program, spec: PopulationSpec, study: Study) -> float:
    """Returns bytes of a device from shapes alone, as if one device had all members."""
    members = len(program.names)
    if program.experiment.model.name == "unet":
        parameters = 40 * _deepest(program) ** 2
        working = unet_bytes(program)
    else:
        shapes = estimate(program.experiment)
        parameters = shapes.parameters
        working = shapes.working
    width = min(spec.width or placement.DEFAULT_WIDTH, members)
    pool = sum(leaf.nbytes for leaf in jax.tree.leaves(study.pool))
    return MARGIN * (members * state_bytes(program, parameters=parameters) + width * working) + pool


def _deepest(program: Program) -> int:
    """Returns the channels of a small U-Net's last level, whose square its parameters are about 30 times."""
    model = program.experiment.model
    return model.width * 2 ** (model.depth - 1)


def check(program: Program, spec: PopulationSpec) -> None:
    """Raises ConfigError for a size that is far beyond what a device holds, before any of it is made."""
    limit = device_bytes(spec)
    needed = {"config.pool.size": pool_bytes(program) or 0}
    if program.experiment.model.name == "unet":
        state = state_bytes(program, parameters=9 * _deepest(program) ** 2)
        needed["config.model.width"] = max(unet_bytes(program), state)
    for field, size in needed.items():
        if size > FAR * limit:
            raise ConfigError(field, f"what a device of {megabytes(limit)} holds", f"about {megabytes(size)}")


def wave(program: Program, spec: PopulationSpec, study: Study, *, say: Callable[[str], object]) -> int:
    """Returns how many of a program's members are trained at a time: all, or as many as the device holds.

    Says so by `say` where it is not all. Compiles nothing where an estimate from shapes is far below what there is.

    Raises:
      TooLargeError: one member alone takes more than the device has.
    """
    members = len(program.names)
    limit = device_bytes(spec)
    if _estimated(program, spec, study) < PLAIN * limit:
        return members
    size, taken = largest(lambda size: compiled_bytes(program, spec, study, members=size).total, members, USED * limit)
    if size == 1 and taken > device_bytes(spec, devices=layout_of(program, spec, members=1).mesh.size):
        raise TooLargeError(no_room(program, spec, study))
    if size < members:
        say(
            f"cell {program.name}: waves of {size} of {members} members, which take {megabytes(taken)} of the "
            f"{megabytes(limit)} of a device"
        )
    return size


def no_room(program: Program, spec: PopulationSpec, study: Study) -> str:
    """Returns a sentence: a device has no memory for the first member alone, what that takes, and what to lower."""
    taken = compiled_bytes(program, spec, study, members=1)
    devices = layout_of(program, spec, members=1).mesh.size
    whose = "that config.population.memory_gb allows" if spec.memory_gb else "of a device"
    model, pool = program.experiment.model, program.experiment.pool
    sizes = {"config.model.width": model.width, "config.model.depth": model.depth} if model.name == "unet" else {}
    sizes["config.train.batch_size"] = program.experiment.train.batch_size
    *others, last = (f"{field} ({value})" for field, value in {**sizes, "config.pool.size": pool.size}.items())
    # The devices of a CPU share its memory: a batch on several of them takes as much.
    idle = devices < jax.device_count() and jax.default_backend() != "cpu"
    shared = f", or raise config.population.batch_devices ({devices})" if idle else ""
    return (
        f"no memory for one member alone, {program.names[0]}: it takes {megabytes(taken.total)} "
        f"({megabytes(taken.given)} of states and data, {megabytes(taken.working)} of work) of the "
        f"{megabytes(device_bytes(spec, devices=devices))} {whose}; "
        f"lower {', '.join(others)} or {last}{shared}"
    )


def describe(program: Program, spec: PopulationSpec, study: Study) -> str:
    """Returns a line for `--dry_run=compiled`: what all members of a program take of a device, and what it has."""
    members = len(program.names)
    taken = compiled_bytes(program, spec, study, members=members)
    limit = device_bytes(spec)
    return (
        f"cell {program.name}, compiled: {megabytes(taken.given)} of states and data and {megabytes(taken.working)} of "
        f"work on each of {layout_of(program, spec, members=members).mesh.size} devices, which have {megabytes(limit)}"
    )


def largest(taken: Callable[[int], float], members: int, limit: float) -> tuple[int, int]:
    """Returns a number of members, at least one, that takes at most `limit`, and what it takes.

    Asks for few numbers, since each is compiled: all, then by the line through the last two.

    Example:
      >>> largest(lambda size: 10 + 2 * size, 100, 50)
      (20, 50)
    """
    size = members
    total = taken(members)
    slope = total / size
    while total > limit and size > 1:
        smaller = int(np.clip(size - np.ceil((total - limit) / slope), 1, size - 1))
        less = taken(smaller)
        slope = max((total - less) / (size - smaller), 1.0)
        size, total = smaller, less
    return size, int(total)


def in_waves(
    program: Program,
    size: int,
    run: Callable[[Program, Sequence[Program]], None],
    *,
    say: Callable[[str], object],
    refuse: Callable[[Program], str],
) -> None:
    """Runs a program by `size` members at a time, and by half as many where a device has no memory for them.

    Args:
      program: with the members to run.
      size: of a wave.
      run: called with a wave, and with those that were given up and hold its members, the smallest first.
      say: told of waves that are given up.
      refuse: returns what is said of a wave of one that is given up, see `no_room`.

    Raises:
      TooLargeError: a device has no memory for one member.
    """
    names = program.names
    larger: list[Program] = []
    while names:
        larger = [wave for wave in larger if names[0] in wave.names]
        within = larger[0].names if larger else names
        wave = restrict(program, [name for name in names[:size] if name in within])
        count = len(wave.names)
        try:
            run(wave, larger)
        except Exception as error:
            if not out_of_memory(error):
                raise
            if count == 1:
                raise TooLargeError(refuse(wave)) from error
            size = (count + 1) // 2
            larger = [wave, *larger]
            say(f"cell {program.name}: no memory for {count} members at a time; on with {size}")
        else:
            names = names[count:]


def out_of_memory(error: BaseException) -> bool:
    """Says whether an error of the backend is that a device has no more memory."""
    return isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" in str(error)
