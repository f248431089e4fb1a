"""Who has a run folder: a lock that ends with its process, a file that names the owner, and shards side by side."""

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
from flipjax.files import write_text
from flipjax.terminal import say

PREFIX = ".lock"
OWNER = ".owner"
# A launcher's name of a shard's job: the same when it starts the shard again, so that the first one has ended.
SHARD_JOB = "FLIPJAX_SHARD_JOB"
SECONDS_TO_END = 10.0
# Index and count of a job's share: SLURM's arrays, Kubernetes' indexed jobs, SLURM's tasks.
VARIABLES = (
    ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT"),
    ("JOB_COMPLETION_INDEX", "JOB_COMPLETIONS"),
    ("SLURM_PROCID", "SLURM_NTASKS"),
)
UNKNOWN = {"host": "?", "pid": 0, "since": "?"}


def _myself() -> dict[str, Any]:
    """Returns what tells this process from others: host names and numbers alone do not, in containers."""
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
    """Returns who a lock's file names; UNKNOWN where it names nobody."""
    with contextlib.suppress(OSError, ValueError, TypeError, RecursionError):
        return UNKNOWN | json.loads(path.with_name(path.name + OWNER).read_bytes())
    return UNKNOWN


def _may_run_elsewhere(owner: dict[str, Any]) -> bool:
    """Says whether an owner may be at work on another machine, whose locks not every file system shows."""
    mine = _myself()
    here = owner["host"] in ("?", mine["host"]) or owner.get("boot") == mine.get("boot", "")
    requeued = owner.get("job") and owner["job"] == mine["job"] and owner.get("restarts") != mine["restarts"]
    return not (here or requeued or _of_my_job(owner))


def _of_my_job(owner: dict[str, Any]) -> bool:
    return bool(owner.get("shard_job")) and owner["shard_job"] == os.environ.get(SHARD_JOB)


def _end_predecessor(owner: dict[str, Any]) -> float:
    """Kills a shard of this job that outlived its engine's worker; returns how many seconds to wait for its lock."""
    mine = _myself()
    reachable = all(owner.get(name) == mine.get(name) for name in ("host", "boot", "namespace"))
    if not (_of_my_job(owner) and reachable and owner["pid"] != mine["pid"]):
        return 0.0
    with contextlib.suppress(ProcessLookupError):
        os.kill(owner["pid"], signal.SIGKILL)
    return SECONDS_TO_END


class Lock:
    """The lock `name` of a folder; those of other names exclude it, too, except where they begin like `together`."""

    def __init__(self, folder: Path, *, name: str = "", together: str | None = None):
        """Takes nothing yet; `name` is the shard's, empty for the whole run."""
        self.folder = folder
        self.path = folder / (PREFIX + name)
        self._together = None if together is None else PREFIX + together
        self._owner = self.path.with_name(self.path.name + OWNER)
        self._text = json.dumps(_myself())
        self._lock = FileLock(self.path)

    def acquire(self, *, force: bool = False, seconds: float = 0.0) -> None:
        """Takes the lock; with `force` from a process that has it, too.

        Waits for `seconds`, and a launcher's shard as long as it takes: shards outlive a launcher that was killed.

        Raises:
            ConfigError: another process has it; names the process.
            OSError: the folder cannot be written to.
        """
        deadline = time.monotonic() + seconds
        told = None
        while (owner := self._take(force=force)) is not None:
            who = f"process {owner['pid']} on {owner['host']} since {owner['since']}"
            waits = os.environ.get(SHARD_JOB) and not _may_run_elsewhere(owner)
            if not waits and time.monotonic() >= deadline:
                problem = f"{self.folder} is in use by {who}; wait, or pass --force_unlock"
                raise ConfigError("--workdir", problem=problem)
            if waits and owner != told:
                say(f"waiting for {who}, which uses {self.folder}")
            told = owner
            # Two that wait for each other have given their own locks back, and do not look at the same times.
            time.sleep(random.uniform(0.2, 1))

    def _take(self, *, force: bool) -> dict[str, Any] | None:
        """Returns None, or who has a lock that is in the way."""
        friends = {path for path in self._locks() if self._together and path.name.startswith(self._together)}
        for path in (self.path, *sorted(self._locks() - friends - {self.path})):
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
                # The other process keeps a lock on a file that has no name any more, and ends at its next look.
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
        """Says whether this process still has the lock."""
        with contextlib.suppress(OSError):
            return self._owner.read_text() == self._text
        return False

    def alone(self) -> bool:
        """Says whether no other lock of the folder is there, such as that of another shard."""
        return self._locks() == {self.path}

    def _locks(self) -> set[Path]:
        return {path for path in self.folder.glob(PREFIX + "*") if path.suffix not in (OWNER, ".tmp")}

    def release(self) -> None:
        """Gives the lock back; one that another process took over stays."""
        if self._lock.is_locked and self.owned():
            self._owner.unlink(missing_ok=True)
            self.path.unlink(missing_ok=True)
        self._lock.release()


class Shard(NamedTuple):
    """The share `index` of `count`, from 0."""

    index: int
    count: int

    def lock(self, folder: Path, *, collect: bool = False) -> Lock:
        """Returns the lock of this shard, beside which those of the same count may be taken."""
        together = f"-of-{self.count}-"
        return Lock(folder, name=f"{together}{'collect' if collect else self.index}", together=together)


def read_shard(text: str) -> Shard:
    """Returns what `--shard` means: `i/n`, or `auto` for what a job's environment says.

    `n/n` is the same as `0/n`, so that counting from 1 is right, too.

    Raises:
        ConfigError: it is neither, or the environment says nothing.
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
