"""Measures how strongly context predicts the wrong class of a flip.

Labels and predictions are class indices in PNG, npy or npz: a folder with one file per image, matched by name, or one
file with all images. Co-occurrence of classes is counted in the training labels. Exit codes: 0 done, 2 unusable input
or option, 75 interrupted.
"""

from pathlib import Path

from flipjax import command
from flipjax.terminal import printable


def _parser() -> command.Parser:
    parser = command.Parser(prog="flipjax context", description=__doc__)
    add = parser.add_argument
    add("--labels", type=Path, required=True, metavar="DIR|FILE", help="class indices, as integers")
    add("--predictions", type=Path, required=True, metavar="DIR|FILE", help="the model's class indices")
    text = "labels of the training images, or shares.csv as this command writes it (default: --labels)"
    add("--training_labels", type=Path, metavar="DIR|CSV", help=text)
    add("--label_map", metavar="FILE|NAME", help="map of label values to classes, as for flipjax audit")
    add("--prediction_map", metavar="FILE|NAME", help="the same for predictions")
    add("--ignore_index", type=int, metavar="LABEL", help="the label of pixels to ignore, such as 255")
    text = "a class, several, or none (default 0)"
    add("--background", type=command.read_classes, default=(0,), metavar="CLASSES", help=text)
    text = "names of all classes, or of those but the background"
    add("--class_names", dest="names", type=command.read_names, metavar="A,B,C", help=text)
    text = "a segment: all pixels of a class in an image (default), or a connected component"
    add("--unit", choices=("class", "component"), default="class", help=text)
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
