"""Means over seeds and trends in the correlation level, each with its interval."""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.special import stdtrit

from flipjax.results.files import Row
from flipjax.results.rows import axes_of, member_quantities, quantities_of, rounded

LEFT_OUT = ("diverged", "failed")
INTERVAL = "95% Student t interval over seeds"


class Interval(NamedTuple):
    """A mean over `n` finite values and the ends of its interval; NaN where one does not exist."""

    n: int
    mean: float
    low: float
    high: float


def mean_interval(values: Iterable[float], *, confidence: float = 0.95) -> Interval:
    """Returns the mean of the finite values and its Student t interval; no interval for fewer than two.

    Example:
        >>> [round(x, 4) for x in mean_interval([1.0, 2.0, 3.0])]
        [3, 2.0, -0.4841, 4.4841]
    """
    kept = np.array([value for value in values if math.isfinite(value)], np.float64)
    if kept.size < 2:
        return Interval(kept.size, float(kept[0]) if kept.size else math.nan, math.nan, math.nan)
    half = float(stdtrit(kept.size - 1, 0.5 + confidence / 2)) * float(kept.std(ddof=1)) / math.sqrt(kept.size)
    mean = float(kept.mean())
    return Interval(kept.size, mean, mean - half, mean + half)


def _settings(rows: Sequence[Row], *, without: Sequence[str], split: str) -> Iterator[tuple[Row, list[Row], int]]:
    """Yields each setting of the axes not in `without`, its records, and how many members of it were left out."""
    names = [name for name in axes_of(rows) if name not in without]
    settings: dict[tuple, list[Row]] = {}
    for record in member_quantities(rows, split=split):
        settings.setdefault(tuple(record[name] for name in names), []).append(record)
    for values, records in settings.items():
        kept = [record for record in records if record["status"] not in LEFT_OUT]
        yield dict(zip(names, values, strict=True)), kept, len(records) - len(kept)


def _named(found: Interval, *names: str) -> Row:
    return dict(zip(names, map(rounded, found[1:]), strict=True))


def aggregate(rows: Sequence[Row], *, over: str = "seed", split: str = "test") -> list[Row]:
    """Returns the mean of every quantity over seeds, per setting of the other axes: a row per setting and quantity.

    Columns: the axes but `over`; `quantity`; `n`, the members with a finite value; `left_out`, those that diverged
    or failed; `mean`, `low` and `high`: the mean and its 95% Student t interval over seeds, blank for n < 2.
    """
    quantities = quantities_of(member_quantities(rows, split=split))
    table = []
    for setting, records, left_out in _settings(rows, without=(over,), split=split):
        for quantity in quantities:
            found = mean_interval(record[quantity] for record in records)
            counts = {"quantity": quantity, "n": found.n, "left_out": left_out}
            table.append(setting | counts | _named(found, "mean", "low", "high"))
    return table


def trend(rows: Sequence[Row], *, in_: str = "rho", paired_by: str = "seed", split: str = "test") -> list[Row]:
    """Returns the trend of every quantity in the correlation level, paired by seed: a row per setting and quantity.

    Per seed: the least-squares slope over the levels, per unit of rho, and the change from the lowest to the
    highest level. A seed takes part in a quantity if it has a finite value at every level; a level at which every
    member was left out is none. Columns: the other axes; `quantity`; `n`, the seeds that take part; `left_out`, the
    members that diverged or failed; `from` and `to`, the levels; `slope` and `change`, the means over seeds; each
    of the two with `_low` and `_high`, a 95% Student t interval over the seeds' own slopes or changes. A setting
    with fewer than two levels has no rows.
    """
    if in_ not in axes_of(rows):
        return []
    quantities = quantities_of(member_quantities(rows, split=split))
    table = []
    for setting, records, left_out in _settings(rows, without=(in_, paired_by), split=split):
        levels = sorted({record[in_] for record in records})
        if len(levels) < 2:
            continue
        centred = np.array(levels, np.float64) - np.mean(levels)
        for quantity in quantities:
            whole = _whole_curves(records, quantity, levels, in_=in_, paired_by=paired_by)
            slope = mean_interval(whole @ centred / (centred @ centred))
            change = mean_interval(whole[:, -1] - whole[:, 0])
            counts = {"quantity": quantity, "n": slope.n, "left_out": left_out, "from": levels[0], "to": levels[-1]}
            slopes = _named(slope, "slope", "slope_low", "slope_high")
            table.append(setting | counts | slopes | _named(change, "change", "change_low", "change_high"))
    return table


def _whole_curves(
    records: Sequence[Row], quantity: str, levels: Sequence[float], *, in_: str, paired_by: str
) -> np.ndarray:
    """Returns float64 (seeds, levels): the curves of the seeds that have a finite value at every level."""
    curves: dict[object, dict[float, float]] = {}
    for record in records:
        curves.setdefault(record.get(paired_by), {})[record[in_]] = record[quantity]
    table = [[curve.get(level, math.nan) for level in levels] for curve in curves.values()]
    values = np.array(table, np.float64).reshape(-1, len(levels))
    return values[np.isfinite(values).all(axis=1)]


def compare(
    rows: Sequence[Row],
    *,
    axis: str = "method",
    reference: str | None = None,
    paired_by: str = "seed",
    split: str = "test",
) -> list[Row]:
    """Returns how every quantity differs between a value of an axis and a reference value, paired by seed.

    The reference is the axis's first value unless given. A seed takes part if both have a finite value. Columns: the
    other axes; `axis`; `reference`; `quantity`; `n`, the seeds that take part; `left_out`, the members of the two that
    diverged or failed; `difference` (value minus reference), the mean over seeds, with `low` and `high`, its 95%
    Student t interval. No rows where the axis takes one value.
    """
    if axis not in axes_of(rows):
        return []
    quantities = quantities_of(member_quantities(rows, split=split))
    table = []
    for setting, values in _by_value(rows, axis, paired_by=paired_by, split=split):
        base = next(iter(values)) if reference is None else reference
        if base not in values:
            continue
        for value, (members, left_out) in values.items():
            others, lost = values[base]
            both = [(members[seed], others[seed]) for seed in members if seed in others]
            for quantity in quantities if value != base else ():
                found = mean_interval(record[quantity] - other[quantity] for record, other in both)
                counts = {"quantity": quantity, "n": found.n, "left_out": left_out + lost}
                names = {axis: value, "reference": base}
                table.append(setting | names | counts | _named(found, "difference", "low", "high"))
    return table


def _by_value(
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


ORACLES = {"worst_group_iou/all": ("val_worst_group_iou", -1.0), "fg_flip/all": ("val_flip", 1.0)}
"""Quantities, the rule that selects on each with labels of all groups, and +1 where less of it is better."""


def regret(rows: Sequence[Row], *, paired_by: str = "seed", split: str = "test") -> list[Row]:
    """Returns what each selection rule loses against the one that selects on the quantity itself, on labelled images.

    Worst-group IoU is compared with the rule `val_worst_group_iou`, Flip with `val_flip`: both see the labels and the
    groups of the validation images. Differences are taken member by member and averaged over the settings within a
    seed. Columns: `selection`; `quantity`; `oracle`; `n`, seeds; `members`; `mean`, the rule's own value; `regret`,
    positive where the rule is worse, with `low` and `high`, its 95% Student t interval over seeds. Members that
    diverged, or have no value for either rule, are left out.
    """
    records = [record for record in member_quantities(rows, split=split) if record["status"] not in LEFT_OUT]
    by_rule: dict[str, dict[str, Row]] = {}
    for record in records:
        by_rule.setdefault(record["selection"], {})[record["member"]] = record
    table = []
    for rule, members in by_rule.items():
        for quantity, (oracle, sign) in ORACLES.items():
            if oracle not in by_rule or rule == oracle:
                continue
            by_seed: dict[object, list[float]] = {}
            both = [(own, by_rule[oracle][name]) for name, own in members.items() if name in by_rule[oracle]]
            both = [(own, best) for own, best in both if math.isfinite(own[quantity] + best[quantity])]
            for own, best in both:
                by_seed.setdefault(own.get(paired_by), []).append(sign * (own[quantity] - best[quantity]))
            found = mean_interval(float(np.mean(losses)) for losses in by_seed.values())
            mean = {"mean": rounded(mean_interval(own[quantity] for own, _ in both).mean)}
            counts = {"quantity": quantity, "oracle": oracle, "n": found.n, "members": len(both)}
            table.append({"selection": rule} | counts | mean | _named(found, "regret", "low", "high"))
    return table
