"""Npz files of arrays with named axes: what images and members left behind, of runs, audits and galleries.

A table is a dataclass of arrays (`NamedArrays`), whose fields name their axes and type once. The `schema` of a file
lists every array's axes and digest, so that a reader takes, and checks, only the arrays that it wants.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import DTypeLike

from flipjax.support.files import digest, naming_damage, replacing

SCHEMA = "schema"
"""The entry of a file that lists all others."""
VERSION = 1
"""Version of the format."""
Table = TypeVar("Table", bound="NamedArrays")


def array(*axes: str, dtype: DTypeLike, optional: bool = False) -> Any:
    """Declares a field: an array with named axes; an optional one may be None.

    The type is that of the field, which a type checker takes from its annotation, as of `dataclasses.field`.
    """
    metadata = {"axes": axes, "dtype": np.dtype(dtype)}
    if optional:
        return dataclasses.field(default=None, metadata=metadata)
    return dataclasses.field(metadata=metadata)


@dataclasses.dataclass(frozen=True, kw_only=True)
class NamedArrays:
    """Arrays with named axes."""

    @classmethod
    def axes_of(cls, field: str) -> tuple[str, ...]:
        """Returns the axes of a field."""
        return cls.__dataclass_fields__[field].metadata["axes"]

    @classmethod
    def dtype_of(cls, field: str) -> np.dtype:
        """Returns the type of a field."""
        return cls.__dataclass_fields__[field].metadata["dtype"]

    @classmethod
    def field_names(cls) -> list[str]:
        """Returns the names of the fields."""
        return list(cls.__dataclass_fields__)

    def arrays(self) -> dict[str, np.ndarray]:
        """Returns the arrays that are there, by name."""
        arrays = {}
        for name in self.field_names():
            value = getattr(self, name)
            if value is not None:
                arrays[name] = np.asarray(value, self.dtype_of(name))
        return arrays

    def select(self, axis: str, indices: Sequence[int] | np.ndarray) -> Self:
        """Returns the elements along an axis, in the given order; arrays without this axis stay."""
        changed = {}
        for name, value in self.arrays().items():
            axes = self.axes_of(name)
            if axis in axes:
                changed[name] = value.take(indices, axes.index(axis))
        return dataclasses.replace(self, **changed)


@contextlib.contextmanager
def open_npz(path: str | Path) -> Iterator[NpzFile]:
    """Opens an npz file, whose arrays are read when they are asked for.

    Raises:
      DamagedError: it is no npz, or an array cannot be read or has another checksum.
      FileNotFoundError: there is no such file.
    """
    # Given a path, NumPy leaves a file open that is no npz.
    with naming_damage(path), Path(path).open("rb") as stream, np.load(stream, allow_pickle=False) as npz:
        yield npz


def write_arrays(path: str | Path, *tables: NamedArrays) -> None:
    """Writes tables into one file atomically; equal arrays give equal bytes."""
    arrays: dict[str, np.ndarray] = {}
    entries = {}
    for table in tables:
        for name, value in table.arrays().items():
            arrays[name] = value
            entries[name] = {"axes": table.axes_of(name), "sha256": digest({name: value})}
    schema = json.dumps({"version": VERSION, "arrays": entries})
    contents = {SCHEMA: np.array(schema), **arrays}
    with replacing(path) as stream:
        np.savez_compressed(stream, allow_pickle=False, **contents)


def read_arrays(
    path: str | Path, kind: type[Table], *, without: Sequence[str] = (), needs_schema: bool = True
) -> Table:
    """Reads one table of a file.

    Args:
        path: of `write_arrays`.
        kind: the type of the table.
        without: names of optional arrays to leave.
        needs_schema: whether every version wrote a schema; else the arrays of a file without one are taken as they are.

    Raises:
        DamagedError: the arrays are not those written.
        FileNotFoundError: there is no such file.
    """
    wanted = [name for name in kind.field_names() if name not in without]
    with open_npz(path) as file:
        if SCHEMA not in file and not needs_schema:
            return kind(**{name: file[name] for name in wanted if name in file})
        schema = json.loads(str(file[SCHEMA]))
        if schema["version"] != VERSION:
            raise ValueError(f"expected version {VERSION}, found {schema['version']}")
        arrays = {}
        for name in wanted:
            if name in schema["arrays"]:
                array = file[name]
                if digest({name: array}) != schema["arrays"][name]["sha256"]:
                    raise ValueError(f"{name} is not what was written")
                arrays[name] = array
        return kind(**arrays)
