"""Whether models use an attribute of a user's data, and what would end it: one wave of networks after another."""

import dataclasses
import functools
import importlib.metadata
import inspect
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeAlias

import numpy as np
import pandas as pd

from flipjax.assays import remedy
from flipjax.assays.association import Association, associate, usual_mask
from flipjax.assays.contrast import Contrast, Outcomes, group_flips, measure_contrast
from flipjax.assays.cues import measure_cues, rank_cues
from flipjax.assays.inputs import AssayImages, read_images
from flipjax.assays.journal import Journal, open_journal
from flipjax.assays.network import MissingNetworkError, first_network, frozen_network
from flipjax.assays.obstacles import cluster_counts, empty_groups, find_obstacle
from flipjax.assays.options import Options, check_options, out_folder
from flipjax.assays.population import (
    EVERYTHING,
    Network,
    NetworkSetting,
    TrainedStage,
    first_fold,
    other_folds,
    outcomes_of,
    wave,
)
from flipjax.assays.results import Assay, GroupRow, Training, image_rows, write_image_rows, write_record
from flipjax.assays.sentences import advise, duration, findings
from flipjax.assays.verdict import (
    UNKNOWN,
    AssayVerdict,
    Learnt,
    Outlook,
    Step,
    judge_contrast,
    look_ahead,
    measure_learning,
    next_step,
)
from flipjax.backend.start import start_backend
from flipjax.config import PopulationSpec
from flipjax.data.arrays import ArrayData
from flipjax.results.verdicts import FEWEST
from flipjax.support.files import make_folder
from flipjax.support.terminal import say

Source: TypeAlias = ArrayData | str | Path
"""A folder as `flipjax data check` reads it, or arrays whose scenes are the attribute's values."""
Asked = ParamSpec("Asked")
"""The options as keyword arguments."""


def takes_options(
    build: Callable[Asked, Options],
) -> Callable[[Callable[[Source, Options], Assay]], Callable[Concatenate[Source, Asked], Assay]]:
    """Lets a function of images and options take the options as keyword arguments, with their types and defaults."""

    def decorate(body: Callable[[Source, Options], Assay]) -> Callable[Concatenate[Source, Asked], Assay]:
        @functools.wraps(body)
        def call(data: Source, /, *args: Asked.args, **options: Asked.kwargs) -> Assay:
            return body(data, build(*args, **options))

        first, *_ = inspect.signature(body).parameters.values()
        named = inspect.signature(build).parameters.values()
        vars(call)["__signature__"] = inspect.Signature([first, *named], return_annotation=Assay)
        return call

    return decorate


@takes_options(Options)
def assay(data: Source, options: Options) -> Assay:
    """Tells whether networks that train on images use an attribute of them, and what would end it.

    Small networks train across folds at the data's own correlation, so that every image is tested by networks that did
    not train on it. The verdict is on the contrast of Flip between rare and common groups (`assays.contrast`). The
    folder goes on with a larger budget, more seeds or another target; nothing trains twice.

    Args:
        data: a folder as `flipjax data check` reads it, or `flipjax.data.from_arrays(...)` whose scenes are the values.
        options: keyword arguments, those of the command: `attribute`, and any of `flipjax.assays.options.Options`.

    Raises:
        ConfigError: the images or options cannot be used.

    Example:
        >>> import tempfile
        >>> from flipjax.assays import open_assay
        >>> from flipjax.data import from_arrays
        >>> photos = np.full((16, 16, 16, 3), 90, np.uint8)
        >>> masks = np.zeros((16, 16, 16), bool)
        >>> masks[:, 4:12, 4:12] = True
        >>> names = {"class_names": ("benign", "malignant"), "scene_names": ("A", "B")}
        >>> data = from_arrays(photos, masks, [0, 1] * 8, [0, 1] * 8, **names)  # Scanner B shows all that is malignant.
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     result = assay(data, attribute="scanner", out=folder)  # An Assay, for which nothing had to train.
        ...     again = open_assay(folder)  # An OpenedAssay.
        >>> result.verdict.word, result.images, round(result.association.cramers_v, 2)
        ('cannot be told', 16, 1.0)
        >>> again.findings[0]
        'scanner: cannot be told. scanner is the class: no counter-example exists, so that nothing separates the two.'
    """
    return conduct(data, options)


def conduct(data: Source, options: Options) -> Assay:
    """Carries out an assay; see `assay`."""
    begun = time.monotonic()
    check_options(options)
    folder = out_folder(data, options)
    # Before the pool is read: the number of devices cannot change later.
    start_backend(PopulationSpec(), FEWEST)
    images = read_images(data, options)
    journal = open_journal(folder, images, options)
    make_folder(folder)
    journal.write()
    experiment = Experiment(data, images, options, journal)
    finished = dataclasses.replace(_result_of(experiment), seconds=round(time.monotonic() - begun, 1))
    # The page needs matplotlib.
    from flipjax.assays.page import write_assay

    write_assay(finished, experiment.shown_run)
    if experiment.tables:
        write_image_rows(folder, pd.concat(experiment.tables, ignore_index=True))
    write_record(finished, findings(finished))
    return finished


def outline(data: Source, options: Options) -> Iterator[str]:
    """Yields what an assay would train."""
    check_options(options)
    start_backend(PopulationSpec(), FEWEST)
    images = read_images(data, options)
    association = associate(images.units, images.catalog.groups.usual, seed=options.seed, permutations=1)
    yield f"{images.source}: {images.count} images, read at {images.size} x {images.size} pixels"
    yield from images.notes
    obstacle = find_obstacle(images, association)
    if obstacle is not None:
        yield f"nothing would be trained: {obstacle.reason} {obstacle.help}"
        return
    yield from _notes_on_empty_groups(images, association)
    journal = open_journal(out_folder(data, options), images, options)
    network = first_network(data, images, options, journal.folder)
    side_by_side = "one network" if journal.wave == 1 else f"{journal.wave} networks"
    yield (
        f"{side_by_side} ({network.words}, {network.epochs} epochs) on the first fold, which tell whether the classes "
        f"are learnt; then as many on each of {network.folds} folds, wave after wave, until the verdict is sure, "
        f"{options.seeds} seeds are trained or {duration(options.budget)} are over; then what ends the use, if any"
    )


@dataclasses.dataclass(eq=False)
class Experiment:
    """An assay under way.

    Attributes:
        data: the images as they were given.
        images: at the size of the small U-Net.
        options: of the assay.
        journal: the state of its folder.
        tables: rows of images.parquet.
        shown_run: the run folder whose flipped images the page shows; None if nothing was trained.
    """

    data: Source
    images: AssayImages
    options: Options
    journal: Journal
    tables: list[pd.DataFrame] = dataclasses.field(default_factory=list)
    shown_run: Path | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Trial:
    """The networks of the first fold.

    Attributes:
        network: that was tried.
        stage: what was trained.
        learnt: what they learnt; None if the budget ended before.
        notes: what other networks were tried, or would be, a sentence each.
    """

    network: Network
    stage: TrainedStage
    learnt: Learnt | None
    notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, eq=False)
class Measured:
    """The population after a wave.

    Attributes:
        waves: that are whole; without any, what of the first is trained.
        tested: what its networks made of the images.
        contrast: of the images that were tested; None if they do not hold the groups that tell it.
        learnt: whether it learnt the classes.
        verdict: so far.
        outlook: what would tell.
    """

    waves: list[list[TrainedStage]]
    tested: Outcomes
    contrast: Contrast | None
    learnt: Learnt
    verdict: AssayVerdict
    outlook: Outlook | None

    @property
    def stages(self) -> list[TrainedStage]:
        """All that is trained."""
        return [stage for stages in self.waves for stage in stages]


def _result_of(experiment: Experiment) -> Assay:
    """Returns the assay: of association and cues alone where networks cannot tell."""
    images = experiment.images
    options = experiment.options
    units = images.units
    association = associate(units, images.catalog.groups.usual, seed=options.seed)
    pixels, masks = images.pixels()
    measured = measure_cues(pixels, masks, aspects=images.aspects)
    cues = rank_cues(measured, units.class_, units.value, units.cluster, seed=options.seed)
    plain = Assay(
        attribute=options.attribute,
        source=images.source,
        class_names=images.catalog.class_names,
        value_names=images.catalog.scene_names,
        images=images.count,
        clusters=len(np.unique(units.cluster)),
        cluster_name=options.clusters or "clusters",
        cluster_counts=cluster_counts(images),
        size=images.size,
        association=association,
        cues=tuple(cues),
        verdict=AssayVerdict(UNKNOWN, ""),
        contrast=None,
        learnt=None,
        outlook=None,
        groups=(),
        levels=(),
        methods=(),
        counter_examples=None,
        training=None,
        margin=options.margin,
        notes=images.notes,
        seconds=0.0,
        folder=str(experiment.journal.folder),
        software=_versions(),
    )
    say(f"{options.attribute}: Cramer's V {association.cramers_v:.2f} with the class (p {association.p:.3g})")
    obstacle = find_obstacle(images, association)
    if obstacle is not None:
        return dataclasses.replace(plain, verdict=AssayVerdict(UNKNOWN, obstacle.reason, obstacle.help))
    rare = ~usual_mask(association.usual, units.values)
    trial = _choose_network(experiment, rare)
    if trial.learnt is None:
        reason = f"The budget of {duration(options.budget)} ended before the networks of the first fold were trained."
        verdict = AssayVerdict(UNKNOWN, reason, "A larger --budget goes on in this folder.")
        return dataclasses.replace(plain, verdict=verdict, notes=(*plain.notes, *trial.notes))
    return _trained(experiment, plain, trial, rare)


def _choose_network(experiment: Experiment, rare: np.ndarray) -> Trial:
    """Tries the small U-Net on the first fold, and frozen features where it does not learn the classes there.

    A whole population of networks that do not learn would only take longer.
    """
    options = experiment.options
    network = first_network(experiment.data, experiment.images, options, experiment.journal.folder)
    trial = _try_network(experiment, network, rare)
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
    second = _try_network(experiment, larger, rare)
    if second.learnt is None:
        return dataclasses.replace(trial, notes=(f"{accuracy}; the budget ended before {larger.words} were tried.",))
    return dataclasses.replace(second, notes=(f"{accuracy}: the verdict is on {larger.words}.",))


def _try_network(experiment: Experiment, network: Network, rare: np.ndarray) -> Trial:
    """Trains the networks of the first fold."""
    stage = first_fold(wave(EVERYTHING, 0, seeds=experiment.journal.wave, folds=network.folds))
    trained = experiment.journal.train(network, stage)
    if not trained.whole:
        return Trial(network, trained, None)
    tested = outcomes_of([trained], images=network.images.count)
    return Trial(network, trained, measure_learning(network.images.units, rare, tested))


def _trained(experiment: Experiment, plain: Assay, trial: Trial, rare: np.ndarray) -> Assay:
    """Returns the assay with its verdict and, if the attribute is used, with what ends it."""
    journal = experiment.journal
    network = trial.network
    images = network.images
    population, step = _train_population(experiment, plain.association, trial)
    units = images.units
    experiment.tables.append(image_rows(images, EVERYTHING, population.stages))
    experiment.shown_run = journal.folder / network.name / trial.stage.stage.name
    judged = dataclasses.replace(
        plain,
        size=images.size,
        verdict=population.verdict,
        contrast=population.contrast,
        learnt=population.learnt,
        outlook=population.outlook,
        groups=tuple(_group_rows(images, plain.association, population.tested)),
        levels=(remedy.measure_level("all", 1.0, units, rare, population.tested),),
        training=Training(
            network=network.name,
            words=network.words,
            folds=network.folds,
            seeds=population.tested.seeds,
            epochs=network.epochs,
            tested=int(population.tested.tested.sum()),
            seconds=journal.spent,
        ),
        notes=(*plain.notes, *_notes_on_empty_groups(images, plain.association), *trial.notes),
    )
    if judged.used:
        return _with_remedies(experiment, judged, network, rare)
    if judged.verdict.word != UNKNOWN:
        return judged
    seeds, budget = _needed(experiment, population, network)
    advice = advise(judged, step, seeds=seeds, budget=budget)
    return dataclasses.replace(judged, verdict=dataclasses.replace(judged.verdict, help=advice))


def _needed(experiment: Experiment, population: Measured, network: Network) -> tuple[int, float]:
    """Returns the seeds that would tell, in whole waves, and the budget that they need, in seconds."""
    journal = experiment.journal
    seeds = FEWEST
    if population.outlook is not None:
        seeds = max(seeds, population.outlook.seeds)
    waves = -(-seeds // journal.wave)
    missing = 0.0
    for number in range(waves):
        whole = wave(EVERYTHING, number, seeds=journal.wave, folds=network.folds)
        missing += journal.cost(network, other_folds(whole) if number == 0 else whole)
    return waves * journal.wave, journal.budget_with(missing)


def _train_population(experiment: Experiment, association: Association, trial: Trial) -> tuple[Measured, Step]:
    """Trains waves until the verdict is sure, or more of them cannot make it so; returns the last step, too."""
    journal = experiment.journal
    options = experiment.options
    network = trial.network
    assert trial.learnt is not None
    if not trial.learnt.enough:
        return _measure(experiment, association, network, [[trial.stage]]), Step.NOT_LEARNT
    first = wave(EVERYTHING, 0, seeds=journal.wave, folds=network.folds)
    others = journal.train(network, other_folds(first))
    waves = [[trial.stage, others]]
    population = _measure(experiment, association, network, waves)
    if not others.whole or population.outlook is None:
        return population, Step.OUT_OF_BUDGET
    while population.outlook is not None:
        further = wave(EVERYTHING, len(waves), seeds=journal.wave, folds=network.folds)
        # A wave that is trained costs nothing, and nothing is known of those after it.
        affordable = int(max(0.0, journal.left) / max(1.0, journal.cost(network, further)))
        step = next_step(
            population.verdict,
            population.learnt,
            population.outlook,
            seeds=journal.wave * len(waves),
            allowed=-(-options.seeds // journal.wave) * journal.wave,
            affordable=journal.wave * (len(waves) + affordable),
        )
        if step != Step.MORE_SEEDS:
            return population, step
        say(f"after {journal.wave * len(waves)} seeds: {population.verdict.reason} More can tell.")
        trained = journal.train(network, further)
        if not trained.whole:
            return population, Step.OUT_OF_BUDGET
        waves.append([trained])
        population = _measure(experiment, association, network, waves)
    return population, Step.OUT_OF_BUDGET


def _measure(
    experiment: Experiment,
    association: Association,
    network: Network,
    waves: Sequence[list[TrainedStage]],
) -> Measured:
    """Measures the population of some waves, on the images that they tested."""
    options = experiment.options
    rare = ~usual_mask(association.usual, network.images.units.values)
    stages = [stage for of_wave in waves for stage in of_wave]
    tested = outcomes_of(stages, images=network.images.count)
    inside = tested.tested
    units = network.images.units.where(inside)
    size = experiment.journal.wave
    seeds = range(size, size * len(waves) + 1, size)
    contrast = measure_contrast(
        units,
        association.usual,
        tested.where(inside),
        looks=[count for count in seeds if count >= FEWEST],
        seed=options.seed,
    )
    learnt = measure_learning(units, rare, tested.where(inside))
    if contrast is None:
        reason = f"The {inside.sum()} images that were tested so far do not hold all groups."
        return Measured(list(waves), tested, None, learnt, AssayVerdict(UNKNOWN, reason), None)
    verdict = judge_contrast(contrast, learnt, margin=options.margin, attribute=options.attribute)
    outlook = look_ahead(contrast, cluster_counts(network.images), margin=options.margin)
    return Measured(list(waves), tested, contrast, learnt, verdict, outlook)


def _with_remedies(experiment: Experiment, judged: Assay, network: Network, rare: np.ndarray) -> Assay:
    """Returns the assay with what ends the use of its attribute, as far as the budget has time for it.

    Each setting gets a wave before any gets a second, up to as many seeds as a verdict needs.
    """
    journal = experiment.journal
    images = network.images
    settings = remedy.settings_of(images.catalog.kind, network.name)
    trained: dict[NetworkSetting, list[TrainedStage]] = {setting: [] for setting in settings}
    missing = 0.0
    for number in range(-(-FEWEST // journal.wave)):
        for setting in settings:
            stage = wave(setting, number, seeds=journal.wave, folds=network.folds)
            cost = journal.cost(network, stage)
            if missing or cost > journal.left:
                missing += cost
                continue
            done = journal.train(network, stage)
            if done.whole:
                trained[setting].append(done)
            else:
                missing += journal.cost(network, stage)
    units = images.units
    levels = list(judged.levels)
    methods = []
    for setting, stages in trained.items():
        if not stages:
            continue
        level = remedy.measure_level(
            setting.name, setting.rare_kept, units, rare, outcomes_of(stages, images=images.count)
        )
        experiment.tables.append(image_rows(images, setting, stages))
        if setting.method == "ce":
            levels.append(level)
        else:
            methods.append(level)
    levels = remedy.fewest_first(levels)
    assert judged.training is not None
    training = dataclasses.replace(
        judged.training,
        seconds=journal.spent,
        left_out=tuple(setting.title for setting in settings if not trained[setting]),
        budget_for_all=journal.budget_with(missing),
    )
    needed = None
    if len(levels) > 1 or methods:
        target = experiment.options.target
        needed = remedy.count_counter_examples(levels, units.counts, rare, target=target)
    return dataclasses.replace(
        judged, levels=tuple(levels), methods=tuple(methods), counter_examples=needed, training=training
    )


def _group_rows(images: AssayImages, association: Association, tested: Outcomes) -> list[GroupRow]:
    """Returns the outcomes of every group."""
    units = images.units
    usual = usual_mask(association.usual, units.values)
    correct = group_flips(units, tested, tested.correct).mean(0)
    flip = group_flips(units, tested, tested.flip).mean(0)
    rows = []
    for y, class_name in enumerate(images.catalog.class_names):
        for value, value_name in enumerate(images.catalog.scene_names):
            share_correct = float(correct[y, value])
            share_flipped = float(flip[y, value])
            rows.append(
                GroupRow(
                    class_name=class_name,
                    value_name=value_name,
                    common=bool(usual[y, value]),
                    images=int(units.counts[y, value]),
                    correct=share_correct,
                    flip=share_flipped,
                    # Rounded, so that nothing is -0.00.
                    miss=round(1 - share_correct - share_flipped, 9) + 0.0,
                )
            )
    return rows


def _notes_on_empty_groups(images: AssayImages, association: Association) -> list[str]:
    """Returns a sentence for each group without images."""
    names = empty_groups(images, association)
    return [f"No image shows {name}: the contrast rests on the other groups." for name in names]


def _versions() -> tuple[str, ...]:
    """Returns the software that an assay rests on."""
    return tuple(f"{name} {importlib.metadata.version(name)}" for name in ("flipjax", "jax", "numpy"))
