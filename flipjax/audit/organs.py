"""Folders of a mask an organ, as TotalSegmentator writes them: `case/liver.nii.gz` is a class of the volume `case`.

A case becomes one label map, whose classes are named by the files. A label map cannot hold organs that overlap: where
more than a few voxels do, the case is refused; few of them are counted and said.
"""

import dataclasses
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from flipjax.audit import formats
from flipjax.audit.names import stem_of
from flipjax.audit.problems import AuditError, BrokenFileError, naming
from flipjax.support.terminal import listed

FOLDER = "segmentations"
"""Subfolder of the masks of a case in TotalSegmentator's data set."""
MOST_OVERLAP = 0.01
"""Fraction of a case's foreground that may lie in several organs."""
CaseMasks = Mapping[str, Mapping[str, Path]]
"""The masks of each case by organ; all cases have the same organs, in alphabetical order."""
AS_IMAGES = "if each file is an image of its own, pass --names '(.+)'"
"""How files of this layout are read as images."""


@dataclasses.dataclass
class Overlaps:
    """Voxels in several organs, as they are found while cases are read."""

    path: Path
    """The folder of the cases."""
    voxels: dict[str, int] = dataclasses.field(default_factory=dict)
    """Their number by case."""

    def sentence(self) -> str:
        """Returns a sentence on them, empty without any."""
        total = sum(self.voxels.values())
        if not total:
            return ""
        cases = sum(count > 0 for count in self.voxels.values())
        return (
            f"In {self.path} {total:,} voxels of {cases} cases lie in several organs; they count as the last by name."
        )


def find_organs(folder: Path, files: Sequence[Path]) -> CaseMasks | None:
    """Returns the masks of a folder if each subfolder holds a NIfTI mask for each organ, else None.

    Args:
        folder: the argument.
        files: relative paths of its usable files.

    Raises:
        AuditError: cases have different organs.
    """
    masks = [file for file in files if file.parent.name == FOLDER] or files
    by_case: dict[str, dict[str, Path]] = defaultdict(dict)
    for file in masks:
        case = file.parent
        if case.name == FOLDER:
            case = case.parent
        if case == Path() or not formats.format_of(file).volumes:
            return None
        by_case[case.as_posix()][stem_of(Path(file.name))] = folder / file
    if not by_case or min(map(len, by_case.values())) < 2:
        return None
    shared = set.intersection(*(set(masks_of_case) for masks_of_case in by_case.values()))
    first = next(iter(by_case.values()))
    if not shared or not all(map(_is_binary, first.values())):
        return None
    organs = sorted({organ for masks_of_case in by_case.values() for organ in masks_of_case})
    for case, masks_of_case in by_case.items():
        lacking = [organ for organ in organs if organ not in masks_of_case]
        if lacking:
            raise AuditError(f"{folder}: expected a mask of each organ in each case, {case} lacks {listed(lacking)}")
    return {case: {organ: masks_of_case[organ] for organ in organs} for case, masks_of_case in by_case.items()}


def _is_binary(path: Path) -> bool:
    """Returns whether a volume holds a mask."""
    try:
        with naming(path):
            return _foreground(formats.format_of(path).read_values(path, "labels")) is not None
    except AuditError:
        return False


def _foreground(values: np.ndarray) -> np.ndarray | None:
    """Returns the voxels of a mask of 0 and 1, or of 0 and 255, as bool; None for other values."""
    inside = values != 0
    present = {*np.unique(values[inside]).tolist()}
    if present <= {1} or present == {255}:
        return inside
    return None


def read_case(
    masks: Sequence[Path], numbers: Sequence[int], shape: tuple[int, ...], *, case: str, overlaps: Overlaps
) -> np.ndarray:
    """Reads the label map of a case, int32.

    Args:
        masks: a file an organ.
        numbers: the class of each organ.
        shape: of the label map.
        case: its name, for messages.
        overlaps: notes how many voxels lie in several organs, which become the last of them.

    Raises:
        AuditError: more than `MOST_OVERLAP` of the foreground does; a file is no mask or has another shape.
    """
    label_map = np.zeros(shape, np.int32)
    several = np.zeros(shape, bool)
    for path, number in zip(masks, numbers, strict=True):
        values = formats.read_values(path, "labels", shape)
        inside = _foreground(values)
        if inside is None:
            found = listed(np.unique(values).tolist())
            raise BrokenFileError(f"{path}: expected a mask of one organ, 0 and 1, found {found}; {AS_IMAGES}")
        several |= inside & (label_map > 0)
        label_map[inside] = number
    overlapping = int(several.sum())
    share = overlapping / max(1, np.count_nonzero(label_map))
    if share > MOST_OVERLAP:
        raise AuditError(
            f"{overlaps.path}: {case}: {share:.0%} of the foreground lies in several organs (overlapping, multi-label "
            f"masks), and an audit counts one class a voxel; merge them into one label map in the order that you mean"
        )
    overlaps.voxels[case] = overlapping
    return label_map
