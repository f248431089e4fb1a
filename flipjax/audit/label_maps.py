"""Label maps, from the values of masks to the classes 0..C-1 of an audit: a CSV, or a published one by its name."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from flipjax.audit.arrays import AuditError, listed, read_table

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
    """Returns a map of NAMED, or that of a CSV with the columns `from` and `to` (a class or `ignore`).

    Raises:
        AuditError: no such map, or a row without a class or for a label that has one already.
    """
    if text in NAMED:
        return LabelMap(text, NAMED[text])
    form = "a CSV with the columns from and to"
    if not Path(text).is_file():
        raise AuditError(f"--label_map: expected {form}, or one of {', '.join(NAMED)}; found {text!r}")
    classes: dict[int, int] = {}
    for row in read_table(Path(text)):
        try:
            label, to = int(row["from"]), IGNORED if row["to"].strip() == WORD else int(row["to"])
        except (KeyError, ValueError):
            label = to = -1
        if not 0 <= to <= IGNORED or label in classes:
            raise AuditError(f"{text}: expected {form}, a class 0..{IGNORED - 1} or {WORD} a label; found {row}")
        classes[label] = to
    return LabelMap(text, classes)


def apply_label_map(
    values: np.ndarray, classes: Mapping[int, int], *, ignore_index: int | None, where: object, origin: str
) -> np.ndarray:
    """Returns the classes int32 of labels; `ignore_index` stays as it is unless the map names it.

    Raises:
        AuditError: labels that the map of `origin` lacks, and where they are.
    """
    present, places = np.unique(values, return_inverse=True)
    known = ({} if ignore_index is None else {ignore_index: ignore_index}) | dict(classes)
    missing = [label for label in present.tolist() if label not in known]
    if missing:
        raise AuditError(f"{where}: expected labels that {origin} names, found others, {listed(missing)}")
    return np.array([known[label] for label in present.tolist()], np.int32)[places.reshape(values.shape)]
