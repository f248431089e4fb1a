"""Flip of two organs that are alike but for their side, over mirroring, exchanged labels and a marker's correlation.

Command: python sweeps/studies/mirror/study.py [--runs runs]

Writes mirror.csv, mirror_longer.csv and mirror.png beside this file; a finished run is not trained again.
"""

import argparse
import pathlib

import matplotlib
import numpy as np
import pandas as pd

matplotlib.use("Agg")
import matplotlib.pyplot as plt

import flipjax
from flipjax.data import from_arrays
from flipjax.support.frames import write_csv

HERE = pathlib.Path(__file__).parent
SIZE = 32
IMAGES = 1600
"""Bodies, as many of each class with each marker."""
NOISE = 18
"""Standard deviation of the pixels' noise, of 255."""
CLASSES = ("left kidney", "right kidney")
MARKERS = ("red marker", "blue marker")
COLOURS = np.array([[200, 40, 40], [40, 40, 200]])
CHANGES = {
    "axes.rho": (0.5, 0.9, 0.99),
    "axes.train.hflip": (0.0, 0.1, 0.25, 0.5),
    "axes.seed": (0, 1, 2, 3, 4),
    "axes.train.mirror_labels": ("exchange", "keep"),
    "pool.attribute": "marker",
    "split.n_train": 256,
    "split.n_val": 32,
    "split.n_test": 200,
    "train.epochs": 10,
    "train.selection": ("last",),
    "intervene.scenes": "none",
    "intervene.scores": "none",
    "population.keep": "none",
}
LONGER = {**CHANGES, "train.epochs": 24, "axes.rho": (0.5, 0.99), "axes.train.hflip": (0.0, 0.5)}
"""Added after the first run, in which one seed of five had hardly found the organ."""


def draw_bodies(seed: int = 0):
    """Returns images, masks, classes and scenes of bodies with one organ and one marker each."""
    generator = np.random.default_rng(seed)
    number = np.arange(IMAGES)
    classes, scenes = number % 2, number // 2 % 2
    down, across = np.mgrid[:SIZE, :SIZE].astype(float)
    centre = SIZE / 2 + generator.uniform(-2.5, 2.5, (2, IMAGES, 1, 1))
    radii = generator.uniform(0.9, 1.1, (2, IMAGES, 1, 1)) * np.array([11.0, 9.5]).reshape(2, 1, 1, 1)
    x, y = (across - centre[0]) / radii[0], (down - 1.5 - centre[1]) / radii[1]
    body = x * x + y * y < 1
    side = np.where(classes == 0, -1.0, 1.0)[:, None, None]
    place = 0.48 * side + generator.uniform(-0.06, 0.06, (IMAGES, 1, 1))
    height = generator.uniform(-0.3, 0.3, (IMAGES, 1, 1))
    organ = ((x - place) / 0.22) ** 2 + ((y - height) / 0.33) ** 2 < 1
    level = np.where(organ, 165, np.where(body, 120, 30)) + generator.uniform(-15, 15, (IMAGES, 1, 1))
    images = np.repeat(level[..., None], 3, axis=-1)
    column = generator.integers(2, SIZE - 5, IMAGES)
    for i in range(IMAGES):
        images[i, 1:4, column[i] : column[i] + 3] = COLOURS[scenes[i]]
    images += generator.normal(0, NOISE, images.shape)
    return np.clip(images, 0, 255).astype(np.uint8), organ & body, classes, scenes


def make_run(changes, folder: pathlib.Path):
    """Trains what the run lacks."""
    images, masks, classes, scenes = draw_bodies()
    names = {"class_names": CLASSES, "scene_names": MARKERS, "usual": MARKERS}
    data = from_arrays(images, masks, classes, scenes, **names)
    return flipjax.run("smoke", changes, data=data, workdir=folder)


def draw_figure(table, path: pathlib.Path) -> None:
    """Draws Flip over hflip: all groups, common and rare, a column a rho, both kinds of labels."""
    rhos = CHANGES["axes.rho"]
    groups = {"all": "#8a8a8a", "common": "#0072b2", "rare": "#d55e00"}
    figure, axes = plt.subplots(1, len(rhos), figsize=(10, 3.4), sharey=True, layout="constrained")
    for axis, rho in zip(axes, rhos, strict=True):
        for labels, style in (("exchange", "-"), ("keep", "--")):
            for group, colour in groups.items():
                rows = table[(table.rho == rho) & (table.labels == labels) & (table.group == group)]
                means = rows.groupby("hflip").fg_flip.mean()
                axis.plot(means.index, means, style, color=colour, label=f"{group}, {labels}")
                axis.plot(rows.hflip, rows.fg_flip, ".", color=colour, alpha=0.3)
        axis.set(title=f"rho {rho:g}", xlabel="hflip", ylim=(-0.02, 1.02))
    axes[0].set_ylabel("Flip")
    axes[-1].legend(frameon=False, fontsize="x-small", loc="upper left")
    figure.savefig(path, dpi=120)


def main() -> None:
    """Writes the rows and the figure, and prints the means that the predictions are about."""
    flipjax.setup()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=pathlib.Path, default=pathlib.Path("runs"))
    parser.add_argument("--only", choices=("mirror", "mirror_longer"), help="train one of the two runs")
    options = parser.parse_args()
    for name, changes in {"mirror": CHANGES, "mirror_longer": LONGER}.items():
        if options.only in (None, name):
            write_rows(make_run(changes, options.runs / name), HERE / f"{name}.csv")
    draw_figure(pd.read_csv(HERE / "mirror.csv"), HERE / "mirror.png")


def write_rows(run, path: pathlib.Path) -> None:
    """Writes the rows of a run's members, and prints the means that the predictions are about."""
    table = run.results[(run.results["split"] == "test") & run.results["group"].isin(["all", "common", "rare"])]
    table = table.rename(columns={"train.mirror_labels": "labels"})
    columns = ["member", "labels", "rho", "hflip", "seed", "group", "fg_correct", "fg_flip", "fg_miss", "status"]
    write_csv(path, table[columns])
    means = table.pivot_table(index=["rho", "labels", "hflip"], columns="group", values="fg_flip")
    print(means.round(3).to_string())


if __name__ == "__main__":
    main()
