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


def refused(root, folder, capsys, *options, code=1):
    """Prepares a data set, which must fail and leave nothing; returns the error."""
    assert prepare(root, folder / "out", *options) == code
    assert not list((folder / "out").glob("*"))
    return capsys.readouterr().err


def test_bad_photos_are_all_named_and_leave_nothing(tmp_path, capsys):
    root = copy_coco(tmp_path / "coco")
    paths = sorted(root.glob("*2017/*.jpg"))
    paths[0].write_bytes(paths[0].read_bytes()[:200])
    paths[1].write_bytes(b"no photo")
    Image.fromarray(np.zeros((WIDTH, HEIGHT, 3), np.uint8)).save(paths[2])
    said = refused(root, tmp_path, capsys, "--split", "free")
    assert "3 problems" in said and all(f"{path}: " in said for path in paths[:3])
    for path in (root / "train2017").glob("*.jpg"):
        path.unlink()
    assert "12 problems" in refused(root, tmp_path, capsys, "--split", "free")
    (root / "annotations/stuff_val2017.json").unlink()  # Which is seen before any photo is opened.
    assert "stuff_val2017.json" in refused(root, tmp_path, capsys, "--split", "free").splitlines()[-1]


def in_both_years(instances):
    instances["images"][0]["id"] = instances["annotations"][0]["image_id"] = 0


DAMAGES = [
    ("instances_train2017", lambda v: v["annotations"][0].pop("image_id")),
    ("instances_train2017", lambda v: v.pop("categories")),
    ("instances_train2017", lambda v: v["images"].pop(0)),
    ("instances_val2017", lambda v: v["images"][0].update(width="20")),
    ("instances_val2017", lambda v: v["images"][0].update(width=40_000, height=40_000)),
    ("instances_val2017", in_both_years),
    ("stuff_train2017", lambda v: v["annotations"][0].pop("area")),
    ("stuff_train2017", lambda v: v["annotations"][0].update(area=-1)),
    ("stuff_train2017", lambda v: v.update(categories=[{"id": 1, "name": "x"}])),
    ("stuff_train2017", lambda v: v.update(annotations=[1, 2])),
]


def test_damaged_annotations_are_named(tmp_path):
    root = copy_coco(tmp_path / "coco")

    def assert_named(path, whole):
        with pytest.raises(BadFilesError, match=path.name):
            read_selection(root)
        path.write_text(whole)

    path = root / "annotations/stuff_val2017.json"
    text = path.read_text()
    for damaged in (text[: len(text) // 2], text[:-1], ""):
        path.write_text(damaged)
        assert_named(path, text)
    for name, edit in DAMAGES:
        path = root / f"annotations/{name}.json"
        whole = path.read_text()
        change(root, name, edit)
        assert_named(path, whole)
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


MISUSE = [
    "--classes cat,cow",
    "--classes cat,cat",
    "--scenes outdoor,grass --split free",
    "--rho 2",
    "--split free --rho 0.9",
    "--val_per_group 0",
    "--size 20",
]


def test_usage_errors_end_with_2(tmp_path, capsys, monkeypatch):
    root = copy_coco(tmp_path / "coco")
    for options in MISUSE:
        said = refused(root, tmp_path, capsys, *options.split(), code=2)
        assert any(part in said for part in options.split() if part.startswith("--")) or "--split" in said
    assert "outdoor 4" in refused(root, tmp_path, capsys, "--test_per_group", 4, code=2)
    said = refused(root, tmp_path, capsys, "--classes", "cat,cow", "--split", "free")
    assert "cow" in said and "cat, x, dog" in said
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    assert "flipjax[coco]" in refused(root, tmp_path, capsys, code=2)
