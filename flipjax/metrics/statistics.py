"""Statistics of many resamples of images at once, in exact integers and float64. NumPy only.

`summarize` evaluates them on all images and `bootstrap` on resamples.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from flipjax.groups import TWO_BY_TWO, AnyGroups, Groups, NamedGroups
from flipjax.metrics import selective
from flipjax.metrics.classes import Background, is_foreground
from flipjax.metrics.decomposition import Decomposition, Margins, divide, flips_of, margins, rates

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
"""Keys of `ranking`; `pooled` returns the others."""


class Draws:
    """Resamples of N images: `rows` (S, n), indices of images, -1 for an empty place."""

    def __init__(self, rows: np.ndarray, images: int, *, keep: bool = False, aligned: bool = True):
        """Stores the resamples.

        Args:
            rows: int (S, n).
            images: N.
            keep: whether to store the draws of each group, for many models on the same resamples.
            aligned: whether column i always holds an image of the group of image i.
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


def independent(images: int, *, pairs: Any = None, clusters: Any = None) -> np.ndarray:
    """Returns integers (N,), equal for images that are drawn together."""
    name, values = ("pairs", pairs) if clusters is None else ("clusters", clusters)
    return _together(name, np.full(images, -1) if values is None else values, images)


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
    # Empty places have index -1, the appended last: not ranked.
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
    """Group numbers of n images, indices of the images of each group by name, and the groups that are numbered."""

    numbers: np.ndarray
    members: dict[str, np.ndarray]
    all_groups: AnyGroups | None


def read_grouping(groups: Any, images: Images, all_groups: AnyGroups | None) -> Grouping:
    """Groups images by groups (n,) or None; see `members_of` for `all_groups` and errors."""
    if groups is None:
        return Grouping(np.zeros(0, int), {}, None)
    n, C = images.confusion.shape[:2]
    members = members_of(groups, images=n, classes=C, background=images.background, all_groups=all_groups)
    return Grouping(np.asarray(groups), members, all_groups or (TWO_BY_TWO if "common" in members else None))


def across_groups(
    grouping: Grouping, images: Images, draws: Draws, names: Sequence[str]
) -> dict[str, tuple[tuple[str, ...], Callable[..., np.ndarray]]]:
    """Returns the quantities that compare groups: for each key the IoU keys it needs and a function of them."""
    all_groups = grouping.all_groups
    if not isinstance(all_groups, Groups):
        return {}
    foreground = [names[c] for c in np.flatnonzero(is_foreground(len(names), images.background)).tolist()]
    across: dict[str, tuple[tuple[str, ...], Callable[..., np.ndarray]]] = {}
    for y, name in enumerate(foreground):
        common, rare = all_groups.sides_of(y)
        across[f"gap/{name}"] = tuple(f"group/{g}/iou/{name}" for g in common + rare), partial(_gap, common=len(common))
    gaps = list(across.values())
    sides = tuple(side for own, _ in gaps for side in own)

    def mean_gap(*ious: np.ndarray) -> np.ndarray:
        values = iter(ious)
        total: Any = sum(gap(*islice(values, len(own))) for own, gap in gaps)
        return total / len(gaps)

    # NaN where one group has none.
    across |= {"gap/mean": (sides, mean_gap), "worst_group_iou": (sides, lambda *ious: np.min(ious, axis=0))}
    if all_groups.classes > 2:
        across["scene_pull"] = (), lambda: _pull(grouping, images, draws)
    return across


def _gap(*ious: np.ndarray, common: int) -> np.ndarray:
    return np.mean(ious[:common], axis=0) - np.mean(ious[common:], axis=0)


def _pull(grouping: Grouping, images: Images, draws: Draws) -> np.ndarray:
    options = {"all_groups": grouping.all_groups, "background": images.background}
    flips, pulled = (draws.counts @ pull_counts(images.confusion, grouping.numbers, **options)).T
    return divide(pulled, flips)


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


def flip_cube(confusion: Any, groups: Any, *, all_groups: Groups, background: Background = 0) -> np.ndarray:
    """Counts the pixels of each class and scene that flip to each class: int64 (F, S, F).

    Args:
        confusion: int (n, C, C) of images with one class each.
        groups: int (n,).
        all_groups: the groups that they number.
        background: as in `LabelSpec`.

    Example:
        >>> counts = np.array([[[9, 0, 0], [0, 3, 1], [0, 0, 0]]])
        >>> flip_cube(counts, [1], all_groups=Groups()).tolist()
        [[[0, 0], [0, 1]], [[0, 0], [0, 0]]]
    """
    cube = np.zeros((all_groups.count, all_groups.classes), np.int64)
    np.add.at(cube, np.asarray(groups), flips_to(confusion, background=background))
    return cube.reshape(all_groups.classes, all_groups.scenes, all_groups.classes)


def pull_counts(confusion: Any, groups: Any, *, all_groups: Groups, background: Background = 0) -> np.ndarray:
    """Counts the flipped pixels of images of rare groups, and those that flip to a class whose usual scene is shown.

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
    """Returns the pull of the scene by chance, for flips spread evenly over wrong classes: a mean over rare groups.

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
