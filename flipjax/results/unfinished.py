"""Reads the members of a run that have no results yet, because they still train or the run was interrupted.

Their training curves are on disk after every epoch, so a page, a tracker or a notebook can show them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from pathlib import Path

import pandas as pd

from flipjax.config import ConfigError
from flipjax.config.plan import plan
from flipjax.config.program import Program, restrict
from flipjax.results.record import RECORD, known_record, planned_members, recorded_config
from flipjax.results.tracking.trackers import TrackedMember, histories_of
from flipjax.support.files import DamagedError
from flipjax.support.frames import read_csv

HISTORY = "history.csv"
"""Name of the file of the training curves, which grows while members train."""
STATUS = "unfinished"
"""The status of a member without results, in tables."""


@dataclasses.dataclass(frozen=True, eq=False)
class Unfinished:
    """The members without results of a run that still trains, or was interrupted."""

    history: pd.DataFrame
    """The rows of history.csv of these members: a row for each member and epoch."""
    programs: tuple[Program, ...]
    """The programs of these members, restricted to them. Empty if the configuration holds the user's own functions,
    which cannot be read from the folder."""
    done: int
    """How many members have results."""
    planned: int
    """How many members the run will have."""

    def __str__(self) -> str:
        """Returns how far the run is, and that the same command continues it."""
        last = 0
        if len(self.history):
            last = self.history["epoch"].max()
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
    """Reads the members of a run that have no results; None if the run has ended or not begun.

    Args:
        folder: of the run.
        done: the members that have results.

    Raises:
        DamagedError: history.csv is no table of curves.
    """
    path = folder / HISTORY
    if (folder / "results.csv").is_file() or not path.is_file() or not (folder / RECORD).is_file():
        return None
    history = _read_curves(path)
    history = history[~history["member"].isin(done)].reset_index(drop=True)
    try:
        programs = plan(recorded_config(folder)).programs
    except (ConfigError, DamagedError):
        # config.json holds only the names of the user's functions.
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


def _read_curves(path: Path) -> pd.DataFrame:
    """Reads the training curves of a run; raises DamagedError if the file is no table of them."""
    problem = "no columns member and epoch"
    try:
        history = read_csv(path)
        if {"member", "epoch"} <= {*history}:
            return history
    except ValueError as error:
        problem = str(error)
    raise DamagedError(f"{path}: expected training curves ({problem}); the run's command makes them again")
