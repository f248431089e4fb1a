"""Reduces each image of an audit to its confusion matrix, region sums, segments and maps, by the kernels of `metrics`.

An image is read once and passes each kernel once: `read_pixels` turns scores into maps of predicted classes and of
flip-risk, `sum_regions` reads these, and `segment_columns` finds segments and counts pixels.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Generator, Sequence
from contextlib import closing

import jax
import jax.numpy as jnp
import numpy as np

from flipjax.audit.counting.maps import ImagePictures, Rank, WorstImages, make_pictures, rank_of_image
from flipjax.audit.counting.measurements import EVERY_SIZE, Measurements, MinSize
from flipjax.audit.formats.problems import BrokenFileError
from flipjax.audit.inputs.pairs import Pair, in_options
from flipjax.audit.inputs.records import Encoding, ImageRecord, read_or_error, read_records
from flipjax.metrics import Decomposition, RegionSums
from flipjax.metrics.inputs import checks
from flipjax.metrics.inputs.classes import LabelSpec
from flipjax.metrics.inputs.host import Outputs, is_tensor
from flipjax.metrics.kernels import PixelMaps, read_pixels
from flipjax.metrics.objects.columns import Columns, segment_columns
from flipjax.metrics.objects.table import join_columns
from flipjax.metrics.regions import sum_regions
from flipjax.support.threads import in_order

TOLERANCE = 5e-3
"""How far the sum of a pixel's probabilities may be from 1: more than float16 rounds away over 150 classes."""
NO_LOGITS = "predictions: expected logits, found values in 0..1 that sum to 1 at each pixel; pass kind='probabilities'."
"""The message for probabilities that are called logits."""
CONTEXT = "context_"
"""Beginning of the names of columns of which segments have one for each class."""


@dataclasses.dataclass(frozen=True)
class ImageCounts:
    """What one image was reduced to. C is the number of classes, or of masks the number that the image needs."""

    classes_needed: int
    """One more than the largest class of labels or prediction, or the number of classes of scores."""
    confusion: np.ndarray
    """Pixels by true and predicted class, int32 (C, C)."""
    risk_sum: float
    """Summed entropy over the predicted foreground; NaN for masks."""
    ignored: int
    """Ignored pixels."""
    regions: RegionSums | None
    """Sums over rim and interior; None for masks."""
    segments: Columns
    """The segments that are large enough to count."""
    left_out: int
    """The number of true segments that are too small."""
    shape: tuple[int, ...]
    """The labels' shape."""
    spacing: tuple[float, ...] | None
    """Distance of pixels in mm, if known."""
    draw: Callable[[], ImagePictures] | None
    """Makes the pictures of the image, and holds its values until it is known whether it is one of the worst."""

    def rank(self, spec: LabelSpec) -> Rank:
        """Returns how bad the image is among others, which decides whether the page shows it."""
        outcome = self.segments.true["outcome"]
        whole = int(np.count_nonzero((outcome == "flip") | (outcome == "miss")))
        image = Decomposition(self.confusion, np.array(self.risk_sum, np.float32), spec.background)
        return rank_of_image(whole, len(outcome), float(image.correct))


def count_image(record: ImageRecord, spec: LabelSpec, *, min_size: MinSize = EVERY_SIZE) -> ImageCounts:
    """Counts one image.

    Args:
        record: the image.
        spec: kernel options, classes last; without `num_classes` masks have as many as the image needs.
        min_size: smaller segments have no row.

    Raises:
        TypeError, ValueError: as in `flipjax.metrics.decompose` and `segment_tables`; a pixel has no finite score,
            probabilities are passed as logits, or the smallest size needs a spacing.
    """
    masks = spec.kind == "masks"
    labels = np.asarray(checks.to_array(record.labels, name="labels"))
    counted = np.ones(labels.shape, bool)
    if spec.ignore_index is not None:
        counted = labels != spec.ignore_index
    regions = None
    risk_sum = math.nan
    # Maps of what scores segments, (*spatial); masks have none.
    risks: dict[str, np.ndarray] = {}
    if masks:
        mask, _, classes = checks.check_pair(record.prediction, labels, spec)
        prediction = np.asarray(mask)
        classes_needed = _classes_needed(prediction, labels, counted)
    else:
        pixels, classes = _reduce_scores(record.prediction, labels, spec)
        regions = RegionSums(*map(np.asarray, sum_regions(pixels, labels, spec, classes=classes)))
        prediction = np.asarray(pixels.prediction)
        classes_needed = classes
        risk = np.asarray(pixels.risk)
        in_foreground = spec.foreground(classes)[prediction]
        if spec.ignore_index is not None:
            in_foreground &= counted
        risk_sum = float(risk[in_foreground].sum(dtype=np.float64))
        risks = {"flip_risk": risk, "max_softmax": 1 - np.asarray(pixels.probability)}
    # From here on the scores are masks, too.
    of_masks = dataclasses.replace(spec, kind="masks", num_classes=classes)
    columns = segment_columns(
        prediction,
        labels,
        of_masks,
        unit=record.unit,
        ids=record.ids,
        predicted_ids=record.predicted_ids,
        risks=risks,
    )
    large, left_out = _without_small(columns, min_size.pixels(record.spacing))
    risk_map = risks.get("flip_risk")
    # Pictures of the worst images wait for the end, and would hold a whole batch of scores.
    without_scores = dataclasses.replace(record, prediction=prediction)
    return ImageCounts(
        classes_needed=classes_needed,
        confusion=_confusion(columns.pixels, classes),
        risk_sum=risk_sum,
        ignored=int(counted.size - np.count_nonzero(counted)),
        regions=regions,
        segments=large,
        left_out=left_out,
        shape=labels.shape,
        spacing=record.spacing,
        draw=functools.partial(_draw, without_scores, prediction, labels, of_masks, risk_map, large.true),
    )


def _draw(
    record: ImageRecord,
    prediction: np.ndarray,
    labels: np.ndarray,
    spec: LabelSpec,
    risk: np.ndarray | None,
    segments: dict[str, np.ndarray],
) -> ImagePictures:
    """Returns the pictures of an image, with the function that reads the photo or scan beneath."""
    pictures = make_pictures(prediction, labels, spec, risk, segments, affine=record.affine, spacing=record.spacing)
    return dataclasses.replace(pictures, read_scan=record.read_scan(labels.shape))


def _classes_needed(prediction: np.ndarray, labels: np.ndarray, counted: np.ndarray) -> int:
    """Returns one more than the largest class of the prediction and of labels that count."""
    return 1 + max(int(prediction.max()), int(labels.max(initial=0, where=counted)))


def _confusion(pixels: dict[str, np.ndarray], classes: int) -> np.ndarray:
    """Returns the confusion matrix int32 (C, C).

    Args:
        pixels: numbers of pixels by kind of error, true class and predicted class, of `segment_columns`.
        classes: C.
    """
    confusion = np.zeros((classes, classes), np.int32)
    np.add.at(confusion, (pixels["class"], pixels["predicted"]), pixels["pixels"])
    return confusion


def _without_small(columns: Columns, least: int) -> tuple[Columns, int]:
    """Returns the segments of `least` pixels and more, and the number of smaller true ones."""
    if least <= 1:
        return columns, 0
    true = _large_rows(columns.true, least)
    predicted = _large_rows(columns.predicted, least)
    left_out = len(columns.true["pixels"]) - len(true["pixels"])
    return columns._replace(true=true, predicted=predicted), left_out


def _large_rows(table: dict[str, np.ndarray], least: int) -> dict[str, np.ndarray]:
    """Returns the rows of segments of `least` pixels and more."""
    kept = table["pixels"] >= least
    return {name: values[kept] for name, values in table.items()}


def _reduce_scores(scores: Outputs, labels: np.ndarray, spec: LabelSpec) -> tuple[PixelMaps, int]:
    """Checks scores (*spatial, C) and labels, and reduces the scores on the device where they are.

    Returns:
        The maps, and the number of classes.

    Raises:
        TypeError, ValueError: as in `count_image`.
    """
    if is_tensor(scores):
        return _reduce_tensor(scores, labels, spec)
    if isinstance(scores, np.ndarray):
        _check_values(scores, spec.kind)
    else:
        _check_values_on_device(scores, spec.kind)
    checked, _, classes = checks.check_pair(scores, labels, spec)
    return read_pixels(checked, spec), classes


def _reduce_tensor(scores: Outputs, labels: np.ndarray, spec: LabelSpec) -> tuple[PixelMaps, int]:
    """Is `_reduce_scores` of a tensor of PyTorch."""
    from flipjax.metrics.pixels import tensors  # Imported here: PyTorch is no dependency.

    classes = tensors.check_scores(scores, spec, labels_shape=labels.shape)
    checks.check_labels(labels, classes, spec)
    infinite = tensors.first_infinite(scores)
    if infinite is not None:
        raise ValueError(_not_finite(*infinite))
    if spec.kind == "logits" and tensors.look_like_probabilities(scores, spec):
        raise ValueError(NO_LOGITS)
    return PixelMaps(*tensors.read_maps(scores, spec)), classes


def _check_values_on_device(scores: jax.Array, kind: str) -> None:
    """Is `_check_values` of an array of JAX on a device, from which a few numbers are copied."""
    # A largest score may ignore NaN.
    wrong = jnp.isnan(scores).any(-1) | ~jnp.isfinite(scores.max(-1))
    count = int(wrong.sum())
    if count:
        place = tuple(int(index[0]) for index in jnp.nonzero(wrong, size=1))
        raise ValueError(_not_finite(count, place, float(scores[place].max())))
    farthest = jnp.abs(scores.astype(jnp.float32).sum(-1) - 1).max()
    if kind == "logits" and bool(scores.min() >= 0) and bool(farthest <= TOLERANCE):
        raise ValueError(NO_LOGITS)


def _check_values(scores: np.ndarray, kind: str) -> None:
    """Raises ValueError for a pixel without a finite score, or for probabilities that are called logits."""
    least = scores.min()
    if not np.isfinite(least) or not np.isfinite(scores.max()):
        _check_finite(scores)
    if kind == "logits" and least >= 0 and np.abs(scores.sum(-1) - 1).max() <= TOLERANCE:
        raise ValueError(NO_LOGITS)


def _check_finite(scores: np.ndarray) -> None:
    """Raises ValueError for a pixel without a finite largest score: -inf may exclude some classes, but not all."""
    wrong = np.argwhere(~np.isfinite(scores.max(-1)))
    if not len(wrong):
        return
    first = tuple(wrong[0].tolist())
    raise ValueError(_not_finite(len(wrong), first, float(scores[first].max())))


def _not_finite(count: int, first: tuple[int, ...], largest: float) -> str:
    """Returns the message for pixels without a finite largest score: how many, the place and the score of the first."""
    position = f"voxel {first}"
    if len(first) == 2:
        position = f"row {first[0]}, column {first[1]}"
    return (
        f"predictions: expected a finite largest score at each pixel, found {count} without, the first at {position}, "
        f"of {largest} (float16 ends at 65504)."
    )


def count_pairs(
    pairs: Sequence[Pair],
    encoding: Encoding,
    *,
    min_size: MinSize = EVERY_SIZE,
) -> Generator[ImageCounts | BrokenFileError]:
    """Reads and counts images, and yields them in order; one that is broken is yielded as its error.

    Masks are counted on all cores, one image a core; the kernels of scores take all cores by themselves.

    Args:
        pairs: the images.
        encoding: their encoding.
        min_size: smaller segments have no row.

    Raises:
        AuditError: values do not fit an option. The message names the image.
    """
    if encoding.spec.kind == "masks":
        yield from in_order(functools.partial(_read_and_count, encoding=encoding, min_size=min_size), pairs)
        return
    with closing(read_records(pairs, encoding)) as records:
        for record in records:
            yield _count_or_error(record, encoding.spec, min_size)


def _read_and_count(pair: Pair, encoding: Encoding, min_size: MinSize) -> ImageCounts | BrokenFileError:
    """Reads an image and counts it; returns the error of one that is broken."""
    return _count_or_error(read_or_error(pair, encoding), encoding.spec, min_size)


def _count_or_error(
    record: ImageRecord | BrokenFileError, spec: LabelSpec, min_size: MinSize
) -> ImageCounts | BrokenFileError:
    """Counts an image that was read; returns the error of one that is broken."""
    if isinstance(record, BrokenFileError):
        return record
    with in_options(record.pair):
        return count_image(record, spec, min_size=min_size)


def count_records(records: Sequence[ImageRecord], spec: LabelSpec, *, min_size: MinSize) -> list[ImageCounts]:
    """Counts images that are in memory, in order: masks on all cores, as in `count_pairs`.

    Raises:
        TypeError, ValueError: as in `count_image`.
    """
    count = functools.partial(count_image, spec=spec, min_size=min_size)
    if spec.kind == "masks":
        return list(in_order(count, records))
    return [count(record) for record in records]


class Tally:
    """Adds up images in the order in which they come, and keeps pictures of the worst."""

    def __init__(self, spec: LabelSpec, min_size: MinSize = EVERY_SIZE):
        """Begins without images.

        Args:
            spec: of what is counted.
            min_size: as in `count_image`.
        """
        self.names: list[str] = []
        """The images' names."""
        self._spec = spec
        self._min_size = min_size
        self._parts: list[ImageCounts] = []
        self._worst = WorstImages()

    def add(self, name: str, counts: ImageCounts) -> None:
        """Adds an image."""
        if counts.draw is not None:
            self._worst.add(len(self.names), counts.rank(self._spec), counts.draw)
        # The image's values, which `draw` holds, are not kept.
        self._parts.append(dataclasses.replace(counts, draw=None))
        self.names.append(name)

    @property
    def classes_needed(self) -> int:
        """One more than the largest class of all images, or the number of classes of scores."""
        return max(part.classes_needed for part in self._parts)

    def measurements(self, class_names: Sequence[str]) -> Measurements:
        """Returns the record of all images with these C classes."""
        C = len(class_names)
        parts = self._parts
        confusion = np.stack([_resized(part.confusion, C) for part in parts])
        risk_sum = np.array([part.risk_sum for part in parts], np.float32)
        regions = None
        if parts[0].regions is not None:
            # A leaf at a time, of all images.
            leaves = zip(*(part.regions for part in parts), strict=True)
            regions = RegionSums(*map(np.stack, leaves))
        without_spacing = tuple(name for name, part in zip(self.names, parts, strict=True) if part.spacing is None)
        spacing = None
        if not without_spacing:
            spacing = np.array([part.spacing for part in parts], np.float64)
        return Measurements(
            names=tuple(self.names),
            class_names=tuple(class_names),
            decomposition=Decomposition(confusion, risk_sum, self._spec.background),
            ignored_pixels=np.array([part.ignored for part in parts], np.int64),
            segments=join_columns([_with_contexts(part.segments, C) for part in parts]),
            regions=regions,
            shapes=tuple(part.shape for part in parts),
            spacing=spacing,
            without_spacing=without_spacing,
            min_size=self._min_size,
            smaller_segments=np.array([part.left_out for part in parts], np.int64),
        )

    def pictures(self) -> dict[int, ImagePictures]:
        """Returns the pictures of the worst images by number; raises AuditError if a photo does not fit its labels."""
        return self._worst.pictures()

    def set_classes(self, spec: LabelSpec) -> None:
        """Sets the number of classes once it is known."""
        self._spec = spec


def _resized(confusion: np.ndarray, classes: int) -> np.ndarray:
    """Returns a confusion matrix (C, C) of another number of classes; those that are cut off must be empty."""
    kept = confusion[:classes, :classes]
    missing = classes - len(kept)
    return np.pad(kept, (0, missing))


def _with_contexts(columns: Columns, classes: int) -> Columns:
    """Returns the segments with a column of context for each of C classes, 0 for those that the image lacks."""
    true = {name: values for name, values in columns.true.items() if not name.startswith(CONTEXT)}
    blank = np.zeros(len(true["class"]), np.float32)
    for c in range(classes):
        true[f"{CONTEXT}{c}"] = columns.true.get(f"{CONTEXT}{c}", blank)
    return columns._replace(true=true, classes=classes)
