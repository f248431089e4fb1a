"""The run folder and its stored results, from which the same command continues or finishes a sweep."""

import contextlib
import dataclasses
import errno
import itertools
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
from filelock import FileLock

from flipjax.backend.software import differing_software
from flipjax.config import ConfigError
from flipjax.config.groups import Groups
from flipjax.config.identity import first_difference
from flipjax.config.names.former import is_former, renamed
from flipjax.config.program import Program, gallery_member
from flipjax.data.pool import Catalog
from flipjax.page import gallery
from flipjax.results.arrays import MemberResults
from flipjax.results.cells import Cell
from flipjax.results.record import RECORD
from flipjax.results.store import GALLERY, STORED, concatenate
from flipjax.support.files import DamagedError, JsonObject, read_json, write_text
from flipjax.support.npz import read_arrays, write_arrays
from flipjax.support.terminal import say
from flipjax.sweep.lock import PREFIX, Lock

KEYS = {"name", "command", "device", "flipjax", "config"}
"""Keys by which config.json identifies a run of flipjax."""
TEMPORARY = re.compile(rf"\.[^/]*\.tmp|{re.escape(PREFIX)}[^/]*")
"""The names of partial files and locks of a run."""
IMAGES_OF_A_KIND = 6
"""Images of each kind in a gallery, besides counterfactual sets."""
ADVICE = "pass another --workdir=DIR, or --fresh, which renames that folder"
"""How another folder is chosen, for messages."""


class Workdir:
    """Paths and state of a run; all file writes are atomic."""

    def __init__(self, lock: Lock):
        """Takes the lock of the folder; `open` makes the folder and acquires the lock."""
        self.folder = lock.folder
        self._lock = lock

    def open(self, config: Mapping[str, object], *, fresh: bool) -> None:
        """Locks the folder for a configuration; `fresh` renames an earlier run's folder.

        A folder in which nothing was trained may be reused for any configuration.

        Args:
            config: as nested JSON values.
            fresh: whether to start over.

        Raises:
            ConfigError: the folder cannot exist, is in use, or holds another configuration's run or files that are not
                flipjax's.
            OSError: it cannot be written to.
        """
        try:
            # Rejects paths that are not valid UTF-8, and URLs such as gs://, which would create a local folder.
            if str(self.folder).encode() and any(part.endswith(":") for part in self.folder.parts):
                raise ValueError("not on this machine")
            self.folder.mkdir(parents=True, exist_ok=True)
        except (OSError, ValueError) as error:
            expected = "a folder, or a place where one can be made"
            raise ConfigError("--workdir", expected, f"{str(self.folder)!r} ({error})") from error
        self._lock.acquire()
        is_reused = not fresh and self._untrained() and self._lock.alone()
        self._refuse_others(config, any_run=fresh or is_reused)
        if is_reused:
            (self.folder / RECORD).unlink(missing_ok=True)
        if fresh and (self.folder / RECORD).is_file():
            self._move_away()

    def describe(
        self, config: Mapping[str, object], facts: Mapping[str, object], start: Mapping[str, str], *, strict: bool
    ) -> None:
        """Writes config.json: facts about the run (name, command) and each start.

        Reports software that differs from earlier starts.

        Raises:
            ConfigError: `strict`, and software differs.
        """
        first = {**facts, **start, "sessions": [], "config": config}
        with _changed_json(self.folder / RECORD, first) as record:
            starts = record.setdefault("sessions", [])
            differing = differing_software([record, *starts], start)
            if differing and strict:
                raise ConfigError("--strict_versions", "the software of the run's earlier starts", differing)
            if differing:
                say(f"warning: what is done is of other software than what follows: {differing}; see --strict_versions")
            starts.append(start)

    def add_session(self, seconds: float) -> None:
        """Adds this process's training time to its start in config.json."""
        with _changed_json(self.folder / RECORD) as record:
            record["sessions"][-1]["seconds"] = round(seconds, 1)

    def verify(self) -> None:
        """Raises OSError if the folder no longer belongs to this run."""
        if not (self.folder / RECORD).is_file():
            problem = "removed or moved while the run was going on; pass its new place, if any, as --workdir"
            raise FileNotFoundError(errno.ENOENT, problem, str(self.folder))

    def record_pool(self, program: Program, catalog: Catalog) -> None:
        """Records the digest of a pool read from files, so that an unfinished run cannot continue with another pool.

        Args:
            program: of the plan.
            catalog: of its pool, with a digest if read from files.

        Raises:
            ConfigError: the run has read another pool from that place.
        """
        if not catalog.content:
            return
        pool = program.experiment.pool
        count = f"{len(catalog.object_names)} images, {len(catalog.scene_photo_names)} scenes"
        now = f"{catalog.source} ({count} at size {pool.size}) [{catalog.content[:16]}]"
        with _changed_json(self.folder / RECORD) as record:
            before = record.setdefault("pools", {}).setdefault(f"{pool.name} {pool.size} {pool.root}".strip(), now)
        # The same pool may lie elsewhere, as on another machine.
        if before.split()[-1] != now.split()[-1]:
            other_pool = f"one on {before} in {self.folder}; bring that pool back, or {ADVICE}"
            raise ConfigError("--workdir", f"a run on {now}, the pool of today", other_pool)

    def record_library(self, program: Program, library: str) -> str:
        """Records the library of a program's convolutions at its first start, and returns that one ever after."""
        with _changed_json(self.folder / RECORD) as record:
            return record.setdefault("convolutions", {}).setdefault(program.name, library)

    def results_of(self, program: Program) -> Path:
        """Returns the folder of a program's results."""
        return self.folder / "cells" / program.name

    def stored_results_of(self, program: Program) -> Path:
        """Returns the file of the results of a program or of its part, which is written last."""
        folder = self.results_of(program)
        if program.part:
            return folder / "parts" / f"{program.part}.npz"
        return folder / STORED

    def checkpoints_of(self, program: Program) -> Path:
        """Returns the folder of a program's checkpoints."""
        name = program.name
        if program.part:
            name += f"-{program.part}"
        return self.folder / "checkpoints" / name

    def weights_of(self, program: Program, member: str, rule: str) -> Path:
        """Returns the file of a member's weights kept by a selection rule."""
        return self.results_of(program) / "weights" / f"{member}.{rule}.safetensors"

    def remove_checkpoints(self, program: Program) -> None:
        """Removes the checkpoints of a program whose results are stored."""
        shutil.rmtree(self.checkpoints_of(program), ignore_errors=True)
        with contextlib.suppress(OSError):
            self.checkpoints_of(program).parent.rmdir()

    def _refuse_others(self, config: Mapping[str, object], *, any_run: bool) -> None:
        """Raises ConfigError if the folder holds files that are no run's or, unless `any_run`, another run."""
        path = self.folder / RECORD
        if path.is_symlink() or path.is_file():
            record = _read_json(path)
            if any_run:
                return
            if is_former(record["config"]):
                former_run = f"one of an earlier flipjax in {self.folder} ({'; '.join(renamed(record['config']))} now)"
                raise ConfigError("--workdir", "a run of this flipjax", f"{former_run}; {ADVICE}")
            difference = first_difference(record["config"], json.loads(json.dumps(config)))
            if difference:
                other_run = f"one of another in {self.folder} ({difference}); {ADVICE}"
                raise ConfigError("--workdir", "a run of this configuration", other_run)
            return
        names = [entry.name for entry in self.folder.iterdir()]
        # A launcher writes logs before its first shard starts.
        foreign = [name for name in names if name != "logs" and not TEMPORARY.fullmatch(name)]
        if foreign:
            other_files = f"other files in {self.folder}, such as {min(foreign)}, and no {RECORD}"
            raise ConfigError("--workdir", "a new or empty folder, or a run", other_files)

    def _untrained(self) -> bool:
        """Returns whether nothing was trained in the folder, so that another configuration may use it."""
        for name in ("cells", "checkpoints"):
            if any(path.is_file() for path in (self.folder / name).rglob("*")):
                return False
        return not (self.folder / "results.csv").exists()

    def _move_away(self) -> None:
        """Renames the folder to NAME.old (numbered if taken) and makes an empty one in its place."""
        folder = self.folder.resolve()
        if folder in (Path.cwd(), *Path.cwd().parents):
            raise ConfigError("--fresh", "another current folder than the run's, which gets another name", str(folder))
        old = folder.with_name(f"{folder.name}.old")
        suffixes = itertools.count(2)
        while os.path.lexists(old):
            old = folder.with_name(f"{folder.name}.old{next(suffixes)}")
        self._lock.release()
        folder.rename(old)
        say(f"the earlier run is now {old}")
        folder.mkdir()
        self._lock.acquire()

    def remove_partial(self) -> None:
        """Removes partial files of killed processes; only for a process with sole use of the folder."""
        for path in filter(Path.is_file, self.folder.rglob(".*.tmp")):
            path.unlink(missing_ok=True)


def read_program(workdir: Workdir, program: Program, *, say: Callable[[str], object]) -> dict[str, Cell]:
    """Returns the intact stored results of a program, by member; their images are read, checked and let go.

    A damaged file is reported through `say`, and its members count as missing.
    """
    folder = workdir.results_of(program)
    shown_member = gallery_member(program)
    cells: dict[str, Cell] = {}
    for path in (*folder.glob(STORED), *sorted((folder / "parts").glob("*.npz"))):
        try:
            cell = Cell(read_arrays(path, MemberResults), path)
            if str(cell.results.program) != program.identity or not set(cell.members) <= set(program.names):
                raise DamagedError(f"{path}: expected members of this run's program {program.name}; found others")
            checked = dataclasses.replace(cell, stored_images=cell.read_images())
            if shown_member in cell.members and len(shown_images(checked, shown_member)[0]):
                gallery.load_gallery(folder / GALLERY, program=program.identity)
            # A whole program's file comes before its parts'.
            for member in cell.members:
                cells.setdefault(member, cell)
        except (DamagedError, FileNotFoundError) as error:
            say(f"{error}; its members are done again")
    return cells


def shown_images(cell: Cell, member: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns a member's test images for the gallery, and the reasons; see `flipjax.page.gallery.choose_images`."""
    images = cell.images_of(member, "test")
    return gallery.choose_images(
        images.decomposition,
        images.group,
        images.pair,
        riskiest=IMAGES_OF_A_KIND,
        typical=IMAGES_OF_A_KIND,
        paired=gallery.PAIRS,
    )


def gallery_size(groups: Groups) -> int:
    """Returns the largest number of a member's images in the gallery."""
    return 2 * IMAGES_OF_A_KIND + gallery.PAIRS * groups.scenes


def results_of_members(program: Program, cells: Mapping[str, Cell]) -> MemberResults | None:
    """Returns the results of the stored members, from the cell of each, in the program's order; None without any."""
    parts = [cell.results.take(members) for cell, members in _with_members(cells)]
    if not parts:
        return None
    return concatenate(parts).take([name for name in program.names if name in cells])


def _with_members(cells: Mapping[str, Cell]) -> list[tuple[Cell, list[str]]]:
    """Returns each cell once, with those of its members whose cell it is in `cells`."""
    members_of = []
    for cell in {id(cell): cell for cell in cells.values()}.values():
        members_of.append((cell, [name for name in cell.members if cells.get(name) is cell]))
    return members_of


def merge_parts(workdir: Workdir, program: Program, cells: Mapping[str, Cell]) -> dict[str, Cell]:
    """Writes one file for a program with all members stored, and removes the parts; returns the members' cells then."""
    folder = workdir.results_of(program) / "parts"
    results = results_of_members(program, cells)
    if results is None or len(cells) < len(program.names) or not folder.is_dir():
        return dict(cells)
    path = workdir.stored_results_of(program)
    images = [cell.read_images().take(members) for cell, members in _with_members(cells)]
    write_arrays(path, results, concatenate(images).take(program.names))
    shutil.rmtree(folder, ignore_errors=True)
    return dict.fromkeys(program.names, Cell(results, path))


@contextlib.contextmanager
def _changed_json(path: Path, first: JsonObject | None = None) -> Iterator[JsonObject]:
    """Yields the value of config.json, `first` if there is none yet, and writes it unless an error is raised."""
    with FileLock(path.with_name(".config.tmp")):
        if first is not None and not path.is_file():
            value = first
        else:
            value = _read_json(path)
        yield value
        write_text(path, json.dumps(value, indent=2) + "\n")


def _read_json(path: Path) -> JsonObject:
    """Reads a run's config.json.

    Raises:
        ConfigError: it is damaged or another program's.
    """
    try:
        value = read_json(path)
        if not (isinstance(value, dict) and value.keys() >= KEYS):
            raise ValueError("unknown keys")
    except ValueError as error:
        damaged = f"{path}, which is damaged or another program's ({error}); restore it, or pass another --workdir"
        raise ConfigError("--workdir", "a run of flipjax", damaged) from error
    return value
