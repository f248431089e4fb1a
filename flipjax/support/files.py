"""Atomic file writes, corruption errors, digests, and the cache directory."""

import contextlib
import errno
import functools
import hashlib
import json
import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

if TYPE_CHECKING:
    import numpy as np

JsonObject: TypeAlias = dict[str, Any]
"""An object as `json` reads it, whose values have no types until they are checked."""
DAMAGE = (None, errno.EINVAL, errno.EISDIR)
"""Numbers of the system's errors that a damaged file causes: a wrong position in it, or a folder in its place."""


class DamagedError(ValueError):
    """Raised for a file whose contents changed since it was written; names the file."""

    exit_code = 2


def check_regular(path: Path) -> None:
    """Raises ValueError for a pipe or a device, of which a reader would wait for ever, or see no end."""
    if path.exists() and not path.is_file() and not path.is_dir():
        raise ValueError("expected a regular file, found a pipe or a device")


@contextlib.contextmanager
def naming_damage(path: str | Path) -> Iterator[None]:
    """Converts errors of reading a damaged file to a DamagedError that names it in one line."""
    try:
        yield
    except DamagedError:
        raise
    except Exception as error:
        # zipfile, zlib and NumPy's header parser can raise almost anything on corrupt bytes.
        if isinstance(error, MemoryError) or getattr(error, "errno", None) not in DAMAGE:
            raise
        text = "".join(character if character.isprintable() else " " for character in str(error))
        raise DamagedError(f"{path}: damaged ({type(error).__name__}: {text[:400]})") from error


@contextlib.contextmanager
def naming_malformed(path: Path, problem: str) -> Iterator[None]:
    """Converts errors of values that JSON may hold and no reader expects to a DamagedError with one sentence.

    Args:
        path: the file, which the sentence names.
        problem: what is wrong with it, and what may be done; the error stands behind it.
    """
    try:
        yield
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise DamagedError(f"{path}: {problem} ({error})") from error


@functools.cache
def _cache_without_home() -> Path:
    """Returns a folder of this process."""
    return Path(tempfile.mkdtemp(prefix="flipjax-"))


def cache_folder() -> Path:
    """Returns ~/.cache/flipjax, flipjax under XDG_CACHE_HOME, or a folder of this process if the user has no home."""
    given = os.environ.get("XDG_CACHE_HOME")
    if given:
        return Path(given) / "flipjax"
    try:
        return Path.home() / ".cache" / "flipjax"
    except RuntimeError:
        return _cache_without_home()


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[BinaryIO]:
    """Opens a temporary file beside `path` and moves it there at the end: readers see the old file or the new one."""
    path, partial = _beside(path)
    try:
        # Exclusive mode never follows an existing link.
        with partial.open("xb") as stream:
            yield stream
        os.replace(partial, path)
    except OSError as error:
        # The error of a full disk has no file name.
        error.filename = error.filename or str(path)
        raise
    finally:
        partial.unlink(missing_ok=True)


def read_json(path: str | Path) -> Any:
    """Returns the value of a JSON file; raises ValueError if it is no JSON, and OSError if it cannot be read."""
    return json.loads(Path(path).read_bytes())


def write_json(path: str | Path, value: object, *, indent: int = 2, ensure_ascii: bool = True) -> None:
    """Writes a value as a JSON file atomically."""
    write_text(path, json.dumps(value, indent=indent, ensure_ascii=ensure_ascii) + "\n")


def is_written_by(path: Path, program: str) -> bool:
    """Returns whether a JSON file says that a program wrote it; raises OSError if it cannot be read."""
    return path.is_file() and f'"program": "{program}"' in path.read_text(errors="replace")


def foreign_names(folder: Path, *, ours: Callable[[str], object]) -> list[str]:
    """Returns the names in a folder that a command does not write there, but for partial files of killed processes.

    Args:
        folder: the output folder, which may not exist.
        ours: whether the command writes a file or folder of a name.
    """
    if not folder.exists():
        return []
    names = [path.name for path in folder.iterdir() if path.suffix != ".tmp"]
    return [name for name in names if not ours(name)]


def write_text(path: str | Path, text: str) -> None:
    """Writes a UTF-8 text file atomically."""
    with replacing(path) as stream:
        stream.write(text.encode())


@contextlib.contextmanager
def adding_folder(path: str | Path) -> Iterator[Path]:
    """Makes a temporary folder beside `path` and moves it there at the end, unless another process did so meanwhile."""
    path, partial = _beside(path)
    partial.mkdir()
    try:
        yield partial
        try:
            partial.rename(path)
        except OSError:
            if not path.is_dir():
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def remove_stale(folder: Path) -> None:
    """Deletes temporary files and folders of killed processes, of this machine and PID namespace only."""
    for path in folder.glob(f".*.{_machine()}.*.tmp"):
        try:
            os.kill(int(path.name.split(".")[-3]), 0)
        except ProcessLookupError:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        except (OSError, ValueError):
            continue  # A process of another user, or a name that is not ours.


def keep_newest(folder: Path, *, most_bytes: int) -> None:
    """Deletes the least recently used files of a folder until at most so many bytes are left.

    Files that cannot be listed or deleted stay.
    """
    with contextlib.suppress(OSError):
        states = {path: path.stat() for path in folder.iterdir() if path.is_file()}
        bytes_left = sum(state.st_size for state in states.values())

        def last_use(path: Path) -> float:
            return max(states[path].st_mtime, states[path].st_atime)

        for path in sorted(states, key=last_use):
            if bytes_left <= most_bytes:
                break
            path.unlink(missing_ok=True)
            bytes_left -= states[path].st_size


def make_folder(path: str | Path) -> None:
    """Makes a folder if needed and tries writing to it, so that an OSError is raised before any work is lost."""
    probe = Path(path) / ".probe"
    with replacing(probe):
        pass
    probe.unlink()


def sha256(content: bytes | str) -> str:
    """Returns the SHA-256 of bytes, or of text as UTF-8, in hex."""
    if isinstance(content, str):
        content = content.encode()
    return hashlib.sha256(content).hexdigest()


def sha256_of(path: Path) -> str:
    """Returns the SHA-256 of a file, in hex, without reading it whole."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest(arrays: "Mapping[str, np.ndarray]") -> str:
    """Returns a SHA-256 of named arrays (types, shapes and values), independent of their order.

    Example:
        >>> import numpy as np
        >>> digest({"a": np.arange(3)}) == digest({"a": np.arange(3).reshape(1, 3)})
        False
    """
    import numpy as np  # Imported here because command lines need none.

    total = hashlib.sha256()
    for name in sorted(arrays):
        array = np.asarray(arrays[name])
        total.update(f"{name}\0{array.dtype.str}\0{array.shape}\0".encode())
        for values in _in_order(array):
            total.update(values.reshape(-1).view(np.uint8).data)
    return total.hexdigest()


def _in_order(array: "np.ndarray") -> "Iterator[np.ndarray]":
    """Yields the values of an array in C's order: itself if it is stored so, or a few thousand at a time."""
    if array.flags.c_contiguous:
        yield array
        return
    import numpy as np  # As in `digest`.

    for values in np.nditer(array, ["buffered", "external_loop", "zerosize_ok"], order="C"):
        yield np.ascontiguousarray(values)


def _beside(path: str | Path) -> tuple[Path, Path]:
    """Returns a path, and a temporary one in its folder, which is made and cleared of what killed processes left."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_stale(path.parent)
    return path, path.with_name(f".{path.name}.{_machine()}.{os.getpid()}.{secrets.token_hex(8)}.tmp")


def _machine() -> str:
    """Returns the scope in which process ids are unique: the host, and its PID namespace if it has several."""
    space = ""
    with contextlib.suppress(OSError):
        space = os.readlink("/proc/self/ns/pid").strip("pid:[]")
    return f"{socket.gethostname()}.{space or 0}"
