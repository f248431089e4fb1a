"""`flipjax audit --logits DIR|FILE --labels DIR|FILE`: how anyone's segmentation model flips, and how surely.

Predictions are npy or npz, labels npy, npz or PNG masks: a folder with one file an image, matched by name, or one file
with all images, matched by position. Exit codes: 0 done, 2 an input or an option that cannot be used, 75
interrupted.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from flipjax import command
from flipjax.audit.arrays import Limits
from flipjax.terminal import printable


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(","))


def _background(text: str) -> tuple[int, ...]:
    """The classes: a tuple, by which what is given is told from the default."""
    try:
        return () if text == "none" else tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a class, several as 0,1,2, or none; found {text!r}") from None


def _parser() -> command.Parser:
    parser = command.Parser(prog="flipjax audit", description=__doc__)
    add = parser.add_argument
    add("--logits", type=Path, required=True, metavar="DIR|FILE", help="the model's predictions, in floating point")
    add("--labels", type=Path, required=True, metavar="DIR|FILE", help="class indices, as integers")
    add("--groups", type=Path, metavar="CSV", help="columns name and group; for 3 classes in all, 2 * class + scene")
    add("--kind", choices=("logits", "probabilities"), default="logits", help="what --logits holds (default logits)")
    add("--channels", choices=("first", "last"), help="where the classes are, should the shapes not tell")
    add(
        "--background",
        type=_background,
        default=0,
        metavar="CLASSES",
        help="the class that is background, several as 0,1,2, or none (default 0)",
    )
    add(
        "--ignore_index",
        "--ignore_label",
        type=int,
        metavar="LABEL",
        help="the label of pixels that count nowhere, such as 255",
    )
    add("--class_names", type=_names, metavar="A,B,C", help="names of all classes, or of those but the background")
    limits = Limits()
    add("--max_pixels", type=int, default=limits.pixels, metavar="N", help=f"of an image (default {limits.pixels:,})")
    add("--max_bytes", type=int, default=limits.bytes, metavar="N", help=f"of its scores (default {limits.bytes:,})")
    text = f"that an npz unpacks to (default {limits.unpacked:,})"
    add("--max_unpacked", type=int, default=limits.unpacked, metavar="N", help=f"bytes {text}")
    add("--images", type=Path, metavar="DIR", help="photos, PNG or JPEG, named and sized as the images, to be shown")
    add("--out", type=Path, default=Path("runs/audit"), metavar="DIR", help="where to write (default runs/audit)")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit code."""
    return command.entry("flipjax audit", _audit, arguments)


def _audit(arguments: Sequence[str]) -> int:
    options = _parser().parse_args(arguments)
    # Not before: JAX takes a second, and is not needed to explain the options.
    from flipjax.audit.measure import audit_files

    text = audit_files(options)
    made = [path for path in (options.out / "index.html", options.out / "images.csv") if path.is_file()]
    print(printable(f"{text}\n\n{', '.join(map(str, made))}"))
    return command.DONE


if __name__ == "__main__":
    sys.exit(main())
