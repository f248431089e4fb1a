"""Computes columns per image, counterfactual flips and region quantities from stored counts."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from flipjax.groups import TWO_BY_TWO, AnyGroups
from flipjax.intervene.identity import SceneSwap
from flipjax.metrics.classes import Background, background_classes, is_foreground
from flipjax.metrics.decomposition import Decomposition, divide, flips_of
from flipjax.results.frames import Row, rounded
from flipjax.results.quantities import IMAGE_QUANTITIES

if TYPE_CHECKING:
    from flipjax.metrics.regions import RegionSums


def image_columns(
    decomposition: Decomposition, class_names: Sequence[str], *, swap: SceneSwap | None = None
) -> dict[str, np.ndarray]:
    """Returns the columns of n images.

    The columns of `IMAGE_QUANTITIES`, float64 and NaN where a denominator is empty, and of `SCENE_IMAGE_QUANTITIES`
    where scenes were swapped; `foreground_pixels` and `pixels`, int64; `largest_flip`, as 'cat as dog', '' without
    flips.

    Args:
        decomposition: confusion (n, C, C), risk_sum (n,), NumPy.
        class_names: C names.
        swap: the scene swap of the same images.

    Example:
        >>> counts = np.array([[[4, 0, 0], [1, 2, 1], [0, 0, 0]]])
        >>> columns = image_columns(Decomposition(counts, np.array([0.4])), ("background", "cat", "dog"))
        >>> columns["flip"].tolist(), columns["largest_flip"].tolist(), columns["pixels"].tolist()
        ([0.25], ['cat as dog'], [8])
    """
    confusion = np.asarray(decomposition.confusion).astype(np.int64)
    host = Decomposition(confusion, np.asarray(decomposition.risk_sum, np.float64), decomposition.background)
    columns = {name: np.asarray(getattr(host, name), np.float64) for name in IMAGE_QUANTITIES}
    if swap is not None:
        columns |= {"swap_risk": swap.risk, "repaired_flip": np.asarray(swap.repaired.flip, np.float64)}
    inside = is_foreground(confusion.shape[-1], decomposition.background)
    columns["foreground_pixels"] = confusion[:, inside].sum((1, 2))
    columns["pixels"] = confusion.sum((1, 2))
    flips = flips_of(confusion, background=decomposition.background).reshape(len(confusion), -1)
    names = np.array([f"{truth} as {other}" for truth in class_names for other in class_names], np.str_)
    columns["largest_flip"] = np.where(flips.max(1, initial=0) > 0, names[flips.argmax(1)], "")
    return columns


def flip_rows(confusion: np.ndarray, class_names: Sequence[str], *, background: Background = 0) -> list[Row]:
    """Returns a row for each true foreground class and predicted class: pixels, and their share of the true class.

    Args:
        confusion: int (C, C), rows truth.
        class_names: C names.
        background: its class, several or None.
    """
    rows = []
    inside = is_foreground(len(class_names), background)
    for truth, other in itertools.product(np.flatnonzero(inside).tolist(), range(len(class_names))):
        outcome = "correct" if other == truth else "flip" if inside[other] else "miss"
        pixels, whole = int(confusion[truth, other]), int(confusion[truth].sum())
        row = {"truth": class_names[truth], "prediction": class_names[other], "outcome": outcome, "pixels": pixels}
        rows.append(row | {"share": rounded(pixels / whole) if whole else ""})
    return rows


def region_class(decomposition: Decomposition) -> np.ndarray:
    """Returns the majority label of each predicted region, int64 (n,).

    Without a region it is the first background class, or -1 where there is none.

    Ignored pixels do not count. Ties go to the first label.

    Args:
        decomposition: leaves (n, C, C) and (n,).

    Example:
        >>> counts = np.array([[[4, 0, 0], [0, 1, 2], [0, 0, 0]], [[4, 0, 0], [1, 0, 0], [0, 0, 0]]])
        >>> region_class(Decomposition(counts, np.zeros(2))).tolist()
        [2, 0]
    """
    counts = np.asarray(decomposition.confusion).sum(1, dtype=np.int64)
    outside = background_classes(decomposition.background)
    counts[:, list(outside)] = 0
    return np.where(counts.any(1), counts.argmax(1), outside[0] if outside else -1)


def whole_pairs(pairs: np.ndarray, *, size: int = 0) -> np.ndarray:
    """Returns the image indices (P, size) of each counterfactual set, ordered by set number; -1 means no set.

    Smaller sets are left out. `size` defaults to that of the largest set (the number of scenes), at least 2.

    Example:
        >>> whole_pairs(np.array([3, 1, -1, 1, 3, 5])).tolist()
        [[1, 3], [0, 4]]
    """
    pairs = np.asarray(pairs)
    numbers, counts = np.unique(pairs[pairs >= 0], return_counts=True)
    size = size or max(2, counts.max(initial=0))
    sets = [np.flatnonzero(pairs == number) for number in numbers[counts == size]]
    return np.array(sets, np.int64).reshape(-1, size)


def label_changes(decomposition: Decomposition, pairs: np.ndarray) -> np.ndarray:
    """Returns whether the predicted label of each set changes with the scene, as 1, 0 or NaN, float64 (P,).

    The label is the majority of the region (`region_class`); NaN if an image of the set has no region.

    Args:
        decomposition: leaves (n, C, C) and (n,).
        pairs: int (n,), the counterfactual set of each image or -1.

    Example:
        >>> counts = np.zeros((4, 3, 3), int)
        >>> counts[[0, 1, 2, 3], 1, [1, 2, 1, 1]] = 5
        >>> label_changes(Decomposition(counts, np.zeros(4)), np.array([0, 0, 1, 1])).tolist()
        [1.0, 0.0]
    """
    labels = region_class(decomposition)[whole_pairs(pairs)]
    known = ~np.isin(labels, (-1, *background_classes(decomposition.background))).any(1)
    return np.where(known, (labels != labels[:, :1]).any(1), np.nan)


def counterfactual_flip(decomposition: Decomposition, pairs: np.ndarray) -> float:
    """Returns the fraction of sets whose predicted label changes with the scene; NaN without sets.

    Needs no true labels. Arguments as in `label_changes`.
    """
    return float(pd.Series(label_changes(decomposition, pairs)).mean())


def region_quantities(
    sums: RegionSums, groups: np.ndarray | None = None, *, all_groups: AnyGroups | None = TWO_BY_TWO
) -> dict[str, float]:
    """Returns the region quantities of a model over all images and by group; see `results.quantities`.

    Pixels are pooled over the images. The calibration error is the mean over bins of |confidence - accuracy|, weighted
    by their pixels.

    Args:
        sums: region sums of n images, NumPy or JAX leaves (n, ...).
        groups: int (n,).
        all_groups: the groups that are numbered; None leaves them undefined.

    Returns:
        Numbers by key, `group/<g>/<key>` for those of a group; NaN without such pixels.

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
        ratios = (divide(flips, true), divide(risk, predicted), divide(np.abs(gaps).sum(keepdims=True), shared))
        names = ("rim_flip", "interior_flip", "rim_risk", "interior_risk", "fg_ece")
        values |= {f"{prefix}{name}": share for name, share in zip(names, np.concatenate(ratios).tolist(), strict=True)}
    return values
