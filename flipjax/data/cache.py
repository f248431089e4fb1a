"""Prepared pools on disk, keyed by the content of the files they were made from."""

import hashlib
import sys
from functools import partial
from pathlib import Path

import numpy as np

from flipjax.data.folder.listing import Item, Listing
from flipjax.data.prepare import Arrays, in_threads
from flipjax.files import cache_folder, replacing

VERSION = 1
"""Raise it when `prepare` makes other pixels of the same files."""


def default_folder() -> Path:
    """Returns ~/.cache/flipjax/pools, or its like under XDG_CACHE_HOME."""
    return cache_folder() / "pools"


def content_key(listing: Listing, *, size: int) -> str:
    """Returns 32 hex digits of the SHA-256 of the names, classes and bytes of all files, the size and the version."""
    total = hashlib.sha256(f"{VERSION} {listing.kind} {size}\n".encode())
    items = listing.objects + listing.scenes
    for item, digest in zip(items, in_threads(partial(_digest, listing.root), items, verb="hashed"), strict=True):
        total.update(f"{item.path}\0{item.mask}\0{item.y}\0{item.scene}\0{digest}\n".encode())
    return total.hexdigest()[:32]


def read(path: Path, listing: Listing, *, size: int) -> Arrays | None:
    """Returns the arrays of a cache file; None where there is none, or, with a line on stderr, where it is damaged."""
    try:
        with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
            arrays = Arrays(**{name: file[name] for name in Arrays._fields})
        n, s = len(listing.objects), len(listing.scenes)
        shapes = [(n, size, size, 3), (n, size, size), (n,), (s, size, size, 3)]
        if [array.shape for array in arrays] != shapes or any(array.dtype != np.uint8 for array in arrays):
            raise ValueError("other shapes than expected")
        return arrays
    except FileNotFoundError:
        return None
    except Exception as error:  # A damaged archive fails in zipfile, in zlib or in NumPy, each in its own way.
        print(f"pool: warning: the prepared pool {path} is damaged ({error}); making it again", file=sys.stderr)
        return None


def write(path: Path, arrays: Arrays) -> None:
    """Writes a cache file whole or not at all; a folder that cannot be written to costs a line on stderr, no more."""
    try:
        with replacing(path) as stream:
            np.savez(stream, allow_pickle=False, **arrays._asdict())
    except OSError as error:
        print(f"pool: warning: the prepared pool is not kept ({error})", file=sys.stderr)


def _digest(root: Path, item: Item) -> str:
    names = [name for name in (item.path, item.mask) if name]
    try:
        return "".join(hashlib.sha256((root / name).read_bytes()).hexdigest() for name in names)
    except OSError:
        # `prepare` meets the same file and says what is wrong.
        return "unreadable"
