"""Maps from stored labels to classes: published ones by name, and a user's CSV. They name the classes, too."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from flipjax.audit.problems import AuditError, naming
from flipjax.support.files import csv_rows
from flipjax.support.terminal import listed

IGNORED = 255
"""The class of ignored pixels in a label map."""
WORD = "ignore"
"""How a CSV spells IGNORED."""
CITYSCAPES = {
    7: "road",
    8: "sidewalk",
    11: "building",
    12: "wall",
    13: "fence",
    17: "pole",
    19: "traffic light",
    20: "traffic sign",
    21: "vegetation",
    22: "terrain",
    23: "sky",
    24: "person",
    25: "rider",
    26: "car",
    27: "truck",
    28: "bus",
    31: "train",
    32: "motorcycle",
    33: "bicycle",
}
"""Name by label id of Cityscapes' classes, in the order of train ids; other ids are not evaluated."""
CITYSCAPES_IDS = range(-1, 34)
"""All label ids of Cityscapes."""
ADE20K = """
wall, building, sky, floor, tree, ceiling, road, bed, windowpane, grass, cabinet, sidewalk, person, earth, door, table,
mountain, plant, curtain, chair, car, water, painting, sofa, shelf, house, sea, mirror, rug, field, armchair, seat,
fence, desk, rock, wardrobe, lamp, bathtub, railing, cushion, base, box, column, signboard, chest of drawers, counter,
sand, sink, skyscraper, fireplace, refrigerator, grandstand, path, stairs, runway, case, pool table, pillow,
screen door, stairway, river, bridge, bookcase, blind, coffee table, toilet, flower, book, hill, bench, countertop,
stove, palm, kitchen island, computer, swivel chair, boat, bar, arcade machine, hovel, bus, towel, light, truck, tower,
chandelier, awning, streetlight, booth, television receiver, airplane, dirt track, apparel, pole, land, bannister,
escalator, ottoman, bottle, buffet, poster, stage, van, ship, fountain, conveyer belt, canopy, washer, plaything,
swimming pool, stool, barrel, basket, waterfall, tent, bag, minibike, cradle, oven, ball, food, step, tank, trade name,
microwave, pot, animal, bicycle, lake, dishwasher, screen, blanket, sculpture, hood, sconce, vase, traffic light, tray,
ashcan, fan, pier, crt screen, plate, monitor, bulletin board, shower, radiator, glass, clock, flag
"""
"""Names of the 150 classes of ADE20K's scene parsing challenge; label 0 is ignored."""


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


def _cityscapes(name: str, train_ids: bool) -> LabelMap:
    """Returns the map of Cityscapes' label ids, or of its train ids, where 255 and -1 are ignored."""
    names = tuple(CITYSCAPES.values())
    if train_ids:
        classes = {c: c for c in range(len(names))}
        classes[-1] = IGNORED
        classes[IGNORED] = IGNORED
        return LabelMap(name, classes, names)
    classes = dict.fromkeys(CITYSCAPES_IDS, IGNORED)
    for c, label in enumerate(CITYSCAPES):
        classes[label] = c
    return LabelMap(name, classes, names)


def _ade20k() -> LabelMap:
    """Returns the map of ADE20K's labels, where 0 is ignored."""
    names = tuple(name.strip() for name in ADE20K.split(","))
    classes = {0: IGNORED}
    for c in range(len(names)):
        classes[c + 1] = c
    return LabelMap("ade20k", classes, names)


NAMED = {
    "ade20k": _ade20k(),
    "cityscapes": _cityscapes("cityscapes", train_ids=False),
    "cityscapes_train": _cityscapes("cityscapes_train", train_ids=True),
}
"""Published maps: ADE20K ignores 0; Cityscapes' label ids become train ids, and train ids 255 and -1 are ignored."""


def read_table(path: Path) -> list[dict[str, str]]:
    """Returns the rows of a CSV as dicts; raises AuditError if it is not a CSV."""
    with naming(path), path.open(newline="", encoding="utf-8-sig") as stream:
        return [row for _, row in csv_rows(stream)]


def read_label_map(text: str, *, option: str = "--label_map") -> LabelMap:
    """Returns a map of NAMED, or one from a CSV with the columns `from`, `to` (a class or `ignore`) and maybe `name`.

    Raises:
        AuditError: the map does not exist, a row has no class or repeats a label, or a class has several names.
    """
    if text in NAMED:
        return NAMED[text]
    form = "a CSV with the columns from and to"
    if not Path(text).is_file():
        raise AuditError(f"{option}: expected {form}, or one of {', '.join(NAMED)}; found {text!r}")
    classes: dict[int, int] = {}
    names: dict[int, set[str]] = {}
    for row in read_table(Path(text)):
        problem = f"{text}: expected {form}: each label once, a class 0..{IGNORED - 1} or {WORD}; found {row}"
        try:
            label = int(row["from"])
            mapped = _read_class(row["to"])
        except (KeyError, ValueError):
            raise AuditError(problem) from None
        if not 0 <= mapped <= IGNORED or label in classes:
            raise AuditError(problem)
        classes[label] = mapped
        names.setdefault(mapped, set()).add(row.get("name", "").strip())
    return LabelMap(text, classes, _names_of(text, names))


def _read_class(text: str) -> int:
    """Returns the class of a cell, or IGNORED for WORD."""
    if text.strip() == WORD:
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
