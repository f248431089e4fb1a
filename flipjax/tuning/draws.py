"""Random draws of the numbers of methods, all of them traced, so that no draw compiles a program. Imports no JAX."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from flipjax.config import AXES, ConfigError
from flipjax.config.methods import KNOB_DEFAULTS, METHODS, Method, knobs_set_by

SCALES = ("linear", "log", "log1m", "whole")
"""How a number is drawn: evenly, evenly in its logarithm, evenly in the logarithm of its distance from 1, or evenly
among whole numbers, both ends included."""
NOT_DRAWN = ("rho", "seed", "method", "schedule")
"""Axes that are no numbers of a method."""


@dataclasses.dataclass(frozen=True)
class DrawRange:
    """The range of a number that is drawn.

    Example:
        >>> generator = np.random.default_rng(0)
        >>> [round(DrawRange(1e-3, 1e-1, "log").draw(generator), 4), DrawRange(1, 6, "whole").draw(generator)]
        [0.0188, 4]
    """

    low: float
    """The least number."""
    high: float
    """The largest number."""
    scale: str = "linear"
    """One of SCALES."""

    def draw(self, generator: np.random.Generator) -> float:
        """Returns a random number of the range."""
        if self.scale == "whole":
            return int(generator.integers(int(self.low), int(self.high) + 1))
        if self.scale == "log":
            return float(np.exp(generator.uniform(math.log(self.low), math.log(self.high))))
        if self.scale == "log1m":
            # Rounded, so that 1 - 0.9 is 0.1.
            nearest = math.log(round(1 - self.high, 12))
            farthest = math.log(round(1 - self.low, 12))
            return 1 - float(np.exp(generator.uniform(nearest, farthest)))
        return float(generator.uniform(self.low, self.high))

    def __str__(self) -> str:
        """Returns the range in words."""
        return f"{self.low:g} to {self.high:g}, {self.scale}"


RANGES: dict[str, DrawRange] = {
    "learning_rate": DrawRange(5e-4, 1e-2, "log"),
    "dice": DrawRange(0.1, 10, "log"),
    "dro_step": DrawRange(1e-3, 0.3, "log"),
    "cutmix": DrawRange(0.1, 1),
    "swap": DrawRange(0.1, 1),
    "ema": DrawRange(0.9, 0.999, "log1m"),
    "swa": DrawRange(0.25, 0.9),
    "jtt_epochs": DrawRange(1, 6, "whole"),
    "jtt_weight": DrawRange(2, 50, "log"),
}
"""The ranges that `tune` draws from unless others are given, by axis; each holds its default.

Example:
    >>> tuned = [name for name in RANGES if name in KNOB_DEFAULTS]
    >>> [name for name in tuned if not RANGES[name].low <= KNOB_DEFAULTS[name] <= RANGES[name].high]
    []
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TuneOptions:
    """What `tune` draws, and how it chooses and tests."""

    draws: int = 24
    """The number of draws of each method."""
    ranges: Mapping[str, DrawRange] = dataclasses.field(default_factory=RANGES.copy)
    """What is drawn, by axis: the learning rate, other traced numbers and knobs."""
    # The cross-entropy has one scale for all methods and strengths.
    rules: Sequence[str] = ("val_cross_entropy",)
    """Selection rules, each of which chooses epoch and draw; pages compare methods by the first."""
    fresh: Sequence[int] = (10, 11, 12, 13, 14)
    """The seeds of the networks that are tested, none of which trained a draw."""
    seed: int = 0
    """The seed of the draws."""


def check_ranges(ranges: Mapping[str, DrawRange]) -> None:
    """Raises ConfigError for a range that is empty, leaves the values of its key, or is of no traced number.

    Example:
        >>> check_ranges({"dice": DrawRange(2, 1, "log")})
        Traceback (most recent call last):
        flipjax.config.ConfigError: ranges.dice: expected a low end below the high one; found 2 to 1, log
    """
    drawable = [name for name in AXES if name not in NOT_DRAWN]
    for name, drawn in ranges.items():
        field = f"ranges.{name}"
        if name not in drawable:
            raise ConfigError(field, f"one of {', '.join(drawable)}")
        if drawn.scale not in SCALES:
            raise ConfigError(field, f"a scale among {', '.join(SCALES)}", drawn.scale)
        if not drawn.low < drawn.high:
            raise ConfigError(field, "a low end below the high one", drawn)
        if drawn.scale == "log" and drawn.low <= 0:
            raise ConfigError(field, "a low end above 0, whose logarithm is drawn", drawn)
        if drawn.scale == "log1m" and drawn.high >= 1:
            raise ConfigError(field, "a high end below 1, whose distance from 1 is drawn", drawn)
        ends = (drawn.low, drawn.high)
        if drawn.scale == "whole":
            ends = (int(drawn.low), int(drawn.high))
        for end in ends:
            if not AXES[name].accepts(end):
                raise ConfigError(field, f"ends that the key takes, {AXES[name].expected}", drawn)


def draw_settings(
    methods: Sequence[str],
    *,
    draws: int,
    ranges: Mapping[str, DrawRange] = RANGES,
    seed: int = 0,
    declared: Mapping[str, Method] = METHODS,
) -> list[dict[str, float | str]]:
    """Returns settings by column, as `Train.members` takes them: `draws` of each method, method by method.

    Numbers of all methods, such as the learning rate, are drawn once and shared, so that no method has better ones by
    luck. The numbers of a method are drawn for it alone.

    Args:
        methods: two or more.
        draws: of each method.
        ranges: by axis.
        seed: of the draws.
        declared: the methods by name, the user's own among them.

    Raises:
        ConfigError: one method, methods that are drawn alike, one draw, or a range that cannot be drawn from.

    Example:
        >>> drawn = draw_settings(("ce", "ema"), draws=2, seed=1)
        >>> [(setting["method"], round(setting["learning_rate"], 4)) for setting in drawn]
        [('ce', 0.0023), ('ce', 0.0086), ('ema', 0.0023), ('ema', 0.0086)]
        >>> [round(setting["ema"], 3) for setting in drawn if "ema" in setting]
        [0.998, 0.921]
    """
    if len(methods) < 2 or len(set(methods)) < len(methods):
        raise ConfigError("config.axes.method", "two or more different methods to compare", ", ".join(methods))
    if draws < 2:
        raise ConfigError("draws", "two or more of each method", draws)
    check_ranges(ranges)
    generator = np.random.default_rng(seed)
    shared: dict[str, list[float]] = {}
    for name, drawn in ranges.items():
        if name not in KNOB_DEFAULTS:
            shared[name] = [drawn.draw(generator) for _ in range(draws)]
    settings: list[dict[str, float | str]] = []
    for method in methods:
        knobs = [name for name in knobs_set_by(method, declared) if name in ranges]
        if not knobs and not shared:
            expected = (
                f"methods that one of the ranges is of ({', '.join(ranges)}), or a range of all, as learning_rate"
            )
            raise ConfigError("ranges", expected, f"{method}, whose draws would be alike")
        for number in range(draws):
            setting: dict[str, float | str] = {"method": method}
            setting.update({name: values[number] for name, values in shared.items()})
            setting.update({name: ranges[name].draw(generator) for name in knobs})
            settings.append(setting)
    return settings
