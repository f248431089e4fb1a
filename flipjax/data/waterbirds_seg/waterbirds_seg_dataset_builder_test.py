"""The builder on `dummy_data`: what `tfds.testing.DatasetBuilderTestCase` looks at, which needs TensorFlow."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from flipjax.data import images
from flipjax.data.waterbirds_seg.archives import bird_files
from flipjax.data.waterbirds_seg.waterbirds_seg_dataset_builder import Builder

DUMMY_DATA = Path(__file__).parent / "dummy_data"
SPLITS = {
    "cutouts": {"birds": 20, "scenes": 20},
    "manifest": {"train": 8, "validation": 4, "test": 8},
}


@pytest.mark.parametrize("config", SPLITS)
def test_the_data_set_is_built_and_read(config, tmp_path):
    """Counts, features and pixels of every example, and the builder from its name and from what is on disk alone."""
    builder = tfds.builder(f"waterbirds_seg/{config}", data_dir=tmp_path, file_format="array_record")
    download_config: Any = tfds.download.DownloadConfig
    builder.download_and_prepare(download_config=download_config(manual_dir=DUMMY_DATA))
    assert {split: info.num_examples for split, info in builder.info.splits.items()} == SPLITS[config]
    again = pickle.loads(pickle.dumps(builder))
    stored: Any = tfds.builder_from_directory(builder.data_dir)
    assert again.info.full_name == stored.info.full_name == f"waterbirds_seg/{config}/1.0.0"
    for split in SPLITS[config]:
        for example in stored.as_data_source(split):
            assert example.keys() == {"image", "mask", "id", "class", "scene", "group", "part"}
            assert example["image"].shape == (*example["mask"].shape[:2], 3)
            if split == "scenes":
                assert example["class"] == example["group"] == -1 and not example["mask"].any()
                continue
            photo, segmentation = bird_files(DUMMY_DATA / "CUB_200_2011", example["id"].decode())
            alpha = np.asarray(Image.open(segmentation))
            if split == "birds":
                np.testing.assert_array_equal(example["mask"][..., 0], alpha)
                bird, _ = images.cut_out(Image.open(photo).convert("RGB"), Image.open(segmentation), 0)
                np.testing.assert_array_equal(example["image"], bird)
            else:
                np.testing.assert_array_equal(example["mask"][..., 0], (alpha > 127) * (1 + example["class"]))
                assert example["group"] == 2 * example["class"] + example["scene"]


def test_the_folder_has_what_tfds_reads():
    """Description, citation and tags stand in files beside the builder."""
    metadata = Builder.get_metadata()
    assert metadata.description.startswith("Waterbirds-Seg") and "wah2011caltech" in metadata.citation
    assert "ml.task.semantic-segmentation" in metadata.tags
