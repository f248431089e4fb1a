"""Trains one program of a sweep, with a checkpoint after every epoch."""

from collections.abc import Callable
from typing import Any

import numpy as np

from flipjax.backend import trim
from flipjax.config import PopulationSpec
from flipjax.plan import Program
from flipjax.results.frames import Row
from flipjax.support.terminal import Bar, Signals
from flipjax.sweep.checkpoint import Checkpoints
from flipjax.sweep.workdir import Workdir
from flipjax.training import devices, population
from flipjax.training.member import Status
from flipjax.training.run import Validation
from flipjax.training.task import Task, make_members, starting_weights

MEASURES = ("train_loss", *(f"valid_{name}" for name in Validation._fields), "learning_rate")


class InterruptedRunError(Exception):
    """The run was asked to stop; its checkpoints are intact."""


def blank_history(program: Program) -> dict[str, np.ndarray]:
    """Returns an empty history: leaves (K, epochs, ...) float32, all NaN."""
    shape = (len(program.settings), max(program.epochs))
    blank = {name: np.full(shape, np.nan, np.float32) for name in MEASURES}
    return blank | {"group_weights": np.full((*shape, program.experiment.groups.count), np.nan, np.float32)}


def history_rows(program: Program, history: dict[str, np.ndarray], epochs: Any) -> list[Row]:
    """Returns the rows of history.csv, one per epoch that a member ran; `epochs` (K,) counts these."""
    rows = []
    for index, setting in enumerate(program.settings):
        for epoch in range(epochs[index]):
            row = {"member": setting.name, "epoch": epoch + 1}
            row |= {name: float(history[name][index, epoch]) for name in MEASURES}
            row |= {f"group_weight_{g}": float(w) for g, w in enumerate(history["group_weights"][index, epoch])}
            rows.append(row)
    return rows


def epoch_note(program: Program, epoch: int, status: np.ndarray, losses: np.ndarray) -> str:
    """Returns the progress note of an epoch, from all members' status (K,) and the losses (R,) of those that ran.

    The mean leaves out non-finite losses of diverged members.
    """
    counts = {kind.name.lower(): int((status == kind).sum()) for kind in Status}
    members = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
    finite = losses[np.isfinite(losses)]
    mean = f"{finite.mean():.4f}" if finite.size else "-"
    return f"program {program.name}, epoch {epoch}/{max(program.epochs)}: {members}; mean validation loss {mean}"


def layout_of(program: Program, spec: PopulationSpec, *, members: int) -> devices.Layout:
    """Returns the layout for a number of a program's members."""
    experiment = program.experiment
    batch_size = experiment.train.batch_size
    return devices.make_layout(spec, members=members, model=experiment.model.title, batch_size=batch_size)


def epoch_work(program: Program) -> int:
    """Returns the work of a member's epoch in pixels evaluated, three for each pixel trained on."""
    spec = program.experiment
    return (3 * spec.split.n_train + spec.split.n_val) * spec.pool.size**2


def train(
    program: Program, spec: PopulationSpec, task: Task, workdir: Workdir, bar: Bar, signals: Signals, write: Callable
) -> tuple[population.Population, list[Row]]:
    """Trains a program from its latest checkpoint until no member is running; returns the population and its history.

    Args:
      program: of the plan.
      spec: how members map to devices.
      task: of the program.
      workdir: where checkpoints go.
      bar: advanced after every epoch.
      signals: end the run after an epoch.
      write: called with the history rows once an epoch's checkpoint is written.

    Raises:
      InterruptedRunError: a signal came.
      OSError: the run folder cannot be written to.
    """
    layout = layout_of(program, spec, members=len(program.settings))
    members = make_members(program, task)
    start = starting_weights(program.experiment)
    checkpoints = Checkpoints(workdir.checkpoints_of(program), identity=f"{program.identity}/{program.part}")
    history = blank_history(program)
    budgets, work = np.array(program.epochs), epoch_work(program)
    like = [history, population.blank(program.experiment, members, start)]
    epoch, stored = checkpoints.restore(like, say=bar.say) or (0, [history, None])
    # Popped, so that `create` frees what it has copied.
    current = population.create(program.experiment, layout, members, stored.pop(), start)
    history = stored.pop()
    if epoch:
        bar.say(f"program {program.name}: continues after epoch {epoch}")
        bar.skip(work * int(budgets.sum() - (budgets - epoch)[current.status == Status.RUNNING].sum()))
    shared = devices.replicate(layout, (task.pool, task.tables["val"]))
    bar.begin()
    while (current.status == Status.RUNNING).any():
        if signals.stop:
            checkpoints.close()
            raise InterruptedRunError
        active = current.status == Status.RUNNING
        current, record = population.run_epoch(current, *shared)
        for name, values in record.items():
            history[name][:, epoch] = values
        epoch += 1
        if "jtt_epochs" in program.experiment.active_knobs:
            current = population.start_second_runs(current, task.pool, start)
        states = population.states_of(current)
        workdir.verify()
        checkpoints.save(epoch, [history, states])
        trim()
        write(history_rows(program, history, np.asarray(states.epoch)))
        ended = active & (current.status != Status.RUNNING)
        bar.skip(work * int((budgets - epoch)[ended].sum()))
        note = epoch_note(program, epoch, current.status, record["valid_loss"][active])
        bar.advance(work * int(active.sum()), note, last=not (current.status == Status.RUNNING).any())
    checkpoints.close()
    # Rewrite history.csv: a run killed right after its last checkpoint has not.
    rows = history_rows(program, history, np.asarray(population.states_of(current).epoch))
    write(rows)
    bar.say(f"program {program.name}: trained; evaluating {len(program.names)} members")
    return current, rows
