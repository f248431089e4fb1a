"""Locks of run folders: released when the process ends, with a file that names the owner; shards share a folder."""

import contextlib
import dataclasses
import json
import os
import random
import socket
import time
from pathlib import Path

from filelock import FileLock, Timeout

from flipjax.config import ConfigError
from flipjax.support.files import read_json, write_text
from flipjax.support.terminal import say

PREFIX = ".lock"
"""Beginning of the names of lock files."""
OWNER = ".owner"
"""Ending of the name of the file that says who has a lock."""
SHARD_JOB = "FLIPJAX_SHARD_JOB"
"""Environment variable with the name of a shard's job. A restart has the same name and may take its lock."""
VARIABLES = (
    ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT"),
    ("JOB_COMPLETION_INDEX", "JOB_COMPLETIONS"),
    ("SLURM_PROCID", "SLURM_NTASKS"),
)
"""A job's shard index and count, for SLURM arrays, Kubernetes indexed jobs and SLURM tasks."""


@dataclasses.dataclass(frozen=True)
class Owner:
    """A process that has a lock; in containers, host name and process id alone are not unique."""

    host: str = "?"
    """The name of its machine."""
    pid: int = 0
    """Its process id on that machine."""
    since: str = "?"
    """When it took the lock, in local time."""
    boot: str = ""
    """What tells this start of the machine from others."""
    shard_job: str = ""
    """The name of a launcher's job."""
    job: str = ""
    """The number of SLURM's job."""
    restarts: str = ""
    """How often SLURM has started the job again."""

    def __str__(self) -> str:
        """Names the process."""
        return f"process {self.pid} on {self.host} since {self.since}"

    def may_run_elsewhere(self) -> bool:
        """Returns whether it may run on another machine, whose locks some file systems do not show.

        A job that its launcher or SLURM started again has ended before.
        """
        here = this_process()
        if self.host == "?" or self.host == here.host:
            return False
        if here.boot and self.boot == here.boot:
            return False
        if here.shard_job and self.shard_job == here.shard_job:
            return False
        started_again = here.job and self.job == here.job and self.restarts != here.restarts
        return not started_again


def this_process() -> Owner:
    """Returns the identity of this process."""
    boot = ""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return Owner(
        host=socket.gethostname(),
        pid=os.getpid(),
        since=time.strftime("%Y-%m-%d %H:%M:%S"),
        boot=boot,
        shard_job=os.environ.get(SHARD_JOB, ""),
        job=os.environ.get("SLURM_JOB_ID", ""),
        restarts=os.environ.get("SLURM_RESTART_COUNT", ""),
    )


def _owner_of(path: Path) -> Owner:
    """Returns the owner that is named beside a lock file, as far as it is readable."""
    try:
        stored = read_json(path.with_name(path.name + OWNER))
    except (OSError, ValueError):
        return Owner()
    if not isinstance(stored, dict):
        return Owner()
    names = {field.name for field in dataclasses.fields(Owner)}
    return Owner(**{name: value for name, value in stored.items() if name in names})


class Lock:
    """The lock `name` of a folder. It excludes all others, except those whose names agree up to the last dash."""

    def __init__(self, folder: Path, *, name: str = ""):
        """Locks nothing yet; `name` is the shard's, or empty for the whole run."""
        self.folder = folder
        self.path = folder / (PREFIX + name)
        self._owner = self.path.with_name(self.path.name + OWNER)
        self._myself = this_process()
        self._lock = FileLock(self.path)

    def acquire(self, *, force: bool = False, seconds: float = 0.0) -> None:
        """Takes the lock; with `force`, even from a process that holds it.

        Waits for `seconds`; a launcher's shard waits without limit, because shards outlive a killed launcher.

        Raises:
            ConfigError: another process, named in the message, holds it.
            OSError: the folder cannot be written to.
        """
        deadline = time.monotonic() + seconds
        reported = None
        while True:
            owner = self._take(force=force)
            if owner is None:
                return
            waits = os.environ.get(SHARD_JOB) and not owner.may_run_elsewhere()
            if not waits and time.monotonic() >= deadline:
                problem = f"{self.folder} is in use by {owner}; wait or pass --force_unlock"
                raise ConfigError("--workdir", problem=problem)
            if waits and owner != reported:
                say(f"waiting for {owner}, which uses {self.folder}")
            reported = owner
            # Waiting processes have released their locks; random delays keep them from retrying in step.
            time.sleep(random.uniform(0.2, 1))

    def _take(self, *, force: bool) -> Owner | None:
        """Returns None, or the owner of a conflicting lock."""
        group, dash, _ = self.path.name.rpartition("-")
        conflicting = []
        for path in self._locks() - {self.path}:
            # Shards of one run share the folder.
            if not dash or not path.name.startswith(group + dash):
                conflicting.append(path)
        for path in (self.path, *sorted(conflicting)):
            lock = self._lock if path == self.path else FileLock(path)
            owner = _owner_of(path)
            with contextlib.suppress(Timeout):
                lock.acquire(timeout=0)
            if not force and (not lock.is_locked or owner.may_run_elsewhere()):
                lock.release()
                self.release()
                return owner
            if not lock.is_locked:
                # The other process keeps its lock on the unlinked file and exits at its next check.
                path.unlink()
                lock.acquire(timeout=0)
            if path == self.path:
                write_text(self._owner, json.dumps(dataclasses.asdict(self._myself)))
            else:
                path.with_name(path.name + OWNER).unlink(missing_ok=True)
                path.unlink(missing_ok=True)
                lock.release()
        return None

    def owned(self) -> bool:
        """Returns whether this process still holds the lock."""
        return _owner_of(self.path) == self._myself

    def alone(self) -> bool:
        """Returns whether the folder has no other lock, such as another shard's."""
        return self._locks() == {self.path}

    def _locks(self) -> set[Path]:
        return {path for path in self.folder.glob(PREFIX + "*") if path.suffix not in (OWNER, ".tmp")}

    def release(self) -> None:
        """Releases the lock, unless another process took it over."""
        if self._lock.is_locked and self.owned():
            self._owner.unlink(missing_ok=True)
            self.path.unlink(missing_ok=True)
        self._lock.release()


@dataclasses.dataclass(frozen=True)
class Shard:
    """One of the parts into which launchers deal the members of a run."""

    index: int
    """The number of the part, from 0."""
    count: int
    """How many there are."""

    def lock(self, folder: Path, *, collect: bool = False) -> Lock:
        """Returns this shard's lock, which is compatible with those of the same count."""
        part = "collect" if collect else self.index
        return Lock(folder, name=f"-of-{self.count}-{part}")


def read_shard(text: str) -> Shard:
    """Parses `--shard`: `i/n`, or `auto` to read the job's environment.

    `n/n` equals `0/n`, so that counting from 1 also works.

    Raises:
        ConfigError: it is neither, or the environment sets no shard.
    """
    if text == "auto":
        for index, count in VARIABLES:
            if index in os.environ and count in os.environ:
                first = 0
                if index == "SLURM_ARRAY_TASK_ID":
                    first = int(os.environ.get("SLURM_ARRAY_TASK_MIN", 0))
                text = f"{int(os.environ[index]) - first}/{os.environ[count]}"
                break
    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal() and int(index) <= int(count) > 0):
        names = "; ".join(" and ".join(pair) for pair in VARIABLES)
        raise ConfigError("--shard", f"i/n with 0 <= i <= n, or auto where a job sets {names}", text)
    return Shard(int(index) % int(count), int(count))
