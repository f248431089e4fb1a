"""Whether models use an attribute of a user's data, and what would end it."""

import dataclasses
import importlib.metadata
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from flipjax.assays import population, remedy
from flipjax.assays.association import Association, associate, usual_mask
from flipjax.assays.contrast import Outcomes, group_flips, measure_contrast
from flipjax.assays.cues import measure_cues, rank_cues
from flipjax.assays.inputs import AssayImages, read_images
from flipjax.assays.network import NetworkChoice, choose_network, digest_of, schedule_of, store_schedule
from flipjax.assays.obstacles import cluster_counts, empty_groups, find_obstacle
from flipjax.assays.options import BUDGET, FOLDS, MARGIN, RHO, TARGET, Options, check_options, out_folder
from flipjax.assays.population import EVERYTHING
from flipjax.assays.record import to_plain
from flipjax.assays.results import RECORD, Assay, GroupRow, read_assay
from flipjax.assays.schedule import fit_remedies
from flipjax.assays.verdict import UNKNOWN, USED, AssayVerdict, judge_contrast, measure_learning
from flipjax.backend.start import start_backend
from flipjax.config import PopulationSpec
from flipjax.data.arrays import ArrayData
from flipjax.support.files import make_folder, write_text
from flipjax.support.terminal import say


def assay(
    data: ArrayData | str | Path,
    *,
    attribute: str,
    clusters: str = "",
    classes: Sequence[str] = (),
    values: Sequence[str] = (),
    size: int = 0,
    rho: float = RHO,
    folds: int = FOLDS,
    seeds: int = 0,
    epochs: int = 0,
    network: str = "auto",
    weights: str = "",
    budget: float = BUDGET,
    target: float = TARGET,
    margin: float = MARGIN,
    seed: int = 0,
    out: str | Path | None = None,
) -> Assay:
    """Tells whether networks that train on images use an attribute of them, and what would end it.

    Small networks train across folds at the data's own correlation, so that every image is tested by networks that did
    not train on it. The verdict is on the contrast of Flip between rare and common groups (`assays.contrast`). A
    finished assay is read back; a killed one continues.

    Args:
        data: a folder as `flipjax data check` reads it, or `flipjax.data.from_arrays(...)` whose scenes are the values.
        attribute: the column of metadata.csv that holds it; for other data the name of the scenes.
        clusters: column of metadata.csv, such as patient, whose equal values never cross folds.
        classes: names of the classes in order; empty: as found.
        values: names of the values in order; empty: as found.
        size: side in pixels at which images are read; 0: 48, or that of smaller arrays.
        rho: fraction of the objects of a composite pool that are shown in a usual scene.
        folds: number of folds.
        seeds: networks for each fold; 0: four, the fewest that a verdict needs.
        epochs: of each network; 0: as many as the budget allows.
        network: `unet`, `smp_efficientnet_lite0`, or `auto`: the small U-Net.
        weights: file of pretrained weights from `flipjax convert`.
        budget: seconds that training may take; an epoch is timed first.
        target: wanted Flip in the rare groups.
        margin: largest contrast that does not matter.
        seed: of folds and permutations.
        out: folder of the page, the record and the runs; by default runs/assay-SOURCE-ATTRIBUTE.

    Raises:
        ConfigError: the images or arguments cannot be used.

    Example:
        >>> import tempfile
        >>> from flipjax.data import from_arrays
        >>> photos = np.full((16, 16, 16, 3), 90, np.uint8)
        >>> masks = np.zeros((16, 16, 16), bool)
        >>> masks[:, 4:12, 4:12] = True
        >>> names = {"class_names": ("benign", "malignant"), "scene_names": ("A", "B")}
        >>> data = from_arrays(photos, masks, [0, 1] * 8, [0, 1] * 8, **names)  # Scanner B shows all that is malignant.
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     result = assay(data, attribute="scanner", out=folder)  # An Assay, for which nothing had to train.
        ...     again = read_assay(folder)
        >>> result.verdict.word, result.images, round(result.association.cramers_v, 2)
        ('cannot be told', 16, 1.0)
        >>> again.verdict.reason
        'scanner is the class: no counter-example exists, so that nothing separates the two.'
    """
    options = Options(
        attribute=attribute,
        clusters=clusters,
        classes=tuple(classes),
        values=tuple(values),
        size=size,
        rho=rho,
        folds=folds,
        seeds=seeds,
        epochs=epochs,
        network=network,
        weights=weights,
        budget=budget,
        target=target,
        margin=margin,
        seed=seed,
    )
    return conduct(data, options, out=out)


def conduct(data: ArrayData | str | Path, options: Options, *, out: str | Path | None = None) -> Assay:
    """Carries out an assay, or reads a finished one back; see `assay`."""
    check_options(options)
    folder = out_folder(data, options.attribute, out)
    begun = time.monotonic()
    # Before the pool is read: the number of devices cannot change later.
    start_backend(PopulationSpec(), options.network_seeds)
    images = read_images(data, options)
    digest = digest_of(images, options)
    stored = read_assay(folder)
    if stored is not None and stored.digest == digest:
        return stored
    make_folder(folder)
    finished = _assay(data, images, options, folder, digest)
    finished = dataclasses.replace(finished, seconds=round(time.monotonic() - begun, 1))
    # The page needs matplotlib.
    from flipjax.assays.page import write_assay

    write_assay(finished, folder)
    write_text(folder / RECORD, json.dumps(to_plain(finished), indent=1) + "\n")
    return finished


def _assay(data: ArrayData | str | Path, images: AssayImages, options: Options, folder: Path, digest: str) -> Assay:
    """Returns the assay: of association and cues alone where networks cannot tell."""
    units = images.units
    association = associate(units, seed=options.seed)
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
        groups=(),
        levels=(),
        methods=(),
        counter_examples=None,
        schedule=None,
        margin=options.margin,
        notes=images.notes,
        seconds=0.0,
        folder=str(folder),
        digest=digest,
        software=_versions(),
    )
    say(f"{options.attribute}: Cramer's V {association.cramers_v:.2f} with the class (p {association.p:.3g})")
    obstacle = find_obstacle(images, association)
    if obstacle is not None:
        return dataclasses.replace(plain, verdict=AssayVerdict(UNKNOWN, obstacle.reason, obstacle.help))
    rare = ~usual_mask(association.usual, units.values)
    choice = choose_network(data, images, options, rare, folder)
    return _trained(plain, choice, options, folder)


def _trained(plain: Assay, choice: NetworkChoice, options: Options, folder: Path) -> Assay:
    """Returns the assay with its verdict and, if the attribute is used, with what ends it."""
    images = choice.images
    units = images.units
    association = plain.association
    rare = ~usual_mask(association.usual, units.values)
    trained = population.train_population(images.data, choice.schedule.design, [EVERYTHING], folder / "population")
    tested = population.outcomes_of(trained, EVERYTHING, images=images.count)
    contrast = measure_contrast(units, association.usual, tested, seed=options.seed)
    learnt = measure_learning(units, rare, tested)
    assert contrast is not None
    judged = dataclasses.replace(
        plain,
        size=images.size,
        verdict=judge_contrast(contrast, learnt, margin=options.margin, attribute=options.attribute),
        contrast=contrast,
        learnt=learnt,
        groups=tuple(_group_rows(images, association, tested)),
        levels=(remedy.measure_level("all", 1.0, units, rare, tested),),
        schedule=choice.schedule,
        notes=(*plain.notes, *_notes_on_empty_groups(images, association), choice.sentence),
    )
    if judged.verdict.word != USED:
        return judged
    return _with_remedies(judged, choice, population.training_seconds(trained), options, folder)


def _with_remedies(judged: Assay, choice: NetworkChoice, seconds: float, options: Options, folder: Path) -> Assay:
    """Returns the assay with what ends the use of its attribute, as far as the budget has time for it.

    Args:
        judged: an assay whose attribute is used.
        choice: of the network.
        seconds: that the population trained.
        options: of the assay.
        folder: of the assay.
    """
    images = choice.images
    units = images.units
    schedule = choice.schedule
    remedies_folder = folder / "remedies"
    if not remedies_folder.exists():
        schedule = fit_remedies(schedule, spent=choice.seconds + seconds, budget=options.budget)
        store_schedule(schedule, digest_of(images, options), folder)
        judged = dataclasses.replace(judged, schedule=schedule)
    if not schedule.settings:
        return judged
    remedies = population.train_population(images.data, schedule.design, schedule.settings, remedies_folder)
    rare = ~usual_mask(judged.association.usual, units.values)
    levels = list(judged.levels)
    methods = []
    for setting in schedule.settings:
        outcomes = population.outcomes_of(remedies, setting, images=images.count)
        level = remedy.measure_level(setting.name, setting.rare_kept, units, rare, outcomes)
        if setting.method == "ce":
            levels.append(level)
        else:
            methods.append(level)
    levels = remedy.fewest_first(levels)
    needed = remedy.count_counter_examples(levels, units.counts, rare, target=options.target)
    return dataclasses.replace(judged, levels=tuple(levels), methods=tuple(methods), counter_examples=needed)


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
                    miss=1 - share_correct - share_flipped,
                )
            )
    return rows


def _notes_on_empty_groups(images: AssayImages, association: Association) -> list[str]:
    """Returns a sentence for each group without images."""
    names = empty_groups(images, association)
    return [f"No image shows {name}: the contrast rests on the other groups." for name in names]


def outline(data: ArrayData | str | Path, options: Options) -> Iterator[str]:
    """Yields what an assay would train, from one timed epoch."""
    check_options(options)
    start_backend(PopulationSpec(), options.network_seeds)
    images = read_images(data, options)
    association = associate(images.units, seed=options.seed, permutations=1)
    yield f"{images.source}: {images.count} images, read at {images.size} x {images.size} pixels"
    obstacle = find_obstacle(images, association)
    if obstacle is not None:
        yield f"nothing would be trained: {obstacle.reason} {obstacle.help}"
        return
    yield schedule_of(images, options, options.first_network, options.weights, None).sentence


def _versions() -> tuple[str, ...]:
    """Returns the software that an assay rests on."""
    return tuple(f"{name} {importlib.metadata.version(name)}" for name in ("flipjax", "jax", "numpy"))
