"""`flipjax tune --config NAME|FILE`: compares methods once each is tuned at random with the same budget.

The methods of `config.axes.method` are drawn (`--draws`, `--ranges`), trained with `config.axes.seed`, chosen on
validation by `--rules`, trained anew with the seeds `--fresh` and tested once. The same command continues what was
killed, in DIR/draws and DIR/fresh.

Exit codes: 0 done, 2 usage, 75 interrupted (the same command continues).
"""

import sys
from pathlib import Path

from flipjax import command
from flipjax.config import ConfigError
from flipjax.support.process import begin_process
from flipjax.support.terminal import Signals, printable
from flipjax.tuning.draws import RANGES, SCALES, DrawRange


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
        except ValueError as error:
            expected = f"NAME=LOW:HIGH[:SCALE], as learning_rate=5e-4:1e-2:log, with a scale of {', '.join(SCALES)}"
            raise ConfigError("--ranges", expected, part) from error
    return ranges


def read_seeds(text: str) -> tuple[int, ...]:
    """Returns seeds such as `10,11,12`."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise ConfigError("--fresh", "seeds, such as 10,11,12,13,14", text) from error


def _parser() -> command.ConfigParser:
    parser = command.ConfigParser("tune", __doc__ or "")
    declared = ", ".join(f"{name} {drawn}" for name, drawn in RANGES.items())
    add = parser.add_argument
    add("--draws", type=int, default=24, metavar="N", help="draws of each method (default 24)")
    add("--ranges", metavar="NAME=LOW:HIGH[:SCALE],...", help=f"what is drawn (default {declared})")
    add("--rules", default="val_cross_entropy", metavar="A,B", help="selection rules that choose epoch and draw")
    add("--fresh", default="10,11,12,13,14", metavar="SEEDS", help="seeds of the tested networks")
    add("--seed", type=int, default=0, metavar="N", help="of the draws (default 0)")
    add("--workdir", type=Path, metavar="DIR", help="folder (default runs/NAME-tuned)")
    add("--dry_run", action="store_true", help="say the networks and the time that they need, from one epoch, and stop")
    return parser


@command.main("flipjax tune", advice="; what is done is safe, and the same command continues")
def main(arguments: list[str]) -> int:
    """Runs the command line and returns its exit code."""
    options = _parser().parse(arguments)
    # Not before: they load JAX.
    from flipjax.report.document import terminal_text
    from flipjax.tuning.page import make_document
    from flipjax.tuning.protocol import carry_out, make_protocol, time_of

    ranges = RANGES
    if options.ranges is not None:
        ranges = read_ranges(options.ranges)
    protocol = make_protocol(
        options.config,
        draws=options.draws,
        ranges=ranges,
        rules=command.read_names(options.rules),
        fresh=read_seeds(options.fresh),
        seed=options.seed,
    )
    if options.dry_run:
        print(time_of(protocol))
        return command.DONE
    tuned = carry_out(protocol, options.workdir or Path("runs") / f"{options.config_name}-tuned")
    print(printable(f"{terminal_text(make_document(tuned))}\n{tuned.folder}/report/index.html"))
    return command.DONE


if __name__ == "__main__":
    begin_process()
    with Signals():
        sys.exit(main())
