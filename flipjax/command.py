"""What command lines share: one spelling of options, configurations by name, errors in one line, the start of JAX."""

import argparse
import ast
import difflib
import functools
import itertools
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from flipjax.backend import backend_problem
from flipjax.config import KEYS, LISTS, PLACES, Config, ConfigError, default_config, leaves, nearest
from flipjax.methods import METHODS
from flipjax.ranges import functions_of, name_of
from flipjax.terminal import one_line, printable, say
from flipjax.threads import cores

DONE, SOME_FAILED, USAGE, INTERRUPTED = 0, 1, 2, 75
"""Exit codes of every command; an interrupted one is continued, or done anew, by the same command."""

DISTRIBUTIONS = {"PIL": "pillow", "orbax": "orbax-checkpoint"}
"""What installs a package of another name."""

CONFIG_HELP = """configuration:
  --config NAME|FILE         a shipped configuration (see --list_configs) or a file of yours
  --config.KEY=VALUE         another value for a key of it (see --list_keys), such as --config.train.epochs=30
                             or --config.axes.rho='(0.5, 0.9)'
"""


def main(
    prog: str, *, options: Mapping[str, str] | None = None, system_code: int = USAGE, advice: str = ""
) -> Callable[[Callable[[list[str]], int]], Callable[..., int]]:
    """Makes a command of a function of its arguments: an error that a user can act on is one line and an exit code.

    Args:
        prog: begins the line, such as `flipjax sweep`.
        options: the option that stands for a field of the configuration, and is named in its place.
        system_code: exit code of an error of the system, such as a file that is not there or a disk that is full.
        advice: follows the line of such an error.

    Returns:
        A decorator. The command takes the arguments behind the program's name, by default those of this process.
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
                # Who reads has seen enough.
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                return DONE
            except (Exception, KeyboardInterrupt) as error:
                return refuse(prog, error, options=options or {}, system_code=system_code, advice=advice)

        return run

    return decorate


def refuse(
    prog: str, error: BaseException, *, options: Mapping[str, str], system_code: int = USAGE, advice: str = ""
) -> int:
    """Says an error in a line and returns its exit code, as `main` does; one of the code itself is raised."""
    problem = _explain(error, options, system_code, advice)
    if problem is None:
        raise error
    # Where there is no standard error, print would write to standard output.
    if sys.stderr is not None:
        say(printable(f"{prog}: {problem[1]}"))
    return problem[0]


def _explain(error: BaseException, options: Mapping[str, str], system_code: int, advice: str) -> tuple[int, str] | None:
    """Returns exit code and line of an error; None for one of the code itself."""
    match error:
        case KeyboardInterrupt():
            return INTERRUPTED, "interrupted; the same command starts anew"
        case ConfigError():
            return error.exit_code, f"{options.get(error.field, error.field)}: {error.problem}"
        case ModuleNotFoundError():
            if (error.name or "").startswith("flipjax"):
                return None
            name = (error.name or "").partition(".")[0]
            brings = f"python -m pip install {DISTRIBUTIONS.get(name, name.replace('_', '-'))}"
            works = "without, flipjax.metrics and the numbers of flipjax audit work"
            return USAGE, f"expected the package {name}, found none; {brings}; {works}"
        case OSError():
            # Without a number it is flipjax that looked for what the command line names.
            code = USAGE if isinstance(error, FileNotFoundError) and not error.errno else system_code
            return code, one_line(f"{error.filename}: {error.strerror}" if error.filename else str(error)) + advice
        case MemoryError():
            return USAGE, f"expected more memory than this process may take ({error or 'ulimit -v'}){advice}"
    if (code := getattr(error, "exit_code", None)) is not None:
        return code, one_line(str(error))
    problem = backend_problem()
    return (USAGE, problem) if problem else None


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are ConfigErrors, and to which `--dry-run` is `--dry_run`."""

    def __init__(self, **options: Any):
        """Takes argparse's options: `prog` as in `flipjax NAME`, `description` the command's module docstring."""
        layout = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}
        super().__init__(**layout | options)

    def error(self, message: str) -> NoReturn:
        """Raises ConfigError with argparse's message."""
        field, _, problem = message.partition(": ")
        raise ConfigError(field, problem=f"{problem or 'expected another command line'}; see {self.prog} --help")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Reads the options that it knows, spelt with dashes or underscores."""
        arguments = sys.argv[1:] if args is None else args
        return super().parse_known_args([underscored(part) for part in arguments], namespace)


def underscored(argument: str) -> str:
    """Returns an option with underscores in its name; anything else as it is.

    Example:
      >>> underscored("--dry-run"), underscored("--out=a-b"), underscored("a-b")
      ('--dry_run', '--out=a-b', 'a-b')
    """
    if not argument.startswith("--"):
        return argument
    name, equals, value = argument[2:].partition("=")
    return f"--{name.replace('-', '_')}{equals}{value}"


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
        return () if text == "none" else tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a class, several as 0,1,2, or none; found {text!r}") from None


class ConfigParser(Parser):
    """A parser of commands with a configuration: `--config`, its overrides, and the list of those that ship."""

    def __init__(self, name: str, text: str):
        """Takes `name` as in `flipjax NAME`, and the command's module docstring."""
        super().__init__(prog=f"flipjax {name}", description=text, epilog=CONFIG_HELP)
        self.add_argument("--config", metavar="NAME|FILE", help="the configuration; NAME:VARIANT where it has several")
        self.add_argument("--list_configs", action="store_true", help="list the configurations that ship, and stop")
        self.add_argument("--list_keys", action="store_true", help="list the configuration's keys and values, and stop")

    def parse(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Reads a command line without the program's name; the result has `config` itself, and `config_name`.

        Raises:
            ConfigError: if the line cannot be read, or names no configuration.
        """
        parts, overrides, others = map(underscored, arguments), list[str](), list[str]()
        for part in parts:
            if part.startswith("--config."):
                overrides += [part] if "=" in part else [part, *itertools.islice(parts, 1)]
            else:
                others.append(part)
        options, rest = self.parse_known_args(others)
        for part in rest:
            if part.startswith("-"):
                near = difflib.get_close_matches(part.split("=")[0], self._option_string_actions, n=1)
                self.error(f"{part}: expected an option{f'; the nearest is {near[0]}' if near else ''}")
        if options.list_configs:
            print(describe_configs())
            self.exit()
        name, _, variant = (options.config or "").partition(":")
        if not name and not options.list_keys:
            raise ConfigError("--config", "the name of a configuration or a file, such as correlation_grid", "none")
        file = find_config(name) if name else None
        options.config_name = f"{file.stem}_{variant}" if file and variant else file and file.stem
        options.config = read_config(file, [*rest, *overrides], variant=variant)
        if options.list_keys:
            print(describe_keys(options.config))
            self.exit()
        return options


def shipped_configs() -> dict[str, Path]:
    """Returns the configurations that ship, by name: the wheel's folder `configs`, or the repository's."""
    package = Path(__file__).parent
    folders = [folder for folder in (package / "configs", package.parent / "configs") if folder.is_dir()]
    return {path.stem: path for path in sorted(folders[0].glob("*.py"))} if folders else {}


def find_config(name: str) -> Path:
    """Returns the file that `name` means: a path, or what ships as NAME or configs/NAME.py; else a ConfigError."""
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
    """Returns the configurations that ship, each with the purpose and the cost that its docstring states."""
    lines = []
    for name, path in shipped_configs().items():
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        paragraphs = text.replace("\nCost:", "\n\nCost:").replace("\nExpected", "\n\nExpected").split("\n\n")
        cost = [paragraph for paragraph in paragraphs if paragraph.startswith("Cost:")]
        lines += [name, *(f"  {' '.join(part.split())}" for part in (paragraphs[0], *cost))]
    return "\n".join(lines)


def describe_keys(config: Config) -> str:
    """Returns a paragraph of lines for each key: value in a configuration, meaning, range, and what may vary it."""
    values = leaves(config)
    lines = ["Traced keys are data, and no value of theirs compiles anything; a static one is part of the program."]
    for name, (default, (_, expected), meaning, traced) in KEYS.items():
        axis = f"axes.{name.split('.')[1]}"
        place = axis if traced and axis in values else name
        kind = f"traced, as config.{axis}" if traced else "static"
        lines += [
            "",
            f"--config.{place}={', '.join(map(name_of, functions_of(values[place]))) or repr(values[place])}",
            f"  {meaning}; {kind}",
            f"  {expected or type(default).__name__}",
        ]
    lines += ["", "Methods, config.axes.method:"]
    return "\n".join([*lines, *(f"  {name:20}{method.meaning}" for name, method in METHODS.items())])


def read_config(path: Path | None, overrides: Sequence[str], *, variant: str = "") -> Config:
    """Returns the configuration of a file (None: the default one) with `--config.KEY=VALUE` overrides.

    Args:
        path: of a Python file with a function `get_config`, which returns the configuration.
        overrides: parts of a command line; a value may be the part behind its key.
        variant: of the configuration, which `get_config` takes; empty: it takes nothing.

    Raises:
        ConfigError: an error inside the file, with its traceback; a key that there is not, with the nearest; anything
            else on the command line.
    """
    config = _run(path, variant) if path else default_config()
    rest = list(overrides)
    while rest:
        option, equals, text = rest.pop(0).partition("=")
        name = option.removeprefix("--config.")
        if name == option:
            raise ConfigError("arguments", "options, such as --config correlation_grid", repr(option))
        if name not in PLACES and name not in LISTS:
            raise ConfigError(option, f"a key of the configuration; {nearest(name, prefix='--config.')}")
        if not equals and not rest:
            raise ConfigError(option, "a value", "none")
        *sections, field = name.split(".")
        section = functools.reduce(lambda tree, part: tree[part], sections, config)
        # Types are checked with the ranges, by a sentence of their own.
        with section.unlocked(), section.ignore_type():
            section[field] = parse_value(name, text if equals else rest.pop(0))
    return config


def parse_value(name: str, text: str) -> Any:
    """Returns the value that a text of the command line means for a dotted name: a literal of Python, or bare strings.

    Example:
        >>> parse_value("axes.rho", ".9,.95"), parse_value("axes.method", "ce,group_dro"), parse_value("pool.root", "7")
        ((0.9, 0.95), ('ce', 'group_dro'), '7')
    """
    default = () if name in LISTS else KEYS[PLACES[name]].default
    several = name not in KEYS or name.startswith("axes.") or isinstance(default, tuple)
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        value = tuple(part.strip() for part in text.split(",") if part.strip()) if several else text
    if several:
        return tuple(value) if isinstance(value, list | tuple) else (value,)
    return text if isinstance(default, str) and not isinstance(value, str) else value


def _run(path: Path, variant: str) -> Config:
    """Returns what a configuration file gives: a program of the user's, whose traceback is the message."""
    from ml_collections import ConfigDict

    if path.suffix != ".py":
        raise ConfigError("--config", "a Python file with get_config(), such as configs/smoke.py", str(path))
    module = ModuleType(f"config {path}")
    module.__file__ = str(path)
    # Where the standard library looks for the source of a class, and for the names in annotations.
    sys.modules[module.__name__] = module
    if "jax" not in sys.modules:
        # An array of JAX in the file starts it: with a device a core, as a sweep does.
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
