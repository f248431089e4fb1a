"""The builder on `dummy_data`: what `tfds.testing.DatasetBuilderTestCase` looks at, which needs TensorFlow."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds

from flipjax.data.coco_cd.coco_cd_dataset_builder import Builder, CocoCDConfig

DUMMY_DATA = Path(__file__).parent / "dummy_data"
CONFIGS = {
    "undivided": ("undivided", {"train": [4, 4, 4, 4]}),
    # One photo a group is left: n = min(1 / 0.5, 1 / 0.5) = 2 a class.
    "divided": (
        CocoCDConfig(name="tiny", rho=0.5, n_val=1, n_test=2),
        {"train": [1] * 4, "validation": [1] * 4, "test": [2] * 4},
    ),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_the_data_set_is_built_and_read(name, tmp_path):
    """Groups, features and pixels of every example: plain photos with a square of 8 x 8 pixels, one of them grey."""
    config, groups = CONFIGS[name]
    builder = tfds.builder("coco_cd", config=config, data_dir=tmp_path, file_format="array_record")
    download_config: Any = tfds.download.DownloadConfig
    builder.download_and_prepare(download_config=download_config(manual_dir=DUMMY_DATA))
    sources: Any = tfds.builder_from_directory(builder.data_dir).as_data_source()
    assert {split: np.bincount([e["group"] for e in source]).tolist() for split, source in sources.items()} == groups
    examples = [example for source in sources.values() for example in source]
    assert len({example["id"] for example in examples}) == 16
    for example in examples:
        assert example["group"] == 2 * example["class"] + example["scene"] == example["id"] // 1000
        assert np.unique(example["mask"]).tolist() == [0, 1 + example["class"]] and (example["mask"] > 0).sum() == 64
        grey = 90 if example["id"] == 1002 else example["id"] % 250
        assert example["image"].shape == (16, 20, 3)
        np.testing.assert_allclose(example["image"], grey, atol=1)


def test_the_folder_has_what_tfds_reads():
    """Description, citation and tags stand in files beside the builder."""
    metadata = Builder.get_metadata()
    assert metadata.description.startswith("COCO-CD") and "Caesar" in metadata.citation
    assert "ml.task.semantic-segmentation" in metadata.tags
