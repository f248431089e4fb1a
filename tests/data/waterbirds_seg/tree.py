"""A small tree like CUB and Places, and the commands that read it."""

from pathlib import Path

import golden

from flipjax.config import PoolSpec
from flipjax.data import POOLS
from flipjax.data.__main__ import main
from flipjax.data.prepare import waterbirds_seg

GOLDEN = golden.GOLDEN / "waterbirds_tiny"
SIZE = 16


TREE = Path(waterbirds_seg.__file__).parent / "dummy_data"
CUB, PLACES = "CUB_200_2011", "places365"
"""The builder's own: 20 birds of four species in turn, two of five for test; 20 scenes in both layouts."""


def arguments(tree, *more, command="prepare"):
    folders = ["--cub_dir", str(tree / CUB), "--places_dir", str(tree / PLACES)]
    return [command, "waterbirds_seg", *folders, *map(str, more)]


def prepare(tree, data_dir, *more):
    return main(arguments(tree, "--data_dir", data_dir, *more))


def open_pool(data_dir, root="", size=SIZE):
    spec = PoolSpec(name="waterbirds_seg", root=root, data_dir=str(data_dir), size=size)
    return POOLS["waterbirds_seg"](spec)
