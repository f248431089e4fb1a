"""The protocol of `tune`: what is drawn, how a draw is chosen, and which networks are tested."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from flipjax.backend.start import start_backend
from flipjax.config import AXES, Config, ConfigError
from flipjax.config.plan import Plan, plan
from flipjax.config.reading import changed
from flipjax.config.values import leaves
from flipjax.data.sources.arrays import ArrayData
from flipjax.results.run import StoredRun
from flipjax.support.frames import records_of
from flipjax.support.terminal import clock, listed, say
from flipjax.sweep.duration import epoch_seconds, evaluation_epochs
from flipjax.sweep.programs import with_form, with_library
from flipjax.training.task import make_task, training_size
from flipjax.tuning.draws import TuneOptions, draw_settings

UNTUNED = "untuned"
"""The name, in place of a rule, of results of methods as they stand."""
WITHOUT_TESTS = {"intervene.scenes": "none", "intervene.scores": "none", "population.keep": "none"}
"""Changes of the configuration of the draws, which are not tested."""


@dataclasses.dataclass(frozen=True)
class Rule:
    """How a selection rule compares draws."""

    measure: str
    """The column of history.csv."""
    sign: int
    """1 where less is better, -1 where more is."""


RULES = {
    "val_cross_entropy": Rule("valid_cross_entropy", 1),
    "val_worst_group_iou": Rule("valid_worst_group_iou", -1),
    "val_flip": Rule("valid_flip", 1),
    "val_loss": Rule("valid_loss", 1),
    "val_loss_at_rho": Rule("valid_loss_at_rho", 1),
    "label_free_risk": Rule("valid_risk", 1),
}
"""The selection rules that can choose a draw.

Example:
    >>> from flipjax.config import SELECTIONS
    >>> set(SELECTIONS) - set(RULES)
    {'last'}
"""


@dataclasses.dataclass(frozen=True)
class Protocol:
    """What is drawn, and how it is chosen and tested, before anything is trained; `make_protocol` makes it."""

    configuration: Config
    """The configuration, whose methods are compared."""
    options: TuneOptions
    """What numbers are drawn from, the rules that choose a draw, and the seeds that are tested."""
    methods: Sequence[str]
    """The configuration's methods in order; the first is the reference."""
    rhos: Sequence[float]
    """Its levels of rho."""
    plain_rule: str
    """Its first selection rule, that of the methods as they stand."""
    settings: Sequence[Mapping[str, float | str]]
    """The draws, of `draw_settings`."""

    @property
    def _common_changes(self) -> dict[str, object]:
        """The changes of the configuration for draws and fresh networks alike."""
        # The rule of the methods as they stand comes first, and ends all members alike.
        selection = dict.fromkeys((self.plain_rule, *self.options.rules))
        return {"train.selection": tuple(selection), "axes.method": tuple(self.methods[:1])}

    @property
    def drawn_configuration(self) -> Config:
        """The configuration of the draws."""
        return changed(
            self.configuration, {**self._common_changes, **WITHOUT_TESTS, "members": as_members(self.settings)}
        )

    def fresh_configuration(
        self, fresh_settings: Sequence[FreshSetting], fresh_changes: Mapping[str, object]
    ) -> Config:
        """Returns the configuration of the networks that are tested."""
        axes = {"axes.rho": tuple(self.rhos[:1]), "axes.seed": tuple(self.options.fresh)}
        members = {"members": as_members(distinct_entries(fresh_settings))}
        return changed(self.configuration, {**self._common_changes, **axes, **fresh_changes, **members})

    @property
    def fresh_networks(self) -> int:
        """The number of networks that are tested, at most: two rules may choose one draw."""
        settings_of_method = 1 + len(self.options.rules)
        return len(self.rhos) * len(self.methods) * settings_of_method * len(self.options.fresh)


def make_protocol(config: Config, options: TuneOptions) -> Protocol:
    """Returns what `tune` would train; raises as it does."""
    planned = plan(config)
    _check(config, planned, options)
    (program,) = planned.programs
    methods = list(dict.fromkeys(setting.condition.method for setting in program.settings))
    settings = draw_settings(
        methods, draws=options.draws, ranges=options.ranges, seed=options.seed, declared=planned.methods
    )
    return Protocol(
        configuration=config,
        options=options,
        methods=methods,
        rhos=program.rhos,
        plain_rule=program.experiment.train.selection[0],
        settings=settings,
    )


def _check(config: Config, planned: Plan, options: TuneOptions) -> None:
    """Raises ConfigError for rules, seeds or a configuration that the protocol cannot use."""
    rules = options.rules
    if not rules or not set(rules) <= set(RULES) or len(set(rules)) < len(rules):
        raise ConfigError("rules", f"one or more different among {', '.join(RULES)}", ", ".join(rules) or "none")
    settings = planned.programs[0].settings
    if not set(settings[0].axes) <= set(AXES) or len(config.members):
        expected = "axes of traced keys and no members, whose place the draws take"
        raise ConfigError("config.axes", expected, "members or axes that compile programs")
    for name, values in leaves(config.axes).items():
        if name not in ("rho", "seed", "method") and len(values) > 1:
            raise ConfigError(f"config.axes.{name}", "one value, since numbers are drawn from ranges", listed(values))
    fresh = options.fresh
    seeds = {int(setting.condition.seed) for setting in settings}
    overlap = sorted(seeds & set(fresh))
    if overlap:
        expected = f"seeds that train no draw (config.axes.seed is {listed(sorted(seeds))})"
        raise ConfigError("fresh", expected, f"{listed(overlap)} in both")
    if not fresh or len(set(fresh)) < len(fresh):
        raise ConfigError("fresh", "one or more different seeds", listed(fresh))


def time_of(protocol: Protocol, data: ArrayData | None = None) -> str:
    """Returns a sentence with the time that draws and fresh networks need, from one epoch."""
    planned = plan(protocol.drawn_configuration)
    (program,) = planned.programs
    start_backend(planned.population, len(program.names))
    loaded, task = make_task(program, data)
    spec = with_form(with_library(planned.population, program, task), loaded, task, say=say)
    seconds = epoch_seconds(loaded, spec, task)
    evaluation = evaluation_epochs(loaded, planned.intervene, training_size(loaded, task.parts))
    of_draws = seconds * (sum(program.epochs) + len(program.names) * evaluation)
    of_fresh = seconds * protocol.fresh_networks * (max(program.epochs) + evaluation)
    networks = f"{len(program.names)} networks of draws and at most {protocol.fresh_networks} with fresh seeds"
    return f"{networks}: at most {clock(of_draws + of_fresh)}, by one epoch of {seconds:.2f} s, without compilation"


def choose(drawn: StoredRun, protocol: Protocol) -> pd.DataFrame:
    """Returns a row for each draw, rho and rule: its numbers, its mean validation over seeds, and whether it is chosen.

    A draw is scored at the epochs that the rule kept. One that diverged in any seed has no score and is never chosen.

    Args:
        drawn: the run of the draws.
        protocol: whose settings were drawn.
    """
    settings = protocol.settings
    # One row of each member and rule: its splits and groups all name the epoch that the rule kept.
    kept = drawn.results.drop_duplicates(["member", "selection"])
    draw_of = {member: entry_of(drawn.setting_of(member), settings) for member in kept["member"].unique()}
    kept = kept.assign(draw=kept["member"].map(draw_of))
    tables = []
    for rule in protocol.options.rules:
        of_rule = kept[kept["selection"] == rule]
        scored = of_rule.assign(rule=rule, score=_validation(of_rule, drawn.history, RULES[rule].measure))
        means = scored.groupby(["method", "rho", "rule", "draw"], sort=False)["score"].agg(_mean_of_all).reset_index()
        tables.append(means.assign(chosen=_is_best(means, RULES[rule].sign)))
    draws = pd.concat(tables, ignore_index=True)
    numbers = pd.DataFrame([settings[draw] for draw in draws["draw"]], draws.index)
    return pd.concat([draws, numbers.drop(columns="method")], axis=1)


def _validation(kept: pd.DataFrame, history: pd.DataFrame, measure: str) -> np.ndarray:
    """Returns a column of history.csv at the epoch that each row kept, float64; NaN for members that diverged."""
    kept_epochs = pd.MultiIndex.from_frame(kept[["member", "best_epoch"]])
    values = history.set_index(["member", "epoch"])[measure].reindex(kept_epochs).to_numpy(np.float64)
    has_score = (kept["status"] != "diverged").to_numpy() & np.isfinite(values)
    return np.where(has_score, values, np.nan)


def _mean_of_all(seeds: pd.Series) -> float:
    """Returns a mean over seeds, NaN if one is NaN: without it, a draw would be rewarded for a seed that diverged."""
    return float(seeds.mean(skipna=False))


def _is_best(means: pd.DataFrame, sign: int) -> np.ndarray:
    """Returns whether each row is the best of its method and rho, bool. The first of equal ones is."""
    ordered = (sign * means["score"]).dropna().sort_values(kind="stable").index
    best = means.loc[ordered].drop_duplicates(["method", "rho"])
    return means.index.isin(best.index)


def as_members(settings: Sequence[Mapping[str, float | str]]) -> list[dict[str, float | str]]:
    """Returns settings by column as entries of `config.members`, by the names of axes.

    Example:
        >>> as_members([{"method": "jtt", "learning_rate": 0.01, "jtt_weight": 4.0}])
        [{'method': 'jtt', 'train.learning_rate': 0.01, 'knobs.jtt_weight': 4.0}]
    """
    return [{AXES[column].axis: value for column, value in setting.items()} for setting in settings]


def entry_of(axes: Mapping[str, object], entries: Sequence[Mapping[str, float | str]]) -> int:
    """Returns the number of the setting, by column, that a member with these axes was made of.

    A method as it stands sets no number, so that its entry fits tuned members of the method, too: of entries that fit,
    the one with the most values is the member's, and of equal draws the first.
    """
    number = -1
    values = 0
    for candidate, entry in enumerate(entries):
        fits = all(axes[name] == value for name, value in entry.items())
        if fits and len(entry) > values:
            number = candidate
            values = len(entry)
    if number < 0:
        raise ValueError(f"settings: expected one of {dict(axes)}; found none")
    return number


@dataclasses.dataclass(frozen=True)
class FreshSetting:
    """A setting to train with fresh seeds, and why."""

    rho: float
    """The level of rho."""
    rule: str
    """The rule that chose it, or UNTUNED."""
    setting: Mapping[str, float | str]
    """Its method and numbers."""

    @property
    def entry(self) -> dict[str, float | str]:
        """The setting, with rho."""
        return {"rho": self.rho, **self.setting}


def fresh_settings(draws: pd.DataFrame, protocol: Protocol) -> list[FreshSetting]:
    """Returns the chosen draws in the order of rules and methods, then every method as it stands, at every rho.

    Args:
        draws: of `choose`.
        protocol: whose settings were drawn.
    """
    settings = []
    for row in records_of(draws[draws["chosen"]]):
        settings.append(FreshSetting(float(row["rho"]), row["rule"], protocol.settings[row["draw"]]))
    for rho in sorted(protocol.rhos):
        settings += [FreshSetting(float(rho), UNTUNED, {"method": method}) for method in protocol.methods]
    return settings


def distinct_entries(settings: Sequence[FreshSetting]) -> list[dict[str, float | str]]:
    """Returns the settings, each once: two rules may choose one draw."""
    entries: list[dict[str, float | str]] = []
    for setting in settings:
        if setting.entry not in entries:
            entries.append(setting.entry)
    return entries
