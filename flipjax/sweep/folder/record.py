"""The record of a run, config.json, as the sweep that makes the run reads and writes it.

It says what was asked for, each start of the command, and what later starts must have in common with the first: the
pool, the library of convolutions and the form in which members train.
"""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path

from filelock import FileLock

from flipjax.backend.software import differing_software
from flipjax.config import ConfigError
from flipjax.config.program import Program
from flipjax.data.pool import Catalog
from flipjax.support.files import JsonObject, read_json, write_json
from flipjax.support.terminal import say

KEYS = {"name", "command", "device", "flipjax", "config"}
"""Keys by which config.json identifies a run of flipjax."""
ADVICE = "pass another --workdir=DIR, or --fresh, which renames that folder"
"""How another folder is chosen, for messages."""


@dataclasses.dataclass(frozen=True)
class RunRecord:
    """The record of a run whose folder is claimed; each change is written at once."""

    path: Path
    """The file."""

    def describe(
        self, config: Mapping[str, object], facts: Mapping[str, object], start: Mapping[str, str], *, strict: bool
    ) -> None:
        """Writes config.json: facts about the run (name, command) and each start.

        Reports software that differs from earlier starts.

        Raises:
            ConfigError: `strict`, and software differs.
        """
        first = {**facts, **start, "sessions": [], "config": config}
        with _changed(self.path, first) as record:
            starts = record.setdefault("sessions", [])
            differing = differing_software([record, *starts], start)
            if differing and strict:
                raise ConfigError("--strict_versions", "the software of the run's earlier starts", differing)
            if differing:
                say(f"warning: earlier members were trained with other software ({differing}); see --strict_versions")
            starts.append(start)

    def add_session(self, seconds: float) -> None:
        """Adds this process's training time to its start in config.json."""
        with _changed(self.path) as record:
            record["sessions"][-1]["seconds"] = round(seconds, 1)

    def settle_pool(self, program: Program, catalog: Catalog) -> None:
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
        with _changed(self.path) as record:
            before = record.setdefault("pools", {}).setdefault(f"{pool.name} {pool.size} {pool.root}".strip(), now)
        # The same pool may lie elsewhere, as on another machine.
        if before.split()[-1] != now.split()[-1]:
            other_pool = f"one on {before} in {self.path.parent}; bring that pool back, or {ADVICE}"
            raise ConfigError("--workdir", f"a run on the pool as it is now, {now}", other_pool)

    def settle_library(self, program: Program, library: str) -> str:
        """Records the library of a program's convolutions at its first start, and returns the recorded one."""
        with _changed(self.path) as record:
            return record.setdefault("convolutions", {}).setdefault(program.name, library)

    def form_of(self, program: Program) -> str | None:
        """Returns the form in which a program's members train, if a start has recorded it."""
        return read_own_record(self.path).get("map", {}).get(program.name)

    def settle_form(self, program: Program, form: str) -> str:
        """Records the form in which a program's members train, unless a start has, and returns the recorded one."""
        with _changed(self.path) as record:
            return record.setdefault("map", {}).setdefault(program.name, form)


@contextlib.contextmanager
def _changed(path: Path, first: JsonObject | None = None) -> Iterator[JsonObject]:
    """Yields the value of config.json, `first` if there is none yet, and writes it unless an error is raised."""
    with FileLock(path.with_name(".config.tmp")):
        if first is not None and not path.is_file():
            value = first
        else:
            value = read_own_record(path)
        yield value
        write_json(path, value)


def read_own_record(path: Path) -> JsonObject:
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
