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

from flipjax.config import KEYS, Config, ConfigError, leaves
from flipjax.support.files import sha256
from flipjax.support.ranges import name_of

SAME_RUN = {name for name, key in KEYS.items() if key.same_run}
"""Keys that do not distinguish runs."""


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
    return f"{name_of(value)} {sha256(text_of(value))[:12]}" if callable(value) else str(value)


def first_difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str | None:
    """Returns the first dotted field that differs between two configurations, with both values, or None.

    Memory limits and which weights are kept do not distinguish runs.
    """
    before, after = leaves(old), leaves(new)
    changed = [name for name in (before.keys() | after.keys()) - SAME_RUN if before.get(name) != after.get(name)]
    name = min(changed, default="")
    return f"config.{name}: {before.get(name)!r} there, {after.get(name)!r} now" if changed else None


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
        bound = _bound(own)
    elif hasattr(value, "__array__"):
        array = np.asarray(value)
        texts[place] = f"{name} = {array.dtype}{list(array.shape)} {sha256(array.tobytes())[:12]}"
    elif " at 0x" in repr(value):
        raise ConfigError(f"config: {name}", "numbers, strings or arrays", repr(value))
    else:
        texts[place] = f"{name} = {value!r}"
    for part, entry in bound.items():
        _describe(entry, f"{name}.{part}", file, texts)


def _bound(function: Any) -> dict[str, Any]:
    """Returns the values bound to a function, or to the methods of a class, by name."""
    bound = {base.__name__: base for base in getattr(function, "__bases__", ())}
    for each in (function, *vars(function).values()):
        method = getattr(each, "__func__", each)
        if inspect.isfunction(method):
            known, parameters = method.__globals__, inspect.signature(method).parameters.values()
            bound |= inspect.getclosurevars(method).nonlocals
            bound |= {name: known[name] for name in _names_in(method.__code__) if name in known}
            bound |= {p.name: p.default for p in parameters if p.default is not p.empty}
    return bound


def _names_in(code: types.CodeType) -> Iterator[str]:
    """Yields the names in a function and in its inner functions; Python's own lists leave those out."""
    yield from code.co_names
    for inner in filter(inspect.iscode, code.co_consts):
        yield from _names_in(inner)
