"""Reads the array of one image: npy, npz, PNG and other images of class indices, and NIfTI.

`read_header` says shape and place of a file's array without reading its values, `read_values` reads them. A `Stack` is
a file with the arrays of all images. Pickles are refused. `sources` finds the files of an argument, `coco` reads
COCO's JSON.
"""

import contextlib
import dataclasses
import importlib.util
import math
import tempfile
import zipfile
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from flipjax.audit.label_maps import LabelMap
from flipjax.audit.names import suffix_of
from flipjax.audit.problems import AuditError, BrokenFileError, naming
from flipjax.support.terminal import listed

if TYPE_CHECKING:
    import nibabel  # pyright: ignore[reportMissingImports]

SUFFIX = ".npy"
"""Ending of the name of an array in an npz."""
NAMES = f"names{SUFFIX}"
"""The array of an npz that names its images."""
RESERVED = ("logits", "probabilities", "masks", "labels", "groups", "names", "images")
"""Names of an npz that mean another kind of array, and so are never read for want of one with the right name."""
SCORES = ("logits", "probabilities")
"""Kinds of arrays with an axis of classes beside the axes of space; the others hold class indices."""
INTENSITIES = "images"
"""Kind of volumes that a model sees: any numbers."""
NNUNET_ARRAYS = ("probabilities", "softmax")
"""Names of the array in an npz of nnU-Net, (C, Z, Y, X)."""
MOST_BYTES = 1 << 32
"""Limit on the bytes of all confusion matrices."""
MILLIMETRES = {"mm": 1.0, "meter": 1e3, "micron": 1e-3, "unknown": 1.0}
"""Millimetres of a NIfTI header's units of length; most programs leave them unknown and mean millimetres."""
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
"""Readers of an array's header, by its version. Only arrays of records have a later version."""


@dataclasses.dataclass(frozen=True)
class StoredArray:
    """The array of one image, whose header was read."""

    origin: str
    """Its file, with the row in a stack or the image of a COCO file if any; for messages."""
    shape: tuple[int, ...]
    """The shape that `load` returns."""
    load: Callable[[], np.ndarray]
    """Reads the stored values, or computes them by a model."""
    label_map: LabelMap | None = None
    """The map from stored values to classes; None if they are classes."""
    spacing: tuple[float, ...] | None = None
    """Distance of pixels in mm along each axis of space, of a NIfTI header."""
    affine: np.ndarray | None = None
    """Place in the scanner, float64 (4, 4), of a NIfTI header."""
    of_model: bool = False
    """Whether a model computes the values, whose errors are its own."""
    of_nnunet: bool = False
    """Whether it is an array as nnU-Net stores its probabilities, (C, Z, Y, X)."""

    def __str__(self) -> str:
        """Returns its origin."""
        return self.origin

    def read(self) -> np.ndarray:
        """Returns the stored values; raises BrokenFileError if the file is damaged or missing."""
        if self.of_model:
            return np.asarray(self.load())
        with naming(self):
            return np.asarray(self.load())

    def to_classes(self, values: np.ndarray, *, ignore_index: int | None = None) -> np.ndarray:
        """Returns the classes of the array's values.

        Raises:
            AuditError: a value has no class (`LabelMap.apply`).
        """
        if self.label_map is None:
            return values
        return self.label_map.apply(values, source=self, ignore_index=ignore_index)

    def transposed(self, order: Sequence[int]) -> "StoredArray":
        """Returns an array without spacing and affine with its axes in this order."""
        order = tuple(order)
        shape = tuple(self.shape[axis] for axis in order)
        return dataclasses.replace(self, shape=shape, load=lambda: np.transpose(self.load(), order))


@dataclasses.dataclass(frozen=True)
class Header:
    """What is known of the array of a file before its values are read."""

    shape: tuple[int, ...]
    """The stored shape."""
    spacing: tuple[float, ...] | None = None
    """Distance of voxels in mm along each axis; None if the format has none."""
    affine: np.ndarray | None = None
    """Place in the scanner, float64 (4, 4); None if the format has none."""
    palette: bytes = b""
    """Red, green and blue of each index of a PNG with a palette."""
    array_name: str = ""
    """Name of the array in an npz."""


def check_folder(folder: Path, allowed: Collection[str]) -> None:
    """Raises AuditError if an output folder holds files that this command does not write."""
    if not folder.exists():
        return
    names = {path.name for path in folder.iterdir() if path.suffix != ".tmp"}
    if names - {*allowed}:
        raise AuditError(f"--out: expected a new folder, or one that this command wrote; found other files in {folder}")


def check_matrices(images: int, classes: int) -> None:
    """Raises AuditError if the confusion matrices of so many images and classes are too large."""
    size = 4 * images * classes**2
    if size > MOST_BYTES:
        problem = f"{images} images and {classes} classes have confusion matrices of {size:,} bytes"
        raise AuditError(f"{problem}, expected at most {MOST_BYTES:,}; are these values classes?")


class Stack:
    """An array of an npy or npz file, opened without reading it, and the array `names` of an npz, if any."""

    def __init__(self, path: Path, kind: str):
        """Opens the file; an npz is unpacked.

        Args:
            path: of the file.
            kind: of the array, which names it in an npz.
        """
        self.names: tuple[str, ...] | None = None
        """The images' names, if they are stored."""
        if suffix_of(path) == ".npy":
            values = np.load(path, mmap_mode="r", allow_pickle=False)
        else:
            with zipfile.ZipFile(path) as archive:
                values = _unpacked_array(archive, array_name(path, archive, kind))
                if NAMES in archive.namelist():
                    self.names = _image_names(archive)
        _check_dtype(path, values.dtype, kind)
        self.values = np.asarray(values)
        """The array, which stays in the file."""
        self._path = path
        self._kind = kind

    def row(self, index: int) -> np.ndarray:
        """Reads an image."""
        return _checked_values(self._path, np.array(self.values[index]), self._kind)


def _unpacked_array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """Returns an array of an npz, opened without reading it from a temporary file."""
    with tempfile.TemporaryDirectory(prefix="flipjax-audit-", ignore_cleanup_errors=True) as folder:
        unpacked = archive.extract(name + SUFFIX, folder)
        # An open array outlives its file.
        return np.load(unpacked, mmap_mode="r", allow_pickle=False)


def _image_names(archive: zipfile.ZipFile) -> tuple[str, ...]:
    """Returns the names of the images of an npz."""
    with archive.open(NAMES) as stream:
        names = np.lib.format.read_array(stream, allow_pickle=False)
    return tuple(map(str, names))


def array_name(path: Path, archive: zipfile.ZipFile, kind: str) -> str:
    """Returns the name of the array of this kind in an npz: the kind itself, or the only name that means no kind.

    Raises:
        BrokenFileError: there is no such array, or there are several.
    """
    names = [name.removesuffix(SUFFIX) for name in archive.namelist()]
    if kind in names:
        return kind
    candidates = [name for name in names if name not in RESERVED]
    if len(candidates) != 1:
        raise BrokenFileError(f"{path}: expected an array named {kind}, or one alone, found {listed(names)}")
    return candidates[0]


def _check_dtype(path: Path, dtype: np.dtype, kind: str) -> None:
    """Raises AuditError if scores are not in floating point."""
    if kind in SCORES and dtype.kind != "f":
        problem = f"expected {kind} in floating point, found {dtype}; for class indices pass --kind masks"
        raise AuditError(f"{path}: {problem}")


def _npy_header(path: Path, kind: str) -> Header:
    return Header(Stack(path, kind).values.shape)


def _read_npy(path: Path, kind: str) -> np.ndarray:
    return _checked_values(path, np.load(path, allow_pickle=False), kind)


def _npz_header(path: Path, kind: str) -> Header:
    with zipfile.ZipFile(path) as archive:
        name = array_name(path, archive, kind)
        with archive.open(name + SUFFIX) as stream:
            version = np.lib.format.read_magic(stream)
            shape, _, dtype = HEADERS[version](stream)
    _check_dtype(path, dtype, kind)
    return Header(shape, array_name=name)


def _read_npz(path: Path, kind: str) -> np.ndarray:
    with zipfile.ZipFile(path) as archive, archive.open(array_name(path, archive, kind) + SUFFIX) as stream:
        return _checked_values(path, np.lib.format.read_array(stream, allow_pickle=False), kind)


def _checked_values(path: Path, values: np.ndarray, kind: str) -> np.ndarray:
    """Returns class indices that were stored as floats or bool as int32, and all other values unchanged.

    Raises:
        BrokenFileError: floats that should be class indices are none.
    """
    if kind in (*SCORES, INTENSITIES) or values.dtype.kind not in "fb":
        return values
    return _class_indices(path, values)


def _mask_header(path: Path, kind: str) -> Header:
    from flipjax.data.images import read_mask_header

    with image_errors():
        header = read_mask_header(path)
    return Header((header.height, header.width), palette=header.palette)


def _read_mask(path: Path, kind: str) -> np.ndarray:
    from flipjax.data.images import read_mask

    with image_errors():
        return read_mask(path).astype(np.int32)


def read_photo(path: Path) -> np.ndarray:
    """Reads a photo uint8 (H, W, 3) as sweeps do: turned by EXIF, of 8 bits a channel, without transparent pixels."""
    from flipjax.data import images

    with naming(path), image_errors():
        return images.read_photo(path)


def check_photo(path: Path) -> None:
    """Raises BrokenFileError if `read_photo` refuses the photo by its header; reads no pixels."""
    from flipjax.data import images

    with image_errors():
        images.check_photo(path)


@contextlib.contextmanager
def image_errors() -> Iterator[None]:
    """Converts a BadFileError of `flipjax.data.images`, which names the file, to a BrokenFileError."""
    # Imported late: an audit without images needs no Pillow.
    from flipjax.data.images import BadFileError

    try:
        yield
    except BadFileError as error:
        raise BrokenFileError(str(error)) from error


@contextlib.contextmanager
def _opened_volume(path: Path) -> "Iterator[nibabel.Nifti1Image]":
    """Opens a NIfTI image without reading its values."""
    import nibabel  # pyright: ignore[reportMissingImports]

    if path.suffix.lower() == ".gz" and importlib.util.find_spec("isal") is not None:
        # Inflates in .6 of the time that Python's gzip takes.
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
            return _class_indices(path, np.asarray(voxels))
        assert isinstance(voxels, ArrayProxy)
        if not np.issubdtype(voxels.dtype, np.floating) and voxels.slope == 1:
            raise BrokenFileError(f"{path}: expected {kind} in floating point, found {voxels.dtype}")
        return np.asarray(voxels, np.float32)


def _class_indices(path: Path, values: np.ndarray) -> np.ndarray:
    """Returns whole values as int32; raises BrokenFileError if they are not whole, or too large."""
    if not _are_int32(values):
        raise BrokenFileError(f"{path}: expected class indices, found other values of {values.dtype}")
    return values.astype(np.int32)


def _are_int32(values: np.ndarray) -> bool:
    """Returns whether values are whole numbers that int32 holds."""
    if values.dtype.kind == "b":
        return True
    if values.dtype.kind in "iu":
        if values.dtype.itemsize < 4:
            return True
        return bool(values.min(initial=0) >= -(1 << 31) and values.max(initial=0) < 1 << 31)
    # Some tools store class indices as floating point.
    if values.dtype.kind != "f" or not (values == np.rint(values)).all():
        return False
    return bool(np.abs(values).max(initial=0) < 1 << 31)


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
    Format((".npy",), _npy_header, _read_npy, stacks=True),
    Format((".npz",), _npz_header, _read_npz, stacks=True),
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
    entries = [entry for entry in FORMATS if entry.scores or kind not in (*SCORES, INTENSITIES)]
    return tuple(suffix for entry in entries for suffix in entry.suffixes)


def read_header(path: Path, kind: str) -> Header:
    """Returns the header of a file's array, without reading the values; raises BrokenFileError if it is damaged."""
    with naming(path):
        return format_of(path).read_header(path, kind)


def read_values(path: Path, kind: str, shape: tuple[int, ...]) -> np.ndarray:
    """Reads the image of a file with one image, in the shape that `image_shape` returned."""
    return format_of(path).read_values(path, kind).reshape(shape)


def axes_of(shape: Sequence[int], path: Path, kind: str) -> int:
    """Returns the number of axes of space of a file's array: 2 of an image, 3 of a volume.

    An array that a model saved as a batch of one has a first axis of length 1, which does not count. NIfTI files always
    hold volumes.

    Example:
        >>> axes_of((1, 6, 7), Path("a.npy"), "labels"), axes_of((5, 6, 7), Path("a.npy"), "masks")
        (2, 3)
        >>> axes_of((6, 7, 3), Path("a.npy"), "logits"), axes_of((1, 6, 7), Path("a.nii"), "labels")
        (2, 3)
    """
    if format_of(path).volumes:
        return 3
    axes = len(shape) - (kind in SCORES)
    if axes > 2 and shape[0] == 1:
        return axes - 1
    return axes


def image_shape(path: Path, header: Header, kind: str, axes: int) -> tuple[int, ...]:
    """Returns the shape of the image of a file with one image, without the axes of length 1 that its format adds.

    Args:
        path: the file.
        header: of the file.
        kind: of the array.
        axes: of space, 2 or 3.

    Raises:
        BrokenFileError: another number of axes, or an empty array.
    """
    rank = axes + (kind in SCORES)
    shape = _without_added_axes(path, header, rank)
    if len(shape) != rank or 0 in shape:
        one = "volume" if axes == 3 else "image"
        text = f"{path}: expected {kind} of one {one}, an array of {rank} axes, found {header.shape}"
        raise BrokenFileError(text + _other_kind(kind, axes, len(shape)))
    return shape


def _without_added_axes(path: Path, header: Header, rank: int) -> tuple[int, ...]:
    """Returns the shape of an array of `rank` axes, without the axes of length 1 that its format adds."""
    shape = tuple(header.shape)
    if format_of(path).volumes:
        return _without_axes_of_volume(shape, rank)
    if format_of(path).stacks and len(shape) == rank + 1:
        if shape[0] == 1:
            # A batch of one.
            return shape[1:]
        if header.array_name in NNUNET_ARRAYS and rank == 3 and shape[1] == 1:
            # nnU-Net's scores of a photo, (C, 1, H, W).
            return (shape[0], *shape[2:])
    return shape


def _without_axes_of_volume(shape: tuple[int, ...], rank: int) -> tuple[int, ...]:
    """Returns the shape of a NIfTI array of `rank` axes, without axes of length 1 after the axes of space or first."""
    while len(shape) > max(rank, 3) and shape[3] == 1:
        shape = (*shape[:3], *shape[4:])
    if len(shape) == rank + 1 and shape[0] == 1:
        return shape[1:]
    return shape


def _other_kind(kind: str, axes: int, rank: int) -> str:
    """Returns advice on --kind if an array of `rank` axes looks like another kind, else an empty text."""
    if kind in SCORES and rank == axes:
        return "; for class indices pass --kind masks"
    if kind == "masks" and rank == axes + 1:
        return "; for scores pass --kind logits or --kind probabilities"
    return ""
