"""What `flipjax audit` of volumes costs, beside reading the same files with nibabel (or NumPy) and one argmax.

    python sweeps/benchmarks/metrics_speed/volumes.py [--suffix .npz] [--turns 3]

Probabilities of five classes, 128 x 128 x 128 voxels, of bodies with four organs; `.nii.gz`, `.npy` or `.npz`
(compressed). Both contenders are processes of their own, in turn: seconds, processor seconds, largest memory.
"""

import argparse
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np

NAMES = ("background", "liver", "spleen", "kidney_left", "kidney_right")
BODIES = (
    ((0.32, 0.5, 0.6), (0.2, 0.28, 0.25)),
    ((0.72, 0.6, 0.65), (0.1, 0.12, 0.15)),
    ((0.68, 0.35, 0.35), (0.07, 0.08, 0.16)),
    ((0.3, 0.3, 0.22), (0.07, 0.08, 0.13)),
)
"""Centre and radii of each organ, as fractions of the sides."""
READING = """
import pathlib, sys
import numpy as np
def read(path):
    if path.name.endswith(".nii.gz"):
        import nibabel
        return np.asarray(nibabel.load(path).dataobj)
    stored = np.load(path)
    return stored if path.suffix == ".npy" else stored["volume"]
for path in sorted(pathlib.Path(sys.argv[1], "labels").iterdir()):
    read(path)
    read(pathlib.Path(sys.argv[1], "probabilities", path.name)).argmax(-1)
"""


def draw_labels(generator, side):
    """Returns a body, uint8 (side, side, side)."""
    grid = np.meshgrid(*[np.linspace(0, 1, side)] * 3, indexing="ij", sparse=True)
    labels = np.zeros((side, side, side), np.uint8)
    for c, (centre, radii) in enumerate(BODIES, 1):
        middle = np.array(centre) + generator.normal(0, 0.015, 3)
        distance = [((axis - at) / radius) ** 2 for axis, at, radius in zip(grid, middle, radii, strict=True)]
        labels[sum(distance) <= 1] = c
    return labels


def write_volume(path, values):
    if path.name.endswith(".nii.gz"):
        import nibabel

        nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), path)
    elif path.suffix == ".npy":
        np.save(path, values)
    else:
        np.savez_compressed(path, volume=values)


def write_volumes(folder, volumes, side, suffix):
    """Writes labels and probabilities, whose kidneys are exchanged in every tenth volume."""
    generator = np.random.default_rng(0)
    noise = generator.normal(0, 1, (side, side, side, len(NAMES))).astype(np.float32)
    for kind in ("labels", "probabilities"):
        (folder / kind).mkdir()
    for i in range(volumes):
        labels = draw_labels(generator, side)
        predicted = np.array([0, 1, 2, 4, 3])[labels] if i % 10 == 0 else labels
        scores = (
            np.roll(noise, int(generator.integers(side)), axis=0) + 4 * np.eye(len(NAMES), dtype=np.float32)[predicted]
        )
        scores = np.exp(scores)
        write_volume(folder / "labels" / f"v{i:03}{suffix}", labels)
        write_volume(folder / "probabilities" / f"v{i:03}{suffix}", scores / scores.sum(-1, keepdims=True))


def measure(name, command):
    """Runs a command, prints what it took, and returns its seconds."""
    start = time.perf_counter()
    with open(os.devnull, "w") as nowhere:
        process = subprocess.Popen(command, stdout=nowhere, stderr=nowhere)
        # Of this child alone, where rusage of all children would keep the largest memory so far.
        _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    cpu = usage.ru_utime + usage.ru_stime
    print(f"{name}: {wall:.1f} s, processor {cpu:.1f} s, {usage.ru_maxrss / 2**20:.2f} GiB, code {process.returncode}")
    return wall, cpu


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--volumes", type=int, default=60)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--suffix", choices=(".nii.gz", ".npy", ".npz"), default=".nii.gz")
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = pathlib.Path(made)
        write_volumes(folder, options.volumes, options.side, options.suffix)
        files = [f"--{kind}={folder / name}" for kind, name in (("predictions", "probabilities"), ("labels", "labels"))]
        audit = [sys.executable, "-m", "flipjax", "audit", *files, f"--out={folder / 'out'}", "--kind=probabilities"]
        audit.append(f"--class_names={','.join(NAMES)}")
        for _ in range(options.turns):
            reading, reading_cpu = measure("reading and argmax", [sys.executable, "-c", READING, str(folder)])
            audited, audited_cpu = measure("flipjax audit", audit)
            print(f"ratio {audited / reading:.2f}, of processor time {audited_cpu / reading_cpu:.2f}", flush=True)
