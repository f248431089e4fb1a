"""A tiny COCO for tests: plain photos, a square animal on each, stuff that tells the scene; its command and pools."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flipjax.config import PoolSpec
from flipjax.data import POOLS
from flipjax.data.__main__ import main

SHARED = Path(__file__).parents[3] / "shared"
GOLDEN = SHARED / "golden/coco_tiny"
YEARS = ("train2017", "val2017")
WIDTH, HEIGHT = 20, 16
NAMES = {17: "cat", 18: "dog", 19: "horse", 62: "chair", 3: "car"}
STUFF = {101: "carpet", 124: "grass", 155: "sea", 171: "wall-concrete"}
SMALL = ("--val_per_group", 1, "--test_per_group", 2)
SQUARE = [[4, 4, 12, 4, 12, 12, 4, 12]]


def item(key, image, category, *, shape=SQUARE, area=64.0, crowd=0):
    result = {"id": key, "image_id": image, "category_id": category, "segmentation": shape}
    return result | {"area": area, "iscrowd": crowd, "bbox": [0, 0, 1, 1]}


def write_coco(root, per_group=(4, 4, 4, 4), scenes=2):
    """Writes a COCO of plain photos, every fourth in val2017; id 1000 * group + i."""
    ids = [1000 * group + i for group, count in enumerate(per_group) for i in range(count)]
    for part, year in enumerate(YEARS):
        (root / year).mkdir(parents=True)
        here = [i for i in ids if (i % 4 == 3) == bool(part)]
        photos = [{"id": i, "file_name": f"{i:012d}.jpg", "width": WIDTH, "height": HEIGHT} for i in here]
        for photo in photos:
            colour = np.full((HEIGHT, WIDTH, 3), photo["id"] % 250, np.uint8)
            Image.fromarray(colour).save(root / year / photo["file_name"], quality=95)
        animals = [item(i, i, 17 + i // 1000 // scenes) for i in here]
        stuff = [item(i, i, (101, 124, 155)[i // 1000 % scenes], area=50.0) for i in here]
        write(root, f"instances_{year}", {"images": photos, "annotations": animals, "categories": named(NAMES)})
        write(root, f"stuff_{year}", {"images": photos, "annotations": stuff, "categories": named(STUFF)})
    return root


def named(names):
    return [{"id": key, "name": name, "supercategory": {155: "water"}.get(key, "x")} for key, name in names.items()]


def write(root, name, value):
    (root / "annotations").mkdir(exist_ok=True)
    (root / "annotations" / f"{name}.json").write_text(json.dumps(value))


def change(root, name, edit):
    path = root / "annotations" / f"{name}.json"
    value = json.loads(path.read_text())
    edit(value)
    path.write_text(json.dumps(value))


def needs(path):
    if not path.exists():
        pytest.skip(f"{path} is not there")


def prepare(root, data_dir, *options):
    return main(["prepare", "coco_cd", "--coco_root", str(root), "--data_dir", str(data_dir), *map(str, options)])


def refused(capsys, root, data_dir, *options):
    """Runs a command that must fail and leave nothing; returns what it says."""
    assert prepare(root, data_dir, *options) == 1
    assert not data_dir.exists() or not list(data_dir.iterdir())
    return capsys.readouterr().err


def open_pool(data_dir, root=""):
    spec = PoolSpec(name="coco_cd", root=root, data_dir=str(data_dir), size=16)
    return POOLS["coco_cd"](spec)
