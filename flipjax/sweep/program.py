"""One cell of a sweep: pool, tables, members, and training with a checkpoint after every epoch."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flipjax import results
from flipjax.config import ConfigError, ModelSpec, PopulationSpec
from flipjax.data import POOLS
from flipjax.data.correlation import Split, Table, evaluation_table, largest_n_train, split_pool, training_table
from flipjax.data.pool import Catalog, Pool
from flipjax.methods import Knobs
from flipjax.models import weights
from flipjax.models.smp import WeightsError
from flipjax.plan import Cell
from flipjax.sweep.checkpoint import Checkpoints
from flipjax.sweep.display import Display
from flipjax.sweep.workdir import Workdir
from flipjax.training import jtt, population
from flipjax.training.member import NUM_CLASSES, NUM_GROUPS, Member, State, Status
from flipjax.training.optimise import Recipe

MEASURES = ("train_loss", "valid_loss", "valid_worst_group_iou", "valid_flip", "valid_risk", "learning_rate")


class InterruptedRunError(Exception):
    """The run was asked to stop; its checkpoints are whole."""


class Material(NamedTuple):
    """What a cell trains and is tested on."""

    pool: Pool
    catalog: Catalog
    split: Split
    tables: dict[str, Table]


def load(cell: Cell) -> Material:
    """Returns the cell's pool and its validation and test tables; errors as of the pool and of the split."""
    spec = cell.experiment
    pool, catalog = POOLS[spec.pool.name](spec.pool)
    split = split_pool(catalog, n_val=spec.split.n_val, n_test=spec.split.n_test, seed=spec.split.seed)
    tables = {part: evaluation_table(catalog, split, part) for part in results.PARTS}
    return Material(pool, catalog, split, tables)


def starting_weights(model: ModelSpec, *, whole: bool = False) -> tuple[Any, Any]:
    """Returns parameters and statistics of the file that `model.weights` names, or none of either.

    Args:
      model: of the experiment.
      whole: whether an encoder alone is an error.

    Raises:
      ConfigError: if the file does not hold weights of the model.
    """
    if not model.weights:
        return {}, {}
    try:
        return weights.load(
            model.weights, encoder=model.name.removeprefix("smp_"), num_classes=NUM_CLASSES, whole=whole
        )
    except WeightsError as error:
        raise ConfigError(f"config.model.weights: {error}") from error


def make_members(cell: Cell, material: Material) -> list[Member]:
    """Returns the members: one key a seed, whatever the rho, so that levels differ in their tables alone."""
    wanted = cell.experiment.split.n_train or largest_n_train(material.catalog, material.split, rhos=cell.rhos)
    batch_size = cell.experiment.train.batch_size
    if wanted < batch_size:
        raise ConfigError(
            f"config.train.batch_size: expected at most n_train ({wanted}, the largest that every rho allows); "
            f"found {batch_size}"
        )
    members = []
    for setting in cell.settings:
        axes = setting.axes
        table = training_table(material.catalog, material.split, rho=axes["rho"], seed=axes["seed"], n_train=wanted)
        members.append(
            Member(
                key=jax.random.key(axes["seed"]),
                rows=jnp.asarray(table.rows),
                groups=jnp.asarray(table.groups),
                recipe=Recipe(*map(jnp.float32, recipe_of(axes))),
                knobs=Knobs(*map(jnp.float32, setting.knobs)),
            )
        )
    return members


def recipe_of(axes: Mapping[str, Any]) -> Recipe:
    """Returns what the axes say of the optimiser, as numbers."""
    named = {name: axes[name] for name in ("learning_rate", "weight_decay", "warmup", "clip_norm")}
    return Recipe(**named, cosine=float(axes["schedule"] == "cosine"))


def check_pool(cell: Cell, catalog: Catalog) -> None:
    """Raises ConfigError where a method cannot run on the cell's pool."""
    if "swap" in cell.experiment.machinery and catalog.kind != "composite":
        raise ConfigError("config.axes.method: bg_swap expects a composite pool, whose scenes can change; found photos")


LACKING = {
    "cutmix": "its images take a random colour instead of a partner's background",
    "balanced": "batches are drawn evenly over the groups that there are",
    "dro": "its weight stays as it is",
}
"""What a knob does where the training set lacks a group."""


def lacking(cell: Cell, members: Sequence[Member]) -> list[str]:
    """Returns a line for each method whose members at some rho lack a group that it is about."""
    found: dict[tuple[str, str], set[float]] = {}
    for setting, member in zip(cell.settings, members, strict=True):
        if np.bincount(member.groups, minlength=NUM_GROUPS).min() == 0:
            for knob in LACKING:
                if getattr(setting.knobs, knob) > 0:
                    found.setdefault((setting.axes["method"], knob), set()).add(setting.axes["rho"])
    return [
        f"{method} at rho {', '.join(map(str, sorted(rhos)))}: a group has no training image; {LACKING[knob]}"
        for (method, knob), rhos in found.items()
    ]


def blank_history(cell: Cell) -> dict[str, np.ndarray]:
    """Returns the records of no epoch yet: leaves (K, epochs, ...) float32, NaN."""
    shape = (len(cell.settings), max(cell.epochs))
    blank = {name: np.full(shape, np.nan, np.float32) for name in MEASURES}
    return blank | {"group_weights": np.full((*shape, NUM_GROUPS), np.nan, np.float32)}


def history_rows(cell: Cell, history: dict[str, np.ndarray], epochs: np.ndarray) -> list[dict[str, Any]]:
    """Returns the rows of history.csv: one for each epoch that a member ran, of which `epochs` (K,) is the number."""
    return [
        {
            "member": setting.name,
            "epoch": epoch + 1,
            **{name: float(history[name][index, epoch]) for name in MEASURES},
            **{f"group_weight_{g}": float(w) for g, w in enumerate(history["group_weights"][index, epoch])},
        }
        for index, setting in enumerate(cell.settings)
        for epoch in range(epochs[index])
    ]


def train(
    cell: Cell,
    spec: PopulationSpec,
    material: Material,
    workdir: Workdir,
    *,
    display: Display,
    stopping: Callable[[], bool],
    after_epoch: Callable[[], Any],
) -> tuple[population.Layout, population.Population]:
    """Trains the cell's members from its latest checkpoint until none is running.

    Args:
      cell: of the plan.
      spec: how members map to devices.
      material: of the cell.
      workdir: where checkpoints and history go.
      display: told of every epoch.
      stopping: asked after every epoch; True ends the run.
      after_epoch: called when an epoch's checkpoint and history are written.

    Raises:
      InterruptedRunError: when `stopping` said so.
    """
    check_pool(cell, material.catalog)
    layout = population.make_layout(spec, members=len(cell.settings))
    members = make_members(cell, material)
    for line in lacking(cell, members):
        display.say(f"cell {cell.name}: {line}")
    start = starting_weights(cell.experiment.model)
    current = population.create(cell.experiment, layout, members, start=start)
    checkpoints = Checkpoints(workdir.checkpoints(cell))
    history, budgets, epoch = blank_history(cell), np.array(cell.epochs), 0
    stored = checkpoints.restore((population.states_of(current), history))
    if stored:
        epoch, (states, history) = stored
        current = population.create(cell.experiment, layout, members, states)
        display.say(f"cell {cell.name}: continues after epoch {epoch}")
        display.skip(int(budgets.sum() - (budgets - epoch)[current.status == Status.RUNNING].sum()))
    validation = material.tables["val"]
    shared = population.share(layout, (material.pool, validation.rows, validation.groups))
    while (current.status == Status.RUNNING).any():
        if stopping():
            checkpoints.close()
            raise InterruptedRunError
        ran = current.status == Status.RUNNING
        current, record = population.run_epoch(cell.experiment, layout, current, *shared)
        for name, values in record.items():
            history[name][:, epoch] = values
        epoch += 1
        if "jtt_epochs" in cell.experiment.machinery:
            current = jtt.start_second_runs(cell.experiment, layout, current, material.pool, start)
        states = population.states_of(current)
        checkpoints.save(epoch, (states, history))
        _write_history(cell, workdir, history, states)
        after_epoch()
        ended = ran & (current.status != Status.RUNNING)
        freed, losses = int((budgets - epoch)[ended].sum()), record["valid_loss"][ran]
        display.epoch(cell.name, epoch, max(cell.epochs), current.status, losses, freed=freed)
    checkpoints.close()
    # Once more: a run that was killed behind its last checkpoint has not written it yet.
    _write_history(cell, workdir, history, population.states_of(current))
    after_epoch()
    return layout, current


def _write_history(cell: Cell, workdir: Workdir, history: dict[str, np.ndarray], states: State) -> None:
    results.write_csv(workdir.cell(cell) / "history.csv", history_rows(cell, history, np.asarray(states.epoch)))
