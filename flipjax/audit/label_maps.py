"""Label maps: from the values that masks hold to the classes 0..C-1 of an audit, from a CSV, by name or by COCO.

COCO's panoptic format is a JSON of segments, beside a folder of its name with PNGs whose colours are their ids.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from flipjax.audit.arrays import AuditError, listed, mask_header, naming, read_table
from flipjax.audit.read import Source, check_names

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
VOID = -1
"""The label of pixels of no segment or of a crowd: they count nowhere. Predicted, they are a class of their own."""
VOID_NAME = "void"


class LabelMap(NamedTuple):
    """A map of labels to classes, IGNORED for none; `origin` is its name or file."""

    origin: str
    classes: dict[int, int]

    @property
    def count(self) -> int:
        """One more than the largest class."""
        return 1 + max((c for c in self.classes.values() if c != IGNORED), default=-1)


class Panoptic(NamedTuple):
    """The label map of each image's ids by the image's name, and the categories: class by id, and names."""

    maps: Mapping[str, LabelMap]
    categories: Mapping[int, int]
    class_names: tuple[str, ...]

    def names_of(self, classes: int) -> tuple[str, ...]:
        """Returns the names of so many classes: with one more, that of pixels that are predicted to be no segment."""
        return (*self.class_names, VOID_NAME)[:classes]


def read_label_map(text: str) -> LabelMap:
    """Returns a map of NAMED, or the one of a CSV with the columns from and to, where to is a class or `ignore`.

    Raises:
        AuditError: no such map, or a row that says nothing or says it twice.
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


def apply_label_map(values: np.ndarray, label_map: LabelMap, *, ignore_index: int | None, where: object) -> np.ndarray:
    """Returns the classes int32 of labels; `ignore_index`, where the map does not name it, stays what it is.

    Raises:
        AuditError: labels that the map does not name; says which, and where they are.
    """
    present, places = np.unique(values, return_inverse=True)
    known = ({} if ignore_index is None else {ignore_index: ignore_index}) | label_map.classes
    missing = [label for label in present.tolist() if label not in known]
    if missing:
        raise AuditError(f"{where}: expected labels that {label_map.origin} names, found others, {listed(missing)}")
    return np.array([known[label] for label in present.tolist()], np.int32)[places.reshape(values.shape)]


def open_panoptic(path: Path, *, truth: Panoptic | None = None) -> tuple[Source, Panoptic]:
    """Finds the images of a panoptic JSON; classes are its categories in order, of predictions those of the truth.

    Reads the JSON and the headers of the PNGs.

    Args:
        path: of the JSON.
        truth: of the labels, where this is of predictions.

    Raises:
        AuditError: not such a JSON, categories that the truth has not, or PNGs that are missing or no colours.
    """
    with naming(f"{path}: expected COCO's panoptic JSON"):
        stored = json.loads(path.read_bytes())
        files = [path.with_suffix("") / Path(entry["file_name"]).name for entry in stored["annotations"]]
        names = check_names(path, [file.stem for file in files])
        void = VOID if truth is None else len(truth.class_names)
        if truth is None:
            categories = {int(entry["id"]): str(entry["name"]) for entry in stored["categories"]}
            truth = Panoptic({}, {number: c for c, number in enumerate(categories)}, tuple(categories.values()))
        maps = {}
        for name, file, entry in zip(names, files, stored["annotations"], strict=True):
            origin = f"{path}: {file.name}"
            classes = _classes(entry["segments_info"], truth.categories, origin, void)
            maps[name] = LabelMap(origin, {0: void} | classes)
    if not maps:
        raise AuditError(f"{path}: expected a PNG for each annotation, found no annotation")
    return Source(path, names, tuple(mask_header(file, ids=True) for file in files)), truth._replace(maps=maps)


def _classes(segments: list[Any], categories: Mapping[int, int], where: str, void: int) -> dict[int, int]:
    classes: dict[int, int] = {}
    for segment in segments:
        number, category = int(segment["id"]), int(segment["category_id"])
        if category not in categories:
            known = f"a category of the labels ({listed(categories)})"
            raise AuditError(f"{where}: segment {number}: expected {known}, found {category}")
        if number in classes or not 0 < number < 1 << 24:
            raise AuditError(f"{where}: expected different ids in 1..{(1 << 24) - 1}, found {number}")
        classes[number] = void if segment.get("iscrowd", 0) else categories[category]
    return classes
