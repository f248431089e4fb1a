"""The state of an assay's folder: what was asked for, and the time that each stage took.

The folder goes on with a larger budget, more seeds or another target. What would change networks that are trained, the
images or another option, is refused with its name.
"""

import dataclasses
import math
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flipjax.assays.inputs import AssayImages
from flipjax.assays.options import FIELDS, Options
from flipjax.assays.population import Network, Stage, TrainedStage, is_whole, run_name, train_stage
from flipjax.config import ConfigError
from flipjax.results.statistics.verdicts import FEWEST_SEEDS
from flipjax.results.store import STORED
from flipjax.support.files import naming_malformed, read_json, write_json
from flipjax.support.terminal import say
from flipjax.support.threads import cores

STATE = "state.json"
"""The file of the state."""
PAGE_SECONDS = 15.0
"""Seconds of the budget that reading the images and writing the page take, and at most a quarter of it."""
COMPILING_SECONDS = 10.0
"""Seconds that compiling a method's program takes."""


@dataclasses.dataclass(eq=False)
class Journal:
    """The time of an assay, over all of its calls.

    Attributes:
        folder: of the assay.
        asked: the options that decide its networks, by name, and the digest of its images.
        seeds_per_batch: the seeds of a batch: as many as train side by side.
        seconds: that each stage took, by `run_name`.
        budget: seconds for all stages.
    """

    folder: Path
    asked: Mapping[str, Any]
    seeds_per_batch: int
    seconds: dict[str, float]
    budget: float

    @property
    def training_budget(self) -> float:
        """The part of the budget that is for training, in seconds."""
        return self.budget - min(PAGE_SECONDS, self.budget / 4)

    @property
    def spent(self) -> float:
        """Seconds that all stages took."""
        return sum(self.seconds.values())

    @property
    def left(self) -> float:
        """Seconds that are left for training, at least 0: stages that are trained already are read all the same."""
        return max(0.0, self.training_budget - self.spent)

    def batch_count(self, seeds: int) -> int:
        """Returns how many batches hold a number of seeds."""
        return math.ceil(seeds / self.seeds_per_batch)

    def budget_to_train_for(self, seconds: float) -> float:
        """Returns the budget, in seconds, that allows so many more seconds of training."""
        return PAGE_SECONDS + self.spent + seconds

    def train(self, network: Network, stage: Stage) -> TrainedStage:
        """Trains what is missing of a stage within the time that is left, and notes the time that it took."""
        if not is_whole(self.folder / run_name(network, stage)):
            say(f"{len(stage.folds) * len(stage.seeds)} {network.words} with {stage.setting.title}")
        trained = train_stage(network, stage, self.folder, until=time.monotonic() + self.left)
        if trained.seconds > 0:
            name = run_name(network, stage)
            self.seconds[name] = round(self.seconds.get(name, 0.0) + trained.seconds, 1)
            self.write()
        return trained

    def cost(self, network: Network, stage: Stage) -> float:
        """Returns the seconds that the rest of a stage takes, by the median pace of the network's stages so far."""
        name = run_name(network, stage)
        if is_whole(self.folder / name):
            return 0.0
        # The median, since the first stage compiles, and the machine may have been busy during another; the lower one
        # of two.
        expected = statistics.median_low(self._paces(network)) * len(stage.folds)
        if stage.setting.has_method:
            expected += COMPILING_SECONDS
        return max(1.0, expected - self.seconds.get(name, 0.0))

    def _paces(self, network: Network) -> list[float]:
        """Returns the seconds of a fold in each stage of which a network has finished one."""
        paces = []
        for name, seconds in self.seconds.items():
            finished_folds = len([*self.folder.glob(f"{name}/cells/*/{STORED}")])
            if name.startswith(f"{network.name}/") and finished_folds:
                paces.append(seconds / finished_folds)
        return paces

    def write(self) -> None:
        """Writes the state."""
        state = {"asked": self.asked, "wave": self.seeds_per_batch, "seconds": self.seconds}
        write_json(self.folder / STATE, state, indent=1)


def open_journal(folder: Path, images: AssayImages, options: Options) -> Journal:
    """Returns the state of a folder, or a new one, which is not written yet.

    Raises:
        ConfigError: the folder is of other images or options; the message names the first that differs.
        DamagedError: its state cannot be read.
    """
    asked: dict[str, Any] = {}
    for field in FIELDS:
        if not field.metadata["extends"]:
            value = getattr(options, field.name)
            if isinstance(value, tuple):
                # As JSON has it, to compare with what is stored.
                value = list(value)
            asked[field.name] = value
    asked["images"] = images.catalog.content
    stored = stored_state(folder)
    if stored is None:
        return Journal(folder, asked, choose_seeds_per_batch(cores()), {}, options.budget)
    for name, value in asked.items():
        before = stored.asked.get(name)
        if before == value:
            continue
        if name == "images":
            raise ConfigError("--out", "the folder of an assay of the same images, or a new one", str(folder))
        raise ConfigError(f"--{name}", f"{before!r} as in {folder}, or another --out", repr(value))
    return dataclasses.replace(stored, budget=options.budget)


def stored_state(folder: Path) -> Journal | None:
    """Returns the state of a folder, without a budget, or None if there is none.

    Raises:
        DamagedError: it cannot be read.
    """
    path = folder / STATE
    if not path.exists():
        return None
    with naming_malformed(path, "no state of an assay; remove it, or pass another --out"):
        stored = read_json(path)
        seconds = {str(name): float(value) for name, value in stored["seconds"].items()}
        return Journal(folder, dict(stored["asked"]), int(stored["wave"]), seconds, 0.0)


def choose_seeds_per_batch(processors: int) -> int:
    """Returns the seeds of a batch, which train side by side: 1, 2, or all that a verdict needs.

    Example:
        >>> [choose_seeds_per_batch(processors) for processors in (1, 2, 3, 16)]
        [1, 2, 2, 4]
    """
    if processors >= FEWEST_SEEDS:
        return FEWEST_SEEDS
    return min(processors, FEWEST_SEEDS // 2)
