"""Samples a second and memory of K U-Nets at three sizes of image, beside the best PyTorch and what the cores multiply.

    python sweeps/benchmarks/throughput/scale.py [--sizes 32 64 128] [--rounds 2] [--out scale.csv]

K goes up to where a turn takes half a minute: 256 at 32 px, 64 at 64 px, 16 at 128 px. The limit is the speed of a
product of two float32 matrices of 2,048 x 2,048 on all cores, in the same run, over the operations of a sample, as XLA
counts them in the compiled step. Needs Linux; PyTorch is measured where it can be imported.
"""

import argparse
import dataclasses
import importlib.util
import pathlib
import platform
import time

import jax
import jax.numpy as jnp
from bench import CONTENDERS, HERE, LOOP, cpu_model
from contest import CORES, compare

from flipjax.results.frames import write_csv

LARGEST = {32: 256, 64: 64, 128: 16}
MEMBERS = (1, 4, 16, 64, 256)
BEST = "PyTorch, malloc tuned, a process a core"
SIDE = 2048


def product_speed(repeats=20):
    """Returns operations a second of a matrix product on all cores: the best of `repeats`."""
    matrix = jnp.ones((SIDE, SIDE), jnp.float32)
    multiply = jax.jit(jnp.matmul)
    multiply(matrix, matrix).block_until_ready()
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        multiply(matrix, matrix).block_until_ready()
        best = min(best, time.perf_counter() - start)
    return 2 * SIDE**3 / best


def measure(size, members, rounds):
    """Returns rows of the contenders at one size and K."""
    names = [LOOP] + ([BEST] if importlib.util.find_spec("torch") else [])
    contenders = [dataclasses.replace(c, size=size) for c in CONTENDERS if c.name in names]
    operations = []
    result = compare(
        contenders,
        members,
        rounds=rounds,
        seconds=1.2,
        after=lambda running: operations.append(running[LOOP].ask("operations")[1]),
    )
    limit = product_speed() / operations[0]
    for row in (running.row() for running in result):
        share = float(row["samples_per_second"]) / limit
        facts = {"size": size, "mflop_a_sample": f"{operations[0] / 1e6:.1f}"}
        row["limit_samples_per_second"] = f"{limit:.0f}"
        yield {**facts, **row, "share_of_limit": f"{share:.3f}"}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=tuple(LARGEST), choices=LARGEST)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--out", type=pathlib.Path, default=HERE / "scale.csv")
    options = parser.parse_args()
    print(f"{cpu_model()}, {CORES} cores, Python {platform.python_version()}, JAX {jax.__version__}", flush=True)
    rows = []
    for size in options.sizes:
        for members in [members for members in MEMBERS if members <= LARGEST[size]]:
            for row in measure(size, members, options.rounds):
                rows.append(row)
                keys = ("samples_per_second", "limit_samples_per_second", "share_of_limit", "peak_rss_megabytes")
                print(f"{size:>4} px  K {members:<4} {row['contender']:42}", *(row[key] for key in keys), flush=True)
            write_csv(options.out, rows)


if __name__ == "__main__":
    main()
