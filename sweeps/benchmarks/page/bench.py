"""How long the page of a run takes to make, how large it is, and how soon a browser paints it.

    python sweeps/benchmarks/page/bench.py

Makes run folders up, as a sweep with all scores and swapped scenes leaves them (400 test images of 40 x 40, at four
levels of rho), and makes their reports by `python -m flipjax.report` in processes of their own; first paint is headless
Chromium's, the best of three. Prints a table and writes results.csv beside this file.
"""

import argparse
import functools
import itertools
import json
import os
import pathlib
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time

import numpy as np

from flipjax.config import SELECTIONS
from flipjax.config.groups import Groups
from flipjax.page import gallery
from flipjax.results.arrays import Curves, ImageResults
from flipjax.results.cells import Cell
from flipjax.results.scores import SCORES
from flipjax.results.tables import compute_values, history_table, make_results, results_table
from flipjax.support.frames import write_csv
from flipjax.support.npz import write_arrays

CLASSES, SCENES = ("background", "mossling", "ripplet"), ("land", "water")
RHOS = (0.5, 0.9, 0.95, 0.99)
SIDE, EPOCHS, SHOWN = 40, 10, 6
PARTS = {"val": 128, "test": 400}
STORED = tuple(name for name in SCORES if name not in ("flip_risk", "disagreement", "pairwise_dice", "swap_risk"))
RUNS = {
    "144 members: 12 methods, 3 seeds, six selection rules": ((12, 1, 3), SELECTIONS),
    "1,008 members: 12 methods, 21 seeds": ((12, 1, 21), SELECTIONS[:1]),
    "1,008 members: 12 methods, 7 learning rates, 3 seeds": ((12, 7, 3), SELECTIONS[:1]),
}


def make_images(generator, names, members, rules):
    """Returns counts, scores and answers on other scenes of all members: flips of the rare groups grow with rho."""
    image = np.concatenate([np.arange(images) for images in PARTS.values()])
    groups = image % 4
    rare = np.isin(groups, (1, 2))
    label = 1 + groups // 2
    images = len(image)
    shape = (len(rules), len(members), images)
    odds = np.array([3 * member["rho"] - 2.5 for member in members])[:, None]
    odds = np.where(rare, odds, -1.5) + generator.normal(size=shape)
    share = 1 / (1 + np.exp(-4 * odds))
    pixels, place = 300, np.arange(images)
    flips = np.rint(0.95 * pixels * share).astype(np.int32)
    confusion = np.zeros((*shape, 3, 3), np.int32)
    confusion[:, :, place, label, label] = 285 - flips
    confusion[:, :, place, label, 3 - label] = flips
    confusion[:, :, place, label, 0] = 15
    confusion[..., 0, 0] = SIDE**2 - pixels
    region = np.zeros((images, SIDE, SIDE), bool)
    for number, (y, x) in enumerate(generator.integers(0, SIDE - 18, (images, 2))):
        region[number, y : y + 16, x : x + 18] = True
    packed = np.packbits(region.reshape(images, -1), axis=1)
    # Scores, predicted classes and log-odds are of the first rule alone.
    flipped = share[0] > 0.5
    predicted = np.where(flipped, 3 - label, label)[..., None]
    noise = generator.normal(size=(len(members), images, 2))
    swapped = np.where(label == 1, -1, 1)[:, None] * np.abs(odds[0])[..., None] + noise
    score_noise = generator.normal(size=(len(members), images, len(STORED)))
    return ImageResults(
        member=np.array(names),
        image_part=np.repeat(list(PARTS), list(PARTS.values())),
        image_group=groups,
        pair=image // 2,
        object_row=image,
        scene_row=image,
        confusion=confusion,
        risk_sum=270 * generator.uniform(0, 0.69, shape),
        log_odds=np.stack([-swapped / 2, swapped / 2], axis=-1),
        center=np.zeros((len(members), 2)),
        score=np.array(STORED),
        scores=odds[0, ..., None] + 2 * score_noise,
        masks=np.stack([np.where(predicted == c, packed, 0) for c in (1, 2)], axis=-2),
    )


def make_gallery(generator, cell, member):
    """Returns a gallery of noise."""
    images = cell.images_of(member, "test")
    indices, kinds = gallery.choose_images(images.decomposition, images.group, images.pair, paired=2)
    shape = (len(indices), SIDE, SIDE)
    pixels, labels = generator.uniform(size=(*shape, 3)), generator.integers(0, 3, shape)
    maps = gallery.maps_of(generator.normal(size=(*shape, 3)), labels)
    return gallery.make_gallery(
        pixels, labels, maps, indices=indices, groups=images.group[indices], kinds=kinds, member=member
    )


def make_curves(generator, names):
    """Returns the training curves of members."""
    epoch = np.arange(1, EPOCHS + 1)
    curves = {
        "train_loss": generator.uniform(size=(len(names), EPOCHS)) / epoch,
        "valid_loss": generator.uniform(size=(len(names), EPOCHS)) / epoch,
        "valid_worst_group_iou": np.broadcast_to(0.05 * epoch, (len(names), EPOCHS)),
        "valid_flip": np.broadcast_to(1 / epoch, (len(names), EPOCHS)),
        "valid_risk": np.full((len(names), EPOCHS), 0.3),
    }
    return Curves(
        member=np.array(names),
        epochs=np.full(len(names), EPOCHS),
        measure=np.array(list(curves)),
        curves=np.stack(list(curves.values()), axis=-1),
    )


def make_run(folder, sizes, rules):
    """Writes a run folder with a member for each method, learning rate, level of rho and seed."""
    generator = np.random.default_rng(0)
    methods, rates, seeds = (range(size) for size in sizes)
    settings = [
        {"rho": rho, "seed": seed, "method": f"method {method}", "learning_rate": 0.001 * (1 + rate)}
        for rho, method, rate, seed in itertools.product(RHOS, methods, rates, seeds)
    ]
    names = [f"m{place:03d}" for place in range(len(settings))]
    images = make_images(generator, names, settings, rules)
    results = make_results(
        make_curves(generator, names),
        settings,
        rules=rules,
        status=["finished"] * len(names),
        best_epoch=np.full((len(rules), len(names)), 5),
        class_names=CLASSES,
        scene_names=SCENES,
        groups=Groups(),
    )
    cell = Cell(compute_values(results, images), stored_images=images)
    place = folder / "cells" / "000"
    write_arrays(place / "results.npz", cell.results, images)
    write_csv(folder / "results.csv", results_table(cell.results))
    write_csv(folder / "history.csv", history_table(cell.results))
    shown = [make_gallery(generator, cell, name) for name in names[:SHOWN]]
    gallery.save_gallery(place / "gallery.npz", gallery.concatenate_galleries(shown))
    (folder / "config.json").write_text(json.dumps({"name": "made up", "device": "none"}))


def measure_report(folder):
    """Returns seconds, processor seconds and peak memory of the process that makes a report; the page's size."""
    command = [sys.executable, "-m", "flipjax.report", str(folder)]
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    if status:
        raise SystemExit(f"failed: {' '.join(command)}")
    size = (folder / "report" / "index.html").stat().st_size
    return {
        "report_s": round(wall, 1),
        "processor_s": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_rss_mb": round(usage.ru_maxrss / 1024),
        "page_mb": round(size / 1e6, 2),
    }


@functools.cache
def browser():
    """Returns headless Chromium, or None where it, its driver or selenium is not installed."""
    chromium, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    try:
        from selenium import webdriver
    except ImportError:
        return None
    if not (chromium and driver):
        return None
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in ("--headless", "--no-sandbox", "--disable-gpu", "--window-size=1280,900"):
        options.add_argument(flag)
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))


def measure_paint(page):
    """Returns seconds from a page's start to its first contentful paint and to its load event, the best of three."""
    driver = browser()
    if driver is None:
        return {"first_paint_s": "", "loaded_s": ""}
    times = []
    for _ in range(3):
        driver.get("about:blank")
        driver.get(page.as_uri())
        script = """
        const done = arguments[0];
        const read = () => {
          const paint = performance.getEntriesByName("first-contentful-paint")[0];
          const loaded = performance.getEntriesByType("navigation")[0].loadEventEnd;
          if (paint && loaded) done([paint.startTime, loaded]); else setTimeout(read, 50);
        };
        read();"""
        times.append([milliseconds / 1000 for milliseconds in driver.execute_async_script(script)])
    paint, loaded = min(times)
    return {"first_paint_s": round(paint, 2), "loaded_s": round(loaded, 2)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=int, choices=range(len(RUNS)), help="one of the runs; writes no results.csv")
    parser.add_argument("--keep", type=pathlib.Path, help="makes the run folders here, and leaves them")
    options = parser.parse_args()
    chosen = RUNS if options.only is None else dict([list(RUNS.items())[options.only]])
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        for place, (name, (sizes, rules)) in enumerate(chosen.items()):
            folder = (options.keep or pathlib.Path(temporary)) / f"run{place}"
            if not (folder / "results.csv").is_file():
                make_run(folder, sizes, rules)
            row = {"run": name, **measure_report(folder)}
            rows.append(row | measure_paint(folder / "report" / "index.html"))
    if browser() is not None:
        browser().quit()
    print(f"{len(os.sched_getaffinity(0))} cores, Python {platform.python_version()}, NumPy {np.__version__}")
    print(f"load average {os.getloadavg()[0]:.1f}; this process at most {peak():.0f} MB")
    for row in rows:
        print(", ".join(f"{key} {value}" for key, value in row.items()))
    if options.only is None:
        write_csv(pathlib.Path(__file__).with_name("results.csv"), rows)


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
