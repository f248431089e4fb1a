"""Samples a second of populations of K small U-Nets on a CPU: flipjax, plain vmap, and PyTorch one model after another.

    python sweeps/benchmarks/throughput/bench.py [--members 1 4 16 64] [--rounds 5] [--out results.csv]

Every contender lives in processes of its own and waits while another works. For each K they take turns, round after
round. The first epoch, compilation included, is timed apart. PyTorch is measured where it can be imported. Needs Linux.
"""

import argparse
import importlib.util
import pathlib
import platform
import statistics
import time
from importlib.metadata import version

from contest import CORES, Contender, compare

from flipjax.results.frames import write_csv

HERE = pathlib.Path(__file__).parent
LOOP, PLAIN, TORCH = "flipjax loop", "plain vmap", "PyTorch"
BARS = {TORCH: 1.15, PLAIN: 8.0}
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
    Contender(PLAIN, "jax_contenders", "plain", slow=True),
    Contender(TORCH, "torch_twin", "threads"),
    Contender("PyTorch, malloc tuned", "torch_twin", "threads", environment=MALLOC),
    Contender("PyTorch, malloc tuned, a process a core", "torch_twin", "single", CORES, MALLOC),
)


def check_twin(running):
    """Asks PyTorch to repeat flipjax's losses from the same weights."""
    if LOOP in running and TORCH in running:
        reference = running[LOOP].ask("reference")[1]
        count, difference = running[TORCH].ask("check", *reference)[1]
        print(
            f"the PyTorch twin: {count:,} parameters; from the same weights, the losses before and after an Adam step"
        )
        print(f"differ from flipjax's by at most {difference:.0e}")


def ratio(result, members, other):
    """Returns median and range, over rounds, of the loop's speed by another's; None where one is not measured."""
    speeds = {running.contender.name: running.speeds for running in result if running.members == members}
    if LOOP not in speeds or other not in speeds:
        return None
    every = 1 if len(speeds[other]) == len(speeds[LOOP]) else 2
    ratios = [a / b for a, b in zip(speeds[LOOP][::every], speeds[other], strict=True)]
    return statistics.median(ratios), min(ratios), max(ratios)


def print_table(result):
    print(f"{'':40}{'K':>4}{'samples/s':>11}{'range':>16}{'compile s':>11}{'peak RSS MB':>13}")
    for row in (running.row() for running in result):
        spread = f"{float(row['lowest']):.0f} to {float(row['highest']):.0f}"
        print(
            f"{row['contender']:40}{row['members']:>4}{row['samples_per_second']:>11}{spread:>16}"
            f"{row['compile_seconds']:>11}{row['peak_rss_megabytes']:>13}"
        )


def print_ratios(result):
    for members in dict.fromkeys(running.members for running in result):
        for other in dict.fromkeys(running.contender.name for running in result):
            if other == LOOP or not (seen := ratio(result, members, other)):
                continue
            bar = BARS.get(other) if members == 16 else None
            verdict = f"; bar {bar:g}: {'reached' if seen[0] >= bar else 'MISSED'}" if bar else ""
            print(f"K = {members:<3} {LOOP} / {other}: {seen[0]:.2f} ({seen[1]:.2f} to {seen[2]:.2f}){verdict}")


def print_memory(result):
    """Prints the growth of peak resident memory a member; K = 1 is left out: it uses fewer devices and processes."""
    for name in dict.fromkeys(running.contender.name for running in result):
        peaks = [(r.members, r.peak) for r in result if r.contender.name == name and r.members > 1]
        if len(peaks) > 1:
            (few, low), (many, high) = peaks[0], peaks[-1]
            print(f"{name}: peak RSS grows by {(high - low) / (many - few):.1f} MB a member from K = {few} to {many}")


def cpu_model():
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown CPU")


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, nargs="+", default=(1, 4, 16, 64))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.2, help="of one turn, about")
    parser.add_argument("--out", type=pathlib.Path, default=HERE / "results.csv")
    return parser.parse_args()


def main():
    options = parse()
    contenders = CONTENDERS
    packages = ["jax", "flax", "torch"]
    if not importlib.util.find_spec("torch"):
        print("PyTorch cannot be imported (pip install -e '.[bench]'): its rows are left out")
        packages, contenders = packages[:2], [c for c in contenders if c.module != "torch_twin"]
    versions = ", ".join(f"{package} {version(package)}" for package in packages)
    print(f"{cpu_model()}, {CORES} cores, Python {platform.python_version()}, {versions}", flush=True)
    began, result = time.perf_counter(), []
    for members in options.members:
        after = None if result else check_twin
        result += compare(contenders, members, rounds=options.rounds, seconds=options.seconds, after=after)
    print_table(result)
    print_ratios(result)
    print_memory(result)
    write_csv(options.out, [running.row() for running in result])
    retaken, disturbed = sum(running.retaken for running in result), sum(running.disturbed for running in result)
    print(f"other programs: {retaken} turns taken again, {disturbed} disturbed to the last and kept")
    print(f"{time.perf_counter() - began:.0f} s; written to {options.out}")


if __name__ == "__main__":
    main()
