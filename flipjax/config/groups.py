"""Groups of images: a class in a scene, for any number of each. Uses integers only, so every layer can import it."""

import dataclasses
import itertools
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

from flipjax.config.ranges import Range

if TYPE_CHECKING:
    import jax
    import numpy as np

Number = TypeVar("Number", int, "np.ndarray", "jax.Array")
"""An integer, or an array of integers."""


@dataclasses.dataclass(frozen=True)
class Groups:
    """The groups of F foreground classes and S scenes: class y in scene s is group y * S + s, from 0.

    Methods take and return integers, or integer arrays of NumPy or JAX.

    Raises:
        ValueError: a class has no usual scene or no other scene, or a scene is usual for no class.

    Example:
        >>> Groups().common, Groups().rare, Groups().of(1, 0)
        ((0, 3), (1, 2), 2)
        >>> Groups(3, 2).usual, Groups(2, 4, ((0, 1), (2, 3))).common
        (((0,), (1,), (0,)), (0, 1, 6, 7))
    """

    classes: int = 2
    """F, two or more."""
    scenes: int = 2
    """S, two or more."""
    usual: tuple[tuple[int, ...], ...] = ()
    """The usual scenes of each class; empty for scene y mod S of class y."""
    partial: bool = False
    """Whether a scene may be usual for no class, and a class have no usual scene and so neither common nor rare groups,
    as for images that are only evaluated."""

    def __post_init__(self) -> None:
        """Fills in the usual scenes, and checks them."""
        if min(self.classes, self.scenes) < 2:
            raise ValueError(f"groups: expected two or more classes and scenes, found {self.classes}, {self.scenes}")
        usual = self.usual or tuple((y % self.scenes,) for y in range(self.classes))
        object.__setattr__(self, "usual", usual)
        if any(len(set(scenes)) < len(scenes) for scenes in usual):
            raise ValueError(f"usual: expected each usual scene of a class once, found {usual}")
        fewest = 0 if self.partial else 1
        if len(usual) != self.classes or not all(fewest <= len(scenes) < self.scenes for scenes in usual):
            raise ValueError(f"usual: expected for each of {self.classes} classes some of its scenes, found {usual}")
        covered = set(itertools.chain.from_iterable(usual))
        if not self.partial and covered != set(range(self.scenes)):
            raise ValueError(f"usual: expected each of {self.scenes} scenes for some class, found {usual}")

    @property
    def count(self) -> int:
        """Number of groups, F * S."""
        return self.classes * self.scenes

    def of(self, y: Number, scene: Number | int) -> Number:
        """Returns the group of class y in a scene."""
        return y * self.scenes + scene

    def class_of(self, group: Number) -> Number:
        """Returns the class of a group."""
        return group // self.scenes

    def scene_of(self, group: Number) -> Number:
        """Returns the scene of a group."""
        return group % self.scenes

    def moved(self, group: Number, steps: Number | int = 1) -> Number:
        """Returns the group of the same class `steps` scenes on; with two scenes, the other one."""
        return self.of(self.class_of(group), (self.scene_of(group) + steps) % self.scenes)

    @property
    def independence(self) -> float:
        """The rho at which scene and class are independent: the fraction of usual scenes."""
        return max(map(len, self.usual)) / self.scenes

    @property
    def rho_range(self) -> Range:
        """The possible values of rho, from independence to 1.

        Example:
            >>> Groups(4, 4).rho_range.text
            'a number in [0.25, 1], of which 0.25 makes class and scene independent'
        """
        low = self.independence

        def accepts(rho: float) -> bool:
            # Fractions such as 1/3 cannot be typed exactly.
            return low - 1e-6 <= rho <= 1

        return Range(accepts, f"a number in [{low:.6g}, 1], of which {low:.6g} makes class and scene independent")

    def sides_of(self, y: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Returns the common and the rare groups of class y.

        Example:
            >>> Groups(2, 4, ((0, 1), (2, 3))).sides_of(1)
            ((6, 7), (4, 5))
        """
        of_class = [self.of(y, scene) for scene in range(self.scenes)]
        common = tuple(group for group in of_class if group in self.common)
        rare = tuple(group for group in of_class if group in self.rare)
        return common, rare

    @cached_property
    def common(self) -> tuple[int, ...]:
        """Groups of a class in a usual scene."""
        common = []
        for y, scenes in enumerate(self.usual):
            common += [self.of(y, scene) for scene in scenes]
        return tuple(sorted(common))

    @cached_property
    def rare(self) -> tuple[int, ...]:
        """Groups of a class with usual scenes in another scene."""
        rare = []
        for group in range(self.count):
            if self.usual[self.class_of(group)] and group not in self.common:
                rare.append(group)
        return tuple(rare)

    @cached_property
    def named(self) -> dict[str, tuple[int, ...]]:
        """Every group by its number, then `common` and `rare`."""
        by_number = {str(group): (group,) for group in range(self.count)}
        return {**by_number, "common": self.common, "rare": self.rare}

    def kind_of(self, group: int) -> str:
        """Returns `common` or `rare`; `neither` for a class without a usual scene.

        Example:
            >>> tied = Groups(2, 2, ((0,), ()), partial=True)
            >>> [tied.kind_of(group) for group in range(4)]
            ['common', 'rare', 'neither', 'neither']
        """
        if group in self.common:
            return "common"
        if group in self.rare:
            return "rare"
        return "neither"

    def title_of(self, group: int, class_names: Sequence[str], scene_names: Sequence[str]) -> str:
        """Returns the name of a group, given the names of the F classes and S scenes.

        Example:
            >>> Groups().title_of(2, ("cat", "dog"), ("indoor", "outdoor"))
            'dog on indoor'
        """
        return f"{class_names[self.class_of(group)]} on {scene_names[self.scene_of(group)]}"

    def title_of_name(self, name: str, class_names: Sequence[str], scene_names: Sequence[str]) -> str:
        """Returns the name of a group of `named` in words: of a number as `title_of`, of the others the name itself.

        Example:
            >>> [Groups().title_of_name(name, ("cat", "dog"), ("indoor", "outdoor")) for name in ("2", "rare")]
            ['dog on indoor', 'rare']
        """
        if not name.isdigit():
            return name
        return self.title_of(int(name), class_names, scene_names)


@dataclasses.dataclass(frozen=True)
class NamedGroups:
    """Groups that are not class-scene pairs, such as cities: group i has name i.

    Example:
        >>> NamedGroups(("Rome", "Oslo")).named
        {'Rome': (0,), 'Oslo': (1,)}
    """

    names: tuple[str, ...]
    """The names of the groups, in the order of their numbers."""

    def __post_init__(self) -> None:
        """Raises a ValueError for a name that is twice."""
        if len(set(self.names)) < len(self.names):
            twice = next(name for name in self.names if self.names.count(name) > 1)
            raise ValueError(f"names: expected different names of groups, found {twice!r} twice")

    @cached_property
    def named(self) -> dict[str, tuple[int, ...]]:
        """Every group by its name."""
        return {name: (group,) for group, name in enumerate(self.names)}


AnyGroups = Groups | NamedGroups
"""Groups that images can be numbered by."""
TWO_BY_TWO = Groups()
"""Two classes and two scenes, each class with a usual scene of its own.

Example:
    >>> TWO_BY_TWO.count, TWO_BY_TWO.common, TWO_BY_TWO.rare
    (4, (0, 3), (1, 2))
"""
