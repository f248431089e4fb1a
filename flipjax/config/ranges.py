"""Ranges of configuration keys: a test of values and its description for errors; functions as values of keys."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

MANY = 10**6
"""Upper limit of counts (objects, images, epochs): beyond the memory and time of any machine."""


class Range(NamedTuple):
    """A set of values. Numbers without gaps are given by their ends, `low` and `high`."""

    accepts: Callable[[Any], bool]
    """Tests a value, which has the type of the key's default."""
    text: str
    """Describes the set in errors."""
    low: float = -math.inf
    """The least of its numbers."""
    high: float = math.inf
    """The largest."""
    has_functions: bool = False
    """Whether functions are among its values."""


def one_of(*choices: object) -> Range:
    """Returns the range of the given choices."""

    def accepts(value: object) -> bool:
        return value in choices

    return Range(accepts, "one of " + ", ".join(map(str, choices)))


def within(low: float, high: float = MANY) -> Range:
    """Returns the range of numbers from `low` to `high`, without NaN."""

    def accepts(value: float) -> bool:
        return low <= value <= high

    return Range(accepts, f"a number in [{low}, {high}]", low, high)


def multiple(divisor: int, low: int, high: int = MANY) -> Range:
    """Returns the range of multiples of `divisor` from `low` to `high`."""

    def accepts(value: int) -> bool:
        return value % divisor == 0 and low <= value <= high

    return Range(accepts, f"a multiple of {divisor} in [{low}, {high}]")


def functions(*, takes: str, returns: str) -> Range:
    """Returns the range of None, a function, and tuples of functions with distinct names.

    `takes` and `returns` are the arguments and the result of the functions, for errors.
    """

    def accepts(value: object) -> bool:
        if value is None:
            return True
        names = [name_of(function) for function in functions_of(value)]
        return bool(names) and all(map(str.isidentifier, names)) and len(set(names)) == len(names)

    return Range(accepts, _named_function(takes, returns), has_functions=True)


def name_or_function(*names: str, takes: str, returns: str) -> Range:
    """Returns the range of some names and of a named function; see `functions`."""

    def accepts(value: object) -> bool:
        if callable(value):
            return name_of(value).isidentifier()
        return value in names

    return Range(accepts, f"{', '.join(names)} or {_named_function(takes, returns)}", has_functions=True)


def _named_function(takes: str, returns: str) -> str:
    """Returns what is expected of a user's function, for errors."""
    return f"a named function {takes} -> {returns}, given in a configuration file"


def functions_of(value: object) -> tuple[Callable, ...]:
    """Returns the functions or classes in a key's value, itself or the items of a tuple; else none."""
    if is_named_tuple(value):
        return ()
    values = (value,)
    if isinstance(value, tuple | list):
        values = tuple(value)
    functions = tuple(item for item in values if callable(item))
    if len(functions) < len(values):
        return ()
    return functions


def is_named_tuple(value: object) -> bool:
    """Whether a value is a tuple with names, which is one thing and not several, such as an optimiser of optax."""
    return isinstance(value, tuple) and hasattr(value, "_fields")


def name_of(function: object) -> str:
    """Returns the `__name__` of a function, or of the function of a `functools.partial`.

    Example:
        >>> name_of(functools.partial(print, 1)), name_of(3)
        ('print', '')
    """
    while isinstance(function, functools.partial) and not hasattr(function, "__name__"):
        function = function.func
    return getattr(function, "__name__", "")
