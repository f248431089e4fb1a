"""`python -m flipjax.audit --logits DIR|FILE --labels DIR|FILE`: how anyone's segmentation model flips, and how surely.

Predictions are npy or npz, labels npy, npz or PNG masks: a folder with one file an image, matched by name, or one file
with all images, matched by position. Exit codes: 0 done, 2 an input or an option that cannot be used, 75
interrupted.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from flipjax import command, results
from flipjax.audit import page, pictures
from flipjax.audit.arrays import AuditError, Limits, Reader
from flipjax.audit.groups import read_groups
from flipjax.audit.layout import Layout, check_limits, check_types, find_layout
from flipjax.audit.measure import measure
from flipjax.audit.results import check_names, conclude
from flipjax.audit.sources import Pair, open_source, pair
from flipjax.audit.values import Values
from flipjax.config import ConfigError
from flipjax.results import gallery
from flipjax.terminal import Bar, printable


def _parser() -> command.Parser:
    parser = command.Parser(prog="flipjax audit", description=__doc__)
    add = parser.add_argument
    add("--logits", type=Path, required=True, metavar="DIR|FILE", help="the model's predictions, in floating point")
    add("--labels", type=Path, required=True, metavar="DIR|FILE", help="class indices, as integers")
    add("--groups", type=Path, metavar="CSV", help="columns name and group; for 3 classes in all, 2 * class + scene")
    add("--kind", choices=("logits", "probabilities"), default="logits", help="what --logits holds (default logits)")
    add("--channels", choices=("first", "last"), help="where the classes are, should the shapes not tell")
    add("--background", type=int, default=0, metavar="CLASS", help="the class that is background (default 0)")
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


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(","))


def _open(options: argparse.Namespace) -> tuple[list[Pair], Layout, bool]:
    """Finds the images by headers alone; the last says whether they are known by position."""
    limits = Limits(options.max_pixels, options.max_bytes, options.max_unpacked)
    with Reader() as reader:
        predictions = open_source(options.logits, wanted=options.kind, rank=3, reader=reader, limits=limits)
        labels = open_source(options.labels, wanted="labels", rank=2, reader=reader, limits=limits)
    check_types(predictions, labels, kind=options.kind)
    pairs = pair(predictions, labels)
    layout = find_layout(pairs, channels=options.channels)
    check_limits(pairs, layout, limits)
    if not 0 <= options.background < layout.classes:
        raise AuditError(f"--background: expected a class in 0..{layout.classes - 1}, found {options.background}")
    return pairs, layout, predictions.names is None and labels.names is None


def _facts(pairs: Sequence[Pair], layout: Layout, options: argparse.Namespace) -> list[str]:
    sizes = sorted({p.labels.shape for p in pairs})
    size = f"{sizes[0][0]} x {sizes[0][1]} pixels" if len(sizes) == 1 else f"{len(sizes)} different sizes"
    return [
        f"{len(pairs)} images of {size}, {layout.classes} classes ({options.kind}, channels {layout.channels}).",
        f"Predictions: {options.logits}. Labels: {options.labels}."
        + (f" Groups: {options.groups}." if options.groups else ""),
    ]


def _run(options: argparse.Namespace) -> str:
    pairs, layout, positional = _open(options)
    class_names = check_names(layout.classes, options.background, options.class_names)
    names = [entry.name for entry in pairs]
    groups = None
    if options.groups:
        groups, names = read_groups(options.groups, names, classes=layout.classes, positional=positional)
    photos = pictures.find_photos(options.images, names)
    page.claim(options.out)
    facts = _facts(pairs, layout, options)
    print(facts[0], file=sys.stderr, flush=True)
    values = Values(options.kind, options.background, options.ignore_index)
    done = 0
    with Bar("images", total=len(pairs)) as bar:

        def advance(count: int) -> None:
            nonlocal done
            done += count
            bar.advance(count, f"{done} of {len(pairs)} images", last=done == len(pairs))

        measured = measure(pairs, layout, values, advance=advance)
    further = results.region_quantities(measured.regions, groups, classes=layout.classes)
    counts = (measured.decomposition, measured.ignored)
    audit = conclude(names, groups, *counts, class_names=class_names, further=further)
    indices, kinds = gallery.choose(audit.decomposition, riskiest=pictures.SHOWN, typical=0, sure=pictures.SHOWN)
    chosen = dict(zip(indices.tolist(), kinds.tolist(), strict=True))
    items = pictures.draw_out(audit, pairs, layout, values, chosen=chosen, photos=photos)
    used = {name: str(value) if isinstance(value, Path) else value for name, value in vars(options).items()}
    used = used | {"channels": layout.channels, "class_names": list(class_names)}
    return page.write(options.out, audit, items, options=used, facts=facts)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit code."""
    try:
        options = _parser().parse_args(arguments)
        text = _run(options)
    except (AuditError, ConfigError, OSError) as error:
        print(printable(f"flipjax audit: {error}"), file=sys.stderr)
        return command.USAGE
    except KeyboardInterrupt:
        print("flipjax audit: interrupted", file=sys.stderr)
        return command.INTERRUPTED
    print(printable(f"{text}\n\n{options.out / 'index.html'}, {options.out / 'images.csv'}"))
    return command.DONE


if __name__ == "__main__":
    sys.exit(main())
