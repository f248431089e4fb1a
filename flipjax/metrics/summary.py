"""Summaries of a decomposition on the host, in exact integers and float64, with bootstrap intervals. NumPy only.

`summarize` evaluates its statistics on all images and `bootstrap` on many resamples at once.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from flipjax.groups import TWO_BY_TWO, AnyGroups, Groups, NamedGroups
from flipjax.metrics import selective
from flipjax.metrics.classes import Background, is_foreground
from flipjax.metrics.classes import class_names as class_names_of
from flipjax.metrics.decomposition import Decomposition, Margins, divide, flips_of, margins, rates
from flipjax.metrics.selective import auroc, auroc_ends

if TYPE_CHECKING:
    import jax

DECILES = 10
RANKED = (
    "risk_auroc",
    "risk_aurc",
    "top_decile_flip_share",
    "top_decile_ceiling",
    "top_decile_of_ceiling",
    "risk_decile",
    "flip_by_risk_decile",
    "n_images_without_risk",
)
"""Keys of `ranking`; `pooled` returns the others, but those that compare groups."""
ACROSS = ("gap/", "worst_group_iou", "scene_pull")
"""Keys, or their beginnings, of `across_groups`."""


class Draws:
    """Resamples of N images: `rows` (S, n), indices of images, -1 for padding."""

    def __init__(self, rows: np.ndarray, images: int, *, keep: bool = False, aligned: bool = True):
        """Stores the resamples.

        Args:
            rows: int (S, n).
            images: N.
            keep: whether to store the draws of each group, for many models on the same resamples.
            aligned: whether column i always draws from the group of image i.
        """
        self.rows = rows
        self._images = images
        self._aligned = aligned
        self._parts: dict[str, Draws] | None = {} if keep else None

    def part(self, name: str, members: np.ndarray) -> Draws:
        """Returns the draws within a group, given its name and the indices of its images."""
        if self._parts is None or name not in self._parts:
            if self._aligned:
                rows = self.rows[:, members]
            else:
                inside = np.zeros(self._images + 1, bool)
                inside[members] = True
                rows = np.where(inside[self.rows], self.rows, -1)
            part = Draws(rows, self._images, aligned=self._aligned)
            if self._parts is None:
                return part
            self._parts[name] = part
        return self._parts[name]

    @functools.cached_property
    def sizes(self) -> np.ndarray:
        """Number of images in each resample: int (S,)."""
        return np.count_nonzero(self.rows >= 0, axis=1)

    @functools.cached_property
    def counts(self) -> np.ndarray:
        """Count of each image in each resample: whole numbers as float64 (S, N), for BLAS."""
        samples, N = len(self.rows), self._images
        places = np.where(self.rows < 0, N, self.rows) + (N + 1) * np.arange(samples)[:, None]
        counts = np.bincount(places.ravel(), minlength=samples * (N + 1)).reshape(samples, N + 1)
        return counts[:, :N].astype(np.float64)


def draw_images(
    generator: np.random.Generator,
    images: int,
    *,
    samples: int,
    groups: Any = None,
    pairs: Any = None,
    clusters: Any = None,
) -> Draws:
    """Draws resamples of images with replacement.

    Args:
        generator: of NumPy.
        images: N.
        samples: S.
        groups: int (N,): image i of a resample is drawn from the group of image i. None: one group.
        pairs: int (N,): images with one number show one object and are drawn together, in place of images of the same
            groups; -1 for a single image.
        clusters: int (N,): whole clusters, such as films or patients, are drawn; -1 for a single image. Sizes of groups
            and resamples vary.

    Raises:
        ValueError: arrays that are not N integers, or both pairs and clusters.

    Example:
        >>> draws = draw_images(np.random.default_rng(0), 5, samples=200, clusters=np.array([0, 0, 0, 1, 1]))
        >>> np.unique(draws.counts, axis=0).tolist()
        [[0.0, 0.0, 0.0, 2.0, 2.0], [1.0, 1.0, 1.0, 1.0, 1.0], [2.0, 2.0, 2.0, 0.0, 0.0]]
    """
    if clusters is not None:
        if pairs is not None:
            raise ValueError("clusters: expected none beside pairs; give images of a pair one cluster.")
        return Draws(_draw_clusters(generator, _together("clusters", clusters, images), samples), images, aligned=False)
    groups = np.zeros(images, np.int64) if groups is None else np.asarray(groups)
    numbers = _together("pairs", np.full(images, -1) if pairs is None else pairs, images)
    sets: dict[int, list[int]] = {}
    for image in np.argsort(groups, kind="stable").tolist():
        sets.setdefault(int(numbers[image]), []).append(image)
    strata: dict[tuple[int, ...], list[list[int]]] = {}
    for members in sets.values():
        strata.setdefault(tuple(groups[members].tolist()), []).append(members)
    rows = np.empty((samples, images), np.int64)
    for kind in sorted(strata):
        stratum = np.array(strata[kind], np.int64)
        rows[:, stratum] = stratum[generator.integers(0, len(stratum), (samples, len(stratum)))]
    return Draws(rows, images)


def _draw_clusters(generator: np.random.Generator, numbers: np.ndarray, samples: int) -> np.ndarray:
    """Returns rows (S, n) of whole clusters, padded with -1."""
    _, cluster, sizes = np.unique(numbers, return_inverse=True, return_counts=True)
    members, starts = np.argsort(cluster, kind="stable"), np.cumsum(sizes) - sizes
    drawn = generator.integers(0, len(sizes), (samples, len(sizes)))
    lengths = sizes[drawn]
    ends = np.cumsum(lengths, axis=1)
    rows = np.full((samples, ends[:, -1].max(initial=0)), -1)
    inside = np.arange(rows.shape[1]) < ends[:, -1:]
    offsets = np.repeat((starts[drawn] - (ends - lengths)).ravel(), lengths.ravel())
    rows[inside] = members[offsets + np.nonzero(inside)[1]]
    return rows


def _together(name: str, values: Any, images: int) -> np.ndarray:
    """Returns numbers (N,) with a unique one for each single image."""
    numbers = np.asarray(values)
    if numbers.shape != (images,) or not np.issubdtype(numbers.dtype, np.integer):
        raise ValueError(f"{name}: expected {images} integers, found {numbers.dtype} of shape {numbers.shape}.")
    return np.where(numbers < 0, -1 - np.arange(images), numbers)


class Images(NamedTuple):
    """Counts, flip shares and flip-risks of images on the host.

    Images with true and predicted foreground and no NaN risk are ranked. `rank` is the place in ascending flip-risk,
    unranked images last.
    """

    confusion: np.ndarray
    background: Background
    flip: np.ndarray
    risk: np.ndarray
    ranked: np.ndarray
    rank: np.ndarray


def read_images(decomposition: Decomposition) -> Images:
    """Brings a decomposition with one image axis to the host, and ranks its images.

    Raises:
        TypeError: a list, or a confusion that is not of integers.
        ValueError: not exactly one image axis.
    """
    if isinstance(decomposition, list):
        raise TypeError("decomposition: expected one, found a list. Pass flipjax.metrics.concatenate(parts).")
    confusion = np.asarray(decomposition.confusion)
    risk_sum = np.asarray(decomposition.risk_sum)
    if confusion.ndim != 3 or risk_sum.shape != confusion.shape[:1]:
        raise ValueError(
            "decomposition: expected one leading image axis, so confusion (n, C, C) and risk_sum (n,), found "
            f"{confusion.shape} and {risk_sum.shape}. Of stacked members take one: "
            "jax.tree.map(lambda leaf: leaf[k], decomposition); for one image add the axis: leaf[None]."
        )
    if not np.issubdtype(confusion.dtype, np.integer):
        raise TypeError(f"decomposition: expected integer counts in confusion, found {confusion.dtype}.")
    host = Decomposition(confusion.astype(np.int64), risk_sum.astype(np.float64), decomposition.background)
    flip = np.asarray(host.flip)
    risk = np.asarray(host.flip_risk)
    ranked = ~np.isnan(flip) & ~np.isnan(risk)
    order = np.lexsort((np.where(ranked, risk, 0.0), ~ranked))
    rank = np.empty(len(order), np.int32)
    rank[order] = np.arange(len(order), dtype=np.int32)
    return Images(host.confusion, host.background, flip, risk, ranked, rank)


def pooled(images: Images, draws: Draws, class_names: Sequence[str]) -> dict[str, np.ndarray]:
    """Returns rates of pixels pooled over images, and image means of the flip share: each (S,)."""
    own = np.concatenate(margins(images.confusion, background=images.background), axis=1)
    # Resamples the margins, not the C * C counts. Sums of whole numbers are exact in float64.
    weights = draws.counts
    sums = (weights @ own.astype(np.float64)).astype(np.int64)
    values = rates(Margins(*np.split(sums, 4, axis=1)), background=images.background)
    known = ~np.isnan(images.flip)
    weights = weights if known.all() else weights[:, known]
    flip = images.flip[known]
    table = {
        "n_images": draws.sizes,
        "fg_correct": values.correct,
        "fg_flip": values.flip,
        "fg_miss": values.miss,
        "flip_image_mean": divide(weights @ flip, weights.sum(1)),
        "flipped_images": divide(weights @ (flip > 0.5).astype(np.float64), weights.sum(1)),
    }
    table |= {f"iou/{name}": values.iou[:, c] for c, name in enumerate(class_names)}
    table |= {"iou/foreground": values.foreground_iou, "mean_iou": values.mean_iou}
    foreground = np.flatnonzero(is_foreground(len(class_names), images.background)).tolist()
    return table | {f"flip/{class_names[c]}": values.class_flip[:, c] for c in foreground}


def ranking(images: Images, draws: Draws) -> dict[str, np.ndarray]:
    """Returns statistics of images sorted by flip-risk: each (S,), or (S, 10) for deciles.

    Images of equal risk share their mean flip share, so that their order does not matter.
    """
    # Padding has index -1, which selects an appended, unranked image.
    ranked = np.count_nonzero(np.append(images.ranked, False)[draws.rows], axis=1)
    place = np.sort(np.append(images.rank, len(images.rank)).astype(np.int32)[draws.rows], axis=1)
    inside = np.arange(place.shape[1]) < ranked[:, None]
    order = np.argsort(images.rank)
    own_flip = np.where(inside, np.append(images.flip[order], 0.0)[place], 0.0)
    risk = np.where(inside, np.append(images.risk[order], 0.0)[place], 0.0)
    flip = _tied_means(images, draws, order, place, own_flip)
    edges = np.arange(DECILES + 1) * ranked[:, None] // DECILES
    sizes = np.diff(edges, axis=1)
    running = _running(flip)
    flip_sums = _between(running, edges)
    total = flip.sum(1)
    ascending = np.sort(np.where(inside, own_flip, np.inf), axis=1)
    largest = _between(_running(np.where(inside, ascending, 0.0)), edges)[:, -1]
    share, ceiling = divide(flip_sums[:, -1], total), divide(largest, total)
    above = np.where(ceiling > 1 / DECILES + 1e-9, ceiling - 1 / DECILES, 0.0)
    known = images.ranked
    return {
        "risk_auroc": selective.auroc(images.risk[known], images.flip[known] > 0.5, weights=draws.counts[:, known]),
        "risk_aurc": divide(np.sum(running[:, 1:] / np.arange(1, place.shape[1] + 1), axis=1, where=inside), ranked),
        "top_decile_flip_share": share,
        "top_decile_ceiling": ceiling,
        "top_decile_of_ceiling": divide(share - 1 / DECILES, above),
        "risk_decile": divide(_between(_running(risk), edges), sizes),
        "flip_by_risk_decile": divide(flip_sums, sizes),
        "n_images_without_risk": draws.sizes - ranked,
    }


def _tied_means(images: Images, draws: Draws, order: np.ndarray, place: np.ndarray, flip: np.ndarray) -> np.ndarray:
    """Returns flip shares (S, n) by place, averaged over images of equal risk."""
    order = order[: np.count_nonzero(images.ranked)]
    new = np.append(True, np.diff(images.risk[order]) > 0)[: len(order)]
    if new.all():
        return flip
    starts = np.flatnonzero(new)
    weights = draws.counts[:, order]
    number = np.add.reduceat(weights, starts, axis=1)
    means = divide(np.add.reduceat(weights * images.flip[order], starts, axis=1), number)
    tie = np.cumsum(new) - 1
    inside = place < len(order)
    return np.where(inside, np.take_along_axis(means, tie[np.where(inside, place, 0)], axis=1), 0.0)


def percentile_ends(values: np.ndarray) -> np.ndarray:
    """Returns the 95% percentile interval of resamples (S, ...), ignoring NaN: (2, ...)."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN", RuntimeWarning)
        return np.nanpercentile(values, (2.5, 97.5), axis=0)


def _running(values: np.ndarray) -> np.ndarray:
    """Sums of the first values of each row, from none of them to all: (S, n + 1)."""
    sums = np.zeros((len(values), values.shape[1] + 1))
    np.cumsum(values, axis=1, out=sums[:, 1:])
    return sums


def _between(running: np.ndarray, edges: np.ndarray) -> np.ndarray:
    return np.diff(np.take_along_axis(running, edges, axis=1), axis=1)


def members_of(
    groups: Any, *, images: int, classes: int, background: Background, all_groups: AnyGroups | None = None
) -> dict[str, np.ndarray]:
    """Returns the indices of the images of each group, by its name in `summarize`.

    Raises:
        ValueError: not one integer per image, an unknown group, or groups of a different number of classes.
    """
    groups = np.asarray(groups)
    if groups.shape != (images,) or not np.issubdtype(groups.dtype, np.integer):
        raise ValueError(
            f"groups: expected {images} integers, one per image, found {groups.dtype} of shape {groups.shape}."
        )
    present = np.unique(groups).tolist()
    F = int(is_foreground(classes, background).sum())
    numbered = all_groups or (TWO_BY_TWO if F == 2 else None)
    if numbered is None:
        return {str(g): np.flatnonzero(groups == g) for g in present}
    if isinstance(numbered, NamedGroups):
        if not set(present) <= set(range(len(numbered.names))):
            raise ValueError(f"groups: expected 0..{len(numbered.names) - 1}, one of each name, found {present}.")
    elif numbered.classes != F or not set(present) <= set(range(numbered.count)):
        raise ValueError(
            f"groups: expected {numbered.scenes} * y + scene in 0..{numbered.count - 1} for {numbered.classes} "
            f"foreground classes, found {present} of {F} classes."
        )
    return {name: np.flatnonzero(np.isin(groups, ids)) for name, ids in numbered.named.items()}


class Grouping(NamedTuple):
    """How n images are grouped.

    Attributes:
        numbers: (n,), the group of each.
        members: indices of the images of each group, by name.
        all_groups: the classes and scenes that are numbered, or None.
        sides: the key of each group's IoU, that of its own class; empty without `all_groups`.
    """

    numbers: np.ndarray
    members: dict[str, np.ndarray]
    all_groups: Groups | None = None
    sides: tuple[str, ...] = ()


def across_groups(
    values: Mapping[str, np.ndarray], grouping: Grouping, images: Images, draws: Draws
) -> dict[str, np.ndarray]:
    """Returns the quantities that compare groups, from the IoU of each: NaN where one that they need has none."""
    all_groups = grouping.all_groups
    if all_groups is None:
        return {}
    ious = np.array([values[side] for side in grouping.sides])
    table: dict[str, Any] = {}
    for y in range(all_groups.classes):
        common, rare = map(list, all_groups.sides_of(y))
        if common:
            name = grouping.sides[all_groups.of(y, 0)].split("/", 3)[-1]
            table[f"gap/{name}"] = ious[common].mean(0) - ious[rare].mean(0)
    table |= {"gap/mean": sum(table.values()) / len(table), "worst_group_iou": ious.min(0)}
    if all_groups.classes > 2:
        options = {"all_groups": all_groups, "background": images.background}
        flips, pulled = (draws.counts @ pull_counts(images.confusion, grouping.numbers, **options)).T
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


def pull_counts(confusion: Any, groups: Any, *, all_groups: Groups, background: Background = 0) -> np.ndarray:
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
        >>> pull_counts(counts, [1, 0], all_groups=Groups(3, 3)).tolist()
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
    images, names, grouping = _read(decomposition, groups, class_names, all_groups)
    whole = Draws(np.arange(len(images.rank))[None], len(images.rank))
    parts = {f"group/{group}/": whole.part(group, member) for group, member in grouping.members.items()}
    summary: dict[str, Any] = {}
    for prefix, draws in ({"": whole} | parts).items():
        inside = pooled(images, draws, names) | ranking(images, draws)
        summary |= {prefix + key: value for key, value in inside.items()}
    summary |= across_groups(summary, grouping, images, whole)
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
    exact = _auroc_intervals(images, grouping.members, **together)
    intervals = {name: exact[name] for name in keys if name in exact}
    drawn = [""] if callable(statistic) else [name for name in keys if name not in intervals]
    generator = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    parts, block = [], max(1, _INDICES_AT_ONCE // n)
    for start in range(0, samples if drawn else 0, block):
        count = min(block, samples - start)
        draws = draw_images(generator, n, samples=count, groups=groups, **together)
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
            models with the same groups pass `flipjax.metrics.summary.Draws(rows, n, keep=True)`.
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
    decomposition: Decomposition, groups: Any = None, *, pairs: Any = None, all_groups: AnyGroups | None = None
) -> dict[str, Interval]:
    """Returns the interval of each `risk_auroc` of `summarize`, by key; arguments as in `bootstrap`."""
    images, _, grouping = _read(decomposition, groups, None, all_groups)
    return _auroc_intervals(images, grouping.members, pairs=pairs)


def _auroc_intervals(
    images: Images, members: Mapping[str, np.ndarray], *, pairs: Any = None, clusters: Any = None
) -> dict[str, Interval]:
    """Returns the intervals of the AUROC of flip-risk; images that are drawn together count as one."""
    name, together = ("pairs", pairs) if clusters is None else ("clusters", clusters)
    single = np.full(len(images.flip), -1)
    numbers = _together(name, single if together is None else together, len(single))
    sides = {"": np.arange(len(numbers))} | {f"group/{name}/": places for name, places in members.items()}
    intervals = {}
    for prefix, places in sides.items():
        places = places[images.ranked[places]]
        flipped = images.flip[places] > 0.5
        counts = [len(np.unique(numbers[places[side]])) for side in (flipped, ~flipped)]
        value = auroc(images.risk[places], flipped)
        ends = auroc_ends(value, counts[0], counts[1]) if min(counts) else (np.nan, np.nan)
        intervals[f"{prefix}risk_auroc"] = Interval(*ends)
    return intervals


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
    across = [key for key in keys if key.startswith(ACROSS)]
    sides = [key for key in keys if key not in across] + [*(grouping.sides if across else ())]
    by_group: dict[str, dict[str, str]] = {}
    for side in sides:
        group = next((group for group in grouping.members if side.startswith(f"group/{group}/")), "")
        by_group.setdefault(group, {})[side] = side.removeprefix(f"group/{group}/") if group else side
    values = {}
    for group, wanted in by_group.items():
        inside = draws.part(group, grouping.members[group]) if group else draws
        ranked = set(wanted.values()) & set(RANKED)
        table = ranking(images, inside) if ranked else {}
        table |= pooled(images, inside, names) if set(wanted.values()) - ranked else {}
        values |= {side: table[inner] for side, inner in wanted.items()}
    values |= across_groups(values, grouping, images, draws) if across else {}
    return {key: values[key] for key in keys}


def _taken(decomposition: Decomposition, row: np.ndarray) -> Decomposition:
    """Returns the images of a resample with NumPy leaves."""
    row = row[row >= 0]
    leaves = np.asarray(decomposition.confusion)[row], np.asarray(decomposition.risk_sum)[row]
    return Decomposition(*leaves, decomposition.background)


def _percentile_interval(values: np.ndarray) -> Interval:
    low, high = percentile_ends(values.astype(np.float64))
    return Interval(low, high) if values.ndim > 1 else Interval(float(low), float(high))


def _read(
    decomposition: Decomposition, groups: Any, names: Sequence[str] | None, all_groups: AnyGroups | None
) -> tuple[Images, tuple[str, ...], Grouping]:
    """Reads the arguments that all summaries share."""
    images = read_images(decomposition)
    n, C = images.confusion.shape[:2]
    full = class_names_of(names, classes=C, background=images.background)
    if groups is None:
        return images, full, Grouping(np.zeros(0, int), {})
    members = members_of(groups, images=n, classes=C, background=images.background, all_groups=all_groups)
    grouping = Grouping(np.asarray(groups), members)
    all_groups = all_groups or (TWO_BY_TWO if "common" in members else None)
    if isinstance(all_groups, Groups):
        own = [full[c] for c in np.flatnonzero(is_foreground(C, images.background))]
        sides = [f"group/{g}/iou/{own[all_groups.class_of(g)]}" for g in range(all_groups.count)]
        grouping = grouping._replace(all_groups=all_groups, sides=tuple(sides))
    return images, full, grouping
