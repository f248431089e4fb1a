"""Ranges of configuration keys: what accepts a value, and the words for what is expected."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

MANY = 10**6
"""Upper limit of what is counted (objects, images, epochs): beyond the memory and time of any machine."""


class Range(NamedTuple):
    """A set of values: `accepts` says whether one of the right type is in it, `text` names it in an error."""

    accepts: Callable[[Any], bool]
    text: str


def one_of(*choices: Any) -> Range:
    """Returns the range of the given choices."""
    return Range(lambda value: value in choices, "one of " + ", ".join(map(str, choices)))


def within(low: float, high: float = MANY) -> Range:
    """Returns the range of numbers from `low` to `high`; no NaN is in it."""
    return Range(lambda value: low <= value <= high, f"a number in [{low}, {high}]")


def multiple(of: int, low: int, high: int = MANY) -> Range:
    """Returns the range of multiples of `of` from `low` to `high`."""
    return Range(lambda value: value % of == 0 and low <= value <= high, f"a multiple of {of} in [{low}, {high}]")


def above(low: float) -> Range:
    """Returns the range of finite numbers greater than `low`."""
    return Range(lambda value: low < value < math.inf, f"a finite number > {low}")


def subset(*choices: str) -> Range:
    """Returns the range of tuples of one or more different names among `choices`."""

    def accepts(value: Any) -> bool:
        return 0 < len(value) == len(set(value)) and set(value) <= set(choices)

    return Range(accepts, "a tuple of one or more different names among " + ", ".join(choices))
