"""Shares of rims and interiors, and calibration, of stored sums of regions: host arithmetic of one model's images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from flipjax.groups import TWO_BY_TWO, AnyGroups

if TYPE_CHECKING:
    from flipjax.metrics.regions import RegionSums


def region_quantities(
    sums: RegionSums, groups: np.ndarray | None = None, *, all_groups: AnyGroups | None = TWO_BY_TWO
) -> dict[str, float]:
    """Returns the quantities of a model's regions over its images, and of its groups: see `results.quantities`.

    Pixels are pooled over the images. The calibration error is the mean over bins of |confidence - accuracy|, weighted
    by their pixels.

    Args:
        sums: of n images, numpy or JAX leaves (n, ...).
        groups: int (n,).
        all_groups: what they number; None: nothing in particular.

    Returns:
        Numbers by key, `group/<g>/<key>` for those of a group; NaN where there is no such pixel.

    Example:
        >>> from flipjax.metrics.regions import RegionSums
        >>> two = np.array([[4, 4]])
        >>> sums = RegionSums(two, np.array([[1, 2]]), two, np.array([[2.0, 1.0]]), np.array([8]), np.array([[-1, 3]]))
        >>> region_quantities(sums)
        {'rim_flip': 0.25, 'interior_flip': 0.5, 'rim_risk': 0.5, 'interior_risk': 0.25, 'fg_ece': 0.5}
    """
    arrays = [np.asarray(leaf) for leaf in sums]
    sides = {"": np.ones(len(arrays[0]), bool)}
    if groups is not None:
        named = all_groups.named if all_groups else {str(group): group for group in np.unique(groups)}
        sides |= {f"group/{name}/": np.isin(groups, ids) for name, ids in named.items()}
    values = {}
    for prefix, inside in sides.items():
        true, flips, predicted, risk, shared, gaps = (leaf[inside].sum(0, dtype=np.float64) for leaf in arrays)
        shares = [*_ratio(flips, true), *_ratio(risk, predicted), *_ratio(np.abs(gaps).sum(keepdims=True), shared)]
        names = ("rim_flip", "interior_flip", "rim_risk", "interior_risk", "fg_ece")
        values |= {f"{prefix}{name}": share for name, share in zip(names, shares, strict=True)}
    return values


def _ratio(part: np.ndarray, whole: np.ndarray) -> list[float]:
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0).tolist()
