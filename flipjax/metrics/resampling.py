"""The bootstrap over images, of what has no interval by a formula: rankings, deciles, gaps. NumPy only.

Rates have those of `flipjax.metrics.intervals`; an AUROC has Newcombe's (`flipjax.metrics.selective.auroc_ends`).
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
import warnings
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from flipjax.config.groups import AnyGroups
from flipjax.metrics.decomposition import Decomposition
from flipjax.metrics.evaluate import evaluate, values_of, with_group
from flipjax.metrics.host import read_integers, read_numbers
from flipjax.metrics.images import Images, read_images
from flipjax.metrics.quantities import EVALUATORS
from flipjax.metrics.selective import auroc, auroc_ends

if TYPE_CHECKING:
    import jax

_INDICES_AT_ONCE = 1 << 22
"""Drawn images that are held at once, at most: resamples are evaluated in blocks of that size."""


class Interval(NamedTuple):
    """A 95% interval: two floats, or two arrays (10,) of deciles; `Any`, so that a caller who knows needs no cast.

    Example:
        >>> low, high = Interval(0.25, 0.75)
        >>> high - low
        0.5
    """

    low: Any
    """The lower end."""
    high: Any
    """The upper end."""


def bootstrap(
    decomposition: Decomposition,
    statistic: str | Sequence[str],
    *,
    key: jax.Array,
    samples: int = 1000,
    groups: ArrayLike | None = None,
    pairs: ArrayLike | None = None,
    clusters: ArrayLike | None = None,
    class_names: Sequence[str] | None = None,
    all_groups: AnyGroups | None = None,
) -> Any:
    """Computes the 95% percentile interval of a quantity by resampling images with replacement.

    Resamples with a NaN are left out; if all are, the interval is NaN. Percentiles are far too narrow for an
    AUROC of few flipped images, so `risk_auroc` has the interval of `flipjax.metrics.selective.auroc_ends`.
    `sweeps/studies/coverage` measures the coverage of both. Where few images flip, the interval of a rate by
    `flipjax.metrics.intervals.estimate_rate` is the honest one.

    Args:
        decomposition: leaves of shape (n, C, C) and (n,), NumPy or JAX.
        statistic: a key of `summarize`, or several.
        key: a JAX PRNG key.
        samples: the number of resamples.
        groups: (n,) integers as in `summarize`, needed by keys of groups and gaps. Image i of a resample is drawn from
            the group of image i, so that groups keep their sizes.
        pairs: (n,) integers: images with one number show one object and are drawn together, in the places of such
            images; -1 for a single image.
        clusters: (n,) integers: whole clusters (films, patients, sites) are drawn, so that group sizes vary; -1 for a
            single image.
        class_names: as in `summarize`.
        all_groups: as in `summarize`.

    Returns:
        `Interval(low, high)`: floats, or arrays for deciles. For several keys a dict of them.

    Raises:
        TypeError: `key` is not a PRNG key.
        ValueError: an unknown statistic, no images or resamples, or invalid arguments of `summarize`.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, percentile interval.

    Example:
        >>> counts = np.array([[[5, 0, 0], [0, 3, 1], [0, 0, 0]], [[5, 0, 0], [0, 0, 0], [2, 2, 0]]])
        >>> import jax
        >>> low, high = bootstrap(Decomposition(counts, np.array([1.0, 2.0])), "fg_flip", key=jax.random.key(0))
        >>> low, high
        (0.25, 0.5)
    """
    images = read_images(decomposition, groups, class_names=class_names, all_groups=all_groups)
    generator = generator_of(key)
    names = list(statistic)
    if isinstance(statistic, str):
        names = [statistic]
    intervals = image_intervals(images, names, generator=generator, samples=samples, pairs=pairs, clusters=clusters)
    if isinstance(statistic, str):
        return intervals[statistic]
    return intervals


def generator_of(key: jax.Array) -> np.random.Generator:
    """Returns NumPy's generator of a JAX PRNG key.

    Raises:
        TypeError: not a key.
        ValueError: several keys.
    """
    import jax

    try:
        data = np.asarray(jax.random.key_data(key))
    except TypeError:
        raise TypeError(f"key: expected a JAX PRNG key, found {key!r}. Pass key=jax.random.key(0).") from None
    if data.ndim != 1:
        raise ValueError(f"key: expected one JAX PRNG key, found keys of shape {data.shape[:-1]}.")
    return np.random.default_rng(data)


def image_intervals(
    images: Images,
    names: Sequence[str],
    *,
    generator: np.random.Generator,
    samples: int = 1000,
    pairs: ArrayLike | None = None,
    clusters: ArrayLike | None = None,
) -> dict[str, Interval]:
    """Computes the 95% intervals of quantities over images, as `bootstrap` does.

    Args:
        images: of a model.
        names: keys of `summarize`.
        generator: draws the resamples.
        samples: the number of resamples.
        pairs: (n,) integers, as in `bootstrap`.
        clusters: (n,) integers, as in `bootstrap`.

    Raises:
        ValueError: an unknown name, or no images or resamples.
    """
    _check_names(names, images)
    intervals = auroc_intervals(images, names, pairs=pairs, clusters=clusters)
    names_to_draw = [name for name in names if name not in intervals]
    blocks = []
    # Draws also check their arguments, so they are made where only AUROCs are asked for, too.
    for counts in _draws(images, generator, samples=samples, pairs=pairs, clusters=clusters):
        if names_to_draw:
            blocks.append(values_of(dataclasses.replace(images, weights=counts), names_to_draw))
    for name in names_to_draw:
        intervals[name] = _percentile_interval(np.concatenate([block[name] for block in blocks]))
    return {name: intervals[name] for name in names}


def interval_names(images: Images) -> list[str]:
    """Returns the names of the quantities that can have an interval over images: no counts of images."""
    weighted = [evaluator for evaluator in EVALUATORS if evaluator.weighted and evaluator.quantity.unit != "images"]
    return [value.name for value in evaluate(images, evaluators=weighted)]


def resampled(
    decomposition: Decomposition,
    keys: Sequence[str],
    *,
    counts: np.ndarray,
    groups: ArrayLike | None = None,
    class_names: Sequence[str] | None = None,
    all_groups: AnyGroups | None = None,
) -> dict[str, np.ndarray]:
    """Evaluates keys of `summarize` on resamples of images: each (S,) float64, or (S, 10) for deciles.

    The same counts for several models give paired resamples, for intervals of their differences.

    Args:
        decomposition: leaves of shape (n, C, C) and (n,), NumPy or JAX.
        keys: keys of `summarize`.
        counts: (S, n), how often each resample holds each image, from `flipjax.metrics.resampling.draw_images`.
        groups: (n,) integers as in `summarize`.
        class_names: as in `summarize`.
        all_groups: as in `summarize`.

    Raises:
        ValueError: counts of another number of images.

    Example:
        >>> confusion = np.array([[[5, 0, 0], [0, 3, 1], [0, 0, 0]], [[5, 0, 0], [0, 0, 0], [2, 2, 0]]])
        >>> images, counts = Decomposition(confusion, np.array([1.0, 2.0])), np.array([[1, 1], [2, 0]])
        >>> resampled(images, ["fg_flip"], counts=counts)["fg_flip"].tolist()
        [0.375, 0.25]
    """
    images = read_images(decomposition, groups, class_names=class_names, all_groups=all_groups)
    return values_of(dataclasses.replace(images, weights=read_counts(counts, len(images))), keys)


def auroc_intervals(
    images: Images,
    names: Collection[str] | None = None,
    *,
    pairs: ArrayLike | None = None,
    clusters: ArrayLike | None = None,
) -> dict[str, Interval]:
    """Returns the intervals of AUROCs, by key; images that are drawn together count as one.

    Args:
        images: of a model.
        names: keys of `summarize`, of which those of other quantities are left out; by default all AUROCs.
        pairs: as in `bootstrap`.
        clusters: as in `bootstrap`.
    """
    if clusters is None:
        together = read_together("pairs", pairs, len(images))
    else:
        together = read_together("clusters", clusters, len(images))
    scores = {"risk_auroc": images.flip_risk}
    if images.log_odds is not None:
        scores["swap_auroc"] = images.swap.risk
    intervals = {}
    for group, key in itertools.product(images.group_names, scores):
        name = with_group(key, group)
        if names is None or name in names:
            inside = images.in_group(group)
            intervals[name] = _auroc_interval(scores[key][inside], images.flip[inside], together[inside])
    return intervals


def _auroc_interval(score: np.ndarray, flip: np.ndarray, together: np.ndarray) -> Interval:
    """Returns the interval of the AUROC of a score for flip shares above 0.5.

    Images with one number in `together` count as one.
    """
    ranked = ~np.isnan(score) & ~np.isnan(flip)
    flipped = flip[ranked] > 0.5
    number_flipped = len(np.unique(together[ranked][flipped]))
    number_other = len(np.unique(together[ranked][~flipped]))
    if not number_flipped or not number_other:
        return Interval(np.nan, np.nan)
    low, high = auroc_ends(auroc(score[ranked], flipped), number_flipped, number_other)
    return Interval(low, high)


def draw_images(
    generator: np.random.Generator,
    images: int,
    *,
    samples: int,
    groups: ArrayLike | None = None,
    pairs: ArrayLike | None = None,
    clusters: ArrayLike | None = None,
) -> np.ndarray:
    """Draws resamples of images with replacement.

    Args:
        generator: of NumPy.
        images: N.
        samples: S.
        groups: int (N,): each image of a resample stands for one of the same group. None: one group.
        pairs: int (N,): images with one number show one object and are drawn together, in place of images of the same
            groups; -1 for a single image.
        clusters: int (N,): whole clusters, such as films or patients, are drawn; -1 for a single image. Sizes of groups
            and resamples vary.

    Returns:
        The count of each image in each resample: whole numbers as float64 (S, N), for BLAS.

    Raises:
        ValueError: arrays that are not N integers, or both pairs and clusters.

    Example:
        >>> counts = draw_images(np.random.default_rng(0), 5, samples=200, clusters=np.array([0, 0, 0, 1, 1]))
        >>> np.unique(counts, axis=0).tolist()
        [[0.0, 0.0, 0.0, 2.0, 2.0], [1.0, 1.0, 1.0, 1.0, 1.0], [2.0, 2.0, 2.0, 0.0, 0.0]]
    """

    def draw(number: int) -> np.ndarray:
        """Returns how often each of `number` sets is drawn, in place of all of them: (S, number)."""
        places = generator.integers(0, number, (samples, number)) + number * np.arange(samples)[:, None]
        return np.bincount(places.ravel(), minlength=samples * number).reshape(samples, number).astype(np.float64)

    if clusters is not None:
        if pairs is not None:
            raise ValueError("clusters: expected none beside pairs; give images of a pair one cluster.")
        present, cluster = np.unique(read_together("clusters", clusters, images), return_inverse=True)
        return draw(len(present))[:, cluster]
    counts = np.empty((samples, images))
    for stratum in _strata_of(groups, pairs, images):
        counts[:, stratum] = draw(len(stratum))[:, :, None]
    return counts


def percentile_ends(values: np.ndarray) -> np.ndarray:
    """Returns the 95% percentile interval of resamples (S, ...), ignoring NaN: (2, ...)."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN", RuntimeWarning)
        return np.nanpercentile(values, (2.5, 97.5), axis=0)


def _draws(
    images: Images,
    generator: np.random.Generator,
    *,
    samples: int,
    pairs: ArrayLike | None,
    clusters: ArrayLike | None,
) -> Iterator[np.ndarray]:
    """Yields resamples, (s, n), as many at once as bound the memory: each group keeps its size."""
    n = len(images)
    if n == 0 or samples < 1:
        raise ValueError(f"bootstrap: expected at least one image and one resample, found {n} and samples={samples}.")
    groups = None
    if images.groups is not None:
        groups = images.group
    size = max(1, _INDICES_AT_ONCE // n)
    for start in range(0, samples, size):
        count = min(size, samples - start)
        yield draw_images(generator, n, samples=count, groups=groups, pairs=pairs, clusters=clusters)


def _check_names(names: Sequence[str], images: Images) -> None:
    """Raises ValueError for a name that is no key of `summarize`."""
    keys = values_of(images)
    for name in names:
        if name not in keys:
            hint = ""
            if images.groups is None:
                hint = "; keys of groups and gaps need groups="
            raise ValueError(f"statistic: expected one of {', '.join(keys)}{hint}; found {name!r}.")


def read_counts(counts: ArrayLike, images: int) -> np.ndarray:
    """Returns how often each resample holds each image, float64 (S, N).

    Raises:
        TypeError: no numbers.
        ValueError: another shape, or other than whole numbers of 0 or more.
    """
    numbers = read_numbers(counts, name="counts")
    if numbers.ndim != 2 or numbers.shape[1] != images or not len(numbers):
        raise ValueError(f"counts: expected (samples, {images}), found {numbers.shape}.")
    # The negated form also rejects NaN.
    wrong = ~((numbers >= 0) & (numbers < 1 << 31) & (numbers == np.floor(numbers)))
    if wrong.any():
        raise ValueError(f"counts: expected whole numbers in 0..2^31 - 1, found {numbers[wrong][0]}.")
    return numbers


def read_together(name: str, values: ArrayLike | None, images: int) -> np.ndarray:
    """Returns numbers (N,) of what is drawn together, a number of its own below 0 for each single image."""
    numbers = np.full(images, -1)
    if values is not None:
        numbers = read_integers(values, images=images, name=name)
    return np.where(numbers < 0, -1 - np.arange(images), numbers)


def _strata_of(groups: ArrayLike | None, pairs: ArrayLike | None, images: int) -> list[np.ndarray]:
    """Returns the sets of images that may be drawn in place of each other: int (sets, size) for each kind."""
    group = np.zeros(images, np.int64)
    if groups is not None:
        group = read_integers(groups, images=images, name="groups")
    pair = read_together("pairs", pairs, images)
    # The images of each pair, in order of their groups, so that they change places with those of the same groups.
    sets: dict[int, list[int]] = collections.defaultdict(list)
    for image in np.argsort(group, kind="stable").tolist():
        sets[int(pair[image])].append(image)
    sets_of_groups: dict[tuple[int, ...], list[list[int]]] = collections.defaultdict(list)
    for images_of_set in sets.values():
        sets_of_groups[tuple(group[images_of_set].tolist())].append(images_of_set)
    return [np.array(sets_of_groups[groups_of_set], np.int64) for groups_of_set in sorted(sets_of_groups)]


def _percentile_interval(values: np.ndarray) -> Interval:
    """Returns the percentile interval of resamples (S,), or (S, 10) of deciles."""
    low, high = percentile_ends(values.astype(np.float64))
    if values.ndim > 1:
        return Interval(low, high)
    return Interval(float(low), float(high))
