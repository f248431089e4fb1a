"""Locks of run folders: released when the process ends, with a file that names the owner; shards share a folder."""

import contextlib
import json
import os
import random
import signal
import socket
import time
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock, Timeout

from flipjax.config import ConfigError
from flipjax.support.files import write_text
from flipjax.support.terminal import say

PREFIX = ".lock"
OWNER = ".owner"
# Environment variable with the name of a shard's job. A restart has the same name and may take its lock.
SHARD_JOB = "FLIPJAX_SHARD_JOB"
SECONDS_TO_END = 10.0
# A job's shard index and count, for SLURM arrays, Kubernetes indexed jobs and SLURM tasks.
VARIABLES = (
    ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT"),
    ("JOB_COMPLETION_INDEX", "JOB_COMPLETIONS"),
    ("SLURM_PROCID", "SLURM_NTASKS"),
)
UNKNOWN = {"host": "?", "pid": 0, "since": "?"}


def _myself() -> dict[str, Any]:
    """Returns this process's identity; in containers, host name and process id alone are not unique."""
    myself = {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        "shard_job": os.environ.get(SHARD_JOB, ""),
        "job": os.environ.get("SLURM_JOB_ID", ""),
        "restarts": os.environ.get("SLURM_RESTART_COUNT", "0"),
    }
    with contextlib.suppress(OSError):
        myself["boot"] = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        myself["namespace"] = os.readlink("/proc/self/ns/pid")
    return myself


def _owner_of(path: Path) -> dict[str, Any]:
    """Returns the owner named in a lock file, or UNKNOWN."""
    with contextlib.suppress(OSError, ValueError, TypeError, RecursionError):
        return UNKNOWN | json.loads(path.with_name(path.name + OWNER).read_bytes())
    return UNKNOWN


def _may_run_elsewhere(owner: dict[str, Any]) -> bool:
    """Returns whether an owner may run on another machine, whose locks some file systems do not show."""
    mine = _myself()
    here = owner["host"] in ("?", mine["host"]) or owner.get("boot") == mine.get("boot", "")
    requeued = owner.get("job") and owner["job"] == mine["job"] and owner.get("restarts") != mine["restarts"]
    return not (here or requeued or _of_my_job(owner))


def _of_my_job(owner: dict[str, Any]) -> bool:
    return bool(owner.get("shard_job")) and owner["shard_job"] == os.environ.get(SHARD_JOB)


def _end_predecessor(owner: dict[str, Any]) -> float:
    """Kills a shard of this job that outlived its worker; returns the seconds to wait for its lock."""
    mine = _myself()
    reachable = all(owner.get(name) == mine.get(name) for name in ("host", "boot", "namespace"))
    if not (_of_my_job(owner) and reachable and owner["pid"] != mine["pid"]):
        return 0.0
    with contextlib.suppress(ProcessLookupError):
        os.kill(owner["pid"], signal.SIGKILL)
    return SECONDS_TO_END


class Lock:
    """The lock `name` of a folder. It excludes all others, except those whose names agree up to the last dash."""

    def __init__(self, folder: Path, *, name: str = ""):
        """Locks nothing yet; `name` is the shard's, or empty for the whole run."""
        self.folder = folder
        self.path = folder / (PREFIX + name)
        self._owner = self.path.with_name(self.path.name + OWNER)
        self._text = json.dumps(_myself())
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
        while (owner := self._take(force=force)) is not None:
            who = f"process {owner['pid']} on {owner['host']} since {owner['since']}"
            waits = os.environ.get(SHARD_JOB) and not _may_run_elsewhere(owner)
            if not waits and time.monotonic() >= deadline:
                problem = f"{self.folder} is in use by {who}; wait, or pass --force_unlock"
                raise ConfigError("--workdir", problem=problem)
            if waits and owner != reported:
                say(f"waiting for {who}, which uses {self.folder}")
            reported = owner
            # Waiting processes have released their locks; random delays keep them from retrying in step.
            time.sleep(random.uniform(0.2, 1))

    def _take(self, *, force: bool) -> dict[str, Any] | None:
        """Returns None, or the owner of a conflicting lock."""
        group, dash, _ = self.path.name.rpartition("-")
        others = (path for path in self._locks() - {self.path} if not dash or not path.name.startswith(group + dash))
        for path in (self.path, *sorted(others)):
            lock = self._lock if path == self.path else FileLock(path)
            owner = _owner_of(path)
            try:
                lock.acquire(timeout=0)
                held = _may_run_elsewhere(owner)
            except Timeout:
                held = True
                with contextlib.suppress(Timeout):
                    lock.acquire(timeout=_end_predecessor(owner))
                    held = False
            if held and not force:
                lock.release()
                self.release()
                return owner
            if held and not lock.is_locked:
                # The other process keeps its lock on the unlinked file and exits at its next check.
                path.unlink()
                lock.acquire(timeout=0)
            if path == self.path:
                write_text(self._owner, self._text)
            else:
                path.with_name(path.name + OWNER).unlink(missing_ok=True)
                path.unlink(missing_ok=True)
                lock.release()
        return None

    def owned(self) -> bool:
        """Returns whether this process still holds the lock."""
        with contextlib.suppress(OSError):
            return self._owner.read_text() == self._text
        return False

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


class Shard(NamedTuple):
    """Shard `index` (from 0) of `count`."""

    index: int
    count: int

    def lock(self, folder: Path, *, collect: bool = False) -> Lock:
        """Returns this shard's lock, which is compatible with those of the same count."""
        return Lock(folder, name=f"-of-{self.count}-{'collect' if collect else self.index}")


def read_shard(text: str) -> Shard:
    """Parses `--shard`: `i/n`, or `auto` to read the job's environment.

    `n/n` equals `0/n`, so that counting from 1 also works.

    Raises:
        ConfigError: it is neither, or the environment sets no shard.
    """
    if text == "auto":
        for index, count in VARIABLES:
            if index in os.environ and count in os.environ:
                first = int(os.environ.get("SLURM_ARRAY_TASK_MIN", 0)) if index == "SLURM_ARRAY_TASK_ID" else 0
                text = f"{int(os.environ[index]) - first}/{os.environ[count]}"
                break
    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal() and int(index) <= int(count) > 0):
        names = "; ".join(" and ".join(pair) for pair in VARIABLES)
        raise ConfigError("--shard", f"i/n with 0 <= i <= n, or auto where a job sets {names}", text)
    return Shard(int(index) % int(count), int(count))
