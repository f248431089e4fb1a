"""A lock on a run folder: one file, which holds who has it. Rests on hard links and O_EXCL, which NFS keeps, too."""

import contextlib
import errno
import json
import os
import socket
import time
from pathlib import Path
from typing import Any

from flipjax.config import ConfigError

PREFIX = ".lock"
NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS)
"""What a file system without hard links answers."""


def _started(pid: int) -> str:
    """Returns when a process of this host started, so that another one with its number is not taken for it."""
    with contextlib.suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    return ""


def _myself() -> dict[str, Any]:
    pid = os.getpid()
    return {
        "host": socket.gethostname(),
        "pid": pid,
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        "started": _started(pid),
        "job": os.environ.get("SLURM_JOB_ID", ""),
    }


def _alive(owner: dict[str, Any]) -> bool:
    """Says whether the owner of a lock may still run: for other hosts nobody knows, so that it may."""
    if owner.get("job") and owner["job"] == os.environ.get("SLURM_JOB_ID"):
        # The same job, requeued: its engine ended the first one.
        return (owner["host"], owner["pid"]) == (socket.gethostname(), os.getpid())
    if owner.get("host") != socket.gethostname():
        return True
    with contextlib.suppress(PermissionError):
        try:
            os.kill(owner["pid"], 0)
        except ProcessLookupError:
            return False
    return _started(owner["pid"]) == owner["started"]


def _read(path: Path) -> dict[str, Any] | None:
    """Returns the owner that a lock names, None where there is no lock; one that cannot be read has no live owner."""
    try:
        owner = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        owner = None
    if not isinstance(owner, dict) or not isinstance(owner.get("pid"), int):
        return {"host": socket.gethostname(), "pid": 0, "since": "?", "started": "?", "job": ""}
    return owner


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
        while not self._link():
            self._clear(self.path, force=force)
        for path in sorted(self.folder.glob(PREFIX + "*")):
            friend = self._together is not None and path.name.startswith(self._together)
            if path != self.path and not friend and not path.name.endswith(".tmp"):
                try:
                    self._clear(path, force=force)
                except ConfigError:
                    self.release()
                    raise

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

    def _clear(self, path: Path, *, force: bool) -> None:
        """Removes a lock that nobody has, moved aside first, so that of two processes one removes it."""
        owner = _read(path)
        if owner is None:
            return
        if _alive(owner) and not force:
            who = f"process {owner['pid']} on {owner['host']}, since {owner['since']}"
            raise ConfigError(
                "--workdir",
                "a folder that no other run is using",
                f"{self.folder} in use by {who}; wait for it, or pass --force_unlock if it is gone",
            )
        aside = path.with_name(f"{PREFIX}.{socket.gethostname()}.{os.getpid()}.dead.tmp")
        with contextlib.suppress(FileNotFoundError):
            os.rename(path, aside)
            if _read(aside) != owner:
                # Another process was faster and has it by now.
                with contextlib.suppress(FileExistsError):
                    os.link(aside, path)
            aside.unlink(missing_ok=True)

    def owned(self) -> bool:
        """Says whether this process still has the lock."""
        with contextlib.suppress(OSError):
            return self.path.read_text() == self._text
        return False

    def release(self) -> None:
        """Gives the lock back; one that another process took over stays."""
        if self.owned():
            self.path.unlink(missing_ok=True)
