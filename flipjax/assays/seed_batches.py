"""Trains the networks of an assay, one batch of seeds after another, until they tell whether its attribute is used."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from flipjax.assays.inputs import AssayImages
from flipjax.assays.journal import Journal
from flipjax.assays.network import MissingNetworkError, first_network, frozen_network
from flipjax.assays.obstacles import cluster_counts
from flipjax.assays.options import Options
from flipjax.assays.population import (
    EVERYTHING,
    Network,
    Stage,
    TrainedStage,
    first_fold,
    make_seed_batch,
    other_folds,
    outcomes_of,
)
from flipjax.assays.statistics.association import Association
from flipjax.assays.statistics.contrast import Contrast, measure_contrast
from flipjax.assays.statistics.outcomes import Outcomes
from flipjax.assays.statistics.verdict import (
    UNKNOWN,
    AssayVerdict,
    Learnt,
    Outlook,
    Step,
    judge_contrast,
    look_ahead,
    measure_learning,
    next_step,
    not_learnt_sentence,
)
from flipjax.data.sources.arrays import ArrayData
from flipjax.results.statistics.verdicts import FEWEST_SEEDS
from flipjax.support.terminal import say


@dataclasses.dataclass(frozen=True, eq=False)
class AssayExperiment:
    """An assay before its networks.

    Attributes:
        data: the images as they were given.
        images: at the size of the small U-Net.
        options: of the assay.
        journal: the state of its folder.
        association: of class and attribute.
    """

    data: ArrayData | str | Path
    images: AssayImages
    options: Options
    journal: Journal
    association: Association


@dataclasses.dataclass(frozen=True, eq=False)
class Trial:
    """The networks of the first fold.

    Attributes:
        network: that was tried.
        stage: what was trained.
        learnt: what they learnt; None if the budget ended before.
        notes: what other networks were tried, or would be, a sentence each.
        untried: the words of the next network, for which the budget had no time; '' if there is none.
    """

    network: Network
    stage: TrainedStage
    learnt: Learnt | None
    notes: tuple[str, ...] = ()
    untried: str = ""

    @property
    def ended_early(self) -> bool:
        """Whether the budget ended before all of them were trained."""
        return self.learnt is None


@dataclasses.dataclass(frozen=True, eq=False)
class AssayPopulation:
    """The networks that the verdict is on, after a batch of seeds.

    Attributes:
        stages: what is trained.
        batches: the number of batches of seeds; the first may be a part.
        outcomes: what the networks made of the images.
        contrast: of the images that were tested; None if they do not hold the groups that tell it.
        learnt: whether the networks learnt the classes.
        verdict: so far.
        outlook: what would tell; None without a contrast.
        next_step: what comes next.
    """

    stages: Sequence[TrainedStage]
    batches: int
    outcomes: Outcomes
    contrast: Contrast | None
    learnt: Learnt
    verdict: AssayVerdict
    outlook: Outlook | None
    next_step: Step


def choose_network(experiment: AssayExperiment) -> Trial:
    """Tries the small U-Net on the first fold, and frozen features where it does not learn the classes there.

    A whole population of networks that do not learn would only take longer.
    """
    options = experiment.options
    network = first_network(experiment.data, experiment.images, options, experiment.journal.folder)
    trial = _try_network(experiment, network)
    if trial.learnt is None or trial.learnt.enough or options.network != "auto":
        return trial
    accuracy = f"On the first fold {network.words} have the right class on {trial.learnt.accuracy:.2f} of the found"
    accuracy += f" common pixels, and {trial.learnt.needed:.2f} are needed"
    try:
        larger = frozen_network(experiment.data, options)
    except MissingNetworkError as error:
        note = f"{accuracy}. Frozen features of EfficientNet-Lite0 may learn the classes; they need {error}."
        return dataclasses.replace(trial, notes=(note,))
    say(f"{accuracy}; on with {larger.words}")
    second = _try_network(experiment, larger)
    if second.learnt is None:
        note = f"{accuracy}; the budget ended before {larger.words} were tried."
        return dataclasses.replace(trial, notes=(note,), untried=larger.words)
    return dataclasses.replace(second, notes=(f"{accuracy}: the verdict is on {larger.words}.",))


def _try_network(experiment: AssayExperiment, network: Network) -> Trial:
    """Trains the networks of the first fold."""
    first = make_seed_batch(EVERYTHING, 0, size=experiment.journal.seeds_per_batch, folds=network.folds)
    trained = experiment.journal.train(network, first_fold(first))
    if not trained.whole:
        return Trial(network, trained, None)
    tested = outcomes_of([trained], images=network.images.count)
    learnt = measure_learning(network.images.units, experiment.association.rare, tested)
    return Trial(network, trained, learnt)


def train_population(experiment: AssayExperiment, trial: Trial) -> AssayPopulation:
    """Trains batches of seeds until the verdict is sure, or until more of them cannot make it so."""
    journal = experiment.journal
    network = trial.network
    assert trial.learnt is not None
    if not trial.learnt.enough:
        return _measure(experiment, network, [trial.stage], batches=1)
    first = make_seed_batch(EVERYTHING, 0, size=journal.seeds_per_batch, folds=network.folds)
    others = journal.train(network, other_folds(first))
    population = _measure(experiment, network, [trial.stage, others], batches=1)
    if not others.whole:
        return dataclasses.replace(population, next_step=Step.OUT_OF_BUDGET)
    while population.next_step == Step.MORE_SEEDS:
        say(f"after {population.outcomes.seeds} seeds: {population.verdict.reason} More can tell.")
        further = make_seed_batch(EVERYTHING, population.batches, size=journal.seeds_per_batch, folds=network.folds)
        trained = journal.train(network, further)
        if not trained.whole:
            return dataclasses.replace(population, next_step=Step.OUT_OF_BUDGET)
        stages = [*population.stages, trained]
        population = _measure(experiment, network, stages, batches=population.batches + 1)
    return population


def _measure(
    experiment: AssayExperiment, network: Network, stages: Sequence[TrainedStage], *, batches: int
) -> AssayPopulation:
    """Measures the networks of some batches of seeds on the images that they tested."""
    options = experiment.options
    association = experiment.association
    journal = experiment.journal
    outcomes = outcomes_of(stages, images=network.images.count)
    is_tested = outcomes.tested
    outcomes_of_tested = outcomes.where(is_tested)
    units = network.images.units.where(is_tested)
    learnt = measure_learning(units, association.rare, outcomes_of_tested)
    seeds_after_batches = [journal.seeds_per_batch * (number + 1) for number in range(batches)]
    analyses = [seeds for seeds in seeds_after_batches if seeds >= FEWEST_SEEDS]
    contrast = measure_contrast(units, association.usual, outcomes_of_tested, analyses=analyses, seed=options.seed)
    outlook = None
    if contrast is None:
        verdict, step = _without_contrast(learnt, tested=int(is_tested.sum()))
    else:
        verdict = judge_contrast(contrast, learnt, margin=options.margin, attribute=options.attribute)
        outlook = look_ahead(contrast, cluster_counts(network.images), margin=options.margin)
        step = next_step(
            verdict,
            learnt,
            outlook,
            seeds=journal.seeds_per_batch * batches,
            allowed=journal.seeds_per_batch * journal.batch_count(options.seeds),
            affordable=journal.seeds_per_batch * (batches + _affordable_batches(journal, network, batches)),
        )
    return AssayPopulation(
        stages=stages,
        batches=batches,
        outcomes=outcomes,
        contrast=contrast,
        learnt=learnt,
        verdict=verdict,
        outlook=outlook,
        next_step=step,
    )


def _without_contrast(learnt: Learnt, *, tested: int) -> tuple[AssayVerdict, Step]:
    """Returns the verdict and the step where the tested images, of the first folds, hold too few groups."""
    if not learnt.enough:
        return AssayVerdict(UNKNOWN, not_learnt_sentence(learnt)), Step.NOT_LEARNT
    reason = f"The {tested} images that were tested so far do not hold all groups."
    return AssayVerdict(UNKNOWN, reason), Step.OUT_OF_BUDGET


def _affordable_batches(journal: Journal, network: Network, batches: int) -> int:
    """Returns how many more batches of seeds are trained already, or have time if each takes as long as the next."""
    trained = 0
    batch = make_seed_batch(EVERYTHING, batches, size=journal.seeds_per_batch, folds=network.folds)
    # One that is trained costs nothing, any other one a second at least.
    while journal.cost(network, batch) == 0:
        trained += 1
        batch = make_seed_batch(EVERYTHING, batches + trained, size=journal.seeds_per_batch, folds=network.folds)
    return trained + int(journal.left / journal.cost(network, batch))


def seeds_that_tell(experiment: AssayExperiment, network: Network, population: AssayPopulation) -> tuple[int, float]:
    """Returns the seeds that would tell, in whole batches, and the budget that they need, in seconds."""
    journal = experiment.journal
    seeds = FEWEST_SEEDS
    if population.outcomes.seeds >= FEWEST_SEEDS and population.outlook is not None:
        seeds = max(seeds, population.outlook.seeds)
    missing = 0.0
    for number in range(journal.batch_count(seeds)):
        stage = make_seed_batch(EVERYTHING, number, size=journal.seeds_per_batch, folds=network.folds)
        if number == 0:
            stage = other_folds(stage)
        missing += journal.cost(network, stage)
    return journal.seeds_per_batch * journal.batch_count(seeds), journal.budget_to_train_for(missing)


def train_in_order(journal: Journal, network: Network, stages: Sequence[Stage]) -> list[TrainedStage]:
    """Trains the first of some stages, as many as the budget has time for, and returns those that are whole."""
    trained: list[TrainedStage] = []
    for stage in stages:
        if journal.cost(network, stage) > journal.left:
            break
        done = journal.train(network, stage)
        if not done.whole:
            break
        trained.append(done)
    return trained
