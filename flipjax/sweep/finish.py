"""Results of a trained program: decompositions, a gallery, and the rows of results.csv."""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

from flipjax import backend, intervene, metrics
from flipjax.backend import key_of, trim
from flipjax.config import Config, Experiment, PopulationSpec, values_of
from flipjax.data.pool import Pool, at_strength, gather
from flipjax.groups import Groups
from flipjax.metrics.log_odds import training_evidence
from flipjax.metrics.regions import RegionSums
from flipjax.plan import Program, Setting, member_axes
from flipjax.results import gallery
from flipjax.results.cells import StoredCell, StoredSplit, save_cell
from flipjax.results.frames import Row
from flipjax.results.quantities import PAIR_QUANTITIES, REGION_QUANTITIES, SCENE_QUANTITIES
from flipjax.results.rows import counterfactual_flip, member_rows, region_quantities, scene_quantities
from flipjax.sweep.needs import layout_of
from flipjax.sweep.workdir import Workdir, gallery_size, shown_images
from flipjax.training import devices, population
from flipjax.training.assess import FILLS, MASK_SIDE, Questions
from flipjax.training.member import State, Status
from flipjax.training.model import Model
from flipjax.training.network import NO_WEIGHTS, Weights, first_weights, flat, nested, predict
from flipjax.training.population import Population
from flipjax.training.task import Task, split_evenly, training_scenes

# Rules after the first, which the tables compare, get no extra forward passes: six would dominate the evaluation.
LATER = Questions("none", logits=False, passes=False, masks=False)
# Unpacked size limit of a program's predicted classes; above it, seeds are not compared.
MASK_BYTES = 2**28


def finish(
    program: Program, config: Config, task: Task, current: Population, workdir: Workdir, history: list[Row], shown: str
) -> StoredCell:
    """Evaluates every member's selected weights; writes the gallery and, last, the decompositions with all rows.

    Args:
      program: with all of its members or a part.
      config: of the run.
      task: of the program.
      current: the trained population.
      workdir: the run folder.
      history: the members' rows of history.csv.
      shown: the member whose images the gallery shows, if this part has it.
    """
    rules = program.experiment.train.selection
    if "dfr" in program.experiment.active_knobs:
        current = population.refit_heads(current, devices.replicate(current.layout, task.pool), task.tables["val"])
    kept = {"first": rules[:1], "all": rules, "none": ()}[config.population.keep]
    population.free((current.states.weights, current.states.average, current.states.opt_state))
    parts, score_names, regions = _assess(program, config, task, current)
    # The gallery shows the first rule's.
    population.free([current.states.best[rule].weights for rule in rules[1:] if rule not in kept])
    names = ("background", *task.catalog.class_names)
    scenes, usual = task.catalog.scene_names, task.catalog.groups.usual
    stored = StoredCell(program.names, rules, names, scenes, parts, score_names=score_names, usual=usual)
    states = population.states_of(current)
    trained = np.asarray(current.members.groups)[current.slots]
    rows = _rows(program, task, stored, states, regions, trained)
    stored = dataclasses.replace(stored, rows=tuple(rows), history=tuple(history), program=program.identity)
    workdir.verify()
    # Weights come before the decompositions, which mark a program as done.
    for rule in kept:
        for index in np.flatnonzero(states.best[rule].epoch):
            weights = nested(program.experiment, population.take_member(states.best[rule].weights, index))
            model = Model(weights, program.experiment.model, names, program.experiment.pool.size)
            model.save(workdir.weights_of(program, program.names[index], rule))
    if shown in program.names:
        galleries = [*_galleries(program, task, stored, states.best[rules[0]].weights, shown)]
        if galleries:
            path = workdir.results_of(program) / "gallery.npz"
            gallery.save_gallery(path, gallery.concatenate_galleries(galleries), program=program.identity)
    save_cell(workdir.decomposition_of(program), stored)
    return stored


def compile_evaluation(program: Program, config: Config, spec: PopulationSpec, task: Task) -> None:
    """Compiles what `finish` runs for all of a program's members; thread-safe, and the run reuses it."""
    experiment, members = program.experiment, len(program.names)
    layout = layout_of(program, spec, members=members)
    weights = jax.eval_shape(lambda: flat(first_weights(experiment, key_of(0), NO_WEIGHTS)))
    questions, shared = _questions(program, config, task)
    stacked = devices.shapes_of(layout, (weights, np.bool_(True), np.float32(1)), members=members)
    for asked in (questions, LATER)[: len(experiment.train.selection)]:
        given = *stacked, *devices.shapes_of(layout, shared)
        population.selected_program().lower(experiment, layout, asked, *given).compile()
    rows = jax.ShapeDtypeStruct((gallery_size(task.catalog.groups), 2), np.int32)
    _show_program().lower(experiment, weights, task.pool, rows).compile()
    trim()


def _questions(program: Program, config: Config, task: Task) -> tuple[Questions, tuple[Any, ...]]:
    """Returns the questions to ask of every member, and their pool, rows and scenery."""
    wanted = config.intervene
    form, scenery = "none", None
    if wanted.scenes != "none" and task.pool.kind == "composite":
        form, scenery = "given", training_scenes(task, wanted, seed=program.experiment.split.seed)
    elif wanted.scenes != "none":
        form, scenery = "surroundings", task.tables["val"].rows
    asked = wanted.scores != "none"
    questions = Questions(form, logits=asked, passes=wanted.scores == "all", masks=asked and _masks_fit(config))
    # Both splits share one program.
    rows = np.concatenate([table.rows for table in task.tables.values()])
    return questions, (task.pool, rows, scenery)


def _assess(
    program: Program, config: Config, task: Task, current: Population
) -> tuple[dict[str, StoredSplit], tuple[str, ...], dict[str, RegionSums]]:
    """Returns each split's stored results, the score names, and the sums over regions (S, K, n, ...)."""
    questions, shared = _questions(program, config, task)
    form, scenery = questions.scenes, shared[-1]
    shares = np.repeat(np.asarray(scenery[1]) / 2, 2) if form == "given" else None
    whole = population.map_selected(current, questions, *devices.replicate(current.layout, shared), later=LATER)
    first = len(task.tables["val"].rows)
    validation = population.take_member(whole, np.s_[:, :, :first])
    answers = {"val": validation, "test": population.take_member(whole, np.s_[:, :, first:])}
    centers = None if form == "none" else _split_points(validation.scene_log_odds)
    fills = range(len(FILLS) if questions.passes else 0)
    points = [_split_points(validation.fill_log_odds[..., [fill], :]) for fill in fills]
    parts = {}
    for part, table in task.tables.items():
        answer = answers[part]
        counts = answer.decomposition.confusion, answer.decomposition.risk_sum
        swapped = {"scene_log_odds": answer.scene_log_odds, "scene_shares": shares, "centers": centers}
        first, scores = population.take_member(answer.decomposition, 0), [*(answer.scores if questions.scores else ())]
        scores += [_swap_risks(first, answer.fill_log_odds[0][..., [k], :], points[k][0]) for k in fills]
        further = {"scores": np.concatenate(scores, axis=-1)} if scores else {}
        further |= {"masks": answer.masks[0]} if questions.masks else {}
        further |= {"refit": table.refit} if "dfr" in program.experiment.active_knobs else {}
        parts[part] = StoredSplit(*counts, table.groups, table.pairs, table.rows, **swapped, **further)
    regions = {part: answer.regions for part, answer in answers.items()}
    return parts, (*questions.scores, *(FILLS if questions.passes else ())), regions


def _split_points(log_odds: np.ndarray) -> np.ndarray:
    """Returns centres (R, M, F) of log-odds (R, M, n, K, F) for R rules and M members."""
    return np.stack([[split_evenly(member) for member in rule] for rule in log_odds])


def _masks_fit(config: Config) -> bool:
    """Returns whether predicted classes are comparable over seeds, and those of the whole grid within the limit."""
    members = len(member_axes(config))
    images = config.split.n_val + config.split.n_test
    side = min(config.pool.size, MASK_SIDE)
    return len(values_of(config, "seed")) > 1 and members * images * side**2 // 4 <= MASK_BYTES


def _swap_risks(decomposition: metrics.Decomposition, log_odds: np.ndarray, centers: np.ndarray) -> np.ndarray:
    """Returns the scene-swap risk (K, n, 1) of stacked members from scenes with filled surroundings."""
    members = [population.take_member(decomposition, k) for k in range(len(centers))]
    each = zip(members, log_odds, centers, strict=True)
    return np.stack([intervene.scene_swap(*member).risk for member in each])[..., None]


def _rows(
    program: Program, task: Task, stored: StoredCell, states: State, regions: dict[str, RegionSums], trained: np.ndarray
) -> list[Row]:
    further = [*(SCENE_QUANTITIES if stored.parts["test"].scene_log_odds is not None else ())]
    further += [*(PAIR_QUANTITIES if task.pool.kind == "composite" else ()), *REGION_QUANTITIES]
    known = {"all_groups": stored.groups}
    options = {"further": further, "class_names": stored.class_names, **known}
    evidence = [training_evidence(groups, stored.groups) for groups in trained]
    rows = []
    for (index, setting), (place, rule) in itertools.product(enumerate(program.settings), enumerate(stored.selections)):
        best_epoch, status = int(states.best[rule].epoch[index]), Status(int(states.status[index])).name.lower()
        member = _columns(setting, rule, status=status, epochs=int(states.epoch[index]), best_epoch=best_epoch)
        center = stored.center(setting.name, selection=rule)
        for part, table in task.tables.items():
            decomposition = stored.decomposition(setting.name, part, selection=rule)
            log_odds = stored.scene_log_odds(setting.name, part, selection=rule)
            sums = population.take_member(regions[part], (place, index))
            images = decomposition, log_odds, sums, table.groups, table.pairs
            if part == "val" and setting.knobs.dfr:
                # The other images fitted the head.
                images = population.take_member(images, ~table.refit)
            decomposition, log_odds, sums, groups, pairs = images
            more = {}
            # A rule that never had a score kept no epoch.
            if best_epoch:
                more = {"counterfactual_flip": counterfactual_flip(decomposition, pairs)}
                more |= region_quantities(sums, groups, **known)
                if log_odds is not None and center is not None:
                    own = evidence[index]
                    more |= scene_quantities(decomposition, log_odds, center, groups, evidence=own, **known)
            rows += member_rows(member, decomposition if more else None, groups, part=part, more=more, **options)
    return rows


def _columns(setting: Setting, rule: str, **state: Any) -> Row:
    return {"member": setting.name, **setting.columns, **state, "selection": rule}


def gallery_members(program: Program, shown: str) -> list[str]:
    """Returns the gallery's members: `shown`, its counterpart at the lowest rho, and those in other settings.

    There are at most six, and a part of a program shows only its own.
    """
    own = next(setting.axes for setting in program.settings if setting.name == shown)
    axes = {setting.name: setting.axes for setting in program.settings if setting.axes["seed"] == own["seed"]}
    lowest = {**own, "rho": min(each["rho"] for each in axes.values())}
    others = [name for name, each in axes.items() if each == lowest]
    others += [name for name, each in axes.items() if each["rho"] == own["rho"]]
    return list(dict.fromkeys([shown, *others]))[:6]


def _galleries(
    program: Program, task: Task, stored: StoredCell, best: Weights, shown: str
) -> Iterator[gallery.StoredImages]:
    """Yields the galleries of members with images to show; `best` holds the weights of all members."""
    table = task.tables["test"]
    for name in gallery_members(program, shown):
        indices, kinds = shown_images(stored, name)
        if len(indices):
            # One number of images, so that one program serves all members.
            rows = table.rows[np.resize(indices, gallery_size(stored.groups))]
            place = program.names.index(name)
            pool = at_strength(task.pool, program.settings[place].cue.cue_strength)
            given = program.experiment, population.take_member(best, place), pool, rows
            pixels = jax.device_get(_show_program()(*given))
            about = {"indices": indices, "groups": table.groups[indices], "kinds": kinds, "member": name}
            yield gallery.make_gallery(*(leaf[: len(indices)] for leaf in pixels), **about)


def _show_program() -> Any:
    return backend.program(_show, brief=True, static_argnums=0)


def _show(experiment: Experiment, weights: Weights, pool: Pool, rows: jax.Array) -> tuple[jax.Array, ...]:
    """Returns images, labels and the maps of a gallery for pool rows."""
    images, labels = gather(pool, rows)
    return images, labels, *gallery.maps_of(predict(experiment, weights, pool, rows), labels)


def blank_rows(program: Program, class_names: Sequence[str], all_groups: Groups, *, status: str) -> list[Row]:
    """Returns rows with blank measures for the members of a failed or unfinished program."""
    known = {"part": "test", "class_names": class_names, "all_groups": all_groups}
    rows = []
    for setting, rule in itertools.product(program.settings, program.experiment.train.selection):
        member = _columns(setting, rule, status=status, epochs=0, best_epoch=0)
        rows += member_rows(member, None, np.zeros(0, np.int32), **known)
    return rows
