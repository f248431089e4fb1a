"""Watches a model at work, without labels: which images to look at, and whether their scores have drifted.

fit --scores CSV|- --out MONITOR: from reference images of the kind that the model is good at, such as validation
images. A CSV has a column score (or flip_risk, as an audit's images.csv) and, for --risk, loss (or flip); - is standard
input, as below, where "loss" may stand beside "score".

watch MONITOR: reads JSON lines {"id", "score"} from standard input as they come (a score of null: an image without
region, which has no place in the ranking). Writes a JSON line {"id", "score", "flagged", "drift": {"evidence",
"p_value", "alarm"}} for each, and a summary on standard error. A line that cannot be read is named there by its number,
and passed over. The drift alarm is a sequential test: on a stream drawn as the reference images were it is ever raised
with probability --false_alarm at most. Output is input, too: to go on after an end, give the lines written before
first. A line a region: give it "region", and "max_softmax" and "flip_risk_share" beside the score where you have them
(flipjax.monitor.region_scores); they are written with it.

Exit codes: 0 done, 1 some lines could not be read, 2 usage, 75 interrupted.
"""

import argparse
import csv
import itertools
import json
import math
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from flipjax import command
from flipjax.config import ConfigError
from flipjax.files import DamagedError, csv_rows
from flipjax.monitor.drift import Verdict, watch
from flipjax.monitor.threshold import fit, load_monitor, save_monitor
from flipjax.terminal import printable

SCORES = ("score", "flip_risk")
LOSSES = ("loss", "flip")
"""What a column or a key may be called; the second is what an audit calls it."""
BESIDE = ("region", "max_softmax", "flip_risk_share")
"""Keys of a line that are written as they came: which region of the image it is, and its other scores."""
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
LONGEST = 1 << 20
"""Bytes of a line, at most."""


class ScoredImage(NamedTuple):
    """An image or a region: its name, score (NaN without region), loss (NaN: unknown), and what stands beside."""

    id: Any
    score: float
    loss: float
    beside: Mapping[str, Any]


@command.main("flipjax monitor")
def main(arguments: list[str]) -> int:
    """Runs the command line and returns its exit code."""
    options = _parser().parse_args(arguments)
    return {"fit": _fit, "watch": _watch}[options.command](options)


def _parser() -> command.Parser:
    parser = command.Parser(prog="flipjax monitor", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    add = commands.add_parser("fit", help="make a monitor from reference images").add_argument
    add("--scores", required=True, metavar="CSV|-", help="numbers, high where an error is expected; - JSON lines")
    add("--flag_rate", type=float, metavar="SHARE", help="of reference images to be flagged (default 0.05)")
    add("--risk", type=float, metavar="LOSS", help="or the mean loss of those that are not: needs losses")
    add("--false_alarm", type=float, default=0.01, metavar="P", help="of the drift alarm, ever (default 0.01)")
    add("--out", type=Path, required=True, metavar="MONITOR", help="the file to write, such as monitor.json")
    example = "Example: tail -f scores.jsonl | flipjax monitor watch monitor.json > watched.jsonl"
    help_text = "flag images of a stream, and test it for drift"
    watching = commands.add_parser("watch", help=help_text, description=f"{help_text.capitalize()}. {example}")
    watching.add_argument("monitor", type=Path, metavar="MONITOR", help="what fit wrote")
    watching.add_argument("--seed", type=int, default=0, help="of the order among equal scores (default 0)")
    return parser


def _fit(options: argparse.Namespace) -> int:
    _check_target(options.out)
    images = list(read_lines(_stdin(), complain=_refuse) if options.scores == "-" else read_table(Path(options.scores)))
    losses = [image.loss for image in images]
    if options.risk is not None and all(map(math.isnan, losses)):
        raise ConfigError("--risk", f"scores with losses: a column or key {' or '.join(LOSSES)}")
    wishes = {"flag_rate": options.flag_rate, "risk": options.risk, "false_alarm": options.false_alarm}
    try:
        monitor = fit([image.score for image in images], losses=losses, **wishes)
    except ValueError as error:
        name, _, problem = str(error).partition(": ")
        raise ConfigError(f"--{name}", problem=problem) from error
    save_monitor(monitor, options.out)
    counts = f"{len(monitor.scores)} reference images, {monitor.without_region} more without region"
    print(printable(f"{options.out}: {counts}; images above {monitor.threshold:.6g} are flagged"))
    return command.DONE


def _check_target(path: Path) -> None:
    """Raises ConfigError where `path` is something else than a monitor, which would be lost."""
    if os.path.lexists(path):
        try:
            load_monitor(path)
        except (DamagedError, OSError) as error:
            raise ConfigError("--out", "a new file, or a monitor to replace", path) from error


def _watch(options: argparse.Namespace) -> int:
    monitor = load_monitor(options.monitor)
    if options.seed < 0:
        raise ConfigError("--seed", "a number >= 0", options.seed)
    counts = dict.fromkeys(("images", "flagged", "without region", "unreadable"), 0)
    alarm = "no drift alarm"

    def complain(problem: str) -> None:
        counts["unreadable"] += 1
        _say(problem)

    images, twins = itertools.tee(read_lines(_stdin(), complain=complain))
    verdicts = watch(monitor, (image.score for image in twins), seed=options.seed)
    try:
        for image, verdict in zip(images, verdicts, strict=False):
            counts["images"] += 1
            counts["flagged"] += verdict.flagged
            counts["without region"] += math.isnan(verdict.score)
            if verdict.alarm and alarm == "no drift alarm":
                alarm = f"drift alarm at image {counts['images']} ({image.id})"
                _say(alarm)
            print(_line(image, verdict), flush=True)
    finally:
        _say(f"{', '.join(f'{count} {name}' for name, count in counts.items())}; {alarm}")
    return command.SOME_FAILED if counts["unreadable"] else command.DONE


def _stdin() -> BinaryIO:
    if sys.stdin is None:
        raise ConfigError("standard input", "JSON lines", "it closed")
    return sys.stdin.buffer


def read_table(path: Path) -> list[ScoredImage]:
    """Reads scores from a CSV with a column of SCORES; an empty field is an image without region.

    Raises:
        ConfigError: another content; names the line.
        OSError: it cannot be read.
    """
    number, images = 1, []
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            for number, row in csv_rows(stream):
                images.append(_scored(_parsed(row), number))
    except (csv.Error, ValueError) as error:
        raise ConfigError("--scores", problem=f"{path} line {number}: {error}") from error
    return images


def read_lines(stream: BinaryIO, *, complain: Callable[[str], None]) -> Iterator[ScoredImage]:
    """Yields the images of JSON lines as they come; a line that is none is named, by its number, and passed over."""
    number = 0
    while line := stream.readline(LONGEST):
        number += 1
        long = len(line) == LONGEST
        while len(line) == LONGEST and not line.endswith(b"\n"):
            line = stream.readline(LONGEST)
        try:
            if long:
                raise ValueError(f"expected fewer than {LONGEST:,} bytes")
            if line.strip():
                values = json.loads(line, object_pairs_hook=_once, parse_constant=_no_number)
                yield _scored(values, number)
        except (ValueError, RecursionError) as error:
            complain(f"line {number}: {error}")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError(f"expected every key once, found {', '.join(name for name, _ in pairs)}")
    return values


def _no_number(text: str) -> Any:
    raise ValueError(f"expected a number, or null for an image without region, found {text}")


def _parsed(row: Mapping[str, str]) -> dict[str, Any]:
    """Returns the fields of a row: numbers, None for an empty one, or text."""
    fields = {name: text.strip() for name, text in row.items()}
    return {name: float(text) if NUMBER.fullmatch(text) else text or None for name, text in fields.items()}


def _scored(values: Any, number: int) -> ScoredImage:
    if not isinstance(values, Mapping):
        raise ValueError(f"expected an object with id and score, found {type(values).__name__}")
    score, loss = (next((name for name in names if name in values), "") for names in (SCORES, LOSSES))
    if not score:
        raise ValueError(f"expected {' or '.join(SCORES)}, found {', '.join(map(str, values))}")
    beside = {name: values[name] for name in BESIDE if name in values}
    return ScoredImage(values.get("id", number), _number(values[score]), _number(values.get(loss)), beside)


def _number(value: Any) -> float:
    if value is None:
        return math.nan
    if type(value) not in (int, float) or abs(value) > sys.float_info.max:
        _no_number(str(value)[:40])
    return float(value)


def _line(image: ScoredImage, verdict: Verdict) -> str:
    score, flagged = (None, None) if math.isnan(verdict.score) else (verdict.score, verdict.flagged)
    drift = {name: float(f"{getattr(verdict, name):.6g}") for name in ("evidence", "p_value")}
    values = {"id": image.id, **image.beside, "score": score, "flagged": flagged}
    return json.dumps(values | {"drift": drift | {"alarm": verdict.alarm}})


def _refuse(problem: str) -> None:
    raise ConfigError("standard input", problem=problem)


def _say(text: str) -> None:
    # Without standard error, print would write among the JSON lines.
    if sys.stderr is not None:
        print(printable(f"flipjax monitor: {text}"), file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
