"""The cells of a run folder, and whether its files are of one run: a reader compares what the sweep compares."""

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from flipjax.files import DamagedError
from flipjax.identity import digest_of
from flipjax.results.cells import StoredCell, load_cell
from flipjax.results.frames import to_frame
from flipjax.results.rows import LEFT_OUT, kept_records
from flipjax.results.text import listed

KEYS = {"results": ["member", "selection", "split", "group"], "history": ["member", "epoch"]}
"""What tells the rows of a table apart."""


def read_cells(folder: Path, **tables: pd.DataFrame) -> Iterator[tuple[str, StoredCell]]:
    """Yields the cells of a run folder by the names of their folders, or their parts where shards are not collected.

    Args:
        folder: of the run.
        **tables: `results` and `history` as they were read, to compare with the cells' own. Without any table the cells
            have no rows.

    Raises:
        DamagedError: names a cell that is damaged, a file of another run, or members of `results` that no cell has.
    """
    results = tables.get("results", pd.DataFrame())
    # A row that was cut off has no status.
    missing = {*results["member"][~results["status"].isin([*LEFT_OUT, ""])]} if len(results) else set()
    expected = _expected_program(folder)
    for place in sorted(folder.glob("cells/*/")):
        path = place / "decomposition.npz"
        cells = {place.name: _read_cell(folder, path, expected, tables)} if path.exists() else {}
        for part in () if cells else sorted(place.glob("parts/*.npz")):
            # The sweep does a damaged part again, and until then its members are not done.
            with contextlib.suppress(DamagedError):
                cells[f"{place.name}/{part.stem}"] = _read_cell(folder, part, expected, tables)
        missing.difference_update(*(cell.members for cell in cells.values()))
        yield from cells.items()
    if missing:
        found = "found none; the run's command makes them again"
        raise DamagedError(f"{folder / 'cells'}: expected the decompositions of {listed(sorted(missing))}; {found}")


def _read_cell(folder: Path, path: Path, expected: str, tables: Mapping[str, pd.DataFrame]) -> StoredCell:
    cell = load_cell(path, tables=bool(tables))
    if cell.program and not cell.program.startswith(expected):
        raise DamagedError(f"{path}: expected a cell of the configuration in config.json; found one of another run")
    own = {"results": cell.rows, "history": cell.history}
    for name, table in tables.items():
        if len(table) and own[name]:
            _check_rows(folder / f"{name}.csv", table, to_frame(own[name]), cell=path)
    return cell


def _expected_program(folder: Path) -> str:
    """Returns how the programs of a run's cells begin: empty where no configuration can be read."""
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
        return f"{digest_of(json.loads((folder / 'config.json').read_bytes())['config'])}/"
    return ""


def _check_rows(path: Path, table: pd.DataFrame, own: pd.DataFrame, *, cell: Path) -> None:
    """Raises DamagedError where the rows that a cell has itself are not those of the table at `path`.

    Members that failed in the table, or are no part of it, are not compared: their cell came later.
    """
    keys = KEYS[path.stem]
    if not {*keys} <= {*table}:
        raise DamagedError(f"{path}: expected the columns {', '.join(keys)}; found {', '.join(map(str, table))}")
    done = kept_records(table) if "status" in table else table
    stored = done[done["member"].isin(own["member"])].set_index(keys).sort_index()
    own = own[own["member"].isin(done["member"])].set_index(keys).sort_index()
    same = stored.index.equals(own.index) and {*own} <= {*stored}
    if not same or not all(_same(stored[column], own[column]) for column in own):
        found = "others, of another run or version; the run's command writes it again"
        raise DamagedError(f"{path}: expected the rows of {cell}; found {found}")


def _same(first: pd.Series, second: pd.Series) -> bool:
    """Says whether two columns agree: numbers up to how a table writes them, texts as they are."""
    if pd.api.types.is_numeric_dtype(first) and pd.api.types.is_numeric_dtype(second):
        numbers = [column.to_numpy(np.float64) for column in (first, second)]
        return np.allclose(*numbers, rtol=1e-6, atol=1e-6, equal_nan=True)
    texts = [["" if value != value else str(value) for value in column.tolist()] for column in (first, second)]
    return texts[0] == texts[1]
