"""Names, units, directions and definitions of all quantities.

A quantity has the key of `flipjax.metrics.summarize`, in which `<class>` stands for each class and `<foreground>` for
each foreground class. Its column in results.csv is the key with `_` for `/`. Tables, figures and pages take titles from
here, so adding a quantity takes an entry here and a function that computes it.
"""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

from flipjax.metrics.classes import Background, is_foreground


class Quantity(NamedTuple):
    """One quantity. `better` is 'up', 'down' or '' for neither; `unit` is a key of RANGES.

    `across` marks quantities that compare groups and do not exist within one group.
    """

    key: str
    title: str
    unit: str
    better: str
    meaning: str
    across: bool = False


RANGES = {
    "share": (0.0, 1.0),
    "difference of shares": (-1.0, 1.0),
    "nats": (0.0, math.inf),
    "images": (0.0, math.inf),
    "log-odds": (-math.inf, math.inf),
    "ratio": (-math.inf, math.inf),
}
"""Units, and the least and the largest value that a quantity of it can have."""


def _by_key(*quantities: Quantity) -> dict[str, Quantity]:
    return {quantity.key: quantity for quantity in quantities}


# fmt: off
QUANTITIES = _by_key(
    Quantity("n_images", "images", "images", "", "Images of the split and group."),
    Quantity("n_images_without_risk", "images without flip-risk", "images", "",
             "Images without true or without predicted foreground: they have no rank by flip-risk."),
    Quantity("fg_correct", "correct", "share", "up", "Share of the true foreground with the right label."),
    Quantity("fg_flip", "flip", "share", "down", "Share of the true foreground labelled as another foreground."),
    Quantity("fg_miss", "miss", "share", "down", "Share of the true foreground labelled as background."),
    Quantity("flip_image_mean", "flip, image mean", "share", "down",
             "Mean over images of each image's flip share; images without true foreground have none."),
    Quantity("flipped_images", "flipped images", "share", "down",
             "Share of the images with true foreground whose flip share is above 0.5."),
    Quantity("iou/<class>", "IoU of <class>", "share", "up", "Intersection over union of <class>, over all pixels."),
    Quantity("iou/foreground", "foreground IoU", "share", "up", "IoU of foreground, whatever the class."),
    Quantity("risk_auroc", "flip-risk AUROC", "share", "up",
             "How well flip-risk ranks images with a flip share above 0.5 over the others; 0.5 is chance."),
    Quantity("risk_aurc", "flip-risk AURC", "share", "down",
             "Area under the risk-coverage curve: mean flip share of the k images with the lowest flip-risk, "
             "averaged over k."),
    Quantity("top_decile_flip_share", "top-decile flip share", "share", "up",
             "Part of all flip shares in the tenth of the images with the highest flip-risk; 0.1 is chance."),
    Quantity("top_decile_ceiling", "top-decile ceiling", "share", "",
             "The largest top-decile flip share of any ranking of these images."),
    Quantity("top_decile_of_ceiling", "top-decile share of its ceiling", "ratio", "up",
             "Top-decile flip share above chance over its ceiling above chance: 0 is chance, 1 the ceiling; comparable "
             "over rho."),
    Quantity("gap/<foreground>", "IoU gap of <foreground>", "difference of shares", "down",
             "IoU of <foreground> in its common groups minus that in its rare groups; 0: the scene does not "
             "matter.", across=True),
    Quantity("gap/mean", "IoU gap", "difference of shares", "down", "Mean of the classes' IoU gaps.", across=True),
    Quantity("worst_group_iou", "worst-group IoU", "share", "up",
             "The lowest over all groups of the IoU of the group's class.", across=True),
)

PULL_QUANTITIES = _by_key(
    Quantity("scene_pull", "pull of the scene", "share", "down",
             "Share of the flips in rare groups that go to a class whose usual scene the image shows; by chance it is "
             "1 / (F - 1) of F classes, each with a scene of its own.", across=True),
)
"""Columns of a run of three classes or more: of two, every rare flip goes to the class of the scene."""

SCENE_QUANTITIES = _by_key(
    Quantity("swap_auroc", "scene-swap AUROC", "share", "up",
             "How well scene-swap risk ranks images with a flip share above 0.5 over the others. Judge it on all "
             "groups: in rare groups alone any detector of 'the prediction agrees with the scene' does well."),
    Quantity("swap_aurc", "scene-swap AURC", "share", "down", "As flip-risk AURC, ranked by scene-swap risk."),
    Quantity("repair_flip", "flip after repair", "share", "down",
             "Flip once each predicted region has the class predicted on other scenes. It raises Flip on data "
             "with the training's rho."),
    Quantity("repair_correct", "correct after repair", "share", "up", "Correct with the repaired labels."),
    Quantity("repair_worst_iou", "worst-group IoU after repair", "share", "up",
             "Worst-group IoU with the repaired labels.", across=True),
    Quantity("scene_reliance", "scene reliance", "share", "down",
             "Share of the variance of a region's log-odds that is due to the scene; needs no labels. It does not "
             "show whether the model knows the class.", across=True),
    Quantity("scene_shift", "scene shift", "log-odds", "down",
             "Nats by which a region's log-odds for a class rise from its other scenes to its usual ones; needs no "
             "labels.", across=True),
    Quantity("context_use", "context use", "ratio", "down",
             "Scene shift over the evidence of the scene, 2 log(rho / (1 - rho)); with more classes and scenes the "
             "slope of log-odds on log P(scene | class). Blank where scenes carry no evidence, as at rho 0.5, or "
             "all, as at 1.", across=True),
)
"""Quantities of `flipjax.intervene`: columns of a run whose scenes were swapped."""

PAIR_QUANTITIES = _by_key(
    Quantity("counterfactual_flip", "counterfactual flip", "share", "down",
             "Share of the counterfactual pairs (one object in all scenes) whose predicted label, the majority "
             "label of the region, changes with the scene. Pairs with an image without region are left out. "
             "Needs no labels.", across=True),
)
"""Quantities of pairs: a column of a run whose images are composed."""

REGION_QUANTITIES = _by_key(
    Quantity("rim_flip", "flip in the rim", "share", "down",
             "Flip of the pixels of true regions next to their outside."),
    Quantity("interior_flip", "flip inside", "share", "down",
             "Flip of their other pixels: a wrong label flips rim and interior."),
    Quantity("rim_risk", "flip-risk in the rim", "nats", "", "Mean entropy of the rims of predicted regions."),
    Quantity("interior_risk", "flip-risk inside", "nats", "",
             "Mean entropy of their interiors; needs no labels, either."),
    Quantity("fg_ece", "foreground ECE", "share", "down",
             "Expected calibration error of the class where truth and prediction are foreground, of softmaxes "
             "over the foreground classes in 15 bins: confident flips make it large."),
)
"""Quantities of rims and interiors, and of calibration: columns of every run, of an audit and of an evaluation."""

SCORE_QUANTITIES = _by_key(
    Quantity("auroc", "AUROC", "share", "up",
             "How well the score ranks images with a flip share above 0.5 over the others."),
    Quantity("aurc", "AURC", "share", "down", "As flip-risk AURC, ranked by the score."),
    Quantity("excess_aurc", "E-AURC", "share", "down", "AURC less that of the best ranking there is."),
    Quantity("augrc", "AUGRC", "share", "down",
             "Area under the risk times the coverage: the mean risk of silent failure."),
    Quantity("val_coverage", "coverage, validation", "share", "up",
             "Share of the validation images at or below the threshold."),
    Quantity("val_risk", "risk, validation", "share", "down",
             "Their mean flip share, over all groups at most the wanted one."),
    Quantity("test_coverage", "coverage, test", "share", "up", "Share of the test images at or below that threshold."),
    Quantity("test_risk", "risk, test", "share", "down",
             "Their mean flip share."),
)
"""Quantities of a score of images: columns of scores.csv, as `<key>_<side>`."""

AUDIT_QUANTITIES = _by_key(
    Quantity("mean_iou", "mean IoU", "share", "up",
             "Mean IoU of the classes that occur in truth or prediction, the background's included."),
    Quantity("flip/<foreground>", "flip of <foreground>", "share", "down",
             "Share of <foreground> labelled as another foreground class."),
    Quantity("flip_gap/mean", "flip, rare minus common", "difference of shares", "down",
             "Flip of rare minus common groups within each class, averaged over the classes that have both.",
             across=True),
    Quantity("flip_risk_mean", "mean flip-risk", "nats", "", "Mean over the images of flip-risk."),
    Quantity("flip_risk_share", "mean flip-risk as a share of log F", "share", "",
             "Mean flip-risk over the log of the number of foreground classes, the largest it can be."),
    Quantity("seg_flip", "SegFlip", "share", "down",
             "Share of the true segments of which at least half is one other foreground class."),
    Quantity("strict_flip", "StrictFlip", "share", "down",
             "Share with another class of the true segments that a predicted one matches at IoU above 1/2."),
)
"""Quantities of an audit beside those of a sweep: no columns of results.csv."""

DECILES = _by_key(
    Quantity("risk_decile", "mean flip-risk", "nats", "",
             "Mean flip-risk of each tenth of the images, sorted by flip-risk."),
    Quantity("flip_by_risk_decile", "mean flip share", "share", "",
             "Mean flip share of each tenth of the images, sorted by flip-risk."),
)
"""Quantities that are lists of ten: no columns of results.csv."""

IMAGE_QUANTITIES = _by_key(
    Quantity("correct", "correct", "share", "up", "Share of the image's true foreground labelled right."),
    Quantity("flip", "flip", "share", "down", "Share of it labelled as another foreground class."),
    Quantity("miss", "miss", "share", "down", "Share of it labelled as background."),
    Quantity("spill", "spill", "share", "down", "Share of the true background labelled as foreground."),
    Quantity("flip_risk", "flip-risk", "nats", "",
             "Mean entropy of the foreground classes over the predicted foreground."),
)
"""Quantities of one image: properties of `flipjax.metrics.Decomposition`."""

SCENE_IMAGE_QUANTITIES = _by_key(
    Quantity("swap_risk", "scene-swap risk", "nats", "",
             "Log-odds against the label of the region on other scenes; above 0 the model predicts another class "
             "there."),
    Quantity("repaired_flip", "flip after repair", "share", "down",
             "Flip once the whole region has the class predicted on other scenes."),
)
"""Quantities of one image whose scene was swapped: see `flipjax.results.rows`."""
# fmt: on

COLUMNS = QUANTITIES | PULL_QUANTITIES | SCENE_QUANTITIES | PAIR_QUANTITIES | REGION_QUANTITIES
"""All that is a column of results.csv."""
KNOWN = COLUMNS | SCORE_QUANTITIES | AUDIT_QUANTITIES | DECILES
PER_CLASS = ("iou", "gap")
"""Beginnings of the columns that each class has."""

GROUP_TITLES = {"all": "", "common": "common", "rare": "rare"}
"""Titles of groups; others are numbers."""


def of_classes(class_names: Sequence[str], *, background: Background = 0) -> dict[str, Quantity]:
    """Returns QUANTITIES in order, with `<class>` and `<foreground>` expanded to the named classes.

    Example:
        >>> list(of_classes(("background", "cat", "dog")))[7:11]
        ['iou/background', 'iou/cat', 'iou/dog', 'iou/foreground']
    """
    foreground = list(itertools.compress(class_names, is_foreground(len(class_names), background)))
    table: dict[str, Quantity] = {}
    for key, quantity in QUANTITIES.items():
        names = class_names if "<class>" in key else foreground if "<foreground>" in key else [""]
        table |= _by_key(*(_named(quantity, name) for name in names))
    return table


def _named(quantity: Quantity, name: str) -> Quantity:
    texts = (text.replace("<class>", name).replace("<foreground>", name) for text in quantity[:5])
    return Quantity(*texts, across=quantity.across)


def column(key: str) -> str:
    """Returns a key's column in results.csv.

    Example:
        >>> column("iou/cat")
        'iou_cat'
    """
    return key.replace("/", "_")


def key_of(column: str, group: str = "all") -> str:
    """Returns the key of a column of results.csv in the rows of a group.

    Example:
        >>> key_of("iou_cat"), key_of("fg_flip", "rare")
        ('iou/cat', 'group/rare/fg_flip')
    """
    prefix, mark, name = column.partition("_")
    key = f"{prefix}/{name}" if mark and prefix in PER_CLASS else column
    return key if group == "all" else f"group/{group}/{key}"


def quantity_of(key: str) -> Quantity:
    """Returns the quantity of a key of `summarize`, with or without a group; a KeyError lists the valid keys.

    Example:
        >>> quantity_of("group/rare/fg_flip").title, quantity_of("group/1/iou/cat").title, quantity_of("gap/mean").title
        ('flip', 'IoU of cat', 'IoU gap')
    """
    quantity = find_quantity(key)
    if quantity is None:
        raise KeyError(f"quantity: expected one of {', '.join(COLUMNS | DECILES)}; found {key!r}")
    return quantity


def find_quantity(key: str) -> Quantity | None:
    """Returns the quantity of a key, or None."""
    base = _split(key)[1]
    if "<" not in base and base in KNOWN:
        return KNOWN[base]
    prefix, _, name = base.partition("/")
    found = [KNOWN[f"{prefix}/{each}"] for each in ("<class>", "<foreground>") if f"{prefix}/{each}" in KNOWN]
    return _named(found[0], name) if found and name else None


def title_of(key: str) -> str:
    """Returns the title of a quantity, with its group.

    Example:
        >>> title_of("group/rare/fg_flip"), title_of("group/1/iou/cat"), title_of("risk_auroc")
        ('flip, rare', 'IoU of cat, group 1', 'flip-risk AUROC')
    """
    group = _split(key)[0]
    words = [quantity_of(key).title, GROUP_TITLES.get(group, f"group {group}")]
    return ", ".join(word for word in words if word)


def _split(key: str) -> tuple[str, str]:
    """Splits a key into its group and the key within the group."""
    _, group, base = key.split("/", 2) if key.startswith("group/") and key.count("/") > 1 else ("", "all", key)
    return group, base
