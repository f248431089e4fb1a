"""`python -m flipjax.models convert --from FILE --out FILE`: weights from elsewhere, for `config.model.weights`.

The first is a state_dict of segmentation_models_pytorch's Unet (.pt, .pth, .ckpt, which need PyTorch; .safetensors;
.npz), or ImageNet weights of its encoder alone, as torchvision, timm, SegFormer and transformers have them. The second
is a new .safetensors file under PyTorch's names, with a digest that is compared whenever it is read.
"""

import sys
from collections.abc import Sequence

from flipjax import command
from flipjax.config import MODEL_NAMES, ConfigError
from flipjax.terminal import one_line, printable

ENCODERS = tuple(name.removeprefix("smp_") for name in MODEL_NAMES if name.startswith("smp_"))

MOST_CLASSES = 65_535
"""As many as a mask of 16 bits can name."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit code: 0, or 2 on misuse or on weights that do not fit."""
    parser = command.Parser(prog="flipjax", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    convert_parser = commands.add_parser("convert", help="convert a file of weights")
    convert_parser.add_argument("--from", dest="source", required=True, metavar="FILE", help="the weights")
    convert_parser.add_argument(
        "--out", "--to", dest="target", required=True, metavar="FILE", help="a file that does not exist yet"
    )
    convert_parser.add_argument("--encoder", choices=ENCODERS, help="whose they must be (default: what the names say)")
    convert_parser.add_argument(
        "--num_classes", type=int, default=3, metavar="C", help="outputs of the head (default 3)"
    )
    convert_parser.add_argument(
        "--max_bytes", type=int, metavar="N", help="what the weights may unpack to (default 4 GiB)"
    )
    convert_parser.add_argument("--verbose", action="store_true", help="name every key that does not fit")
    try:
        options = parser.parse_args(arguments)
        if not 1 <= options.num_classes <= MOST_CLASSES:
            raise ConfigError("--num_classes", f"a whole number from 1 to {MOST_CLASSES:,}", options.num_classes)
    except ConfigError as error:
        print(printable(f"flipjax convert: {error}"), file=sys.stderr)
        return command.USAGE
    # Not before: they load JAX and Flax.
    from flipjax.models.read import MAX_BYTES
    from flipjax.models.smp import MisfitError, WeightsError
    from flipjax.models.weights import convert

    try:
        text = convert(
            options.source,
            options.target,
            encoder=options.encoder,
            num_classes=options.num_classes,
            max_bytes=MAX_BYTES if options.max_bytes is None else options.max_bytes,
        )
        print(printable(text))
        return command.DONE
    except MisfitError as error:
        text = f"{options.source}: {error if options.verbose else f'{error.brief}; --verbose names all'}"
    except WeightsError as error:
        text = str(error)
    except OSError as error:
        text = f"--out: expected a file that can be written; found {options.target} ({error})"
    print(one_line(f"flipjax convert: {text}"), file=sys.stderr)
    return command.USAGE


if __name__ == "__main__":
    sys.exit(main())
