"""The TFDS builders on their `dummy_data`, by name and from disk alone: TFDS's own test case needs TensorFlow."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from flipjax.data.coco_cd import coco_cd_dataset_builder as coco_cd
from flipjax.data.waterbirds_seg import waterbirds_seg_dataset_builder as waterbirds_seg


def examples(module, config, data_dir):
    """Builds a data set from the folder beside its builder, and returns its examples by split, read from disk."""
    dummy_data = Path(module.__file__).parent / "dummy_data"
    builder = tfds.builder(module.__name__.split(".")[-2], config=config, data_dir=data_dir, file_format="array_record")
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=dummy_data))
    return tfds.builder_from_directory(builder.data_dir).as_data_source()


# One photo a group is left: n = min(1 / 0.5, 1 / 0.5) = 2 a class.
DIVIDED = coco_cd.CocoCDConfig(name="tiny", rho=0.5, n_val=1, n_test=2)
COUNTS = {
    (coco_cd, "undivided"): {"train": 16},
    (coco_cd, DIVIDED): {"train": 4, "validation": 4, "test": 8},
    (waterbirds_seg, "cutouts"): {"birds": 20, "scenes": 20},
    (waterbirds_seg, "manifest"): {"train": 8, "validation": 4, "test": 8},
}


@pytest.mark.parametrize(("module", "config"), COUNTS)
def test_examples_have_a_mask_of_their_class_and_their_group(module, config, tmp_path):
    sources = examples(module, config, tmp_path)
    assert {split: len(source) for split, source in sources.items()} == COUNTS[module, config]
    for example in (example for source in sources.values() for example in source):
        y, scene, mask = example["class"], example["scene"], example["mask"]
        assert example["group"] == (2 * y + scene if min(y, scene) >= 0 else -1)
        assert example["image"].shape[:2] == mask.shape[:2] and (mask.any() or y < 0)
        if min(y, scene) >= 0:
            assert np.unique(mask).tolist() == [0, 1 + y]
        else:
            assert (example["image"] <= mask).all() or y < 0  # A cut-out is premultiplied by its alpha.
        if module is coco_cd:
            grey = 90 if example["id"] == 1002 else example["id"] % 250
            np.testing.assert_allclose(example["image"], grey, atol=1)


@pytest.mark.parametrize("module", [coco_cd, waterbirds_seg])
def test_citation_and_tags_stand_beside_the_builder(module):
    metadata = module.Builder.get_metadata()
    assert "@" in metadata.citation and "ml.task.semantic-segmentation" in metadata.tags
