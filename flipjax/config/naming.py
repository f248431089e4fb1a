"""Resolves the names of classes, scenes and usual scenes in a configuration. Imports no JAX."""

import itertools
from collections.abc import Sequence

from flipjax.config.errors import ConfigError
from flipjax.config.groups import Groups
from flipjax.config.ranges import multiple
from flipjax.config.sections import PoolSpec, SplitSpec

CREATURES = ("mossling", "ripplet", "duneling", "frostlet")
"""Classes that the synthetic pool can draw; the first two by default."""
LANDSCAPES = ("land", "water", "desert", "snow")
"""Scenes that the synthetic pool can draw; the first two by default."""
HUES = ("red", "cyan", "lime", "violet")
"""Colours of markers and tints."""
STRIPES = ("upright", "level", "rising", "falling")
"""Directions of the stripes of textures."""
CUES = {"scene": LANDSCAPES, "marker": HUES, "tint": HUES, "texture": STRIPES}
"""Values of each cue of the synthetic pool: its scenes."""


def groups_of(
    class_names: Sequence[str], scene_names: Sequence[str], usual: Sequence[str | tuple[str, ...]] = ()
) -> Groups:
    """Returns the groups of named classes and scenes.

    Args:
        class_names: F names, y = 0 first.
        scene_names: S names.
        usual: `config.pool.usual`: for each class a scene or several; empty: scene y mod S of class y.

    Raises:
        ConfigError: a scene is unknown or usual for no class, or a class has no usual scene or no rare one.

    Example:
        >>> groups_of(["cat", "dog"], ["grass", "sand", "sea"], ["sand", ("grass", "sea")]).usual
        ((1,), (0, 2))
    """
    field = "config.pool.usual"
    names_of = [(names,) if isinstance(names, str) else names for names in usual]
    if not usual:
        names_of = [(scene_names[y % len(scene_names)],) for y in range(len(class_names))]
    unknown = set(itertools.chain.from_iterable(names_of)).difference(scene_names)
    if unknown:
        raise ConfigError(field, f"scenes among {', '.join(scene_names)}", ", ".join(sorted(unknown)))
    scene_numbers = tuple(tuple(sorted({scene_names.index(name) for name in names})) for names in names_of)
    try:
        return Groups(len(class_names), len(scene_names), scene_numbers)
    except ValueError as error:
        expected = str(error).removeprefix("usual: ").partition(", found")[0]
        found = f"{dict(zip(class_names, names_of, strict=False))} of scenes {', '.join(scene_names)}"
        raise ConfigError(field, problem=f"{expected} (by default class i has scene i mod S); found {found}") from error


def drawn_names(spec: PoolSpec) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Returns the class names and scene names of a synthetic pool.

    Raises:
        ConfigError: the pool cannot draw one of them.
    """
    _check_names("config.pool.classes", spec.classes, CREATURES)
    _check_names("config.pool.scene_kinds", spec.scene_kinds, CUES[spec.cue])
    return spec.classes or CREATURES[:2], spec.scene_kinds or CUES[spec.cue][:2]


def _check_names(field: str, names: Sequence[str], drawn: Sequence[str]) -> None:
    """Raises ConfigError for a name that the pool cannot draw."""
    if not set(names) <= set(drawn):
        raise ConfigError(field, f"names among {', '.join(drawn)}", ", ".join(names))


def known_groups(spec: PoolSpec) -> Groups | None:
    """Returns the groups of a pool if the configuration names its classes and scenes, else None.

    Raises:
        ConfigError: the pool draws no such class, scene or cue, or usual scenes as in `groups_of`.

    Example:
        >>> known_groups(PoolSpec(classes=CREATURES[1:], scene_kinds=LANDSCAPES[1:])).common
        (0, 4, 8)
    """
    if spec.name != "synthetic" and spec.cue != "scene":
        raise ConfigError("config.pool.cue", "scene, as images have no other cue", spec.cue)
    if spec.name != "synthetic" and spec.blended:
        raise ConfigError("config.pool.cue_strength", f"1 for config.pool.name {spec.name}", "a weaker cue")
    classes = spec.classes
    scenes = spec.scene_kinds
    if spec.name == "synthetic":
        classes, scenes = drawn_names(spec)
    if not classes or not scenes:
        return None
    return groups_of(classes, scenes, spec.usual)


def check_sizes(groups: Groups, split: SplitSpec) -> None:
    """Raises ConfigError if a split size is not a multiple that the groups require."""
    why = f"{groups.classes} classes x {groups.scenes} scenes"
    of_groups = multiple(groups.count, groups.count)
    ranges = {"n_train": multiple(groups.classes, 0), "n_val": of_groups, "n_test": of_groups}
    for name, allowed in ranges.items():
        value = getattr(split, name)
        if not allowed.accepts(value):
            raise ConfigError(f"config.split.{name}", f"{allowed.text} ({why})", value)


def check_rho(groups: Groups, rho: float, *, field: str = "config.axes.rho") -> None:
    """Raises ConfigError for a level of rho below that of independent classes and scenes; `field` sets the level."""
    if not groups.rho_range.accepts(rho):
        raise ConfigError(field, groups.rho_range.text, rho)
