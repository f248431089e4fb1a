"""Whether the files of a run folder are of one run: what a sweep compares before it goes on, and a reader does here."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from flipjax.files import DamagedError
from flipjax.identity import digest_of
from flipjax.results.cells import StoredCell
from flipjax.results.frames import to_frame
from flipjax.results.rows import LEFT_OUT

KEYS = {"results.csv": ["member", "selection", "split", "group"], "history.csv": ["member", "epoch"]}
"""What tells the rows of a table apart."""


def check_program(path: Path, cell: StoredCell) -> None:
    """Raises DamagedError where the cell at `path` was not trained by the configuration of its run folder.

    A cell that names no program, or a folder without a config.json that can be read, says nothing of it.
    """
    try:
        config = json.loads((path.parents[2] / "config.json").read_bytes())["config"]
        expected = f"{digest_of(config)}/"
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return
    if cell.program and not cell.program.startswith(expected):
        raise DamagedError(f"{path}: expected a cell of the configuration in config.json; found one of another run")


def check_rows(path: Path, table: pd.DataFrame, cell: StoredCell, *, name: str) -> None:
    """Raises DamagedError where a cell's own rows of `results.csv` or `history.csv` are not those of the table.

    Members that failed in the table, or are no part of it, are not compared: their cell came later.
    """
    own = to_frame(cell.rows if name == "results.csv" else cell.history)
    keys = KEYS[name]
    if own.empty or table.empty or not {*keys} <= {*table}:
        return
    done = table[~table["status"].isin(LEFT_OUT)] if "status" in table else table
    stored = done[done["member"].isin(cell.places)].set_index(keys).sort_index()
    own = own[own["member"].isin(done["member"])].set_index(keys).sort_index()
    same = stored.index.equals(own.index) and {*own} <= {*stored}
    differs = [column for column in own if not _same(stored[column], own[column])] if same else keys
    if differs:
        found = f"other values of {differs[0]}" if same else "others"
        raise DamagedError(
            f"{path.parents[2] / name}: expected the rows of {path}; found {found}, those of another run"
        )


def _same(first: pd.Series, second: pd.Series) -> bool:
    """Says whether two columns agree: numbers up to how a table writes them, texts as they are."""
    if pd.api.types.is_numeric_dtype(first) and pd.api.types.is_numeric_dtype(second):
        numbers = [column.to_numpy(np.float64) for column in (first, second)]
        return np.allclose(*numbers, rtol=1e-6, atol=1e-6, equal_nan=True)
    texts = [["" if value != value else str(value) for value in column.tolist()] for column in (first, second)]
    return texts[0] == texts[1]
