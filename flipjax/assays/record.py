"""Writes a dataclass as JSON and reads it back: arrays become lists, numbers that are not finite become null."""

import dataclasses
import math
import types
import typing
from typing import Any, TypeVar

import numpy as np

Record = TypeVar("Record")


def to_plain(value: Any) -> Any:
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
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, np.generic):
        return to_plain(value.item())
    return value


def from_plain(kind: type[Record], value: Any) -> Record:
    """Returns the dataclass that `to_plain` wrote; raises ValueError or TypeError if it was another."""
    return _read(kind, value)


def _read(kind: Any, value: Any) -> Any:
    origin = typing.get_origin(kind)
    parts = typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        if value is None:
            return None
        return _read(next(part for part in parts if part is not type(None)), value)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        return kind(**{name: _read(hints[name], entry) for name, entry in value.items()})
    if origin is tuple:
        kinds = [parts[0]] * len(value) if parts[1:] == (...,) else parts
        return tuple(_read(part, entry) for part, entry in zip(kinds, value, strict=True))
    if kind is np.ndarray:
        return np.array(value, dtype=np.float64 if _holds_null(value) else None)
    if kind is float:
        return math.nan if value is None else float(value)
    return kind(value)


def _holds_null(value: Any) -> bool:
    if isinstance(value, list):
        return any(_holds_null(entry) for entry in value)
    return value is None
