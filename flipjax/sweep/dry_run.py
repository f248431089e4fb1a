"""Dry runs: describes a plan from shapes alone, without starting a backend."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from flipjax.config import ConfigError, Experiment, ModelSpec
from flipjax.data import store, tfds
from flipjax.methods import Knobs
from flipjax.plan import Program
from flipjax.task import check_sizes_of
from flipjax.training.member import Member, State, init_state
from flipjax.training.optimise import Recipe


def describe_plan(programs: Sequence[Program]) -> list[str]:
    """Returns the lines that describe a plan."""
    lines = [line for program in programs for line in describe_program(program)]
    members = sum(len(program.settings) for program in programs)
    return [*lines, f"programs to compile: {len(programs)}; members: {members}; nothing was trained"]


def check_pools(programs: Sequence[Program]) -> list[str]:
    """Returns a line for each cell whose pool is too small; raises ConfigError where the sweep would."""
    lines = []
    for program in programs:
        try:
            check_sizes_of(program)
        except ConfigError:
            raise
        except ValueError as error:
            lines.append(f"cell {program.name} would fail: {error}")
    return lines


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
        f"cell {program.name}: {count} members, " + ", ".join(f"{name} {values}" for name, values in axes.items()),
        f"  model {_name_of(spec.model)}: {parameters:,} parameters",
        f"  work: {work}",
        f"  memory: pool {pool}; states {megabytes(states)}; --dry_run=compiled asks the compiler what training takes",
    ]


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
    return f"{model.name} in {model.dtype}, weights {model.weights or 'drawn afresh'}"


def megabytes(count: int) -> str:
    """Formats a number of bytes.

    Example:
        >>> megabytes(1_500_000)
        '1.5 MB'
    """
    return f"{count / 1e6:,.1f} MB"
