"""How often a grid without any difference gets a verdict: python sweeps/studies/coverage/verdicts.py

Draws the results of grids of several methods at two levels of rho, asks flipjax for the verdicts of a page on the five
quantities that it judges, and counts. In null grids no method differs from the reference; in the others half of the
methods are lower by .1 or .2. Seeds are paired, and what a method adds to a seed has a standard deviation of .03,
normal or skewed. Prints the rows and writes verdicts.csv beside this file.
"""

import argparse
import itertools
import pathlib

import numpy as np
import pandas as pd

from flipjax.results.estimates import FEWEST, JUDGED, estimate, judge
from flipjax.results.frames import write_csv

SEEDS = (2, 3, 4, 5, 8)
METHODS = (1, 4, 12)
LEVELS = 2
NOISE = {
    "normal": lambda generator, shape: generator.normal(0, 0.03, shape),
    "lognormal": lambda generator, shape: 0.014 * (generator.lognormal(0, 1, shape) - np.exp(0.5)),
}


def count(generator, noise, *, seeds, methods, effect, grids):
    """Returns the share of grids with a verdict on no difference, and the share of the real differences found."""
    values = noise(generator, (seeds, grids, methods + 1, LEVELS, len(JUDGED)))
    differences = values[:, :, 1:] - values[:, :, :1]
    real = np.arange(methods) < (methods + 1) // 2 if effect else np.zeros(methods, bool)
    differences[:, :, real] -= effect
    flat = differences.reshape(seeds, -1)
    # Any name of a quantity does: each column is one comparison of one grid.
    records = pd.DataFrame(flat, columns=[f"group/{place}/gap/mean" for place in range(flat.shape[1])])
    records.insert(0, "status", "finished")
    table = estimate(records).rename(columns={"mean": "difference"})
    of_real = np.repeat(real, LEVELS * len(JUDGED))
    false, found = 0, 0
    for own in np.split(np.arange(flat.shape[1]), grids):
        page = table.iloc[own].assign(quantity=list(JUDGED) * (methods * LEVELS))
        verdict = judge(page)[0]["verdict"].to_numpy()
        false += bool((verdict[~of_real] != "").any())
        found += int((verdict[of_real] == "lower").sum())
    share = found / (of_real.sum() * grids) if effect else np.nan
    return {"grids": grids, "false": round(false / grids, 4), "found": round(float(share), 4)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--grids", type=int, default=500, help="grids a row, of null grids four times as many (default %(default)s)"
    )
    grids = parser.parse_args().grids
    generator = np.random.default_rng(0)
    rows = []
    for name, seeds, methods, effect in itertools.product(NOISE, SEEDS, METHODS, (0.0, 0.1, 0.2)):
        setting = {"seeds": seeds, "methods": methods, "effect": effect}
        # Below FEWEST seeds the rule gives no verdict, which a few grids show.
        own = max(1, grids // 20) if seeds < FEWEST else grids if effect else 4 * grids
        rows.append({"noise": name} | setting | count(generator, NOISE[name], grids=own, **setting))
        print(rows[-1], flush=True)
    write_csv(pathlib.Path(__file__).with_name("verdicts.csv"), pd.DataFrame(rows))


if __name__ == "__main__":
    main()
