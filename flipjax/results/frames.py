"""Tables of a run as data frames: made of rows, read from CSV and written to it; results.csv has a digest beside it."""

import csv
import io
import itertools
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from flipjax.files import DamagedError, sha256, write_text

Row = dict[str, Any]

DIGITS = 6
DIGEST = "results.sha256"
TEXTS = ("member", "split", "group", "status", "selection", "values", "interval")
"""Columns that are text, whatever it looks like."""
FORMULA = re.compile(r"\s*[=+@\-\uff1d\uff0b\uff20\uff0d](?!\d+(\.\d+)?(e-?\d+)?$).", re.S)
"""What a spreadsheet takes for a formula; an apostrophe before it makes it a text again."""


def to_frame(rows: Iterable[Row]) -> pd.DataFrame:
    """Returns rows as a data frame: int64, float64 with NaN for blanks, or text, '' where there is none.

    A column that only some rows have comes after the one it follows there.

    Example:
        >>> to_frame([{"member": "a", "flip": 0.5, "n": 3}, {"member": "b", "flip": "", "n": 4}]).dtypes.tolist()[1:]
        [dtype('float64'), dtype('int64')]
    """
    frame = _exact(list(rows))
    columns = {name: values if name in TEXTS else _typed(values) for name, values in frame.items()}
    return pd.DataFrame(columns, index=frame.index)


def _exact(rows: list[Row]) -> pd.DataFrame:
    """Returns rows whose cells stay the objects that they are, so that an integer is written as one beside a blank."""
    columns = list(rows[0]) if rows else []
    for names in dict.fromkeys(tuple(row) for row in rows):
        for before, name in itertools.pairwise(names):
            if name not in columns:
                columns.insert(columns.index(before) + 1, name)
    cells = [[row.get(name, "") for name in columns] for row in rows]
    return pd.DataFrame(cells, columns=columns, dtype=object)


def _typed(values: pd.Series) -> pd.Series:
    numbers = pd.Series([np.nan if value == "" else value for value in values], dtype=object).infer_objects()
    return numbers if pd.api.types.is_numeric_dtype(numbers) else values


def groups_of(table: pd.DataFrame, names: Sequence[str]) -> Iterator[tuple[tuple, pd.DataFrame]]:
    """Yields each combination of the values of `names`, in the order in which they appear, with its rows."""
    if len(table):
        yield from table.groupby(list(names), sort=False, dropna=False) if names else [((), table)]


def records_of(table: pd.DataFrame) -> list[Row]:
    """Returns the rows of a data frame as dicts of plain Python values."""
    return table.to_dict("records")  # type: ignore[return-value]


def write_csv(path: str | Path, table: pd.DataFrame | Iterable[Row]) -> None:
    """Writes a table as UTF-8 CSV, a number that does not exist as a blank.

    No rows leave no file: an earlier one is removed.
    """
    frame = table if isinstance(table, pd.DataFrame) else _exact(list(table))
    if frame.empty:
        Path(path).unlink(missing_ok=True)
    else:
        write_text(path, frame.map(_cell).to_csv(index=False, lineterminator="\n"))


def write_results(folder: Path, table: pd.DataFrame | Iterable[Row]) -> None:
    """Writes results.csv, and beside it its SHA-256 as `sha256sum` writes it, with which `read_csv` compares it."""
    # Whenever this is cut short, no digest is there that says otherwise of a whole file.
    (folder / DIGEST).unlink(missing_ok=True)
    write_csv(folder / "results.csv", table)
    write_text(folder / DIGEST, f"{sha256_of(folder / 'results.csv')}  results.csv\n")


def sha256_of(path: Path) -> str:
    """Returns the SHA-256 of a file."""
    return sha256(path.read_bytes())


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else math.nan
    return f"'{value}" if isinstance(value, str) and FORMULA.match(value) else value


def read_csv(path: str | Path) -> pd.DataFrame:
    """Reads a table that `write_csv` or `write_results` wrote, its columns as `to_frame` has them.

    Raises:
        DamagedError: no such table, a results.csv that is not what was written, or columns that are there twice or
            without a name.
    """
    path = Path(path)
    data = path.read_bytes()
    listing = path.parent / DIGEST
    known = listing.read_text(errors="replace") if path.name == "results.csv" and listing.is_file() else None
    if known is not None and sha256(data) not in known:
        raise DamagedError(f"{path}: not as the sweep wrote it; its command writes it again, or delete {DIGEST}")
    texts = dict.fromkeys(TEXTS, str)
    try:
        frame = pd.read_csv(io.BytesIO(data), dtype=texts, keep_default_na=False, na_values=[""])
        header = next(csv.reader(io.StringIO(data.decode())))
    except ValueError as error:
        raise DamagedError(f"{path}: expected a table ({error})") from error
    if list(frame.columns) != header or not isinstance(frame.index, pd.RangeIndex):
        raise DamagedError(f"{path}: expected a name for each column, and none twice; found {', '.join(header)}")
    return frame.fillna({name: "" for name in frame if not pd.api.types.is_numeric_dtype(frame[name])})


def rounded(value: float) -> float | int | str:
    """Returns a number as a value of a row: six decimals, a count as it is, blank where it is not finite.

    Example:
        >>> rounded(1 / 3), rounded(4), rounded(math.nan)
        (0.333333, 4, '')
    """
    if isinstance(value, int):
        return value
    return round(float(value), DIGITS) + 0.0 if math.isfinite(value) else ""


def listed(names: Sequence[str], *, most: int = 20) -> str:
    """Returns names as a list, and how many more there are than `most`.

    Example:
        >>> listed(["a", "b", "c"], most=2)
        'a, b and 1 more'
    """
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
