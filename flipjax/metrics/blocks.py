"""Blocks of host arrays: pieces of one shape, so that one program serves arrays of any size."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np

FEW_SCORES = 1 << 19
"""Scores of a block of few images: 2 MiB of float32."""
MANY_SCORES = 1 << 20
"""Scores of a block where there are as many in all: 4 MiB of float32."""
SHORTEST = 1 << 10
"""Fewest pixels of a block."""
LINE = 64
"""Bytes of a line of memory; XLA:CPU copies a NumPy array that does not begin with one."""


class Block(NamedTuple):
    """A piece of arrays that share their images and pixels."""

    images: slice
    """Its images."""
    pixels: slice
    """Its pixels of each image."""
    arrays: list[np.ndarray]
    """The piece of each array, padded at the end: (height, 1, length, ...), of volumes (height, 1, 1, length, ...).
    Valid until the next block but one is cut."""


def cut(arrays: Sequence[np.ndarray], *, spatial_ndim: int, lead: int, width: int) -> Iterator[Block]:
    """Cuts arrays that share their leading and spatial axes into blocks of one shape.

    The last blocks are padded: scores with 0, labels with the largest integer, which is no class, so that padding is
    not counted.

    Args:
        arrays: (..., *spatial, ...), scores first, then labels.
        spatial_ndim: number of spatial axes.
        lead: number of leading axes; with none there is one image, and its blocks have one row.
        width: scores per pixel, which limit the pixels of a block.
    """
    shape = arrays[0].shape
    images = math.prod(shape[:lead])
    pixels = math.prod(shape[lead : lead + spatial_ndim])
    height, length = _size_of_block(images, pixels, width)
    if not lead:
        height = 1
    flat = [array.reshape(images, pixels, *array.shape[lead + spatial_ndim :]) for array in arrays]
    readers = [_BlockReader(array, height, length) for array in flat]
    ones = [1] * (spatial_ndim - 1)
    for row, column in itertools.product(range(0, images, height), range(0, pixels, length)):
        rows = slice(row, min(row + height, images))
        columns = slice(column, min(column + length, pixels))
        pieces = [reader.read(rows, columns) for reader in readers]
        yield Block(rows, columns, [piece.reshape(height, *ones, length, *piece.shape[2:]) for piece in pieces])


def _size_of_block(images: int, pixels: int, width: int) -> tuple[int, int]:
    """Returns the images of a block and the pixels of each, both powers of two, so that few shapes are compiled."""
    scores = FEW_SCORES
    if pixels * images * width >= MANY_SCORES:
        scores = MANY_SCORES
    pixels_of_block = max(SHORTEST, _power_below(scores // width))
    length = min(pixels_of_block, max(SHORTEST, _power_above(pixels)))
    return pixels_of_block // length, length


def _power_below(number: int) -> int:
    """Returns the largest power of two that is not above a number from 1 on."""
    return 1 << (number.bit_length() - 1)


def _power_above(number: int) -> int:
    """Returns the smallest power of two that is not below a number."""
    return 1 << (number - 1).bit_length()


class _BlockReader:
    """Reads blocks of an array (images, pixels, ...): the array itself where XLA reads that in place, or copies."""

    def __init__(self, array: np.ndarray, height: int, length: int):
        """Takes the images of a block and the pixels of each."""
        self._array = array
        # JAX would copy and convert other types.
        self._dtype = jax.dtypes.canonicalize_dtype(array.dtype)
        self._shape = (height, length, *array.shape[2:])
        # Two that serve all copies in turn: fresh memory for each would cost more than the copy.
        self._buffers: list[np.ndarray] = []

    def read(self, rows: slice, columns: slice) -> np.ndarray:
        """Returns a block, (height, length, ...)."""
        piece = self._array[rows, columns]
        is_whole = piece.shape == self._shape
        if is_whole and piece.dtype == self._dtype and piece.flags.c_contiguous and piece.ctypes.data % LINE == 0:
            return piece
        copy = self._next_buffer()
        if not is_whole:
            copy[...] = self._padding()
        copy[: piece.shape[0], : piece.shape[1]] = piece
        return copy

    def _padding(self) -> int:
        """Returns 0 of scores, and the largest integer of labels."""
        if self._dtype.kind in "iu":
            return int(np.iinfo(self._dtype).max)
        return 0

    def _next_buffer(self) -> np.ndarray:
        """Returns the buffer that was not used last, which begins with a line of memory."""
        if len(self._buffers) < 2:
            size = math.prod(self._shape) * self._dtype.itemsize
            memory = np.empty(size + LINE, np.uint8)
            begin = -memory.ctypes.data % LINE
            self._buffers.append(memory[begin : begin + size].view(self._dtype).reshape(self._shape))
        self._buffers.reverse()
        return self._buffers[0]
