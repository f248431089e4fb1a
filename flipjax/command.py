"""Command lines: options, the configuration that they name, errors as one line, and exit codes."""

import argparse
import dataclasses
import difflib
import functools
import io
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from flipjax.config import ConfigError
from flipjax.support.extras import to_install
from flipjax.support.process import as_command
from flipjax.support.terminal import INTERRUPTED, one_line, printable, say

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = [
    "DONE",
    "INTERRUPTED",
    "SOME_FAILED",
    "USAGE",
    "ConfigParser",
    "Parser",
    "add_options",
    "main",
    "option",
    "read_classes",
    "read_folder",
    "read_names",
    "read_options",
    "read_seconds",
]

DONE = 0
"""Exit code: all is done."""
SOME_FAILED = 1
"""Exit code: a part failed; what is done is stored."""
USAGE = 2
"""Exit code: the request cannot be carried out. INTERRUPTED, the fourth, is in `support.terminal`."""
OVERRIDE = "--config."
"""The start of an option that sets a key of the configuration."""
SECONDS_OF_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}
"""Seconds of each unit of a duration."""
Options = TypeVar("Options", bound="DataclassInstance")
"""A record of options, whose fields `option` declares."""


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
            if arguments is None:
                arguments = sys.argv[1:]
            escape_what_cannot_be_printed()
            try:
                try:
                    with as_command():
                        return body(list(arguments))
                finally:
                    # Here, so that a closed pipe is noticed below.
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


def escape_what_cannot_be_printed() -> None:
    """Lets names of any language be printed on terminals of any encoding: what these lack is escaped."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors != "backslashreplace":
            stream.reconfigure(errors="backslashreplace")


def _explain(error: BaseException, options: Mapping[str, str], system_code: int, advice: str) -> tuple[int, str]:
    """Returns the exit code and line of an error; re-raises a programming error."""
    match error:
        case KeyboardInterrupt():
            return INTERRUPTED, "interrupted; the same command starts anew"
        case ConfigError():
            return error.exit_code, f"{options.get(error.field, error.field)}: {error.problem}"
        case ModuleNotFoundError(name=str(module)) if not module.startswith("flipjax"):
            package = module.partition(".")[0]
            install = f"python -m pip install {to_install(package)}"
            works = "without, flipjax.metrics and the numbers of flipjax audit work"
            return USAGE, f"expected the package {package}, found none; {install}; {works}"
        case FileNotFoundError(errno=None):
            # flipjax itself raised it, for a path that the command line names.
            return USAGE, one_line(str(error)) + advice
        case OSError(filename=None):
            return system_code, one_line(str(error)) + advice
        case OSError():
            return system_code, one_line(f"{error.filename}: {error.strerror}") + advice
        case MemoryError():
            return USAGE, f"expected more memory than this process may take ({error or 'ulimit -v'}){advice}"
    code = getattr(error, "exit_code", None)
    if code is not None:
        return code, one_line(str(error))
    problem = _problem_of_platform()
    if problem:
        return USAGE, problem
    raise error


def _problem_of_platform() -> str:
    """Returns why JAX, where it is loaded, has no device; empty if it has one."""
    jax = sys.modules.get("jax")
    if jax is None:
        return ""
    try:
        jax.devices()
    except Exception as problem:  # Each platform raises errors of its own.
        found = f"{os.environ.get('JAX_PLATFORMS')!r} ({one_line(str(problem)) or 'no such device'})"
        return f"JAX_PLATFORMS: expected a platform that is here, or no such variable; found {found}"
    return ""


class Parser(argparse.ArgumentParser):
    """An argument parser that raises ConfigErrors and reads `--dry-run` as `--dry_run`."""

    def __init__(self, **options: Any):
        """Takes argparse's options: `prog` as in `flipjax NAME`, `description` the command's module docstring."""
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        """Raises ConfigError with argparse's message."""
        field, _, problem = message.removeprefix("argument ").partition(": ")
        raise ConfigError(field, problem=f"{problem or 'expected another command line'}; see {self.prog} --help")

    def parse_known_args(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Reads the known options, spelt with dashes or underscores."""
        if args is None:
            args = sys.argv[1:]
        return super().parse_known_args([_underscored(argument) for argument in args], namespace)


def _underscored(argument: str) -> str:
    """Spells the name of an option with underscores, and leaves its value as it is."""
    name, equals, value = argument.partition("=")
    if not re.match("--.", name):
        return argument
    return f"--{name[2:].replace('-', '_')}{equals}{value}"


class ConfigParser(Parser):
    """A parser for commands with a configuration: `--config`, its overrides and the list of shipped ones."""

    def __init__(self, name: str, text: str):
        """Takes `name` as in `flipjax NAME`, and the command's module docstring."""
        example = "--config.KEY=VALUE sets a key (see --list_keys), such as --config.axes.rho='(0.5, 0.9)'"
        super().__init__(prog=f"flipjax {name}", description=text, epilog=example)
        self.add_argument(
            "--config",
            metavar="NAME|FILE",
            help="a configuration that ships, or a file of yours; NAME:VARIANT where it has variants",
        )
        self.add_argument("--list_configs", action="store_true", help="list the configurations that ship, and stop")
        self.add_argument("--list_keys", action="store_true", help="list the configuration's keys and values, and stop")

    def parse(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Reads a command line without the program's name; the result also holds `config` and `config_name`.

        Raises:
            ConfigError: the line is invalid or names no configuration.
        """
        # Imported here, because `flipjax --help` and commands without a configuration do not need it.
        from flipjax.config import reading

        overrides, remaining = _split_overrides(arguments)
        options, unknown = self.parse_known_args(remaining)
        if unknown:
            self._refuse(unknown)
        if options.list_configs:
            print(reading.describe_configs())
            self.exit()
        if not options.config and not options.list_keys:
            raise ConfigError("--config", "the name of a configuration or a file, such as correlation_grid", "none")
        options.config_name = reading.run_name(options.config or "")
        options.config = reading.read_config(options.config or None, overrides)
        if options.list_keys:
            print(reading.describe_keys(options.config))
            self.exit()
        return options

    def _refuse(self, unknown: Sequence[str]) -> NoReturn:
        """Raises ConfigError for arguments that are no options."""
        for argument in unknown:
            if argument.startswith("--"):
                name = argument.partition("=")[0]
                near = difflib.get_close_matches(name, self._option_string_actions, n=1)
                hint = ""
                if near:
                    hint = f"; the nearest is {near[0]}"
                self.error(f"{name}: expected an option{hint}")
        raise ConfigError("arguments", "options, such as --config correlation_grid", repr(unknown[0]))


def _split_overrides(arguments: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Splits a command line into the values of keys of the configuration, by dotted name, and all other arguments.

    argparse, which reads the others, would take a value with a blank for that of the option before it.
    """
    overrides = {}
    others = []
    remaining = list(arguments)
    while remaining:
        argument = remaining.pop(0)
        if not argument.startswith(OVERRIDE):
            others.append(argument)
            continue
        option, equals, text = _underscored(argument).partition("=")
        if not equals:
            if not remaining or remaining[0].startswith("--"):
                raise ConfigError(option, "a value", "none")
            text = remaining.pop(0)
        overrides[option.removeprefix(OVERRIDE)] = text
    return overrides, others


def option(
    default: Any, meaning: str, *more_flags: str, about: Mapping[str, object] | None = None, **of_parser: Any
) -> Any:
    """Returns a field of a record of options, which declares it for the command line and for calls from Python.

    Args:
        default: of the field; `dataclasses.MISSING` for an option that is required.
        meaning: in the help of the command.
        more_flags: further names on the command line.
        about: what else the command says of the option; `metadata` of the field has it.
        of_parser: further arguments of `add_argument`.

    Example:
        >>> @dataclasses.dataclass
        ... class Request:
        ...     seeds: int = option(8, "networks", type=int)
        >>> parser = Parser(prog="flipjax request")
        >>> add_options(parser, dataclasses.fields(Request))
        >>> read_options(Request, parser.parse_args(["--seeds", "2"]))
        Request(seeds=2)
    """
    metadata = {**(about or {}), "help": meaning, "more_flags": more_flags, "of_parser": of_parser}
    return dataclasses.field(default=default, metadata=metadata)


def add_options(parser: "argparse._ActionsContainer", fields: Iterable["dataclasses.Field[Any]"]) -> None:
    """Adds the options that fields declare to a parser, or to a group of one."""
    for field in fields:
        of_parser = dict(field.metadata["of_parser"])
        if field.default is not dataclasses.MISSING:
            of_parser["default"] = field.default
        if isinstance(field.default, bool):
            of_parser["action"] = "store_true"
            # argparse's own pair is spelt --no-keep, and dashes are read as underscores.
            parser.add_argument(
                f"--no_{field.name}",
                dest=field.name,
                default=field.default,
                action="store_false",
                help=f"the opposite of --{field.name}",
            )
        flags = (f"--{field.name}", *field.metadata["more_flags"])
        parser.add_argument(*flags, help=field.metadata["help"], **of_parser)


def read_options(record: type[Options], parsed: argparse.Namespace) -> Options:
    """Returns the record of options of a command line."""
    return record(**{field.name: getattr(parsed, field.name) for field in dataclasses.fields(record)})


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
    if text == "none":
        return ()
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a class, several as 0,1,2, or none; found {text!r}") from None


def read_spacing(text: str) -> tuple[float, ...]:
    """Returns the distances of pixels in mm of an option such as `--spacing`: 0.8,0.8,3."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected distances in mm such as 0.8,0.8,3; found {text!r}") from None


def read_seconds(text: str) -> float:
    """Returns the seconds of an option such as `--budget`: 90s, 10m or 1.5h.

    Example:
        >>> read_seconds("10m"), read_seconds("90")
        (600.0, 90.0)
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text.strip())
    if match is None:
        raise argparse.ArgumentTypeError(f"expected a duration such as 90s, 10m or 1.5h; found {text!r}")
    return float(match[1]) * SECONDS_OF_UNITS[match[2] or "s"]
