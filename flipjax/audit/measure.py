"""Predictions and labels to a decomposition, a few images at a time, in bounded memory."""

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from flipjax import metrics
from flipjax.audit.arrays import Reader
from flipjax.audit.layout import Layout
from flipjax.audit.sources import Pair
from flipjax.audit.values import IGNORED, Values, read_pair
from flipjax.metrics import Decomposition

BATCH_BYTES = 16 << 20


class Measured(NamedTuple):
    """A decomposition of n images, and the ignored pixels int64 (n,) of each."""

    decomposition: Decomposition
    ignored: np.ndarray


class _Batch(NamedTuple):
    """Images as rows of pixels: their indices (k,), logits (K, 1, P, C) and labels (K, 1, P), K >= k."""

    rows: np.ndarray
    logits: np.ndarray
    labels: np.ndarray


def measure(pairs: Sequence[Pair], layout: Layout, values: Values, *, advance: Callable[[int], None]) -> Measured:
    """Decomposes every image by `flipjax.metrics.decompose`; the next batch is read while one is computed.

    Args:
        pairs: the images.
        layout: of the predictions.
        values: how to read them.
        advance: is told how many more images are done.

    Raises:
        AuditError: a file is damaged, or values are not what they should be; names the image.
    """
    confusion = np.zeros((len(pairs), layout.classes, layout.classes), np.int32)
    risk_sum = np.zeros(len(pairs), np.float32)
    batches = _read(pairs, layout, values)
    with ThreadPoolExecutor(1) as thread:
        following = thread.submit(next, batches, None)
        while (batch := following.result()) is not None:
            following = thread.submit(next, batches, None)
            part = metrics.decompose(batch.logits, batch.labels, background=values.background, ignore_index=IGNORED)
            k = len(batch.rows)
            confusion[batch.rows] = part.confusion[:k]
            risk_sum[batch.rows] = part.risk_sum[:k]
            advance(k)
    ignored = _areas(pairs) - confusion.sum((1, 2), dtype=np.int64)
    return Measured(Decomposition(confusion, risk_sum, values.background), ignored)


def _read(pairs: Sequence[Pair], layout: Layout, values: Values) -> Iterator[_Batch]:
    areas = _areas(pairs)
    lengths = areas if len(set(areas)) == 1 else np.array([padded(int(area)) for area in areas])
    with Reader() as reader:
        for length in np.unique(lengths):
            chosen = np.flatnonzero(lengths == length)
            size = min(len(chosen), max(1, BATCH_BYTES // (4 * layout.classes * int(length))))
            for start in range(0, len(chosen), size):
                rows = chosen[start : start + size]
                # Always `size` images, so that one program serves all batches; what is not filled is ignored.
                logits = np.zeros((size, 1, length, layout.classes), np.float32)
                labels = np.full((size, 1, length), IGNORED, np.int32)
                for slot, row in enumerate(rows):
                    scores, truth = read_pair(reader, pairs[row], layout, values)
                    logits[slot, 0, : areas[row]] = scores.reshape(-1, layout.classes)
                    labels[slot, 0, : areas[row]] = truth.ravel()
                yield _Batch(rows, logits, labels)


def padded(area: int) -> int:
    """Returns a number of pixels to fill an image up to: a quarter step of a power of two, so at most a quarter more.

    Where sizes differ few programs are compiled, and counts do not depend on where in a row a pixel lies.

    Example:
        >>> [padded(area) for area in (16, 17, 480 * 640)]
        [16, 20, 327680]
    """
    quarter = 1 << max(0, (area - 1).bit_length() - 3)
    return math.ceil(area / quarter) * quarter


def _areas(pairs: Sequence[Pair]) -> np.ndarray:
    return np.array([np.prod(pair.labels.shape, dtype=np.int64) for pair in pairs])
