"""To which wrong class a scene pulls: flips by class, scene and predicted class. NumPy alone."""

from __future__ import annotations

from typing import Any

import numpy as np

from flipjax.groups import Groups
from flipjax.metrics.classes import Background, is_foreground
from flipjax.metrics.decomposition import flips_of


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
    """Returns what the pull of scenes is made of, for each image: float64 (n, 3), 0 for an image of a common group.

    The pixels that are flipped, those of them that go to a class whose usual scene the image shows, and as many as
    would if flips chose evenly among the F - 1 other classes. Of the sums over images the second to the first is the
    *pull of the scene*, the third to the first its chance level: 1 / (F - 1) where each scene is usual for one class.

    Args:
        confusion: int (n, C, C), rows truth.
        groups: int (n,).
        all_groups: what they number.
        background: its class, several or None.

    Example:
        >>> counts = np.zeros((2, 4, 4), int)
        >>> counts[0, 1, 2:], counts[1, 1, 2:] = (6, 2), (5, 5)  # A class in the second's scene, and in its own.
        >>> pull_counts(counts, [1, 0], all_groups=Groups(3, 3)).tolist()
        [[8.0, 6.0, 4.0], [0.0, 0.0, 0.0]]
    """
    targets = flips_to(confusion, background=background)
    usual = np.array([[scene in own for own in all_groups.usual] for scene in range(all_groups.scenes)])
    shown = usual[all_groups.scene_of(np.asarray(groups))]
    flips = targets.sum(1)
    drawn = flips * shown.sum(1) / (all_groups.classes - 1)
    return np.stack([flips, (targets * shown).sum(1), drawn], 1) * np.isin(groups, all_groups.rare)[:, None]
