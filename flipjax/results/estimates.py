"""Means, differences and trends over seeds, with one rule for intervals and verdicts.

Intervals are Student's t over two or more seeds. A verdict (lower or higher) needs FEWEST seeds and a p below LEVEL
after Holm's correction over all comparisons of a page. Intervals over the test images hold for these models only.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtr, stdtrit

from flipjax.metrics.summary import draw_images, percentile_ends, risk_aurocs
from flipjax.results.evaluators import EVALUATORS, Value, evaluate
from flipjax.results.frames import DIGITS, groups_of, rounded
from flipjax.results.quantities import RANGES, quantity_of
from flipjax.results.rows import COMPARED, axes_of, kept_records, member_quantities, quantities_in
from flipjax.results.store import Cell

FEWEST = 4
"""Seeds below which there is no verdict."""
LEVEL = 0.04
"""Family-wise level of verdicts: at .05, Holm's method gives a verdict on .0485 of null pages of normal values, which
leaves no room for others."""
JUDGED = ("group/rare/fg_flip", "gap/mean", "worst_group_iou", "iou/foreground", "risk_auroc")
"""The quantities that a page compares and judges."""
SAMPLES = 500
SEEDS_INTERVAL = "95% Student t interval over seeds"
IMAGES_INTERVAL = "95% interval over the test images, for these models"
SUMMARY = ("quantity", "n", "left_out", "values", "mean", "low", "high", "images_low", "images_high")
DIFFERENCE = ("quantity", "n", "left_out", "values", "difference", "low", "high", "p")


class Resamples:
    """Quantities of a run's members on resampled test images, computed lazily.

    Images of one object are drawn together, and all members of a cell see the same resamples.
    """

    def __init__(self, cells: Mapping[str, Cell], *, samples: int = SAMPLES):
        """Takes the cells of `flipjax.results.load`, by place."""
        self._cells = {member: cell for cell in cells.values() for member in cell.members}
        self._samples = samples
        self._draws: dict[int, np.ndarray] = {}

    def intervals(self, members: Sequence[str], selection: str) -> dict[str, np.ndarray]:
        """Returns the 95% interval (2,) of each quantity's mean over members, empty if no images are stored.

        Uses bootstrap percentiles; for an AUROC, the mean of the members' own intervals.
        """
        cells = [self._cells.get(member) for member in members]
        if not cells or any(cell is None or selection not in cell.rules for cell in cells):
            return {}
        of_members = [self._of(member, cell, selection) for member, cell in zip(members, cells, strict=True)]
        both = zip(*of_members, strict=True)
        drawn, ends = ({key: np.mean([own[key] for own in each], axis=0) for key in each[0]} for each in both)
        return {key: percentile_ends(means) for key, means in drawn.items()} | ends

    def _of(self, member: str, cell: Cell, selection: str) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Returns the resamples (samples,) of each quantity, and the intervals (2,) of the AUROCs."""
        images = cell.images_of(member, "test", selection)
        if id(cell) not in self._draws:
            sets = {"samples": self._samples, "groups": images.group, "pairs": images.pair}
            self._draws[id(cell)] = draw_images(np.random.default_rng(0), len(images.group), **sets)
        drawn = dataclasses.replace(images, weights=self._draws[id(cell)])
        values = {_key(value): value.value for value in evaluate(drawn, groups=COMPARED, only=RESAMPLED)}
        aurocs = risk_aurocs(images.decomposition, images.group, pairs=images.pair, all_groups=cell.groups)
        ends = {key: np.array(each) for key, each in aurocs.items()}
        return values, ends


RESAMPLED = [each for each in EVALUATORS if each.resampled]
"""The quantities with an interval over images."""


def _key(value: Value) -> str:
    return value.key if value.group == "all" else f"group/{value.group}/{value.key}"


def estimate(records: pd.DataFrame, weights: Any = 1.0, seeds: Any = None) -> pd.DataFrame:
    """Returns the mean over seeds of weighted sums of records, one row per quantity.

    A seed counts for a quantity if all its records are finite. The interval is exact for normal values, too short for
    few skewed ones (`sweeps/studies/coverage`), and clipped to the quantity's range.

    Args:
        records: (n rows) of `member_quantities`.
        weights: (n,), the weight of each record in its seed's sum: 1 and -1 for a difference.
        seeds: (n,), the seed of each record; by default every record is its own seed.

    Returns:
        Columns `quantity`; `n`, seeds; `values` per seed, separated by blanks; `mean`; `low` and `high`, NaN below two
        seeds; `p` of the t test that the mean is 0, NaN below FEWEST seeds.

    Example:
        >>> table = estimate(pd.DataFrame({"status": "done", "fg_flip": [0.0, 0.25, 0.5, 0.75]}))
        >>> table[["mean", "high", "p"]].round(3).to_numpy().tolist()
        [[0.375, 0.889, 0.103]]
        >>> estimate(pd.DataFrame({"status": "done", "fg_flip": [0.25, 0.5]}), [1, -1], [0, 0])["mean"].tolist()
        [-0.25]
    """
    quantities = quantities_in(records)
    weights = np.broadcast_to(np.asarray(weights, np.float64), len(records))
    codes = np.arange(len(records)) if seeds is None else pd.factorize(np.asarray(seeds), use_na_sentinel=False)[0]
    sums = np.zeros((codes.max(initial=-1) + 1, len(quantities)))
    np.add.at(sums, codes, weights[:, None] * records[quantities].to_numpy(np.float64))
    known = np.isfinite(sums)
    n = known.sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(known, sums, 0.0).sum(0) / n
        spread = np.sqrt((np.where(known, sums - mean, 0.0) ** 2).sum(0) / (n - 1))
        half = np.where(n > 1, stdtrit(np.maximum(n - 1, 1), 0.975) * spread / np.sqrt(n), np.nan)
        # Values are rounded, so a spread below their last digit is not real.
        t = np.abs(mean) / (np.maximum(spread, 10.0**-DIGITS) / np.sqrt(n))
        p = np.where(n >= FEWEST, 2 * stdtr(np.maximum(n - 1, 1), -t), np.nan)
    least, most = np.array([_bounds(weights[codes == 0], quantity) for quantity in quantities]).reshape(-1, 2).T
    values = (own[inside].tolist() for own, inside in zip(sums.T, known.T, strict=True))
    texts = [" ".join(str(rounded(value)) for value in own) for own in values]
    numbers = {"mean": mean, "low": np.clip(mean - half, least, most), "high": np.clip(mean + half, least, most)}
    exact = {name: np.round(values, DIGITS) + 0.0 for name, values in numbers.items()}
    return pd.DataFrame({"quantity": quantities, "n": n, "values": texts, **exact, "p": p})


@functools.cache
def _range_of(quantity: str) -> tuple[float, float]:
    return RANGES[quantity_of(quantity).unit]


def _bounds(weights: np.ndarray, quantity: str) -> tuple[float, float]:
    """Returns the smallest and largest possible weighted sum of records."""
    ends = [[weight * end for end in _range_of(quantity)] for weight in weights.tolist() if weight]
    return sum(map(min, ends)), sum(map(max, ends))


def holm(p: Any) -> np.ndarray:
    """Returns p values (m,) adjusted by Holm's method, float64.

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


def judge(*tables: pd.DataFrame) -> list[pd.DataFrame]:
    """Returns the comparisons of one page with `p` adjusted over all of them, and a `verdict`.

    The family is every row of a JUDGED quantity with a p (at least FEWEST seeds), in all tables of `compare` and
    `trend`. A page of normal values without any true difference has a verdict with probability LEVEL at most. `verdict`
    is 'lower', 'higher' or ''; rows outside the family have no p.

    Example:
        >>> four = pd.DataFrame({"quantity": ["gap/mean"] * 2, "difference": [0.3, 0.1], "p": [0.01, 0.03]})
        >>> judge(four, four[:0])[0][["p", "verdict"]].to_numpy().tolist()
        [[0.02, 'higher'], [0.03, 'higher']]
    """
    p = [table["p"].where(table["quantity"].isin(JUDGED)).to_numpy(np.float64) for table in tables]
    adjusted = np.concatenate([np.zeros(0), *p])
    known = np.isfinite(adjusted)
    adjusted[known] = holm(adjusted[known])
    judged = []
    for table, own in zip(tables, np.split(adjusted, np.cumsum([len(each) for each in p])[:-1]), strict=True):
        sides = np.where(table["difference"] > 0, "higher", "lower")
        judged.append(table.assign(p=own, verdict=np.where(own < LEVEL, sides, "")))
    return judged


def seeds_of(records: pd.DataFrame) -> pd.Series:
    """Returns the seeds that pair records, or one constant if there is no seed axis."""
    return records["seed"] if "seed" in records else pd.Series(0, records.index)


def _joined(tables: Sequence[pd.DataFrame], columns: Sequence[str]) -> pd.DataFrame:
    return pd.concat(tables, ignore_index=True)[list(columns)] if tables else pd.DataFrame(columns=list(columns))


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
        found = {} if resamples is None else resamples.intervals(kept["member"].tolist(), axes.get("selection", ""))
        ends = [found.get(quantity, (math.nan, math.nan)) for quantity in table["quantity"]]
        low, high = np.round(np.array(ends, np.float64).reshape(-1, 2), DIGITS).T
        tables.append(table.assign(images_low=low, images_high=high))
    return _joined(tables, [*names, *SUMMARY])


def trend(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the change of every quantity from the lowest to the highest rho, paired by seed, one row per setting.

    A seed counts for a quantity if it is finite at every level, ignoring levels whose members were all left out.
    Columns: the other axes; `from` and `to`, the levels; `before` and `after`, the means at them over the seeds that
    count; then those of `compare`. A setting with fewer than two levels has no rows.
    """
    names = [name for name in axes_of(rows) if name not in ("rho", "seed")]
    tables = []
    for setting, records in groups_of(member_quantities(rows), names) if "rho" in axes_of(rows) else ():
        kept = kept_records(records).sort_values("rho", kind="stable")
        levels = kept["rho"].unique().astype(np.float64)
        if len(levels) < 2:
            continue
        seeds = seeds_of(kept)
        whole = kept.groupby(seeds)["rho"].transform("nunique") == len(levels)
        kept, seeds, place = kept[whole], seeds[whole], np.searchsorted(levels, kept["rho"][whole])
        # Levels in between have weight 0, so that a seed that lacks one has no trend.
        ends = np.eye(len(levels))[[0, -1]]
        first, last, change = (estimate(kept, each[place], seeds) for each in (*ends, ends[1] - ends[0]))
        axes = {"from": levels[0], "to": levels[-1], "left_out": len(records) - len(kept)}
        axes |= dict(zip(names, setting, strict=True))
        tables.append(change.assign(**axes, before=first["mean"], after=last["mean"], difference=change["mean"]))
    return _joined(tables, [*names, "from", "to", "before", "after", *DIFFERENCE])


def compare(rows: pd.DataFrame, *, axis: str = "method", reference: str | None = None) -> pd.DataFrame:
    """Returns the difference of every quantity between each value of an axis and a reference, paired by seed.

    The reference is the axis's first value by default. If it does not use a knob, it is compared with every value of
    the knob. A seed counts if both values are finite. Columns: the other axes; `axis`; `reference`; `quantity`; `n`,
    the seeds that count; `left_out`, the members of both that are in no mean; `values`, the differences per seed,
    separated by blanks; `difference`, their mean (value minus reference); `low`, `high` and `p` as in `estimate`. There
    are no rows if the axis takes one value.
    """
    names = [name for name in axes_of(rows) if name not in (axis, "seed")]
    records = member_quantities(rows) if axis in axes_of(rows) else rows[:0]
    base = reference if reference is not None or records.empty else records[axis].iloc[0]
    tables = []
    for setting, own in groups_of(records[records[axis] != base], [*names, axis]) if len(records) else ():
        others = records[records[axis] == base]
        for name, value in zip(names, setting, strict=False):
            column = others[name]
            others = others[(column == value) | column.isna() | (column == "")]
        if others.empty:
            continue
        both = pd.concat([own, others])
        kept = kept_records(both)
        seeds = seeds_of(kept)
        paired = kept.groupby(seeds)[axis].transform("nunique") == 2
        weights = np.where(kept[axis] == base, -1.0, 1.0)
        table = estimate(kept[paired], weights[paired], seeds[paired])
        axes = dict(zip([*names, axis], setting, strict=True)) | {"reference": base}
        tables.append(table.assign(**axes, left_out=len(both) - len(kept), difference=table["mean"]))
    return _joined(tables, [*names, axis, "reference", *DIFFERENCE])
