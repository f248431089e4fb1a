"""Quantities of images, evaluated: of all images and of each group, of each resample, and of a user's own. NumPy only.

`summarize` returns them all by key; each is a function of `flipjax.metrics.quantities`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from flipjax.config.groups import AnyGroups
from flipjax.metrics.decomposition import Decomposition, Ratio, divide
from flipjax.metrics.images import ALL, Images, read_images
from flipjax.metrics.quantities import EVALUATORS
from flipjax.metrics.registry import Evaluator, Quantity, always
from flipjax.metrics.statistics.intervals import estimate_mean, estimate_rate

Summary: TypeAlias = "dict[str, Any]"
"""Numbers by the keys of `summarize`: int, float, lists of float, and `flip_matrix`, a list of lists of int."""


def summarize(
    decomposition: Decomposition,
    groups: ArrayLike | None = None,
    *,
    class_names: Sequence[str] | None = None,
    all_groups: AnyGroups | None = None,
) -> Summary:
    """Summarises the images of one model on the host, in exact integers and float64.

    Pixels are pooled over images, except in image means and rankings by flip-risk:

    - `n_images`; `n_images_without_risk`: images without true or predicted foreground, or with a NaN risk, which are
      not ranked.
    - `fg_correct`, `fg_flip`, `fg_miss`: shares of the true foreground. `flip_image_mean`: the mean flip share
      of images with true foreground. `flipped_images`: the share of these images whose flip share is above 0.5.
    - `iou/<class>` for each class, and `iou/foreground` of the union of the foreground classes. `mean_iou`: over the
      classes, background included, that occur in truth or prediction.
    - `dice/<class>`, `dice/foreground`, `mean_dice`: Dice, likewise: twice the pixels of a class that truth and
      prediction share, over the sum of both. As IoU it is NaN for a class that occurs in neither, 0 for one that is
      predicted or true alone, and of counts that are summed over images first. This is torchmetrics' `DiceScore` with
      `aggregation_level="global"`; torchmetrics' default and MONAI's `DiceMetric` average over images instead, and
      MONAI leaves out images without the true class.
    - `flip/<class>`, `miss/<class>`: the share of a foreground class predicted as another one, and as background.
    - `flip_risk_mean`: the mean flip-risk of the images that have one, nats; `flip_risk_share`: its share of log F, the
      largest possible of F foreground classes.
    - `risk_auroc`: the AUROC of flip-risk for images with a flip share above 0.5; ties count half.
    - `risk_aurc`: the area under the risk-coverage curve (Geifman and El-Yaniv, 2017), the flip share as the loss:
      the mean flip share of the k images with the lowest flip-risk, averaged over all k.
    - `risk_decile`, `flip_by_risk_decile`: mean flip-risk and mean flip share of each tenth of the ranking, lists
      of 10. Decile d holds the places d*n//10 up to (d+1)*n//10, so some are empty where n < 10.
    - `top_decile_flip_share`: the part of all flip shares in the last decile. `top_decile_ceiling`: the largest
      part that any ranking can reach. `top_decile_of_ceiling`: (share - 0.1) / (ceiling - 0.1), 0 by chance and 1
      at the ceiling; NaN where the ceiling is not above 0.1.
      Images of equal risk share their mean flip share.

    - `flip_matrix`: pixels by true class (rows) and prediction (columns), lists of int (C, C).

    With `groups`, each key but the matrix appears again for each group g, as `group/<g>/<key>`:

    - Of F foreground classes in S scenes (`all_groups`, two by two by default) g is each of 0, ..., F S - 1
      (y * S + scene), `common` (of two by two 0, 3) and `rare` (1, 2).
    - `gap/<class>`: the class's IoU in its common groups minus that in its rare groups, means over the groups;
      `gap/mean`: the mean over the classes. `worst_group_iou`: the lowest IoU of a group's class over all groups.
      `gap_in_dice/<class>`, `gap_in_dice/mean` and `worst_group_dice` are the same of Dice.
    - `scene_pull`, of three classes or more: the share of the flips in rare groups that go to a class whose usual
      scene the image shows.

    Without `all_groups`, for more than two classes, g is each integer in `groups`, and the others are left out.

    Args:
        decomposition: leaves of shape (n, C, C) and (n,), NumPy or JAX.
        groups: (n,) integers.
        class_names: names of all C classes, or of the foreground classes alone; else `background`, `class1`, ...
        all_groups: the groups in the order of their numbers; the F foreground classes are its classes, in order.

    Returns:
        A dict of int, float and lists of float; NaN where a denominator, a decile or one side of the AUROC is empty.

    Raises:
        TypeError: confusion does not hold integers.
        ValueError: not exactly one image axis, or groups or class names that do not fit.

    Source: Achara et al., arXiv 2604.13326, evaluation.

    Example:
        >>> counts = np.array([[[5, 0, 0], [0, 3, 1], [0, 0, 0]], [[5, 0, 0], [0, 0, 0], [2, 2, 0]]])
        >>> summary = summarize(Decomposition(counts, np.array([1.0, 2.0])), [0, 2], class_names=["cat", "dog"])
        >>> summary["fg_flip"], summary["iou/cat"], summary["group/2/fg_flip"]
        (0.375, 0.5, 0.5)
    """
    images = read_images(decomposition, groups, class_names=class_names, all_groups=all_groups)
    matrix = images.decomposition.confusion.sum(0)
    return {**summary_of(images), "flip_matrix": matrix.tolist()}


def summary_of(images: Images) -> Summary:
    """Returns every quantity that images have, by its key in `summarize`: int, float or a list of float."""
    return {name: value[0].tolist() for name, value in values_of(images).items()}


def values_of(images: Images, names: Collection[str] | None = None) -> dict[str, np.ndarray]:
    """Returns quantities of resamples by their key in `summarize`, (S,) or (S, 10); by default all that there are."""
    values = {value.name: value.value for value in evaluate(images, names=names)}
    if names is None:
        return values
    return {name: values[name] for name in names}


@dataclasses.dataclass(frozen=True)
class Value:
    """A quantity of all images or of a group."""

    key: str
    """The key of the quantity, with the name of its class."""
    group: str
    """A name of `Images.group_names`."""
    value: np.ndarray
    """(S,) for S resamples, or (S, 10) for a quantity of deciles."""

    @property
    def name(self) -> str:
        """The key with its group, as in `flipjax.metrics.summarize`."""
        return with_group(self.key, self.group)


def with_group(key: str, group: str) -> str:
    """Returns the key of a quantity of a group.

    Example:
        >>> with_group("fg_flip", "rare"), with_group("fg_flip", "all")
        ('group/rare/fg_flip', 'fg_flip')
    """
    if group == ALL:
        return key
    return f"group/{group}/{key}"


def evaluate(
    images: Images,
    *,
    groups: Sequence[str] | None = None,
    evaluators: Sequence[Evaluator] = EVALUATORS,
    names: Collection[str] | None = None,
) -> Iterator[Value]:
    """Yields every quantity that the images have, group by group.

    Args:
        images: of a model.
        groups: names of groups; by default all of them.
        evaluators: of flipjax's quantities; those of the user's own quantities, `Images.own`, always follow.
        names: the names of the values to yield and compute; by default all.
    """
    present = [evaluator for evaluator in (*evaluators, *own_evaluators(images)) if evaluator.exists(images)]
    if groups is None:
        groups = images.group_names
    for group in groups:
        for evaluator in present:
            if evaluator.quantity.across and group != ALL:
                continue
            keys = keys_of(evaluator.quantity, images)
            if names is not None and not any(with_group(key, group) in names for key in keys):
                continue
            values = evaluator.compute(images.of_group(group))
            if not is_per_class(evaluator.quantity):
                yield Value(keys[0], group, values)
                continue
            # Transposed, so that a row holds the resamples of one class.
            for key, value in zip(keys, values.T, strict=True):
                if names is None or with_group(key, group) in names:
                    yield Value(key, group, value)


def is_per_class(quantity: Quantity) -> bool:
    """Returns whether a quantity has a value for each class."""
    return "<" in quantity.key


def class_keys(quantity: Quantity, names: Sequence[str], foreground: np.ndarray) -> list[str]:
    """Returns the keys of a quantity that has a value for each class, or each foreground class, in order."""
    if "<class>" in quantity.key:
        return [quantity.key.replace("<class>", name) for name in names]
    return [quantity.key.replace("<foreground>", names[int(c)]) for c in foreground]


def keys_of(quantity: Quantity, images: Images) -> list[str]:
    """Returns the keys of a quantity: one, or one for each class that has it."""
    if not is_per_class(quantity):
        return [quantity.key]
    foreground = images.foreground
    if quantity.across:
        foreground = foreground[images.compared]
    return class_keys(quantity, images.class_names, foreground)


def ratios_of(images: Images, *, evaluators: Sequence[Evaluator] = EVALUATORS) -> dict[str, Ratio]:
    """Returns part and whole of every rate in each image, (n,), by its key in `flipjax.metrics.summarize`.

    Example:
        >>> from flipjax.metrics.decomposition import Decomposition
        >>> from flipjax.metrics.images import read_images
        >>> counts = Decomposition(np.array([[[5, 0, 0], [0, 3, 1], [0, 0, 0]]]), np.zeros(1))
        >>> ratio = ratios_of(read_images(counts, class_names=["background", "cat", "dog"]))["flip/cat"]
        >>> ratio.part.tolist(), ratio.whole.tolist()
        ([1], [4])
    """
    ratios = {}
    for evaluator in evaluators:
        if evaluator.of_images is None or not evaluator.exists(images):
            continue
        ratio = evaluator.of_images(images)
        keys = keys_of(evaluator.quantity, images)
        if not is_per_class(evaluator.quantity):
            ratios[keys[0]] = ratio
            continue
        for column, key in enumerate(keys):
            ratios[key] = Ratio(ratio.part[:, column], ratio.whole[:, column])
    return ratios


def mean_ratios_of(images: Images) -> dict[str, Ratio]:
    """Returns part and whole in each image, (n, C), of the rates whose mean over classes is a quantity, by its key.

    Example:
        >>> from flipjax.metrics.decomposition import Decomposition
        >>> from flipjax.metrics.images import read_images
        >>> counts = Decomposition(np.array([[[5, 0, 0], [0, 3, 1], [0, 0, 0]]]), np.zeros(1))
        >>> mean_ratios_of(read_images(counts))["mean_iou"].whole.tolist()
        [[5, 4, 1]]
    """
    ratios = {}
    for evaluator in EVALUATORS:
        if evaluator.mean_of_pixels is not None:
            ratios[evaluator.quantity.key] = evaluator.mean_of_pixels(images.ratios)
    return ratios


def rate_intervals(
    images: Images, groups: Sequence[str], clusters: np.ndarray | None
) -> dict[str, tuple[float, float]]:
    """Returns the intervals of all rates over images and of their means over classes, of all images and of each group.

    Args:
        images: n images.
        groups: names of groups.
        clusters: int (n,), the cluster of each image, which counts as one unit; None: each image is a unit.
    """
    rates = ratios_of(images)
    means = mean_ratios_of(images)
    intervals = {}
    for group in groups:
        inside = images.in_group(group)
        of_group = None
        if clusters is not None:
            of_group = clusters[inside]
        for key, ratio in rates.items():
            estimate = estimate_rate(ratio.take(inside), clusters=of_group)
            intervals[with_group(key, group)] = (estimate.low, estimate.high)
        for key, ratio in means.items():
            mean = estimate_mean(ratio.take(inside), clusters=of_group)
            intervals[with_group(key, group)] = (mean.low, mean.high)
    return intervals


def own_evaluators(images: Images) -> list[Evaluator]:
    """Returns the evaluators of a user's own quantities, `Images.own`."""
    return [_own_evaluator(name) for name in images.own]


def _own_evaluator(name: str) -> Evaluator:
    """Returns the evaluator of a user's own quantity, a ratio of sums over images."""

    def compute(images: Images) -> np.ndarray:
        numerator, denominator = images.total(images.own[name]).T
        return divide(numerator, denominator)

    return Evaluator(own_quantity(name), compute, always, swept=True, weighted=True, resampled=True)


def own_quantity(name: str) -> Quantity:
    """Returns the meaning of a user's own quantity, from its name in the configuration.

    Example:
        >>> own_quantity("edge_flip").title
        'edge flip'
    """
    return Quantity(f"own/{name}", name.replace("_", " "), "ratio", meaning=f"`{name}` of the configuration.")
