"""The time of training and evaluation, from the work of an epoch or from one that is timed."""

import dataclasses
import time

from flipjax.config import InterveneSpec, PopulationSpec
from flipjax.config.program import Program, restrict
from flipjax.sweep.programs import layout_of
from flipjax.training.population import devices
from flipjax.training.population import epochs as population_run
from flipjax.training.population import members as population
from flipjax.training.task import Task, make_members, starting_weights, training_size

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


@dataclasses.dataclass(frozen=True)
class Duration:
    """The seconds that a program needs, without compilation."""

    epoch: float
    """An epoch of one member."""
    total: float
    """Training and evaluation of all members, at most."""


def time_program(program: Program, intervene: InterveneSpec, spec: PopulationSpec, task: Task) -> Duration:
    """Trains an epoch of as many members of a program as run at once, and returns the time of all."""
    seconds = epoch_seconds(program, spec, task)
    n_train = training_size(program, task.parts)
    epochs = sum(program.epochs) + len(program.names) * evaluation_epochs(program, intervene, n_train)
    return Duration(seconds, seconds * epochs)


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
