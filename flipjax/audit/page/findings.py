"""Sentences on an audit. Each restates a row of a table or a number of summary.json.

`first_findings` returns those that must be read before an audit is signed, which a page shows first;
`further_findings` returns the others, which it folds. A function `_..._lines` returns the sentences on one subject,
none where the audit has nothing to say on it; a function `_..._line` returns one of them. `groups_with_sentence`
chooses the groups that have a sentence; the map of groups marks the same.
"""

import math

import numpy as np

from flipjax.audit.page.text import DIFFERENCE_COLUMNS, cell_of, keys_without_information, q_text, with_its_interval
from flipjax.audit.statistics.flips import GroupFlip
from flipjax.audit.statistics.objects import FLIPPED, MISSED
from flipjax.audit.statistics.results import Audit
from flipjax.metrics.anatomy.relations import Anatomy
from flipjax.metrics.statistics.permutation import LEVEL
from flipjax.metrics.summary.columns import REPAIR_NOTE
from flipjax.page.tables import number, with_interval
from flipjax.support.frames import records_of
from flipjax.support.terminal import listed

LEAST_AGREEMENT = 0.05
"""Cohen's kappa below which predictions and labels agree little better than chance (Cohen, 1960)."""
PRINTED_STEP = 0.001
"""The last digit of a difference in print."""
LEAST_DIFFERENCE = PRINTED_STEP / 2
"""Largest difference in Flip between groups that has no sentence. Over thousands of images so small a one may be
significant, but it is 0 in print."""
MOST_FAULTS = 3
"""Largest number of faults of anatomy that have a sentence each: those of the most images."""
MOST_CLASSES = 3
"""Largest number of classes that are said to be missed whole, and to flip whole: those of the most images."""
MOST_NAMES = 5
"""Largest number of images that a sentence names."""
OUTCOME_WORDS = {"fg_correct": "correct", "fg_flip": "flipped", "fg_miss": "missed"}
"""Outcomes of a pixel of the true foreground, by the name of their rate."""


def first_findings(audit: Audit) -> list[str]:
    """Returns what a reader must see first: the rates, what is missed or flipped whole, guilty groups, anatomy."""
    return [
        _overall_line(audit),
        *_object_lines(audit),
        *_whole_lines(audit, "miss", MISSED),
        *_whole_lines(audit, "flip", FLIPPED),
        *_group_lines(audit),
        *_anatomy_lines(audit),
    ]


def further_findings(audit: Audit) -> list[str]:
    """Returns the sentences on segments, on scores and on what looks wrong."""
    return [*_segment_lines(audit), *_score_lines(audit), *_warning_lines(audit)]


def _overall_line(audit: Audit) -> str:
    """Returns the shares of correct, flipped and missed pixels; without background none can be missed."""
    left_out = keys_without_information(audit)
    shares = []
    for key, word in OUTCOME_WORDS.items():
        if key not in left_out:
            shares.append(f"{cell_of(audit, key, form='.1%')} {word}")
    return f"Of the true foreground: {', '.join(shares)}."


def _object_lines(audit: Audit) -> list[str]:
    """Returns in how many images a whole segment flips or is missed, which rates of pixels do not tell."""
    shown = audit.objects.counts.segments.any(1).sum()
    if not shown:
        return []
    images = audit.measured.image_noun
    flipped = int(audit.objects.counts.flipped_segments.any(1).sum())
    text = f"A whole segment flips in {flipped} of {shown} {images}, {_share(audit, 'flipped_object_images')}"
    if audit.background is not None:
        missed = int(audit.objects.counts.missed_segments.any(1).sum())
        text += f"; one is missed in {missed}, {_share(audit, 'missed_object_images')}"
    return [f"{text}."]


def _share(audit: Audit, key: str) -> str:
    return cell_of(audit, key, form=".1%")


def _whole_lines(audit: Audit, outcome: str, key: str) -> list[str]:
    """Returns the classes of which segments are missed, or flip, as a whole; those of the most images first.

    Args:
        audit: the audit.
        outcome: `miss` or `flip`.
        key: the beginning of the classes' keys.
    """
    images_of_class = {}
    for c in audit.foreground:
        images = audit.objects.images_with(outcome, c)
        if len(images):
            images_of_class[c] = images
    most_first = sorted(images_of_class, key=lambda c: -len(images_of_class[c]))
    lines = []
    named = None
    for c in most_first[:MOST_CLASSES]:
        images = images_of_class[c]
        names = names_in_words(audit, images, MOST_NAMES)
        if named is not None and np.array_equal(images, named):
            names = "the same ones"
        lines.append(f"{_whole_line(audit, outcome, key, c, images)}: {names}.")
        named = images
    others = [audit.class_names[c] for c in most_first[MOST_CLASSES:]]
    if others:
        words = "flips"
        if outcome == "miss":
            words = "is missed"
        lines.append(f"A whole segment of {listed(others)} {words}, too.")
    return lines


def _whole_line(audit: Audit, outcome: str, key: str, c: int, images: np.ndarray) -> str:
    """Returns in how many images segments of a class are missed, or flip, as a whole."""
    name = audit.class_names[c]
    shown = int((audit.objects.counts.segments[:, c] > 0).sum())
    share = cell_of(audit, f"{key}/{name}", form=".1%")
    words = "is missed whole"
    if outcome == "flip":
        flipped = audit.objects.flipped
        predicted = flipped["predicted"][flipped["class"] == c].mode().iloc[0]
        words = f"flips whole, mostly to {audit.class_names[int(predicted)]},"
    return f"{name} {words} in {len(images)} of {shown} {audit.measured.image_noun}, {share} of its segments"


def names_in_words(audit: Audit, images: np.ndarray, most: int) -> str:
    """Returns the names of images, at most `most` of them."""
    names = [audit.measured.names[image] for image in images.tolist()]
    return listed(names, most=most)


def groups_with_sentence(audit: Audit) -> list[GroupFlip]:
    """Returns the comparisons that have a sentence, the smallest q first: classes in groups where they flip more.

    Of a class that flips more in no group, those where it flips less are returned. Left out are

    - a difference that is not significant, or of at most LEAST_DIFFERENCE;
    - one with opposite signs over pixels, as the sentence says it, and over images, as it is tested.
    """
    more = []
    less = []
    for row in _significant(audit):
        difference = row.difference.value
        if difference > LEAST_DIFFERENCE and row.mean_difference > 0:
            more.append(row)
        elif difference < -LEAST_DIFFERENCE and row.mean_difference < 0:
            less.append(row)
    classes_that_flip_more = {row.class_name for row in more}
    less_only = [row for row in less if row.class_name not in classes_that_flip_more]
    return sorted([*more, *less_only], key=_rank_of_comparison)


def _significant(audit: Audit) -> list[GroupFlip]:
    """Returns the significant comparisons, of two groups that of the one that flips more."""
    # q is NaN, which is not below the level, where a comparison could not be tested.
    return [row for row in audit.compared if row.q < LEVEL and not row.repeats]


def _rank_of_comparison(row: GroupFlip) -> tuple[float, float]:
    """Returns q, and p for those of the same q."""
    return row.q, row.p


def _group_lines(audit: Audit) -> list[str]:
    """Returns the groups that differ, or that none does, and the gap between rare and common groups."""
    lines = [_group_line(audit, row) for row in groups_with_sentence(audit)]
    if not lines and any(row.flips for row in audit.compared):
        lines.append(_no_group_line(audit))
    if "flip_gap/mean" in audit.summary:
        gap = cell_of(audit, "flip_gap/mean", form=".3f")
        lines.append(f"Flip in rare minus common groups, within classes and averaged over them: {gap}.")
    return lines


def _group_line(audit: Audit, row: GroupFlip) -> str:
    """Returns the sentence of a class that flips more, or less, in one group than elsewhere."""
    cells = row.row()
    flip = with_interval(cells, "flip", form=".1%")
    value, low, high = DIFFERENCE_COLUMNS
    difference = with_interval(cells, value, low, high, form="+.3f")
    direction = "less"
    if row.difference.value > 0:
        direction = "more"
    images = audit.measured.image_noun
    unit = images
    if audit.clusters is not None:
        unit = "clusters"
    return (
        f"{row.class_name} flips {direction} in {row.group}: {flip} ({row.images} {images}) against "
        f"{cells['others']:.1%} elsewhere ({row.other_images}): {difference}, q {q_text(row.q)} over {unit}."
    )


def _no_group_line(audit: Audit) -> str:
    """Returns the sentence of an audit whose groups do not differ, or cannot be compared."""
    q_values = [row.q for row in audit.compared if row.flips and not math.isnan(row.q)]
    if not q_values:
        return "Groups cannot be compared: each is one image or one cluster, or against one."
    least = min(q_values)
    # A significant difference without a sentence is 0.000 in print, or has opposite signs over pixels and over images.
    margin = ""
    significant = _significant(audit)
    if significant:
        margin = f" by {PRINTED_STEP:g} or more"
    if any(abs(row.difference.value) > LEAST_DIFFERENCE for row in significant):
        margin += " over pixels and over images alike"
    return (
        f"No class flips significantly more in one group than in the others{margin} (least q {number(least, '.2f')})."
    )


def _anatomy_lines(audit: Audit) -> list[str]:
    """Returns the faults that explain the flips of images, or else how many flips are mirrored or shifted."""
    flips = audit.anatomy
    if flips is None or not audit.number("fg_flip") > 0:
        return []
    lines = []
    for row in records_of(flips.fault_table[:MOST_FAULTS]):
        fault = row["fault"]
        names = names_in_words(audit, flips.images_with(fault), MOST_NAMES)
        lines.append(
            f"{fault[:1].upper()}{fault[1:]} in {row['images']} of {len(audit.images)} {audit.measured.image_noun}, "
            f"which explains {row['mended_share']:.0%} of their flips: {names}."
        )
    return lines or [_share_of_anatomy(audit, flips.anatomy)]


def _share_of_anatomy(audit: Audit, anatomy: Anatomy) -> str:
    """Returns how many flips are mirrored or shifted, where no fault explains those of an image."""
    # An anatomy without mirror pairs and chains is none, so there is at least one share.
    shares = []
    if anatomy.mirror:
        shares.append(f"{cell_of(audit, 'flip_mirror', form='.1%')} is labelled as its mirror image")
    if anatomy.chains:
        shares.append(f"{cell_of(audit, 'flip_shift', form='.1%')} is shifted along a chain")
    return f"Of the true foreground {', '.join(shares)}."


def _segment_lines(audit: Audit) -> list[str]:
    """Returns how many segments flip, and those too small to count."""
    # The last row of the table.
    all_classes = records_of(audit.objects.flips.iloc[[-1]])[0]
    which_segments = _size_in_words(audit)
    if all_classes["segments"]:
        flip = with_its_interval(all_classes, "seg_flip")
        other_class = ""
        if all_classes["matched"]:
            strict = with_its_interval(all_classes, "strict_flip")
            matched = f"of {all_classes['matched']:,} that a predicted one matches (IoU above 1/2)"
            other_class = f"; {matched}, {strict} have another class"
        return [f"Of {all_classes['segments']:,} true segments{which_segments} {flip} flip{other_class}."]
    if audit.measured.segments_left_out:
        return [f"No true segment{which_segments}."]
    return []


def _size_in_words(audit: Audit) -> str:
    """Returns which segments are counted, in words that follow `segments`; nothing if all are."""
    measured = audit.measured
    if not measured.segments_left_out:
        return ""
    return f" of {measured.min_size} and more ({measured.segments_left_out:,} smaller ones left out)"


def _score_lines(audit: Audit) -> list[str]:
    """Returns how well flip-risk and scene-swap risk rank flipped images, and what repair by the latter changes."""
    if not audit.risk_ranks_images:
        return _unranked_score_lines(audit)
    lines = []
    share_of_tenth = audit.number("top_decile_flip_share")
    if audit.has_tenths and not math.isnan(share_of_tenth):
        lines.append(f"The tenth of the images with the highest flip-risk holds {share_of_tenth:.0%} of all flips.")
    if not math.isnan(audit.number("risk_auroc")):
        auroc = cell_of(audit, "risk_auroc", form=".2f")
        lines.append(f"Flip-risk ranks images flipped by more than half with AUROC {auroc} (chance: 0.5).")
    if "swap_auroc" in audit.summary:
        lines.append(_swap_line(audit))
        lines.append(REPAIR_NOTE)
    return lines


def _unranked_score_lines(audit: Audit) -> list[str]:
    """Returns why scores rank no images, where all that have one have the same; masks have none."""
    risk = np.asarray(audit.decomposition.flip_risk)
    known = risk[~np.isnan(risk)]
    if not audit.has_scores or len(known) < 2:
        return []
    return [f"Flip-risk is {known[0]:.3f} in every image, so that it ranks none: no AUROC, no deciles."]


def _swap_line(audit: Audit) -> str:
    """Returns how well scene-swap risk ranks, Flip after repair, and how much scenes decide if that is measured."""
    auroc = cell_of(audit, "swap_auroc", form=".2f")
    repaired = cell_of(audit, "repair_flip", form=".1%")
    reliance = ""
    if "scene_reliance" in audit.summary:
        reliance = f"; scene reliance {audit.number('scene_reliance'):.2f}"
    return f"Scene-swap risk ranks flipped images with AUROC {auroc}; Flip after repair {repaired}{reliance}."


def _warning_lines(audit: Audit) -> list[str]:
    """Returns warnings on mismatched labels, unranked images, rounded predictions and ignored pixels."""
    return [*_agreement_lines(audit), *_unranked_lines(audit), *_rounding_lines(audit), *_ignored_lines(audit)]


def _agreement_lines(audit: Audit) -> list[str]:
    """Returns a warning if labels seem to be in another order than predictions."""
    kappa = cohens_kappa(audit.weighted_confusion)
    if kappa >= LEAST_AGREEMENT:
        return []
    return [
        "Warning: predictions and labels agree hardly better than chance (Cohen's kappa "
        f"{kappa:.3f}). Are the labels in the order of the predictions?"
    ]


def cohens_kappa(confusion: np.ndarray) -> float:
    """Returns the agreement of predictions and labels beyond chance; 1 where one class is all there is.

    Source: Cohen, A coefficient of agreement for nominal scales, 1960.

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


def _unranked_lines(audit: Audit) -> list[str]:
    """Returns how many images have no flip-risk, if any."""
    without = audit.number("n_images_without_risk")
    if not without or not audit.has_scores:
        return []
    return [f"{without} of {len(audit.images)} images lack true or predicted foreground: they have no rank."]


def _rounding_lines(audit: Audit) -> list[str]:
    """Returns a warning if no prediction is uncertain anywhere."""
    risk = np.asarray(audit.decomposition.flip_risk)
    if (risk == 0).any() and not (risk > 0).any():
        return ["Warning: flip-risk is 0 in every image. Were the predictions rounded to 0 and 1?"]
    return []


def _ignored_lines(audit: Audit) -> list[str]:
    """Returns the share of pixels that are ignored, if any."""
    ignored = audit.images["ignored_pixels"].sum()
    if not ignored:
        return []
    return [f"{ignored / (audit.pixel_confusion.sum() + ignored):.1%} of the pixels are ignored."]
