"""Arrays in files, known by their headers and read an image at a time: npy, the members of npz, PNG masks.

Nothing is memory-mapped: mapped pages count as memory in use. Nothing is unpickled.
"""

import contextlib
import math
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from flipjax.files import DAMAGED

# 16-bit PNGs have mode I;16, or I from older Pillow versions; 1 is black and white.
MASK_MODES = ("P", "L", "I;16", "I", "1")
_DAMAGED = (*DAMAGED, Image.DecompressionBombError, UnidentifiedImageError, SyntaxError)
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


class AuditError(ValueError):
    """An input that cannot be used: which one, what was expected and what was found."""


class Array(NamedTuple):
    """An array in a file: `member` is its name in an npz; `start` is where its values begin in the stream."""

    path: Path
    member: str
    shape: tuple[int, ...]
    dtype: np.dtype
    fortran: bool = False
    start: int = 0

    def __str__(self) -> str:
        """The file, and the member of an npz."""
        return f"{self.path}[{self.member}]" if self.member else str(self.path)


def read_npy(path: Path) -> Array:
    """Reads the header of an npy file.

    Raises:
        AuditError: not an npy file, pickled, or shorter than its header says.
    """
    with _readable(str(path)), path.open("rb") as stream:
        return _header(stream, path, "", path.stat().st_size)


def read_npz(path: Path) -> dict[str, Array]:
    """Reads the headers of all members of an npz file, in the order of the file.

    Raises:
        AuditError: not an npz file, or a member is pickled or shorter than its header says.
    """
    found = {}
    with _readable(str(path)), zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            if not entry.filename.endswith(".npy"):
                raise AuditError(f"{path}: expected arrays as np.savez writes them, found {entry.filename!r} inside")
            name = entry.filename.removesuffix(".npy")
            with archive.open(entry) as stream:
                found[name] = _header(stream, path, name, entry.file_size)
    return found


def read_mask(path: Path) -> Array:
    """Reads the header of a PNG mask of class indices.

    Raises:
        AuditError: not a PNG, or one whose pixels are colours.
    """
    with _readable(str(path)), Image.open(path, formats=["PNG"]) as image:
        if image.mode not in MASK_MODES:
            raise AuditError(
                f"{path}: expected a mask of class indices (PNG mode {', '.join(MASK_MODES)}), found a picture of mode "
                f"{image.mode}; turn its colours into class indices first"
            )
        return Array(path, "", (image.height, image.width), np.dtype(np.int32))


def _header(stream: IO[bytes], path: Path, member: str, size: int) -> Array:
    name = f"{path}[{member}]" if member else str(path)
    try:
        version = np.lib.format.read_magic(stream)
        shape, fortran, dtype = _HEADERS[version](stream)
    except (ValueError, KeyError):
        raise AuditError(f"{name}: expected an array as np.save writes it, found something else") from None
    if dtype.hasobject:
        raise AuditError(
            f"{name}: holds pickled Python objects, which are never loaded (allow_pickle=False); save one numeric array"
        )
    if dtype.kind == "V":
        raise AuditError(f"{name}: expected numbers, found dtype {dtype} (bfloat16, perhaps); save it as float32")
    array = Array(path, member, shape, dtype, fortran, stream.tell())
    if size < array.start + math.prod(shape) * dtype.itemsize:
        raise AuditError(f"{name}: truncated: {size} bytes, too few for its {dtype} values of shape {shape}")
    return array


@contextlib.contextmanager
def _readable(name: str) -> Iterator[None]:
    """Says which file it was that could not be read."""
    try:
        yield
    except _DAMAGED as error:
        raise AuditError(f"{name}: damaged, truncated or of another type than its name says ({error})") from error
    except OSError as error:
        raise AuditError(f"{name}: cannot be read ({error.strerror or error})") from error


class Reader:
    """Reads arrays. The last two files stay open: so stacks are read, or decompressed, once from front to back."""

    def __init__(self) -> None:
        """Opens nothing yet."""
        self._open: dict[tuple[Path, str], tuple[IO[bytes], contextlib.ExitStack]] = {}

    def __enter__(self) -> "Reader":
        """Returns the reader."""
        return self

    def __exit__(self, *error: object) -> None:
        """Closes what is open."""
        for _, files in self._open.values():
            files.close()

    def read(self, array: Array, row: int | None = None) -> np.ndarray:
        """Returns an array, or one row of it, in its own dtype and native byte order.

        Raises:
            AuditError: the file is damaged or gone.
        """
        name = str(array) if row is None else f"{array} row {row}"
        with _readable(name):
            if array.path.suffix.lower() == ".png":
                with Image.open(array.path, formats=["PNG"]) as image:
                    return np.asarray(image).astype(np.int32)
            shape = array.shape if row is None else array.shape[1:]
            stream, size = self._at(array), math.prod(shape) * array.dtype.itemsize
            start = array.start + (row or 0) * size
            if stream.tell() != start:
                stream.seek(start)
            data = stream.read(size)
        if len(data) < size:
            raise AuditError(f"{name}: truncated while it was read")
        values = np.frombuffer(data, array.dtype).astype(array.dtype.newbyteorder("="), copy=False)
        return values.reshape(shape[::-1]).T if array.fortran else values.reshape(shape)

    def _at(self, array: Array) -> IO[bytes]:
        place = array.path, array.member
        if place not in self._open:
            if len(self._open) == 2:
                self._open.pop(next(iter(self._open)))[1].close()
            with contextlib.ExitStack() as files:
                if array.member:
                    archive = files.enter_context(zipfile.ZipFile(array.path))
                    stream: IO[bytes] = files.enter_context(archive.open(f"{array.member}.npy"))
                else:
                    stream = files.enter_context(array.path.open("rb"))
                self._open[place] = stream, files.pop_all()
        self._open[place] = self._open.pop(place)
        return self._open[place][0]
