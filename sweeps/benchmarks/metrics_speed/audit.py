"""What `flipjax audit` of label maps costs, from PNG files to the page, beside torchmetrics reading the same files.

    python sweeps/benchmarks/metrics_speed/audit.py [--classes 150]

512 x 512 masks of 32-pixel cells, of which a tenth flips. Each contender is a process of its own: seconds, processor
seconds, largest memory. torchmetrics (a confusion matrix, mean IoU) may be that of another Python.
"""

import argparse
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

import numpy as np
from PIL import Image

SIDE, CELL = 512, 32
TORCH = """
import pathlib, sys, numpy as np, torch
from PIL import Image
from torchmetrics.classification import MulticlassConfusionMatrix, MulticlassJaccardIndex
folder, classes = pathlib.Path(sys.argv[1]), int(sys.argv[2])
metrics = [kind(classes, ignore_index=255) for kind in (MulticlassConfusionMatrix, MulticlassJaccardIndex)]
for path in sorted((folder / "labels").iterdir()):
    files = [folder / side / path.name for side in ("p", "labels")]
    pair = [torch.tensor(np.asarray(Image.open(file)), dtype=torch.long) for file in files]
    for metric in metrics:
        metric.update(*pair)
print(float(metrics[1].compute()))
"""


def write_masks(folder, classes, images):
    generator = np.random.default_rng(0)
    for side in ("p", "labels"):
        (folder / side).mkdir()
    for i in range(images):
        own = generator.choice(classes, 8, replace=False)
        shift = generator.integers(0, CELL, 2)
        cells = own[generator.integers(0, 8, (SIDE // CELL + 1,) * 2)]
        labels = np.kron(cells, np.ones((CELL, CELL), np.uint8))[shift[0] :, shift[1] :][:SIDE, :SIDE]
        wrong = np.kron(generator.random(cells.shape) < 0.1, np.ones((CELL, CELL), bool))[:SIDE, :SIDE]
        predictions = np.where(wrong, generator.integers(0, classes), np.roll(labels, 2, 1))
        labels = np.where(generator.random((SIDE, 1)) < 0.02, 255, labels)
        for side, mask in ("p", predictions), ("labels", labels):
            Image.fromarray(mask.astype(np.uint8)).save(folder / side / f"{i:04}.png")


def measure(name, command):
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter() - start
    if done.returncode:
        print(f"{name}: {done.stderr.strip()[-200:]}")
        return
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    # The largest child so far.
    print(f"{name}: {wall:.1f} s, processor {cpu:.1f} s, at most {after.ru_maxrss / 2**20:.2f} GiB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--classes", type=int, default=21)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--torch_python", default=sys.executable, help="a Python that has torchmetrics")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = pathlib.Path(made)
        write_masks(folder, options.classes, options.images)
        print(f"{options.images} images of {SIDE} x {SIDE}, {options.classes} classes")
        inputs = [f"--predictions={folder / 'p'}", f"--labels={folder / 'labels'}", f"--out={folder / 'out'}"]
        more = ["--kind=masks", "--ignore_index=255", f"--num_classes={options.classes}"]
        measure("flipjax audit", [sys.executable, "-m", "flipjax", "audit", *inputs, *more])
        measure("torchmetrics", [options.torch_python, "-c", TORCH, str(folder), str(options.classes)])
