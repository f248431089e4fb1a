"""`python -m flipjax.models convert --from FILE --to DIR`: weights from elsewhere, for `config.model.weights`.

FILE is a state_dict of segmentation_models_pytorch's Unet (.pt, .pth, .ckpt, which need PyTorch; .safetensors; .npz),
or ImageNet weights of its encoder alone, as torchvision, timm, SegFormer and transformers have them.
"""

import argparse
import sys
from collections.abc import Sequence

from flipjax.models.encoders import ENCODERS
from flipjax.models.smp import WeightsError
from flipjax.models.weights import convert

LONGEST = 1000


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns 0, and exits with 2 on misuse or on weights that do not fit."""
    parser = argparse.ArgumentParser(
        prog="python -m flipjax.models", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("convert", help="convert a file of weights to a folder")
    command.add_argument("--from", dest="source", required=True, metavar="FILE", help="the weights")
    command.add_argument("--to", dest="folder", required=True, metavar="DIR", help="a folder that does not exist yet")
    command.add_argument("--encoder", choices=tuple(ENCODERS), help="whose they must be (default: what the names say)")
    command.add_argument("--num_classes", type=int, default=3, metavar="C", help="outputs of the head (default 3)")
    options = vars(parser.parse_args(arguments))
    del options["command"]
    try:
        print(convert(options.pop("source"), options.pop("folder"), **options))
    except WeightsError as error:
        text = str(error)
        print(
            f"flipjax.models convert: {text[:LONGEST]}{' ...' if len(text) > LONGEST else ''}",
            file=sys.stderr,
        )
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
