"""The record of a run, config.json: what was asked for, and what made it.

A sweep writes it (`flipjax.sweep.folder.record`). Readers that need it call `read_record`, which says what is wrong
with it; those that only show it call `known_record`, because results are complete without it.
"""

from __future__ import annotations

from pathlib import Path

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
