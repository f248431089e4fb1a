"""A tiny COCO for tests: plain photos, a square animal on each, stuff that tells the scene; its command and pools."""

import json
import shutil
from pathlib import Path

import golden

from flipjax.config import PoolSpec
from flipjax.data import POOLS
from flipjax.data.__main__ import main
from flipjax.data.prepare import coco_cd

GOLDEN = golden.GOLDEN / "coco_tiny"
YEARS = ("train2017", "val2017")
WIDTH, HEIGHT = 20, 16
SQUARE = [[4, 4, 12, 4, 12, 12, 4, 12]]


def item(key, image, category, *, shape=SQUARE):
    return {"id": key, "image_id": image, "category_id": category, "segmentation": shape, "area": 64.0}


def copy_coco(root):
    """Copies the builder's own: four plain photos a group, every fourth in val2017; id 1000 * group + i."""
    return shutil.copytree(Path(coco_cd.__file__).parent / "dummy_data", root)


def change(root, name, edit):
    path = root / "annotations" / f"{name}.json"
    value = json.loads(path.read_text())
    edit(value)
    path.write_text(json.dumps(value))


def prepare(root, data_dir, *options):
    return main(["prepare", "coco_cd", "--coco_root", str(root), "--data_dir", str(data_dir), *map(str, options)])


def open_pool(data_dir, root=""):
    spec = PoolSpec(name="coco_cd", root=root, data_dir=str(data_dir), size=16)
    return POOLS["coco_cd"](spec)
