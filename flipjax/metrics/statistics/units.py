"""Sums over the independent units of rates: images, or clusters of images, such as the slices of one patient.

A rate is a sum over units divided by another sum over units, such as flipped pixels by foreground pixels. How far each
unit moves it, its *influence*, gives its variance.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from flipjax.metrics.decomposition import Ratio, divide


def pool_clusters(counts: ArrayLike, clusters: ArrayLike | None) -> np.ndarray:
    """Sums counts (n, k) over the images of each cluster.

    Args:
        counts: (n, k) numbers of n images.
        clusters: int (n,), or None where each image is one.

    Returns:
        float64 (clusters, k), in order of their numbers.

    Example:
        >>> pool_clusters([[1], [2], [5]], [7, 3, 7]).tolist()
        [[2.0], [6.0]]
    """
    of_images = np.asarray(counts, np.float64)
    if clusters is None:
        return of_images
    present, row = np.unique(np.asarray(clusters), return_inverse=True)
    sums = np.zeros((len(present), of_images.shape[1]))
    np.add.at(sums, row, of_images)
    return sums


def sum_clusters(ratio: Ratio, clusters: ArrayLike | None) -> Ratio:
    """Returns the parts and wholes of k rates (n, k) of images, summed over each cluster: float64 (units, k)."""
    return Ratio(pool_clusters(ratio.part, clusters), pool_clusters(ratio.whole, clusters))


def as_column(ratio: Ratio) -> Ratio:
    """Returns the part and whole (n,) of one rate as columns (n, 1)."""
    return Ratio(np.asarray(ratio.part)[:, None], np.asarray(ratio.whole)[:, None])


def influence_of_units(sums: Ratio) -> np.ndarray:
    """Returns each unit's contribution to the error of each of k rates, (units, k): over units they sum to 0.

    It is the unit's part less the rate times its whole, divided by the sum of all wholes.

    Example:
        >>> influence_of_units(Ratio(np.array([[1.0], [3.0]]), np.array([[4.0], [4.0]]))).tolist()
        [[-0.125], [0.125]]
    """
    total = sums.whole.sum(0)
    residual = sums.part - np.nan_to_num(sums.total().value) * sums.whole
    return residual / np.where(total > 0, total, 1.0)


def variance_of_rates(influence: np.ndarray, units: np.ndarray) -> np.ndarray:
    """Returns the variance (k,) of rates, from the influence of each unit (rows, k) and the number of units (k,).

    A unit that lacks a rate has no influence on it and is not counted, so that `units` may be less than the rows.
    """
    return (influence**2).sum(0) * divide(units, units - 1)


def mean_of_known(rates: np.ndarray) -> float:
    """Returns the mean of the rates (k,) that are not NaN; NaN if all are."""
    known = ~np.isnan(rates)
    # `divide` gives NaN where it divides by 0.
    return float(divide(rates[known].sum(), known.sum()))
