"""Predicted labels of regions, and whether they change with the scene in counterfactual sets of images."""

import numpy as np

from flipjax.metrics.classes import background_classes
from flipjax.metrics.decomposition import Decomposition


def region_class(decomposition: Decomposition) -> np.ndarray:
    """Returns the majority label of each predicted region, int64 (n,).

    Without a region it is the first background class, or -1 where there is none. Ignored pixels do not count. Ties go
    to the first label.

    Args:
        decomposition: leaves (n, C, C) and (n,).

    Example:
        >>> counts = np.array([[[4, 0, 0], [0, 1, 2], [0, 0, 0]], [[4, 0, 0], [1, 0, 0], [0, 0, 0]]])
        >>> region_class(Decomposition(counts, np.zeros(2))).tolist()
        [2, 0]
    """
    counts = np.asarray(decomposition.confusion).sum(1, dtype=np.int64)
    outside = background_classes(decomposition.background)
    without_region = -1
    if outside:
        without_region = outside[0]
    counts[:, list(outside)] = 0
    return np.where(counts.any(1), counts.argmax(1), without_region)


def whole_pairs(pairs: np.ndarray, *, size: int | None = None) -> np.ndarray:
    """Returns the image indices (P, size) of each counterfactual set, ordered by set number; -1 means no set.

    Smaller sets are left out. `size` is the number of scenes; None: that of the largest set, two at least.

    Example:
        >>> whole_pairs(np.array([3, 1, -1, 1, 3, 5])).tolist()
        [[1, 3], [0, 4]]
    """
    pairs = np.asarray(pairs)
    numbers, counts = np.unique(pairs[pairs >= 0], return_counts=True)
    if size is None:
        size = max(2, int(counts.max(initial=0)))
    sets = [np.flatnonzero(pairs == number) for number in numbers[counts == size]]
    return np.array(sets, np.int64).reshape(-1, size)


def counterfactual_flip(decomposition: Decomposition, pairs: np.ndarray) -> float:
    """Returns the fraction of sets whose predicted label changes with the scene; NaN without sets.

    The label is the majority of the region (`region_class`). Sets with an image without region are left out. Needs no
    true labels.

    Args:
        decomposition: leaves (n, C, C) and (n,).
        pairs: int (n,), the counterfactual set of each image or -1.

    Example:
        >>> counts = np.zeros((4, 3, 3), int)
        >>> counts[[0, 1, 2, 3], 1, [1, 2, 1, 1]] = 5
        >>> counterfactual_flip(Decomposition(counts, np.zeros(4)), np.array([0, 0, 1, 1]))
        0.5
    """
    labels = region_class(decomposition)[whole_pairs(pairs)]
    without_region = np.isin(labels, (-1, *background_classes(decomposition.background))).any(1)
    labels = labels[~without_region]
    if not len(labels):
        return float("nan")
    return float((labels != labels[:, :1]).any(1).mean())
