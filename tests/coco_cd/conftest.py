"""The golden cases of COCO-CD."""

import json

import numpy as np
import pytest
from PIL import Image

from coco_cd.tree import GOLDEN, YEARS, needs


@pytest.fixture(scope="session")
def golden(tmp_path_factory):
    """The golden annotations, and photos of the sizes that they tell; some are greyscale."""
    needs(GOLDEN)
    root = tmp_path_factory.mktemp("coco")
    (root / "annotations").symlink_to((GOLDEN / "annotations").resolve())
    rng = np.random.default_rng(5)
    for year in YEARS:
        (root / year).mkdir()
        for photo in json.loads((GOLDEN / f"annotations/instances_{year}.json").read_text())["images"]:
            pixels = rng.integers(0, 256, (photo["height"], photo["width"], 3)).astype(np.uint8)
            Image.fromarray(pixels if photo["id"] % 9 else pixels[..., 0]).save(root / year / photo["file_name"])
    return root


@pytest.fixture(scope="session")
def expected():
    needs(GOLDEN)
    return json.loads((GOLDEN / "expected_splits.json").read_text())
