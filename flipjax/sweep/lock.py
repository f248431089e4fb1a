"""Locks of run folders, which the system releases when a process ends; shards of one run share its folder."""

import dataclasses
import os
import random
import time
from pathlib import Path

from filelock import FileLock, Timeout

from flipjax.config import ConfigError
from flipjax.support.terminal import say

PREFIX = ".lock"
"""Beginning of the names of lock files."""
WAITS = "FLIPJAX_SHARD_WAITS"
"""Environment variable of a launcher's shards, which wait for a lock: shards outlive a killed launcher."""
VARIABLES = (
    ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT"),
    ("JOB_COMPLETION_INDEX", "JOB_COMPLETIONS"),
    ("SLURM_PROCID", "SLURM_NTASKS"),
)
"""A job's shard index and count, for SLURM arrays, Kubernetes indexed jobs and SLURM tasks."""


class Lock:
    """A lock of a folder. It excludes all others, except those whose names agree with its own up to the last dash."""

    def __init__(self, folder: Path, *, name: str = ""):
        """Locks nothing yet; `name` is the shard's, or empty for the whole run."""
        self.folder = folder
        self.path = folder / (PREFIX + name)
        self._lock = FileLock(self.path)

    def acquire(self, *, seconds: float = 0.0) -> None:
        """Takes the lock, and waits for `seconds` if another process has one that excludes it.

        Raises:
            ConfigError: another process holds it.
            OSError: the folder cannot be written to.
        """
        deadline = time.monotonic() + seconds
        waits = WAITS in os.environ
        was_reported = False
        while not self._take():
            if not waits and time.monotonic() >= deadline:
                problem = f"{self.folder} is in use by another process; wait for it, or pass another --workdir"
                raise ConfigError("--workdir", problem=problem)
            if waits and not was_reported:
                say(f"waiting for another process, which uses {self.folder}")
                was_reported = True
            # Waiting processes have released their locks; random delays keep them from retrying in step.
            time.sleep(random.uniform(0.2, 1))

    def _take(self) -> bool:
        """Takes the lock if it and those that exclude it are free; returns whether it did."""
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            return False
        for path in sorted(self._locks() - {self.path}):
            if not self._shares_with(path) and not _free(path):
                self.release()
                return False
        return True

    def _shares_with(self, path: Path) -> bool:
        """Returns whether another lock is that of another shard of the same run."""
        group, dash, _ = self.path.name.rpartition("-")
        return dash != "" and path.name.startswith(group + dash)

    def alone(self) -> bool:
        """Returns whether the folder has no other lock, such as another shard's."""
        return self._locks() == {self.path}

    def _locks(self) -> set[Path]:
        """Returns the lock files of the folder."""
        return {path for path in self.folder.glob(PREFIX + "*") if path.suffix != ".tmp"}

    def release(self) -> None:
        """Releases the lock, if it is taken."""
        if self._lock.is_locked:
            self.path.unlink(missing_ok=True)
        self._lock.release()


def _free(path: Path) -> bool:
    """Returns whether no process holds a lock, and removes what a process that ended left of it."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    path.unlink(missing_ok=True)
    lock.release()
    return True


@dataclasses.dataclass(frozen=True)
class Shard:
    """One of the parts into which launchers divide the members of a run."""

    index: int
    """The number of the part, from 0."""
    count: int
    """How many there are."""
    typed: str = dataclasses.field(compare=False)
    """How the command line or the job calls it, such as 2/2 for index 0 of 2."""

    def lock(self, folder: Path, *, collect: bool = False) -> Lock:
        """Returns this shard's lock, which is compatible with those of the same count."""
        if collect:
            return Lock(folder, name=f"-of-{self.count}-collect")
        return Lock(folder, name=f"-of-{self.count}-{self.index}")


def read_shard(text: str) -> Shard:
    """Parses `--shard`: `i/n`, or `auto` to read the job's environment.

    `n/n` equals `0/n`, so that counting from 1 also works.

    Raises:
        ConfigError: it is neither, or the environment sets no shard.
    """
    if text == "auto":
        text = _shard_of_job() or text
    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal() and int(index) <= int(count) > 0):
        names = "; ".join(" and ".join(pair) for pair in VARIABLES)
        raise ConfigError("--shard", f"i/n with 0 <= i <= n, or auto where a job sets {names}", text)
    return Shard(int(index) % int(count), int(count), text)


def _shard_of_job() -> str | None:
    """Returns the shard that a job's environment sets, as `i/n`; None if it sets none."""
    for index_name, count_name in VARIABLES:
        if index_name in os.environ and count_name in os.environ:
            index = int(os.environ[index_name])
            # Arrays may count from another number than 0.
            if index_name == "SLURM_ARRAY_TASK_ID":
                index -= int(os.environ.get("SLURM_ARRAY_TASK_MIN", 0))
            return f"{index}/{os.environ[count_name]}"
    return None
