"""What a configuration says: the values of its keys, in its sections, axes and members. Imports no JAX."""

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any, TypeVar

from flipjax.config.config_type import Config
from flipjax.config.keys import Key
from flipjax.config.sections import AXES, KEYS, PLACES, PoolSpec

Part = TypeVar("Part")
"""A dataclass of `flipjax.config.SECTIONS`."""


def leaves(tree: Config | Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flattens a nested mapping to dotted names.

    Example:
        >>> leaves({"train": {"epochs": 4, "hflip": 0.5}, "members": ()})
        {'train.epochs': 4, 'train.hflip': 0.5, 'members': ()}
    """
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if hasattr(value, "items"):
            flat.update(leaves(value, f"{prefix}{name}."))
        else:
            flat[prefix + name] = value
    return flat


def value_in_section(config: Config, key: Key) -> Any:
    """Returns the value of a key in its section.

    Example:
        >>> from flipjax import configure
        >>> value_in_section(configure("smoke"), KEYS["pool.size"])
        32
    """
    return config[key.section][key.field]


def values_of(config: Config, column: str) -> tuple[Any, ...]:
    """Returns all values of a traced key: those that entries of `config.members` set, and those of members without one.

    Example:
        >>> from flipjax import configure
        >>> values_of(configure("smoke"), "rho"), values_of(configure("smoke"), "crop")
        ((0.5, 0.95), (0.0,))
        >>> values_of(configure("smoke", {"members": [{"train.crop": 0.5}, {"train.jitter": 0.3}]}), "crop")
        (0.5, 0.0)
    """
    key = AXES[column]
    values = [entry[key.axis] for entry in config.members if key.axis in entry]
    if len(values) < max(1, len(config.members)):
        values += values_if_unlisted(config, key)
    return tuple(dict.fromkeys(values))


def values_if_unlisted(config: Config, key: Key) -> tuple[Any, ...]:
    """Returns the values of a key for members whose entry in `config.members` omits it: of its axis, or of its home.

    Example:
        >>> from flipjax import configure
        >>> config = configure("smoke", {"axes.rho": (0.5,), "members": [{"rho": 0.9}, {"train.crop": 1.0}]})
        >>> values_if_unlisted(config, AXES["rho"]), values_if_unlisted(config, AXES["crop"])
        ((0.5,), (0.0,))
    """
    section = config.axes
    if key.section != "axes":
        section = section.get(key.section, {})
    if key.field in section:
        return tuple(section[key.field])
    return (value_in_section(config, key),)


@dataclasses.dataclass(frozen=True)
class Point:
    """The values of the static keys that vary, in one program, and which entries of `config.members` are in it."""

    values: Mapping[str, Any]
    """By dotted name; every point has the same names."""
    entries: list[Mapping[str, Any]]
    """The entries, with their traced keys alone."""


def points_of(config: Config) -> list[Point]:
    """Returns the points of the static keys, one for each program: in every entry of members, the product of the axes.

    Example:
        >>> from flipjax import configure
        >>> for point in points_of(configure("smoke", {"axes.model.width": (8, 16), "axes.pool.size": (48,)})):
        ...     print(point.values)
        {'model.width': 8, 'pool.size': 48}
        {'model.width': 16, 'pool.size': 48}
        >>> members = [{"model.width": 16, "rho": 0.9}, {"model.depth": 4}, {"model.width": 16, "rho": 1.0}]
        >>> for point in points_of(configure("smoke", {"axes.rho": (0.5,), "members": members})):
        ...     print(point.values, point.entries)
        {'model.width': 16, 'model.depth': 3} [{'rho': 0.9}, {'rho': 1.0}]
        {'model.width': 8, 'model.depth': 4} [{}]
    """
    names = [name for name in varied_names(config) if PLACES[f"axes.{name}"].compiles]
    points: dict[tuple[Any, ...], Point] = {}
    for entry in config.members or ({},):
        values = []
        for name in names:
            if name in entry:
                values.append((entry[name],))
            else:
                values.append(values_if_unlisted(config, KEYS[name]))
        of_traced = {name: value for name, value in entry.items() if name not in names}
        for combination in itertools.product(*values):
            point = Point(dict(zip(names, combination, strict=True)), [])
            points.setdefault(combination, point).entries.append(of_traced)
    return list(points.values())


def varied_names(config: Config) -> list[str]:
    """Returns the names of the axes, then those that only entries of `config.members` set.

    Example:
        >>> from flipjax import configure
        >>> varied_names(configure("smoke", {"axes.model.width": (8, 16), "members": [{"train.crop": 1.0}]}))
        ['method', 'model.width', 'rho', 'seed', 'train.crop']
    """
    names = dict.fromkeys(leaves(config.axes))
    for entry in config.members:
        names.update(dict.fromkeys(entry))
    return list(names)


def read_static(part: type[Part], config: Config, point: Mapping[str, object], **further: object) -> Part:
    """Returns the record of a section's static keys or options, with the values of a point.

    `further` are fields that are no keys.

    Example:
        >>> from flipjax import configure
        >>> from flipjax.config import ModelSpec
        >>> read_static(ModelSpec, configure("smoke"), {"model.width": 16}).width
        16
    """
    fields = dict(further)
    for key in KEYS.values():
        if key.part is not part:
            continue
        value = value_in_section(config, key)
        if key.name in point:
            value = point[key.name]
        if isinstance(value, list):
            value = tuple(value)
        fields[key.field] = value
    return part(**fields)


def pool_spec(config: Config, point: Mapping[str, object]) -> PoolSpec:
    """Returns the specification of the pool at a point.

    Example:
        >>> from flipjax import configure
        >>> pool_spec(configure("smoke"), {"pool.size": 32}).size
        32
        >>> pool_spec(configure("smoke", {"axes.pool.cue_strength": (0.5, 1.0)}), {}).blended
        True
    """
    return read_static(PoolSpec, config, point, blended="cue_strength" in active_numbers(config))


def active_numbers(config: Config) -> tuple[str, ...]:
    """Returns the optional traced keys of which any member has another value than the default.

    Example:
        >>> from flipjax import configure
        >>> active_numbers(configure("smoke")), active_numbers(configure("smoke", {"axes.train.crop": (0.0, 0.5)}))
        ((), ('crop',))
    """
    active = []
    for key in KEYS.values():
        if key.optional and any(value != key.default for value in values_of(config, key.field)):
            active.append(key.field)
    return tuple(active)
