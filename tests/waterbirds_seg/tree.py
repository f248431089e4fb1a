"""A small tree like CUB and Places, and the commands that read it."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flipjax.config import PoolSpec
from flipjax.data import POOLS
from flipjax.data.__main__ import main
from flipjax.data.waterbirds_seg.archives import bird_files

SHARED = Path(__file__).parents[3] / "shared"
GOLDEN = SHARED / "golden/waterbirds_tiny"
SIZE = 16
needs_golden = pytest.mark.skipif(not GOLDEN.is_dir(), reason="../shared/golden is absent")


def save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


def draw_photo(rng, width, height):
    small = rng.integers(0, 256, (4, 4, 3)).astype(np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def draw_mask(rng, width, height):
    y, x = np.mgrid[:height, :width]
    distance = np.hypot((x - width / 2) / width, (y - height / 2) / height)
    return np.clip(255 * (0.4 - distance) / rng.uniform(0.1, 0.2), 0, 255).astype(np.uint8)


SPECIES = ("001.Black_footed_Albatross", "021.Eastern_Towhee", "110.Geococcyx", "118.House_Sparrow")


def make_tree(root, birds=24, scenes=8):
    """A tree like CUB and Places: birds of four species in turn, two of five for test; scenes in both layouts."""
    rng = np.random.default_rng(11)
    names = [f"{SPECIES[i % 4]}/{SPECIES[i % 4][4:]}_{i:04d}_{1000 + i}.jpg" for i in range(birds)]
    for i, name in enumerate(names):
        photo, segmentation = bird_files(root / "cub", name)
        size = (20 + i % 3, 18 + i % 2)
        save(photo, draw_photo(rng, *size) if i % 7 else draw_photo(rng, *size)[..., 0], quality=90)
        save(segmentation, draw_mask(rng, *size))
    (root / "cub/images.txt").write_text("".join(f"{i + 1} {name}\n" for i, name in enumerate(names)))
    (root / "cub/train_test_split.txt").write_text("".join(f"{i + 1} {int(i % 5 < 3)}\n" for i in range(birds)))
    for folder in ("b/bamboo_forest", "train/forest-broadleaf", "o/ocean", "val/lake-natural"):
        for i in range(scenes):
            save(root / "places" / folder / f"{i:08d}.jpg", draw_photo(rng, 24, 24 + i % 3), quality=90)
    return root


def arguments(tree, *more, command="prepare"):
    folders = ["--cub_dir", str(tree / "cub"), "--places_dir", str(tree / "places")]
    return [command, "waterbirds_seg", *folders, *map(str, more)]


def prepare(tree, data_dir, *more):
    return main(arguments(tree, "--data_dir", data_dir, *more))


def open_pool(data_dir, root="", size=SIZE):
    spec = PoolSpec(name="waterbirds_seg", root=root, data_dir=str(data_dir), size=size)
    return POOLS["waterbirds_seg"](spec)
