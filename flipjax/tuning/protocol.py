"""`tune`: methods compared once each is tuned with the same budget.

1. Draw: the learning rate and the knobs of each method at random (`draws`), trained as the members of one program.
2. Choose: for each method and rho the draw with the best validation over its seeds, by a named rule (`choose`).
3. Train anew: what was chosen, and every method as it stands, with fresh seeds.
4. Test once, and judge the differences between methods, and from the methods as they stand (`carry_out`).

The folder holds two run folders, `draws` and `fresh`, from which the same call continues or finishes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas as pd

from flipjax.backend.start import start_backend
from flipjax.config import AXES, Config, ConfigError
from flipjax.config.plan import Plan, plan
from flipjax.config.reading import changed, configure, run_name
from flipjax.data.arrays import ArrayData, keys_of
from flipjax.results.estimates import compare
from flipjax.results.frames import records_of, write_csv
from flipjax.results.learning import mark_unlearnt
from flipjax.results.run import StoredRun
from flipjax.results.verdicts import judge
from flipjax.runs import Run, run
from flipjax.support.terminal import clock, listed, say
from flipjax.sweep.duration import epoch_seconds, evaluation_epochs
from flipjax.sweep.programs import with_library
from flipjax.training.task import make_task, training_size
from flipjax.tuning.draws import RANGES, DrawRange, draw_settings

UNTUNED = "untuned"
"""What stands in the place of a rule for methods as they stand."""
FRESH = (10, 11, 12, 13, 14)
"""Seeds of the networks that are tested."""
DRAWS = 24
"""Draws of each method."""
RULE = "val_cross_entropy"
"""The rule that chooses the epoch and the draw: it has one scale for all methods and strengths."""
UNTESTED = {"intervene.scenes": "none", "intervene.scores": "none", "population.keep": "none"}
"""What a run of draws leaves out, which nobody tests."""


@dataclasses.dataclass(frozen=True)
class Rule:
    """What a selection rule compares."""

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
    methods: Sequence[str]
    """Its methods in order; the first is the reference."""
    rhos: Sequence[float]
    """Its levels of rho."""
    plain_rule: str
    """Its first selection rule, that of the methods as they stand."""
    ranges: Mapping[str, DrawRange]
    """What numbers are drawn from, by axis."""
    settings: Sequence[Mapping[str, float | str]]
    """The draws, of `draw_settings`."""
    rules: Sequence[str]
    """The rules that choose a draw."""
    fresh: Sequence[int]
    """The seeds of the networks that are tested."""

    @property
    def _shared(self) -> dict[str, object]:
        """The changes of the configuration for draws and fresh networks alike."""
        # The rule of the methods as they stand comes first, and ends all members alike.
        selection = dict.fromkeys((self.plain_rule, *self.rules))
        return {"train.selection": tuple(selection), "axes.method": tuple(self.methods[:1])}

    @property
    def drawn_configuration(self) -> Config:
        """The configuration of the draws."""
        return changed(self.configuration, {**self._shared, **UNTESTED, "members": self.settings})

    def fresh_configuration(self, anew: Sequence[SettingAnew], fresh_changes: Mapping[str, object]) -> Config:
        """Returns the configuration of the networks that are tested."""
        axes = {"axes.rho": tuple(self.rhos[:1]), "axes.seed": tuple(self.fresh)}
        members = {"members": _distinct(anew)}
        return changed(self.configuration, {**self._shared, **axes, **fresh_changes, **members})

    @property
    def fresh_networks(self) -> int:
        """The number of networks that are tested, at most: two rules may choose one draw."""
        return len(self.rhos) * len(self.methods) * (1 + len(self.rules)) * len(self.fresh)


@dataclasses.dataclass(frozen=True)
class Tuned:
    """Methods once each is tuned.

    Example:
        >>> tuned = tune("methods_grid", draws=24)  # doctest: +SKIP
        >>> tuned.methods.query("verdict != ''")[["method", "rho", "quantity", "difference"]]  # doctest: +SKIP
    """

    protocol: Protocol
    """What was to be drawn, chosen and tested."""
    folder: Path
    """The folder, whose report/index.html is the page."""
    draws: pd.DataFrame
    """A row a draw, rho and rule: its numbers, the mean of its validation over seeds (`score`), and `chosen`."""
    fresh: StoredRun
    """The run of the fresh seeds."""
    results: pd.DataFrame
    """Rows of results.csv of the test of the fresh seeds; `selection` is a rule, or `untuned`."""
    methods: pd.DataFrame
    """Judged differences of each method from the first one, tuned by the first rule."""
    tuning: pd.DataFrame
    """Judged differences of each method from itself as it stands, by each rule."""

    @property
    def chosen(self) -> pd.DataFrame:
        """The chosen draws, a row a method, rho and rule."""
        return self.draws[self.draws["chosen"]].reset_index(drop=True)

    def __repr__(self) -> str:
        """Shows the folder and what it holds."""
        return f"<Tuned {self.folder}: {len(self.chosen)} choices; .draws .chosen .results .methods .tuning .fresh>"


def make_protocol(
    config: Config | str | Path,
    changes: Mapping[str, object] | None = None,
    *,
    draws: int = DRAWS,
    ranges: Mapping[str, DrawRange] = RANGES,
    rules: Sequence[str] = (RULE,),
    fresh: Sequence[int] = FRESH,
    seed: int = 0,
    data: ArrayData | None = None,
) -> Protocol:
    """Returns what `tune` would train; arguments and errors are its."""
    configuration = configure(configure(config, changes), keys_of(data))
    compared = plan(configuration)
    _check(configuration, compared, rules, fresh)
    (program,) = compared.programs
    methods = list(dict.fromkeys(setting.condition.method for setting in program.settings))
    return Protocol(
        configuration=configuration,
        methods=methods,
        rhos=program.rhos,
        plain_rule=program.experiment.train.selection[0],
        ranges=ranges,
        settings=draw_settings(methods, draws=draws, ranges=ranges, seed=seed, declared=compared.methods),
        rules=rules,
        fresh=fresh,
    )


def tune(
    config: Config | str | Path,
    changes: Mapping[str, object] | None = None,
    *,
    draws: int = DRAWS,
    ranges: Mapping[str, DrawRange] = RANGES,
    rules: Sequence[str] = (RULE,),
    fresh: Sequence[int] = FRESH,
    fresh_changes: Mapping[str, object] | None = None,
    seed: int = 0,
    data: ArrayData | None = None,
    workdir: str | Path | None = None,
    say: Callable[[str], object] = say,
) -> Tuned:
    """Tunes each method of a configuration at random, trains the chosen draws with fresh seeds, and tests them once.

    Every number that is drawn is traced: all draws of all methods share a program. Repeating an interrupted call
    continues it. Writes draws.csv, results.csv, methods.csv, tuning.csv and report/index.html into the folder.

    Args:
        config: as in `flipjax.configure`; its `axes.method` are compared, the first is the reference, and its
            `axes.seed` train the draws.
        changes: values of other keys, by dotted name.
        draws: the number of draws of each method.
        ranges: what is drawn, by axis: the learning rate, other traced numbers and knobs; by default RANGES.
        rules: selection rules among RULES, each of which chooses epoch and draw; pages compare methods by the first.
        fresh: the seeds of the networks that are tested, none of which trained a draw.
        fresh_changes: changes of the configuration for these networks, such as more test images.
        seed: the seed of the draws.
        data: images in memory, from `flipjax.data.from_arrays`.
        workdir: the folder; by default runs/NAME-tuned.
        say: takes the time that the draws and the fresh networks need, before they start.

    Raises:
        ConfigError: one method, seeds that overlap, a range that is empty, or another value that cannot be used.
        RuntimeError: every program failed.

    Source: Bergstra and Bengio, Random search for hyper-parameter optimization, 2012; one budget and one rule for all
    methods as in Gulrajani and Lopez-Paz, In search of lost domain generalization, 2021.

    Example:
        >>> tune("smoke", {"axes.method": ("ce",)})
        Traceback (most recent call last):
        flipjax.config.ConfigError: config.axes.method: expected two or more different methods to compare; found ce
    """
    protocol = make_protocol(
        config, changes, draws=draws, ranges=ranges, rules=rules, fresh=fresh, seed=seed, data=data
    )
    if workdir is None:
        workdir = Path("runs") / f"{_name_of(config)}-tuned"
    return carry_out(protocol, Path(workdir), fresh_changes=fresh_changes or {}, data=data, say=say)


def _name_of(config: Config | str | Path) -> str:
    """Returns the name of a configuration."""
    if isinstance(config, str | Path):
        return run_name(config)
    return "run"


def carry_out(
    protocol: Protocol,
    folder: Path,
    *,
    fresh_changes: Mapping[str, object] = MappingProxyType({}),
    data: ArrayData | None = None,
    say: Callable[[str], object] = say,
) -> Tuned:
    """Trains, chooses, trains anew and tests; arguments are those of `tune`."""
    if not (folder / "draws" / "results.csv").is_file():
        say(time_of(protocol, data))
    drawn = run(protocol.drawn_configuration, data=data, workdir=folder / "draws")
    table = choose(drawn, protocol)
    anew = settings_anew(table, protocol)
    trained = run(protocol.fresh_configuration(anew, fresh_changes), data=data, workdir=folder / "fresh")
    results = _tested(trained, anew, protocol.plain_rule)
    tuned = Tuned(
        protocol=protocol,
        folder=folder,
        draws=table,
        fresh=trained,
        results=results,
        methods=judge(compare(results[results["selection"] == protocol.rules[0]])),
        tuning=judge(compare(results, axis="selection", reference=UNTUNED)),
    )
    _write(tuned)
    return tuned


def _check(config: Config, planned: Plan, rules: Sequence[str], fresh: Sequence[int]) -> None:
    """Raises ConfigError for rules, seeds or a configuration that the protocol cannot use."""
    if not rules or not set(rules) <= set(RULES) or len(set(rules)) < len(rules):
        raise ConfigError("rules", f"one or more different among {', '.join(RULES)}", ", ".join(rules) or "none")
    settings = planned.programs[0].settings
    if not set(settings[0].axes) <= set(AXES) or len(config.members):
        raise ConfigError("config.grid", "no grid and no members, whose place the draws take", "some")
    for name, values in config.axes.items():
        if name not in ("rho", "seed", "method") and len(values) > 1:
            raise ConfigError(f"config.axes.{name}", "one value, since numbers are drawn from ranges", listed(values))
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
    seconds = epoch_seconds(loaded, with_library(planned.population, program, task), task)
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
    # A row a member and rule, of which the epoch is read that the rule kept.
    kept = drawn.results.drop_duplicates(["member", "selection"])
    number_of = {member: _number_of(drawn.setting_of(member), settings) for member in kept["member"].unique()}
    kept = kept.assign(draw=kept["member"].map(number_of))
    parts = []
    for rule in protocol.rules:
        of_rule = kept[kept["selection"] == rule]
        scored = of_rule.assign(rule=rule, score=_validation(of_rule, drawn.history, RULES[rule].measure))
        means = scored.groupby(["method", "rho", "rule", "draw"], sort=False)["score"].agg(_mean_of_all).reset_index()
        parts.append(means.assign(chosen=_is_best(means, RULES[rule].sign)))
    table = pd.concat(parts, ignore_index=True)
    names = list(dict.fromkeys(name for setting in settings for name in setting if name != "method"))
    drawn_values = {name: [settings[draw].get(name, np.nan) for draw in table["draw"]] for name in names}
    return pd.concat([table, pd.DataFrame(drawn_values, table.index)], axis=1)


def _validation(kept: pd.DataFrame, history: pd.DataFrame, measure: str) -> np.ndarray:
    """Returns a column of history.csv at the epoch that each row kept, float64; NaN for members that diverged."""
    kept_epochs = pd.MultiIndex.from_frame(kept[["member", "best_epoch"]])
    values = history.set_index(["member", "epoch"])[measure].reindex(kept_epochs).to_numpy(np.float64)
    has_score = (kept["status"] != "diverged").to_numpy() & np.isfinite(values)
    return np.where(has_score, values, np.nan)


def _mean_of_all(seeds: pd.Series) -> float:
    """Returns a mean over seeds, NaN if one is: a mean of those left would reward a draw for those that it lost."""
    return float(seeds.mean(skipna=False))


def _is_best(means: pd.DataFrame, sign: int) -> np.ndarray:
    """Returns whether a row is the best of its method and rho, the first of those that are equal."""
    ranked = sign * means["score"]
    best = ranked.groupby([means["method"], means["rho"]]).transform("min")
    first = ~means[ranked == best].duplicated(["method", "rho"])
    return means.index.isin(first.index[first])


def _number_of(axes: Mapping[str, object], settings: Sequence[Mapping[str, float | str]]) -> int:
    """Returns the number of the setting that a member's values of the axes are of."""
    for number, setting in enumerate(settings):
        if all(axes[name] == value for name, value in setting.items()):
            return number
    raise ValueError(f"settings: expected the draw of {dict(axes)}; found none")


@dataclasses.dataclass(frozen=True)
class SettingAnew:
    """A setting to train anew, and why."""

    rho: float
    """The level of rho."""
    rule: str
    """The rule that chose it, or UNTUNED."""
    setting: Mapping[str, float | str]
    """Its method and numbers."""

    @property
    def member(self) -> dict[str, float | str]:
        """Its entry in `config.members`."""
        return {"rho": self.rho, **self.setting}


def settings_anew(table: pd.DataFrame, protocol: Protocol) -> list[SettingAnew]:
    """Returns the chosen draws in the order of rules and methods, then every method as it stands, at every rho.

    Args:
        table: of `choose`.
        protocol: whose settings were drawn.
    """
    anew = []
    for row in records_of(table[table["chosen"]]):
        anew.append(SettingAnew(float(row["rho"]), row["rule"], protocol.settings[row["draw"]]))
    for rho in sorted(protocol.rhos):
        anew += [SettingAnew(float(rho), UNTUNED, {"method": method}) for method in protocol.methods]
    return anew


def _distinct(anew: Sequence[SettingAnew]) -> list[dict[str, float | str]]:
    """Returns the members to train, each once."""
    members: list[dict[str, float | str]] = []
    for entry in anew:
        if entry.member not in members:
            members.append(entry.member)
    return members


def _tested(trained: Run, anew: Sequence[SettingAnew], plain_rule: str) -> pd.DataFrame:
    """Returns the test rows of each setting by the rule that chose it, which `selection` names."""
    marked = mark_unlearnt(trained.results, trained.cells)
    test = marked[marked["split"] == "test"]
    members = _distinct(anew)
    number_of = {name: _place_of(trained.setting_of(name), members) for name in test["member"].unique()}
    number = test["member"].map(number_of)
    parts = []
    for entry in anew:
        rule = entry.rule
        if rule == UNTUNED:
            rule = plain_rule
        rows = test[(number == members.index(entry.member)) & (test["selection"] == rule)]
        parts.append(rows.assign(selection=entry.rule))
    drawn_axes = {name for member in members for name in member} - {"rho", "method"}
    return pd.concat(parts, ignore_index=True).drop(columns=[*drawn_axes], errors="ignore")


def _place_of(axes: Mapping[str, object], members: Sequence[Mapping[str, float | str]]) -> int:
    """Returns the place of a member among those that were asked for.

    A method as it stands sets no number, and fits its own draws, too: the entry that says most is the member's.
    """
    fitting = [
        number for number, member in enumerate(members) if all(axes[name] == value for name, value in member.items())
    ]
    if not fitting:
        raise ValueError(f"members: expected that of {dict(axes)}; found none")

    def numbers_named(number: int) -> int:
        return len(members[number])

    # The last of those that say as much, as each is in the list once.
    return max(reversed(fitting), key=numbers_named)


def _write(tuned: Tuned) -> None:
    """Writes the tables and the page."""
    from flipjax.tuning.page import write_page

    tables = {"draws": tuned.draws, "results": tuned.results, "methods": tuned.methods, "tuning": tuned.tuning}
    for name, frame in tables.items():
        write_csv(tuned.folder / f"{name}.csv", frame)
    write_page(tuned)
