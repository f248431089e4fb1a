"""COCO-CD through TFDS: an equal of `tfds.testing.DatasetBuilderTestCase`, which needs TensorFlow.

TFDS runs in a process of its own: there it can be seen that TensorFlow stays out.
"""

import json
import subprocess
import sys

import numpy as np
import pytest
from coco_tree import HEIGHT, WIDTH, write_coco
from PIL import Image

SCRIPT = """
import json, sys
import numpy as np
import tensorflow_datasets as tfds
from flipjax.data.coco_cd.coco_cd_dataset_builder import Builder, CocoCDConfig

root, data_dir, manual = sys.argv[1:]
config = CocoCDConfig(name="tiny", rho=0.75, n_val=1, n_test=2)
folders = {} if manual else {"coco_root": root, "stuff_dir": root + "/annotations"}
builder = tfds.builder("coco_cd", config=config, data_dir=data_dir, **folders)
builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=root if manual else None))
builder = tfds.builder("coco_cd", config=config, data_dir=data_dir)
builder.download_and_prepare()  # It is there: nothing is asked for.
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
    "tensorflow": "tensorflow" in sys.modules,
}
with open(data_dir + "/found.json", "w") as file:
    json.dump(facts, file)
"""


def build(root, data_dir, *, manual):
    command = [sys.executable, "-c", SCRIPT, str(root), str(data_dir), "manual" if manual else ""]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Ten photos a group; one is greyscale."""
    root = write_coco(tmp_path_factory.mktemp("tfds") / "coco", per_group=(10, 10, 10, 10))
    Image.fromarray(np.full((HEIGHT, WIDTH), 90, np.uint8)).save(root / "train2017/000000001002.jpg", quality=95)
    return root


@pytest.mark.parametrize("manual", [True, False])
def test_the_data_set_is_written_and_read(root, tmp_path, manual):
    done = build(root, tmp_path, manual=manual)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["tensorflow"] is False
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
    done = build(root, tmp_path, manual=False)
    for path, content in whole.items():
        path.write_bytes(content)
    assert done.returncode != 0 and any(f"BadFileError: {path}: unreadable" in done.stderr for path in whole)
    assert not list(tmp_path.glob("coco_cd/tiny/1.0.0"))
