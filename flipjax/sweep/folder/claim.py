"""Whether a command may go on in a folder: nobody else uses it, and what lies in it is a run of this configuration."""

import itertools
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path

from flipjax.config import ConfigError
from flipjax.config.identity import first_difference
from flipjax.config.names.former import is_former, renamed
from flipjax.results.record import RECORD
from flipjax.support.files import foreign_names
from flipjax.support.terminal import say
from flipjax.sweep.folder.record import ADVICE, read_own_record
from flipjax.sweep.lock import PREFIX, Lock

OF_RUNS = re.compile(rf"logs|{re.escape(PREFIX)}.*")
"""The names of what lies in a folder before its record: a launcher's logs, and locks."""


def claim(lock: Lock, config: Mapping[str, object], *, fresh: bool) -> None:
    """Makes and locks the folder of a run for a configuration; `fresh` renames an earlier run's folder.

    A folder in which nothing was trained may be reused for any configuration.

    Args:
        lock: of the folder; the caller releases it.
        config: as nested JSON values.
        fresh: whether to start over.

    Raises:
        ConfigError: the folder cannot exist, is in use, or holds another configuration's run or files that are not
            flipjax's.
        OSError: it cannot be written to.
    """
    folder = lock.folder
    record = folder / RECORD
    try:
        # Rejects paths that are not valid UTF-8, and URLs such as gs://, which would create a local folder.
        if str(folder).encode() and any(part.endswith(":") for part in folder.parts):
            raise ValueError("not on this machine")
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        expected = "a folder, or a place where one can be made"
        raise ConfigError("--workdir", expected, f"{str(folder)!r} ({error})") from error
    lock.acquire()
    is_reused = not fresh and _is_untrained(folder) and lock.alone()
    _refuse_others(folder, config, any_run=fresh or is_reused)
    if is_reused:
        record.unlink(missing_ok=True)
    if fresh and record.is_file():
        _move_away(lock)


def _refuse_others(folder: Path, config: Mapping[str, object], *, any_run: bool) -> None:
    """Raises ConfigError if the folder holds files that are no run's or, unless `any_run`, another run."""
    path = folder / RECORD
    if path.is_symlink() or path.is_file():
        record = read_own_record(path)
        if any_run:
            return
        if is_former(record["config"]):
            former_run = f"one of an earlier version in {folder} ({'; '.join(renamed(record['config']))} now)"
            raise ConfigError("--workdir", "a run of this version of flipjax", f"{former_run}; {ADVICE}")
        difference = first_difference(record["config"], json.loads(json.dumps(config)))
        if difference:
            other_run = f"one of another in {folder} ({difference}); {ADVICE}"
            raise ConfigError("--workdir", "a run of this configuration", other_run)
        return
    foreign = foreign_names(folder, ours=OF_RUNS.fullmatch)
    if foreign:
        other_files = f"other files in {folder}, such as {min(foreign)}, and no {RECORD}"
        raise ConfigError("--workdir", "a new or empty folder, or a run", other_files)


def _is_untrained(folder: Path) -> bool:
    """Returns whether nothing was trained in the folder, so that another configuration may use it."""
    for name in ("cells", "checkpoints"):
        if any(path.is_file() for path in (folder / name).rglob("*")):
            return False
    return not (folder / "results.csv").exists()


def _move_away(lock: Lock) -> None:
    """Renames the folder to NAME.old (numbered if taken) and makes an empty one in its place."""
    folder = lock.folder.resolve()
    if folder in (Path.cwd(), *Path.cwd().parents):
        raise ConfigError("--fresh", "a current folder outside the run, whose folder is renamed", str(folder))
    old = folder.with_name(f"{folder.name}.old")
    suffixes = itertools.count(2)
    while os.path.lexists(old):
        old = folder.with_name(f"{folder.name}.old{next(suffixes)}")
    lock.release()
    folder.rename(old)
    say(f"the earlier run is now {old}")
    folder.mkdir()
    lock.acquire()
