"""Contenders in processes of their own, taking turns; a turn that other programs disturbed is taken again."""

import dataclasses
import importlib
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from multiprocessing.connection import Client, Listener

BATCH = 16
CORES = len(os.sched_getaffinity(0))
# Cores' worth of time that other programs may take in a turn, and how often a turn is taken again.
QUIET, ATTEMPTS = 0.1, 10


@dataclasses.dataclass(frozen=True)
class Contender:
    """What trains: `make` of a module in processes of their own."""

    name: str
    module: str
    kind: str
    """What `make` is asked for, with `augmented`, `size` and `width`."""
    processes: int = 1
    environment: tuple = ()
    """Of the processes, such as glibc's, which is read at their start."""
    slow: bool = False
    """Whether an epoch has fewer steps and a turn is taken every other round; such a one takes 16 members at most."""
    most: int | None = None
    """The most members that it takes."""
    augmented: bool = False
    size: int = 32
    width: int = 16
    python: str = sys.executable
    """The interpreter of its processes."""

    def steps(self, members):
        """Returns steps of a member in one epoch: about a second in all; fewer where a single step takes that long."""
        steps = max(1, min(16, 16 // members)) if self.slow else max(2, min(32, 64 // members))
        return max(1, steps * 32**2 * 16 // (self.size**2 * self.width))

    def takes(self, members):
        few = self.most or (16 if self.slow else members)
        return members % self.processes == 0 and members <= few


def serve(module, kind, options, address):
    """Builds a contender in this process, then answers until told to stop, or until nobody listens."""
    with Client(address) as pipe:
        contender = importlib.import_module(module).make(kind, **json.loads(options))
        pipe.send(None)
        while (request := pipe.recv()) is not None:
            method, repeats, arguments = request
            for _ in range(repeats):
                answer = getattr(contender, method)(*arguments)
            pipe.send((answer, peak_megabytes()))


def start_process(line, environment=None):
    """Starts a command whose last argument is the address of its pipe; returns process and pipe once it has called."""
    with tempfile.TemporaryDirectory() as folder, Listener(f"{folder}/pipe") as listener:
        process = subprocess.Popen([*line, listener.address], env=os.environ | (environment or {}))
        return process, listener.accept()


def peak_megabytes():
    """Returns this program's own peak resident memory (ru_maxrss begins at that of the process it was forked from)."""
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def busy_seconds():
    """Returns processor time since boot, all programs: user, nice, system, and interrupts."""
    user, nice, system, _, _, *interrupts = map(int, pathlib.Path("/proc/stat").read_text().split("\n")[0].split()[1:8])
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")


def process_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Running:
    """A contender's processes at one K."""

    def __init__(self, contender, members):
        self.contender, self.members = contender, members
        self.samples = members * contender.steps(members) * BATCH
        self.repeats, self.speeds, self.peak, self.retaken, self.disturbed = 1, [], 0.0, 0, 0
        options = {
            "members": members // contender.processes,
            "steps": contender.steps(members),
            "cores": CORES,
            "augmented": contender.augmented,
            "size": contender.size,
            "width": contender.width,
        }
        self.pipes, self.processes = [], []
        for _ in range(contender.processes):
            line = [contender.python, __file__, contender.module, contender.kind, json.dumps(options)]
            process, pipe = start_process(line, dict(contender.environment))
            self.processes.append(process)
            self.pipes.append(pipe)

    def wait_until_ready(self):
        for pipe in self.pipes:
            pipe.recv()

    def ask(self, method, *arguments, repeats=1):
        """Returns seconds until every process has answered, and the first one's answer."""
        start = time.perf_counter()
        for pipe in self.pipes:
            pipe.send((method, repeats, arguments))
        answers = [pipe.recv() for pipe in self.pipes]
        self.peak = sum(peak for _, peak in answers)
        return time.perf_counter() - start, answers[0][0]

    def warm_up(self, seconds):
        """Runs the first epoch, timed, and a second, which tells how many make a turn."""
        self.first, _ = self.ask("epoch")
        self.repeats = max(1, round(seconds / self.ask("epoch")[0]))

    def measure(self, *, processor=False):
        """Takes a turn, again where others disturbed it; with `processor` by the processor time of all cores."""
        if processor:
            before = sum(process_seconds(process.pid) for process in self.processes)
            self.ask("epoch", repeats=self.repeats)
            spent = sum(process_seconds(process.pid) for process in self.processes) - before
            self.speeds.append(self.repeats * self.samples / (spent / CORES))
            return
        for attempt in range(ATTEMPTS):
            before = busy_seconds() - sum(process_seconds(process.pid) for process in self.processes)
            elapsed, _ = self.ask("epoch", repeats=self.repeats)
            after = busy_seconds() - sum(process_seconds(process.pid) for process in self.processes)
            quiet = after - before <= QUIET * elapsed
            if quiet:
                break
            self.retaken += attempt + 1 < ATTEMPTS
            time.sleep(2)
        self.disturbed += not quiet
        self.speeds.append(self.repeats * self.samples / elapsed)

    def stop(self):
        for pipe, process in zip(self.pipes, self.processes, strict=True):
            pipe.send(None)
            process.wait()

    def row(self):
        median = statistics.median(self.speeds)
        return {
            "contender": self.contender.name,
            "size": self.contender.size,
            "width": self.contender.width,
            "members": self.members,
            "samples_per_second": f"{median:.1f}",
            "lowest": f"{min(self.speeds):.1f}",
            "highest": f"{max(self.speeds):.1f}",
            "rounds": len(self.speeds),
            "disturbed_rounds": self.disturbed,
            "samples_per_round": self.repeats * self.samples,
            "compile_seconds": f"{max(0.0, self.first - self.samples / median):.1f}",
            "peak_rss_megabytes": f"{self.peak:.0f}",
        }


def compare(contenders, members, *, rounds, seconds, processor=False, after=None):
    """Asks all contenders at one K in turn, each round from the next one on; `after` gets them by name at the end."""
    result = [Running(contender, members) for contender in contenders if contender.takes(members)]
    for running in result:
        running.wait_until_ready()
    for running in result:
        running.warm_up(seconds)
    for number in range(rounds):
        start = number % len(result)
        for running in result[start:] + result[:start]:
            # Slow ones sit out every other round.
            if not (running.contender.slow and members > 1 and number % 2):
                running.measure(processor=processor)
    if after:
        after({running.contender.name: running for running in result})
    for running in result:
        running.stop()
    return result


if __name__ == "__main__":
    serve(*sys.argv[1:])
