"""`flipjax assay DIR --attribute NAME`: is this attribute of my data a shortcut, and what would end it?

DIR holds images/, masks/ and metadata.csv, or cutouts/ and scenes/, as `flipjax data check` reads them. Small networks
train across folds at the data's own correlation; the verdict is `used`, `not used` or `cannot be told`. Nothing is
written into DIR. The same command continues a killed assay.

Exit codes: 0; 1 for images that cannot be used, or with --fail_if if the verdict is that one; 2 usage; 75 interrupted
(the same command continues).
"""

import argparse
import sys
from pathlib import Path

from flipjax import command
from flipjax.assays.options import FIELDS, Options
from flipjax.support.process import begin_process
from flipjax.support.terminal import Signals, printable


def _parser() -> command.Parser:
    parser = command.Parser(prog="flipjax assay", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="DIR", help="the images")
    command.add_options(parser, FIELDS)
    parser.add_argument("--dry_run", action="store_true", help="print what would be trained, and stop")
    verdicts = ("used", "not used", "cannot be told")
    parser.add_argument(
        "--fail_if", choices=verdicts, action="append", default=[], help="exit 1 for this verdict, for CI"
    )
    return parser


@command.main("flipjax assay")
def main(arguments: list[str]) -> int:
    """Runs the command line and returns its exit code."""
    line = _parser().parse_args(arguments)
    with Signals():
        return _run(line)


def _run(line: argparse.Namespace) -> int:
    """Runs the assay of parsed options, and returns the exit code."""
    # Not before: it loads JAX.
    from flipjax.assays.conduct import conduct, outline
    from flipjax.assays.sentences import findings

    options = command.read_options(Options, line)
    if line.dry_run:
        for sentence in outline(line.folder, options):
            print(printable(sentence))
        return command.DONE
    result = conduct(line.folder, options)
    for sentence in findings(result):
        print(printable(sentence))
    print(printable(f"{result.folder}/index.html"))
    return command.SOME_FAILED if result.verdict.word in line.fail_if else command.DONE


if __name__ == "__main__":
    begin_process()
    sys.exit(main())
