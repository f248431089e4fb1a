"""Summaries of a decomposition on the host, with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from flipjax.groups import AnyGroups
from flipjax.metrics import statistics
from flipjax.metrics.classes import class_names as class_names_of
from flipjax.metrics.decomposition import Decomposition
from flipjax.metrics.selective import AurocEstimate, auroc, auroc_ends
from flipjax.metrics.statistics import Draws, Grouping, Images

if TYPE_CHECKING:
    import jax

_INDICES_AT_ONCE = 1 << 22


class Interval(NamedTuple):
    """A 95% interval: two floats, or two arrays for a statistic that is an array.

    Example:
        >>> low, high = Interval(0.25, 0.75)
        >>> high - low
        0.5
    """

    low: Any
    high: Any


def summarize(
    decomposition: Decomposition,
    groups: Any = None,
    *,
    class_names: Sequence[str] | None = None,
    all_groups: AnyGroups | None = None,
) -> dict[str, Any]:
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
      the mean flip share of the k images of least flip-risk, averaged over all k.
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
    images, names, grouping = _read(decomposition, groups, class_names, all_groups)
    whole = Draws(np.arange(len(images.rank))[None], len(images.rank))
    parts = {f"group/{group}/": whole.part(group, member) for group, member in grouping.members.items()}
    summary: dict[str, Any] = {}
    for prefix, draws in ({"": whole} | parts).items():
        inside = statistics.pooled(images, draws, names) | statistics.ranking(images, draws)
        summary |= {prefix + key: value for key, value in inside.items()}
    for name, (sides, combine) in statistics.across_groups(grouping, images, whole, names).items():
        summary[name] = combine(*(summary[side] for side in sides))
    matrix = images.confusion.sum(0)
    return {key: value[0].tolist() for key, value in summary.items()} | {"flip_matrix": matrix.tolist()}


def bootstrap(
    decomposition: Decomposition,
    statistic: str | Sequence[str] | Callable[[Decomposition], Any],
    *,
    key: jax.Array,
    samples: int = 1000,
    groups: Any = None,
    pairs: Any = None,
    clusters: Any = None,
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
        pairs: (n,) integers: images with one number show one object and are drawn together; -1 for a single image.
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
    import jax

    if not hasattr(key, "dtype"):
        raise TypeError(f"key: expected a JAX PRNG key, found {key!r}. Pass key=jax.random.key(0).")
    images, names, grouping = _read(decomposition, groups, class_names, all_groups)
    n = len(images.rank)
    if n == 0 or samples < 1:
        raise ValueError(f"bootstrap: expected at least one image and one resample, found {n} and samples={samples}.")
    keys = () if callable(statistic) else (statistic,) if isinstance(statistic, str) else tuple(statistic)
    if not callable(statistic):
        known = summarize(decomposition, groups, class_names=names, all_groups=all_groups)
        _check_keys(keys, [name for name in known if name != "flip_matrix"], groups)
    together = {"pairs": pairs, "clusters": clusters}
    estimates = _auroc_estimates(images, grouping.members, **together)
    intervals = {name: Interval(estimates[name].low, estimates[name].high) for name in keys if name in estimates}
    drawn = [""] if callable(statistic) else [name for name in keys if name not in intervals]
    generator = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    parts, block = [], max(1, _INDICES_AT_ONCE // n)
    for start in range(0, samples if drawn else 0, block):
        count = min(block, samples - start)
        draws = statistics.draw_images(generator, n, samples=count, groups=groups, **together)
        if callable(statistic):
            parts.append({"": np.stack([np.asarray(statistic(_taken(decomposition, row))) for row in draws.rows])})
        else:
            parts.append(_evaluate(drawn, images, draws, names, grouping))
    intervals |= {name: _percentile_interval(np.concatenate([part[name] for part in parts])) for name in drawn}
    if callable(statistic) or isinstance(statistic, str):
        return next(iter(intervals.values()))
    return {name: intervals[name] for name in keys}


def resampled(
    decomposition: Decomposition,
    keys: Sequence[str],
    rows: np.ndarray | Draws,
    *,
    groups: Any = None,
    class_names: Sequence[str] | None = None,
    all_groups: AnyGroups | None = None,
) -> dict[str, np.ndarray]:
    """Evaluates keys of `summarize` on resamples of images: each (S,) float64, or (S, 10) for deciles.

    The same rows for several models give paired resamples, for intervals of their differences.

    Args:
        decomposition: leaves of shape (n, C, C) and (n,), NumPy or JAX.
        keys: keys of `summarize`.
        rows: (S, n) integers, the images of each resample; column i holds images of the group of image i. For many
            models with the same groups pass `flipjax.metrics.statistics.Draws(rows, n, keep=True)`.
        groups: (n,) integers as in `summarize`.
        class_names: as in `summarize`.
        all_groups: as in `summarize`.

    Example:
        >>> counts = np.array([[[5, 0, 0], [0, 3, 1], [0, 0, 0]], [[5, 0, 0], [0, 0, 0], [2, 2, 0]]])
        >>> rows = np.array([[0, 1], [0, 0]])
        >>> resampled(Decomposition(counts, np.array([1.0, 2.0])), ["fg_flip"], rows)["fg_flip"].tolist()
        [0.375, 0.25]
    """
    images, names, grouping = _read(decomposition, groups, class_names, all_groups)
    draws = rows if isinstance(rows, Draws) else Draws(rows, len(images.rank))
    return _evaluate(keys, images, draws, names, grouping)


def risk_aurocs(
    decomposition: Decomposition,
    groups: Any = None,
    *,
    pairs: Any = None,
    clusters: Any = None,
    all_groups: AnyGroups | None = None,
) -> dict[str, AurocEstimate]:
    """Returns each `risk_auroc` of `summarize` with its interval, by key; arguments as in `bootstrap`."""
    images, _, grouping = _read(decomposition, groups, None, all_groups)
    return _auroc_estimates(images, grouping.members, pairs=pairs, clusters=clusters)


def _auroc_estimates(
    images: Images, members: Mapping[str, np.ndarray], *, pairs: Any = None, clusters: Any = None
) -> dict[str, AurocEstimate]:
    """Returns the AUROC of flip-risk for images with a flip share above 0.5; images drawn together count as one."""
    numbers = statistics.independent(len(images.flip), pairs=pairs, clusters=clusters)
    sides = {"": np.arange(len(numbers))} | {f"group/{name}/": places for name, places in members.items()}
    estimates = {}
    for prefix, places in sides.items():
        places = places[images.ranked[places]]
        flipped = images.flip[places] > 0.5
        counts = [len(np.unique(numbers[places[side]])) for side in (flipped, ~flipped)]
        value = auroc(images.risk[places], flipped)
        ends = auroc_ends(value, counts[0], counts[1]) if min(counts) else (np.nan, np.nan)
        estimates[f"{prefix}risk_auroc"] = AurocEstimate(value, *ends)
    return estimates


def _check_keys(keys: Sequence[str], known: Sequence[str], groups: Any) -> None:
    unknown = [name for name in keys if name not in known]
    if unknown:
        raise ValueError(
            f"statistic: expected a function or a key of summarize, found {unknown[0]!r}. "
            f"Valid: {', '.join(known)}" + (". Keys of groups and gaps need groups=." if groups is None else ".")
        )


def _evaluate(
    keys: Sequence[str], images: Images, draws: Draws, names: Sequence[str], grouping: Grouping
) -> dict[str, np.ndarray]:
    """Evaluates keys of `summarize` for all resamples at once, group by group."""
    across = statistics.across_groups(grouping, images, draws, names)
    by_group: dict[str, dict[str, str]] = {}
    for side in dict.fromkeys(side for name in keys for side in (across[name][0] if name in across else (name,))):
        group = next((group for group in grouping.members if side.startswith(f"group/{group}/")), "")
        by_group.setdefault(group, {})[side] = side.removeprefix(f"group/{group}/") if group else side
    values = {}
    for group, wanted in by_group.items():
        inside = draws.part(group, grouping.members[group]) if group else draws
        ranked = set(wanted.values()) & set(statistics.RANKED)
        table = statistics.ranking(images, inside) if ranked else {}
        table |= statistics.pooled(images, inside, names) if set(wanted.values()) - ranked else {}
        values |= {side: table[inner] for side, inner in wanted.items()}
    for name in across.keys() & set(keys):
        sides, combine = across[name]
        values[name] = combine(*(values[side] for side in sides))
    return {name: values[name] for name in keys}


def _taken(decomposition: Decomposition, row: np.ndarray) -> Decomposition:
    """Returns the images of a resample with NumPy leaves."""
    row = row[row >= 0]
    leaves = np.asarray(decomposition.confusion)[row], np.asarray(decomposition.risk_sum)[row]
    return Decomposition(*leaves, decomposition.background)


def _percentile_interval(values: np.ndarray) -> Interval:
    low, high = statistics.percentile_ends(values.astype(np.float64))
    return Interval(low, high) if values.ndim > 1 else Interval(float(low), float(high))


def _read(
    decomposition: Decomposition, groups: Any, names: Sequence[str] | None, all_groups: AnyGroups | None
) -> tuple[Images, tuple[str, ...], Grouping]:
    """Reads the arguments that all summaries share."""
    images = statistics.read_images(decomposition)
    full = class_names_of(names, classes=images.confusion.shape[-1], background=images.background)
    return images, full, statistics.read_grouping(groups, images, all_groups)
