"""`tune`: methods compared once each is tuned with the same budget.

1. Draw: the learning rate and the knobs of each method at random (`draws`), trained as the members of one program.
2. Choose: for each method and rho the draw with the best validation over its seeds, by a named rule (`choose`).
3. Train anew: what was chosen, and every method as it stands, with fresh seeds.
4. Test once, and judge the differences between methods, and from the methods as they stand (`judged`).

The folder holds two run folders, `draws` and `fresh`, from which the same call continues or finishes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from flipjax.backend.start import start_backend
from flipjax.config import AXES, Config, ConfigError
from flipjax.config.plan import Plan, plan
from flipjax.config.reading import changed, configure, run_name
from flipjax.data.arrays import ArrayData, keys_of
from flipjax.results.estimates import compare
from flipjax.results.frames import records_of, write_csv
from flipjax.results.run import StoredRun, mark_unlearnt
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
class Tuned:
    """Methods once each is tuned.

    Example:
        >>> tuned = tune("methods_grid", draws=24)  # doctest: +SKIP
        >>> tuned.methods.query("verdict != ''")[["method", "rho", "quantity", "difference"]]  # doctest: +SKIP
    """

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
        draws: of each method.
        ranges: by axis, of the learning rate, other traced numbers and knobs; by default RANGES.
        rules: selection rules among RULES, each of which chooses epoch and draw; pages compare methods by the first.
        fresh: the seeds of the networks that are tested, none of which trained a draw.
        fresh_changes: changes of the configuration for these networks, such as more test images.
        seed: of the draws.
        data: images in memory.
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
    configuration = configure(configure(config, changes), keys_of(data))
    compared = plan(configuration)
    _check(configuration, compared, rules, fresh)
    name = run_name(config) if isinstance(config, str | Path) else "run"
    folder = Path(workdir) if workdir is not None else Path("runs") / f"{name}-tuned"
    (program,) = compared.programs
    methods = list(dict.fromkeys(setting.condition.method for setting in program.settings))
    settings = draw_settings(methods, draws=draws, ranges=ranges, seed=seed, declared=compared.methods)
    # The rule of the methods as they stand comes first, and ends all members alike.
    plain_rule = program.experiment.train.selection[0]
    selection = tuple(dict.fromkeys((plain_rule, *rules)))
    shared = {"train.selection": selection, "axes.method": (methods[0],)}
    of_draws = changed(configuration, {**shared, **UNTESTED, "members": settings})
    planned = plan(of_draws)
    if not (folder / "draws" / "results.csv").is_file():
        networks = len(program.rhos) * len(methods) * (1 + len(rules)) * len(fresh)
        say(_time_of(planned, data, fresh_members=networks))
    drawn = run(of_draws, data=data, workdir=folder / "draws")
    table = choose(drawn, settings, rules)
    anew = settings_anew(table, settings, methods, program.rhos)
    fresh_keys = {**shared, "axes.rho": program.rhos[:1], "axes.seed": tuple(fresh), **(fresh_changes or {})}
    trained = run(
        changed(configuration, {**fresh_keys, "members": _distinct(anew)}), data=data, workdir=folder / "fresh"
    )
    tuned = judged(folder, table, trained, anew, plain_rule=plain_rule, first_rule=rules[0])
    _write(tuned, ranges)
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


def _time_of(planned: Plan, data: ArrayData | None, *, fresh_members: int) -> str:
    """Returns a sentence with the time that draws and fresh networks need, from one epoch."""
    (program,) = planned.programs
    start_backend(planned.population, len(program.names))
    loaded, task = make_task(program, data)
    seconds = epoch_seconds(loaded, with_library(planned.population, program, task), task)
    evaluation = evaluation_epochs(loaded, planned.intervene, training_size(loaded, task.parts))
    of_draws = seconds * (sum(program.epochs) + len(program.names) * evaluation)
    of_fresh = seconds * fresh_members * (max(program.epochs) + evaluation)
    networks = f"{len(program.names)} networks of draws and at most {fresh_members} with fresh seeds"
    return f"{networks}: at most {clock(of_draws + of_fresh)}, by one epoch of {seconds:.2f} s, without compilation"


def choose(drawn: StoredRun, settings: Sequence[Mapping[str, float | str]], rules: Sequence[str]) -> pd.DataFrame:
    """Returns a row for each draw, rho and rule: its numbers, its mean validation over seeds, and whether it is chosen.

    A draw is scored at the epochs that the rule kept. One that diverged in any seed has no score and is never chosen.

    Args:
        drawn: the run of the settings.
        settings: of `draw_settings`.
        rules: among RULES.
    """
    table = drawn.results
    table = table[(table["split"] == "test") & (table["group"] == "all")]
    history = drawn.history.set_index(["member", "epoch"])
    number_of = {member: _number_of(drawn.setting_of(member), settings) for member in table["member"].unique()}
    parts = []
    for rule in rules:
        rows = table[table["selection"] == rule]
        places = pd.MultiIndex.from_frame(rows[["member", "best_epoch"]])
        values = history[RULES[rule].measure].reindex(places).to_numpy(np.float64)
        lost = (rows["status"] == "diverged").to_numpy() | ~np.isfinite(values)
        scored = rows.assign(rule=rule, score=np.where(lost, np.nan, values), draw=rows["member"].map(number_of))
        grouped = scored.groupby(["method", "rho", "rule", "draw"], sort=False)["score"]
        # A mean over the seeds that are left would reward a draw for those that it lost.
        means = grouped.agg(lambda of_seeds: of_seeds.mean(skipna=False)).reset_index()
        ranked = RULES[rule].sign * means["score"]
        best = ranked.groupby([means["method"], means["rho"]]).transform("min")
        first = ~means[ranked == best].duplicated(["method", "rho"])
        parts.append(means.assign(chosen=means.index.isin(first.index[first])))
    chosen = pd.concat(parts, ignore_index=True)
    names = list(dict.fromkeys(name for setting in settings for name in setting if name != "method"))
    drawn_values = {name: [settings[draw].get(name, np.nan) for draw in chosen["draw"]] for name in names}
    return pd.concat([chosen, pd.DataFrame(drawn_values, chosen.index)], axis=1)


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


def settings_anew(
    table: pd.DataFrame,
    settings: Sequence[Mapping[str, float | str]],
    methods: Sequence[str],
    rhos: Sequence[float],
) -> list[SettingAnew]:
    """Returns the chosen draws in the order of rules and methods, then every method as it stands, at every rho."""
    anew = []
    for row in records_of(table[table["chosen"]]):
        anew.append(SettingAnew(float(row["rho"]), row["rule"], settings[row["draw"]]))
    for rho in sorted(rhos):
        anew += [SettingAnew(float(rho), UNTUNED, {"method": method}) for method in methods]
    return anew


def _distinct(anew: Sequence[SettingAnew]) -> list[dict[str, float | str]]:
    """Returns the members to train, each once."""
    members: list[dict[str, float | str]] = []
    for entry in anew:
        if entry.member not in members:
            members.append(entry.member)
    return members


def judged(
    folder: Path, table: pd.DataFrame, trained: Run, anew: Sequence[SettingAnew], *, plain_rule: str, first_rule: str
) -> Tuned:
    """Returns the test of the fresh seeds, by rule, and the judged differences.

    Args:
        folder: of the protocol.
        table: of `choose`.
        trained: the run of the fresh seeds.
        anew: what it was to train.
        plain_rule: the selection rule of methods as they stand.
        first_rule: by which methods are compared.
    """
    marked = mark_unlearnt(trained.results, trained.cells)
    test = marked[marked["split"] == "test"]
    members = _distinct(anew)
    drawn_axes = {name for member in members for name in member} - {"rho", "method"}
    number_of = {name: _place_of(trained.setting_of(name), members) for name in test["member"].unique()}
    number = test["member"].map(number_of)
    parts = []
    for entry in anew:
        rule = plain_rule if entry.rule == UNTUNED else entry.rule
        rows = test[(number == members.index(entry.member)) & (test["selection"] == rule)]
        parts.append(rows.assign(selection=entry.rule))
    results = pd.concat(parts, ignore_index=True).drop(columns=[*drawn_axes], errors="ignore")
    by_rule = judge(compare(results[results["selection"] == first_rule]))
    return Tuned(folder, table, trained, results, by_rule, judge(compare(results, axis="selection", reference=UNTUNED)))


def _place_of(axes: Mapping[str, object], members: Sequence[Mapping[str, float | str]]) -> int:
    """Returns the place of a member among those that were asked for.

    A method as it stands sets no number, and fits its own draws, too: the entry that says most is the member's.
    """
    fitting = []
    for number, member in enumerate(members):
        if all(axes[name] == value for name, value in member.items()):
            fitting.append((len(member), number))
    if not fitting:
        raise ValueError(f"members: expected that of {dict(axes)}; found none")
    return max(fitting, key=lambda entry: entry[0])[1]


def _write(tuned: Tuned, ranges: Mapping[str, DrawRange]) -> None:
    """Writes the tables and the page."""
    from flipjax.tuning.page import write_page

    tables = {"draws": tuned.draws, "results": tuned.results, "methods": tuned.methods, "tuning": tuned.tuning}
    for name, frame in tables.items():
        write_csv(tuned.folder / f"{name}.csv", frame)
    write_page(tuned, ranges)
