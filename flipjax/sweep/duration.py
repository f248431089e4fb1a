"""The time of training and evaluation, from the work of an epoch or from one that is timed."""

import time
from collections.abc import Iterator

from flipjax.config import InterveneSpec, PopulationSpec
from flipjax.config.plan import Plan
from flipjax.config.program import Program, restrict
from flipjax.support.terminal import clock
from flipjax.sweep.programs import layout_of, with_library
from flipjax.training.population import devices
from flipjax.training.population import epochs as population_run
from flipjax.training.population import members as population
from flipjax.training.task import Task, make_members, make_task, starting_weights, training_size

SCENE_DRAWS = {"none": 0, "mean": 1, "sampled": 1, "both": 2}
"""Sets of scenes behind pasted regions, by `config.intervene.scenes`."""
TRAINING_PASSES = 3
"""A training step of an image, in forward passes: one forward, and about two backward."""


def epoch_work(program: Program) -> int:
    """Returns the work of a member's epoch, in pixels evaluated."""
    experiment = program.experiment
    return (TRAINING_PASSES * experiment.split.n_train + experiment.split.n_val) * experiment.pool.size**2


def evaluation_epochs(program: Program, intervene: InterveneSpec, n_train: int) -> float:
    """Returns the work of evaluating a member after training, in epochs."""
    experiment = program.experiment
    passes = len(experiment.train.selection)
    # Each image on a scene is evaluated with its mirror image.
    passes += 2 * SCENE_DRAWS[intervene.scenes] * experiment.groups.scenes
    if intervene.scores == "all":
        # The mirror image, and two fillings of the surroundings.
        passes += 3
    images = experiment.split.n_val + experiment.split.n_test
    return passes * images / (TRAINING_PASSES * n_train + experiment.split.n_val)


def time_plan(plan: Plan) -> Iterator[str]:
    """Trains an epoch of each program on as many members as run at once; yields lines with the time of all."""
    total = 0.0
    for program in plan.programs:
        loaded, task = make_task(program)
        seconds = epoch_seconds(loaded, with_library(plan.population, program, task), task)
        n_train = training_size(loaded, task.parts)
        epochs = sum(program.epochs) + len(program.names) * evaluation_epochs(loaded, plan.intervene, n_train)
        needed = seconds * epochs
        yield f"program {program.name}: {seconds:.3f} s for an epoch of a member, {clock(needed)} for all"
        total += needed
    yield f"time: {clock(total)} at most for training and evaluation, without compilation and the page"


def epoch_seconds(program: Program, spec: PopulationSpec, task: Task) -> float:
    """Returns the seconds of the first epoch, per member, of as many members as run at once."""
    count = len(program.settings)
    layout = layout_of(program, spec, members=count)
    size = min(count, layout.devices * layout.width)
    chosen = [program.names[index * count // size] for index in range(size)]
    members = make_members(restrict(program, chosen), task)
    weights = starting_weights(program.experiment, task.pool)
    shared = devices.replicate(layout, (task.pool, task.tables["val"]))

    def run() -> float:
        current = population.create(program.experiment, layout, members, start=weights)
        begun = time.perf_counter()
        population_run.run_next_epoch(current, *shared)
        return time.perf_counter() - begun

    run()  # Compiles.
    return run() / size
