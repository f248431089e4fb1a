"""Builds the findings and tables of an audit for the terminal, Markdown and the page."""

import dataclasses
import math
import string
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from flipjax.audit.results import Audit, Objects, by_bound
from flipjax.metrics import segment_auroc
from flipjax.metrics.classes import Background, is_foreground
from flipjax.metrics.decomposition import divide, flips_of, margins
from flipjax.metrics.segment_table import STRATA
from flipjax.report.document import Document, Numbers, Section
from flipjax.results.frames import Row, records_of
from flipjax.results.quantities import AUDIT_QUANTITIES, COLUMNS, SCENE_IMAGE_QUANTITIES, of_classes, title_of
from flipjax.results.rows import REPAIR_NOTE
from flipjax.results.text import TextTable, number, with_interval

TITLE = "Audit of flips"
WORST = 10
"""Rows that a table of classes or of pairs shows at once."""
LEAST_AGREEMENT = 0.05
"""Cohen's kappa below which predictions and labels agree little better than chance (Cohen, 1960)."""
LEVEL = 0.05
TENTHS = ("top_decile_flip_share", "top_decile_ceiling", "top_decile_of_ceiling")
RANKED = ("n_images_without_risk", "risk_auroc", "risk_aurc", *TENTHS)
"""Quantities that masks do not have."""
OF_BACKGROUND = ("fg_miss", "iou/foreground")
"""Quantities that are constant where no class is background."""
OF_GROUPS = ("fg_correct", "fg_flip", "fg_miss", "iou/foreground", "risk_auroc", "swap_auroc", "repair_flip")
MENDED = {"whole": "whole segments that flip", "rim": "flips near borders of other segments"}
MENDED |= {"inside": "flips inside other segments", "miss": "misses", "spill": "spills"}
MENDED |= {"background": "confusion between background classes"}
MOST_FLIPPED = "Pairs of classes with the most flipped segments"
MATRIX = "Segments of a true class (row) predicted as a class (column), of the classes in the most flips"
CELLS = 12
"""Classes that the matrix of segments shows, at most."""
DIFFERENCE = ("difference", "difference_low", "difference_high")
STRATA_NOTE = f"strata begin at {', '.join(f'1/{1 / share:.0f}' for share in STRATA)} of the image, 0 below"


def make_document(audit: Audit, *, facts: Sequence[str], options: Mapping[str, Any]) -> Document:
    """Returns the report without pictures, with sections in page order."""
    which = "riskiest" if audit.has_scores else "most flipped"
    sections = {
        "Results": [*_by_group(audit), Numbers("All images", overall(audit)), *_by_class(audit)],
        "Flip-risk": _deciles(audit),
        "Classes": _flip_list(audit),
        "Segments": _segments(audit.objects),
        "Images": [Numbers(f"The {which} images; all are in images.csv", riskiest(audit))],
        "Details": _details(audit),
    }
    terms = ["correct, flip, miss", "segment", "StrictFlip"]
    terms += ["common, rare", "IoU gap"] if "gap/mean" in audit.summary else []
    terms += ["flip-risk", "risk-coverage"] if audit.has_scores else []
    terms += ["scene swap"] if "swap_auroc" in audit.summary else []
    terms += ["counterfactual pair"] if "counterfactual_flip" in audit.summary else []
    return Document(TITLE, facts, findings(audit), _sections(sections), terms=terms, config=options)


class _Formatter(string.Formatter):
    """Formats undefined numbers as a dash."""

    def format_field(self, value: Any, form: str) -> str:
        return number(value, form) if isinstance(value, float) else super().format_field(value, form)


def tabulate(rows: pd.DataFrame, columns: Mapping[str, str | Callable[[Row], str]], *, names: int = 1) -> TextTable:
    """Returns a table with columns by title: a format of a row's values, or a function of the row.

    Example:
        >>> rows = pd.DataFrame({"name": ["cat", "dog"], "flip": [0.25, math.nan]})
        >>> tabulate(rows, {"class": "{name}", "Flip": "{flip:.1%}"}).rows
        [['cat', '25.0%'], ['dog', '-']]
    """
    form = _Formatter().vformat
    cells = [
        [form(cell, (), row) if isinstance(cell, str) else cell(row) for cell in columns.values()]
        for row in records_of(rows)
    ]
    return TextTable([*columns], cells, names)


def _interval(name: str, low: str = "low", high: str = "high", form: str = ".3f") -> Callable[[Row], str]:
    """Returns a column of values with their intervals."""
    return lambda row: with_interval({low: math.nan, **row}, name, low, high, form=form)


def _first_and_others(first: str, others: str, table: TextTable, shown: int = WORST) -> list[Numbers]:
    """Returns the first rows of a table, and its other rows folded."""
    parts = [dataclasses.replace(table, rows=rows) for rows in (table.rows[:shown], table.rows[shown:])]
    return [Numbers(first, parts[0]), Numbers(others, parts[1], folded=True)]


def findings(audit: Audit) -> list[str]:
    """Returns findings as sentences. Each restates a row of a table or a value of summary.json."""
    lines = [_overall_line(audit), *_group_lines(audit)]
    for row in records_of(audit.pairs[:1]):
        share = with_interval(row, "share", form=".1%")
        lines.append(
            f"Largest flip by the lower bound: {row['truth']} is predicted as {row['prediction']} on {share} of its "
            f"pixels ({row['flipped_images']} of {row['images']} images)."
        )
    lines += _segment_lines(audit.objects)
    top = audit.summary["top_decile_flip_share"]
    if audit.has_tenths and top == top:
        lines.append(f"The tenth of the images with the highest flip-risk holds {top:.0%} of all flips.")
    auroc = cell_of(audit, "risk_auroc", form=".2f")
    if audit.has_scores and auroc != "-":
        lines.append(f"Flip-risk ranks images flipped by more than half with AUROC {auroc} (chance: 0.5).")
    if "swap_auroc" in audit.summary:
        auroc, after = cell_of(audit, "swap_auroc", form=".2f"), cell_of(audit, "repair_flip", form=".1%")
        reliance = audit.summary.get("scene_reliance")
        tail = "" if reliance is None else f"; scene reliance {reliance:.2f}"
        lines += [f"Scene-swap risk ranks flipped images with AUROC {auroc}; Flip after repair {after}{tail}."]
        lines += [REPAIR_NOTE]
    return lines + warnings(audit)


def _overall_line(audit: Audit) -> str:
    names = {"fg_correct": "correct", "fg_flip": "flipped", "fg_miss": "missed"}
    shares = [f"{cell_of(audit, key, form='.1%')} {word}" for key, word in names.items() if key not in constant(audit)]
    return f"Pixels of the true foreground: {', '.join(shares)}."


def _group_lines(audit: Audit) -> list[str]:
    lines, table = [], audit.by_group
    known = table["q"].notna().any()
    rows = records_of(table[table["q"] < LEVEL] if known else table)[:1]
    if known and not rows:
        least = number(float(table["q"].min()), ".2f")
        lines.append(f"No class flips significantly more in one group than in the others (least q {least}).")
    for row in rows:
        last = f"q {_q(row)}" if known else "without interval, because a group is one cluster"
        flip = with_interval(row, "flip", form=".1%")
        lines.append(
            f"Largest difference between groups: {row['class']} flips {'more' if row['difference'] > 0 else 'less'} in "
            f"{row['group']}, {flip} ({row['images']} images) against {row['others']:.1%} elsewhere "
            f"({row['others_images']}): {with_interval(row, *DIFFERENCE, form='+.3f')}, {last}."
        )
    if "flip_gap/mean" in audit.summary:
        gap = cell_of(audit, "flip_gap/mean", form=".3f")
        lines.append(f"Flip in rare minus common groups, within classes and averaged over them: {gap}.")
    return lines


def _segment_lines(objects: Objects) -> list[str]:
    (row,) = records_of(objects.flips.tail(1))
    if not row["segments"]:
        return []
    flip, strict = SEG_FLIP(row), STRICT_FLIP(row)
    of_matched = "" if strict == "-" else f"; of those matched by a predicted one, {strict} have another class"
    lines = [f"Of {row['segments']:,} true segments {flip} flip{of_matched}."]
    best = max(records_of(objects.budget.drop(index="all").reset_index()), key=lambda row: row["gain"])
    if best["gain"] > 0:
        kind, share = MENDED[best["kind"]], f"{best['share']:.0%} of wrong pixels"
        lines.append(f"Largest gain from one kind of error: {kind}, {share}, {best['gain']:+.3f} mIoU.")
    return lines


def warnings(audit: Audit) -> list[str]:
    """Returns warnings on mismatched labels, unranked images and ignored pixels."""
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
        lines.append(f"{without} of {len(audit.images)} images lack true or predicted foreground: they have no rank.")
    risk = np.asarray(audit.decomposition.flip_risk)
    if (risk == 0).any() and not (risk > 0).any():
        lines.append("Warning: flip-risk is 0 in every image. Were the predictions rounded to 0 and 1?")
    if ignored := audit.images["ignored_pixels"].sum():
        lines.append(f"{ignored / (total + ignored):.1%} of the pixels are ignored.")
    return lines


def constant(audit: Audit) -> set[str]:
    """Returns keys of the summary that do not depend on predictions, or that masks lack."""
    keys = set(OF_BACKGROUND) if len(audit.foreground) == len(audit.class_names) else set()
    return keys | (set() if audit.has_tenths else {*(RANKED[3:] if audit.has_scores else RANKED)})


def _by_group(audit: Audit) -> list[Numbers]:
    """Returns Flip by class and group, the largest differences, and the groups' main quantities."""
    if audit.groups is None:
        return []
    columns = {"class": "{class}", "group": "{group}", "images": "{images}", "Flip": "{flip:.3f}"}
    columns |= {"elsewhere": "{others:.3f}", "difference [95%]": _interval(*DIFFERENCE, form="+.3f"), "q": _q}
    table = tabulate(audit.by_group, columns, names=2)
    unit = "images" if audit.clusters is None else "clusters"
    caption = (
        f"Flip of a class by group, largest lower bound of a difference first; over {unit}, q over all "
        f"{len(table.rows)} rows (Benjamini-Hochberg)"
    )
    blocks = _first_and_others(caption, "The other differences between groups", table)
    names = [key.split("/")[1] for key in audit.summary if key.startswith("group/") and key.endswith("/n_images")]
    flip = {name: np.nan_to_num(audit.summary[f"group/{name}/fg_flip"], nan=-1) for name in names}
    names = sorted(names, key=lambda name: (name not in ("common", "rare"), -flip[name]))
    keys = [key for key in OF_GROUPS if key in audit.summary and key not in constant(audit)]
    shown = ("n_images", *keys)
    rows = [[name, *(cell_of(audit, f"group/{name}/{key}", form=".3f") for key in shown)] for name in names]
    caption = "Groups by Flip, common and rare first, with 95% intervals"
    table = TextTable(["group", "images", *map(title_of, keys)], rows)
    own, others = _first_and_others(caption, "The other groups", table)
    return [*blocks, dataclasses.replace(own, folded=blocks[0].table.rows != []), others]


def _q(row: Row) -> str:
    return "<0.001" if row["q"] < 0.001 else number(row["q"])


def overall(audit: Audit) -> TextTable:
    """Returns the main quantities over all images, and IoU gaps if there are groups."""
    table = of_classes(audit.class_names, background=audit.background) | COLUMNS | AUDIT_QUANTITIES
    left_out = constant(audit)
    keys = [key for key in table if key in audit.summary and key not in left_out]
    keys = [key for key in keys if not key.startswith(("iou/", "flip/")) or key == "iou/foreground"]
    rows = [[title_of(key), cell] for key in keys if (cell := cell_of(audit, key)) != "-"]
    return TextTable(["quantity", "value [95% interval]"], rows)


def _by_class(audit: Audit) -> list[Numbers]:
    """Returns the outcomes of each class's pixels and its IoU, largest Flip first; of many classes the others fold."""
    counts = margins(audit.confusion, background=audit.background)
    names, inside = [*audit.class_names], is_foreground(len(audit.class_names), audit.background)
    table = pd.DataFrame({"class": names, "pixels": counts.truth})
    table["images"] = np.asarray(audit.decomposition.confusion).any(2).sum(0)
    for name, part in (("correct", counts.same), ("miss", counts.missed)):
        table[name] = np.where(inside, divide(part, counts.truth), math.nan)
    table["iou"] = [cell_of(audit, f"iou/{name}") if n else "-" for name, n in zip(names, counts.truth, strict=True)]
    table["flip"] = [cell_of(audit, f"flip/{name}", form=".3f") for name in names]
    flips = np.array([audit.summary.get(f"flip/{name}", math.nan) for name in names])
    order = np.argsort(-np.nan_to_num(flips, nan=-1), kind="stable")
    columns = {"class": "{class}", "images": "{images}", "pixels": "{pixels:,}", "correct": "{correct:.4f}"}
    columns |= {"Flip [95%]": "{flip}"} | ({} if "fg_miss" in constant(audit) else {"miss": "{miss:.4f}"})
    shown = tabulate(table.iloc[order], columns | {"IoU [95%]": "{iou}"})
    return _first_and_others("Classes by Flip, pooled over the images", "The other classes", shown)


def _deciles(audit: Audit) -> list[Numbers]:
    """Returns mean flip-risk and flip share by decile, if there are enough images."""
    rows = []
    for i in range(10 * audit.has_tenths):
        risk, flip = (cell_of(audit, key, index=i) for key in ("risk_decile", "flip_by_risk_decile"))
        share = audit.summary["risk_decile"][i] / math.log(len(audit.foreground))
        rows.append([str(i + 1), risk, number(share, ".1%"), flip])
    caption = "Flip-risk deciles (10: the riskiest tenth of the images), with 95% intervals"
    return [Numbers(caption, TextTable(["decile", "mean flip-risk (nats)", "of log F", "mean flip share"], rows))]


def _flip_list(audit: Audit) -> list[Numbers]:
    """Returns flips between classes, largest lower bound first."""
    columns = {"flip": "{truth} as {prediction}", "images": "{flipped_images} of {images}", "pixels": "{pixels:,}"}
    columns |= {"share of the true class [95%]": _interval("share", form=".1%")}
    table = tabulate(audit.pairs[:WORST], columns)
    return [Numbers("The largest flips by the lower bound; all are in flip_matrix.csv", table)]


def riskiest(audit: Audit) -> TextTable:
    """Returns the images with the highest flip-risk, or for masks the largest flip share."""
    columns = ["name", *(["group"] if audit.groups is not None else [])]
    columns += [*(["flip_risk"] if audit.has_scores else []), "flip", "correct", "miss", "spill", "largest_flip"]
    columns += [name for name in SCENE_IMAGE_QUANTITIES if name in audit.images]
    left_out = {"miss", "spill"} if "fg_miss" in constant(audit) else set()
    columns = [column for column in columns if column not in left_out]
    table = audit.images.dropna(subset=["flip_risk"]) if audit.has_scores else audit.images
    columns = {name: f"{{{name}{':.4f' if table[name].dtype == float else ''}}}" for name in columns}
    return tabulate(table[:WORST], columns)


def _details(audit: Audit) -> list[Numbers]:
    """Returns every number of the summary by key, except lists of deciles."""
    keys = [key for key, value in audit.summary.items() if not isinstance(value, list)]
    table = TextTable(["key", "value [95% interval]"], [[key, cell_of(audit, key, form=".6f")] for key in keys])
    return [Numbers("All numbers of summary.json", table, folded=True)]


def _segments(objects: Objects) -> list[Numbers]:
    """Returns segments by class, their confusions, the error budget, and how scores rank them."""
    if len(objects.flips) == 1:
        return []
    caption, rest = "Segments by the lower bound of SegFlip", "Segments of the other classes"
    worst, others = _first_and_others(caption, rest, by_segment_class(objects), shown=WORST + 1)
    most, more = _first_and_others(MOST_FLIPPED, "The other pairs of classes", by_segment_pair(objects))
    return [
        worst,
        most,
        Numbers("Gain in mean IoU from correcting each kind of error alone", mending(objects)),
        others,
        more,
        Numbers(f"Ranking of wrong predicted segments by scores, AUROC; {STRATA_NOTE}", ranking(objects), folded=True),
        Numbers(MATRIX, segment_matrix(objects)),
    ]


def _sections(blocks: Mapping[str, Sequence[Numbers]]) -> list[Section]:
    return [Section(title, [block for block in own if block.table.rows]) for title, own in blocks.items()]


def by_segment_class(objects: Objects) -> TextTable:
    """Returns segment outcomes: the WORST classes by the lower bound of SegFlip, all, and the other classes."""
    classes = objects.flips.drop(index="all")
    classes = by_bound(classes, classes.get("seg_flip_low", classes["seg_flip"]).fillna(0), classes["seg_flip"])
    table = objects.flips.loc[[*classes.index[:WORST], "all", *classes.index[WORST:]]].copy()
    for name in ("correct", "miss", "mixed"):
        table[name] = divide(table[name], table["segments"])
    columns = {"class": "{name}", "segments": "{segments:,}", "correct": "{correct:.3f}", "SegFlip": SEG_FLIP}
    # Without background, no segment can be missed.
    columns |= {} if objects.background is None else {"miss": "{miss:.3f}"}
    columns |= {"mixed": "{mixed:.3f}", "StrictFlip": STRICT_FLIP, "of the flips bleeding": "{bleeding:.0%}"}
    return tabulate(table.rename_axis("name").reset_index(), columns)


def by_segment_pair(objects: Objects) -> TextTable:
    """Returns the class pairs, most flipped segments first."""
    names, pairs = np.array(objects.class_names, object), objects.flipped_pairs
    pairs["share"] = pairs["size"] / objects.tables.true["class"].value_counts()[pairs["class"]].to_numpy()
    pairs[["class", "predicted"]] = names[pairs[["class", "predicted"]]]
    columns = {"flip": "{class} as {predicted}", "segments": "{size:,}", "share of the class's": "{share:.1%}"}
    return tabulate(pairs, columns | {"their pixels": "{sum:,}"})


def matrix_classes(objects: Objects) -> list[int]:
    """Returns the classes of `segment_matrix`, at most CELLS with flipped segments."""
    flips = flips_of(objects.confusion, background=objects.background)
    shown = most_flipped(objects.confusion, background=objects.background, limit=CELLS)
    return [c for c in shown if flips[c].any() or flips[:, c].any()]


def segment_matrix(objects: Objects) -> TextTable:
    """Returns the numbers of segments by true and predicted class."""
    classes, names = matrix_classes(objects), objects.class_names
    cells = objects.confusion[:, [*classes, *(c for c in range(len(names)) if c not in classes)]]
    rows = [[*cells[c, : len(classes)], cells[c, len(classes) :].sum()] for c in classes]
    texts = [[names[c], *(f"{n:,}" if n else "" for n in row)] for c, row in zip(classes, rows, strict=True)]
    return TextTable(["true class", *(names[c] for c in classes), "other or missed"], texts)


def ranking(objects: Objects) -> TextTable:
    """Returns how well scores and segment size rank wrong predicted segments; empty for masks."""
    predicted = objects.tables.predicted
    if not predicted["flip_risk"].notna().any():
        return TextTable([], [])
    table = segment_auroc(predicted).assign(softmax=segment_auroc(predicted, score="max_softmax")["auroc"])
    columns = {"predicted segments": "{stratum}", "number": "{segments:,}", "wrong": "{wrong:,}"}
    columns |= {"flip-risk": "{auroc:.3f}", "max softmax": "{softmax:.3f}", "being small": "{size_auroc:.3f}"}
    return tabulate(table.reset_index(), columns)


def mending(objects: Objects) -> TextTable:
    """Returns the wrong pixels of each kind, and the mean IoU gained by correcting them, largest gain first."""
    kinds = objects.budget.drop(index="all").sort_values("gain", ascending=False, kind="stable")
    table = pd.concat([kinds[kinds["pixels"] > 0], objects.budget.loc[["all"]]]).rename(index=MENDED)
    columns = {"wrong pixels": "{kind}", "pixels": "{pixels:,}", "share": "{share:.1%}"}
    return tabulate(table.reset_index(), columns | {"gain in mean IoU": "{gain:+.3f}"})


def most_flipped(confusion: np.ndarray, *, background: Background, limit: int) -> list[int]:
    """Returns at most `limit` foreground classes in order, preferring those with the most flips to or from them."""
    flips = flips_of(confusion, background=background)
    foreground = np.flatnonzero(is_foreground(len(confusion), background))
    return sorted(foreground[np.argsort(-(flips.sum(0) + flips.sum(1))[foreground], kind="stable")][:limit].tolist())


def cell_of(audit: Audit, key: str, *, form: str = ".4f", index: int | None = None) -> str:
    """Returns a value of the summary with its interval in brackets, '-' if it is undefined, '' if there is none."""
    if key not in audit.summary:
        return ""
    values = [audit.summary[key], *audit.intervals.get(key, ())]
    if index is not None:
        values = [value[index] for value in values]
    if isinstance(values[0], int):
        return f"{values[0]:,}"
    value, low, high = [*values, math.nan, math.nan][:3]
    return with_interval({"value": value, "low": low if value == value else math.nan, "high": high}, "value", form=form)


SEG_FLIP, STRICT_FLIP = (_interval(name, f"{name}_low", f"{name}_high") for name in ("seg_flip", "strict_flip"))
