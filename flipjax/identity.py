"""Run identity: a digest of the configuration, equal for one read back from config.json.

A function or class in the configuration is identified by its name and a digest of `text_of`.
"""

import functools
import inspect
import json
import types
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from flipjax.config import Config, ConfigError, leaves
from flipjax.support.files import sha256
from flipjax.support.ranges import name_of

SAME_RUN = {"population.memory_gb", "population.keep", "pool.attribute"}
"""Fields that do not distinguish runs."""


def digest_of(config: Config | Mapping[str, Any]) -> str:
    """Returns a digest of every setting that distinguishes runs; 1 and 1.0 are equal."""
    fields = {name: value for name, value in leaves(config).items() if name not in SAME_RUN}
    plain = json.loads(json.dumps(fields, default=_as_text), parse_int=float)
    return sha256(json.dumps(plain, sort_keys=True))


def settings_of(config: Config) -> dict[str, Any]:
    """Returns a configuration as nested JSON values; a function is its name and a digest, as `focal 1f0c2a9e77d3`."""
    return json.loads(json.dumps(config.to_dict(), default=_as_text))


def sources_of(config: Config) -> dict[str, str]:
    """Returns the text of every function or class in a configuration, by name."""
    fields = [field if isinstance(field, tuple | list) else (field,) for field in leaves(config).values()]
    return {name_of(value): text_of(value) for field in fields for value in field if callable(value)}


def _as_text(value: Any) -> str:
    if not callable(value):
        return str(value)
    return f"{name_of(value)} {sha256(text_of(value))[:12]}"


def first_difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str | None:
    """Returns the first dotted field that differs between two configurations, with both values, or None.

    Memory limits and which weights are kept do not distinguish runs.
    """
    before, after = leaves(old), leaves(new)
    for name in sorted((before.keys() | after.keys()) - SAME_RUN):
        if before.get(name) != after.get(name):
            return f"config.{name}: {before.get(name)!r} there, {after.get(name)!r} now"
    return None


def text_of(function: Any) -> str:
    """Returns the source of a function or class, and a line for each value bound to it.

    Bound values are arguments of `functools.partial`, defaults, closure values and the names it uses from its own file;
    functions and classes from that file include their source. Those from other files are named only.

    Raises:
        ConfigError: no text identifies a bound value, or a function has no source.
    """
    texts: dict[Any, str] = {}
    _describe(function, name_of(function), _file_of(function), texts)
    return "\n".join(texts.values())


def _file_of(function: Any) -> str | None:
    while isinstance(function, functools.partial):
        function = function.func
    return getattr(inspect.unwrap(function), "__module__", None)


def _describe(value: Any, name: str, file: str | None, texts: dict[Any, str]) -> None:
    """Adds the text of a value and of its bound values to `texts`, with each function and class once."""
    place = id(value) if callable(value) else name
    if place in texts:
        return
    bound: dict[str, Any] = {}
    if isinstance(value, functools.partial):
        _describe(value.func, name, file, texts)
        arguments = {**dict(enumerate(value.args)), **value.keywords}
        bound = {f"partial.{argument}": entry for argument, entry in arguments.items()}
    elif inspect.ismodule(value) or (callable(value) and _file_of(value) != file):
        texts[place] = f"{name} = {getattr(value, '__module__', '')} {getattr(value, '__qualname__', value.__name__)}"
    elif callable(value):
        own = inspect.unwrap(value)
        try:
            texts[place] = inspect.getsource(own).rstrip()
        except (OSError, TypeError) as error:
            raise ConfigError(f"config: {name}", "a function or class with a source file", repr(value)) from error
        bound = dict(_bound(own))
    else:
        texts[place] = f"{name} = {_value_text(value, name)}"
    for part, entry in bound.items():
        _describe(entry, f"{name}.{part}", file, texts)


def _bound(function: Any) -> Iterator[tuple[str, Any]]:
    """Yields the values bound to a function, or to the functions of a class, by name."""
    if inspect.isclass(function):
        for base in function.__bases__:
            yield base.__name__, base
        for method in filter(inspect.isfunction, (getattr(each, "__func__", each) for each in vars(function).values())):
            yield from _bound(method)
    if not inspect.isfunction(function):
        return
    yield from inspect.getclosurevars(function).nonlocals.items()
    # Python 3.13 lists globals in random order, and no version lists those of inner functions.
    names = dict.fromkeys(_names_in(function.__code__))
    yield from ((name, function.__globals__[name]) for name in names if name in function.__globals__)
    for parameter in inspect.signature(function).parameters.values():
        if parameter.default is not parameter.empty:
            yield parameter.name, parameter.default


def _names_in(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for inner in filter(inspect.iscode, code.co_consts):
        yield from _names_in(inner)


def _value_text(value: Any, name: str) -> str:
    if hasattr(value, "__array__"):
        array = np.asarray(value)
        return f"{array.dtype}{list(array.shape)} {sha256(array.tobytes())[:12]}"
    text = repr(value)
    if " at 0x" in text:
        raise ConfigError(f"config: {name}", "numbers, strings or arrays", text)
    return text
