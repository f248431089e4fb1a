"""Pictures of the worst images for the page: kept while images are counted, with their photo or scan read at the end.

A volume is shown in the anatomical view, and in the slice, with the largest wrong area (`choose_layout`): as radiology
shows it, with the head or the front above and the patient's right on the left.
"""

import dataclasses
import heapq
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from flipjax.metrics.inputs.classes import LabelSpec
from flipjax.metrics.objects.units import BOXES

LARGEST_SIDE = 256
"""Most rows and columns of a picture; larger images are thinned."""
WORST = 6
"""Images that are kept, at most."""
WINDOW = (1.0, 99.0)
"""Percentiles of a slice's intensities that are black and white."""
VIEWS = {"axial": (2, 1, 0), "coronal": (1, 2, 0)}
"""Directions of the body that a view's slices lie along, that its rows and that its columns do: 0 from right to left, 1
from front to back, 2 from head to feet. Both views show the sides of the body, which sagittal ones do not."""
SIDES = ("R", "L")
"""What is on the left and on the right of a view: the patient's right and left."""

ClassPair = tuple[int, int]
"""A true class and the class that is predicted for it."""
Rank = tuple[float, float]
"""What images are ranked by, the worst highest: see `rank_of_image`."""


def rank_of_image(whole: int, segments: int, correct: float) -> Rank:
    """Returns what images are ranked by: the share of whole segments that are wrong, then of wrong foreground.

    Args:
        whole: segments that flip or are missed as a whole.
        segments: all true segments.
        correct: share of the true foreground that is correct; NaN without any.

    Example:
        >>> rank_of_image(1, 4, 0.75), rank_of_image(0, 0, math.nan)
        ((0.25, 0.25), (0.0, 0.0))
    """
    wrong_foreground = 0.0
    if not math.isnan(correct):
        wrong_foreground = 1 - correct
    return whole / max(segments, 1), wrong_foreground


@dataclasses.dataclass(frozen=True)
class PictureLayout:
    """Which pixels of an image, or of one slice of a volume, a picture shows, and where."""

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
        return SIDES if self.view else ("", "")

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
        axes = 2 if self.number is None else 3
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
    sizes = np.ones(3) if spacing is None else np.asarray(spacing, np.float64)
    if affine is None:
        number = int(wrong.sum((0, 1)).argmax())
        rows, columns = _indices(wrong.shape, sizes, 0, 1)
        return PictureLayout(rows, columns, number=number)
    areas_and_layouts = [_largest_slice(wrong, view, affine, sizes) for view in VIEWS]
    _, layout = max(areas_and_layouts, key=lambda area_and_layout: area_and_layout[0])
    return layout


def _largest_slice(wrong: np.ndarray, view: str, affine: np.ndarray, sizes: np.ndarray) -> tuple[float, PictureLayout]:
    """Returns the largest wrong area of a slice of this view, in mm2, and the layout of that slice."""
    directions, runs_backwards = _directions(affine)
    axis, row_axis, column_axis = (directions.index(direction) for direction in VIEWS[view])
    areas = wrong.sum((row_axis, column_axis)) * sizes[row_axis] * sizes[column_axis]
    number = int(areas.argmax())
    rows, columns = _indices(wrong.shape, sizes, row_axis, column_axis)
    if runs_backwards[row_axis]:
        rows = rows[::-1]
    if runs_backwards[column_axis]:
        columns = columns[::-1]
    return float(areas[number]), PictureLayout(rows, columns, row_axis, column_axis, axis, number, view)


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


@dataclasses.dataclass(frozen=True)
class Picture:
    """What the page shows of an image, or of a slice of a volume."""

    layout: PictureLayout
    """Where its pixels come from."""
    truth: np.ndarray
    """Class indices (h, w); any value where ignored."""
    prediction: np.ndarray
    """Class indices (h, w)."""
    ignored: np.ndarray | None
    """Ignored pixels, bool (h, w); None if there are none."""
    risk: np.ndarray | None
    """Entropy over the foreground classes, float32 (h, w); None for masks."""
    image: np.ndarray | None = None
    """The photo or scan, uint8 (h, w, 3), if there is one."""


@dataclasses.dataclass(frozen=True)
class ImagePictures:
    """The pictures of one image."""

    whole: Picture
    """All of an image; of a volume the view and slice with the largest wrong area."""
    slices: Mapping[ClassPair, Picture] = dataclasses.field(default_factory=dict)
    """The slices in which a volume's largest flipped segment of each pair of classes flips most; empty for images."""
    read_scan: Callable[[], np.ndarray] | None = None
    """Reads the photo (H, W, 3), or the volume of intensities, that lies beneath; None without one."""

    def of_pair(self, pair: ClassPair) -> Picture:
        """Returns the picture that shows a flipped segment of a pair."""
        return self.slices.get(pair, self.whole)

    def with_scan(self) -> "ImagePictures":
        """Returns the pictures with their photo or scan, which is read now."""
        if self.read_scan is None:
            return self
        scan = self.read_scan()
        slices = {pair: _with_scan(picture, scan) for pair, picture in self.slices.items()}
        return ImagePictures(_with_scan(self.whole, scan), slices)


def _with_scan(picture: Picture, scan: np.ndarray) -> Picture:
    """Returns the picture with what it shows of a photo (H, W, 3), or of a volume of intensities, which become grey."""
    cut = picture.layout.cut(scan)
    if cut.dtype != np.uint8 or cut.ndim == 2:
        cut = np.repeat(to_grey(cut)[..., None], 3, axis=-1)
    return dataclasses.replace(picture, image=cut)


def to_grey(intensities: np.ndarray) -> np.ndarray:
    """Returns intensities (h, w) as uint8, from the first to the last of the percentiles WINDOW.

    Example:
        >>> to_grey(np.array([[-1000.0, 0.0, 50.0, np.nan]])).tolist()
        [[0, 243, 255, 0]]
    """
    known = np.where(np.isfinite(intensities), intensities, np.nanmin(intensities, initial=0))
    low, high = np.percentile(known, WINDOW)
    shades = np.clip((known - low) / max(high - low, 1e-9), 0, 1)
    return np.round(255 * shades).astype(np.uint8)


def make_pictures(
    prediction: np.ndarray,
    labels: np.ndarray,
    spec: LabelSpec,
    risk: np.ndarray | None,
    segments: Mapping[str, np.ndarray],
    *,
    affine: np.ndarray | None = None,
    spacing: Sequence[float] | None = None,
) -> ImagePictures:
    """Returns the pictures of an image.

    Args:
        prediction: class indices (H, W), or three axes.
        labels: class indices of the same shape.
        spec: their description, with `num_classes`.
        risk: entropy of the same shape; None for masks.
        segments: columns of the true segments, of which those of a volume that flip have slices of their own.
        affine: as in `choose_layout`.
        spacing: as in `choose_layout`.
    """
    if labels.ndim == 2:
        return ImagePictures(_take(layout_of_image(labels.shape), prediction, labels, spec, risk))
    wrong = prediction != labels
    if spec.ignore_index is not None:
        wrong &= labels != spec.ignore_index
    foreground = spec.foreground(spec.num_classes or 0)
    # The slice shows what is lost of the true foreground; if nothing is, background that is predicted as foreground.
    lost = np.zeros_like(wrong)
    lost[wrong] = foreground[labels[wrong]]
    shown = lost if lost.any() else wrong
    layout = choose_layout(shown, affine=affine, spacing=spacing)
    slices = {}
    for pair, box in _flipped_boxes(segments).items():
        flips = (labels[box] == pair[0]) & (prediction[box] == pair[1])
        across = tuple(axis for axis in range(3) if axis != layout.axis)
        number = box[layout.axis].start + int(flips.sum(across).argmax())
        slices[pair] = _take(dataclasses.replace(layout, number=number), prediction, labels, spec, risk)
    return ImagePictures(_take(layout, prediction, labels, spec, risk), slices)


def _take(
    layout: PictureLayout, prediction: np.ndarray, labels: np.ndarray, spec: LabelSpec, risk: np.ndarray | None
) -> Picture:
    """Returns the pixels of a layout, copies of their own."""
    truth = layout.cut(labels)
    ignored = None
    if spec.ignore_index is not None and (truth == spec.ignore_index).any():
        ignored = truth == spec.ignore_index
    shown_risk = None if risk is None else np.asarray(layout.cut(risk), np.float32)
    return Picture(layout, truth, layout.cut(prediction), ignored, shown_risk)


def _flipped_boxes(segments: Mapping[str, np.ndarray]) -> dict[ClassPair, tuple[slice, slice, slice]]:
    """Returns the box of a volume's largest flipped segment of each pair of classes."""
    boxes: dict[ClassPair, tuple[slice, slice, slice]] = {}
    flipped = np.flatnonzero(segments["outcome"] == "flip")
    for row in flipped[np.argsort(-segments["pixels"][flipped], kind="stable")].tolist():
        pair = (int(segments["class"][row]), int(segments["predicted"][row]))
        first_x, first_y, first_z, last_x, last_y, last_z = (int(segments[name][row]) for name in BOXES[3])
        boxes.setdefault(pair, (slice(first_x, last_x), slice(first_y, last_y), slice(first_z, last_z)))
    return boxes


class WorstImages:
    """The worst images so far, at most WORST; of equal ones the first."""

    def __init__(self) -> None:
        """Begins without images."""
        self._heap: list[tuple[Rank, int]] = []
        self._kept: dict[int, ImagePictures] = {}

    def add(self, index: int, rank: Rank, make: Callable[[], ImagePictures]) -> None:
        """Takes the next image; makes its pictures only if it is kept so far.

        Args:
            index: of the image, increasing.
            rank: the worst highest; (0, 0) if nothing is wrong.
            make: returns its pictures, without photo or scan.
        """
        if max(rank) <= 0:
            return
        entry = (rank, -index)
        if len(self._heap) < WORST:
            heapq.heappush(self._heap, entry)
        else:
            dropped = -heapq.heappushpop(self._heap, entry)[1]
            if dropped == index:
                return
            del self._kept[dropped]
        self._kept[index] = make()

    def pictures(self) -> dict[int, ImagePictures]:
        """Returns the pictures of the images that are kept, with their photos or scans, which are read now."""
        return {index: pictures.with_scan() for index, pictures in sorted(self._kept.items())}
