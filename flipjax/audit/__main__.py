"""`flipjax audit --predictions DIR|FILE --labels DIR|FILE`: how anyone's segmentation model flips, and how surely.

Predictions are npy or npz, labels and predicted masks npy, npz or PNG: a folder with one file an image, matched by
name, or one file with all images, matched by position. Exit codes: 0 done, 1 a number is above a limit of
--fail_above, 2 an input or an option that cannot be used, 75 interrupted.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from flipjax import command
from flipjax.audit.arrays import Limits
from flipjax.terminal import printable

KINDS = ("logits", "probabilities", "masks")


def limit(text: str) -> tuple[str, float]:
    """Returns a key of summary.json and the largest value that it may have."""
    key, _, value = text.partition("=")
    return key, float(value)


def _parser() -> command.Parser:
    parser = command.Parser(prog="flipjax audit", description=__doc__)
    add = parser.add_argument
    text = "what the model says: scores in floating point, or with --kind masks class indices"
    add("--predictions", "--logits", type=Path, required=True, metavar="DIR|FILE", help=text)
    add("--labels", type=Path, required=True, metavar="DIR|FILE", help="class indices, as integers")
    text = "columns name, class and scene; or name and group, a name or for two classes 2 * class + scene; or one other"
    add("--groups", type=Path, metavar="CSV", help=text)
    text = "columns class and scene of the training images: a class's most frequent scene is common (default --groups)"
    add("--training_groups", type=Path, metavar="CSV", help=text)
    add("--kind", choices=KINDS, default="logits", help="what --predictions holds (default logits)")
    add("--channels", choices=("first", "last"), help="where the classes are, should the shapes not tell")
    text = "the class that is background, several as 0,1,2, or none (default 0)"
    add("--background", type=command.read_classes, default=0, metavar="CLASSES", help=text)
    text = "the label of pixels that count nowhere, such as 255"
    add("--ignore_index", "--ignore_label", type=int, metavar="LABEL", help=text)
    text = "names of all classes, or of those but the background"
    add("--class_names", type=command.read_names, metavar="A,B,C", help=text)
    add("--num_classes", type=int, metavar="C", help="of masks, should neither names nor values tell")
    maps = "a CSV with the columns from and to, or ade20k, cityscapes or cityscapes_train"
    add("--label_map", metavar="CSV|NAME", help=f"which class a label is: {maps}")
    add("--prediction_map", metavar="CSV|NAME", help="the same for masks that the model predicts")
    text = "what a segment is: all pixels of a class in an image (default), a connected component, a panoptic segment"
    add("--unit", choices=("class", "component", "instance"), help=text)
    limits = Limits()
    add("--max_pixels", type=int, default=limits.pixels, metavar="N", help=f"of an image (default {limits.pixels:,})")
    add("--max_bytes", type=int, default=limits.bytes, metavar="N", help=f"of its scores (default {limits.bytes:,})")
    text = f"that an npz unpacks to (default {limits.unpacked:,})"
    add("--max_unpacked", type=int, default=limits.unpacked, metavar="N", help=f"bytes {text}")
    add("--images", type=Path, metavar="DIR", help="photos, PNG or JPEG, named and sized as the images, to be shown")
    text = "exit with 1 where a number of summary.json is above a limit, as fg_flip=0.05; may be repeated"
    add("--fail_above", type=limit, action="append", default=[], metavar="KEY=LIMIT", help=text)
    add("--out", type=Path, default=Path("runs/audit"), metavar="DIR", help="where to write (default runs/audit)")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit code."""
    return command.entry("flipjax audit", _audit, arguments)


def _audit(arguments: Sequence[str]) -> int:
    options = _parser().parse_args(arguments)
    # Not before: JAX takes a second, and is not needed to explain the options.
    from flipjax.audit.measure import audit_files

    text, above = audit_files(options)
    made = [path for path in (options.out / "index.html", options.out / "images.csv") if path.is_file()]
    print(printable(f"{text}\n\n{', '.join(map(str, made))}"))
    for line in above:
        print(f"flipjax audit: --fail_above: {printable(line)}", file=sys.stderr)
    return command.SOME_FAILED if above else command.DONE


if __name__ == "__main__":
    sys.exit(main())
