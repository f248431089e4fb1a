"""What an audit found: its summary with intervals, and the rows, tables and sentences made from it."""

import dataclasses
import functools
import importlib.util
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pandas as pd

from flipjax.audit.contexts import CONTEXT, context_table, measure_contexts
from flipjax.audit.counts import Measured
from flipjax.files import replacing
from flipjax.groups import TWO_BY_TWO, AnyGroups, NamedGroups
from flipjax.intervene.identity import SceneSwap
from flipjax.metrics import (
    Decomposition,
    SegmentTables,
    bootstrap,
    error_budget,
    segment_auroc,
    segment_confusion,
    segment_flips,
    summarize,
)
from flipjax.metrics.classes import Background, is_foreground
from flipjax.metrics.decomposition import flips_of
from flipjax.metrics.objects import STRATA
from flipjax.results.frames import Row, rounded, write_csv
from flipjax.results.images import flip_rows, image_columns
from flipjax.results.quantities import IMAGE_QUANTITIES, SCENE_IMAGE_QUANTITIES, title_of
from flipjax.results.region_shares import region_quantities
from flipjax.results.swapped_scenes import REPAIR_NOTE
from flipjax.results.text import TextTable

WORST = 10
"""Rows that a table of classes or of pairs shows at once."""
AT_ONCE = 12
"""Classes of which a table shows all."""
MENDED = {
    "whole": "whole segments that flip",
    "rim": "flips near borders of other segments",
    "inside": "flips inside of other segments",
    "miss": "misses",
    "spill": "spills",
    "background": "one background class for another",
}


class Objects(NamedTuple):
    """The segments of an audit: their tables, SegFlip by class, the flip matrix int64 (C, C), the budget."""

    tables: SegmentTables
    flips: pd.DataFrame
    confusion: np.ndarray
    budget: pd.DataFrame
    class_names: tuple[str, ...]
    foreground: list[int]
    contexts: Mapping[str, Any]

    def summary(self) -> dict[str, float]:
        """Returns SegFlip and StrictFlip of all segments."""
        return {name: _rows(self.flips)["all"][name] for name in ("seg_flip", "strict_flip")}

    def intervals(self) -> dict[str, tuple[float, float]]:
        """Returns their intervals, where there are any."""
        names = [name for name in self.summary() if f"{name}_low" in self.flips]
        row = _rows(self.flips)["all"]
        return {name: (row[f"{name}_low"], row[f"{name}_high"]) for name in names}

    def of_images(self, images: int) -> dict[str, list[int]]:
        """Returns two columns of images.csv: segments, and how many of them flip."""
        place = self.tables.true["image"].to_numpy()
        flip = (self.tables.true["outcome"] == "flip").to_numpy()
        counts = [np.bincount(part, minlength=images).tolist() for part in (place, place[flip])]
        return dict(zip(("segments", "flipped_segments"), counts, strict=True))

    def findings(self) -> list[str]:
        """Returns what was found, in sentences."""
        row = _rows(self.flips)["all"]
        if not row["segments"]:
            return []
        strict = _share(row, "strict_flip")
        of_matched = "" if strict == "-" else f" Of those matched by a predicted one, {strict} have another class."
        lines = [f"Of {int(row['segments']):,} true segments {_share(row, 'seg_flip')} flip.{of_matched}"]
        kinds = {name: kind for name, kind in _rows(self.budget).items() if name != "all" and kind["gain"] > 0}
        best = max(kinds, key=lambda name: kinds[name]["gain"], default="")
        if best:
            lines.append(
                f"What to mend first: {MENDED[best]}, {kinds[best]['share']:.0%} of the wrong pixels, worth "
                f"{kinds[best]['gain']:+.3f} mean IoU."
            )
        return lines

    def by_class(self, *, rest: bool = False) -> TextTable:
        """Returns the fate of the segments of the worst classes; with `rest` of the others, those that have none last.

        The order is that of SegFlip, and of more segments where two are equal.
        """
        classes = _rows(self.flips)
        total = classes.pop("all")
        worst = sorted(classes.items(), key=lambda entry: (-entry[1]["seg_flip"], -entry[1]["segments"]))
        rows = worst[WORST:] if rest else [*worst[:WORST], ("all", total)]
        cells = [[name, *_fate(row)] for name, row in rows]
        if rest:
            absent = [name for name in self.class_names if name not in classes]
            cells += [[name, "0", *["-"] * 6] for name in absent]
        header = ["class", "segments", "correct", "SegFlip", "miss", "mixed", "StrictFlip", "of the flips bleeding"]
        return TextTable(header, cells)

    def flipped_pairs(self) -> list[list[int]]:
        """Returns true class, predicted class, segments and pixels of each pair that flips, the most segments first."""
        flips = self.tables.true[self.tables.true["outcome"] == "flip"]
        counts = flips.groupby(["class", "predicted"])["pixels"].agg(["size", "sum"]).reset_index()
        counts = counts.sort_values(["size", "sum"], ascending=False, kind="stable")
        return counts.astype(np.int64).to_numpy().tolist()

    def pairs(self, *, rest: bool = False) -> TextTable:
        """Returns the pairs of classes with the most flipped segments; with `rest` the others."""
        totals = self.tables.true["class"].value_counts()
        found = self.flipped_pairs()
        rows = []
        for truth, predicted, size, pixels in found[WORST:] if rest else found[:WORST]:
            pair = f"{self.class_names[truth]} as {self.class_names[predicted]}"
            rows.append([pair, f"{size:,}", f"{size / totals[truth]:.1%}", f"{pixels:,}"])
        return TextTable(["flip", "segments", "share of the class's", "their pixels"], rows)

    def matrix(self) -> tuple[list[int], TextTable]:
        """Returns the classes in the most segments that flip, at most AT_ONCE, and how many of each are taken for each.

        Mixed segments are not in it, and what is missed has a column of its own.
        """
        inside = np.zeros(len(self.class_names), bool)
        inside[self.foreground] = True
        flips = self.confusion * (inside[:, None] & inside & ~np.eye(len(inside), dtype=bool))
        involved = flips.sum(0) + flips.sum(1)
        classes = sorted(np.argsort(-involved, kind="stable")[: min(AT_ONCE, np.count_nonzero(involved))].tolist())
        rows = []
        for c in classes:
            counts = self.confusion[c]
            others = flips[c].sum() - flips[c, classes].sum()
            cells = [*counts[classes].tolist(), int(others), int(counts[~inside].sum())]
            rows.append([self.class_names[c], *(f"{count:,}" if count else "" for count in cells)])
        header = ["true class", *(self.class_names[c] for c in classes), "other classes", "missed"]
        return classes, TextTable(header, rows)

    def ranking(self) -> TextTable:
        """Returns how well scores rank predicted segments that are wrong, and size alone; empty for masks."""
        header = ["predicted segments", "number", "wrong", "flip-risk", "max softmax", "being small"]
        predicted = self.tables.predicted
        if not predicted["flip_risk"].notna().any():
            return TextTable(header, [])
        risk, softmax = (_rows(segment_auroc(predicted, score=score)) for score in ("flip_risk", "max_softmax"))
        limits = [f"1/{round(1 / share)}" for share in STRATA]
        sizes = [f"below {limits[0]} of the image", *(f"from {limit}" for limit in limits)]
        titles = {"all": "of all sizes", "within strata": "within the sizes below"}
        titles |= {str(k): size for k, size in enumerate(sizes)}
        cells = []
        for key, row in risk.items():
            values = (row["auroc"], softmax[key]["auroc"], row["size_auroc"])
            numbers = [f"{int(row['segments']):,}", f"{int(row['wrong']):,}"]
            cells.append([titles[key], *numbers, *(_shown(value, ".3f") for value in values)])
        return TextTable(header, cells)

    def mending(self) -> TextTable:
        """Returns the wrong pixels of each kind, and what mending them is worth, the largest gain first."""
        kinds = self.budget.drop(index="all").sort_values("gain", ascending=False, kind="stable")
        rows = []
        for kind, row in _rows(pd.concat([kinds[kinds["pixels"] > 0], self.budget.loc[["all"]]])).items():
            numbers = [f"{int(row['pixels']):,}", _shown(row["share"], ".1%"), _shown(row["gain"], "+.3f")]
            rows.append([MENDED.get(kind, kind), *numbers])
        return TextTable(["wrong pixels", "pixels", "share", "gain in mean IoU"], rows)

    def as_json(self) -> dict[str, Any]:
        """Returns SegFlip by class, the flip matrix in segments and the budget; None for what does not exist."""
        tables = {"segments": self.flips, "budget": self.budget}
        stored: dict[str, Any] = {
            name: {key: {column: _number(value) for column, value in row.items()} for key, row in _rows(table).items()}
            for name, table in tables.items()
        }
        context = {
            name: {key: _number(v) for key, v in found._asdict().items()} for name, found in self.contexts.items()
        }
        return stored | {"segment_matrix": self.confusion.tolist()} | ({"context": context} if context else {})


def count_objects(measured: Measured, class_names: Sequence[str], *, samples: int) -> Objects:
    """Counts segments; intervals are of resamples of the images, where there are several."""
    C = len(class_names)
    decomposition, ignored, _, tables = measured
    contexts, evidence = measure_contexts(tables.true, decomposition, ignored)
    if contexts:
        tables = tables._replace(true=tables.true.assign(evidence=evidence))
    key = jax.random.key(0) if tables.true["image"].nunique() > 1 else None
    flips = segment_flips(tables.true, key=key, samples=samples, class_names=class_names)
    budget = error_budget(tables.pixels, num_classes=C)
    confusion = segment_confusion(tables.true, num_classes=C)
    foreground = np.flatnonzero(is_foreground(C, decomposition.background)).tolist()
    return Objects(tables, flips, confusion, budget, tuple(class_names), foreground, contexts)


def main_segment_tables(objects: Objects) -> dict[str, TextTable]:
    """Returns the tables that come first, by caption; none where there is no segment."""
    classes = len(objects.flips) - 1
    if not classes:
        return {}
    which = f"the {WORST} worst of {classes} classes" if classes > WORST else "by class"
    tables = {f"Segments, {which}, with 95% intervals": objects.by_class()}
    pairs = objects.pairs()
    tables |= {"Which class's segments are taken for which, the most frequent first": pairs} if pairs.rows else {}
    return tables | {"What to mend first: the gain of each kind alone": objects.mending()}


def other_segment_tables(objects: Objects) -> dict[str, TextTable]:
    """Returns the classes and pairs that `main_segment_tables` leaves out, and how well scores rank segments."""
    tables = {
        "Segments of the other classes": objects.by_class(rest=True),
        "Which class's segments are taken for which, the other pairs": objects.pairs(rest=True),
        "How well scores rank predicted segments that are wrong, AUROC": objects.ranking(),
    }
    tables |= {CONTEXT: context_table(objects.contexts)} if objects.contexts else {}
    return {name: table for name, table in tables.items() if table.rows}


def write_segments(folder: Path, objects: Objects, names: Sequence[str]) -> None:
    """Writes a row for each true segment: segments.parquet, or segments.csv where pyarrow is not installed."""
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


def _rows(table: pd.DataFrame) -> dict[str, dict[str, float]]:
    return {str(key): dict(zip(map(str, table), map(float, row), strict=True)) for key, *row in table.itertuples()}


def _shown(value: float, form: str) -> str:
    return "-" if np.isnan(value) else format(value, form)


def _fate(row: Mapping[str, float]) -> list[str]:
    whole = row["segments"] or np.nan
    correct, miss, mixed = (_shown(row[name] / whole, ".3f") for name in ("correct", "miss", "mixed"))
    shares = [correct, _share(row, "seg_flip"), miss, mixed, _share(row, "strict_flip"), _shown(row["bleeding"], ".0%")]
    return [f"{int(row['segments']):,}", *shares]


def _share(row: Mapping[str, float], name: str) -> str:
    if np.isnan(row[name]):
        return "-"
    ends = [row.get(f"{name}_{end}", np.nan) for end in ("low", "high")]
    return f"{row[name]:.3f}" + ("" if np.isnan(ends).any() else f" [{ends[0]:.3f}, {ends[1]:.3f}]")


def _number(value: Any) -> Any:
    return None if np.isnan(value) else int(value) if float(value).is_integer() else rounded(float(value))


# Below it predictions and labels agree hardly better than chance (Cohen, 1960).
LEAST_AGREEMENT = 0.05
FEWEST = 30
"""Images of which tenths, of three each, are shown."""


@dataclasses.dataclass(frozen=True)
class Audit:
    """An audit of n images: their names, groups int64 (n,) or None, ignored pixels int64 (n,), and the class names.

    `summary` is what `flipjax.metrics.summarize` returns without its matrix, `intervals` what `bootstrap` returns of
    each of its keys. `objects` is what became of their segments. `all_groups` is what the groups number, None where
    that is not known. `swap` is what scene swap says of the images, where the model was at hand; `summary` then has its
    quantities, too. `columns` are further texts of each image.
    """

    names: Sequence[str]
    groups: np.ndarray | None
    decomposition: Decomposition
    ignored: np.ndarray
    class_names: tuple[str, ...]
    summary: Mapping[str, Any]
    intervals: Mapping[str, tuple[Any, Any]]
    objects: Objects
    all_groups: AnyGroups | None
    swap: SceneSwap | None
    scene_names: tuple[str, ...]
    columns: Mapping[str, Sequence[str]]

    @functools.cached_property
    def has_scores(self) -> bool:
        """Whether there is a flip-risk, which masks have not."""
        return not np.isnan(np.asarray(self.decomposition.risk_sum)).all()

    @functools.cached_property
    def has_tenths(self) -> bool:
        """Whether enough images have a rank that a tenth of them says something."""
        return self.has_scores and len(self.names) - self.summary["n_images_without_risk"] >= FEWEST

    @functools.cached_property
    def confusion(self) -> np.ndarray:
        """The pixels of all images, int64 (C, C), rows truth."""
        return np.asarray(self.decomposition.confusion).sum(0, dtype=np.int64)

    @functools.cached_property
    def background(self) -> Background:
        """The class that is background, several or None."""
        return self.decomposition.background

    @functools.cached_property
    def foreground(self) -> list[int]:
        """The other classes."""
        return np.flatnonzero(is_foreground(len(self.class_names), self.background)).tolist()


def conclude_audit(
    names: Sequence[str],
    groups: np.ndarray | None,
    measured: Measured,
    *,
    class_names: tuple[str, ...],
    samples: int = 1000,
    pairs: np.ndarray | None = None,
    further: Mapping[str, float] | None = None,
    swap: SceneSwap | None = None,
    all_groups: AnyGroups | None = None,
    scene_names: tuple[str, ...] = (),
    columns: Mapping[str, Sequence[str]] | None = None,
    clusters: np.ndarray | None = None,
) -> Audit:
    """Summarises what was counted, with intervals from resamples of the images within each group.

    Args:
        names: of n images.
        groups: int (n,) or None.
        measured: the n images.
        class_names: C names.
        samples: number of resamples.
        pairs: int (n,), the counterfactual pair of each image or -1: its images are drawn together.
        further: quantities that follow from none of it, by key.
        swap: of the images, where their scenes were swapped.
        all_groups: what `groups` number; of two foreground classes two by two by default.
        scene_names: of the scenes of `all_groups`.
        columns: further texts of each image, by name.
        clusters: int (n,): images of one cluster are drawn together.
    """
    decomposition = measured.decomposition
    foreground = int(is_foreground(len(class_names), decomposition.background).sum())
    all_groups = all_groups or (TWO_BY_TWO if foreground == 2 else None)
    options = {"groups": groups, "class_names": class_names, "all_groups": all_groups}
    summary = summarize(decomposition, **options)
    # The audit has it as its confusion.
    del summary["flip_matrix"]
    keys = [key for key in summary if "n_images" not in key] if len(names) > 1 else []
    if measured.regions is not None:
        summary |= region_quantities(measured.regions, groups, all_groups=all_groups)
    summary |= further or {}
    intervals = {}
    if keys:
        resampled = functools.partial(bootstrap, key=jax.random.key(0), samples=samples, pairs=pairs, **options)
        intervals = resampled(decomposition, keys)
        # The same key draws the same images.
        for stand_in, names_of in () if swap is None else _stand_ins(decomposition, swap):
            renamed = {key: _renamed(key, names_of) for key in keys}
            renamed = {key: name for key, name in renamed.items() if name in summary}
            intervals |= {renamed[key]: ends for key, ends in resampled(stand_in, list(renamed)).items()}
    objects = count_objects(measured, class_names, samples=samples)
    summary |= objects.summary()
    intervals |= objects.intervals()
    if not np.isnan(np.asarray(decomposition.risk_sum)).all():
        summary |= _mean_risk(decomposition)
    found = (summary, intervals, objects, all_groups, swap, scene_names, columns or {})
    return Audit(names, groups, decomposition, measured.ignored, class_names, *found)


def _mean_risk(decomposition: Decomposition) -> dict[str, float]:
    """Returns the image mean of flip-risk, and its share of log F, the largest it can be."""
    risk = np.asarray(decomposition.flip_risk, np.float64)
    mean = float(np.nanmean(risk)) if np.isfinite(risk).any() else math.nan
    F = int(is_foreground(decomposition.confusion.shape[-1], decomposition.background).sum())
    return {"flip_risk_mean": mean, "flip_risk_share": mean / math.log(F)}


def _stand_ins(decomposition: Decomposition, swap: SceneSwap) -> list[tuple[Decomposition, dict[str, str]]]:
    """Returns decompositions of which the quantities of `summarize` are those of scene swap, by the latter's keys."""
    inside = is_foreground(decomposition.confusion.shape[-1], decomposition.background)
    predicted = swap.repaired.confusion[..., inside].sum((1, 2))
    ranked = dataclasses.replace(decomposition, risk_sum=swap.risk * predicted)
    after = {"fg_flip": "repair_flip", "fg_correct": "repair_correct", "worst_group_iou": "repair_worst_iou"}
    return [(ranked, {"risk_auroc": "swap_auroc", "risk_aurc": "swap_aurc"}), (swap.repaired, after)]


def _renamed(key: str, names: Mapping[str, str]) -> str:
    prefix, slash, last = key.rpartition("/")
    return prefix + slash + names.get(last, "")


def image_rows(audit: Audit) -> list[Row]:
    """Returns a row for each image, the riskiest first and those without flip-risk last; of masks by flip share."""
    columns = image_columns(audit.decomposition, audit.class_names, swap=audit.swap)
    risk = columns["flip_risk"]
    first: dict[str, Sequence[Any]] = {"name": audit.names, **audit.columns}
    if audit.groups is not None:
        named = audit.all_groups.names if isinstance(audit.all_groups, NamedGroups) else None
        first["group"] = [named[group] if named else group for group in audit.groups.tolist()]
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
    """Returns a row for each number of the summary: its key, title, group, value and interval, a decile in `decile`."""
    rows = []
    for key, value in audit.summary.items():
        deciles = isinstance(value, list)
        numbers = np.atleast_1d(value).tolist()
        ends = [np.atleast_1d(end).tolist() for end in audit.intervals.get(key, ())] or [[math.nan] * len(numbers)] * 2
        for place, cells in enumerate(zip(numbers, *ends, strict=True), 1):
            row = {"quantity": key, "title": title_of(key), "decile": place if deciles else ""}
            rows.append(row | dict(zip(("value", "low", "high"), map(rounded, cells), strict=True)))
    return rows


def most_flipped(audit: Audit, *, limit: int) -> list[int]:
    """Returns the foreground classes in order; of more than `limit`, those with the most flips to or from them."""
    flips = flips_of(audit.confusion, background=audit.background)
    involved = flips.sum(0) + flips.sum(1)
    return sorted(sorted(audit.foreground, key=lambda c: -involved[c])[:limit])


def largest_flips(audit: Audit, *, limit: int = 10) -> list[Row]:
    """Returns the rows of `flip_rows` that are flips, those with the largest share of their class first."""
    rows = flip_rows(audit.confusion, audit.class_names, background=audit.background)
    flips = (row for row in rows if row["outcome"] == "flip" and row["pixels"])
    return sorted(flips, key=lambda row: -row["share"])[:limit]


def findings(audit: Audit) -> list[str]:
    """Returns what the audit found, in sentences."""
    shares = [with_interval(audit, key, percent=True) for key in ("fg_correct", "fg_flip", "fg_miss")]
    lines = [
        f"Of the true foreground {shares[0]} is labelled right, {shares[1]} is flipped (right region, wrong label) "
        f"and {shares[2]} is missed."
    ]
    lines += [
        f"The largest flip: {row['truth']} is taken for {row['prediction']} on {row['share']:.1%} of its pixels."
        for row in largest_flips(audit, limit=1)
    ]
    lines += audit.objects.findings()
    if "group/rare/fg_flip" in audit.summary:
        rare, common = (with_interval(audit, f"group/{group}/fg_flip", percent=True) for group in ("rare", "common"))
        lines.append(f"In the rare groups {rare} is flipped, in the common ones {common}.")
    top = audit.summary["top_decile_flip_share"]
    if audit.has_tenths and top == top:
        lines.append(f"The tenth of the images with the highest flip-risk holds {top:.0%} of all flips.")
    auroc = with_interval(audit, "risk_auroc", digits=2)
    if audit.has_scores and auroc != "-":
        lines.append(f"Flip-risk ranks images flipped by more than half with AUROC {auroc} (chance: 0.5).")
    if audit.swap is not None:
        auroc = with_interval(audit, "swap_auroc", digits=2)
        after = with_interval(audit, "repair_flip", percent=True)
        reliance = audit.summary.get("scene_reliance")
        tail = "." if reliance is None else f"; scene reliance {reliance:.2f}."
        lines.append(
            f"With each region on other scenes: scene-swap risk ranks flipped images with AUROC {auroc}, "
            f"and after repair {after} is flipped{tail}"
        )
        lines.append(REPAIR_NOTE)
    return lines + warnings(audit)


def warnings(audit: Audit) -> list[str]:
    """Returns what a reader must know: labels that do not fit, images without a rank, ignored pixels."""
    lines = []
    total = audit.confusion.sum()
    shares = audit.confusion / max(total, 1)
    expected = shares.sum(0) @ shares.sum(1)
    kappa = (np.trace(shares) - expected) / (1 - expected) if total and expected < 1 else 1.0
    if kappa < LEAST_AGREEMENT:
        lines.append(
            "Warning: predictions and labels agree hardly better than chance (Cohen's kappa "
            f"{kappa:.3f}). Are the labels in the order of the predictions?"
        )
    without = audit.summary["n_images_without_risk"]
    if without and audit.has_scores:
        lines.append(f"{without} of {len(audit.names)} images lack true or predicted foreground: they have no rank.")
    risk = np.asarray(audit.decomposition.flip_risk)
    if (risk == 0).any() and not (risk > 0).any():
        lines.append("Warning: flip-risk is 0 in every image. Were the predictions rounded to 0 and 1?")
    if audit.ignored.any():
        lines.append(f"{audit.ignored.sum() / (total + audit.ignored.sum()):.1%} of the pixels are ignored.")
    return lines


def with_interval(audit: Audit, key: str, *, percent: bool = False, digits: int = 4, index: int | None = None) -> str:
    """Returns a value of the summary with its interval in brackets, or '-' where it does not exist."""
    values = [audit.summary[key], *audit.intervals.get(key, ())]
    if index is not None:
        values = [value[index] for value in values]
    if values[0] != values[0]:
        return "-"
    if isinstance(values[0], int):
        return f"{values[0]:,}"
    texts = [f"{value:.1%}" if percent else f"{value:.{digits}f}" for value in values]
    return texts[0] if len(texts) == 1 else f"{texts[0]} [{', '.join(texts[1:])}]"
