"""COCO's panoptic format: a JSON of segments, beside a folder of its name with PNGs whose colours are their ids."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from flipjax.audit.arrays import IDS, AuditError, StoredArray, listed, open_ids
from flipjax.audit.label_maps import LabelMap
from flipjax.audit.read import Source, check_names

VOID = -1
"""The label of pixels of no segment or of a crowd: they count nowhere. Predicted, they are a class of their own."""
VOID_NAME = "void"


class Panoptic(NamedTuple):
    """The label map of each image's ids by the image's name, and the categories: class by id, and names."""

    maps: Mapping[str, LabelMap]
    categories: Mapping[int, int]
    class_names: tuple[str, ...]

    def names_of(self, classes: int) -> tuple[str, ...]:
        """Returns the names of so many classes: with one more, that of pixels that are predicted to be no segment."""
        return (*self.class_names, VOID_NAME)[:classes]


def open_panoptic(path: Path, *, truth: Panoptic | None = None) -> tuple[Source, Panoptic]:
    """Finds the images of a panoptic JSON; classes are its categories in order, of predictions those of the truth.

    Reads the JSON and the headers of the PNGs.

    Args:
        path: of the JSON.
        truth: of the labels, where this is of predictions.

    Raises:
        AuditError: not such a JSON, categories that the truth has not, or PNGs that are missing or no colours.
    """
    try:
        stored = json.loads(path.read_bytes())
        annotations = {Path(entry["file_name"]).name: list(entry["segments_info"]) for entry in stored["annotations"]}
        if truth is None:
            ids = [int(entry["id"]) for entry in stored["categories"]]
            names = check_names(f"{path}: categories", [str(entry["name"]) for entry in stored["categories"]])
            truth = Panoptic({}, dict(zip(ids, range(len(ids)), strict=True)), names)
            void = VOID
        else:
            void = len(truth.categories)
        maps = {}
        for name, segments in annotations.items():
            classes = _classes(segments, truth.categories, f"{path}: {name}", void)
            maps[Path(name).stem] = LabelMap(f"{path}: {name}", {0: void} | classes)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        if isinstance(error, AuditError):
            raise
        form = "COCO's panoptic JSON (annotations with file_name and segments_info, categories with id and name)"
        raise AuditError(f"{path}: expected {form} ({type(error).__name__}: {str(error)[:80]})") from error
    folder = path.with_suffix("")
    missing = [name for name in annotations if not (folder / name).is_file()]
    if missing or not annotations:
        found = f"none for {listed(missing)}" if missing else "no annotation"
        raise AuditError(f"{path}: expected a PNG for each annotation in {folder}, found {found}")
    images = []
    for name in annotations:
        with open_ids(folder / name) as image:
            images.append(StoredArray(folder / name, IDS, (image.height, image.width), np.dtype(np.int32)))
    return Source(path, check_names(path, maps), tuple(images)), truth._replace(maps=maps)


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
