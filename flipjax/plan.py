"""From a configuration to programs (one compiled program each) and their members. Imports no JAX."""

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from flipjax.config import (
    AUGMENTATION_AXES,
    AXES,
    KNOB_AXES,
    OPTIONAL_AXES,
    Config,
    ConfigError,
    Experiment,
    check,
    experiment,
    leaves,
)
from flipjax.methods import Augmentation, Knobs, knobs_of

SAME_RUN = {"population.memory_gb"}
"""Fields of which other values make no other run."""


@dataclasses.dataclass(frozen=True)
class Setting:
    """One member before it has arrays: its name, the value of every axis, static ones first, and what they make of it.

    An axis of `OPTIONAL_AXES` is among `axes` if the configuration gives it values.
    """

    name: str
    axes: Mapping[str, Any]
    knobs: Knobs
    augmentation: Augmentation = dataclasses.field(default_factory=Augmentation)


@dataclasses.dataclass(frozen=True)
class Program:
    """One static experiment and the members that share its program; `rhos` are all levels of the grid.

    `part` is empty where these are all members, and else names the choice of them. `identity` is a digest of the whole
    configuration and the program's place in it: files of a run carry it, so that no other run's are taken for them.
    """

    name: str
    experiment: Experiment
    settings: tuple[Setting, ...]
    rhos: tuple[float, ...]
    part: str = ""
    identity: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the members."""
        return tuple(setting.name for setting in self.settings)

    @property
    def epochs(self) -> tuple[int, ...]:
        """Epochs that each member runs at most: JTT's first run comes on top."""
        return tuple(self.experiment.train.epochs + int(setting.knobs.jtt_epochs) for setting in self.settings)


def plan(config: Config) -> list[Program]:
    """Returns the programs of a configuration: the product of `config.grid`, each with the product of `config.axes`.

    Raises:
      ConfigError: for a field that cannot run.
    """
    check(config)
    grid = leaves(config.grid)
    axes = {name: config.axes[name] for name in (*AXES, *OPTIONAL_AXES) if config.axes[name]}
    programs: list[Program] = []
    whole = _digest_of(config)
    for static in itertools.product(*grid.values()):
        overrides = dict(zip(grid, static, strict=True))
        first = sum(len(program.settings) for program in programs)
        combinations = [dict(zip(axes, traced, strict=True)) for traced in itertools.product(*axes.values())]
        spec = experiment(config, overrides)
        settings = tuple(
            _setting(f"m{first + index:03d}", overrides, values, spec, config)
            for index, values in enumerate(combinations)
        )
        name = f"{len(programs):03d}"
        programs.append(Program(name, spec, settings, tuple(axes["rho"]), identity=f"{whole}/{name}"))
        _check_methods(programs[-1])
    return programs


def _digest_of(config: Config) -> str:
    """Returns a digest of all that makes another run; 1 and 1.0 are the same."""
    fields = {name: value for name, value in leaves(config).items() if name not in SAME_RUN}
    text = json.dumps(_plain(fields), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return float(value) if isinstance(value, int) else value


def _setting(
    name: str, overrides: Mapping[str, Any], values: Mapping[str, Any], spec: Experiment, config: Config
) -> Setting:
    strengths = {knob: values.get(knob, config.knobs[knob]) for knob in KNOB_AXES}
    augmentation = {part: values.get(part, getattr(spec.train, part)) for part in AUGMENTATION_AXES}
    knobs = knobs_of(values["method"], strengths)
    return Setting(name, {**overrides, **values}, knobs, Augmentation(**augmentation))


def _check_methods(program: Program) -> None:
    spec = program.experiment
    if "dfr" in spec.active_knobs and spec.split.n_val < 8:
        raise ConfigError("config.split.n_val", "at least 8, half of them for dfr to refit on", spec.split.n_val)
    first = max(int(setting.knobs.jtt_epochs) for setting in program.settings)
    if first > spec.train.epochs:
        raise ConfigError("config.knobs.jtt_epochs", f"at most config.train.epochs ({spec.train.epochs})", first)


def restrict(program: Program, names: Collection[str]) -> Program:
    """Returns the program with those of its members that `names` holds; all of them are the program itself."""
    chosen = set(names)
    settings = tuple(setting for setting in program.settings if setting.name in chosen)
    if len(settings) == len(program.settings):
        return program
    part = hashlib.sha256(" ".join(setting.name for setting in settings).encode()).hexdigest()[:12]
    return dataclasses.replace(program, settings=settings, part=part)


def shard_members(programs: Sequence[Program], *, index: int, count: int) -> set[str]:
    """Returns the names of the members of shard `index` of `count`, from 0: dealt out in the order of their contents.

    Neither the order of the grid nor other shards matter, and shards differ by one member at most.
    """
    settings = [setting for program in programs for setting in program.settings]
    contents = {
        setting.name: hashlib.sha256(json.dumps(dict(setting.axes), sort_keys=True, default=str).encode()).digest()
        for setting in settings
    }
    return set(sorted(contents, key=lambda name: (contents[name], name))[index::count])


def select(program: Program, *, rho: float) -> str:
    """Returns the name of the member whose rho is nearest to `rho`; the first of them."""
    return min(program.settings, key=lambda setting: abs(setting.axes["rho"] - rho)).name


def first_difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str | None:
    """Returns the first dotted field in which two configurations differ, with both values, or None.

    How much memory there is makes no other run.
    """
    before, after = leaves(old), leaves(new)
    for name in sorted((before.keys() | after.keys()) - SAME_RUN):
        if before.get(name) != after.get(name):
            return f"config.{name}: {before.get(name)!r} there, {after.get(name)!r} now"
    return None
