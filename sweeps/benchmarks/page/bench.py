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
from flipjax.results import gallery
from flipjax.results.cells import StoredCell, StoredSplit, save_cell
from flipjax.results.frames import write_csv
from flipjax.results.quantities import PAIR_QUANTITIES, SCENE_QUANTITIES
from flipjax.results.rows import counterfactual_flip, member_rows, scene_quantities
from flipjax.results.scores import SCORES

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


def make_part(generator, members, rules, images):
    """Returns counts, scores and answers on other scenes of all members: flips of the rare groups grow with rho."""
    groups = np.arange(images) % 4
    rare = np.isin(groups, (1, 2))
    label = 1 + groups // 2
    shape = (len(rules), len(members), images)
    odds = np.array([3 * member["rho"] - 2.5 for member in members])[:, None]
    odds = np.where(rare, odds, -1.5) + generator.normal(size=shape)
    share = 1 / (1 + np.exp(-4 * odds))
    pixels, image = 300, np.arange(images)
    flips = np.rint(0.95 * pixels * share).astype(np.int32)
    confusion = np.zeros((*shape, 3, 3), np.int32)
    confusion[:, :, image, label, label] = 285 - flips
    confusion[:, :, image, label, 3 - label] = flips
    confusion[:, :, image, label, 0] = 15
    confusion[..., 0, 0] = SIDE**2 - pixels
    region = np.zeros((images, SIDE, SIDE), bool)
    for place, (y, x) in enumerate(generator.integers(0, SIDE - 18, (images, 2))):
        region[place, y : y + 16, x : x + 18] = True
    packed = np.packbits(region.reshape(images, -1), axis=1)
    flipped = share > 0.5
    # As a sweep does it, scores and masks are of the first rule alone.
    predicted = np.where(flipped[0], 3 - label, label)[..., None]
    swapped = np.where(label == 1, -1, 1)[:, None] * np.abs(odds)[..., None] + generator.normal(size=(*shape, 2))
    noise = generator.normal(size=(*shape[1:], len(STORED)))
    return StoredSplit(
        confusion,
        (270 * generator.uniform(0, 0.69, shape)).astype(np.float32),
        groups,
        image // 2,
        np.stack([image, image], axis=1),
        scene_log_odds=np.stack([-swapped / 2, swapped / 2], axis=-1).astype(np.float32),
        centers=np.zeros((*shape[:2], 2), np.float32),
        scores=(odds[0, ..., None] + 2 * noise).astype(np.float32),
        masks=np.stack([np.where(predicted == c, packed, 0) for c in (1, 2)], axis=-2).astype(np.uint8),
    )


def make_gallery(generator, member, decomposition, part):
    indices, kinds = gallery.choose_images(decomposition, part.groups, part.pairs, paired=2)
    shape = (len(indices), SIDE, SIDE)
    images, labels = generator.uniform(size=(*shape, 3)), generator.integers(0, 3, shape)
    logits = generator.normal(size=(*shape, 3))
    own = {"indices": indices, "groups": part.groups[indices], "kinds": kinds, "member": member}
    return gallery.make_gallery(images, labels, *gallery.maps_of(logits, labels), **own)


def make_run(folder, sizes, rules):
    """Writes a run folder with a member for each method, learning rate, level of rho and seed."""
    generator = np.random.default_rng(0)
    methods, rates, seeds = (range(size) for size in sizes)
    axes = [
        {"rho": rho, "seed": seed, "method": f"method {method}", "learning_rate": 0.001 * (1 + rate)}
        for rho, method, rate, seed in itertools.product(RHOS, methods, rates, seeds)
    ]
    members = [{"member": f"m{place:03d}", **values} for place, values in enumerate(axes)]
    parts = {name: make_part(generator, axes, rules, images) for name, images in PARTS.items()}
    names = tuple(member["member"] for member in members)
    cell = StoredCell(names, rules, CLASSES, SCENES, parts, score_names=STORED)
    rows, history = [], []
    for member, rule, name in itertools.product(members, rules, PARTS):
        part, trailing = parts[name], {"status": "finished", "epochs": EPOCHS, "best_epoch": 5, "selection": rule}
        counts = cell.decomposition(member["member"], name, selection=rule)
        log_odds = cell.scene_log_odds(member["member"], name, selection=rule)
        more = scene_quantities(counts, log_odds, np.zeros(2), part.groups)
        more |= {"counterfactual_flip": counterfactual_flip(counts, part.pairs)}
        further = [*SCENE_QUANTITIES, *PAIR_QUANTITIES]
        options = {"part": name, "class_names": CLASSES, "more": more, "further": further}
        rows += member_rows(member | trailing, counts, part.groups, **options)
    for member, epoch in itertools.product(members, range(1, EPOCHS + 1)):
        losses = {f"{name}_loss": generator.uniform() / epoch for name in ("train", "valid")}
        measures = {"valid_worst_group_iou": 0.05 * epoch, "valid_flip": 1 / epoch, "valid_risk": 0.3}
        history.append({"member": member["member"], "epoch": epoch} | losses | measures)
    write_csv(folder / "results.csv", rows)
    write_csv(folder / "history.csv", history)
    save_cell(folder / "cells" / "000" / "decomposition.npz", cell)
    shown = [make_gallery(generator, name, cell.decomposition(name, "test"), parts["test"]) for name in names[:SHOWN]]
    gallery.save_gallery(folder / "cells" / "000" / "gallery.npz", gallery.concatenate_galleries(shown))
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
