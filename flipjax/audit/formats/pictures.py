"""Reads masks and photos of Pillow's formats, such as PNG, for an audit. An audit of other files needs no Pillow."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from flipjax.audit.formats.arrays import Header
from flipjax.audit.formats.problems import BrokenFileError, naming


def read_mask_header(path: Path, kind: str) -> Header:
    """Returns the shape and the palette of a mask, without reading its pixels; pictures hold no other kind."""
    from flipjax.data.decoding import masks

    with picture_errors():
        header = masks.read_mask_header(path)
    return Header((header.height, header.width), palette=header.palette)


def read_mask(path: Path, kind: str) -> np.ndarray:
    """Reads the class indices of a mask, int32 (H, W)."""
    from flipjax.data.decoding import masks

    with picture_errors():
        return masks.read_mask(path).astype(np.int32)


def read_photo(path: Path) -> np.ndarray:
    """Reads a photo uint8 (H, W, 3) as sweeps do: turned by EXIF, of 8 bits a channel, without transparent pixels."""
    from flipjax.data.decoding import images

    with naming(path), picture_errors():
        return images.read_photo(path)


def check_photo(path: Path) -> None:
    """Raises BrokenFileError if `read_photo` refuses the photo by its header; reads no pixels."""
    from flipjax.data.decoding import images

    with picture_errors():
        images.check_photo(path)


@contextlib.contextmanager
def picture_errors() -> Iterator[None]:
    """Converts a BadFileError of `flipjax.data.decoding`, which names the file, to a BrokenFileError."""
    from flipjax.data.decoding.images import BadFileError

    try:
        yield
    except BadFileError as error:
        raise BrokenFileError(str(error)) from error
