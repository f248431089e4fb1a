"""The groups of an audit's images (`ImageGroups`), and their names in tables and in keys of the summary."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np

from flipjax.config.groups import AnyGroups, Groups, NamedGroups

PREFIX = "group/"
"""Beginning of the keys of a group's numbers."""
T = TypeVar("T")
"""A value of the summary, or its interval."""


@dataclasses.dataclass(frozen=True)
class ImageGroups:
    """The groups of n images."""

    numbers: np.ndarray | None
    """The group of each image, int64 (n,); None without groups."""
    all_groups: AnyGroups | None = None
    """The groups that the numbers stand for; None if the caller gave numbers and did not say.

    The audit then reads them as `flipjax.metrics.summarize` does: as 2 * class + scene if there are two foreground
    classes; otherwise as groups without common or rare ones."""
    scene_names: tuple[str, ...] = ()
    """Names of the scenes of `Groups`; empty for other groups."""
    columns: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    """Columns that images.csv has beside the group, such as `scene`: a text an image."""
    fact: str = ""
    """Sentences that tell the reader of the page which scenes are common; empty if there is nothing to tell."""

    def names(self, foreground: Sequence[str]) -> dict[int, str]:
        """Returns all group names by number: those of `NamedGroups`, class+scene if scenes have names, or numbers.

        Args:
            foreground: names of the F foreground classes.

        Example:
            >>> ImageGroups(np.array([1]), Groups(), ("land", "sea")).names(("cow", "dog"))[1]
            'cow+sea'
            >>> ImageGroups(np.array([1]), Groups()).names(("cow", "dog"))[1]
            '1'
        """
        if self.numbers is None:
            return {}
        if isinstance(self.all_groups, NamedGroups):
            return dict(enumerate(self.all_groups.names))
        if self.all_groups is None:
            return {group: str(group) for group in np.unique(self.numbers).tolist()}
        plain = {group: str(group) for group in range(self.all_groups.count)}
        if not self.scene_names:
            return plain
        named = {}
        for group in plain:
            class_name = foreground[self.all_groups.class_of(group)]
            scene_name = self.scene_names[self.all_groups.scene_of(group)]
            # Summary keys are separated by slashes.
            named[group] = f"{class_name}+{scene_name}".replace("/", "_")
        if len(set(named.values())) < len(named):
            # Two groups would share the keys of one name.
            return plain
        return named

    def names_in_keys(self, foreground: Sequence[str]) -> dict[int, str]:
        """Returns the names that replace numbers of groups in keys; none where keys have other names already.

        Args:
            foreground: names of the F foreground classes.
        """
        if not isinstance(self.all_groups, Groups):
            return {}
        return self.names(foreground)


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
