"""Intervals over images that are drawn: of the difference of two models over the same images, and of mean rates.

They are honest where no image differs, and where all rates are 0 or 1. NumPy only. `rates` has one model's rates, whose
intervals have a formula, and differences over other images.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from flipjax.metrics.decomposition import divide
from flipjax.metrics.rates import TAIL, Estimate, pool_clusters

SAMPLES = 10_000
"""Draws of an interval: the probability beyond an end has a standard error of .0016."""
_WEIGHTS_AT_ONCE = 1 << 22
"""Weights that are drawn at once, at most: 32 MiB."""


@dataclasses.dataclass(frozen=True)
class RateSums:
    """What k rates divide: numbers of n images or clusters, or their sums in S draws; float64 (n, k) or (S, k)."""

    part: np.ndarray
    """Numerators, at most the denominators."""
    whole: np.ndarray
    """Denominators, 0 or more."""

    @property
    def rate(self) -> np.ndarray:
        """The rates; NaN where the denominator is 0."""
        return divide(self.part, self.whole)

    def total(self) -> RateSums:
        """Returns the sums over all images, (1, k)."""
        return self.drawn(np.ones((1, len(self.part))))

    def columns(self, places: Sequence[int]) -> RateSums:
        """Returns some of the rates."""
        return RateSums(self.part[:, places], self.whole[:, places])

    def drawn(self, weights: np.ndarray) -> RateSums:
        """Returns the sums over images that count by their weights (S, n) in each draw."""
        return RateSums(weights @ self.part, weights @ self.whole)

    def with_image(self, rate: int, size: np.ndarray) -> RateSums:
        """Returns the sums with one more image, whose rate is 0 or 1 and whose denominators are `size` (S, k)."""
        return RateSums(self.part + rate * size, self.whole + size)

    @property
    def image_size(self) -> np.ndarray:
        """The denominator of an image to which a pixel belongs on average, (k,); 0 where there is no pixel."""
        return np.nan_to_num(divide((self.whole**2).sum(0), self.whole.sum(0)))


def pooled_sums(part: Any, whole: Any, *, clusters: Any = None) -> RateSums:
    """Returns what rates divide of each cluster of images, as `paired_difference` takes it.

    Args:
        part: (n, k) numbers of n images, each at most those of `whole`.
        whole: (n, k) numbers, 0 or more.
        clusters: int (n,), images that are alike, such as those of one patient, which count as one; None: each alone.
    """
    return RateSums(pool_clusters(part, clusters), pool_clusters(whole, clusters))


def paired_difference(
    old: RateSums, new: RateSums, *, generator: np.random.Generator, samples: int = SAMPLES
) -> Estimate:
    """Returns the rates of a new model minus those of an old one, with their 95% intervals over images.

    The upper end is that of a Bayesian bootstrap of the images and one more, whose rate is 1 with the new model and 0
    with the old one; the lower end that with one whose rates are 0 and 1. It is Gaffke's bound for the mean of numbers
    between -1 and 1, so the interval says what n images allow even where none differs: of 60 such images it is
    [-.060, .060]. The further image is as large as an image to which a pixel belongs on average, as in
    `rates.pooled_rate`. `sweeps/studies/coverage` measures the coverage.

    Args:
        old: what k rates of the old model divide, of n images or clusters.
        new: the same of the new model.
        generator: draws the weights, which all rates share.
        samples: draws.

    Returns:
        `Estimate` of shape (k,); NaN where either model lacks a rate.

    Source: Gaffke, Three test statistics for a nonparametric one-sided hypothesis on the mean of a nonnegative
    variable, 2005; Learned-Miller and Thomas, arXiv 1905.06208; Rubin, The Bayesian bootstrap, 1981.

    Example:
        >>> unchanged = pooled_sums(np.zeros((3, 1)), np.full((3, 1), 40))
        >>> difference = paired_difference(unchanged, unchanged, generator=np.random.default_rng(0))
        >>> [end.round(1).tolist() for end in difference]  # 1 - .025 ** (1 / 3) is .708.
        [[0.0], [-0.7], [0.7]]
    """
    return _difference(old, new, _rates, generator, samples)


def paired_mean_difference(
    old: RateSums, new: RateSums, *, generator: np.random.Generator, samples: int = SAMPLES
) -> Estimate:
    """Returns the difference of the means over k rates, such as the IoU of k classes, with its interval: each (1,).

    A rate that a model lacks is left out of its mean. The arguments are those of `paired_difference`; the further image
    has all k rates 1 with one model and 0 with the other.

    Example:
        >>> old = pooled_sums([[0, 1], [0, 1]], [[4, 4], [4, 4]])
        >>> new = pooled_sums([[2, 1], [2, 1]], [[4, 4], [4, 4]])
        >>> paired_mean_difference(old, new, generator=np.random.default_rng(0)).value.tolist()
        [0.25]
    """
    return _difference(old, new, _mean_rate, generator, samples)


def mean_rate(sums: RateSums, *, generator: np.random.Generator, samples: int = SAMPLES) -> Estimate:
    """Returns the mean over k rates of one model, such as mean IoU, with its interval over images: each (1,).

    The ends are those of a Bayesian bootstrap of the images and one more, whose k rates are all 1 or all 0, as in
    `rates.pooled_rate`. A rate that the model lacks is left out of the mean.

    Args:
        sums: what k rates divide, of n images or clusters.
        generator: draws the weights.
        samples: draws.

    Example:
        >>> perfect = pooled_sums([[4, 1], [4, 1], [4, 1]], [[4, 1], [4, 1], [4, 1]])
        >>> [end.round(1).tolist() for end in mean_rate(perfect, generator=np.random.default_rng(0))]
        [[1.0], [0.3], [1.0]]
    """
    lower = []
    upper = []
    for weights in _draw_weights(len(sums.part) + 1, generator, samples):
        drawn = sums.drawn(weights[:, :-1])
        size = weights[:, -1:] * sums.image_size
        lower.append(_mean_rate(drawn.with_image(0, size)))
        upper.append(_mean_rate(drawn.with_image(1, size)))
    return _estimate(_mean_rate(sums.total()), lower, upper)


Measure = Callable[[RateSums], np.ndarray]
"""A function from sums, of any leading axes, to the number that an interval is of."""


def _rates(sums: RateSums) -> np.ndarray:
    return sums.rate


def _mean_rate(sums: RateSums) -> np.ndarray:
    """Returns the mean of the rates that exist, (S, 1)."""
    rate = sums.rate
    exists = ~np.isnan(rate)
    return divide(np.nan_to_num(rate).sum(1, keepdims=True), exists.sum(1, keepdims=True))


def _difference(
    old: RateSums, new: RateSums, measure: Measure, generator: np.random.Generator, samples: int
) -> Estimate:
    """Returns the measure of the new sums minus that of the old ones, with its interval."""
    lower = []
    upper = []
    for weights in _draw_weights(len(old.part) + 1, generator, samples):
        # Both ends have the same weights, so that an interval of no difference is symmetric.
        of_images = weights[:, :-1]
        of_further = weights[:, -1:]
        drawn_old = old.drawn(of_images)
        drawn_new = new.drawn(of_images)
        size_old = of_further * old.image_size
        size_new = of_further * new.image_size
        lower.append(measure(drawn_new.with_image(0, size_new)) - measure(drawn_old.with_image(1, size_old)))
        upper.append(measure(drawn_new.with_image(1, size_new)) - measure(drawn_old.with_image(0, size_old)))
    return _estimate(measure(new.total()) - measure(old.total()), lower, upper)


def _estimate(value: np.ndarray, lower: Sequence[np.ndarray], upper: Sequence[np.ndarray]) -> Estimate:
    """Returns a value (1, k) with the quantiles of its drawn lower and upper ends, blocks (s, k)."""
    low = np.quantile(np.concatenate(lower), TAIL, axis=0)
    high = np.quantile(np.concatenate(upper), 1 - TAIL, axis=0)
    return Estimate(value[0], low, high)


def _draw_weights(number: int, generator: np.random.Generator, samples: int) -> Iterator[np.ndarray]:
    """Yields weights (s, number) of draws of a Bayesian bootstrap, not divided by their sum."""
    at_once = max(1, _WEIGHTS_AT_ONCE // number)
    for start in range(0, samples, at_once):
        yield generator.standard_exponential((min(at_once, samples - start), number))
