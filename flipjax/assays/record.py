"""Turns any dataclass into values of JSON's types and back, for the stored record of an assay.

`to_plain` needs no types: dataclasses become objects, tuples and arrays lists, NaN and infinity null. `from_plain` goes
back by the annotations of the dataclass's fields, since JSON has no tuples, arrays or NaN: null is NaN where a float is
annotated, else None.
"""

import dataclasses
import math
import types
import typing
from collections.abc import Callable, Sequence
from typing import TypeAlias, TypeVar

import numpy as np

Record = TypeVar("Record")
"""A dataclass."""
Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"
"""A value that JSON can hold."""

MISFITS = (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError)
"""Errors of `from_plain` for a value that does not fit its dataclass."""


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
    # NumPy's float64 is also a float: this stands first, so that it becomes a plain one.
    if isinstance(value, np.generic):
        return to_plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, str | int | float):
        return value
    raise TypeError(f"expected a value that JSON can hold, found {type(value).__name__}")


def from_plain(kind: type[Record], value: Json) -> Record:
    """Returns a dataclass from the value that `to_plain` made of it.

    Its fields may be annotated as dataclasses, tuples, named tuples, arrays, numbers, texts, or `X | None` of these.

    Raises:
        One of MISFITS: the value is not of this dataclass.

    Example:
        >>> @dataclasses.dataclass
        ... class Interval:
        ...     low: float
        ...     high: float
        >>> from_plain(Interval, to_plain(Interval(0.25, math.nan)))
        Interval(low=0.25, high=nan)
    """
    record = _value_of(kind, value)
    assert isinstance(record, kind)
    return record


def _value_of(annotation: object, value: Json) -> object:
    """Returns a plain value as the type that an annotation names."""
    origin = typing.get_origin(annotation)
    arguments = typing.get_args(annotation)
    if origin in (types.UnionType, typing.Union):
        if value is None:
            return None
        (not_none,) = (argument for argument in arguments if argument is not type(None))
        return _value_of(not_none, value)
    if origin is tuple:
        return _tuple_of(arguments, value)
    if annotation is np.ndarray:
        return _array_of(value)
    if annotation is float and value is None:
        return math.nan
    if not isinstance(annotation, type):
        raise TypeError(f"expected a type, found {annotation!r}")
    if dataclasses.is_dataclass(annotation):
        return _record_of(annotation, value)
    if issubclass(annotation, tuple):
        named_tuple = typing.cast("Callable[..., object]", annotation)
        field_types = tuple(typing.get_type_hints(annotation).values())
        return named_tuple(*_tuple_of(field_types, value))
    if annotation is float and isinstance(value, int):
        # A whole float may have been written as an integer.
        return float(value)
    # A text of each number of a long list would fill the memory.
    if not isinstance(value, annotation):
        raise TypeError(f"expected {annotation.__name__}, found {type(value).__name__}")
    return value


def _record_of(kind: type, value: Json) -> object:
    """Returns a dataclass of the entries of a JSON object, which have the names of its fields."""
    if not isinstance(value, dict):
        raise TypeError(f"expected an object, found {type(value).__name__}")
    field_types = typing.get_type_hints(kind)
    return kind(**{name: _value_of(field_types[name], entry) for name, entry in value.items()})


def _tuple_of(annotations: Sequence[object], value: Json) -> tuple[object, ...]:
    """Returns a tuple of entries of the annotated types: each its own, or all of one, as in `tuple[float, ...]`."""
    if not isinstance(value, list):
        raise TypeError(f"expected a list, found {type(value).__name__}")
    if tuple(annotations[1:]) == (...,):
        return tuple(_value_of(annotations[0], entry) for entry in value)
    return tuple(_value_of(annotation, entry) for annotation, entry in zip(annotations, value, strict=True))


def _array_of(value: Json) -> np.ndarray:
    """Returns an array of numbers or texts."""
    if _holds_null(value):
        # With a float dtype NumPy converts None to NaN.
        return np.array(value, dtype=np.float64)
    return np.array(value)


def _holds_null(value: Json) -> bool:
    """Whether a value, or any entry of nested lists, is null."""
    if isinstance(value, list):
        return any(_holds_null(entry) for entry in value)
    return value is None
