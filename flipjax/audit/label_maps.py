"""Label maps: from the values that masks hold to the classes 0..C-1 of an audit, from a CSV or by name."""

import csv
from pathlib import Path
from typing import NamedTuple

import numpy as np

from flipjax.audit.arrays import AuditError, listed
from flipjax.files import csv_rows

IGNORED = 255
"""What a map writes for pixels that count nowhere."""
WORD = "ignore"
# Of cityscapesScripts: the label ids of the train ids 0 to 18; the other ids are not evaluated.
CITYSCAPES = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
NAMED = {
    "ade20k": {0: IGNORED} | {label: label - 1 for label in range(1, 151)},
    "cityscapes_train": {c: c for c in range(len(CITYSCAPES))} | {-1: IGNORED, IGNORED: IGNORED},
    "cityscapes": dict.fromkeys(range(-1, 34), IGNORED) | {label: c for c, label in enumerate(CITYSCAPES)},
}
"""Published maps: ADE20K's 0 is no class, Cityscapes' label ids become train ids, and of those 255 and -1 are none."""


class LabelMap(NamedTuple):
    """A map of labels to classes, IGNORED for none; `origin` is its name or file."""

    origin: str
    classes: dict[int, int]

    @property
    def count(self) -> int:
        """One more than the largest class."""
        return 1 + max((c for c in self.classes.values() if c != IGNORED), default=-1)


def read_label_map(text: str) -> LabelMap:
    """Returns a map of NAMED, or the one of a CSV with the columns from and to, where to is a class or `ignore`.

    Raises:
        AuditError: no such map, or a row that says nothing or says it twice.
    """
    if text in NAMED:
        return LabelMap(text, NAMED[text])
    form = "a CSV with the columns from and to"
    path = Path(text)
    if not path.is_file():
        raise AuditError(f"--label_map: expected {form}, or one of {', '.join(NAMED)}; found {text!r}")
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            rows = list(csv_rows(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise AuditError(f"{path}: expected {form} ({error})") from error
    if not rows or not {"from", "to"} <= set(rows[0][1]):
        found = ", ".join(map(str, rows[0][1])) if rows else "no row"
        raise AuditError(f"{path}: expected {form}, found {found}")
    classes: dict[int, int] = {}
    for line, row in rows:
        try:
            label, to = int(row["from"]), IGNORED if row["to"].strip() == WORD else int(row["to"])
        except ValueError:
            label = to = -1
        if not 0 <= to <= IGNORED or abs(label) > 1 << 30:
            found = f"{row['from'][:40]!r}, {row['to'][:40]!r}"
            raise AuditError(
                f"{path}, line {line}: expected a label and a class 0..{IGNORED - 1} or {WORD}, found {found}"
            )
        if label in classes:
            raise AuditError(f"{path}, line {line}: expected a class a label, found one more for {label}")
        classes[label] = to
    return LabelMap(str(path), classes)


def apply_label_map(values: np.ndarray, label_map: LabelMap, *, ignore_index: int | None, where: object) -> np.ndarray:
    """Returns the classes int32 of labels; `ignore_index`, where the map does not name it, stays what it is.

    Raises:
        AuditError: labels that the map does not name; says which, and where they are.
    """
    present, places = np.unique(values, return_inverse=True)
    known = dict(label_map.classes)
    if ignore_index is not None:
        known.setdefault(ignore_index, ignore_index)
    missing = [label for label in present.tolist() if label not in known]
    if missing:
        raise AuditError(f"{where}: expected labels that {label_map.origin} names, found others, {listed(missing)}")
    return np.array([known[label] for label in present.tolist()], np.int32)[places.reshape(values.shape)]
