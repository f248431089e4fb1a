"""`flipjax sweep --config NAME|FILE`: trains a grid, evaluates it, writes tables and a report.

Exit codes: 0 all members done, 1 some failed or diverged, 2 usage, 75 interrupted (the same command continues).
"""

from flipjax.support.process import begin_process
from flipjax.support.terminal import Signals, clock, printable, say

if __name__ == "__main__":
    begin_process()
    # Before the slow imports, during which a signal would print a traceback or kill the process silently.
    Signals().__enter__()

import argparse
import functools
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from flipjax import command
from flipjax.backend.start import start_backend
from flipjax.config import ConfigError, PopulationSpec
from flipjax.config.plan import Plan, plan
from flipjax.config.program import Program
from flipjax.sweep.launchers import LAUNCHERS, ShardPlan, launch, shard_commands
from flipjax.sweep.lock import read_shard

if TYPE_CHECKING:
    from flipjax.results.tracking.follow import Tracking
    from flipjax.training.task import Task

ADVICE = "; finished members are stored, and the same command continues"


def _parser() -> command.ConfigParser:
    """Returns the parser of the command line."""
    parser = command.ConfigParser("sweep", __doc__ or "")
    parser.add_argument("--workdir", type=Path, metavar="DIR", help="run folder (default runs/NAME)")
    listed = "list programs, members, steps and memory, and stop; =compiled adds the compiler's memory estimate"
    parser.add_argument("--dry_run", nargs="?", const="shapes", choices=("shapes", "compiled"), help=listed)
    parser.add_argument("--time", action="store_true", help="a dry run that adds the time needed, from one epoch")
    parser.add_argument("--fresh", action="store_true", help="start over; an earlier run is renamed to DIR.old")
    parser.add_argument("--fail_fast", action="store_true", help="stop at the first program that fails")
    parser.add_argument(
        "--strict_versions", action="store_true", help="refuse to continue a run whose software has changed"
    )
    parser.add_argument("--track", metavar="mlflow|trackio|wandb", help="follow the members in an experiment tracker")
    parser.add_argument("--shard", metavar="i/n|auto", help="train one of n shards of the members")
    parser.add_argument("--collect", action="store_true", help="write the tables of all trained shards")
    parser.add_argument("--launcher", choices=LAUNCHERS, help="run the shards as jobs, then collect")
    parser.add_argument("--shards", type=int, default=2, metavar="N", help="a launcher's number of shards (default 2)")
    parser.add_argument(
        "--launcher_option", action="append", default=[], metavar="KEY=VALUE", help="an option of the launcher's engine"
    )
    return parser


# The folder is checked first, so later system errors concern the disk; files already written are complete.
@command.main("flipjax sweep", system_code=command.SOME_FAILED, advice=ADVICE)
def main(arguments: list[str]) -> int:
    """Runs the command line, without the program's name, and returns its exit code."""
    # A tracker may turn the process's standard output aside while it sends.
    output = sys.stdout
    with Signals() as signals:
        options = _parser().parse(arguments)
        planned = plan(options.config)
        if planned.sources:
            # Imported late, because JAX takes a second.
            from flipjax.training.network.own import check_functions

            check_functions(planned)
        folder = options.workdir or Path("runs") / options.config_name
        track = None
        if options.track is not None:
            track = _find_tracker(options.track, folder)
        if options.dry_run or options.time:
            return _dry_run(planned, options)
        _check_shard_options(options)
        shard = None
        if options.shard is not None:
            shard = read_shard(options.shard)
        if options.launcher:
            _launch(options, arguments, folder)
        counts = f"members {planned.members}, programs {len(planned.programs)}"
        say(f"{options.config_name}: {counts}, folder {folder}; starting JAX")
        from flipjax.sweep.run import run_sweep

        text, code = run_sweep(
            planned,
            folder,
            name=options.config_name,
            line=shlex.join(["python", "-m", "flipjax.sweep", *arguments]),
            fresh=options.fresh,
            fail_fast=options.fail_fast,
            strict_versions=options.strict_versions,
            shard=shard,
            collect=bool(options.collect or options.launcher),
            signals=signals,
            track=track,
        )
        if code == command.INTERRUPTED:
            say(text)
        else:
            print(text, file=output)
        return code


def _find_tracker(name: str, folder: Path) -> Callable[[Path], "Tracking"]:
    """Returns what begins to send members to a tracker, in a project of the run folder's name."""
    from flipjax.results.tracking.follow import Tracking
    from flipjax.results.tracking.trackers import find_tracker

    run_name = folder.resolve().name
    return functools.partial(Tracking, name, find_tracker(name, project=run_name, group=run_name))


def _dry_run(planned: Plan, options: argparse.Namespace) -> int:
    """Prints the plan, and its compiled memory use or its hours; returns the exit code."""
    # Imported late, because JAX takes a second and `--help` does not need it.
    from flipjax.sweep.description import describe_plan
    from flipjax.training.task import check_pools

    print(*describe_plan(planned), sep="\n", flush=True)
    check_pools(planned.programs)
    if options.time or options.dry_run == "compiled":
        return _try_programs(planned, time=options.time, compiled=options.dry_run == "compiled")
    return command.DONE


def _try_programs(planned: Plan, *, time: bool, compiled: bool) -> int:
    """Prints how members of each program run here, the time that they need and the memory; returns the exit code."""
    from flipjax.sweep.duration import time_program
    from flipjax.sweep.programs import with_form, with_library
    from flipjax.training.task import make_task

    print(start_backend(planned.population, max(len(program.names) for program in planned.programs)))
    code = command.DONE
    seconds = 0.0
    for program in planned.programs:
        loaded, task = make_task(program)
        spec = with_library(planned.population, program, task)
        spec = with_form(spec, loaded, task, say=functools.partial(print, flush=True))
        if time:
            needed = time_program(loaded, planned.intervene, spec, task)
            line = f"{needed.epoch:.3f} s for an epoch of a member, {clock(needed.total)} for all"
            print(f"program {program.name}: {line}", flush=True)
            seconds += needed.total
        if compiled and not _print_memory(loaded, spec, task):
            code = command.USAGE
    if time:
        print(f"time: {clock(seconds)} at most for training and evaluation, without compilation and the page")
    return code


def _print_memory(program: Program, spec: PopulationSpec, task: "Task") -> bool:
    """Prints the memory that training takes, by the compiler; returns whether a device has as much."""
    from flipjax.sweep.memory import TooLargeError, describe_use, fit

    try:
        print(describe_use(program, spec, fit(program, spec, task)), flush=True)
    except TooLargeError as error:
        say(printable(f"flipjax sweep: program {program.name}: {error}"))
        return False
    return True


def _check_shard_options(options: argparse.Namespace) -> None:
    """Raises ConfigError for options that exclude each other."""
    if options.fresh and (options.shard or options.collect or options.launcher):
        raise ConfigError("--fresh", "a run of all members by one process", "shards, which share a folder")
    if options.launcher and (options.shard or options.collect or options.shards < 1):
        raise ConfigError("--launcher", "--shards of 1 or more, and neither --shard nor --collect")


def _launch(options: argparse.Namespace, arguments: Sequence[str], folder: Path) -> None:
    """Runs all shards as jobs; the run that then collects reports what they could not do."""
    engine_options = dict(text.partition("=")[::2] for text in options.launcher_option)
    shards = ShardPlan(shard_commands(arguments, options.shards), folder / "logs", engine_options)
    launch(options.launcher, shards, say=say)


if __name__ == "__main__":
    sys.exit(main())
