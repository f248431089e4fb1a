"""The record of a run, config.json: what was asked for, and what made it."""

from __future__ import annotations

from pathlib import Path

from flipjax.support.files import DamagedError, JsonObject
from flipjax.support.json_files import read_json

RECORD = "config.json"
"""The file of the record."""


def read_record(folder: Path) -> JsonObject:
    """Reads the record of a run.

    Raises:
        DamagedError: it is damaged.
        FileNotFoundError: there is none.
    """
    path = folder / RECORD
    try:
        value = read_json(path)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise DamagedError(f"{path}: expected the record of a run, found no JSON ({error})") from error
    if not isinstance(value, dict) or not isinstance(value.get("config"), dict):
        raise DamagedError(f"{path}: expected the record of a run, found another file")
    return value


def known_record(folder: Path) -> JsonObject:
    """Returns the record of a run, or nothing if it cannot be read: results are complete without it."""
    try:
        value = read_json(folder / RECORD)
    except (OSError, ValueError):
        return {}
    if not isinstance(value, dict):
        return {}
    return value


def planned_members(record: JsonObject, *, stored: int) -> int:
    """Returns how many members a run was to have, or if its record does not say, how many have results.

    Example:
        >>> planned_members({"members": 8}, stored=3), planned_members({"members": "many"}, stored=3)
        (8, 3)
    """
    planned = record.get("members")
    if isinstance(planned, int):
        return planned
    return stored
