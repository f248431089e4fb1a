"""Predictions and labels to a decomposition, an image at a time, in bounded memory."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from flipjax import metrics
from flipjax.audit.arrays import Reader
from flipjax.audit.layout import Layout
from flipjax.audit.sources import Pair
from flipjax.audit.values import IGNORED, Values, read_pair
from flipjax.metrics import Decomposition


class Measured(NamedTuple):
    """A decomposition of n images, the ignored pixels int64 (n,) of each, and the sums over their regions."""

    decomposition: Decomposition
    ignored: np.ndarray
    regions: metrics.RegionSums


def measure(pairs: Sequence[Pair], layout: Layout, values: Values, *, advance: Callable[[int], None]) -> Measured:
    """Decomposes every image by `flipjax.metrics.decompose`; the next one is read while one is computed.

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
    regions = []
    with Reader() as reader, ThreadPoolExecutor(1) as thread:
        following = thread.submit(read_pair, reader, pairs[0], layout, values)
        for index in range(len(pairs)):
            scores, labels = following.result()
            if index + 1 < len(pairs):
                following = thread.submit(read_pair, reader, pairs[index + 1], layout, values)
            image = metrics.decompose(scores, labels, background=values.background, ignore_index=IGNORED)
            confusion[index] = image.confusion
            risk_sum[index] = image.risk_sum
            sums = metrics.region_sums(scores, labels, background=values.background, ignore_index=IGNORED)
            regions.append([np.asarray(leaf) for leaf in sums])
            advance(1)
    areas = np.array([np.prod(pair.labels.shape, dtype=np.int64) for pair in pairs])
    ignored = areas - confusion.sum((1, 2), dtype=np.int64)
    sums = metrics.RegionSums(*map(np.stack, zip(*regions, strict=True)))
    return Measured(Decomposition(confusion, risk_sum, values.background), ignored, sums)
