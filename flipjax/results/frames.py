"""CSV tables of a run, written atomically and the same byte for byte; results.csv with its digest beside it."""

import contextlib
import csv
import hashlib
import io
import itertools
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from flipjax.files import DamagedError, csv_rows, replacing
from flipjax.results.cells import Row

DIGESTS = "results.sha256"
NAMES = ("member", "split", "group", "status", "selection", "values", "interval")
FORMULA = ("=", "+", "-", "@")
"""What a text begins with that a spreadsheet takes for a formula; an apostrophe before it makes it a text again."""


def _text(cell: Any) -> str:
    if isinstance(cell, np.generic):
        cell = cell.item()
    if isinstance(cell, float):
        return repr(cell) if math.isfinite(cell) else ""
    text = str(cell)
    formula = isinstance(cell, str) and text[1:] and text[0] in FORMULA and not _is_number(text)
    return f"'{text}" if formula else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _cell(column: str, text: str) -> Any:
    # Only text that a number writes back unchanged is read as one, so that a value such as "007" stays as it is.
    for kind in () if column in NAMES else (int, float):
        with contextlib.suppress(ValueError):
            value = kind(text)
            if math.isfinite(value) and repr(value) == text:
                return value
    return text


def _columns(rows: list[Row]) -> list[str]:
    columns = list(rows[0])
    for names in dict.fromkeys(tuple(row) for row in rows):
        for before, name in itertools.pairwise(names):
            if name not in columns:
                columns.insert(columns.index(before) + 1, name)
    return columns


def write_csv(path: str | Path, rows: Iterable[Row]) -> None:
    """Writes rows as UTF-8 CSV; no rows leave no file: an earlier one is removed.

    A column that only some rows have comes after the one it follows there, and is blank elsewhere.
    """
    data = _encoded(list(rows))
    if not data:
        Path(path).unlink(missing_ok=True)
        return
    with replacing(path) as stream:
        stream.write(data)


def write_results(folder: Path, rows: Iterable[Row]) -> None:
    """Writes results.csv, and beside it its SHA-256 as `sha256sum` writes it, with which `read_csv` compares it."""
    data = _encoded(list(rows))
    before = folder / "results.csv"
    # Whenever this is cut short, the file there is one that the digests name.
    digests = [_digest(data), *([_digest(before.read_bytes())] if before.is_file() else [])]
    for path, text in (
        (folder / DIGESTS, _listing(digests)),
        (folder / "results.csv", data),
        (folder / DIGESTS, _listing(digests[:1])),
    ):
        with replacing(path) as stream:
            stream.write(text)


def _listing(digests: Iterable[str]) -> bytes:
    return "".join(f"{digest}  results.csv\n" for digest in digests).encode()


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _encoded(rows: list[Row]) -> bytes:
    if not rows:
        return b""
    text = io.StringIO()
    writer = csv.DictWriter(text, _columns(rows), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _text(cell) for name, cell in row.items()} for row in rows)
    return text.getvalue().encode()


def read_csv(path: str | Path) -> list[Row]:
    """Reads a table that `write_csv` or `write_results` wrote: numbers come back as int or float, blanks as empty text.

    Raises:
      DamagedError: a results.csv that is not what was written.
      csv.Error, ValueError: no such table.
    """
    path = Path(path)
    data = path.read_bytes()
    listing = path.parent / DIGESTS
    if path.name == "results.csv" and listing.is_file() and _digest(data) not in listing.read_text(errors="replace"):
        raise DamagedError(f"{path}: not as the sweep wrote it; its command writes it again, or delete {DIGESTS}")
    rows = csv_rows(io.StringIO(data.decode(), newline=""))
    return [{name: _cell(name, cell) for name, cell in row.items()} for _, row in rows]
