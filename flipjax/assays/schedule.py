"""Fits the training of an assay into its budget."""

import dataclasses
from collections.abc import Sequence

from flipjax.assays.population import EVERYTHING, Design, NetworkSetting, configuration
from flipjax.config import ConfigError, PopulationSpec
from flipjax.data.arrays import ArrayData
from flipjax.plan import plan
from flipjax.support.terminal import clock
from flipjax.sweep.duration import epoch_seconds
from flipjax.training.task import make_task, with_data

SEEDS = 4
"""Networks for each fold: the fewest that a verdict needs."""
LEAST_EPOCHS = 10
"""Epochs below which nothing is scheduled: networks would not learn."""
MOST_EPOCHS = 30
TRIAL_SEEDS = 2
"""Networks of the trial on the first fold."""
OVERHEAD = 45.0
"""Seconds that compiling, evaluating and pages take beside the epochs."""
EVALUATION = 0.5
"""Cost of testing a network, in epochs."""


@dataclasses.dataclass(frozen=True)
class Schedule:
    """The training of an assay.

    Attributes:
        design: of the population.
        settings: what is trained beside it if the attribute is used.
        left_out: settings that the budget has no room for.
        epoch_seconds: measured time of an epoch of one network.
        expected: seconds that all of it takes at most.
    """

    design: Design
    settings: tuple[NetworkSetting, ...]
    left_out: tuple[NetworkSetting, ...]
    epoch_seconds: float
    expected: float

    @property
    def trial(self) -> Design:
        """The trial on the first fold."""
        return dataclasses.replace(self.design, seeds=TRIAL_SEEDS)

    @property
    def sentence(self) -> str:
        """The training in words: networks, epochs and time."""
        design = self.design
        most = design.members * (1 + len(self.settings)) + TRIAL_SEEDS
        text = (
            f"{design.members} networks ({design.network}, {design.folds} folds x {design.seeds} seeds, "
            f"{design.epochs} epochs), {most} if the attribute is used; an epoch takes {self.epoch_seconds:.2f} s, "
            f"all at most {clock(self.expected)}"
        )
        if self.left_out:
            names = ", ".join(setting.name for setting in self.left_out)
            text += f"; left out for the budget: {names}"
        return text


def time_epoch(data: ArrayData, design: Design) -> float:
    """Returns the seconds of an epoch of one network of a design, measured on the first fold."""
    config = with_data(configuration(design, [EVERYTHING], folds=[0]), data)
    loaded, task = make_task(plan(config)[0], data)
    return epoch_seconds(loaded, PopulationSpec(**config.population), task)


def choose_schedule(
    design: Design,
    settings: Sequence[NetworkSetting],
    *,
    seconds: float,
    budget: float,
    seeds: int = 0,
    epochs: int = 0,
) -> Schedule:
    """Returns the longest training that fits a budget: fewer settings, the last first, before fewer epochs than LEAST.

    Args:
        design: folds and network.
        settings: what tells how a shortcut ends, the most important first.
        seconds: of an epoch of one network.
        budget: seconds for all.
        seeds: asked for; 0: SEEDS.
        epochs: asked for; 0: as many as fit, MOST_EPOCHS at most.

    Raises:
        ConfigError: not even the population alone fits.

    Example:
        >>> settings = [NetworkSetting(0.5, "ce"), NetworkSetting(1.0, "balanced")]
        >>> schedule = choose_schedule(Design(5, 4, 1), settings, seconds=0.2, budget=300)
        >>> schedule.design.epochs, len(schedule.settings), schedule.left_out
        (20, 2, ())
        >>> shorter = choose_schedule(Design(5, 4, 1), settings, seconds=0.2, budget=150)
        >>> shorter.design.epochs, shorter.left_out
        (12, (NetworkSetting(rare_kept=1.0, method='balanced'),))
    """
    design = dataclasses.replace(design, seeds=seeds or SEEDS)
    for count in range(len(settings), -1, -1):
        networks = design.members * (1 + count) + TRIAL_SEEDS
        room = (budget - OVERHEAD) / (seconds * networks) - EVALUATION
        chosen = epochs or min(MOST_EPOCHS, int(room))
        enough = epochs > 0 or chosen >= LEAST_EPOCHS
        if enough and chosen <= room:
            expected = OVERHEAD + seconds * networks * (chosen + EVALUATION)
            whole = dataclasses.replace(design, epochs=chosen)
            return Schedule(whole, tuple(settings[:count]), tuple(settings[count:]), seconds, round(expected, 1))
    least = OVERHEAD + seconds * (design.members + TRIAL_SEEDS) * ((epochs or LEAST_EPOCHS) + EVALUATION)
    expected = f"{clock(least)} or more for {design.members} networks of {epochs or LEAST_EPOCHS} epochs"
    raise ConfigError("--budget", expected, clock(budget))
