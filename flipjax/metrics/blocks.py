"""Calls outside jit: images of any size run through programs of a few sizes.

An image is a row of pixels. A block holds several small images, or a piece of a large one, and is filled up with pixels
that count nowhere: a new image size, or a last batch that is smaller, compiles nothing, and memory is that of a block.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.core import Tracer

SCORES = 1 << 21
"""Scores in a block, at most: 8 MiB of float32."""
SHORTEST = 1 << 10
"""Pixels of the shortest block."""


class Block(NamedTuple):
    """Where a block's pixels come from, (images, pixels), and its arrays (rows, length, ...), filled up at the end."""

    place: tuple[slice, slice]
    arrays: list[np.ndarray]

    def taken(self, output: Any) -> np.ndarray:
        """Returns what a program makes of the images: (rows, ...) without the rows that were filled in."""
        return np.asarray(output)[: self.place[0].stop - self.place[0].start]


def on_host(*arrays: Any) -> bool:
    """Says whether all are concrete arrays in this process's memory, which can be cut without a program."""
    return all(
        isinstance(array, np.ndarray)
        or (
            isinstance(array, jax.Array)
            and not isinstance(array, Tracer)
            and [d.platform for d in array.devices()] == ["cpu"]
        )
        for array in arrays
    )


def cut(
    arrays: Sequence[np.ndarray], blanks: Sequence[Any], *, spatial_ndim: int, lead: int, width: int
) -> Iterator[Block]:
    """Cuts arrays that share their leading and spatial axes into blocks of one shape.

    Args:
        arrays: (..., *spatial, ...).
        blanks: what fills each of them up.
        spatial_ndim: the number of spatial axes.
        lead: the number of axes before them; without any there is one image, and its block has one row.
        width: scores at each pixel, which say how many pixels a block holds.
    """
    shape = arrays[0].shape
    pixels = math.prod(shape[lead : lead + spatial_ndim])
    images = math.prod(shape[:lead])
    rows = [array.reshape(images, pixels, *array.shape[lead + spatial_ndim :]) for array in arrays]
    most = max(SHORTEST, 1 << (SCORES // width).bit_length() - 1)
    length = min(most, max(SHORTEST, 1 << (pixels - 1).bit_length()))
    height = most // length if lead else 1
    for first in range(0, images, height):
        for start in range(0, pixels, length):
            place = slice(first, min(first + height, images)), slice(start, min(start + length, pixels))
            pieces = zip(rows, blanks, strict=True)
            yield Block(place, [_filled(array[place], (height, length), blank) for array, blank in pieces])


def _filled(array: np.ndarray, shape: tuple[int, int], blank: Any) -> np.ndarray:
    if array.shape[:2] == shape:
        return array
    block = np.full((*shape, *array.shape[2:]), blank, array.dtype)
    block[: array.shape[0], : array.shape[1]] = array
    return block
