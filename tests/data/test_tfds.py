"""TFDS data sets, anybody's and the builders', as pools: names and parts, masks, stored pools, no TensorFlow."""

import importlib.util
import itertools
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tensorflow_datasets as tfds
from PIL import Image
from run_folder import TRAINED
from tensorflow_datasets.core import shuffle

from flipjax.config import ConfigError, PoolSpec
from flipjax.data import POOLS, store
from flipjax.data.decoding.images import encode_png
from flipjax.data.loaders import list_pool
from flipjax.data.prepare.builders import shuffling_needs_no_tensorflow
from flipjax.data.prepare.coco_cd import coco_cd_dataset_builder as coco_cd
from flipjax.data.prepare.waterbirds_seg import waterbirds_seg_dataset_builder as waterbirds_seg
from flipjax.data.sources.tfds_folders import stored_bytes
from flipjax.sweep.__main__ import main

SIZE = 16
FEATURES = {
    "photo": tfds.features.Image(shape=(None, None, 3)),
    "segmentation": tfds.features.Image(shape=(None, None, 1)),
    "animal": tfds.features.ClassLabel(names=["dog", "cat", "cow"]),
    "place": tfds.features.Text(),
}


def write(data_dir, name, splits, features=FEATURES):
    """Builds a data set as anybody would, with TFDS's public API: examples by split."""

    class Animals(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.2.0")
        BUILDER_CONFIGS = [tfds.core.BuilderConfig(name="small")]  # noqa: RUF012 - TFDS's way.

        def _info(self):
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager):
            return {split: self._generate_examples(examples) for split, examples in splits.items()}

        def _generate_examples(self, examples):
            yield from enumerate(examples)

    Animals.name = name
    Animals(config="small", data_dir=data_dir, file_format="array_record").download_and_prepare()
    return data_dir


def examples(per_group, *, value=lambda animal: 1 + animal, animals=(0, 1)):
    """Photos of one grey, and square masks of one value."""
    made = []
    for index, (animal, place) in enumerate(itertools.product(animals, ("indoor", "outdoor") * per_group)):
        mask = np.zeros((20, 24), np.uint8)
        mask[5:15, 6:18] = value(animal)
        photo = Image.new("RGB", (24, 20), (10 * (index % 25),) * 3)
        files = {"photo": encode_png(photo), "segmentation": encode_png(Image.fromarray(mask))}
        made.append(files | {"animal": animal, "place": place})
    return made


def spec(data_dir, root, **options):
    options = {"features": ("photo", "segmentation", "animal", "place"), "size": SIZE} | options
    return PoolSpec(name="tfds", root=root, data_dir=str(data_dir), **options)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """`mine` has one split and masks of 0 and 1; `parts` has three splits and masks of labels."""
    folder = tmp_path_factory.mktemp("tfds")
    write(folder, "mine", {"photos": examples(4, value=lambda animal: 1)})
    parts = {"train": examples(2), "validation": examples(1), "test": examples(1)}
    return write(folder, "parts", parts)


def test_a_single_split_is_free_and_masks_may_mark_the_foreground(data_dir):
    pool, catalog = POOLS["tfds"](spec(data_dir, "mine/small:1.2.0"))
    assert pool.kind == "photo" and pool.images.shape == (16, SIZE, SIZE, 3)
    assert stored_bytes(spec(data_dir, "mine/small")) == 16 * (SIZE**2 * 4 + 2)
    assert stored_bytes(spec(data_dir, "absent")) is None
    np.testing.assert_array_equal(pool.aspects, np.full(16, 24 / 20, np.float32))
    # In the order of the labels, and of the alphabet where there are none.
    assert (catalog.class_names, catalog.scene_names) == (("dog", "cat"), ("indoor", "outdoor"))
    assert (catalog.object_split == -1).all() and len(set(catalog.object_names)) == 16
    assert np.bincount(2 * catalog.object_class + catalog.object_scene).tolist() == [4] * 4
    for mask, y in zip(np.asarray(pool.masks), catalog.object_class, strict=True):
        assert np.unique(mask).tolist() == [0, 1 + y] and (mask > 0).sum() == 64
    swapped, catalog = POOLS["tfds"](spec(data_dir, "mine/small", classes=("cat", "dog")))
    assert catalog.class_names == ("cat", "dog")
    np.testing.assert_array_equal(np.sort(swapped.masks, axis=0)[-1], 2 * (np.asarray(pool.masks[0]) > 0))


@pytest.mark.parametrize("classes", [(), ("cat", "dog")], ids=["as labelled", "in another order"])
def test_splits_are_parts(data_dir, classes):
    pool, catalog = POOLS["tfds"](spec(data_dir, "parts/small", classes=classes))
    assert np.bincount(catalog.object_split).tolist() == [8, 4, 4]
    assert all(np.unique(mask).tolist() == [0, label] for mask, label in zip(pool.masks, pool.labels, strict=True))


def test_without_validation_train_may_validate(tmp_path):
    three = examples(1, animals=(0, 1, 2)) + examples(1, animals=(0, 1))
    write(tmp_path, "mine", {"train": three, "test": examples(1)})
    _, catalog = POOLS["tfds"](spec(tmp_path, "mine/small"))
    assert catalog.class_names == ("dog", "cat", "cow") and catalog.groups.common == (0, 3, 4)
    _, catalog = POOLS["tfds"](spec(tmp_path, "mine/small", classes=("dog", "cat")))
    assert np.bincount(1 + catalog.object_split).tolist() == [8, 0, 0, 4]


WRONG = {
    "none": ("", {}, r"root: .*mine/small:1\.2\.0, parts/small:1\.2\.0"),
    "outside": ("../mine/small", {}, "root: "),
    "a configuration": ("mine/large", {}, r"root: .*mine/small:1\.2\.0.*'mine/large'"),
    "a version": ("mine/small:9.0.0", {}, r"root: .*mine/small:1\.2\.0"),
    "a feature": (
        "mine/small",
        {"features": ("image", "segmentation", "animal", "place")},
        "features: .* image.*animal",
    ),
    "a class": ("mine/small", {"classes": ("dog", "cow")}, r"classes: .*cow.*dog \(8\), cat \(8\)"),
}


@pytest.mark.parametrize(("root", "options", "named"), WRONG.values(), ids=WRONG)
def test_a_wrong_name_says_what_there_is(data_dir, root, options, named):
    with pytest.raises(ConfigError, match=named):
        POOLS["tfds"](spec(data_dir, root, **options))


def test_photos_of_one_size_have_no_shapes_and_masks_that_fit_no_rule_are_named(tmp_path, monkeypatch):
    """Photos that were all written at one size may have had any."""
    write(tmp_path, "same", {"train": examples(2)}, FEATURES | {"photo": tfds.features.Image(shape=(20, 24, 3))})
    assert POOLS["tfds"](spec(tmp_path, "same/small"))[0].aspects is None
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    bad = examples(2)
    bad[0]["segmentation"] = encode_png(Image.new("L", (24, 20), 7))
    bad[1]["photo"] = b"no image"
    write(tmp_path, "mine", {"train": bad})
    with pytest.raises(ConfigError, match="2 problems"):
        POOLS["tfds"](spec(tmp_path, "mine/small"))
    assert not (tmp_path / "cache").exists()


def test_a_pool_larger_than_memory_is_refused_before_it_is_read(two_devices, data_dir, monkeypatch):
    """In 10 MB fit 1,000 photos of 48 x 48 (9.2 MB), and not of 56 x 56 (12.5 MB)."""
    limit, owner = store.memory_limit()
    assert owner == "each of 2 CPU devices" and 0 < 2 * limit < 2**50
    with monkeypatch.context() as patch:
        patch.setattr(store, "memory_limit", lambda: store.MemoryLimit(10_000_000, "the device"))
        with pytest.raises(ConfigError, match=r"has 16 MB .* has 10 MB; the largest size that fits is 48"):
            store.check_memory(store.shapes_of(1000, 0, 64))
    POOLS["tfds"](spec(data_dir, "mine/small"))
    monkeypatch.setattr(store, "memory_limit", lambda: store.MemoryLimit(1000, "the device"))
    monkeypatch.setattr(store, "pool_digest", None)
    with pytest.raises(ConfigError, match=r"config\.pool\.size: .* no size fits"):
        POOLS["tfds"](spec(data_dir, "mine/small"))


TINY = {"pool.name": "tfds", "pool.root": "mine/small", "pool.size": SIZE, "pool.features": spec("", "").features}
TINY |= {"split.n_train": 8, "split.n_val": 4, "split.n_test": 4, "model.width": 4, "model.depth": 1}
TINY |= {"train.epochs": 1, "train.batch_size": 4, "intervene.scenes": "none", "intervene.scores": "none"}
TINY |= {"axes.rho": 0.5, "axes.seed": 0}


def test_a_sweep_needs_no_tensorflow_and_keeps_its_pool(tmp_path, monkeypatch, capsys):
    """A run goes on with the pool that it began with, and with no other one of that name."""
    write(tmp_path, "mine", {"train": examples(4)})
    run = ["--config", "smoke", "--workdir", str(tmp_path / "run"), f"--config.pool.data_dir={tmp_path}"]
    run += [f"--config.{key}={value}" for key, value in TINY.items()] + ["--config.train.crop=1.0"]
    run += ["--config.train.crop_in=photo"]
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "tensorflow", None)
        assert main(run) == 0
    rows = pd.read_csv(tmp_path / "run/results.csv")
    assert {*rows["status"]} <= TRAINED and "iou_dog" in rows
    (tmp_path / "run/cells/000/results.npz").unlink()
    (tmp_path / "mine/small/1.2.0").rename(tmp_path / "first")
    write(tmp_path, "mine", {"train": examples(4)[::-1]})
    capsys.readouterr()
    assert main(run) == 2
    error = capsys.readouterr().err
    assert "mine/small" in error and "--fresh" in error


def test_the_catalog_of_a_cached_pool_is_listed_without_tfds(data_dir, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    parts = spec(data_dir, "parts/small")
    listed = list_pool(parts)
    _, catalog = POOLS["tfds"](parts)
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    assert list_pool(parts).object_names == catalog.object_names == listed.object_names
    for record in tmp_path.rglob("pool.json"):
        record.write_text("{")
    with pytest.raises(ImportError):
        list_pool(parts)


def test_a_data_set_too_large_to_shuffle_in_memory_needs_no_tensorflow(data_dir, tmp_path, monkeypatch):
    """TFDS shuffles through files from 1 GB on, and the examples come in the same order."""
    if importlib.util.find_spec("tensorflow") is not None:
        pytest.skip("TensorFlow is installed: TFDS uses it")
    monkeypatch.setattr(shuffle, "MAX_MEM_BUFFER_SIZE", 100)
    before = dict(vars(shuffle))
    with shuffling_needs_no_tensorflow():
        write(tmp_path, "mine", {"photos": examples(4, value=lambda animal: 1)})
    assert vars(shuffle) == before
    builders = [tfds.builder("mine/small", data_dir=folder) for folder in (data_dir, tmp_path)]
    small, large = (builder.as_data_source("photos") for builder in builders)
    assert len(large) == 16 and not list(tmp_path.rglob("bucket_*"))
    for one, other in zip(small, large, strict=True):
        np.testing.assert_array_equal(one["photo"], other["photo"])


def build(module, config, data_dir):
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
    sources = build(module, config, tmp_path)
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


def test_photos_that_vanish_while_they_are_decoded_fail_only_the_program_that_lacks_them(tmp_path, capsys):
    """Of 32 photos, 16 have a line of a pixel as object: none of it is left at a size of 16, and all of it at 32."""
    photos = examples(8)
    line = np.zeros((20, 24), np.uint8)
    line[5:15, 4] = 1
    for index, photo in enumerate(photos):
        if index % 8 < 4:
            photo["segmentation"] = encode_png(Image.fromarray(line * (1 + photo["animal"])))
    write(tmp_path, "mine", {"train": photos})
    config = TINY | {"split.n_train": 16, "axes.pool.size": "16,32", "pool.data_dir": tmp_path}
    run = ["--config", "smoke", "--workdir", str(tmp_path / "run")]
    assert main([*run, *(f"--config.{key}={value}" for key, value in config.items())]) == 1
    said = capsys.readouterr().err
    assert "pool: 16 images left out, nothing of the object is left at size 16" in said
    assert "program 000 failed: " in said and "n_train" in said and "Traceback" not in said
    rows = pd.read_csv(tmp_path / "run/results.csv")
    status = rows.groupby("member")["status"].first()
    assert status["m000"] == "failed" and status["m001"] in TRAINED
