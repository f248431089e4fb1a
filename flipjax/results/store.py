"""The files of a run's results, one for each program or part of it, and how parts are joined."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np

from flipjax.results.arrays import Curves
from flipjax.support.npz import NamedArrays, Table

STORED = "results.npz"
"""The file of a program's results."""
BLANK = "missing.npz"
"""The file of a program's members that have no results."""
GALLERY = "gallery.npz"
"""The file of a program's pictures; see `flipjax.page.gallery`."""


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
