"""What a configuration says: the values of its keys, in its sections, axes and grid. Imports no JAX."""

import itertools
from collections.abc import Mapping
from typing import Any, TypeVar

from flipjax.config.keys import Key
from flipjax.config.sections import AXES, KEYS, Config, PoolSpec

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


def value_of(config: Config, key: Key) -> Any:
    """Returns the value of a key in its section.

    Example:
        >>> from flipjax import configure
        >>> value_of(configure("smoke"), KEYS["pool.size"])
        32
    """
    return config[key.section][key.field]


def values_of(config: Config, name: str) -> tuple[Any, ...]:
    """Returns all values of an axis, including those of `config.members`.

    Example:
        >>> from flipjax import configure
        >>> values_of(configure("smoke"), "rho"), values_of(configure("smoke"), "crop")
        ((0.5, 0.95), (0.0,))
        >>> values_of(configure("smoke", {"members": [{"crop": 0.5}, {"jitter": 0.3}]}), "crop")
        (0.5, 0.0)
    """
    values = [setting[name] for setting in config.members if name in setting]
    if not values or not all(name in setting for setting in config.members):
        values += unlisted(config, name)
    return tuple(dict.fromkeys(values))


def unlisted(config: Config, name: str) -> tuple[Any, ...]:
    """Returns the values of an axis for members whose entry in `config.members` omits it.

    Example:
        >>> from flipjax import configure
        >>> config = configure("smoke", {"axes.rho": (0.5,), "members": [{"rho": 0.9}, {"crop": 1.0}]})
        >>> unlisted(config, "rho"), unlisted(config, "crop")
        ((0.5,), (0.0,))
    """
    if name in config.axes:
        return tuple(config.axes[name])
    return (value_of(config, AXES[name]),)


def static_settings(config: Config) -> list[dict[str, Any]]:
    """Returns the dotted static keys of each program: the items of a list, or the product of a mapping.

    Example:
        >>> from flipjax import configure
        >>> static_settings(configure("smoke", {"grid.model.width": (8, 16), "grid.pool.size": (48,)}))
        [{'model.width': 8, 'pool.size': 48}, {'model.width': 16, 'pool.size': 48}]
        >>> static_settings(configure("smoke", {"grid": [{"model.width": 16}, {"model.depth": 4}]}))
        [{'model.width': 16, 'model.depth': 3}, {'model.width': 8, 'model.depth': 4}]
    """
    grid = config.grid
    if hasattr(grid, "items"):
        varied = leaves(grid)
        return [dict(zip(varied, point, strict=True)) for point in itertools.product(*varied.values())]
    # A key that one item sets has the configuration's value in the others.
    plain = leaves(config)
    varied_names = dict.fromkeys(itertools.chain.from_iterable(grid))
    common = {name: plain[name] for name in varied_names}
    return [{**common, **setting} for setting in grid]


def read_static(part: type[Part], config: Config, overrides: Mapping[str, object], **derived: object) -> Part:
    """Returns the specification of a static section, with dotted `overrides` from a grid.

    Example:
        >>> from flipjax import configure
        >>> from flipjax.config import ModelSpec
        >>> read_static(ModelSpec, configure("smoke"), {"model.width": 16}).width
        16
    """
    values = dict(derived)
    for key in KEYS.values():
        if key.part is part:
            value = overrides[key.name] if key.name in overrides else value_of(config, key)
            if isinstance(value, list):
                value = tuple(value)
            values[key.field] = value
    return part(**values)


def pool_spec(config: Config, overrides: Mapping[str, object]) -> PoolSpec:
    """Returns the specification of the pool, with dotted `overrides` from a grid.

    Example:
        >>> from flipjax import configure
        >>> pool_spec(configure("smoke"), {"pool.size": 32}).size
        32
        >>> pool_spec(configure("smoke", {"axes.cue_strength": (0.5, 1.0)}), {}).blended
        True
    """
    return read_static(PoolSpec, config, overrides, blended="cue_strength" in active_numbers(config))


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
