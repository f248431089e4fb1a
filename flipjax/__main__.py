"""`flipjax COMMAND ...`: every command of the project, each the same as its `python -m flipjax.MODULE`."""

import importlib
import sys
from collections.abc import Sequence

import flipjax
from flipjax import command
from flipjax.config import ConfigError
from flipjax.support.process import begin_process
from flipjax.support.terminal import Signals

COMMANDS = {
    "sweep": ("flipjax.sweep.__main__", "train a grid, evaluate it, write tables and a report"),
    "audit": ("flipjax.audit.__main__", "measure flips in stored predictions"),
    "assay": ("flipjax.assays.__main__", "tell whether models use an attribute of your images, and what ends it"),
    "monitor": ("flipjax.monitor.__main__", "flag images of a deployed model and test its scores for drift"),
    "data": ("flipjax.data.__main__", "check a folder of photos, prepare the paper's data sets"),
    "report": ("flipjax.report.__main__", "redraw a run's page from its stored results"),
    "export": ("flipjax.results.export", "export a run to MLflow, Trackio or W&B"),
    "evaluate": ("flipjax.audit.evaluate", "evaluate converted weights on a configuration's test images"),
    "convert": ("flipjax.models.__main__", "convert PyTorch weights"),
}
"""The module and the purpose of each command; its `main` takes the arguments after the name."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code: 2 for an unknown command, otherwise as documented in its help."""
    if arguments is None:
        begin_process()
        arguments = sys.argv[1:]
    known = arguments and arguments[0] in COMMANDS
    return command.main(f"flipjax {arguments[0]}" if known else "flipjax")(_run_command)(arguments)


def _run_command(arguments: list[str]) -> int:
    name, *rest = arguments or [""]
    if name in COMMANDS:
        with Signals():
            module = importlib.import_module(COMMANDS[name][0])
        return module.main(rest)
    if name == "--version":
        print(f"flipjax {flipjax.__version__}")
    elif name in ("", "-h", "--help"):
        print("usage: flipjax COMMAND [--help] ...\n\ncommands:")
        print(*(f"  {each:10}{purpose}" for each, (_, purpose) in COMMANDS.items()), sep="\n")
        print("\n  --version, --help")
    else:
        raise ConfigError("COMMAND", f"one of {', '.join(COMMANDS)}", name)
    return command.DONE if name else command.USAGE


if __name__ == "__main__":
    sys.exit(main())
