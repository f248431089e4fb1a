"""Times the saving of a checkpoint, and its peak memory: python sweeps/benchmarks/checkpoints.py

Members of the default grid, and one U-Net on ResNet-50 at 64 px, each with the state of Adam and the weights that a
rule has kept. Prints the size of the state, the median and range of five saves in seconds, and by how much the
process grew at most, in MB.
"""

import pathlib
import re
import tempfile
import time

import jax
import numpy as np

import flipjax
from flipjax.sweep.checkpoint import Checkpoints
from flipjax.training.member import init_state

RUNS = {
    "24 members of the default grid": {},
    "one ResNet-50 at 64 px": {"model.name": "smp_resnet50", "pool.size": 64, "axes.rho": (0.9,), "axes.seed": (0,)},
}
SAVES = 5


def memory(field):
    """A number of bytes that Linux keeps of this process: VmRSS, those in memory, or VmHWM, the most so far."""
    return 1024 * int(re.search(rf"{field}:\s+(\d+)", pathlib.Path("/proc/self/status").read_text())[1])


def save(checkpoints, epoch, tree):
    """Saves a state; returns the seconds that it takes and the bytes by which the process grows meanwhile."""
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts anew.
    before = memory("VmRSS")
    start = time.perf_counter()
    checkpoints.save(epoch, tree)
    return time.perf_counter() - start, memory("VmHWM") - before


def numbers(leaf, generator):
    """Random numbers of a leaf's shape: a fresh state is mostly zeros, which compress better than a trained one."""
    if leaf.dtype == np.float32:
        return generator.standard_normal(leaf.shape, np.float32)
    return np.zeros(leaf.shape, leaf.dtype)


for name, changes in RUNS.items():
    train = flipjax.make_train("correlation_grid", changes)
    members = train.members()
    outline = jax.eval_shape(jax.vmap(lambda member, train=train: init_state(train.experiment, member)), members)
    generator = np.random.default_rng(0)
    tree = jax.tree.map(lambda leaf, draw=generator: numbers(leaf, draw), vars(outline))
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(tree))
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Checkpoints(folder)
        measured = [save(checkpoints, epoch, tree) for epoch in range(1, SAVES + 1)]
    seconds, grown = np.array(measured).T
    times = f"{np.median(seconds):.2f} s [{seconds.min():.2f}, {seconds.max():.2f}]"
    print(f"{name}, {size / 1e6:.0f} MB: {times}, {grown.max() / 1e6:.0f} MB more memory", flush=True)
