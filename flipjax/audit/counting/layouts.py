"""The pixels that a picture on the page of an audit shows, of an image or of one slice of a volume.

A volume is shown in the anatomical view, and in the slice, with the largest wrong area (`choose_layout`): as radiology
shows it, with the head or the front above and the patient's right on the left.
"""

import dataclasses
import math
import operator
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from flipjax.metrics.objects.units import BOXES

LARGEST_SIDE = 256
"""Most rows and columns of a picture; larger images are thinned."""
VIEWS = {"axial": (2, 1, 0), "coronal": (1, 2, 0)}
"""Directions of the body that a view's slices lie along, that its rows and that its columns do: 0 from right to left, 1
from front to back, 2 from head to feet. Both views show the sides of the body, which sagittal ones do not."""
SIDES = ("R", "L")
"""The sides of the patient that a view shows on its left and on its right."""


@dataclasses.dataclass(frozen=True)
class PictureLayout:
    """The pixels that a picture shows, of an image or of one slice of a volume, and where it shows them."""

    rows: np.ndarray
    """Index along the image's axis of each row of the picture, int (h,)."""
    columns: np.ndarray
    """Index of each column, int (w,)."""
    row_axis: int = 0
    """The image's axis that goes down the picture."""
    column_axis: int = 1
    """The image's axis that goes to the right."""
    axis: int = 2
    """The axis of a volume that slices lie along."""
    number: int | None = None
    """The number of the slice along it; None for an image."""
    view: str = ""
    """A key of VIEWS, or nothing where it is not known how the volume lies."""

    @property
    def sides(self) -> tuple[str, str]:
        """Letters of what is on the left and on the right; blank where it is not known."""
        if not self.view:
            return "", ""
        return SIDES

    @property
    def title(self) -> str:
        """What is shown of a volume, such as `coronal slice 12`; nothing of an image."""
        if self.number is None:
            return ""
        return f"{self.view} slice {self.number}".strip()

    def cut(self, values: np.ndarray) -> np.ndarray:
        """Returns the pixels of an array (*spatial, ...) that the picture shows, (h, w, ...)."""
        plane = values
        if self.number is not None:
            plane = np.take(values, self.number, axis=self.axis)
            if self.row_axis > self.column_axis:
                plane = np.swapaxes(plane, 0, 1)
        return plane[np.ix_(self.rows, self.columns)]

    def box(self, segment: Mapping[str, int], margin: int) -> tuple[slice, slice]:
        """Returns the rows and columns of the picture that show a segment's box, with a margin."""
        axes = 3
        if self.number is None:
            axes = 2
        # The columns of the first index along each axis, then those of the end along each.
        columns = BOXES[axes]
        sides = []
        for axis, indices in ((self.row_axis, self.rows), (self.column_axis, self.columns)):
            inside = np.flatnonzero((indices >= segment[columns[axis]]) & (indices < segment[columns[axis + axes]]))
            first = 0
            end = len(indices)
            if len(inside):
                first = int(inside[0])
                end = int(inside[-1]) + 1
            around = max(margin, (end - first) // 4)
            sides.append(slice(max(0, first - around), min(len(indices), end + around)))
        rows_shown, columns_shown = sides
        return rows_shown, columns_shown


def layout_of_image(shape: Sequence[int]) -> PictureLayout:
    """Returns the layout of an image, thinned to LARGEST_SIDE.

    Example:
        >>> layout_of_image((600, 300)).rows[:3].tolist()
        [0, 3, 6]
    """
    step = math.ceil(max(shape) / LARGEST_SIDE)
    return PictureLayout(np.arange(0, shape[0], step), np.arange(0, shape[1], step))


def choose_layout(
    wrong: np.ndarray, *, affine: np.ndarray | None = None, spacing: Sequence[float] | None = None
) -> PictureLayout:
    """Returns the layout of a volume: the view and the slice with the largest wrong area.

    Args:
        wrong: bool, three axes.
        affine: (4, 4), from indices to mm towards the patient's right, front and head (NIfTI, nibabel); None shows
            slices along the last axis, in the order of the array.
        spacing: mm along each axis; None: 1.

    Example:
        >>> wrong = np.zeros((4, 5, 6), bool)
        >>> wrong[1:3, 2, 3:6] = True
        >>> layout = choose_layout(wrong, affine=np.eye(4))
        >>> layout.title, layout.sides, layout.rows.tolist()
        ('coronal slice 2', ('R', 'L'), [5, 4, 3, 2, 1, 0])
    """
    sizes = np.ones(3)
    if spacing is not None:
        sizes = np.asarray(spacing, np.float64)
    if affine is None:
        number = int(wrong.sum((0, 1)).argmax())
        rows, columns = _indices(wrong.shape, sizes, 0, 1)
        return PictureLayout(rows, columns, number=number)
    slices = [_largest_slice(wrong, view, affine, sizes) for view in VIEWS]
    return max(slices, key=operator.attrgetter("area")).layout


class _Slice(NamedTuple):
    """A slice of a volume."""

    area: float
    """Its wrong area in mm2."""
    layout: PictureLayout
    """What a picture of it shows."""


def _largest_slice(wrong: np.ndarray, view: str, affine: np.ndarray, sizes: np.ndarray) -> _Slice:
    """Returns the slice of this view with the largest wrong area."""
    directions, runs_backwards = _directions(affine)
    axis, row_axis, column_axis = (directions.index(direction) for direction in VIEWS[view])
    areas = wrong.sum((row_axis, column_axis)) * sizes[row_axis] * sizes[column_axis]
    number = int(areas.argmax())
    rows, columns = _indices(wrong.shape, sizes, row_axis, column_axis)
    if runs_backwards[row_axis]:
        rows = rows[::-1]
    if runs_backwards[column_axis]:
        columns = columns[::-1]
    layout = PictureLayout(rows, columns, row_axis, column_axis, axis, number, view)
    return _Slice(float(areas[number]), layout)


def _directions(affine: np.ndarray) -> tuple[list[int], list[bool]]:
    """Returns the direction of the body that each axis lies along, as in VIEWS, and whether it runs backwards."""
    from nibabel.orientations import io_orientation  # Affines come from NIfTI files alone.

    oriented = io_orientation(affine)
    # Axes of the affine run to the right, the front and the head; pictures run from there.
    directions = [int(direction) for direction in oriented[:, 0]]
    runs_backwards = [bool(sign > 0) for sign in oriented[:, 1]]
    return directions, runs_backwards


def _indices(shape: Sequence[int], sizes: np.ndarray, row_axis: int, column_axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the rows and columns of a picture whose pixels are squares of at least the finer spacing."""
    extents = [shape[axis] * sizes[axis] for axis in (row_axis, column_axis)]
    side = max(min(sizes[row_axis], sizes[column_axis]), max(extents) / LARGEST_SIDE)
    indices = []
    for axis, extent in zip((row_axis, column_axis), extents, strict=True):
        count = max(1, round(extent / side))
        places = (np.arange(count) + 0.5) * shape[axis] / count
        indices.append(np.minimum(places.astype(np.int64), shape[axis] - 1))
    return indices[0], indices[1]
