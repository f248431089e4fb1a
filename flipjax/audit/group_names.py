"""Names groups in tables and in keys of the summary."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike

from flipjax.audit.groups import ImageGroups
from flipjax.config.groups import AnyGroups, Groups, NamedGroups

PREFIX = "group/"
"""Beginning of the keys of a group's numbers."""
T = TypeVar("T")


def name_groups(
    all_groups: AnyGroups | None, foreground: Sequence[str], scene_names: Sequence[str], *, present: ArrayLike = ()
) -> dict[int, str]:
    """Returns group names: those of `NamedGroups`, class+scene if both have names, or numbers.

    Example:
        >>> from flipjax.config.groups import TWO_BY_TWO
        >>> name_groups(TWO_BY_TWO, ("cow", "dog"), ("land", "sea"))[1], name_groups(TWO_BY_TWO, ("cow", "dog"), ())[1]
        ('cow+sea', '1')
    """
    if isinstance(all_groups, NamedGroups):
        return dict(enumerate(all_groups.names))
    if all_groups is None:
        return {group: str(group) for group in np.unique(present).tolist()}
    plain = {group: str(group) for group in range(all_groups.count)}
    if not scene_names:
        return plain
    named = {}
    for group in plain:
        name = f"{foreground[all_groups.class_of(group)]}+{scene_names[all_groups.scene_of(group)]}"
        # Summary keys are separated by slashes.
        named[group] = name.replace("/", "_")
    if len(set(named.values())) < len(named):
        return plain
    return named


def key_names(groups: ImageGroups, foreground: Sequence[int], class_names: Sequence[str]) -> dict[int, str]:
    """Returns the names that replace the numbers of groups in keys; none of groups that keys name already.

    Args:
        groups: of n images.
        foreground: the foreground classes.
        class_names: of all C classes.
    """
    if groups.numbers is None or not isinstance(groups.all_groups, Groups):
        return {}
    names = [class_names[c] for c in foreground]
    return name_groups(groups.all_groups, names, groups.scene_names, present=groups.numbers)


def with_names(table: Mapping[str, T], group_names: Mapping[int, str]) -> dict[str, T]:
    """Replaces group numbers in keys `group/<number>/...` by names.

    Example:
        >>> with_names({"fg_flip": 0.2, "group/1/fg_flip": 0.4, "group/rare/fg_flip": 0.4}, {1: "sea"})
        {'fg_flip': 0.2, 'group/sea/fg_flip': 0.4, 'group/rare/fg_flip': 0.4}
    """
    names = {str(group): name for group, name in group_names.items()}
    renamed = {}
    for key, value in table.items():
        if not key.startswith(PREFIX):
            renamed[key] = value
            continue
        group, _, key_in_group = key.removeprefix(PREFIX).partition("/")
        renamed[f"{PREFIX}{names.get(group, group)}/{key_in_group}"] = value
    return renamed
