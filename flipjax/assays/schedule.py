"""Fits the training of an assay into its budget."""

import dataclasses
import math
from collections.abc import Sequence

from flipjax.assays.population import EVERYTHING, Design, NetworkSetting, configuration
from flipjax.config import ConfigError
from flipjax.config.plan import plan
from flipjax.config.reading import configure
from flipjax.data.arrays import ArrayData, keys_of
from flipjax.support.terminal import clock
from flipjax.sweep.duration import epoch_seconds
from flipjax.training.task import make_task

LEAST_EPOCHS = 10
"""Epochs below which nothing is scheduled: networks would not learn."""
MOST_EPOCHS = 30
"""Epochs that are scheduled at most: networks have learnt by then."""
TRIAL_SEEDS = 2
"""Networks of the trial on the first fold."""
OVERHEAD = 45.0
"""Seconds that compiling, evaluating and pages take beside the epochs."""
EVALUATION = 0.5
"""Cost of testing a network, in epochs."""
PAGE = 15.0
"""Seconds that reading the images and writing the page take."""
COMPILING = 10.0
"""Seconds that compiling takes of the time of a trial, of a population, and of all settings beside it."""
OVERRUN = 1.15
"""Multiple of the budget at which remedies are left out because the machine became slower."""


class BudgetError(ConfigError):
    """A budget without room for the population.

    Attributes:
        least: the least budget that has room, in seconds.
        networks: what it has to train, in words.
    """

    def __init__(self, least: float, networks: str, budget: float):
        """Builds the message from the least and the given budget, in seconds."""
        self.least = least
        self.networks = networks
        super().__init__("--budget", f"{duration(least)} or more for {networks}", duration(budget))


@dataclasses.dataclass(frozen=True)
class Schedule:
    """The training of an assay.

    Attributes:
        design: of the population.
        settings: what is trained beside it if the attribute is used.
        left_out: settings that the budget has no room for.
        epoch_seconds: measured time of an epoch of one network.
        expected: seconds that all of it takes at most.
        budget_for_all: budget in seconds that leaves no setting out, with as many epochs; NaN in earlier records.
    """

    design: Design
    settings: tuple[NetworkSetting, ...]
    left_out: tuple[NetworkSetting, ...]
    epoch_seconds: float
    expected: float
    budget_for_all: float = math.nan

    @property
    def trial(self) -> Design:
        """The trial on the first fold."""
        return dataclasses.replace(self.design, seeds=TRIAL_SEEDS)

    @property
    def networks_sentence(self) -> str:
        """The training in words: networks, epochs and time."""
        design = self.design
        most = design.members * (1 + len(self.settings)) + TRIAL_SEEDS
        return (
            f"{design.members} networks ({design.network}, {design.folds} folds x {design.seeds} seeds, "
            f"{design.epochs} epochs), {most} if the attribute is used; an epoch takes {self.epoch_seconds:.2f} s, "
            f"all at most {clock(self.expected)}"
        )

    @property
    def sentence(self) -> str:
        """The training in words, with what is left out."""
        if not self.left_out:
            return self.networks_sentence
        return f"{self.networks_sentence}; {self.left_out_sentence}"

    @property
    def left_out_sentence(self) -> str:
        """What the budget has no room for, and a budget that has; '' if nothing is left out."""
        if not self.left_out:
            return ""
        names = ", ".join(setting.title for setting in self.left_out)
        text = f"the budget has no room for {names}"
        if math.isnan(self.budget_for_all):
            return text
        return f"{text}; --budget {duration(self.budget_for_all)} would have"


def duration(seconds: float) -> str:
    """Returns a duration as `--budget` takes it, in whole minutes above two, rounded up.

    Example:
        >>> duration(90), duration(120.5)
        ('90s', '3m')
    """
    if seconds <= 120:
        return f"{math.ceil(seconds)}s"
    return f"{math.ceil(seconds / 60)}m"


def time_epoch(data: ArrayData, design: Design) -> float:
    """Returns the seconds of an epoch of one network of a design, measured on the first fold."""
    planned = plan(configure(configuration(design, [EVERYTHING], folds=[0]), keys_of(data)))
    loaded, task = make_task(planned.programs[0], data)
    return epoch_seconds(loaded, planned.population, task)


def choose_schedule(
    design: Design,
    settings: Sequence[NetworkSetting],
    *,
    seconds: float,
    budget: float,
    epochs: int = 0,
) -> Schedule:
    """Returns the longest training that fits a budget: fewer settings, the last first, before fewer epochs than LEAST.

    Args:
        design: folds, seeds and network.
        settings: what tells how a shortcut ends, the most important first.
        seconds: of an epoch of one network.
        budget: seconds for all.
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
    for count in range(len(settings), -1, -1):
        networks = _networks(design, count)
        room = (budget - OVERHEAD) / (seconds * networks) - EVALUATION
        chosen = epochs or min(MOST_EPOCHS, int(room))
        enough = epochs > 0 or chosen >= LEAST_EPOCHS
        if enough and chosen <= room:
            return Schedule(
                design=dataclasses.replace(design, epochs=chosen),
                settings=tuple(settings[:count]),
                left_out=tuple(settings[count:]),
                epoch_seconds=seconds,
                expected=round(_expected(seconds, networks, chosen), 1),
                budget_for_all=round(_expected(seconds, _networks(design, len(settings)), chosen), 1),
            )
    fewest = epochs or LEAST_EPOCHS
    least = _expected(seconds, _networks(design, 0), fewest)
    raise BudgetError(least, f"{design.members} networks of {fewest} epochs", budget)


def _networks(design: Design, settings: int) -> int:
    """Returns the number of networks of the population, some settings beside it, and the trial."""
    return design.members * (1 + settings) + TRIAL_SEEDS


def _expected(seconds: float, networks: int, epochs: int) -> float:
    """Returns the seconds that an assay takes."""
    return OVERHEAD + seconds * networks * (epochs + EVALUATION)


def fit_remedies(schedule: Schedule, *, spent: float, budget: float) -> Schedule:
    """Returns a schedule whose settings fit into what its trial and population left of the budget.

    These may take longer than the timed epoch promised, since other work shares the machine. Settings, which would be
    as much slower, are left out, the last first, as long as all together would take OVERRUN times the budget.

    Args:
        schedule: of the population.
        spent: seconds that the trial and the population took.
        budget: seconds for all.

    Example:
        >>> remedies = (NetworkSetting(0.5, "ce"), NetworkSetting(1.0, "balanced"))
        >>> schedule = Schedule(Design(5, 4, 20), remedies, (), 0.2, 300.0, 300.0)
        >>> slower = fit_remedies(schedule, spent=160, budget=300)
        >>> slower.settings, slower.budget_for_all
        ((NetworkSetting(rare_kept=0.5, method='ce'),), 427.6)
    """
    design = schedule.design
    network = schedule.epoch_seconds * (design.epochs + EVALUATION)
    promised = 2 * COMPILING + network * (design.members + TRIAL_SEEDS)
    slowdown = max(1.0, spent / promised)

    def taken(settings: int) -> float:
        return PAGE + spent + slowdown * (COMPILING + network * design.members * settings)

    count = len(schedule.settings)
    while count > 0 and taken(count) > OVERRUN * budget:
        count -= 1
    if count == len(schedule.settings):
        return schedule
    every = (*schedule.settings, *schedule.left_out)
    return dataclasses.replace(
        schedule,
        settings=every[:count],
        left_out=every[count:],
        expected=round(taken(count), 1),
        budget_for_all=round(taken(len(every)), 1),
    )
