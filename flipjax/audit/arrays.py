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
"""Arrays of an npz that are never read in place of another one."""
SCORES = ("logits", "probabilities")
"""Kinds of arrays with an axis of classes beside those of space; the others hold class indices."""
INTENSITIES = "images"
"""Kind of volumes that a model sees: any numbers."""
NNUNET_ARRAYS = ("probabilities", "softmax")
"""Names of the array in an npz of nnU-Net, (C, Z, Y, X)."""
MOST_BYTES = 1 << 32
"""Limit on the bytes of all confusion matrices."""
MILLIMETRES = {"mm": 1.0, "meter": 1e3, "micron": 1e-3, "unknown": 1.0}
"""Millimetres of a NIfTI header's units of length; most programs leave them unknown and mean millimetres."""
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
"""Readers of an array's header, by its version. Later ones are of records alone."""


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
        """Returns the classes of the array's values, which raises as `LabelMap.apply`."""
        if self.label_map is None:
            return values
        return self.label_map.apply(values, source=self, ignore_index=ignore_index)

    def transposed(self, order: Sequence[int]) -> "StoredArray":
        """Returns the array with its axes in this order."""
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
    """Place in the scanner, float64 (4, 4), likewise."""
    palette: bytes = b""
    """Red, green and blue of each index of a PNG with a palette."""
    array_name: str = ""
    """Name of the array in an npz."""


def check_folder(folder: Path, allowed: Collection[str]) -> None:
    """Raises AuditError for an output folder with other files than those of an earlier call, or of a running one."""
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
            with (
                zipfile.ZipFile(path) as archive,
                tempfile.TemporaryDirectory(prefix="flipjax-audit-", ignore_cleanup_errors=True) as folder,
            ):
                unpacked = archive.extract(array_name(path, archive, kind) + SUFFIX, folder)
                # An open array outlives its file.
                values = np.load(unpacked, mmap_mode="r", allow_pickle=False)
                if NAMES in archive.namelist():
                    with archive.open(NAMES) as stream:
                        names = np.lib.format.read_array(stream, allow_pickle=False)
                    self.names = tuple(map(str, names))
        _check_dtype(path, values.dtype, kind)
        self.values = np.asarray(values)
        """The array, which stays in the file."""
        self._path = path
        self._kind = kind

    def row(self, index: int) -> np.ndarray:
        """Reads an image."""
        return _integers(self._path, np.array(self.values[index]), self._kind)


def array_name(path: Path, archive: zipfile.ZipFile, kind: str) -> str:
    """Returns the name of the array of this kind in an npz: the kind, or that of the only array beside other kinds."""
    names = [name.removesuffix(SUFFIX) for name in archive.namelist()]
    if kind in names:
        return kind
    candidates = [name for name in names if name not in RESERVED]
    if len(candidates) != 1:
        raise BrokenFileError(f"{path}: expected an array named {kind}, or one alone, found {listed(names)}")
    return candidates[0]


def _check_dtype(path: Path, dtype: np.dtype, kind: str) -> None:
    """Raises AuditError for scores that are no floating point."""
    if kind in SCORES and dtype.kind != "f":
        problem = f"expected {kind} in floating point, found {dtype}; for class indices pass --kind masks"
        raise AuditError(f"{path}: {problem}")


def _npy_header(path: Path, kind: str) -> Header:
    return Header(Stack(path, kind).values.shape)


def _read_npy(path: Path, kind: str) -> np.ndarray:
    return _integers(path, np.load(path, allow_pickle=False), kind)


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
        return _integers(path, np.lib.format.read_array(stream, allow_pickle=False), kind)


def _integers(path: Path, values: np.ndarray, kind: str) -> np.ndarray:
    """Returns class indices that were stored as floats or bool as int32, and all other values as they are."""
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
    """Raises BrokenFileError, without reading pixels, for a photo that `read_photo` refuses by its header."""
    from flipjax.data import images

    with image_errors():
        images.check_photo(path)


@contextlib.contextmanager
def image_errors() -> Iterator[None]:
    """Converts errors of the pools' reader of images, which name the file, to a BrokenFileError."""
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

    # Read as it is stored: nibabel's images take 1 for a voxel size of 0.
    with ImageOpener(str(path)) as file:
        header = Nifti1Header.from_fileobj(file, check=False)
    unit = MILLIMETRES.get(str(header.get_xyzt_units()[0]), 1.0)
    spacing = tuple(abs(float(size)) * unit for size in header["pixdim"][1:4])
    if not all(0 < size < math.inf for size in spacing):
        raise BrokenFileError(f"{path}: expected voxel sizes above 0 mm in its header, found {spacing}")
    with _opened_volume(path) as volume:
        return Header(volume.shape, spacing, np.asarray(volume.affine))


def _read_volume(path: Path, kind: str) -> np.ndarray:
    """Reads the values of a NIfTI volume: what a model sees, scores, or class indices."""
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
    """Returns the values of a volume as int32; raises BrokenFileError if they are no class indices."""
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
    """A type of files with arrays. Its functions take the file and the kind of the array."""

    suffixes: tuple[str, ...]
    """Lower-case suffixes of its files."""
    read_header: Callable[[Path, str], Header]
    """Returns the stored shape, and what else the format says, without reading the values."""
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
"""The formats that an audit reads. A new one of one image or volume a file is an entry here; `Stack` reads stacks."""


def format_of(path: Path) -> Format:
    """Returns the format that a file's suffix names; raises BrokenFileError for another one."""
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
    """Returns what is known of a file's array before its values are read; raises BrokenFileError for a damaged one."""
    with naming(path):
        return format_of(path).read_header(path, kind)


def read_values(path: Path, kind: str, shape: tuple[int, ...]) -> np.ndarray:
    """Reads the one image of a file, which has this shape."""
    return format_of(path).read_values(path, kind).reshape(shape)


def axes_of(shape: Sequence[int], path: Path, kind: str) -> int:
    """Returns the axes of space of the stored shape of a file: 2 of an image, 3 of a volume.

    A batch of one, which models often save, has one more axis; NIfTI files hold volumes.

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
    """Returns the shape of the one image of a file, without axes of length 1 that are none of its own.

    Axes of length 1 may stand before it, in NIfTI files after the axes of space; nnU-Net's images have one of depth.

    Args:
        path: the file.
        header: of the file.
        kind: of the array.
        axes: of space, 2 or 3.

    Raises:
        BrokenFileError: another number of axes, or an empty array.
    """
    rank = axes + (kind in SCORES)
    shape = tuple(header.shape)
    if format_of(path).volumes:
        while len(shape) > max(rank, 3) and shape[3] == 1:
            shape = (*shape[:3], *shape[4:])
        if len(shape) == rank + 1 and shape[0] == 1:
            shape = shape[1:]
    elif format_of(path).stacks and len(shape) == rank + 1 and shape[0] == 1:
        shape = shape[1:]
    elif header.array_name in NNUNET_ARRAYS and rank == 3 and len(shape) == 4 and shape[1] == 1:
        shape = (shape[0], *shape[2:])
    if len(shape) != rank or 0 in shape:
        one = "volume" if axes == 3 else "image"
        text = f"{path}: expected {kind} of one {one}, an array of {rank} axes, found {header.shape}"
        raise BrokenFileError(text + _other_kind(kind, axes, len(shape)))
    return shape


def _other_kind(kind: str, axes: int, rank: int) -> str:
    """Returns which --kind an array of `rank` axes may have, if it is not the one that is named."""
    if kind in SCORES and rank == axes:
        return "; for class indices pass --kind masks"
    if kind == "masks" and rank == axes + 1:
        return "; for scores pass --kind logits or --kind probabilities"
    return ""
