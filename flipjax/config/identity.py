"""Run identity: a digest of the configuration, equal for one read back from config.json.

A function or class in the configuration is identified by its name and its `support.fingerprint`, a digest of its source
files and of the values that it holds.
"""

import json
from collections.abc import Mapping
from typing import Any

from flipjax.config.config_type import Config
from flipjax.config.errors import ConfigError
from flipjax.config.keys import as_python
from flipjax.config.ranges import name_of
from flipjax.config.sections import KEYS
from flipjax.config.values import leaves
from flipjax.support import fingerprint
from flipjax.support.files import JsonObject, sha256

SAME_RUN = {name for name, key in KEYS.items() if key.same_run}
"""Keys that do not distinguish runs."""


def digest_of(config: Config | Mapping[str, object]) -> str:
    """Returns a digest of all values that distinguish runs; 1 and 1.0 are equal.

    Raises:
        ConfigError: a function of the configuration reaches something without content that could be hashed.
    """
    fields = {}
    for name, value in leaves(config).items():
        if name not in SAME_RUN:
            fields[name] = _as_json(name, value)
    # Numbers as floats, and the order of keys as in any other process.
    plain = json.loads(json.dumps(fields), parse_int=float)
    return sha256(json.dumps(plain, sort_keys=True))


def json_of(config: Config) -> JsonObject:
    """Returns a configuration as nested JSON values; a function is its name and a digest, as `focal 1f0c2a9e77d3`.

    Raises:
        ConfigError: as `digest_of`.
    """
    return _as_json("", config.to_dict())


def sources_of(config: Config) -> dict[str, str]:
    """Returns the sources of every function or class in a configuration and of what it uses, by name."""
    texts = {}
    for value in leaves(config).values():
        items = value if isinstance(value, tuple | list) else (value,)
        for item in items:
            if callable(item):
                texts[name_of(item)] = fingerprint.sources(item, name_of(item))
    return texts


def first_difference(old: Mapping[str, object], new: Mapping[str, object]) -> str | None:
    """Returns the first dotted field that differs between two configurations, with both values, or None.

    Memory limits and which weights are kept do not distinguish runs.
    """
    before = leaves(old)
    after = leaves(new)
    for name in sorted((before.keys() | after.keys()) - SAME_RUN):
        if before.get(name) != after.get(name):
            return f"config.{name}: {before.get(name)!r} there, {after.get(name)!r} now"
    return None


def _as_json(name: str, value: object) -> Any:
    """Returns a value at a dotted name as JSON has it, with a digest for a function."""
    value = as_python(value)
    if isinstance(value, Mapping):
        prefix = ""
        if name:
            prefix = f"{name}."
        return {field: _as_json(f"{prefix}{field}", item) for field, item in value.items()}
    if isinstance(value, tuple):
        return [_as_json(name, item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if not callable(value):
        return str(value)
    title = name_of(value)
    try:
        return f"{title} {fingerprint.fingerprint(value, title)[:12]}"
    except fingerprint.UnhashableError as error:
        way_out = "make other objects inside the function, or in a module of yours that it imports"
        expected = f"a function that holds values, arrays and functions alone ({way_out})"
        raise ConfigError(f"config.{name}", expected, f"{error.name}, {error.found}") from error
