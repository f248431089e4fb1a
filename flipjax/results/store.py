"""The files of a run's results: one for each program or part of it, an npz of arrays with named axes.

Its `schema` lists every array's axes and digest, so that a reader takes, and checks, only the arrays that it wants.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from flipjax.results.arrays import NamedArrays, Table
from flipjax.support.files import digest, naming_damage, replacing
from flipjax.support.json_files import parse_json
from flipjax.support.npz import UNPACKED, Npz, open_npz, save_npz

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
TEXT = 200
"""Bytes that Python takes for a text, with its places in lists and dictionaries."""
FREE = 1 << 24
"""Bytes that the texts of an array, or all tables, may take in any file."""
TIMES = 10
"""Most bytes that the arrays and tables of a byte of a larger file may take."""


def write(path: Path, *tables: NamedArrays) -> None:
    """Writes tables into one file atomically; equal arrays give equal bytes."""
    arrays: dict[str, np.ndarray] = {}
    entries = {}
    for table in tables:
        for name, value in table.arrays().items():
            arrays[name] = value
            entries[name] = {"axes": table.axes_of(name), "sha256": digest({name: value})}
    schema = json.dumps({"version": VERSION, "arrays": entries})
    least = max(_least_size(table) for table in tables)
    with replacing(path) as stream:
        save_npz(stream, {SCHEMA: np.array(schema), **arrays}, least=least)


def _least_size(table: NamedArrays) -> int:
    """Returns the fewest bytes of a file that `read` takes with this table."""
    memory = table.memory()
    if memory <= FREE:
        return 0
    return math.ceil(memory / TIMES)


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
    with naming_damage(path), open_npz(path) as stored:
        entries = _schema(stored)
        names = [name for name in kind.names() if name in entries and name not in without]
        _check_axes(stored, names, entries, kind)
        table = kind(**{name: _read_array(stored, name, entries[name].sha256) for name in names})
        table.check()
        if stored.size < _least_size(table):
            most = max(FREE, TIMES * stored.size)
            raise ValueError(f"expected tables that take at most {most:,} bytes of memory, found {table.memory():,}")
        return table


@dataclasses.dataclass(frozen=True)
class _Entry:
    """An array of a file, as its schema describes it."""

    axes: tuple[str, ...]
    """Names of its axes."""
    sha256: str
    """The digest of its name, type, shape and values."""


def _schema(stored: Npz) -> dict[str, _Entry]:
    """Returns the arrays of a file by name."""
    if stored.header(SCHEMA).dtype.itemsize > MOST_SCHEMA:
        raise ValueError(f"{SCHEMA}: expected at most {MOST_SCHEMA} bytes")
    schema = parse_json(str(stored.read(SCHEMA)).encode())
    if schema["version"] != VERSION:
        raise ValueError(f"expected version {VERSION}, found {schema['version']}")
    return {name: _Entry(tuple(entry["axes"]), entry["sha256"]) for name, entry in schema["arrays"].items()}


def _read_array(stored: Npz, name: str, expected: str) -> np.ndarray:
    """Reads an array and compares its digest."""
    array = stored.read(name)
    if digest({name: array}) != expected:
        raise ValueError(f"{name} is not what was written")
    return array


def _check_axes(stored: Npz, names: Sequence[str], entries: Mapping[str, _Entry], kind: type[NamedArrays]) -> None:
    """Raises ValueError unless arrays have their axes and types, and every axis has one length."""
    lengths: dict[str, int] = {}
    most = max(FREE, UNPACKED * stored.size)
    for name in names:
        axes = kind.axes_of(name)
        dtype = kind.dtype_of(name)
        found = stored.header(name)
        if entries[name].axes != axes or len(found.shape) != len(axes) or found.dtype.kind != dtype.kind:
            expected = f"{dtype.name} ({', '.join(axes)})"
            raise ValueError(f"{name}: expected {expected}, found {found.dtype.name} {found.shape}")
        # The texts of images are compared as arrays, those of other axes become Python's.
        if dtype.kind == "U" and "image" not in axes and TEXT * math.prod(found.shape) > most:
            raise ValueError(f"{name}: expected at most {most // TEXT:,} texts, found {found.shape}")
        for axis, length in zip(axes, found.shape, strict=True):
            if lengths.setdefault(axis, length) != length:
                raise ValueError(f"{name}: expected {lengths[axis]} along {axis}, found {length}")


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
