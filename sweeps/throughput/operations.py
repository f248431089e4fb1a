"""What a training step's time goes to on one core: python sweeps/throughput/operations.py [SIZE]

The loop of `bench.py` at K = 1 under JAX's profiler: milliseconds a step of each kind of operation, and of the
convolutions by the shape that comes out, forward and backward. Two versions of JAX are compared by two runs.
"""

import collections
import os
import pathlib
import platform
import re
import sys
import tempfile

import jax
import jax_contenders as contenders

from flipjax.training import population

STEPS = 20
MOST = 12


def bodies(text):
    """The text of each computation of a compiled module, by name."""
    return {part.split()[0].lstrip("%"): part for part in re.split(r"\n(?=%|ENTRY)", text) if part.strip()}


def kind_of(name, text, computations):
    """Says what an operation of the profile is: a convolution with its output, a reduction, or a fusion's own name."""
    called = re.search(rf"%{re.escape(name)} = (\S+?)\{{\S* .*?calls=%([\w.\-]+)", text)
    body = computations.get(called[2], "") if called else ""
    if " convolution(" in body or name.startswith("conv_general_dilated"):
        backward = "backward" if "transpose(jvp" in body else "forward"
        return "convolution", f"{called[1] if called else name} {backward}"
    return ("reduction" if " reduce(" in body else name.split(".")[0]), None


def profile(loop):
    """Milliseconds a step of each operation."""
    spent = collections.Counter()
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            loop.epoch()
        (path,) = pathlib.Path(folder).rglob("*.xplane.pb")
        planes = jax.profiler.ProfileData.from_file(str(path)).planes
        for line in (line for plane in planes for line in plane.lines if "Eigen" in line.name):
            for event in line.events:
                spent[event.name] += event.duration_ns / 1e6 / STEPS
    return {name: value for name, value in spent.items() if "Execute" not in name and not name.startswith("while")}


def main(size=32):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    loop = contenders.make("loop", members=1, steps=STEPS, cores=1, size=size)
    state = loop.population.members, loop.population.states
    text = population.lower_epoch(contenders.EXPERIMENT, loop.layout, *state, *loop.shared).compile().as_text()
    computations = bodies(text)
    loop.epoch()
    kinds, shapes = collections.Counter(), collections.Counter()
    for name, value in profile(loop).items():
        kind, shape = kind_of(name, text, computations)
        kinds[kind] += value
        if shape:
            shapes[shape] += value
    print(f"Python {platform.python_version()}, JAX {jax.__version__}, one core, {size} x {size}: ms a step")
    for name, value in [("all", sum(kinds.values())), *kinds.most_common(MOST)]:
        print(f"  {value:7.2f}  {name}")
    print("convolutions")
    for name, value in sorted(shapes.items()):
        print(f"  {value:7.2f}  {name}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
