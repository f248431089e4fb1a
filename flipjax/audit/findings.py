"""Sentences on an audit. Each restates a row of a table or a number of summary.json."""

import itertools
import math
import operator

import numpy as np

from flipjax.audit.flips import GroupFlip
from flipjax.audit.objects import Objects
from flipjax.audit.results import Audit
from flipjax.audit.text import DIFFERENCE, cell_of, constant, in_words, q_text
from flipjax.results.estimates import LEVEL
from flipjax.results.frames import records_of
from flipjax.results.rows import REPAIR_NOTE
from flipjax.results.text import number, with_interval

LEAST_AGREEMENT = 0.05
"""Cohen's kappa below which predictions and labels agree little better than chance (Cohen, 1960)."""
LEAST_TOLD = 0.0005
"""Smallest difference between groups that has a sentence; over thousands of images a smaller one may be significant."""
RENAMINGS = 3
"""Renamings that have a sentence, those of most images."""
ERROR_KINDS = {
    "whole": "whole segments that flip",
    "rim": "flips near borders of other segments",
    "inside": "flips inside other segments",
    "miss": "misses",
    "spill": "spills",
    "background": "confusion between background classes",
}
"""Kinds of wrong pixels of `metrics.error_budget`, in words."""


def findings(audit: Audit) -> list[str]:
    """Returns all sentences: those of `first_findings`, then on segments, scores and what looks wrong."""
    return [*first_findings(audit), *segment_lines(audit), *_score_lines(audit), *warnings(audit)]


def first_findings(audit: Audit) -> list[str]:
    """Returns what a reader must see first: correct, flip and miss, anatomy, groups that differ, the largest flip."""
    return [_overall_line(audit), *_anatomy_lines(audit), *_group_lines(audit), *_largest_flip_lines(audit)]


def _overall_line(audit: Audit) -> str:
    names = {"fg_correct": "correct", "fg_flip": "flipped", "fg_miss": "missed"}
    left_out = constant(audit)
    shares = [f"{cell_of(audit, key, form='.1%')} {word}" for key, word in names.items() if key not in left_out]
    return f"{audit.measured.pixel_noun.capitalize()} of the true foreground: {', '.join(shares)}."


def told_groups(audit: Audit) -> list[GroupFlip]:
    """Returns the groups in which a class flips significantly more than elsewhere, the smallest q first.

    A class that flips less in one group and more in none is told, too. Left out is a difference below LEAST_TOLD, and
    one whose sign over pixels is not that of the test, which compares means over images.
    """
    significant = [row for row in audit.compared if row.q < LEVEL and not row.repeats]
    higher = [row for row in significant if row.difference.value[0] > LEAST_TOLD and row.test_difference > 0]
    lower = [row for row in significant if row.difference.value[0] < -LEAST_TOLD and row.test_difference < 0]
    higher_classes = {row.class_name for row in higher}
    only_lower = [row for row in lower if row.class_name not in higher_classes]
    return sorted([*higher, *only_lower], key=_q_then_p)


def _q_then_p(row: GroupFlip) -> tuple[float, float]:
    return row.q, row.p


def _group_lines(audit: Audit) -> list[str]:
    lines = [_group_line(audit, row) for row in told_groups(audit)]
    q_values = [row.q for row in audit.compared if not math.isnan(row.q)]
    flips = any(row.flips for row in audit.compared)
    if flips and not q_values:
        lines.append("Groups cannot be compared: each is one image or one cluster, or against one.")
    elif flips and not lines:
        least = min(q_values)
        margin = ""
        if least < LEVEL:
            # One is significant and too small to be told. Printed to three digits, a told one is .001 or more.
            margin = f" by {2 * LEAST_TOLD:g} or more"
        lines.append(
            f"No class flips significantly more in one group than in the others{margin} "
            f"(least q {number(least, '.2f')})."
        )
    if "flip_gap/mean" in audit.summary:
        gap = cell_of(audit, "flip_gap/mean", form=".3f")
        lines.append(f"Flip in rare minus common groups, within classes and averaged over them: {gap}.")
    return lines


def _group_line(audit: Audit, row: GroupFlip) -> str:
    """Returns the sentence of a class that flips more, or less, in one group than elsewhere."""
    cells = row.row()
    flip = with_interval(cells, "flip", form=".1%")
    change = with_interval(cells, *DIFFERENCE, form="+.3f")
    direction = "more" if row.difference.value[0] > 0 else "less"
    images = audit.measured.image_noun
    unit = images if audit.clusters is None else "clusters"
    return (
        f"{row.class_name} flips {direction} in {row.group}: {flip} ({row.images} {images}) against "
        f"{cells['others']:.1%} elsewhere ({row.others}): {change}, q {q_text(row.q)} over {unit}."
    )


def _anatomy_lines(audit: Audit) -> list[str]:
    """Returns how many flips are mirrored or shifted, and the renamings that mend images."""
    anatomy = audit.anatomy
    if anatomy is None or not audit.number("fg_flip") > 0:
        return []
    parts = []
    if anatomy.anatomy.mirror:
        parts.append(f"{cell_of(audit, 'flip_mirror', form='.1%')} flip to their mirror image")
    if anatomy.anatomy.chains:
        parts.append(f"{cell_of(audit, 'flip_shift', form='.1%')} shift along a chain")
    lines = [f"Of the {audit.measured.pixel_noun} of the true foreground {', '.join(parts)}."]
    for renamed in itertools.islice(anatomy.renamed(), RENAMINGS):
        lines.append(
            f"In {renamed.images} of {len(audit.images)} {audit.measured.image_noun} one renaming, {renamed.renaming}, "
            f"mends {renamed.mended_share:.0%} of the flips."
        )
    return lines


def _largest_flip_lines(audit: Audit) -> list[str]:
    """Returns the sentence of the first pair of classes, that of the highest lower bound; none without a flip."""
    lines = []
    for row in records_of(audit.pairs[:1]):
        share = with_interval(row, "share", form=".1%")
        lines.append(
            f"Largest flip by the lower bound: {row['truth']} is predicted as {row['prediction']} on {share} of its "
            f"{audit.measured.pixel_noun} ({row['flipped_images']} of {row['images']} {audit.measured.image_noun})."
        )
    return lines


def segment_lines(audit: Audit) -> list[str]:
    """Returns how many segments flip, those too small to count, and the largest gain from mending one kind of error."""
    objects = audit.objects
    lines = []
    # The last row is of all classes.
    row = records_of(objects.flips.iloc[[-1]])[0]
    excepted = _excepted_segments(audit)
    if row["segments"]:
        flip = in_words(row, "seg_flip")
        strict = in_words(row, "strict_flip")
        of_matched = ""
        if row["matched"]:
            of_matched = f"; of {row['matched']:,} matched by a predicted one, {strict} have another class"
        lines.append(f"Of {row['segments']:,} true segments{excepted} {flip} flip{of_matched}.")
    elif audit.measured.smaller:
        lines.append(f"No true segment{excepted}.")
    return [*lines, *_gain_lines(objects)]


def _excepted_segments(audit: Audit) -> str:
    """Returns the smallest size of a segment and the number left out, if any are."""
    measured = audit.measured
    if not measured.smaller:
        return ""
    return f" of {measured.min_size} and more ({measured.smaller:,} smaller ones left out)"


def _gain_lines(objects: Objects) -> list[str]:
    """Returns the kind of error that is worth most to mend, if any is."""
    kinds = records_of(objects.budget.drop(index="all").reset_index())
    best = max(kinds, key=operator.itemgetter("gain"), default=None)
    if best is None or not best["gain"] > 0:
        return []
    kind = ERROR_KINDS[best["kind"]]
    share = f"{best['share']:.0%} of wrong pixels"
    return [f"Largest gain from one kind of error: {kind}, {share}, {best['gain']:+.3f} mIoU."]


def _score_lines(audit: Audit) -> list[str]:
    """Returns how well scores rank flipped images."""
    lines = []
    top = audit.number("top_decile_flip_share")
    if audit.has_tenths and not math.isnan(top):
        lines.append(f"The tenth of the images with the highest flip-risk holds {top:.0%} of all flips.")
    auroc = cell_of(audit, "risk_auroc", form=".2f")
    if audit.has_scores and auroc != "-":
        lines.append(f"Flip-risk ranks images flipped by more than half with AUROC {auroc} (chance: 0.5).")
    if "swap_auroc" in audit.summary:
        lines.append(f"{_swap_line(audit)}.")
        lines.append(REPAIR_NOTE)
    return lines


def _swap_line(audit: Audit) -> str:
    """Returns how well scene-swap risk ranks, and what repair and the scenes do, without a full stop."""
    auroc = cell_of(audit, "swap_auroc", form=".2f")
    repaired = cell_of(audit, "repair_flip", form=".1%")
    line = f"Scene-swap risk ranks flipped images with AUROC {auroc}; Flip after repair {repaired}"
    if "scene_reliance" in audit.summary:
        line += f"; scene reliance {audit.number('scene_reliance'):.2f}"
    return line


def cohens_kappa(confusion: np.ndarray) -> float:
    """Returns the agreement of predictions and labels beyond chance; 1 where one class is all there is.

    Example:
        >>> round(cohens_kappa(np.array([[20, 5], [10, 15]])), 3)
        0.4
    """
    total = confusion.sum()
    shares = confusion / max(total, 1)
    expected = shares.sum(0) @ shares.sum(1)
    if not total or expected >= 1:
        return 1.0
    return float((np.trace(shares) - expected) / (1 - expected))


def warnings(audit: Audit) -> list[str]:
    """Returns warnings on mismatched labels, a foreground that is not found, unranked images and ignored pixels."""
    lines = []
    total = audit.confusion.sum()
    kappa = cohens_kappa(audit.confusion)
    if kappa < LEAST_AGREEMENT:
        lines.append(
            "Warning: predictions and labels agree hardly better than chance (Cohen's kappa "
            f"{kappa:.3f}). Are the labels in the order of the predictions?"
        )
    without = audit.number("n_images_without_risk")
    if without and audit.has_scores:
        lines.append(f"{without} of {len(audit.images)} images lack true or predicted foreground: they have no rank.")
    risk = np.asarray(audit.decomposition.flip_risk)
    if (risk == 0).any() and not (risk > 0).any():
        lines.append("Warning: flip-risk is 0 in every image. Were the predictions rounded to 0 and 1?")
    ignored = audit.images["ignored_pixels"].sum()
    if ignored:
        lines.append(f"{ignored / (total + ignored):.1%} of the pixels are ignored.")
    return lines
