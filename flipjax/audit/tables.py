"""Builds the findings and tables of an audit for the terminal, Markdown and the page."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from flipjax.audit.results import Audit, Objects, image_rows, rows_by_name
from flipjax.context import Choice
from flipjax.metrics import segment_auroc
from flipjax.metrics.classes import Background, is_foreground
from flipjax.metrics.decomposition import divide, flips_of
from flipjax.metrics.segment_table import STRATA
from flipjax.report.document import Document, Numbers, Section
from flipjax.results.frames import records_of
from flipjax.results.quantities import AUDIT_QUANTITIES, COLUMNS, SCENE_IMAGE_QUANTITIES, of_classes, title_of
from flipjax.results.rows import REPAIR_NOTE
from flipjax.results.text import TextTable, number, with_interval

TITLE = "Audit of flips"
WORST = 10
"""Rows that a table of classes or of pairs shows at once."""
AT_ONCE = 12
"""Classes and groups of which a table shows all."""
LEAST_AGREEMENT = 0.05
"""Cohen's kappa below which predictions and labels agree little better than chance (Cohen, 1960)."""
LEVEL = 0.05
TENTHS = ("top_decile_flip_share", "top_decile_ceiling", "top_decile_of_ceiling")
RANKED = ("n_images_without_risk", "risk_auroc", "risk_aurc", *TENTHS)
"""Quantities that masks do not have."""
OF_BACKGROUND = ("fg_miss", "iou/foreground")
"""Quantities that are constant where no class is background."""
OF_GROUPS = ("fg_correct", "fg_flip", "fg_miss", "iou/foreground", "risk_auroc")
MENDED = {
    "whole": "whole segments that flip",
    "rim": "flips near borders of other segments",
    "inside": "flips inside other segments",
    "miss": "misses",
    "spill": "spills",
    "background": "confusion between background classes",
}
LINKED = "; a number leads to pictures"
DIFFERENCE = ("difference", "difference_low", "difference_high")
OWN_LABELS = "these labels, each image without itself"
OBSERVATIONAL = "Observational: images with another context differ in other ways, too."


def make_document(audit: Audit, *, facts: Sequence[str], options: Mapping[str, Any]) -> Document:
    """Returns the report without pictures, with sections in page order."""
    which = "riskiest" if audit.has_scores else "most flipped"
    sections = {
        "Results": [*_by_group(audit), Numbers("All images", overall(audit)), *_by_class(audit)],
        "Flip-risk": _deciles(audit),
        "Classes": _flip_list(audit),
        "Segments": [*_segments(audit.objects), *_context(audit.objects.betas, OWN_LABELS)],
        "Images": [Numbers(f"The {which} images; all are in images.csv", riskiest(audit))],
        "Details": _details(audit),
    }
    terms = ["correct, flip, miss", "segment", "StrictFlip"]
    terms += ["common, rare", "IoU gap"] if "gap/mean" in audit.summary else []
    terms += ["flip-risk", "risk-coverage"] if audit.has_scores else []
    terms += ["scene swap", "counterfactual pair"] if audit.swap else []
    return Document(
        title=TITLE,
        facts=facts,
        lines=findings(audit),
        sections=_sections(sections),
        terms=terms,
        config=options,
    )


def _first_and_others(first: str, others: str, table: TextTable) -> list[Numbers]:
    """Returns the first rows of a table, and its other rows folded."""
    parts = [table._replace(rows=rows) for rows in (table.rows[:WORST], table.rows[WORST:])]
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
    if audit.swap is not None:
        auroc = cell_of(audit, "swap_auroc", form=".2f")
        after = cell_of(audit, "repair_flip", form=".1%")
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
    row = rows_by_name(objects.flips)["all"]
    if not row["segments"]:
        return []
    strict = _share(row, "strict_flip")
    of_matched = "" if strict == "-" else f"; of those matched by a predicted one, {strict} have another class"
    lines = [f"Of {int(row['segments']):,} true segments {_share(row, 'seg_flip')} flip{of_matched}."]
    kinds = {name: kind for name, kind in rows_by_name(objects.budget).items() if name != "all" and kind["gain"] > 0}
    best = max(kinds, key=lambda name: kinds[name]["gain"], default="")
    if best:
        share, gain = kinds[best]["share"], kinds[best]["gain"]
        lines.append(
            f"Largest gain from one kind of error: {MENDED[best]}, {share:.0%} of wrong pixels, {gain:+.3f} mIoU."
        )
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
        lines.append(f"{without} of {len(audit.names)} images lack true or predicted foreground: they have no rank.")
    risk = np.asarray(audit.decomposition.flip_risk)
    if (risk == 0).any() and not (risk > 0).any():
        lines.append("Warning: flip-risk is 0 in every image. Were the predictions rounded to 0 and 1?")
    if audit.ignored.any():
        lines.append(f"{audit.ignored.sum() / (total + audit.ignored.sum()):.1%} of the pixels are ignored.")
    return lines


def constant(audit: Audit) -> set[str]:
    """Returns keys of the summary that do not depend on predictions, or that masks lack."""
    keys = set(OF_BACKGROUND) if len(audit.foreground) == len(audit.class_names) else set()
    keys |= set() if audit.has_tenths else {*(RANKED[3:] if audit.has_scores else RANKED)}
    return keys | ({"flipped_images"} if not audit.summary["flipped_images"] > 0 else set())


def _by_group(audit: Audit) -> list[Numbers]:
    """Returns Flip by class and group, the largest differences, and the groups' main quantities."""
    if audit.groups is None:
        return []
    rows = [
        [
            *(str(row[name]) for name in ("class", "group", "images")),
            *(number(row["flip"]), number(row["others"]), with_interval(row, *DIFFERENCE, form="+.3f"), _q(row)),
        ]
        for row in records_of(audit.by_group)
    ]
    unit = "images" if audit.clusters is None else "clusters"
    caption = (
        f"Flip of a class by group, largest lower bound of a difference first; over {unit}, q over all {len(rows)} "
        "rows (Benjamini-Hochberg)"
    )
    header = ["class", "group", "images", "Flip", "elsewhere", "difference [95%]", "q"]
    blocks = _first_and_others(caption, "The other differences between groups", TextTable(header, rows, 2))
    blocks += _flip_of_groups(audit) if rows else []
    names = [key.split("/")[1] for key in audit.summary if key.startswith("group/") and key.endswith("/n_images")]
    shown, which = {*names}, ""
    if len(names) > 2 * AT_ONCE:
        flip = {name: np.nan_to_num(audit.summary[f"group/{name}/fg_flip"], nan=-1) for name in names}
        shown = {*sorted(names, key=lambda name: -flip[name])[:WORST], "common", "rare"}
        which = f", those with the largest Flip of {len(names)}"
    own = by_group(audit, [name for name in names if name in shown])
    others = by_group(audit, [name for name in names if name not in shown])
    blocks.append(Numbers(f"Groups{which}, with 95% intervals", own, folded=len(rows) > 0))
    return [*blocks, Numbers("The other groups", others, folded=True)]


def _q(row: Mapping[str, Any]) -> str:
    return "<0.001" if row["q"] < 0.001 else number(row["q"])


def _flip_of_groups(audit: Audit) -> list[Numbers]:
    """Returns the matrix of Flip by class and group, if groups are few."""
    places, confusion = audit.groups_of_class, np.asarray(audit.decomposition.confusion)
    if len(places) > AT_ONCE:
        return []
    rows = []
    for c in most_flipped(audit.confusion, background=audit.background, limit=AT_ONCE):
        counts = np.array([confusion[own[c], c].sum(0, dtype=np.int64) for own in places.values()])
        shares = divide(counts[:, audit.foreground].sum(1) - counts[:, c], counts.sum(1)).tolist()
        if not np.isnan(shares).all():
            rows.append([audit.class_names[c], *map(number, shares)])
    return [Numbers("Flip of each class by group", TextTable(["class", *places], rows))]


def by_group(audit: Audit, names: Sequence[str]) -> TextTable:
    """Returns the main quantities of groups, with the IoU of the group's own class, if any."""
    left_out = constant(audit)
    columns = [key for key in OF_GROUPS if key not in left_out]
    columns += [] if audit.swap is None else ["swap_auroc", "repair_flip"]
    own = {name: f"group/{name}/iou/{audit.class_of_group[name]}" for name in names if name in audit.class_of_group}
    rows = []
    for group in names:
        cells = [str(audit.summary[f"group/{group}/n_images"])]
        if own:
            cells.append(cell_of(audit, own[group], form=".3f") if group in own else "")
        cells += [cell_of(audit, f"group/{group}/{key}", form=".3f") for key in columns]
        rows.append([group, *cells])
    titles = (["IoU of the class"] if own else []) + [title_of(key) for key in columns]
    return TextTable(["group", "images", *titles], rows)


def overall(audit: Audit) -> TextTable:
    """Returns the main quantities over all images, and IoU gaps if there are groups."""
    table = of_classes(audit.class_names, background=audit.background) | COLUMNS | AUDIT_QUANTITIES
    left_out = constant(audit)
    keys = [key for key in table if key in audit.summary and key not in left_out]
    keys = [key for key in keys[1:] if not key.startswith(("iou/", "flip/")) or key == "iou/foreground"]
    rows = [[title_of("n_images"), str(audit.summary["n_images"])]]
    rows += [[title_of(key), cell] for key in keys if (cell := cell_of(audit, key)) != "-"]
    return TextTable(["quantity", "value [95% interval]"], rows)


def _by_class(audit: Audit) -> list[Numbers]:
    """Returns the class table; of many classes, those with the largest Flip come first and the others are folded."""
    C = len(audit.class_names)
    if C <= AT_ONCE:
        return [Numbers("Classes, pooled over the images", by_class(audit, range(C)))]
    flip = [np.nan_to_num(audit.summary[f"flip/{audit.class_names[c]}"], nan=-1) for c in audit.foreground]
    order = [audit.foreground[place] for place in np.argsort(-np.array(flip), kind="stable")]
    worst = [c for c in order[:WORST] if audit.confusion[c].any()]
    rest = [*sorted(set(range(C)) - set(audit.foreground)), *order[len(worst) :]]
    caption = f"Classes, the {len(worst)} with the largest Flip of {C}, pooled over the images"
    return [
        Numbers(caption, by_class(audit, worst)),
        Numbers("The other classes, pooled over the images", by_class(audit, rest), folded=True),
    ]


def by_class(audit: Audit, classes: Sequence[int]) -> TextTable:
    """Returns the outcomes of each class's pixels and its IoU, with a dash for absent classes."""
    rows = []
    missed = "fg_miss" not in constant(audit)
    for c in classes:
        name = audit.class_names[c]
        pixels = audit.confusion[c].sum()
        own = [name, str(np.count_nonzero(np.asarray(audit.decomposition.confusion)[:, c].any(-1))), f"{pixels:,}"]
        iou = cell_of(audit, f"iou/{name}") if pixels else "-"
        if c not in audit.foreground:
            rows.append([*own, *[""] * (2 + missed), iou])
            continue
        correct = audit.confusion[c, c]
        miss = pixels - audit.confusion[c, audit.foreground].sum()
        shares = [f"{correct / pixels:.4f}" if pixels else "-", cell_of(audit, f"flip/{name}", form=".3f")]
        shares += [f"{miss / pixels:.4f}" if pixels else "-"] if missed else []
        rows.append([*own, *shares, iou])
    header = ["class", "images", "pixels", "correct", "Flip [95%]", *(["miss"] if missed else []), "IoU [95%]"]
    return TextTable(header, rows)


def _deciles(audit: Audit) -> list[Numbers]:
    """Returns mean flip-risk and flip share by decile, if there are enough images."""
    if not audit.has_tenths:
        return []
    rows = []
    F = len(audit.foreground)
    for i in range(10):
        risk, flip = (cell_of(audit, key, index=i) for key in ("risk_decile", "flip_by_risk_decile"))
        share = audit.summary["risk_decile"][i] / math.log(F)
        rows.append([str(i + 1), risk, number(share, ".1%"), flip])
    caption = "Flip-risk deciles (10: the riskiest tenth of the images), with 95% intervals"
    return [Numbers(caption, TextTable(["decile", "mean flip-risk (nats)", "of log F", "mean flip share"], rows))]


def _flip_list(audit: Audit) -> list[Numbers]:
    """Returns flips between classes, largest lower bound first."""
    rows = [
        [
            f"{row['truth']} as {row['prediction']}",
            f"{row['flipped_images']} of {row['images']}",
            f"{row['pixels']:,}",
            with_interval(row, "share", form=".1%"),
        ]
        for row in records_of(audit.pairs[:WORST])
    ]
    table = TextTable(["flip", "images", "pixels", "share of the true class [95%]"], rows)
    return [Numbers("The largest flips by the lower bound; all are in flip_matrix.csv", table)]


def riskiest(audit: Audit) -> TextTable:
    """Returns the images with the highest flip-risk, or for masks the largest flip share."""
    columns = ["name", *(["group"] if audit.groups is not None else [])]
    columns += [*(["flip_risk"] if audit.has_scores else []), "flip", "correct", "miss", "spill", "largest_flip"]
    columns += [] if audit.swap is None else [*SCENE_IMAGE_QUANTITIES]
    left_out = {"miss", "spill"} if "fg_miss" in constant(audit) else set()
    columns = [column for column in columns if column not in left_out]
    rows = [row for row in image_rows(audit) if row["flip_risk"] != "" or not audit.has_scores][:WORST]
    cells = [[f"{row[c]:.4f}" if isinstance(row[c], float) else str(row[c]) for c in columns] for row in rows]
    return TextTable(columns, cells)


def _details(audit: Audit) -> list[Numbers]:
    """Returns every number of the summary by key, except lists of deciles."""
    rows = []
    for key, value in audit.summary.items():
        if not isinstance(value, list):
            rows.append([key, str(value) if isinstance(value, int) else cell_of(audit, key, form=".6f")])
    table = TextTable(["key", "value [95% interval]"], rows)
    return [Numbers("All numbers of summary.json", table, folded=True)]


def _segments(objects: Objects) -> list[Numbers]:
    """Returns segments by class, their confusions, the error budget, and how scores rank them."""
    if not len(objects.flips) - 1:
        return []
    classes, matrix = segment_matrix(objects)
    number_of, table = len(objects.flips) - 1, by_segment_class(objects)
    which = f"the {WORST} worst of {number_of} classes" if number_of > WORST else "by class"
    most, more = _first_and_others(
        "Pairs of classes with the most flipped segments", "The other pairs of classes", by_segment_pair(objects)
    )
    # The rows of the worst classes and of all.
    shown = min(WORST, number_of) + 1
    rest = table.rows[shown:] if number_of > WORST else []
    blocks = [
        Numbers(f"Segments, {which}, by the lower bound of SegFlip", table._replace(rows=table.rows[:shown])),
        most,
        Numbers("Gain in mean IoU from correcting each kind of error alone", mending(objects)),
        Numbers("Segments of the other classes", table._replace(rows=rest), folded=True),
        more,
        Numbers("Ranking of wrong predicted segments by scores, AUROC", ranking(objects), folded=True),
        Numbers("Segments of a true class (row) predicted as a class (column)", matrix, folded=not classes),
    ]
    return blocks


def _context(betas: Mapping[str, Choice], labels: str) -> list[Numbers]:
    """Returns beta of the flips by name, its controls and the verdict; `labels` is where co-occurrences come from."""
    rows = []
    for name, beta in betas.items():
        row = beta._asdict()
        cells = [with_interval(row, "beta"), number(beta.shuffled), with_interval(row, *DIFFERENCE)]
        rows.append([name, str(beta.flips), *cells, number(beta.within)])
    header = ["flips", "number", "beta [95%]", "shuffled", "difference [95%]", "within classes"]
    verdict = f": {betas['all'].verdict.rstrip('.')}" if betas else ""
    caption = f"Influence of context, beta (0: none, 1: as in {labels}){verdict}"
    return [Numbers(caption, TextTable(header, rows))]


def context_document(
    objects: Objects, *, facts: Sequence[str], notes: Sequence[str], options: Mapping[str, Any]
) -> Document:
    """Returns the report of `flipjax context`: the context and segments of an audit."""
    return Document(
        title="Context of flips",
        facts=facts,
        lines=[f"Verdict: {objects.betas['all'].verdict}", *_segment_lines(objects), OBSERVATIONAL, *notes],
        sections=_sections({"Context": _context(objects.betas, "the training labels"), "Segments": _segments(objects)}),
        terms=["segment", "StrictFlip"],
        config=options,
    )


def _sections(blocks: Mapping[str, Sequence[Numbers]]) -> list[Section]:
    return [Section(title, [block for block in own if block.table.rows]) for title, own in blocks.items()]


def by_segment_class(objects: Objects) -> TextTable:
    """Returns segment outcomes: the WORST classes by the lower bound of SegFlip, all, and the other classes."""
    classes = rows_by_name(objects.flips)
    total = classes.pop("all")
    bound = {name: row.get("seg_flip_low", row["seg_flip"]) for name, row in classes.items()}
    order = sorted(classes, key=lambda name: (-np.nan_to_num(bound[name]), -classes[name]["seg_flip"]))
    rows = [[name, *_fate(classes[name])] for name in order]
    rows += [[name, "0", *["-"] * 6] for name in objects.class_names if name not in classes]
    rows.insert(min(WORST, len(order)), ["all", *_fate(total)])
    header = ["class", "segments", "correct", "SegFlip", "miss", "mixed", "StrictFlip", "of the flips bleeding"]
    # Without background, no segment can be missed.
    kept = [place for place in range(len(header)) if header[place] != "miss" or objects.missable]
    header, *rows = ([row[place] for place in kept] for row in (header, *rows))
    return TextTable(header, rows)


def by_segment_pair(objects: Objects) -> TextTable:
    """Returns the class pairs, most flipped segments first."""
    totals = objects.tables.true["class"].value_counts()
    rows = []
    for truth, predicted, size, pixels in objects.flipped_pairs():
        pair = f"{objects.class_names[truth]} as {objects.class_names[predicted]}"
        rows.append([pair, f"{size:,}", f"{size / totals[truth]:.1%}", f"{pixels:,}"])
    return TextTable(["flip", "segments", "share of the class's", "their pixels"], rows)


def segment_matrix(objects: Objects) -> tuple[list[int], TextTable]:
    """Returns at most AT_ONCE classes with the most flipped segments, and the matrix of segments between them.

    Leaves out mixed segments, and adds a column for misses.
    """
    inside = is_foreground(len(objects.class_names), objects.background)
    flips = flips_of(objects.confusion, background=objects.background)
    shown = most_flipped(objects.confusion, background=objects.background, limit=AT_ONCE)
    classes = [c for c in shown if flips[c].any() or flips[:, c].any()]
    rows = []
    for c in classes:
        counts = objects.confusion[c]
        others = flips[c].sum() - flips[c, classes].sum()
        cells = [*counts[classes].tolist(), int(others), *([int(counts[~inside].sum())] if objects.missable else [])]
        rows.append([objects.class_names[c], *(f"{count:,}" if count else "" for count in cells)])
    missed = ["missed"] if objects.missable else []
    header = ["true class", *(objects.class_names[c] for c in classes), "other classes", *missed]
    return classes, TextTable(header, rows)


def ranking(objects: Objects) -> TextTable:
    """Returns how well scores and segment size rank wrong predicted segments; empty for masks."""
    header = ["predicted segments", "number", "wrong", "flip-risk", "max softmax", "being small"]
    predicted = objects.tables.predicted
    if not predicted["flip_risk"].notna().any():
        return TextTable(header, [])
    risk, softmax = (rows_by_name(segment_auroc(predicted, score=score)) for score in ("flip_risk", "max_softmax"))
    limits = [f"1/{round(1 / share)}" for share in STRATA]
    sizes = [f"below {limits[0]} of the image", *(f"from {limit}" for limit in limits)]
    titles = {"all": "of all sizes", "within strata": "within the sizes below"}
    titles |= {str(k): size for k, size in enumerate(sizes)}
    cells = []
    for key, row in risk.items():
        values = (row["auroc"], softmax[key]["auroc"], row["size_auroc"])
        cells.append([titles[key], f"{int(row['segments']):,}", f"{int(row['wrong']):,}", *map(number, values)])
    return TextTable(header, cells)


def mending(objects: Objects) -> TextTable:
    """Returns the wrong pixels of each kind, and the mean IoU gained by correcting them, largest gain first."""
    kinds = objects.budget.drop(index="all").sort_values("gain", ascending=False, kind="stable")
    rows = []
    for kind, row in rows_by_name(pd.concat([kinds[kinds["pixels"] > 0], objects.budget.loc[["all"]]])).items():
        cells = [f"{int(row['pixels']):,}", number(row["share"], ".1%"), number(row["gain"], "+.3f")]
        rows.append([MENDED.get(kind, kind), *cells])
    return TextTable(["wrong pixels", "pixels", "share", "gain in mean IoU"], rows)


def most_flipped(confusion: np.ndarray, *, background: Background, limit: int) -> list[int]:
    """Returns at most `limit` foreground classes in order, preferring those with the most flips to or from them."""
    flips = flips_of(confusion, background=background)
    foreground = np.flatnonzero(is_foreground(len(confusion), background))
    return sorted(foreground[np.argsort(-(flips.sum(0) + flips.sum(1))[foreground], kind="stable")][:limit].tolist())


def _fate(row: Mapping[str, float]) -> list[str]:
    whole = row["segments"] or np.nan
    correct, miss, mixed = (number(row[name] / whole) for name in ("correct", "miss", "mixed"))
    shares = [correct, _share(row, "seg_flip"), miss, mixed, _share(row, "strict_flip"), number(row["bleeding"], ".0%")]
    return [f"{int(row['segments']):,}", *shares]


def cell_of(audit: Audit, key: str, *, form: str = ".4f", index: int | None = None) -> str:
    """Returns a value of the summary with its interval in brackets, or '-' if it is undefined."""
    values = [audit.summary[key], *audit.intervals.get(key, ())]
    if index is not None:
        values = [value[index] for value in values]
    if isinstance(values[0], int):
        return f"{values[0]:,}"
    value, low, high = [*values, math.nan, math.nan][:3]
    return with_interval({"value": value, "low": low if value == value else math.nan, "high": high}, "value", form=form)


def _share(row: Mapping[str, float], name: str) -> str:
    # Rates of one image alone have no interval.
    return with_interval({f"{name}_low": math.nan, **row}, name, f"{name}_low", f"{name}_high")
