"""The quantities of a run: each is one function of a member's images, registered here with its title and unit.

A function takes `Images` and returns a value for each resample, (S,), or for each resample and class, (S, C) or (S, F).
The same function fills the rows of results.csv, for all images and for each group, and gives intervals over resampled
images. The order of the functions is that of the columns. A new quantity is a function here; if it needs something that
is not stored yet, a field of `flipjax.results.store.ImageResults` as well.

Example:
    >>> counts = np.array([[[4, 0, 0], [0, 3, 1], [0, 0, 0]]])
    >>> names = ("background", "cat", "dog")
    >>> one, none = np.array([1]), np.array([-1])
    >>> images = Images(names, Groups(), group=one, pair=none, confusion=counts, risk_sum=np.zeros(1))
    >>> fg_flip(images).tolist(), fg_flip(images.of_group("common")).tolist()
    ([0.25], [nan])
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property

import numpy as np

from flipjax.groups import Groups
from flipjax.metrics import selective
from flipjax.metrics.decomposition import Decomposition, Margins, Rates, RegionSums, divide, margins, rates
from flipjax.metrics.log_odds import SceneSwap, scene_reliance, scene_shift, scene_swap, scene_use
from flipjax.metrics.summary import Ranking, pull_counts, rank_images
from flipjax.results import pairs

ALL = "all"
RIM, INTERIOR = 0, 1


@dataclasses.dataclass(frozen=True)
class Images:
    """Stored results of one member on N images of F foreground classes, by one selection rule.

    Attributes:
        class_names: of the C classes, background first.
        groups: what `group` numbers.
        group: int (N,).
        pair: int (N,), the number that images of one object share, or -1.
        confusion: int (N, C, C), rows truth.
        risk_sum: float (N,), nats.
        regions: leaves (N, ...), or None if not stored.
        log_odds: (N, scenes, F) on other scenes, or None if no scenes were swapped.
        center: (F,), the split point of the log-odds.
        evidence: (scenes, F), log P(scene | class) in training.
        weights: (S, N), how often each resample holds each image; None: each image once.
    """

    class_names: tuple[str, ...]
    groups: Groups
    group: np.ndarray
    pair: np.ndarray
    confusion: np.ndarray
    risk_sum: np.ndarray
    regions: RegionSums | None = None
    log_odds: np.ndarray | None = None
    center: np.ndarray | None = None
    evidence: np.ndarray | None = None
    weights: np.ndarray | None = None

    def where(self, inside: np.ndarray) -> Images:
        """Returns some of the images; `inside` is bool (N,)."""
        return dataclasses.replace(
            self,
            group=self.group[inside],
            pair=self.pair[inside],
            confusion=self.confusion[inside],
            risk_sum=self.risk_sum[inside],
            regions=None if self.regions is None else RegionSums(*(leaf[inside] for leaf in self.regions)),
            log_odds=None if self.log_odds is None else self.log_odds[inside],
            weights=None if self.weights is None else self.weights[:, inside],
        )

    def of_group(self, name: str) -> Images:
        """Returns the images of a group by its name, such as `rare` or `2`; `all` are all."""
        if name == ALL:
            return self
        return self.where(self.on_side(name))

    def on_side(self, name: str) -> np.ndarray:
        """Returns which images are in a group, bool (N,)."""
        if name == ALL:
            return np.ones(len(self.group), bool)
        return np.isin(self.group, self.groups.named[name])

    @cached_property
    def counts(self) -> np.ndarray:
        """How often each resample holds each image, float64 (S, N)."""
        if self.weights is None:
            return np.ones((1, len(self.group)))
        return self.weights

    def total(self, values: np.ndarray) -> np.ndarray:
        """Returns the sums over images (N, ...) in each resample, float64 (S, ...)."""
        return np.tensordot(self.counts, np.asarray(values, np.float64), axes=1)

    @cached_property
    def decomposition(self) -> Decomposition:
        """The images' decomposition; leaves (N, C, C) and (N,), exact."""
        return Decomposition(self.confusion.astype(np.int64), self.risk_sum.astype(np.float64))

    @cached_property
    def flip(self) -> np.ndarray:
        """The flip share of each image (N,), NaN without true foreground."""
        return self.decomposition.flip

    @cached_property
    def flip_risk(self) -> np.ndarray:
        """The flip-risk of each image (N,), NaN without predicted foreground."""
        return self.decomposition.flip_risk

    @cached_property
    def rates(self) -> Rates:
        """Shares and IoU of the pixels pooled over the images, (S, ...)."""
        sums = [self.total(counts).astype(np.int64) for counts in margins(self.decomposition.confusion)]
        return rates(Margins(*sums))

    @cached_property
    def ranking(self) -> Ranking:
        """What follows from sorting the images by flip-risk."""
        return rank_images(self.flip, self.flip_risk, self.counts)

    @cached_property
    def swap(self) -> SceneSwap:
        """Scene-swap risk and repaired counts."""
        return scene_swap(self.decomposition, self.log_odds, self.center)

    @cached_property
    def repaired(self) -> Images:
        """The images with their labels repaired."""
        return dataclasses.replace(self, confusion=self.swap.repaired.confusion)

    @cached_property
    def group_ious(self) -> np.ndarray:
        """The IoU of each group's own class in the group, (S, groups)."""
        ious = []
        for group in range(self.groups.count):
            own_class = self.groups.class_of(group) + 1
            ious.append(self.of_group(str(group)).rates.iou[:, own_class])
        return np.stack(ious, axis=1)


Compute = Callable[[Images], np.ndarray]
Condition = Callable[[Images], bool]


@dataclasses.dataclass(frozen=True)
class Quantity:
    """What a number means.

    Attributes:
        key: as in `flipjax.metrics.summarize`; `<class>` stands for each class, `<foreground>` for each foreground one.
        title: for tables and charts.
        unit: a key of `flipjax.results.quantities.RANGES`.
        better: 'up', 'down' or '' for neither.
        meaning: one or two sentences.
        across: whether it compares groups and does not exist within one.
        passes: of a score of images, the forward passes that it takes.
    """

    key: str
    title: str
    unit: str
    better: str = ""
    meaning: str = ""
    across: bool = False
    passes: str = ""


@dataclasses.dataclass(frozen=True)
class Evaluator:
    """A quantity, its function, whether images have what it needs, and whether it has an interval over images."""

    quantity: Quantity
    compute: Compute
    exists: Condition
    resampled: bool


EVALUATORS: list[Evaluator] = []
"""All of them, in the order of the columns of results.csv."""


def _always(images: Images) -> bool:
    return True


def has_rivals(images: Images) -> bool:
    """Returns whether a flip can go to one of several classes."""
    return images.groups.classes > 2


def has_scenes(images: Images) -> bool:
    """Returns whether scenes were swapped."""
    return images.log_odds is not None


def has_pairs(images: Images) -> bool:
    """Returns whether images show one object in all scenes."""
    return bool((images.pair >= 0).any())


def has_regions(images: Images) -> bool:
    """Returns whether sums over regions are stored."""
    return images.regions is not None


def quantity(
    key: str,
    title: str,
    *,
    unit: str,
    better: str = "",
    across: bool = False,
    needs: Condition = _always,
    resampled: bool = True,
) -> Callable[[Compute], Compute]:
    """Registers a function as the quantity `key`, with its docstring as the meaning; see `Quantity`, `Evaluator`."""

    def register(compute: Compute) -> Compute:
        meaning = " ".join((compute.__doc__ or "").split())
        EVALUATORS.append(Evaluator(Quantity(key, title, unit, better, meaning, across), compute, needs, resampled))
        return compute

    return register


@dataclasses.dataclass(frozen=True)
class Value:
    """One number: a quantity of all images or of a group, (S,)."""

    key: str
    group: str
    value: np.ndarray


def evaluate(images: Images, *, groups: Sequence[str] = (), only: Sequence[Evaluator] = EVALUATORS) -> Iterator[Value]:
    """Yields every quantity that the images have, of each group.

    Args:
        images: of a member.
        groups: names; by default `all`, every group, `common` and `rare`.
        only: the evaluators.
    """
    parts = {name: images.of_group(name) for name in groups or (ALL, *images.groups.named)}
    for evaluator in only:
        if not evaluator.exists(images):
            continue
        for name, own in parts.items():
            if evaluator.quantity.across and name != ALL:
                continue
            values = evaluator.compute(own)
            for key, value in zip(
                keys_of(evaluator.quantity, images.class_names), np.atleast_2d(values.T), strict=True
            ):
                yield Value(key, name, value)


def keys_of(quantity: Quantity, class_names: tuple[str, ...]) -> list[str]:
    """Returns the keys of a quantity: one, or one for each class.

    Example:
        >>> keys_of(Quantity("gap/<foreground>", "", ""), ("background", "cat", "dog"))
        ['gap/cat', 'gap/dog']
    """
    if "<class>" in quantity.key:
        return [quantity.key.replace("<class>", name) for name in class_names]
    if "<foreground>" in quantity.key:
        return [quantity.key.replace("<foreground>", name) for name in class_names[1:]]
    return [quantity.key]


# Quantities of pixels and of rankings by flip-risk.


@quantity("n_images", "images", unit="images", resampled=False)
def n_images(images: Images) -> np.ndarray:
    """Images of the split and group."""
    return images.counts.sum(1)


@quantity("n_images_without_risk", "images without flip-risk", unit="images", resampled=False)
def n_images_without_risk(images: Images) -> np.ndarray:
    """Images without true or without predicted foreground: they have no rank by flip-risk."""
    return images.ranking.n_images_without_risk


@quantity("fg_correct", "correct", unit="share", better="up")
def fg_correct(images: Images) -> np.ndarray:
    """Share of the true foreground with the right label."""
    return images.rates.correct


@quantity("fg_flip", "flip", unit="share", better="down")
def fg_flip(images: Images) -> np.ndarray:
    """Share of the true foreground labelled as another foreground."""
    return images.rates.flip


@quantity("fg_miss", "miss", unit="share", better="down")
def fg_miss(images: Images) -> np.ndarray:
    """Share of the true foreground labelled as background."""
    return images.rates.miss


@quantity("flip_image_mean", "flip, image mean", unit="share", better="down")
def flip_image_mean(images: Images) -> np.ndarray:
    """Mean over images of each image's flip share; images without true foreground have none."""
    known = images.where(~np.isnan(images.flip))
    return divide(known.counts @ known.flip, known.counts.sum(1))


@quantity("flipped_images", "flipped images", unit="share", better="down")
def flipped_images(images: Images) -> np.ndarray:
    """Share of the images with true foreground whose flip share is above 0.5."""
    known = images.where(~np.isnan(images.flip))
    return divide(known.total(known.flip > 0.5), known.counts.sum(1))


@quantity("iou/<class>", "IoU of <class>", unit="share", better="up")
def iou(images: Images) -> np.ndarray:
    """Intersection over union of <class>, over all pixels."""
    return images.rates.iou


@quantity("iou/foreground", "foreground IoU", unit="share", better="up")
def foreground_iou(images: Images) -> np.ndarray:
    """IoU of foreground, whatever the class."""
    return images.rates.foreground_iou


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


@quantity("top_decile_of_ceiling", "top-decile share of its ceiling", unit="ratio", better="up")
def top_decile_of_ceiling(images: Images) -> np.ndarray:
    """Top-decile flip share above chance over its ceiling above chance.

    0 is chance, 1 the ceiling; comparable over rho.
    """
    return images.ranking.top_decile_of_ceiling


# Quantities that compare groups.


@quantity("gap/<foreground>", "IoU gap of <foreground>", unit="difference of shares", better="down", across=True)
def gap(images: Images) -> np.ndarray:
    """IoU of <foreground> in its common groups minus that in its rare groups; 0: the scene does not matter."""
    gaps = []
    for foreground_class in range(images.groups.classes):
        common, rare = images.groups.sides_of(foreground_class)
        of_common = images.group_ious[:, list(common)].T.mean(0)
        of_rare = images.group_ious[:, list(rare)].T.mean(0)
        gaps.append(of_common - of_rare)
    return np.stack(gaps, axis=1)


@quantity("gap/mean", "IoU gap", unit="difference of shares", better="down", across=True)
def gap_mean(images: Images) -> np.ndarray:
    """Mean of the classes' IoU gaps."""
    return gap(images).T.mean(0)


@quantity("worst_group_iou", "worst-group IoU", unit="share", better="up", across=True)
def worst_group_iou(images: Images) -> np.ndarray:
    """The lowest over all groups of the IoU of the group's class."""
    return images.group_ious.min(1)


@quantity("scene_pull", "pull of the scene", unit="share", better="down", across=True, needs=has_rivals)
def scene_pull(images: Images) -> np.ndarray:
    """Share of the flips in rare groups that go to a class whose usual scene the image shows.

    By chance it is 1 / (F - 1) of F classes, each with a scene of its own.
    """
    flips, pulled = images.total(pull_counts(images.confusion, images.group, images.groups)).T
    return divide(pulled, flips)


# Quantities of predictions on other scenes.


@quantity("swap_auroc", "scene-swap AUROC", unit="share", better="up", needs=has_scenes, resampled=False)
def swap_auroc(images: Images) -> np.ndarray:
    """How well scene-swap risk ranks images with a flip share above 0.5 over the others.

    Judge it on all groups: in rare groups alone any detector of 'the prediction agrees with the scene' does well.
    """
    return np.array([selective.auroc(images.swap.risk, images.flip > 0.5)])


@quantity("swap_aurc", "scene-swap AURC", unit="share", better="down", needs=has_scenes, resampled=False)
def swap_aurc(images: Images) -> np.ndarray:
    """As flip-risk AURC, ranked by scene-swap risk."""
    return np.array([selective.aurc(images.swap.risk, images.flip)])


@quantity("repair_flip", "flip after repair", unit="share", better="down", needs=has_scenes, resampled=False)
def repair_flip(images: Images) -> np.ndarray:
    """Flip once each predicted region has the class predicted on other scenes.

    It raises Flip on data with the training's rho.
    """
    return fg_flip(images.repaired)


@quantity("repair_correct", "correct after repair", unit="share", better="up", needs=has_scenes, resampled=False)
def repair_correct(images: Images) -> np.ndarray:
    """Correct with the repaired labels."""
    return fg_correct(images.repaired)


@quantity(
    "repair_worst_iou",
    "worst-group IoU after repair",
    unit="share",
    better="up",
    across=True,
    needs=has_scenes,
    resampled=False,
)
def repair_worst_iou(images: Images) -> np.ndarray:
    """Worst-group IoU with the repaired labels."""
    return worst_group_iou(images.repaired)


@quantity(
    "scene_reliance", "scene reliance", unit="share", better="down", across=True, needs=has_scenes, resampled=False
)
def reliance(images: Images) -> np.ndarray:
    """Share of the variance of a region's log-odds that is due to the scene; needs no labels.

    It does not show whether the model recognises the class.
    """
    return np.array([scene_reliance(images.log_odds)])


@quantity("scene_shift", "scene shift", unit="log-odds", better="down", across=True, needs=has_scenes, resampled=False)
def shift(images: Images) -> np.ndarray:
    """Nats by which a region's log-odds for a class rise from its other scenes to its usual ones; needs no labels."""
    return np.array([scene_shift(images.log_odds, images.groups)])


@quantity("context_use", "context use", unit="ratio", better="down", across=True, needs=has_scenes, resampled=False)
def context_use(images: Images) -> np.ndarray:
    """Scene shift over the evidence of the scene, 2 log(rho / (1 - rho)).

    With more classes and scenes it is the slope of log-odds on log P(scene | class). Blank where scenes carry no
    evidence, as at rho 0.5, or all, as at 1.
    """
    if images.evidence is None:
        return np.array([np.nan])
    return np.array([scene_use(images.log_odds, images.evidence)])


# Quantities of counterfactual pairs.


@quantity(
    "counterfactual_flip",
    "counterfactual flip",
    unit="share",
    better="down",
    across=True,
    needs=has_pairs,
    resampled=False,
)
def counterfactual_flip(images: Images) -> np.ndarray:
    """Share of the counterfactual pairs (one object in all scenes) whose predicted label changes with the scene.

    The label is the majority label of the region. Pairs with an image without region are left out. Needs no labels.
    """
    return np.array([pairs.counterfactual_flip(images.decomposition, images.pair)])


# Quantities of rims and interiors, and calibration.


@quantity("rim_flip", "flip in the rim", unit="share", better="down", needs=has_regions, resampled=False)
def rim_flip(images: Images) -> np.ndarray:
    """Flip of the pixels of true regions next to their outside."""
    return divide(images.total(images.regions.flips[:, RIM]), images.total(images.regions.true[:, RIM]))


@quantity("interior_flip", "flip inside", unit="share", better="down", needs=has_regions, resampled=False)
def interior_flip(images: Images) -> np.ndarray:
    """Flip of their other pixels: a wrong label flips rim and interior."""
    return divide(images.total(images.regions.flips[:, INTERIOR]), images.total(images.regions.true[:, INTERIOR]))


@quantity("rim_risk", "flip-risk in the rim", unit="nats", needs=has_regions, resampled=False)
def rim_risk(images: Images) -> np.ndarray:
    """Mean entropy of the rims of predicted regions."""
    return divide(images.total(images.regions.risk[:, RIM]), images.total(images.regions.predicted[:, RIM]))


@quantity("interior_risk", "flip-risk inside", unit="nats", needs=has_regions, resampled=False)
def interior_risk(images: Images) -> np.ndarray:
    """Mean entropy of their interiors; needs no labels, either."""
    return divide(images.total(images.regions.risk[:, INTERIOR]), images.total(images.regions.predicted[:, INTERIOR]))


@quantity("fg_ece", "foreground ECE", unit="share", better="down", needs=has_regions, resampled=False)
def fg_ece(images: Images) -> np.ndarray:
    """Expected calibration error of the class where truth and prediction are foreground.

    It is of softmaxes over the foreground classes in 15 bins: confident flips make it large.
    """
    gaps = np.abs(images.total(images.regions.gaps)).sum(1)
    return divide(gaps, images.total(images.regions.shared))
