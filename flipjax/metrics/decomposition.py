"""`Decomposition`, the sufficient statistic of an image, and the rates that follow from it. Imports no JAX."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from flipjax.metrics.inputs.classes import (
    Background,
    background_classes,
    check_background,
    is_foreground,
    read_background,
)
from flipjax.metrics.inputs.host import Array, read_array, read_numbers

AnyArray: TypeAlias = Any
"""An array of NumPy or JAX: functions return the kind that they are given, which no type expresses."""


@dataclasses.dataclass(frozen=True, eq=False)
class Decomposition:
    """Confusion matrix and summed flip-risk of each image.

    A pytree of two leaves. Rates are NaN where their denominator is 0. NumPy leaves give float64 rates from exact
    integers, JAX leaves float32.

    Attributes:
        confusion: int32 (..., C, C), pixels by truth (rows) and prediction (columns), without ignored pixels.
        risk_sum: float32 (...), nats: the entropy of the foreground classes summed over the predicted foreground.
        background: the background class, a tuple of them, or None, which has no miss and no spill. Static.

    Source: Achara et al., arXiv 2604.13326, foreground decomposition and flip-risk.

    Example:
        >>> counts = np.array([[5, 1, 0], [2, 6, 2], [0, 0, 0]])
        >>> image = Decomposition(counts, np.float32(3.0))
        >>> print(image.correct, image.flip, image.miss, round(float(image.spill), 4), round(float(image.flip_risk), 4))
        0.6 0.2 0.2 0.1667 0.3333
    """

    confusion: Array
    risk_sum: Array
    background: Background = 0

    def __post_init__(self) -> None:
        """Normalises the background, so that equal sets make equal pytrees."""
        object.__setattr__(self, "background", read_background(self.background))

    @property
    def correct(self) -> AnyArray:
        """Share (...) of the true foreground predicted as its own class."""
        return self._as_leaves(self._ratios.correct.value)

    @property
    def flip(self) -> AnyArray:
        """Share (...) of the true foreground predicted as another foreground class."""
        return self._as_leaves(self._ratios.flip.value)

    @property
    def miss(self) -> AnyArray:
        """Share (...) of the true foreground predicted as background."""
        return self._as_leaves(self._ratios.miss.value)

    @property
    def spill(self) -> AnyArray:
        """Share (...) of the true background predicted as foreground."""
        return self._as_leaves(self._ratios.spill.value)

    @property
    def flip_risk(self) -> AnyArray:
        """Mean entropy (...) in nats over the predicted foreground."""
        predicted = margins(numpy_if_on_host(self.confusion), background=self.background).predicted
        inside = is_foreground(predicted.shape[-1], self.background)
        return self._as_leaves(divide(numpy_if_on_host(self.risk_sum), predicted.sum(-1, where=inside)))

    @property
    def _ratios(self) -> PixelRatios:
        """The rates of pixels of each image."""
        return pixel_ratios(numpy_if_on_host(self.confusion), background=self.background)

    def _as_leaves(self, rate: AnyArray) -> AnyArray:
        """Returns a rate as the leaves are: a number or array of NumPy as it is, float32 of JAX."""
        if isinstance(self.confusion, np.ndarray):
            return rate[()]
        return as_float32(rate)


class RegionSums(NamedTuple):
    """Sums over the regions of each image (...); axes of two are rim and interior.

    Example:
        >>> sums = RegionSums(true=np.array([4, 2]), flips=np.array([1, 2]), predicted=0, risk=0, shared=0, gaps=0)
        >>> (sums.flips / sums.true).tolist()
        [0.25, 1.0]
    """

    true: Array
    """int32 (..., 2), pixels of the true foreground."""
    flips: Array
    """int32 (..., 2), those of them that are predicted as another foreground class."""
    predicted: Array
    """int32 (..., 2), pixels of the predicted foreground."""
    risk: Array
    """float32 (..., 2), nats, the sum of their entropies."""
    shared: Array
    """int32 (...), pixels that are foreground in truth and prediction."""
    gaps: Array
    """float32 (..., bins), their confidence minus correctness, summed by bin of confidence."""


class Margins(NamedTuple):
    """Counts (..., C) of confusion matrices, linear in them."""

    truth: Array
    """Pixels of each class."""
    predicted: Array
    """Pixels predicted as each class."""
    same: Array
    """Pixels of each class predicted as that class."""
    missed: Array
    """Pixels of each class predicted as background."""


class Ratio(NamedTuple):
    """A rate as its part and its whole, arrays of NumPy or JAX: of each image, or summed over images.

    Example:
        >>> Ratio(np.array([1, 0]), np.array([4, 0])).value.tolist()
        [0.25, nan]
    """

    part: AnyArray
    """(...), or (..., C) of a rate of each class; at most the whole."""
    whole: AnyArray
    """(...), or (..., C)."""

    @property
    def value(self) -> AnyArray:
        """The rate, NaN where the whole is 0."""
        return divide(self.part, self.whole)

    def total(self) -> Ratio:
        """Returns the sums over images, the first axis."""
        return Ratio(self.part.sum(0), self.whole.sum(0))

    def take(self, images: np.ndarray) -> Ratio:
        """Returns part and whole of some images, by bool or indices (n,)."""
        return Ratio(self.part[images], self.whole[images])


class PixelRatios(NamedTuple):
    """The rates of pixels, of each image or summed over images."""

    correct: Ratio
    """(...), true foreground with the right label, over the true foreground."""
    flip: Ratio
    """(...), true foreground labelled as another foreground, over the true foreground."""
    miss: Ratio
    """(...), true foreground labelled as background, over the true foreground."""
    spill: Ratio
    """(...), true background labelled as foreground, over the true background."""
    iou: Ratio
    """(..., C), intersection over union of each class."""
    foreground_iou: Ratio
    """(...), intersection over union of foreground, whatever the class."""
    dice: Ratio
    """(..., C), twice the intersection of each class over the sum of its true and its predicted pixels."""
    foreground_dice: Ratio
    """(...), Dice of foreground, whatever the class."""
    class_flip: Ratio
    """(..., F), pixels of each foreground class labelled as another one, over all its pixels."""
    class_miss: Ratio
    """(..., F), pixels of each foreground class labelled as background, over all its pixels."""


def margins(confusion: Array, *, background: Background = 0) -> Margins:
    """Returns the margins of confusion matrices (..., C, C), NumPy (exact int64 for integers) or JAX.

    Example:
        >>> [counts.tolist() for counts in margins(np.array([[5, 1, 0], [2, 6, 2], [0, 0, 0]]))]
        [[6, 10, 0], [7, 7, 2], [5, 6, 0], [5, 2, 0]]
    """
    outside = background_classes(background)
    if outside and outside[-1] >= confusion.shape[-1]:
        raise ValueError(f"background: expected classes in 0..{confusion.shape[-1] - 1}, found {outside[-1]}.")
    inside = is_foreground(confusion.shape[-1], background)
    dtype = confusion.dtype
    if isinstance(confusion, np.ndarray) and confusion.dtype.kind in "iu":
        dtype = np.int64
    missed = confusion.sum(-1, dtype=dtype, where=~inside)
    same = confusion.diagonal(0, -2, -1).astype(dtype)
    return Margins(confusion.sum(-1, dtype=dtype), confusion.sum(-2, dtype=dtype), same, missed)


def pixel_ratios(confusion: Array, *, background: Background = 0) -> PixelRatios:
    """Returns part and whole of each rate of pixels, from confusion matrices (..., C, C) as in `margins`.

    Parts and wholes are linear in the counts: those of a sum of matrices are the sums of those of the matrices.

    Example:
        >>> ratios = pixel_ratios(np.array([[5, 1, 0], [2, 6, 2], [0, 0, 0]]))
        >>> ratios.flip.value.item(), ratios.iou.value.round(3).tolist(), ratios.dice.value.round(3).tolist()
        (0.2, [0.625, 0.545, 0.0], [0.769, 0.706, 0.0])
    """
    truth, predicted, same, missed = margins(confusion, background=background)
    inside = is_foreground(truth.shape[-1], background)
    foreground = truth.sum(-1, where=inside)
    correct = same.sum(-1, where=inside)
    miss = missed.sum(-1, where=inside)
    spill = (truth - missed).sum(-1, where=~inside)
    return PixelRatios(
        correct=Ratio(correct, foreground),
        flip=Ratio(foreground - correct - miss, foreground),
        miss=Ratio(miss, foreground),
        spill=Ratio(spill, truth.sum(-1, where=~inside)),
        iou=Ratio(same, truth + predicted - same),
        foreground_iou=Ratio(foreground - miss, foreground + spill),
        dice=Ratio(2 * same, truth + predicted),
        foreground_dice=Ratio(2 * (foreground - miss), 2 * foreground - miss + spill),
        class_flip=Ratio((truth - same - missed)[..., inside], truth[..., inside]),
        class_miss=Ratio(missed[..., inside], truth[..., inside]),
    )


def mean_over_classes(ratio: Ratio) -> AnyArray:
    """Returns the mean (...) over the classes that occur of a rate of each class (..., C), such as mean IoU.

    Example:
        >>> mean_over_classes(Ratio(np.array([1, 0]), np.array([4, 0]))).item()
        0.25
    """
    present = ratio.whole > 0
    return divide(ratio.value.sum(-1, where=present), present.sum(-1))


def concatenate(parts: Iterable[Decomposition]) -> Decomposition:
    """Concatenates the images of all parts into one decomposition with NumPy leaves.

    Args:
        parts: one or more decompositions with any leading axes.

    Returns:
        A `Decomposition` with leaves int32 (images, C, C) and float32 (images,).

    Raises:
        ValueError: no parts, or different numbers of classes or backgrounds.

    Example:
        >>> from flipjax.metrics import decompose
        >>> labels = np.array([[0, 1, 2], [0, 0, 1]])
        >>> logits = np.eye(3, dtype=np.float32)[labels]
        >>> parts = [decompose(logits[None], labels[None]), decompose(logits, labels)]
        >>> concatenate(parts).confusion.shape
        (2, 3, 3)
    """
    parts = list(parts)
    if not parts:
        raise ValueError("parts: expected at least one decomposition, found none.")
    # The numbers of classes and the backgrounds that occur.
    layouts = list(dict.fromkeys((part.confusion.shape[-1], part.background) for part in parts))
    if len(layouts) > 1:
        raise ValueError(f"parts: expected one number of classes and one background, found {layouts}.")
    classes, background = layouts[0]
    leaves = [read_leaves(part) for part in parts]
    confusion = [counts.reshape(-1, classes, classes) for counts, _ in leaves]
    risk_sum = [sums.reshape(-1) for _, sums in leaves]
    return Decomposition(np.concatenate(confusion), np.concatenate(risk_sum), background)


def read_leaves(decomposition: Decomposition) -> tuple[np.ndarray, np.ndarray]:
    """Returns the confusion matrices and the summed risks of a decomposition as NumPy arrays, after a check of both.

    Raises:
        TypeError: counts that are not integers, or risks that are not real numbers.
        ValueError: shapes that do not fit, negative counts, or a background that leaves no two classes.

    Example:
        >>> read_leaves(Decomposition(np.array([[5, 0, 0], [0, -1, 0], [0, 0, 0]]), 0.0))
        Traceback (most recent call last):
        ...
        ValueError: decomposition: expected counts of 0 or more, found -1.
    """
    confusion = read_array(decomposition.confusion, name="confusion")
    risk_sum = read_array(decomposition.risk_sum, name="risk_sum")
    if confusion.ndim < 2 or confusion.shape[-1] != confusion.shape[-2] or risk_sum.shape != confusion.shape[:-2]:
        found = f"{confusion.shape} and {risk_sum.shape}"
        raise ValueError(f"decomposition: expected confusion (..., C, C) and risk_sum (...), found {found}.")
    if not np.issubdtype(confusion.dtype, np.integer):
        raise TypeError(f"decomposition: expected integer counts in confusion, found {confusion.dtype}.")
    if not np.issubdtype(risk_sum.dtype, np.floating):
        risk_sum = read_numbers(risk_sum, name="risk_sum")
    check_background(decomposition.background, confusion.shape[-1], name="decomposition")
    least = confusion.min(initial=0)
    if least < 0:
        raise ValueError(f"decomposition: expected counts of 0 or more, found {least}.")
    return confusion, risk_sum


def numpy_if_on_host(array: Array) -> Array:
    """Returns an array in host memory as NumPy, which compiles nothing for a new number of images; others as they are.

    Example:
        >>> numpy_if_on_host(np.arange(3)).tolist()
        [0, 1, 2]
    """
    if isinstance(array, np.ndarray):
        return array
    from flipjax.metrics.inputs import checks

    if checks.on_host(array):
        return np.asarray(array)
    return array


def divide(part: AnyArray, whole: AnyArray) -> AnyArray:
    """Returns part / whole, NaN where the whole is not positive: float64 of NumPy arrays, float32 of JAX arrays.

    Example:
        >>> divide([1, 0], [4, 0]).tolist()
        [0.25, nan]
    """
    if hasattr(whole, "aval") or hasattr(part, "aval"):
        import jax
        import jax.numpy as jnp

        # This NaN is meant, also for a user who debugs NaN.
        with jax.debug_nans(False):
            return jnp.where(whole > 0, part / jnp.where(whole > 0, whole, 1), jnp.nan)
    numerator = np.asarray(part, np.float64)
    denominator = np.asarray(whole, np.float64)
    empty = np.full(np.broadcast_shapes(numerator.shape, denominator.shape), np.nan)
    return np.divide(numerator, denominator, out=empty, where=denominator > 0)


def as_float32(numbers: AnyArray) -> AnyArray:
    """Returns numbers, NumPy's or JAX's, as float32 of JAX. Their NaN are meant, also for a user who debugs NaN."""
    import jax
    import jax.numpy as jnp

    with jax.debug_nans(False):
        return jnp.asarray(numbers, jnp.float32)


def flips_of(confusion: np.ndarray, *, background: Background = 0) -> np.ndarray:
    """Returns confusion matrices (..., C, C) that hold only flips; all other counts are 0.

    Example:
        >>> flips_of(np.full((3, 3), 7)).tolist()
        [[0, 0, 0], [0, 0, 7], [0, 7, 0]]
    """
    C = confusion.shape[-1]
    inside = is_foreground(C, background)
    return confusion * (inside[:, None] & inside & ~np.eye(C, dtype=bool))
