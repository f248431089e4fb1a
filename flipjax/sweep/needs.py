"""Memory and time of programs, estimated from shapes, by the compiler, or from one timed epoch."""

import functools
import math
import os
import time
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from flipjax.config import Config, ConfigError, Experiment, ModelSpec, PoolSpec, PopulationSpec
from flipjax.data import store, tfds
from flipjax.groups import Groups
from flipjax.models.weights import file_of
from flipjax.plan import Program, restrict
from flipjax.pytrees import Knobs, Recipe
from flipjax.support.terminal import clock
from flipjax.training import devices, population
from flipjax.training import task as tasks
from flipjax.training.member import Member, State, init_state

# Fraction of a device's memory to plan for; the rest is left to the runtime.
USED = 0.9


class TooLargeError(ValueError):
    """A single member does not fit on a device."""


def layout_of(program: Program, spec: PopulationSpec, *, members: int) -> devices.Layout:
    """Returns the layout for a number of a program's members."""
    experiment = program.experiment
    batch_size = experiment.train.batch_size
    return devices.make_layout(spec, members=members, model=experiment.model.title, batch_size=batch_size)


def epoch_work(program: Program) -> int:
    """Returns the work of a member's epoch in pixels evaluated, three for each pixel trained on."""
    spec = program.experiment
    return (3 * spec.split.n_train + spec.split.n_val) * spec.pool.size**2


def describe_plan(programs: Sequence[Program]) -> Iterator[str]:
    """Yields the lines that describe a plan: members, model, steps and, as far as known, memory of each program."""
    for program in programs:
        spec, count = program.experiment, len(program.settings)
        names = program.settings[0].axes
        axes = (f"{name} ({_brief([setting.axes[name] for setting in program.settings])})" for name in names)
        yield f"program {program.name}: {count} members, {', '.join(axes)}"
        state = jax.eval_shape(functools.partial(_start, spec))
        parameters = sum(leaf.size for leaf in jax.tree.leaves(state.weights.params))
        yield f"  model {_name_of(spec.model)}: {parameters:,} parameters"
        if spec.split.n_train:
            steps = [epochs * (spec.split.n_train // spec.train.batch_size) for epochs in program.epochs]
            yield f"  work: {max(steps)} steps of {spec.train.batch_size} a member at most, {sum(steps)} in all"
        else:
            yield f"  work: {max(program.epochs)} epochs a member at most, over the most images that every rho allows"
        unknown = "read at the start" if spec.pool.name == "folder" else "no such data set yet"
        size = _pool_bytes(spec.pool, spec.groups)
        pool = f"not counted ({unknown})" if size is None else f"{megabytes(size)}, shared"
        states = megabytes(count * sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state)))
        yield f"  memory: pool {pool}; states {states}; --dry_run=compiled asks the compiler what training takes"
    members = sum(len(program.settings) for program in programs)
    yield f"programs to compile: {len(programs)}; members: {members}; nothing was trained"


def _start(experiment: Experiment) -> State:
    """Returns the state of a member before training, to be evaluated for its shapes."""
    rows = jnp.zeros((experiment.split.n_train, 2), jnp.int32)
    return init_state(experiment, Member(jax.random.key(0), rows, rows[:, 0], Recipe(learning_rate=0.0), Knobs()))


def _brief(values: Sequence[Any]) -> str:
    """Returns the values of an axis that methods use, or the range of many numbers."""
    used = [value for value in dict.fromkeys(values) if value is not None]
    if len(used) > 7 and not isinstance(used[0], str):
        return f"{len(used)} values, {min(used):.3g} to {max(used):.3g}"
    return ", ".join(value if isinstance(value, str) else f"{value:.6g}" for value in used) or "unused"


def _name_of(model: ModelSpec) -> str:
    if model.build:
        return model.title
    if model.name == "unet":
        return f"unet, width {model.width}, depth {model.depth}"
    lacking = " (no such file yet)" if model.weights and not file_of(model.weights).is_file() else ""
    return f"{model.name} in {model.dtype}, weights {model.weights or 'drawn afresh'}{lacking}"


def _pool_bytes(pool: PoolSpec, groups: Groups) -> int | None:
    """Returns the size of a pool on a device, or None if it must be read or prepared first."""
    if pool.name != "synthetic":
        return tfds.stored_bytes(pool)
    counts = groups.classes * pool.objects, groups.scenes * pool.scenes
    return sum(map(math.prod, store.drawn_shapes(pool, *counts).values()))


def megabytes(count: int) -> str:
    """Formats a number of bytes.

    Example:
        >>> megabytes(1_500_000)
        '1.5 MB'
    """
    return f"{count / 1e6:,.1f} MB"


def check_pools(programs: Sequence[Program]) -> Iterator[str]:
    """Yields a line for each program whose pool is too small; raises ConfigError where the sweep would."""
    for program in programs:
        try:
            tasks.check_sizes_of(program)
        except ConfigError:
            raise
        except ValueError as error:
            yield f"program {program.name} would fail: {error}"


def time_plan(programs: Sequence[Program], config: Config) -> Iterator[str]:
    """Trains an epoch of each program on as many members as run at once; yields lines with the time of all."""
    total, spec = 0.0, PopulationSpec(**config.population)
    for program in programs:
        loaded, task = tasks.make_task(program)
        seconds = epoch_seconds(loaded, spec, task)
        n_train = tasks.training_size(loaded, task.parts)
        needed = seconds * (sum(program.epochs) + len(program.names) * evaluation_epochs(loaded, config, n_train))
        yield f"program {program.name}: {seconds:.3f} s for an epoch of a member, {clock(needed)} for all"
        total += needed
    yield f"time: {clock(total)} at most for training and evaluation, without compilation and the page"


def evaluation_epochs(program: Program, config: Config, n_train: int) -> float:
    """Returns the work of evaluating a member after training, in epochs."""
    spec, asked = program.experiment, config.intervene
    draws = {"none": 0, "mean": 1, "sampled": 1, "both": 2}[asked.scenes]
    passes = len(spec.train.selection) + 3 * (asked.scores == "all") + 2 * draws * spec.groups.scenes
    return passes * (spec.split.n_val + spec.split.n_test) / (3 * n_train + spec.split.n_val)


def epoch_seconds(program: Program, spec: PopulationSpec, task: tasks.Task) -> float:
    """Returns the seconds of the first epoch, per member, of as many members as run at once."""
    count = len(program.settings)
    layout = layout_of(program, spec, members=count)
    size = min(count, layout.devices * layout.width)
    chosen = [program.names[place * count // size] for place in range(size)]
    members = tasks.make_members(restrict(program, chosen), task)
    weights, start = tasks.starting_weights(program.experiment), 0.0
    shared = devices.replicate(layout, (task.pool, task.tables["val"]))
    # The first time includes the compilation.
    for _ in range(2):
        current = population.create(program.experiment, layout, members, start=weights)
        start = time.perf_counter()
        population.run_epoch(current, *shared)
    return (time.perf_counter() - start) / size


def compiled_bytes(program: Program, spec: PopulationSpec, task: tasks.Task, *, members: int) -> tuple[int, int]:
    """Compiles an epoch of `members` members, without allocating arrays, and returns its memory use.

    Returns:
        Bytes on a device: inputs and outputs, and temporaries.
    """
    experiment = program.experiment
    layout = layout_of(program, spec, members=members)
    shared = devices.shapes_of(layout, (task.pool, task.tables["val"]))
    member = tasks.make_members(restrict(program, program.names[:1]), task)[0]
    one = member, jax.eval_shape(functools.partial(init_state, experiment), member)
    stacked = devices.shapes_of(layout, one, members=members)
    analysis: Any = population.epoch_program().lower(experiment, layout, *stacked, *shared).compile().memory_analysis()
    given = analysis.argument_size_in_bytes + analysis.output_size_in_bytes - analysis.alias_size_in_bytes
    return given, analysis.temp_size_in_bytes


def compile_start(program: Program, task: tasks.Task) -> None:
    """Compiles the initial state of a member, as the run makes it."""
    member = tasks.make_members(restrict(program, program.names[:1]), task)[0]
    population.start_program().lower(program.experiment, member, tasks.starting_weights(program.experiment)).compile()


def device_bytes(spec: PopulationSpec, *, devices: int | None = None) -> int:
    """Returns a device's memory, from `spec` or the device; for a CPU its share of the machine's.

    Args:
        spec: of the population.
        devices: number in use; None: all.
    """
    if spec.memory_gb:
        return int(spec.memory_gb * 1e9)
    limit = (jax.devices()[0].memory_stats() or {}).get("bytes_limit", 0)
    return limit or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // (devices or jax.device_count())


def fit(program: Program, spec: PopulationSpec, task: tasks.Task) -> tuple[int, str]:
    """Returns how many of a program's members to train at a time, and a line on their memory.

    Starts with all and halves until they fit. The run reuses what is compiled here.

    Raises:
        TooLargeError: a single member does not fit.
    """
    size = members = len(program.names)
    limit = device_bytes(spec)
    while sum(taken := compiled_bytes(program, spec, task, members=size)) > USED * limit and size > 1:
        size = (size + 1) // 2
    used = layout_of(program, spec, members=size).mesh.size
    if size == 1 and sum(taken) > device_bytes(spec, devices=used):
        raise TooLargeError(no_room(program, spec, task))
    given, working = map(megabytes, taken)
    return size, (
        f"program {program.name}: {size} of {members} members at a time take {given} of states and data and {working} "
        f"of work on each of {used} devices, which have {megabytes(limit)}"
    )


def no_room(program: Program, spec: PopulationSpec, task: tasks.Task) -> str:
    """Returns the error message for a member that does not fit, with its memory and the keys to lower."""
    given, working = compiled_bytes(program, spec, task, members=1)
    limit = device_bytes(spec, devices=layout_of(program, spec, members=1).mesh.size)
    return (
        f"no memory for one member alone, {program.names[0]}: it takes {megabytes(given + working)} "
        f"({megabytes(given)} of states and data, {megabytes(working)} of work) of the {megabytes(limit)} of a device "
        "or of config.population.memory_gb; lower config.train.batch_size, config.pool.size or the size of the model, "
        "or, except on a CPU, raise config.population.batch_devices"
    )


def halve(error: Exception, program: Program, spec: PopulationSpec, task: tasks.Task) -> int:
    """Returns how many members to train at a time after a program ran out of memory.

    Raises:
        TooLargeError: it was a single member.
        Exception: `error`, if it is not about memory.
    """
    if "RESOURCE_EXHAUSTED" not in str(error):
        raise error
    if len(program.names) == 1:
        raise TooLargeError(no_room(program, spec, task)) from error
    return (len(program.names) + 1) // 2
