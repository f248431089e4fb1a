"""How often a sequential assay calls an attribute used, simulated: python sweeps/studies/assay/looks.py

Nothing is trained. 300 images of two classes and two values, 30 in each rare group, have a difficulty that all seeds
share, and each seed has a contrast of its own. A batch has two seeds. From the second batch on, an assay makes an
interim analysis after each. It stops once the attribute is *used*, or once its contrast lies within the margin. Three
other designs are simulated beside it: four seeds, sixteen seeds, and interim analyses at the level of a single test.
The rows are in looks.csv.
"""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd

from flipjax.assays.statistics.contrast import measure_contrast
from flipjax.assays.statistics.outcomes import Outcomes
from flipjax.assays.statistics.units import AssayUnits
from flipjax.assays.statistics.verdict import NOT_USED, USED, Learnt, judge_contrast
from flipjax.metrics.statistics.permutation import LEVEL

HERE = Path(__file__).parent
SEEDS_AT_ANALYSES = (4, 6, 8, 10, 12, 14, 16)
"""Seeds at each interim analysis: after the second to the eighth batch."""
PERMUTATIONS = 199
GROUPS = np.array([[120, 30], [30, 120]])
"""Images of each class with each value."""
USUAL = ((0,), (1,))
MARGIN = 0.05
LEARNT = Learnt(0.95, 0.75)


@dataclasses.dataclass(frozen=True)
class World:
    """What networks make of images.

    Attributes:
        contrast: its true mean over seeds.
        over_seeds: standard deviation of the contrast over seeds.
        over_images: standard deviation of the difficulty of an image, the same for all seeds.
    """

    contrast: float
    over_seeds: float
    over_images: float


SPREADS = ((0.0, 0.3), (0.05, 0.3), (0.15, 0.3), (0.15, 0.1), (0.3, 0.1))
"""Standard deviations over seeds and over images: from images alone to seeds above all."""
ASSAYS = {0.0: 500, 0.1: 200, 0.2: 100, 0.4: 100}
"""The number of assays by true contrast."""


def units() -> AssayUnits:
    """Returns the images."""
    y, value = np.divmod(np.repeat(np.arange(4), GROUPS.ravel()), 2)
    return AssayUnits(y, value, np.arange(len(y)), 2, 2)


def simulate(world: World, images: AssayUnits, *, key: int) -> Outcomes:
    """Returns what the networks of all batches make of the images."""
    random = np.random.default_rng(key)
    rare = images.class_ != images.value
    shape = (SEEDS_AT_ANALYSES[-1], len(rare))
    difficulty = random.normal(0, world.over_images, len(rare))
    contrast = world.contrast + random.normal(0, world.over_seeds, (SEEDS_AT_ANALYSES[-1], 1))
    # The contrast is the mean of the rare groups less that of the common ones.
    flip = 0.3 + difficulty + contrast * (rare - 0.5) + random.normal(0, 0.1, shape)
    return Outcomes(1 - flip, flip, np.zeros(shape), np.ones(len(rare)))


def sequential(images: AssayUnits, tested: Outcomes, *, key: int) -> tuple[int, str]:
    """Returns the number of analyses of an assay that stops once it is sure, and its verdict; '' if it never was."""
    for count in range(1, len(SEEDS_AT_ANALYSES) + 1):
        outcomes = of_seeds(tested, SEEDS_AT_ANALYSES[count - 1])
        contrast = measure_contrast(
            images, USUAL, outcomes, analyses=SEEDS_AT_ANALYSES[:count], seed=key, permutations=PERMUTATIONS
        )
        assert contrast is not None
        verdict = judge_contrast(contrast, LEARNT, margin=MARGIN, attribute="value")
        if verdict.word in (USED, NOT_USED):
            return count, verdict.word
    return len(SEEDS_AT_ANALYSES), ""


def fixed(images: AssayUnits, tested: Outcomes, seeds: int, *, key: int) -> bool:
    """Returns whether a design of a fixed number of seeds finds the attribute used, at LEVEL."""
    outcomes = of_seeds(tested, seeds)
    contrast = measure_contrast(images, USUAL, outcomes, seed=key, permutations=PERMUTATIONS)
    assert contrast is not None
    return bool(contrast.estimate.p <= LEVEL and contrast.p <= LEVEL)


def of_seeds(tested: Outcomes, count: int) -> Outcomes:
    """Returns the outcomes of the first seeds."""
    return Outcomes(tested.correct[:count], tested.flip[:count], tested.spill[:count], tested.foreground)


def row_of(world: World, *, assays: int) -> dict[str, float]:
    """Returns how often assays of a world call the attribute used, by the batches that they may train."""
    images = units()
    counts = {f"used by wave {batches}": 0 for batches in (2, 4, 8)}
    counts |= {"not used": 0, "fixed, 4 seeds": 0, "fixed, 16 seeds": 0, "looks without a correction": 0}
    seeds = 0
    for key in range(assays):
        tested = simulate(world, images, key=key)
        analyses, verdict = sequential(images, tested, key=key)
        seeds += SEEDS_AT_ANALYSES[analyses - 1]
        for batches in (2, 4, 8):
            counts[f"used by wave {batches}"] += verdict == USED and analyses < batches
        counts["not used"] += verdict == NOT_USED
        counts["fixed, 4 seeds"] += fixed(images, tested, 4, key=key)
        counts["fixed, 16 seeds"] += fixed(images, tested, 16, key=key)
        if world.contrast == 0:
            found_by = (fixed(images, tested, count, key=key) for count in SEEDS_AT_ANALYSES)
            counts["looks without a correction"] += any(found_by)
    shares = {name: count / assays for name, count in counts.items()}
    return {**dataclasses.asdict(world), **shares, "seeds": seeds / assays, "assays": assays}


def main() -> None:
    """Simulates all worlds, and writes their rows."""
    rows = []
    for contrast, assays in ASSAYS.items():
        # Where something is found, not of images or seeds alone.
        for spread in SPREADS if contrast == 0 else SPREADS[1:4]:
            rows.append(row_of(World(contrast, *spread), assays=assays))
            print(pd.DataFrame(rows[-1:]).to_string(index=False, header=len(rows) == 1), flush=True)
    pd.DataFrame(rows).round(4).to_csv(HERE / "looks.csv", index=False)


if __name__ == "__main__":
    main()
