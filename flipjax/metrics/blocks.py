"""Blocks of host arrays: windows of their memory, which XLA reads in place, or padded copies.

Large host arrays are not given to a program whole: XLA would copy them. `cut` divides them into blocks of one shape, so
that one program serves all, and gives each block as a `Window`. `of_windows` turns a program of arrays into one of
windows. Where a block's memory can be read as it lies, a window is that memory; where not, it is a copy with padding.
"""

from __future__ import annotations

import functools
import itertools
import math
import types
from collections.abc import Callable, Hashable, Iterator, Sequence

import jax
import numpy as np
from jax import lax

FEW_SCORES = 1 << 19
"""Scores of a block of few images: 2 MiB of float32."""
MANY_SCORES = 1 << 22
"""Scores of a block where there are as many in all: 16 MiB of float32."""
SHORTEST = 1 << 10
"""Fewest pixels of a block."""
LINE = 64
"""Bytes of a line of memory; XLA:CPU copies a NumPy array that begins within one."""
BEGINS = (0, 16, LINE)
"""Bytes that may stand before a block in its window, where each number compiles a program of its own: those of most
large arrays."""

Place = tuple[slice, slice]
"""Rows and columns of an array (images, pixels, ...)."""
Window = tuple[np.ndarray, np.int32]
"""Flat memory, and the index in it at which a block begins."""
Index = jax.Array | int
"""An index that a program takes, or one that it is compiled with."""
Outputs = tuple[jax.Array, ...]
"""What a program returns."""


@functools.cache
def of_windows(
    program: Callable[..., Outputs], shapes: tuple[tuple[int, ...], ...], *, constant: bool, **options: Hashable
) -> Callable[..., Outputs]:
    """Returns a program of arrays as a function of windows.

    Args:
        program: takes an array for each window.
        shapes: of these arrays.
        constant: whether the program is compiled anew for each index at which a block begins in the first window.
        **options: of the program.
    """

    def apply(begin: int | None, first: tuple[jax.Array, Index], *rest: tuple[jax.Array, Index]) -> Outputs:
        memory, start = first
        if begin is not None:
            start = begin
        arrays = []
        for (flat, index), shape in zip(((memory, start), *rest), shapes, strict=True):
            # Of few channels XLA fuses the slices into the program and copies nothing.
            arrays.append(lax.dynamic_slice(flat, (index,), (math.prod(shape),)).reshape(shape))
        return program(*arrays, **options)

    compiled = jax.jit(apply, static_argnums=0)

    def on_windows(*windows: Window) -> Outputs:
        begin = None
        if constant:
            begin = int(windows[0][1])
        return compiled(begin, *windows)

    return on_windows


def cut(
    arrays: Sequence[np.ndarray], *, spatial_ndim: int, lead: int, width: int, constant: bool = False
) -> tuple[tuple[tuple[int, ...], ...], Iterator[tuple[Place, Place, list[Window]]]]:
    """Cuts arrays that share their leading and spatial axes into blocks of one shape.

    The last blocks of a row or column overlap those before. Labels of what overlaps, and of padding, are none that is
    counted, so each pixel is counted once.

    Args:
        arrays: (..., *spatial, ...), scores first, then labels.
        spatial_ndim: number of spatial axes.
        lead: number of leading axes; with none there is one image, and its blocks have one row.
        width: scores per pixel, which limit the pixels of a block.
        constant: whether a block may only begin at one of `BEGINS` in its window.

    Returns:
        The shape of each array in a block, (rows, 1, length, ...), of volumes (rows, 1, 1, length, ...).
        For each block: its place in (images, pixels); the part of it that is in no block before; and the window of each
        array.
    """
    shape = arrays[0].shape
    images = math.prod(shape[:lead])
    pixels = math.prod(shape[lead : lead + spatial_ndim])
    height, length = _size_of_block(images, pixels, width)
    if not lead:
        height = 1
    flat = [array.reshape(images, pixels, *array.shape[lead + spatial_ndim :]) for array in arrays]
    readers = [_reader(array, (height, length), once=index > 0, constant=constant) for index, array in enumerate(flat)]

    def blocks() -> Iterator[tuple[Place, Place, list[Window]]]:
        for row, column in itertools.product(range(0, images, height), range(0, pixels, length)):
            # The last block begins earlier, so that it is whole.
            first_row = max(0, min(row, images - height))
            first_column = max(0, min(column, pixels - length))
            rows = slice(first_row, min(first_row + height, images))
            columns = slice(first_column, min(first_column + length, pixels))
            place = (rows, columns)
            new_part = (slice(row - first_row, None), slice(column - first_column, None))
            yield place, new_part, [read(place, new_part) for read in readers]

    ones = [1] * (spatial_ndim - 1)
    return tuple((height, *ones, length, *array.shape[2:]) for array in flat), blocks()


def _size_of_block(images: int, pixels: int, width: int) -> tuple[int, int]:
    """Returns the images of a block and the pixels of each, both powers of two, so that few shapes are compiled."""
    scores = FEW_SCORES
    if pixels * images * width >= MANY_SCORES:
        scores = MANY_SCORES
    most = max(SHORTEST, _power_below(scores // width))
    length = min(most, max(SHORTEST, _power_above(pixels)))
    return most // length, length


def _power_below(number: int) -> int:
    """Returns the largest power of two that is not above a number from 1 on."""
    return 1 << (number.bit_length() - 1)


def _power_above(number: int) -> int:
    """Returns the smallest power of two that is not below a number."""
    return 1 << (number - 1).bit_length()


def _reader(array: np.ndarray, block: tuple[int, int], *, once: bool, constant: bool) -> Callable[..., Window]:
    """Returns a function that gives the window of a block (rows, length) of an array (images, pixels, ...).

    A window begins with a line of memory, so XLA reads it in place. Where a block is whole in the array, the window is
    the array's own lines that hold it, of which the program reads the block alone; elsewhere, and with
    `constant` where the bytes before it are not in `BEGINS`, it is a padded copy. With `once`, what is not new is
    padding, too.
    """
    # JAX would copy and convert other types.
    dtype = jax.dtypes.canonicalize_dtype(array.dtype)
    size = math.prod(block) * math.prod(array.shape[2:])
    # Bytes of a window: those of the block, and a line for what stands before it.
    space = size * dtype.itemsize + LINE
    has_whole_lines = array.dtype == dtype and space % LINE == 0
    buffers: list[np.ndarray] = []

    def window_in_place(piece: np.ndarray) -> Window | None:
        """Returns the array's own memory that holds a whole block; None if it cannot be read there."""
        if not has_whole_lines or not piece.flags.c_contiguous or not piece.flags.aligned:
            return None
        begin = piece.ctypes.data - array.ctypes.data
        # A line lies in one page of memory, so all of it can be read, also what is before the array.
        before = piece.ctypes.data % LINE
        if not before and begin >= LINE:
            before = LINE
        fits = before > 0 or begin + space <= array.nbytes
        if not fits or (constant and before not in BEGINS):
            return None
        lines = {"data": (piece.ctypes.data - before, True), "shape": (space,), "typestr": "|u1", "version": 3}
        # Its owner lives as long as a program reads it.
        memory = np.asarray(types.SimpleNamespace(__array_interface__=lines, owner=array))
        return memory.view(dtype), np.int32(before // dtype.itemsize)

    def window_of_copy(piece: np.ndarray, new_part: Place, *, has_old: bool) -> Window:
        """Returns a padded copy, in one of two buffers that serve all blocks in turn."""
        # Fresh memory for each block would cost more than the copy.
        if len(buffers) < 2:
            memory = np.empty(space + LINE, np.uint8)
            begin = -memory.ctypes.data % LINE
            buffers.append(memory[begin : begin + space].view(dtype))
        buffers.reverse()
        copy = buffers[0][:size].reshape(*block, *array.shape[2:])
        covered = copy[: len(piece), : piece.shape[1]]
        if covered.shape != copy.shape or has_old:
            padding = 0
            if dtype.kind in "iu":
                padding = np.iinfo(dtype).max
            copy[...] = padding
        if once:
            covered[new_part] = piece[new_part]
        else:
            covered[...] = piece
        return buffers[0], np.int32(0)

    def read(place: Place, new_part: Place) -> Window:
        piece = array[place]
        rows, columns = new_part
        has_old = once and bool(rows.start or columns.start)
        window = None
        if piece.shape[:2] == block and not has_old:
            window = window_in_place(piece)
        if window is None:
            window = window_of_copy(piece, new_part, has_old=has_old)
        return window

    return read
