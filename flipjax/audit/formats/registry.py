"""The file formats of an audit (`FORMATS`), and how those of pictures and of NIfTI volumes are read.

Headers are read without values, so that what can be refused is refused before anything is counted. Packages of a format
are imported by its functions, because an audit of other files does not need them.
"""

import contextlib
import dataclasses
import importlib.util
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from flipjax.audit.formats import npy
from flipjax.audit.formats.arrays import CLASS_INDICES, INTENSITIES, SCORES, Header, class_indices
from flipjax.audit.formats.names import suffix_of
from flipjax.audit.formats.problems import BrokenFileError, naming

if TYPE_CHECKING:
    import nibabel  # pyright: ignore[reportMissingImports]

MILLIMETRES = {"mm": 1.0, "meter": 1e3, "micron": 1e-3, "unknown": 1.0}
"""Millimetres of a NIfTI header's units of length; most programs leave them unknown and mean millimetres."""


def _mask_header(path: Path, kind: str) -> Header:
    from flipjax.data.decoding.masks import read_mask_header

    with image_errors():
        header = read_mask_header(path)
    return Header((header.height, header.width), palette=header.palette)


def _read_mask(path: Path, kind: str) -> np.ndarray:
    from flipjax.data.decoding.masks import read_mask

    with image_errors():
        return read_mask(path).astype(np.int32)


def read_photo(path: Path) -> np.ndarray:
    """Reads a photo uint8 (H, W, 3) as sweeps do: turned by EXIF, of 8 bits a channel, without transparent pixels."""
    from flipjax.data.decoding import images

    with naming(path), image_errors():
        return images.read_photo(path)


def check_photo(path: Path) -> None:
    """Raises BrokenFileError if `read_photo` refuses the photo by its header; reads no pixels."""
    from flipjax.data.decoding import images

    with image_errors():
        images.check_photo(path)


@contextlib.contextmanager
def image_errors() -> Iterator[None]:
    """Converts a BadFileError of `flipjax.data.decoding.images`, which names the file, to a BrokenFileError."""
    # Imported late: an audit without images needs no Pillow.
    from flipjax.data.decoding.images import BadFileError

    try:
        yield
    except BadFileError as error:
        raise BrokenFileError(str(error)) from error


@contextlib.contextmanager
def _opened_volume(path: Path) -> "Iterator[nibabel.Nifti1Image]":
    """Opens a NIfTI image without reading its values."""
    import nibabel  # pyright: ignore[reportMissingImports]

    if path.suffix.lower() == ".gz" and importlib.util.find_spec("isal") is not None:
        # Inflates in 0.6 of the time that Python's gzip takes.
        from isal import igzip  # pyright: ignore[reportMissingImports]

        with igzip.open(path) as file:
            yield nibabel.Nifti1Image.from_stream(file)
    else:
        yield nibabel.Nifti1Image.from_filename(path)


def _volume_header(path: Path, kind: str) -> Header:
    """Reads shape, spacing and place of a NIfTI volume."""
    from nibabel.nifti1 import Nifti1Header  # pyright: ignore[reportMissingImports]
    from nibabel.openers import ImageOpener  # pyright: ignore[reportMissingImports]

    # The header is read as it is stored, because nibabel's images replace a voxel size of 0 by 1.
    with ImageOpener(str(path)) as file:
        header = Nifti1Header.from_fileobj(file, check=False)
    unit = MILLIMETRES.get(str(header.get_xyzt_units()[0]), 1.0)
    spacing = tuple(abs(float(size)) * unit for size in header["pixdim"][1:4])
    if not all(0 < size < math.inf for size in spacing):
        raise BrokenFileError(f"{path}: expected voxel sizes above 0 mm in its header, found {spacing}")
    with _opened_volume(path) as volume:
        return Header(volume.shape, spacing, np.asarray(volume.affine))


def _read_volume(path: Path, kind: str) -> np.ndarray:
    """Reads the values of a NIfTI volume: intensities, scores or class indices."""
    from nibabel.arrayproxy import ArrayProxy  # pyright: ignore[reportMissingImports]

    with _opened_volume(path) as volume:
        voxels = volume.dataobj
        if kind == INTENSITIES:
            return np.asarray(voxels, np.float32)
        if kind not in SCORES:
            return class_indices(path, np.asarray(voxels))
        assert isinstance(voxels, ArrayProxy)
        if not np.issubdtype(voxels.dtype, np.floating) and voxels.slope == 1:
            raise BrokenFileError(f"{path}: expected {kind} in floating point, found {voxels.dtype}")
        return np.asarray(voxels, np.float32)


@dataclasses.dataclass(frozen=True)
class Format:
    """A file format of arrays. Its functions take the file and the kind of the array."""

    suffixes: tuple[str, ...]
    """Suffixes of its files, in lower case."""
    read_header: Callable[[Path, str], Header]
    """Returns the header, without reading the values."""
    read_values: Callable[[Path, str], np.ndarray]
    """Returns the stored values."""
    scores: bool = True
    """Whether it may hold logits, probabilities and intensities, rather than class indices alone."""
    stacks: bool = False
    """Whether one file may hold several images."""
    volumes: bool = False
    """Whether every file is a volume."""


FORMATS = (
    Format((".npy",), npy.npy_header, npy.read_npy, stacks=True),
    Format((".npz",), npy.npz_header, npy.read_npz, stacks=True),
    Format((".png", ".tif", ".tiff", ".bmp"), _mask_header, _read_mask, scores=False),
    Format((".nii", ".nii.gz"), _volume_header, _read_volume, volumes=True),
)
"""The formats that an audit reads. To add one whose files hold an image or volume each, add an entry.

`Stack` reads files with several images.
"""


def format_of(path: Path) -> Format:
    """Returns the format that a file's suffix names; raises BrokenFileError if none has this suffix."""
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
    """Reads the image of a file with one image, in the shape that `image_shape` returned."""
    return format_of(path).read_values(path, kind).reshape(shape)
