"""Trains the members of one program, epoch by epoch, with a checkpoint after each."""

from collections.abc import Callable, Sequence

import numpy as np

from flipjax.backend.memory import trim
from flipjax.config import PopulationSpec
from flipjax.config.program import Program
from flipjax.results.arrays import Curves
from flipjax.support.arrays import Array, PyTree
from flipjax.support.terminal import Bar, Signals
from flipjax.sweep.duration import epoch_work
from flipjax.sweep.folder.workdir import Workdir
from flipjax.sweep.programs import layout_of
from flipjax.training import task as tasks
from flipjax.training.epoch.validation import Validation
from flipjax.training.member import State, Status
from flipjax.training.network.forward import names_in_vectors
from flipjax.training.notes import mirror_notes, missing_group_notes
from flipjax.training.population import devices
from flipjax.training.population import epochs as population_run
from flipjax.training.population import members as population
from flipjax.training.population.stacks import Rows

MEASURES = ("train_loss", *(f"valid_{name}" for name in Validation._fields), "learning_rate")
"""What a curve shows of a member at each epoch, besides the weights of its groups."""


class InterruptedRunError(Exception):
    """The run was asked to stop; its checkpoints are intact."""


def train_members(
    program: Program,
    spec: PopulationSpec,
    task: tasks.Task,
    workdir: Workdir,
    bar: Bar,
    signals: Signals,
    write: Callable[[Curves], object],
    after_epoch: Callable[[int, Curves], object],
) -> population.Population:
    """Trains a program from its latest checkpoint until no member is running; returns the population.

    Args:
        program: of the plan, with all or some of its members.
        spec: how members map to devices.
        task: of the program.
        workdir: where checkpoints go.
        bar: advanced after every epoch.
        signals: end the run after an epoch.
        write: called with the training curves once an epoch's checkpoint is written, and at the end.
        after_epoch: called then with the number of the epoch, from 1, and the training curves.

    Raises:
        InterruptedRunError: a signal came.
        OSError: the run folder cannot be written to.
    """
    from flipjax.sweep.checkpoint import Checkpoints  # Imported here because it is slow.

    experiment = program.experiment
    layout = layout_of(program, spec, members=len(program.settings))
    members = tasks.make_members(program, task)
    for line in [*mirror_notes(program, task.catalog), *missing_group_notes(program, members)]:
        bar.say(line)
    start = tasks.starting_weights(experiment, task.pool)
    checkpoints = Checkpoints(workdir.checkpoints_of(program), identity=f"{program.identity}/{program.part}")
    budgets = np.array(program.epochs)
    work = epoch_work(program)
    columns = [*MEASURES, *(f"group_weight_{group}" for group in range(experiment.groups.count))]
    # NaN in the epochs that a member does not run.
    history = np.full((len(budgets), max(budgets), len(columns)), np.nan, np.float32)
    epoch = 0
    stored: list[State | None] = [None]
    shapes = population.state_shapes(experiment, members, start)
    restored = checkpoints.restore(_named(history, shapes), say=bar.say)
    if restored is not None:
        epoch, fields = restored
        history = fields.pop("history")
        stored = [State(**fields)]
        del restored, fields
    # The states are popped: no name here holds them, so that `create` frees what it has copied.
    current = population.create(experiment, layout, members, stored.pop(), start)
    if epoch:
        bar.say(f"program {program.name}: continues after epoch {epoch}")
        bar.skip(work * int(budgets.sum() - (budgets - epoch)[current.status == Status.RUNNING].sum()))
    shared = devices.replicate(layout, (task.pool, task.tables["val"]))
    bar.begin()
    while (current.status == Status.RUNNING).any():
        if signals.stop:
            raise InterruptedRunError
        active = current.status == Status.RUNNING
        current, record = population_run.run_next_epoch(current, *shared)
        history[:, epoch] = np.column_stack([*(record[name] for name in MEASURES), record["group_weights"]])
        epoch += 1
        if "jtt_epochs" in experiment.active_knobs:
            current = population_run.start_second_runs(current, task.pool, start)
        states = population.states_of(current)
        workdir.verify()
        checkpoints.save(epoch, _named(history, states), names=names_in_vectors(experiment))
        trim()
        curves = curves_of(program, columns, history, states.epoch)
        write(curves)
        ended = active & (current.status != Status.RUNNING)
        bar.skip(work * int((budgets - epoch)[ended].sum()))
        note = epoch_note(
            program,
            epoch,
            current.status,
            cross_entropy=record["valid_cross_entropy"][active],
            worst_group_iou=record["valid_worst_group_iou"][active],
        )
        bar.advance(work * int(active.sum()), note, last=not (current.status == Status.RUNNING).any())
        after_epoch(epoch, curves)
    # Once more: a run killed right after its last checkpoint has not written them.
    write(curves_of(program, columns, history, population.states_of(current).epoch))
    bar.say(f"program {program.name}: trained; evaluating {len(program.names)} members")
    return current


def _named(history: np.ndarray, states: State) -> dict[str, PyTree]:
    """Returns what a checkpoint holds: the fields of the states, and the training curves."""
    return {"history": history, **vars(states)}


def epoch_note(
    program: Program, epoch: int, status: np.ndarray, *, cross_entropy: np.ndarray, worst_group_iou: np.ndarray
) -> str:
    """Returns the progress note of an epoch, from all members' status (K,) and validation (R,) of those that ran.

    Both numbers have one scale for all methods, so that their means mean something; losses of methods have not. The
    means leave out diverged members, whose cross-entropy is not finite.
    """
    counts = {kind.name.lower(): int((status == kind).sum()) for kind in Status}
    members = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
    finite = np.isfinite(cross_entropy)
    validation = "-"
    if finite.any():
        means = cross_entropy[finite].mean(), worst_group_iou[finite].mean()
        validation = "cross-entropy {:.4f}, worst-group IoU {:.3f}".format(*means)
    return f"program {program.name}, epoch {epoch}/{max(program.epochs)}: {members}; mean validation {validation}"


def curves_of(program: Program, columns: Sequence[str], history: np.ndarray, epochs: Array | Rows) -> Curves:
    """Returns the training curves of a program from values (K, epochs, columns) and the epochs that members ran."""
    return Curves(
        member=np.array(program.names),
        epochs=np.array(epochs[:]),
        measure=np.array(columns),
        curves=history.astype(np.float64),
    )
