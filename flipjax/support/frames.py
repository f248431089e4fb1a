"""Converts rows to data frames, and reads and writes CSV."""

import csv
import io
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from flipjax.support.files import DamagedError, write_text
from flipjax.support.terminal import listed, one_line

Row = dict[str, Any]
"""A row of a table by column, numbers and texts; pandas gives its values no types."""

DIGITS = 6
"""Decimals of stored values."""
TEXTS = ("member", "split", "group", "group_name", "status", "selection", "values", "interval")
"""Columns that are text, whatever it looks like."""


def to_frame(rows: Iterable[Row]) -> pd.DataFrame:
    """Returns rows as a data frame with int64, float64 (NaN for blanks) or text columns ('' for none).

    A column that only some rows have keeps its place after the column before it.

    Example:
        >>> to_frame([{"member": "a", "flip": 0.5, "n": 3}, {"member": "b", "flip": "", "n": 4}]).dtypes.tolist()[1:]
        [dtype('float64'), dtype('int64')]
    """
    frame = _object_frame(list(rows))
    for name in frame:
        numeric = numbers_of(frame[name])
        if name not in TEXTS and numeric is not None:
            frame[name] = numeric
    return frame


def _object_frame(rows: list[Row]) -> pd.DataFrame:
    """Returns rows as columns of Python's objects, so that integers beside blanks are not written as floats."""
    columns: list[str] = []
    if rows:
        columns += rows[0]
    # Rows that have other columns than the first one.
    for names in dict.fromkeys(tuple(row) for row in rows):
        for before, name in itertools.pairwise(names):
            if name not in columns:
                columns.insert(columns.index(before) + 1, name)
    cells = [[row.get(name, "") for name in columns] for row in rows]
    return pd.DataFrame(cells, columns=columns, dtype=object)


def numbers_of(values: pd.Series) -> pd.Series | None:
    """Returns a column of objects as int64 or float64, NaN for '', or None if it holds texts."""
    numeric = values.astype(object).where(values != "", np.nan).infer_objects()
    if not pd.api.types.is_numeric_dtype(numeric):
        return None
    return numeric


def groups_of(table: pd.DataFrame, names: Sequence[str]) -> Iterator[tuple[tuple, pd.DataFrame]]:
    """Yields each combination of values of `names` with its rows, in order of appearance."""
    if table.empty:
        return
    if not names:
        yield (), table
        return
    yield from table.groupby(list(names), sort=False, dropna=False)


def records_of(table: pd.DataFrame) -> list[Row]:
    """Returns the rows of a data frame as dicts of plain Python values."""
    return table.to_dict("records")  # type: ignore[return-value]


def write_csv(path: str | Path, table: pd.DataFrame | Iterable[Row]) -> None:
    """Writes a table as UTF-8 CSV, with NaN as blank.

    Without rows, removes an earlier file.
    """
    if isinstance(table, pd.DataFrame):
        frame = table
    else:
        frame = _object_frame(list(table))
    if frame.empty:
        Path(path).unlink(missing_ok=True)
    else:
        write_text(path, frame.map(_cell).to_csv(index=False, lineterminator="\n"))


def _cell(value: object) -> object:
    """Returns a value as a cell of a CSV holds it."""
    if isinstance(value, float) and not math.isfinite(value):
        return math.nan
    return value


def read_csv(path: str | Path) -> pd.DataFrame:
    """Reads a table of `write_csv`, with the column types of `to_frame`.

    Raises:
        DamagedError: the table is unreadable, or columns are repeated or unnamed.
    """
    path = Path(path)
    data = path.read_bytes()
    texts = dict.fromkeys(TEXTS, str)
    try:
        frame = pd.read_csv(io.BytesIO(data), dtype=texts, keep_default_na=False, na_values=[""])
        header = next(csv.reader(io.StringIO(data.decode())))
    except (ValueError, csv.Error) as error:
        # pandas ends some of its messages with a line break.
        problem = one_line(str(error).strip())
        raise DamagedError(f"{path}: expected a table ({problem})") from error
    if list(frame.columns) != header or not isinstance(frame.index, pd.RangeIndex):
        problem = f"expected a name for each column, and none twice; found {one_line(listed(header))}"
        raise DamagedError(f"{path}: {problem}")
    return frame.fillna({name: "" for name in frame if not pd.api.types.is_numeric_dtype(frame[name])})


def rounded(value: float) -> float | int | str:
    """Rounds a number to six decimals; counts are unchanged, and non-finite values become blank.

    Example:
        >>> rounded(1 / 3), rounded(4), rounded(math.nan)
        (0.333333, 4, '')
    """
    if isinstance(value, int):
        return value
    if not math.isfinite(value):
        return ""
    # Adding 0 to -0 leaves 0.
    return round(float(value), DIGITS) + 0.0


def level_text(rho: float) -> str:
    """Returns rho to three significant digits, or to as many as tell it from 0 and 1.

    Example:
        >>> level_text(1 / 3), level_text(0.95), level_text(0.99996), level_text(1.0)
        ('0.333', '0.95', '0.99996', '1')
    """
    for digits in range(3, 17):
        text = f"{rho:.{digits}g}"
        if float(text) not in (0.0, 1.0) or float(text) == rho:
            return text
    return repr(rho)
