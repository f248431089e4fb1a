"""The values of quantities: of all images and of each group, of each resample, and of a user's own. NumPy only."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Sequence

import numpy as np

from flipjax.metrics.decomposition import Ratio, divide
from flipjax.metrics.images import ALL, Images
from flipjax.metrics.intervals import estimate_mean, estimate_rate
from flipjax.metrics.quantities import EVALUATORS
from flipjax.metrics.registry import Evaluator, Quantity, always


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
        names: of the values to yield; by default all. Nothing else is computed.
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
    """Returns what every rate of the images divides in each, (n,), by its key in `flipjax.metrics.summarize`.

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


def rate_intervals(
    images: Images, groups: Sequence[str], clusters: np.ndarray | None
) -> dict[str, tuple[float, float]]:
    """Returns the intervals of all rates over images and of mean IoU, of all images and of each group.

    Args:
        images: n images.
        groups: names of groups.
        clusters: int (n,), images that count as one; None: each alone.
    """
    rates = ratios_of(images)
    intervals = {}
    for group in groups:
        inside = images.in_group(group)
        of_group = None
        if clusters is not None:
            of_group = clusters[inside]
        for key, ratio in rates.items():
            estimate = estimate_rate(ratio.take(inside), clusters=of_group)
            intervals[with_group(key, group)] = (estimate.low, estimate.high)
        mean = estimate_mean(images.ratios.iou.take(inside), clusters=of_group)
        intervals[with_group("mean_iou", group)] = (mean.low, mean.high)
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
    """Returns what a user's own quantity is called.

    Example:
        >>> own_quantity("edge_flip").title
        'edge flip'
    """
    return Quantity(f"own/{name}", name.replace("_", " "), "ratio", meaning=f"`{name}` of the configuration.")
