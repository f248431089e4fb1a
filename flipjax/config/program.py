"""A program, which is compiled once, and its members, each a setting. Imports no JAX.

`flipjax.config.plan` makes the programs of a configuration. The functions here choose some of a program's members:
those that are left to train, those of a shard, and the one that the gallery shows.
"""

import dataclasses
import json
from collections.abc import Collection, Mapping, Sequence
from typing import TypeAlias

from flipjax.config.keys import Scalar
from flipjax.config.methods import Augmentation, Knobs
from flipjax.config.sections import Condition, Cue, Experiment, Recipe, Thinning
from flipjax.support.files import sha256

Value: TypeAlias = "str | Scalar | tuple[Value, ...] | None"
"""A member's value of an axis or of a static key; None where its method does not use one."""

GALLERY_RHO = 0.9
"""Level of rho that the gallery shows: flips are frequent, and training has common and rare groups.

Example:
    >>> from flipjax import configure
    >>> from flipjax.config.plan import plan
    >>> [program] = plan(configure("smoke", {"axes.rho": (0.5, 0.85, 1.0), "axes.seed": (0,)})).programs
    >>> gallery_member(program)  # Of the level nearest to it.
    'm001'
"""


@dataclasses.dataclass(frozen=True)
class Setting:
    """A member before it has arrays: its values as tables show them, and again as the records that use them.

    `flipjax.training.task.make_member` makes a `flipjax.training.member.Member` of it: rho, seed and
    thinning choose its images, and the other numbers become its arrays.

    Example:
        >>> from flipjax import configure
        >>> from flipjax.config.plan import plan
        >>> [program] = plan(configure("smoke", {"axes.rho": (0.5, 0.9), "axes.seed": (0,)})).programs
        >>> program.settings[1].name, program.settings[1].condition
        ('m001', Condition(rho=0.9, seed=0, method='ce'))
    """

    name: str
    """Its name in the run, such as m003."""
    axes: Mapping[str, Value]
    """Its values of the grid, then of the axes, as tables show them; None for a knob that its method does not use."""
    condition: Condition
    """Its rho, seed and method."""
    recipe: Recipe
    """The numbers of its optimiser."""
    knobs: Knobs
    """The numbers of its method."""
    augmentation: Augmentation
    """The probabilities of its augmentations."""
    cue: Cue
    """The strength of its cue."""
    thinning: Thinning
    """The training images that it keeps."""

    @property
    def columns(self) -> dict[str, Value]:
        """The axes as table columns, blank where the member's method does not use one."""
        columns = {}
        for name, value in self.axes.items():
            if value is None:
                value = ""
            columns[name] = value
        return columns


@dataclasses.dataclass(frozen=True)
class Program:
    """One static experiment and the members that share its compiled program.

    Example:
        >>> from flipjax import configure
        >>> from flipjax.config.plan import plan
        >>> first, second = plan(configure("smoke", {"axes.model.width": (8, 16)})).programs
        >>> second.name, second.experiment.model.width, second.names, second.epochs, second.rhos
        ('001', 16, ('m004', 'm005', 'm006', 'm007'), (4, 4, 4, 4), (0.5, 0.95))
    """

    name: str
    """Its position in the configuration's grid, such as 000."""
    experiment: Experiment
    """What determines the compiled program."""
    settings: tuple[Setting, ...]
    """Its members."""
    rhos: tuple[float, ...]
    """All levels of rho of the configuration, in its order."""
    part: str = ""
    """A digest of the names of the members, if they are some of those planned; else empty."""
    identity: str = ""
    """A digest of the configuration, and the program's position in it; stored results of another are rejected."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the members."""
        return tuple(setting.name for setting in self.settings)

    def setting_of(self, member: str) -> Setting:
        """Returns the setting of a member by its name."""
        return self.settings[self.names.index(member)]

    @property
    def epochs(self) -> tuple[int, ...]:
        """The most epochs of each member, including JTT's first run."""
        return tuple(self.experiment.train.epochs + int(setting.knobs.jtt_epochs) for setting in self.settings)


def restrict(program: Program, names: Collection[str]) -> Program:
    """Returns the program with only the members in `names`; the program itself if these are all.

    Example:
        >>> from flipjax import configure
        >>> from flipjax.config.plan import plan
        >>> [program] = plan(configure("smoke")).programs
        >>> restrict(program, ["m001", "m003"]).names, restrict(program, program.names) is program
        (('m001', 'm003'), True)
    """
    chosen = set(names)
    settings = tuple(setting for setting in program.settings if setting.name in chosen)
    if len(settings) == len(program.settings):
        return program
    part = sha256(" ".join(setting.name for setting in settings))[:12]
    return dataclasses.replace(program, settings=settings, part=part)


def shard_members(programs: Sequence[Program], *, index: int, count: int) -> set[str]:
    """Returns the names of the members of shard `index` (from 0) of `count`, in turn, in the order of their contents.

    The result does not depend on the order of the grid, and shard sizes differ by at most one.

    Example:
        >>> from flipjax import configure
        >>> from flipjax.config.plan import plan
        >>> programs = plan(configure("smoke")).programs
        >>> shards = [shard_members(programs, index=index, count=3) for index in range(3)]
        >>> [len(shard) for shard in shards], sorted(set.union(*shards))
        ([2, 1, 1], ['m000', 'm001', 'm002', 'm003'])
    """
    ordered = []
    for program in programs:
        for setting in program.settings:
            content = json.dumps(dict(setting.axes), sort_keys=True, default=str)
            ordered.append((sha256(content), setting.name))
    return {name for _, name in sorted(ordered)[index::count]}


def gallery_member(program: Program) -> str:
    """Returns the name of the member whose predictions the gallery shows.

    It is the first whose rho is nearest to GALLERY_RHO.

    Example:
        >>> from flipjax import configure
        >>> from flipjax.config.plan import plan
        >>> [program] = plan(configure("smoke")).programs
        >>> gallery_member(program), program.settings[2].condition.rho
        ('m002', 0.95)
    """
    return min(program.settings, key=_distance_from_gallery).name


def _distance_from_gallery(setting: Setting) -> float:
    return abs(float(setting.condition.rho) - GALLERY_RHO)
