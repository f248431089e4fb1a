"""The command and the pools of COCO-CD, and its golden cases."""

from pathlib import Path

import pytest

from flipjax.config import PoolSpec
from flipjax.data import POOLS
from flipjax.data.__main__ import main

SHARED = Path(__file__).parents[3] / "shared"
GOLDEN = SHARED / "golden/coco_tiny"


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


SMALL = ("--val_per_group", 1, "--test_per_group", 2)
