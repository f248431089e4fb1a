"""Measures label flips in stored predictions of a segmentation model.

Predictions are npy, npz or NIfTI; labels and predicted masks may be PNG as well. A folder holds one file per image, in
subfolders or not, matched by name; one file holds all images, matched by position. Exit codes: 0 done, 1 a limit of
--fail_above or --fail_below failed, 2 unusable input or option, 75 interrupted.
"""

import argparse
import dataclasses
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import flipjax
from flipjax import command
from flipjax.audit.inputs.options import FORMS, GROUPS, INPUTS, AuditOptions
from flipjax.backend.start import keep_programs
from flipjax.config import ConfigError
from flipjax.support.terminal import printable

if TYPE_CHECKING:
    from flipjax.audit.compare import Comparison
    from flipjax.audit.page.folder import Audited
    from flipjax.training.model import Model

AUDIT = Path("runs/audit")
"""Output folder of an audit where none is named."""
COMPARISON = Path("runs/comparison")
"""Output folder of a comparison where none is named."""
OF_COMPARISONS = ("compare", "out", "fail_above", "fail_below", "junit")
"""Options that stand beside --compare."""


def limit(text: str) -> tuple[str, float]:
    """Returns a key of summary.json and its limit."""
    key, _, value = text.rpartition("=")
    expected = f"expected KEY=LIMIT with a number, such as fg_flip=0.05; found {text!r}"
    try:
        number = float(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(expected) from error
    if not key or math.isnan(number):
        raise argparse.ArgumentTypeError(expected)
    return key, number


def _add_section(parser: command.Parser, section: str) -> None:
    """Adds a section of `AuditOptions` to a parser."""
    fields = [field for field in dataclasses.fields(AuditOptions) if field.metadata["section"] == section]
    command.add_options(parser.add_argument_group(section), fields)


def _add_models(parser: command.Parser) -> None:
    """Adds the options that take a model, or two audits, instead of predictions."""
    add = parser.add_argument_group("models and comparisons").add_argument
    add("--model", metavar="FILE", help="a model that flipjax saved, which predicts the photos of --images")
    add("--run", type=Path, metavar="DIR", help="the folder of a sweep, whose --member predicts the photos of --images")
    add("--member", metavar="NAME", help="a member of --run, such as m003")
    add("--rule", metavar="NAME", help="the selection rule whose weights the member has (default the first)")
    add("--compare", type=Path, nargs=2, metavar=("OLD", "NEW"), help="two audits of the same images, to be compared")


def _add_results(parser: command.Parser) -> None:
    """Adds the options on limits and on where results are written."""
    add = parser.add_argument_group("results").add_argument
    above = "exit with 1 if a number of summary.json, or KEY:low or KEY:high of its interval, exceeds a limit"
    above += ", as fg_flip=0.05; may be repeated"
    add("--fail_above", type=limit, action="append", default=[], metavar="KEY=LIMIT", help=above)
    below = "the same for numbers below a limit, as mean_iou:low=0.6"
    add("--fail_below", type=limit, action="append", default=[], metavar="KEY=LIMIT", help=below)
    add("--junit", type=Path, metavar="FILE", help="write the limits as JUnit test cases")
    add("--out", type=Path, metavar="DIR", help="output folder (default runs/audit, with --compare runs/comparison)")


def _parser() -> command.Parser:
    """Returns the parser of `flipjax audit`."""
    parser = command.Parser(prog="flipjax audit", description=__doc__)
    _add_section(parser, INPUTS)
    _add_models(parser)
    _add_section(parser, FORMS)
    _add_section(parser, GROUPS)
    _add_results(parser)
    return parser


@command.main("flipjax audit")
def main(arguments: list[str]) -> int:
    """Runs the command line and returns its exit code."""
    return run_audit(arguments)


def run_audit(arguments: list[str]) -> int:
    """Runs the command line and returns its exit code; errors are raised."""
    parsed = _parser().parse_args(arguments)
    try:
        if parsed.compare:
            out = parsed.out or COMPARISON
            done = _compare(parsed, out)
            files_to_open = (out / "index.html", out / "compare.json")
        else:
            out = parsed.out or AUDIT
            done = _measure(parsed, out)
            files_to_open = (out / "index.html", out / "images.csv")
    except BaseException as error:
        _write_failure(parsed, error)
        raise
    # Without the packages that draw it, there is no page.
    written = ", ".join(str(path) for path in files_to_open if path.is_file())
    print(printable(f"{done.text}\n\n{written}"))
    for line in done.failed:
        print(f"flipjax audit: {printable(line)}", file=sys.stderr)
    return command.SOME_FAILED if done.failed else command.DONE


def _write_failure(parsed: argparse.Namespace, error: BaseException) -> None:
    """Says in the files of an earlier call, and in --junit, that this one failed."""
    from flipjax.audit import compare
    from flipjax.audit.page import folder
    from flipjax.audit.statistics import limits

    text = folder.describe_error(error)
    if parsed.compare:
        compare.mark_failed(parsed.out or COMPARISON, text)
    else:
        folder.mark_failed(parsed.out or AUDIT, text)
    if parsed.junit:
        limits.write_junit(parsed.junit, "flipjax audit", [], error=text)


def _compare(parsed: argparse.Namespace, out: Path) -> "Comparison":
    """Compares the two audits of --compare.

    Raises:
        ConfigError: an option of an audit stands beside --compare.
    """
    # Imported late, because JAX takes a second and `--help` does not need it.
    from flipjax.audit.compare import compare_audits

    defaults = vars(_parser().parse_args([]))
    foreign = []
    for name, value in vars(parsed).items():
        if name not in OF_COMPARISONS and value != defaults[name]:
            foreign.append(f"--{name}")
    if foreign:
        raise ConfigError("--compare", "two folders of audits alone", f"{', '.join(foreign)}, too")
    old, new = parsed.compare
    return compare_audits(
        old,
        new,
        out=out,
        fail_above=parsed.fail_above,
        fail_below=parsed.fail_below,
        junit=parsed.junit,
    )


def _measure(parsed: argparse.Namespace, out: Path) -> "Audited":
    """Audits files or a model; raises ConfigError without labels."""
    from flipjax.audit.audit_files import audit_files

    keep_programs(small=True)
    if not parsed.labels:
        raise ConfigError("--labels", "a folder or a file", "none")
    return audit_files(
        **vars(command.read_options(AuditOptions, parsed)),
        out=out,
        model=_read_model(parsed),
        fail_above=parsed.fail_above,
        fail_below=parsed.fail_below,
        junit=parsed.junit,
    )


def _read_model(parsed: argparse.Namespace) -> "Model | None":
    """Returns the model that predicts photos, of a file or of a run's member; None without one."""
    if parsed.run:
        if parsed.model or parsed.predictions or not parsed.member:
            expected = "--member beside it, and neither --model nor --predictions"
            raise ConfigError("--run", expected, parsed.member or "none")
        return flipjax.open_run(parsed.run).member(parsed.member).model(parsed.rule)
    if parsed.member or parsed.rule:
        raise ConfigError("--member", "--run beside it", "none")
    if parsed.model:
        return flipjax.load_model(parsed.model)
    return None


if __name__ == "__main__":
    sys.exit(main())
