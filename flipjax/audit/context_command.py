"""Measures how strongly context predicts the wrong class of a flip.

Labels and predictions are class indices in PNG, npy or npz: a folder with one file per image, matched by name, or one
file with all images. Co-occurrence of classes is counted in the training labels. Exit codes: 0 done, 2 unusable input
or option, 75 interrupted.
"""

from pathlib import Path

from flipjax import command
from flipjax.audit.__main__ import add_classes
from flipjax.support.terminal import printable


def _parser() -> command.Parser:
    parser = command.Parser(prog="flipjax context", description=__doc__)
    add = parser.add_argument
    add("--labels", type=Path, required=True, metavar="DIR|FILE", help="class indices, as integers")
    add("--predictions", type=Path, required=True, metavar="DIR|FILE", help="the model's class indices")
    text = "labels of the training images, or shares.csv as this command writes it (default: --labels)"
    add("--training_labels", type=Path, metavar="DIR|CSV", help=text)
    add_classes(parser)
    add("--unit", choices=("class", "component"), default="class", help="of segments (default class)")
    add("--samples", type=int, default=1000, metavar="N", help="resamples of images for intervals (default 1000)")
    add("--out", type=Path, default=Path("runs/context"), metavar="DIR", help="where to write (default runs/context)")
    return parser


@command.main("flipjax context")
def main(arguments: list[str]) -> int:
    """Runs the command line and returns its exit code."""
    options = _parser().parse_args(arguments)
    # Imported late, because pandas takes a second and `--help` does not need it.
    from flipjax.audit.context import measure_context

    print(printable(measure_context(**vars(options))))
    return command.DONE
