"""What a trained cell leaves behind: decompositions, a gallery, and the rows of results.csv."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flipjax import results
from flipjax.config import Config
from flipjax.data.pool import gather
from flipjax.plan import Cell, select
from flipjax.results import gallery
from flipjax.sweep.program import Material
from flipjax.sweep.workdir import Workdir
from flipjax.training import dfr, population
from flipjax.training.epoch import refits
from flipjax.training.member import State, Status, Weights
from flipjax.training.predict import predict


def finish(
    cell: Cell,
    config: Config,
    material: Material,
    layout: population.Layout,
    current: population.Population,
    workdir: Workdir,
) -> None:
    """Evaluates what each rule selected of every member; writes decompositions, the gallery and, last, the rows."""
    folder, rules = workdir.cell(cell), cell.experiment.train.selection
    if "dfr" in cell.experiment.machinery:
        shared = population.share(layout, (material.pool, material.tables["val"].rows))
        current = dfr.refit_heads(cell.experiment, layout, current, *shared)
    parts = {}
    for part, table in material.tables.items():
        shared = population.share(layout, (material.pool, table.rows))
        found = population.decompose(cell.experiment, layout, current, *shared)
        parts[part] = results.Part(found.confusion, found.risk_sum, table.groups, table.pairs, table.rows)
    names = ("background", *material.catalog.class_names)
    stored = results.StoredCell(cell.names, rules, names, material.catalog.scene_names, parts)
    results.save_cell(folder / "decomposition.npz", stored)
    states = population.states_of(current)
    chosen = select(cell, rho=config.gallery.rho)
    weights = population.take_member(states.best[rules[0]].weights, chosen)
    _save_gallery(cell, config, material, stored, chosen, weights, workdir)
    results.write_csv(folder / "results.csv", _rows(cell, material, stored, states))


def _rows(cell: Cell, material: Material, stored: results.StoredCell, states: State) -> list[results.Row]:
    rows = []
    for index, setting in enumerate(cell.settings):
        leading = {"member": setting.name, **setting.axes}
        for rule in stored.selections:
            trailing = {
                "status": Status(int(states.status[index])).name.lower(),
                "epochs": int(states.epoch[index]),
                "best_epoch": int(states.best[rule].epoch[index]),
                "selection": rule,
            }
            for part, table in material.tables.items():
                found, groups = stored.decomposition(setting.name, part, selection=rule), table.groups
                if part == "val" and setting.knobs.dfr:
                    # The other images fitted the head.
                    rest = ~refits(len(groups))
                    found, groups = jax.tree.map(lambda leaf, rest=rest: leaf[rest], found), groups[rest]
                # A rule that never had a value kept no epoch.
                kept = found if trailing["best_epoch"] else None
                names = stored.class_names
                rows += results.member_rows(leading | trailing, kept, groups, part=part, class_names=names)
    return rows


def _save_gallery(
    cell: Cell,
    config: Config,
    material: Material,
    stored: results.StoredCell,
    chosen: int,
    weights: Weights,
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
        logits = predict(cell.experiment, weights, material.pool, rows)
        made = gallery.make(images, labels, logits, groups=table.groups[indices], kinds=kinds, member=name)
        gallery.save(workdir.cell(cell) / "gallery.npz", made)


def failed_rows(cell: Cell, class_names: Sequence[str]) -> list[dict[str, Any]]:
    """Returns the rows of a cell that failed: its members with blank measures."""
    none = np.zeros(0, np.int32)
    blank: dict[str, Any] = {"status": "failed", "epochs": 0, "best_epoch": 0}
    members = [
        {"member": setting.name, **setting.axes, **blank, "selection": rule}
        for setting in cell.settings
        for rule in cell.experiment.train.selection
    ]
    return [
        row
        for member in members
        for row in results.member_rows(member, None, none, part="test", class_names=class_names)
    ]
