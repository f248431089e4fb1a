"""The members of a run that have no results yet: those that train, or whose run was interrupted."""

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
