"""Flips by class and scene: do they go to the class whose usual scene the image shows? NumPy only."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from flipjax.config.groups import Groups
from flipjax.metrics.classes import Background, is_foreground
from flipjax.metrics.decomposition import flips_of
from flipjax.metrics.host import read_integers


def flips_to(confusion: ArrayLike, *, background: Background = 0) -> np.ndarray:
    """Counts the pixels of each image that flip to each foreground class: int64 (n, F).

    Args:
        confusion: int (n, C, C), rows truth.
        background: as in `LabelSpec`.

    Example:
        >>> flips_to(np.array([[[9, 0, 0], [0, 3, 1], [0, 2, 5]]])).tolist()
        [[2, 1]]
    """
    counts = np.asarray(confusion)
    if counts.dtype.kind not in "iu":
        raise TypeError(f"confusion: expected integers, found {counts.dtype}.")
    counts = counts.astype(np.int64)
    inside = is_foreground(counts.shape[-1], background)
    return flips_of(counts, background=background).sum(1)[:, inside]


def flip_cube(confusion: np.ndarray, groups: ArrayLike, *, all_groups: Groups) -> np.ndarray:
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
    np.add.at(cube, _read_groups(groups, len(confusion), all_groups), flips_to(confusion))
    return cube.reshape(all_groups.classes, all_groups.scenes, all_groups.classes)


def pull_counts(confusion: np.ndarray, groups: ArrayLike, all_groups: Groups, background: Background = 0) -> np.ndarray:
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
    numbers = _read_groups(groups, len(confusion), all_groups)
    targets = flips_to(confusion, background=background) * np.isin(numbers, all_groups.rare)[:, None]
    shown = usual_table(all_groups)[:, all_groups.scene_of(numbers)].T
    return np.stack([targets.sum(1), (targets * shown).sum(1)], axis=1)


def _read_groups(groups: ArrayLike, images: int, all_groups: Groups) -> np.ndarray:
    """Returns the groups of n images, int (n,); raises a ValueError for other numbers of images or groups."""
    numbers = read_integers(groups, images=images, name="groups")
    if images and not 0 <= numbers.min() <= numbers.max() < all_groups.count:
        raise ValueError(f"groups: expected 0..{all_groups.count - 1}, found {np.unique(numbers).tolist()}.")
    return numbers


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
