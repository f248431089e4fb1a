"""How long `flipjax.metrics.segment_tables` takes on 233 label maps of 480 x 360, as many as CamVid's test images.

    python sweeps/benchmarks/metrics_speed/segments.py

Drawn label maps of 11 classes in some 40 cells, 7 % void, predictions moved by 3 pixels and a tenth of the cells of
another class. Prints the least seconds of a few rounds: elapsed, and of all processors.
"""

import argparse
import time

import numpy as np
from scipy import ndimage

from flipjax.metrics import segment_tables

CLASSES, VOID, CELLS = 11, 255, 40


def label_maps(images, shape):
    """Returns predictions and labels uint8 (n, H, W), from fixed seeds."""
    predictions, labels = np.empty((2, images, *shape), np.uint8)
    for index in range(images):
        rng = np.random.default_rng(index)
        seeds = np.zeros(shape, np.int64)
        places = rng.integers(0, shape, (CELLS, 2))
        seeds[tuple(places.T)] = np.arange(1, CELLS + 1)
        nearest = ndimage.distance_transform_edt(seeds == 0, return_distances=False, return_indices=True)
        cells = seeds[tuple(nearest)]
        classes = rng.integers(0, CLASSES, CELLS + 1)
        taken = np.where(rng.random(CELLS + 1) < 0.1, rng.integers(0, CLASSES, CELLS + 1), classes)
        labels[index] = np.where(ndimage.uniform_filter(rng.random(shape), 15) > 0.528, VOID, classes[cells])
        predictions[index] = np.roll(taken[cells], 3, axis=1)
    return predictions, labels


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=233)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    predictions, labels = label_maps(options.images, (360, 480))
    print(f"{options.images} images of 480 x 360, {np.mean(labels == VOID):.1%} void")
    for unit in ("class", "component"):
        times = []
        for _ in range(options.rounds):
            start, cpu = time.perf_counter(), time.process_time()
            tables = segment_tables(
                predictions, labels, kind="masks", num_classes=CLASSES, background=None, ignore_index=VOID, unit=unit
            )
            times.append((time.perf_counter() - start, time.process_time() - cpu))
        elapsed, cpu = np.min(times, axis=0)
        print(f"{unit:10} {len(tables.true):6,} segments {elapsed:6.2f} s elapsed {cpu:6.2f} s of all processors")


if __name__ == "__main__":
    main()
