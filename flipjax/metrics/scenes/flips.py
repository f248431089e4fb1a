"""Flips that a scene explains. NumPy only.

- `counterfactual_flip`: does the predicted label of an object change with its scene?
- `pull_counts`: do flips go to the class whose usual scene the image shows?
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from flipjax.config.groups import Groups
from flipjax.metrics.decomposition import Decomposition, flips_of
from flipjax.metrics.inputs.classes import Background, background_classes, is_foreground
from flipjax.metrics.inputs.host import read_integers


def region_class(decomposition: Decomposition) -> np.ndarray:
    """Returns the majority label of each predicted region, int64 (n,).

    Without a region it is the first background class, or -1 where there is none. Ignored pixels do not count. Ties go
    to the first label.

    Args:
        decomposition: leaves (n, C, C) and (n,).

    Example:
        >>> counts = np.array([[[4, 0, 0], [0, 1, 2], [0, 0, 0]], [[4, 0, 0], [1, 0, 0], [0, 0, 0]]])
        >>> region_class(Decomposition(counts, np.zeros(2))).tolist()
        [2, 0]
    """
    counts = np.asarray(decomposition.confusion).sum(1, dtype=np.int64)
    outside = background_classes(decomposition.background)
    without_region = -1
    if outside:
        without_region = outside[0]
    counts[:, list(outside)] = 0
    return np.where(counts.any(1), counts.argmax(1), without_region)


def whole_pairs(pairs: np.ndarray, *, size: int | None = None) -> np.ndarray:
    """Returns the image indices (P, size) of each counterfactual set, ordered by set number; -1 means no set.

    Smaller sets are left out. `size` is the number of scenes; None: that of the largest set, two at least.

    Example:
        >>> whole_pairs(np.array([3, 1, -1, 1, 3, 5])).tolist()
        [[1, 3], [0, 4]]
    """
    pairs = np.asarray(pairs)
    numbers, counts = np.unique(pairs[pairs >= 0], return_counts=True)
    if size is None:
        size = max(2, int(counts.max(initial=0)))
    sets = [np.flatnonzero(pairs == number) for number in numbers[counts == size]]
    return np.array(sets, np.int64).reshape(-1, size)


def counterfactual_flip(decomposition: Decomposition, pairs: np.ndarray) -> float:
    """Returns the fraction of sets whose predicted label changes with the scene; NaN without sets.

    The label is the majority of the region (`region_class`). Sets with an image without region are left out. Needs no
    true labels.

    Args:
        decomposition: leaves (n, C, C) and (n,).
        pairs: int (n,), the counterfactual set of each image or -1.

    Example:
        >>> counts = np.zeros((4, 3, 3), int)
        >>> counts[[0, 1, 2, 3], 1, [1, 2, 1, 1]] = 5
        >>> counterfactual_flip(Decomposition(counts, np.zeros(4)), np.array([0, 0, 1, 1]))
        0.5
    """
    labels = region_class(decomposition)[whole_pairs(pairs)]
    without_region = np.isin(labels, (-1, *background_classes(decomposition.background))).any(1)
    labels = labels[~without_region]
    if not len(labels):
        return float("nan")
    return float((labels != labels[:, :1]).any(1).mean())


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


def _read_groups(groups: ArrayLike, n_images: int, all_groups: Groups) -> np.ndarray:
    """Returns the groups of n images, int (n,); raises a ValueError for other numbers of images or groups."""
    numbers = read_integers(groups, n_images=n_images, name="groups")
    if n_images and not 0 <= numbers.min() <= numbers.max() < all_groups.count:
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
