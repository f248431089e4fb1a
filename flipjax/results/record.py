"""What is known of a run apart from its results: its record, and the members that have no results yet.

The record, config.json, says what was asked for, and what made it. A sweep writes it
(`flipjax.sweep.folder.record`). Readers that need it call `read_record`, which says what is wrong with it; those that
only show it call `known_record`, because results are complete without it. `read_unfinished` reads how far members are
that train, or whose run was interrupted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from pathlib import Path

import pandas as pd

from flipjax.config import PLACES, Config, ConfigError, default_config
from flipjax.config.names.former import with_new_names
from flipjax.config.plan import plan
from flipjax.config.program import Program, restrict
from flipjax.config.reading import configure
from flipjax.config.values import leaves
from flipjax.results.trackers import TrackedMember, histories_of
from flipjax.support.files import DamagedError, JsonObject, read_json
from flipjax.support.frames import read_csv

RECORD = "config.json"
"""Name of the record's file in the folder of a run."""
HISTORY = "history.csv"
"""Name of the file of the training curves, which grows while members train."""
STATUS = "unfinished"
"""What a member without results is called in tables."""


def read_record(folder: Path) -> JsonObject:
    """Reads the record of a run.

    Raises:
        DamagedError: the file holds no JSON, or no record.
        FileNotFoundError: there is no file.
    """
    path = folder / RECORD
    try:
        record = read_json(path)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise DamagedError(f"{path}: expected the record of a run, found no JSON ({error})") from error
    if not isinstance(record, dict) or not isinstance(record.get("config"), dict):
        raise DamagedError(f"{path}: expected the record of a run, found another file")
    return record


def recorded_config(folder: Path) -> Config:
    """Returns the configuration of a run, with defaults in place of the user's functions.

    Raises:
        DamagedError: the record holds none that this version can read.
        FileNotFoundError: there is no record.
    """
    recorded = leaves(with_new_names(read_record(folder)["config"]))
    values = {name: _without_functions(name, _tuples(value)) for name, value in recorded.items()}
    try:
        return configure(default_config(), values)
    except ConfigError as error:
        raise DamagedError(f"{folder / RECORD}: expected a configuration of this flipjax ({error})") from error


def known_record(folder: Path) -> JsonObject:
    """Returns the record of a run; an empty one if there is no file, or it cannot be read."""
    try:
        record = read_json(folder / RECORD)
    except (OSError, ValueError):
        return {}
    if not isinstance(record, dict):
        return {}
    return record


def planned_members(record: JsonObject, *, otherwise: int) -> int:
    """Returns how many members a run was to have; `otherwise` if its record does not say.

    Example:
        >>> planned_members({"members": 8}, otherwise=3), planned_members({"members": "many"}, otherwise=3)
        (8, 3)
    """
    planned = record.get("members")
    if isinstance(planned, int):
        return planned
    return otherwise


@dataclasses.dataclass(frozen=True, eq=False)
class Unfinished:
    """The members of a run that is not at its end, or was interrupted."""

    history: pd.DataFrame
    """Their rows of history.csv."""
    programs: tuple[Program, ...]
    """Their programs, without other members; none if the configuration holds functions that are not at hand."""
    done: int
    """How many members have results."""
    planned: int
    """How many members the run is to have."""

    def __str__(self) -> str:
        """Says how far the run is."""
        last = self.history["epoch"].max() if len(self.history) else 0
        epochs = f"{last} epochs"
        if self.programs:
            epochs = f"{last} of {max(max(program.epochs) for program in self.programs)} epochs"
        if self.done:
            epochs = f"{self.done} of {self.planned} members have results, the others {epochs}"
        return f"unfinished, {epochs}; the same command continues"

    def __contains__(self, member: str) -> bool:
        """Returns whether a member is among those without results."""
        return member in self.members["member"].tolist()

    @property
    def members(self) -> pd.DataFrame:
        """A row for each member: its axes, as far as they are known, then `member`, `status` and `epochs`."""
        epochs = self.history.groupby("member")["epoch"].max()
        columns = {name: {} for name in epochs.index}
        for program in self.programs:
            columns.update({setting.name: setting.columns for setting in program.settings})
        rows = []
        for name, axes in columns.items():
            rows.append({**axes, "member": name, "status": STATUS, "epochs": int(epochs.get(name, 0))})
        return pd.DataFrame(rows)

    def program_of(self, member: str) -> Program | None:
        """Returns the program of a member; None if it is not known."""
        return next((program for program in self.programs if member in program.names), None)

    def tracked_members(self) -> list[TrackedMember]:
        """Returns the members that have trained an epoch, as an experiment tracker takes them."""
        axes_of = {setting.name: setting.columns for program in self.programs for setting in program.settings}
        members = []
        for name, history in histories_of(self.history).items():
            members.append(TrackedMember(name, axes_of.get(name, {}), history))
        return members


def read_unfinished(folder: Path, done: Collection[str]) -> Unfinished | None:
    """Reads what is known of the members of a run that have no results; None if the run has ended or not begun.

    Args:
        folder: of the run.
        done: the members that have results.

    Raises:
        DamagedError: history.csv is no table of curves.
    """
    path = folder / HISTORY
    if (folder / "results.csv").is_file() or not path.is_file() or not (folder / RECORD).is_file():
        return None
    try:
        history = read_csv(path)
        history = history[~history["member"].isin(done)].reset_index(drop=True)
        history["epoch"].max()
    except (KeyError, ValueError) as error:
        raise DamagedError(f"{path}: expected training curves ({error}); the run's command makes them again") from error
    try:
        programs = plan(recorded_config(folder)).programs
    except (ConfigError, DamagedError):
        # Of the user's functions config.json holds names alone.
        programs = ()
    without_results = []
    for program in programs:
        names = set(program.names).difference(done)
        if names:
            without_results.append(restrict(program, names))
    planned = planned_members(known_record(folder), otherwise=len(done) + history["member"].nunique())
    if len(done) >= planned:
        return None
    return Unfinished(history, tuple(without_results), len(done), planned)


def _without_functions(name: str, value: object) -> object:
    """Returns the value of a dotted key, the default for functions, of which config.json stores names and sources."""
    if name == "quantities":
        return ()
    if name not in PLACES or not PLACES[name].holds_functions:
        return value
    key = PLACES[name]
    if name.startswith("axes.") and isinstance(value, tuple):
        return tuple(item if key.accepts(item) else key.default for item in value)
    return value if key.accepts(value) else key.default


def _tuples(value: object) -> object:
    """Returns JSON's lists as tuples, at any depth."""
    if isinstance(value, list):
        return tuple(map(_tuples, value))
    return value
