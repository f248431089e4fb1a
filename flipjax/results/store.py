"""The files of a run's results: one for each program or part of it, an npz of arrays with named axes.

Its `schema` lists every array's axes and digest, so that a reader takes, and checks, only the arrays that it wants.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from flipjax.results.arrays import Curves, NamedArrays, Table
from flipjax.support.files import digest, replacing
from flipjax.support.npz import open_npz

STORED = "results.npz"
"""The file of a program's results."""
BLANK = "missing.npz"
"""The file of a program's members that have no results."""
GALLERY = "gallery.npz"
"""The file of a program's pictures; see `flipjax.page.gallery`."""
SCHEMA = "schema"
"""The entry of a file that lists all others."""
VERSION = 1
"""Version of the format."""


def write(path: Path, *tables: NamedArrays) -> None:
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


def read(path: Path, kind: type[Table], *, without: Sequence[str] = ()) -> Table:
    """Reads one table of a file.

    Args:
        path: of `write`.
        kind: `MemberResults` or `ImageResults`.
        without: names of optional arrays to leave.

    Raises:
        DamagedError: the arrays are not those written.
        FileNotFoundError: there is no such file.
    """
    with open_npz(path) as file:
        schema = json.loads(str(file[SCHEMA]))
        if schema["version"] != VERSION:
            raise ValueError(f"expected version {VERSION}, found {schema['version']}")
        arrays = {}
        for name in kind.names():
            if name in schema["arrays"] and name not in without:
                array = file[name]
                if digest({name: array}) != schema["arrays"][name]["sha256"]:
                    raise ValueError(f"{name} is not what was written")
                arrays[name] = array
        return kind(**arrays)


def concatenate(tables: Sequence[Table]) -> Table:
    """Returns the members of all tables of one program, with the curves of any: those of earlier versions had fewer."""
    measures = list(dict.fromkeys(itertools.chain.from_iterable(_measures_of(table) for table in tables)))
    tables = [_with_measures(table, measures) for table in tables]
    changed = {}
    for name in tables[0].arrays():
        axes = tables[0].axes_of(name)
        if "member" in axes:
            values = [getattr(table, name) for table in tables]
            changed[name] = np.concatenate(_alike(values, axes), axis=axes.index("member"))
    return dataclasses.replace(tables[0], **changed)


def _measures_of(table: NamedArrays) -> list[str]:
    """Returns the names of a table's curves; none of a table without curves."""
    if isinstance(table, Curves):
        return table.measure.tolist()
    return []


def _with_measures(table: Table, measures: Sequence[str]) -> Table:
    """Returns a table with the named curves, NaN where it has none."""
    own_measures = _measures_of(table)
    if not isinstance(table, Curves) or own_measures == measures:
        return table
    curves = np.full((*table.curves.shape[:2], len(measures)), np.nan)
    curves[..., [measures.index(name) for name in own_measures]] = table.curves
    return dataclasses.replace(table, measure=np.array(measures), curves=curves)


def _alike(values: list[np.ndarray], axes: tuple[str, ...]) -> list[np.ndarray]:
    """Pads curves with NaN to the same number of epochs."""
    if "epoch" not in axes:
        return values
    axis = axes.index("epoch")
    longest = max(value.shape[axis] for value in values)
    padded = []
    for value in values:
        widths = [(0, 0)] * value.ndim
        widths[axis] = (0, longest - value.shape[axis])
        padded.append(np.pad(value, widths, constant_values=np.nan))
    return padded
