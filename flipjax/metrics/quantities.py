"""The quantities of images: each is one function, registered here with its title and unit. NumPy only.

There are two sorts:

- A *rate* is a part of a whole, such as flipped pixels of the true foreground. Its function returns part and whole of
  each image (`rate`, `pixel_rate`). The value of all images, or of a group, is the sum of the parts over the sum of the
  wholes; its interval (`flipjax.metrics.statistics.intervals`) and `FlipCounts` follow from the same sums.
- Any other number is a `quantity`. Its function takes `Images`, whose weights have a row for each of S resamples, and
  returns a value for each row, (S,), or for each row and each of C classes, F foreground classes or ten deciles:
  (S, C), (S, F) or (S, 10).

`flipjax.metrics.summarize`, results.csv and audits call these functions, for all images and for each group. The
docstring of a function describes its quantity among the attributes of `run.dataset`. The order of the functions is that
of the columns.

A new quantity is a function here; `flipjax.results.text` names those in the main tables of a run's page. If it needs
something that is not known of an image yet, that is a field of `Images`; ARCHITECTURE.md says who fills it.

Example:
    >>> from flipjax.metrics.decomposition import Decomposition
    >>> from flipjax.metrics.images import read_images
    >>> counts = np.array([[[4, 0, 0], [0, 3, 1], [0, 0, 0]]])
    >>> images = read_images(Decomposition(counts, np.zeros(1)), [1])
    >>> fg_flip(images.ratios).part.tolist(), images.pooled(fg_flip(images.ratios)).tolist()
    ([1], [0.25])
"""

from __future__ import annotations

import math

import numpy as np

from flipjax.metrics.decomposition import PixelRatios, Ratio, divide
from flipjax.metrics.images import Images
from flipjax.metrics.registry import (
    EVALUATORS,
    has_classes_in_scenes,
    has_evidence,
    has_pairs,
    has_regions,
    has_risk,
    has_rivals,
    has_scenes,
    has_swapped_groups,
    has_usual_scenes,
    pixel_mean,
    pixel_rate,
    quantity,
    rate,
    required,
)
from flipjax.metrics.scenes import flips as scene_flips
from flipjax.metrics.scenes.swap import scene_reliance as scene_reliance_of
from flipjax.metrics.scenes.swap import scene_shift as scene_shift_of
from flipjax.metrics.scenes.swap import scene_use
from flipjax.metrics.statistics import selective
from flipjax.metrics.statistics.ranking import rank_images

RIM = 0
"""Index of the rim on the last axis of `RegionSums`."""
INTERIOR = 1
"""Index of the interior on that axis."""

# Quantities of pixels and of rankings by flip-risk.


@quantity("n_images", "images", unit="images", resampled=False)
def n_images(images: Images) -> np.ndarray:
    """Images of the split and group."""
    return images.weights.sum(1).astype(np.int64)


@quantity("n_images_without_risk", "images without flip-risk", unit="images", resampled=False)
def n_images_without_risk(images: Images) -> np.ndarray:
    """Images without true or without predicted foreground: they have no rank by flip-risk."""
    return images.ranking.n_images_without_risk


@pixel_rate("fg_correct", "correct", better="up")
def fg_correct(pixels: PixelRatios) -> Ratio:
    """Share of the true foreground with the right label."""
    return pixels.correct


@pixel_rate("fg_flip", "flip", better="down")
def fg_flip(pixels: PixelRatios) -> Ratio:
    """Share of the true foreground labelled as another foreground."""
    return pixels.flip


@pixel_rate("fg_miss", "miss", better="down")
def fg_miss(pixels: PixelRatios) -> Ratio:
    """Share of the true foreground labelled as background."""
    return pixels.miss


@rate("flip_image_mean", "flip, image mean", better="down")
def flip_image_mean(images: Images) -> Ratio:
    """Mean over images of each image's flip share; images without true foreground have none."""
    return Ratio(np.nan_to_num(images.flip), ~np.isnan(images.flip) * 1.0)


@rate("flipped_images", "flipped images", better="down")
def flipped_images(images: Images) -> Ratio:
    """Share of the images with true foreground whose flip share is above 0.5."""
    return Ratio((images.flip > 0.5) * 1.0, ~np.isnan(images.flip) * 1.0)


@pixel_rate("iou/<class>", "IoU of <class>", better="up")
def iou(pixels: PixelRatios) -> Ratio:
    """Intersection over union of <class>, over all pixels."""
    return pixels.iou


@pixel_rate("iou/foreground", "foreground IoU", better="up")
def foreground_iou(pixels: PixelRatios) -> Ratio:
    """IoU of foreground, whatever the class."""
    return pixels.foreground_iou


@pixel_mean("mean_iou", "mean IoU", better="up", swept=False)
def mean_iou(pixels: PixelRatios) -> Ratio:
    """Mean IoU of the classes that occur in truth or prediction, the background's included."""
    return pixels.iou


@pixel_rate("dice/<class>", "Dice of <class>", better="up")
def dice(pixels: PixelRatios) -> Ratio:
    """Twice the intersection of truth and prediction of <class>, over the sum of both, over all pixels."""
    return pixels.dice


@pixel_rate("dice/foreground", "foreground Dice", better="up")
def foreground_dice(pixels: PixelRatios) -> Ratio:
    """Dice of foreground, whatever the class."""
    return pixels.foreground_dice


@pixel_mean("mean_dice", "mean Dice", better="up")
def mean_dice(pixels: PixelRatios) -> Ratio:
    """Mean Dice of the classes that occur in truth or prediction, the background's included."""
    return pixels.dice


@pixel_rate("flip/<foreground>", "flip of <foreground>", better="down", swept=False)
def class_flip(pixels: PixelRatios) -> Ratio:
    """Share of <foreground> labelled as another foreground class."""
    return pixels.class_flip


@pixel_rate("miss/<foreground>", "miss of <foreground>", better="down", swept=False)
def class_miss(pixels: PixelRatios) -> Ratio:
    """Share of <foreground> labelled as background."""
    return pixels.class_miss


@quantity("flip_risk_mean", "mean flip-risk", unit="nats", needs=has_risk, swept=False)
def flip_risk_mean(images: Images) -> np.ndarray:
    """Mean over the images of flip-risk; images without predicted foreground have none."""
    predicted = images.where(~np.isnan(images.flip_risk))
    return divide(predicted.total(predicted.flip_risk), predicted.weights.sum(1))


@quantity("flip_risk_share", "mean flip-risk as a share of log F", unit="share", needs=has_risk, swept=False)
def flip_risk_share(images: Images) -> np.ndarray:
    """Mean flip-risk over the log of the number of foreground classes, the largest it can be."""
    return flip_risk_mean(images) / math.log(len(images.foreground))


@quantity("risk_auroc", "flip-risk AUROC", unit="share", better="up", resampled=False)
def risk_auroc(images: Images) -> np.ndarray:
    """How well flip-risk ranks images with a flip share above 0.5 over the others; 0.5 is chance."""
    return images.ranking.risk_auroc


@quantity("risk_aurc", "flip-risk AURC", unit="share", better="down")
def risk_aurc(images: Images) -> np.ndarray:
    """Area under the risk-coverage curve.

    The mean flip share of the k images with the lowest flip-risk, averaged over k.
    """
    return images.ranking.risk_aurc


@quantity("top_decile_flip_share", "top-decile flip share", unit="share", better="up")
def top_decile_flip_share(images: Images) -> np.ndarray:
    """Part of all flip shares in the tenth of the images with the highest flip-risk; 0.1 is chance."""
    return images.ranking.top_decile_flip_share


@quantity("top_decile_ceiling", "top-decile ceiling", unit="share")
def top_decile_ceiling(images: Images) -> np.ndarray:
    """The largest top-decile flip share of any ranking of these images."""
    return images.ranking.top_decile_ceiling


@quantity("top_decile_of_ceiling", "top-decile gain over chance, of what is possible", unit="ratio", better="up")
def top_decile_of_ceiling(images: Images) -> np.ndarray:
    """Gain over chance of the top decile: (share - 0.1) / (ceiling - 0.1), with the largest share that is possible.

    0 is chance, 1 the ceiling; a ranking worse than chance is negative. Comparable over rho.
    """
    return images.ranking.top_decile_of_ceiling


@quantity("risk_decile", "mean flip-risk", unit="nats", swept=False)
def risk_decile(images: Images) -> np.ndarray:
    """Mean flip-risk of each tenth of the images, sorted by flip-risk."""
    return images.ranking.risk_decile


@quantity("flip_by_risk_decile", "mean flip share", unit="share", swept=False)
def flip_by_risk_decile(images: Images) -> np.ndarray:
    """Mean flip share of each tenth of the images, sorted by flip-risk."""
    return images.ranking.flip_by_risk_decile


# Quantities that compare groups.


@quantity(
    "gap/<foreground>",
    "IoU gap of <foreground>",
    unit="difference of shares",
    better="down",
    across=True,
    needs=has_classes_in_scenes,
)
def gap(images: Images) -> np.ndarray:
    """IoU of <foreground> in its common groups minus that in its rare groups; 0: the scene does not matter."""
    return images.common_minus_rare(images.group_ious)


@quantity("gap/mean", "IoU gap", unit="difference of shares", better="down", across=True, needs=has_classes_in_scenes)
def gap_mean(images: Images) -> np.ndarray:
    """Mean of the classes' IoU gaps."""
    return gap(images).mean(1)


@quantity("worst_group_iou", "worst-group IoU", unit="share", better="up", across=True, needs=has_classes_in_scenes)
def worst_group_iou(images: Images) -> np.ndarray:
    """The lowest over all groups of the IoU of the group's class."""
    return images.group_ious.min(1)


@quantity(
    "gap_in_dice/<foreground>",
    "Dice gap of <foreground>",
    unit="difference of shares",
    better="down",
    across=True,
    needs=has_classes_in_scenes,
)
def dice_gap(images: Images) -> np.ndarray:
    """Dice of <foreground> in its common groups minus that in its rare groups; 0: the scene does not matter."""
    return images.common_minus_rare(images.group_dices)


@quantity(
    "gap_in_dice/mean",
    "Dice gap",
    unit="difference of shares",
    better="down",
    across=True,
    needs=has_classes_in_scenes,
)
def dice_gap_mean(images: Images) -> np.ndarray:
    """Mean of the classes' Dice gaps."""
    return dice_gap(images).mean(1)


@quantity("worst_group_dice", "worst-group Dice", unit="share", better="up", across=True, needs=has_classes_in_scenes)
def worst_group_dice(images: Images) -> np.ndarray:
    """The lowest over all groups of the Dice of the group's class."""
    return images.group_dices.min(1)


@quantity("scene_pull", "pull of the scene", unit="share", better="down", across=True, needs=has_rivals)
def scene_pull(images: Images) -> np.ndarray:
    """Share of the flips in rare groups that go to a class whose usual scene the image shows.

    By chance it is 1 / (F - 1) of F classes, each with a scene of its own.
    """
    counts = scene_flips.pull_counts(images.confusion, images.group, images.scene_groups, images.background)
    flips, pulled = images.total(counts).T
    return divide(pulled, flips)


# Quantities of predictions on other scenes.


@quantity("swap_auroc", "scene-swap AUROC", unit="share", better="up", needs=has_scenes, resampled=False)
def swap_auroc(images: Images) -> np.ndarray:
    """How well scene-swap risk ranks images with a flip share above 0.5 over the others.

    Judge it on all groups: in rare groups alone any detector of 'the prediction agrees with the scene' does well.
    """
    risk = np.where(np.isnan(images.flip), np.nan, images.swap.risk)
    return selective.auroc(risk, images.flip > 0.5, weights=images.weights)


@quantity("swap_aurc", "scene-swap AURC", unit="share", better="down", needs=has_scenes, resampled=False)
def swap_aurc(images: Images) -> np.ndarray:
    """As flip-risk AURC, ranked by scene-swap risk."""
    return rank_images(images.flip, images.swap.risk, images.weights).risk_aurc


@rate("repair_flip", "flip after repair", better="down", needs=has_scenes)
def repair_flip(images: Images) -> Ratio:
    """Flip once each predicted region has the class predicted on other scenes.

    On data with the training's rho the repair raises Flip.
    """
    return images.repaired.ratios.flip


@rate("repair_correct", "correct after repair", better="up", needs=has_scenes)
def repair_correct(images: Images) -> Ratio:
    """Correct with the repaired labels."""
    return images.repaired.ratios.correct


@quantity(
    "repair_worst_iou",
    "worst-group IoU after repair",
    unit="share",
    better="up",
    across=True,
    needs=has_swapped_groups,
)
def repair_worst_iou(images: Images) -> np.ndarray:
    """Worst-group IoU with the repaired labels."""
    return worst_group_iou(images.repaired)


@quantity(
    "scene_reliance", "scene reliance", unit="share", better="down", across=True, needs=has_scenes, weighted=False
)
def scene_reliance(images: Images) -> np.ndarray:
    """Share of the variance of a region's log-odds that is due to the scene; needs no labels.

    It does not show whether the model recognises the class.
    """
    return np.array([scene_reliance_of(required(images.log_odds))])


@quantity(
    "scene_shift",
    "scene shift",
    unit="log-odds",
    better="down",
    across=True,
    needs=has_usual_scenes,
    weighted=False,
)
def scene_shift(images: Images) -> np.ndarray:
    """Nats by which a region's log-odds for a class rise from its other scenes to its usual ones; needs no labels."""
    return np.array([scene_shift_of(required(images.log_odds), images.scene_groups)])


@quantity("context_use", "context use", unit="ratio", better="down", across=True, needs=has_evidence, weighted=False)
def context_use(images: Images) -> np.ndarray:
    """Scene shift over the evidence of the scene, 2 log(rho / (1 - rho)).

    With more classes and scenes it is the slope of log-odds on log P(scene | class). Blank where scenes carry no
    evidence, as at rho 0.5, or all, as at 1.
    """
    return np.array([scene_use(required(images.log_odds), required(images.evidence))])


# Quantities of counterfactual pairs.


@quantity(
    "counterfactual_flip",
    "counterfactual flip",
    unit="share",
    better="down",
    across=True,
    needs=has_pairs,
    weighted=False,
)
def counterfactual_flip(images: Images) -> np.ndarray:
    """Share of the counterfactual pairs (one object in all scenes) whose predicted label changes with the scene.

    The label is the majority label of the region. Pairs with an image without region are left out. Needs no labels.
    """
    return np.array([scene_flips.counterfactual_flip(images.decomposition, required(images.pair))])


# Quantities of rims and interiors, and calibration.


@rate("rim_flip", "flip in the rim", better="down", needs=has_regions)
def rim_flip(images: Images) -> Ratio:
    """Flip of the pixels of true regions next to their outside."""
    regions = required(images.regions)
    return Ratio(np.asarray(regions.flips)[:, RIM], np.asarray(regions.true)[:, RIM])


@rate("interior_flip", "flip inside", better="down", needs=has_regions)
def interior_flip(images: Images) -> Ratio:
    """Flip of the other pixels of true regions: a wrong label flips rim and interior."""
    regions = required(images.regions)
    return Ratio(np.asarray(regions.flips)[:, INTERIOR], np.asarray(regions.true)[:, INTERIOR])


@quantity("rim_risk", "flip-risk in the rim", unit="nats", needs=has_regions)
def rim_risk(images: Images) -> np.ndarray:
    """Mean entropy of the rims of predicted regions."""
    regions = required(images.regions)
    return divide(images.total(regions.risk[:, RIM]), images.total(regions.predicted[:, RIM]))


@quantity("interior_risk", "flip-risk inside", unit="nats", needs=has_regions)
def interior_risk(images: Images) -> np.ndarray:
    """Mean entropy of the interiors of predicted regions; needs no labels, either."""
    regions = required(images.regions)
    return divide(images.total(regions.risk[:, INTERIOR]), images.total(regions.predicted[:, INTERIOR]))


@quantity("fg_ece", "foreground ECE", unit="share", better="down", needs=has_regions)
def fg_ece(images: Images) -> np.ndarray:
    """Expected calibration error of the class where truth and prediction are foreground.

    Confidence is the largest softmax over the foreground classes, in 15 bins: confident flips make the error large.
    """
    regions = required(images.regions)
    return divide(np.abs(images.total(regions.gaps)).sum(1), images.total(regions.shared))


SWEPT = [evaluator for evaluator in EVALUATORS if evaluator.swept]
"""The quantities that are columns of results.csv."""
