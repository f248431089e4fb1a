"""Whether models use an attribute of a user's data, and what would end it, from the images to the page."""

import dataclasses
import importlib.metadata
import inspect
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from flipjax.assays import remedy
from flipjax.assays.cues import measure_cues, rank_cues
from flipjax.assays.inputs import read_images
from flipjax.assays.journal import Journal, open_journal
from flipjax.assays.network import first_network
from flipjax.assays.obstacles import cluster_counts, find_obstacle, notes_on_empty_groups
from flipjax.assays.options import Options, check_options, out_folder
from flipjax.assays.population import EVERYTHING, Network, Stage, TrainedStage, by_setting, make_seed_batch, outcomes_of
from flipjax.assays.results import (
    UNNAMED_CLUSTERS,
    Assay,
    Training,
    group_rows,
    image_rows,
    write_image_rows,
    write_record,
)
from flipjax.assays.seed_batches import (
    AssayExperiment,
    AssayPopulation,
    Trial,
    choose_network,
    seeds_that_tell,
    train_in_order,
    train_population,
)
from flipjax.assays.sentences import advise, duration, findings
from flipjax.assays.statistics.association import associate
from flipjax.assays.statistics.verdict import UNKNOWN, AssayVerdict
from flipjax.backend.random import random_bits
from flipjax.backend.start import start_backend
from flipjax.config import PopulationSpec
from flipjax.data.sources.arrays import ArrayData
from flipjax.results.statistics.verdicts import FEWEST_SEEDS
from flipjax.runs import Run
from flipjax.support.files import make_folder
from flipjax.support.terminal import say

Source: TypeAlias = ArrayData | str | Path
"""A folder as `flipjax data check` reads it, or arrays whose scenes are the attribute's values."""


@random_bits()
def assay(data: Source, *, attribute: str, **options: Any) -> Assay:
    """Tells whether networks that train on images use an attribute of them, and what would end it.

    Small networks train across folds at the data's own correlation, so that every image is tested by networks that did
    not train on it. The verdict is on the contrast of Flip between rare and common groups
    (`assays.statistics.contrast`). The folder goes on with a larger budget, more seeds or another target; nothing
    trains twice. The process is left as it was, as by `flipjax.run`.

    Args:
        data: a folder as `flipjax data check` reads it, or `flipjax.data.from_arrays(...)` whose scenes are the values.
        attribute: the column of metadata.csv, or the name of the scenes.
        **options: other options of the command by name, such as `clusters` or `out` (`flipjax.assays.options.Options`).

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
    return conduct(data, Options(attribute=attribute, **options))


def _signature_with_options() -> inspect.Signature:
    """Returns the signature of `assay` with every option, which `Options` alone declares, for `help` and Tab."""
    data = inspect.signature(assay).parameters["data"]
    # All of them are keyword-only, as in the record.
    options = inspect.signature(Options).parameters.values()
    return inspect.Signature([data, *options], return_annotation=Assay)


# This is `assay.__signature__ = ...`, written so that type checkers accept it.
vars(assay)["__signature__"] = _signature_with_options()


def conduct(data: Source, options: Options) -> Assay:
    """Carries out an assay from its images to its page; `assay` and the command line make the record of options."""
    begun = time.monotonic()
    check_options(options)
    folder = out_folder(data, options)
    _start_devices()
    images = read_images(data, options)
    # It keeps training within the budget, with the time of earlier calls in this folder.
    journal = open_journal(folder, images, options)
    make_folder(folder)
    journal.write()
    association = associate(images.units, images.catalog.groups.usual, seed=options.seed)
    say(f"{options.attribute}: Cramer's V {association.cramers_v:.2f} with the class (p {association.p:.3g})")
    experiment = AssayExperiment(
        data=data,
        images=images,
        options=options,
        journal=journal,
        association=association,
    )
    untrained = _without_networks(experiment)
    obstacle = find_obstacle(images, association)
    if obstacle is not None:
        return _finish(dataclasses.replace(untrained, verdict=obstacle), begun)
    trial = choose_network(experiment)
    if trial.ended_early:
        # No rows: those of an earlier call are of another network.
        write_image_rows(folder, image_rows(trial.network.images, [trial.stage]))
        return _finish(_with_ended_trial(untrained, trial, options), begun)
    network = trial.network
    population = train_population(experiment, trial)
    judged = _with_verdict(untrained, experiment, trial, population)
    trained = [*population.stages]
    if judged.used:
        planned = _remedy_stages(journal, network)
        remedies = train_in_order(journal, network, planned)
        judged = _with_remedies(judged, experiment, network, planned, remedies)
        trained += remedies
    write_image_rows(folder, image_rows(network.images, trained))
    # The first stage trains on all counter-examples without a method, as the verdict's networks do.
    return _finish(judged, begun, shown=trained[0].run)


def outline(data: Source, options: Options) -> Iterator[str]:
    """Yields what an assay would train."""
    check_options(options)
    folder = out_folder(data, options)
    _start_devices()
    images = read_images(data, options)
    # One permutation, the least: the preview does not show p, which alone needs them.
    association = associate(images.units, images.catalog.groups.usual, seed=options.seed, permutations=1)
    yield f"{images.source}: {images.count} images, read at {images.size} x {images.size} pixels"
    yield from images.notes
    obstacle = find_obstacle(images, association)
    if obstacle is not None:
        yield f"nothing would be trained: {obstacle.reason} {obstacle.help}"
        return
    yield from notes_on_empty_groups(images, association)
    # Read, or made in memory alone: a preview writes nothing.
    journal = open_journal(folder, images, options)
    network = first_network(data, images, options)
    side_by_side = "one network"
    if journal.seeds_per_batch > 1:
        side_by_side = f"{journal.seeds_per_batch} networks"
    yield (
        f"{side_by_side} ({network.words}, {network.epochs} epochs) on the first fold, which tell whether the classes "
        f"are learnt; then as many on each of {network.folds} folds, batch after batch of seeds, until the verdict is "
        f"sure, {options.seeds} seeds are trained or {duration(options.budget)} are over; then what ends the use"
    )


def _start_devices() -> None:
    """Starts JAX with a device for each network that trains at once: those of a batch, FEWEST_SEEDS at most.

    It comes before the images are read, since the number of devices cannot change once JAX has started.
    """
    start_backend(PopulationSpec(), members=FEWEST_SEEDS)


def _without_networks(experiment: AssayExperiment) -> Assay:
    """Returns the assay of association and cues alone, without a verdict."""
    images = experiment.images
    options = experiment.options
    units = images.units
    pixels, masks = images.pixels()
    cues = measure_cues(pixels, masks, aspects=images.aspects)
    return Assay(
        attribute=options.attribute,
        source=images.source,
        class_names=images.catalog.class_names,
        value_names=images.catalog.scene_names,
        images=images.count,
        clusters=len(np.unique(units.cluster)),
        cluster_name=options.clusters or UNNAMED_CLUSTERS,
        cluster_counts=cluster_counts(images),
        size=images.size,
        association=experiment.association,
        cues=tuple(rank_cues(cues, units.class_, units.value, units.cluster, seed=options.seed)),
        verdict=AssayVerdict(UNKNOWN, ""),
        margin=options.margin,
        notes=images.notes,
        folder=str(experiment.journal.folder),
        software=_versions(),
    )


def _with_ended_trial(untrained: Assay, trial: Trial, options: Options) -> Assay:
    """Returns the assay whose budget ended before its first networks were trained."""
    reason = f"The budget of {duration(options.budget)} ended before the networks of the first fold were trained."
    verdict = AssayVerdict(UNKNOWN, reason, "A larger --budget goes on in this folder, whose earlier calls count.")
    return dataclasses.replace(untrained, verdict=verdict, notes=(*untrained.notes, *trial.notes))


def _with_verdict(untrained: Assay, experiment: AssayExperiment, trial: Trial, population: AssayPopulation) -> Assay:
    """Returns the assay with the verdict on its population, and what would tell where it cannot be told.

    It has one level, that of the population (EVERYTHING), which trained on all counter-examples; remedies add others.
    """
    association = experiment.association
    network = trial.network
    # At the size of the network that was chosen, which may be larger than the first one's.
    images = network.images
    outcomes = population.outcomes
    with_all = remedy.measure_level("all", EVERYTHING.rare_kept, images.units, association.rare, outcomes)
    judged = dataclasses.replace(
        untrained,
        size=images.size,
        verdict=population.verdict,
        contrast=population.contrast,
        learnt=population.learnt,
        outlook=population.outlook,
        groups=group_rows(images, association, outcomes),
        levels=(with_all,),
        training=Training(
            network=network.name,
            words=network.words,
            folds=network.folds,
            tested_folds=len(np.unique(images.found.folds[outcomes.tested])),
            seeds=outcomes.seeds,
            epochs=network.epochs,
            tested=int(outcomes.tested.sum()),
            seconds=experiment.journal.spent,
        ),
        notes=(*untrained.notes, *notes_on_empty_groups(images, association), *trial.notes),
    )
    if judged.verdict.word != UNKNOWN:
        return judged
    seeds, budget = seeds_that_tell(experiment, network, population)
    journal = experiment.journal
    allowed = journal.seeds_per_batch * journal.batch_count(experiment.options.seeds)
    advice = advise(judged, population.next_step, seeds=seeds, allowed=allowed, budget=budget)
    if trial.untried:
        advice = f"A larger --budget goes on in this folder with {trial.untried}, which may learn them."
    return dataclasses.replace(judged, verdict=dataclasses.replace(judged.verdict, help=advice))


def _remedy_stages(journal: Journal, network: Network) -> list[Stage]:
    """Returns the stages of the remedies: each setting has a batch of seeds before any has a second."""
    settings = remedy.settings_of(network.images.catalog.kind, network.name)
    stages = []
    for number in range(journal.batch_count(FEWEST_SEEDS)):
        for setting in settings:
            stages.append(make_seed_batch(setting, number, size=journal.seeds_per_batch, folds=network.folds))
    return stages


def _with_remedies(
    judged: Assay,
    experiment: AssayExperiment,
    network: Network,
    planned: Sequence[Stage],
    trained: Sequence[TrainedStage],
) -> Assay:
    """Returns the assay with what ends the use of its attribute.

    Args:
        judged: the assay with its verdict.
        experiment: the images, options, journal and association of the assay.
        network: the network that was trained.
        planned: all stages that the remedies need.
        trained: the first of these, for which the budget had time.
    """
    units = network.images.units
    rare = experiment.association.rare
    levels = [*judged.levels]
    methods = []
    for setting, stages in by_setting(trained).items():
        outcomes = outcomes_of(stages, images=network.images.count)
        level = remedy.measure_level(setting.name, setting.rare_kept, units, rare, outcomes)
        if setting.has_method:
            methods.append(level)
        else:
            levels.append(level)
    levels = remedy.fewest_first(levels)
    counter_examples = None
    if trained:
        target = experiment.options.target
        counter_examples = remedy.count_counter_examples(levels, units.counts, rare, target=target)
    return dataclasses.replace(
        judged,
        levels=tuple(levels),
        methods=tuple(methods),
        counter_examples=counter_examples,
        training=_training_with_remedies(judged, experiment.journal, network, planned, trained),
    )


def _training_with_remedies(
    judged: Assay,
    journal: Journal,
    network: Network,
    planned: Sequence[Stage],
    trained: Sequence[TrainedStage],
) -> Training:
    """Returns the training of an assay with its remedies: the time of all, and what the budget had no time for."""
    assert judged.training is not None
    left_out = planned[len(trained) :]
    measured = by_setting(trained)
    # A setting has several stages, and one title.
    titles = dict.fromkeys(stage.setting.title for stage in left_out if stage.setting not in measured)
    missing_seconds = sum(journal.cost(network, stage) for stage in left_out)
    return dataclasses.replace(
        judged.training,
        seconds=journal.spent,
        left_out=tuple(titles),
        budget_for_all=journal.budget_to_train_for(missing_seconds),
    )


def _finish(assay: Assay, begun: float, *, shown: Run | None = None) -> Assay:
    """Notes the duration of an assay, writes its page and, last, its record, and returns it.

    Args:
        assay: the assay with its verdict.
        begun: `time.monotonic()` when it began.
        shown: the run whose flipped images the page shows, if any was trained.
    """
    # The page needs matplotlib.
    from flipjax.assays.page import write_assay

    finished = dataclasses.replace(assay, seconds=round(time.monotonic() - begun, 1))
    write_assay(finished, shown)
    write_record(finished, findings(finished))
    return finished


def _versions() -> tuple[str, ...]:
    """Returns the software that an assay rests on."""
    return tuple(f"{name} {importlib.metadata.version(name)}" for name in ("flipjax", "jax", "numpy"))
