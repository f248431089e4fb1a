"""The layout of a program's members, and the programs that a run compiles before it needs them."""

import dataclasses
import functools
from collections.abc import Callable

import jax

from flipjax.config import PopulationSpec
from flipjax.config.program import Program, restrict
from flipjax.training.member import init_state
from flipjax.training.population import devices, fastest
from flipjax.training.population import epochs as population_run
from flipjax.training.population import members as population
from flipjax.training.task import Task, make_members, starting_weights


def layout_of(program: Program, spec: PopulationSpec, *, members: int) -> devices.Layout:
    """Returns the layout for a number of a program's members."""
    experiment = program.experiment
    return devices.make_layout(
        spec, members=members, model=experiment.model.title, batch_size=experiment.train.batch_size
    )


def with_library(spec: PopulationSpec, program: Program, task: Task) -> PopulationSpec:
    """Returns `spec` with the library of a program's convolutions in place of `auto`.

    Args:
        spec: of the population.
        program: with all of its members: what is left of a run makes no other choice than the whole.
        task: of the program.

    Raises:
        ConfigError: oneDNN is asked for and absent.
    """
    n_train = task.parts.training_size(program.rhos)
    return dataclasses.replace(spec, convolutions=devices.library_of(program, spec, n_train=n_train))


def with_form(spec: PopulationSpec, program: Program, task: Task, *, say: Callable[[str], object]) -> PopulationSpec:
    """Returns `spec` with the form in which members train in place of one that is to be measured here.

    Args:
        spec: of the population, with a library of convolutions.
        program: with the members that this process trains.
        task: of the program.
        say: takes the line on what was measured, if anything was.

    Raises:
        ConfigError: the model has no packed form.
    """
    form = devices.known_form(spec, model=program.experiment.model.title)
    if form is None:
        start = starting_weights(program.experiment, task.pool)
        members = make_members(program, task)
        choice = fastest.fastest_form(
            program.experiment, members, spec, pool=task.pool, table=task.tables["val"], start=start
        )
        say(f"program {program.name}: {choice.line}")
        form = choice.form
    return dataclasses.replace(spec, map=form)


def compile_epoch(program: Program, spec: PopulationSpec, task: Task, *, members: int) -> jax.stages.Compiled:
    """Compiles an epoch of `members` members, without allocating arrays; thread-safe, and the run reuses it."""
    experiment = program.experiment
    layout = layout_of(program, spec, members=members)
    shared = devices.shapes_of(layout, (task.pool, task.tables["val"]))
    member = make_members(restrict(program, program.names[:1]), task)[0]
    one = member, jax.eval_shape(functools.partial(init_state, experiment), member)
    stacked = devices.shapes_of(layout, one, members=members)
    return population_run.epoch_program(layout).lower(experiment, layout, *stacked, *shared).compile()


def compile_start(program: Program, task: Task) -> None:
    """Compiles the initial state of a member, as the run makes it."""
    member = make_members(restrict(program, program.names[:1]), task)[0]
    start = starting_weights(program.experiment, task.pool)
    population.start_program().lower(program.experiment, member, start).compile()
