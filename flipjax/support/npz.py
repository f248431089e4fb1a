"""Writes npz files, and reads them after a look at what their arrays take in memory.

A few bytes can unpack to gigabytes, and a header of a few bytes can ask for more memory than there is. So the sizes
that an archive declares are compared with that of the file, and each array's header with its declared size, before
anything is unpacked.
"""

import contextlib
import dataclasses
import io
import math
import os
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, BinaryIO

import numpy as np

from flipjax.support.files import check_regular, digest, naming_damage, replacing

DIGEST = "digest"
"""The array of a file that holds the digest of all others."""
UNPACKED = 8
"""Most bytes that a byte of an npz may unpack to."""
SMALL = 2**20
"""Bytes that any npz may unpack to, and the largest list of its arrays."""
SUFFIX = ".npy"
"""Ending of the name of an array in an npz."""
READERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
"""Readers of an array's header, by its version. Later ones are of records alone."""
COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""What NumPy writes. Others may take gigabytes to unpack a byte."""


@dataclasses.dataclass(frozen=True)
class NpyHeader:
    """What the header of an array says."""

    shape: tuple[int, ...]
    """The lengths of its axes."""
    dtype: np.dtype
    """The type of its values."""


class Npz:
    """An open npz file, whose arrays are read one at a time."""

    def __init__(self, archive: zipfile.ZipFile, size: int):
        """Takes an archive and the bytes of its file.

        Raises:
            ValueError: an array is compressed in another way than NumPy does.
        """
        entries = archive.infolist()
        for entry in entries:
            if entry.compress_type not in COMPRESSIONS:
                problem = f"expected what NumPy writes, found compression {entry.compress_type}"
                raise ValueError(f"{entry.filename}: {problem}")
        self.archive = archive
        self.size = size
        """Bytes of the file."""
        self.unpacked = sum(entry.file_size for entry in entries)
        """Bytes of all arrays."""
        self.names = tuple(entry.filename.removesuffix(SUFFIX) for entry in entries)
        """Names of the arrays, in order."""

    def __contains__(self, name: str) -> bool:
        """Whether there is an array of this name."""
        return name in self.names

    def header(self, name: str) -> NpyHeader:
        """Returns the header of an array, of which nothing else is read.

        Raises:
            KeyError: there is no such array.
            ValueError: its values take another number of bytes than the archive says.
        """
        with self.archive.open(name + SUFFIX) as stream:
            return self._header(name, stream)

    def read(self, name: str) -> np.ndarray:
        """Reads an array; raises as `header`, and ValueError for one of objects or with a wrong checksum."""
        self.header(name)
        with self.archive.open(name + SUFFIX) as stream:
            array = np.lib.format.read_array(stream, allow_pickle=False)
            # The checksum is compared at the end.
            stream.read(1)
        return array

    def _header(self, name: str, stream: IO[bytes]) -> NpyHeader:
        version = np.lib.format.read_magic(stream)
        if version not in READERS:
            raise ValueError(f"{name}: expected an array of version 1.0 or 2.0, found {version}")
        shape, _, dtype = READERS[version](stream)
        size = stream.tell() + math.prod(shape) * dtype.itemsize
        declared = self.archive.getinfo(name + SUFFIX).file_size
        if size != declared:
            raise ValueError(f"{name}: expected {declared:,} bytes, found a header of {size:,}")
        return NpyHeader(shape, dtype)


class _ShortReads(io.BufferedReader):
    """A file that refuses to read much at once, as `zipfile` would of a forged list of an archive's files."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Reads at most `SMALL` bytes; raises ValueError if there are more."""
        all_of_it = size is None or size < 0 or size > SMALL
        data = super().read(SMALL + 1 if all_of_it else size)
        if len(data) > SMALL:
            raise ValueError(f"expected a list of arrays of at most {SMALL:,} bytes")
        return data


@contextlib.contextmanager
def open_npz(path: str | Path) -> Iterator[Npz]:
    """Opens a file of `save_npz`, after a look at the sizes that its arrays unpack to.

    Raises:
        ValueError: they are larger than `save_npz` compresses, or it is no npz.
        OSError: there is no such file.
    """
    with open_any_npz(path) as stored:
        most = most_unpacked(stored.size)
        if stored.unpacked > most:
            raise ValueError(f"expected at most {most:,} bytes when unpacked, found {stored.unpacked:,}")
        yield stored


@contextlib.contextmanager
def open_any_npz(path: str | Path) -> Iterator[Npz]:
    """Opens an npz of anybody, whose arrays may be much larger than the file; raises as `open_npz`."""
    check_regular(Path(path))
    with Path(path).open("rb", buffering=0) as file, _ShortReads(file) as stream, _archive(stream) as archive:
        yield Npz(archive, os.fstat(file.fileno()).st_size)


def _archive(stream: BinaryIO) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(stream)
    except zipfile.BadZipFile as error:
        raise ValueError(f"expected an npz ({error})") from error


def most_unpacked(size: int) -> int:
    """Returns the most bytes that an npz of this size may unpack to."""
    return max(SMALL, UNPACKED * size)


def save_npz(stream: BinaryIO, arrays: Mapping[str, np.ndarray], *, least: int = 0) -> None:
    """Writes an npz, compressed unless `open_npz` would refuse it or it would have fewer than `least` bytes."""
    np.savez_compressed(stream, allow_pickle=False, **arrays)
    size = stream.tell()
    if size < least or sum(array.nbytes for array in arrays.values()) > most_unpacked(size):
        stream.seek(0)
        stream.truncate()
        np.savez(stream, allow_pickle=False, **arrays)


def write_arrays(path: str | Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes an npz file with the digest of its arrays; equal arrays give equal bytes."""
    with replacing(path) as stream:
        save_npz(stream, {**arrays, DIGEST: np.array(digest(arrays))})


def read_arrays(path: str | Path) -> dict[str, np.ndarray]:
    """Reads a file written by `write_arrays`.

    Raises:
      DamagedError: the arrays are not those written.
      FileNotFoundError: there is no such file.
    """
    with naming_damage(path), open_npz(path) as stored:
        arrays = {name: stored.read(name) for name in stored.names}
        if str(arrays.pop(DIGEST)) != digest(arrays):
            raise ValueError("its arrays are not those that were written")
        return arrays


def read_text_entry(path: Path, name: str) -> str:
    """Reads one text of an npz file; raises DamagedError if it cannot."""
    with naming_damage(path), open_npz(path) as stored:
        return str(stored.read(name))
