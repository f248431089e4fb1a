"""`flipjax tune --config NAME|FILE`: compares methods once each is tuned at random with the same budget.

The methods of `config.axes.method` are drawn (`--draws`, `--ranges`), trained with `config.axes.seed`, chosen on
validation by `--rules`, trained anew with the seeds `--fresh` and tested once. The same command continues what was
killed, in DIR/draws and DIR/fresh.

Exit codes: 0 done, 2 usage, 75 interrupted (the same command continues).
"""

import argparse
import sys
from pathlib import Path

from flipjax import command
from flipjax.support.process import begin_process
from flipjax.support.terminal import Signals, printable
from flipjax.tuning.draws import RANGES, SCALES, DrawRange, TuneOptions


def read_ranges(text: str) -> dict[str, DrawRange]:
    """Returns ranges such as `learning_rate=5e-4:1e-2:log,swap=0.1:1`.

    Example:
        >>> read_ranges("learning_rate=5e-4:1e-2:log,swap=.1:1")["swap"]
        DrawRange(low=0.1, high=1.0, scale='linear')
    """
    ranges = {}
    for part in text.split(","):
        name, _, ends = part.partition("=")
        try:
            low, high, *scale = ends.split(":")
            (scale,) = scale or ["linear"]
            ranges[name.strip()] = DrawRange(float(low), float(high), scale)
        except ValueError:
            expected = f"NAME=LOW:HIGH[:SCALE], as learning_rate=5e-4:1e-2:log, with a scale of {', '.join(SCALES)}"
            raise argparse.ArgumentTypeError(f"expected {expected}; found {part}") from None
    return ranges


def read_seeds(text: str) -> tuple[int, ...]:
    """Returns seeds such as `10,11,12`."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected seeds, such as 10,11,12,13,14; found {text}") from None


def _parser() -> command.ConfigParser:
    parser = command.ConfigParser("tune", __doc__ or "")
    declared = ", ".join(f"{name} {drawn}" for name, drawn in RANGES.items())
    add = parser.add_argument
    default = TuneOptions()
    add("--draws", type=int, default=default.draws, metavar="N", help="draws of each method (default %(default)s)")
    ranges = f"what is drawn (default {declared})"
    add("--ranges", type=read_ranges, default=default.ranges, metavar="NAME=LOW:HIGH[:SCALE],...", help=ranges)
    rules = "selection rules that choose epoch and draw (default val_cross_entropy)"
    add("--rules", type=command.read_names, default=default.rules, metavar="A,B", help=rules)
    seeds = "seeds of the tested networks (default 10,11,12,13,14)"
    add("--fresh", type=read_seeds, default=default.fresh, metavar="SEEDS", help=seeds)
    add("--seed", type=int, default=default.seed, metavar="N", help="seed of the draws (default %(default)s)")
    add("--workdir", type=Path, metavar="DIR", help="folder (default runs/NAME-tuned)")
    add("--dry_run", action="store_true", help="say the networks and the time that they need, from one epoch, and stop")
    return parser


@command.main("flipjax tune", advice="; finished members are stored, and the same command continues")
def main(arguments: list[str]) -> int:
    """Runs the command line and returns its exit code."""
    options = _parser().parse(arguments)
    with Signals():
        return _run(options)


def _run(options: argparse.Namespace) -> int:
    """Runs the protocol of parsed options, and returns the exit code."""
    # Not before: they load JAX.
    from flipjax.page.document import terminal_text
    from flipjax.tuning.conduct import carry_out
    from flipjax.tuning.page import make_document
    from flipjax.tuning.protocol import make_protocol, time_of

    protocol = make_protocol(options.config, command.read_options(TuneOptions, options))
    if options.dry_run:
        print(time_of(protocol))
        return command.DONE
    tuned = carry_out(protocol, options.workdir or Path("runs") / f"{options.config_name}-tuned")
    print(printable(f"{terminal_text(make_document(tuned))}\n{tuned.folder}/report/index.html"))
    return command.DONE


if __name__ == "__main__":
    begin_process()
    sys.exit(main())
