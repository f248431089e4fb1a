"""Samples a second of K small U-Nets on a CPU: flipjax, plain vmap, and PyTorch one model after another.

    python sweeps/benchmarks/throughput/bench.py [--size 32 64 128] [--members 1 4 16 64] [--rounds 5] [--out FILE]
                                                 [--only NAME ...] [--torch PYTHON] [--processor]

Every contender lives in processes of its own and waits while another works. For each size of image and K they take
turns, round after round. The first epoch, compilation included, is timed apart. The limit is the speed of a product of
two float32 matrices of 2,048 x 2,048 on all cores over the operations of a sample, as XLA counts them. PyTorch is
measured where it can be imported, or by another interpreter, `--torch`. Needs Linux.
"""

import argparse
import dataclasses
import itertools
import pathlib
import platform
import statistics
import subprocess
import sys
import time
from importlib.metadata import version

import jax
import jax.numpy as jnp
from contest import CORES, Contender, compare

from flipjax.support.frames import write_csv

HERE = pathlib.Path(__file__).parent
LOOP, PLAIN, TORCH = "flipjax loop", "plain vmap", "PyTorch"
# One arena that keeps what it has: no page is given back to the kernel and asked for again.
MALLOC = (
    ("MALLOC_ARENA_MAX", "1"),
    ("MALLOC_MMAP_THRESHOLD_", str(2**30)),
    ("MALLOC_TRIM_THRESHOLD_", str(2**32)),
    ("MALLOC_TOP_PAD_", str(2**26)),
)
CONTENDERS = (
    Contender(LOOP, "jax_contenders", "loop"),
    Contender("flipjax loop, batches shared by the cores", "jax_contenders", "shared", most=CORES // 2),
    Contender("flipjax loop, all augmentation", "jax_contenders", "loop", augmented=True),
    Contender("flipjax vmap", "jax_contenders", "vmap", slow=True),
    Contender("flipjax packed", "jax_contenders", "packed", slow=True),
    Contender(PLAIN, "jax_contenders", "plain", slow=True),
    Contender(TORCH, "torch_twin", "threads"),
    Contender("PyTorch, malloc tuned", "torch_twin", "threads", environment=MALLOC),
    Contender("PyTorch, malloc tuned, a process a core", "torch_twin", "single", CORES, MALLOC),
)


NAMES = [contender.name for contender in CONTENDERS]
VERSION = "import torch; print(torch.__version__)"


def product_speed(repeats=20):
    """Returns operations a second of a matrix product on all cores: the best of `repeats`."""
    matrix = jnp.ones((2048, 2048), jnp.float32)
    multiply = jax.jit(jnp.matmul)
    multiply(matrix, matrix).block_until_ready()
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        multiply(matrix, matrix).block_until_ready()
        best = min(best, time.perf_counter() - start)
    return 2 * 2048**3 / best


def check_twin(running):
    """Asks PyTorch to repeat flipjax's losses from the same weights."""
    if TORCH in running:
        reference = running[LOOP].ask("reference")[1]
        count, difference = running[TORCH].ask("check", *reference)[1]
        print(
            f"the PyTorch twin: {count:,} parameters; from the same weights, the losses before and after an Adam step"
        )
        print(f"differ from flipjax's by at most {difference:.0e}")


def ratio(result, other):
    """Returns median and range, over rounds, of the loop's speed by another's; None where one is not measured."""
    speeds = {running.contender.name: running.speeds for running in result}
    if LOOP not in speeds or other not in speeds:
        return None
    every = 1 if len(speeds[other]) == len(speeds[LOOP]) else 2
    ratios = [a / b for a, b in zip(speeds[LOOP][::every], speeds[other], strict=True)]
    return statistics.median(ratios), min(ratios), max(ratios)


def print_table(result):
    print(f"{'':40}{'px':>4}{'K':>4}{'samples/s':>11}{'range':>16}{'compile s':>11}{'peak RSS MB':>13}")
    for row in (running.row() for running in result):
        spread = f"{float(row['lowest']):.0f} to {float(row['highest']):.0f}"
        print(
            f"{row['contender']:40}{row['size']:>4}{row['members']:>4}{row['samples_per_second']:>11}{spread:>16}"
            f"{row['compile_seconds']:>11}{row['peak_rss_megabytes']:>13}"
        )


def print_ratios(result):
    for size, members in dict.fromkeys((running.contender.size, running.members) for running in result):
        same = [running for running in result if (running.contender.size, running.members) == (size, members)]
        for other in dict.fromkeys(running.contender.name for running in same):
            if other != LOOP and (seen := ratio(same, other)):
                text = f"{seen[0]:.2f} ({seen[1]:.2f} to {seen[2]:.2f})"
                print(f"{size} px, K = {members:<3} {LOOP} / {other}: {text}")


def print_memory(result):
    """Prints the growth of peak resident memory a member; K = 1 is left out: it uses fewer devices and processes."""
    for name, size in dict.fromkeys((running.contender.name, running.contender.size) for running in result):
        alike = [running for running in result if (running.contender.name, running.contender.size) == (name, size)]
        peaks = [(running.members, running.peak) for running in alike if running.members > 1]
        if len(peaks) > 1:
            (few, low), (many, high) = peaks[0], peaks[-1]
            growth = f"{(high - low) / (many - few):.1f} MB a member"
            print(f"{size} px, {name}: peak RSS grows by {growth} from K = {few} to {many}")


def cpu_model():
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown CPU")


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, nargs="+", default=(1, 4, 16, 64))
    parser.add_argument("--size", type=int, nargs="+", default=(32,), help="sides of the images in pixels")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.2, help="of one turn, about")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="contenders")
    parser.add_argument("--processor", action="store_true", help="by processor time, on a machine that others use, too")
    parser.add_argument("--torch", default=sys.executable, metavar="PYTHON", help="the interpreter that has PyTorch")
    parser.add_argument("--out", type=pathlib.Path, default=HERE / "results.csv")
    return parser.parse_args()


def main():
    options = parse()
    contenders = [contender for contender in CONTENDERS if contender.name in (options.only or NAMES)]
    versions = ", ".join(f"{package} {version(package)}" for package in ("jax", "flax"))
    torch = subprocess.run([options.torch, "-c", VERSION], capture_output=True, text=True).stdout.strip()
    if torch:
        versions += f", torch {torch}"
        python = {"torch_twin": options.torch}
        contenders = [dataclasses.replace(c, python=python.get(c.module, sys.executable)) for c in contenders]
    else:
        print("PyTorch cannot be imported (pip install -e '.[bench]'): its rows are left out")
        contenders = [contender for contender in contenders if contender.module != "torch_twin"]
    print(f"{cpu_model()}, {CORES} cores, Python {platform.python_version()}, {versions}", flush=True)
    began, result, rows, operations = time.perf_counter(), [], [], []

    def count(running):
        operations.append(running[LOOP].ask("operations")[1])
        # An Adam step at 64 px divides rounding by rounding.
        if running[LOOP].contender.size == 32:
            check_twin(running)

    for size, members in itertools.product(options.size, options.members):
        sized = [dataclasses.replace(c, size=size) for c in contenders if size == 32 or not c.augmented]
        alike = compare(
            sized, members, rounds=options.rounds, seconds=options.seconds, processor=options.processor, after=count
        )
        limit = product_speed() / operations[-1]
        facts = {"mflop_a_sample": f"{operations[-1] / 1e6:.1f}", "limit_samples_per_second": f"{limit:.0f}"}
        rows += [running.row() | facts for running in alike]
        share = max(statistics.median(running.speeds) for running in alike if running.contender.name == LOOP) / limit
        print(f"{size} px, K = {members}: {LOOP} at {share:.2f} of a matrix product", flush=True)
        result += alike
        write_csv(options.out, rows)
    print_table(result)
    print_ratios(result)
    print_memory(result)
    retaken, disturbed = sum(running.retaken for running in result), sum(running.disturbed for running in result)
    print(f"other programs: {retaken} turns taken again, {disturbed} disturbed to the last and kept")
    print(f"{time.perf_counter() - began:.0f} s; written to {options.out}")


if __name__ == "__main__":
    main()
