"""The options of an assay: each is declared once, for the command line, the call and the folder's state."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flipjax import command
from flipjax.config import ConfigError

if TYPE_CHECKING:
    from flipjax.data.sources.arrays import ArrayData

SMALL = "small"
"""The small U-Net."""
FROZEN = "frozen"
"""A decoder of frozen features of EfficientNet-Lite0."""
PRETRAINED = "pretrained"
"""A U-Net of EfficientNet-Lite0, whose ImageNet weights are trained on."""
MOST_SEEDS = 100
"""The largest `seeds`."""
NETWORKS = ("auto", SMALL, FROZEN, PRETRAINED)
"""Choices of `network`."""


def read_some_names(text: str) -> tuple[str, ...]:
    """Returns the names of an option, divided by commas; none of an empty text."""
    if not text:
        return ()
    return tuple(command.read_names(text))


def option(
    default: Any, meaning: str, *, limits: tuple[float, float] | None = None, extends: bool = False, **of_parser: Any
) -> Any:
    """Returns a field of `Options`.

    Args:
        default: of the field; `dataclasses.MISSING` if there is none.
        meaning: in the help of the command.
        limits: the least and the largest value.
        extends: whether a folder goes on with another value, since it changes no network that was trained.
        of_parser: further arguments of `add_argument`.
    """
    return command.option(default, meaning, about={"limits": limits, "extends": extends}, **of_parser)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """The request of an assay.

    Example:
        >>> Options(attribute="scanner").folds
        5
    """

    attribute: str = option(
        dataclasses.MISSING, "column of metadata.csv, or the name of the scenes", required=True, metavar="NAME"
    )
    clusters: str = option(
        "", "column, such as patient; all images with the same value lie in one fold", metavar="NAME"
    )
    classes: tuple[str, ...] = option(
        (), "names of the classes in order (default: as found)", type=read_some_names, metavar="A,B"
    )
    values: tuple[str, ...] = option(
        (), "names of the attribute's values in order (default: as found)", type=read_some_names, metavar="A,B"
    )
    usual: tuple[str, ...] = option(
        (),
        "usual value of each class in order; A+C are two of a class (default: those it has more often than others)",
        type=read_some_names,
        metavar="A,B",
    )
    size: int = option(
        0, "side in pixels at which images are read (default 48; 96 for frozen and pretrained)", type=int, metavar="N"
    )
    rho: float = option(
        0.9,
        "correlation to assay where images are made of cutouts/ and scenes/ (default 0.9)",
        limits=(0.5, 1),
        type=float,
        metavar="R",
    )
    folds: int = option(5, "number of folds (default 5)", limits=(2, 20), type=int, metavar="N")
    seeds: int = option(
        8,
        "largest number of networks for each fold (default 8)",
        limits=(2, MOST_SEEDS),
        extends=True,
        type=int,
        metavar="N",
    )
    epochs: int = option(
        0, "epochs of each network (default: by the number of images)", limits=(0, 10_000), type=int, metavar="N"
    )
    network: str = option(
        "auto", "network (default: small, and frozen where it does not learn)", choices=NETWORKS, extends=True
    )
    weights: str = option("", "pretrained weights from flipjax convert, for --network pretrained", metavar="FILE")
    budget: float = option(
        600.0,
        "time for training, such as 90s, 10m or 1h (default 10m)",
        limits=(1, 1e7),
        extends=True,
        type=command.read_seconds,
        metavar="TIME",
    )
    target: float = option(
        0.1,
        "wanted Flip in the rare groups (default 0.1)",
        limits=(0.001, 0.999),
        extends=True,
        type=float,
        metavar="FLIP",
    )
    margin: float = option(
        0.05,
        "largest contrast that does not matter (default 0.05)",
        limits=(0.001, 0.5),
        extends=True,
        type=float,
        metavar="X",
    )
    keep: bool = option(True, "keep the networks, 0.1 to 1 MB each, pretrained ones 25 MB (default)", extends=True)
    seed: int = option(0, "seed of folds and permutations (default 0)", limits=(0, 2**31 - 1), type=int, metavar="N")
    out: Path | None = option(
        None, "folder of the page (default runs/assay-DIR-NAME)", extends=True, type=Path, metavar="DIR"
    )


FIELDS = dataclasses.fields(Options)
"""The options."""


def check_options(options: Options) -> None:
    """Raises ConfigError for an option out of range."""
    for field in FIELDS:
        value = getattr(options, field.name)
        if field.metadata["limits"] is None:
            continue
        least, largest = field.metadata["limits"]
        if not least <= value <= largest:
            expected = f"a number from {least:g} to {largest:g}"
            raise ConfigError(f"--{field.name}", expected, value)
    if options.size and (options.size < 16 or options.size % 8):
        raise ConfigError("--size", "a multiple of 8 from 16 on", options.size)
    if options.network not in NETWORKS:
        raise ConfigError("--network", ", ".join(NETWORKS), options.network)
    if options.weights and options.network != PRETRAINED:
        expected = f"--network {PRETRAINED}, whose weights they are"
        raise ConfigError("--weights", expected, f"--network {options.network}")


def out_folder(data: ArrayData | str | Path, options: Options) -> Path:
    """Returns the folder of an assay's page; raises ConfigError if it lies among the images."""
    source = "arrays"
    if isinstance(data, str | Path):
        source = Path(data).resolve().name
    folder = Path("runs") / f"assay-{source}-{options.attribute}"
    if options.out is not None:
        folder = Path(options.out)
    if isinstance(data, str | Path) and folder.resolve().is_relative_to(Path(data).resolve()):
        raise ConfigError("--out", "a folder outside the images, into which nothing is written", str(folder))
    return folder
