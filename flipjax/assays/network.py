"""The networks that an assay may train: a small U-Net, a decoder of frozen features, a pretrained U-Net."""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path

from flipjax.assays.inputs import AssayImages, read_images
from flipjax.assays.options import FROZEN, PRETRAINED, SMALL, Options
from flipjax.assays.population import Network
from flipjax.config import ConfigError, TrainSpec
from flipjax.data.sources.arrays import ArrayData
from flipjax.data.splits.folds import VALIDATION
from flipjax.support.files import make_folder

STRIDE = 32
"""A divisor of the side of images for frozen and pretrained networks."""
SIZE_OF_ENCODERS = 96
"""The side at which images are read for these by default."""
UPDATES = 400
"""Batches that a network trains on by default: small ones have learnt by then, whatever the machine."""
FEWEST_EPOCHS = 5
"""Epochs by default, at least."""
MOST_EPOCHS = 40
"""Epochs by default, at most."""
FINE_TUNING = {
    "model.name": "smp_efficientnet_lite0",
    "train.learning_rate": 3e-4,
    "train.weight_decay": 0.05,
    "train.schedule": "cosine",
    "train.warmup": 0.1,
}
"""The optimiser of pretrained weights, that of `photos_grid:pretrained`."""


class MissingNetworkError(Exception):
    """A network lacks what it needs to train here, which the message names."""


def first_network(
    data: ArrayData | str | Path, images: AssayImages, options: Options, folder: Path | None = None
) -> Network:
    """Returns the network that is tried first.

    Args:
        data: the images as `flipjax.assay` takes them, to be read larger for all but the small U-Net.
        images: at the size of the small U-Net.
        options: of the assay.
        folder: of the assay, into which weights are converted; None: nothing will be trained.

    Raises:
        ConfigError: the network that was asked for cannot be trained here.
    """
    if options.network in ("auto", SMALL):
        return _network(SMALL, "small U-Nets", images, options, {"model.name": "unet"})
    try:
        if options.network == FROZEN:
            return frozen_network(data, options)
        return _pretrained_network(data, options, folder)
    except MissingNetworkError as error:
        raise ConfigError("--network", problem=f"{options.network} needs {error}") from error


def frozen_network(data: ArrayData | str | Path, options: Options) -> Network:
    """Returns the decoder of frozen features; raises MissingNetworkError."""
    # The features are computed when the networks train. Without the package, say so before that.
    _weights_file()
    words = "networks on frozen features of EfficientNet-Lite0"
    return _network(FROZEN, words, _read_larger(data, options), options, {"model.name": FROZEN})


def _pretrained_network(data: ArrayData | str | Path, options: Options, folder: Path | None) -> Network:
    """Returns the U-Net with a pretrained encoder; raises MissingNetworkError."""
    weights = options.weights
    if not weights:
        file = _weights_file()
        if folder is not None:
            weights = _converted_weights(file, folder)
    changes = {**FINE_TUNING, "model.weights": weights}
    words = "U-Nets with a pretrained EfficientNet-Lite0"
    images = _read_larger(data, options)
    if options.weights:
        _check_weights(options.weights, classes=len(images.catalog.class_names))
    return _network(PRETRAINED, words, images, options, changes)


def _check_weights(file: str, *, classes: int) -> None:
    """Raises ConfigError for a file that does not hold weights of the encoder."""
    from flipjax.models.weights.files import WeightsError, load_weights

    try:
        load_weights(file, encoder="efficientnet_lite0", num_classes=1 + classes)
    except WeightsError as error:
        raise ConfigError("--weights", problem=str(error)) from error


def _read_larger(data: ArrayData | str | Path, options: Options) -> AssayImages:
    """Returns the images for an encoder of ImageNet weights."""
    images = read_images(data, dataclasses.replace(options, size=options.size or SIZE_OF_ENCODERS))
    if images.size % STRIDE:
        raise MissingNetworkError(f"images of --size {SIZE_OF_ENCODERS} or another multiple of {STRIDE}")
    return images


def _network(name: str, words: str, images: AssayImages, options: Options, changes: Mapping[str, object]) -> Network:
    """Returns a network that trains on the images for the epochs and folds of the options."""
    return Network(
        name=name,
        words=words,
        images=images,
        changes=changes,
        epochs=options.epochs or _epochs_of(images.count, options.folds),
        folds=options.folds,
        rho=_rho_of(images, options),
        keep=options.keep,
    )


def _epochs_of(images: int, folds: int) -> int:
    """Returns the epochs after which a network has trained on UPDATES batches.

    Example:
        >>> _epochs_of(600, 5), _epochs_of(60, 2)
        (16, 40)
    """
    trained = images * (1 - 1 / folds) * (1 - 1 / VALIDATION)
    batches = max(1.0, trained / TrainSpec().batch_size)
    return min(MOST_EPOCHS, max(FEWEST_EPOCHS, math.ceil(UPDATES / batches)))


def _rho_of(images: AssayImages, options: Options) -> float:
    """Returns the rho of a network's configuration: the option's for a composite pool, that of the photos otherwise."""
    if images.catalog.kind == "composite":
        return options.rho
    return round(float(1 - images.found.rare.mean()), 6)


def _converted_weights(file: Path, folder: Path) -> str:
    """Returns the package's weights of EfficientNet-Lite0, converted into a folder."""
    from flipjax.models.weights.files import convert_weights

    target = folder / "weights" / "efficientnet_lite0"
    if not target.with_suffix(".safetensors").is_file():
        make_folder(target.parent)
        # The file holds an encoder alone, so any number of classes serves.
        convert_weights(file, target, encoder="efficientnet_lite0", num_classes=3)
    return str(target)


def _weights_file() -> Path:
    """Returns the package's file of weights; raises MissingNetworkError."""
    from flipjax.models.weights.pretrained import MissingWeightsError, weights_file

    try:
        return weights_file()
    except MissingWeightsError as error:
        raise MissingNetworkError(error.needed) from error
