"""Statistics of a set of images, computed for many resamples of it at once: exact integers and float64, NumPy only.

`summarize` evaluates them on the images as they are, `bootstrap` on its resamples, so the two cannot differ.
Every function takes `Draws`: for each of S resamples, the indices of its n images.
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
from flipjax.metrics.decomposition import Decomposition, divide, flips_of

DECILES = 10
RANKED = (
    "risk_auroc",
    "risk_aurc",
    "top_decile_flip_share",
    "risk_decile",
    "flip_by_risk_decile",
    "n_images_without_risk",
)
"""What `ranking` tells; `pooled` tells all else."""


class Draws:
    """Resamples of N images: `rows` (S, n), the indices of n of them. What follows from them is counted once."""

    def __init__(self, rows: np.ndarray, images: int, *, keep: bool = False):
        """Counts nothing yet; `keep`, where many models are asked about: parts are counted once, too."""
        self.rows = rows
        self._images = images
        self._parts: dict[str, Draws] | None = {} if keep else None

    def part(self, name: str, places: np.ndarray) -> Draws:
        """Returns the draws of some places of each resample, those of a group; the same places for a name."""
        if self._parts is None:
            return Draws(self.rows[:, places], self._images)
        if name not in self._parts:
            self._parts[name] = Draws(self.rows[:, places], self._images)
        return self._parts[name]

    @functools.cached_property
    def counts(self) -> np.ndarray:
        """How often each image stands in each row: whole numbers as float64 (S, N), which BLAS multiplies."""
        samples, N = len(self.rows), self._images
        cells = self.rows + N * np.arange(samples)[:, None]
        return np.bincount(cells.ravel(), minlength=samples * N).reshape(samples, N).astype(np.float64)


class Images(NamedTuple):
    """What the statistics need of each image.

    An image is ranked where it has true and predicted foreground and no NaN risk. `rank` is its place in ascending
    flip-risk (equal risks in the order given); the images that are not ranked come last.
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
        TypeError: no decomposition, or its confusion does not hold integers.
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


def strata(n: int, groups: np.ndarray | None, pairs: np.ndarray | None) -> list[np.ndarray]:
    """Returns what a bootstrap draws from, in turn: int64 (m, k), m sets of k images, those of one set drawn together.

    Sets of one stratum are alike in the groups of their images, in order.

    Raises:
        ValueError: pairs are not n integers.

    Example:
        >>> [stratum.tolist() for stratum in strata(5, np.array([0, 1, 0, 1, 1]), np.array([7, 7, 2, 2, -1]))]
        [[[0, 1], [2, 3]], [[4]]]
    """
    groups = np.zeros(n, np.int64) if groups is None else np.asarray(groups)
    numbers = np.full(n, -1) if pairs is None else np.asarray(pairs)
    if numbers.shape != (n,) or not np.issubdtype(numbers.dtype, np.integer):
        raise ValueError(f"pairs: expected {n} integers, found {numbers.dtype} of shape {numbers.shape}.")
    # An image alone is a set of its own.
    numbers = np.where(numbers < 0, -1 - np.arange(n), numbers)
    sets: dict[int, list[int]] = {}
    for image in np.argsort(groups, kind="stable").tolist():
        sets.setdefault(int(numbers[image]), []).append(image)
    alike: dict[tuple[int, ...], list[list[int]]] = {}
    for images in sets.values():
        alike.setdefault(tuple(groups[images].tolist()), []).append(images)
    return [np.array(alike[kind], np.int64) for kind in sorted(alike)]


def resample(
    strata: Sequence[np.ndarray], samples: int, *, draw: Callable[[int, tuple[int, int]], np.ndarray]
) -> np.ndarray:
    """Returns rows (samples, n) of resamples: each set of images gives way to one of its stratum.

    `draw` takes a stratum's number and the shape (samples, m), and returns integers below m.
    """
    rows = np.empty((samples, sum(stratum.size for stratum in strata)), np.int64)
    for number, stratum in enumerate(strata):
        rows[:, stratum] = stratum[draw(number, (samples, len(stratum)))]
    return rows


def pooled(images: Images, draws: Draws, class_names: Sequence[str]) -> dict[str, np.ndarray]:
    """Returns shares and IoU of the pixels of all images together, and the image-mean Flip: each (S,)."""
    inside = is_foreground(images.confusion.shape[-1], images.background)
    truth = images.confusion.sum(2)
    predicted = images.confusion.sum(1)
    same = np.diagonal(images.confusion, axis1=1, axis2=2)
    unseen = images.confusion[..., ~inside].sum(2)
    # Resampled in place of the C * C cells, of which nothing else is needed.
    margins = np.concatenate([truth, predicted, same, unseen], axis=1)
    weights = draws.counts
    # Sums of whole numbers: exact in float64.
    sums = (weights @ margins.astype(np.float64)).astype(np.int64)
    truth, predicted, same, unseen = np.split(sums, 4, axis=1)
    foreground = truth[:, inside].sum(1)
    correct = same[:, inside].sum(1)
    miss = unseen[:, inside].sum(1)
    spill = (truth - unseen)[:, ~inside].sum(1)
    flips = truth - same - unseen
    known = ~np.isnan(images.flip)
    weights = weights if known.all() else weights[:, known]
    flip = images.flip[known]
    table = {
        "n_images": np.full(len(draws.rows), draws.rows.shape[1]),
        "fg_correct": divide(correct, foreground),
        "fg_flip": divide(foreground - correct - miss, foreground),
        "fg_miss": divide(miss, foreground),
        "flip_image_mean": divide(weights @ flip, weights.sum(1)),
        "flipped_images": divide(weights @ (flip > 0.5).astype(np.float64), weights.sum(1)),
    }
    ious = divide(same, truth + predicted - same)
    for c, name in enumerate(class_names):
        table[f"iou/{name}"] = ious[:, c]
    table["iou/foreground"] = divide(foreground - miss, foreground + spill)
    present = ~np.isnan(ious)
    table["mean_iou"] = divide(ious.sum(1, where=present), present.sum(1))
    for c in np.flatnonzero(inside).tolist():
        table[f"flip/{class_names[c]}"] = divide(flips[:, c], truth[:, c])
    return table


def ranking(images: Images, draws: Draws) -> dict[str, np.ndarray]:
    """Returns statistics of the images sorted by flip-risk: each (S,), or (S, 10) for the deciles."""
    rows, known = draws.rows, images.ranked
    n = rows.shape[1]
    ranked = np.count_nonzero(known[rows], axis=1)
    place = np.sort(images.rank[rows], axis=1)
    inside = np.arange(n) < ranked[:, None]
    order = np.argsort(images.rank)
    flip = np.where(inside, images.flip[order][place], 0.0)
    risk = np.where(inside, images.risk[order][place], 0.0)
    edges = np.arange(DECILES + 1) * ranked[:, None] // DECILES
    sizes = np.diff(edges, axis=1)
    running = _running(flip)
    flip_sums = _between(running, edges)
    covered_mean = running[:, 1:] / np.arange(1, n + 1)
    return {
        "risk_auroc": selective.weighted_auroc(images.risk[known], images.flip[known] > 0.5, draws.counts[:, known]),
        "risk_aurc": divide(np.sum(covered_mean, axis=1, where=inside), ranked),
        "top_decile_flip_share": divide(flip_sums[:, -1], flip.sum(1)),
        "risk_decile": divide(_between(_running(risk), edges), sizes),
        "flip_by_risk_decile": divide(flip_sums, sizes),
        "n_images_without_risk": n - ranked,
    }


def percentile_ends(values: np.ndarray) -> np.ndarray:
    """Returns the ends of the 95% interval of resamples (S, ...), the NaN left out: (2, ...), NaN where all are."""
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
    """Returns the places of the images of each group, by its name, as `summarize` has them.

    Raises:
        ValueError: not one integer an image, one that is no group, or groups of another number of classes.
    """
    groups = np.asarray(groups)
    if groups.shape != (images,) or not np.issubdtype(groups.dtype, np.integer):
        raise ValueError(
            f"groups: expected {images} integers, one an image, found {groups.dtype} of shape {groups.shape}."
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
    """The groups of n images: their numbers, the places of each group's images by its name, and what is numbered."""

    numbers: np.ndarray
    members: dict[str, np.ndarray]
    all_groups: AnyGroups | None


def read_grouping(groups: Any, images: Images, all_groups: AnyGroups | None) -> Grouping:
    """Returns the grouping of images by groups (n,) or None; for `all_groups` and errors see `members_of`."""
    if groups is None:
        return Grouping(np.zeros(0, int), {}, None)
    n, C = images.confusion.shape[:2]
    members = members_of(groups, images=n, classes=C, background=images.background, all_groups=all_groups)
    return Grouping(np.asarray(groups), members, all_groups or (TWO_BY_TWO if "common" in members else None))


def across_groups(
    grouping: Grouping, images: Images, draws: Draws, names: Sequence[str]
) -> dict[str, tuple[tuple[str, ...], Callable[..., np.ndarray]]]:
    """Returns the quantities that compare groups, by key: the IoUs that each is made of, and how."""
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
    """Returns the pixels of each image that are flipped to each foreground class, int64 (n, F).

    Args:
        confusion: int (n, C, C), rows truth.
        background: its class, several or None.

    Example:
        >>> flips_to(np.array([[[9, 0, 0], [0, 3, 1], [0, 2, 5]]])).tolist()
        [[2, 1]]
    """
    confusion = np.asarray(confusion).astype(np.int64)
    inside = is_foreground(confusion.shape[-1], background)
    return flips_of(confusion, background=background).sum(1)[:, inside]


def flip_cube(confusion: Any, groups: Any, *, all_groups: Groups, background: Background = 0) -> np.ndarray:
    """Returns the pixels of each class and scene that are flipped to each class: int64 (F, S, F).

    Args:
        confusion: int (n, C, C) of images that show one class each.
        groups: int (n,).
        all_groups: what they number.
        background: its class, several or None.

    Example:
        >>> counts = np.array([[[9, 0, 0], [0, 3, 1], [0, 0, 0]]])
        >>> flip_cube(counts, [1], all_groups=Groups()).tolist()
        [[[0, 0], [0, 1]], [[0, 0], [0, 0]]]
    """
    cube = np.zeros((all_groups.count, all_groups.classes), np.int64)
    np.add.at(cube, np.asarray(groups), flips_to(confusion, background=background))
    return cube.reshape(all_groups.classes, all_groups.scenes, all_groups.classes)


def pull_counts(confusion: Any, groups: Any, *, all_groups: Groups, background: Background = 0) -> np.ndarray:
    """Returns the pixels of each image of a rare group that are flipped, and that go to a class whose scene it shows.

    Over images the sum of the second over that of the first is the *pull of the scene*.

    Args:
        confusion: int (n, C, C), rows truth.
        groups: int (n,).
        all_groups: what they number.
        background: its class, several or None.

    Returns:
        int64 (n, 2); 0 for an image of a common group.

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
    """Returns the pull of flips that choose evenly among the wrong classes: the mean over the rare groups.

    It is 1 / (F - 1) where each scene is usual for one class.

    Example:
        >>> pull_chance(Groups()), pull_chance(Groups(4, 4)), pull_chance(Groups(4, 2))
        (1.0, 0.3333333333333333, 0.6666666666666666)
    """
    rivals = usual_table(all_groups).sum(0)[all_groups.scene_of(np.array(all_groups.rare))]
    return float(rivals.mean() / (all_groups.classes - 1))


def usual_table(all_groups: Groups) -> np.ndarray:
    """Returns whether a scene is usual for a class: bool (F, S)."""
    return np.isin(np.arange(all_groups.count), all_groups.common).reshape(all_groups.classes, all_groups.scenes)
