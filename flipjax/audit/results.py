"""What an audit found: its summary with intervals, and the rows, tables and sentences made from it."""

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from flipjax.audit.gather import Measured
from flipjax.audit.segments import Objects, count_objects
from flipjax.groups import TWO_BY_TWO, AnyGroups, NamedGroups
from flipjax.metrics import Decomposition, bootstrap, summarize
from flipjax.metrics.classes import Background, is_foreground
from flipjax.metrics.decomposition import flips_of
from flipjax.results.cells import Row
from flipjax.results.image_columns import flip_rows, image_columns
from flipjax.results.quantities import IMAGE_QUANTITIES, SCENE_IMAGE_QUANTITIES, title_of
from flipjax.results.region_shares import region_quantities
from flipjax.results.rows import rounded
from flipjax.results.swapped_scenes import REPAIR_NOTE, SceneSwap

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
