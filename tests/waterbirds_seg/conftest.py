"""A tree like CUB and Places."""

import shutil

import pytest

from waterbirds_seg.tree import TREE


@pytest.fixture
def tree(tmp_path):
    """A tree of the test's own."""
    return shutil.copytree(TREE, tmp_path / "tree", ignore=shutil.ignore_patterns("metadata.csv"))
