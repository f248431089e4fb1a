"""Files that appear whole or not at all, what damaged ones raise, and the folder of those that can be made again."""

import contextlib
import os
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, tokenize.TokenError)
"""What reading a truncated or altered npz file raises, beside ValueError and OSError."""


def cache_folder() -> Path:
    """Returns ~/.cache/flipjax, or its like under XDG_CACHE_HOME."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "flipjax"


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[BinaryIO]:
    """Opens a temporary file beside `path` and moves it there at the end: readers see the old file or the new one."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with partial.open("wb") as stream:
            yield stream
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def make_folder(path: str | Path) -> None:
    """Makes a folder unless it is there, and writes a file there for a try: raises OSError before any work is lost."""
    probe = Path(path) / ".probe"
    probe.parent.mkdir(parents=True, exist_ok=True)
    with replacing(probe):
        pass
    probe.unlink()
