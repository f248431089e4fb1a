"""Npz files with a digest of their arrays."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.lib.npyio import NpzFile

from flipjax.support.files import digest, naming_damage, replacing

DIGEST = "digest"
"""The array of a file that holds the digest of all others."""


@contextlib.contextmanager
def open_npz(path: str | Path) -> Iterator[NpzFile]:
    """Opens an npz file, whose arrays are read when they are asked for.

    Raises:
      DamagedError: it is no npz, or an array cannot be read or has another checksum.
      FileNotFoundError: there is no such file.
    """
    # Given a path, NumPy leaves a file open that is no npz.
    with naming_damage(path), Path(path).open("rb") as stream, np.load(stream, allow_pickle=False) as npz:
        yield npz


def write_arrays(path: str | Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes an npz file with the digest of its arrays; equal arrays give equal bytes."""
    with_digest = {**arrays, DIGEST: np.array(digest(arrays))}
    with replacing(path) as stream:
        np.savez_compressed(stream, allow_pickle=False, **with_digest)


def read_arrays(path: str | Path) -> dict[str, np.ndarray]:
    """Reads a file written by `write_arrays`.

    Raises:
      DamagedError: the arrays are not those written.
      FileNotFoundError: there is no such file.
    """
    with open_npz(path) as npz:
        arrays = dict(npz)
        if str(arrays.pop(DIGEST)) != digest(arrays):
            raise ValueError("its arrays are not those that were written")
        return arrays
