"""Reads one stored array: npy, npz, PNG and NIfTI. Headers are read first, values later, one array at a time.

Pickles are refused. `sources` finds the files of an argument; `coco` reads COCO's JSON.
"""

import contextlib
import dataclasses
import functools
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
    from PIL import Image

SUFFIX = ".npy"
"""Ending of the name of an array in an npz."""
NAMES = f"names{SUFFIX}"
"""The array of an npz that names its images."""
MASK_MODES = ("P", "L", "I;16", "I", "1")
"""Modes of PNG masks. Those of 16 bits have I;16, or I from older Pillow versions; 1 is black and white."""
ORIENTATION = 274
"""EXIF tag of the orientation."""
RESERVED = ("logits", "probabilities", "masks", "labels", "groups", "names", "images")
"""Arrays of an npz that are never read in place of another one."""
SCORES = ("logits", "probabilities")
"""Kinds of arrays with an axis of classes beside those of space; the others hold class indices."""
INTENSITIES = "images"
"""Kind of volumes that a model sees: any numbers."""
MAX_BYTES = 1 << 32
"""Default limit on the bytes of an image's values, of an unpacked npz, and of the confusion matrices."""
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


@dataclasses.dataclass(frozen=True)
class ImageHeader:
    """What the header of a file with one image says."""

    shape: tuple[int, ...]
    """The stored shape."""
    spacing: tuple[float, ...] | None = None
    """Distance of voxels in mm along each axis; None if the format has none."""
    affine: np.ndarray | None = None
    """Place in the scanner, float64 (4, 4), likewise."""


def check_folder(folder: Path, allowed: Collection[str]) -> None:
    """Raises AuditError for an output folder with other files than those of an earlier call, or of a running one."""
    if not folder.exists():
        return
    names = {path.name for path in folder.iterdir() if path.suffix != ".tmp"}
    if names - {*allowed}:
        raise AuditError(f"--out: expected a new folder, or one that this command wrote; found other files in {folder}")


def check_size(source: object, size: int, most: int, *, error: type[AuditError] = AuditError) -> None:
    """Raises an error if a number of bytes exceeds its limit."""
    if size > most:
        raise error(f"{source}: expected at most {most:,} bytes, found {size:,} (--max_bytes sets the limit)")


class Stack:
    """An array of an npy or npz file, opened without reading it, and the array `names` of an npz, if any."""

    def __init__(self, path: Path, wanted: str, most: int):
        """Opens the file; an npz is unpacked, to at most `most` bytes."""
        self._arguments = (path, wanted, most)
        self.names: tuple[str, ...] | None = None
        """The images' names, if they are stored."""
        opened = functools.partial(np.load, mmap_mode="r", allow_pickle=False)
        if suffix_of(path) == ".npy":
            values = opened(path)
        else:
            with (
                zipfile.ZipFile(path) as archive,
                tempfile.TemporaryDirectory(prefix="flipjax-audit-", ignore_cleanup_errors=True) as folder,
            ):
                # An open array outlives its file.
                values = opened(archive.extract(_member(path, archive, wanted, most), folder))
                if NAMES in archive.namelist():
                    with archive.open(NAMES) as stream:
                        names = np.lib.format.read_array(stream, allow_pickle=False)
                    self.names = tuple(map(str, names))
        _check_kind(path, values.dtype, wanted)
        self.values = np.asarray(values)
        """The array, which stays in the file."""

    def __reduce__(self) -> "tuple[type[Stack], tuple[Path, str, int]]":
        """Lets another process open the file, in place of sending it the values."""
        return Stack, self._arguments

    def row(self, index: int) -> np.ndarray:
        """Reads an image."""
        return np.array(self.values[index])


def _member(path: Path, archive: zipfile.ZipFile, wanted: str, most: int) -> str:
    """Returns the name of the file of the wanted array in an npz."""
    unpacked = sum(entry.file_size for entry in archive.infolist())
    check_size(path, unpacked, most, error=BrokenFileError)
    names = [name.removesuffix(SUFFIX) for name in archive.namelist()]
    if wanted in names:
        return wanted + SUFFIX
    candidates = [name for name in names if name not in RESERVED]
    if len(candidates) != 1:
        raise BrokenFileError(f"{path}: expected an array named {wanted}, or one alone, found {listed(names)}")
    return candidates[0] + SUFFIX


def _check_kind(path: Path, dtype: np.dtype, wanted: str) -> None:
    if wanted in SCORES and dtype.kind != "f":
        problem = f"expected {wanted} in floating point, found {dtype}; for class indices pass --kind masks"
        raise AuditError(f"{path}: {problem}")


def read_header(path: Path, wanted: str, most: int) -> ImageHeader:
    """Returns what the header of a file says, with the stored shape."""
    with naming(path):
        return format_of(path).read_header(path, wanted, most)


def axes_of(shape: Sequence[int], path: Path, wanted: str) -> int:
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
    axes = len(shape) - (wanted in SCORES)
    if axes > 2 and shape[0] == 1:
        return axes - 1
    return axes


def image_shape(path: Path, shape: Sequence[int], wanted: str, axes: int, most: int) -> tuple[int, ...]:
    """Returns the shape of the one image of a file, from its stored shape.

    Args:
        path: the file.
        shape: as stored; axes of length 1 may stand before it, or in NIfTI files after the axes of space.
        wanted: kind of the array.
        axes: of space, 2 or 3.
        most: bytes of the values in float32 or int32.

    Raises:
        BrokenFileError: another number of axes, an empty array, or one that is too large.
    """
    rank = axes + (wanted in SCORES)
    of_image = tuple(shape)
    if format_of(path).volumes:
        while len(of_image) > max(rank, 3) and of_image[3] == 1:
            of_image = (*of_image[:3], *of_image[4:])
    elif format_of(path).stacks and len(of_image) == rank + 1 and of_image[0] == 1:
        of_image = of_image[1:]
    if len(of_image) != rank or 0 in of_image:
        one = "volume" if axes == 3 else "image"
        text = f"{path}: expected {wanted} of one {one}, an array of {rank} axes, found {tuple(shape)}"
        raise BrokenFileError(text + _other_kind(wanted, axes, len(of_image)))
    check_size(path, 4 * math.prod(of_image), most, error=BrokenFileError)
    return of_image


def _other_kind(wanted: str, axes: int, rank: int) -> str:
    """Returns which --kind an array of `rank` axes may have, if it is not the wanted one."""
    if wanted in SCORES and rank == axes:
        return "; for class indices pass --kind masks"
    if wanted == "masks" and rank == axes + 1:
        return "; for scores pass --kind logits or --kind probabilities"
    return ""


def read_image(path: Path, wanted: str, most: int, shape: tuple[int, ...]) -> np.ndarray:
    """Reads the one image of a file, which has this shape."""
    return format_of(path).read_values(path, wanted, most).reshape(shape)


def _npy_header(path: Path, wanted: str, most: int) -> ImageHeader:
    return ImageHeader(Stack(path, wanted, most).values.shape)


def _npz_header(path: Path, wanted: str, most: int) -> ImageHeader:
    with zipfile.ZipFile(path) as archive, archive.open(_member(path, archive, wanted, most)) as stream:
        version = np.lib.format.read_magic(stream)
        shape, _, dtype = HEADERS[version](stream)
    _check_kind(path, dtype, wanted)
    return ImageHeader(shape)


def _read_stack(path: Path, wanted: str, most: int) -> np.ndarray:
    return np.array(Stack(path, wanted, most).values)


def _png_header(path: Path, wanted: str, most: int) -> ImageHeader:
    with open_png(path, MASK_MODES) as image:
        return ImageHeader((image.height, image.width))


def _read_mask(path: Path, wanted: str, most: int) -> np.ndarray:
    return read_png(path, MASK_MODES)


@contextlib.contextmanager
def open_png(path: Path, modes: Sequence[str]) -> "Iterator[Image.Image]":
    """Opens a PNG of one of these modes; its size is known without reading the pixels."""
    from PIL import Image

    with Image.open(path, formats=["PNG"]) as image:
        frames = getattr(image, "n_frames", 1)
        if image.mode not in modes or frames > 1:
            expected = f"one mask in a PNG of mode {', '.join(modes)}"
            raise BrokenFileError(f"{path}: expected {expected}, found mode {image.mode} and {frames} frames")
        yield image


def read_png(path: Path, modes: Sequence[str]) -> np.ndarray:
    """Reads the values of a PNG, int32 (H, W), or (H, W, 3) of mode RGB."""
    with open_png(path, modes) as image:
        image.verify()  # Pillow checks checksums only here.
    with open_png(path, modes) as image:
        orientation = image.getexif().get(ORIENTATION, 1)
        if orientation != 1:
            # Viewers apply it, but programs that read pixels do not.
            raise BrokenFileError(f"{path}: expected a mask that EXIF does not turn, found orientation {orientation}")
        return np.asarray(image).astype(np.int32)


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


def _volume_header(path: Path, wanted: str, most: int) -> ImageHeader:
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
        return ImageHeader(volume.shape, spacing, np.asarray(volume.affine))


def _read_volume(path: Path, wanted: str, most: int) -> np.ndarray:
    """Reads the values of a NIfTI volume: what a model sees, scores, or class indices."""
    from nibabel.arrayproxy import ArrayProxy  # pyright: ignore[reportMissingImports]

    with _opened_volume(path) as volume:
        stored = volume.dataobj
        if wanted == INTENSITIES:
            return np.asarray(stored, np.float32)
        if wanted not in SCORES:
            return _class_indices(path, np.asarray(stored))
        assert isinstance(stored, ArrayProxy)
        if not np.issubdtype(stored.dtype, np.floating) and stored.slope == 1:
            raise BrokenFileError(f"{path}: expected {wanted} in floating point, found {stored.dtype}")
        return np.asarray(stored, np.float32)


def _class_indices(path: Path, values: np.ndarray) -> np.ndarray:
    """Returns the values of a volume as int32; raises BrokenFileError if they are no class indices."""
    if not _are_int32(values):
        raise BrokenFileError(f"{path}: expected class indices, found other values of {values.dtype}")
    return values.astype(np.int32)


def _are_int32(values: np.ndarray) -> bool:
    """Returns whether values are whole numbers that int32 holds."""
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
    """A type of files with arrays. Its functions take the file, the kind of array wanted and the most bytes."""

    suffixes: tuple[str, ...]
    """Lower-case suffixes of its files."""
    read_header: Callable[[Path, str, int], ImageHeader]
    """Returns the stored shape, and the spacing if the format has one, without reading the values."""
    read_values: Callable[[Path, str, int], np.ndarray]
    """Returns the stored values."""
    scores: bool = True
    """Whether it may hold logits, probabilities and intensities, rather than class indices alone."""
    stacks: bool = False
    """Whether one file may hold several images."""
    volumes: bool = False
    """Whether every file is a volume."""


FORMATS = (
    Format((".npy",), _npy_header, _read_stack, stacks=True),
    Format((".npz",), _npz_header, _read_stack, stacks=True),
    Format((".png",), _png_header, _read_mask, scores=False),
    Format((".nii", ".nii.gz"), _volume_header, _read_volume, volumes=True),
)
"""The formats that an audit reads. A new one of one image or volume a file is an entry here; `Stack` reads stacks."""


def format_of(path: Path) -> Format:
    """Returns the format that a file's suffix names; raises BrokenFileError for another one."""
    for entry in FORMATS:
        if suffix_of(path) in entry.suffixes:
            return entry
    raise BrokenFileError(f"{path}: expected a file of type {' '.join(suffixes_of('labels'))}")


def suffixes_of(wanted: str) -> tuple[str, ...]:
    """Returns the suffixes of files that may hold the wanted kind of array.

    Example:
        >>> suffixes_of("logits"), suffixes_of("masks")
        (('.npy', '.npz', '.nii', '.nii.gz'), ('.npy', '.npz', '.png', '.nii', '.nii.gz'))
    """
    entries = [entry for entry in FORMATS if entry.scores or wanted not in (*SCORES, INTENSITIES)]
    return tuple(suffix for entry in entries for suffix in entry.suffixes)


def read_photo(path: Path) -> np.ndarray:
    """Reads a photo uint8 (H, W, 3)."""
    from PIL import Image

    with naming(path), Image.open(path, formats=["PNG", "JPEG"]) as image:
        return np.asarray(image.convert("RGB"))
