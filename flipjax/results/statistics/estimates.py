"""Means over seeds of members' quantities, and differences between members that are paired by seed.

Everything rests on `estimate`: for each seed it adds records of a quantity with weights, then gives the mean of these
sums over seeds and the interval of Student's t. Three tables are made of it, each with a row per quantity and setting
of the other axes:

- `aggregate`, the mean of members: all weights are 1.
- `trend`, the change from the lowest to the highest rho: the weight is -1 at the lowest and 1 at the highest.
- `compare`, the difference between a value of an axis and a reference value: the weight is 1 for members of the value
  and -1 for members of the reference.

`flipjax.results.statistics.verdicts` says which of these differences are significant.
"""

import functools
import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import stdtrit

from flipjax.metrics.registry import RANGES
from flipjax.metrics.summary.names import quantity_of
from flipjax.results.rows import CLASSES_NOT_LEARNT, axes_of, kept_records, member_quantities, quantities_in
from flipjax.results.statistics.resamples import Resamples
from flipjax.support.frames import DIGITS, groups_of, level_text, rounded

INTERVAL_IN_WORDS = "95% Student t interval over seeds"
"""What `low` and `high` of a row of several seeds are, for captions."""
SUMMARY_COLUMNS = (
    "quantity",
    "n",
    "left_out",
    "unlearnt",
    "values",
    "mean",
    "low",
    "high",
    "images_low",
    "images_high",
)
"""Columns of `aggregate`, after the axes."""
DIFFERENCE_COLUMNS = (
    "quantity",
    "n",
    "left_out",
    "unlearnt",
    "learnt",
    "unlearnt_where",
    "values",
    "difference",
    "low",
    "high",
    "variance",
)
"""Columns of `compare` and `trend`, after the axes."""


def estimate(records: pd.DataFrame, weights: ArrayLike = 1.0, seeds: ArrayLike | None = None) -> pd.DataFrame:
    """Returns the mean over seeds of weighted sums of records, one row per quantity.

    A seed counts for a quantity if all its records are finite. The interval is exact for normal values, too short for
    few skewed ones (`sweeps/studies/coverage`), and clipped to the quantity's range.

    Args:
        records: (n rows) of `member_quantities`.
        weights: (n,), the weight of each record in its seed's sum: 1 and -1 for a difference. Every seed has the same
            weights, in any order.
        seeds: (n,), the seed of each record; by default every record is its own seed.

    Returns:
        Columns `quantity`; `n`, the seeds that count; `values`, the sum of each of them, separated by blanks; `mean` of
        these sums; their `variance` over seeds, and `low` and `high`, the interval of their mean: NaN below two seeds.

    Example:
        >>> table = estimate(pd.DataFrame({"status": "done", "fg_flip": [0.0, 0.25, 0.5, 0.75]}))
        >>> table[["mean", "high", "variance"]].round(3).to_numpy().tolist()
        [[0.375, 0.889, 0.104]]
        >>> estimate(pd.DataFrame({"status": "done", "fg_flip": [0.25, 0.5]}), [1, -1], [0, 0])["mean"].tolist()
        [-0.25]
    """
    quantities = quantities_in(records)
    weight = np.broadcast_to(np.asarray(weights, np.float64), len(records))
    seed_index = np.arange(len(records))
    if seeds is not None:
        seed_index, _ = pd.factorize(np.asarray(seeds), use_na_sentinel=False)
    # A row a seed, a column a quantity.
    sums = np.zeros((seed_index.max(initial=-1) + 1, len(quantities)))
    np.add.at(sums, seed_index, weight[:, None] * records[quantities].to_numpy(np.float64))
    is_finite = np.isfinite(sums)
    seed_count = is_finite.sum(0)
    mean = _ratio(np.where(is_finite, sums, 0.0).sum(0), seed_count)
    squares = np.where(is_finite, sums - mean, 0.0) ** 2
    variance = _ratio(squares.sum(0), seed_count - 1)
    standard_error = np.sqrt(_ratio(variance, seed_count))
    half_width = stdtrit(np.maximum(seed_count - 1, 1), 0.975) * standard_error
    # All seeds have the same weights, so the first stands for all: `means_of` passes 1 for every record, `trend` keeps
    # only seeds with a record at every level of rho, and `compare` only those with the value and the reference.
    weights_of_seed = weight[seed_index == 0]
    ranges = np.array([weighted_range(quantity, weights_of_seed) for quantity in quantities]).reshape(-1, 2)
    least, largest = ranges.T
    return pd.DataFrame(
        {
            "quantity": quantities,
            "n": seed_count,
            "values": [_values_as_text(of_quantity) for of_quantity in sums.T],
            "mean": _as_stored(mean),
            "low": _as_stored(np.clip(mean - half_width, least, largest)),
            "high": _as_stored(np.clip(mean + half_width, least, largest)),
            "variance": variance,
        }
    )


def _values_as_text(values: np.ndarray) -> str:
    """Returns the finite values as text, separated by blanks."""
    finite = values[np.isfinite(values)].tolist()
    return " ".join(str(rounded(value)) for value in finite)


def _ratio(numerator: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Returns numerator / count, NaN where the count is not positive."""
    return np.divide(numerator, count, out=np.full(len(count), np.nan), where=count > 0)


def _as_stored(values: np.ndarray) -> np.ndarray:
    """Returns values rounded to the digits that are stored."""
    # Adding 0 turns -0 into 0.
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


def seeds_of(records: pd.DataFrame) -> pd.Series:
    """Returns the seeds that pair records, or one constant if there is no seed axis."""
    if "seed" in records:
        return records["seed"]
    return pd.Series(0, records.index)


def has_learnt(records: pd.DataFrame) -> bool:
    """Returns whether more than half of the members have learnt the classes; True without members."""
    unlearnt = records["status"] == CLASSES_NOT_LEARNT
    return records.empty or float(unlearnt.mean()) < 0.5


def count_unlearnt(records: pd.DataFrame) -> int:
    """Returns the number of members that have not learnt the classes."""
    return int((records["status"] == CLASSES_NOT_LEARNT).sum())


def _stacked(tables: Sequence[pd.DataFrame], columns: Sequence[str]) -> pd.DataFrame:
    """Returns one table of the rows of all tables, with these columns in this order."""
    if not tables:
        return pd.DataFrame(columns=list(columns))
    return pd.concat(tables, ignore_index=True)[list(columns)]


def aggregate(rows: pd.DataFrame, *, resamples: Resamples | None = None) -> pd.DataFrame:
    """Returns the mean of every quantity over seeds, one row per setting of the other axes and quantity.

    Columns: the axes except the seed; `quantity`; `n`, members with a finite value; `left_out`, members that enter no
    mean (`flipjax.results.rows.LEFT_OUT`), such as those that diverged; `unlearnt`, members in the mean that have not
    learnt the classes; `values` per seed, separated by blanks; `mean`, `low` and `high` as in `estimate`; `images_low`
    and `images_high`, the interval over the test images for these models, if `resamples` are given. A member that
    finished without a finite value of a quantity is neither in `n` nor in `left_out`.
    """
    axes = [name for name in axes_of(rows) if name != "seed"]
    return means_of(member_quantities(rows), axes, resamples=resamples)


def means_of(records: pd.DataFrame, axes: Sequence[str], *, resamples: Resamples | None = None) -> pd.DataFrame:
    """Returns the rows of `aggregate` for each setting of the named axes."""
    tables = []
    for axis_values, members in groups_of(records, axes):
        setting = dict(zip(axes, axis_values, strict=True))
        kept = kept_records(members)
        table = estimate(kept).assign(**setting, left_out=len(members) - len(kept), unlearnt=count_unlearnt(kept))
        interval_of = {}
        if resamples is not None:
            interval_of = resamples.intervals(kept["member"].tolist(), setting.get("selection", ""))
        intervals = [interval_of.get(quantity, (math.nan, math.nan)) for quantity in table["quantity"]]
        images_low, images_high = np.round(np.array(intervals, np.float64).reshape(-1, 2), DIGITS).T
        tables.append(table.assign(images_low=images_low, images_high=images_high))
    return _stacked(tables, [*axes, *SUMMARY_COLUMNS])


def trend(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the change of every quantity from the lowest to the highest rho, paired by seed, one row per setting.

    A seed counts for a quantity if it is finite at every level; levels without a member that enters means are ignored.
    Columns: the axes except rho and the seed; `from` and `to`, the lowest and the highest level; `before` and `after`,
    the means at these levels over the seeds that count; then those of `compare`, where `unlearnt` counts members at
    both levels, `learnt` says whether at each of them most members have learnt the classes, and `unlearnt_where` names
    the level where they have not. A setting with fewer than two levels has no rows.
    """
    axes = [name for name in axes_of(rows) if name not in ("rho", "seed")]
    columns = [*axes, "from", "to", "before", "after", *DIFFERENCE_COLUMNS]
    if "rho" not in axes_of(rows):
        return _stacked([], columns)
    tables = []
    for axis_values, members in groups_of(member_quantities(rows), axes):
        kept = kept_records(members).sort_values("rho", kind="stable")
        levels = kept["rho"].unique().astype(np.float64)
        if len(levels) < 2:
            continue
        setting = dict(zip(axes, axis_values, strict=True))
        table = _change_over(kept, levels).assign(**setting, left_out=len(members) - len(kept))
        tables.append(table)
    return _stacked(tables, columns)


def _change_over(records: pd.DataFrame, levels: np.ndarray) -> pd.DataFrame:
    """Returns the rows of `trend` of one setting, without `left_out` and the columns of its axes.

    Args:
        records: of members that enter means, in order of rho.
        levels: their two or more levels of rho, in order.
    """
    has_every_level = records.groupby(seeds_of(records))["rho"].transform("nunique") == len(levels)
    paired = records[has_every_level]
    seeds = seeds_of(paired)
    at_lowest = (paired["rho"] == levels[0]).to_numpy(np.float64)
    at_highest = (paired["rho"] == levels[-1]).to_numpy(np.float64)
    # Levels in between have weight 0 and add nothing, but 0 times NaN is NaN: a seed that is NaN there has no trend.
    change = estimate(paired, at_highest - at_lowest, seeds)
    ends = {level: records[records["rho"] == level] for level in (levels[0], levels[-1])}
    not_learnt = [f"at rho {level_text(float(level))}" for level, of_level in ends.items() if not has_learnt(of_level)]
    return change.assign(
        **{"from": levels[0], "to": levels[-1]},
        before=estimate(paired, at_lowest, seeds)["mean"],
        after=estimate(paired, at_highest, seeds)["mean"],
        difference=change["mean"],
        unlearnt=sum(map(count_unlearnt, ends.values())),
        # A change to or from what was not learnt would read as an effect of rho, so both levels must have learnt.
        learnt=not not_learnt,
        unlearnt_where=" and ".join(not_learnt),
    )


def compare(rows: pd.DataFrame, *, axis: str = "method", reference: str | None = None) -> pd.DataFrame:
    """Returns the difference of every quantity between each value of an axis and a reference, paired by seed.

    The reference is the axis's first value by default. Its members may leave another axis blank: plain training, for
    example, has no value on the axis of another method's strength. A blank stands for every value of that axis, so such
    members are the reference at each of these. A seed counts if it is finite for the value and for the reference. There
    are no rows if the axis takes one value.

    Columns: the other axes; `axis`; `reference`; `quantity`; `n`, the seeds that count; `left_out`, the members of the
    value and of the reference that enter no mean, whose partners do not count either; `unlearnt`, the members of the
    value that have not learnt the classes; `learnt`, whether most members of the value and most members of the
    reference have learnt the classes; `unlearnt_where` names those of the two that have not; `values`, the differences
    per seed, separated by blanks; `difference`, their mean (value minus reference); `low`, `high` and `variance` as in
    `estimate`.
    """
    axes = [name for name in axes_of(rows) if name not in (axis, "seed")]
    columns = [*axes, axis, "reference", *DIFFERENCE_COLUMNS]
    if axis not in axes_of(rows) or rows.empty:
        return _stacked([], columns)
    records = member_quantities(rows)
    if reference is None:
        reference = records[axis].iloc[0]
    all_of_reference = records[records[axis] == reference]
    all_but_reference = records[records[axis] != reference]
    tables = []
    for coordinates, value_members in groups_of(all_but_reference, [*axes, axis]):
        setting = dict(zip(axes, coordinates[:-1], strict=True))
        compared_value = coordinates[-1]
        reference_members = _members_in(setting, all_of_reference)
        if len(reference_members):
            table = _difference(value_members, reference_members, axis=axis, reference=reference)
            tables.append(table.assign(**setting, **{axis: compared_value}, reference=reference))
    return _stacked(tables, columns)


def _members_in(setting: Mapping[str, object], records: pd.DataFrame) -> pd.DataFrame:
    """Returns the records of a setting; a blank stands for every value of its axis."""
    for axis, value in setting.items():
        column = records[axis]
        is_blank = column.isna() | (column == "")
        records = records[(column == value) | is_blank]
    return records


def _difference(
    value_members: pd.DataFrame, reference_members: pd.DataFrame, *, axis: str, reference: object
) -> pd.DataFrame:
    """Returns the rows of `compare` of one setting and one value of the axis, without the columns that name these."""
    members = pd.concat([value_members, reference_members])
    kept = kept_records(members)
    is_reference = kept[axis] == reference
    weights = np.where(is_reference, -1.0, 1.0)
    seeds = seeds_of(kept)
    is_paired = kept.groupby(seeds)[axis].transform("nunique") == 2
    table = estimate(kept[is_paired], weights[is_paired], seeds[is_paired])
    # A method that guesses flips the rare groups less than one that follows the scene, and cures nothing.
    sides = {value_members[axis].iloc[0]: kept[~is_reference], reference: kept[is_reference]}
    not_learnt = [str(value) for value, of_side in sides.items() if not has_learnt(of_side)]
    where = ""
    if not_learnt:
        where = f"by {' and '.join(not_learnt)}"
    return table.assign(
        left_out=len(members) - len(kept),
        difference=table["mean"],
        unlearnt=count_unlearnt(kept[~is_reference]),
        learnt=not not_learnt,
        unlearnt_where=where,
    )
