"""How long images of many sizes take: 40 images, no two of one size, against torchmetrics on the same arrays.

    python sweeps/benchmarks/metrics_speed/sizes.py

Each library starts in a process of its own, so that all compilation counts; torchmetrics is measured where it is
installed. Prints seconds of the first pass over the images and of a second one.
"""

import argparse
import json
import subprocess
import sys
import time

import numpy as np

IMAGES = 40


def images(classes):
    """Yields logits (1, C, H, W) float32 and labels (1, H, W) int64, one image at a time, from fixed seeds."""
    for index in range(IMAGES):
        rng = np.random.default_rng(index)
        height, width = 200 + 9 * index, 560 - 7 * index
        yield (
            rng.normal(0, 3, (1, classes, height, width)).astype(np.float32),
            rng.integers(0, classes, (1, height, width)),
        )


def with_flipjax(classes):
    from flipjax.metrics import FlipMetric

    metric = FlipMetric(channels="first")

    def run(logits, labels):
        metric.update(logits, labels)

    return run, metric.reset, lambda: metric.decomposition.confusion.sum(0, dtype=np.int64)


def with_torchmetrics(classes):
    import torch
    from torchmetrics.classification import MulticlassConfusionMatrix

    metric = MulticlassConfusionMatrix(classes)

    def run(logits, labels):
        metric.update(torch.from_numpy(logits), torch.from_numpy(labels))

    return run, metric.reset, lambda: metric.compute().numpy()


def measure(library, classes):
    started = time.perf_counter()
    run, reset, confusion = {"flipjax": with_flipjax, "torchmetrics": with_torchmetrics}[library](classes)
    result = {"library": library, "classes": classes, "imports": time.perf_counter() - started}
    for name in ("first", "second"):
        reset()
        seconds = 0.0
        for logits, labels in images(classes):
            started = time.perf_counter()
            run(logits, labels)
            seconds += time.perf_counter() - started
        result[name] = seconds
    return result | {"confusion": confusion().tolist()}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--classes", type=int, default=21)
    parser.add_argument("--only", choices=("flipjax", "torchmetrics"))
    options = parser.parse_args()
    if options.only:
        print(json.dumps(measure(options.only, options.classes)))
        return
    results = []
    for library in ("flipjax", "torchmetrics"):
        command = [sys.executable, __file__, "--classes", str(options.classes), "--only", library]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"{library}: {done.stderr.splitlines()[-1]}")
            continue
        results.append(json.loads(done.stdout))
        figures = "  ".join(f"{name} {results[-1][name]:.2f} s" for name in ("imports", "first", "second"))
        print(f"{library:12}  {options.classes} classes, {IMAGES} images of {IMAGES} sizes: {figures}")
    if len(results) == 2:
        assert results[0]["confusion"] == results[1]["confusion"]
        print("the same counts")


if __name__ == "__main__":
    main()
