"""Sweeps from Python: `run` trains a folder's missing members as the command line does; `open_run` reads one."""

import dataclasses
import json
from collections.abc import Callable, Mapping
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import Any

import pandas as pd

from flipjax.config import PLACES, Config, ConfigError, default_config, leaves, static_settings
from flipjax.configurations import configure, run_name
from flipjax.data.arrays import ArrayData, Benchmark, benchmark
from flipjax.identity import digest_of
from flipjax.metrics import Decomposition
from flipjax.report.page import build_report
from flipjax.results.rows import axes_of
from flipjax.results.run_data import RunData, load
from flipjax.results.store import Cell
from flipjax.support.files import DamagedError
from flipjax.sweep.run import run_sweep
from flipjax.training.model import Model, load_model
from flipjax.training.task import with_data


def run(
    config: Config | str | Path,
    changes: Mapping[str, Any] | None = None,
    *,
    data: ArrayData | None = None,
    workdir: str | Path | None = None,
    fresh: bool = False,
    fail_fast: bool = False,
) -> "Run":
    """Trains the missing members of a run folder, writes its tables and page, and returns the run.

    Repeating an interrupted call continues it; for a finished run it trains nothing.

    Args:
        config: as in `flipjax.configure`.
        changes: values of other keys, by dotted name.
        data: images in memory, from `flipjax.data.from_arrays`.
        workdir: the run folder; by default runs/NAME, as on the command line, and runs/NAME-DIGEST if changes or
            data make a different run.
        fresh: whether to start over; an earlier run is renamed.
        fail_fast: whether to stop at the first program that fails.

    Raises:
        ConfigError: the configuration, the folder or the data cannot be used.
        RuntimeError: every program failed.
    """
    own = with_data(configure(config, changes), data)
    named = isinstance(config, str | Path)
    name = run_name(config) if named else "run"
    plain = named and digest_of(own) == digest_of(configure(config))
    folder = Path(workdir or Path("runs") / (name if plain else f"{name}-{digest_of(own)[:8]}"))
    line = f"flipjax.run({name!r}, {dict(changes or {})!r})"
    text, _ = run_sweep(own, folder, name=name, line=line, data=data, fresh=fresh, fail_fast=fail_fast)
    if not (folder / "results.csv").is_file():
        raise RuntimeError(f"{folder}: {text}")
    return Run(folder, own, data)


def open_run(folder: str | Path) -> "Run":
    """Reads a run folder; for errors see `flipjax.results.load`."""
    return Run(Path(folder))


class Run:
    """A run folder; its tables are data frames, read on access with `flipjax.results.load`."""

    def __init__(self, folder: Path, config: Config | None = None, data: ArrayData | None = None):
        """Reads results.csv; `config` and `data` come from the call that made the run."""
        self.folder = folder
        self.data = data
        self.tables: RunData = load(folder)
        self._config = config

    def __repr__(self) -> str:
        """Shows the folder and the number of members."""
        return f"<Run {self.folder}: {len(self.members)} members; .results .members .history .images .summary>"

    def _repr_html_(self) -> str:
        rows = self.results[self.results["split"] == "test"].drop_duplicates(["member", "group"])
        flips = rows.pivot(index="member", columns="group", values="fg_flip")[["all", "common", "rare"]]
        return self.members.join(flips.add_prefix("Flip, ")).to_html(na_rep="", float_format="{:.3g}".format)

    results = property(attrgetter("tables.members"), doc="results.csv, one row per member, rule, split and group.")
    dataset = property(attrgetter("tables.dataset"), doc="Quantities and training curves as an xarray data set.")
    history = property(attrgetter("tables.history"), doc="history.csv, one row per member and epoch.")
    images = property(attrgetter("tables.images"), doc="One row per member, rule, split and image.")
    summary = property(attrgetter("tables.summary"), doc="One row per setting, rule and quantity, over seeds.")

    @cached_property
    def members(self) -> pd.DataFrame:
        """One row per member: varied axes, status, epochs, and the epoch kept by the first rule."""
        rows = self.results.drop_duplicates("member").set_index("member")
        axes = rows.loc[:, :"split"].iloc[:, :-1]
        varied = axes.columns[axes.nunique(dropna=False) > 1]
        return rows[[*varied, "status", "epochs", "best_epoch"]]

    @cached_property
    def config(self) -> Config:
        """The configuration; for an opened run, without the user's functions."""
        if self._config is not None:
            return self._config
        stored = leaves(json.loads((self.folder / "config.json").read_text())["config"])
        values = {name: _tuples(value) for name, value in stored.items()}
        for name, value in values.items():
            # config.json stores the names and sources of functions.
            if name in PLACES and PLACES[name].holds_functions:
                values[name] = (None,) * len(value) if name.startswith("grid.") else None
        return configure(default_config(), values)

    def member(self, name: str) -> "RunMember":
        """Returns a member by its name, such as m003."""
        if name not in self.members.index:
            raise ConfigError("member", f"one of {', '.join(self.members.index)}", name)
        return RunMember(self, name)

    def report(self) -> str:
        """Redraws the page if something changed, and returns its tables as text."""
        return build_report(self.folder)


@dataclasses.dataclass(frozen=True)
class RunMember:
    """A member of a run."""

    run: Run
    name: str

    @cached_property
    def results(self) -> pd.DataFrame:
        """The member's rows of results.csv."""
        return self.run.results[self.run.results["member"] == self.name]

    @property
    def axes(self) -> dict[str, Any]:
        """The member's value of every axis."""
        row = self.results.iloc[0]
        return {name: row[name] for name in axes_of(self.results)[:-1]}

    @cached_property
    def _cell(self) -> tuple[str, Cell]:
        for place, cell in self.run.tables.cells.items():
            if self.name in cell.members:
                return place.partition("/")[0], cell
        raise DamagedError(f"{self.run.folder}: expected the results of {self.name}; found none")

    @property
    def _static(self) -> dict[str, Any]:
        """The member's values of `config.grid`."""
        return static_settings(self.run.config)[int(self._cell[0])]

    def decomposition(self, part: str = "test", rule: str | None = None) -> Decomposition:
        """Returns the stored decomposition of `val` or `test` for a selection rule, the first by default."""
        return self._cell[1].decomposition(self.name, part, selection=rule)

    def images(self) -> Benchmark:
        """Returns the member's training, validation and test images, as `flipjax.data.benchmark` does."""
        own = {name: value for name, value in self._static.items() if name.startswith(("pool.", "split."))}
        config = configure(self.run.config, own | {"grid": default_config().grid})
        axes = {name: value for name, value in self.axes.items() if name in ("rho", "cue_strength")}
        return benchmark(config, **axes, seed=int(self.axes["seed"]), data=self.run.data)

    def model(self, rule: str | None = None, *, build: Callable | None = None) -> Model:
        """Returns the network with the weights kept by a selection rule, the first by default.

        Args:
            rule: of `config.train.selection`; `config.population.keep` sets which have weights.
            build: the function that builds a user's own network, needed for an opened run.

        Raises:
            FileNotFoundError: the run did not keep these weights.
            WeightsError: the file is damaged, or needs `build`.
        """
        place, cell = self._cell
        rule = rule or cell.rules[0]
        file = self.run.folder / "cells" / place / "weights" / f"{self.name}.{rule}.safetensors"
        if not file.is_file():
            kept = sorted(other.name.split(".")[1] for other in file.parent.glob(f"{self.name}.*"))
            found = f"config.population.keep kept {', '.join(kept) or 'none'}"
            raise FileNotFoundError(f"{file}: expected the weights of the rule {rule}; {found}")
        network: Callable[..., Any] | None = build or self._static.get("model.build", self.run.config.model.build)
        return load_model(file, build=network if callable(network) else None)


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
