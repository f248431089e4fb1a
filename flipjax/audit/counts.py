"""Counts the confusion matrix, region sums and segments of each image of an audit."""

import dataclasses
import functools
import math
import multiprocessing
from collections.abc import Callable, Generator, Sequence
from concurrent.futures.process import BrokenProcessPool, ProcessPoolExecutor
from contextlib import closing
from typing import Any, NamedTuple

import numpy as np

from flipjax.audit.arrays import AuditError
from flipjax.audit.measurements import Measurements
from flipjax.audit.pairs import Arrays, Encoding, Pair, in_options, read_pair, read_values
from flipjax.backend.start import keep_programs
from flipjax.metrics import Decomposition, RegionSums, checks
from flipjax.metrics.classes import Background, LabelSpec
from flipjax.metrics.kernels import read_pixels
from flipjax.metrics.regions import sum_regions
from flipjax.metrics.segment_table import Columns, join_columns, segment_columns
from flipjax.support.terminal import Bar
from flipjax.support.threads import in_order

# Half a percent bounds the rounding of a float16 sum over 150 classes.
TOLERANCE = 5e-3
PIECES = 8
"""Chunks of images per process; progress advances by one chunk."""
Keep = Callable[[Pair, Arrays], None]


class ImageCounts(NamedTuple):
    """One image: confusion int32 (C, C), risk_sum, region sums (None for masks), segment columns, its shape."""

    confusion: np.ndarray
    risk_sum: float
    ignored: int
    regions: list[np.ndarray] | None
    segments: Columns
    shape: tuple[int, ...]


def count_image(
    scores: Any, labels: Any, options: LabelSpec, *, unit: Any = "class", predicted_unit: Any = None
) -> ImageCounts:
    """Counts one image.

    Args:
        scores: float (H, W, C), or class indices (H, W) if `options.kind` is `masks`.
        labels: integers (H, W).
        options: kernel options, classes last; masks need `num_classes`.
        unit: segment unit, as in `flipjax.metrics.segment_tables`.
        predicted_unit: ids of predicted segments; None uses `unit`.

    Raises:
        TypeError, ValueError: as in `flipjax.metrics.decompose` and `segment_tables`; a pixel has no finite score, or
            probabilities are passed as logits.
    """
    if options.kind != "masks":
        _check_values(scores, options.kind)
    prediction, truth, C = checks.check_pair(scores, labels, options)
    truth, regions, risk_sum, risks = np.asarray(truth), None, math.nan, None
    known = np.ones(truth.shape, bool) if options.ignore_index is None else truth != options.ignore_index
    if options.kind != "masks":
        maps = read_pixels(prediction, options)
        regions = [np.asarray(leaf) for leaf in sum_regions(maps, truth, options, classes=C)]
        prediction = maps.prediction
        risk_sum = maps.risk[known & options.foreground(C)[prediction]].sum(dtype=np.float64)
        risks = {"flip_risk": maps.risk, "max_softmax": 1 - maps.probability}
    cells = truth[known].astype(np.int64) * C + prediction[known]
    confusion = np.bincount(cells, minlength=C * C).reshape(C, C).astype(np.int32)
    masks = dataclasses.replace(options, kind="masks", num_classes=C)
    columns = segment_columns(prediction, truth, masks, risks=risks, unit=unit, predicted_unit=predicted_unit)
    return ImageCounts(confusion, float(risk_sum), int(np.count_nonzero(~known)), regions, columns, truth.shape)


def _check_values(scores: np.ndarray, kind: str) -> None:
    # -inf may exclude some classes of a pixel, but not all.
    if not np.isfinite([scores.min(), scores.max()]).all() and len(wrong := np.argwhere(~np.isfinite(scores.max(-1)))):
        row, column = wrong[0]
        raise ValueError(
            f"predictions: expected a finite largest score at each pixel, found {len(wrong)} without, the first at row "
            f"{row}, column {column}, of {scores[row, column].max()} (float16 ends at 65504)."
        )
    if kind == "logits" and scores.min() >= 0 and np.abs(scores.sum(-1) - 1).max() <= TOLERANCE:
        raise ValueError(
            "predictions: expected logits, found values in 0..1 that sum to 1 at each pixel; pass kind='probabilities'."
        )


def count_pairs(pairs: Sequence[Pair], encoding: Encoding, *, jobs: int = 1, keep: Keep | None = None) -> Measurements:
    """Reads and counts images in order. One process counts masks on all cores.

    Args:
        pairs: the images.
        encoding: their encoding.
        jobs: number of processes.
        keep: called with each image and its arrays, in any process.

    Raises:
        AuditError: a file is damaged or values do not fit. The message names the image.
    """
    counted = _in_processes(pairs, encoding, jobs, keep) if jobs > 1 else _count(pairs, encoding, keep, threads=True)
    parts: list[ImageCounts] = []
    with closing(counted) as counts, Bar(total=len(pairs)) as bar:
        for part in counts:
            parts.append(part)
            bar.advance(1, f"{len(parts)} of {len(pairs)} images", last=len(parts) == len(pairs))
    names = encoding.spec.names(encoding.classes)
    return join_counts(parts, [pair.name for pair in pairs], names, background=encoding.spec.background)


def _count(pairs: Sequence[Pair], encoding: Encoding, keep: Keep | None, *, threads: bool) -> Generator[ImageCounts]:
    def count(pair: Pair, arrays: Arrays) -> ImageCounts:
        with in_options(pair):
            scores, labels, unit, predicted_unit = arrays
            part = count_image(scores, labels, encoding.spec, unit=unit, predicted_unit=predicted_unit)
        if keep is not None:
            keep(pair, arrays)
        return part

    if threads and encoding.spec.kind == "masks":
        yield from in_order(lambda pair: count(pair, read_pair(pair, encoding)), pairs)
    else:
        with closing(read_values(pairs, encoding)) as values:
            yield from map(count, pairs, values)


def _count_piece(pairs: Sequence[Pair], encoding: Encoding, keep: Keep | None) -> list[ImageCounts]:
    return list(_count(pairs, encoding, keep, threads=False))


def _in_processes(pairs: Sequence[Pair], encoding: Encoding, jobs: int, keep: Keep | None) -> Generator[ImageCounts]:
    size = math.ceil(len(pairs) / (jobs * PIECES))
    pieces = [pairs[start : start + size] for start in range(0, len(pairs), size)]
    # JAX is multithreaded, which is unsafe with fork.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs, context, initializer=functools.partial(keep_programs, small=True))
    try:
        for parts in pool.map(functools.partial(_count_piece, encoding=encoding, keep=keep), pieces):
            yield from parts
    except BrokenProcessPool as error:
        raise AuditError(f"--jobs {jobs}: a process ended at once; with fewer jobs each has more memory") from error
    finally:
        pool.shutdown(cancel_futures=True)


def join_counts(
    parts: Sequence[ImageCounts], names: Sequence[str], class_names: Sequence[str], *, background: Background
) -> Measurements:
    """Joins the counts of images, in order."""
    confusion, risk_sum, ignored, regions, segments, shapes = zip(*parts, strict=True)
    sums = None if regions[0] is None else RegionSums(*map(np.stack, zip(*regions, strict=True)))
    return Measurements(
        tuple(names),
        tuple(class_names),
        Decomposition(np.stack(confusion), np.array(risk_sum, np.float32), background),
        np.array(ignored, np.int64),
        join_columns(segments),
        sums,
        shapes,
    )
