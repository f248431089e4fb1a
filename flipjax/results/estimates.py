"""Means, differences and trends over seeds, and the one rule for verdicts on differences.

An interval is Student's t over two or more seeds of its row. A verdict, lower or higher, is `judge`'s:

1. A family is what one table compares: the trends of a run, its methods under the first selection rule, its selection
   rules (`Differences`), or two runs. A table says its family's size in the column `comparisons`.
2. A comparison is tested if its quantity is in JUDGED, it has FEWEST seeds or more, most of its members have learnt the
   classes (at both ends of a trend; of one method or of the other), and the seeds differ.
3. `shared_p` tests each with a variance that is shared within its quantity, so that four seeds that agree by chance
   make no verdict.
4. `holm` corrects the family's p values, and a verdict needs one below LEVEL.

`sweeps/studies/coverage` has its size and power, also where noise is not normal.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import stdtr, stdtrit

from flipjax.metrics.registry import RANGES
from flipjax.results.frames import DIGITS, groups_of, rounded
from flipjax.results.quantities import quantity_of
from flipjax.results.resamples import Resamples
from flipjax.results.rows import CLASSES_NOT_LEARNT, axes_of, kept_records, member_quantities, quantities_in

FEWEST = 4
"""Seeds below which there is no verdict."""
LEVEL = 0.05
"""Family-wise level of verdicts."""
JUDGED = ("group/rare/fg_flip", "gap/mean", "worst_group_iou", "iou/foreground", "risk_auroc")
"""The quantities that a page compares and judges."""
SEEDS_INTERVAL = "95% Student t interval over seeds"
"""What the intervals of a row of several seeds are, in words."""
LEAST_SPREAD = 10.0**-DIGITS
"""Stored values are rounded, so a standard deviation below their last digit is not real."""
SUMMARY = ("quantity", "n", "left_out", "values", "mean", "low", "high", "images_low", "images_high")
"""Columns of `aggregate`, after the axes."""
DIFFERENCE = ("quantity", "n", "left_out", "unlearnt", "learnt", "values", "difference", "low", "high", "variance")
"""Columns of `compare` and `trend`, after the axes."""


def estimate(records: pd.DataFrame, weights: ArrayLike = 1.0, seeds: ArrayLike | None = None) -> pd.DataFrame:
    """Returns the mean over seeds of weighted sums of records, one row per quantity.

    A seed counts for a quantity if all its records are finite. The interval is exact for normal values, too short for
    few skewed ones (`sweeps/studies/coverage`), and clipped to the quantity's range.

    Args:
        records: (n rows) of `member_quantities`.
        weights: (n,), the weight of each record in its seed's sum: 1 and -1 for a difference.
        seeds: (n,), the seed of each record; by default every record is its own seed.

    Returns:
        Columns `quantity`; `n`, seeds; `values` per seed, separated by blanks; `mean`; `low`, `high` and `variance`
        over seeds, NaN below two seeds.

    Example:
        >>> table = estimate(pd.DataFrame({"status": "done", "fg_flip": [0.0, 0.25, 0.5, 0.75]}))
        >>> table[["mean", "high", "variance"]].round(3).to_numpy().tolist()
        [[0.375, 0.889, 0.104]]
        >>> estimate(pd.DataFrame({"status": "done", "fg_flip": [0.25, 0.5]}), [1, -1], [0, 0])["mean"].tolist()
        [-0.25]
    """
    quantities = quantities_in(records)
    weight = np.broadcast_to(np.asarray(weights, np.float64), len(records))
    seed = np.arange(len(records))
    if seeds is not None:
        seed, _ = pd.factorize(np.asarray(seeds), use_na_sentinel=False)
    sums = np.zeros((seed.max(initial=-1) + 1, len(quantities)))
    np.add.at(sums, seed, weight[:, None] * records[quantities].to_numpy(np.float64))
    finite = np.isfinite(sums)
    n = finite.sum(0)
    mean = _ratio(np.where(finite, sums, 0.0).sum(0), n)
    squares = np.where(finite, sums - mean, 0.0) ** 2
    variance = _ratio(squares.sum(0), n - 1)
    half = stdtrit(np.maximum(n - 1, 1), 0.975) * np.sqrt(_ratio(variance, n))
    # Every seed has the weights of the first.
    ranges = np.array([weighted_range(quantity, weight[seed == 0]) for quantity in quantities]).reshape(-1, 2)
    values = [sums[finite[:, column], column].tolist() for column in range(len(quantities))]
    return pd.DataFrame(
        {
            "quantity": quantities,
            "n": n,
            "values": [" ".join(str(rounded(value)) for value in of_seeds) for of_seeds in values],
            "mean": _rounded(mean),
            "low": _rounded(np.clip(mean - half, ranges[:, 0], ranges[:, 1])),
            "high": _rounded(np.clip(mean + half, ranges[:, 0], ranges[:, 1])),
            "variance": variance,
        }
    )


def _ratio(numerator: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Returns numerator / count, NaN where the count is not positive."""
    return np.divide(numerator, count, out=np.full(len(count), np.nan), where=count > 0)


def _rounded(values: np.ndarray) -> np.ndarray:
    return np.round(values, DIGITS) + 0.0


@functools.cache
def range_of(quantity: str) -> tuple[float, float]:
    """Returns the least and the largest value of a quantity by key.

    Example:
        >>> range_of("group/rare/fg_flip"), range_of("gap/mean")
        ((0.0, 1.0), (-1.0, 1.0))
    """
    return RANGES[quantity_of(quantity).unit]


def weighted_range(quantity: str, weights: Sequence[float] | np.ndarray) -> tuple[float, float]:
    """Returns the least and the largest weighted sum of values of a quantity; weights of 0 count for nothing.

    Example:
        >>> weighted_range("fg_flip", [1.0, -1.0])
        (-1.0, 1.0)
    """
    least = 0.0
    largest = 0.0
    for weight in np.asarray(weights, np.float64).tolist():
        if weight == 0:
            continue
        ends = [weight * end for end in range_of(quantity)]
        least += min(ends)
        largest += max(ends)
    return least, largest


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
    shared = variance.mean(-1, keepdims=True)
    # In units of the largest, so that squares of small numbers do not vanish.
    unit = np.maximum(variance.max(-1, keepdims=True), np.finfo(np.float64).tiny)
    relative = variance / unit
    squares = (relative**2 / (seeds - 1)).sum(-1, keepdims=True)
    independent = relative.sum(-1, keepdims=True) ** 2 / np.where(squares > 0, squares, np.inf)
    # Of k comparisons that are independent; with one reference they are worth 4 / (k + 3) of it.
    shared_freedom = independent * 4 / (sharing + 3)
    # By more than rounding: equal variances are shared.
    larger = variance > shared * (1 + 1e-9)
    freedom = np.where(larger, seeds - 1, np.maximum(shared_freedom, seeds - 1))
    spread = np.sqrt(np.where(larger, variance, shared))
    measurable = spread >= LEAST_SPREAD
    t = np.abs(difference) / np.where(measurable, spread, 1.0) * np.sqrt(seeds)
    return np.where(measurable, 2 * stdtr(freedom, -t), np.nan)


def holm(p: ArrayLike) -> np.ndarray:
    """Returns p values (..., m), each family of m adjusted by Holm's method, float64.

    Source: Holm, A simple sequentially rejective multiple test procedure, 1979.

    Example:
        >>> holm([0.01, 0.04, 0.03]).tolist()
        [0.03, 0.06, 0.06]
    """
    p = np.asarray(p, np.float64)
    order = np.argsort(p, axis=-1)
    factors = p.shape[-1] - np.arange(p.shape[-1])
    in_order = np.minimum(1, np.maximum.accumulate(factors * np.take_along_axis(p, order, -1), axis=-1))
    adjusted = np.empty_like(p)
    np.put_along_axis(adjusted, order, in_order, -1)
    return adjusted


def judge(table: pd.DataFrame) -> pd.DataFrame:
    """Returns a table of `compare` or `trend`, which is one family, with its verdicts.

    Adds `p`, adjusted over the family and NaN for rows that are not tested; `comparisons`, the family's size;
    `verdict`, 'lower', 'higher' or ''; and `reason`, why there is no verdict. A family without any true difference has
    a verdict with probability LEVEL at most.

    Example:
        >>> two = {"quantity": ["gap/mean"] * 2, "n": [4, 4], "learnt": True, "variance": [0.001, 0.002]}
        >>> two = pd.DataFrame(two | {"difference": [0.3, 0.01], "low": [0.25, -0.06], "high": [0.35, 0.08]})
        >>> judge(two)[["p", "comparisons", "verdict", "reason"]].round(4).to_numpy().tolist()
        [[0.0001, 2, 'higher', ''], [0.685, 2, '', 'no significant difference']]
    """
    p = np.full(len(table), np.nan)
    testable = table["quantity"].isin(JUDGED) & (table["n"] >= FEWEST) & table["learnt"].astype(bool)
    for _, rows in table.reset_index(drop=True)[testable.to_numpy()].groupby("quantity", sort=False):
        difference, variance, n = rows[["difference", "variance", "n"]].to_numpy(np.float64).T
        p[rows.index] = shared_p(difference, variance, n, sharing=_sharing(rows))
    tested = np.isfinite(p)
    p[tested] = holm(p[tested])
    sides = np.where(table["difference"] > 0, "higher", "lower")
    judged = table.assign(p=p, comparisons=int(tested.sum()), verdict=np.where(p < LEVEL, sides, ""))
    return judged.assign(reason=_reasons(judged))


def _sharing(rows: pd.DataFrame) -> int:
    """Returns how many comparisons of one quantity have the same reference: the most in one setting of other axes.

    Trends may share seeds, and count as if all had one reference.
    """
    if "reference" not in rows:
        return len(rows)
    # The column before `reference` is the compared axis.
    *setting, _ = rows.loc[:, :"reference"].columns[:-1]
    if not setting:
        return len(rows)
    return int(rows.groupby(setting, dropna=False).size().max())


def _reasons(judged: pd.DataFrame) -> np.ndarray:
    """Returns why rows have no verdict, '' where they have one or none is asked for; the first condition counts."""
    interval_has_zero = (judged["low"] <= 0) & (judged["high"] >= 0)
    reasons = {
        "": (judged["verdict"] != "") | ~judged["quantity"].isin(JUDGED),
        "no seed has both": judged["n"] == 0,
        f"no verdict: {CLASSES_NOT_LEARNT}": ~judged["learnt"].astype(bool),
        f"no verdict below {FEWEST} seeds": judged["n"] < FEWEST,
        "no difference in any seed": judged["p"].isna() & (judged["difference"] == 0),
        "no verdict: all seeds are equal": judged["p"].isna(),
        "no significant difference": interval_has_zero,
    }
    conditions = [condition.to_numpy(bool) for condition in reasons.values()]
    return np.select(conditions, list(reasons), "not significant after Holm's correction")


@dataclasses.dataclass(frozen=True)
class Differences:
    """The judged differences of a run, a family each, from members of the first selection rule unless said."""

    trend: pd.DataFrame
    """From the lowest to the highest rho."""
    comparison: pd.DataFrame
    """Of methods from the first one."""
    selection: pd.DataFrame
    """Of the other selection rules from the first."""


def differences_of(rows: pd.DataFrame) -> Differences:
    """Returns trends and comparisons of the rows of results.csv, with verdicts."""
    first = rows[rows["selection"] == rows["selection"].iloc[0]]
    return Differences(judge(trend(first)), judge(compare(first)), judge(compare(rows, axis="selection")))


def seeds_of(records: pd.DataFrame) -> pd.Series:
    """Returns the seeds that pair records, or one constant if there is no seed axis."""
    if "seed" in records:
        return records["seed"]
    return pd.Series(0, records.index)


def has_learnt(records: pd.DataFrame) -> bool:
    """Returns whether most of some members have learnt the classes."""
    unlearnt = records["status"] == CLASSES_NOT_LEARNT
    return records.empty or float(unlearnt.mean()) < 0.5


def count_unlearnt(records: pd.DataFrame) -> int:
    """Returns how many of some members have not learnt the classes."""
    return int((records["status"] == CLASSES_NOT_LEARNT).sum())


def _joined(tables: Sequence[pd.DataFrame], columns: Sequence[str]) -> pd.DataFrame:
    if not tables:
        return pd.DataFrame(columns=list(columns))
    return pd.concat(tables, ignore_index=True)[list(columns)]


def aggregate(rows: pd.DataFrame, *, resamples: Resamples | None = None) -> pd.DataFrame:
    """Returns the mean of every quantity over seeds, one row per setting of the other axes and quantity.

    Columns: the axes except the seed; `quantity`; `n`, members with a finite value; `left_out`, the others; `values`
    per seed, separated by blanks; `mean`, `low` and `high` as in `estimate`; `images_low` and `images_high`, the
    interval over the test images for these models, if `resamples` are given.
    """
    names = [name for name in axes_of(rows) if name != "seed"]
    return means_of(member_quantities(rows), names, resamples=resamples)


def means_of(records: pd.DataFrame, names: Sequence[str], *, resamples: Resamples | None = None) -> pd.DataFrame:
    """Returns the rows of `aggregate` for each setting of the axes `names`."""
    tables = []
    for setting, members in groups_of(records, names):
        kept = kept_records(members)
        axes = dict(zip(names, setting, strict=True))
        table = estimate(kept).assign(**axes, left_out=len(members) - len(kept))
        intervals = {}
        if resamples is not None:
            intervals = resamples.intervals(kept["member"].tolist(), axes.get("selection", ""))
        over_images = [intervals.get(quantity, (math.nan, math.nan)) for quantity in table["quantity"]]
        low, high = np.round(np.array(over_images, np.float64).reshape(-1, 2), DIGITS).T
        tables.append(table.assign(images_low=low, images_high=high))
    return _joined(tables, [*names, *SUMMARY])


def trend(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the change of every quantity from the lowest to the highest rho, paired by seed, one row per setting.

    A seed counts for a quantity if it is finite at every level, ignoring levels whose members were all left out.
    Columns: the other axes; `from` and `to`, the levels; `before` and `after`, the means at them over the seeds that
    count; then those of `compare`, where `unlearnt` counts members at both ends and `learnt` says whether most have
    learnt the classes at each. A setting with fewer than two levels has no rows.
    """
    names = [name for name in axes_of(rows) if name not in ("rho", "seed")]
    columns = [*names, "from", "to", "before", "after", *DIFFERENCE]
    if "rho" not in axes_of(rows):
        return _joined([], columns)
    tables = []
    for setting, records in groups_of(member_quantities(rows), names):
        kept = kept_records(records).sort_values("rho", kind="stable")
        levels = kept["rho"].unique().astype(np.float64)
        if len(levels) < 2:
            continue
        axes = dict(zip(names, setting, strict=True))
        table = _change_over(kept, levels).assign(**axes, left_out=len(records) - len(kept))
        tables.append(table)
    return _joined(tables, columns)


def _change_over(records: pd.DataFrame, levels: np.ndarray) -> pd.DataFrame:
    """Returns the rows of `trend` of one setting, of records in order of rho."""
    at_every_level = records.groupby(seeds_of(records))["rho"].transform("nunique") == len(levels)
    paired = records[at_every_level]
    seeds = seeds_of(paired)
    at_lowest = (paired["rho"] == levels[0]).to_numpy(np.float64)
    at_highest = (paired["rho"] == levels[-1]).to_numpy(np.float64)
    # Levels in between have weight 0, so that a seed that lacks one has no trend.
    change = estimate(paired, at_highest - at_lowest, seeds)
    lowest = records[records["rho"] == levels[0]]
    highest = records[records["rho"] == levels[-1]]
    return change.assign(
        **{"from": levels[0], "to": levels[-1]},
        before=estimate(paired, at_lowest, seeds)["mean"],
        after=estimate(paired, at_highest, seeds)["mean"],
        difference=change["mean"],
        unlearnt=count_unlearnt(lowest) + count_unlearnt(highest),
        learnt=has_learnt(lowest) and has_learnt(highest),
    )


def compare(rows: pd.DataFrame, *, axis: str = "method", reference: str | None = None) -> pd.DataFrame:
    """Returns the difference of every quantity between each value of an axis and a reference, paired by seed.

    The reference is the axis's first value by default. If it does not use an axis, such as another method's strength,
    it is compared with every value of that axis. A seed counts if both values are finite. There are no rows if the axis
    takes one value.

    Columns: the other axes; `axis`; `reference`; `quantity`; `n`, the seeds that count; `left_out`, the members of both
    that are in no mean; `unlearnt`, the members of the value that have not learnt the classes; `learnt`, whether most
    members of the value or of the reference have; `values`, the differences per seed, separated by blanks;
    `difference`, their mean (value minus reference); `low`, `high` and `variance` as in `estimate`.
    """
    names = [name for name in axes_of(rows) if name not in (axis, "seed")]
    columns = [*names, axis, "reference", *DIFFERENCE]
    if axis not in axes_of(rows) or rows.empty:
        return _joined([], columns)
    records = member_quantities(rows)
    if reference is None:
        reference = records[axis].iloc[0]
    tables = []
    for (*setting, value_of_axis), of_value in groups_of(records[records[axis] != reference], [*names, axis]):
        of_reference = records[records[axis] == reference]
        for name, value in zip(names, setting, strict=True):
            column = of_reference[name]
            of_reference = of_reference[(column == value) | column.isna() | (column == "")]
        if of_reference.empty:
            continue
        both = pd.concat([of_value, of_reference])
        kept = kept_records(both)
        seeds = seeds_of(kept)
        paired = kept.groupby(seeds)[axis].transform("nunique") == 2
        weights = np.where(kept[axis] == reference, -1.0, 1.0)
        table = estimate(kept[paired], weights[paired], seeds[paired])
        table = table.assign(
            **dict(zip(names, setting, strict=True)),
            **{axis: value_of_axis},
            reference=reference,
            left_out=len(both) - len(kept),
            difference=table["mean"],
            unlearnt=count_unlearnt(kept[kept[axis] != reference]),
            learnt=has_learnt(kept[kept[axis] != reference]) or has_learnt(kept[kept[axis] == reference]),
        )
        tables.append(table)
    return _joined(tables, columns)
