"""Reads a user's table as programs export it: CSV with commas, semicolons or tabs, in UTF-8, UTF-16 or Latin-1.

Every cell is text without blanks around it, so that the patient 007 is not the patient 7. Numbers are read where one is
asked for, also with the decimal comma that spreadsheets of many countries write beside semicolons.
"""

import csv
import dataclasses
import io
import re
from collections.abc import Sequence
from pathlib import Path

from flipjax.support.terminal import listed

SEPARATORS = (",", ";", "\t")
"""What may stand between two cells."""
MARK = re.compile(r"sep=(.)\r?\n")
"""A first line in which Excel names its separator."""
CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f]")
"""Characters that no table holds."""
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
"""A number as text; what Python reads besides, such as `1_000` or `nan`, is none."""
THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+", re.ASCII)
"""A number whose comma may divide thousands as well as decimals."""


class TableError(ValueError):
    """A file that is no table; the message says why, without the file's name."""


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of a table."""

    line: int
    """Its line in the file, from 1."""
    cells: dict[str, str]
    """Its cells by column; one that the row lacks is empty."""


@dataclasses.dataclass(frozen=True)
class CsvTable:
    """The rows of a CSV, without those that are empty."""

    columns: tuple[str, ...]
    """The names of the header."""
    rows: tuple[Row, ...]
    """The rows, in order."""

    def column(self, name: str) -> str | None:
        """Returns the column of this name, or the only one that differs from it in case; None without any."""
        if name in self.columns:
            return name
        alike = [column for column in self.columns if column.casefold() == name.casefold()]
        if len(alike) == 1:
            return alike[0]
        return None

    def renamed(self, names: Sequence[str]) -> "CsvTable":
        """Returns the table with these names in the place of columns that differ from them in case."""
        new_names: dict[str, str] = {}
        for name in names:
            column = self.column(name)
            if column is not None:
                new_names[column] = name
        columns = tuple(new_names.get(column, column) for column in self.columns)
        rows = [Row(row.line, dict(zip(columns, row.cells.values(), strict=True))) for row in self.rows]
        return CsvTable(columns, tuple(rows))

    def numbers(self, column: str) -> list[float | None]:
        """Returns the numbers of a column, None for empty cells.

        Raises:
            TableError: a cell holds no number, or commas may divide thousands as well as decimals.
        """
        texts = [row.cells[column] for row in self.rows]
        with_comma = [text for text in texts if "," in text]
        if with_comma and all(THOUSANDS.fullmatch(text) for text in with_comma):
            raise TableError(f"{column}: expected numbers with a decimal point, found {with_comma[0]!r}")
        numbers: list[float | None] = []
        for row, text in zip(self.rows, texts, strict=True):
            # A comma beside a point divides thousands, so the cell is no number.
            plain = text
            if "." not in text and text.count(",") == 1:
                plain = text.replace(",", ".")
            if not text:
                numbers.append(None)
            elif NUMBER.fullmatch(plain):
                numbers.append(float(plain))
            else:
                raise TableError(f"line {row.line}: {column}: expected a number, found {text!a}")
        return numbers


def read_table(path: Path) -> CsvTable:
    """Reads a table from a file.

    Raises:
        TableError: it is no table.
        OSError: it cannot be read.
    """
    return parse_table(path.read_bytes())


def parse_table(content: bytes) -> CsvTable:
    r"""Reads a table from the content of a file.

    Raises:
        TableError: no text, a repeated column, a row with more cells than columns, or two separators that both fit.

    Example:
        >>> table = parse_table("Name;Alter\nMüller ; 007\n".encode("latin-1"))
        >>> table.columns, table.rows[0].cells
        (('Name', 'Alter'), {'Name': 'Müller', 'Alter': '007'})
    """
    text = _decoded(content)
    mark = MARK.match(text)
    first_line = 1
    if mark:
        text = text[mark.end() :]
        first_line = 2
        separator = mark[1]
    else:
        separator = _separator_of(text)
    lines = _lines(text, separator)
    header: list[str] | None = None
    rows: list[Row] = []
    for line, cells in lines:
        if not any(cells):
            continue
        if header is None:
            header = _header(cells)
            continue
        while len(cells) > len(header) and not cells[-1]:
            # Spreadsheets end some rows with separators.
            cells.pop()
        if len(cells) > len(header):
            raise TableError(f"line {line + first_line - 1} has more fields than there are columns")
        cells += [""] * (len(header) - len(cells))
        rows.append(Row(line + first_line - 1, dict(zip(header, cells, strict=True))))
    return _without_unnamed(CsvTable(tuple(header or ()), tuple(rows)))


def _decoded(content: bytes) -> str:
    """Returns the text of a file in UTF-8 or UTF-16, which begins with its mark, or else Latin-1 as Windows has it."""
    if content.startswith(b"PK\x03\x04"):
        raise TableError("expected a CSV, found a workbook or another archive; save the sheet as CSV")
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        encodings = ("utf-16",)
    else:
        encodings = ("utf-8-sig", "cp1252", "latin-1")
    for encoding in encodings:
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            continue
        if CONTROL.search(text):
            break
        return text
    raise TableError("expected a CSV, found bytes that are no text")


def _lines(text: str, separator: str) -> list[tuple[int, list[str]]]:
    """Returns the cells of each line with the line's number, without blanks around them."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    try:
        return [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader]
    except csv.Error as error:
        raise TableError(f"line {reader.line_num}: {error}") from error


def _separator_of(text: str) -> str:
    """Returns what divides the cells: of those in the header, the one that gives each row as many cells."""
    header = next((line for line in text.splitlines() if line.strip()), "")
    candidates = [separator for separator in SEPARATORS if separator in header]
    if len(candidates) < 2:
        return candidates[0] if candidates else SEPARATORS[0]
    fitting = []
    for separator in candidates:
        widths = {len(cells) for _, cells in _lines(text, separator) if any(cells)}
        if len(widths) == 1 and widths != {1}:
            fitting.append(separator)
    if len(fitting) != 1:
        raise TableError(f"expected one separator, found {listed(map(repr, candidates))} in the header")
    return fitting[0]


def _header(cells: list[str]) -> list[str]:
    """Returns the names of columns; those without a name are numbered, since nobody can ask for them.

    Raises:
        TableError: a name occurs twice.
    """
    # A dictionary would silently keep the last one.
    twice = sorted({name for name in cells if name and cells.count(name) > 1})
    if twice:
        raise TableError(f"several columns are called {listed(map(ascii, twice))}")
    return [name or f"\0{number}" for number, name in enumerate(cells)]


def _without_unnamed(table: CsvTable) -> CsvTable:
    """Returns a table without columns that have no name, such as the numbers of rows that pandas writes."""
    named = tuple(column for column in table.columns if not column.startswith("\0"))
    if len(named) == len(table.columns):
        return table
    rows = [Row(row.line, {column: row.cells[column] for column in named}) for row in table.rows]
    return CsvTable(named, tuple(rows))
