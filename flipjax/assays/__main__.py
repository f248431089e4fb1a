"""`flipjax assay DIR --attribute NAME`: is this attribute of my data a shortcut, and what would end it?

DIR holds images/, masks/ and metadata.csv, or cutouts/ and scenes/, as `flipjax data check` reads them. Small networks
train across folds at the data's own correlation; the verdict is `used`, `not used` or `cannot be told`. Nothing is
written into DIR. The same command continues a killed assay.

Exit codes: 0, 1 with --fail_if if the verdict is that one, 2 usage, 75 interrupted (the same command continues).
"""

import re
import sys
from pathlib import Path

from flipjax import command
from flipjax.assays.options import FOLDS, MARGIN, NETWORKS, RHO, TARGET, Options
from flipjax.config import ConfigError
from flipjax.support.process import begin_process
from flipjax.support.terminal import Signals, printable

UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}
"""Seconds of the units of a duration."""


def seconds_of(text: str) -> float:
    """Returns a duration such as 90s, 10m or 1.5h in seconds.

    Example:
        >>> seconds_of("10m"), seconds_of("90")
        (600.0, 90.0)
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text.strip())
    if match is None:
        raise ConfigError("--budget", "a duration such as 90s, 10m or 1.5h", text)
    return float(match[1]) * UNITS[match[2] or "s"]


def _parser() -> command.Parser:
    parser = command.Parser(prog="flipjax assay", description=__doc__)
    add = parser.add_argument
    add("folder", type=Path, metavar="DIR", help="the images")
    add("--attribute", required=True, metavar="NAME", help="column of metadata.csv, or the name of the scenes")
    add("--clusters", default="", metavar="NAME", help="column such as patient, whose images never cross folds")
    add("--classes", default="", metavar="A,B", help="names of the classes in order (default: as found)")
    add("--values", default="", metavar="A,B", help="names of the attribute's values in order (default: as found)")
    add("--size", type=int, default=0, metavar="N", help="side in pixels at which images are read (default 48)")
    add("--rho", type=float, default=RHO, metavar="R", help="cutouts/ and scenes/: correlation to assay (default .9)")
    add("--folds", type=int, default=FOLDS, metavar="N", help="folds (default 5)")
    add("--seeds", type=int, default=0, metavar="N", help="networks for each fold (default: 4)")
    add("--epochs", type=int, default=0, metavar="N", help="epochs (default: as many as the budget allows)")
    add("--network", choices=NETWORKS, default="auto", help="network (default: the small U-Net)")
    add("--weights", default="", metavar="FILE", help="pretrained weights from flipjax convert, for --network")
    add("--budget", default="10m", metavar="TIME", help="time for training, such as 90s, 10m or 1h (default 10m)")
    add("--target", type=float, default=TARGET, metavar="FLIP", help="wanted Flip in the rare groups (default .1)")
    add("--margin", type=float, default=MARGIN, metavar="X", help="contrast that does not matter (default .05)")
    add("--seed", type=int, default=0, metavar="N", help="of folds and permutations (default 0)")
    add("--out", type=Path, metavar="DIR", help="folder of the page (default runs/assay-DIR-NAME)")
    add("--dry_run", action="store_true", help="print what would be trained, from one timed epoch, and stop")
    verdicts = ("used", "not used", "cannot be told")
    add("--fail_if", choices=verdicts, action="append", default=[], help="exit 1 for this verdict, for CI")
    return parser


@command.main("flipjax assay")
def main(arguments: list[str]) -> int:
    """Runs the command line and returns its exit code."""
    line = _parser().parse_args(arguments)
    # Not before: it loads JAX.
    from flipjax.assays.conduct import conduct, outline
    from flipjax.assays.sentences import findings

    options = Options(
        attribute=line.attribute,
        clusters=line.clusters,
        classes=_read_names(line.classes),
        values=_read_names(line.values),
        size=line.size,
        rho=line.rho,
        folds=line.folds,
        seeds=line.seeds,
        epochs=line.epochs,
        network=line.network,
        weights=line.weights,
        budget=seconds_of(line.budget),
        target=line.target,
        margin=line.margin,
        seed=line.seed,
    )
    if line.dry_run:
        for sentence in outline(line.folder, options):
            print(printable(sentence))
        return command.DONE
    result = conduct(line.folder, options, out=line.out)
    for sentence in findings(result):
        print(printable(sentence))
    print(printable(f"{result.folder}/index.html"))
    return command.SOME_FAILED if result.verdict.word in line.fail_if else command.DONE


def _read_names(text: str) -> tuple[str, ...]:
    """Returns the names of an option; none where it is left out."""
    if not text:
        return ()
    return tuple(command.read_names(text))


if __name__ == "__main__":
    begin_process()
    with Signals():
        sys.exit(main())
