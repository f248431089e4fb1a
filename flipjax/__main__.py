"""`flipjax COMMAND ...`: every command of the project, each the same as its `python -m flipjax.MODULE`."""

import importlib
import sys
from collections.abc import Sequence

import flipjax
from flipjax.sweep.signals import Signals
from flipjax.terminal import open_closed_streams

COMMANDS = {
    "sweep": ("flipjax.sweep.__main__", "train a grid, evaluate it, write tables and a report"),
    "audit": ("flipjax.audit.__main__", "measure flips in anyone's stored predictions"),
    "monitor": ("flipjax.monitor.__main__", "flag images of a model at work, and test its scores for drift"),
    "data": ("flipjax.data.__main__", "check a folder of photos, prepare the paper's data sets"),
    "report": ("flipjax.report.__main__", "make a run's page again from its stored results"),
    "export": ("flipjax.results.export", "hand a run's members to MLflow, Trackio or W&B, or write them as CSV"),
    "evaluate": ("flipjax.audit.evaluate", "evaluate converted weights on a configuration's test images"),
    "convert": ("flipjax.models.__main__", "convert weights from PyTorch's names"),
}
"""The module of each command, whose `main` takes the arguments behind it, and what it does."""


def _help() -> str:
    lines = [f"  {name:10}{purpose}" for name, (_, purpose) in COMMANDS.items()]
    return "\n".join(["usage: flipjax COMMAND [--help] ...", "", "commands:", *lines, "", "  --version, --help"])


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code: 2 where there is no such command, else as the command's help says."""
    if arguments is None:
        open_closed_streams()
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    name, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    if name in ("", "-h", "--help"):
        print(_help())
        return 0 if name else 2
    if name == "--version":
        print(f"flipjax {flipjax.__version__}")
        return 0
    if name not in COMMANDS:
        print(f"flipjax: expected a command, one of {', '.join(COMMANDS)}; found {name!r}", file=sys.stderr)
        return 2
    # `python -m flipjax.models` has one command, which is this one.
    words = [name] if name == "convert" else []
    try:
        with Signals():
            module = importlib.import_module(COMMANDS[name][0])
        return module.main([*words, *rest])
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("flipjax"):
            raise
        print(
            f"flipjax {name}: expected the package {error.name}, found none; after --no-deps flipjax.metrics and the "
            "numbers of flipjax audit work: python -m pip install flipjax brings the rest",
            file=sys.stderr,
        )
        return 2


if __name__ == "__main__":
    sys.exit(main())
