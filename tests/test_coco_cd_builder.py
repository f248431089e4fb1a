"""COCO-CD through TFDS: an equal of `tfds.testing.DatasetBuilderTestCase`, which needs TensorFlow."""

import json
import subprocess
import sys

import numpy as np
import pytest
from coco_tree import HEIGHT, WIDTH, write_coco
from PIL import Image

from flipjax.data.coco_cd.coco_cd_dataset_builder import Builder, CocoCDConfig
from flipjax.data.prepare import BadFileError

SCRIPT = """
import json, sys
import numpy as np
import tensorflow_datasets as tfds
from flipjax.data.coco_cd.coco_cd_dataset_builder import Builder, CocoCDConfig

root, data_dir, manual_dir = sys.argv[1:]
config = CocoCDConfig(name="tiny", rho=0.75, n_val=1, n_test=2)
# From a manual_dir, and from folders that are named.
builder = tfds.builder("coco_cd", config=config, data_dir=manual_dir)
builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=root))
manual = builder.info.splits
folders = {"coco_root": root, "stuff_dir": root + "/annotations"}
tfds.builder("coco_cd", config=config, data_dir=data_dir, **folders).download_and_prepare()
builder = tfds.builder("coco_cd", config=config, data_dir=data_dir)
builder.download_and_prepare()  # It is there: nothing is asked for.
assert {split: (info.num_examples, info.num_bytes) for split, info in builder.info.splits.items()} == {
    split: (info.num_examples, info.num_bytes) for split, info in manual.items()
}
examples = {
    split: [
        {name: value.tolist() if isinstance(value, np.ndarray) else int(value) for name, value in example.items()}
        for example in builder.as_data_source(split)
    ]
    for split in builder.info.splits
}
facts = {
    "examples": examples,
    "names": {name: builder.info.features[name].names for name in ("class", "scene")},
    "counts": {split: info.num_examples for split, info in builder.info.splits.items()},
    "format": str(builder.info.file_format.value),
    "description": builder.info.description,
    "citation": builder.info.citation,
    "configs": [config.name for config in Builder.BUILDER_CONFIGS],
}
with open(data_dir + "/found.json", "w") as file:
    json.dump(facts, file)
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Ten photos a group; one is greyscale."""
    root = write_coco(tmp_path_factory.mktemp("tfds") / "coco", per_group=(10, 10, 10, 10))
    Image.fromarray(np.full((HEIGHT, WIDTH), 90, np.uint8)).save(root / "train2017/000000001002.jpg", quality=95)
    return root


def test_the_data_set_is_written_and_read_without_tensorflow(root, tmp_path, without_tensorflow):
    command = [sys.executable, "-c", SCRIPT, str(root), str(tmp_path / "a"), str(tmp_path / "b")]
    done = subprocess.run(command, env=without_tensorflow, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "a/found.json").read_text())
    assert (found["format"], found["configs"]) == ("array_record", ["photos", "corr0.5", "corr0.95"])
    assert found["description"].startswith("COCO-CD") and "Caesar" in found["citation"]
    assert found["names"] == {"class": ["cat", "dog"], "scene": ["indoor", "outdoor"]}
    # Of 7 a group are left: n = min(7 / 0.75, 7 / 0.25) = 9 a class, 6 of them in the usual scene.
    assert found["counts"] == {"train": 18, "val": 4, "test": 8}
    counts = {
        split: np.bincount([example["group"] for example in examples], minlength=4).tolist()
        for split, examples in found["examples"].items()
    }
    assert counts == {"train": [6, 3, 3, 6], "val": [1] * 4, "test": [2] * 4}
    examples = [example for split in found["examples"].values() for example in split]
    assert len({example["id"] for example in examples}) == 30
    for example in examples:
        assert example["group"] == 2 * example["class"] + example["scene"] == example["id"] // 1000
        image, mask = np.array(example["image"]), np.array(example["mask"])
        assert image.shape == (HEIGHT, WIDTH, 3) and mask.shape == (HEIGHT, WIDTH, 1)
        assert np.unique(mask).tolist() == [0, 1 + example["class"]] and (mask > 0).sum() == 64
        grey = 90 if example["id"] == 1002 else example["id"] % 250
        np.testing.assert_allclose(image, grey, atol=1)


def test_a_damaged_photo_is_named_and_nothing_is_left(root, tmp_path):
    whole = {path: path.read_bytes() for path in (root / "val2017").iterdir()}
    for path, content in whole.items():
        path.write_bytes(content[:200])
    config = CocoCDConfig(name="tiny", rho=0.75, n_val=1, n_test=2)
    with pytest.raises(BadFileError, match=r"val2017/0.*: unreadable"):
        Builder(config=config, data_dir=tmp_path, coco_root=root).download_and_prepare()
    for path, content in whole.items():
        path.write_bytes(content)
    assert not list(tmp_path.glob("coco_cd/tiny/1.0.0"))
