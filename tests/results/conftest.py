"""The run that tests/recorded/make.py records."""

import pathlib

import pytest


@pytest.fixture(scope="module")
def recorded():
    """The run that tests/recorded/make.py records."""
    return pathlib.Path(__file__).parents[1] / "recorded" / "run"
