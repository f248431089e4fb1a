"""The data set of COCO-CD from the command to pools, and what it says of damage."""

import json
import shutil
import sys
from functools import partial

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as mask_tools

from coco_cd.tree import GOLDEN, HEIGHT, WIDTH, YEARS, change, copy_coco, needs, open_pool, prepare
from flipjax.data.coco_cd.coco_cd_dataset_builder import read_selection
from flipjax.data.images import read_image
from flipjax.data.split import count_fixed
from flipjax.data.store import BadFilesError


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own.
def test_pixels(tmp_path, capsys):
    """The golden annotations, and photos of the sizes that they tell; some are greyscale."""
    needs(GOLDEN)
    golden, rng = tmp_path / "coco", np.random.default_rng(5)
    shutil.copytree(GOLDEN / "annotations", golden / "annotations")
    for year in YEARS:
        (golden / year).mkdir()
        for photo in json.loads((golden / f"annotations/instances_{year}.json").read_text())["images"]:
            pixels = rng.integers(0, 256, (photo["height"], photo["width"], 3)).astype(np.uint8)
            Image.fromarray(pixels if photo["id"] % 9 else pixels[..., 0]).save(golden / year / photo["file_name"])
    assert prepare(golden, tmp_path, "--split", "free") == 0
    captured = capsys.readouterr()
    assert "250 photos: cat indoor 65, cat outdoor 69, dog indoor 47, dog outdoor 69" in captured.err
    assert "several classes 25" in captured.err and "train 250" in captured.out
    pool, catalog = open_pool(tmp_path)
    assert pool.kind == "photo" and (catalog.object_split == -1).all()
    assert (catalog.class_names, catalog.scene_names) == (("cat", "dog"), ("indoor", "outdoor"))
    photo = read_selection(golden).photos[3]
    index = catalog.object_names.index(str(photo.animals.image_id))
    stored = read_image(golden / photo.name).convert("RGB")
    assert pool.aspects[index] == np.float32(stored.width / stored.height)
    stored = stored.resize((16, 16), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(pool.images[index], np.asarray(stored))
    size = [photo.animals.height, photo.animals.width]
    whole = sum(mask_tools.decode({"size": size, "counts": counts}) for _, counts in photo.animals.segments)
    mask = Image.fromarray(np.uint8(whole > 0) * np.uint8(1 + photo.y)).resize((16, 16), Image.Resampling.NEAREST)
    np.testing.assert_array_equal(pool.masks[index], np.asarray(mask))


def test_bad_photos_are_all_named_and_leave_nothing(tmp_path, capsys):
    def refused():
        """Runs the command, which must fail and leave nothing; returns what it says."""
        assert prepare(root, tmp_path / "out", "--split", "free") == 1
        assert not list((tmp_path / "out").glob("*"))
        return capsys.readouterr().err

    root = copy_coco(tmp_path / "coco")
    paths = sorted(root.glob("*2017/*.jpg"))
    paths[0].write_bytes(paths[0].read_bytes()[:200])
    paths[1].write_bytes(b"no photo")
    Image.fromarray(np.zeros((WIDTH, HEIGHT, 3), np.uint8)).save(paths[2])
    said = refused()
    assert f"{paths[0]}: unreadable" in said and f"{paths[1]}: " in said
    assert f"{paths[2]}: the photo has 16 x 20 pixels, its annotation 20 x 16" in said
    for path in (root / "train2017").glob("*.jpg"):
        path.unlink()
    said = refused()
    assert "files are missing for 16 images: 12 problems" in said
    (root / "annotations/stuff_val2017.json").unlink()  # Which is seen before any photo is opened.
    said = refused()
    assert "No such file or directory" in said and "stuff_val2017.json" in said


def in_both_years(instances):
    instances["images"][0]["id"] = instances["annotations"][0]["image_id"] = 0


DAMAGES = [
    ("instances_train2017", lambda v: v["annotations"][0].pop("image_id"), "items of 'annotations' with image_id"),
    ("instances_train2017", lambda v: v.pop("categories"), "'categories' list is missing or empty"),
    ("instances_train2017", lambda v: v["images"].pop(0), "annotations of image 0, which 'images' does not"),
    ("instances_val2017", lambda v: v["images"][0].update(width="20"), "image 3: expected sides in whole"),
    ("instances_val2017", lambda v: v["images"][0].update(width=40_000, height=40_000), "image 3: expected sides"),
    ("instances_val2017", in_both_years, "image 0 is in train2017, too"),
    ("stuff_train2017", lambda v: v["annotations"][0].pop("area"), "'annotations' with image_id"),
    ("stuff_train2017", lambda v: v["annotations"][0].update(area=-1), "annotation 0: expected a number"),
    ("stuff_train2017", lambda v: v.update(categories=[{"id": 1, "name": "x"}]), "none of its 1 categories"),
    ("stuff_train2017", lambda v: v.update(annotations=[1, 2]), "'annotations' with image_id, category_id, area: 1"),
]


def test_damaged_annotations_are_named(tmp_path, capsys):
    root = copy_coco(tmp_path / "coco")
    path = root / "annotations/stuff_val2017.json"
    text = path.read_text()
    for damaged in (text[: len(text) // 2], text[:-1], ""):
        path.write_text(damaged)
        with pytest.raises(BadFilesError, match=rf"{path}: truncated or damaged JSON \({len(damaged):,} bytes\)"):
            read_selection(root)
    path.write_text(text)
    for name, edit, reason in DAMAGES:
        whole = (root / f"annotations/{name}.json").read_text()
        change(root, name, edit)
        with pytest.raises(BadFilesError, match=f"{name}.json.*{reason}"):
            read_selection(root)
        (root / f"annotations/{name}.json").write_text(whole)
    assert prepare(root, tmp_path / "out", "--val_per_group", 1, "--test_per_group", 2, "--rho", 0.5) == 0
    assert [path.name for path in (tmp_path / "out/coco_cd").iterdir()] == ["corr0.5_1_2"]


def test_photos_of_which_no_pixel_is_left_are_left_out(tmp_path, capsys):
    root = copy_coco(tmp_path / "coco")
    # One column, which is none of the 16 that the nearest pixels of 20 are: floor(1.25 * (i + 0.5)).
    shape = {"size": [HEIGHT, WIDTH], "counts": [7 * HEIGHT, HEIGHT, 12 * HEIGHT]}
    change(root, "instances_train2017", lambda value: value["annotations"][0].update(segmentation=shape))
    assert prepare(root, tmp_path, "--split", "free") == 0
    capsys.readouterr()
    pool, catalog = open_pool(tmp_path)
    assert "1 images left out, nothing of the object is left at size 16: 0\n" in capsys.readouterr().err
    assert len(pool.images) == len(catalog.object_names) == 15 and open_pool(tmp_path)[1].content == catalog.content
    assert prepare(root, tmp_path / "small", "--split", "free", "--size", 16) == 0
    assert "1 train photos left out" in capsys.readouterr().err
    np.testing.assert_array_equal(open_pool(tmp_path / "small")[0].masks, pool.masks)


def test_any_animals_and_scenes(tmp_path, capsys):
    """Three animals indoors, on grass (a category) and by water (a supercategory), photo after photo."""
    root = copy_coco(tmp_path / "coco")

    def relabel(value, names, step):
        there = [(i, name, "water" if name == "sea" else "x") for i, name in enumerate(names)]
        value["categories"] = [dict(zip(("id", "name", "supercategory"), each, strict=True)) for each in there]
        for item in value["annotations"]:
            number = item["image_id"] // 1000 * 4 + item["image_id"] % 1000
            item["category_id"] = number // step % 3

    for year in YEARS:
        change(root, f"instances_{year}", partial(relabel, names=("cat", "dog", "horse"), step=3))
        change(root, f"stuff_{year}", partial(relabel, names=("carpet", "grass", "sea"), step=1))
    named = ("--classes", "horse,cat,dog", "--scenes", "indoor,grass,water")
    assert prepare(root, tmp_path, *named, "--split", "free") == 0
    pool, catalog = open_pool(tmp_path)
    assert (catalog.class_names, catalog.scene_names) == (("horse", "cat", "dog"), ("indoor", "grass", "water"))
    assert count_fixed(catalog)[:, 0].tolist() == [2, 1, 1, 2, 2, 2, 2, 2, 2]
    labels = [np.unique(mask).tolist() for mask in np.asarray(pool.masks)]
    assert labels == [[0, 1 + y] for y in catalog.object_class]


def test_usage_errors_end_with_2(tmp_path, capsys, monkeypatch):
    root = copy_coco(tmp_path / "coco")
    cases = {
        ("--classes", "cat,cow"): "--split: expected free",
        ("--classes", "cat,cat"): "--classes: expected two or more different names; found cat,cat",
        ("--scenes", "outdoor,grass", "--split", "free"): "--scenes: expected scenes that share no category; found",
        ("--rho", 2): "found 2.0",
        ("--split", "free", "--rho", 0.9): "--rho: expected",
        ("--val_per_group", 0): "--val_per_group: expected",
        ("--size", 20): "--size: expected a multiple",
        ("--test_per_group", 4): "cat indoor 4, cat outdoor 4, dog indoor 4, dog outdoor 4",
    }
    for options, reason in cases.items():
        assert prepare(root, tmp_path / "out", *options) == 2
        assert reason in capsys.readouterr().err
    assert prepare(root, tmp_path / "out", "--classes", "cat,cow", "--split", "free") == 1
    assert "categories is cow: is it another file? There are cat, x, dog" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    assert prepare(root, tmp_path / "out") == 2
    assert "needs the package pycocotools: python -m pip install 'flipjax[coco]'" in capsys.readouterr().err
    assert not list((tmp_path / "out").iterdir())
