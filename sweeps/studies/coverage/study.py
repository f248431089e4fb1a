"""How often the 95% intervals that flipjax prints hold the truth: python sweeps/studies/coverage/study.py

Draws samples from distributions whose truth is known, asks flipjax for the interval of each, and counts. Prints the
rows and writes results.csv beside this file. 1,000 samples a row: a coverage of 0.95 comes out within 0.014 of it.
"""

import argparse
import math
import pathlib

import jax
import numpy as np
import pandas as pd
from scipy.stats import norm

from flipjax.config.groups import Groups
from flipjax.metrics import Decomposition, bootstrap, summarize
from flipjax.metrics.decomposition import pixel_ratios
from flipjax.metrics.statistics.intervals import estimate_rate
from flipjax.results.arrays import Curves, ImageResults
from flipjax.results.cells import Cell
from flipjax.results.statistics.estimates import estimate
from flipjax.results.statistics.resamples import Resamples
from flipjax.results.tables import make_results
from flipjax.support.frames import to_frame, write_csv

SIZES = (20, 50, 200)
SEEDS = (2, 3, 4, 5, 8, 20)
KEYS = ("risk_auroc", "risk_aurc", "top_decile_flip_share")
"""What is no rate: audits.py has the rates."""
IMAGES = {
    "sizes vary": "flip shares Beta(0.5, 2), objects of 50 to 150 pixels",
    "equal sizes": "flip shares Beta(0.5, 2), objects of 100 pixels",
    "all or nothing": "a tenth of the images wholly flipped, objects of 50 to 150 pixels",
}
MANY = 200_000
"""Images whose number stands for the truth."""
SEED_MEANS = {
    "normal (0.3, 0.05)": 0.3,
    "Beta(0.5, 2)": 0.2,
    "lognormal": float(np.exp(-2.5) * norm.cdf(2) + norm.sf(3)),
}
"""What a quantity of seeds is drawn from, and its mean; lognormal is exp(-3 + z), cut off at 1."""


def draw_shares(generator, simulation, n):
    """Returns the expected flip shares of n images and the pixels of their objects."""
    if simulation == "equal sizes":
        pixels = np.full(n, 100)
    else:
        pixels = generator.integers(50, 151, n)
    if simulation == "all or nothing":
        shares = (generator.random(n) < 0.1) * 1.0
    else:
        shares = generator.beta(0.5, 2, n)
    return shares, pixels


def draw_model(generator, shares, pixels):
    """Returns a decomposition of images with these flip shares, and a flip-risk that says something of them."""
    flipped = generator.binomial(pixels, shares)
    confusion = np.zeros((len(shares), 3, 3), np.int64)
    confusion[:, 0, 0] = 100
    confusion[:, 1, 1] = pixels - flipped
    confusion[:, 1, 2] = flipped
    risk = np.abs(0.2 + 0.6 * shares + 0.3 * generator.normal(size=len(shares)))
    return Decomposition(confusion, risk * pixels)


def count(intervals, truth):
    """Returns how many intervals there are, the share that hold the truth, and their mean width."""
    low, high = np.array([ends for ends in intervals if not math.isnan(ends[0])]).reshape(-1, 2).T
    held = math.nan
    if len(low):
        held = float(((low <= truth) & (truth <= high)).mean())
    return {"samples": len(low), "coverage": round(held, 4), "width": round(float((high - low).mean()), 4)}


def over_images(generator, simulation, n, repetitions, *, keys=KEYS, samples=400):
    """Yields rows: intervals of one model's numbers over its images."""
    large = summarize(draw_model(generator, *draw_shares(generator, simulation, MANY)))
    intervals = []
    for repetition in range(repetitions):
        model = draw_model(generator, *draw_shares(generator, simulation, n))
        intervals.append(bootstrap(model, keys, key=jax.random.key(repetition), samples=samples))
    for key in keys:
        row = {"interval": "images", "simulation": simulation, "n": n, "quantity": key}
        yield row | count([of_model[key] for of_model in intervals], large[key])


def over_pairs(generator, n, repetitions):
    """Yields rows: images that come in pairs of one object, dependent, with `pairs` and as if each were alone."""
    large = summarize(draw_model(generator, *draw_shares(generator, "sizes vary", MANY)))
    intervals = {(told, key): [] for told in (True, False) for key in ("fg_flip", "risk_auroc")}
    for repetition in range(repetitions):
        one = draw_model(generator, *draw_shares(generator, "sizes vary", n // 2))
        twice = Decomposition(np.repeat(one.confusion, 2, 0), np.repeat(one.risk_sum, 2))
        flips = pixel_ratios(twice.confusion).flip
        for told in (True, False):
            pairs = None
            if told:
                pairs = np.repeat(np.arange(n // 2), 2)
            of_auroc = bootstrap(twice, "risk_auroc", key=jax.random.key(repetition), pairs=pairs)
            intervals[told, "fg_flip"].append(estimate_rate(flips, clusters=pairs)[1:])
            intervals[told, "risk_auroc"].append(of_auroc)
    for (told, key), of_key in intervals.items():
        name = "pairs, not told"
        if told:
            name = "pairs"
        row = {"interval": name, "simulation": "sizes vary", "n": n, "quantity": key}
        yield row | count(of_key, large[key])


def cell_of(models):
    """Returns a cell of models on the same test images, one group."""
    n = len(models[0].confusion)
    members = np.array([f"m{number}" for number in range(len(models))])
    curves = Curves(
        member=members,
        epochs=np.zeros(len(models)),
        measure=np.zeros(0, np.str_),
        curves=np.zeros((len(models), 0, 0)),
    )
    results = make_results(
        curves,
        [{"seed": seed} for seed in range(len(models))],
        rules=("val_loss",),
        status=["finished"] * len(models),
        best_epoch=np.ones((1, len(models))),
        class_names=("background", "cat", "dog"),
        scene_names=("land", "sea"),
        groups=Groups(),
    )
    images = ImageResults(
        member=members,
        image_part=np.full(n, "test"),
        image_group=np.zeros(n, int),
        pair=np.full(n, -1),
        object_row=np.zeros(n, int),
        scene_row=np.zeros(n, int),
        confusion=np.stack([model.confusion for model in models])[None],
        risk_sum=np.stack([model.risk_sum for model in models])[None],
    )
    return Cell(results, stored_images=images)


def over_models(generator, simulation, n, repetitions):
    """Yields rows: the mean of two seeds, tested on the same images."""
    large = summarize(draw_model(generator, *draw_shares(generator, simulation, MANY)))
    intervals = {"risk_auroc": []}
    if simulation == "sizes vary":
        # Where all is flipped or nothing, two models flip the same.
        intervals = {"fg_flip": [], "risk_auroc": []}
    for _ in range(repetitions):
        images = draw_shares(generator, simulation, n)
        models = [draw_model(generator, *images) for _ in range(2)]
        cell = cell_of(models)
        of_cell = Resamples({"000": cell}, samples=400).intervals(cell.members, "val_loss")
        for name, ends in intervals.items():
            ends.append(tuple(of_cell[name]))
    for name, ends in intervals.items():
        row = {"interval": "mean of 2 seeds", "simulation": simulation, "n": n, "quantity": name}
        yield row | count(ends, large[name])


def draw_seeds(generator, simulation, n):
    """Returns a quantity of n seeds."""
    if simulation == "normal (0.3, 0.05)":
        return generator.normal(0.3, 0.05, n)
    if simulation == "Beta(0.5, 2)":
        return generator.beta(0.5, 2, n)
    return np.minimum(generator.lognormal(-3, 1, n), 1)


def over_seeds(generator, n, repetitions):
    """Yields rows: Student's t over seeds."""
    for simulation, truth in SEED_MEANS.items():
        tables = []
        for _ in range(repetitions):
            values = draw_seeds(generator, simulation, n)
            tables.append(estimate(pd.DataFrame({"status": "done", "fg_flip": values})))
        ends = [tuple(table[["low", "high"]].iloc[0]) for table in tables]
        yield {"interval": "seeds", "simulation": simulation, "n": n, "quantity": "fg_flip"} | count(ends, truth)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=1000, help="samples a row (default %(default)s)")
    repetitions = parser.parse_args().repetitions
    generator = np.random.default_rng(0)
    rows = []
    for n in SIZES:
        for simulation in IMAGES:
            rows += over_images(generator, simulation, n, repetitions)
        for simulation in ("sizes vary", "all or nothing"):
            rows += over_models(generator, simulation, n, repetitions)
        rows += over_pairs(generator, n, repetitions)
    for n in SEEDS:
        rows += over_seeds(np.random.default_rng(n), n, repetitions)
    table = to_frame(rows)
    print(table.to_string(index=False))
    write_csv(pathlib.Path(__file__).with_name("results.csv"), table)


if __name__ == "__main__":
    main()
