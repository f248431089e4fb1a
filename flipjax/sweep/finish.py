"""Results of a trained program: what every image left behind, the quantities that follow, and a gallery.

`finish` is called once a program is trained. It evaluates every member's selected weights on validation and test images
(`_assess`, by the questions of `_evaluation`), computes the quantities, and writes weights, gallery and results.
`compile_evaluation` compiles the same programs while the members are still training.
"""

import dataclasses
import operator
from collections.abc import Iterator

import jax
import numpy as np

from flipjax import intervene, metrics
from flipjax.backend import compiler
from flipjax.backend.memory import trim
from flipjax.backend.random import key_of, random_bits
from flipjax.config import Experiment, PopulationSpec
from flipjax.config.plan import Plan
from flipjax.config.program import Program
from flipjax.config.ranges import name_of
from flipjax.data.pool import Pool, at_strength, gather
from flipjax.page import gallery
from flipjax.results.arrays import EVALUATED, Curves, ImageResults, MemberResults
from flipjax.results.cells import Cell
from flipjax.results.store import GALLERY
from flipjax.results.tables import compute_values, make_results
from flipjax.support.arrays import Array
from flipjax.support.npz import write_arrays
from flipjax.sweep.folder.results import gallery_size, shown_images
from flipjax.sweep.folder.workdir import Workdir
from flipjax.sweep.programs import layout_of
from flipjax.training.assess import FILLS, MASK_SIDE, Assessed, Questions, Scenery
from flipjax.training.member import State, Status
from flipjax.training.model import Model
from flipjax.training.network.forward import NO_WEIGHTS, Weights, first_weights, flat, nested, predict
from flipjax.training.population import devices, stacks
from flipjax.training.population import epochs as population_run
from flipjax.training.population import members as population
from flipjax.training.population import selected as population_selected
from flipjax.training.population.members import Population
from flipjax.training.scenes import split_evenly, training_scenes
from flipjax.training.task import Task

MASK_BYTES = 2**28
"""Most bytes of a run's predicted classes; beyond, they are not stored, and seeds are not compared."""
PIXELS_PER_MASK_BYTE = 4
"""Predicted classes in a byte of stored masks, at two bits a pixel."""
MOST_SHOWN_MEMBERS = 6
"""Members in the gallery of a program, at most."""


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What is asked of every member of a program, on validation and then on test images."""

    first: Questions
    """Questions about the weights that the first selection rule kept."""
    later: Questions
    """Questions about the weights of later rules, without those that need more forward passes, which take long."""
    pool: Pool
    """The pool of the program."""
    rows: np.ndarray
    """Pool rows (n, 2) of the validation and then of the test images; one compiled program takes both."""
    scenery: Scenery
    """The scenes of `first`, as `Questions` takes them."""

    @property
    def shared(self) -> tuple[Pool, np.ndarray, Scenery]:
        """The arguments of the compiled program that are the same for all members."""
        return self.pool, self.rows, self.scenery


def finish(
    program: Program, plan: Plan, task: Task, current: Population, workdir: Workdir, curves: Curves, shown_member: str
) -> Cell:
    """Evaluates every member's selected weights; writes weights, the gallery and, last, the results.

    Args:
      program: with all of its members or a part.
      plan: of the run.
      task: of the program.
      current: the trained population.
      workdir: the run folder.
      curves: the members' training curves.
      shown_member: the member whose images the gallery shows, if this part has it.
    """
    rules = program.experiment.train.selection
    if "dfr" in program.experiment.active_knobs:
        current = population_run.refit_heads(current, devices.replicate(current.layout, task.pool), task.tables["val"])
    kept_rules = {"first": rules[:1], "all": rules, "none": ()}[plan.population.keep]
    stacks.free((current.states.weights, current.states.average, current.states.opt_state))
    images = _assess(program, plan, task, current)
    # The gallery needs the weights of the first rule.
    stacks.free([current.states.best[rule].weights for rule in rules[1:] if rule not in kept_rules])
    states = population.states_of(current)
    results = _member_results(program, task, states, curves)
    if not results.best_epoch.all():
        # A rule that kept no epoch has the weights of the start, whose predictions are nobody's.
        images = images.without_numbers(results.best_epoch == 0)
    results = compute_values(results, images)
    workdir.verify()
    # Weights come before the results, which mark a program as done.
    for rule in kept_rules:
        # A member that kept no epoch has 0.
        for index in np.flatnonzero(states.best[rule].epoch).tolist():
            weights = nested(program.experiment, stacks.take_member(states.best[rule].weights, index))
            model = Model(weights, program.experiment.model, results.class_names, program.experiment.pool.size)
            model.save(workdir.weights_of(program, program.names[index], rule))
    path = workdir.stored_results_of(program)
    if shown_member in program.names:
        cell = Cell(results, path, images)
        galleries = list(_galleries(program, task, cell, states.best[rules[0]].weights, shown_member))
        if galleries:
            gallery_path = workdir.results_of(program) / GALLERY
            gallery.save_gallery(gallery_path, gallery.concatenate_galleries(galleries), program=program.identity)
    write_arrays(path, results, images)
    return Cell(results, path)


def _member_results(program: Program, task: Task, states: State, curves: Curves) -> MemberResults:
    """Returns the members' coordinates and curves, without any quantity yet."""
    rules = program.experiment.train.selection
    return make_results(
        curves,
        [setting.columns for setting in program.settings],
        rules=rules,
        status=[Status(int(status)).name.lower() for status in np.asarray(states.status)],
        best_epoch=np.stack([np.asarray(states.best[rule].epoch) for rule in rules]),
        class_names=("background", *task.catalog.class_names),
        scene_names=task.catalog.scene_names,
        groups=task.catalog.groups,
        program=program.identity,
    )


@random_bits()
def compile_evaluation(program: Program, plan: Plan, spec: PopulationSpec, task: Task) -> None:
    """Compiles what `finish` runs for all of a program's members; thread-safe, and the run reuses it."""
    experiment = program.experiment
    members = len(program.names)
    layout = layout_of(program, spec, members=members)

    def new_weights() -> Weights:
        return flat(first_weights(experiment, key_of(0), NO_WEIGHTS))

    weights = jax.eval_shape(new_weights)
    evaluation = _evaluation(program, plan, task)
    stacked = devices.shapes_of(layout, (weights, np.bool_(True), np.float32(1)), members=members)
    shared = devices.shapes_of(layout, evaluation.shared)
    questions_of_rules = [evaluation.first]
    if len(experiment.train.selection) > 1:
        questions_of_rules.append(evaluation.later)
    for questions in questions_of_rules:
        population_selected.selected_program(layout).lower(experiment, layout, questions, *stacked, *shared).compile()
    rows = jax.ShapeDtypeStruct((gallery_size(task.catalog.groups), 2), np.int32)
    _show_program().lower(experiment, weights, task.pool, rows).compile()
    trim()


def _evaluation(program: Program, plan: Plan, task: Task) -> Evaluation:
    """Returns what to ask of every member, on images of both parts."""
    scenery: Scenery
    if plan.intervene.scenes == "none":
        scenes = "none"
        scenery = None
    elif task.pool.kind == "composite":
        scenes = "given"
        scenery = training_scenes(task, plan.intervene, seed=program.experiment.split.seed)
    else:
        scenes = "surroundings"
        scenery = task.tables["val"].rows
    has_scores = plan.intervene.scores != "none"
    first = Questions(
        scenes,
        logit_scores=has_scores,
        mirror_and_fills=plan.intervene.scores == "all",
        masks=has_scores and _stores_masks(plan, program.experiment),
        own=plan.quantities,
    )
    later = Questions("none", logit_scores=False, mirror_and_fills=False, masks=False, own=plan.quantities)
    rows = np.concatenate([table.rows for table in task.tables.values()])
    return Evaluation(first, later, task.pool, rows, scenery)


def _assess(program: Program, plan: Plan, task: Task, current: Population) -> ImageResults:
    """Returns what every image of both parts leaves behind."""
    evaluation = _evaluation(program, plan, task)
    questions = evaluation.first
    shared = devices.replicate(current.layout, evaluation.shared)
    answer = population_selected.map_selected(current, questions, *shared, later=evaluation.later)
    tables = [task.tables[part] for part in EVALUATED]
    image_part = np.repeat(EVALUATED, [len(table.rows) for table in tables])
    is_validation = image_part == "val"
    # All arrays but the counts are of the first rule alone.
    log_odds = _of_first_rule(answer.scene_log_odds)
    center = None
    if log_odds is not None:
        center = _centers(log_odds[:, is_validation])
    score_names = None
    scores = None
    scores_by_name = _scores(questions, answer, is_validation)
    if scores_by_name:
        score_names = np.array(list(scores_by_name))
        scores = np.stack(list(scores_by_name.values()), axis=-1)
    own_names = None
    if questions.own:
        own_names = np.array([name_of(quantity) for quantity in questions.own])
    refit = None
    if "dfr" in program.experiment.active_knobs:
        refit = np.concatenate([np.broadcast_to(table.refit, len(table.rows)) for table in tables])
    group_of_row = np.asarray(current.members.groups)[current.slots]
    return ImageResults(
        member=np.array(program.names),
        image_part=image_part,
        image_group=np.concatenate([table.groups for table in tables]),
        pair=np.concatenate([table.pairs for table in tables]),
        object_row=evaluation.rows[:, 0],
        scene_row=evaluation.rows[:, 1],
        confusion=answer.decomposition.confusion,
        risk_sum=answer.decomposition.risk_sum,
        region_true=answer.regions.true,
        region_flips=answer.regions.flips,
        region_predicted=answer.regions.predicted,
        region_risk=answer.regions.risk,
        region_shared=answer.regions.shared,
        gaps=answer.regions.gaps,
        trained=np.stack([np.bincount(groups, minlength=task.catalog.groups.count) for groups in group_of_row]),
        refit=refit,
        log_odds=log_odds,
        center=center,
        scene_share=_pass_shares(evaluation),
        score=score_names,
        scores=scores,
        masks=_of_first_rule(answer.masks),
        own_quantity=own_names,
        own=answer.own,
    )


def _of_first_rule(answers: np.ndarray | None) -> np.ndarray | None:
    """Returns the first of answers (rules, ...); None if nothing was asked."""
    if answers is None:
        return None
    return answers[0]


def _scores(questions: Questions, answer: Assessed, is_validation: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the scores (members, n) of the first rule, by name; `is_validation` is bool (n,)."""
    scores = {}
    if answer.scores is not None:
        for number, name in enumerate(questions.scores):
            scores[name] = np.asarray(answer.scores[0][..., number])
    if answer.fill_log_odds is not None:
        of_first_rule = stacks.take_member(answer.decomposition, 0)
        for number, name in enumerate(FILLS):
            log_odds = np.asarray(answer.fill_log_odds[0][..., [number], :])
            scores[name] = _swap_risks(of_first_rule, log_odds, _centers(log_odds[:, is_validation]))
    return scores


def _pass_shares(evaluation: Evaluation) -> np.ndarray | None:
    """Returns the weight of each forward pass on other scenes, (2 D,): half of its draw's, as its mirror image's is."""
    if not isinstance(evaluation.scenery, tuple):
        return None
    _, shares = evaluation.scenery
    return np.repeat(np.asarray(shares) / 2, 2)


def _centers(log_odds: np.ndarray) -> np.ndarray:
    """Returns the centers (M, F) of log-odds (M, n, K, F) of M members."""
    return np.stack([split_evenly(member) for member in log_odds])


def _stores_masks(plan: Plan, experiment: Experiment) -> bool:
    """Returns whether predicted classes are stored: there are seeds to compare, and all members' fit MASK_BYTES."""
    settings = plan.programs[0].settings
    seeds = {int(setting.condition.seed) for setting in settings}
    images = experiment.split.n_val + experiment.split.n_test
    side = min(experiment.pool.size, MASK_SIDE)
    count = len(settings) * images * side**2 // PIXELS_PER_MASK_BYTE
    return len(seeds) > 1 and count <= MASK_BYTES


def _swap_risks(decomposition: metrics.Decomposition, log_odds: np.ndarray, centers: np.ndarray) -> np.ndarray:
    """Returns the scene-swap risk (K, n) of stacked members from scenes with filled surroundings."""
    risks = []
    for number, center in enumerate(centers):
        images = stacks.take_member(decomposition, number)
        risks.append(intervene.scene_swap(images, log_odds[number], center).risk)
    return np.stack(risks)


def gallery_members(program: Program, shown_member: str) -> list[str]:
    """Returns the gallery's members: `shown_member`, its counterpart at the lowest rho, and those in other settings.

    There are at most MOST_SHOWN_MEMBERS, and a part of a program shows only its own.
    """
    shown = program.setting_of(shown_member)
    same_seed = [setting for setting in program.settings if setting.axes["seed"] == shown.axes["seed"]]
    axes_at_lowest_rho = {**shown.axes, "rho": min(float(setting.condition.rho) for setting in same_seed)}
    names = [shown_member]
    names += [setting.name for setting in same_seed if setting.axes == axes_at_lowest_rho]
    names += [setting.name for setting in same_seed if setting.condition.rho == shown.condition.rho]
    return list(dict.fromkeys(names))[:MOST_SHOWN_MEMBERS]


def _galleries(
    program: Program, task: Task, cell: Cell, best: Weights, shown_member: str
) -> Iterator[gallery.StoredImages]:
    """Yields the galleries of members with images to show; `best` holds the weights of all members."""
    table = task.tables["test"]
    for name in gallery_members(program, shown_member):
        indices, kinds = shown_images(cell, name)
        if not len(indices):
            continue
        # Repeated up to one number of images, so that one program serves all members.
        rows = table.rows[np.resize(indices, gallery_size(cell.groups))]
        index = program.names.index(name)
        pool = at_strength(task.pool, program.settings[index].cue.cue_strength)
        weights = stacks.take_member(best, index)
        repeated = jax.device_get(_show_program()(program.experiment, weights, pool, rows))
        # All arrays without the repetitions.
        images, labels, maps = jax.tree.map(operator.itemgetter(slice(len(indices))), repeated)
        yield gallery.make_gallery(
            images, labels, maps, indices=indices, groups=table.groups[indices], kinds=kinds, member=name
        )


def _show_program() -> compiler.Jitted:
    """Returns `_show`, compiled."""
    return compiler.program(_show, brief=True, static_argnums=0)


def _show(
    experiment: Experiment, weights: Weights, pool: Pool, rows: jax.Array
) -> tuple[Array, Array, gallery.GalleryMaps]:
    """Returns images, labels and the maps of a gallery for pool rows."""
    images, labels = gather(pool, rows)
    return images, labels, gallery.maps_of(predict(experiment, weights, pool, rows), labels)
