"""`tune`: methods compared once each is tuned with the same budget.

1. Draw: the learning rate and the knobs of each method at random (`draws`), trained as the members of one program.
2. Choose: for each method and rho the draw with the best validation over its seeds, by a named rule (`choose`).
3. Train anew: what was chosen, and every method as it stands, with fresh seeds.
4. Test once, and judge the differences between methods, and from the methods as they stand (`carry_out`).

The folder holds two run folders, `draws` and `fresh`, from which the same call continues or finishes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from flipjax.backend.random import random_bits
from flipjax.config import Config
from flipjax.config.reading import configure, run_name
from flipjax.data.sources.arrays import ArrayData, keys_of
from flipjax.results.learning import mark_unlearnt
from flipjax.results.statistics.estimates import compare
from flipjax.results.statistics.verdicts import judge
from flipjax.runs import Run, run
from flipjax.support.frames import write_csv
from flipjax.support.terminal import say
from flipjax.tuning.draws import RANGES, DrawRange, TuneOptions
from flipjax.tuning.protocol import (
    UNTUNED,
    FreshSetting,
    Protocol,
    choose,
    distinct_entries,
    entry_of,
    fresh_settings,
    make_protocol,
    time_of,
)
from flipjax.tuning.tuned import Tuned


@random_bits()
def tune(
    config: Config | str | Path,
    changes: Mapping[str, object] | None = None,
    *,
    draws: int = TuneOptions.draws,
    ranges: Mapping[str, DrawRange] = RANGES,
    rules: Sequence[str] = TuneOptions.rules,
    fresh: Sequence[int] = TuneOptions.fresh,
    fresh_changes: Mapping[str, object] | None = None,
    seed: int = TuneOptions.seed,
    data: ArrayData | None = None,
    workdir: str | Path | None = None,
    say: Callable[[str], object] = say,
) -> Tuned:
    """Tunes each method of a configuration at random, trains the chosen draws with fresh seeds, and tests them once.

    Every number that is drawn is traced: all draws of all methods share a program. Repeating an interrupted call
    continues it. Writes draws.csv, results.csv, methods.csv, tuning.csv and report/index.html into the folder. The
    process is left as it was, as by `flipjax.run`.

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
    configuration = configure(configure(config, changes), keys_of(data))
    options = TuneOptions(draws=draws, ranges=ranges, rules=rules, fresh=fresh, seed=seed)
    protocol = make_protocol(configuration, options)
    if workdir is None:
        workdir = Path("runs") / f"{_name_of(config)}-tuned"
    return carry_out(protocol, Path(workdir), fresh_changes=fresh_changes, data=data, say=say)


def _name_of(config: Config | str | Path) -> str:
    """Returns the name of a configuration."""
    if isinstance(config, str | Path):
        return run_name(config)
    return "run"


def carry_out(
    protocol: Protocol,
    folder: Path,
    *,
    fresh_changes: Mapping[str, object] | None = None,
    data: ArrayData | None = None,
    say: Callable[[str], object] = say,
) -> Tuned:
    """Trains, chooses, trains anew and tests; arguments are those of `tune`."""
    if not (folder / "draws" / "results.csv").is_file():
        say(time_of(protocol, data))
    drawn = run(protocol.drawn_configuration, data=data, workdir=folder / "draws")
    draws = choose(drawn, protocol)
    settings = fresh_settings(draws, protocol)
    fresh = run(protocol.fresh_configuration(settings, fresh_changes or {}), data=data, workdir=folder / "fresh")
    results = _test_results(fresh, settings, protocol.plain_rule)
    tuned = Tuned(
        protocol=protocol,
        folder=folder,
        draws=draws,
        fresh=fresh,
        results=results,
        methods=judge(compare(results[results["selection"] == protocol.options.rules[0]])),
        tuning=judge(compare(results, axis="selection", reference=UNTUNED)),
    )
    _write(tuned)
    return tuned


def _test_results(fresh: Run, settings: Sequence[FreshSetting], plain_rule: str) -> pd.DataFrame:
    """Returns the test rows of each setting by the rule that chose it, which `selection` names."""
    marked = mark_unlearnt(fresh.results, fresh.cells)
    test = marked[marked["split"] == "test"]
    entries = distinct_entries(settings)
    entry_of_member = {member: entry_of(fresh.setting_of(member), entries) for member in test["member"].unique()}
    entry = test["member"].map(entry_of_member)
    tables = []
    for setting in settings:
        rule = setting.rule
        if rule == UNTUNED:
            rule = plain_rule
        rows = test[(entry == entries.index(setting.entry)) & (test["selection"] == rule)]
        tables.append(rows.assign(selection=setting.rule))
    drawn_axes = {name for entry in entries for name in entry} - {"rho", "method"}
    return pd.concat(tables, ignore_index=True).drop(columns=[*drawn_axes], errors="ignore")


def _write(tuned: Tuned) -> None:
    """Writes the tables and the page."""
    from flipjax.tuning.page import write_page

    tables = {"draws": tuned.draws, "results": tuned.results, "methods": tuned.methods, "tuning": tuned.tuning}
    for name, frame in tables.items():
        write_csv(tuned.folder / f"{name}.csv", frame)
    write_page(tuned)
