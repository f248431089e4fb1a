"""The groups of the images: a CSV with the columns name and group."""

import csv
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from flipjax.audit.arrays import AuditError, listed
from flipjax.audit.read import check_names
from flipjax.files import csv_rows
from flipjax.groups import TWO_BY_TWO

INTEGER = re.compile(r"\s*-?\d{1,18}\s*")
"""Of 64 bits; to int, 1_0 is ten, too."""


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
    known = set(names)
    places = {name: str(int(name)) for name in rows if positional and name.isdecimal() and INTEGER.fullmatch(name)}
    stems = {name: name if name in known else Path(name).stem for name in rows}
    images = [places.get(name, stems[name]) for name in rows]
    if positional and len(rows) == len(names) and len({*places.values()}) == len(places) and set(images) != known:
        images = names = list(check_names(path, rows))
    check_names(path, images)
    missing = [name for name in names if name not in set(images)]
    strangers = [name for name, image in zip(rows, images, strict=True) if image not in set(names)]
    if missing or strangers:
        found = [f"none for {listed(missing)}"] if missing else []
        found += [f"rows that name none, {listed(strangers)}"] if strangers else []
        raise AuditError(f"{path}: expected a group for each image; found {'; '.join(found)}")
    wrong = [f"{name} ({group[:40]})" for name, group in rows.items() if not INTEGER.fullmatch(group)]
    if wrong:
        raise AuditError(f"{path}: expected integer groups, found others, {listed(wrong)}")
    values = dict(zip(images, map(int, rows.values()), strict=True))
    groups = np.array([values[name] for name in names], np.int64)
    if classes == 3 and not set(groups.tolist()) <= set(range(TWO_BY_TWO.count)):
        found = listed(sorted(set(groups.tolist())))
        raise AuditError(f"{path}: expected groups 0..3 (2 * class + scene) for two foreground classes, found {found}")
    return groups, list(names)


def _rows(path: Path) -> dict[str, str]:
    """Returns the text of each group by the name in its row."""
    if not path.is_file():
        raise AuditError(f"{path}: expected a CSV with the columns name and group, found no file there")
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            table = [row for _, row in csv_rows(stream)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise AuditError(f"{path}: expected a CSV with the columns name and group ({error})") from error
    if not table or not {"name", "group"} <= set(table[0]):
        found = ", ".join(map(str, table[0])) if table else "no row"
        raise AuditError(f"{path}: expected a CSV with the columns name and group, found {found}")
    check_names(path, [row["name"] for row in table])
    return {row["name"]: row["group"] for row in table}
