"""A lock on a run folder: one file, which holds who has it. Rests on hard links and O_EXCL, which NFS keeps, too."""

import contextlib
import errno
import json
import os
import random
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

from flipjax.config import ConfigError

PREFIX = ".lock"
SHARD_JOB = "FLIPJAX_SHARD_JOB"
"""What a launcher calls a shard's job: the same one when it starts the shard again, so that the first one has ended."""
NOBODY = 2**31 - 1
"""A number that no process has."""
SECONDS_TO_END = 10.0
SECONDS_BETWEEN_LOOKS = 0.5
NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS)
"""What a file system without hard links answers."""


def _started(pid: int) -> str:
    """Returns when a process of this host that still runs started: another one may have its number by now."""
    with contextlib.suppress(OSError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        # A zombie has ended, whoever has not asked for its exit code yet.
        return "" if fields[0] in "ZX" else fields[19]
    return ""


def _myself() -> dict[str, Any]:
    pid = os.getpid()
    return {
        "host": socket.gethostname(),
        "pid": pid,
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        "started": _started(pid),
        "shard_job": os.environ.get(SHARD_JOB, ""),
        "job": os.environ.get("SLURM_JOB_ID", ""),
        "restarts": os.environ.get("SLURM_RESTART_COUNT", "0"),
    }


def _alive(owner: dict[str, Any]) -> bool:
    """Says whether the owner of a lock may still run: for other hosts only its engine knows."""
    if owner.get("host") != socket.gethostname():
        requeued = owner.get("job") and owner["job"] == os.environ.get("SLURM_JOB_ID")
        requeued = requeued and owner.get("restarts") != os.environ.get("SLURM_RESTART_COUNT", "0")
        return not (requeued or _of_my_job(owner))
    with contextlib.suppress(PermissionError):
        try:
            os.kill(owner["pid"], 0)
        except (ProcessLookupError, OverflowError):
            return False
    return _started(owner["pid"]) == owner.get("started")


def _of_my_job(owner: dict[str, Any]) -> bool:
    return bool(owner.get("shard_job")) and owner["shard_job"] == os.environ.get(SHARD_JOB)


def _end(owner: dict[str, Any]) -> None:
    """Ends a shard of this host that outlived its engine's worker."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(owner["pid"], signal.SIGKILL)
    deadline = time.monotonic() + SECONDS_TO_END
    while _alive(owner) and time.monotonic() < deadline:
        time.sleep(0.05)


def _read(path: Path) -> dict[str, Any] | None:
    """Returns the owner that a lock names, None where there is no lock; one that makes no sense has no live owner."""
    try:
        owner = json.loads(path.read_bytes())
    except PermissionError:
        # Another user's, who may be at work.
        return {"host": "another host or of another user", "pid": 0, "since": "?"}
    except (OSError, ValueError, RecursionError):
        if not os.path.lexists(path):
            return None
        owner = None
    kinds = {"host": str, "since": str, "pid": int}
    sound = isinstance(owner, dict) and all(isinstance(owner.get(name), kind) for name, kind in kinds.items())
    if isinstance(owner, dict) and sound and owner["pid"] > 0:
        return owner
    return {"host": socket.gethostname(), "pid": NOBODY, "since": "?", "started": "?"}


class Lock:
    """The lock `name` of a folder; those of other names exclude it, too, except where they begin like `together`."""

    def __init__(self, folder: Path, *, name: str = "", together: str | None = None):
        """Takes nothing yet; `name` is the shard's, empty for the whole run."""
        self.folder = folder
        self.path = folder / (PREFIX + name)
        self._together = None if together is None else PREFIX + together
        self._text = json.dumps(_myself())

    def acquire(self, *, force: bool = False) -> None:
        """Takes the lock, over a dead process of this host, too, and with `force` over any.

        Raises:
          ConfigError: another process has it; names the process.
          OSError: the folder cannot be written to.
        """
        while True:
            if self._link():
                path, owner = self._stranger(force=force)
                if owner is None:
                    return
                self.release()
            else:
                path, owner = self.path, self._clear(self.path, force=force)
            if owner is not None:
                self._wait(path, owner)

    def _stranger(self, *, force: bool) -> tuple[Path, dict[str, Any] | None]:
        """Returns a lock beside this one that excludes it, and who has it; None where nobody has one."""
        for path in sorted(self.folder.glob(PREFIX + "*")):
            friend = self._together is not None and path.name.startswith(self._together)
            if path != self.path and not friend and not path.name.endswith(".tmp"):
                owner = self._clear(path, force=force)
                if owner is not None:
                    return path, owner
        return self.path, None

    def _link(self) -> bool:
        """Makes the lock with its text in one step; False where it is there already."""
        partial = self.path.with_name(f"{PREFIX}.{socket.gethostname()}.{os.getpid()}.tmp")
        try:
            partial.write_text(self._text)
            os.link(partial, self.path)
        except FileExistsError:
            # The answer of a link over NFS may be lost though it was made.
            return self.owned()
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            try:
                number = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
            except FileExistsError:
                return False
            with os.fdopen(number, "w") as stream:
                stream.write(self._text)
        finally:
            partial.unlink(missing_ok=True)
        return True

    def _clear(self, path: Path, *, force: bool) -> dict[str, Any] | None:
        """Removes a lock that nobody has, moved aside first, so that of two processes one removes it.

        Returns who has it, if anybody does.
        """
        owner = _read(path)
        if owner is None:
            return None
        if _alive(owner) and _of_my_job(owner) and owner["pid"] != os.getpid():
            _end(owner)
        if _alive(owner) and not force:
            return owner
        aside = path.with_name(f"{PREFIX}.{socket.gethostname()}.{os.getpid()}.dead.tmp")
        with contextlib.suppress(FileNotFoundError):
            os.rename(path, aside)
            if _read(aside) != owner:
                # Another process was faster and has it by now.
                with contextlib.suppress(FileExistsError):
                    os.link(aside, path)
            aside.unlink(missing_ok=True)
        return None

    def _wait(self, path: Path, owner: dict[str, Any]) -> None:
        """Waits for a lock of this host if a launcher's shard asks: shards outlive a launcher that was killed.

        Raises:
          ConfigError: anybody else asks, or it is of another host; names the process.
        """
        who = f"process {owner['pid']} on {owner['host']}, since {owner['since']}"
        if not os.environ.get(SHARD_JOB) or owner["host"] != socket.gethostname():
            raise ConfigError(
                "--workdir",
                "a folder that no other run is using",
                f"{self.folder} in use by {who}; wait for it, or pass --force_unlock if it is gone",
            )
        print(f"waiting for {who}, which uses {self.folder}", file=sys.stderr, flush=True)
        while _alive(owner) and _read(path) == owner:
            # Two that wait for each other have given their own locks back, and do not look at the same times.
            time.sleep(SECONDS_BETWEEN_LOOKS * random.uniform(0.5, 1.5))

    def owned(self) -> bool:
        """Says whether this process still has the lock."""
        with contextlib.suppress(OSError):
            return self.path.read_text() == self._text
        return False

    def release(self) -> None:
        """Gives the lock back; one that another process took over stays."""
        if self.owned():
            self.path.unlink(missing_ok=True)
