"""Sweeps over images in memory, whose scene is a site: python sweeps/examples/own_arrays.py

A scene is any attribute of an image that may correlate with its class: a site, a scanner, a marker. Put your arrays in
place of the made-up ones.
"""

import numpy as np

import flipjax

generator = np.random.default_rng(0)
classes, sites = np.arange(240) % 2, np.arange(240) // 2 % 2
images = generator.uniform(0, 0.3, (240, 16, 16, 3)) + 0.3 * sites[:, None, None, None]  # each site has its brightness
masks = np.zeros((240, 16, 16), bool)
for image, mask, lesion, (top, left) in zip(images, masks, classes, generator.integers(0, 8, (240, 2)), strict=True):
    mask[top : top + 8, left : left + 8] = True
    image[mask, lesion] += 0.3

names = {"class_names": ("benign", "malignant"), "scene_names": ("north", "south")}
data = flipjax.data.from_arrays(images.clip(0, 1), masks, classes, sites, **names)
changes = {"pool.attribute": "site", "model.depth": 2, "train.epochs": 3, "axes.seed": (0,)}
changes |= {"split.n_train": 64, "split.n_val": 16, "split.n_test": 40}
flipjax.setup()  # A device per core.
run = flipjax.run("smoke", changes, data=data, workdir="runs/own_arrays")
print(run.results.query("split == 'test' and group in ('common', 'rare')")[["rho", "group", "fg_flip"]])
