"""Monitors a deployed model without labels: which images to inspect, and whether their scores have drifted.

`fit` fits a flagging threshold and a drift test to the scores of reference images, such as validation images, and
prints a table of thresholds. The CSV has a column score (or flip_risk, as in an audit's images.csv) and, for --risk,
precision and recall, a column loss (or flip). With `--scores -` it reads JSON lines with these keys.

`watch` reads JSON lines {"id", "score"} from standard input and writes {"id", "score", "flagged", "drift": {"evidence",
"p_value", "alarm"}} for each; a null score means no predicted foreground. It skips unreadable lines and reports their
numbers on standard error. Its output is valid input, so a stream can be resumed. For several objects per image, write a
line for each region (flipjax.monitor.region_scores). All other keys are copied. If the stream is like the reference
images, the drift alarm is ever raised with probability at most --false_alarm; with --history over restarts, too. Of a
monitor that was fitted with --clusters each line names the image's cluster, and the images of one follow one another.

Exit codes: 0 done, 1 some lines could not be read, 2 usage, 75 interrupted.
"""

import sys
from pathlib import Path

from flipjax import command
from flipjax.monitor.stream import fit_monitor, watch_stream
from flipjax.support.terminal import printable


@command.main("flipjax monitor")
def main(arguments: list[str]) -> int:
    """Runs the command line and returns its exit code."""
    options = _parser().parse_args(arguments)
    if options.command == "watch":
        unreadable = watch_stream(options.monitor, history=options.history)
        return command.SOME_FAILED if unreadable else command.DONE
    summary = fit_monitor(
        options.scores,
        out=options.out,
        flag_rate=options.flag_rate,
        risk=options.risk,
        false_alarm=options.false_alarm,
        clusters=options.clusters,
    )
    print(printable(summary))
    return command.DONE


def _parser() -> command.Parser:
    parser = command.Parser(prog="flipjax monitor", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    add = commands.add_parser("fit", help="make a monitor from reference images").add_argument
    add("--scores", required=True, metavar="CSV|-", help="scores, high where an error is expected; - JSON lines")
    add("--flag_rate", type=float, metavar="FRACTION", help="of images to flag (default 0.05)")
    add("--risk", type=float, metavar="LOSS", help="or the mean loss of unflagged reference images: needs losses")
    text = "probability that the drift alarm is ever raised without drift (default 0.01)"
    add("--false_alarm", type=float, default=0.01, metavar="P", help=text)
    text = "column or key that names an image's patient or film, whose images count as one in the drift test"
    add("--clusters", metavar="COLUMN", help=text)
    add("--out", type=Path, required=True, metavar="MONITOR", help="the file to write, such as monitor.json")
    watching = commands.add_parser("watch", help="flag images of a stream, and test it for drift")
    watching.add_argument("monitor", type=Path, metavar="MONITOR", help="a file that fit wrote")
    text = "keeps the stream's scores: a restart with the same file goes on, with the same budget of false alarms"
    watching.add_argument("--history", type=Path, metavar="FILE", help=text)
    return parser


if __name__ == "__main__":
    sys.exit(main())
