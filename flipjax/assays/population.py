"""Trains the networks of an assay with the engine of a sweep, and reads what they made of the images that they test."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from flipjax.assays.contrast import Outcomes
from flipjax.config import Config, ConfigError, default_config
from flipjax.config.reading import configure
from flipjax.data.arrays import ArrayData
from flipjax.metrics.decomposition import margins, pixel_ratios
from flipjax.results.record import known_record
from flipjax.runs import Run, run
from flipjax.support.terminal import INTERRUPTED


class InterruptedAssayError(Exception):
    """Training was interrupted; the same call continues it."""

    exit_code = INTERRUPTED


@dataclasses.dataclass(frozen=True)
class NetworkSetting:
    """A setting of an assay's networks.

    Attributes:
        rare_kept: fraction of the counter-examples in training.
        method: of `flipjax.config.methods`.
    """

    rare_kept: float
    method: str

    @property
    def name(self) -> str:
        """Its name, such as `50%` of the counter-examples, or `balanced`."""
        if self.method == "ce":
            return f"{self.rare_kept:.0%}"
        return self.method

    @property
    def title(self) -> str:
        """Its name in a sentence."""
        if self.method == "ce":
            return f"{self.rare_kept:.0%} of the counter-examples"
        return self.method


FINE_TUNING = {
    "axes.learning_rate": (3e-4,),
    "axes.weight_decay": (0.05,),
    "axes.schedule": ("cosine",),
    "axes.warmup": (0.1,),
}
"""The optimiser of pretrained weights, that of `photos_grid:pretrained`."""
EVERYTHING = NetworkSetting(1.0, "ce")
"""The setting of the population: all counter-examples, and no method against flips."""


@dataclasses.dataclass(frozen=True)
class Design:
    """How an assay trains.

    Attributes:
        folds: number of folds, each tested by networks that trained on the others.
        seeds: networks for each fold and setting.
        epochs: of each network.
        network: `config.model.name`.
        weights: file of pretrained weights, or ''.
        rho: at which the objects of a composite pool are shown; photos keep their own scenes.
    """

    folds: int
    seeds: int
    epochs: int
    network: str = "unet"
    weights: str = ""
    rho: float = 1.0

    @property
    def members(self) -> int:
        """Networks of one setting."""
        return self.folds * self.seeds


def configuration(design: Design, settings: Sequence[NetworkSetting], *, folds: Sequence[int]) -> Config:
    """Returns the configuration that trains each setting for each seed and fold.

    Networks of the last epoch are tested, so that validation images choose nothing. Scores and swapped scenes are left
    out for speed.
    """
    fine_tuning: dict[str, object] = {}
    if design.weights:
        fine_tuning = FINE_TUNING
    return configure(
        default_config(),
        {
            "members": [dataclasses.asdict(setting) for setting in settings],
            "split.folds": design.folds,
            "grid.split.fold": tuple(folds),
            "split.n_train": 0,
            "train.epochs": design.epochs,
            "train.patience": design.epochs,
            "train.selection": ("last",),
            "model.name": design.network,
            "model.weights": design.weights,
            **fine_tuning,
            "intervene.scenes": "none",
            "intervene.scores": "none",
            "population.keep": "none",
            "axes.rho": (design.rho,),
            "axes.seed": tuple(range(design.seeds)),
        },
    )


def train_population(
    data: ArrayData,
    design: Design,
    settings: Sequence[NetworkSetting],
    folder: Path,
    *,
    folds: Sequence[int] | None = None,
) -> Run:
    """Trains the missing networks of some settings in a run folder; a finished one trains nothing.

    Args:
        data: the images.
        design: folds, seeds, epochs and network.
        settings: what differs between the networks of a fold and seed.
        folder: the run folder.
        folds: the folds to test; None: all.

    Raises:
        ConfigError: the folder holds another assay.
        InterruptedAssayError: a signal stopped the training.
    """
    tested = folds
    if tested is None:
        tested = range(design.folds)
    config = configuration(design, settings, folds=tested)
    try:
        trained = run(config, data=data, workdir=folder)
    except ConfigError as error:
        if error.field != "--workdir":
            raise
        raise ConfigError(
            "--out", "a new folder, or that of the same images and options", str(folder.parent)
        ) from error
    if len(trained.members) < len(tested) * design.seeds * len(settings):
        raise InterruptedAssayError(f"{folder}: interrupted; the same command continues")
    return trained


def training_seconds(trained: Run) -> float:
    """Returns the seconds that training a run folder took, in all of its starts that were not killed."""
    starts = known_record(trained.folder).get("sessions", [])
    return sum(start.get("seconds", 0.0) for start in starts)


def outcomes_of(trained: Run, setting: NetworkSetting, *, images: int) -> Outcomes:
    """Returns what the networks of a setting made of every image that they tested.

    Args:
        trained: of `train_population`.
        setting: one of its settings.
        images: number of images in the pool; those of untested folds, and of diverged networks, are NaN.
    """
    table = trained.results.drop_duplicates("member").set_index("member")
    records = table.to_dict("index")
    seeds = sorted(table["seed"].unique())
    correct = np.full((len(seeds), images), np.nan)
    flip = np.full((len(seeds), images), np.nan)
    spill = np.full((len(seeds), images), np.nan)
    foreground = np.full(images, np.nan)
    for cell in trained.cells.values():
        inside = cell.images.image_part == "test"
        rows = cell.images.object_row[inside]
        for name in cell.members:
            axes = records[name]
            if axes["rare_kept"] != setting.rare_kept or axes["method"] != setting.method:
                continue
            if axes["status"] == "diverged":
                continue
            ratios = pixel_ratios(margins(np.asarray(cell.decomposition(name, "test").confusion)))
            seed = seeds.index(axes["seed"])
            correct[seed, rows] = ratios.correct.part
            flip[seed, rows] = ratios.flip.part
            spill[seed, rows] = ratios.spill.part
            foreground[rows] = ratios.flip.whole
    return Outcomes(correct, flip, spill, foreground)
