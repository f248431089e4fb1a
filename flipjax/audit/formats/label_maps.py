"""Maps from stored labels to classes: published ones by name, and a user's CSV. They name the classes, too."""

import dataclasses
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from flipjax.audit.formats.problems import AuditError, open_table
from flipjax.support.terminal import listed

IGNORED = 255
"""The class of ignored pixels in a label map."""
WORD = "ignore"
"""How a CSV spells IGNORED."""
COLUMNS = ("from", "to", "name")
"""The columns of a CSV: a label, its class, and maybe the name of this class."""
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
    """Returns a map of PUBLISHED, or of a CSV with the columns `from`, `to` (a class, or 255 or `ignore`) and `name`.

    The column `name` may be missing.

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
    for row in open_table(path).renamed(COLUMNS).rows:
        try:
            label = _read_label(row.cells["from"], classes)
            mapped = _read_class(row.cells["to"])
        except (KeyError, ValueError):
            rule = f"each label once, a class 0..{IGNORED - 1}, or {IGNORED} or {WORD}"
            raise AuditError(f"{text}: expected {form}: {rule}; found {row.cells}") from None
        classes[label] = mapped
        names.setdefault(mapped, set()).add(row.cells.get("name", ""))
    label_map = LabelMap(text, classes)
    name_of_class = _read_names(text, names)
    class_names = tuple(name_of_class.get(c, "") for c in range(label_map.count))
    if not class_names or not all(class_names):
        return label_map
    return dataclasses.replace(label_map, class_names=class_names)


def _read_label(text: str, earlier: Collection[int]) -> int:
    """Returns the label of a cell; raises ValueError for one that is no integer, or that an earlier row has."""
    label = int(text)
    if label in earlier:
        raise ValueError(text)
    return label


def _read_class(text: str) -> int:
    """Returns the class of a cell, or IGNORED for WORD; raises ValueError for what is neither."""
    if text == WORD:
        return IGNORED
    c = int(text)
    if not 0 <= c <= IGNORED:
        raise ValueError(text)
    return c


def _read_names(source: str, names: Mapping[int, set[str]]) -> dict[int, str]:
    """Returns the name of each class but IGNORED, which may be empty; raises AuditError for a class with several."""
    name_of_class = {}
    for c, of_class in names.items():
        if c == IGNORED:
            continue
        if len(of_class) > 1:
            raise AuditError(f"{source}: expected one name for class {c}, found {listed(sorted(of_class))}")
        [name_of_class[c]] = of_class
    return name_of_class
