"""Trees like CUB and Places."""

import pytest

from waterbirds_seg.tree import make_tree


@pytest.fixture(scope="module")
def shared_tree(tmp_path_factory):
    """A tree that no test changes."""
    return make_tree(tmp_path_factory.mktemp("tree"))


@pytest.fixture
def tree(tmp_path):
    """A tree of the test's own."""
    return make_tree(tmp_path / "tree")
