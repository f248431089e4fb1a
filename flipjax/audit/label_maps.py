"""Maps from stored labels to classes: published ones by name, and a user's CSV. They name the classes, too."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from flipjax.audit.problems import AuditError
from flipjax.audit.user_tables import open_table
from flipjax.support.terminal import listed

IGNORED = 255
"""The class of ignored pixels in a label map."""
WORD = "ignore"
"""How a CSV spells IGNORED."""
PUBLISHED = ("ade20k", "cityscapes", "cityscapes_train")
"""Maps in the folder published_maps, each a CSV: of ADE20K's labels, Cityscapes' label ids, and its train ids."""


@dataclasses.dataclass(frozen=True)
class LabelMap:
    """A map from labels, or from the segment ids of a COCO image, to classes."""

    origin: str
    """Its name or file, for messages."""
    classes: Mapping[int, int]
    """Class by label."""
    class_names: tuple[str, ...] | None = None
    """Names of all its classes, if it names them."""

    @property
    def count(self) -> int:
        """One more than the largest class except IGNORED."""
        return 1 + max((c for c in self.classes.values() if c != IGNORED), default=-1)

    def apply(self, values: np.ndarray, *, source: object, ignore_index: int | None = None) -> np.ndarray:
        """Returns the classes of labels, int32. `ignore_index` is unchanged unless the map contains it.

        Raises:
            AuditError: the map lacks some labels, which the message lists.
        """
        present, position = np.unique(values, return_inverse=True)
        classes = dict(self.classes)
        if ignore_index is not None:
            classes.setdefault(ignore_index, ignore_index)
        unnamed = [label for label in present.tolist() if label not in classes]
        if unnamed:
            raise AuditError(f"{source}: expected labels that {self.origin} names, found others, {listed(unnamed)}")
        mapped = np.array([classes[label] for label in present.tolist()], np.int32)
        return mapped[position.reshape(values.shape)]


def read_label_map(text: str, *, option: str = "--label_map") -> LabelMap:
    """Returns a map of PUBLISHED, or of a CSV with the columns `from`, `to` (a class or `ignore`) and maybe `name`.

    Raises:
        AuditError: the map does not exist, a row has no class or repeats a label, or a class has several names.
    """
    form = "a CSV with the columns from and to"
    path = Path(text)
    if text in PUBLISHED:
        path = Path(__file__).parent / "published_maps" / f"{text}.csv"
    elif not path.is_file():
        raise AuditError(f"{option}: expected {form}, or one of {', '.join(PUBLISHED)}; found {text!r}")
    classes: dict[int, int] = {}
    names: dict[int, set[str]] = {}
    for row in open_table(path).renamed(("from", "to", "name")).rows:
        problem = f"{text}: expected {form}: each label once, a class 0..{IGNORED - 1} or {WORD}; found {row.cells}"
        try:
            label = int(row.cells["from"])
            mapped = _read_class(row.cells["to"])
        except (KeyError, ValueError):
            raise AuditError(problem) from None
        if not 0 <= mapped <= IGNORED or label in classes:
            raise AuditError(problem)
        classes[label] = mapped
        names.setdefault(mapped, set()).add(row.cells.get("name", ""))
    return LabelMap(text, classes, _names_of(text, names))


def _read_class(text: str) -> int:
    """Returns the class of a cell, or IGNORED for WORD."""
    if text == WORD:
        return IGNORED
    return int(text)


def _names_of(source: str, names: Mapping[int, set[str]]) -> tuple[str, ...] | None:
    """Returns the class names of a CSV's column `name`; None unless each class from 0 on has one."""
    for c, of_class in names.items():
        if len(of_class) > 1 and c != IGNORED:
            raise AuditError(f"{source}: expected one name for class {c}, found {listed(sorted(of_class))}")
    count = 1 + max((c for c in names if c != IGNORED), default=-1)
    texts = [next(iter(names.get(c, {""}))) for c in range(count)]
    if not texts or not all(texts):
        return None
    return tuple(texts)
