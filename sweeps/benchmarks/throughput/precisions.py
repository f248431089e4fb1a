"""Samples a processor second of a member's epochs in float32 and in bfloat16, by either library, in turn.

    taskset -c 0 python sweeps/benchmarks/throughput/precisions.py [--width 8 16 32] [--size 32 64] [--rounds 6]
                                                                  [--out FILE]

One process, one core. `gain` is the median over rounds of the time of XLA's own convolutions in float32 by that of a
row. oneDNN multiplies in bfloat16 on a processor that has AVX512-BF16 or AMX (`lscpu`).
"""

import argparse
import dataclasses
import itertools
import pathlib
import statistics

import jax
import jax_contenders
from contest import BATCH, CORES
from libraries import EPOCH, seconds_of

from flipjax.support.frames import write_csv


@dataclasses.dataclass(frozen=True)
class Form:
    """How a member's network computes."""

    library: str
    """Of its convolutions: `xla` or `onednn`."""
    dtype: str
    """Of its activations."""


PLAIN = Form("xla", "float32")
FORMS = (PLAIN, Form("onednn", "float32"), Form("xla", "bfloat16"), Form("onednn", "bfloat16"))
FLAGS = ("avx512_bf16", "amx_bf16")


def flags():
    """Returns which of the processor's instructions multiply in bfloat16."""
    words = pathlib.Path("/proc/cpuinfo").read_text().split()
    return [flag for flag in FLAGS if flag in words]


def prepare(form, *, size, width):
    """Returns a population of a form, compiled, and the samples of its epoch."""
    steps = max(1, EPOCH // (BATCH * size**2 * width))
    options = {"members": CORES, "steps": steps, "cores": CORES, "size": size, "width": width, "dtype": form.dtype}
    population = jax_contenders.make(form.library, **options)
    seconds_of(population)
    return population, CORES * steps * BATCH


def rows_of(size, width, rounds):
    """Returns a row for each form."""
    populations = {}
    for form in FORMS:
        populations[form], samples = prepare(form, size=size, width=width)
    times = {form: [] for form in FORMS}
    for number in range(rounds):
        for form in FORMS if number % 2 else reversed(FORMS):
            times[form].append(seconds_of(populations[form]))
    rows = []
    for form in FORMS:
        ratios = sorted(plain / other for plain, other in zip(times[PLAIN], times[form], strict=True))
        row = {"jax": jax.__version__, "width": width, "size": size, "library": form.library, "dtype": form.dtype}
        row["samples_per_second"] = f"{samples / statistics.median(times[form]):.0f}"
        row["gain"] = f"{statistics.median(ratios):.2f}"
        row["lowest"] = f"{ratios[0]:.2f}"
        row["highest"] = f"{ratios[-1]:.2f}"
        rows.append(row)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, nargs="+", default=(8, 16, 32))
    parser.add_argument("--size", type=int, nargs="+", default=(32, 64))
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent / "precisions.csv")
    options = parser.parse_args()
    print(f"JAX {jax.__version__}; this processor multiplies in bfloat16 by: {', '.join(flags()) or 'nothing'}")
    rows = []
    for width, size in itertools.product(options.width, options.size):
        rows += rows_of(size, width, options.rounds)
        for row in rows[-len(FORMS) :]:
            print(*row.values(), flush=True)
        write_csv(options.out, rows)


if __name__ == "__main__":
    main()
