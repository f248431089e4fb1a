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

Place = tuple[slice, slice]
"""Rows and columns of an array (images, pixels, ...)."""


class Block(NamedTuple):
    """A piece of arrays that share their images and pixels."""

    place: Place
    """Its images and pixels."""
    new_part: Place
    """The part of it that is in no block before."""
    arrays: list[np.ndarray]
    """The piece of each array, (rows, 1, length, ...), of volumes (rows, 1, 1, length, ...); valid until the next
    block but one is cut."""


def cut(arrays: Sequence[np.ndarray], *, spatial_ndim: int, lead: int, width: int) -> Iterator[Block]:
    """Cuts arrays that share their leading and spatial axes into blocks of one shape.

    The last blocks of a row or column overlap those before. Labels of what overlaps, and of padding, are none that is
    counted, so each pixel is counted once.

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
    readers = [_BlockReader(array, (height, length), once=index > 0) for index, array in enumerate(flat)]
    ones = [1] * (spatial_ndim - 1)
    for row, column in itertools.product(range(0, images, height), range(0, pixels, length)):
        # The last block begins earlier, so that it is whole.
        first_row = max(0, min(row, images - height))
        first_column = max(0, min(column, pixels - length))
        rows = slice(first_row, min(first_row + height, images))
        columns = slice(first_column, min(first_column + length, pixels))
        new_part = (slice(row - first_row, None), slice(column - first_column, None))
        pieces = [reader.read((rows, columns), new_part) for reader in readers]
        shaped = [piece.reshape(height, *ones, length, *piece.shape[2:]) for piece in pieces]
        yield Block((rows, columns), new_part, shaped)


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
    """Reads blocks of an array (images, pixels, ...): its own memory where XLA reads that in place, or padded copies.

    With `once`, what is not new in a block is padding, too.
    """

    def __init__(self, array: np.ndarray, size: tuple[int, int], *, once: bool):
        """Makes two buffers that serve all copies in turn: fresh memory for each would cost more than the copy."""
        self._array = array
        self._once = once
        # JAX would copy and convert other types.
        self._dtype = jax.dtypes.canonicalize_dtype(array.dtype)
        self._shape = (*size, *array.shape[2:])
        self._buffers: list[np.ndarray] = []

    def read(self, place: Place, new_part: Place) -> np.ndarray:
        """Returns a block, (rows, length, ...)."""
        piece = self._array[place]
        rows, columns = new_part
        has_old = self._once and bool(rows.start or columns.start)
        is_whole = piece.shape == self._shape and piece.dtype == self._dtype and not has_old
        if is_whole and piece.flags.c_contiguous and piece.ctypes.data % LINE == 0:
            return piece
        copy = self._next_buffer()
        covered = copy[: len(piece), : piece.shape[1]]
        if covered.shape != copy.shape or has_old:
            padding = 0
            if self._dtype.kind in "iu":
                padding = np.iinfo(self._dtype).max
            copy[...] = padding
        if self._once:
            covered[new_part] = piece[new_part]
        else:
            covered[...] = piece
        return copy

    def _next_buffer(self) -> np.ndarray:
        """Returns the buffer that was not used last, which begins with a line of memory."""
        if len(self._buffers) < 2:
            size = math.prod(self._shape) * self._dtype.itemsize
            memory = np.empty(size + LINE, np.uint8)
            begin = -memory.ctypes.data % LINE
            self._buffers.append(memory[begin : begin + size].view(self._dtype).reshape(self._shape))
        self._buffers.reverse()
        return self._buffers[0]
