"""Summarises an audit with intervals, and builds the rows of its files."""

import dataclasses
import functools
import importlib.util
import math
import re
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.special import stdtr, stdtrit

from flipjax.audit.counts import Measured
from flipjax.audit.groups import ImageGroups
from flipjax.backend import key_of
from flipjax.context import LEAST_FLIPS, SHOWN, Choice, context_beta, context_evidence
from flipjax.files import replacing
from flipjax.groups import TWO_BY_TWO, AnyGroups, Groups, NamedGroups
from flipjax.metrics import (
    Decomposition,
    SegmentTables,
    bootstrap,
    error_budget,
    segment_confusion,
    segment_flips,
    summarize,
)
from flipjax.metrics.classes import Background, is_foreground
from flipjax.metrics.decomposition import divide, flips_of
from flipjax.metrics.log_odds import SceneSwap
from flipjax.results.frames import DIGITS, Row, rounded, write_csv
from flipjax.results.quantities import IMAGE_QUANTITIES, SCENE_IMAGE_QUANTITIES, title_of
from flipjax.results.rows import image_columns, region_quantities


class Objects(NamedTuple):
    """The segments of an audit: tables, SegFlip by class, flip matrix int64 (C, C), error budget, and betas by name."""

    tables: SegmentTables
    flips: pd.DataFrame
    confusion: np.ndarray
    budget: pd.DataFrame
    class_names: tuple[str, ...]
    background: Background
    betas: Mapping[str, Choice]

    @property
    def missable(self) -> bool:
        """Whether any class is background, so that segments can be missed."""
        return not is_foreground(len(self.class_names), self.background).all()

    def rates(self) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
        """Returns SegFlip and StrictFlip of all segments, and their intervals, if any."""
        row = rows_by_name(self.flips)["all"]
        names = ("seg_flip", "strict_flip")
        ends = {name: (row[f"{name}_low"], row[f"{name}_high"]) for name in names if f"{name}_low" in row}
        return {name: row[name] for name in names}, ends

    def of_images(self, images: int) -> dict[str, list[int]]:
        """Returns two columns of images.csv: the numbers of segments and of flipped segments."""
        place = self.tables.true["image"].to_numpy()
        flip = (self.tables.true["outcome"] == "flip").to_numpy()
        counts = [np.bincount(part, minlength=images).tolist() for part in (place, place[flip])]
        return dict(zip(("segments", "flipped_segments"), counts, strict=True))

    def flipped_pairs(self) -> list[list[int]]:
        """Returns true class, predicted class, segments and pixels of each flipped pair, most segments first."""
        flips = self.tables.true[self.tables.true["outcome"] == "flip"]
        counts = flips.groupby(["class", "predicted"])["pixels"].agg(["size", "sum"]).reset_index()
        counts = counts.sort_values(["size", "sum"], ascending=False, kind="stable")
        return counts.astype(np.int64).to_numpy().tolist()

    def as_json(self) -> dict[str, Any]:
        """Returns SegFlip by class, the flip matrix in segments, the budget, and beta, if any."""
        tables = {"segments": self.flips, "budget": self.budget}
        stored: dict[str, Any] = {name: rows_by_name(table.round(DIGITS)) for name, table in tables.items()}
        context = {"context": {"beta": self.betas["all"]._asdict()}} if self.betas else {}
        return stored | {"segment_matrix": self.confusion.tolist()} | context


LEAST_CLASSES = 3
"""Fewest foreground classes for beta: with two, there is only one wrong class to choose."""
WORK = 5e7
"""Most resamples times flips times classes: about ten seconds."""


def pixel_shares(measured: Measured) -> np.ndarray:
    """Returns the fraction of each image that each class covers in the labels: float64 (n, C)."""
    labels = np.asarray(measured.decomposition.confusion).sum(2)
    return labels / (labels.sum(1) + measured.ignored)[:, None]


def beta_of_audit(measured: Measured) -> tuple[Choice | None, np.ndarray]:
    """Computes beta of an audit's flips, and the evidence of each segment's context for its predicted class.

    Training statistics come from the audited labels; flips to classes that no image shows are left out.

    Returns:
        None below 50 flips or three foreground classes; float (S,) in nats, NaN for segments that do not flip.
    """
    true, background = measured.segments.true, measured.decomposition.background
    evidence = np.full(len(true), np.nan)
    flip, wrong = np.asarray(true["outcome"] == "flip", bool), np.asarray(true["predicted"], np.int64)
    shares = pixel_shares(measured)
    C = shares.shape[1]
    shown = np.any(shares >= SHOWN, axis=0)[wrong] | ~flip
    if (flip & shown).sum() < LEAST_FLIPS or is_foreground(C, background).sum() < LEAST_CLASSES:
        return None, evidence
    kept = true[shown].reset_index(drop=True)
    with warnings.catch_warnings():
        # The caption of beta already says that there are few images.
        warnings.simplefilter("ignore", UserWarning)
        own = context_evidence(kept, shares, own=np.arange(len(shares)), background=background)
    if not own[flip[shown]].any():
        return None, evidence
    evidence[shown & flip] = own[flip[shown], wrong[shown & flip]]
    samples = int(np.clip(WORK / (flip.sum() * C), 100, 1000))
    return context_beta(kept, own, background=background, samples=samples), evidence


def count_objects(
    measured: Measured,
    class_names: Sequence[str],
    *,
    samples: int,
    clusters: np.ndarray | None = None,
    betas: Mapping[str, Choice] | None = None,
) -> Objects:
    """Counts segments. Intervals resample images (if there are several) or clusters.

    Without `betas`, beta comes from the audited labels, and the table of segments gets the column `evidence`.
    """
    C = len(class_names)
    tables = measured.segments
    if betas is None:
        beta, evidence = beta_of_audit(measured)
        betas = {} if beta is None else {"all": beta}
        tables = tables if beta is None else tables._replace(true=tables.true.assign(evidence=evidence))
    # Segment rates are ratios of sums over images, so a cluster can be treated as an image.
    place = tables.true["image"].to_numpy()
    drawn = tables.true.assign(image=place if clusters is None else clusters[place])
    key = key_of(0) if drawn["image"].nunique() > 1 else None
    flips = segment_flips(drawn, key=key, samples=samples, class_names=class_names)
    budget = error_budget(tables.pixels, num_classes=C)
    confusion = segment_confusion(tables.true, num_classes=C)
    background = measured.decomposition.background
    return Objects(tables, flips, confusion, budget, tuple(class_names), background, betas)


def write_segments(folder: Path, objects: Objects, names: Sequence[str]) -> None:
    """Writes one row per true segment to segments.parquet, or to segments.csv without pyarrow."""
    true, class_names = objects.tables.true, np.array(objects.class_names, object)
    spelled = {"name": np.array(names, object)[true["image"].to_numpy()]}
    spelled |= {f"{column}_name": class_names[true[column].to_numpy()] for column in ("class", "predicted")}
    table = pd.concat([pd.DataFrame(spelled, index=true.index), true], axis=1)
    arrow = importlib.util.find_spec("pyarrow") is not None
    (folder / ("segments.csv" if arrow else "segments.parquet")).unlink(missing_ok=True)
    if not arrow:
        write_csv(folder / "segments.csv", table)
        return
    with replacing(folder / "segments.parquet") as stream:
        table.to_parquet(stream, index=False)


def rows_by_name(table: pd.DataFrame) -> dict[Any, dict[Any, Any]]:
    """Returns the rows of a numeric table by index."""
    return table.rename(index=str, columns=str).to_dict("index")


FEWEST = 30
"""Fewest images of which deciles are shown."""


@dataclasses.dataclass(frozen=True)
class Audit:
    """An audit of n images: their names, groups int64 (n,) or None, ignored pixels int64 (n,), and the class names.

    `summary` is from `flipjax.metrics.summarize`, without its matrix and with named groups; `intervals` are from
    `bootstrap`. `objects` holds the segments, `group_names` the name of each number in `groups`, `class_of_group` the
    class of each group of a class in a scene, and `groups_of_class` image indices by group (or by scene) and class.
    `swap` is the scene swap of the images, if the model was available. `columns` are further texts of each image,
    `clusters` int (n,) or None.
    """

    names: Sequence[str]
    groups: np.ndarray | None
    decomposition: Decomposition
    ignored: np.ndarray
    class_names: tuple[str, ...]
    summary: Mapping[str, Any]
    intervals: Mapping[str, tuple[Any, Any]]
    objects: Objects
    group_names: Mapping[int, str]
    class_of_group: Mapping[str, str]
    groups_of_class: Mapping[str, Mapping[int, np.ndarray]]
    swap: SceneSwap | None
    columns: Mapping[str, Sequence[str]]
    clusters: np.ndarray | None

    @functools.cached_property
    def has_scores(self) -> bool:
        """Whether flip-risk exists; masks have none."""
        return not np.isnan(np.asarray(self.decomposition.risk_sum)).all()

    @functools.cached_property
    def has_tenths(self) -> bool:
        """Whether enough images have a rank for deciles to be meaningful."""
        return self.has_scores and len(self.names) - self.summary["n_images_without_risk"] >= FEWEST

    @functools.cached_property
    def by_group(self) -> pd.DataFrame:
        """Flip by class and group, from `flips_by_group`."""
        return flips_by_group(self.decomposition, self.groups_of_class, self.class_names, clusters=self.clusters)

    @functools.cached_property
    def pairs(self) -> pd.DataFrame:
        """Flips between classes, from `flip_pairs`."""
        return flip_pairs(self.decomposition, self.class_names, clusters=self.clusters)

    @functools.cached_property
    def confusion(self) -> np.ndarray:
        """The pixels of all images, int64 (C, C), rows truth."""
        return np.asarray(self.decomposition.confusion).sum(0, dtype=np.int64)

    @functools.cached_property
    def background(self) -> Background:
        """The background class, several, or None."""
        return self.decomposition.background

    @functools.cached_property
    def foreground(self) -> list[int]:
        """The other classes."""
        return np.flatnonzero(is_foreground(len(self.class_names), self.background)).tolist()


def conclude_audit(
    names: Sequence[str],
    groups: ImageGroups,
    measured: Measured,
    *,
    class_names: tuple[str, ...],
    samples: int = 1000,
    pairs: np.ndarray | None = None,
    clusters: np.ndarray | None = None,
    further: Mapping[str, float] | None = None,
    swap: SceneSwap | None = None,
) -> Audit:
    """Summarises counts, with intervals from resampling images within groups.

    Args:
        names: n image names.
        groups: of the n images; two by two by default for two foreground classes.
        measured: the counts of the n images.
        class_names: C names.
        samples: number of resamples.
        pairs: int (n,), the counterfactual pair of each image or -1; pairs are drawn together.
        clusters: int (n,), images sampled together, such as the frames of a film; None samples each alone.
        further: quantities computed elsewhere, by key.
        swap: the scene swap of the images, if any.
    """
    decomposition, numbers = measured.decomposition, groups.numbers
    foreground = np.flatnonzero(is_foreground(len(class_names), decomposition.background)).tolist()
    all_groups = groups.all_groups or (TWO_BY_TWO if len(foreground) == 2 else None)
    options = {"groups": numbers, "class_names": class_names, "all_groups": all_groups}
    summary = _summarize(decomposition, options, rare=len(foreground) > 2)
    keys = [key for key in summary if "n_images" not in key] if len(names) > 1 else []
    if measured.regions is not None:
        summary |= region_quantities(measured.regions, numbers, all_groups=all_groups)
    summary |= further or {}
    resampled = functools.partial(bootstrap, key=key_of(0), samples=samples, pairs=pairs, clusters=clusters, **options)
    intervals = resampled(decomposition, keys) if keys else {}
    intervals |= _swap_intervals(decomposition, swap, keys, known=summary, resampled=resampled) if keys and swap else {}
    objects = count_objects(measured, class_names, samples=samples, clusters=clusters)
    rates, ends = objects.rates()
    summary |= rates | _mean_risk(decomposition)
    intervals |= ends
    own_names = [class_names[c] for c in foreground]
    group_names = {} if numbers is None else name_groups(all_groups, own_names, groups.scene_names, present=numbers)
    places, class_of_group, sides = _places(numbers, all_groups, foreground, groups.scene_names)
    if sides:
        summary["flip_gap/mean"], low, high = flip_gap(decomposition, sides, clusters)
        intervals |= {} if math.isnan(low) else {"flip_gap/mean": (low, high)}
    return Audit(
        names,
        numbers,
        decomposition,
        measured.ignored,
        class_names,
        with_names(summary, group_names),
        with_names(intervals, group_names),
        objects,
        group_names,
        {group_names[group]: class_names[c] for group, c in class_of_group.items() if group in group_names},
        places,
        swap,
        groups.columns,
        clusters,
    )


def _summarize(decomposition: Decomposition, options: Mapping[str, Any], *, rare: bool) -> dict[str, Any]:
    """Returns the summary without its flip matrix and, if `rare`, without groups that have no images."""
    summary = summarize(decomposition, **options)
    del summary["flip_matrix"]
    empty = tuple(key.removesuffix("n_images") for key, n in summary.items() if key.endswith("/n_images") and not n)
    return {key: value for key, value in summary.items() if not (rare and key.startswith(empty))}


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
    if all_groups is None:
        return {group: str(group) for group in np.unique(present).tolist()}
    numbers = range(all_groups.count)
    if scene_names:
        # Summary keys are separated by slashes.
        texts = [f"{foreground[all_groups.class_of(g)]}+{scene_names[all_groups.scene_of(g)]}" for g in numbers]
        named = [text.replace("/", "_") for text in texts]
        if len({*named}) == len(named):
            return dict(enumerate(named))
    return {group: str(group) for group in numbers}


def with_names(table: Mapping[str, Any], group_names: Mapping[int, str]) -> dict[str, Any]:
    """Replaces group numbers in keys `group/<number>/...` by names."""
    names = {f"group/{group}/": f"group/{name}/" for group, name in group_names.items()}
    return {re.sub("^group/[^/]+/", lambda found: names.get(found[0], found[0]), k): v for k, v in table.items()}


def _places(
    groups: np.ndarray | None, all_groups: AnyGroups | None, foreground: Sequence[int], scene_names: Sequence[str]
) -> tuple[dict[str, dict[int, np.ndarray]], dict[int, int], dict[int, tuple[np.ndarray, np.ndarray]]]:
    """Returns image indices by group or scene and class, the class of each group, and common and rare indices."""
    if groups is None:
        return {}, {}, {}
    if not isinstance(all_groups, Groups):
        names = name_groups(all_groups, (), (), present=groups)
        return {name: dict.fromkeys(foreground, np.flatnonzero(groups == g)) for g, name in names.items()}, {}, {}
    scenes = list(scene_names) or [f"scene {scene}" for scene in range(all_groups.scenes)]
    places = {
        name: {c: np.flatnonzero(groups == all_groups.of(y, scene)) for y, c in enumerate(foreground)}
        for scene, name in enumerate(scenes)
    }
    sides = {}
    for y, c in enumerate(foreground):
        common, rare = (np.flatnonzero(np.isin(groups, own)) for own in all_groups.sides_of(y))
        sides |= {c: (common, rare)} if len(common) and len(rare) else {}
    return places, {group: foreground[all_groups.class_of(group)] for group in range(all_groups.count)}, sides


def _mean_risk(decomposition: Decomposition) -> dict[str, float]:
    """Returns the mean flip-risk over images and its fraction of the maximum log F; empty for masks."""
    if np.isnan(np.asarray(decomposition.risk_sum)).all():
        return {}
    risk = np.asarray(decomposition.flip_risk, np.float64)
    mean = float(np.nanmean(risk)) if np.isfinite(risk).any() else math.nan
    F = int(is_foreground(decomposition.confusion.shape[-1], decomposition.background).sum())
    return {"flip_risk_mean": mean, "flip_risk_share": mean / math.log(F)}


def _swap_intervals(
    decomposition: Decomposition, swap: SceneSwap, keys: Sequence[str], *, known: Collection[str], resampled: Callable
) -> dict[str, Any]:
    """Returns the intervals of `known` scene-swap quantities, from decompositions in which `keys` have their values."""
    inside = is_foreground(decomposition.confusion.shape[-1], decomposition.background)
    predicted = swap.repaired.confusion[..., inside].sum((1, 2))
    ranked = dataclasses.replace(decomposition, risk_sum=swap.risk * predicted)
    after = {"fg_flip": "repair_flip", "fg_correct": "repair_correct", "worst_group_iou": "repair_worst_iou"}
    intervals = {}
    # The same key draws the same images for all quantities.
    for stand_in, names in ((ranked, {"risk_auroc": "swap_auroc", "risk_aurc": "swap_aurc"}), (swap.repaired, after)):
        renamed = {key: key.removesuffix(last := key.rpartition("/")[2]) + names.get(last, "") for key in keys}
        renamed = {key: name for key, name in renamed.items() if name in known}
        intervals |= {renamed[key]: ends for key, ends in resampled(stand_in, list(renamed)).items()}
    return intervals


def image_rows(audit: Audit) -> list[Row]:
    """Returns one row per image by decreasing flip-risk (undefined last), or by flip share for masks."""
    columns = image_columns(audit.decomposition, audit.class_names, swap=audit.swap)
    risk = columns["flip_risk"]
    first: dict[str, Sequence[Any]] = {"name": audit.names, **audit.columns}
    if audit.groups is not None:
        first["group"] = [audit.group_names[group] for group in audit.groups.tolist()]
    quantities = [name for name in (*IMAGE_QUANTITIES, *SCENE_IMAGE_QUANTITIES) if name in columns]
    shares = {name: [rounded(value) for value in columns[name].tolist()] for name in quantities}
    if not np.isnan(risk).all():
        shares["flip_risk_share"] = [rounded(value) for value in (risk / np.log(len(audit.foreground))).tolist()]
    counts = {name: columns[name].tolist() for name in ("foreground_pixels", "pixels")}
    last = {"ignored_pixels": audit.ignored.tolist(), "largest_flip": columns["largest_flip"].tolist()}
    table = first | shares | counts | last | audit.objects.of_images(len(audit.names))
    flip = np.nan_to_num(columns["flip"]) if np.isnan(risk).all() else np.zeros(len(risk))
    order = np.lexsort((-flip, np.where(np.isnan(risk), np.inf, -risk))).tolist()
    return [{name: values[i] for name, values in table.items()} for i in order]


def summary_rows(audit: Audit) -> list[Row]:
    """Returns one row per number of the summary: key, title, group, decile, value and interval."""
    rows = []
    for key, value in audit.summary.items():
        deciles = isinstance(value, list)
        numbers = np.atleast_1d(value).tolist()
        ends = [np.atleast_1d(end).tolist() for end in audit.intervals.get(key, ())] or [[math.nan] * len(numbers)] * 2
        for place, cells in enumerate(zip(numbers, *ends, strict=True), 1):
            row = {"quantity": key, "title": title_of(key), "decile": place if deciles else ""}
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
        place = np.unique(clusters, return_inverse=True)[1]
        sums = np.zeros((2, place.max(initial=-1) + 1, part.shape[1]))
        np.add.at(sums[0], place, part)
        np.add.at(sums[1], place, whole)
        part, whole = sums
    total = whole.sum(0)
    value = divide(part.sum(0), total)
    size = divide(total**2, (whole**2).sum(0))
    residuals = ((part - value * whole) ** 2).sum(0)
    freedom = np.where(size > 1 + 1e-9, size - 1, np.nan)
    variance = np.where(residuals > 0, divide(residuals, total**2) * size / freedom, (0.5 / size) ** 2)
    return Ratios(value, np.where(np.isnan(freedom), np.nan, variance), freedom)


def flips_by_group(
    decomposition: Decomposition,
    columns: Mapping[str, Mapping[int, np.ndarray]],
    class_names: Sequence[str],
    *,
    clusters: np.ndarray | None = None,
) -> pd.DataFrame:
    """Compares the Flip of each class in one group with that in the other groups.

    Args:
        decomposition: of n images.
        columns: image indices by group and class; a class without images in a group has no row there.
        class_names: names of all C classes.
        clusters: as in `ratios`.

    Returns:
        A row per class and group, largest lower bound of a difference first: `class`, `group`; `images` of the group
        that show the class; `flip`, the flipped share of its pixels there, `low`, `high`; `others`, that of the other
        groups, with `others_images`; `difference`, `difference_low`, `difference_high`; `p`, and `q`, corrected over
        all rows (Benjamini and Hochberg). Of two groups, only the one that flips more has a row.
    """
    rows = []
    for c in np.flatnonzero(is_foreground(len(class_names), decomposition.background)).tolist():
        flip, whole = _pixels(decomposition, c)
        own = {group: places[c][whole[places[c]] > 0] for group, places in columns.items() if c in places}
        own = {group: places for group, places in own.items() if len(places)}
        # A class that never flips would only make the correction stricter.
        for group, places in own.items() if len(own) > 1 and flip.any() else ():
            others = np.concatenate([rest for name, rest in own.items() if name != group])
            here, there = (
                ratios(flip[few, None], whole[few, None], None if clusters is None else clusters[few])
                for few in (places, others)
            )
            if len(own) == 2 and (here.value, group) < (there.value, next(name for name in own if name != group)):
                continue
            difference = here.minus(there)
            numbers = [here.value, *here.interval(), there.value, difference.value, *difference.interval(-1.0)]
            cells = [float(number[0]) for number in (*numbers, difference.p)]
            rows.append([class_names[c], group, len(places), *cells[:4], len(others), *cells[4:]])
    names = ["class", "group", "images", "flip", "low", "high", "others", "others_images"]
    names += ["difference", "difference_low", "difference_high", "p"]
    table = pd.DataFrame(rows, columns=names)
    known = table["p"].notna()
    table["q"] = np.nan
    if known.any():
        from scipy.stats import false_discovery_control  # Imported here because it is slow.

        table.loc[known, "q"] = false_discovery_control(table.loc[known, "p"].to_numpy(np.float64))
    bound = np.nan_to_num(np.maximum(table["difference_low"], -table["difference_high"]), nan=-1)
    order = np.lexsort((-table["difference"].abs(), -bound))
    return table.iloc[order].reset_index(drop=True).round(DIGITS)


def _pixels(decomposition: Decomposition, c: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the flipped and all pixels (n,) of a class in each image."""
    rows = np.asarray(decomposition.confusion)[:, c].astype(np.int64)
    inside = is_foreground(rows.shape[1], decomposition.background)
    return rows[:, inside].sum(1) - rows[:, c], rows.sum(1)


def flip_gap(
    decomposition: Decomposition, sides: Mapping[int, tuple[np.ndarray, np.ndarray]], clusters: np.ndarray | None = None
) -> tuple[float, float, float]:
    """Returns Flip in rare minus common groups within each class, averaged over classes that have both.

    Args:
        decomposition: of n images.
        sides: image indices in common and rare groups, by class.
        clusters: as in `ratios`.

    Returns:
        The mean and its 95% interval; NaN if no class has both.
    """
    differences = []
    for c, both in sides.items():
        flip, whole = _pixels(decomposition, c)
        common, rare = (
            ratios(flip[few, None], whole[few, None], None if clusters is None else clusters[few]) for few in both
        )
        differences.append(rare.minus(common))
    if not differences:
        return np.nan, np.nan, np.nan
    value, variance, freedom = (np.concatenate(numbers) for numbers in zip(*differences, strict=True))
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
    low, high = rates.interval()
    names = np.array(class_names, object)
    table = pd.DataFrame(
        {
            "truth": names[truth],
            "prediction": names[prediction],
            "images": (whole > 0).sum(0),
            "flipped_images": (part > 0).sum(0),
            "pixels": part.sum(0, dtype=np.int64),
            "share": rates.value,
            "low": low,
            "high": high,
        }
    )
    order = np.lexsort((-table["share"], -table["low"].fillna(0)))
    return table.iloc[order].reset_index(drop=True).round(DIGITS)
