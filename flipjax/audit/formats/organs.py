"""Reads folders with a mask for each organ, as TotalSegmentator writes them: `liver.nii.gz` in the folder of a case.

The masks of a case become one label map, whose classes are named by the files. A label map cannot hold organs that
overlap: a case in which more than a few voxels do is refused; a few are counted, and a sentence says so.
"""

import dataclasses
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from flipjax.audit.formats import registry
from flipjax.audit.formats.names import stem_of
from flipjax.audit.formats.problems import AuditError, BrokenFileError, naming
from flipjax.support.terminal import listed

FOLDER = "segmentations"
"""Subfolder of the masks of a case in TotalSegmentator's data set."""
MOST_OVERLAP = 0.01
"""Largest fraction of a case's foreground that may lie in several organs."""
CaseMasks = Mapping[str, Mapping[str, Path]]
"""The masks of each case by organ; all cases have the same organs, in alphabetical order."""
IMAGES_HINT = "if each file is an image of its own, pass --names '(.+)'"
"""Advice in errors: how to have files of this layout read as images."""


@dataclasses.dataclass
class Overlaps:
    """Voxels in several organs, as they are found while cases are read."""

    path: Path
    """The folder of the cases."""
    voxels: dict[str, int] = dataclasses.field(default_factory=dict)
    """Their number by case."""

    def sentence(self) -> str:
        """Returns a sentence on these voxels; an empty one if there are none."""
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
    by_case = _files_by_case(files)
    if not _may_be_organs(by_case):
        return None
    first_case = next(iter(by_case.values()))
    if not all(_is_binary(folder / file) for file in first_case.values()):
        return None
    organs = sorted(set.union(*({*files_of_case} for files_of_case in by_case.values())))
    masks = {}
    for case, files_of_case in by_case.items():
        lacking = [organ for organ in organs if organ not in files_of_case]
        if lacking:
            raise AuditError(f"{folder}: expected a mask of each organ in each case, {case} lacks {listed(lacking)}")
        masks[case] = {organ: folder / files_of_case[organ] for organ in organs}
    return masks


def _files_by_case(files: Sequence[Path]) -> dict[str, dict[str, Path]]:
    """Returns the files of each subfolder by their names without suffix; none unless all are volumes in subfolders."""
    # TotalSegmentator's data set has other volumes beside the folders of masks.
    masks = [file for file in files if file.parent.name == FOLDER]
    by_case: dict[str, dict[str, Path]] = defaultdict(dict)
    for file in masks or files:
        case = file.parent
        if case.name == FOLDER:
            case = case.parent
        if case == Path() or not registry.format_of(file).volumes:
            return {}
        by_case[case.as_posix()][stem_of(Path(file.name))] = file
    return by_case


def _may_be_organs(by_case: Mapping[str, Mapping[str, Path]]) -> bool:
    """Returns whether there are cases, of two files or more each, with a name that all have."""
    if not by_case:
        return False
    names_of_cases = [{*files_of_case} for files_of_case in by_case.values()]
    return min(map(len, names_of_cases)) >= 2 and bool(set.intersection(*names_of_cases))


def _is_binary(path: Path) -> bool:
    """Returns whether a volume, which may be damaged, holds a mask."""
    try:
        with naming(path):
            return _foreground(registry.format_of(path).read_values(path, "labels")) is not None
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
    """Reads the label map of a case, int32; voxels in several organs become the last of them.

    Args:
        masks: a file an organ.
        numbers: the class of each organ, 1 or more.
        shape: of the label map.
        case: its name, for messages.
        overlaps: notes how many voxels lie in several organs.

    Raises:
        AuditError: more than the fraction MOST_OVERLAP of the foreground lies in several organs.
        BrokenFileError: a file is no mask.
    """
    label_map, overlapping = _merge_masks(masks, numbers, shape)
    share = overlapping / max(1, np.count_nonzero(label_map))
    if share > MOST_OVERLAP:
        raise AuditError(
            f"{overlaps.path}: {case}: {share:.0%} of the foreground lies in several organs (overlapping, multi-label "
            f"masks), and an audit counts one class a voxel; merge them into one label map in the order that you mean"
        )
    overlaps.voxels[case] = overlapping
    return label_map


def _merge_masks(masks: Sequence[Path], numbers: Sequence[int], shape: tuple[int, ...]) -> tuple[np.ndarray, int]:
    """Returns the label map of masks, and the number of voxels that lie in several of them."""
    label_map = np.zeros(shape, np.int32)
    several = np.zeros(shape, bool)
    for path, number in zip(masks, numbers, strict=True):
        # `StoredArray.read`, which calls this, names the case if a file is damaged or has another shape.
        values = registry.read_values(path, "labels", shape)
        inside = _foreground(values)
        if inside is None:
            found = listed(np.unique(values).tolist())
            raise BrokenFileError(f"{path}: expected a mask of one organ, 0 and 1, found {found}; {IMAGES_HINT}")
        several |= inside & (label_map > 0)
        label_map[inside] = number
    return label_map, int(several.sum())
