"""The report of an audit: its sections and tables of images, classes and groups."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from flipjax.audit.anatomy import AnatomyFlips
from flipjax.audit.findings import findings, first_findings
from flipjax.audit.results import Audit
from flipjax.audit.segment_tables import segment_blocks
from flipjax.audit.text import (
    DIFFERENCE_COLUMNS,
    SHOWN,
    cell_of,
    first_and_others,
    interval_column,
    keys_without_information,
    q_text,
    tabulate,
)
from flipjax.metrics.classes import is_foreground
from flipjax.metrics.decomposition import divide, margins
from flipjax.report.document import Document, Numbers, Section
from flipjax.results.frames import Row
from flipjax.results.quantities import AUDIT_QUANTITIES, COLUMNS, SCENE_IMAGE_QUANTITIES, of_classes, title_of
from flipjax.results.text import TextTable, number

TITLE = "Audit of flips"
"""Title of the page."""
KINDS = "Kinds of flips"
"""Title of the section on mirrored and shifted labels."""
OF_GROUPS = ("fg_correct", "fg_flip", "fg_miss", "iou/foreground", "risk_auroc", "swap_auroc", "repair_flip")
"""Quantities of the table of groups."""
OF_RENAMED = {
    "renaming": "{renaming}",
    "flips mended": "{mended:.1%}",
    "Flip": "{flip:.3f}",
    "Flip after it": "{renamed_flip:.3f}",
    "mean Dice after it": "{renamed_dice:.3f}",
}
"""Columns of the table of renamed images, each of a column of images.csv."""


def make_document(audit: Audit, *, facts: Sequence[str], options: Mapping[str, object]) -> Document:
    """Returns the report without pictures, with sections in page order."""
    order = "riskiest" if audit.has_scores else "most flipped"
    lines = findings(audit)
    sections = {
        "Results": [*_group_blocks(audit), Numbers("All images", overall(audit)), *_class_blocks(audit)],
        KINDS: _kind_blocks(audit),
        "Flip-risk": [_deciles(audit)],
        "Classes": [_flip_list(audit)],
        "Segments": segment_blocks(audit),
        "Images": [Numbers(f"The {order} images; all are in images.csv", riskiest(audit))],
        "Details": [_details(audit)],
    }
    return Document(
        TITLE,
        facts,
        lines,
        [Section(title, [block for block in blocks if block.table.rows]) for title, blocks in sections.items()],
        terms=_terms(audit),
        config=options,
        # Warnings come before all.
        first=len(first_findings(audit)) + sum(line.startswith("Warning") for line in lines),
    )


def _terms(audit: Audit) -> list[str]:
    """Returns the terms that the page explains."""
    terms = ["correct, flip, miss", "segment", "StrictFlip"]
    if "gap/mean" in audit.summary:
        terms += ["common, rare", "IoU gap"]
    if audit.has_scores:
        terms += ["flip-risk", "risk-coverage"]
    if "swap_auroc" in audit.summary:
        terms.append("scene swap")
    if "counterfactual_flip" in audit.summary:
        terms.append("counterfactual pair")
    return terms


def _group_blocks(audit: Audit) -> list[Numbers]:
    """Returns where classes flip more than elsewhere, and the groups' main quantities."""
    if audit.groups is None:
        return []
    columns = {
        "class": "{class}",
        "group": "{group}",
        "images": "{images}",
        "Flip [95%]": interval_column("flip"),
        "elsewhere": "{others:.3f}",
        "difference [95%]": interval_column(*DIFFERENCE_COLUMNS, form="+.3f"),
        "q": _q_cell,
    }
    # A group that flips less says only that another flips more.
    higher = audit.by_group[audit.by_group["difference"] > 0]
    unit = "images" if audit.clusters is None else "clusters"
    caption = (
        f"Classes that flip more in a group than elsewhere, largest sure difference first; over {unit}, q by "
        f"permutation over all {len(audit.by_group)} comparisons (Benjamini-Hochberg)"
    )
    table = tabulate(higher, columns, names=2)
    return [
        *first_and_others(caption, "The other groups that flip more", table),
        *_groups_by_flip(audit, bool(table.rows)),
    ]


def _q_cell(row: Row) -> str:
    return q_text(row["q"])


def _groups_by_flip(audit: Audit, folded: bool) -> list[Numbers]:
    """Returns the main quantities of each group."""
    names = [key.split("/")[1] for key in audit.summary if key.startswith("group/") and key.endswith("/n_images")]

    def order(name: str) -> tuple[bool, float]:
        """Common and rare come first, then the group with the largest Flip."""
        return name not in ("common", "rare"), -float(np.nan_to_num(audit.number(f"group/{name}/fg_flip"), nan=-1))

    names.sort(key=order)
    left_out = keys_without_information(audit)
    keys = [key for key in OF_GROUPS if key in audit.summary and key not in left_out]
    rows = []
    for name in names:
        rows.append([name, *(cell_of(audit, f"group/{name}/{key}", form=".3f") for key in ("n_images", *keys))])
    caption = "Groups by Flip, common and rare first, with 95% intervals"
    table = TextTable(["group", "images", *map(title_of, keys)], rows)
    shown, others = first_and_others(caption, "The other groups", table)
    return [dataclasses.replace(shown, folded=folded), others]


def overall(audit: Audit) -> TextTable:
    """Returns the main quantities over all images, and IoU gaps if there are groups."""
    table = {**of_classes(audit.class_names, background=audit.background), **COLUMNS, **AUDIT_QUANTITIES}
    left_out = keys_without_information(audit)
    rows = []
    for key in table:
        of_class = key.startswith(("iou/", "flip/")) and key != "iou/foreground"
        if key in audit.summary and key not in left_out and not of_class:
            cell = cell_of(audit, key)
            if cell != "-":
                rows.append([title_of(key), cell])
    return TextTable(["quantity", "value [95% interval]"], rows)


def _class_blocks(audit: Audit) -> list[Numbers]:
    """Returns the outcomes of each class's pixels and its IoU, largest Flip first; of many classes the others fold."""
    counts = margins(audit.confusion, background=audit.background)
    names = list(audit.class_names)
    inside = is_foreground(len(names), audit.background)
    table = pd.DataFrame({"class": names, "pixels": audit.pixels.sum(1)})
    table["images"] = np.asarray(audit.decomposition.confusion).any(2).sum(0)
    for name, part in (("correct", counts.same), ("miss", counts.missed)):
        table[name] = np.where(inside, divide(part, counts.truth), math.nan)
    table["iou"] = [cell_of(audit, f"iou/{name}") for name in names]
    table.loc[counts.truth == 0, "iou"] = "-"
    table["flip"] = [cell_of(audit, f"flip/{name}", form=".3f") for name in names]
    columns = {"class": "{class}", "images": "{images}"}
    volume = audit.measured.millilitres(np.asarray(audit.decomposition.confusion).sum(2))
    if volume is None:
        columns["pixels"] = "{pixels:,}"
    else:
        table["volume"] = volume.sum(0)
        columns["voxels"] = "{pixels:,}"
        columns["mL"] = "{volume:,.1f}"
    columns["correct"] = "{correct:.4f}"
    columns["Flip [95%]"] = "{flip}"
    if "fg_miss" not in keys_without_information(audit):
        columns["miss"] = "{miss:.4f}"
    columns["IoU [95%]"] = "{iou}"
    flips = np.full(len(names), math.nan)
    for c, name in enumerate(names):
        if f"flip/{name}" in audit.summary:
            flips[c] = audit.number(f"flip/{name}")
    order = np.argsort(-np.nan_to_num(flips, nan=-1), kind="stable")
    shown = tabulate(table.iloc[order], columns)
    caption = f"Classes by Flip, pooled over the images{audit.weighing}"
    return first_and_others(caption, "The other classes", shown)


def _kind_blocks(audit: Audit) -> list[Numbers]:
    """Returns the kinds of flips, by class and by place, and the images that a renaming mends."""
    if not audit.number("fg_flip") > 0:
        return []
    meaning = f"shares of the {audit.measured.pixel_noun} of the true foreground, which sum to Flip{audit.weighing}"
    blocks = [
        Numbers(f"{KINDS} by the class that is predicted: {meaning}", _kind_rows(audit.kinds.by_class)),
        Numbers(f"{KINDS} by their place: {meaning}", _kind_rows(audit.kinds.by_place)),
    ]
    if audit.anatomy is not None:
        blocks += _renamed_blocks(audit, audit.anatomy)
    return blocks


def _kind_rows(kinds: pd.DataFrame) -> TextTable:
    """Returns the rows of `KindsOfFlips`."""
    columns: dict[str, str | Callable[[Row], str]] = {
        "kind": "{kind}",
        "share of the true foreground [95%]": interval_column("share", form=".2%"),
        "images": "{images}",
    }
    return tabulate(kinds, columns)


def _renamed_blocks(audit: Audit, anatomy: AnatomyFlips) -> list[Numbers]:
    """Returns the images whose flips a renaming mends, most mended pixels first."""
    told = audit.images.loc[np.flatnonzero(anatomy.worth_telling)]
    mended = np.asarray(anatomy.best.mended)[told.index]
    told = told.iloc[np.argsort(-mended, kind="stable")]
    columns = {"name": "{name}"}
    if audit.groups is not None:
        columns["group"] = "{group}"
    columns.update(OF_RENAMED)
    caption = "Images in which one renaming of the predicted classes mends half of the flips or more"
    return [*first_and_others(caption, "The other images that a renaming mends", tabulate(told, columns))]


def _deciles(audit: Audit) -> Numbers:
    """Returns mean flip-risk and flip share by decile, if there are enough images."""
    rows = []
    if audit.has_tenths:
        highest = math.log(len(audit.foreground))
        for tenth, mean_risk in enumerate(audit.tenths("risk_decile").tolist()):
            risk = cell_of(audit, "risk_decile", index=tenth)
            flip = cell_of(audit, "flip_by_risk_decile", index=tenth)
            rows.append([str(tenth + 1), risk, number(mean_risk / highest, ".1%"), flip])
    caption = "Flip-risk deciles (10: the riskiest tenth of the images), with 95% intervals"
    return Numbers(caption, TextTable(["decile", "mean flip-risk (nats)", "of log F", "mean flip share"], rows))


def _flip_list(audit: Audit) -> Numbers:
    """Returns flips between classes, largest lower bound first."""
    columns = {
        "flip": "{truth} as {prediction}",
        "images": "{flipped_images} of {images}",
        audit.measured.pixel_noun: "{pixels:,}",
        "share of the true class [95%]": interval_column("share", form=".1%"),
    }
    caption = f"The largest flips by the lower bound{audit.weighing}; all are in flip_matrix.csv"
    return Numbers(caption, tabulate(audit.pairs[:SHOWN], columns))


def riskiest(audit: Audit) -> TextTable:
    """Returns the images with the highest flip-risk, or for masks the largest flip share."""
    names = ["name"]
    if audit.groups is not None:
        names.append("group")
    if audit.has_scores:
        names.append("flip_risk")
    names += ["flip", "correct"]
    if "fg_miss" not in keys_without_information(audit):
        names += ["miss", "spill"]
    names.append("largest_flip")
    names += [name for name in SCENE_IMAGE_QUANTITIES if name in audit.images]
    table = audit.images
    if audit.has_scores:
        table = table.dropna(subset=["flip_risk"])
    columns = {}
    for name in names:
        form = ":.4f" if table[name].dtype == float else ""
        columns[name] = f"{{{name}{form}}}"
    return tabulate(table[:SHOWN], columns)


def _details(audit: Audit) -> Numbers:
    """Returns every number of the summary by key, except lists of deciles."""
    keys = [key for key, value in audit.summary.items() if not isinstance(value, list)]
    table = TextTable(["key", "value [95% interval]"], [[key, cell_of(audit, key, form=".6f")] for key in keys])
    return Numbers("All numbers of summary.json", table, folded=True)
