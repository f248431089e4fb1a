"""What a trained program leaves behind: decompositions, a gallery, and the rows of results.csv."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flipjax import intervene, metrics
from flipjax.config import Config
from flipjax.data.pool import gather
from flipjax.groups import Groups
from flipjax.metrics import Decomposition
from flipjax.plan import Program
from flipjax.results import gallery
from flipjax.results.cells import Row, StoredCell, StoredSplit, save_cell
from flipjax.results.pairs import counterfactual_flip
from flipjax.results.quantities import PAIR_QUANTITIES, REGION_QUANTITIES, SCENE_QUANTITIES
from flipjax.results.region_shares import region_quantities
from flipjax.results.rows import member_rows
from flipjax.results.swapped_scenes import scene_quantities, training_evidence
from flipjax.sweep.storage import shown_images
from flipjax.sweep.study import Study, split_evenly, training_scenes
from flipjax.sweep.workdir import Workdir
from flipjax.training import dfr, placement, population
from flipjax.training.assess import FILLS, MASK_SIDE, Questions
from flipjax.training.member import State, Status, Weights
from flipjax.training.predict import predict

_predict = jax.jit(predict, static_argnums=0)

GALLERY_MEMBERS = 6
# What the predicted classes of a program's members may take, unpacked; beyond, no seeds are compared.
MASK_BYTES = 2**28


def finish(
    program: Program,
    config: Config,
    study: Study,
    layout: placement.Layout,
    current: population.Population,
    workdir: Workdir,
    *,
    history: Sequence[Row],
    shown: str,
) -> StoredCell:
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
        pool = placement.share(layout, study.pool)
        current = dfr.refit_heads(program.experiment, layout, current, pool, study.tables["val"])
    parts, score_names, regions = _assess(program, config, study, layout, current)
    names = ("background", *study.catalog.class_names)
    scenes, usual = study.catalog.scene_names, study.catalog.groups.usual
    stored = StoredCell(program.names, rules, names, scenes, parts, score_names=score_names, usual=usual)
    states = population.states_of(current)
    trained = np.asarray(current.members.groups)[current.slots]
    evidence = [training_evidence(groups, stored.groups) for groups in trained]
    rows = _rows(program, study, stored, states, regions, evidence)
    stored = dataclasses.replace(stored, rows=tuple(rows), history=tuple(history), program=program.identity)
    workdir.verify()
    if shown in program.names:
        best = states.best[rules[0]].weights
        galleries = [
            _gallery(program, config, study, stored, name, population.take_member(best, program.names.index(name)))
            for name in gallery_members(program, shown)
        ]
        galleries = [each for each in galleries if len(each.member)]
        if galleries:
            path = workdir.results_of(program) / "gallery.npz"
            gallery.save_gallery(path, gallery.concatenate_galleries(galleries), program=program.identity)
    save_cell(workdir.decomposition_of(program), stored)
    return stored


def _assess(
    program: Program, config: Config, study: Study, layout: placement.Layout, current: population.Population
) -> tuple[dict[str, StoredSplit], tuple[str, ...], dict[str, metrics.RegionSums]]:
    """Returns what is stored of each split, the names of the scores, and the sums over regions (S, K, n, ...)."""
    wanted = config.intervene
    pool = study.pool
    form = "none"
    last = None
    shares = None
    if wanted.scenes != "none" and pool.kind == "composite":
        form = "given"
        last = training_scenes(study, wanted, seed=program.experiment.split.seed)
        shares = np.asarray(last[1])
    elif wanted.scenes != "none":
        form = "surroundings"
        last = jnp.asarray(study.tables["val"].rows)
    asked = wanted.scores != "none"
    questions = Questions(form, logits=asked, passes=wanted.scores == "all", masks=asked and _masks_fit(config))
    # All that needs further passes is of the first rule alone, which the tables compare: of six it would be most of the
    # evaluation.
    fewer = Questions("none", logits=False, passes=False, masks=False)
    # One program for all splits, which takes as long to compile as that of one.
    ends = dict(zip(study.tables, np.cumsum([len(table.rows) for table in study.tables.values()]), strict=True))
    rows = np.concatenate([table.rows for table in study.tables.values()])
    shared = placement.share(layout, (pool, rows, last))
    answer = population.map_selected(program.experiment, layout, current, questions, *shared, later=fewer)
    answers = {part: _cut(answer, ends[part] - len(table.rows), ends[part]) for part, table in study.tables.items()}
    validation = answers["val"]
    centers = None if form == "none" else np.asarray(_split_points(validation.scene_log_odds))
    fills = range(len(FILLS) if questions.passes else 0)
    points = [np.asarray(_split_points(validation.fill_log_odds[..., [fill], :])) for fill in fills]
    parts = {}
    for part, table in study.tables.items():
        answer = answers[part]
        scores = [] if answer.scores is None else [answer.scores]
        first = jax.tree.map(lambda leaf: leaf[:1], answer.decomposition)
        scores += [_swap_risks(first, answer.fill_log_odds[..., [k], :], points[k]) for k in fills]
        parts[part] = StoredSplit(
            answer.decomposition.confusion,
            answer.decomposition.risk_sum,
            table.groups,
            table.pairs,
            table.rows,
            scene_log_odds=answer.scene_log_odds,
            scene_shares=None if shares is None else np.repeat(shares / 2, 2),
            centers=centers,
            scores=np.concatenate(scores, axis=-1)[0] if scores else None,
            masks=None if answer.masks is None else answer.masks[0],
            refit=table.refit if "dfr" in program.experiment.active_knobs else None,
        )
    regions = {part: answer.regions for part, answer in answers.items()}
    return parts, (*questions.scores, *(FILLS if questions.passes else ())), regions


@jax.jit
def _split_points(log_odds: jax.Array) -> jax.Array:
    return jax.vmap(jax.vmap(split_evenly))(log_odds)


def _cut(answer: Any, start: int, end: int) -> Any:
    return jax.tree.map(lambda leaf: leaf[:, :, start:end], answer)


def _masks_fit(config: Config) -> bool:
    """Says whether the predicted classes of the whole grid, whichever part this is, are of use and can be stored."""
    members = math.prod(len(values) or 1 for values in config.axes.values())
    images = config.split.n_val + config.split.n_test
    side = min(config.pool.size, MASK_SIDE)
    return len(config.axes.seed) > 1 and members * images * side**2 // 4 <= MASK_BYTES


def _swap_risks(decomposition: Decomposition, log_odds: np.ndarray, centers: np.ndarray) -> np.ndarray:
    """Returns the scene-swap risk (S, K, n, 1) of stacked members whose scenes were filled."""
    risks = np.empty((*decomposition.risk_sum.shape, 1))
    for place in np.ndindex(risks.shape[:2]):
        one = jax.tree.map(lambda leaf, place=place: leaf[place], decomposition)
        risks[place] = intervene.scene_swap(one, log_odds[place], centers[place]).risk[:, None]
    return risks


def _rows(
    program: Program,
    study: Study,
    stored: StoredCell,
    states: State,
    regions: Mapping[str, metrics.RegionSums],
    evidence: Sequence[np.ndarray],
) -> list[Row]:
    rows = []
    for index, setting in enumerate(program.settings):
        leading = {"member": setting.name, **setting.axes}
        for place, rule in enumerate(stored.selections):
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
                sums = jax.tree.map(lambda leaf, at=(place, index): leaf[at], regions[part])
                groups = table.groups
                pairs = table.pairs
                if part == "val" and setting.knobs.dfr:
                    # The other images fitted the head.
                    decomposition, log_odds, sums, groups, pairs = jax.tree.map(
                        lambda leaf, rest=~table.refit: leaf[rest], (decomposition, log_odds, sums, groups, pairs)
                    )
                # A rule that never had a value kept no epoch.
                evaluated = decomposition if trailing["best_epoch"] else None
                more = {}
                if evaluated is not None:
                    more = _more(
                        evaluated, log_odds, center, groups, pairs, all_groups=stored.groups, evidence=evidence[index]
                    )
                    more |= region_quantities(sums, groups, all_groups=stored.groups)
                further = [*(SCENE_QUANTITIES if stored.parts[part].scene_log_odds is not None else ())]
                further += [*(PAIR_QUANTITIES if study.pool.kind == "composite" else ()), *REGION_QUANTITIES]
                names = {"class_names": stored.class_names, "all_groups": stored.groups}
                rows += member_rows(
                    leading | trailing, evaluated, groups, part=part, more=more, further=further, **names
                )
    return rows


def _more(
    decomposition: metrics.Decomposition,
    log_odds: np.ndarray | None,
    center: np.ndarray | None,
    groups: np.ndarray,
    pairs: np.ndarray,
    *,
    all_groups: Groups,
    evidence: np.ndarray,
) -> dict[str, float]:
    """Returns the quantities that `summarize` has not: of swapped scenes, and of pairs."""
    more = {"counterfactual_flip": counterfactual_flip(decomposition, pairs)}
    if log_odds is None or center is None:
        return more
    return more | scene_quantities(decomposition, log_odds, center, groups, all_groups=all_groups, evidence=evidence)


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
    program: Program, config: Config, study: Study, stored: StoredCell, name: str, weights: Weights
) -> gallery.StoredImages:
    table = study.tables["test"]
    indices, kinds = shown_images(stored, config, name)
    rows = jnp.asarray(table.rows[indices])
    images, labels = gather(study.pool, rows)
    # No image is a program of its own.
    logits = (
        _predict(program.experiment, weights, study.pool, rows)
        if len(indices)
        else np.zeros((*labels.shape, program.experiment.num_classes))
    )
    return gallery.make_gallery(
        images, labels, logits, indices=indices, groups=table.groups[indices], kinds=kinds, member=name
    )


def blank_rows(
    program: Program, class_names: Sequence[str], all_groups: Groups, *, status: str
) -> list[dict[str, Any]]:
    """Returns the rows of a program that failed or is not done: its members with blank measures."""
    none = np.zeros(0, np.int32)
    blank: dict[str, Any] = {"status": status, "epochs": 0, "best_epoch": 0}
    members = [
        {"member": setting.name, **setting.axes, **blank, "selection": rule}
        for setting in program.settings
        for rule in program.experiment.train.selection
    ]
    names = {"class_names": class_names, "all_groups": all_groups}
    return [row for member in members for row in member_rows(member, None, none, part="test", **names)]
