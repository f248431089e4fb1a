"""One cell of a sweep: pool, tables, training with a checkpoint after every epoch, decompositions, rows."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flipjax import losses, population, results
from flipjax.checkpoint import Checkpoints
from flipjax.config import METHODS, Config, ConfigError, ModelSpec, PopulationSpec
from flipjax.data import POOLS
from flipjax.data.correlation import Split, Table, evaluation_table, largest_n_train, split_pool, training_table
from flipjax.data.pool import Catalog, Pool, gather
from flipjax.evaluate import predict
from flipjax.models import weights
from flipjax.models.smp import WeightsError
from flipjax.plan import Cell, select
from flipjax.progress import Display
from flipjax.report import gallery
from flipjax.train import NUM_CLASSES, NUM_GROUPS, Member, State, Status
from flipjax.workdir import Workdir

SELECTION = "val_loss"


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
    """Returns parameters and statistics of the folder that `model.weights` names, or none of either.

    Args:
      model: of the experiment.
      whole: whether an encoder alone is an error.

    Raises:
      ConfigError: if the folder does not hold weights of the model.
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
                learning_rate=jnp.float32(axes["learning_rate"]),
                knobs=losses.Knobs(*map(jnp.float32, losses.Knobs(**METHODS[axes["method"]]))),
            )
        )
    return members


def blank_history(cell: Cell) -> dict[str, np.ndarray]:
    """Returns the records of no epoch yet: leaves (K, epochs, ...) float32, NaN."""
    shape = (len(cell.settings), cell.experiment.train.epochs)
    blank = {name: np.full(shape, np.nan, np.float32) for name in ("train_loss", "valid_loss")}
    return blank | {"group_weights": np.full((*shape, NUM_GROUPS), np.nan, np.float32)}


def history_rows(cell: Cell, history: dict[str, np.ndarray], epochs: np.ndarray) -> list[dict[str, Any]]:
    """Returns the rows of history.csv: one for each epoch that a member ran, of which `epochs` (K,) is the number."""
    return [
        {
            "member": setting.name,
            "epoch": epoch + 1,
            **{name: float(history[name][index, epoch]) for name in ("train_loss", "valid_loss")},
            "learning_rate": setting.axes["learning_rate"],
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
    layout = population.make_layout(spec, members=len(cell.settings))
    members = make_members(cell, material)
    current = population.create(cell.experiment, layout, members, start=starting_weights(cell.experiment.model))
    checkpoints = Checkpoints(workdir.checkpoints(cell))
    history, epochs, epoch = blank_history(cell), cell.experiment.train.epochs, 0
    stored = checkpoints.restore((population.states_of(current), history))
    if stored:
        epoch, (states, history) = stored
        current = population.create(cell.experiment, layout, members, states)
        running = int((current.status == Status.RUNNING).sum())
        display.say(f"cell {cell.name}: continues after epoch {epoch}")
        display.skip(len(members) * epochs - running * (epochs - epoch))
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
        states = population.states_of(current)
        checkpoints.save(epoch, (states, history))
        results.write_csv(workdir.cell(cell) / "history.csv", history_rows(cell, history, np.asarray(states.epoch)))
        after_epoch()
        display.epoch(cell.name, epoch, epochs, current.status[ran], current.status, record["valid_loss"][ran])
    checkpoints.close()
    return layout, current


def finish(
    cell: Cell,
    config: Config,
    material: Material,
    layout: population.Layout,
    current: population.Population,
    workdir: Workdir,
) -> None:
    """Evaluates the best parameters of every member and writes the decompositions, the gallery and, last, the rows."""
    folder, catalog = workdir.cell(cell), material.catalog
    class_names = ("background", *catalog.class_names)
    parts = {}
    for part, table in material.tables.items():
        found = population.decompose(
            cell.experiment, layout, current, *population.share(layout, (material.pool, table.rows))
        )
        parts[part] = results.Part(found.confusion, found.risk_sum, table.groups, table.pairs, table.rows)
    stored = results.Cell(cell.names, class_names, catalog.scene_names, parts)
    results.save_cell(folder / "decomposition.npz", stored)
    states = population.states_of(current)
    chosen = select(cell, rho=config.gallery.rho)
    _save_gallery(cell, config, material, stored, chosen, population.take_member(states, chosen), workdir)
    rows = []
    for index, setting in enumerate(cell.settings):
        leading = {"member": setting.name, **setting.axes}
        trailing = {
            "status": Status(int(states.status[index])).name.lower(),
            "epochs": int(states.epoch[index]),
            "best_epoch": int(states.best_epoch[index]),
            "selection": SELECTION,
        }
        for part, table in material.tables.items():
            found = stored.decomposition(setting.name, part)
            rows += results.member_rows(leading | trailing, found, table.groups, part=part, class_names=class_names)
    results.write_csv(folder / "results.csv", rows)


def _save_gallery(
    cell: Cell,
    config: Config,
    material: Material,
    stored: results.Cell,
    chosen: int,
    state: State,
    workdir: Workdir,
) -> None:
    name, table = cell.names[chosen], material.tables["test"]
    indices, kinds = gallery.choose(
        stored.decomposition(name, "test"),
        table.groups,
        riskiest=config.gallery.riskiest,
        typical=config.gallery.typical,
    )
    if len(indices):
        rows = jnp.asarray(table.rows[indices])
        images, labels = gather(material.pool, rows)
        logits = predict(cell.experiment, state, material.pool, rows)
        made = gallery.make(images, labels, logits, groups=table.groups[indices], kinds=kinds, member=name)
        gallery.save(workdir.cell(cell) / "gallery.npz", made)


def failed_rows(cell: Cell, class_names: Sequence[str]) -> list[dict[str, Any]]:
    """Returns the rows of a cell that failed: its members with blank measures."""
    trailing = {"status": "failed", "epochs": 0, "best_epoch": 0, "selection": SELECTION}
    none = np.zeros(0, np.int32)
    members = [{"member": setting.name, **setting.axes, **trailing} for setting in cell.settings]
    return [
        row
        for member in members
        for row in results.member_rows(member, None, none, part="test", class_names=class_names)
    ]
