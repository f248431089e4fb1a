"""The TFDS builders on their `dummy_data`, by name and from disk alone: TFDS's own test case needs TensorFlow."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from flipjax.data import images
from flipjax.data.coco_cd import coco_cd_dataset_builder as coco_cd
from flipjax.data.waterbirds_seg import waterbirds_seg_dataset_builder as waterbirds_seg
from flipjax.data.waterbirds_seg.manifest import bird_files


def examples(module, config, data_dir):
    """Builds a data set from the folder beside its builder, and returns its examples by split, read from disk."""
    dummy_data = Path(module.__file__).parent / "dummy_data"
    builder = tfds.builder(module.__name__.split(".")[-2], config=config, data_dir=data_dir, file_format="array_record")
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=dummy_data))
    return dummy_data, tfds.builder_from_directory(builder.data_dir).as_data_source()


# One photo a group is left: n = min(1 / 0.5, 1 / 0.5) = 2 a class.
DIVIDED = coco_cd.CocoCDConfig(name="tiny", rho=0.5, n_val=1, n_test=2)
GROUPS = {"undivided": {"train": [4] * 4}, DIVIDED: {"train": [1] * 4, "validation": [1] * 4, "test": [2] * 4}}


@pytest.mark.parametrize(("config", "groups"), GROUPS.items())
def test_coco_cd(config, groups, tmp_path):
    """Plain photos with a square of 8 x 8 pixels, one of them grey."""
    _, sources = examples(coco_cd, config, tmp_path)
    assert {split: np.bincount([e["group"] for e in source]).tolist() for split, source in sources.items()} == groups
    for example in (example for source in sources.values() for example in source):
        assert example["group"] == 2 * example["class"] + example["scene"] == example["id"] // 1000
        assert np.unique(example["mask"]).tolist() == [0, 1 + example["class"]] and (example["mask"] > 0).sum() == 64
        grey = 90 if example["id"] == 1002 else example["id"] % 250
        assert example["image"].shape == (16, 20, 3)
        np.testing.assert_allclose(example["image"], grey, atol=1)


SPLITS = {"cutouts": {"birds": 20, "scenes": 20}, "manifest": {"train": 8, "validation": 4, "test": 8}}


@pytest.mark.parametrize(("config", "splits"), SPLITS.items())
def test_waterbirds_seg(config, splits, tmp_path):
    dummy_data, sources = examples(waterbirds_seg, config, tmp_path)
    assert {split: len(source) for split, source in sources.items()} == splits
    for split, example in ((split, example) for split, source in sources.items() for example in source):
        if split == "scenes":
            assert example["class"] == example["group"] == -1 and not example["mask"].any()
            continue
        photo, segmentation = bird_files(dummy_data / "CUB_200_2011", example["id"].decode())
        alpha, mask = Image.open(segmentation), example["mask"][..., 0]
        if split == "birds":
            np.testing.assert_array_equal(mask, alpha)
            bird = images.cut_out(Image.open(photo).convert("RGB"), alpha, name="it", size=0).image
            np.testing.assert_array_equal(example["image"], bird)
        else:
            np.testing.assert_array_equal(mask, (np.asarray(alpha) > 127) * (1 + example["class"]))
            assert example["group"] == 2 * example["class"] + example["scene"]


@pytest.mark.parametrize("module", [coco_cd, waterbirds_seg])
def test_description_citation_and_tags_stand_beside_the_builder(module):
    metadata = module.Builder.get_metadata()
    assert metadata.description and "@" in metadata.citation and "ml.task.semantic-segmentation" in metadata.tags
