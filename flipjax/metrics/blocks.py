"""Blocks of host arrays: windows of their memory, which XLA reads in place, or padded copies."""

from __future__ import annotations

import functools
import itertools
import math
import types
from collections.abc import Callable, Hashable, Iterator, Sequence

import jax
import numpy as np
from jax import lax

SCORES = (1 << 19, 1 << 22)
"""Scores of a block, of few images and of many: 2 and 16 MiB of float32."""
SHORTEST = 1 << 10
"""Smallest block, in pixels."""
LINE = 64
"""Bytes of a line of memory; XLA:CPU copies a NumPy array that begins within one."""
BEGINS = (0, 16, LINE)
"""Bytes before a block in its window where each number compiles a program of its own: those of most large arrays."""

Place = tuple[slice, slice]
"""Rows and columns of an array (images, pixels, ...)."""
Window = tuple[np.ndarray, np.int32]
"""Flat memory, and where in it a block begins."""
Index = jax.Array | int
Outputs = tuple[jax.Array, ...]


@functools.cache
def of_windows(
    program: Callable[..., Outputs], shapes: tuple[tuple[int, ...], ...], *, constant: bool, **options: Hashable
) -> Callable[..., Outputs]:
    """Returns the program as a function of windows: flat memory, and where in it the values of each shape begin.

    With `constant`, each place in the first window compiles a program of its own.
    """

    def apply(begin: int | None, first: tuple[jax.Array, Index], *rest: tuple[jax.Array, Index]) -> Outputs:
        memory, start = first
        if begin is not None:
            start = begin
        given = ((memory, start), *rest)
        # Of few channels XLA fuses the slices into the program and copies nothing.
        arrays = [
            lax.dynamic_slice(memory, (start,), (math.prod(shape),)).reshape(shape)
            for (memory, start), shape in zip(given, shapes, strict=True)
        ]
        return program(*arrays, **options)

    compiled = jax.jit(apply, static_argnums=0)

    def on_windows(*windows: Window) -> Outputs:
        begin = int(windows[0][1]) if constant else None
        return compiled(begin, *windows)

    return on_windows


def cut(
    arrays: Sequence[np.ndarray], *, spatial_ndim: int, lead: int, width: int, constant: bool = False
) -> tuple[tuple[tuple[int, ...], ...], Iterator[tuple[Place, Place, list[Window]]]]:
    """Cuts arrays that share their leading and spatial axes into blocks of one shape.

    The last blocks overlap those before. Overlap and padding have a label that is not counted, so each pixel is counted
    once.

    Args:
        arrays: (..., *spatial, ...), scores first.
        spatial_ndim: number of spatial axes.
        lead: number of leading axes; with none there is one image, and its blocks have one row.
        width: scores per pixel, which limit the pixels of a block.
        constant: whether a block may only begin at one of `BEGINS` in its window.

    Returns:
        The shape of each array in a block, (rows, 1, length, ...), of volumes (rows, 1, 1, length, ...).
        For each block, its place in (images, pixels), its new part, in no block before it, and of each array the memory
        and where in it the block begins.
    """
    shape = arrays[0].shape
    images = math.prod(shape[:lead])
    pixels = math.prod(shape[lead : lead + spatial_ndim])
    few, many = SCORES
    scores = many if pixels * images * width >= many else few
    most = max(SHORTEST, 1 << (scores // width).bit_length() - 1)
    length = min(most, max(SHORTEST, 1 << (pixels - 1).bit_length()))
    height = most // length if lead else 1
    flat = [array.reshape(images, pixels, *array.shape[lead + spatial_ndim :]) for array in arrays]
    readers = [_reader(array, (height, length), once=index > 0, constant=constant) for index, array in enumerate(flat)]

    def blocks() -> Iterator[tuple[Place, Place, list[Window]]]:
        for row, column in itertools.product(range(0, images, height), range(0, pixels, length)):
            first_row = max(0, min(row, images - height))
            first_column = max(0, min(column, pixels - length))
            rows = slice(first_row, min(first_row + height, images))
            columns = slice(first_column, min(first_column + length, pixels))
            place = (rows, columns)
            new = (slice(row - first_row, None), slice(column - first_column, None))
            yield place, new, [read(place, new) for read in readers]

    ones = [1] * (spatial_ndim - 1)
    return tuple((height, *ones, length, *array.shape[2:]) for array in flat), blocks()


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
    space = size * dtype.itemsize + LINE
    in_place = array.dtype == dtype and space % LINE == 0
    buffers: list[np.ndarray] = []

    def read(place: Place, new: Place) -> Window:
        piece = array[place]
        again = once and (new[0].start or new[1].start)
        if in_place and piece.shape[:2] == block and piece.flags.c_contiguous and piece.flags.aligned and not again:
            begin = piece.ctypes.data - array.ctypes.data
            # A line lies in one page of memory: all of it can be read.
            before = piece.ctypes.data % LINE or LINE * (begin >= LINE)
            if (before or begin + space <= array.nbytes) and (before in BEGINS or not constant):
                lines = {"data": (piece.ctypes.data - before, True), "shape": (space,), "typestr": "|u1", "version": 3}
                # Its owner lives as long as a program reads it.
                memory = np.asarray(types.SimpleNamespace(__array_interface__=lines, owner=array))
                return memory.view(dtype), np.int32(before // dtype.itemsize)
        # Two buffers serve all blocks in turn: fresh memory costs more than the copy.
        if len(buffers) < 2:
            memory = np.empty(space + LINE, np.uint8)
            begin = -memory.ctypes.data % LINE
            buffers.append(memory[begin : begin + space].view(dtype))
        buffers.reverse()
        copy = buffers[0][:size].reshape(*block, *array.shape[2:])
        covered = copy[: len(piece), : piece.shape[1]]
        if covered.shape != copy.shape or again:
            copy[...] = np.iinfo(dtype).max if dtype.kind in "iu" else 0
        where = new if once else ...
        covered[where] = piece[where]
        return buffers[0], np.int32(0)

    return read
