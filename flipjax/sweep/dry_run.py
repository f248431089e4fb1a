"""Dry runs: describes a plan from shapes alone, without starting a backend, and times it from one epoch."""

import dataclasses
import math
import time
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from flipjax.config import Config, ConfigError, Experiment, ModelSpec, PopulationSpec
from flipjax.data import store, tfds
from flipjax.methods import Knobs
from flipjax.models.weights import file_of
from flipjax.plan import Program, restrict
from flipjax.support.terminal import clock
from flipjax.sweep.program import epoch_work, layout_of
from flipjax.training import devices, population
from flipjax.training.member import Member, State, init_state
from flipjax.training.optimise import Recipe
from flipjax.training.task import (
    Task,
    check_sizes_of,
    make_members,
    make_task,
    starting_weights,
    training_size,
)

# Most numbers of an axis that are listed.
LISTED = 7


def describe_plan(programs: Sequence[Program]) -> list[str]:
    """Returns the lines that describe a plan."""
    lines = [line for program in programs for line in describe_program(program)]
    members = sum(len(program.settings) for program in programs)
    return [*lines, f"programs to compile: {len(programs)}; members: {members}; nothing was trained"]


def check_pools(programs: Sequence[Program]) -> list[str]:
    """Returns a line for each program whose pool is too small; raises ConfigError where the sweep would."""
    lines = []
    for program in programs:
        try:
            check_sizes_of(program)
        except ConfigError:
            raise
        except ValueError as error:
            lines.append(f"program {program.name} would fail: {error}")
    return lines


def time_plan(programs: Sequence[Program], config: Config) -> list[str]:
    """Trains an epoch of each program on as many members as run at once; returns lines with the time of all."""
    spec, lines, total = PopulationSpec(**config.population), [], 0.0
    for program in programs:
        loaded, task = make_task(program)
        split = dataclasses.replace(loaded.experiment.split, n_train=training_size(loaded, task.catalog, task.split))
        loaded = dataclasses.replace(loaded, experiment=dataclasses.replace(loaded.experiment, split=split))
        seconds = epoch_seconds(loaded, spec, task)
        evaluations = len(program.settings) * evaluation_work(loaded, config) / epoch_work(loaded)
        needed = seconds * (sum(program.epochs) + evaluations)
        lines.append(f"program {program.name}: {seconds:.3f} s for an epoch of a member, {clock(needed)} for all")
        total += needed
    return [*lines, f"time: {clock(total)} at most for training and evaluation, without compilation and the page"]


def epoch_seconds(program: Program, spec: PopulationSpec, task: Task) -> float:
    """Returns the seconds of an epoch, per member, from the second epoch of as many members as run at once."""
    count, train = len(program.settings), program.experiment.train
    layout = layout_of(program, spec, members=count)
    size = min(count, layout.devices * layout.width)
    members = make_members(restrict(program, [program.names[place * count // size] for place in range(size)]), task)
    longer = dataclasses.replace(train, epochs=max(2, train.epochs), patience=max(2, train.patience))
    experiment = dataclasses.replace(program.experiment, train=longer)
    current = population.create(experiment, layout, members, start=starting_weights(experiment))
    shared = devices.replicate(layout, (task.pool, task.tables["val"]))
    # The first one includes the compilation.
    current, _ = population.run_epoch(current, *shared)
    start = time.perf_counter()
    population.run_epoch(current, *shared)
    return (time.perf_counter() - start) / size


def evaluation_work(program: Program, config: Config) -> int:
    """Returns the work of evaluating a member after training, in the unit of `epoch_work`."""
    spec, wanted = program.experiment, config.intervene
    draws = {"none": 0, "mean": 1, "sampled": 1, "both": 2}[wanted.scenes]
    passes = len(spec.train.selection) + 3 * (wanted.scores == "all") + 2 * draws * spec.groups.scenes
    return passes * (spec.split.n_val + spec.split.n_test) * spec.pool.size**2


def describe_program(program: Program) -> list[str]:
    """Returns lines with a program's members, model, steps and, as far as known, memory."""
    spec = program.experiment
    count = len(program.settings)
    axes = {name: list(dict.fromkeys(s.axes[name] for s in program.settings)) for name in program.settings[0].axes}
    if spec.split.n_train:
        steps = [epochs * (spec.split.n_train // spec.train.batch_size) for epochs in program.epochs]
        work = f"{max(steps)} steps of {spec.train.batch_size} a member at most, {sum(steps)} in all"
    else:
        work = f"{max(program.epochs)} epochs a member at most, over the largest n_train that every rho allows"
    state = state_shapes(spec)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(state.weights.params))
    states = count * sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    unknown = "read at the start" if spec.pool.name == "folder" else "no such data set yet"
    size = pool_bytes(program)
    pool = f"not counted ({unknown})" if size is None else f"{megabytes(size)}, shared"
    return [
        f"program {program.name}: {count} members, "
        + ", ".join(f"{name} {_brief(values)}" for name, values in axes.items()),
        f"  model {_name_of(spec.model)}: {parameters:,} parameters",
        f"  work: {work}",
        f"  memory: pool {pool}; states {megabytes(states)}; --dry_run=compiled asks the compiler what training takes",
    ]


def _brief(values: Sequence) -> str:
    """Returns the values of an axis that methods use, or the range of many numbers."""
    used = [value for value in values if value is not None]
    if len(used) > LISTED and not isinstance(used[0], str):
        return f"({len(used)} values, {min(used):.3g} to {max(used):.3g})"
    return f"({', '.join(value if isinstance(value, str) else f'{value:.6g}' for value in used)})"


def state_shapes(experiment: Experiment) -> State:
    """Returns the state of a member as shapes."""

    def start() -> State:
        rows = jnp.zeros((experiment.split.n_train, 2), jnp.int32)
        return init_state(experiment, Member(jax.random.key(0), rows, rows[:, 0], Recipe(learning_rate=0.0), Knobs()))

    return jax.eval_shape(start)


def pool_bytes(program: Program) -> int | None:
    """Returns the size of a program's pool on a device, or None if it must be read or prepared first."""
    pool, groups = program.experiment.pool, program.experiment.groups
    if pool.name != "synthetic":
        return tfds.stored_bytes(pool)
    counts = groups.classes * pool.objects, groups.scenes * pool.scenes
    return sum(map(math.prod, store.drawn_shapes(pool, *counts).values()))


def _name_of(model: ModelSpec) -> str:
    if model.build:
        return model.title
    if model.name == "unet":
        return f"unet, width {model.width}, depth {model.depth}"
    lacking = " (no such file yet)" if model.weights and not file_of(model.weights).is_file() else ""
    return f"{model.name} in {model.dtype}, weights {model.weights or 'drawn afresh'}{lacking}"


def megabytes(count: int) -> str:
    """Formats a number of bytes.

    Example:
        >>> megabytes(1_500_000)
        '1.5 MB'
    """
    return f"{count / 1e6:,.1f} MB"
