"""Monitors a deployed model without labels: which images to inspect, and whether their scores have drifted.

fit --scores CSV|- --out MONITOR: fits a threshold and a drift test to reference images, such as validation images. A
CSV has a column score (or flip_risk, as in an audit's images.csv), and loss (or flip) for --risk, precision and recall;
- reads JSON lines with these keys from standard input. Prints a table of thresholds.

watch MONITOR: reads JSON lines {"id", "score"} from standard input as they come (score null: the model predicts no
foreground). Writes a JSON line {"id", "score", "flagged", "drift": {"evidence", "p_value", "alarm"}} for each, and a
summary on standard error. A line that cannot be read is reported there by its number and skipped. The drift alarm is a
sequential test: on a stream drawn as the reference images were it is ever raised with probability at most
--false_alarm. Output is valid input: to resume, give the lines written before first. For several objects an image,
write a line for each region, with the keys region, max_softmax and flip_risk_share (flipjax.monitor.region_scores),
which are copied.

Exit codes: 0 done, 1 some lines could not be read, 2 usage, 75 interrupted.
"""

import sys
from pathlib import Path

from flipjax import command
from flipjax.monitor.stream import fit_monitor, watch_stream
from flipjax.terminal import printable


@command.main("flipjax monitor")
def main(arguments: list[str]) -> int:
    """Runs the command line and returns its exit code."""
    options = vars(_parser().parse_args(arguments))
    if options.pop("command") == "fit":
        print(printable(fit_monitor(**options)))
        return command.DONE
    return command.SOME_FAILED if watch_stream(options["monitor"], seed=options["seed"]) else command.DONE


def _parser() -> command.Parser:
    parser = command.Parser(prog="flipjax monitor", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    add = commands.add_parser("fit", help="make a monitor from reference images").add_argument
    add("--scores", required=True, metavar="CSV|-", help="scores, high where an error is expected; - JSON lines")
    add("--flag_rate", type=float, metavar="FRACTION", help="of images to flag (default 0.05)")
    add("--risk", type=float, metavar="LOSS", help="or the mean loss of unflagged reference images: needs losses")
    text = "probability that the drift alarm is ever raised without drift (default 0.01)"
    add("--false_alarm", type=float, default=0.01, metavar="P", help=text)
    add("--out", type=Path, required=True, metavar="MONITOR", help="the file to write, such as monitor.json")
    example = "Example: tail -f scores.jsonl | flipjax monitor watch monitor.json > watched.jsonl"
    help_text = "flag images of a stream, and test it for drift"
    watching = commands.add_parser("watch", help=help_text, description=f"{help_text.capitalize()}. {example}")
    watching.add_argument("monitor", type=Path, metavar="MONITOR", help="a file that fit wrote")
    watching.add_argument("--seed", type=int, default=0, help="of the order among equal scores (default 0)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
