"""Compares `random_resized_crop(..., aspects=)` of squares with Pillow's crops of 50 photos, in grey levels.

    python sweeps/benchmarks/crops.py VOC      # a folder of JPEG photos

Prints the mean difference from Pillow's crop of the photo: of flipjax's crop, and of Pillow's own crop of the square.
"""

import pathlib
import sys

import jax
import numpy as np
from PIL import Image

from flipjax import augment
from flipjax.augment import geometry

SIZE, BILINEAR = 512, Image.Resampling.BILINEAR
mask = np.ones((1, SIZE, SIZE), int)
gaps = []
paths = sorted(pathlib.Path(sys.argv[1]).glob("*.jpg"))[:50]
for key, path in zip(jax.random.split(jax.random.key(0), 50), paths, strict=True):
    photo = Image.open(path)
    aspect = np.float32([photo.width / photo.height])
    square = photo.resize((SIZE, SIZE), BILINEAR)
    pixels = np.asarray(square, np.float32)[None] / 255
    crop = 255 * augment.random_resized_crop(key, pixels, mask, aspects=aspect)[0][0]
    top, left, height, width = np.asarray(geometry._draw_boxes(key, mask, 1, (0.8, 1), (0.9, 1.1), aspect))[0] / SIZE
    box = np.array([left, top, left + width, top + height])
    wanted, twice = (
        np.asarray(image.crop(np.round(box * [*image.size, *image.size])).resize((SIZE, SIZE), BILINEAR), float)
        for image in (photo, square)
    )
    gaps.append([abs(other - wanted).mean() for other in (crop, twice)])
print(np.mean(gaps, 0))
