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
from flipjax.audit.arrays import MAX_BYTES
from flipjax.backend.start import keep_programs
from flipjax.config import ConfigError
from flipjax.support.terminal import printable

if TYPE_CHECKING:
    from flipjax.training.model import Model

AUDIT = Path("runs/audit")
"""Output folder of an audit where none is named."""
COMPARISON = Path("runs/comparison")
"""Output folder of a comparison where none is named."""
KINDS = ("logits", "probabilities", "masks")
"""What predictions may be."""
OF_COMPARISONS = ("compare", "out", "fail_above", "fail_below", "junit")
"""Options that stand beside --compare."""


def limit(text: str) -> tuple[str, float]:
    """Returns a key of summary.json and its limit."""
    key, _, value = text.rpartition("=")
    number = float(value)
    if math.isnan(number):
        raise ValueError("expected KEY=LIMIT with a number")
    return key, number


def _read_spacing(text: str) -> tuple[float, ...]:
    return tuple(float(part) for part in text.split(","))


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a call found."""

    text: str
    """Its tables."""
    failed: list[str]
    """A line for each failed limit."""
    files: tuple[Path, ...]
    """The files to name, of which those that were written are."""


def _add_inputs(parser: command.Parser) -> None:
    add = parser.add_argument_group("what is audited").add_argument
    text = "scores in floating point, or with --kind masks class indices"
    add("--predictions", "--logits", type=Path, metavar="DIR|FILE", help=text)
    add("--labels", type=Path, metavar="DIR|FILE", help="class indices, as integers")
    add("--model", metavar="FILE", help="a model that flipjax saved, which predicts the photos of --images")
    add("--run", type=Path, metavar="DIR", help="the folder of a sweep, whose --member predicts the photos of --images")
    add("--member", metavar="NAME", help="of the run, such as m003")
    add("--rule", metavar="NAME", help="the selection rule whose weights the member has (default the first)")
    add("--images", type=Path, metavar="DIR", help="photos, PNG or JPEG, of the same names and sizes as the labels")
    text = "a regular expression of one group: the image's name in a file's path without suffix (default all of it)"
    add("--names", metavar="REGEX", help=text)
    add("--compare", type=Path, nargs=2, metavar=("OLD", "NEW"), help="two audits of the same images, to be compared")


def _add_forms(parser: command.Parser) -> None:
    add = parser.add_argument_group("how values are read").add_argument
    add("--kind", choices=KINDS, default="logits", help="content of --predictions (default logits)")
    add("--channels", choices=("first", "last"), help="position of the class axis, if shapes are ambiguous")
    add("--num_classes", type=int, metavar="C", help="number of classes in masks (default: from names or values)")
    maps = "a CSV with the columns from, to and maybe name, or ade20k, cityscapes or cityscapes_train"
    add("--label_map", metavar="CSV|NAME", help=f"labels to classes: {maps}")
    add("--prediction_map", metavar="CSV|NAME", help="the same for predicted masks")
    add("--ignore_index", "--ignore_label", type=int, metavar="LABEL", help="label of pixels to ignore, such as 255")
    add("--background", type=command.read_classes, default=0, metavar="CLASSES", help="classes: 0 (default), 0,2, none")
    add("--class_names", type=command.read_names, metavar="A,B,C", help="of all classes, or of all but the background")
    text = "mirror pairs and chains of classes: a JSON file, or none (default: found in the class names)"
    add("--anatomy", metavar="FILE|none", help=text)
    add("--spacing", type=_read_spacing, metavar="X,Y[,Z]", help="of pixels in mm, where no NIfTI header says it")
    add("--spatial_ndim", type=int, choices=(2, 3), help="2 for images, 3 for volumes (default: as the labels say)")
    text = f"limit of an image's values, of an unpacked npz, and of the confusion matrices (default {MAX_BYTES:,})"
    add("--max_bytes", type=int, default=MAX_BYTES, metavar="N", help=text)
    add("--jobs", type=int, default=1, metavar="N", help="processes that read and count (default 1)")


def _add_groups(parser: command.Parser) -> None:
    add = parser.add_argument_group("groups, clusters and segments").add_argument
    add("--table", type=Path, metavar="CSV", help="columns of the images for --groups and --clusters, beside name")
    text = "a column of --table; or a CSV of names and groups, or of name, class and scene; or a regular expression on "
    add("--groups", metavar="COLUMN|CSV|REGEX", help=f"{text}names")
    text = "what the column of groups holds: names (default), or numbers 2 * class + scene of two classes"
    add("--groups_are", choices=("names", "class_scene"), default="names", help=text)
    text = "columns class and scene of the training images: a class's most frequent scene is common (default --groups)"
    add("--training_groups", type=Path, metavar="CSV", help=text)
    add("--clusters", metavar="COLUMN|REGEX", help="of the table, or on names: patients or films, resampled whole")
    add("--unit", choices=("class", "component", "instance"), help="of segments (default class, of COCO's instance)")
    add("--min_size", metavar="SIZE", help="smaller segments do not count: pixels, or 3mm2, or 0.5mL (default none)")


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
    _add_inputs(parser)
    _add_forms(parser)
    _add_groups(parser)
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
        outcome = _compare(options) if options.compare else _measure(options)
    except BaseException as error:
        _write_failure(options, error)
        raise
    written = ", ".join(str(path) for path in outcome.files if path.is_file())
    print(printable(f"{outcome.text}\n\n{written}"))
    for line in outcome.failed:
        print(f"flipjax audit: {printable(line)}", file=sys.stderr)
    return command.SOME_FAILED if outcome.failed else command.DONE


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
    """Compares two audits."""
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
    return Outcome(compared.text, compared.failed, (out / "compare.csv", out / "compare.json"))


def _measure(options: argparse.Namespace) -> Outcome:
    """Audits files or a model."""
    from flipjax.audit.audits import audit_files

    keep_programs(small=True)
    if not options.labels:
        raise ConfigError("--labels", "a folder or a file", "none")
    out = options.out or AUDIT
    audited = audit_files(
        options.predictions,
        options.labels,
        out=out,
        model=_read_model(options),
        table=options.table,
        groups=options.groups,
        groups_are=options.groups_are,
        training_groups=options.training_groups,
        clusters=options.clusters,
        class_names=options.class_names,
        background=options.background,
        images=options.images,
        min_size=options.min_size,
        anatomy=options.anatomy,
        fail_above=options.fail_above,
        fail_below=options.fail_below,
        junit=options.junit,
        jobs=options.jobs,
        max_bytes=options.max_bytes,
        names=options.names,
        kind=options.kind,
        channels=options.channels,
        num_classes=options.num_classes,
        label_map=options.label_map,
        prediction_map=options.prediction_map,
        ignore_index=options.ignore_index,
        spacing=options.spacing,
        spatial_ndim=options.spatial_ndim,
        unit=options.unit,
    )
    return Outcome(audited.text, audited.failed, (out / "index.html", out / "images.csv"))


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
