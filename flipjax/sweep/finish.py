"""What a trained program leaves behind: decompositions, a gallery, and the rows of results.csv."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flipjax import intervene, metrics, results
from flipjax.config import Config
from flipjax.data.pool import gather
from flipjax.plan import Program
from flipjax.results import gallery
from flipjax.results.quantities import PAIR_QUANTITIES, SCENE_QUANTITIES
from flipjax.sweep.program import Study
from flipjax.sweep.workdir import Workdir
from flipjax.training import dfr, placement, population
from flipjax.training.member import State, Status, Weights
from flipjax.training.predict import predict, scene_marginal, scene_marginal_without_scenes

GALLERY_MEMBERS = 6
PAIRS = 2


def finish(
    program: Program,
    config: Config,
    study: Study,
    layout: placement.Layout,
    current: population.Population,
    workdir: Workdir,
    *,
    history: Sequence[results.Row],
    shown: str,
) -> results.StoredCell:
    """Evaluates what each rule selected of every member; writes the gallery and, last, decompositions with all rows.

    Args:
      program: its members, all or a part.
      config: of the run.
      study: of the program.
      layout: of the population.
      current: the trained population.
      workdir: the run folder.
      history: the members' rows of history.csv.
      shown: the member whose images the gallery shows; none where this part has not that member.
    """
    rules = program.experiment.train.selection
    if "dfr" in program.experiment.active_knobs:
        validation = study.tables["val"]
        pool = placement.share(layout, study.pool)
        current = dfr.refit_heads(program.experiment, layout, current, pool, validation.rows, validation.refit)
    parts = {}
    for part, table in study.tables.items():
        shared = placement.share(layout, (study.pool, table.rows))
        decomposition = population.decompose(program.experiment, layout, current, *shared)
        parts[part] = results.Part(
            decomposition.confusion, decomposition.risk_sum, table.groups, table.pairs, table.rows
        )
    if config.intervene.scenes != "none":
        parts = _swap_scenes(program, config, study, layout, current, parts)
    names = ("background", *study.catalog.class_names)
    stored = results.StoredCell(program.names, rules, names, study.catalog.scene_names, parts)
    states = population.states_of(current)
    rows = _rows(program, study, stored, states)
    stored = dataclasses.replace(stored, rows=tuple(rows), history=tuple(history))
    workdir.verify()
    if shown in program.names:
        best = states.best[rules[0]].weights
        galleries = [
            _gallery(program, config, study, stored, name, population.take_member(best, program.names.index(name)))
            for name in gallery_members(program, shown)
        ]
        galleries = [each for each in galleries if len(each.member)]
        if galleries:
            gallery.save(workdir.results_of(program) / "gallery.npz", gallery.concatenate(galleries))
    results.save_cell(workdir.decomposition_of(program), stored)
    return stored


def _swap_scenes(
    program: Program,
    config: Config,
    study: Study,
    layout: placement.Layout,
    current: population.Population,
    parts: dict[str, results.Part],
) -> dict[str, results.Part]:
    """Returns the parts with each member's log-odds on other scenes, and its split point on the validation images."""
    pool = study.pool
    if pool.kind == "composite":
        function, last = scene_marginal, mean_training_scenes(study)
    else:
        function, last = scene_marginal_without_scenes, jnp.asarray(study.tables["val"].rows)
    log_odds = {}
    for part, table in study.tables.items():
        shared = placement.share(layout, (pool, table.rows, last))
        log_odds[part] = population.map_selected(program.experiment, layout, current, function, *shared)
    split = functools.partial(intervene.split_point, center=config.intervene.center)
    centers = np.asarray(jax.jit(jax.vmap(jax.vmap(split)))(log_odds["val"]))
    return {
        name: dataclasses.replace(part, scene_log_odds=log_odds[name], centers=centers) for name, part in parts.items()
    }


def mean_training_scenes(study: Study) -> jax.Array:
    """Returns the mean of the training scenes of each kind of a composite pool: (2, H, W, channels) float32 in 0..1."""
    scenes = study.split.train.scenes
    kinds = study.catalog.scene_kind[scenes]
    photos = np.asarray(study.pool.scenes)
    means = [photos[scenes[kinds == kind]].mean(0, dtype=np.float64) / 255 for kind in (0, 1)]
    return jnp.stack(means).astype(jnp.float32)


def _rows(program: Program, study: Study, stored: results.StoredCell, states: State) -> list[results.Row]:
    rows = []
    for index, setting in enumerate(program.settings):
        leading = {"member": setting.name, **setting.axes}
        for rule in stored.selections:
            trailing = {
                "status": Status(int(states.status[index])).name.lower(),
                "epochs": int(states.epoch[index]),
                "best_epoch": int(states.best[rule].epoch[index]),
                "selection": rule,
            }
            for part, table in study.tables.items():
                decomposition = stored.decomposition(setting.name, part, selection=rule)
                log_odds = stored.scene_log_odds(setting.name, part, selection=rule)
                center = stored.center(setting.name, selection=rule)
                groups, pairs = table.groups, table.pairs
                if part == "val" and setting.knobs.dfr:
                    # The other images fitted the head.
                    decomposition, log_odds, groups, pairs = jax.tree.map(
                        lambda leaf, rest=~table.refit: leaf[rest], (decomposition, log_odds, groups, pairs)
                    )
                # A rule that never had a value kept no epoch.
                evaluated = decomposition if trailing["best_epoch"] else None
                more = {} if evaluated is None else _more(evaluated, log_odds, center, groups, pairs)
                further = [*(SCENE_QUANTITIES if log_odds is not None else ())]
                further += [*(PAIR_QUANTITIES if study.pool.kind == "composite" else ())]
                names = stored.class_names
                rows += results.member_rows(
                    leading | trailing, evaluated, groups, part=part, class_names=names, more=more, further=further
                )
    return rows


def _more(
    decomposition: metrics.Decomposition,
    log_odds: np.ndarray | None,
    center: np.ndarray | None,
    groups: np.ndarray,
    pairs: np.ndarray,
) -> dict[str, float]:
    """The quantities that `summarize` has not: of swapped scenes, and of pairs."""
    more = {"counterfactual_flip": results.counterfactual_flip(decomposition, pairs)}
    if log_odds is None or center is None:
        return more
    return more | results.scene_quantities(decomposition, log_odds, center, groups)


def gallery_members(program: Program, shown: str) -> list[str]:
    """Returns whose images a gallery shows: `shown`, its like at the lowest rho, and its like of other settings.

    At most GALLERY_MEMBERS; a part of a program has only its own members.
    """
    axes = {setting.name: setting.axes for setting in program.settings}
    same_seed = [name for name in axes if axes[name]["seed"] == axes[shown]["seed"]]
    lowest = min(axes[name]["rho"] for name in same_seed)
    others = [name for name in same_seed if axes[name] == {**axes[shown], "rho": lowest}]
    others += [name for name in same_seed if axes[name]["rho"] == axes[shown]["rho"]]
    return list(dict.fromkeys([shown, *others]))[:GALLERY_MEMBERS]


def _gallery(
    program: Program, config: Config, study: Study, stored: results.StoredCell, name: str, weights: Weights
) -> gallery.Gallery:
    table = study.tables["test"]
    indices, kinds = shown_images(stored, config, name)
    rows = jnp.asarray(table.rows[indices])
    images, labels = gather(study.pool, rows)
    # No image is a program of its own.
    logits = predict(program.experiment, weights, study.pool, rows) if len(indices) else np.zeros((*labels.shape, 3))
    return gallery.make(images, labels, logits, indices=indices, groups=table.groups[indices], kinds=kinds, member=name)


def shown_images(stored: results.StoredCell, config: Config, member: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns which test images of a member the gallery shows, and why; see `flipjax.results.gallery.choose`."""
    test = stored.parts["test"]
    decomposition = stored.decomposition(member, "test")
    riskiest, typical = config.gallery.riskiest, config.gallery.typical
    paired = PAIRS if riskiest or typical else 0
    return gallery.choose(decomposition, test.groups, test.pairs, riskiest=riskiest, typical=typical, paired=paired)


def failed_rows(program: Program, class_names: Sequence[str]) -> list[dict[str, Any]]:
    """Returns the rows of a program that failed: its members with blank measures."""
    none = np.zeros(0, np.int32)
    blank: dict[str, Any] = {"status": "failed", "epochs": 0, "best_epoch": 0}
    members = [
        {"member": setting.name, **setting.axes, **blank, "selection": rule}
        for setting in program.settings
        for rule in program.experiment.train.selection
    ]
    return [
        row
        for member in members
        for row in results.member_rows(member, None, none, part="test", class_names=class_names)
    ]
