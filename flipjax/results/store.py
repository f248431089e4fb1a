"""The files of a run's results: one for each program or part of it, an npz of arrays with named axes.

Its `schema` lists every array's axes and digest, so that a reader takes, and checks, only the arrays that it wants.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from flipjax.results.arrays import NamedArrays, Table
from flipjax.support.files import DamagedError, check_unpacked, digest, replacing, save_npz

STORED = "results.npz"
"""The file of a program's results."""
BLANK = "missing.npz"
"""The file of a program's members that have no results."""
GALLERY = "gallery.npz"
"""The file of a program's pictures; see `flipjax.report.gallery`."""
SCHEMA = "schema"
"""The entry of a file that lists all others."""
MOST_SCHEMA = 1 << 20
"""Bytes of the largest schema."""
VERSION = 1
"""Version of the format."""
DAMAGE = (None, errno.EINVAL, errno.EISDIR)
"""Numbers of the system's errors that a damaged file causes: a wrong position in it, or a folder in its place."""


def write(path: Path, *tables: NamedArrays) -> None:
    """Writes tables into one file atomically; equal arrays give equal bytes."""
    arrays: dict[str, np.ndarray] = {}
    entries = {}
    for table in tables:
        for name, value in table.arrays().items():
            arrays[name] = value
            entries[name] = {"axes": table.axes_of(name), "sha256": digest({name: value})}
    schema = json.dumps({"version": VERSION, "arrays": entries})
    with replacing(path) as stream:
        save_npz(stream, {SCHEMA: np.array(schema), **arrays})


def read(path: Path, kind: type[Table], *, without: Sequence[str] = ()) -> Table:
    """Reads one table of a file.

    Axes and shapes are compared before any array is read, so that a forged one takes no memory.

    Args:
        path: of `write`.
        kind: `MemberResults` or `ImageResults`.
        without: names of optional arrays to leave.

    Raises:
        DamagedError: the arrays are not those written, or do not fit each other.
        FileNotFoundError: there is no such file.
    """
    try:
        with path.open("rb") as stream, zipfile.ZipFile(stream) as file:
            check_unpacked(file, size=path.stat().st_size)
            entries = _schema(file)
            names = [name for name in kind.names() if name in entries and name not in without]
            _check_axes(file, names, entries, kind)
            table = kind(**{name: _read_array(file, name, entries[name].sha256) for name in names})
        table.check()
        return table
    except Exception as error:
        # zipfile, zlib and NumPy's header parser can raise almost anything on corrupt bytes.
        if isinstance(error, MemoryError) or getattr(error, "errno", None) not in DAMAGE:
            raise
        raise DamagedError(f"{path}: damaged ({type(error).__name__}: {_one_line(error)})") from error


def _one_line(error: Exception) -> str:
    """Returns what an error says, in printable characters."""
    return "".join(character if character.isprintable() else " " for character in str(error))[:400]


@dataclasses.dataclass(frozen=True)
class _Entry:
    """An array of a file, as its schema describes it."""

    axes: tuple[str, ...]
    """Names of its axes."""
    sha256: str
    """The digest of its name, type, shape and values."""


def _schema(file: zipfile.ZipFile) -> dict[str, _Entry]:
    """Returns the arrays of a file by name."""
    if file.getinfo(f"{SCHEMA}.npy").file_size > MOST_SCHEMA:
        raise ValueError(f"{SCHEMA}: expected at most {MOST_SCHEMA} bytes")
    schema = json.loads(str(_load(file, SCHEMA)))
    if schema["version"] != VERSION:
        raise ValueError(f"expected version {VERSION}, found {schema['version']}")
    return {name: _Entry(tuple(entry["axes"]), entry["sha256"]) for name, entry in schema["arrays"].items()}


def _load(file: zipfile.ZipFile, name: str) -> np.ndarray:
    """Reads an array of a file."""
    with file.open(f"{name}.npy") as stream:
        return np.lib.format.read_array(stream, allow_pickle=False)


def _read_array(file: zipfile.ZipFile, name: str, expected: str) -> np.ndarray:
    """Reads an array and compares its digest."""
    array = _load(file, name)
    if digest({name: array}) != expected:
        raise ValueError(f"{name} is not what was written")
    return array


def _check_axes(
    file: zipfile.ZipFile, names: Sequence[str], entries: Mapping[str, _Entry], kind: type[NamedArrays]
) -> None:
    """Raises ValueError unless arrays have their axes and types, and every axis has one length."""
    lengths: dict[str, int] = {}
    for name in names:
        axes = kind.axes_of(name)
        dtype = kind.dtype_of(name)
        shape, stored_dtype = _header(file, name)
        if entries[name].axes != axes or len(shape) != len(axes) or stored_dtype.kind != dtype.kind:
            raise ValueError(f"{name}: expected {dtype.name} ({', '.join(axes)}), found {stored_dtype.name} {shape}")
        for axis, length in zip(axes, shape, strict=True):
            if lengths.setdefault(axis, length) != length:
                raise ValueError(f"{name}: expected {lengths[axis]} along {axis}, found {length}")


def _header(file: zipfile.ZipFile, name: str) -> tuple[tuple[int, ...], np.dtype]:
    """Returns shape and type of an array, without reading it."""
    with file.open(f"{name}.npy") as stream:
        if np.lib.format.read_magic(stream) == (1, 0):
            shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
        else:
            shape, _, dtype = np.lib.format.read_array_header_2_0(stream)
    return shape, dtype


def concatenate(tables: Sequence[Table]) -> Table:
    """Returns the members of all tables of one program."""
    changed = {}
    for name in tables[0].arrays():
        axes = tables[0].axes_of(name)
        if "member" in axes:
            values = [getattr(table, name) for table in tables]
            changed[name] = np.concatenate(_alike(values, axes), axis=axes.index("member"))
    return dataclasses.replace(tables[0], **changed)


def _alike(values: list[np.ndarray], axes: tuple[str, ...]) -> list[np.ndarray]:
    """Pads curves with NaN to the same number of epochs."""
    if "epoch" not in axes:
        return values
    axis = axes.index("epoch")
    most = max(value.shape[axis] for value in values)
    padded = []
    for value in values:
        widths = [(0, 0)] * value.ndim
        widths[axis] = (0, most - value.shape[axis])
        padded.append(np.pad(value, widths, constant_values=np.nan))
    return padded
