"""Means over seeds and trends in the correlation level, each with an interval that the seeds or the images carry."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.special import stdtrit

from flipjax.results.cells import Row
from flipjax.results.quantities import RANGES, quantity_of
from flipjax.results.resampling import Resamples
from flipjax.results.rows import axes_of, member_quantities, quantities_of, rounded

LEFT_OUT = ("diverged", "failed")
FEWEST = 4
"""Seeds below which there is no Student t interval."""
INTERVALS = {
    "seeds": "95% Student t interval over seeds",
    "images": "95% bootstrap interval over the test images, for these seeds alone",
}

Term = Sequence[tuple[float, Row]]


class Estimate(NamedTuple):
    """A mean over seeds: the values of the seeds, and a 95% interval, NaN where there is none.

    `interval` is a key of INTERVALS, or '' without an interval.
    """

    values: tuple[float, ...]
    mean: float
    low: float
    high: float
    interval: str


def estimate(terms: Sequence[Term], quantity: str, *, resamples: Resamples | None = None) -> Estimate:
    """Returns the mean of one weighted sum of records a seed, with its interval.

    A seed takes part if all its records have a finite value. From FEWEST seeds on the interval is Student's t over
    seeds; below, the percentiles of the mean under resampling of the test images, if there are `resamples`. Either is
    cut off where the quantity's range ends.

    Args:
        terms: for each seed its weights and records of `member_quantities`; the mean of (1, a) and (-1, b) is a
            difference.
        quantity: the record's name of it.
        resamples: of the run's test images.

    Example:
        >>> records = [{"fg_flip/all": value} for value in (0.0, 0.25, 0.5, 0.75)]
        >>> [round(x, 3) for x in estimate([[(1, record)] for record in records], "fg_flip/all")[1:4]]
        [0.375, 0.0, 0.889]
        >>> estimate([[(1, records[1])], [(1, records[2])]], "fg_flip/all")
        Estimate(values=(0.25, 0.5), mean=0.375, low=nan, high=nan, interval='')
    """
    terms = [term for term in terms if term and all(math.isfinite(record[quantity]) for _, record in term)]
    values = np.array([sum(weight * record[quantity] for weight, record in term) for term in terms], np.float64)
    if not terms:
        return Estimate((), math.nan, math.nan, math.nan, "")
    low = math.nan
    high = math.nan
    interval = ""
    if len(values) >= FEWEST:
        half = float(stdtrit(len(values) - 1, 0.975)) * float(values.std(ddof=1)) / math.sqrt(len(values))
        low = float(values.mean()) - half
        high = float(values.mean()) + half
        interval = "seeds"
    elif resamples is not None:
        means = _resampled_means(terms, quantity, resamples)
        if means.size:
            low, high = np.percentile(means, (2.5, 97.5)).tolist()
            interval = "images"
    least, most = _bounds(terms[0], quantity)
    low, high = np.clip([low, high], least, most).tolist()
    return Estimate(tuple(values.tolist()), float(values.mean()), low, high, interval)


def _resampled_means(terms: Sequence[Term], quantity: str, resamples: Resamples) -> np.ndarray:
    """Returns the finite means over seeds, one a resample; none where a member's images are not stored."""
    total: Any = 0.0
    for term in terms:
        for weight, record in term:
            values = resamples.of(record["member"], record["selection"], quantity)
            if values is None:
                return np.zeros(0)
            total = total + weight * values / len(terms)
    return total[np.isfinite(total)]


def _bounds(term: Term, quantity: str) -> tuple[float, float]:
    least, most = RANGES[quantity_of(quantity).unit]
    ends = [(weight * least, weight * most) for weight, _ in term]
    return sum(map(min, ends)), sum(map(max, ends))


def _settings(rows: Sequence[Row], *, without: Sequence[str], split: str) -> Iterator[tuple[Row, list[Row], int]]:
    """Yields each setting of the axes not in `without`, its records, and how many members of it were left out."""
    names = [name for name in axes_of(rows) if name not in without]
    settings: dict[tuple, list[Row]] = {}
    for record in member_quantities(rows, split=split):
        settings.setdefault(tuple(record[name] for name in names), []).append(record)
    for values, records in settings.items():
        whole = [record for record in records if record["status"] not in LEFT_OUT]
        yield dict(zip(names, values, strict=True)), whole, len(records) - len(whole)


def cells_of(result: Estimate, *names: str) -> Row:
    """Returns the mean and the interval under their names, as cells."""
    return dict(zip(names, map(rounded, result[1:4]), strict=True))


def aggregate(
    rows: Sequence[Row], *, over: str = "seed", split: str = "test", resamples: Resamples | None = None
) -> list[Row]:
    """Returns the mean of every quantity over seeds, per setting of the other axes: a row per setting and quantity.

    Columns: the axes but `over`; `quantity`; `n`, the members with a finite value; `left_out`, those that diverged
    or failed; `values`, the seeds' own, with blanks between; `mean`, `low` and `high`: the mean and its interval, see
    `estimate`; `interval`, which one it is.
    """
    quantities = quantities_of(member_quantities(rows, split=split))
    table = []
    for setting, records, left_out in _settings(rows, without=(over,), split=split):
        for quantity in quantities:
            result = estimate([[(1.0, record)] for record in records], quantity, resamples=resamples)
            counts = {"quantity": quantity, "n": len(result.values), "left_out": left_out}
            values = {"values": " ".join(str(rounded(value)) for value in result.values)}
            means = cells_of(result, "mean", "low", "high")
            table.append(setting | counts | values | means | {"interval": result.interval})
    return table


def trend(
    rows: Sequence[Row],
    *,
    in_: str = "rho",
    paired_by: str = "seed",
    split: str = "test",
    resamples: Resamples | None = None,
) -> list[Row]:
    """Returns the trend of every quantity in the correlation level, paired by seed: a row per setting and quantity.

    Per seed: the least-squares slope over the levels, per unit of rho, and the change from the lowest to the
    highest level. A seed takes part in a quantity if it has a finite value at every level; a level at which every
    member was left out is none. Columns: the other axes; `quantity`; `n`, the seeds that take part; `left_out`, the
    members that diverged or failed; `from` and `to`, the levels; `slope` and `change`, the means over seeds; each
    of the two with `_low` and `_high`, the interval of `estimate`; `interval`, which one it is. A setting with fewer
    than two levels has no rows.
    """
    if in_ not in axes_of(rows):
        return []
    quantities = quantities_of(member_quantities(rows, split=split))
    table = []
    for setting, records, left_out in _settings(rows, without=(in_, paired_by), split=split):
        levels = sorted({record[in_] for record in records})
        if len(levels) < 2:
            continue
        curves = _curves(records, levels, in_=in_, paired_by=paired_by)
        centred = np.array(levels, np.float64) - np.mean(levels)
        weights = (centred / (centred @ centred)).tolist()
        slopes = [list(zip(weights, curve, strict=True)) for curve in curves]
        # The levels between take part with weight 0: a seed that lacks one has no trend.
        ends = [-1.0] + [0.0] * (len(levels) - 2) + [1.0]
        changes = [list(zip(ends, curve, strict=True)) for curve in curves]
        for quantity in quantities:
            slope = estimate(slopes, quantity, resamples=resamples)
            change = estimate(changes, quantity, resamples=resamples)
            counts = {"quantity": quantity, "n": len(slope.values), "left_out": left_out}
            row = setting | counts | {"from": levels[0], "to": levels[-1]}
            row |= cells_of(slope, "slope", "slope_low", "slope_high")
            table.append(row | cells_of(change, "change", "change_low", "change_high") | {"interval": change.interval})
    return table


def _curves(records: Sequence[Row], levels: Sequence[float], *, in_: str, paired_by: str) -> list[list[Row]]:
    """Returns the seeds that have a record at every level: their records by level."""
    curves: dict[object, dict[float, Row]] = {}
    for record in records:
        curves.setdefault(record.get(paired_by), {})[record[in_]] = record
    return [[curve[level] for level in levels] for curve in curves.values() if len(curve) == len(levels)]


def compare(
    rows: Sequence[Row],
    *,
    axis: str = "method",
    reference: str | None = None,
    paired_by: str = "seed",
    split: str = "test",
    resamples: Resamples | None = None,
) -> list[Row]:
    """Returns how every quantity differs between a value of an axis and a reference value, paired by seed.

    The reference is the axis's first value unless given. A seed takes part if both have a finite value. Columns: the
    other axes; `axis`; `reference`; `quantity`; `n`, the seeds that take part; `left_out`, the members of the two that
    diverged or failed; `difference` (value minus reference), the mean over seeds, with `low`, `high` and `interval`,
    see `estimate`. No rows where the axis takes one value.
    """
    if axis not in axes_of(rows):
        return []
    quantities = quantities_of(member_quantities(rows, split=split))
    table = []
    for setting, values in by_value(rows, axis, paired_by=paired_by, split=split):
        base = next(iter(values)) if reference is None else reference
        if base not in values:
            continue
        for value, (members, left_out) in values.items():
            others, others_left_out = values[base]
            terms = [[(1.0, members[seed]), (-1.0, others[seed])] for seed in members if seed in others]
            for quantity in quantities if value != base else ():
                result = estimate(terms, quantity, resamples=resamples)
                counts = {"quantity": quantity, "n": len(result.values), "left_out": left_out + others_left_out}
                row = setting | {axis: value, "reference": base} | counts
                table.append(row | cells_of(result, "difference", "low", "high") | {"interval": result.interval})
    return table


def by_value(
    rows: Sequence[Row], axis: str, *, paired_by: str, split: str
) -> Iterator[tuple[Row, dict[Any, tuple[dict[Any, Row], int]]]]:
    """Yields each setting of the other axes: by value of the axis, the records by seed and how many were left out."""
    settings: dict[tuple, dict[Any, tuple[dict[Any, Row], int]]] = {}
    for setting, records, left_out in _settings(rows, without=(paired_by,), split=split):
        rest = tuple((name, value) for name, value in setting.items() if name != axis)
        by_seed = {record.get(paired_by): record for record in records}
        settings.setdefault(rest, {})[setting[axis]] = by_seed, left_out
    for rest, values in settings.items():
        yield dict(rest), values
