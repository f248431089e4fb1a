"""The file formats that an audit reads (`FORMATS`): a new one is an entry here and two functions beside it.

Headers are read without values, so that what can be refused is refused before anything is counted.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np

from flipjax.audit.formats import nifti, npy, pictures
from flipjax.audit.formats.arrays import CLASS_INDICES, Header
from flipjax.audit.formats.names import suffix_of
from flipjax.audit.formats.problems import BrokenFileError, naming


@dataclasses.dataclass(frozen=True)
class Format:
    """A file format of arrays. Its functions take the file and the kind of the array, such as `logits`."""

    suffixes: tuple[str, ...]
    """Suffixes of its files, in lower case."""
    read_header: Callable[[Path, str], Header]
    """Returns the header, without reading the values."""
    read_values: Callable[[Path, str], np.ndarray]
    """Returns the stored values."""
    scores: bool = True
    """Whether it may hold logits, probabilities and intensities, rather than class indices alone."""
    stacks: bool = False
    """Whether one file may hold several images, which `npy.Stack` reads."""
    volumes: bool = False
    """Whether every file is a volume."""


FORMATS = (
    Format((".npy",), npy.npy_header, npy.read_npy, stacks=True),
    Format((".npz",), npy.npz_header, npy.read_npz, stacks=True),
    Format((".png", ".tif", ".tiff", ".bmp"), pictures.read_mask_header, pictures.read_mask, scores=False),
    Format((".nii", ".nii.gz"), nifti.read_volume_header, nifti.read_volume, volumes=True),
)
"""The formats that an audit reads. A file holds an image or a volume, unless the format stacks images."""


def format_of(path: Path) -> Format:
    """Returns the format that a file's suffix names; raises BrokenFileError if none has this suffix.

    Example:
        >>> format_of(Path("patient_1.nii.gz")).volumes
        True
    """
    for entry in FORMATS:
        if suffix_of(path) in entry.suffixes:
            return entry
    raise BrokenFileError(f"{path}: expected a file of type {' '.join(suffixes_of('labels'))}")


def suffixes_of(kind: str) -> tuple[str, ...]:
    """Returns the suffixes of files that may hold this kind of array.

    Example:
        >>> ".png" in suffixes_of("logits"), ".png" in suffixes_of("masks")
        (False, True)
    """
    entries = [entry for entry in FORMATS if entry.scores or kind in CLASS_INDICES]
    return tuple(suffix for entry in entries for suffix in entry.suffixes)


def read_header(path: Path, kind: str) -> Header:
    """Returns the header of a file's array, without reading the values; raises BrokenFileError if it is damaged."""
    with naming(path):
        return format_of(path).read_header(path, kind)


def read_values(path: Path, kind: str, shape: tuple[int, ...]) -> np.ndarray:
    """Reads the image of a file with one image, in the shape that `flipjax.audit.formats.sources.image_shape` has."""
    return format_of(path).read_values(path, kind).reshape(shape)
