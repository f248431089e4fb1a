"""Summarises an audit with intervals, and builds the rows of its files."""

import dataclasses
import functools
import importlib.util
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pandas as pd
from scipy.special import stdtr, stdtrit

from flipjax import metrics
from flipjax.audit.groups import ImageGroups
from flipjax.audit.measurements import Measurements
from flipjax.backend.random import key_of
from flipjax.groups import TWO_BY_TWO, AnyGroups, Groups, NamedGroups
from flipjax.metrics import Decomposition, SegmentTables
from flipjax.metrics.classes import Background, is_foreground
from flipjax.metrics.decomposition import divide, flips_of, margins
from flipjax.metrics.images import ALL, Images, read_images
from flipjax.metrics.quantities import evaluate
from flipjax.metrics.summary import Interval, image_intervals, interval_names
from flipjax.results.frames import DIGITS, Row, rounded, write_csv
from flipjax.results.quantities import IMAGE_QUANTITIES, SCENE_IMAGE_QUANTITIES, title_of
from flipjax.results.rows import image_columns
from flipjax.support.files import replacing

Places = Mapping[str, Mapping[int, np.ndarray]]
"""Indices of images by group, or by scene, and class."""


class Objects(NamedTuple):
    """The segments of an audit: tables, SegFlip by class, flip matrix int64 (C, C) and error budget."""

    tables: SegmentTables
    flips: pd.DataFrame
    confusion: np.ndarray
    budget: pd.DataFrame
    class_names: tuple[str, ...]
    background: Background

    @property
    def flipped(self) -> pd.DataFrame:
        """The true segments that flip."""
        return self.tables.true[self.tables.true["outcome"] == "flip"]

    @property
    def flipped_pairs(self) -> pd.DataFrame:
        """The flipped segments (`size`) and their pixels (`sum`) by `class` and `predicted`, most segments first."""
        counts = self.flipped.groupby(["class", "predicted"])["pixels"].agg(["size", "sum"])
        return counts.sort_values(["size", "sum"], ascending=False, kind="stable").reset_index()


def count_objects(
    measured: Measurements,
    class_names: Sequence[str],
    *,
    samples: int,
    clusters: np.ndarray | None = None,
) -> Objects:
    """Counts segments. Intervals resample images (if there are several) or clusters."""
    tables, C = measured.segments, len(class_names)
    # Segment rates are ratios of sums over images, so a cluster can be treated as an image.
    drawn = tables.true if clusters is None else tables.true.assign(image=clusters[tables.true["image"]])
    key = key_of(0) if drawn["image"].nunique() > 1 else None
    flips = metrics.segment_flips(drawn, key=key, samples=samples, class_names=class_names)
    budget = metrics.error_budget(tables.pixels, num_classes=C)
    confusion = metrics.segment_confusion(tables.true, num_classes=C)
    return Objects(tables, flips, confusion, budget, tuple(class_names), measured.decomposition.background)


def write_segments(folder: Path, objects: Objects, names: Sequence[str]) -> None:
    """Writes one row per true segment to segments.parquet, or to segments.csv without pyarrow."""
    true, class_names = objects.tables.true, np.array(objects.class_names, object)
    spelled = {"name": np.array(names, object)[true["image"]]}
    spelled |= {f"{column}_name": class_names[true[column]] for column in ("class", "predicted")}
    table = pd.DataFrame(spelled | dict(true.items()))
    arrow = importlib.util.find_spec("pyarrow") is not None
    (folder / ("segments.csv" if arrow else "segments.parquet")).unlink(missing_ok=True)
    if arrow:
        with replacing(folder / "segments.parquet") as stream:
            table.to_parquet(stream, index=False)
    else:
        write_csv(folder / "segments.csv", table)


FEWEST = 30
"""Fewest images of which deciles are shown."""


@dataclasses.dataclass(frozen=True)
class Audit:
    """An audit of n images: counts, groups int64 (n,) or None, and the class names.

    `summary` is from `flipjax.metrics.summarize`, without its matrix and with named groups; `intervals` are from
    `bootstrap`. `objects` holds the segments. `images`, `by_group` and `pairs` are from `image_table`,
    `flips_by_group` and `flip_pairs`; `clusters` is int (n,) or None.
    """

    groups: np.ndarray | None
    decomposition: Decomposition
    class_names: tuple[str, ...]
    summary: Mapping[str, Any]
    intervals: Mapping[str, tuple[Any, Any]]
    objects: Objects
    images: pd.DataFrame
    by_group: pd.DataFrame
    pairs: pd.DataFrame
    clusters: np.ndarray | None

    @property
    def has_scores(self) -> bool:
        """Whether flip-risk exists; masks have none."""
        return "flip_risk_mean" in self.summary

    @property
    def has_tenths(self) -> bool:
        """Whether enough images have a rank for deciles to be meaningful."""
        return self.has_scores and len(self.images) - self.summary["n_images_without_risk"] >= FEWEST

    @functools.cached_property
    def confusion(self) -> np.ndarray:
        """The pixels of all images, int64 (C, C), rows truth."""
        return np.asarray(self.decomposition.confusion).sum(0, dtype=np.int64)

    @property
    def background(self) -> Background:
        """The background class, several, or None."""
        return self.decomposition.background

    @functools.cached_property
    def foreground(self) -> list[int]:
        """The other classes."""
        return np.flatnonzero(is_foreground(len(self.class_names), self.background)).tolist()


def conclude_audit(measured: Measurements, *, samples: int = 1000) -> Audit:
    """Summarises counts, with intervals from `samples` resamples of images within groups."""
    names, groups, class_names = measured.names, measured.groups, measured.class_names
    pairs, clusters, scenes = measured.pairs, measured.clusters, measured.scenes
    decomposition, numbers = measured.decomposition, groups.numbers
    foreground = np.flatnonzero(is_foreground(len(class_names), decomposition.background)).tolist()
    all_groups = groups.all_groups or (TWO_BY_TWO if len(foreground) == 2 else None)
    images = read_images(
        decomposition,
        numbers,
        class_names=class_names,
        all_groups=all_groups,
        pair=pairs,
        regions=measured.regions,
        log_odds=None if scenes is None else scenes[0],
        center=None if scenes is None else scenes[1],
    )
    summary, intervals = _summarize(images, samples=samples, clusters=clusters)
    objects = count_objects(measured, class_names, samples=samples, clusters=clusters)
    total = objects.flips.iloc[-1].to_dict()
    for name in ("seg_flip", "strict_flip"):
        summary[name] = total[name]
        intervals |= {name: (total[f"{name}_low"], total[f"{name}_high"])} if f"{name}_low" in total else {}
    own_names = [class_names[c] for c in foreground]
    group_names = {} if numbers is None else name_groups(all_groups, own_names, groups.scene_names, present=numbers)
    places, sides = _places(dataclasses.replace(groups, all_groups=all_groups), group_names, foreground)
    if sides:
        summary["flip_gap/mean"], low, high = flip_gap(decomposition, sides, clusters)
        intervals |= {} if math.isnan(low) else {"flip_gap/mean": (low, high)}
    columns = {"name": names, **groups.columns}
    if numbers is not None:
        columns["group"] = [group_names[group] for group in numbers.tolist()]
    return Audit(
        numbers,
        decomposition,
        class_names,
        with_names(summary, group_names),
        with_names(intervals, group_names),
        objects,
        image_table(columns, measured, images, objects),
        flips_by_group(decomposition, places, class_names, clusters=clusters),
        flip_pairs(decomposition, class_names, clusters=clusters),
        clusters,
    )


def _summarize(
    images: Images, *, samples: int, clusters: np.ndarray | None
) -> tuple[dict[str, Any], dict[str, Interval]]:
    """Returns the numbers of pixels and their intervals over images, without empty groups."""
    groups = [group for group in images.group_names if group == ALL or images.on_side(group).any()]
    summary = {value.name: value.value[0].tolist() for value in evaluate(images, groups=groups)}
    # One image has no interval.
    if len(images) < 2:
        return summary, {}
    names = [name for name in interval_names(images) if name in summary]
    intervals = image_intervals(
        images,
        names,
        generator=np.random.default_rng(np.asarray(jax.random.key_data(key_of(0)))),
        samples=samples,
        pairs=images.pair,
        clusters=clusters,
    )
    return summary, intervals


def name_groups(
    all_groups: AnyGroups | None, foreground: Sequence[str], scene_names: Sequence[str], *, present: Any = ()
) -> dict[int, str]:
    """Returns group names: those of `NamedGroups`, class+scene if both have names, or numbers.

    Example:
        >>> name_groups(TWO_BY_TWO, ("cow", "dog"), ("land", "sea"))[1], name_groups(TWO_BY_TWO, ("cow", "dog"), ())[1]
        ('cow+sea', '1')
    """
    if isinstance(all_groups, NamedGroups):
        return dict(enumerate(all_groups.names))
    numbers = np.unique(present).tolist() if all_groups is None else range(all_groups.count)
    plain = {group: str(group) for group in numbers}
    if all_groups is None or not scene_names:
        return plain
    texts = {g: f"{foreground[all_groups.class_of(g)]}+{scene_names[all_groups.scene_of(g)]}" for g in numbers}
    # Summary keys are separated by slashes.
    named = {group: text.replace("/", "_") for group, text in texts.items()}
    return named if len({*named.values()}) == len(named) else plain


def with_names(table: Mapping[str, Any], group_names: Mapping[int, str]) -> dict[str, Any]:
    """Replaces group numbers in keys `group/<number>/...` by names."""
    names = {f"group/{group}/": f"group/{name}/" for group, name in group_names.items()}
    return {re.sub("^group/[^/]+/", lambda found: names.get(found[0], found[0]), k): v for k, v in table.items()}


def _places(
    groups: ImageGroups, group_names: Mapping[int, str], foreground: Sequence[int]
) -> tuple[Places, dict[int, list[np.ndarray]]]:
    """Returns image indices by group or scene and class, and those in common and in rare groups of each class."""
    numbers, all_groups = groups.numbers, groups.all_groups
    if numbers is None or not isinstance(all_groups, Groups):
        return {name: dict.fromkeys(foreground, np.flatnonzero(numbers == g)) for g, name in group_names.items()}, {}
    numbered = dict(enumerate(groups.scene_names or [f"scene {scene}" for scene in range(all_groups.scenes)]))
    owner, scene = np.array(foreground)[all_groups.class_of(numbers)], all_groups.scene_of(numbers)
    owned = {c: owner == c for c in foreground}
    places = {name: {c: np.flatnonzero(own & (scene == s)) for c, own in owned.items()} for s, name in numbered.items()}
    kinds = [np.isin(numbers, own) for own in (all_groups.common, all_groups.rare)]
    sides = {c: [np.flatnonzero(own & kind) for kind in kinds] for c, own in owned.items()}
    return places, {c: both for c, both in sides.items() if all(map(len, both))}


def image_table(
    columns: Mapping[str, Sequence[str]], measured: Measurements, images: Images, objects: Objects
) -> pd.DataFrame:
    """Returns one row per image by decreasing flip-risk (undefined last), or by flip share for masks.

    `columns` come first; the index holds the images' positions.
    """
    counts = image_columns(images)
    risk = counts["flip_risk"]
    masks = np.isnan(risk).all()
    if not masks:
        counts["flip_risk_share"] = risk / np.log(is_foreground(len(objects.class_names), objects.background).sum())
    known = (*IMAGE_QUANTITIES, *SCENE_IMAGE_QUANTITIES, "flip_risk_share")
    # Adding 0 to -0 leaves 0.
    table: dict[str, Any] = {**columns} | {name: counts[name].round(DIGITS) + 0.0 for name in known if name in counts}
    table |= {name: counts[name] for name in ("foreground_pixels", "pixels")}
    table |= {"ignored_pixels": measured.ignored, "largest_flip": counts["largest_flip"]}
    for name, segments in (("segments", objects.tables.true), ("flipped_segments", objects.flipped)):
        table[name] = np.bincount(segments["image"], minlength=len(risk))
    rank = np.nan_to_num(counts["flip"]) if masks else np.nan_to_num(risk, nan=-np.inf)
    return pd.DataFrame(table).iloc[np.argsort(-rank, kind="stable")]


def summary_rows(audit: Audit) -> list[Row]:
    """Returns one row per number of the summary: key, title, group, decile, value and interval."""
    rows = []
    for key, value in audit.summary.items():
        low, high = audit.intervals.get(key, (math.nan, math.nan))
        # An object array keeps integers beside floats.
        for place, cells in enumerate(np.broadcast(np.array(value, object), low, high), 1):
            row = {"quantity": key, "title": title_of(key), "decile": place if isinstance(value, list) else ""}
            rows.append(row | dict(zip(("value", "low", "high"), map(rounded, cells), strict=True)))
    return rows


PAIRS = 400
"""Pairs of classes of the most pixels, of which intervals are computed."""


class Ratios(NamedTuple):
    """Ratios of sums, float64 (k,): values, variances and degrees of freedom."""

    value: np.ndarray
    variance: np.ndarray
    freedom: np.ndarray

    def minus(self, other: "Ratios") -> "Ratios":
        """Returns differences from rates on other images, with Welch's degrees of freedom."""
        variance = self.variance + other.variance
        freedom = divide(variance**2, self.variance**2 / self.freedom + other.variance**2 / other.freedom)
        return Ratios(self.value - other.value, variance, freedom)

    def interval(self, least: float = 0.0, most: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
        """Returns the 95% Student t interval, clipped to the range of the values."""
        half = stdtrit(np.maximum(self.freedom, 1e-3), 0.975) * np.sqrt(self.variance)
        return np.clip(self.value - half, least, most), np.clip(self.value + half, least, most)

    @property
    def p(self) -> np.ndarray:
        """The two-sided p of value 0; NaN without a variance."""
        known = self.variance > 0
        t = np.abs(self.value) / np.sqrt(np.where(known, self.variance, 1))
        return np.where(known, 2 * stdtr(np.maximum(self.freedom, 1e-3), -t), np.nan)


def ratios(part: np.ndarray, whole: np.ndarray, clusters: np.ndarray | None = None) -> Ratios:
    """Returns sums of `part` over sums of `whole`, with the variance under sampling of images.

    Args:
        part: (n, k) numbers.
        whole: (n, k) numbers.
        clusters: int (n,), images sampled together, such as the frames of one film; None samples each image alone.

    Returns:
        Ratios (k,). The variance is that of the linearised ratio. Degrees of freedom follow from Kish's effective
        number m of images. If all images have the same share, the standard deviation is half an image, 1/(2 m). NaN if
        one image holds all of a whole.

    Source: Cochran, Sampling Techniques, 1977, section 6.4; Kish, Survey Sampling, 1965.

    Example:
        >>> ratios(np.array([[1], [3]]), np.array([[4], [4]])).value.tolist()
        [0.5]
    """
    part, whole = (np.asarray(counts, np.float64) for counts in (part, whole))
    if clusters is not None:
        part, whole = (pd.DataFrame(counts).groupby(clusters).sum().to_numpy() for counts in (part, whole))
    total = whole.sum(0)
    value = divide(part.sum(0), total)
    size = divide(total**2, (whole**2).sum(0))
    residuals = ((part - value * whole) ** 2).sum(0)
    freedom = np.where(size > 1 + 1e-9, size - 1, np.nan)
    variance = np.where(residuals > 0, divide(residuals, total**2) * size / freedom, (0.5 / size) ** 2)
    return Ratios(value, np.where(np.isnan(freedom), np.nan, variance), freedom)


def flips_by_group(
    decomposition: Decomposition, places: Places, class_names: Sequence[str], *, clusters: np.ndarray | None = None
) -> pd.DataFrame:
    """Compares the Flip of each class in one group with that in the other groups.

    Args:
        decomposition: of n images.
        places: a class without images in a group has no row there.
        class_names: names of all C classes.
        clusters: as in `ratios`.

    Returns:
        A row per class and group, largest lower bound of a difference first: `class`, `group`; `images` of the group
        that show the class; `flip`, the flipped share of its pixels there, `low`, `high`; `others`, that of the other
        groups, with `others_images`; `difference`, `difference_low`, `difference_high`; `p`, and `q`, corrected over
        all rows (Benjamini and Hochberg). Of two groups, only the one that flips more has a row.
    """
    flips, pixels = class_pixels(decomposition)
    rows = []
    for c in np.flatnonzero(is_foreground(len(class_names), decomposition.background)).tolist():
        own = {group: rows_of[c][pixels[rows_of[c], c] > 0] for group, rows_of in places.items() if c in rows_of}
        own = {group: few for group, few in own.items() if len(few)}
        # A class that never flips would only make the correction stricter.
        for group, inside in own.items() if len(own) > 1 and flips[:, c].any() else ():
            others = np.concatenate([rest for name, rest in own.items() if name != group])
            here, there = (_rate(flips[few, c], pixels[few, c], few, clusters) for few in (inside, others))
            if len(own) == 2 and (here.value, group) < (there.value, next(name for name in own if name != group)):
                continue
            change = here.minus(there)
            numbers = [here.value, *here.interval(), there.value, change.value, *change.interval(-1.0), change.p]
            cells = [number.item() for number in numbers]
            rows.append([class_names[c], group, len(inside), *cells[:4], len(others), *cells[4:]])
    names = ["class", "group", "images", "flip", "low", "high", "others", "others_images"]
    table = pd.DataFrame(rows, columns=[*names, "difference", "difference_low", "difference_high", "p"])
    table["q"] = np.nan
    known = table["p"].notna()
    if known.any():
        from scipy.stats import false_discovery_control  # Imported here because it is slow.

        table.loc[known, "q"] = false_discovery_control(table.loc[known, "p"].to_numpy(np.float64))
    bound = np.nan_to_num(np.maximum(table["difference_low"], -table["difference_high"]), nan=-1)
    return by_bound(table, bound, table["difference"].abs())


def _rate(flip: np.ndarray, whole: np.ndarray, few: np.ndarray, clusters: np.ndarray | None) -> Ratios:
    """Returns Flip of a class in a few images."""
    return ratios(flip[:, None], whole[:, None], None if clusters is None else clusters[few])


def class_pixels(decomposition: Decomposition) -> tuple[np.ndarray, np.ndarray]:
    """Returns the flipped and all pixels of each foreground class in each image, int64 (n, C)."""
    counts = margins(np.asarray(decomposition.confusion), background=decomposition.background)
    return counts.truth - counts.same - counts.missed, counts.truth


def by_bound(table: pd.DataFrame, bound: Any, value: Any) -> pd.DataFrame:
    """Returns rounded rows, those with the largest bound, then the largest value, first."""
    return table.iloc[np.lexsort((-value, -bound))].round(DIGITS)


def flip_gap(
    decomposition: Decomposition, sides: Mapping[int, Sequence[np.ndarray]], clusters: np.ndarray | None = None
) -> tuple[float, float, float]:
    """Returns Flip in rare minus common groups within each class, averaged over the classes.

    Args:
        decomposition: of n images.
        sides: image indices in common and rare groups, by class; at least one class.
        clusters: as in `ratios`.

    Returns:
        The mean and its 95% interval, NaN if no class has one.
    """
    flips, pixels = class_pixels(decomposition)
    differences = []
    for c, both in sides.items():
        common, rare = (_rate(flips[few, c], pixels[few, c], few, clusters) for few in both)
        differences.append(rare.minus(common))
    value, variance, freedom = map(np.concatenate, zip(*differences, strict=True))
    known = np.isfinite(variance)
    if not known.any():
        return float(np.nanmean(value)), np.nan, np.nan
    value, variance, freedom = value[known], variance[known], freedom[known]
    total = variance.sum()
    mean = Ratios(np.asarray(value.mean()), total / len(value) ** 2, divide(total**2, (variance**2 / freedom).sum()))
    low, high = mean.interval(-1.0)
    return float(mean.value), float(low), float(high)


def flip_pairs(
    decomposition: Decomposition, class_names: Sequence[str], *, clusters: np.ndarray | None = None
) -> pd.DataFrame:
    """Returns the share of each class predicted as each other class, largest lower bound first.

    Args:
        decomposition: of n images.
        class_names: of all C classes.
        clusters: as in `ratios`.

    Returns:
        A row per pair of foreground classes, for at most PAIRS with the most pixels: `truth`, `prediction`; `images`
        that show the class, `flipped_images` of these with such a flip; `pixels`; `share` of the class, `low`, `high`.
    """
    confusion = np.asarray(decomposition.confusion)
    flips = flips_of(confusion.sum(0, dtype=np.int64), background=decomposition.background)
    truth, prediction = np.unravel_index(np.argsort(-flips, axis=None, kind="stable")[:PAIRS], flips.shape)
    kept = flips[truth, prediction] > 0
    truth, prediction = truth[kept], prediction[kept]
    part, whole = confusion[:, truth, prediction], confusion.sum(2)[:, truth]
    rates = ratios(part, whole, clusters)
    names = np.array(class_names, object)
    table = pd.DataFrame({"truth": names[truth], "prediction": names[prediction], "images": (whole > 0).sum(0)})
    table["flipped_images"], table["pixels"] = (part > 0).sum(0), part.sum(0, dtype=np.int64)
    table["share"], (table["low"], table["high"]) = rates.value, rates.interval()
    return by_bound(table, table["low"].fillna(0), table["share"])
