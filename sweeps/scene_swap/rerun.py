"""One command a study: trains the members that its runs lack, measures, prints its tables and writes its CSV files.

    python sweeps/scene_swap/rerun.py study|fresh|sign|pretrained|monitor [--photos ../shared/photos] [--runs runs]

From the root of the repository. A run that is there is not trained again.
"""

import argparse
import csv
import pathlib
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).parent
GRID = ("configs/correlation_grid.py",)
PHOTOS = ("configs/photos_grid.py", "--config.train.patience=16", "--config.train.selection=('last',)")
SEEDS = "--config.axes.seed=(20,21,22,23)"
RUNS = {
    "scene_swap": (*GRID, "--config.axes.rho=(.5,.8,.9,.95,.99)", "--config.axes.seed=(10,11,12,13)"),
    "grid": (*GRID, "--config.axes.rho=(.5,.8,.9,.95,.99,1.)", SEEDS),
    "photos": (*PHOTOS, "--config.grid.split.n_train=(160,800)", "--config.axes.rho=(.5,.8,.95)", SEEDS),
    "few": (*GRID, "--config.grid.split.n_train=(64,160)", "--config.axes.rho=(.5,.8,.95,1.)", SEEDS),
}
"""The sweeps that studies are made of: configuration and overrides."""
STUDIES = {
    "study": (("scene_swap",), ["sweeps/scene_swap/study.py {runs}/scene_swap"]),
    "fresh": (("grid",), ["sweeps/scene_swap/study.py {runs}/grid"]),
    "sign": (
        ("grid", "photos", "few"),
        [
            "sweeps/scene_swap/sign.py measure {runs}/grid {runs}/photos {runs}/few",
            "sweeps/scene_swap/sign.py looked_at grid photos",
            "sweeps/scene_swap/sign.py confirm grid photos",
            "sweeps/scene_swap/sign.py looked_at few",
            "sweeps/scene_swap/sign.py confirm few",
        ],
    ),
    "pretrained": ((), ["sweeps/scene_swap/pretrained.py {photos} {runs}/pretrained"]),
    "monitor": (
        ("grid",),
        [
            "sweeps/scene_swap/pretrained.py {photos} {runs}/pretrained",
            "sweeps/monitor/study.py {runs}/grid {runs}/pretrained",
        ],
    ),
}
"""Of each study its runs, then its commands."""


def train(name, options):
    """Runs a sweep; members that diverged are no failure of the study."""
    config, *overrides = RUNS[name]
    overrides += [f"--config.pool.root={options.photos}"] if name == "photos" else []
    line = [sys.executable, "-m", "flipjax.sweep", "--config", config, *overrides]
    code = subprocess.run([*line, "--workdir", options.runs / name], check=False).returncode
    if code not in (0, 1):
        raise SystemExit(code)


def keep(options):
    """Takes over the rows of results.csv: all of them, or those of the test images."""
    if options.study == "study":
        shutil.copy(options.runs / "scene_swap/results.csv", HERE / "results.csv")
    if options.study == "fresh":
        with (options.runs / "grid/results.csv").open(newline="") as source:
            reader = csv.DictReader(source)
            rows = [row for row in reader if row["split"] == "test"]
        with (HERE / "fresh.csv").open("w", newline="") as target:
            writer = csv.DictWriter(target, reader.fieldnames, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("--photos", type=pathlib.Path, default=pathlib.Path("../shared/photos"))
    parser.add_argument("--runs", type=pathlib.Path, default=pathlib.Path("runs"))
    options = parser.parse_args()
    runs, commands = STUDIES[options.study]
    for name in runs:
        train(name, options)
    keep(options)
    for command in commands:
        words = command.format(runs=options.runs, photos=options.photos).split()
        subprocess.run([sys.executable, *words], check=True)


if __name__ == "__main__":
    main()
