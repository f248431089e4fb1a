"""What command lines share: one spelling of options, configurations by name, errors in one line, the start of JAX."""

import argparse
import ast
import contextlib
import difflib
import os
import signal
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from flipjax.config import KEYS, PLACES, Config, ConfigError, PopulationSpec, default_config, leaves, nearest
from flipjax.files import cache_folder, keep_newest
from flipjax.methods import METHODS
from flipjax.terminal import one_line, printable, say
from flipjax.threads import cores

DONE, SOME_FAILED, USAGE, INTERRUPTED = 0, 1, 2, 75
"""Exit codes of every command; an interrupted one is continued, or done anew, by the same command."""

MISSING = "python -m pip install flipjax brings it; without, flipjax.metrics and the numbers of flipjax audit work"
"""What to do where a package is not installed."""

PROGRAMS = 2**31
"""Bytes of compiled programs that are kept on a machine."""

CONFIG_HELP = """configuration:
  --config NAME|FILE         a shipped configuration (see --list_configs) or a file of yours
  --config.KEY=VALUE         another value for a key of it (see --list_keys), such as --config.train.epochs=30
                             or --config.axes.rho='(0.5, 0.9)'
"""


def entry(
    prog: str,
    body: Callable[[list[str]], int],
    arguments: Sequence[str] | None,
    *,
    options: Mapping[str, str] | None = None,
    system_code: int = USAGE,
    advice: str = "",
) -> int:
    """Runs a command and returns its exit code; an error that a user can act on is one line on standard error.

    Args:
        prog: what the line begins with, such as `flipjax sweep`.
        body: takes the command line without the program's name, returns the exit code.
        arguments: the command line; None: that of this process.
        options: the option that stands for a field of the configuration, and is named in its place.
        system_code: exit code of an error of the system, such as a file that is not there or a disk that is full.
        advice: what to do about such an error, behind its line.
    """
    try:
        try:
            return body(sys.argv[1:] if arguments is None else list(arguments))
        finally:
            print(end="", flush=True)
    except BrokenPipeError:
        # Who reads has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except KeyboardInterrupt:
        code, text = INTERRUPTED, "interrupted; the same command starts anew"
    except ConfigError as error:
        code, text = error.exit_code, error.named(options or {})
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("flipjax"):
            raise
        code, text = USAGE, f"expected the package {error.name}, found none; {MISSING}"
    except OSError as error:
        # Without a number it is flipjax that looked for what the command line names.
        code = USAGE if isinstance(error, FileNotFoundError) and not error.errno else system_code
        text = one_line(f"{error.filename}: {error.strerror}" if error.filename else str(error)) + advice
    except Exception as error:
        code, text = getattr(error, "exit_code", None), one_line(str(error))
        if code is None:
            raise
    # Where there is no standard error, print would write to standard output.
    if sys.stderr is not None:
        say(printable(f"{prog}: {text}"))
    return code


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


class ConfigParser(Parser):
    """A parser of commands with a configuration: `--config`, its overrides, and the list of those that ship."""

    def __init__(self, name: str, text: str):
        """Takes `name` as in `flipjax NAME`, and the command's module docstring."""
        super().__init__(prog=f"flipjax {name}", description=text, epilog=CONFIG_HELP)
        self.add_argument("--config", metavar="NAME|FILE", help="the configuration")
        self.add_argument("--list_configs", action="store_true", help="list the configurations that ship, and stop")
        self.add_argument(
            "--list_keys", action="store_true", help="list the keys and values of the configuration, and stop"
        )

    def parse(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Reads a command line without the program's name; `config` of the result is the configuration itself.

        The result has `config_file`, its path, too.

        Raises:
          ConfigError: if the line cannot be read, or names no configuration.
        """
        options, rest = self.parse_known_args(arguments)
        for part in rest:
            if part.startswith("-") and not part.startswith("--config."):
                near = difflib.get_close_matches(part.split("=")[0], self._option_string_actions, n=1)
                self.error(f"{part}: expected an option{f'; the nearest is {near[0]}' if near else ''}")
        if options.list_configs:
            print(describe_configs())
            self.exit()
        name = options.config
        if not name and not options.list_keys:
            raise ConfigError("--config", "the name of a configuration or a file, such as correlation_grid", "none")
        options.config_file = find_config(name) if name else None
        options.config = read_config(options.config_file, rest)
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
    """Returns the file that `name` means: a path, or what ships as NAME or configs/NAME.py.

    Raises:
      ConfigError: if there is neither, with the nearest name that there is.
    """
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
            f"--config.{place}={values[place]!r}",
            f"  {meaning}; {kind}",
            f"  {expected or type(default).__name__}",
        ]
    lines += ["", "Methods, config.axes.method:"]
    return "\n".join([*lines, *(f"  {name:20}{method.meaning}" for name, method in METHODS.items())])


def read_config(path: Path | None, overrides: Sequence[str]) -> Config:
    """Returns the configuration of a file (None: the default one) with `--config.KEY=VALUE` overrides.

    Raises:
      ConfigError: for an error inside the file, with its line; for a key that it has not, with the nearest; for
        anything else on the command line.
    """
    config = _run(path) if path else default_config()
    for part in overrides:
        name = part.removeprefix("--config.").split("=")[0]
        if part.startswith("--config.") and name not in PLACES:
            raise ConfigError(f"--config.{name}", f"a key of the configuration; {nearest(name, prefix='--config.')}")
    return _overridden(config, overrides)


def _run(path: Path) -> Config:
    """What a configuration file, a program of the user's that may raise anything, returns."""
    from ml_collections import ConfigDict

    module = ModuleType("config")
    try:
        SourceFileLoader("config", str(path)).exec_module(module)
        config = module.get_config() if hasattr(module, "get_config") else None
        if isinstance(config, ConfigDict):
            leaves(config)
    except BaseException as error:
        # Where Ctrl-C raises it, it is the user's; to a sweep, which handles signals, it is the file's.
        if isinstance(error, KeyboardInterrupt) and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            raise
        place = _place(error, path)
        text = _text(error)
        where = f"{path}, line {place}" if place else str(path)
        raise ConfigError(where, problem=f"{type(error).__name__}{text and ': '}{text}") from error
    if not isinstance(config, ConfigDict):
        raise ConfigError(str(path), "get_config() to return a ConfigDict", repr(config))
    return config


def _text(error: BaseException) -> str:
    """The message of an error in one line; that of a class of the user's may raise another."""
    try:
        return " ".join(str(error).split())
    except Exception:
        return ""


def _overridden(config: Config, overrides: Sequence[str]) -> Config:
    # Loaded here, as below: commands without a configuration do without these packages.
    from absl import flags
    from ml_collections import config_flags

    line = ["flipjax", *overrides]
    values = flags.FlagValues()
    config_flags.DEFINE_config_dict(
        "config", config, sys_argv=line, lock_config=False, accept_new_attributes=True, flag_values=values
    )
    try:
        rest = values(line)
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConfigError("--config", problem=" ".join(str(error).split())) from error
    if rest[1:]:
        raise ConfigError("arguments", "options, such as --config correlation_grid", repr(rest[1]))
    return values.config


def _place(error: BaseException, path: Path) -> int | None:
    """The line of a configuration file where an error comes from, or None."""
    if isinstance(error, SyntaxError) and error.filename and Path(error.filename).resolve() == path.resolve():
        return error.lineno
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if Path(frame.filename).resolve() == path.resolve()]
    return lines[-1] if lines else None


def start_backend(spec: PopulationSpec, members: int) -> str:
    """Gives a CPU one device a core, no more than are used; turns the cache of programs on; names the devices."""
    import jax

    # A process that has JAX running keeps its devices.
    with contextlib.suppress(RuntimeError):
        jax.config.update("jax_num_cpu_devices", min(spec.devices or cores(), members * max(1, spec.batch_devices)))
    programs = cache_folder() / "xla"
    keep_newest(programs, most=PROGRAMS)
    jax.config.update("jax_compilation_cache_dir", str(programs))
    devices = jax.devices()
    return f"{len(devices)} x {devices[0].device_kind} ({devices[0].platform})"
