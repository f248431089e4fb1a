"""Summaries of a decomposition on the host, in exact integers and float64, with bootstrap intervals. NumPy only.

Each number is a quantity of `flipjax.metrics.quantities`, evaluated on all images or on many resamples at once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from flipjax.config.groups import AnyGroups
from flipjax.metrics.decomposition import Decomposition
from flipjax.metrics.evaluate import evaluate, with_group
from flipjax.metrics.images import Images, read_images
from flipjax.metrics.quantities import EVALUATORS
from flipjax.metrics.resampling import draw_images, percentile_ends, read_together, strata_of
from flipjax.metrics.selective import auroc, auroc_ends

if TYPE_CHECKING:
    import jax

_INDICES_AT_ONCE = 1 << 22
"""Drawn images that are held at once, at most: resamples are evaluated in blocks of that size."""

Summary: TypeAlias = "dict[str, Any]"
"""Numbers by the keys of `summarize`: int, float, lists of float, and `flip_matrix`, a list of lists of int."""


class Interval(NamedTuple):
    """A 95% interval: two floats, or two arrays for a statistic that is an array.

    Example:
        >>> low, high = Interval(0.25, 0.75)
        >>> high - low
        0.5
    """

    low: Any
    """The lower end."""
    high: Any
    """The upper end."""


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
    - `flip/<class>`: the share of a foreground class predicted as another foreground class.
    - `risk_auroc`: the AUROC of flip-risk for images with a flip share above 0.5; ties count half.
    - `risk_aurc`: the area under the risk-coverage curve (Geifman and El-Yaniv, 2017), the flip share as the loss:
      the mean flip share of the k images with the lowest flip-risk, averaged over all k.
    - `risk_decile`, `flip_by_risk_decile`: mean flip-risk and mean flip share of each tenth of the ranking, lists
      of 10. Decile d holds the places d*n//10 up to (d+1)*n//10, so some are empty where n < 10.
    - `top_decile_flip_share`: the part of all flip shares in the last decile. `top_decile_ceiling`: the largest
      part that any ranking can reach. `top_decile_of_ceiling`: (share - .1) / (ceiling - .1), 0 by chance and 1
      at the ceiling; NaN where the ceiling is not above .1.
      Images of equal risk share their mean flip share.

    - `flip_matrix`: pixels by true class (rows) and prediction (columns), lists of int (C, C).

    With groups, each but the matrix again as `group/<g>/<key>`. Of F foreground classes in S scenes (`all_groups`, two
    by two by default) g is each of 0, ..., F S - 1 (y * S + scene), `common` (of two by two 0, 3) and `rare` (1, 2);
    `gap/<class>` is the class's IoU in its common groups minus that in its rare groups, means over the groups,
    `gap/mean` the mean over the classes, and `worst_group_iou` the lowest over all groups of the IoU of the group's
    class. Of three classes or more `scene_pull` is the share of the flips in rare groups that go to a class whose usual
    scene the image shows. Without `all_groups`, for more than two classes any integer is a group: g is each one
    present, and there is none of these.

    Args:
        decomposition: leaves of shape (n, C, C) and (n,), NumPy or JAX.
        groups: (n,) integers.
        class_names: names of all C classes, or of the foreground classes alone; else `background`, `class1`, ...
        all_groups: what the groups number; the F foreground classes are its classes, in order.

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


def bootstrap(
    decomposition: Decomposition,
    statistic: str | Sequence[str] | Callable[[Decomposition], ArrayLike],
    *,
    key: jax.Array,
    samples: int = 1000,
    groups: ArrayLike | None = None,
    pairs: ArrayLike | None = None,
    clusters: ArrayLike | None = None,
    class_names: Sequence[str] | None = None,
    all_groups: AnyGroups | None = None,
) -> Any:
    """Computes the 95% percentile interval of a statistic by resampling images with replacement.

    Resamples with a NaN statistic are left out; if all are, the interval is NaN. Percentiles are far too narrow for an
    AUROC of few flipped images, so `risk_auroc` has the interval of `flipjax.metrics.selective.auroc_ends`.
    `sweeps/studies/coverage` measures the coverage of both.

    Args:
        decomposition: leaves of shape (n, C, C) and (n,), NumPy or JAX.
        statistic: a key of `summarize`, or several, evaluated for all resamples at once; or a function from a
            Decomposition with NumPy leaves to a number or an array, called for each resample.
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
        `Interval(low, high)`: floats, or arrays for a statistic that is an array. For several keys a dict of them.

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
    if isinstance(statistic, str):
        names = [statistic]
        intervals = image_intervals(images, names, generator=generator, samples=samples, pairs=pairs, clusters=clusters)
        return intervals[statistic]
    if not callable(statistic):
        names = tuple(statistic)
        return image_intervals(images, names, generator=generator, samples=samples, pairs=pairs, clusters=clusters)
    strata = []
    if clusters is None:
        strata = strata_of(groups, pairs, len(images))
    values = []
    for block in _draws(images, generator, samples=samples, pairs=pairs, clusters=clusters):
        for counts in block:
            values.append(_read_statistic(statistic(_taken(decomposition, counts, strata))))
    shapes = sorted({value.shape for value in values})
    if len(shapes) > 1:
        raise ValueError(f"statistic: expected arrays of one shape, found {shapes[0]} and {shapes[1]}.")
    return _percentile_interval(np.stack(values))


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


def _read_statistic(value: ArrayLike) -> np.ndarray:
    """Returns what a statistic returned for a resample, numbers."""
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"statistic: expected numbers, found {value!r}.")
    return array


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
    resampled_names = [name for name in names if name not in intervals]
    blocks = []
    for counts in _draws(images, generator, samples=samples, pairs=pairs, clusters=clusters):
        if resampled_names:
            blocks.append(values_of(dataclasses.replace(images, weights=counts), resampled_names))
    for name in resampled_names:
        intervals[name] = _percentile_interval(np.concatenate([block[name] for block in blocks]))
    return {name: intervals[name] for name in names}


def interval_names(images: Images) -> list[str]:
    """Returns the names of the quantities that can have an interval over images: no counts of images."""
    weighted = [evaluator for evaluator in EVALUATORS if evaluator.weighted and evaluator.quantity.unit != "images"]
    return [value.name for value in evaluate(images, evaluators=weighted)]


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
            raise ValueError(f"statistic: expected a function or one of {', '.join(keys)}{hint}; found {name!r}.")


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
    if counts is None:
        raise ValueError("counts: expected (samples, n), found None.")
    images = read_images(decomposition, groups, class_names=class_names, all_groups=all_groups, counts=counts)
    return values_of(images, keys)


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
    for group in images.group_names:
        for key, score in scores.items():
            if names is None or with_group(key, group) in names:
                inside = images.on_side(group)
                intervals[with_group(key, group)] = _auroc_interval(
                    score[inside], images.flip[inside], together[inside]
                )
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


def _taken(decomposition: Decomposition, counts: np.ndarray, strata: Sequence[np.ndarray]) -> Decomposition:
    """Returns the images of a resample with NumPy leaves; each set of `strata` takes the place of one of its kind."""
    times = counts.astype(np.int64)
    # The image that stands in each place of the resample.
    image = np.repeat(np.arange(len(times)), times)
    for stratum in strata:
        image[stratum] = np.repeat(stratum, times[stratum[:, 0]], axis=0)
    confusion = np.asarray(decomposition.confusion)[image]
    risk_sum = np.asarray(decomposition.risk_sum)[image]
    return Decomposition(confusion, risk_sum, decomposition.background)


def _percentile_interval(values: np.ndarray) -> Interval:
    low, high = percentile_ends(values.astype(np.float64))
    if values.ndim > 1:
        return Interval(low, high)
    return Interval(float(low), float(high))
