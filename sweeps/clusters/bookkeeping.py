"""What 20,000 members cost beside their training: plan, resume and collect, with real files and no training.

`python sweeps/clusters/bookkeeping.py --members 2000 6000 20000 --out sweeps/clusters/bookkeeping.csv` writes the parts
that 64 shards leave (each member's counts on 128 validation and 400 test images, its rows and its 15 epochs), then
measures the product's own functions and `flipjax sweep --collect` itself. A row each: seconds, and the peak of memory.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from flipjax import command, results
from flipjax.metrics import Decomposition
from flipjax.plan import plan, restrict, shard_members
from flipjax.results.quantities import SCENE_QUANTITIES
from flipjax.sweep import storage
from flipjax.sweep.workdir import Workdir

CONFIG = """
from flipjax.config import default_config

def get_config():
    config = default_config()
    config.gallery.riskiest, config.gallery.typical = 0, 0
    config.axes.rho = (0.5, 0.7, 0.8, 0.9, 0.95)
    config.axes.seed = tuple(range(20))
    config.axes.learning_rate = tuple(1e-5 * (1 + rate) for rate in range({rates}))
    return config
"""
SHARDS, EPOCHS, KINDS = 64, 15, 16
IMAGES = {"val": 128, "test": 400}
NAMES = ("background", "hopper", "skimmer")


def counts(generator, images):
    """Counts of one member on the images of a split, and its log-odds on other scenes."""
    right = generator.integers(0, 200, images)
    label = 1 + np.arange(images) % 4 // 2
    confusion = np.zeros((images, 3, 3), np.int32)
    confusion[:, 0, 0] = 1900
    confusion[np.arange(images), label, label] = right
    confusion[np.arange(images), label, 3 - label] = 200 - right
    risk = generator.uniform(0, 100, images).astype(np.float32)
    return confusion, risk, generator.normal(size=(images, 2, 2)).astype(np.float32)


def kinds_of_members():
    """A few members' counts and rows by split; all others are copies of them under other names."""
    kinds = []
    for seed in range(KINDS):
        generator = np.random.default_rng(seed)
        kind = {}
        for part, images in IMAGES.items():
            confusion, risk, odds = counts(generator, images)
            end = {"member": "", "status": "finished", "epochs": EPOCHS, "best_epoch": 9, "selection": "val_loss"}
            more = dict.fromkeys(SCENE_QUANTITIES, 0.123456)
            rows = results.member_rows(
                end, Decomposition(confusion, risk), np.arange(images) % 4, part=part, class_names=NAMES, more=more
            )
            kind[part] = confusion, risk, odds, rows
        kinds.append(kind)
    return kinds


def write_part(workdir, program, kinds):
    """Writes what a shard leaves of its members."""
    chosen = [kinds[int(name[1:]) % KINDS] for name in program.names]
    parts = {}
    for part, images in IMAGES.items():
        confusion, risk, odds = (np.stack([kind[part][place] for kind in chosen])[None] for place in range(3))
        index = np.arange(images, dtype=np.int32)
        centers = np.zeros((1, len(chosen), 2), np.float32)
        parts[part] = results.Part(confusion, risk, index % 4, index // 2, np.stack([index] * 2, 1), odds, centers)
    rows, history = [], []
    for setting, kind in zip(program.settings, chosen, strict=True):
        rows += [
            {"member": setting.name, **setting.axes, **{key: value for key, value in row.items() if key != "member"}}
            for part in IMAGES
            for row in kind[part][3]
        ]
        measures = ("train_loss", "valid_loss", "valid_worst_group_iou", "valid_flip", "learning_rate")
        history += [
            {
                "member": setting.name,
                "epoch": epoch,
                **{name: 1 / (epoch + place) for place, name in enumerate(measures)},
            }
            for epoch in range(1, EPOCHS + 1)
        ]
    cell = results.StoredCell(
        program.names,
        ("val_loss",),
        NAMES,
        ("land", "water"),
        parts,
        tuple(rows),
        tuple(history),
        program=program.identity,
    )
    results.save_cell(workdir.decomposition_of(program), cell)


def cpu_seconds():
    """Of this process and of those that it has waited for."""
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def timed(function):
    """Seconds that a function takes, by the clock and of the CPU, and what it returns."""
    start, cpu = time.monotonic(), cpu_seconds()
    value = function()
    return np.array([time.monotonic() - start, cpu_seconds() - cpu]), value


def measure(place, members):
    """Rows of seconds and memory for a number of members."""
    path = place / "many.py"
    path.write_text(CONFIG.format(rates=members // 100))
    config = command.read_config(path, [])
    seconds, programs = timed(lambda: plan(config))
    (program,) = programs
    dealt, shards = timed(lambda: [shard_members(programs, index=index, count=SHARDS) for index in range(4)])
    table = {"plan": seconds + dealt / 4}
    workdir = Workdir(place / "run")
    workdir.folder.mkdir()
    facts = dict.fromkeys(("name", "command", "device", "flipjax"), "")
    workdir.describe(json.loads(config.to_json()), facts)
    kinds = kinds_of_members()
    for index in range(SHARDS):
        write_part(workdir, restrict(program, shard_members(programs, index=index, count=SHARDS)), kinds)
    left = workdir.decomposition_of(restrict(program, shards[0]))
    aside = place / "aside.npz"
    left.rename(aside)

    def resume():
        stored = storage.read_program(workdir, program, config, say=print)
        return storage.pending(program, stored, shards[0]), storage.rows_of(program, stored, "history")

    table["resume"], (pending, _) = timed(resume)
    assert set(pending.names) == shards[0]
    aside.rename(left)
    line = [sys.executable, "-m", "flipjax.sweep", "--config", path, "--workdir", workdir.folder, "--collect"]
    table["collect"], done = timed(lambda: subprocess.run(line, capture_output=True, text=True))
    assert done.returncode == 0, done.stderr
    files = [entry for entry in workdir.folder.rglob("*") if entry.is_file()]
    size = sum(entry.stat().st_size for entry in files)
    rows = [
        {"members": members, "step": step, "seconds": round(wall, 1), "cpu_seconds": round(cpu, 1)}
        for step, (wall, cpu) in table.items()
    ]
    peaks = [resource.getrusage(who).ru_maxrss / 1e6 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    for row, peak in zip(rows, (peaks[0], peaks[0], peaks[1]), strict=True):
        row |= {"peak_gb": round(peak, 2), "files": len(files), "folder_gb": round(size / 1e9, 2)}
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, nargs="+", default=[2000, 6000, 20_000])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows = []
    # Each number in a process of its own, since the peak of memory is a process's.
    for members in options.members:
        with tempfile.TemporaryDirectory() as place:
            number, stream = os.pipe()
            if os.fork() == 0:
                os.write(stream, json.dumps(measure(Path(place), members)).encode())
                os._exit(0)
            os.close(stream)
            with os.fdopen(number) as text:
                rows += json.load(text)
        print(*rows[-3:], sep="\n", flush=True)
    if options.out:
        results.write_csv(options.out, rows)
