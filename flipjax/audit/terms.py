"""What the words of an audit's page mean. `tests/audit/test_terms.py` holds each to the code that it describes."""

from flipjax.audit.measurements import EVERY_SIZE
from flipjax.audit.results import Audit
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
        "by " + measured.weight: _weight_in_words(measured.weight, pixels),
        "correct, flip, miss": (
            "Shares of the true foreground predicted as its own class, as another foreground class, and as background. "
            "They sum to 1."
        ),
        "segment": (
            f"{unit_in_words}, {size}. It is correct if most of it is predicted as its class; it flips if at least "
            "half is predicted as one other foreground class; it is missed if most is predicted as background; else "
            "it is mixed. Most means more than as any other class."
        ),
        "StrictFlip": (
            "True and predicted segments are matched at IoU above 1/2, whatever their class (panoptic quality). "
            "StrictFlip is the share of the matches whose classes differ."
        ),
        "[95% interval]": (
            f"Of a rate over {_units(audit)}: Korn and Graubard's (1998). Where nothing flips in n, its upper end is "
            "about 3.7 / n. Narrow intervals of pixels do not exclude that a whole segment flips: read them beside the "
            f"share of {images} in which one does."
        ),
    }
    if audit.compared:
        terms["q"] = (
            f"The probability of such a difference by chance, by permutation of {_units(audit)} within the class, "
            "corrected for the number of comparisons (Benjamini and Hochberg). A group is said to differ where q is "
            f"below {LEVEL:g}."
        )
    if "gap/mean" in audit.summary:
        terms["common, rare"] = "Images of a class in its usual scenes, and in other scenes."
        terms["IoU gap"] = "IoU of a class in its common groups minus that in its rare groups."
    if audit.ranks:
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


def _weight_in_words(weight: str, pixels: str) -> str:
    """Returns what it means that rates are by this weight."""
    if weight == pixels:
        return f"Every rate counts each of the {pixels} once."
    return f"Every rate counts {pixels} by their {weight}, because spacings differ; those of one image are the same."
