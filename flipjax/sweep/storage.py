"""Stored results of a run folder: read with digest checks, and merged from the parts of shards."""

import contextlib
import dataclasses
import shutil
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from flipjax.files import DamagedError
from flipjax.plan import Program, select
from flipjax.results import gallery
from flipjax.results.cells import StoredCell, load_cell, save_cell
from flipjax.results.frames import Row
from flipjax.sweep.workdir import Workdir

# The member axis of each array in a part that has one.
AXES = {"confusion": 1, "risk_sum": 1, "scene_log_odds": 1, "centers": 1, "scores": 0, "masks": 0}


def read_program(workdir: Workdir, program: Program, *, say: Callable[[str], Any]) -> dict[str, StoredCell]:
    """Returns the intact stored results of a program, by member.

    A damaged file is reported through `say`, and its members count as missing.
    """
    folder = workdir.results_of(program)
    stored: dict[str, StoredCell] = {}
    for path in (folder / "decomposition.npz", *sorted((folder / "parts").glob("*.npz"))):
        with contextlib.suppress(FileNotFoundError):
            try:
                cell = load_cell(path)
                if cell.program != program.identity or not set(cell.members) <= set(program.names):
                    raise DamagedError(f"{path}: expected members of this run's cell {program.name}; found others")
                _check_gallery(workdir, program, cell)
                stored = dict.fromkeys(cell.members, cell) | stored
            except DamagedError as error:
                say(f"{error}; its members are done again")
        if len(stored) == len(program.names):
            break
    return stored


def _check_gallery(workdir: Workdir, program: Program, cell: StoredCell) -> None:
    """Raises DamagedError if the gallery of a cell is damaged."""
    shown = select(program)
    if shown in cell.members and len(shown_images(cell, shown)[0]):
        path = workdir.results_of(program) / "gallery.npz"
        try:
            gallery.load_gallery(path, program=program.identity)
        except FileNotFoundError as error:
            raise DamagedError(f"{path}: missing") from error


def shown_images(stored: StoredCell, member: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns a member's test images for the gallery, and the reasons; see `flipjax.results.gallery.choose_images`."""
    test = stored.parts["test"]
    decomposition = stored.decomposition(member, "test")
    return gallery.choose_images(decomposition, test.groups, test.pairs, paired=gallery.PAIRS)


def rows_of(program: Program, stored: Mapping[str, StoredCell], table: str) -> list[Row]:
    """Returns the stored members' rows of the table `rows` or `history`, in the program's order."""
    by_member: dict[str, list[Row]] = {}
    for cell in _unique(stored):
        for row in getattr(cell, table):
            if stored.get(row["member"]) is cell:
                by_member.setdefault(row["member"], []).append(row)
    return [row for name in program.names for row in by_member.get(name, [])]


def _unique(stored: Mapping[str, StoredCell]) -> Iterable[StoredCell]:
    return {id(cell): cell for cell in stored.values()}.values()


def merge(program: Program, stored: Mapping[str, StoredCell]) -> StoredCell:
    """Merges the cells of a program's parts into one, with members in the program's order."""
    cells = [stored[name] for name in program.names]
    places = [cell.places[name] for cell, name in zip(cells, program.names, strict=True)]
    parts = {}
    for part, first in cells[0].parts.items():
        arrays: dict[str, np.ndarray | None] = dict.fromkeys(AXES)
        for field, axis in AXES.items():
            values = [getattr(cell.parts[part], field) for cell in cells]
            # Parts written by an older version may lack some.
            if all(value is not None for value in values):
                members = [value.take(place, axis) for value, place in zip(values, places, strict=True)]
                arrays[field] = np.stack(members, axis)
        parts[part] = dataclasses.replace(first, **arrays)
    rows, history = (tuple(rows_of(program, stored, table)) for table in ("rows", "history"))
    return dataclasses.replace(cells[0], members=program.names, parts=parts, rows=rows, history=history)


def gather(workdir: Workdir, program: Program, stored: Mapping[str, StoredCell]) -> None:
    """Writes one decomposition.npz for a program with all members stored, and removes the parts."""
    folder = workdir.results_of(program) / "parts"
    if len(stored) < len(program.names) or not folder.is_dir():
        return
    if len(list(_unique(stored))) > 1:
        save_cell(workdir.decomposition_of(program), merge(program, stored))
    shutil.rmtree(folder, ignore_errors=True)
