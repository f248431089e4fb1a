"""The groups of the images: a CSV with the columns name and group."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from flipjax.audit.arrays import AuditError
from flipjax.audit.sources import check_printable, listed, repeated
from flipjax.files import csv_rows

LONGEST = 18
"""Digits that fit 64 bits."""


def read_groups(path: Path, names: Sequence[str], *, classes: int, positional: bool) -> tuple[np.ndarray, list[str]]:
    """Reads the group of each image.

    A name may be written with its file's ending or folders. For images that are known by position, names are positions
    from 0; or, where the table has other names and a row for each image, its rows are in the images' order and their
    names become the images'.

    Args:
        path: of the table.
        names: the images' names, in order.
        classes: C; for two foreground classes groups are 0..3 (2 * class + scene, the first foreground class being 0).
        positional: whether the names are mere positions.

    Returns:
        Groups int64 (n,), and the images' names.

    Raises:
        AuditError: not such a table, images without a group, or groups that are no integers or out of range.
    """
    rows = _rows(path)
    groups = {name: _integer(path, name, text) for name, text in rows.items()}
    names = list(names)
    if positional:
        numbered = {name: str(int(name)) for name in groups if name.isdecimal() and len(name) < LONGEST}
        numbers = list(numbered.values())
        if repeated(numbers):
            raise AuditError(f"{path}: several rows for one image, {listed(repeated(numbers))}")
        if set(numbers) >= set(names):
            groups = {numbered.get(name, name): group for name, group in groups.items()}
        elif len(groups) == len(names):
            names = list(groups)
            check_printable(path, names)
    wanted = set(names)
    stems = {name: name if name in wanted else Path(name).stem for name in groups}
    unclear = sorted(wanted & set(repeated(list(stems.values()))) - set(groups))
    if unclear:
        raise AuditError(f"{path}: several rows for one image, {listed(unclear)}")
    known = {stems[name]: group for name, group in groups.items() if stems[name] == name or stems[name] not in groups}
    missing = [name for name in names if name not in known]
    if missing:
        raise AuditError(f"{path}: expected a group for each image; none for {listed(missing)}")
    strangers = [ascii(name) for name in groups if stems[name] not in wanted]
    if strangers:
        raise AuditError(f"{path}: expected rows of the images alone; rows that name none, {listed(strangers)}")
    values = np.array([known[name] for name in names], np.int64)
    if classes == 3 and not set(values.tolist()) <= set(range(4)):
        raise AuditError(
            f"{path}: expected groups 0..3 (2 * class + scene) for two foreground classes, found "
            f"{', '.join(map(str, sorted(set(values.tolist()))[:10]))}"
        )
    return values, names


def _rows(path: Path) -> dict[str, str]:
    if not path.is_file():
        raise AuditError(f"{path}: expected a CSV with the columns name and group, found no file there")
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            table = [row for _, row in csv_rows(stream)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise AuditError(f"{path}: expected a CSV with the columns name and group ({error})") from error
    columns = list(table[0]) if table else []
    if not {"name", "group"} <= set(columns):
        names = ", ".join(map(str, columns)) or "no row"
        raise AuditError(f"{path}: expected a CSV with the columns name and group, found {names}")
    names = [row["name"] for row in table]
    if repeated(names):
        raise AuditError(f"{path}: several rows for one name, {listed(repeated(names))}")
    return {name: row["group"] for name, row in zip(names, table, strict=True)}


def _integer(path: Path, name: str, text: str) -> int:
    try:
        # To int, 1_0 is ten.
        if len(text) > LONGEST or "_" in text:
            raise ValueError
        return int(text)
    except ValueError:
        raise AuditError(f"{path}: expected an integer group for {ascii(name)[1:-1]}, found {text[:40]!r}") from None
