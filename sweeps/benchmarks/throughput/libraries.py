"""Samples a processor second of a member's epochs with XLA's own convolutions and with oneDNN's, in turn.

    taskset -c 0 python sweeps/benchmarks/throughput/libraries.py [--width 8 16 32] [--size 32 48 64 128] [--rounds 8]
                                                                 [--out FILE]

One process, one core: its processor time is hardly changed by other programs. `gain` is the median over rounds of the
ratio of both times. The rule that it shows is `flipjax.backend.convolutions.faster_library`.
"""

import argparse
import itertools
import pathlib
import statistics
import time

import jax
import jax_contenders
from contest import BATCH, CORES

from flipjax.support.frames import write_csv

LIBRARIES = ("xla", "onednn")
EPOCH = 2**23
"""Pixels that an epoch trains on, times the width: about a quarter of a second."""


def prepare(width, size):
    """Returns a population for each library, with the seconds that its first epoch took, and the samples of one."""
    steps = max(1, EPOCH // (BATCH * size**2 * width))
    populations, compiled = {}, {}
    for name in LIBRARIES:
        populations[name] = jax_contenders.make(name, members=CORES, steps=steps, cores=CORES, size=size, width=width)
        first = seconds_of(populations[name])
        compiled[name] = first - seconds_of(populations[name])
    return populations, compiled, CORES * steps * BATCH


def seconds_of(population):
    """Returns the processor seconds of an epoch."""
    start = time.process_time()
    population.epoch()
    return time.process_time() - start


def measure(populations, rounds):
    """Returns the seconds of an epoch of each library, round after round."""
    times = {name: [] for name in populations}
    for number in range(rounds):
        for name in LIBRARIES if number % 2 else reversed(LIBRARIES):
            times[name].append(seconds_of(populations[name]))
    return times


def row_of(width, size, compiled, samples, times):
    """Returns a row of the table."""
    row = {"jax": jax.__version__, "width": width, "size": size}
    for name in LIBRARIES:
        row[f"{name}_samples"] = f"{samples / statistics.median(times[name]):.0f}"
        row[f"{name}_compile"] = f"{compiled[name]:.1f}"
    ratios = sorted(xla / onednn for xla, onednn in zip(times["xla"], times["onednn"], strict=True))
    row["gain"] = f"{statistics.median(ratios):.2f}"
    row["lowest"] = f"{ratios[0]:.2f}"
    row["highest"] = f"{ratios[-1]:.2f}"
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, nargs="+", default=(8, 16, 32))
    parser.add_argument("--size", type=int, nargs="+", default=(32, 48, 64, 128))
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent / "libraries.csv")
    options = parser.parse_args()
    rows = []
    for width, size in itertools.product(options.width, options.size):
        populations, compiled, samples = prepare(width, size)
        rows.append(row_of(width, size, compiled, samples, measure(populations, options.rounds)))
        print(*rows[-1].values(), flush=True)
        write_csv(options.out, rows)


if __name__ == "__main__":
    main()
