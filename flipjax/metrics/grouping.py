"""The groups of images by name, and what compares them. NumPy alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from flipjax.groups import TWO_BY_TWO, AnyGroups, Groups, NamedGroups
from flipjax.metrics import statistics
from flipjax.metrics.classes import Background, is_foreground
from flipjax.metrics.decomposition import divide
from flipjax.metrics.pull import pull_counts


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


def read_grouping(groups: Any, images: statistics.Images, all_groups: AnyGroups | None) -> Grouping:
    """Returns the grouping of images by groups (n,) or None; for `all_groups` and errors see `members_of`."""
    if groups is None:
        return Grouping(np.zeros(0, int), {}, None)
    n, C = images.confusion.shape[:2]
    members = members_of(groups, images=n, classes=C, background=images.background, all_groups=all_groups)
    return Grouping(np.asarray(groups), members, all_groups or (TWO_BY_TWO if "common" in members else None))


def across_groups(
    grouping: Grouping, images: statistics.Images, draws: statistics.Draws, names: Sequence[str]
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


def _pull(grouping: Grouping, images: statistics.Images, draws: statistics.Draws) -> np.ndarray:
    options = {"all_groups": grouping.all_groups, "background": images.background}
    flips, pulled = (draws.counts @ pull_counts(images.confusion, grouping.numbers, **options)).T
    return divide(pulled, flips)
