"""Samples a second of populations of K small U-Nets on a CPU: flipjax, plain vmap, and PyTorch one model after another.

    python sweeps/throughput/bench.py [--members 1 4 16 64] [--rounds 5] [--out results.csv]
    python sweeps/throughput/bench.py --parts            # what the loop's time goes to, at K = 16; writes parts.csv

Every contender lives in processes of its own and waits while another works. For each K they take turns, round after
round. The first epoch, compilation included, is timed apart. PyTorch is measured where it can be imported.
"""

import argparse
import contextlib
import csv
import dataclasses
import importlib
import importlib.util
import multiprocessing
import os
import pathlib
import platform
import statistics
import time
from importlib.metadata import version

HERE = pathlib.Path(__file__).parent
BATCH, BAR_PYTORCH, BAR_VMAP = 16, 1.15, 8.0
LOOP, PLAIN, TORCH = "flipjax loop", "plain vmap", "PyTorch"
MALLOC = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": "1073741824",
    "MALLOC_TRIM_THRESHOLD_": "4294967296",
    "MALLOC_TOP_PAD_": "67108864",
}
PARTS = (None, "convolutions", "batch norm", "Adam", "composites and flips")


@dataclasses.dataclass(frozen=True)
class Contender:
    name: str
    module: str
    kind: str
    processes: int = 1
    environment: tuple = ()
    slow: bool = False
    part: str | None = None

    def steps(self, members):
        """Steps of a member in one epoch: enough for about two seconds, few where a step takes seconds."""
        return max(1, min(16, 16 // members)) if self.slow else max(4, min(32, 128 // members))

    def takes(self, members):
        return members % self.processes == 0 and (members <= 16 or not self.slow)


CONTENDERS = (
    Contender(LOOP, "jax_contenders", "loop"),
    Contender("flipjax vmap", "jax_contenders", "vmap", slow=True),
    Contender(PLAIN, "jax_contenders", "plain", slow=True),
    Contender(TORCH, "torch_twin", "threads"),
    Contender("PyTorch, malloc tuned", "torch_twin", "threads", environment=tuple(MALLOC.items())),
    Contender("PyTorch, malloc tuned, a process per core", "torch_twin", "single", len(os.sched_getaffinity(0)),
              tuple(MALLOC.items())),
)


def serve(pipe, module, kind, options):
    """A contender's process: builds it, then answers until told to stop."""
    contender = importlib.import_module(module).make(kind, **options)
    while (request := pipe.recv()) is not None:
        method, repeats, arguments = request
        for _ in range(repeats):
            answer = getattr(contender, method)(*arguments)
        pipe.send((answer, peak_megabytes()))


def peak_megabytes():
    """Peak resident memory of this program alone (ru_maxrss would begin at that of the process it was forked from)."""
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


class Running:
    """A contender's processes at one K."""

    def __init__(self, contender, members):
        self.contender, self.members = contender, members
        self.steps, self.samples = contender.steps(members), members * contender.steps(members) * BATCH
        self.repeats, self.speeds, self.peak = 1, [], 0.0
        options = {
            "members": members // contender.processes,
            "steps": self.steps,
            "cores": len(os.sched_getaffinity(0)),
            "part": contender.part,
        }
        context = multiprocessing.get_context("spawn")
        self.pipes, self.processes = [], []
        with environment(dict(contender.environment)):
            for _ in range(contender.processes):
                here, there = context.Pipe()
                process = context.Process(
                    target=serve, args=(there, contender.module, contender.kind, options), daemon=True
                )
                process.start()
                there.close()
                self.pipes.append(here)
                self.processes.append(process)

    def ask(self, method, *arguments, repeats=1):
        """Seconds until every process has answered, and the first one's answer."""
        start = time.perf_counter()
        for pipe in self.pipes:
            pipe.send((method, repeats, arguments))
        answers = [pipe.recv() for pipe in self.pipes]
        self.peak = sum(peak for _, peak in answers)
        return time.perf_counter() - start, answers[0][0]

    def warm_up(self, seconds):
        for pipe in self.pipes:
            pipe.send(("__repr__", 1, ()))
        for pipe in self.pipes:
            pipe.recv()
        self.first = self.ask("epoch")[0]
        if self.first > 1:
            self.repeats = max(1, round(seconds / self.ask("epoch")[0]))
        else:
            self.repeats = max(1, round(seconds / min(self.ask("epoch")[0] for _ in range(2))))

    def measure(self):
        elapsed, _ = self.ask("epoch", repeats=self.repeats)
        self.speeds.append(self.repeats * self.samples / elapsed)

    def stop(self):
        for pipe, process in zip(self.pipes, self.processes, strict=True):
            pipe.send(None)
            process.join()

    def row(self):
        median = statistics.median(self.speeds)
        return {
            "contender": self.contender.name,
            "members": self.members,
            "samples_per_second": f"{median:.1f}",
            "lowest": f"{min(self.speeds):.1f}",
            "highest": f"{max(self.speeds):.1f}",
            "rounds": len(self.speeds),
            "samples_per_round": self.repeats * self.samples,
            "compile_seconds": f"{max(0.0, self.first - self.samples / median):.1f}",
            "peak_rss_megabytes": f"{self.peak:.0f}",
        }


@contextlib.contextmanager
def environment(values):
    """Sets variables that a process started within inherits; glibc reads its own at the start only."""
    os.environ.update(values)
    try:
        yield
    finally:
        for name in values:
            del os.environ[name]


def compare(contenders, members, options):
    """All contenders at one K, taking turns; the order moves on by one each round."""
    found = [Running(contender, members) for contender in contenders if contender.takes(members)]
    for running in found:
        running.warm_up(options.seconds)
    for number in range(options.rounds):
        start = number % len(found)
        for running in found[start:] + found[:start]:
            if not (running.contender.slow and members > 1 and number % 2):
                running.measure()
    names = {running.contender.name: running for running in found}
    if options.check and LOOP in names and TORCH in names:
        reference = names[LOOP].ask("reference")[1]
        count, difference = names[TORCH].ask("check", *reference)[1]
        print(f"twin: {count:,} parameters; three Adam steps from the same weights: losses differ by <= {difference:.0e}")
    for running in found:
        running.stop()
    return found


def ratio(found, members, other):
    """Median over rounds of flipjax loop / other, and its range; None where one of them was not measured."""
    speeds = {running.contender.name: running.speeds for running in found if running.members == members}
    if LOOP not in speeds or other not in speeds:
        return None
    ours = speeds[LOOP][:: 1 if len(speeds[other]) == len(speeds[LOOP]) else 2]
    ratios = [a / b for a, b in zip(ours, speeds[other], strict=True)]
    return statistics.median(ratios), min(ratios), max(ratios)


def print_table(found):
    print(f"{'':42}{'K':>4}{'samples/s':>11}{'range':>18}{'compile s':>11}{'peak MB':>9}")
    for running in found:
        row = running.row()
        spread = f"{float(row['lowest']):.0f} to {float(row['highest']):.0f}"
        print(
            f"{row['contender']:42}{row['members']:>4}{row['samples_per_second']:>11}{spread:>18}"
            f"{row['compile_seconds']:>11}{row['peak_rss_megabytes']:>9}"
        )


def print_ratios(found):
    for members in sorted({running.members for running in found}):
        for other in dict.fromkeys(running.contender.name for running in found):
            if other == LOOP or not (seen := ratio(found, members, other)):
                continue
            bar = {TORCH: BAR_PYTORCH, PLAIN: BAR_VMAP}.get(other) if members == 16 else None
            verdict = f"  bar {bar:g}: {'reached' if seen[0] >= bar else 'MISSED'}" if bar else ""
            print(f"K = {members:<3} {LOOP} / {other}: {seen[0]:.2f} ({seen[1]:.2f} to {seen[2]:.2f}){verdict}")


def print_memory(found):
    """Growth of the peak resident memory a member, between the smallest and the largest K on as many devices."""
    for name in dict.fromkeys(running.contender.name for running in found):
        peaks = [(r.members, r.peak) for r in found if r.contender.name == name and r.members > 1]
        if len(peaks) > 1:
            (few, low), (many, high) = peaks[0], peaks[-1]
            print(f"{name}: peak RSS grows by {(high - low) / (many - few):.1f} MB a member, K = {few} to {many}")


def write_csv(path, rows):
    temporary = path.with_suffix(".tmp")
    with temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    os.replace(temporary, path)


def cpu_model():
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, nargs="+", default=(1, 4, 16, 64))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of one measurement, about")
    parser.add_argument("--parts", action="store_true", help="measure flipjax's loop with parts of it taken out")
    parser.add_argument("--out", type=pathlib.Path)
    options = parser.parse_args()
    options.check = not options.parts
    contenders, sizes, out = CONTENDERS, options.members, options.out or HERE / "results.csv"
    if options.parts:
        contenders = [dataclasses.replace(CONTENDERS[0], name=f"without {part}" if part else LOOP, part=part)
                      for part in PARTS]
        sizes, out = (16,), options.out or HERE / "parts.csv"
    packages = ["jax", "flax", "torch"]
    if not importlib.util.find_spec("torch"):
        print("PyTorch cannot be imported (pip install -e '.[bench]'): its rows are left out")
        packages, contenders = packages[:2], [c for c in contenders if c.module != "torch_twin"]
    print(f"{cpu_model()}, {len(os.sched_getaffinity(0))} cores, {platform.system()}, Python {platform.python_version()},",
          ", ".join(f"{package} {version(package)}" for package in packages))
    began, found = time.perf_counter(), []
    for members in sizes:
        found += compare(contenders, members, options)
        options.check = False
    print_table(found)
    print_ratios(found)
    print_memory(found)
    write_csv(out, [running.row() for running in found])
    print(f"{time.perf_counter() - began:.0f} s; {out}")


if __name__ == "__main__":
    main()
