"""How often a sequential assay calls an attribute used, simulated: python sweeps/studies/assay/looks.py [--assays N]

Nothing is trained: 300 images of two classes and two values, 30 in each rare group, with a difficulty that all seeds
share, and seeds whose contrasts differ. One wave is two seeds; after each from the second on an assay looks, and stops
once the attribute is *used*. Beside it: a fixed design of four seeds, and looks without a correction. Rows: looks.csv.
"""

import argparse
import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd

from flipjax.assays.contrast import Outcomes, contrast_weights, estimate_flip, permuted_contrasts
from flipjax.assays.looks import p_over_looks, spent_level
from flipjax.assays.units import AssayUnits
from flipjax.results.verdicts import LEVEL, shared_p

WAVES = 8
"""Waves of the longest assay."""
SEEDS = 2
"""Seeds of a wave."""
PERMUTATIONS = 400
GROUPS = np.array([[120, 30], [30, 120]])
"""Images of each class with each value."""


@dataclasses.dataclass(frozen=True)
class World:
    """What networks make of images.

    Attributes:
        contrast: true mean over seeds.
        of_seeds: standard deviation of the contrast over seeds.
        of_images: standard deviation of the difficulty of an image, the same for all seeds.
    """

    contrast: float
    of_seeds: float
    of_images: float


WORLDS = {
    "images alone": (0.0, 0.3),
    "images and seeds": (0.05, 0.3),
    "seeds above all": (0.15, 0.1),
}
"""Spread over seeds and over images."""


def units() -> AssayUnits:
    """Returns the images."""
    y, value = np.divmod(np.repeat(np.arange(4), GROUPS.ravel()), 2)
    return AssayUnits(y, value, np.arange(len(y)), 2, 2)


def simulate(world: World, *, key: int) -> Outcomes:
    """Returns what networks of all waves make of the images."""
    random = np.random.default_rng(key)
    images = units()
    rare = images.class_ != images.value
    seeds = WAVES * SEEDS
    difficulty = random.normal(0, world.of_images, len(rare))
    # A contrast is the mean of the rare groups less that of the common ones.
    contrast = world.contrast + random.normal(0, world.of_seeds, (seeds, 1))
    flip = 0.3 + difficulty + contrast * (rare - 0.5) + random.normal(0, 0.1, (seeds, len(rare)))
    return Outcomes(1 - flip, flip, np.zeros_like(flip), np.ones(len(rare)))
