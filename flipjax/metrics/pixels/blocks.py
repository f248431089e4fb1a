"""Blocks of host arrays: pieces of one shape, so that one program serves arrays of any size."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np

SMALL_BLOCK = 1 << 19
"""Scores of a block where all images together have fewer than `LARGE_BLOCK`: 2 MiB of float32."""
LARGE_BLOCK = 1 << 20
"""Scores of a block where images have as many or more: 4 MiB of float32."""
FEWEST_PIXELS = 1 << 10
"""Fewest pixels of an image in a block."""
CACHE_LINE = 64
"""Bytes of a line of memory; XLA:CPU copies a NumPy array that does not begin with one."""


class Block(NamedTuple):
    """Some of the pixels of some of the images, from arrays that share both."""

    images: slice
    """The images of the block."""
    pixels: slice
    """The pixels of each of these images, in the order of the flat image."""
    arrays: list[np.ndarray]
    """The values of each array there, padded at the end to one shape: (images, 1, pixels, ...), of volumes
    (images, 1, 1, pixels, ...). Valid until the next block but one is cut."""


def cut(arrays: Sequence[np.ndarray], *, spatial_ndim: int, lead: int, classes: int) -> Iterator[Block]:
    """Cuts arrays that share their leading and spatial axes into blocks of one shape.

    The last blocks are padded: scores with 0, labels with the largest integer, which is no class, so that padding is
    not counted.

    Args:
        arrays: (..., *spatial, ...), scores first, then labels.
        spatial_ndim: number of spatial axes.
        lead: number of leading axes; with none there is one image, and its blocks have one row.
        classes: scores per pixel, which limit the pixels of a block.
    """
    shape = arrays[0].shape
    images = math.prod(shape[:lead])
    pixels = math.prod(shape[lead : lead + spatial_ndim])
    block_images, block_pixels = _size_of_block(images, pixels, classes)
    if not lead:
        block_images = 1
    flat = [array.reshape(images, pixels, *array.shape[lead + spatial_ndim :]) for array in arrays]
    readers = [_BlockReader(array, block_images, block_pixels) for array in flat]
    # All pixels of a block are on the last spatial axis.
    spatial = (*[1] * (spatial_ndim - 1), block_pixels)
    starts = itertools.product(range(0, images, block_images), range(0, pixels, block_pixels))
    for first_image, first_pixel in starts:
        of_images = slice(first_image, min(first_image + block_images, images))
        of_pixels = slice(first_pixel, min(first_pixel + block_pixels, pixels))
        values = [reader.read(of_images, of_pixels) for reader in readers]
        yield Block(of_images, of_pixels, [array.reshape(block_images, *spatial, *array.shape[2:]) for array in values])


def _size_of_block(images: int, pixels: int, classes: int) -> tuple[int, int]:
    """Returns the images of a block and the pixels of each, both powers of two, so that few shapes are compiled."""
    scores = SMALL_BLOCK
    if pixels * images * classes >= LARGE_BLOCK:
        scores = LARGE_BLOCK
    all_pixels = max(FEWEST_PIXELS, _power_below(scores // classes))
    block_pixels = min(all_pixels, max(FEWEST_PIXELS, _power_above(pixels)))
    return all_pixels // block_pixels, block_pixels


def _power_below(number: int) -> int:
    """Returns the largest power of two that is not above a number from 1 on."""
    return 1 << (number.bit_length() - 1)


def _power_above(number: int) -> int:
    """Returns the smallest power of two that is not below a number."""
    return 1 << (number - 1).bit_length()


class _BlockReader:
    """Reads blocks of an array (images, pixels, ...): views of it where XLA reads them in place, else padded copies."""

    def __init__(self, array: np.ndarray, block_images: int, block_pixels: int):
        """Takes the array, and the images of a block and the pixels of each."""
        self._array = array
        # The type that JAX would convert to, with another copy.
        self._dtype = jax.dtypes.canonicalize_dtype(array.dtype)
        self._shape = (block_images, block_pixels, *array.shape[2:])
        # Two buffers serve all copies in turn: fresh memory for each would cost more than the copy.
        self._buffers: list[np.ndarray] = []

    def read(self, images: slice, pixels: slice) -> np.ndarray:
        """Returns a block, (images of a block, pixels of each, ...)."""
        view = self._array[images, pixels]
        is_whole = view.shape == self._shape
        begins_line = view.ctypes.data % CACHE_LINE == 0
        if is_whole and view.dtype == self._dtype and view.flags.c_contiguous and begins_line:
            return view
        copy = self._next_buffer()
        if not is_whole:
            copy[...] = self._padding()
        copy[: view.shape[0], : view.shape[1]] = view
        return copy

    def _padding(self) -> int:
        """Returns what pads a block: 0 for scores, and the largest integer for labels."""
        if self._dtype.kind in "iu":
            return int(np.iinfo(self._dtype).max)
        return 0

    def _next_buffer(self) -> np.ndarray:
        """Returns the buffer that was not used last. Its memory begins with a line."""
        if len(self._buffers) < 2:
            size = math.prod(self._shape) * self._dtype.itemsize
            memory = np.empty(size + CACHE_LINE, np.uint8)
            begin = -memory.ctypes.data % CACHE_LINE
            self._buffers.append(memory[begin : begin + size].view(self._dtype).reshape(self._shape))
        self._buffers.reverse()
        return self._buffers[0]
