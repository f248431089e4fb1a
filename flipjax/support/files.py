"""Atomic file writes, corruption errors, digests, and the cache directory."""

import contextlib
import csv
import functools
import hashlib
import os
import secrets
import shutil
import socket
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np

JsonObject: TypeAlias = dict[str, Any]
"""An object as `json` reads it, whose values have no types until they are checked."""
DIGEST = "digest"
"""The array of a file or checkpoint that holds the digest of all others."""


UNPACKED = 8
"""Most bytes that a byte of an npz may unpack to."""
SMALL = 2**20
"""Bytes that any npz may unpack to."""


class DamagedError(ValueError):
    """Raised for a file whose contents changed since it was written; names the file."""

    exit_code = 2


def write_arrays(path: str | Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes an npz file with the digest of its arrays; equal arrays give equal bytes."""
    with replacing(path) as stream:
        save_npz(stream, {**arrays, DIGEST: np.array(digest(arrays))})


def save_npz(stream: BinaryIO, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes an npz, compressed unless it would unpack to more than `open_npz` takes."""
    np.savez_compressed(stream, allow_pickle=False, **arrays)
    if sum(array.nbytes for array in arrays.values()) > _most_unpacked(stream.tell()):
        stream.seek(0)
        stream.truncate()
        np.savez(stream, allow_pickle=False, **arrays)


@contextlib.contextmanager
def open_npz(path: str | Path) -> Iterator[np.lib.npyio.NpzFile]:
    """Opens a file of `save_npz`, after a look at the sizes that its arrays unpack to.

    Raises:
        ValueError: they are larger than `save_npz` compresses, so that a small file could fill the memory.
        OSError: there is no such file.
    """
    with Path(path).open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
        check_unpacked(stored.zip, size=os.fstat(stream.fileno()).st_size)
        yield stored


def check_unpacked(file: zipfile.ZipFile, *, size: int) -> None:
    """Raises ValueError if an npz of `size` bytes unpacks to more than `save_npz` compresses."""
    unpacked = sum(member.file_size for member in file.infolist())
    most = _most_unpacked(size)
    if unpacked > most:
        raise ValueError(f"expected at most {most:,} bytes when unpacked, found {unpacked:,}")


def _most_unpacked(size: int) -> int:
    """Returns the most bytes that an npz of this size may unpack to."""
    return max(SMALL, UNPACKED * size)


def read_arrays(path: str | Path) -> dict[str, np.ndarray]:
    """Reads a file written by `write_arrays`.

    Raises:
      DamagedError: the arrays are not those written.
      FileNotFoundError: there is no such file.
    """
    try:
        with open_npz(path) as stored:
            arrays = {name: stored[name] for name in stored.files}
        if str(arrays.pop(DIGEST)) != digest(arrays):
            raise ValueError("its arrays are not those that were written")
        return arrays
    except Exception as error:
        # zipfile, zlib and NumPy's header parser can raise almost anything on corrupt bytes.
        if isinstance(error, MemoryError) or getattr(error, "errno", None) is not None:
            raise
        raise DamagedError(f"{path}: damaged ({type(error).__name__}: {error})") from error


def read_text_entry(path: Path, name: str) -> str:
    """Reads one text of an npz file; raises DamagedError if it cannot."""
    try:
        with open_npz(path) as stored:
            return str(stored[name])
    except Exception as error:
        if isinstance(error, MemoryError) or getattr(error, "errno", None) is not None:
            raise
        raise DamagedError(f"{path}: damaged ({type(error).__name__}: {error})") from error


@functools.cache
def _cache_without_home() -> Path:
    return Path(tempfile.mkdtemp(prefix="flipjax-"))


def cache_folder() -> Path:
    """Returns ~/.cache/flipjax, or flipjax under XDG_CACHE_HOME; of a user without a home, a folder of this process."""
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


def keep_newest(folder: Path, *, most: int) -> None:
    """Deletes the least recently used files of a folder until at most `most` bytes are left.

    Files that cannot be listed or deleted stay.
    """
    with contextlib.suppress(OSError):
        states = {path: path.stat() for path in folder.iterdir() if path.is_file()}
        left = sum(state.st_size for state in states.values())

        def last_use(path: Path) -> float:
            return max(states[path].st_mtime, states[path].st_atime)

        for path in sorted(states, key=last_use):
            if left <= most:
                break
            path.unlink(missing_ok=True)
            left -= states[path].st_size


def link_below(folder: Path, patterns: Iterable[str]) -> Path | None:
    """Returns a link among what matches one of some patterns below a folder: through it, files elsewhere would change.

    The folder itself may be a link.
    """
    for pattern in patterns:
        for path in sorted(folder.glob(pattern)):
            if path.is_symlink():
                return path
    return None


def make_folder(path: str | Path) -> None:
    """Makes a folder if needed and tries writing to it, so that an OSError is raised before any work is lost."""
    probe = Path(path) / ".probe"
    with replacing(probe):
        pass
    probe.unlink()


def csv_rows(lines: Iterable[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yields the rows of a CSV by column, each with its line number; missing fields are empty.

    Raises:
        csv.Error: not a CSV, a repeated column, or a row with more fields than columns.

    Example:
        >>> list(csv_rows(["name,group", "a,1"]))
        [(2, {'name': 'a', 'group': '1'})]
    """
    reader = csv.DictReader(lines, restval="")
    names = list(reader.fieldnames or ())
    # csv.DictReader would silently keep the last one.
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise csv.Error(f"several columns are called {', '.join(map(ascii, twice))}")
    for row in reader:
        if None in row:
            raise csv.Error(f"line {reader.line_num} has more fields than there are columns")
        yield reader.line_num, row


def sha256(content: bytes | str) -> str:
    """Returns the SHA-256 of bytes, or of text as UTF-8, in hex."""
    if isinstance(content, str):
        content = content.encode()
    return hashlib.sha256(content).hexdigest()


def sha256_of(path: Path) -> str:
    """Returns the SHA-256 of a file, in hex, without reading it whole."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest(arrays: Mapping[str, np.ndarray]) -> str:
    """Returns a SHA-256 of named arrays (types, shapes and values), independent of their order.

    Example:
        >>> digest({"a": np.arange(3)}) == digest({"a": np.arange(3).reshape(1, 3)})
        False
    """
    total = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        total.update(f"{name}\0{array.dtype.str}\0{np.shape(arrays[name])}\0".encode())
        total.update(array.reshape(-1).view(np.uint8).data)
    return total.hexdigest()


def _beside(path: str | Path) -> tuple[Path, Path]:
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
