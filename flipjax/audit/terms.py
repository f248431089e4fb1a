"""What the words of an audit's page mean. `tests/audit/test_terms.py` holds each to the code that it describes."""

from flipjax.audit.flips import family_size
from flipjax.audit.measurements import EVERY_SIZE
from flipjax.audit.results import Audit
from flipjax.metrics.permutation import CORRECTION
from flipjax.results.verdicts import LEVEL

UNITS = {
    "class": "All {pixels} of a foreground class in {an_image}",
    "component": "A connected region of a foreground class",
    "instance": "An instance of the labels",
}
"""What a segment is, by the unit of segments."""


def terms_of(audit: Audit, unit: str) -> dict[str, str]:
    """Returns the terms of an audit's page with their meanings.

    Args:
        audit: the audit.
        unit: of segments.
    """
    measured = audit.measured
    pixels = measured.pixel_noun
    images = measured.image_noun
    unit_in_words = UNITS[unit].format(pixels=pixels, an_image="an image" if images == "images" else "a volume")
    size = "of every size"
    if measured.min_size != EVERY_SIZE:
        size = f"of {measured.min_size} and more"
    terms = {
        "correct, flip, miss": (
            "Shares of the true foreground predicted as its own class, as another foreground class, as background."
        ),
        "segment": (
            f"{unit_in_words}, {size}. It flips if at least half is predicted as one other foreground class; it is "
            "missed, or correct, if more is predicted as background, or as its class, than as any other; else mixed."
        ),
        "IoU, Dice": (
            f"Of the {pixels} of a class, pooled over {images}: those in truth and prediction, over those in either "
            "(IoU), and twice over the true plus the predicted ones (Dice). A class in neither has none. Where Dice is "
            f"averaged over {images}, as MONAI does, it differs."
        ),
        "[95% interval]": (
            f"Of a rate over {_units(audit)}: Korn and Graubard's (1998). Where nothing flips in n, it ends at about "
            f"3.7 / n. A narrow one of {pixels} does not exclude that a whole segment flips."
        ),
    }
    if audit.compared:
        terms["q"] = (
            f"The probability of such a difference by chance: permutation of {_units(audit)} within the class, "
            f"corrected for {family_size(audit.compared)} comparisons ({CORRECTION}). A group differs below "
            f"{LEVEL:g}."
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
