"""What a configuration says: the values of its keys, in its sections, axes and grid. Imports no JAX."""

import itertools
from collections.abc import Mapping
from typing import Any, TypeVar

from flipjax.config.config_type import Config
from flipjax.config.keys import Key
from flipjax.config.sections import AXES, KEYS, PoolSpec

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


def values_of(config: Config, name: str) -> tuple[Any, ...]:
    """Returns all values of an axis: those that entries of `config.members` set, and those of members that set none.

    Example:
        >>> from flipjax import configure
        >>> values_of(configure("smoke"), "rho"), values_of(configure("smoke"), "crop")
        ((0.5, 0.95), (0.0,))
        >>> values_of(configure("smoke", {"members": [{"crop": 0.5}, {"jitter": 0.3}]}), "crop")
        (0.5, 0.0)
    """
    values = [entry[name] for entry in config.members if name in entry]
    if len(values) < max(1, len(config.members)):
        values += values_if_unlisted(config, name)
    return tuple(dict.fromkeys(values))


def values_if_unlisted(config: Config, name: str) -> tuple[Any, ...]:
    """Returns the values of an axis for members whose entry in `config.members` omits it.

    Example:
        >>> from flipjax import configure
        >>> config = configure("smoke", {"axes.rho": (0.5,), "members": [{"rho": 0.9}, {"crop": 1.0}]})
        >>> values_if_unlisted(config, "rho"), values_if_unlisted(config, "crop")
        ((0.5,), (0.0,))
    """
    if name in config.axes:
        return tuple(config.axes[name])
    return (value_in_section(config, AXES[name]),)


def grid_points(config: Config) -> list[dict[str, Any]]:
    """Returns the points of the grid, one for each program: values of static keys, by dotted name.

    They are the items of a list, or the product of the values of a mapping. All have the same keys: one that some item
    of a list leaves out has the configuration's value there.

    Example:
        >>> from flipjax import configure
        >>> grid_points(configure("smoke", {"grid.model.width": (8, 16), "grid.pool.size": (48,)}))
        [{'model.width': 8, 'pool.size': 48}, {'model.width': 16, 'pool.size': 48}]
        >>> grid_points(configure("smoke", {"grid": [{"model.width": 16}, {"model.depth": 4}]}))
        [{'model.width': 16, 'model.depth': 3}, {'model.width': 8, 'model.depth': 4}]
    """
    grid = config.grid
    if hasattr(grid, "items"):
        values_by_name = leaves(grid)
        combinations = itertools.product(*values_by_name.values())
        return [dict(zip(values_by_name, combination, strict=True)) for combination in combinations]
    unchanged = leaves(config)
    names = dict.fromkeys(itertools.chain.from_iterable(grid))
    default_point = {name: unchanged[name] for name in names}
    return [{**default_point, **item} for item in grid]


def read_static(part: type[Part], config: Config, point: Mapping[str, object], **further: object) -> Part:
    """Returns the record of a section's static keys or options, with the values of a point of the grid.

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
    """Returns the specification of the pool at a point of the grid.

    Example:
        >>> from flipjax import configure
        >>> pool_spec(configure("smoke"), {"pool.size": 32}).size
        32
        >>> pool_spec(configure("smoke", {"axes.cue_strength": (0.5, 1.0)}), {}).blended
        True
    """
    return read_static(PoolSpec, config, point, blended="cue_strength" in active_numbers(config))


def active_numbers(config: Config) -> tuple[str, ...]:
    """Returns the optional traced keys of which any member has another value than the default.

    Example:
        >>> from flipjax import configure
        >>> active_numbers(configure("smoke")), active_numbers(configure("smoke", {"axes.crop": (0.0, 0.5)}))
        ((), ('crop',))
    """
    active = []
    for key in KEYS.values():
        if key.optional and any(value != key.default for value in values_of(config, key.field)):
            active.append(key.field)
    return tuple(active)
