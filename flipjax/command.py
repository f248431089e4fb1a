"""Shared parts of the command lines: option parsing, named configurations, one-line errors and JAX start-up."""

import argparse
import ast
import difflib
import functools
import os
import re
import sys
import textwrap
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from flipjax.config import KEYS, PLACES, Config, ConfigError, assign, check_name, default_config, leaves
from flipjax.methods import METHODS
from flipjax.support.keys import Kind
from flipjax.support.ranges import functions_of, name_of
from flipjax.support.terminal import INTERRUPTED, one_line, printable, say
from flipjax.support.threads import cores

DONE, SOME_FAILED, USAGE = 0, 1, 2
"""Exit codes of every command, besides INTERRUPTED."""

EXTRAS = {"coco": ("ijson", "pycocotools"), "nifti": ("nibabel",), "arrow": ("pyarrow",), "slurm": ("submitit",)}
EXTRAS |= {"ray": ("ray",), "export": ("mlflow", "trackio", "wandb")}
"""Extras of flipjax, and the packages that each brings."""
PACKAGES = {"PIL": "pillow", "orbax": "orbax-checkpoint"}
PACKAGES |= {name: f"'flipjax[{extra}]'" for extra, names in EXTRAS.items() for name in names}
"""Names for pip, by package: of those whose import name differs, and of those in an extra."""


def main(
    prog: str, *, options: Mapping[str, str] | None = None, system_code: int = USAGE, advice: str = ""
) -> Callable[[Callable[[list[str]], int]], Callable[..., int]]:
    """Turns a function of arguments into a command that reports user errors as one line and an exit code.

    Args:
        prog: start of the line, such as `flipjax sweep`.
        options: maps a configuration field to the option to name in its place.
        system_code: exit code of system errors, such as a missing file or a full disk.
        advice: appended to the line of such an error.

    Returns:
        A decorator. The command takes the arguments after the program's name, by default those of this process.
    """

    def decorate(body: Callable[[list[str]], int]) -> Callable[..., int]:
        @functools.wraps(body)
        def run(arguments: Sequence[str] | None = None) -> int:
            try:
                try:
                    return body(sys.argv[1:] if arguments is None else list(arguments))
                finally:
                    print(end="", flush=True)
            except BrokenPipeError:
                # The reader closed the pipe: discard the remaining output.
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                return DONE
            except (Exception, KeyboardInterrupt) as error:
                code, problem = _explain(error, options or {}, system_code, advice)
                say(printable(f"{prog}: {problem}"))
                return code

        return run

    return decorate


def _explain(error: BaseException, options: Mapping[str, str], system_code: int, advice: str) -> tuple[int, str]:
    """Returns the exit code and line of an error; re-raises a programming error."""
    match error:
        case KeyboardInterrupt():
            return INTERRUPTED, "interrupted; the same command starts anew"
        case ConfigError():
            return error.exit_code, f"{options.get(error.field, error.field)}: {error.problem}"
        case ModuleNotFoundError(name=str(module)) if not module.startswith("flipjax"):
            name = module.partition(".")[0]
            brings = f"python -m pip install {PACKAGES.get(name, name.replace('_', '-'))}"
            works = "without, flipjax.metrics and the numbers of flipjax audit work"
            return USAGE, f"expected the package {name}, found none; {brings}; {works}"
        case OSError():
            # Without an errno, flipjax itself raised it for a path named on the command line.
            code = USAGE if isinstance(error, FileNotFoundError) and not error.errno else system_code
            return code, one_line(f"{error.filename}: {error.strerror}" if error.filename else str(error)) + advice
        case MemoryError():
            return USAGE, f"expected more memory than this process may take ({error or 'ulimit -v'}){advice}"
    if (code := getattr(error, "exit_code", None)) is not None:
        return code, one_line(str(error))
    if jax := sys.modules.get("jax"):
        try:
            jax.devices()
        except Exception as problem:
            found = f"{os.environ.get('JAX_PLATFORMS')!r} ({one_line(str(problem)) or 'no such device'})"
            return USAGE, f"JAX_PLATFORMS: expected a platform that is here, or no such variable; found {found}"
    raise error


class Parser(argparse.ArgumentParser):
    """An argument parser that raises ConfigErrors and reads `--dry-run` as `--dry_run`."""

    def __init__(self, **options: Any):
        """Takes argparse's options: `prog` as in `flipjax NAME`, `description` the command's module docstring."""
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        """Raises ConfigError with argparse's message."""
        field, _, problem = message.partition(": ")
        raise ConfigError(field, problem=f"{problem or 'expected another command line'}; see {self.prog} --help")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Reads the known options, spelt with dashes or underscores."""
        arguments = sys.argv[1:] if args is None else args
        spelt = [re.sub("^--[^=]+", lambda name: f"--{name[0][2:].replace('-', '_')}", part) for part in arguments]
        return super().parse_known_args(spelt, namespace)


def read_names(text: str) -> tuple[str, ...]:
    """Returns the names of an option such as `--class_names`."""
    return tuple(name.strip() for name in text.split(","))


def read_folder(text: str) -> Path:
    """Returns the folder that an option such as `--cub_dir` names."""
    path = Path(text).expanduser()
    if not path.is_dir():
        raise argparse.ArgumentTypeError(f"expected a folder; found {text}")
    return path


def read_classes(text: str) -> tuple[int, ...]:
    """Returns the classes of an option such as `--background`: a tuple, none for `none`."""
    try:
        return () if text == "none" else tuple(map(int, text.split(",")))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a class, several as 0,1,2, or none; found {text!r}") from None


class ConfigParser(Parser):
    """A parser for commands with a configuration: `--config`, its overrides and the list of shipped ones."""

    def __init__(self, name: str, text: str):
        """Takes `name` as in `flipjax NAME`, and the command's module docstring."""
        example = "--config.KEY=VALUE sets a key (see --list_keys), such as --config.axes.rho='(0.5, 0.9)'"
        super().__init__(prog=f"flipjax {name}", description=text, epilog=example)
        self.add_argument("--config", metavar="NAME|FILE", help="one that ships, or yours; NAME:VARIANT if several")
        self.add_argument("--list_configs", action="store_true", help="list the configurations that ship, and stop")
        self.add_argument("--list_keys", action="store_true", help="list the configuration's keys and values, and stop")

    def parse(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Reads a command line without the program's name; the result also holds `config` and `config_name`.

        Raises:
            ConfigError: the line is invalid or names no configuration.
        """
        options, rest = self.parse_known_args(arguments)
        if unknown := [part for part in rest if part.startswith("--") and not part.startswith("--config.")]:
            near = difflib.get_close_matches(unknown[0].partition("=")[0], self._option_string_actions, n=1)
            self.error(f"{unknown[0]}: expected an option{f'; the nearest is {near[0]}' if near else ''}")
        if options.list_configs:
            print(describe_configs())
            self.exit()
        if not options.config and not options.list_keys:
            raise ConfigError("--config", "the name of a configuration or a file, such as correlation_grid", "none")
        options.config_name = run_name(options.config or "")
        options.config = read_config(options.config or None, rest)
        if options.list_keys:
            print(describe_keys(options.config))
            self.exit()
        return options


def shipped_configs() -> dict[str, Path]:
    """Returns the shipped configurations by name, from the wheel's or the repository's `configs` folder."""
    package = Path(__file__).parent
    folders = [folder for folder in (package / "configs", package.parent / "configs") if folder.is_dir()]
    return {path.stem: path for path in sorted(folders[0].glob("*.py"))} if folders else {}


def run_name(config: str | Path) -> str:
    """Returns the name of a configuration's run folder, that of NAME|FILE and of its variant.

    Example:
        >>> run_name("configs/smoke.py"), run_name("photos_grid:pretrained")
        ('smoke', 'photos_grid_pretrained')
    """
    file, _, variant = str(config).partition(":")
    return "_".join(filter(None, (Path(file).stem, variant)))


def find_config(name: str) -> Path:
    """Returns the file of a path, or of a shipped NAME or configs/NAME.py; raises ConfigError if there is none."""
    path = Path(name)
    if path.is_file():
        return path
    shipped = shipped_configs()
    if path.suffix in ("", ".py") and path.parent in (Path(), Path("configs")) and path.stem in shipped:
        return shipped[path.stem]
    near = difflib.get_close_matches(path.stem, shipped, n=1)
    hint = f"the nearest is {near[0]}" if near else f"valid are {', '.join(shipped)}"
    raise ConfigError("--config", f"a configuration file, or the name of one that ships ({hint})", name)


def describe_configs() -> str:
    """Lists the shipped configurations, each with its docstring: purpose, commands, cost and expected result."""
    texts = {name: ast.get_docstring(ast.parse(path.read_bytes())) for name, path in shipped_configs().items()}
    return "\n".join(f"{name}\n{textwrap.indent(text or '', '  ')}\n" for name, text in texts.items())


def describe_keys(config: Config) -> str:
    """Describes each key: its value in a configuration, meaning, range, and whether it is traced or static."""
    values = leaves(config)
    lines = ["Traced keys are data, so their values compile nothing. A static key is part of the compiled program."]
    lines += ["An option says how a run is carried out."]
    for key in KEYS.values():
        place, kind = key.name, key.kind.value
        if key.kind is Kind.TRACED:
            axis = f"axes.{key.field}"
            place = axis if axis in values else key.name
            kind = f"traced, as config.{axis}"
        value = ", ".join(map(name_of, functions_of(values[place]))) or repr(values[place])
        expected = key.values.text or type(key.default).__name__
        lines += ["", f"--config.{place}={value}", f"  {key.meaning}; {kind}", f"  {expected}"]
    lines += ["", "Methods, config.axes.method:"]
    return "\n".join([*lines, *(f"  {name:20}{method.meaning}" for name, method in METHODS.items())])


def read_config(config: str | Path | None, overrides: Sequence[str] = ()) -> Config:
    """Returns a configuration with `--config.KEY=VALUE` overrides.

    Args:
        config: NAME|FILE or NAME|FILE:VARIANT; the `get_config` of the file returns the configuration and takes the
            variant, if any. None: the default.
        overrides: command-line arguments; a value may be the argument after its key.

    Raises:
        ConfigError: an error inside the file, with its traceback; an unknown key, with the nearest one; or any other
            invalid argument.
    """
    file, _, variant = str(config).partition(":")
    read = default_config() if config is None else _run_file(find_config(file), variant)
    rest = list(overrides)
    while rest:
        option, equals, text = rest.pop(0).partition("=")
        name = option.removeprefix("--config.")
        if name == option:
            raise ConfigError("arguments", "options, such as --config correlation_grid", repr(option))
        if not equals and not rest:
            raise ConfigError(option, "a value", "none")
        assign(read, name, parse_value(name, text if equals else rest.pop(0)))
    return read


def configure(config: Any, changes: Mapping[str, Any] | None = None) -> Config:
    """Returns a new configuration, shipped, from a file or copied, with dotted keys changed.

    Raises:
        ConfigError: unknown configuration or key.

    Example:
        >>> config = configure("smoke", {"train.epochs": 2, "axes.rho": (0.5, 0.9)})
        >>> config.train.epochs, config.axes.rho
        (2, (0.5, 0.9))
    """
    config = read_config(config) if isinstance(config, str | Path) else config.copy_and_resolve_references()
    for name, value in (changes or {}).items():
        assign(config, name, value)
    return config


def parse_value(name: str, text: str) -> Any:
    """Parses a command-line value for a dotted name, as a Python literal or bare strings; raises as `check_name`.

    Example:
        >>> parse_value("axes.rho", ".9,.95"), parse_value("axes.method", "ce,group_dro"), parse_value("pool.root", "7")
        ((0.9, 0.95), ('ce', 'group_dro'), '7')
    """
    check_name(name, prefix="--config.")
    default = PLACES[name].default if name in PLACES else ()
    several = name not in KEYS or name.startswith("axes.") or isinstance(default, tuple)
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        value = tuple(part.strip() for part in text.split(",") if part.strip()) if several else text
    if several:
        return tuple(value) if isinstance(value, list | tuple) else (value,)
    return text if isinstance(default, str) and not isinstance(value, str) else value


def _run_file(path: Path, variant: str) -> Config:
    """Runs a user's configuration file; the message of an error is its traceback."""
    from ml_collections import ConfigDict

    if path.suffix != ".py":
        raise ConfigError("--config", "a Python file with get_config(), such as configs/smoke.py", str(path))
    module = ModuleType(f"config {path}")
    module.__file__ = str(path)
    # The standard library looks up class sources and annotation names in sys.modules.
    sys.modules[module.__name__] = module
    if "jax" not in sys.modules:
        # A JAX array in the file starts JAX: use one device per core, as a sweep does.
        os.environ.setdefault("JAX_NUM_CPU_DEVICES", str(cores()))
    try:
        exec(compile(path.read_bytes(), path, "exec"), vars(module))
        config = module.get_config(*filter(None, [variant]))
    except Exception as error:
        own = error.__traceback__ and error.__traceback__.tb_next
        lines = "".join(traceback.format_exception(type(error), error, own))
        raise ConfigError(str(path), problem=f"raised\n{lines.rstrip()}") from error
    if not isinstance(config, ConfigDict):
        raise ConfigError(str(path), "get_config() to return a ConfigDict, as default_config() does", repr(config))
    return config
