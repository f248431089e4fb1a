"""`flipjax sweep --config NAME|FILE`: trains a grid, evaluates it, writes tables and a report.

Exit codes: 0 all members done, 1 some failed or diverged, 2 usage, 75 interrupted (the same command continues).
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from flipjax import command
from flipjax.config import ConfigError, PopulationSpec
from flipjax.plan import plan


def _parser() -> command.ConfigParser:
    parser = command.ConfigParser("sweep", __doc__ or "")
    parser.add_argument("--workdir", type=Path, metavar="DIR", help="run folder (default runs/NAME)")
    parser.add_argument("--dry_run", action="store_true", help="list cells, members, steps and memory, and stop")
    parser.add_argument("--fresh", action="store_true", help="remove an earlier run from the folder first")
    parser.add_argument("--fail_fast", action="store_true", help="stop at the first cell that fails")
    return parser


def _sweep(options: argparse.Namespace, line: str) -> int:
    programs = plan(options.config)
    if options.dry_run:
        from flipjax.sweep.dry_run import dry_run

        print("\n".join(dry_run(programs, PopulationSpec(**options.config.population))))
        return command.DONE
    from flipjax.sweep.run import run_sweep
    from flipjax.sweep.workdir import Workdir

    name = options.config_file.stem
    workdir = Workdir(options.workdir or Path("runs") / name)
    return run_sweep(
        programs, options.config, workdir, line, name=name, fresh=options.fresh, fail_fast=options.fail_fast
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line, without the program's name, and returns its exit code."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    try:
        options = _parser().parse(arguments)
        return _sweep(options, shlex.join(["python", "-m", "flipjax.sweep", *arguments]))
    except ConfigError as error:
        print(f"flipjax sweep: {error}", file=sys.stderr)
        return command.USAGE
    except KeyboardInterrupt:
        print("flipjax sweep: interrupted; the same command continues", file=sys.stderr)
        return command.INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
