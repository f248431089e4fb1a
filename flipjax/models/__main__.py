"""`python -m flipjax.models convert --from FILE --to FILE`: weights from elsewhere, for `config.model.weights`.

The first is a state_dict of segmentation_models_pytorch's Unet (.pt, .pth, .ckpt, which need PyTorch; .safetensors;
.npz), or ImageNet weights of its encoder alone, as torchvision, timm, SegFormer and transformers have them. The second
is a new .safetensors file under PyTorch's names, with a digest that is compared whenever it is read.
"""

import argparse
import sys
from collections.abc import Sequence

from flipjax.models.encoders import ENCODERS
from flipjax.models.read import MAX_BYTES
from flipjax.models.smp import MisfitError, WeightsError
from flipjax.models.weights import convert
from flipjax.terminal import printable


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns 0, and exits with 2 on misuse or on weights that do not fit."""
    parser = argparse.ArgumentParser(
        prog="python -m flipjax.models", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("convert", help="convert a file of weights")
    command.add_argument("--from", dest="source", required=True, metavar="FILE", help="the weights")
    command.add_argument("--to", dest="target", required=True, metavar="FILE", help="a file that does not exist yet")
    command.add_argument("--encoder", choices=tuple(ENCODERS), help="whose they must be (default: what the names say)")
    command.add_argument("--num_classes", type=int, default=3, metavar="C", help="outputs of the head (default 3)")
    command.add_argument(
        "--max_bytes", type=int, default=MAX_BYTES, metavar="N", help="what the weights may unpack to (default 4 GiB)"
    )
    command.add_argument("--verbose", action="store_true", help="name every key that does not fit")
    options = parser.parse_args(arguments)
    try:
        text = convert(
            options.source,
            options.target,
            encoder=options.encoder,
            num_classes=options.num_classes,
            max_bytes=options.max_bytes,
        )
        print(printable(text))
        return 0
    except MisfitError as error:
        text = str(error) if options.verbose else f"{error.brief}; --verbose names all"
    except WeightsError as error:
        text = str(error)
    except OSError as error:
        text = f"--to: expected a file that can be written; found {options.target} ({error})"
    print(printable(f"flipjax.models convert: {text}"), file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
