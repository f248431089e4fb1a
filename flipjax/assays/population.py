"""Trains the networks of an assay with the engine of a sweep, and reads what they made of the images that they test."""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from flipjax.assays.inputs import AssayImages
from flipjax.assays.statistics.outcomes import Outcomes
from flipjax.config import Config, default_config
from flipjax.config.plan import plan
from flipjax.config.reading import configure
from flipjax.data.sources.arrays import keys_of
from flipjax.metrics.decomposition import pixel_ratios
from flipjax.runs import Run
from flipjax.support.terminal import Signals
from flipjax.sweep.run import run_sweep


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
    def has_method(self) -> bool:
        """Whether it has a method against flips, in place of plain cross-entropy."""
        return self.method != "ce"

    @property
    def name(self) -> str:
        """Its name, such as `50%` of the counter-examples, or `balanced`."""
        if self.has_method:
            return self.method
        return f"{self.rare_kept:.0%}"

    @property
    def title(self) -> str:
        """Its name in a sentence."""
        if self.has_method:
            return self.method
        return f"{self.rare_kept:.0%} of the counter-examples"

    @property
    def folder(self) -> str:
        """The name of the folder of its runs."""
        if self.has_method:
            return self.method
        return f"kept_{100 * self.rare_kept:.0f}"


EVERYTHING = NetworkSetting(1.0, "ce")
"""The setting of the population: all counter-examples, and no method against flips."""


@dataclasses.dataclass(frozen=True, eq=False)
class Network:
    """A network that an assay trains.

    Attributes:
        name: of `options.NETWORKS`.
        words: what the verdict calls many of them.
        images: at the size that it trains on.
        changes: keys of the configuration, by dotted name.
        epochs: of each.
        folds: number of folds, each tested by networks that trained on the others.
        rho: at which the objects of a composite pool are shown; photos keep their own scenes.
        keep: whether weights are kept.
    """

    name: str
    words: str
    images: AssayImages
    changes: Mapping[str, object]
    epochs: int
    folds: int
    rho: float = 1.0
    keep: bool = True


@dataclasses.dataclass(frozen=True)
class Stage:
    """The networks of one run folder: seeds of a setting, over some folds.

    Attributes:
        setting: of the networks.
        seeds: those that it trains.
        folds: those that it tests.
        name: of its folder, below that of the network.
    """

    setting: NetworkSetting
    seeds: tuple[int, ...]
    folds: tuple[int, ...]
    name: str


def make_seed_batch(setting: NetworkSetting, number: int, *, size: int, folds: int) -> Stage:
    """Returns a batch of seeds of a setting: the next `size` seeds, each over all folds.

    Args:
        setting: of the networks.
        number: of the batch, from 0; its folder is `wave_1` for 0.
        size: the number of seeds of every batch.
        folds: the number of folds.

    Example:
        >>> second = make_seed_batch(EVERYTHING, 1, size=2, folds=3)
        >>> second.name, second.seeds, second.folds
        ('kept_100/wave_2', (2, 3), (0, 1, 2))
    """
    seeds = range(number * size, (number + 1) * size)
    return Stage(setting, tuple(seeds), tuple(range(folds)), f"{setting.folder}/wave_{number + 1}")


def first_fold(batch: Stage) -> Stage:
    """Returns the first fold of a batch of seeds, which is trained before the others as a trial."""
    return dataclasses.replace(batch, folds=batch.folds[:1], name=f"{batch.name}_first_fold")


def other_folds(batch: Stage) -> Stage:
    """Returns the folds of a batch of seeds that its trial leaves out."""
    return dataclasses.replace(batch, folds=batch.folds[1:], name=f"{batch.name}_other_folds")


def run_name(network: Network, stage: Stage) -> str:
    """Returns the name of a stage's run folder in that of the assay, such as `small/kept_100/wave_2`."""
    return f"{network.name}/{stage.name}"


def is_whole(run_folder: Path) -> bool:
    """Returns whether all of a stage is trained."""
    return (run_folder / "results.csv").is_file()


def configuration(network: Network, stage: Stage) -> Config:
    """Returns the configuration that trains the networks of a stage.

    Networks of the last epoch are tested, so that validation images choose nothing. Scores and swapped scenes are left
    out for speed.
    """
    return configure(
        default_config(),
        {
            "members": [{"split.rare_kept": stage.setting.rare_kept, "method": stage.setting.method}],
            "split.folds": network.folds,
            "axes.split.fold": stage.folds,
            "split.n_train": 0,
            "train.epochs": network.epochs,
            "train.patience": network.epochs,
            "train.selection": ("last",),
            **network.changes,
            "intervene.scenes": "none",
            "intervene.scores": "none",
            "population.keep": "first" if network.keep else "none",
            "axes.rho": (network.rho,),
            "axes.seed": stage.seeds,
            **keys_of(network.images.data),
        },
    )


@dataclasses.dataclass(frozen=True, eq=False)
class TrainedStage:
    """A stage as far as it is trained.

    Attributes:
        stage: what was to be trained.
        run: its run; None if no fold is done.
        seconds: that this call took.
        whole: whether all of it is trained.
    """

    stage: Stage
    run: Run | None
    seconds: float
    whole: bool


def train_stage(network: Network, stage: Stage, folder: Path, *, until: float) -> TrainedStage:
    """Trains what is missing of a stage; one that is whole is read.

    Args:
        network: that is trained.
        stage: seeds, folds and setting.
        folder: of the assay.
        until: value of `time.monotonic()` at which training stops, after an epoch; the next call goes on from there.
    """
    workdir = folder / run_name(network, stage)
    data = network.images.data
    config = configuration(network, stage)
    if is_whole(workdir):
        return TrainedStage(stage, Run(workdir, config, data), 0.0, whole=True)
    begun = time.monotonic()
    # Without any time left, what is trained so far is read.
    if begun < until:
        run_sweep(
            plan(config),
            workdir,
            name=stage.name,
            line="flipjax assay",
            data=data,
            signals=Signals(until=until),
            page=False,
        )
    seconds = time.monotonic() - begun
    run = None
    if any(workdir.glob("cells/*/*.npz")):
        run = Run(workdir, config, data)
    return TrainedStage(stage, run, seconds, whole=is_whole(workdir))


def by_setting(stages: Sequence[TrainedStage]) -> dict[NetworkSetting, list[TrainedStage]]:
    """Returns the stages of each setting, in order."""
    result: dict[NetworkSetting, list[TrainedStage]] = {}
    for trained in stages:
        result.setdefault(trained.stage.setting, []).append(trained)
    return result


def seeds_of(stages: Sequence[TrainedStage]) -> list[int]:
    """Returns the seeds of some stages, ascending."""
    return sorted({seed for trained in stages for seed in trained.stage.seeds})


def outcomes_of(stages: Sequence[TrainedStage], *, images: int) -> Outcomes:
    """Returns what the networks of a setting made of every image that they tested.

    Args:
        stages: of one setting.
        images: number of images in the pool; those of untested folds, and of diverged networks, are NaN.
    """
    seeds = seeds_of(stages)
    correct = np.full((len(seeds), images), np.nan)
    flip = np.full((len(seeds), images), np.nan)
    spill = np.full((len(seeds), images), np.nan)
    foreground = np.full(images, np.nan)
    for trained in stages:
        if trained.run is None:
            continue
        records = trained.run.results.drop_duplicates("member").set_index("member").to_dict("index")
        for cell in trained.run.cells.values():
            inside = cell.images.image_part == "test"
            rows = cell.images.object_row[inside]
            for name in cell.members:
                if records[name]["status"] == "diverged":
                    continue
                ratios = pixel_ratios(np.asarray(cell.decomposition(name, "test").confusion))
                seed = seeds.index(records[name]["seed"])
                correct[seed, rows] = ratios.correct.part
                flip[seed, rows] = ratios.flip.part
                spill[seed, rows] = ratios.spill.part
                foreground[rows] = ratios.flip.whole
    return Outcomes(correct, flip, spill, foreground)
