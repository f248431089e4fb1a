"""Watches a model at work, without labels: which images to look at, and whether their scores have drifted.

fit --scores FILE | --logits DIR|FILE --out MONITOR: from reference images of the kind that the model is good at, such
as validation images. Scores are an npy file, the images.csv of an audit, or JSON lines {"id", "score", "loss"}; those
of predictions are flip-risks.

watch MONITOR --in -|FILE|DIR: reads JSON lines {"id", "score"} as they come (a score of null: an image without region,
which has no place in the ranking), or predictions (npy, npz) as they appear in a folder. Writes a JSON line {"id",
"score", "flagged", "drift": {"evidence", "p_value", "alarm"}} for each. What cannot be read is named on standard error,
a line by its number, and passed over. The drift alarm is a sequential test: on a stream drawn as the reference images
were it is ever raised with probability --false_alarm at most. Output is input, too: to go on after an end, give the
lines written before first.

Exit codes: 0 done, 1 some lines or files could not be read, 2 usage, 75 interrupted.
"""

import argparse
import contextlib
import dataclasses
import itertools
import json
import math
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from flipjax import command
from flipjax.audit.arrays import ArrayReader, AuditError, Limits
from flipjax.audit.read import open_source
from flipjax.config import ConfigError
from flipjax.files import DamagedError
from flipjax.monitor.inputs import (
    LOSSES,
    Complain,
    Record,
    find_reading,
    read_lines,
    read_predictions,
    read_table,
    watch_folder,
)
from flipjax.monitor.stream import Verdict, watch
from flipjax.monitor.threshold import Monitor, fit, load, save
from flipjax.terminal import printable


def _parser() -> command.Parser:
    parser = command.Parser(prog="flipjax monitor", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    fitting = commands.add_parser("fit", help="make a monitor from reference images")
    source = fitting.add_mutually_exclusive_group(required=True)
    source.add_argument("--scores", type=Path, metavar="FILE", help="numbers, high where an error is expected")
    source.add_argument("--logits", type=Path, metavar="DIR|FILE", help="predictions as of an audit, npy or npz")
    add = fitting.add_argument
    add("--flag_rate", type=float, metavar="SHARE", help="of reference images to be flagged (default 0.05)")
    add("--risk", type=float, metavar="LOSS", help="or the mean loss of those that are not: needs losses with --scores")
    add("--false_alarm", type=float, default=0.01, metavar="P", help="of the drift alarm, ever (default 0.01)")
    add("--kind", choices=("logits", "probabilities"), default="logits", help="what --logits holds (default logits)")
    add("--channels", choices=("first", "last"), help="where the classes are (default: on the shorter axis)")
    add("--background", type=int, default=0, metavar="CLASS", help="the class that is background (default 0)")
    add("--out", type=Path, required=True, metavar="MONITOR", help="the file to write, such as monitor.json")
    watching = commands.add_parser("watch", help="flag images of a stream, and test it for drift")
    watching.add_argument("monitor", type=Path, metavar="MONITOR", help="what fit wrote")
    text = "JSON lines (-: standard input, the default), or a folder of predictions"
    watching.add_argument("--in", dest="source", default="-", metavar="-|FILE|DIR", help=text)
    watching.add_argument("--once", action="store_true", help="end after the files that are in the folder now")
    watching.add_argument("--seed", type=int, default=0, help="of the order among equal scores (default 0)")
    return parser


def _fit(options: argparse.Namespace) -> int:
    reading = None
    if options.scores:
        records = read_table(options.scores)
    else:
        with ArrayReader() as reader:
            source = open_source(options.logits, wanted=options.kind, rank=3, reader=reader, limits=Limits())
            reading = find_reading(source, kind=options.kind, channels=options.channels, background=options.background)
            records = list(read_predictions(source, reading, reader))
    losses = [record.loss for record in records]
    if options.risk is not None and all(map(math.isnan, losses)):
        raise ConfigError("--risk", f"scores with losses: --scores with a column or key {' or '.join(LOSSES)}")
    wishes = {"flag_rate": options.flag_rate, "risk": options.risk, "false_alarm": options.false_alarm}
    try:
        monitor = fit([record.score for record in records], losses=losses, **wishes)
    except ValueError as error:
        name, _, problem = str(error).partition(": ")
        raise ConfigError(f"--{name}", problem=problem) from error
    save(dataclasses.replace(monitor, reading=reading), options.out)
    counts = f"{len(monitor.scores)} reference images, {monitor.without_region} more without region"
    print(printable(f"{options.out}: {counts}; images above {monitor.threshold:.6g} are flagged"))
    return command.DONE


def _watch(options: argparse.Namespace) -> int:
    monitor = load(options.monitor)
    if options.seed < 0:
        raise ConfigError("--seed", "a number >= 0", options.seed)
    counts = dict.fromkeys(("images", "flagged", "without region", "unreadable"), 0)
    alarm = "no drift alarm"

    def complain(problem: str) -> None:
        counts["unreadable"] += 1
        _say(problem)

    with contextlib.ExitStack() as stack:
        records, twins = itertools.tee(_open(options, monitor, stack, complain))
        verdicts = watch(monitor, (record.score for record in twins), seed=options.seed)
        try:
            for record, verdict in zip(records, verdicts, strict=False):
                counts["images"] += 1
                counts["flagged"] += verdict.flagged
                counts["without region"] += math.isnan(verdict.score)
                if verdict.alarm and alarm == "no drift alarm":
                    alarm = f"drift alarm at image {counts['images']} ({record.id})"
                    _say(alarm)
                print(_line(record, verdict), flush=True)
        finally:
            _say(f"{', '.join(f'{count} {name}' for name, count in counts.items())}; {alarm}")
    return command.SOME_FAILED if counts["unreadable"] else command.DONE


def _open(
    options: argparse.Namespace, monitor: Monitor, stack: contextlib.ExitStack, complain: Complain
) -> Iterator[Record]:
    """The records that --in names, as they come."""
    if options.source == "-":
        return read_lines(sys.stdin.buffer, complain=complain)
    if not Path(options.source).is_dir():
        return read_lines(stack.enter_context(Path(options.source).open("rb")), complain=complain)
    if monitor.reading is None:
        raise ConfigError("--in", "JSON lines, or a monitor fitted with --logits for predictions", options.source)
    return watch_folder(Path(options.source), monitor.reading, once=options.once, complain=complain)


def _say(text: str) -> None:
    print(printable(f"flipjax monitor: {text}"), file=sys.stderr, flush=True)


def _line(record: Record, verdict: Verdict) -> str:
    known = not math.isnan(verdict.score)
    numbers = {name: float(f"{getattr(verdict, name):.6g}") for name in ("evidence", "p_value")}
    values = {
        "id": record.id,
        "score": verdict.score if known else None,
        "flagged": verdict.flagged if known else None,
        "drift": numbers | {"alarm": verdict.alarm},
    }
    return json.dumps(values)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit code."""
    try:
        options = _parser().parse_args(arguments)
        return {"fit": _fit, "watch": _watch}[options.command](options)
    except BrokenPipeError:
        # Who reads has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return command.DONE
    except (AuditError, ConfigError, DamagedError, OSError, UnicodeError) as error:
        _say(str(error))
        return command.USAGE
    except KeyboardInterrupt:
        _say("interrupted")
        return command.INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
