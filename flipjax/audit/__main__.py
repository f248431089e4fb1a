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
from flipjax.audit.options import FORMS, GROUPS, INPUTS, AuditOptions
from flipjax.backend.start import keep_programs
from flipjax.config import ConfigError
from flipjax.support.terminal import printable

if TYPE_CHECKING:
    from flipjax.training.model import Model

AUDIT = Path("runs/audit")
"""Output folder of an audit where none is named."""
COMPARISON = Path("runs/comparison")
"""Output folder of a comparison where none is named."""
Outcome = tuple[str, list[str], tuple[Path, ...]]
"""The tables of a call, a line for each failed limit, and the files to name, of which those that were written are."""
OF_COMPARISONS = ("compare", "out", "fail_above", "fail_below", "junit")
"""Options that stand beside --compare."""


def limit(text: str) -> tuple[str, float]:
    """Returns a key of summary.json and its limit."""
    key, _, value = text.rpartition("=")
    number = float(value)
    if math.isnan(number):
        raise ValueError("expected KEY=LIMIT with a number")
    return key, number


def _add_options(parser: argparse.ArgumentParser, section: str) -> None:
    """Adds the options of a section to a parser."""
    group = parser.add_argument_group(section)
    for field in dataclasses.fields(AuditOptions):
        of_field = field.metadata
        if of_field["section"] == section:
            flags = (f"--{field.name}", *of_field["more_flags"])
            group.add_argument(*flags, default=field.default, help=of_field["help"], **of_field["of_parser"])


def _read_options(parsed: argparse.Namespace) -> AuditOptions:
    """Returns the options of a command line."""
    return AuditOptions(**{field.name: getattr(parsed, field.name) for field in dataclasses.fields(AuditOptions)})


def _add_models(parser: command.Parser) -> None:
    add = parser.add_argument_group("models and comparisons").add_argument
    add("--model", metavar="FILE", help="a model that flipjax saved, which predicts the photos of --images")
    add("--run", type=Path, metavar="DIR", help="the folder of a sweep, whose --member predicts the photos of --images")
    add("--member", metavar="NAME", help="of the run, such as m003")
    add("--rule", metavar="NAME", help="the selection rule whose weights the member has (default the first)")
    add("--compare", type=Path, nargs=2, metavar=("OLD", "NEW"), help="two audits of the same images, to be compared")


def _add_results(parser: command.Parser) -> None:
    add = parser.add_argument_group("results").add_argument
    above = "exit with 1 if a number of summary.json, or KEY:low or KEY:high of its interval, exceeds a limit"
    above += ", as fg_flip=0.05; may be repeated"
    add("--fail_above", type=limit, action="append", default=[], metavar="KEY=LIMIT", help=above)
    below = "the same for numbers below a limit, as mean_iou:low=0.6"
    add("--fail_below", type=limit, action="append", default=[], metavar="KEY=LIMIT", help=below)
    add("--junit", type=Path, metavar="FILE", help="write the limits as JUnit test cases")
    add("--out", type=Path, metavar="DIR", help="output folder (default runs/audit, with --compare runs/comparison)")


def _parser() -> command.Parser:
    parser = command.Parser(prog="flipjax audit", description=__doc__)
    _add_options(parser, INPUTS)
    _add_models(parser)
    _add_options(parser, FORMS)
    _add_options(parser, GROUPS)
    _add_results(parser)
    return parser


@command.main("flipjax audit")
def main(arguments: list[str]) -> int:
    """Runs the command line and returns its exit code."""
    return run_audit(arguments)


def run_audit(arguments: list[str]) -> int:
    """Runs the command line and returns its exit code; errors are raised."""
    options = _parser().parse_args(arguments)
    try:
        text, failed, written = _compare(options) if options.compare else _measure(options)
    except BaseException as error:
        _write_failure(options, error)
        raise
    there = ", ".join(str(path) for path in written if path.is_file())
    print(printable(f"{text}\n\n{there}"))
    for line in failed:
        print(f"flipjax audit: {printable(line)}", file=sys.stderr)
    return command.SOME_FAILED if failed else command.DONE


def _write_failure(options: argparse.Namespace, error: BaseException) -> None:
    """Says in the files of an earlier call, and in --junit, that this one failed."""
    from flipjax.audit import compare, files, gates

    text = files.describe_error(error)
    if options.compare:
        compare.mark_failed(options.out or COMPARISON, text)
    else:
        files.mark_failed(options.out or AUDIT, text)
    if options.junit:
        gates.write_junit(options.junit, "flipjax audit", [], error=text)


def _compare(options: argparse.Namespace) -> Outcome:
    """Compares two audits; returns their tables, a line for each failed limit, and the files to name."""
    # Imported late, because JAX takes a second and `--help` does not need it.
    from flipjax.audit.compare import compare_audits

    defaults = vars(_parser().parse_args([]))
    foreign = []
    for name, value in vars(options).items():
        if name not in OF_COMPARISONS and value != defaults[name]:
            foreign.append(f"--{name}")
    if foreign:
        raise ConfigError("--compare", "two folders of audits alone", f"{', '.join(foreign)}, too")
    old, new = options.compare
    out = options.out or COMPARISON
    compared = compare_audits(
        old,
        new,
        out=out,
        fail_above=options.fail_above,
        fail_below=options.fail_below,
        junit=options.junit,
    )
    return compared.text, compared.failed, (out / "index.html", out / "compare.json")


def _measure(options: argparse.Namespace) -> Outcome:
    """Audits files or a model."""
    from flipjax.audit.audits import audit_with

    keep_programs(small=True)
    if not options.labels:
        raise ConfigError("--labels", "a folder or a file", "none")
    out = options.out or AUDIT
    audited = audit_with(
        _read_options(options),
        out=out,
        model=_read_model(options),
        fail_above=options.fail_above,
        fail_below=options.fail_below,
        junit=options.junit,
    )
    return audited.text, audited.failed, (out / "index.html", out / "images.csv")


def _read_model(options: argparse.Namespace) -> "Model | None":
    """Returns the model that predicts photos, of a file or of a run's member; None without one."""
    if options.run:
        if options.model or options.predictions or not options.member:
            expected = "--member beside it, and neither --model nor --predictions"
            raise ConfigError("--run", expected, options.member or "none")
        return flipjax.open_run(options.run).member(options.member).model(options.rule)
    if options.member or options.rule:
        raise ConfigError("--member", "--run beside it", "none")
    if options.model:
        return flipjax.load_model(options.model)
    return None


if __name__ == "__main__":
    sys.exit(main())
