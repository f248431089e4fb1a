"""Reads the record of a run, config.json: its configuration, and the versions and devices that trained it.

A sweep writes the record (`flipjax.sweep.folder.record`). `read_record` raises an error where the record is missing or
damaged, for callers that cannot go on without it. `known_record` returns an empty one instead, for pages, whose results
can be shown without it.
"""

from __future__ import annotations

from pathlib import Path

from flipjax.config import PLACES, Config, ConfigError, default_config
from flipjax.config.keys import Key
from flipjax.config.names.former import with_new_names
from flipjax.config.reading import configure
from flipjax.config.values import leaves
from flipjax.support.files import DamagedError, JsonObject, read_json

RECORD = "config.json"
"""Name of the record's file in the folder of a run."""


def read_record(folder: Path) -> JsonObject:
    """Reads the record of a run.

    Raises:
        DamagedError: the file holds no JSON, or no record.
        FileNotFoundError: there is no file.
    """
    path = folder / RECORD
    try:
        record = read_json(path)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise DamagedError(f"{path}: expected the record of a run, found no JSON ({error})") from error
    if not isinstance(record, dict) or not isinstance(record.get("config"), dict):
        raise DamagedError(f"{path}: expected the record of a run, found another file")
    return record


def recorded_config(folder: Path) -> Config:
    """Returns the configuration of a run, with defaults in place of the user's functions.

    Raises:
        DamagedError: the record holds none that this version can read.
        FileNotFoundError: there is no record.
    """
    recorded = leaves(with_new_names(read_record(folder)["config"]))
    values = {name: _without_functions(name, _tuples(value)) for name, value in recorded.items()}
    try:
        return configure(default_config(), values)
    except ConfigError as error:
        raise DamagedError(f"{folder / RECORD}: expected a configuration of this flipjax ({error})") from error


def known_record(folder: Path) -> JsonObject:
    """Returns the record of a run; an empty one if there is no file, or it cannot be read."""
    try:
        record = read_json(folder / RECORD)
    except (OSError, ValueError):
        return {}
    if not isinstance(record, dict):
        return {}
    return record


def planned_members(record: JsonObject, *, otherwise: int) -> int:
    """Returns how many members a run was to have; `otherwise` if its record does not say.

    Example:
        >>> planned_members({"members": 8}, otherwise=3), planned_members({"members": "many"}, otherwise=3)
        (8, 3)
    """
    planned = record.get("members")
    if isinstance(planned, int):
        return planned
    return otherwise


def _without_functions(name: str, value: object) -> object:
    """Returns the value of a dotted key, the default for functions, of which config.json stores names and sources."""
    if name == "quantities":
        return ()
    if name not in PLACES or not PLACES[name].holds_functions:
        return value
    key = PLACES[name]
    if name.startswith("axes.") and isinstance(value, tuple):
        return tuple(_accepted_or_default(key, item) for item in value)
    return _accepted_or_default(key, value)


def _accepted_or_default(key: Key, value: object) -> object:
    """Returns a value that a key accepts, else its default."""
    if key.accepts(value):
        return value
    return key.default


def _tuples(value: object) -> object:
    """Returns JSON's lists as tuples, at any depth."""
    if isinstance(value, list):
        return tuple(map(_tuples, value))
    return value
