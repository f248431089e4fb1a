"""Configurations by name or file: found, run, changed key by key, and described. Imports no JAX.

What is read here is a `ConfigDict` that a user may still change; `flipjax.config.plan` makes a frozen record of it.
"""

import ast
import difflib
import os
import sys
import textwrap
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

from flipjax.config.checks import check_name
from flipjax.config.config_type import Config
from flipjax.config.default import default_config
from flipjax.config.errors import ConfigError
from flipjax.config.keys import Key, as_python
from flipjax.config.methods import MEANINGS
from flipjax.config.ranges import functions_of, is_named_tuple, name_of
from flipjax.config.sections import KEYS, PLACES, SECTIONS
from flipjax.config.values import leaves
from flipjax.support.process import Process
from flipjax.support.threads import cores


def configure(config: Config | str | Path, changes: Mapping[str, object] | None = None) -> Config:
    """Returns a new configuration: one that ships, of a file, or a copy, with some values changed.

    Args:
        config: the name of a shipped configuration, with `:VARIANT` if it has several; a Python file with
            `get_config()`; or a ConfigDict, which is copied.
        changes: values by dotted key, such as `{"train.epochs": 2}`.

    Raises:
        ConfigError: there is no such configuration or key.

    Example:
        >>> config = configure("smoke", {"train.epochs": 2, "axes.rho": (0.5, 0.9)})
        >>> config.train.epochs, config.axes.rho
        (2, (0.5, 0.9))
    """
    if isinstance(config, str | Path):
        config = read_config(config)
    elif not hasattr(config, "copy_and_resolve_references"):
        raise ConfigError("config", "a configuration's name, a file or a ConfigDict", repr(config))
    if not isinstance(changes, Mapping | None):
        raise ConfigError("changes", "a mapping from dotted keys to values", repr(changes))
    return changed(config, changes or {})


def read_config(config: str | Path | None, overrides: Mapping[str, str] | None = None) -> Config:
    """Returns a configuration with values that a command line overrides.

    Args:
        config: NAME|FILE or NAME|FILE:VARIANT; the `get_config` of the file returns the configuration and takes the
            variant, if any. None: the default.
        overrides: the text of values by dotted key, as typed after `--config.KEY=`.

    Raises:
        ConfigError: an error inside the file, with its traceback; an unknown key, with the nearest one.
    """
    if config is None:
        read = default_config()
    else:
        file, _, variant = str(config).partition(":")
        read = _run_file(find_config(file), variant)
    for name, text in (overrides or {}).items():
        assign(read, name, parse_value(name, text))
    return read


def assign(config: Config, name: str, value: object) -> None:
    """Sets a dotted key of a configuration; `check` reports wrong types together with ranges.

    Raises:
        ConfigError: an unknown key, with the nearest one.

    Example:
        >>> from flipjax.config import default_config
        >>> config = default_config()
        >>> assign(config, "axes.model.width", [8, 16])
        >>> config.axes.model.width
        (8, 16)
    """
    check_name(name)
    *sections, field = name.split(".")
    section = config
    for part in sections:
        section = section[part]
    with section.unlocked(), section.ignore_type():
        section[field] = _as_stored(name, value)


def changed(config: Config, changes: Mapping[str, object]) -> Config:
    """Returns a copy with other values of dotted keys; raises as `assign`.

    Example:
        >>> from flipjax.config import default_config
        >>> config = default_config()
        >>> changed(config, {"train.epochs": 4}).train.epochs, config.train.epochs
        (4, 15)
    """
    copy = normalised(config)
    for name, value in changes.items():
        assign(copy, name, value)
    return copy


def normalised(config: Config) -> Config:
    """Returns a copy with Python's numbers, tuples in place of lists, ranges and arrays, and a tuple of each axis.

    Example:
        >>> from flipjax.config import default_config
        >>> config = default_config()
        >>> config.axes.seed, config.axes.rho = range(3), 0.9
        >>> normalised(config).axes.seed, normalised(config).axes.rho
        ((0, 1, 2), (0.9,))
    """
    # A FrozenConfigDict cannot be changed, and neither can its copies.
    if hasattr(config, "as_configdict"):
        config = config.as_configdict()
    copy = config.copy_and_resolve_references()
    _normalise(copy, "")
    _lock_as(copy, config)
    return copy


def _normalise(section: Config, prefix: str) -> None:
    """Replaces the values of a section, whose names begin with `prefix`, and of those below it, by Python's."""
    with section.unlocked(), section.ignore_type():
        for field, value in section.items():
            name = f"{prefix}{field}"
            if hasattr(value, "unlocked"):
                _normalise(value, f"{name}.")
            else:
                section[field] = _as_stored(name, value)


def _as_stored(name: str, value: object) -> object:
    """Returns a value as a configuration holds it at a dotted name: Python's, and one value of an axis as a tuple."""
    value = as_python(value)
    key = PLACES.get(name)
    if key is None or not name.startswith("axes."):
        return value
    is_one = not isinstance(value, tuple) or is_named_tuple(value)
    if isinstance(key.default, tuple):
        # Of keys that hold tuples, such as `pool.classes`.
        is_one = value != () and key.accepts(value)
    if is_one:
        return (value,)
    return value


def _lock_as(section: Config, pattern: Config) -> None:
    """Locks the sections that `pattern` has locked, since locking one locks all below it."""
    if pattern.is_locked:
        section.lock()
    else:
        section.unlock()
    for name, value in pattern.items():
        if hasattr(value, "is_locked"):
            _lock_as(section[name], value)


def parse_value(name: str, text: str) -> object:
    """Parses a command-line value for a dotted name, as a Python literal or bare strings; raises as `check_name`.

    Example:
        >>> parse_value("axes.rho", "0.9,0.95"), parse_value("axes.method", "ce,group_dro")
        ((0.9, 0.95), ('ce', 'group_dro'))
        >>> parse_value("pool.root", "7")
        '7'
    """
    check_name(name, prefix="--config.")
    key = PLACES.get(name)
    takes_several = name not in KEYS or name.startswith("axes.") or isinstance(KEYS[name].default, tuple)
    value = _parse_literal(text)
    if value is text and takes_several:
        parts = [part.strip() for part in text.split(",") if part.strip()]
        value = tuple(parts)
        if key is not None and isinstance(key.default, int | float):
            value = tuple(map(_parse_literal, parts))
    if takes_several:
        if isinstance(value, list | tuple):
            return tuple(value)
        return (value,)
    if key is not None and isinstance(key.default, str) and not isinstance(value, str):
        return text
    return value


def _parse_literal(text: str) -> object:
    """Returns the value of a Python literal, and text that is none as it is."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text


def shipped_configs() -> dict[str, Path]:
    """Returns the shipped configurations by name, from the wheel's or the repository's `configs` folder."""
    package = Path(__file__).parents[1]
    for folder in (package / "configs", package.parent / "configs"):
        if folder.is_dir():
            return {path.stem: path for path in sorted(folder.glob("*.py"))}
    return {}


def find_config(name: str) -> Path:
    """Returns the file of a path, or of a shipped NAME or configs/NAME.py; raises ConfigError if there is none."""
    path = Path(name)
    if path.is_file():
        return path
    shipped = shipped_configs()
    if path.suffix in ("", ".py") and path.parent in (Path(), Path("configs")) and path.stem in shipped:
        return shipped[path.stem]
    near = difflib.get_close_matches(path.stem, shipped, n=1)
    hint = f"valid are {', '.join(shipped)}"
    if near:
        hint = f"the nearest is {near[0]}"
    raise ConfigError("--config", f"a configuration file, or the name of one that ships ({hint})", name)


def run_name(config: str | Path) -> str:
    """Returns the name of a configuration's run folder, that of NAME|FILE and of its variant.

    Example:
        >>> run_name("configs/smoke.py"), run_name("photos_grid:pretrained")
        ('smoke', 'photos_grid_pretrained')
    """
    file, _, variant = str(config).partition(":")
    stem = Path(file).stem
    if variant:
        return f"{stem}_{variant}"
    return stem


def _run_file(path: Path, variant: str) -> Config:
    """Runs a user's configuration file; the message of an error is its traceback."""
    from ml_collections import ConfigDict

    if path.suffix != ".py":
        raise ConfigError("--config", "a Python file with get_config(), such as configs/smoke.py", str(path))
    module = ModuleType(f"config {path}")
    module.__file__ = str(path)
    # The standard library looks up class sources and annotation names in sys.modules.
    sys.modules[module.__name__] = module
    if Process.is_command and "jax" not in sys.modules:
        # A JAX array in the file starts JAX: use one device per core, as a sweep does.
        os.environ.setdefault("JAX_NUM_CPU_DEVICES", str(cores()))
    variants = []
    if variant:
        variants.append(variant)
    try:
        exec(compile(path.read_bytes(), path, "exec"), vars(module))
        config = module.get_config(*variants)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        _check_names_at(error, path)
        # Of any type: sys.exit() in the file would end this process, and with 0 as if all were done.
        in_file = error.__traceback__ and error.__traceback__.tb_next
        lines = "".join(traceback.format_exception(type(error), error, in_file))
        raise ConfigError(str(path), problem=f"raised\n{lines.rstrip()}") from error
    if not isinstance(config, ConfigDict):
        raise ConfigError(str(path), "get_config() to return a ConfigDict, as default_config() does", repr(config))
    return normalised(config)


def _check_names_at(error: BaseException, path: Path) -> None:
    """Raises ConfigError, as `check_name` does, if ml_collections refused a name in a line of a configuration file."""
    frames = list(traceback.walk_tb(error.__traceback__))
    in_file = [(frame, line) for frame, line in frames if frame.f_code.co_filename == str(path)]
    if not in_file or not frames[-1][0].f_globals["__name__"].startswith("ml_collections"):
        return
    frame, line = in_file[-1]
    values = {**frame.f_globals, **frame.f_locals}
    nodes = list(ast.walk(ast.parse(path.read_bytes())))
    parts = [node.value for node in nodes if isinstance(node, ast.Attribute | ast.Subscript)]
    for node in nodes:
        if not isinstance(node, ast.Attribute) or node in parts:
            continue
        if node.lineno <= line <= (node.end_lineno or node.lineno):
            root, _, name = ast.unparse(node).partition(".")
            # A method, such as `update`, is no key.
            if hasattr(values.get(root), "is_locked") and not hasattr(type(values[root]), node.attr):
                check_name(name)


def describe_configs() -> str:
    """Lists the shipped configurations, each with its docstring: purpose, commands, cost and expected result."""
    texts = []
    for name, path in shipped_configs().items():
        docstring = ast.get_docstring(ast.parse(path.read_bytes())) or ""
        texts.append(f"{name}\n{textwrap.indent(docstring, '  ')}\n")
    return "\n".join(texts)


def describe_keys(config: Config) -> str:
    """Describes each key, section by section: its value in a configuration, meaning, type, range and default.

    Raises:
        ConfigError: the configuration lacks a key.
    """
    values = leaves(config)
    for key in KEYS.values():
        if key.name not in values:
            raise ConfigError(f"config.{key.name}", "a value, as default_config() has one", "none")
    lines = [
        "Sections set a value: --config.train.learning_rate=1e-3.",
        "Axes combine values: --config.axes.train.learning_rate=1e-3,1e-2 --config.axes.model.width=8,16.",
        'Members list settings: --config.members=\'[{"train.learning_rate": 1e-3, "model.width": 8}]\'.',
    ]
    for section in SECTIONS:
        lines += ["", f"[{section}]"]
        for key in KEYS.values():
            if key.section == section:
                lines += _describe_key(key, values)
    lines += ["", "Methods, config.axes.method:"]
    for name, meaning in MEANINGS.items():
        lines.append(f"  {name:20}{meaning}")
    return "\n".join(lines)


def _describe_key(key: Key, values: Mapping[str, object]) -> list[str]:
    """Returns the lines of a key, given the configuration's values by dotted name."""
    place = key.name
    if f"axes.{key.axis}" in values:
        place = f"axes.{key.axis}"
    names = [name_of(function) for function in functions_of(values[place])]
    value = ", ".join(names) or repr(values[place])
    allowed = "function"
    if key.default is not None:
        allowed = type(key.default).__name__
    if key.values.text:
        allowed += f", {key.values.text}"
    varying = "one value for all members"
    if key.varies:
        varying = "varying it compiles nothing"
    if key.varies and key.compiles:
        varying = "varying it compiles a program for each value"
    sentence = f"{key.meaning[0].upper()}{key.meaning[1:]}."
    return [f"--config.{place}={value}", f"  {sentence}", f"  {allowed}; default {key.default!r}; {varying}"]
