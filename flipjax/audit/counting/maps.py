"""Pictures of the worst images for the page: kept while images are counted, with their photo or scan read at the end.

`flipjax.audit.counting.layouts` says which pixels a picture shows.
"""

import dataclasses
import heapq
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from flipjax.audit.counting.layouts import PictureLayout, choose_layout, layout_of_image
from flipjax.metrics.inputs.classes import LabelSpec
from flipjax.metrics.objects.units import BOXES

WORST = 6
"""Images that are kept, at most."""
WINDOW = (1.0, 99.0)
"""Percentiles of a slice's intensities that are black and white."""

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
    """All of an image, or the view and slice of a volume with the largest wrong area."""
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
    shown = wrong
    if lost.any():
        shown = lost
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
    risk_of_pixels = None
    if risk is not None:
        risk_of_pixels = np.asarray(layout.cut(risk), np.float32)
    return Picture(layout, truth, layout.cut(prediction), ignored, risk_of_pixels)


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
    """The worst images so far, at most WORST. The first of equal ones stay."""

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
