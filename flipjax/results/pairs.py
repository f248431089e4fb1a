"""Counterfactual sets: one object in all scenes, whether its predicted label follows the scene, and tests of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.special import bdtr, chdtrc

from flipjax.results.cells import StoredCell
from flipjax.results.estimates import seeds_of
from flipjax.results.frames import groups_of, rounded, to_frame
from flipjax.results.images import label_changes, region_class, whole_pairs
from flipjax.results.rows import axes_of, kept_records, member_quantities


class McNemar(NamedTuple):
    """McNemar's exact test of n events that two models share: how often the first alone, the second alone; p."""

    n: int
    only_first: int
    only_second: int
    p: float


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
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    known = ~np.isnan(first) & ~np.isnan(second)
    b = int(((first == 1) & (second == 0)).sum())
    c = int(((first == 0) & (second == 1)).sum())
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
    changes = {
        member: label_changes(cell.decomposition(member, "test"), cell.parts["test"].pairs)
        for cell in cells.values()
        for member in cell.members
    }
    names = [name for name in axes_of(rows) if name not in (axis, "seed")]
    table = []
    for setting, records in groups_of(member_quantities(rows), names) if axis in axes_of(rows) else ():
        base = records[axis].iloc[0] if reference is None else reference
        kept = kept_records(records)
        by_seed = kept.assign(seed=seeds_of(kept)).pivot(index="seed", columns=axis, values="member")
        for value in kept[axis].unique() if base in by_seed else ():
            both = by_seed[[value, base]].dropna()
            sides = [[changes.get(member, np.zeros(0)) for member in both[side]] for side in (value, base)]
            lengths = {len(each) for side in sides for each in side}
            if value == base or len(lengths) != 1 or 0 in lengths:
                continue
            first, second = (pd.Series(_most(changed)) for changed in sides)
            test = mcnemar(first, second)
            row = {axis: value, **dict(zip(names, setting, strict=True)), "reference": base, "seeds": len(both)}
            row |= {"n": test.n, "share": rounded(first.mean()), "reference_share": rounded(second.mean())}
            table.append(row | {"only": test.only_first, "only_reference": test.only_second, "p": rounded(test.p)})
    return to_frame(table)


def _most(outcomes: Sequence[np.ndarray]) -> np.ndarray:
    """Says what is so in more than half of the seeds: float64 1, 0, or NaN where a seed has no label."""
    mean = np.mean(outcomes, axis=0)
    return np.where(np.isnan(mean), np.nan, mean > 0.5)


class CochranQ(NamedTuple):
    """Cochran's test of n things under S conditions: its statistic and p, chi-squared of S - 1 degrees."""

    n: int
    statistic: float
    p: float


def cochran_q(outcomes: Any) -> CochranQ:
    """Returns Cochran's test of whether an event is as frequent under S conditions of the same n things.

    Things without a value (NaN) under some condition are left out; of two conditions it is McNemar's chi-squared.

    Args:
        outcomes: (n, S) 1, 0 or NaN.

    Source: Cochran, The comparison of percentages in matched samples, 1950.

    Example:
        >>> cochran_q([[1, 1, 0], [1, 0, 0], [1, 0, 0], [1, 1, 1]]).statistic
        4.666666666666667
    """
    known = np.asarray(outcomes, np.float64)
    known = known[~np.isnan(known).any(1)]
    S = known.shape[1]
    of_things, of_conditions = known.sum(1), known.sum(0)
    spread = S * of_things.sum() - (of_things**2).sum()
    gaps = S * (of_conditions**2).sum() - of_conditions.sum() ** 2
    statistic = float((S - 1) * gaps / spread) if spread else 0.0
    return CochranQ(len(known), statistic, float(chdtrc(S - 1, statistic)))


def holm(p: Any) -> np.ndarray:
    """Returns the p of several tests (m,) adjusted by Holm's method, float64: below a level, the whole family is.

    Source: Holm, A simple sequentially rejective multiple test procedure, 1979.

    Example:
        >>> holm([0.01, 0.04, 0.03]).tolist()
        [0.03, 0.06, 0.06]
    """
    p = np.asarray(p, np.float64)
    order = np.argsort(p)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(1, np.maximum.accumulate((len(p) - np.arange(len(p))) * p[order]))
    return adjusted


def scene_tests(rows: pd.DataFrame, cells: Mapping[str, StoredCell]) -> pd.DataFrame:
    """Returns Cochran's Q of the test objects of each class: is their label right as often in each of S > 2 scenes?

    An outcome an object and scene: right in more than half of the seeds; it speaks for these seeds. Objects without a
    region somewhere are left out. No rows where there are two scenes or no sets.

    Args:
        rows: of results.csv.
        cells: the run's, by name.

    Returns:
        A row a setting and class: the axes but the seed, `class`, `n`, `right_<scene>` for each scene, `q`, `p`, and
        `p_holm`, adjusted for all rows.
    """
    cell_of = {member: cell for cell in cells.values() for member in cell.members if len(cell.scene_names) > 2}
    names = [name for name in axes_of(rows) if name != "seed"]
    table = []
    for setting, records in groups_of(kept_records(member_quantities(rows)), names):
        members = [name for name in records["member"] if name in cell_of]
        if members:
            cell = cell_of[members[0]]
            outcomes = _most([_right(cell_of[name], name) for name in members])
            part = cell.parts["test"]
            y = cell.groups.class_of(part.groups[whole_pairs(part.pairs)[:, :1]]).ravel()
            for own, title in enumerate(cell.class_names[1:]):
                right = pd.DataFrame(outcomes[y == own], columns=[f"right_{scene}" for scene in cell.scene_names])
                test = cochran_q(right)
                row = dict(zip(names, setting, strict=True)) | {"class": title, "n": test.n}
                row |= {scene: rounded(share) for scene, share in right.dropna().mean().items()}
                table.append(row | {"q": rounded(test.statistic), "p": test.p})
    frame = to_frame(table)
    return frame.assign(p_holm=holm(frame["p"])) if len(frame) else frame


def _right(cell: StoredCell, member: str) -> np.ndarray:
    """Returns whether each object's label is right in each scene, float64 (P, S): 1, 0, or NaN without a region."""
    part = cell.parts["test"]
    labels = region_class(cell.decomposition(member, "test"))
    right = np.where(labels == 0, np.nan, labels == 1 + cell.groups.class_of(part.groups))
    sets = whole_pairs(part.pairs)
    # Images of a set stand in the order of their scenes.
    order = np.argsort(cell.groups.scene_of(part.groups[sets]), axis=1)
    return np.take_along_axis(right[sets], order, axis=1)
