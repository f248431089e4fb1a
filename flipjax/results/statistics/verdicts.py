"""The one rule for verdicts on differences between members. A verdict, lower or higher, is `judge`'s.

1. A family is what one table compares: the trends of a run, its methods under the first selection rule, its selection
   rules (`Differences`), or two runs. A table says its family's size in the column `comparisons`.
2. A comparison is tested if its quantity is in JUDGED, it has FEWEST_SEEDS or more, most of its members have learnt the
   classes (at both ends of a trend, or by both methods), and the seeds differ.
3. `shared_p` tests each with a variance that is shared within its quantity, so that four seeds that agree by chance
   make no verdict.
4. `holm` corrects the family's p values, and a verdict needs one below LEVEL.

`flipjax.results.statistics.estimates` has the differences and their intervals. `sweeps/studies/coverage` measures the
size and the power of the rule, also where noise is not normal.
"""

import dataclasses

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import stdtr

from flipjax.metrics.statistics.permutation import LEVEL
from flipjax.results.rows import CLASSES_NOT_LEARNT
from flipjax.results.statistics.estimates import compare, trend
from flipjax.support.frames import DIGITS

FEWEST_SEEDS = 4
"""Seeds below which there is no verdict."""
CORRECTION = "Holm's correction"
"""What pages and tables call `holm`; flipjax/GLOSSARY.md says it, too."""
JUDGED = ("group/rare/fg_flip", "gap/mean", "worst_group_iou", "iou/foreground", "risk_auroc")
"""The quantities that a page compares and judges."""
NOT_KNOWN = f"no verdict: {CLASSES_NOT_LEARNT}"
"""Why a difference has no verdict, before the levels of rho or the methods whose members have not learnt."""
LEAST_SPREAD = 10.0**-DIGITS
"""Standard deviation below which seeds count as equal: stored values are rounded, so a smaller one is not real."""


@dataclasses.dataclass(frozen=True)
class Differences:
    """The judged differences of a run, a family each, from members of the first selection rule unless said."""

    trend: pd.DataFrame
    """Differences between the highest and the lowest rho."""
    comparison: pd.DataFrame
    """Differences of methods from the first one."""
    selection: pd.DataFrame
    """Differences of the other selection rules from the first."""


def differences_of(rows: pd.DataFrame) -> Differences:
    """Returns trends and comparisons of the rows of results.csv, with verdicts."""
    first = rows[rows["selection"] == rows["selection"].iloc[0]]
    return Differences(judge(trend(first)), judge(compare(first)), judge(compare(rows, axis="selection")))


def judge(table: pd.DataFrame) -> pd.DataFrame:
    """Returns a table of `compare` or `trend`, which is one family, with its verdicts.

    Adds `p`, adjusted over the family and NaN for rows that are not tested; `comparisons`, the family's size;
    `verdict`, 'lower', 'higher' or ''; and `reason`, why there is no verdict. A family without any true difference has
    a verdict with probability LEVEL at most.

    Example:
        >>> two = {"quantity": ["gap/mean"] * 2, "n": [4, 4], "variance": [0.001, 0.002], "difference": [0.3, 0.01]}
        >>> two |= {"low": [0.25, -0.06], "high": [0.35, 0.08], "learnt": True, "unlearnt_where": ""}
        >>> two = pd.DataFrame(two)
        >>> judge(two)[["p", "comparisons", "verdict", "reason"]].round(4).to_numpy().tolist()
        [[0.0001, 2, 'higher', ''], [0.685, 2, '', 'no significant difference']]
    """
    p = _uncorrected_p(table)
    tested = np.isfinite(p)
    p[tested] = holm(p[tested])
    sides = np.where(table["difference"] > 0, "higher", "lower")
    judged = table.assign(p=p, comparisons=int(tested.sum()), verdict=np.where(p < LEVEL, sides, ""))
    return judged.assign(reason=_reasons(judged))


def _uncorrected_p(table: pd.DataFrame) -> np.ndarray:
    """Returns the p of each row, float64 (rows,), NaN for those that are not tested."""
    p = np.full(len(table), np.nan)
    testable = table["quantity"].isin(JUDGED) & (table["n"] >= FEWEST_SEEDS) & table["learnt"].astype(bool)
    numbered = table.reset_index(drop=True)
    for _, rows in numbered[testable.to_numpy()].groupby("quantity", sort=False):
        difference, variance, n = rows[["difference", "variance", "n"]].to_numpy(np.float64).T
        p[rows.index] = shared_p(difference, variance, n, sharing=_sharing(rows))
    return p


def _sharing(rows: pd.DataFrame) -> int:
    """Returns how many comparisons of one quantity have the same reference: the most in one setting of other axes.

    Trends may share seeds, and count as if all had one reference.
    """
    if "reference" not in rows:
        return len(rows)
    columns = list(rows.columns)
    # The other axes stand first, then the compared axis, then `reference`.
    setting = columns[: columns.index("reference") - 1]
    if not setting:
        return len(rows)
    return int(rows.groupby(setting, dropna=False).size().max())


def _reasons(judged: pd.DataFrame) -> np.ndarray:
    """Returns why rows have no verdict, '' where they have one or none is asked for; the first condition counts."""
    interval_has_zero = (judged["low"] <= 0) & (judged["high"] >= 0)
    reasons = {
        "": (judged["verdict"] != "") | ~judged["quantity"].isin(JUDGED),
        "no seed has both": judged["n"] == 0,
        NOT_KNOWN: ~judged["learnt"].astype(bool),
        f"no verdict below {FEWEST_SEEDS} seeds": judged["n"] < FEWEST_SEEDS,
        "no difference in any seed": judged["p"].isna() & (judged["difference"] == 0),
        "no verdict: all seeds are equal": judged["p"].isna(),
        "no significant difference": interval_has_zero,
    }
    conditions = [condition.to_numpy(bool) for condition in reasons.values()]
    reason = np.select(conditions, list(reasons), f"not significant after {CORRECTION}")
    where = [f"{NOT_KNOWN} {place}" for place in judged["unlearnt_where"]]
    return np.where(reason == NOT_KNOWN, where, reason)


def shared_p(difference: ArrayLike, variance: ArrayLike, n: ArrayLike, *, sharing: int = 1) -> np.ndarray:
    """Returns the two-sided p of each of m comparisons of one quantity, with a variance that they share.

    A comparison is tested with its own variance or, if larger, the mean of all. The mean has Satterthwaite's degrees of
    freedom, and at least a comparison's own. Student's t with each variance alone finds little over many comparisons,
    and is wrong where training collapses in some seeds: four collapses, or none, have almost no spread.

    Differences from one reference correlate by 1/2 and their variances by 1/4, so k of them have the degrees of freedom
    of 4 k / (k + 3) comparisons.

    Args:
        difference: (..., m) means over seeds.
        variance: (..., m) over seeds.
        n: (..., m) or a number, the seeds: two or more.
        sharing: k, the number of comparisons with one reference.

    Returns:
        (..., m); NaN where even the shared variance is below the rounding of values.

    Source:
        Satterthwaite, An approximate distribution of estimates of variance components, 1946.

    Example:
        >>> shared_p([0.2, 0.2, 0.0], [0.0001, 0.01, 0.02], 4).round(3).tolist()
        [0.009, 0.009, 1.0]
    """
    variance = np.asarray(variance, np.float64)
    seeds = np.broadcast_to(np.asarray(n, np.float64), variance.shape)
    shared_variance = variance.mean(-1, keepdims=True)
    # Differences from one reference are not independent.
    shared_freedom = _freedom_of_mean(variance, seeds - 1) * 4 / (sharing + 3)
    # By more than rounding: equal variances are shared.
    has_larger = variance > shared_variance * (1 + 1e-9)
    freedom = np.where(has_larger, seeds - 1, np.maximum(shared_freedom, seeds - 1))
    spread = np.sqrt(np.where(has_larger, variance, shared_variance))
    measurable = spread >= LEAST_SPREAD
    t = np.abs(difference) / np.where(measurable, spread, 1.0) * np.sqrt(seeds)
    return np.where(measurable, 2 * stdtr(freedom, -t), np.nan)


def _freedom_of_mean(variance: np.ndarray, freedom: np.ndarray) -> np.ndarray:
    """Returns Satterthwaite's degrees of freedom of the mean of independent variances (..., m): float64 (..., 1).

    They are (sum of s)^2 / sum of (s^2 / f), of variances s with f degrees of freedom; 0 if all variances are 0.
    """
    # In units of the largest, so that squares of small numbers do not vanish.
    unit = np.maximum(variance.max(-1, keepdims=True), np.finfo(np.float64).tiny)
    relative = variance / unit
    squares = (relative**2 / freedom).sum(-1, keepdims=True)
    return relative.sum(-1, keepdims=True) ** 2 / np.where(squares > 0, squares, np.inf)


def holm(p: ArrayLike) -> np.ndarray:
    """Returns p values (..., m), each family of m adjusted by Holm's method, float64.

    Source: Holm, A simple sequentially rejective multiple test procedure, 1979.

    Example:
        >>> holm([0.01, 0.04, 0.03]).tolist()
        [0.03, 0.06, 0.06]
    """
    p = np.asarray(p, np.float64)
    order = np.argsort(p, axis=-1)
    ascending = np.take_along_axis(p, order, -1)
    # The smallest is multiplied by m, the next by m - 1, and so on; none is adjusted to less than one before it.
    factors = p.shape[-1] - np.arange(p.shape[-1])
    adjusted = np.minimum(1, np.maximum.accumulate(factors * ascending, axis=-1))
    in_given_order = np.empty_like(p)
    np.put_along_axis(in_given_order, order, adjusted, -1)
    return in_given_order
