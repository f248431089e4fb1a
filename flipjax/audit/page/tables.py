"""The report of an audit: its sections and tables. Each number stands in one table."""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from flipjax.audit.counting.measurements import EVERY_SIZE
from flipjax.audit.page.findings import (
    LEAST_DIFFERENCE,
    first_findings,
    further_findings,
    groups_with_sentence,
    names_in_words,
)
from flipjax.audit.page.text import (
    DIFFERENCE_COLUMNS,
    SHOWN,
    cell_of,
    first_and_others,
    interval_column,
    keys_without_information,
    q_text,
    tabulate,
)
from flipjax.audit.statistics.flips import family_size
from flipjax.audit.statistics.objects import FLIPPED, MISSED, Objects
from flipjax.audit.statistics.results import Audit
from flipjax.metrics import segment_auroc
from flipjax.metrics.decomposition import divide, margins
from flipjax.metrics.inputs.classes import is_foreground
from flipjax.metrics.objects.units import STRATA
from flipjax.metrics.statistics.permutation import CORRECTION, LEVEL
from flipjax.metrics.summary.names import (
    AUDIT_QUANTITIES,
    COLUMNS,
    PER_CLASS_OF_AUDITS,
    SCENE_IMAGE_QUANTITIES,
    of_classes,
    title_of,
)
from flipjax.page.document import Document, Numbers, Section
from flipjax.page.tables import TextTable
from flipjax.support.frames import Row

TITLE = "Audit of flips"
"""Title of the page."""
PAIRS = "Flips by pair of classes"
"""Beginning of the caption of the table whose cells lead to pictures of segments."""
WHOLE_SEGMENTS = "whole segments"
"""The column of that table whose cells do."""
OF_GROUPS = ("fg_correct", "fg_flip", "fg_miss", "iou/foreground", "risk_auroc", "swap_auroc", "repair_flip")
"""Quantities of the table of groups."""
ERROR_KIND_WORDS = {
    "whole": "whole segments that flip",
    "rim": "flips near borders of other segments",
    "inside": "flips inside other segments",
    "miss": "misses",
    "spill": "spills",
    "background": "confusion between background classes",
}
"""The kinds of wrong pixels of `flipjax.metrics.error_budget`, in words."""
MOST_NAMES = 8
"""Images that a cell names, at most."""
LEAST_SHARE = 0.0005
"""Smallest share of a class that has a row among the pairs: less is 0.0% in print."""
MOST_LINES = 24
"""Lines of sentences on a terminal, at most."""
SAID_ELSEWHERE = (
    "n_images",
    "fg_correct",
    "fg_flip",
    "fg_miss",
    "seg_flip",
    "strict_flip",
    "flipped_object_images",
    "missed_object_images",
    "flipped_images",
    "least_group_q",
    "flip_mirror",
    "flip_shift",
    "flip_other",
)
"""Quantities that the table of further numbers leaves out, because a sentence or another table says them."""
UNITS = {
    "class": "All {pixels} of a foreground class in {an_image}",
    "component": "A connected region of a foreground class",
    "instance": "An instance of the labels",
}
"""What a segment is, by the unit of segments."""


def make_document(
    audit: Audit, *, facts: Sequence[str], options: Mapping[str, object], limits: Sequence[str] = ()
) -> Document:
    """Returns the report without pictures, with sections in page order.

    Args:
        audit: the audit.
        facts: sentences on what was audited.
        options: of the audit, shown at the end.
        limits: sentences on the limits that were tried.
    """
    first = [*first_findings(audit), *limits]
    lines = [*first, *further_findings(audit)]
    sections = {
        "Classes": [_class_block(audit), *_whole_blocks(audit)],
        "Groups": _group_blocks(audit),
        "Flips": [_pair_block(audit), *_kind_blocks(audit)],
        "Flip-risk": [],
        "Images": _image_blocks(audit),
        "Further numbers": [Numbers("All are in summary.json", overall(audit))],
        "Errors": _error_blocks(audit),
    }
    shown = []
    for title, blocks in sections.items():
        shown.append(Section(title, [block for block in blocks if block.table.rows], folded=True))
    return Document(
        TITLE,
        facts,
        lines,
        shown,
        terms=_shared_terms(audit),
        definitions=terms_of(audit, str(options.get("unit", "class"))),
        config=options,
        # Warnings come before all.
        findings_height=MOST_LINES,
        findings_shown=len(first) + sum(line.startswith("Warning") for line in lines),
    )


def _shared_terms(audit: Audit) -> list[str]:
    """Returns the terms that the page shares with those of runs."""
    terms = []
    if "swap_auroc" in audit.summary:
        terms.append("scene swap")
    if "counterfactual_flip" in audit.summary:
        terms.append("counterfactual pair")
    return terms


def _class_block(audit: Audit) -> Numbers:
    """Returns the outcomes of each class: of its pixels, and of its whole segments; the largest Flip first."""
    counts = margins(audit.weighted_confusion, background=audit.background)
    names = list(audit.class_names)
    inside = is_foreground(len(names), audit.background)
    table = pd.DataFrame({"class": names, "pixels": audit.pixel_confusion.sum(1)})
    table["images"] = np.asarray(audit.decomposition.confusion).any(2).sum(0)
    table["correct"] = np.where(inside, divide(counts.same, counts.truth), math.nan)
    for column, key in (("flip", "flip"), ("miss", "miss"), ("flipped", FLIPPED), ("missed", MISSED)):
        table[column] = [cell_of(audit, f"{key}/{name}", form=".3f") or "-" for name in names]
    for measure in ("iou", "dice"):
        table[measure] = [cell_of(audit, f"{measure}/{name}", form=".3f") for name in names]
    columns: dict[str, str | Callable[[Row], str]] = {"class": "{class}", audit.measured.image_noun: "{images}"}
    volume = audit.measured.millilitres(np.asarray(audit.decomposition.confusion).sum(2))
    if volume is None:
        columns[audit.measured.pixel_noun] = "{pixels:,}"
    else:
        table["volume"] = volume.sum(0)
        columns["mL"] = "{volume:,.1f}"
    columns["correct"] = "{correct:.3f}"
    columns["flip [95%]"] = "{flip}"
    # The first sentences say it where no segment flips, or is missed, whole.
    if audit.objects.counts.flipped_segments.any():
        columns["flipped whole [95%]"] = "{flipped}"
    if audit.background is not None:
        columns["miss [95%]"] = "{miss}"
    if audit.objects.counts.missed_segments.any():
        columns["missed whole [95%]"] = "{missed}"
    columns["IoU [95%]"] = "{iou}"
    columns["Dice [95%]"] = "{dice}"
    flips = np.array([audit.summary.get(f"flip/{name}", math.nan) for name in names], np.float64)
    order = np.argsort(-np.nan_to_num(flips, nan=-1), kind="stable")
    # A sentence above names classes that are not in the labels; background has only its IoU and Dice, in summary.json.
    order = order[(inside & (counts.truth > 0))[order]]
    return Numbers(
        f"Classes by Flip: shares of {audit.measured.pixel_noun}, and of whole segments",
        tabulate(table.iloc[order], columns),
    )


def _whole_blocks(audit: Audit) -> list[Numbers]:
    """Returns the images in which segments are missed, or flip, as a whole; classes of the same images share a row."""
    classes_of: dict[tuple[str, str, str], list[str]] = {}
    for c in audit.foreground:
        for outcome, words in (("miss", "missed"), ("flip", "flips")):
            images = audit.objects.images_with(outcome, c)
            if len(images):
                shown = int((audit.objects.counts.segments[:, c] > 0).sum())
                row = (words, f"{len(images)} of {shown}", names_in_words(audit, images, MOST_NAMES))
                classes_of.setdefault(row, []).append(audit.class_names[c])
    rows = [[", ".join(classes), *row] for row, classes in classes_of.items()]
    images = audit.measured.image_noun
    table = TextTable(["class", "whole", images, f"names of the {images}"], rows, name_columns=2)
    caption = "Segments missed or flipped whole; images.csv names all"
    return [Numbers(caption, table, words=True)]


def _group_blocks(audit: Audit) -> list[Numbers]:
    """Returns the classes and groups that no sentence says to differ, and the groups' main quantities."""
    if audit.groups is None:
        return []
    images = audit.measured.image_noun
    columns = {
        "class": "{class}",
        "group": "{group}",
        images: "{images}",
        "Flip [95%]": interval_column("flip"),
        "elsewhere": "{others:.3f}",
        "difference [95%]": interval_column(*DIFFERENCE_COLUMNS, form="+.3f"),
        "q": _q_cell,
    }
    # Where a group flips less, another flips more, which has the row; a difference of 0.000 has none.
    higher = audit.by_group[audit.by_group["difference"] > LEAST_DIFFERENCE]
    said = {(row.class_name, row.group) for row in groups_with_sentence(audit)}
    is_said = [pair in said for pair in zip(higher["class"], higher["group"], strict=True)]
    table = tabulate(higher[~np.array(is_said, bool)], columns, names=2)
    return [
        Numbers("The other classes and groups; all are in flips_by_group.csv", table, folded=True),
        *_groups_by_flip(audit),
    ]


def _q_cell(row: Row) -> str:
    return q_text(row["q"])


def _groups_by_flip(audit: Audit) -> list[Numbers]:
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
    caption = "Groups, those with the largest Flip first"
    table = TextTable(["group", audit.measured.image_noun, *map(title_of, keys)], rows)
    return first_and_others(caption, "The other groups", table)


def _pair_block(audit: Audit) -> Numbers:
    """Returns flips between classes, the largest lower bound first, with the segments that flip whole."""
    names = np.array(audit.class_names, object)
    whole = audit.objects.flipped_pairs
    segments = {}
    for truth, predicted, number in zip(names[whole["class"]], names[whole["predicted"]], whole["size"], strict=True):
        segments[truth, predicted] = int(number)
    table = audit.pairs[audit.pairs["share"] >= LEAST_SHARE][:SHOWN].copy()
    pairs = zip(table["truth"], table["prediction"], strict=True)
    table["segments"] = [segments.get(pair, 0) for pair in pairs]
    columns = {
        "flip": "{truth} as {prediction}",
        audit.measured.image_noun: "{flipped_images} of {images}",
        audit.measured.pixel_noun: "{pixels:,}",
        "share of the true class [95%]": interval_column("share", form=".1%"),
        WHOLE_SEGMENTS: "{segments:,}",
    }
    caption = f"{PAIRS}; all are in flip_matrix.csv"
    return Numbers(caption, tabulate(table, columns))


def _kind_blocks(audit: Audit) -> list[Numbers]:
    """Returns the kinds of flips by class and by place."""
    if not audit.number("fg_flip") > 0:
        return []
    columns: dict[str, str | Callable[[Row], str]] = {
        "kind": "{kind}",
        "by": "{by}",
        "share of the true foreground [95%]": interval_column("share", form=".2%"),
        audit.measured.image_noun: "{images}",
    }
    caption = "Kinds of flips by predicted class, and by place; either sums to Flip"
    kinds = audit.kinds[audit.kinds["share"] > 0]
    return [Numbers(caption, tabulate(kinds, columns, names=2))]


def overall(audit: Audit) -> TextTable:
    """Returns the main quantities that no sentence or other table says, and IoU gaps if there are groups."""
    table = {**of_classes(audit.class_names, background=audit.background), **COLUMNS, **AUDIT_QUANTITIES}
    left_out = {*keys_without_information(audit), *SAID_ELSEWHERE}
    rows = []
    for key in table:
        of_class = key.startswith(PER_CLASS_OF_AUDITS) and not key.endswith("/foreground")
        if key in audit.summary and key not in left_out and not of_class:
            cell = cell_of(audit, key)
            if cell != "-":
                rows.append([title_of(key), cell])
    return TextTable(["quantity", "value [95% interval]"], rows)


def _error_blocks(audit: Audit) -> list[Numbers]:
    """Returns what mending each kind of error is worth, and how scores rank wrong segments."""
    objects = audit.objects
    if len(objects.flips) == 1:
        return []
    strata = f"strata begin at {', '.join(f'1/{1 / share:.0f}' for share in STRATA)} of the image, 0 below"
    return [
        Numbers("Gain in mean IoU from correcting one kind of error alone", mending(objects)),
        Numbers(f"AUROC of scores for wrong predicted segments; {strata}", ranking(objects), folded=True),
    ]


def ranking(objects: Objects) -> TextTable:
    """Returns how well scores and segment size rank wrong predicted segments; empty for masks."""
    predicted = objects.tables.predicted
    if not predicted["flip_risk"].notna().any():
        return TextTable([], [])
    table = segment_auroc(predicted).assign(softmax=segment_auroc(predicted, score="max_softmax")["auroc"])
    columns = {
        "predicted segments": "{stratum}",
        "number": "{segments:,}",
        "wrong": "{wrong:,}",
        "flip-risk": "{auroc:.3f}",
        "max softmax": "{softmax:.3f}",
        "being small": "{size_auroc:.3f}",
    }
    return tabulate(table.reset_index(), columns)


def mending(objects: Objects) -> TextTable:
    """Returns the wrong pixels of each kind, and the mean IoU gained by correcting them, largest gain first."""
    kinds = objects.budget.drop(index="all").sort_values("gain", ascending=False, kind="stable")
    table = kinds[kinds["pixels"] > 0].rename(index=ERROR_KIND_WORDS)
    columns = {
        "wrong pixels": "{kind}",
        "pixels": "{pixels:,}",
        "share": "{share:.1%}",
        "gain in mean IoU": "{gain:+.3f}",
    }
    return tabulate(table.reset_index(), columns)


def _image_blocks(audit: Audit) -> list[Numbers]:
    """Returns the worst images: those with the largest share of segments that flip or are missed whole."""
    columns: dict[str, str | Callable[[Row], str]] = {"name": "{name}"}
    if audit.groups is not None:
        columns["group"] = "{group}"
    columns["flip"] = "{flip:.3f}"
    if audit.background is not None:
        columns["miss"] = "{miss:.3f}"
        columns["missed whole"] = "{missed_classes}"
    columns["flips whole"] = "{flipped_classes}"
    if audit.risk_ranks_images:
        columns["flip-risk"] = "{flip_risk:.3f}"
    for name in SCENE_IMAGE_QUANTITIES:
        if name in audit.images:
            columns[title_of_image(name)] = f"{{{name}:.3f}}"
    worst = audit.images.loc[audit.worst_images[:SHOWN]]
    caption = f"The worst {audit.measured.image_noun}; all are in images.csv"
    return [Numbers(caption, tabulate(worst, columns))]


def title_of_image(name: str) -> str:
    """Returns the title of a column of one image."""
    return SCENE_IMAGE_QUANTITIES[name].title


def terms_of(audit: Audit, unit: str) -> dict[str, str]:
    """Returns the terms of an audit's page with their meanings.

    Args:
        audit: the audit.
        unit: of segments.
    """
    measured = audit.measured
    pixels = measured.pixel_noun
    images = measured.image_noun
    an_image = "an image"
    if measured.are_volumes:
        an_image = "a volume"
    unit_in_words = UNITS[unit].format(pixels=pixels, an_image=an_image)
    size = "of every size"
    if measured.min_size != EVERY_SIZE:
        size = f"of {measured.min_size} and more"
    terms = {
        "correct, flip, miss": (
            "Shares of the true foreground predicted as its own class, as another foreground class, as background."
        ),
        "segment": (
            f"{unit_in_words}, {size}. It flips if at least half is predicted as one other foreground class; it is "
            "missed if more is predicted as background than as any other class, and correct if more is predicted as "
            "its own class. Otherwise it is mixed."
        ),
        "IoU, Dice": (
            f"Both pool the {pixels} of a class over {images}. IoU is the number in both truth and prediction over the "
            "number in either. Dice is twice the number in both over the true plus the predicted number. A class that "
            f"neither contains has none. MONAI averages the Dice of {images} instead, which differs."
        ),
        "[95% interval]": (
            f"The interval of a rate is Korn and Graubard's (1998) over {_units(audit)}. If none of n flips, it ends "
            f"at about 3.7 / n. A narrow interval over {pixels} does not exclude that a whole segment flips."
        ),
    }
    if audit.compared:
        terms["q"] = (
            f"The probability of such a difference by chance, by permuting {_units(audit)} within the class, corrected "
            f"for {family_size(audit.compared)} comparisons ({CORRECTION}). Below {LEVEL:g} a group is said to differ."
        )
    if "gap/mean" in audit.summary:
        terms["common, rare"] = "Images of a class in its usual scenes, and in other scenes."
        terms["IoU gap, Dice gap"] = "IoU, or Dice, of a class in its common groups minus that in its rare groups."
    if audit.risk_ranks_images:
        terms["flip-risk"] = (
            "Entropy (nats) of the foreground classes, averaged over the predicted foreground of an image. It needs no "
            "labels. Its AUROC measures how well it ranks images with a flip share above 0.5."
        )
        terms["risk-coverage"] = (
            "Mean flip share of the images that are kept when those with the highest flip-risk are set aside."
        )
    return terms


def _units(audit: Audit) -> str:
    """Returns what is resampled and permuted, in words."""
    if audit.clusters is not None:
        return "clusters"
    return audit.measured.image_noun
