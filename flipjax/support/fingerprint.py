"""The digest of a user's function, equal in every process; with another digest a run is another one.

It covers the function's source file, those of the user's modules that its module reaches, and values that are in no
file: closures, defaults, arguments of a `functools.partial`, the state of objects, and what it reads by name. Code of
the standard library, of installed packages and of flipjax counts by its name.
"""

import ast
import contextlib
import enum
import functools
import hashlib
import inspect
import re
import sys
import sysconfig
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from flipjax.support.files import digest

LIBRARIES = tuple(Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib"))
"""Folders of the standard library."""
PACKAGES = {"site-packages", "dist-packages"}
"""Names of the folders that packages are installed into."""
FLIPJAX = Path(__file__).resolve().parents[1]
"""The folder of flipjax."""
PLAIN = (bool, int, float, complex, str, bytes, range, types.NoneType, types.EllipsisType)
"""Types whose values are equal if their texts are."""
ENUMERATION_STATE = {name for name in vars(enum.Flag("Empty", ())) if name[:2] != "__"} - {"_boundary_"}
"""Attributes that Python gives each enumeration. They follow from the members, and some grow with use: a flag remembers
each combination of its members that was asked for."""
MEMBER_STATE = {"_name_", "_value_", "_sort_order_", "_inverted_", "__objclass__"}
"""Attributes that Python gives a member of an enumeration. A flag remembers its inverse once somebody asked for it."""
SHORT = 80
"""Most characters of a value that is shown beside the sources."""


class UnhashableError(TypeError):
    """A function reaches an object whose content cannot be digested.

    Attributes:
        name: how the function reaches it.
        found: what it is.
    """

    def __init__(self, name: str, found: str):
        """Builds the message from both."""
        self.name = name
        self.found = found
        super().__init__(f"{name}: expected values, arrays and functions; found {found}")


def fingerprint(function: object, name: str) -> str:
    """Returns the SHA-256, in hex, of a function, a class or an object that can be called.

    Args:
        function: also a `functools.partial`.
        name: of the function, for errors.

    Raises:
        UnhashableError: its closure, or another value of its own, holds an object such as a lock or a generator.

    Example:
        >>> double, again, triple = (functools.partial(np.multiply, factor) for factor in (2.0, 2.0, 3.0))
        >>> fingerprint(double, "double") == fingerprint(again, "again")
        True
        >>> fingerprint(double, "double") == fingerprint(triple, "triple")
        False
    """
    return Walk().digest(function, name).hex()


def sources(function: object, name: str) -> str:
    """Returns the sources of a function or class and of what it uses, and short values that it holds; for readers.

    Raises:
        UnhashableError: as `fingerprint`.
    """
    walk = Walk()
    walk.digest(function, name)
    return "\n".join(dict.fromkeys(walk.lines))


class Walk:
    """A walk over what a function holds.

    Attributes:
        lines: sources and short values on the way.
    """

    def __init__(self, digests: Mapping[int, bytes] | None = None):
        """Begins with the digests of some objects and names of modules, by id."""
        self.lines: list[str] = []
        self._digests = dict(digests or {})
        # Objects stay while their ids are held: another could take the id of one that is gone.
        self._objects: list[object] = []

    def digest(self, value: object, name: str) -> bytes:
        """Returns the digest of a value that is reached as `name`."""
        if isinstance(value, PLAIN):
            return _hash(_title(type(value)), repr(value))
        if id(value) not in self._digests:
            self._objects.append(value)
            # An object that holds itself is represented there by its place in the walk.
            self._digests[id(value)] = _hash("again", str(len(self._digests)))
            self._digests[id(value)] = _hash(_title(type(value)), *self._parts(value, name))
        return self._digests[id(value)]

    def _parts(self, value: Any, name: str) -> list[str | bytes]:
        """Returns what an object consists of."""
        if isinstance(value, tuple | list):
            return [self.digest(item, f"{name}[{index}]") for index, item in enumerate(value)]
        if isinstance(value, dict | types.MappingProxyType):
            keys = [self.digest(key, f"a key of {name}") for key in value]
            return [*keys, *(self.digest(item, f"{name}.{key}") for key, item in value.items())]
        if isinstance(value, set | frozenset):
            # The order of a set differs between processes, so each item is walked as if it were the first.
            return sorted(Walk(self._digests).digest(item, f"an item of {name}") for item in value)
        if isinstance(value, functools.partial):
            arguments = {str(index): argument for index, argument in enumerate(value.args)}
            return [self.digest(value.func, name), *self._values(arguments | value.keywords, f"{name}.partial")]
        if isinstance(value, types.MethodType):
            return [self.digest(value.__func__, name), self.digest(value.__self__, f"{name}.__self__")]
        if isinstance(value, types.FunctionType):
            return self._function(value, name)
        if isinstance(value, type):
            return self._class(value, name)
        if isinstance(value, enum.Enum):
            return self._member(value, name)
        if isinstance(value, types.ModuleType):
            return [value.__name__, *self._files(vars(value))]
        if isinstance(value, property):
            return [self.digest(value.fget, name)]
        if isinstance(value, functools.cached_property):
            return [self.digest(value.func, name)]
        if isinstance(value, Path | np.dtype):
            return [str(value)]
        if isinstance(value, re.Pattern):
            return [self.digest((value.pattern, value.flags), name)]
        if hasattr(value, "__wrapped__"):
            # As a function under `jax.jit`, `functools.lru_cache` or `staticmethod`.
            return [self.digest(value.__wrapped__, name)]
        if isinstance(value, np.generic) or hasattr(value, "__dlpack__"):
            return self._array(value, name)
        if callable(value) and hasattr(value, "__name__"):
            bound = getattr(value, "__self__", None)
            return [str(getattr(value, "__module__", "")), value.__name__, self.digest(bound, f"{name}.__self__")]
        if isinstance(value, Iterator) or not hasattr(value, "__dict__"):
            raise UnhashableError(name, f"an object of {_title(type(value))}")
        return [self.digest(type(value), name), *self._values(_given(value), name)]

    def _values(self, values: Mapping[str, object], name: str, *, lenient: bool = False) -> list[str | bytes]:
        """Returns the digests of named values; if lenient, the type of a value whose content cannot be digested."""
        parts: list[str | bytes] = []
        for key, value in values.items():
            parts.append(key)
            if isinstance(value, PLAIN) and len(repr(value)) <= SHORT:
                self.lines.append(f"{name}.{key} = {value!r}")
            try:
                parts.append(self.digest(value, f"{name}.{key}"))
            except UnhashableError:
                if not lenient:
                    raise
                parts.append(_title(type(value)))
        return parts

    def _array(self, value: Any, name: str) -> list[str | bytes]:
        """Returns the type and values of an array, of objects those of each."""
        try:
            array = np.asarray(value)
        except (TypeError, RuntimeError):
            # A tracer, PRNG keys, or an array whose memory is freed.
            raise UnhashableError(name, f"an object of {_title(type(value))}") from None
        if isinstance(value, np.ma.MaskedArray):
            raise UnhashableError(name, "a masked array")
        if array.dtype.hasobject:
            return [str(array.shape), self.digest(array.ravel().tolist(), name)]
        return [str(array.dtype), digest({"": array})]

    def _function(self, function: types.FunctionType, name: str) -> list[str | bytes]:
        """Returns the name of a function, its source and what it reads unless it is of a library, and what it holds."""
        code = function.__code__
        parts: list[str | bytes] = [function.__module__ or "", code.co_qualname]
        is_library = _is_library(function.__globals__)
        if not is_library:
            text = _text_of(code)
            self.lines.append(text)
            parts += [text, *self._files(function.__globals__)]
            read = {key: function.__globals__[key] for key in _names_in(code) if key in function.__globals__}
            # Where there is a file, an object that cannot be digested counts by its type: code in the file makes it.
            parts += self._values(read, name, lenient="__file__" in function.__globals__)
        held: dict[str, object] = {}
        for variable, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            # An empty cell has no content.
            with contextlib.suppress(ValueError):
                held[variable] = cell.cell_contents
        defaults = function.__defaults__ or ()
        first = code.co_argcount - len(defaults)
        held.update(zip(code.co_varnames[first : code.co_argcount], defaults, strict=True))
        held.update(function.__kwdefaults__ or {})
        held.update(vars(function))
        return parts + self._values(held, name, lenient=is_library)

    def _class(self, value: type, name: str) -> list[str | bytes]:
        """Returns the name of a class, and unless it is of a library its files, bases and attributes."""
        parts: list[str | bytes] = [value.__module__, value.__qualname__]
        module = sys.modules.get(value.__module__)
        if module is not None:
            if _is_library(vars(module)):
                return parts
            parts += self._files(vars(module))
        parts += [self.digest(base, name) for base in value.__bases__]
        # Without the texts that Python itself adds, such as `__doc__`.
        attributes = {key: content for key, content in vars(value).items() if callable(content) or key[:2] != "__"}
        if issubclass(value, enum.Enum):
            attributes = _written_in_enumeration(value, attributes)
        return parts + self._values(attributes, name, lenient=True)

    def _member(self, member: enum.Enum, name: str) -> list[str | bytes]:
        """Returns the enumeration of a member, the member's name and value, and the attributes that it was given."""
        given = {key: content for key, content in _given(member).items() if key not in MEMBER_STATE}
        parts = [self.digest(type(member), name), str(member._name_), self.digest(member._value_, f"{name}.value")]
        return [*parts, *self._values(given, name)]

    def _files(self, module: Mapping[str, object]) -> list[str | bytes]:
        """Returns the digests of the files of a user's module, and of the user's modules that its names reach."""
        if id(module) in self._digests or _is_library(module):
            return []
        # Each file counts once.
        self._digests[id(module)] = b""
        parts: list[str | bytes] = []
        if "__file__" in module:
            parts.append(_code_in(str(module["__file__"])))
        for value in list(module.values()):
            reached = value
            if not isinstance(value, types.ModuleType):
                reached = sys.modules.get(str(getattr(value, "__module__", "")))
            if reached is not None:
                parts += self._files(vars(reached))
        return parts


def _given(value: object) -> dict[str, object]:
    """Returns the attributes that an object was given, without those that it computed when they were first read."""
    given: dict[str, object] = {}
    for key, content in vars(value).items():
        if not isinstance(inspect.getattr_static(type(value), key, None), functools.cached_property):
            given[key] = content
    return given


def _written_in_enumeration(value: type[enum.Enum], attributes: Mapping[str, object]) -> dict[str, object]:
    """Returns the attributes of an enumeration that its source gives it: members, aliases, methods and others."""
    written: dict[str, object] = {**value.__members__}
    for key, content in attributes.items():
        if key not in ENUMERATION_STATE and getattr(content, "__module__", "") != enum.__name__:
            written[key] = content
    return written


def _hash(*parts: str | bytes) -> bytes:
    """Returns the SHA-256 of texts and digests, in their order."""
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, str):
            part = part.encode("utf-8", "surrogatepass")
        total.update(hashlib.sha256(part).digest())
    return total.digest()


def _code_in(file: str) -> str:
    """Returns the code of a file without comments, and without `get_config`, whose result is the configuration."""
    tree = ast.parse(Path(file).read_bytes())
    tree.body = [node for node in tree.body if getattr(node, "name", "") != "get_config"]
    return ast.unparse(tree)


def _title(value_type: type) -> str:
    """Returns the name of a type with its module."""
    return f"{value_type.__module__}.{value_type.__qualname__}"


@functools.cache
def _is_in_library(file: str) -> bool:
    """Returns whether a file is of the standard library, an installed package or flipjax."""
    path = Path(file).resolve()
    folders = (*LIBRARIES, FLIPJAX)
    return bool(PACKAGES & set(path.parts)) or any(path.is_relative_to(folder) for folder in folders)


def _is_library(module: Mapping[str, object]) -> bool:
    """Whether a module, by its names, is of the standard library, an installed package or flipjax."""
    name = str(module.get("__name__", ""))
    if name == "__main__" or name.startswith("config "):
        # A notebook or a script, or a configuration file, also one that ships with flipjax.
        return False
    if "__file__" in module:
        return _is_in_library(str(module["__file__"]))
    # Modules that are built into Python have no file, and neither has the text of an `exec`.
    return name in sys.modules


def _names_in(code: types.CodeType) -> list[str]:
    """Returns the names that a function and its inner functions read."""
    names = list(code.co_names)
    for inner in filter(inspect.iscode, code.co_consts):
        names += _names_in(inner)
    return sorted(set(names))


def _text_of(code: types.CodeType) -> str:
    """Returns the source of a function; its bytes, too, if it has none or is a lambda, which may share its line."""
    try:
        text = inspect.getsource(code).rstrip()
    except (OSError, TypeError):
        text = code.co_name
    if code.co_name != "<lambda>" and text != code.co_name:
        return text
    constants = [_constant(value) for value in code.co_consts]
    return f"{text}\n{code.co_code.hex()} {constants} {code.co_names}"


def _constant(constant: object) -> str:
    """Returns the text of a constant. A set is written in order, as its own order differs between processes."""
    if inspect.iscode(constant):
        return _text_of(constant)
    if isinstance(constant, frozenset):
        return str(sorted(map(repr, constant)))
    return repr(constant)
