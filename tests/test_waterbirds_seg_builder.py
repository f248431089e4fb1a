"""Waterbirds-Seg through TFDS, without TensorFlow: what `tfds.testing.DatasetBuilderTestCase` would look at."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image
from test_waterbirds_seg import GOLDEN, make_tree, needs_golden

from flipjax.config import ConfigError
from flipjax.data.prepare import BadFileError
from flipjax.data.preparing import PreparingError
from flipjax.data.waterbirds_seg import archives, pixels
from flipjax.data.waterbirds_seg.waterbirds_seg_dataset_builder import Builder

FEATURES = {"image", "mask", "class", "scene", "group", "id", "part"}
FOLDER = Path(archives.__file__).parent


@pytest.fixture(scope="module")
def shared_tree(tmp_path_factory):
    """A manual_dir: CUB, Places, and the golden manifest's place for an own one."""
    root = make_tree(tmp_path_factory.mktemp("manual"))
    (root / "cub").rename(root / "CUB_200_2011")
    (root / "places").rename(root / "places365")
    return root


def make(builder, manual_dir=None):
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=manual_dir))
    return builder


@needs_golden
def test_manifest_equals_the_reference(tmp_path):
    options = {"cub_dir": GOLDEN / "cub", "places_dir": GOLDEN / "places", "manifest": GOLDEN / "metadata.csv"}
    builder = make(Builder(config="manifest", data_dir=tmp_path, **options))
    sources = builder.as_data_source()
    assert {split: len(source) for split, source in sources.items()} == {"train": 8, "val": 4, "test": 4}
    for index, split in enumerate(("train", "val", "test")):
        for example in sources[split]:
            assert example.keys() == FEATURES and example["part"] == index
            assert example["group"] == 2 * example["class"] + example["scene"]
            name = Path(example["id"].decode()).with_suffix(".png")
            np.testing.assert_array_equal(example["image"], Image.open(GOLDEN / "expected_images" / name))
            np.testing.assert_array_equal(example["mask"][..., 0], Image.open(GOLDEN / "expected_masks" / name))
    assert builder.info.splits["train"].filenames == ["waterbirds_seg-train.array_record-00000-of-00001"]
    again = pickle.loads(pickle.dumps(builder))
    assert again.info.full_name == builder.info.full_name
    # Read back by what is on disk alone.
    stored = tfds.builder_from_directory(builder.data_dir)
    assert len(stored.as_data_source("test")) == 4
    assert stored.info.features["class"].names == ["landbird", "waterbird"]


def test_cutouts_hold_every_bird_and_scene(shared_tree, tmp_path):
    builder = make(Builder(config="cutouts", data_dir=tmp_path, size=16), shared_tree)
    birds, scenes = builder.as_data_source("birds"), builder.as_data_source("scenes")
    assert (len(birds), len(scenes)) == (24, 32)
    for example in birds:
        name = example["id"].decode()
        image, alpha = pixels.cut_out(*pixels.read_bird(*archives.bird_files(shared_tree / "CUB_200_2011", name)), 16)
        np.testing.assert_array_equal(example["image"], image)
        np.testing.assert_array_equal(example["mask"][..., 0], alpha)
        assert example["class"] == archives.class_of(name) and example["scene"] == example["group"] == -1
    assert sorted(example["scene"] for example in scenes) == [0] * 16 + [1] * 16
    assert all(example["class"] == -1 and not example["mask"].any() for example in scenes)
    assert {example["part"] for example in birds} == {-1, 2}


def test_options_have_folders_of_their_own(shared_tree, tmp_path):
    first, second = tmp_path / "a.csv", tmp_path / "b.csv"
    first.write_text("1")
    second.write_text("2")
    options = [{}, {"fix_labels": True}, {"size": 64}, {"manifest": first}, {"manifest": second}]
    names = [Builder(config="manifest", data_dir=tmp_path, **each).info.config_name for each in options]
    assert names[:3] == ["manifest", "manifest-fixed", "manifest-64"] and len(set(names)) == 5
    fixed = make(Builder(config="cutouts", data_dir=tmp_path, fix_labels=True, size=16), shared_tree)
    assert sum(example["class"] for example in fixed.as_data_source("birds")) == 6
    with pytest.raises(ConfigError, match="config: expected one of cutouts, manifest, found 'photos'"):
        Builder(config="photos", data_dir=tmp_path)
    with pytest.raises(ConfigError, match="manifest: expected a CSV"):
        Builder(config="manifest", data_dir=tmp_path, manifest=tmp_path / "none.csv")


def test_bad_files_leave_no_data_set(tmp_path):
    root = make_tree(tmp_path / "manual")
    options = {"cub_dir": root / "cub", "places_dir": root / "places", "data_dir": tmp_path / "tfds"}
    photo, segmentation = archives.bird_files(root / "cub", archives.read_birds(root / "cub")[3].name)
    os.truncate(photo, 100)
    with pytest.raises(BadFileError, match=photo.name):
        make(Builder(**options))
    segmentation.unlink()
    with pytest.raises(PreparingError, match="1 files are missing for 56 images"):
        make(Builder(**options))
    assert not list((tmp_path / "tfds").rglob("*.array_record*"))


def test_the_folder_has_what_tfds_reads():
    metadata = Builder.get_metadata()
    assert "Waterbirds-Seg" in metadata.description and "wah2011caltech" in metadata.citation
    assert "segmentations" in Builder.MANUAL_DOWNLOAD_INSTRUCTIONS
    assert (FOLDER / "waterbirds_seg_dataset_builder.py").is_file() and Builder.name == "waterbirds_seg"


SCRIPT = """
import sys
import tensorflow_datasets as tfds
from flipjax.data.waterbirds_seg import waterbirds_seg_dataset_builder

golden, data_dir = sys.argv[1:]
manifest = golden + "/metadata.csv"
folders = {"cub_dir": golden + "/cub", "places_dir": golden + "/places"}
builder = tfds.builder("waterbirds_seg/manifest", data_dir=data_dir, manifest=manifest, **folders)
builder.download_and_prepare()
name = f"waterbirds_seg/{builder.info.config_name}"
assert name.startswith("waterbirds_seg/manifest-metadata-"), name
by_option = tfds.builder("waterbirds_seg/manifest", data_dir=data_dir, manifest=manifest)
by_name = [tfds.builder(name + version, data_dir=data_dir) for version in ("", ":1.0.0")]
for again in (builder, by_option, *by_name):
    assert again.info.full_name == builder.info.full_name
    source = again.as_data_source("train")
    assert len(source) == 8 and source[0]["image"].ndim == 3
print("read by name")
"""


@needs_golden
def test_the_data_set_is_made_and_opened_by_name_without_tensorflow(tmp_path, without_tensorflow):
    command = [sys.executable, "-c", SCRIPT, str(GOLDEN), str(tmp_path)]
    done = subprocess.run(command, env=without_tensorflow, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "read by name"
