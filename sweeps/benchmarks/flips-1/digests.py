"""Prints the digests of flips-1 as this machine makes them, beside those of flipjax/data/sources/flips/digests.json.

Command: python sweeps/benchmarks/flips-1/digests.py [--write]

Ends with exit code 1 if one differs. --write replaces the file, for another version of the benchmark alone.
"""

import argparse
import json
import pathlib
import sys

import jax
import numpy as np

from flipjax import configure, data
from flipjax.config import PoolSpec
from flipjax.data.member_images import digests_of_member
from flipjax.data.sources import flips
from flipjax.data.sources.arrays import ArrayData

FILE = pathlib.Path(flips.__file__).parent / "digests.json"
LEVELS = {
    "flips-1": (0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0),
    "flips-1:four": (0.25, 0.5, 0.8, 0.9, 0.95, 0.99, 1.0),
}
SEEDS = range(5)


def make_digests() -> dict[str, dict[str, str]]:
    """Returns the digest of each part by form."""
    made = {}
    for name, rhos in LEVELS.items():
        config = configure(name)
        spec = PoolSpec(name=flips.NAME, classes=config.pool.classes, scene_kinds=config.pool.scene_kinds)
        pool, catalog = flips.draw_pool(spec)
        digests = flips.digests_of_pool(pool)
        for rho in rhos:
            for seed in SEEDS:
                member = data.benchmark(config, rho=rho, seed=seed, data=ArrayData(pool, catalog))
                digests.update(digests_of_member(member))
        made[flips.form_of(catalog)] = digests
    return made


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true")
    made = make_digests()
    if parser.parse_args().write:
        FILE.write_text(json.dumps(made, indent=1) + "\n")
    recorded = flips.recorded_digests()
    differing = [
        f"{form}, {part}"
        for form, digests in made.items()
        for part, digest in digests.items()
        if recorded[form][part] != digest
    ]
    count = sum(map(len, made.values()))
    print(f"Python {sys.version.split()[0]}, NumPy {np.__version__}, JAX {jax.__version__}")
    print(f"digest of all: {flips.digest_of_array(np.frombuffer(json.dumps(made).encode(), np.uint8))}")
    print(f"{count - len(differing)} of {count} digests are those of digests.json")
    print(*differing, sep="\n", end="\n" if differing else "")
    return int(bool(differing))


if __name__ == "__main__":
    sys.exit(main())
