"""Summaries of a decomposition on the host, in exact integers and float64, with bootstrap intervals. NumPy only.

`summarize` evaluates its statistics on all images and `bootstrap` on many resamples at once.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from flipjax.groups import TWO_BY_TWO, AnyGroups, Groups, NamedGroups
from flipjax.metrics.classes import Background, is_foreground
from flipjax.metrics.classes import class_names as class_names_of
from flipjax.metrics.decomposition import Decomposition, Margins, divide, flips_of, margins, rates
from flipjax.metrics.selective import auroc, auroc_ends, first_sums, sort_scores

if TYPE_CHECKING:
    import jax

DECILES = 10
ACROSS = ("gap/", "worst_group_iou", "scene_pull")
"""Keys, or their beginnings, of `across_groups`."""


def draw_images(
    generator: np.random.Generator,
    images: int,
    *,
    samples: int,
    groups: Any = None,
    pairs: Any = None,
    clusters: Any = None,
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
        present, cluster = np.unique(_together("clusters", clusters, images), return_inverse=True)
        return draw(len(present))[:, cluster]
    counts = np.empty((samples, images))
    for stratum in _strata(groups, pairs, images):
        counts[:, stratum] = draw(len(stratum))[:, :, None]
    return counts


def _strata(groups: Any, pairs: Any, images: int) -> list[np.ndarray]:
    """Returns the sets of images that may be drawn in place of each other: int (sets, size) for each kind."""
    groups = np.zeros(images, np.int64) if groups is None else np.asarray(groups)
    numbers = _together("pairs", pairs, images)
    sets: dict[int, list[int]] = {}
    for image in np.argsort(groups, kind="stable").tolist():
        sets.setdefault(int(numbers[image]), []).append(image)
    strata: dict[tuple[int, ...], list[list[int]]] = {}
    for members in sets.values():
        strata.setdefault(tuple(groups[members].tolist()), []).append(members)
    return [np.array(strata[kind], np.int64) for kind in sorted(strata)]


def _integers(name: str, values: Any, images: int) -> np.ndarray:
    numbers = np.asarray(values)
    if numbers.shape != (images,) or not np.issubdtype(numbers.dtype, np.integer):
        raise ValueError(f"{name}: expected {images} integers, found {numbers.dtype} of shape {numbers.shape}.")
    return numbers


def _together(name: str, values: Any, images: int) -> np.ndarray:
    """Returns numbers (N,) of what is drawn together, a unique one for each single image."""
    numbers = _integers(name, np.full(images, -1) if values is None else values, images)
    return np.where(numbers < 0, -1 - np.arange(images), numbers)


def pooled(study: Study, members: np.ndarray, counts: np.ndarray) -> dict[str, np.ndarray]:
    """Returns rates of pixels pooled over resamples (S, n) of `members`, and means of the flip share: each (S,)."""
    flip, background, names = study.flip[members], study.background, study.class_names
    # Resamples the margins, not the C * C counts. Sums of whole numbers are exact in float64.
    sums = (counts @ study.margins[members].astype(np.float64)).astype(np.int64)
    values = rates(Margins(*np.split(sums, 4, axis=1)), background=background)
    known = ~np.isnan(flip)
    flip, weights = flip[known], counts[:, known]
    table = {
        "n_images": counts.sum(1).astype(np.int64),
        "fg_correct": values.correct,
        "fg_flip": values.flip,
        "fg_miss": values.miss,
        "flip_image_mean": divide(weights @ flip, weights.sum(1)),
        "flipped_images": divide(weights @ (flip > 0.5).astype(np.float64), weights.sum(1)),
    }
    table |= {f"iou/{name}": values.iou[:, c] for c, name in enumerate(names)}
    table |= {"iou/foreground": values.foreground_iou, "mean_iou": values.mean_iou}
    foreground = np.flatnonzero(is_foreground(len(names), background)).tolist()
    return table | {f"flip/{names[c]}": values.class_flip[:, c] for c in foreground}


class Ranking(NamedTuple):
    """Statistics of S resamples of images sorted by flip-risk: each (S,), or (S, 10) for deciles; see `summarize`."""

    risk_auroc: Any
    risk_aurc: np.ndarray
    top_decile_flip_share: np.ndarray
    top_decile_ceiling: np.ndarray
    top_decile_of_ceiling: np.ndarray
    risk_decile: np.ndarray
    flip_by_risk_decile: np.ndarray
    n_images_without_risk: np.ndarray


def ranking(study: Study, members: np.ndarray, counts: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the statistics of `Ranking` of resamples (S, n) of `members`."""
    return rank_images(study.flip[members], study.risk[members], counts)._asdict()


def rank_images(flip: np.ndarray, risk: np.ndarray, counts: np.ndarray) -> Ranking:
    """Sorts images by flip-risk.

    Images of equal risk share their mean flip share, so that their order does not matter.

    Args:
        flip: flip shares (N,), NaN without true foreground.
        risk: flip-risks (N,), NaN without predicted foreground.
        counts: (S, N), how often each resample holds each image.
    """
    known = np.flatnonzero(~np.isnan(flip) & ~np.isnan(risk))
    order, ends = sort_scores(risk[known])
    known = known[order]
    flip, risk, weights = flip[known], risk[known], counts[:, known]
    ranked = weights.sum(1).astype(np.int64)
    edges = np.arange(DECILES + 1) * ranked[:, None] // DECILES
    sizes = np.diff(edges, axis=1)
    most = int(ranked.max())
    numbers = np.broadcast_to(np.arange(most + 1), (len(ranked), most + 1))
    sums = first_sums(numbers, weights, flip, ends)
    flips = np.diff(np.take_along_axis(sums, edges, axis=1), axis=1)
    by_flip = np.argsort(flip)
    largest = np.diff(first_sums(edges[:, -2:], weights[:, by_flip], flip[by_flip]), axis=1)[:, 0]
    total = weights @ flip
    share, ceiling = divide(flips[:, -1], total), divide(largest, total)
    above = np.where(ceiling > 1 / DECILES + 1e-9, ceiling - 1 / DECILES, 0.0)
    curve = sums[:, 1:] / numbers[:, 1:]
    return Ranking(
        risk_auroc=auroc(risk, flip > 0.5, weights=weights),
        risk_aurc=divide(curve.sum(1, where=numbers[:, 1:] <= ranked[:, None]), ranked),
        top_decile_flip_share=share,
        top_decile_ceiling=ceiling,
        top_decile_of_ceiling=divide(share - 1 / DECILES, above),
        risk_decile=divide(np.diff(first_sums(edges, weights, risk), axis=1), sizes),
        flip_by_risk_decile=divide(flips, sizes),
        n_images_without_risk=counts.sum(1).astype(np.int64) - ranked,
    )


def percentile_ends(values: np.ndarray) -> np.ndarray:
    """Returns the 95% percentile interval of resamples (S, ...), ignoring NaN: (2, ...)."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN", RuntimeWarning)
        return np.nanpercentile(values, (2.5, 97.5), axis=0)


def members_of(
    groups: Any, *, images: int, classes: int, background: Background, all_groups: AnyGroups | None = None
) -> dict[str, np.ndarray]:
    """Returns the indices of the images of each group, by its name in `summarize`.

    Raises:
        ValueError: not one integer per image, an unknown group, or groups of a different number of classes.
    """
    groups = _integers("groups", groups, images)
    present = np.unique(groups).tolist()
    F = int(is_foreground(classes, background).sum())
    numbered = all_groups or (TWO_BY_TWO if F == 2 else None)
    if numbered is None:
        return {str(g): np.flatnonzero(groups == g) for g in present}
    named = isinstance(numbered, NamedGroups)
    count = len(numbered.names) if named else numbered.count
    if not set(present) <= set(range(count)) or not (named or numbered.classes == F):
        what = "one of each name" if named else f"{numbered.scenes} * class + scene of {numbered.classes} classes"
        raise ValueError(f"groups: expected 0..{count - 1}, {what}, found {present} of {F} foreground classes.")
    return {name: np.flatnonzero(np.isin(groups, ids)) for name, ids in numbered.named.items()}


class Study(NamedTuple):
    """N images of C classes on the host, and how they are grouped.

    Attributes:
        confusion: int64 (N, C, C).
        background: of the classes.
        margins: int64 (N, 4 C), `Margins` side by side.
        flip: flip shares (N,), NaN without true foreground.
        risk: flip-risks (N,), NaN without predicted foreground.
        class_names: (C,).
        parts: the indices of the images behind each prefix of keys: all of them behind "", then `group/<g>/`.
        groups: (N,), the group of each image.
        all_groups: the classes and scenes that are numbered, or None.
        sides: the key of each group's IoU, that of its own class; empty without `all_groups`.
    """

    confusion: np.ndarray
    background: Background
    margins: np.ndarray
    flip: np.ndarray
    risk: np.ndarray
    class_names: tuple[str, ...]
    parts: dict[str, np.ndarray]
    groups: np.ndarray
    all_groups: Groups | None = None
    sides: tuple[str, ...] = ()

    @property
    def ranked(self) -> np.ndarray:
        """The images with true and predicted foreground and no NaN risk: bool (N,)."""
        return ~np.isnan(self.flip) & ~np.isnan(self.risk)


def _read(
    decomposition: Decomposition,
    groups: Any = None,
    class_names: Sequence[str] | None = None,
    all_groups: AnyGroups | None = None,
) -> Study:
    """Reads the arguments that all summaries share, in int64 and float64."""
    if isinstance(decomposition, list):
        raise TypeError("decomposition: expected one, found a list. Pass flipjax.metrics.concatenate(parts).")
    confusion, risk_sum = np.asarray(decomposition.confusion), np.asarray(decomposition.risk_sum)
    if confusion.ndim != 3 or risk_sum.shape != confusion.shape[:1]:
        found = f"{confusion.shape} and {risk_sum.shape}; of one image pass leaf[None]"
        raise ValueError(f"decomposition: expected (n, C, C) and (n,), found {found}.")
    if not np.issubdtype(confusion.dtype, np.integer):
        raise TypeError(f"decomposition: expected integer counts in confusion, found {confusion.dtype}.")
    host = Decomposition(confusion.astype(np.int64), risk_sum.astype(np.float64), decomposition.background)
    background, (n, C) = host.background, confusion.shape[:2]
    full = class_names_of(class_names, classes=C, background=background)
    sums = np.concatenate(margins(host.confusion, background=background), axis=1)
    values = host.confusion, background, sums, np.asarray(host.flip), np.asarray(host.flip_risk)
    study = Study(*values, full, {"": np.arange(n)}, np.asarray(groups))
    if groups is None:
        return study
    members = members_of(groups, images=n, classes=C, background=background, all_groups=all_groups)
    study.parts.update({f"group/{name}/": own for name, own in members.items()})
    all_groups = all_groups or (TWO_BY_TWO if "common" in members else None)
    if not isinstance(all_groups, Groups):
        return study
    own = [full[c] for c in np.flatnonzero(is_foreground(C, background))]
    sides = tuple(f"group/{g}/iou/{own[all_groups.class_of(g)]}" for g in range(all_groups.count))
    return study._replace(all_groups=all_groups, sides=sides)


def _evaluate(study: Study, counts: np.ndarray, keys: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    """Evaluates keys of `summarize`, or all, for all resamples (S, N) at once, group by group."""
    across = keys is None or any(key.startswith(ACROSS) for key in keys)
    wanted = {prefix: set() for prefix in study.parts if keys is None}
    for key in (*(key for key in keys or () if not key.startswith(ACROSS)), *(study.sides if across else ())):
        prefix = next(prefix for prefix in reversed(study.parts) if key.startswith(prefix))
        wanted.setdefault(prefix, set()).add(key.removeprefix(prefix))
    values: dict[str, np.ndarray] = {}
    for prefix, inside in wanted.items():
        own = study.parts[prefix], counts[:, study.parts[prefix]]
        table = pooled(study, *own)
        if keys is None or not inside <= table.keys():
            table |= ranking(study, *own)
        values |= {prefix + key: value for key, value in table.items()}
    values |= across_groups(study, values, counts) if across else {}
    return values if keys is None else {key: values[key] for key in keys}


def across_groups(study: Study, values: Mapping[str, np.ndarray], counts: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the quantities that compare groups, from the IoU of each: NaN where one that they need has none."""
    all_groups = study.all_groups
    if all_groups is None:
        return {}
    ious = np.array([values[side] for side in study.sides])
    table: dict[str, Any] = {}
    for y in range(all_groups.classes):
        common, rare = map(list, all_groups.sides_of(y))
        if common:
            name = study.sides[all_groups.of(y, 0)].split("/", 3)[-1]
            table[f"gap/{name}"] = ious[common].mean(0) - ious[rare].mean(0)
    table |= {"gap/mean": sum(table.values()) / len(table), "worst_group_iou": ious.min(0)}
    if all_groups.classes > 2:
        flips, pulled = (counts @ pull_counts(study.confusion, study.groups, all_groups, study.background)).T
        table["scene_pull"] = divide(pulled, flips)
    return table


def flips_to(confusion: Any, *, background: Background = 0) -> np.ndarray:
    """Counts the pixels of each image that flip to each foreground class: int64 (n, F).

    Args:
        confusion: int (n, C, C), rows truth.
        background: as in `LabelSpec`.

    Example:
        >>> flips_to(np.array([[[9, 0, 0], [0, 3, 1], [0, 2, 5]]])).tolist()
        [[2, 1]]
    """
    confusion = np.asarray(confusion).astype(np.int64)
    inside = is_foreground(confusion.shape[-1], background)
    return flips_of(confusion, background=background).sum(1)[:, inside]


def flip_cube(confusion: Any, groups: Any, *, all_groups: Groups) -> np.ndarray:
    """Counts the pixels of each class and scene that flip to each class: int64 (F, S, F).

    Args:
        confusion: int (n, C, C) of images with one class each.
        groups: int (n,).
        all_groups: the groups that they number.

    Example:
        >>> counts = np.array([[[9, 0, 0], [0, 3, 1], [0, 0, 0]]])
        >>> flip_cube(counts, [1], all_groups=Groups()).tolist()
        [[[0, 0], [0, 1]], [[0, 0], [0, 0]]]
    """
    cube = np.zeros((all_groups.count, all_groups.classes), np.int64)
    np.add.at(cube, np.asarray(groups), flips_to(confusion))
    return cube.reshape(all_groups.classes, all_groups.scenes, all_groups.classes)


def pull_counts(confusion: Any, groups: Any, all_groups: Groups, background: Background = 0) -> np.ndarray:
    """Counts flipped pixels in rare-group images, and those that flip to a class whose usual scene is shown.

    The ratio of their sums, second over first, is the *pull of the scene*.

    Args:
        confusion: int (n, C, C), rows truth.
        groups: int (n,).
        all_groups: the groups that they number.
        background: as in `LabelSpec`.

    Returns:
        int64 (n, 2); 0 for images of common groups.

    Example:
        >>> counts = np.zeros((2, 4, 4), int)
        >>> counts[:, 1, 2:] = (6, 2)  # The first in the scene of the class that takes 6, the second in its own.
        >>> pull_counts(counts, [1, 0], Groups(3, 3)).tolist()
        [[8, 6], [0, 0]]
    """
    groups = np.asarray(groups)
    targets = flips_to(confusion, background=background) * np.isin(groups, all_groups.rare)[:, None]
    shown = usual_table(all_groups)[:, all_groups.scene_of(groups)].T
    return np.stack([targets.sum(1), (targets * shown).sum(1)], axis=1)


def pull_chance(all_groups: Groups) -> float:
    """Returns the scene pull of flips spread evenly over the wrong classes, averaged over rare groups.

    1 / (F - 1) where each scene is usual for one class.

    Example:
        >>> pull_chance(Groups()), pull_chance(Groups(4, 4)), pull_chance(Groups(4, 2))
        (1.0, 0.3333333333333333, 0.6666666666666666)
    """
    rivals = usual_table(all_groups).sum(0)[all_groups.scene_of(np.array(all_groups.rare))]
    return float(rivals.mean() / (all_groups.classes - 1))


def usual_table(all_groups: Groups) -> np.ndarray:
    """Returns whether a scene is usual for a class: bool (F, S)."""
    return np.isin(np.arange(all_groups.count), all_groups.common).reshape(all_groups.classes, all_groups.scenes)


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
    study = _read(decomposition, groups, class_names, all_groups)
    values = _evaluate(study, np.ones((1, len(study.flip))))
    matrix = study.confusion.sum(0)
    return {key: value[0].tolist() for key, value in values.items()} | {"flip_matrix": matrix.tolist()}


def bootstrap(
    decomposition: Decomposition,
    statistic: str | Sequence[str] | Callable[[Decomposition], Any],
    *,
    key: jax.Array,
    samples: int = 1000,
    groups: Any = None,
    pairs: Any = None,
    clusters: Any = None,
    **options: Any,
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
        **options: `class_names` and `all_groups` of `summarize`.

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
    study = _read(decomposition, groups, **options)
    n = len(study.flip)
    if n == 0 or samples < 1:
        raise ValueError(f"bootstrap: expected at least one image and one resample, found {n} and samples={samples}.")
    keys = ("",) if callable(statistic) else (statistic,) if isinstance(statistic, str) else tuple(statistic)
    if not callable(statistic):
        known = _evaluate(study, np.ones((1, n)))
        if unknown := [name for name in keys if name not in known]:
            more = "; keys of groups and gaps need groups=" if groups is None else ""
            expected = f"a function or one of {', '.join(known)}{more}"
            raise ValueError(f"statistic: expected {expected}; found {unknown[0]!r}.")
    intervals = _auroc_intervals(study, pairs=pairs, clusters=clusters)
    drawn = [name for name in keys if name not in intervals]
    generator = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    parts, block = [], max(1, _INDICES_AT_ONCE // n)
    for start in range(0, samples if drawn else 0, block):
        count = min(block, samples - start)
        counts = draw_images(generator, n, samples=count, groups=groups, pairs=pairs, clusters=clusters)
        if callable(statistic):
            strata = _strata(groups, pairs, n) if clusters is None else []
            values = [np.asarray(statistic(_taken(decomposition, row, strata))) for row in counts]
            parts.append({"": np.stack(values)})
        else:
            parts.append(_evaluate(study, counts, drawn))
    intervals |= {name: _percentile_interval(np.concatenate([part[name] for part in parts])) for name in drawn}
    if callable(statistic) or isinstance(statistic, str):
        return intervals[keys[0]]
    return {name: intervals[name] for name in keys}


def resampled(
    decomposition: Decomposition, keys: Sequence[str], *, counts: np.ndarray, **options: Any
) -> dict[str, np.ndarray]:
    """Evaluates keys of `summarize` on resamples of images: each (S,) float64, or (S, 10) for deciles.

    The same counts for several models give paired resamples, for intervals of their differences.

    Args:
        decomposition: leaves of shape (n, C, C) and (n,), NumPy or JAX.
        keys: keys of `summarize`.
        counts: (S, n), how often each resample holds each image, from `flipjax.metrics.summary.draw_images`.
        **options: `groups`, `class_names` and `all_groups` of `summarize`.

    Example:
        >>> confusion = np.array([[[5, 0, 0], [0, 3, 1], [0, 0, 0]], [[5, 0, 0], [0, 0, 0], [2, 2, 0]]])
        >>> images, counts = Decomposition(confusion, np.array([1.0, 2.0])), np.array([[1, 1], [2, 0]])
        >>> resampled(images, ["fg_flip"], counts=counts)["fg_flip"].tolist()
        [0.375, 0.25]
    """
    return _evaluate(_read(decomposition, **options), counts, keys)


def risk_aurocs(
    decomposition: Decomposition, groups: Any = None, *, pairs: Any = None, all_groups: AnyGroups | None = None
) -> dict[str, Interval]:
    """Returns the interval of each `risk_auroc` of `summarize`, by key; arguments as in `bootstrap`."""
    return _auroc_intervals(_read(decomposition, groups, all_groups=all_groups), pairs=pairs)


def _auroc_intervals(study: Study, *, pairs: Any = None, clusters: Any = None) -> dict[str, Interval]:
    """Returns the intervals of the AUROC of flip-risk; images that are drawn together count as one."""
    name, values = ("pairs", pairs) if clusters is None else ("clusters", clusters)
    numbers = _together(name, values, len(study.flip))
    intervals = {}
    for prefix, places in study.parts.items():
        places = places[study.ranked[places]]
        flipped = study.flip[places] > 0.5
        events, others = (len(np.unique(numbers[places[side]])) for side in (flipped, ~flipped))
        value = auroc(study.risk[places], flipped)
        ends = auroc_ends(value, events, others) if events and others else (np.nan, np.nan)
        intervals[f"{prefix}risk_auroc"] = Interval(*ends)
    return intervals


def _taken(decomposition: Decomposition, counts: np.ndarray, strata: Sequence[np.ndarray]) -> Decomposition:
    """Returns the images of a resample with NumPy leaves; each set of `strata` takes the place of one of its kind."""
    counts = counts.astype(np.int64)
    row = np.repeat(np.arange(len(counts)), counts)
    for stratum in strata:
        row[stratum] = np.repeat(stratum, counts[stratum[:, 0]], axis=0)
    leaves = np.asarray(decomposition.confusion)[row], np.asarray(decomposition.risk_sum)[row]
    return Decomposition(*leaves, decomposition.background)


def _percentile_interval(values: np.ndarray) -> Interval:
    low, high = percentile_ends(values.astype(np.float64))
    return Interval(low, high) if values.ndim > 1 else Interval(float(low), float(high))
