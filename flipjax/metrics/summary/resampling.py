"""Intervals over images by the bootstrap, for quantities without a formula: rankings, deciles, gaps. NumPy only.

Rates have the intervals of `flipjax.metrics.statistics.intervals`, and an AUROC has Newcombe's
(`flipjax.metrics.statistics.selective.auroc_ends`).
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from flipjax.config.groups import AnyGroups
from flipjax.metrics.decomposition import Decomposition
from flipjax.metrics.images import Images, read_images
from flipjax.metrics.quantities import EVALUATORS
from flipjax.metrics.statistics.draws import draw_images, percentile_ends, read_counts, read_sets
from flipjax.metrics.statistics.selective import auroc, auroc_ends
from flipjax.metrics.summary.evaluate import evaluate, values_of, with_group

if TYPE_CHECKING:
    import jax

_MOST_DRAWN_AT_ONCE = 1 << 22
"""Most drawn images that memory holds at once, 32 MiB: resamples are evaluated in blocks."""


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
    AUROC of few flipped images, so `risk_auroc` has the interval of `flipjax.metrics.statistics.selective.auroc_ends`.
    `sweeps/studies/coverage` measures the coverage of both. Where few images flip, the interval of a rate by
    `flipjax.metrics.statistics.intervals.estimate_rate` is the honest one.

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
    values_of_blocks = []
    # Draws check pairs and clusters, so they are made even where only AUROCs are asked for.
    for counts in _draw_blocks(images, generator, samples=samples, pairs=pairs, clusters=clusters):
        if names_to_draw:
            values_of_blocks.append(values_of(dataclasses.replace(images, weights=counts), names_to_draw))
    for name in names_to_draw:
        intervals[name] = _percentile_interval(np.concatenate([values[name] for values in values_of_blocks]))
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
        counts: (S, n), how often each resample holds each image, from `flipjax.metrics.statistics.draws.draw_images`.
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
        set_of_image = read_sets(pairs, n_images=len(images), name="pairs")
    else:
        set_of_image = read_sets(clusters, n_images=len(images), name="clusters")
    scores = {"risk_auroc": images.flip_risk}
    if images.log_odds is not None:
        scores["swap_auroc"] = images.swap.risk
    intervals = {}
    for group, key in itertools.product(images.group_names, scores):
        name = with_group(key, group)
        if names is None or name in names:
            inside = images.in_group(group)
            intervals[name] = _auroc_interval(scores[key][inside], images.flip[inside], set_of_image[inside])
    return intervals


def _auroc_interval(score: np.ndarray, flip: np.ndarray, set_of_image: np.ndarray) -> Interval:
    """Returns the interval of the AUROC of a score for flip shares above 0.5; images of one set count as one."""
    ranked = ~np.isnan(score) & ~np.isnan(flip)
    flipped = flip[ranked] > 0.5
    flipped_sets = len(np.unique(set_of_image[ranked][flipped]))
    other_sets = len(np.unique(set_of_image[ranked][~flipped]))
    if not flipped_sets or not other_sets:
        return Interval(np.nan, np.nan)
    low, high = auroc_ends(auroc(score[ranked], flipped), flipped_sets, other_sets)
    return Interval(low, high)


def _draw_blocks(
    images: Images,
    generator: np.random.Generator,
    *,
    samples: int,
    pairs: ArrayLike | None,
    clusters: ArrayLike | None,
) -> Iterator[np.ndarray]:
    """Yields blocks of resamples, (samples of the block, N), that fit into memory; each group keeps its size."""
    n = len(images)
    if n == 0 or samples < 1:
        raise ValueError(f"bootstrap: expected at least one image and one resample, found {n} and samples={samples}.")
    groups = None
    if images.groups is not None:
        groups = images.group
    most_samples = max(1, _MOST_DRAWN_AT_ONCE // n)
    for start in range(0, samples, most_samples):
        count = min(most_samples, samples - start)
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


def _percentile_interval(values: np.ndarray) -> Interval:
    """Returns the percentile interval of the values of S resamples, (S,) or (S, 10) of deciles."""
    low, high = percentile_ends(values.astype(np.float64))
    if values.ndim > 1:
        return Interval(low, high)
    return Interval(float(low), float(high))
