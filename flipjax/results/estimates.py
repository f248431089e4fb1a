"""Means over seeds and trends in the correlation level, each with an interval that the seeds or the images carry."""

import functools
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from flipjax.metrics import resampled, statistics
from flipjax.metrics.selective import AurocEstimate
from flipjax.metrics.summary import risk_aurocs
from flipjax.results.cells import StoredCell
from flipjax.results.frames import DIGITS, groups_of, rounded
from flipjax.results.quantities import PULL_QUANTITIES, RANGES, of_classes, quantity_of
from flipjax.results.rows import axes_of, kept_records, member_quantities, quantities_in

Terms = Iterable[tuple[list[str], float]]
"""Of a sum of records: the member and the rule of each, and its weight."""
Interval = tuple[float, float, str]
"""Both ends and a key of INTERVALS."""

FEWEST = 4
"""Seeds below which there is no Student t interval."""
INTERVALS = {
    "seeds": "95% Student t interval over seeds",
    "images": "95% interval over the test images (bootstrap; of an AUROC, Newcombe's), for these seeds alone",
}


SAMPLES = 500


class Resamples:
    """Resampled quantities of a run's members, computed when asked for.

    Images of one object are drawn together. All members of a cell see the same resamples, so that differences between
    them are paired.
    """

    def __init__(self, cells: Mapping[str, StoredCell], *, samples: int = SAMPLES):
        """Starts no work; `cells` by name, as `flipjax.results.cells.load_cell` reads them."""
        self._cells = {member: cell for cell in cells.values() for member in cell.members}
        self._samples = samples
        self._draws: dict[int, statistics.Draws] = {}
        self._values: dict[tuple[str, str, bool], dict[str, np.ndarray]] = {}
        self._aurocs: dict[tuple[str, str], dict[str, AurocEstimate]] = {}

    def of(self, member: str, selection: str, quantity: str) -> np.ndarray | None:
        """Returns a quantity of each resample: float64 (samples,); None where unknown."""
        cell = self._cells.get(member)
        if cell is None or selection not in cell.selections or quantity not in _keys(cell.class_names):
            return None
        # Those that need a ranking of the images take ten times as long as the others.
        place = member, selection, _ranked(quantity)
        if place not in self._values:
            part, options = cell.parts["test"], {"class_names": cell.class_names, "all_groups": cell.groups}
            if id(cell) not in self._draws:
                rows = draw_objects(part.groups, part.pairs, samples=self._samples)
                self._draws[id(cell)] = statistics.Draws(rows, len(part.groups), keep=True)
            counts = cell.decomposition(member, "test", selection=selection)
            keys = [key for key in _keys(cell.class_names) if _ranked(key) == place[2]]
            self._values[place] = resampled(counts, keys, self._draws[id(cell)], groups=part.groups, **options)
        return self._values[place][quantity]

    def auroc(self, member: str, selection: str, quantity: str) -> AurocEstimate | None:
        """Returns a member's `risk_auroc`, of all images or a group, with its interval; None where unknown."""
        cell = self._cells.get(member)
        if cell is None or selection not in cell.selections:
            return None
        if (member, selection) not in self._aurocs:
            part = cell.parts["test"]
            counts = cell.decomposition(member, "test", selection=selection)
            self._aurocs[member, selection] = risk_aurocs(counts, part.groups, pairs=part.pairs, all_groups=cell.groups)
        return self._aurocs[member, selection].get(quantity)


@functools.cache
def _keys(class_names: tuple[str, ...]) -> frozenset[str]:
    """Returns the keys of `summarize` that a resample has."""
    table = of_classes(class_names) | (PULL_QUANTITIES if len(class_names) > 3 else {})
    quantities = {key: quantity for key, quantity in table.items() if "n_images" not in key}
    inside = [f"group/{g}/{key}" for g in ("common", "rare") for key, q in quantities.items() if not q.across]
    return frozenset([*quantities, *inside])


def _ranked(key: str) -> bool:
    return key.rpartition("/")[2] in statistics.RANKED


def draw_objects(groups: np.ndarray, pairs: np.ndarray, *, samples: int = SAMPLES) -> np.ndarray:
    """Returns resamples of n images, int64 (samples, n): images of one object together, the same ones every time."""
    generator = np.random.default_rng(0)
    return statistics.draw_images(generator, len(groups), samples=samples, groups=groups, pairs=pairs).rows


def estimate(
    records: pd.DataFrame, weights: Any = 1.0, seeds: Any = None, *, resamples: Resamples | None = None
) -> pd.DataFrame:
    """Returns the mean over seeds of weighted sums of records: a row per quantity.

    A seed takes part in a quantity if all its records have a finite value. From FEWEST seeds on the interval is
    Student's t over seeds: exact for normal values, and of few skewed ones too short. Of four seeds it holds the mean
    in .84 of the samples of a lognormal distribution (`sweeps/studies/coverage`). Below FEWEST it is the percentiles of
    the mean under resampling of the test images, if there are `resamples`, or of an AUROC what the members' own
    intervals give (`flipjax.metrics.selective.auroc_ends`). All are cut off where the quantity's range ends.

    Args:
        records: (n rows) of `member_quantities`.
        weights: (n,), the weight of each record in its seed's sum: 1 and -1 for a difference.
        seeds: (n,), whose sum a record is part of; by default each is a seed of its own.
        resamples: of the run's test images.

    Source: for sums of AUROCs Zou and Donner, Construction of confidence limits about effect measures: a general
        approach, 2008.

    Returns:
        Columns `quantity`; `n`, seeds; `values`, theirs, with blanks between; `mean`, `low` and `high`; `interval`, a
        key of INTERVALS, or '' without one.

    Example:
        >>> estimate(pd.DataFrame({"status": "done", "fg_flip": [0.0, 0.25, 0.5, 0.75]})).to_dict("records")[0]["high"]
        0.888565
        >>> estimate(pd.DataFrame({"status": "done", "fg_flip": [0.25, 0.5]}), [1, -1], [0, 0])["mean"].tolist()
        [-0.25]
    """
    quantities = quantities_in(records)
    weights = np.broadcast_to(np.asarray(weights, np.float64), len(records))
    codes = np.arange(len(records)) if seeds is None else pd.factorize(np.asarray(seeds), use_na_sentinel=False)[0]
    members = [] if resamples is None else records[["member", "selection"]].to_numpy().tolist()
    sums = np.zeros((codes.max(initial=-1) + 1, len(quantities)))
    np.add.at(sums, codes, weights[:, None] * records[quantities].to_numpy(np.float64))
    rows = []
    for quantity, own in zip(quantities, sums.T, strict=True):
        inside = np.isfinite(own)
        values = own[inside]
        whole = inside[codes]
        terms = zip(itertools.compress(members, whole), weights[whole].tolist(), strict=False)
        low, high, interval = _interval(values, terms, quantity, resamples)
        if interval:
            low, high = np.clip([low, high], *_bounds(weights[codes == np.argmax(inside)], quantity)).tolist()
        texts = " ".join(str(rounded(value)) for value in values.tolist())
        mean = float(values.mean()) if len(values) else math.nan
        rows.append((quantity, len(values), texts, *(round(x, DIGITS) + 0.0 for x in (mean, low, high)), interval))
    return pd.DataFrame(rows, columns=["quantity", "n", "values", "mean", "low", "high", "interval"])


def _interval(values: np.ndarray, terms: Terms, quantity: str, resamples: Resamples | None) -> Interval:
    if len(values) >= FEWEST:
        half = float(stdtrit(len(values) - 1, 0.975)) * float(values.std(ddof=1)) / math.sqrt(len(values))
        return float(values.mean()) - half, float(values.mean()) + half, "seeds"
    if resamples is None or not len(values):
        return math.nan, math.nan, ""
    if quantity.endswith("risk_auroc"):
        return _auroc_interval(values, terms, quantity, resamples)
    total = np.zeros(1)
    for (member, rule), weight in terms:
        drawn = resamples.of(member, rule, quantity)
        # Where a member's images are not stored there is no interval.
        total = total + weight * (np.nan if drawn is None else drawn) / len(values)
    finite = total[np.isfinite(total)]
    return (*np.percentile(finite, (2.5, 97.5)).tolist(), "images") if finite.size else (math.nan, math.nan, "")


def _auroc_interval(values: np.ndarray, terms: Terms, quantity: str, resamples: Resamples) -> Interval:
    """Returns an interval of weighted AUROCs from their own ones.

    Those of one sign, on the same images, are taken to err together, the two signs on their own: where they err alike,
    as models on the same images mostly do, the interval is wider than it need be.
    """
    # By sign of the weight: how far the sum may lie above the truth, and how far below.
    above, below = np.zeros(2), np.zeros(2)
    for (member, rule), weight in terms:
        found = resamples.auroc(member, rule, quantity)
        ends = (np.nan, np.nan) if found is None else (found.value - found.low, found.high - found.value)
        sign = int(weight < 0)
        above[sign] += abs(weight) * ends[sign] / len(values)
        below[sign] += abs(weight) * ends[1 - sign] / len(values)
    mean = float(values.mean())
    low, high = mean - math.hypot(*above.tolist()), mean + math.hypot(*below.tolist())
    return (low, high, "images") if math.isfinite(low + high) else (math.nan, math.nan, "")


def _bounds(weights: np.ndarray, quantity: str) -> tuple[float, float]:
    """Returns the least and the largest value that a sum of so weighted records can have."""
    least, most = RANGES[quantity_of(quantity).unit]
    ends = [(weight * least, weight * most) for weight in weights.tolist() if weight]
    return sum(map(min, ends)), sum(map(max, ends))


def seeds_of(records: pd.DataFrame) -> pd.Series:
    """Returns what pairs records: their seeds, or one number for all where there is no such axis."""
    return records["seed"] if "seed" in records else pd.Series(0, records.index)


def _joined(tables: Sequence[pd.DataFrame], columns: Sequence[str]) -> pd.DataFrame:
    return pd.concat(tables, ignore_index=True)[list(columns)] if tables else pd.DataFrame(columns=list(columns))


def aggregate(rows: pd.DataFrame, *, resamples: Resamples | None = None) -> pd.DataFrame:
    """Returns the mean of every quantity over seeds, per setting of the other axes: a row per setting and quantity.

    Columns: the axes but the seed; `quantity`; `n`, the members with a finite value; `left_out`, those that diverged
    or failed; `values`, the seeds' own, with blanks between; `mean`, `low` and `high`: the mean and its interval, see
    `estimate`; `interval`, which one it is.
    """
    names = [name for name in axes_of(rows) if name != "seed"]
    return means_of(member_quantities(rows), names, resamples=resamples)


def means_of(records: pd.DataFrame, names: Sequence[str], *, resamples: Resamples | None = None) -> pd.DataFrame:
    """Returns the mean of every quantity over the records of each setting of the axes `names`: as `aggregate`."""
    tables = []
    for setting, members in groups_of(records, names):
        kept = kept_records(members)
        axes = dict(zip(names, setting, strict=True))
        tables.append(estimate(kept, resamples=resamples).assign(**axes, left_out=len(members) - len(kept)))
    return _joined(tables, [*names, "quantity", "n", "left_out", "values", "mean", "low", "high", "interval"])


def trend(rows: pd.DataFrame, *, resamples: Resamples | None = None) -> pd.DataFrame:
    """Returns the trend of every quantity in the correlation level, paired by seed: a row per setting and quantity.

    Per seed: the least-squares slope over the levels, per unit of rho, and the change from the lowest to the
    highest level. A seed takes part in a quantity if it has a finite value at every level; a level at which every
    member was left out is none. Columns: the other axes; `quantity`; `n`, the seeds that take part; `left_out`, the
    members that diverged or failed; `from` and `to`, the levels; `slope` and `change`, the means over seeds; each
    of the two with `_low` and `_high`, the interval of `estimate`; `interval`, which one it is. A setting with fewer
    than two levels has no rows.
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
        axes = {"from": levels[0], "to": levels[-1], "left_out": len(records) - len(kept)}
        kept, seeds = kept[whole], seeds[whole]
        centred = levels - levels.mean()
        place = np.searchsorted(levels, kept["rho"])
        slope = estimate(kept, (centred / (centred @ centred))[place], seeds, resamples=resamples)
        # The levels between take part with weight 0: a seed that lacks one has no trend.
        ends = np.array([-1.0, *np.zeros(len(levels) - 2), 1.0])
        change = estimate(kept, ends[place], seeds, resamples=resamples)
        table = slope.rename(columns={"mean": "slope", "low": "slope_low", "high": "slope_high"})
        table = table.assign(change=change["mean"], change_low=change["low"], change_high=change["high"])
        tables.append(table.assign(**axes, **dict(zip(names, setting, strict=True))))
    means = ("slope", "slope_low", "slope_high", "change", "change_low", "change_high")
    return _joined(tables, [*names, "quantity", "n", "left_out", "from", "to", *means, "interval"])


def compare(
    rows: pd.DataFrame, *, axis: str = "method", reference: str | None = None, resamples: Resamples | None = None
) -> pd.DataFrame:
    """Returns how every quantity differs between a value of an axis and a reference value, paired by seed.

    The reference is the axis's first value unless given. A seed takes part if both have a finite value. Columns: the
    other axes; `axis`; `reference`; `quantity`; `n`, the seeds that take part; `left_out`, the members of the two that
    diverged or failed; `difference` (value minus reference), the mean over seeds, with `low`, `high` and `interval`,
    see `estimate`. No rows where the axis takes one value.
    """
    names = [name for name in axes_of(rows) if name not in (axis, "seed")]
    tables = []
    for setting, records in groups_of(member_quantities(rows), names) if axis in axes_of(rows) else ():
        base = records[axis].iloc[0] if reference is None else reference
        for value in records[axis].unique() if (records[axis] == base).any() else ():
            if value == base:
                continue
            both = records[records[axis].isin([value, base])]
            kept = kept_records(both)
            seeds = seeds_of(kept)
            paired = kept.groupby(seeds)[axis].transform("nunique") == 2
            weights = np.where(kept[axis] == value, 1.0, -1.0)
            table = estimate(kept[paired], weights[paired], seeds[paired], resamples=resamples)
            axes = dict(zip(names, setting, strict=True)) | {axis: value, "reference": base}
            tables.append(table.assign(**axes, left_out=len(both) - len(kept)))
    table = _joined(tables, [*names, axis, "reference", "quantity", "n", "left_out", "mean", "low", "high", "interval"])
    return table.rename(columns={"mean": "difference"})
