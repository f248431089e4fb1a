"""Reads, changes and checks the values of a configuration. Imports no JAX."""

import difflib
import itertools
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from flipjax.config.errors import ConfigError
from flipjax.config.keys import Key, Kind, as_python
from flipjax.config.ranges import functions_of
from flipjax.config.sections import AXES, KEYS, PLACES, QUANTITIES, SECTIONS, WHOLE, Config, PoolSpec

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
        >>> from flipjax.config import default_config
        >>> value_of(default_config(), KEYS["pool.size"])
        48
    """
    return config[key.section][key.field]


def own_quantities(config: Config) -> tuple[Callable, ...]:
    """Returns a user's own quantities of images, functions of logits and labels.

    Example:
        >>> from flipjax.config import default_config
        >>> def wrong(logits, labels):  # Wrong pixels of each image, of all.
        ...     return (logits.argmax(-1) != labels).sum((1, 2)), (labels >= 0).sum((1, 2))
        >>> own_quantities(changed(default_config(), {"quantities": (wrong,)})) == (wrong,)
        True
    """
    return functions_of(config.quantities)


def static_settings(config: Config) -> list[dict[str, Any]]:
    """Returns the dotted static keys of each program: the items of a list, or the product of a mapping.

    Example:
        >>> from flipjax.config import default_config
        >>> static_settings(changed(default_config(), {"grid.model.width": (8, 16), "grid.pool.size": (48,)}))
        [{'model.width': 8, 'pool.size': 48}, {'model.width': 16, 'pool.size': 48}]
        >>> static_settings(changed(default_config(), {"grid": [{"model.width": 16}, {"model.depth": 4}]}))
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
        >>> from flipjax.config import ModelSpec, default_config
        >>> read_static(ModelSpec, default_config(), {"model.width": 16}).width
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


def read_traced(part: type[Part], config: Config, axes: Mapping[str, object]) -> Part:
    """Returns a traced part of a member: its value of each axis, else that of the configuration's section.

    Example:
        >>> from flipjax.config import Recipe, default_config
        >>> read_traced(Recipe, default_config(), {"schedule": "cosine"}).schedule  # The program knows it by its place.
        1.0
    """
    values = {}
    for key in KEYS.values():
        if key.part is part:
            value = axes[key.field] if key.field in axes else value_of(config, key)
            values[key.field] = key.encode(value)
    return part(**values)


def pool_spec(config: Config, overrides: Mapping[str, object]) -> PoolSpec:
    """Returns the specification of the pool, with dotted `overrides` from a grid.

    Example:
        >>> from flipjax.config import default_config
        >>> pool_spec(default_config(), {"pool.size": 32}).size
        32
        >>> pool_spec(changed(default_config(), {"axes.cue_strength": (0.5, 1.0)}), {}).blended
        True
    """
    return read_static(PoolSpec, config, overrides, blended="cue_strength" in active_numbers(config))


def active_numbers(config: Config) -> tuple[str, ...]:
    """Returns the optional traced keys of which any member has another value than the default.

    Example:
        >>> from flipjax.config import default_config
        >>> active_numbers(default_config()), active_numbers(changed(default_config(), {"axes.crop": (0.0, 0.5)}))
        ((), ('crop',))
    """
    active = []
    for key in KEYS.values():
        if key.optional and any(value != key.default for value in values_of(config, key.field)):
            active.append(key.field)
    return tuple(active)


def nearest(name: str, *, prefix: str = "config.") -> str:
    """Suggests a name like an unknown one, by initials or spelling; otherwise lists those of its section.

    Example:
      >>> nearest("train.lr"), nearest("train.epoch", prefix="--config.")
      ('the nearest is config.axes.learning_rate', 'the nearest is --config.train.epochs')
    """
    section = name.split(".")[0]
    last = name.split(".")[-1]
    of_section = [place for place in PLACES if place.startswith(f"{section}.")] or list(PLACES)
    abbreviated = [place for place in PLACES if last == _initials(place)]
    near = [place for place in abbreviated if place in of_section] or abbreviated
    near = near or difflib.get_close_matches(name, of_section, n=1)
    if near:
        return f"the nearest is {prefix}{near[0]}"
    return f"valid are {', '.join(of_section)}"


def _initials(place: str) -> str:
    """Returns the initials of the words of a dotted name's last part, such as lr of axes.learning_rate."""
    words = place.split(".")[-1].split("_")
    return "".join(word[0] for word in words)


def check_name(name: str, *, prefix: str = "config.") -> None:
    """Raises ConfigError for an unknown key, with the nearest one, and for a whole section.

    Example:
        >>> check_name("axes.roh")
        Traceback (most recent call last):
        flipjax.config.ConfigError: config.axes.roh: expected a key of the configuration; the nearest is config.axes.rho
    """
    if name in PLACES or name in WHOLE:
        return
    if name.removeprefix("grid.") in SECTIONS:
        examples = [place for place in PLACES if place.startswith(f"{name}.")]
        expected = "a section of the grid"
        if examples:
            expected = f"dotted names of its keys, such as {examples[0]!r}"
        raise ConfigError(f"{prefix}{name}", expected, "a section")
    raise ConfigError(f"{prefix}{name}", f"a key of the configuration; {nearest(name, prefix=prefix)}")


def assign(config: Config, name: str, value: object) -> None:
    """Sets a dotted key of a configuration; `check` reports wrong types together with ranges.

    Raises:
        ConfigError: an unknown key, with the nearest one.

    Example:
        >>> from flipjax.config import default_config
        >>> config = default_config()
        >>> assign(config, "grid.model.width", [8, 16])
        >>> config.grid.model.width
        (8, 16)
    """
    check_name(name)
    *sections, field = name.split(".")
    if sections[:1] == ["grid"] and not hasattr(config.grid, "items"):
        raise ConfigError(f"config.{name}", "config.grid as a whole, which is a list here", "one key of it")
    section = config
    for part in sections:
        section = section[part]
    with section.unlocked(), section.ignore_type():
        section[field] = as_python(value)


def changed(config: Config, changes: Mapping[str, object]) -> Config:
    """Returns a copy with other values of dotted keys; raises as `assign`.

    Example:
        >>> from flipjax.config import default_config
        >>> config = default_config()
        >>> changed(config, {"train.epochs": 4}).train.epochs, config.train.epochs
        (4, 15)
    """
    copy = normalised(config)
    for name, value in changes.items():
        assign(copy, name, value)
    return copy


def normalised(config: Config) -> Config:
    """Returns a copy with Python's numbers, and tuples in place of lists, ranges and arrays.

    Example:
        >>> from flipjax.config import default_config
        >>> config = default_config()
        >>> config.axes.seed = range(3)
        >>> normalised(config).axes.seed
        (0, 1, 2)
    """
    # A FrozenConfigDict cannot be changed, and neither can its copies.
    if hasattr(config, "as_configdict"):
        config = config.as_configdict()
    copy = config.copy_and_resolve_references()
    _normalise(copy)
    _lock_as(copy, config)
    return copy


def _normalise(section: Config) -> None:
    with section.unlocked(), section.ignore_type():
        for name, value in section.items():
            if hasattr(value, "unlocked"):
                _normalise(value)
            else:
                section[name] = as_python(value)


def _lock_as(section: Config, pattern: Config) -> None:
    """Locks the sections that `pattern` has locked, since locking one locks all below it."""
    if pattern.is_locked:
        section.lock()
    else:
        section.unlock()
    for name, value in pattern.items():
        if hasattr(value, "is_locked"):
            _lock_as(section[name], value)


def check(config: Config) -> None:
    """Raises ConfigError for the first invalid field of `config`, checking each on its own.

    Example:
        >>> from flipjax.config import default_config
        >>> check(changed(default_config(), {"axes.rho": (0.5, 1.5)}))
        Traceback (most recent call last):
        flipjax.config.ConfigError: config.axes.rho: expected a number in (0, 1]; found 1.5
    """
    fields = leaves(config)
    # Lists of settings; an empty or absent list of members is none, and a mapping of a grid has its own leaves.
    grid = fields.pop("grid", None)
    members = fields.pop("members", ())
    quantities = fields.pop("quantities", ())
    if quantities and not QUANTITIES.accepts(quantities):
        raise ConfigError("config.quantities", QUANTITIES.text, repr(quantities))
    for name in sorted(KEYS.keys() - fields.keys()):
        raise ConfigError(f"config.{name}", "a value, as default_config() has it", "none")
    for name, value in fields.items():
        check_name(name)
        if name.startswith(("axes.", "grid.")):
            _check_values(name, value)
        else:
            check_value(name, value)
    if grid is not None:
        if not grid:
            raise ConfigError("config.grid", "a list of mappings from static keys to values", repr(grid))
        in_grid = {name: key for name, key in KEYS.items() if key.in_grid}
        _check_settings("grid", grid, in_grid, kind="static keys")
    _check_settings("members", members, AXES, kind="axes")
    for setting in members:
        for name in setting:
            if len(config.axes.get(name, ())) > 1:
                expected = "one value where config.members sets it, too"
                raise ConfigError(f"config.axes.{name}", expected, config.axes[name])


def _check_values(name: str, values: object) -> None:
    """Raises ConfigError unless the values of an axis are distinct and valid."""
    if not isinstance(values, tuple | list) or not values:
        raise ConfigError(f"config.{name}", "a tuple with at least one value", repr(values))
    for value in values:
        check_value(PLACES[name].name, value)
    if len(set(values)) < len(values):
        raise ConfigError(f"config.{name}", "distinct values", tuple(values))


def _check_settings(field: str, settings: object, keys: Mapping[str, Key], *, kind: str) -> None:
    """Raises ConfigError unless `settings` is a list of mappings from the names of `keys` to values."""
    expected = f"a list of mappings from {kind} to values"
    if not isinstance(settings, list | tuple):
        raise ConfigError(f"config.{field}", expected, repr(settings))
    for setting in settings:
        if not hasattr(setting, "items") or not setting:
            raise ConfigError(f"config.{field}", expected, repr(settings))
    for index, setting in enumerate(settings):
        for name, value in setting.items():
            if name not in keys:
                raise ConfigError(f"config.{field}[{index}].{name}", f"one of the {kind}: {', '.join(keys)}")
            check_value(keys[name].name, value)


def check_value(name: str, value: object) -> None:
    """Raises ConfigError unless `value` has the type and range of the dotted key `name`.

    Example:
        >>> check_value("train.hflip", 1.5)
        Traceback (most recent call last):
        flipjax.config.ConfigError: config.train.hflip: expected a number in [0, 1]; found 1.5
    """
    key = KEYS[name]
    if key.accepts(value):
        return
    expected = key.expected
    if isinstance(key.default, int) and isinstance(value, float):
        expected += ", an integer"
    elif _is_several(key, value):
        expected += f"; several go to {_place_of_several(key)}"
    raise ConfigError(f"config.{name}", expected, repr(value))


def _is_several(key: Key, value: object) -> bool:
    """Whether a value is a tuple of values of the key, which can be varied."""
    varies = key.in_grid or key.kind is Kind.TRACED
    return varies and isinstance(value, tuple | list) and len(value) > 0 and all(map(key.accepts, value))


def _place_of_several(key: Key) -> str:
    """Returns the dotted name of a section that takes several values of a key."""
    if key.kind is Kind.TRACED:
        return f"config.axes.{key.field}"
    return f"config.grid.{key.name}"


def values_of(config: Config, name: str) -> tuple[Any, ...]:
    """Returns all values of an axis, including those of `config.members`.

    Example:
        >>> from flipjax.config import default_config
        >>> values_of(default_config(), "rho"), values_of(default_config(), "crop")
        ((0.5, 0.95), (0.0,))
        >>> values_of(changed(default_config(), {"members": [{"crop": 0.5}, {"jitter": 0.3}]}), "crop")
        (0.5, 0.0)
    """
    values = [setting[name] for setting in config.members if name in setting]
    if not values or not all(name in setting for setting in config.members):
        values += unlisted(config, name)
    return tuple(dict.fromkeys(values))


def unlisted(config: Config, name: str) -> tuple[Any, ...]:
    """Returns the values of an axis for members whose entry in `config.members` omits it.

    Example:
        >>> from flipjax.config import default_config
        >>> config = changed(default_config(), {"axes.rho": (0.5,), "members": [{"rho": 0.9}, {"crop": 1.0}]})
        >>> unlisted(config, "rho"), unlisted(config, "crop")
        ((0.5,), (0.0,))
    """
    if name in config.axes:
        return tuple(config.axes[name])
    return (value_of(config, AXES[name]),)
