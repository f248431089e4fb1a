"""Asks whether networks use an attribute of images in memory: python sweeps/examples/assay_arrays.py [OPTION=VALUE ...]

Discs and ovals whose tint goes with the class in 85% of the images. Put your arrays in place of the drawn ones. Options
are those of `flipjax.assay`; `epochs=2 seeds=2 folds=2` is the shortest run, too short for a verdict.
"""

import ast
import sys

import numpy as np

import flipjax

COUNT, SIZE = 300, 32
generator = np.random.default_rng(0)
shapes = np.arange(COUNT) % 2  # 0: disc, 1: oval
tints = np.where(generator.random(COUNT) < 0.85, shapes, 1 - shapes)

rows, columns = np.mgrid[:SIZE, :SIZE]
images = np.empty((COUNT, SIZE, SIZE, 3))
masks = np.empty((COUNT, SIZE, SIZE), bool)
for index, (shape, tint) in enumerate(zip(shapes, tints, strict=True)):
    top, left = generator.uniform(12, 20, 2)
    angle = generator.uniform(0, np.pi)
    along = (columns - left) * np.cos(angle) + (rows - top) * np.sin(angle)
    across = (rows - top) * np.cos(angle) - (columns - left) * np.sin(angle)
    longer = 1.5 if shape else 1.0
    masks[index] = (along / (6 * longer)) ** 2 + (across * longer / 6) ** 2 <= 1
    image = generator.normal(0.45, 0.08, (SIZE, SIZE, 3))
    image[masks[index]] += 0.2
    images[index] = image + np.array([0.1, 0.0, -0.1]) * (1 if tint else -1)

data = flipjax.data.from_arrays(
    images.clip(0, 1), masks, shapes, tints, class_names=("disc", "oval"), scene_names=("cold", "warm")
)
options = {name: ast.literal_eval(value) for name, value in (option.split("=") for option in sys.argv[1:])}
flipjax.setup()  # A device per core.
result = flipjax.assay(data, attribute="tint", out="runs/assay_arrays", **options)
print(f"{result.attribute}: {result.verdict.word}. {result.verdict.reason} {result.verdict.help}")
print(f"{result.folder}/index.html")
