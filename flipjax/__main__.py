"""`flipjax COMMAND ...`: every command of the project, each the same as its `python -m flipjax.MODULE`."""

import dataclasses
import importlib
import sys
from collections.abc import Sequence

import flipjax
from flipjax import command
from flipjax.config import ConfigError
from flipjax.support.process import begin_process
from flipjax.support.terminal import Signals


@dataclasses.dataclass(frozen=True)
class Command:
    """A command of the project."""

    module: str
    """Name of the module; its `main` takes the arguments after the command's name."""
    purpose: str
    """One line for the help."""


COMMANDS: dict[str, Command] = {
    "sweep": Command("flipjax.sweep.__main__", "train a grid, evaluate it, write tables and a report"),
    "audit": Command("flipjax.audit.__main__", "measure flips in stored predictions"),
    "assay": Command(
        "flipjax.assays.__main__", "tell whether models use an attribute of your images, and what ends it"
    ),
    "tune": Command("flipjax.tuning.__main__", "compare methods once each is tuned with the same budget"),
    "monitor": Command("flipjax.monitor.__main__", "flag images of a deployed model and test its scores for drift"),
    "data": Command("flipjax.data.__main__", "check a folder of photos, prepare the paper's data sets"),
    "report": Command("flipjax.report.__main__", "redraw a run's page from its stored results"),
    "export": Command("flipjax.results.export", "export a run to MLflow, Trackio or W&B"),
    "evaluate": Command("flipjax.evaluate.__main__", "evaluate converted weights on a configuration's test images"),
    "convert": Command("flipjax.models.__main__", "convert PyTorch weights"),
}
"""Every command by its name."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code: 2 for an unknown command, otherwise as documented in its help."""
    if arguments is None:
        begin_process()
        arguments = sys.argv[1:]
    prog = "flipjax"
    if arguments and arguments[0] in COMMANDS:
        prog = f"flipjax {arguments[0]}"
    return command.main(prog)(_run_command)(arguments)


def _run_command(arguments: list[str]) -> int:
    """Runs the named command with the other arguments, and returns its exit code."""
    name, *rest = arguments or [""]
    if name in COMMANDS:
        with Signals():
            module = importlib.import_module(COMMANDS[name].module)
        return module.main(rest)
    if name == "--version":
        print(f"flipjax {flipjax.__version__}")
    elif name in ("", "-h", "--help"):
        print("usage: flipjax COMMAND [--help] ...\n\ncommands:")
        for title, one_command in COMMANDS.items():
            print(f"  {title:10}{one_command.purpose}")
        print("\n  --version, --help")
    else:
        raise ConfigError("COMMAND", f"one of {', '.join(COMMANDS)}", name)
    return command.DONE if name else command.USAGE


if __name__ == "__main__":
    sys.exit(main())
