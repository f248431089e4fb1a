"""Reads the groups and clusters of images as a user gives them: a name or a number for each image. NumPy only.

A metric and a stream take them in batches: `read_membership` reads those of a batch, and `join_memberships` puts the
batches together.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from flipjax.config.groups import TWO_BY_TWO, AnyGroups, NamedGroups
from flipjax.metrics.inputs.classes import Background, is_foreground
from flipjax.metrics.inputs.host import read_array, read_integers


@dataclasses.dataclass(frozen=True)
class Membership:
    """The group and the cluster of each of n images."""

    groups: np.ndarray | None = None
    """(n,), the name of each image's group, or with `all_groups` its number; None without groups."""
    clusters: np.ndarray | None = None
    """(n,), the name of each image's cluster; None without clusters."""

    def numbered_groups(self, all_groups: AnyGroups | None) -> tuple[np.ndarray | None, AnyGroups | None]:
        """Returns the number of each image's group, int (n,), and the groups in the order of their numbers.

        Args:
            all_groups: as in `read_membership`.
        """
        if self.groups is None or all_groups is not None:
            return self.groups, all_groups
        return number_names(self.groups)

    @property
    def numbered_clusters(self) -> np.ndarray | None:
        """The number of each image's cluster, int (n,); None without clusters."""
        if self.clusters is None:
            return None
        numbers, _ = number_names(self.clusters)
        return numbers


def read_membership(
    groups: ArrayLike | None,
    clusters: ArrayLike | None,
    *,
    n_images: int,
    classes: int,
    background: Background,
    all_groups: AnyGroups | None,
    earlier: Membership | None,
) -> Membership:
    """Reads the groups and clusters of a batch of n images.

    Args:
        groups: names, as texts or integers; with `all_groups` their names or numbers; None without groups.
        clusters: names, as texts or integers; None without clusters.
        n_images: n.
        classes: C.
        background: as in `LabelSpec`.
        all_groups: all groups there are; None: groups of any name.
        earlier: those of an earlier batch, which have groups, and clusters, if this batch has them; None: no batch was.

    Raises:
        ValueError: not one for each image, an empty or unknown name, another number of classes, or groups or clusters
            of this batch alone.

    Example:
        >>> batch = read_membership(
        ...     ["north", "east/1"], [7, 7], n_images=2, classes=3, background=0, all_groups=None, earlier=None
        ... )
        >>> numbers, all_groups = batch.numbered_groups(None)
        >>> numbers.tolist(), all_groups.names, batch.clusters.tolist(), batch.numbered_clusters.tolist()
        ([1, 0], ('east_1', 'north'), ['7', '7'], [0, 0])
    """
    of_groups = None
    if groups is not None:
        of_groups = _read_groups(
            groups, n_images=n_images, classes=classes, background=background, all_groups=all_groups
        )
    of_clusters = None
    if clusters is not None:
        of_clusters = read_names(clusters, n_images=n_images, name="clusters")
    if earlier is not None:
        _check_every_batch("groups", of_groups, earlier.groups)
        _check_every_batch("clusters", of_clusters, earlier.clusters)
    return Membership(of_groups, of_clusters)


def _check_every_batch(argument: str, names: np.ndarray | None, earlier: np.ndarray | None) -> None:
    """Raises a ValueError for an argument that some batches have, and others lack."""
    if (names is None) != (earlier is None):
        raise ValueError(f"{argument}: expected with every batch or with none.")


def join_memberships(batches: Sequence[Membership]) -> Membership:
    """Returns the groups and clusters of the images of all batches, as `read_membership` returned those of each."""
    groups = [batch.groups for batch in batches if batch.groups is not None]
    clusters = [batch.clusters for batch in batches if batch.clusters is not None]
    joined = Membership()
    if groups:
        joined = dataclasses.replace(joined, groups=np.concatenate(groups))
    if clusters:
        joined = dataclasses.replace(joined, clusters=np.concatenate(clusters))
    return joined


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


def _read_groups(
    groups: ArrayLike, *, n_images: int, classes: int, background: Background, all_groups: AnyGroups | None
) -> np.ndarray:
    """Returns a copy of the groups of a batch: names (n,), or with `all_groups` numbers (n,); see `read_membership`."""
    if all_groups is None:
        return _group_names(groups, n_images)
    values = read_array(groups, name="groups")
    if isinstance(all_groups, NamedGroups) and values.dtype.kind not in "iu":
        names = _group_names(groups, n_images).tolist()
        unknown = sorted({*names} - {*all_groups.names})
        if unknown:
            raise ValueError(f"groups: expected names of {', '.join(all_groups.names)}, found {', '.join(unknown)}.")
        return np.array([all_groups.names.index(name) for name in names], np.int64)
    numbers = np.array(values, ndmin=1, copy=True)
    number_groups(numbers, n_images=n_images, classes=classes, background=background, all_groups=all_groups)
    return numbers


def _group_names(groups: ArrayLike, n_images: int) -> np.ndarray:
    """Returns the names of n images' groups without slashes, with which keys of summaries join names."""
    names = read_names(groups, n_images=n_images, name="groups")
    return np.array([text.replace("/", "_") for text in names.tolist()], object)


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
    names = [" ".join(str(text).split()) for text in given.tolist()]
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
