"""Arrays in files, known by their headers and read an image at a time: npy, the members of npz, PNG masks.

Nothing is unpickled. Files are mapped for the moment of a read: pages that stay mapped count as memory in use.
"""

import contextlib
import math
import shutil
import tempfile
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

import numpy as np

from flipjax.files import DAMAGED, check_archive

if TYPE_CHECKING:
    from PIL import Image

# 16-bit PNGs have mode I;16, or I from older Pillow versions; 1 is black and white.
MASK_MODES = ("P", "L", "I;16", "I", "1")
ORIENTATION = 274
"""The tag of EXIF that says how a picture is to be turned."""
_DAMAGED = (*DAMAGED, SyntaxError, ValueError, LookupError)
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


class AuditError(ValueError):
    """An input that cannot be used: which one, what was expected and what was found."""


class Limits(NamedTuple):
    """What inputs may take: pixels of an image, bytes of its scores in float32, and bytes that an npz unpacks to."""

    pixels: int = 1 << 26
    bytes: int = 1 << 29
    unpacked: int = 1 << 32


class Array(NamedTuple):
    """An array in a file; `member` is its name in an npz."""

    path: Path
    member: str
    shape: tuple[int, ...]
    dtype: np.dtype

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


def read_npz(path: Path, *, limits: Limits) -> dict[str, Array]:
    """Reads the headers of all members of an npz file, in the order of the file.

    Raises:
        AuditError: not an npz file, one that unpacks to more than is allowed, or a member that is pickled or shorter
            than its header says.
    """
    arrays = {}
    with _readable(str(path)), zipfile.ZipFile(path) as archive:
        check_archive(path, max_bytes=limits.unpacked, option="--max_unpacked")
        for entry in archive.infolist():
            if not entry.filename.endswith(".npy"):
                raise AuditError(f"{path}: expected arrays as np.savez writes them, found {entry.filename!r} inside")
            name = entry.filename.removesuffix(".npy")
            if name in arrays:
                raise AuditError(f"{path}: several arrays are called {name!r}")
            with archive.open(entry) as stream:
                arrays[name] = _header(stream, path, name, entry.file_size)
    return arrays


def read_mask(path: Path) -> Array:
    """Reads the header of a PNG mask of class indices.

    Raises:
        AuditError: not a PNG, an animated one, or one whose pixels are colours.
    """
    with _opened(path) as image:
        if image.mode not in MASK_MODES:
            raise AuditError(
                f"{path}: expected a mask of class indices (PNG mode {', '.join(MASK_MODES)}), found a picture of mode "
                f"{image.mode}; turn its colours into class indices first"
            )
        if getattr(image, "n_frames", 1) > 1:
            raise AuditError(f"{path}: expected one picture, found an animation")
        return Array(path, "", (image.height, image.width), np.dtype(np.int32))


def _header(stream: IO[bytes], path: Path, member: str, size: int) -> Array:
    name = f"{path}[{member}]" if member else str(path)
    try:
        version = np.lib.format.read_magic(stream)
        shape, _, dtype = _HEADERS[version](stream)
    except (ValueError, KeyError):
        raise AuditError(f"{name}: expected an array as np.save writes it, found something else") from None
    if dtype.hasobject:
        raise AuditError(
            f"{name}: holds pickled Python objects, which are never loaded (allow_pickle=False); save one numeric array"
        )
    if dtype.kind == "V":
        raise AuditError(f"{name}: expected numbers, found dtype {dtype} (bfloat16, perhaps); save it as float32")
    if min(shape, default=0) < 0 or size < stream.tell() + math.prod(shape) * dtype.itemsize:
        raise AuditError(f"{name}: truncated: {size} bytes, too few for its {dtype} values of shape {shape}")
    return Array(path, member, shape, dtype)


@contextlib.contextmanager
def _readable(name: str, *errors: type[Exception]) -> Iterator[None]:
    """Says which file it was that could not be read."""
    try:
        yield
    except AuditError:
        raise
    except (*_DAMAGED, *errors) as error:
        raise AuditError(f"{name}: damaged, truncated or of another type than its name says ({error})") from error
    except OSError as error:
        raise AuditError(f"{name}: cannot be read ({error.strerror or error})") from error


@contextlib.contextmanager
def _opened(path: Path) -> "Iterator[Image.Image]":
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise AuditError(f"{path}: a PNG mask needs Pillow: python -m pip install pillow") from error
    damaged = Image.DecompressionBombError, UnidentifiedImageError
    with _readable(str(path), *damaged), warnings.catch_warnings():
        # Sizes are checked against the limits, which can be set.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with Image.open(path, formats=["PNG"]) as image:
            yield image


class Reader:
    """Reads arrays. The last two npz files stay open, and a stack inside one is unpacked once, to a temporary file."""

    def __init__(self) -> None:
        """Opens nothing yet."""
        self._archives: dict[Path, np.lib.npyio.NpzFile] = {}
        self._stacks: dict[Array, Path] = {}
        self._closing = contextlib.ExitStack()

    def __enter__(self) -> "Reader":
        """Returns the reader."""
        self._folder = Path(self._closing.enter_context(tempfile.TemporaryDirectory(prefix="flipjax-audit-")))
        return self

    def __exit__(self, *error: object) -> None:
        """Closes what is open and removes what was unpacked."""
        for archive in self._archives.values():
            archive.close()
        self._closing.close()

    def read(self, array: Array, row: int | None = None) -> np.ndarray:
        """Returns an array, or one row of it, in its own dtype and native byte order.

        Raises:
            AuditError: the file is damaged or gone.
        """
        with _readable(str(array) if row is None else f"{array} row {row}"):
            if array.path.suffix.lower() == ".png":
                return _mask(array.path)
            if array.member and row is None:
                values = self._archive(array.path)[array.member]
            else:
                path = self._unpacked(array) if array.member else array.path
                stored = np.load(path, mmap_mode="r", allow_pickle=False)
                values = stored if row is None else stored[row]
            shape = array.shape if row is None else array.shape[1:]
            return np.array(values, array.dtype.newbyteorder("=")).reshape(shape)

    def _archive(self, path: Path) -> np.lib.npyio.NpzFile:
        archive = self._archives.pop(path, None) or np.load(path, allow_pickle=False)
        while len(self._archives) > 1:
            self._archives.pop(next(iter(self._archives))).close()
        self._archives[path] = archive
        return archive

    def _unpacked(self, array: Array) -> Path:
        if array not in self._stacks:
            target = self._folder / f"{len(self._stacks)}.npy"
            with (
                zipfile.ZipFile(array.path) as archive,
                archive.open(f"{array.member}.npy") as source,
                target.open("wb") as stream,
            ):
                shutil.copyfileobj(source, stream)
            self._stacks[array] = target
        return self._stacks[array]


def _mask(path: Path) -> np.ndarray:
    with _opened(path) as image:
        image.verify()  # Pillow compares checksums here alone.
    with _opened(path) as image:
        values = np.asarray(image).astype(np.int32)
        # Viewers turn such a picture, and programs that read its pixels do not.
        if image.getexif().get(ORIENTATION, 1) != 1:
            raise AuditError(f"{path}: expected a mask that EXIF does not turn; save it as it is meant")
        return values
