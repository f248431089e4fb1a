"""Reads npy and npz files, of one image each or of all images (`Stack`). Pickles are refused."""

import tempfile
import zipfile
from pathlib import Path

import numpy as np

from flipjax.audit.formats.arrays import Header, check_dtype, convert_indices
from flipjax.audit.formats.names import suffix_of
from flipjax.audit.formats.problems import BrokenFileError
from flipjax.support.terminal import listed

SUFFIX = ".npy"
"""Ending of the name of an array in an npz."""
NAMES = f"names{SUFFIX}"
"""The array of an npz that names its images."""
RESERVED = ("logits", "probabilities", "masks", "labels", "groups", "names", "images")
"""Names of an npz that mean another kind of array, and so are never read for want of one with the right name."""
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
"""Readers of an array's header, by its version. Only arrays of records have a later version."""


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
        check_dtype(path, values.dtype, kind)
        self.values = np.asarray(values)
        """The array, which stays in the file."""
        self._path = path
        self._kind = kind

    def row(self, index: int) -> np.ndarray:
        """Reads an image."""
        return convert_indices(self._path, np.array(self.values[index]), self._kind)


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


def npy_header(path: Path, kind: str) -> Header:
    """Reads the shape of the array of an npy."""
    return Header(Stack(path, kind).values.shape)


def read_npy(path: Path, kind: str) -> np.ndarray:
    """Reads the array of an npy."""
    return convert_indices(path, np.load(path, allow_pickle=False), kind)


def npz_header(path: Path, kind: str) -> Header:
    """Reads the shape and the name of the array of this kind in an npz."""
    with zipfile.ZipFile(path) as archive:
        name = array_name(path, archive, kind)
        with archive.open(name + SUFFIX) as stream:
            version = np.lib.format.read_magic(stream)
            shape, _, dtype = HEADERS[version](stream)
    check_dtype(path, dtype, kind)
    return Header(shape, array_name=name)


def read_npz(path: Path, kind: str) -> np.ndarray:
    """Reads the array of this kind in an npz."""
    with zipfile.ZipFile(path) as archive, archive.open(array_name(path, archive, kind) + SUFFIX) as stream:
        return convert_indices(path, np.lib.format.read_array(stream, allow_pickle=False), kind)
