"""Counterfactual sets: one object in all scenes, and whether its predicted label follows the scene. NumPy alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.special import bdtr

from flipjax.metrics.classes import background_classes
from flipjax.metrics.decomposition import Decomposition
from flipjax.results.cells import StoredCell
from flipjax.results.frames import groups_of, to_frame
from flipjax.results.rows import axes_of, kept_records, member_quantities, rounded
from flipjax.results.seeds import seeds_of


class McNemar(NamedTuple):
    """McNemar's exact test of n events that two models share: how often the first alone, the second alone; p."""

    n: int
    only_first: int
    only_second: int
    p: float


def region_class(decomposition: Decomposition) -> np.ndarray:
    """Returns the label of most of each image's predicted region, int64 (n,): the first background class if none.

    It is read off the counts, of which ignored pixels are no part. Of labels equally frequent it is the first.

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
    """Returns the places (P, size) of the images of each counterfactual set, by its number; -1 is no set.

    A set with fewer images is left out; by default `size` is that of the largest set, the number of scenes, 2 at least.

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
    """Returns whether the predicted label of each set changes with the scene alone: 1, 0, or NaN, float64 (P,).

    The label is that of most of the region (`region_class`); NaN where an image of the set has no region.

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
    known = ~np.isin(labels, background_classes(decomposition.background)).any(1)
    return np.where(known, (labels != labels[:, :1]).any(1), np.nan)


def counterfactual_flip(decomposition: Decomposition, pairs: np.ndarray) -> float:
    """Returns the share of the sets whose predicted label changes with the scene alone; NaN without any.

    No labels are needed. Arguments as in `label_changes`.
    """
    changes = label_changes(decomposition, pairs)
    known = changes[~np.isnan(changes)]
    return float(known.mean()) if len(known) else math.nan


def mcnemar(first: Any, second: Any) -> McNemar:
    """Returns McNemar's exact test of whether an event is as frequent under two models of the same n things.

    Things for which either has no value (NaN) are left out. Only those decide that the models differ in: under the null
    hypothesis each is as likely the first's as the second's, and p is the two-sided binomial probability.

    Args:
        first: (n,) 1, 0 or NaN.
        second: (n,) the same.

    Source: McNemar, Note on the sampling error of the difference between correlated proportions, 1947.

    Example:
        >>> mcnemar([1, 1, 1, 1, 1, 0, 1], [0, 0, 0, 0, 0, 0, 1])
        McNemar(n=7, only_first=5, only_second=0, p=0.0625)
    """
    first = np.asarray(first, np.float64)
    second = np.asarray(second, np.float64)
    if first.shape != second.shape or first.ndim != 1:
        raise ValueError(f"second: expected (n,), as the first {first.shape}, found {second.shape}.")
    known = ~np.isnan(first) & ~np.isnan(second)
    b = int(((first == 1) & (second == 0))[known].sum())
    c = int(((first == 0) & (second == 1))[known].sum())
    p = min(1.0, 2 * float(bdtr(min(b, c), b + c, 0.5))) if b + c else 1.0
    return McNemar(int(known.sum()), b, c, p)


def pair_tests(
    rows: pd.DataFrame, cells: Mapping[str, StoredCell], *, axis: str = "method", reference: Any = None
) -> pd.DataFrame:
    """Returns McNemar's test of label changes over the test pairs, between a value of an axis and a reference value.

    The reference is the axis's first value unless given. A pair counts as changed where it is in more than half of the
    seeds that both have: an outcome a pair, so that the test's things are independent; it speaks for these seeds.
    Columns: the other axes; `axis`; `reference`; `seeds`; `n`, pairs; `share` and `reference_share` of them that
    change; `only` and `only_reference`, those that change under one alone; `p`. No rows where no pairs are stored.

    Args:
        rows: of results.csv.
        cells: the run's, by name, all of them on the same test pairs.
        axis: what is compared.
        reference: a value of it.
    """
    changes = {}
    for cell in cells.values():
        for member in cell.members:
            changes[member] = label_changes(cell.decomposition(member, "test"), cell.parts["test"].pairs)
    names = [name for name in axes_of(rows) if name not in (axis, "seed")]
    table = []
    for setting, records in groups_of(member_quantities(rows), names) if axis in axes_of(rows) else ():
        base = records[axis].iloc[0] if reference is None else reference
        kept = kept_records(records)
        by_value = {
            value: dict(zip(seeds_of(members), members["member"], strict=True))
            for (value,), members in groups_of(kept, [axis])
        }
        for value in by_value if base in by_value else ():
            seeds = [seed for seed in by_value[value] if seed in by_value[base]]
            sides = [[changes.get(by_value[side][seed], np.zeros(0)) for seed in seeds] for side in (value, base)]
            lengths = {len(each) for side in sides for each in side}
            if value == base or len(lengths) != 1 or 0 in lengths:
                continue
            first, second = map(_most, sides)
            test = mcnemar(first, second)
            row = {axis: value, **dict(zip(names, setting, strict=True)), "reference": base, "seeds": len(seeds)}
            row |= {"n": test.n, "share": _share(first), "reference_share": _share(second)}
            table.append(row | {"only": test.only_first, "only_reference": test.only_second, "p": rounded(test.p)})
    return to_frame(table)


def _most(changes: Sequence[np.ndarray]) -> np.ndarray:
    """Says whether each pair changes in more than half of the seeds; NaN where any seed has no label."""
    mean = np.mean(changes, axis=0)
    return np.where(np.isnan(mean), np.nan, mean > 0.5)


def _share(changes: np.ndarray) -> float | int | str:
    """Returns the share of the labelled pairs that change; blank where none is labelled."""
    labelled = changes[~np.isnan(changes)]
    return rounded(float(labelled.mean()) if labelled.size else math.nan)
