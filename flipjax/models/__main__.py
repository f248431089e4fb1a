"""`python -m flipjax.models convert --from FILE --to DIR`: weights from elsewhere, for `config.model.weights`.

FILE is a state_dict of segmentation_models_pytorch's Unet (.pt, .pth, .ckpt, which need PyTorch; .safetensors; .npz),
or ImageNet weights of its encoder alone, as torchvision, timm, SegFormer and transformers have them.
"""

import argparse
import sys
from collections.abc import Sequence

from flipjax.models.encoders import ENCODERS
from flipjax.models.smp import MisfitError, WeightsError
from flipjax.models.weights import convert


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
    command.add_argument("--verbose", action="store_true", help="name every key that does not fit")
    options = parser.parse_args(arguments)
    try:
        print(convert(options.source, options.folder, encoder=options.encoder, num_classes=options.num_classes))
        return 0
    except MisfitError as error:
        text = str(error) if options.verbose else f"{error.brief}; --verbose names all"
    except WeightsError as error:
        text = str(error)
    except OSError as error:
        text = f"--to: expected a folder that can be written; found {options.folder} ({error})"
    print(f"flipjax.models convert: {text}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
