"""How a field of a specification becomes a key of the configuration. Imports no JAX.

@dataclass(frozen=True)
class Example:
    size: int = static(48, multiple(8, 16), "image size in pixels")               # another value is another program
    crop: Scalar = traced(0.0, within(0, 1), "probability of the crop")           # data, which may differ by member
    swap: Scalar = knob(0.5, within(0, 1), "of the swap", methods=("bg_swap",))   # data that a method sets
    keep: str = option("first", one_of("first", "all"), "kept weights")           # how a run is carried out

Each function returns a `dataclasses.field` whose metadata hold a `Key`, and JAX's own mark of static fields.
"""

import dataclasses
import enum
import numbers
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from flipjax.config.ranges import Range, is_named_tuple, one_of

if TYPE_CHECKING:
    import jax

T = TypeVar("T")
Scalar: TypeAlias = "float | jax.Array"
"""A traced number: a Python number in a configuration, an array or a tracer in a program."""
Integer: TypeAlias = "int | jax.Array"
"""A traced integer, likewise."""


class Kind(enum.Enum):
    """What another value of a key changes."""

    STATIC = "static"
    """The compiled program."""
    TRACED = "traced"
    """Data of a member, which compiles nothing."""
    OPTION = "option"
    """How a run is carried out; one value for all programs."""


@dataclasses.dataclass(frozen=True)
class Key:
    """What a configuration may hold at one dotted name, such as `pool.size`.

    Attributes:
        default: its value in `default_config`; gives the type of the others. None: a function.
        values: the allowed ones.
        meaning: one line for `--list_keys`.
        kind: what another value changes.
        varies: whether `config.axes` and `config.members` may vary it.
        same_run: whether two runs that differ in it are the same run.
        shown: whether it is a column of every results.csv, though nothing varies it.
        optional: whether a program in which every member has the default leaves it out.
        networks: the values of `model.name` that use it; None: all.
        choices: the strings that a program knows by their position.
        part: the dataclass that declares it.
        section: the section of the configuration.
        field: the name of the field.
    """

    default: object
    values: Range
    meaning: str
    kind: Kind
    varies: bool = False
    shown: bool = False
    same_run: bool = False
    optional: bool = False
    networks: tuple[str, ...] | None = None
    choices: tuple[str, ...] = ()
    part: type | None = None
    section: str = ""
    field: str = ""

    @property
    def name(self) -> str:
        """The dotted name of its home, where a configuration holds its value."""
        return f"{self.section}.{self.field}"

    @property
    def axis(self) -> str:
        """Its name in `config.axes` and in an entry of `config.members`: that of its home, which may be `axes`."""
        return self.name.removeprefix("axes.")

    @property
    def places(self) -> list[str]:
        """The dotted names at which a configuration may set it: its home, and its axis."""
        if not self.varies:
            return [self.name]
        return list(dict.fromkeys([self.name, f"axes.{self.axis}"]))

    @property
    def compiles(self) -> bool:
        """Whether each of its values is another program."""
        return self.kind is Kind.STATIC

    @property
    def holds_functions(self) -> bool:
        """Whether its values may be functions or classes."""
        return self.values.has_functions

    @property
    def expected(self) -> str:
        """The allowed values, in words."""
        return self.values.text or f"a value such as {self.default!r}"

    def accepts(self, value: object) -> bool:
        """Whether a value has the type of the default and is in range."""
        if not self._has_type(value):
            return False
        try:
            return self.values.accepts(value)
        except (TypeError, ValueError):
            # Such as a list among names, which no set can hold.
            return False

    def _has_type(self, value: object) -> bool:
        """Whether a value has the type of the key's default."""
        if isinstance(value, bool):
            return False
        if self.holds_functions:
            # The range tells functions from names.
            return True
        if isinstance(self.default, float):
            return isinstance(value, numbers.Real)
        if isinstance(self.default, int):
            return isinstance(value, numbers.Integral)
        return isinstance(value, type(self.default))

    def encode(self, value: object) -> object:
        """Returns a value as a program takes it: a choice by its position."""
        if not self.choices:
            return value
        return float(self.choices.index(value))


@dataclasses.dataclass(frozen=True)
class Knob:
    """A field that methods set."""

    on: float
    """Its value under these methods."""
    methods: tuple[str, ...]
    """The names of methods that set it."""
    meaning: str
    """What it is, for users."""


def static(
    default: T,
    values: Range,
    meaning: str,
    *,
    varies: bool = True,
    same_run: bool = False,
    networks: tuple[str, ...] | None = None,
) -> T:
    """Declares a key whose every value is another compiled program."""
    key = Key(default, values, meaning, Kind.STATIC, varies=varies, same_run=same_run, networks=networks)
    return _field(default, key)


def traced(default: T, values: Range, meaning: str, *, optional: bool = False, shown: bool = False) -> T:
    """Declares a key that is data of a member, of which other values compile nothing."""
    return _field(default, Key(default, values, meaning, Kind.TRACED, varies=True, shown=shown, optional=optional))


def traced_choice(choices: tuple[str, ...], meaning: str, *, shown: bool = False) -> Scalar:
    """Declares a traced key among strings, of which the first is the default; the field holds the position."""
    key = Key(choices[0], one_of(*choices), meaning, Kind.TRACED, varies=True, shown=shown, choices=choices)
    return _field(0.0, key)


def option(default: T, values: Range, meaning: str, *, same_run: bool = False) -> T:
    """Declares a key of how a run is carried out."""
    return _field(default, Key(default, values, meaning, Kind.OPTION, same_run=same_run))


def knob(on: float, values: Range, meaning: str, *, methods: tuple[str, ...], off: float = 0.0) -> Scalar:
    """Declares a number that methods set to its key of `config.knobs`, by default `on`; others leave it `off`."""
    return _field(off, Key(on, values, meaning, Kind.TRACED, varies=True), Knob(on, methods, meaning))


def switch(meaning: str, *, methods: tuple[str, ...]) -> Scalar:
    """Declares a number that is 1 under some methods and 0 under the others; no key."""
    return _field(0.0, None, Knob(1.0, methods, meaning))


def _field(default: T, key: Key | None, set_by: Knob | None = None) -> T:
    """Returns a field that says what it is: its key, the methods that set it, and whether JAX takes it as static."""
    is_static = key is not None and key.kind is not Kind.TRACED
    return dataclasses.field(default=default, metadata={"key": key, "knob": set_by, "static": is_static})


def keys_in(section: str, part: type) -> list[Key]:
    """Returns the keys that a dataclass declares, as those of a section.

    Raises:
        TypeError: the keys are not all of one kind, so that the dataclass is no half of a program.
    """
    keys = []
    for field in dataclasses.fields(part):
        key = field.metadata.get("key")
        if key is not None:
            keys.append(dataclasses.replace(key, part=part, section=section, field=field.name))
    for key in keys:
        if key.kind is not keys[0].kind:
            raise TypeError(
                f"{part.__name__}.{key.field} is {key.kind.value}, but {keys[0].field} {keys[0].kind.value}"
            )
    return keys


def knobs_in(part: type) -> dict[str, Knob]:
    """Returns the knobs that a dataclass declares, by field."""
    knobs = {}
    for field in dataclasses.fields(part):
        if field.metadata.get("knob") is not None:
            knobs[field.name] = field.metadata["knob"]
    return knobs


def as_python(value: object) -> object:
    """Returns numbers of any library as Python's, and lists, ranges and arrays as tuples, at any depth.

    Example:
        >>> import numpy as np
        >>> as_python({"seed": range(3), "rho": np.linspace(0.5, 1, 3), "width": [np.int64(8)]})
        {'seed': (0, 1, 2), 'rho': (0.5, 0.75, 1.0), 'width': (8,)}
    """
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value)
    if isinstance(value, Mapping):
        return {name: as_python(item) for name, item in value.items()}
    if is_named_tuple(value):
        return value
    if isinstance(value, list | tuple | range):
        return tuple(as_python(item) for item in value)
    if hasattr(value, "__array__") and hasattr(value, "tolist"):
        return _array_as_python(value)
    return value


def _array_as_python(array: Any) -> object:
    """Returns an array's numbers, or the array itself if it has none, such as one of PRNG keys."""
    try:
        items = array.tolist()
    except (TypeError, ValueError):
        return array
    if items is array:
        return array
    return as_python(items)
