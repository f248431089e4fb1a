"""Maps of images for the page: made as an image is counted, and kept only of images that the page may show."""

import dataclasses
import heapq
import math
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import numpy as np

from flipjax.metrics.classes import LabelSpec
from flipjax.metrics.segment_units import BOXES

LARGEST_SIDE = 256
"""Most rows and columns of a map; larger images are thinned."""
RISKIEST = 12
"""Images of the highest flip-risk that keep their maps."""
MOST_FLIPPED = 12
"""Images of the largest flip share that keep their maps."""
SURE = 256
"""Images with a flip share above SURE_ABOVE that keep their maps, where scores tell which of these look sure."""
SURE_ABOVE = 0.1
"""Flip share above which an image that looks sure is worth showing."""
LARGEST_SEGMENTS = 3
"""Flipped segments of each pair of classes whose images keep their maps."""

NONE = -1
"""No image."""

ClassPair = tuple[int, int]
"""A true class and the class that is predicted for it."""


class ReadMaps(Protocol):
    """Returns the maps of an image by name, as `KeptMaps.read` does, or None if they were not kept."""

    def __call__(self, index: int, *, pair: ClassPair | None = None) -> Mapping[str, np.ndarray] | None:
        """Reads the maps of an image, or of a volume's slice that shows a flipped segment of a pair."""
        ...


@dataclasses.dataclass(frozen=True)
class ImageMaps:
    """The maps of one image, or of one slice of a volume, thinned to LARGEST_SIDE."""

    truth: np.ndarray
    """Class indices (H, W); any value where ignored."""
    prediction: np.ndarray
    """Class indices (H, W)."""
    ignored: np.ndarray | None
    """Ignored pixels, bool (H, W); None if there are none."""
    risk: np.ndarray | None
    """Entropy over the foreground classes, float32 (H, W); None for masks."""
    step: int
    """Pixels of the image from one pixel of the map to the next."""
    slice_number: int | None = None
    """The index along a volume's last axis of the slice with the most flipped voxels; None for images."""
    slices: "Mapping[ClassPair, ImageMaps]" = dataclasses.field(default_factory=dict)
    """The slices in which a volume's largest flipped segment of each pair of classes flips most; empty for images."""


@dataclasses.dataclass(frozen=True)
class Rank:
    """What decides whether the page shows an image."""

    flip: float
    """Its flip share; NaN if undefined."""
    risk: float | None
    """Its flip-risk; NaN if undefined, None for masks."""
    segments: Mapping[str, np.ndarray]
    """Columns of its true segments."""


def make_maps(
    prediction: np.ndarray,
    labels: np.ndarray,
    spec: LabelSpec,
    risk: np.ndarray | None,
    segments: Mapping[str, np.ndarray] | None = None,
) -> ImageMaps:
    """Returns the maps of an image.

    Args:
        prediction: class indices (H, W), or of a volume three axes, of which the last counts slices.
        labels: class indices of the same shape.
        spec: their description, with `num_classes`.
        risk: entropy of the same shape; None for masks.
        segments: columns of the true segments, of which those of a volume that flip have slices of their own.
    """
    if labels.ndim == 2:
        return _thinned(prediction, labels, spec, risk)
    maps = _slice_maps(prediction, labels, spec, risk, _worst_slice(prediction, labels, spec))
    slices = {}
    for pair, number in _segment_slices(prediction, labels, segments or {}).items():
        slices[pair] = _slice_maps(prediction, labels, spec, risk, number)
    return dataclasses.replace(maps, slices=slices)


def _slice_maps(
    prediction: np.ndarray, labels: np.ndarray, spec: LabelSpec, risk: np.ndarray | None, number: int
) -> ImageMaps:
    """Returns the maps of one slice of a volume."""
    if risk is not None:
        risk = risk[..., number]
    maps = _thinned(prediction[..., number], labels[..., number], spec, risk)
    return dataclasses.replace(maps, slice_number=number)


def _thinned(prediction: np.ndarray, labels: np.ndarray, spec: LabelSpec, risk: np.ndarray | None) -> ImageMaps:
    """Returns maps (H, W) with every `step`-th row and column."""
    step = math.ceil(max(labels.shape) / LARGEST_SIDE)
    truth = np.ascontiguousarray(labels[::step, ::step])
    ignored = None
    if spec.ignore_index is not None and (truth == spec.ignore_index).any():
        ignored = truth == spec.ignore_index
    if risk is not None:
        risk = np.array(risk[::step, ::step], np.float32)
    return ImageMaps(
        truth=truth,
        prediction=np.ascontiguousarray(prediction[::step, ::step]),
        ignored=ignored,
        risk=risk,
        step=step,
    )


def _worst_slice(prediction: np.ndarray, labels: np.ndarray, spec: LabelSpec) -> int:
    """Returns the slice with the most flipped voxels; of volumes without flips, the one with the most wrong voxels."""
    wrong = prediction != labels
    if spec.ignore_index is not None:
        wrong &= labels != spec.ignore_index
    voxels = np.nonzero(wrong)
    foreground = spec.foreground(spec.num_classes or 0)
    flipped = foreground[labels[voxels]] & foreground[prediction[voxels]]
    slices = voxels[-1]
    if flipped.any():
        slices = slices[flipped]
    return int(np.bincount(slices, minlength=labels.shape[-1]).argmax())


def _segment_slices(
    prediction: np.ndarray, labels: np.ndarray, segments: Mapping[str, np.ndarray]
) -> dict[ClassPair, int]:
    """Returns the slice in which the largest flipped segment of each pair of classes flips most."""
    slices: dict[ClassPair, int] = {}
    if not segments:
        return slices
    flipped = np.flatnonzero(segments["outcome"] == "flip")
    largest_first = flipped[np.argsort(-segments["pixels"][flipped], kind="stable")]
    for row in largest_first.tolist():
        truth = int(segments["class"][row])
        predicted = int(segments["predicted"][row])
        if (truth, predicted) in slices:
            continue
        box = box_of(segments, row)
        flips = (labels[box] == truth) & (prediction[box] == predicted)
        slices[truth, predicted] = box[-1].start + int(flips.sum((0, 1)).argmax())
    return slices


def box_of(segments: Mapping[str, np.ndarray], row: int) -> tuple[slice, slice, slice]:
    """Returns the bounding box of a segment of a volume."""
    first_x, first_y, first_z, last_x, last_y, last_z = (int(segments[name][row]) for name in BOXES[3])
    return slice(first_x, last_x), slice(first_y, last_y), slice(first_z, last_z)


class _Highest:
    """The images of the largest values so far; of equal values the first ones."""

    def __init__(self, most: int):
        self._most = most
        self._heap: list[tuple[float, int]] = []

    def add(self, value: float, index: int) -> int:
        """Takes an image and returns the one that is dropped for it, itself if it is not high enough, or NONE."""
        entry = (value, -index)
        if len(self._heap) < self._most:
            heapq.heappush(self._heap, entry)
            return NONE
        return -heapq.heappushpop(self._heap, entry)[1]


class Shown:
    """Chooses, while images come in order, those whose maps a page may show at the end."""

    def __init__(self) -> None:
        """Begins without images."""
        self._riskiest = _Highest(RISKIEST)
        self._flipped = _Highest(MOST_FLIPPED)
        self._sure = _Highest(SURE)
        self._segments: dict[ClassPair, _Highest] = {}
        self._reasons = Counter[int]()

    def add(self, index: int, rank: Rank) -> set[int]:
        """Takes the next image, and returns the images that are no longer shown, maybe itself."""
        pushed_out = {index}
        if rank.flip > 0:
            pushed_out.add(self._enter(self._flipped, rank.flip, index))
        if rank.risk is not None and not math.isnan(rank.risk):
            pushed_out.add(self._enter(self._riskiest, rank.risk, index))
            if rank.flip > SURE_ABOVE:
                pushed_out.add(self._enter(self._sure, rank.flip, index))
        segments = rank.segments
        for row in np.flatnonzero(segments["outcome"] == "flip").tolist():
            pair = (int(segments["class"][row]), int(segments["predicted"][row]))
            largest = self._segments.setdefault(pair, _Highest(LARGEST_SEGMENTS))
            pushed_out.add(self._enter(largest, int(segments["pixels"][row]), index))
        return {image for image in pushed_out if image != NONE and not self._reasons[image]}

    def _enter(self, highest: _Highest, value: float, index: int) -> int:
        """Enters an image into a list; returns the one that it pushes out, or NONE."""
        self._reasons[index] += 1
        dropped = highest.add(value, index)
        if dropped != NONE:
            self._reasons[dropped] -= 1
        return dropped


class KeptMaps:
    """The maps of the images that the page may show, in a temporary folder."""

    def __init__(self) -> None:
        """Makes the folder."""
        self._folder = tempfile.TemporaryDirectory(prefix="flipjax-audit-", ignore_cleanup_errors=True)
        self._shown = Shown()

    def add(
        self, index: int, maps: ImageMaps | None, rank: Rank, *, read_photo: Callable[[], np.ndarray] | None = None
    ) -> None:
        """Keeps the maps of an image if it may be shown, and forgets those of others.

        Args:
            index: of the image, increasing.
            maps: its maps; None if it is known that it will not be shown.
            rank: decides whether it may be shown.
            read_photo: returns its photo, if any; called only if the maps are kept.
        """
        dropped = self._shown.add(index, rank)
        for other in dropped - {index}:
            shutil.rmtree(self._folder_of(other), ignore_errors=True)
        if maps is None or index in dropped:
            return
        self._folder_of(index).mkdir()
        photo = None
        if read_photo is not None:
            photo = read_photo()
        self._write(self._path(index, None), maps, photo)
        for pair, of_slice in maps.slices.items():
            self._write(self._path(index, pair), of_slice, None)

    def _write(self, path: Path, maps: ImageMaps, photo: np.ndarray | None) -> None:
        """Writes the maps of an image, with the photo at their resolution."""
        arrays = {"truth": maps.truth, "prediction": maps.prediction, "step": np.array(maps.step)}
        if maps.ignored is not None:
            arrays["ignored"] = maps.ignored
        if maps.risk is not None:
            arrays["risk"] = maps.risk
        if maps.slice_number is not None:
            arrays["slice_number"] = np.array(maps.slice_number)
        if photo is not None:
            arrays["image"] = photo[:: maps.step, :: maps.step]
        np.savez(path, allow_pickle=False, **arrays)

    def _folder_of(self, index: int) -> Path:
        return Path(self._folder.name) / str(index)

    def _path(self, index: int, pair: ClassPair | None) -> Path:
        name = "image" if pair is None else f"{pair[0]}_{pair[1]}"
        return self._folder_of(index) / f"{name}.npz"

    def read(self, index: int, spec: LabelSpec, *, pair: ClassPair | None = None) -> dict[str, np.ndarray] | None:
        """Returns the maps of an image by name, or None if they were not kept.

        Args:
            index: of the image.
            pair: of a volume, the classes of a flipped segment, whose slice is read; None: the slice with most flips.
            spec: with `num_classes`, which stands for ignored pixels in `truth`.

        Returns:
            `truth`, `prediction`, `errors` (codes of `flipjax.metrics.error_map`), `risk` (NaN for masks), `step`, and
            maybe `image` and `slice_number`.
        """
        from flipjax.metrics import error_map

        path = self._path(index, pair)
        if not path.is_file():
            return None
        with np.load(path, allow_pickle=False) as stored:
            arrays = dict(stored)
        classes = spec.num_classes or 0
        ignored = arrays.pop("ignored", None)
        if ignored is not None:
            arrays["truth"] = np.where(ignored, classes, arrays["truth"])
        errors = error_map(
            arrays["prediction"],
            arrays["truth"],
            kind="masks",
            background=spec.background,
            ignore_index=classes,
            num_classes=classes,
        )
        arrays["errors"] = np.asarray(errors)
        if "risk" not in arrays:
            arrays["risk"] = np.full(arrays["truth"].shape, np.nan)
        return arrays

    def close(self) -> None:
        """Deletes the folder."""
        self._folder.cleanup()
