"""A folder of objects and scenes."""

import pytest

from folder.tree import composite


@pytest.fixture
def root(tmp_path):
    return composite(tmp_path / "data")
