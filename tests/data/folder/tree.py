"""Folders of made-up photos, in both layouts."""

import csv

import pytest

from data.folder.pixels import BLUE, GREEN, save, solid, square
from flipjax.config import PoolSpec
from flipjax.data.sources.folder import load_folder
from flipjax.data.store import BadFilesError

SIZE = 16


def composite(root, objects=6, scenes=4, classes=("cat", "dog"), kinds=("land", "water")):
    for y, name in enumerate(classes):
        for i in range(objects):
            save(root / "cutouts" / name / f"{i:02d}.jpg", solid((40 * i % 256, 200 * y % 256, 90)), quality=95)
            save(root / "cutouts" / name / f"{i:02d}.png", square())
    for name, colour in zip(kinds, (GREEN, BLUE, GREEN, BLUE), strict=False):
        for i in range(scenes):
            save(root / "scenes" / name / f"{i}.png", solid(colour, 30 + i, 20))
    return root


def write_metadata(root, rows, columns=("filename", "class", "scene", "split")):
    with open(root / "metadata.csv", "w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])


def photos(root, per_group=(6, 3, 3, 6), splits=None):
    rows = []
    for group, count in enumerate(per_group):
        y, scene = divmod(group, 2)
        for i in range(count):
            name = f"{'cat' if y == 0 else 'dog'}_{scene}_{i}.jpg"
            save(root / "images" / name, solid((GREEN, BLUE)[scene]))
            save(root / "masks" / name.replace(".jpg", ".png"), square(value=1 + y))
            split = "" if splits is None else splits[i % len(splits)]
            rows.append((name, ("cat", "dog")[y], ("indoor", "outdoor")[scene], split))
    write_metadata(root, rows)
    return rows


def spec(root, **options):
    return PoolSpec(name="folder", root=str(root), size=SIZE, **options)


def problems_of(root, **options):
    with pytest.raises(BadFilesError) as raised:
        load_folder(spec(root, **options))
    return raised.value.problems
