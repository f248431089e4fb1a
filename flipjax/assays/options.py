"""The options of an assay, their defaults and ranges."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from flipjax.config import ConfigError

if TYPE_CHECKING:
    from flipjax.data.arrays import ArrayData

BUDGET = 600.0
"""Seconds that training may take by default."""
TARGET = 0.1
"""Flip in the rare groups that counter-examples should reach, by default."""
MARGIN = 0.05
"""Largest contrast that does not matter, by default."""
FOLDS = 5
"""Folds by default."""
SEEDS = 4
"""Networks for each fold by default: the fewest that a verdict needs."""
RHO = 0.9
"""Fraction of the objects of a composite pool that are shown in a usual scene, by default."""
PRETRAINED = "smp_efficientnet_lite0"
"""The network with pretrained weights."""
NETWORKS = ("auto", "unet", PRETRAINED)
"""Choices of `network`."""


@dataclasses.dataclass(frozen=True)
class Options:
    """The request of an assay, as `flipjax.assay` takes it."""

    attribute: str
    """The column of metadata.csv that holds the attribute; for other data the name of the scenes."""
    clusters: str = ""
    """Column of metadata.csv, such as patient, whose equal values never cross folds."""
    classes: tuple[str, ...] = ()
    """Names of the classes in order; empty: as found."""
    values: tuple[str, ...] = ()
    """Names of the attribute's values in order; empty: as found."""
    size: int = 0
    """Side in pixels at which images are read; 0: 48, or that of smaller arrays."""
    rho: float = RHO
    """Fraction of the objects of a composite pool that are shown in a usual scene."""
    folds: int = FOLDS
    """Number of folds."""
    seeds: int = 0
    """Networks for each fold; 0: chosen."""
    epochs: int = 0
    """Epochs of each network; 0: as many as the budget allows."""
    network: str = "auto"
    """`unet`, `smp_efficientnet_lite0`, or `auto`."""
    weights: str = ""
    """File of pretrained weights."""
    budget: float = BUDGET
    """Seconds that training may take."""
    target: float = TARGET
    """Wanted Flip in the rare groups."""
    margin: float = MARGIN
    """Largest contrast that does not matter."""
    seed: int = 0
    """Seed of the folds and of the permutations."""

    @property
    def network_seeds(self) -> int:
        """Networks for each fold."""
        return self.seeds or SEEDS

    @property
    def first_network(self) -> str:
        """The network that is tried first."""
        if self.network == "auto":
            return "unet"
        return self.network


def check_options(options: Options) -> None:
    """Raises ConfigError for an option out of range."""
    ranges: dict[str, tuple[float, float, float]] = {
        "--folds": (options.folds, 2, 20),
        "--seeds": (options.seeds, 0, 100),
        "--epochs": (options.epochs, 0, 10_000),
        "--target": (options.target, 0.001, 0.999),
        "--margin": (options.margin, 0.001, 0.5),
        "--rho": (options.rho, 0.5, 1),
        "--budget": (options.budget, 1, 1e7),
    }
    for name, (value, least, largest) in ranges.items():
        if not least <= value <= largest:
            raise ConfigError(name, f"a number from {least:g} to {largest:g}", value)
    if options.size and (options.size < 16 or options.size % 8):
        raise ConfigError("--size", "a multiple of 8 from 16 on", options.size)
    if options.network not in NETWORKS:
        raise ConfigError("--network", ", ".join(NETWORKS), options.network)
    if options.weights and options.network != PRETRAINED:
        expected = f"--network {PRETRAINED}, whose weights they are"
        raise ConfigError("--weights", expected, f"--network {options.network}")
    if 0 < options.seeds < 2:
        raise ConfigError("--seeds", "0 (chosen) or 2 or more, since an interval is over seeds", options.seeds)


def out_folder(data: ArrayData | str | Path, attribute: str, out: str | Path | None) -> Path:
    """Returns the folder of an assay's page; raises ConfigError if it lies among the images."""
    source = "arrays"
    if isinstance(data, str | Path):
        source = Path(data).resolve().name
    folder = Path("runs") / f"assay-{source}-{attribute}"
    if out is not None:
        folder = Path(out)
    if isinstance(data, str | Path) and folder.resolve().is_relative_to(Path(data).resolve()):
        raise ConfigError("--out", "a folder outside the images, into which nothing is written", str(folder))
    return folder
