"""The networks of an assay as a test can afford them: they learn in few epochs, and one remedy is tried."""

import dataclasses
import runpy
from pathlib import Path

from flipjax.assays import remedy, seed_batches
from flipjax.assays.inputs import AssayImages
from flipjax.assays.options import Options
from flipjax.assays.population import Network
from flipjax.data.sources.arrays import ArrayData

OPTIMISER = {"train.learning_rate": 0.01, "train.batch_size": 8}
"""Learns the tint of a square in a quarter of the epochs of the default."""
REMEDIES = remedy.SETTINGS[:1]
FIRST_NETWORK = seed_batches.first_network


def quick_network(
    data: ArrayData | str | Path, images: AssayImages, options: Options, folder: Path | None = None
) -> Network:
    """Returns the first network of an assay with the optimiser above."""
    network = FIRST_NETWORK(data, images, options, folder)
    return dataclasses.replace(network, changes={**network.changes, **OPTIMISER})


def run_command() -> None:
    """Runs the command line of this process with these networks, as `python -m flipjax` does with its own."""
    seed_batches.first_network = quick_network
    remedy.SETTINGS = REMEDIES
    runpy.run_module("flipjax", run_name="__main__", alter_sys=True)
