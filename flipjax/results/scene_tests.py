"""Whether the scene decides if an object keeps its label: Cochran's Q over sets of more than two scenes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.special import chdtrc

from flipjax.metrics.classes import background_classes
from flipjax.results.cells import StoredCell
from flipjax.results.frames import groups_of, to_frame
from flipjax.results.pairs import region_class, whole_pairs
from flipjax.results.rows import axes_of, kept_records, member_quantities, rounded


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
            means = np.mean([_right(cell_of[name], name) for name in members], axis=0)
            outcomes = np.where(np.isnan(means), np.nan, means > 0.5)
            part = cell.parts["test"]
            y = cell.groups.class_of(part.groups[whole_pairs(part.pairs)[:, :1]]).ravel()
            for own, title in enumerate(cell.class_names[1:]):
                test = cochran_q(outcomes[y == own])
                known = outcomes[y == own][~np.isnan(outcomes[y == own]).any(1)]
                row = dict(zip(names, setting, strict=True)) | {"class": title, "n": test.n}
                shares = known.mean(0) if test.n else np.full(len(cell.scene_names), np.nan)
                row |= {f"right_{scene}": rounded(s) for scene, s in zip(cell.scene_names, shares, strict=True)}
                table.append(row | {"q": rounded(test.statistic), "p": test.p})
    frame = to_frame(table)
    return frame.assign(p_holm=holm(frame["p"])) if len(frame) else frame


def _right(cell: StoredCell, member: str) -> np.ndarray:
    """Returns whether each object's label is right in each scene, float64 (P, S): 1, 0, or NaN without a region."""
    part = cell.parts["test"]
    decomposition = cell.decomposition(member, "test")
    labels = region_class(decomposition)
    right = np.where(labels == 1 + cell.groups.class_of(part.groups), 1.0, 0.0)
    right[np.isin(labels, background_classes(decomposition.background))] = np.nan
    sets = whole_pairs(part.pairs)
    # Images of a set stand in the order of their scenes.
    order = np.argsort(cell.groups.scene_of(part.groups[sets]), axis=1)
    return np.take_along_axis(right[sets], order, axis=1)
