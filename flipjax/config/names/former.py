"""Names that keys of a configuration had before: answered in errors, and read from config.json. Imports no JAX.

Until d9dde6ce `config.grid` varied static keys, `config.axes` traced ones by their last names, and the numbers of the
optimiser had no home but `config.axes`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from flipjax.config.sections import AXES, PLACES
from flipjax.support.files import JsonObject


def new_names(name: str) -> list[str]:
    """Returns the dotted names of today in place of a former one; none for a name that never was.

    Example:
        >>> new_names("grid.model.width"), new_names("axes.learning_rate")
        (['axes.model.width'], ['axes.train.learning_rate', 'train.learning_rate'])
    """
    section, _, rest = name.partition(".")
    if name == "grid":
        return ["axes", "members"]
    if section == "grid" and f"axes.{rest}" in PLACES:
        return [f"axes.{rest}"]
    if section == "axes" and rest in AXES and name not in PLACES:
        return [f"axes.{AXES[rest].axis}", AXES[rest].name]
    return []


def is_former(recorded: Mapping[str, Any]) -> bool:
    """Returns whether the configuration of a config.json has former names."""
    return "grid" in recorded


def renamed(recorded: Mapping[str, Any]) -> list[str]:
    """Returns what the names that a former configuration set are called today, a clause each.

    Example:
        >>> for clause in renamed({"grid": {"model": {"width": [8, 16]}}, "axes": {"rho": [0.5], "warmup": [0.1]}}):
        ...     print(clause)
        config.axes.warmup is config.train.warmup
        config.grid.model.width is config.axes.model.width
    """
    clauses = []
    for column, values in recorded["axes"].items():
        if column in AXES and AXES[column].section != "axes" and list(values) != [AXES[column].default]:
            key = AXES[column]
            home = f"axes.{key.axis}"
            if len(values) == 1:
                home = key.name
            clauses.append(f"config.axes.{column} is config.{home}")
    grid = recorded["grid"]
    if isinstance(grid, Mapping):
        names = [f"{section}.{field}" for section, fields in grid.items() for field in fields]
        clauses += [f"config.grid.{name} is config.axes.{name}" for name in names]
    else:
        clauses.append("config.grid is config.members")
    return clauses or ["config.grid is config.axes"]


def with_new_names(recorded: Mapping[str, Any]) -> JsonObject:
    """Returns the configuration of a config.json by the names of today, with the same programs and members.

    Example:
        >>> axes = {"rho": [0.5], "learning_rate": [1e-3], "crop": [0.0, 0.5]}
        >>> read = with_new_names({"grid": {"model": {"width": [8, 16]}}, "axes": axes, "members": [], "train": {}})
        >>> read["axes"], read["train"], "grid" in read
        ({'rho': [0.5], 'train': {'crop': [0.0, 0.5]}, 'model': {'width': [8, 16]}}, {'learning_rate': 0.001}, False)
    """
    if not is_former(recorded):
        return dict(recorded)
    read = {name: value for name, value in recorded.items() if name not in ("grid", "axes", "members")}
    axes: dict[str, Any] = {}
    for column, values in recorded["axes"].items():
        key = AXES.get(column)
        if key is None or key.section == "axes":
            axes[column] = values
        elif key.shown and len(values) == 1:
            read[key.section] = {**read[key.section], key.field: values[0]}
        else:
            axes.setdefault(key.section, {})[key.field] = values
    grid = recorded["grid"]
    entries = [_with_axis_names(entry) for entry in recorded["members"]]
    if isinstance(grid, Mapping):
        for section, fields in grid.items():
            if fields:
                axes[section] = {**axes.get(section, {}), **fields}
    else:
        entries = _combined(grid, entries)
    return {**read, "axes": axes, "members": entries}


def _with_axis_names(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Returns an entry of `config.members` by names of axes in place of columns."""
    named = {}
    for column, value in entry.items():
        name = column
        if column in AXES:
            name = AXES[column].axis
        named[name] = value
    return named


def _combined(grid: Sequence[Mapping[str, Any]], entries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Returns each setting of a grid that was a list with each entry of members.

    A setting that left a key out had the configuration's value there, as an entry of members has.
    """
    return [{**point, **entry} for point in grid for entry in entries or ({},)]
