"""Reads the groups and clusters of images as a user gives them: a name or a number for each image. NumPy only."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from flipjax.config.groups import TWO_BY_TWO, AnyGroups, NamedGroups
from flipjax.metrics.inputs.classes import Background, is_foreground
from flipjax.metrics.inputs.host import read_array, read_integers


def number_groups(
    groups: ArrayLike, *, n_images: int, classes: int, background: Background, all_groups: AnyGroups | None = None
) -> tuple[np.ndarray, AnyGroups]:
    """Returns the number of each image's group, int (n,), and the groups in the order of their numbers.

    By default the groups of two foreground classes are each class in each of two scenes; those of more classes are the
    integers that occur, numbered anew from 0.

    Args:
        groups: integers (n,).
        n_images: n.
        classes: C.
        background: as in `LabelSpec`.
        all_groups: the groups in the order of their numbers; None: the default.

    Raises:
        ValueError: not one integer per image, an unknown group, or groups of a different number of classes.
    """
    numbers = read_integers(groups, n_images=n_images, name="groups")
    occurring = np.unique(numbers)
    F = int(is_foreground(classes, background).sum())
    if all_groups is None and F == 2:
        all_groups = TWO_BY_TWO
    if all_groups is None:
        return np.searchsorted(occurring, numbers), NamedGroups(tuple(map(str, occurring.tolist())))
    if isinstance(all_groups, NamedGroups):
        count = len(all_groups.names)
        meaning = "one of each name"
        fits = True
    else:
        count = all_groups.count
        meaning = f"{all_groups.scenes} * class + scene of {all_groups.classes} classes"
        fits = all_groups.classes == F
    if not fits or not set(occurring.tolist()) <= set(range(count)):
        found = f"found {occurring.tolist()} of {F} foreground classes"
        raise ValueError(f"groups: expected 0..{count - 1}, {meaning}, {found}.")
    return numbers, all_groups


def read_groups(
    groups: ArrayLike, *, n_images: int, classes: int, background: Background, all_groups: AnyGroups | None
) -> np.ndarray:
    """Returns a copy of the groups of n images of a batch: names (n,), or with `all_groups` numbers (n,).

    Args:
        groups: names, as texts or integers; with `all_groups` their names or numbers.
        n_images: n.
        classes: C.
        background: as in `LabelSpec`.
        all_groups: all groups there are; None: groups of any name.

    Raises:
        ValueError: not one for each image, an empty or unknown name, or another number of classes.

    Example:
        >>> read_groups(["north", "east/1"], n_images=2, classes=3, background=0, all_groups=None).tolist()
        ['north', 'east_1']
    """
    if all_groups is None:
        return read_names(groups, n_images=n_images, name="groups")
    values = read_array(groups, name="groups")
    if isinstance(all_groups, NamedGroups) and values.dtype.kind not in "iu":
        names = read_names(groups, n_images=n_images, name="groups").tolist()
        unknown = sorted({*names} - {*all_groups.names})
        if unknown:
            raise ValueError(f"groups: expected names of {', '.join(all_groups.names)}, found {', '.join(unknown)}.")
        return np.array([all_groups.names.index(name) for name in names], np.int64)
    numbers = np.array(values, ndmin=1, copy=True)
    number_groups(numbers, n_images=n_images, classes=classes, background=background, all_groups=all_groups)
    return numbers


def read_names(values: ArrayLike, *, n_images: int, name: str) -> np.ndarray:
    """Returns the names of n images' groups or clusters, texts (n,), of texts or integers.

    Raises:
        ValueError: not one for each image, or an empty one.
    """
    given = read_array(values, name=name)
    if given.dtype.kind not in "OU":
        given = read_integers(given, n_images=n_images, name=name)
    if given.shape != (n_images,):
        raise ValueError(f"{name}: expected {n_images}, one an image, found {given.dtype} of shape {given.shape}.")
    # Keys of summaries join names with slashes.
    names = [" ".join(str(text).split()).replace("/", "_") for text in given.tolist()]
    if "" in names:
        raise ValueError(f"{name}: expected a name for each image, found none for image {names.index('')} of a batch.")
    return np.array(names, object)


def number_names(names: np.ndarray) -> tuple[np.ndarray, NamedGroups]:
    """Numbers the names (n,) of groups from 0 in their order; returns the numbers, int (n,), and the groups.

    Example:
        >>> numbers, groups = number_names(np.array(["south", "north", "south"], object))
        >>> numbers.tolist(), groups.names
        ([1, 0, 1], ('north', 'south'))
    """
    present, numbers = np.unique(np.asarray(names, str), return_inverse=True)
    return numbers, NamedGroups(tuple(present.tolist()))


def number_batches(groups: np.ndarray, all_groups: AnyGroups | None) -> tuple[np.ndarray, AnyGroups]:
    """Returns the number of each image's group, int (n,), and the groups in the order of their numbers.

    Args:
        groups: (n,) of all batches, as `read_groups` returned them.
        all_groups: as in `read_groups`.
    """
    if all_groups is not None:
        return groups, all_groups
    return number_names(groups)


def check_every_batch(argument: str, *, is_given: bool, was_given: bool) -> None:
    """Raises a ValueError for an argument that some batches have, and others lack."""
    if is_given != was_given:
        raise ValueError(f"{argument}: expected with every batch or with none.")
