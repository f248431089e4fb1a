"""Writes a dataclass as JSON and reads it back: arrays become lists, numbers that are not finite become null."""

import dataclasses
import math
import types
import typing
from collections.abc import Sequence
from typing import TypeAlias, TypeVar

import numpy as np

Record = TypeVar("Record")
Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"
"""A value that JSON can hold."""


def to_plain(value: object) -> Json:
    """Returns a value of dataclasses, tuples, arrays and numbers as JSON's types.

    Example:
        >>> to_plain((np.arange(2), math.nan, "used"))
        [[0, 1], None, 'used']
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, np.ndarray):
        return to_plain(value.tolist())
    if isinstance(value, list | tuple):
        return [to_plain(entry) for entry in value]
    if isinstance(value, dict):
        return {name: to_plain(entry) for name, entry in value.items()}
    # Before floats: NumPy's float64 is one, too.
    if isinstance(value, np.generic):
        return to_plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, str | int | float):
        return value
    raise TypeError(f"expected a value that JSON can hold, found {type(value).__name__}")


def from_plain(kind: type[Record], value: Json) -> Record:
    """Returns the dataclass that `to_plain` wrote; raises ValueError, TypeError or KeyError if it was another."""
    record = _read(kind, value)
    assert isinstance(record, kind)
    return record


def _read(kind: object, value: Json) -> object:
    """Returns a value as its annotation says: a dataclass, tuple, array, number, text or, where it may be one, None."""
    origin = typing.get_origin(kind)
    parts = typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        if value is None:
            return None
        return _read(next(part for part in parts if part is not type(None)), value)
    if origin is tuple:
        return _read_tuple(parts, value)
    if kind is np.ndarray:
        return np.array(value, dtype=np.float64 if _holds_null(value) else None)
    if kind is float and value is None:
        return math.nan
    if not isinstance(kind, type):
        raise TypeError(f"expected a type, found {kind!r}")
    if dataclasses.is_dataclass(kind):
        return _read_record(kind, value)
    if not isinstance(value, str | int | float):
        raise TypeError(f"expected a number or a text, found {type(value).__name__}")
    return kind(value)


def _read_record(kind: type, value: Json) -> object:
    """Returns a dataclass, whose fields are the names of an object."""
    if not isinstance(value, dict):
        raise TypeError(f"expected an object, found {type(value).__name__}")
    hints = typing.get_type_hints(kind)
    return kind(**{name: _read(hints[name], entry) for name, entry in value.items()})


def _read_tuple(parts: Sequence[object], value: Json) -> tuple[object, ...]:
    """Returns a tuple of entries of the given types; of any number if the second is an ellipsis."""
    if not isinstance(value, list):
        raise TypeError(f"expected a list, found {type(value).__name__}")
    if parts[1:] == (...,):
        return tuple(_read(parts[0], entry) for entry in value)
    return tuple(_read(part, entry) for part, entry in zip(parts, value, strict=True))


def _holds_null(value: Json) -> bool:
    if isinstance(value, list):
        return any(_holds_null(entry) for entry in value)
    return value is None
