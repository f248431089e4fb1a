"""COCO-CD from lists and annotations to pools, against golden cases and pycocotools, and what it says of damage."""

import json
import shutil
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as mask_tools

from data.coco_cd import tree
from data.coco_cd.tree import GOLDEN, HEIGHT, WIDTH, YEARS, change, copy_coco, item, open_pool, prepare
from flipjax.data.decoding.images import BadFileError, read_image
from flipjax.data.prepare import coco_cd
from flipjax.data.prepare.coco_cd.annotations import STUFF, THINGS, Photo, Segment, label_mask, run_lengths
from flipjax.data.prepare.coco_cd.coco_cd_dataset_builder import read_selection, reference_split, select
from flipjax.data.split import count_fixed


@pytest.mark.parametrize("scene", ["indoor", "outdoor"])
def test_the_lists_are_the_papers(scene):
    lists = json.loads(GOLDEN.with_name("coco_cd_lists.json").read_text())[scene]
    things, stuff = set(lists["things"]), set(lists["stuff"])
    assert (THINGS[scene], STUFF[scene]) == (things, things | stuff)


def forms_of(mask):
    """A mask as run lengths, and as compressed ones."""
    pixels = mask.ravel(order="F")
    ends = np.flatnonzero(np.diff(pixels)) + 1
    runs = [0] * int(pixels[0]) + np.diff([0, *ends, len(pixels)]).tolist()
    return runs, mask_tools.encode(np.asfortranarray(mask))["counts"].decode()


@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 2**32 - 1), st.integers(1, 3))
def test_segmentations_of_any_form_are_drawn_and_the_higher_label_wins(height, width, seed, count):
    rng = np.random.default_rng(seed)
    masks = (rng.random((count, height, width)) < rng.random()).astype(np.uint8)
    for form in (0, 1):
        shapes = [{"size": [height, width], "counts": forms_of(mask)[form]} for mask in masks]
        segments = []
        for label, shape in enumerate(shapes, start=1):
            segments.append(Segment(label, run_lengths(item(1, 1, 17, shape=shape), width, height, Path("x"))))
        wanted = (masks * np.arange(1, 1 + count)[:, None, None]).max(0)
        np.testing.assert_array_equal(label_mask(segments, width, height), wanted)


@pytest.mark.parametrize(
    ("shape", "label"),
    [
        (tree.SQUARE, 2),
        ([[4, 4, 12, 4, 12, 8, 4, 8], [4, 8, 12, 8, 12, 12, 4, 12], [1, 1, 2, 2]], 2),
        ([], 0),
    ],
    ids=["a square", "its halves and a line", "none"],
)
def test_polygons_draw_their_pixels(shape, label):
    wanted = np.zeros((HEIGHT, WIDTH), np.uint8)
    wanted[4:12, 4:12] = label
    counts = run_lengths(item(1, 1, 17, shape=shape), WIDTH, HEIGHT, Path("x.json"))
    np.testing.assert_array_equal(label_mask([Segment(2, counts)], WIDTH, HEIGHT), wanted)


UNDRAWABLE = {
    "of another size": {"size": [WIDTH, HEIGHT], "counts": [WIDTH * HEIGHT]},
    "too few pixels": {"size": [HEIGHT, WIDTH], "counts": [5, 5]},
    "far outside": [[0, 0, 1e9, 0, 1e9, 5]],
    "text": [["a"] * 6],
    "an axis more": [[[0, 0, 5, 0, 5, 5]]],
    "none": None,
}


@pytest.mark.parametrize("shape", UNDRAWABLE.values(), ids=UNDRAWABLE)
def test_a_segmentation_that_cannot_be_drawn_is_named(shape):
    with pytest.raises(BadFileError, match=r"f\.json: annotation 7 of image 3: "):
        run_lengths(item(7, 3, 17, shape=shape), WIDTH, HEIGHT, Path("f.json"))


def test_selection_by_hand():
    def animals(key, indoor, *boxes):
        """An image of 100 x 100 pixels, rectangles of a label from its corner, and an area of indoor things."""
        segments = []
        for label, w, h in boxes:
            rectangle = item(1, key, 17, shape=[[0, 0, w, 0, w, h, 0, h]])
            segments.append(Segment(label, run_lengths(rectangle, 100, 100, Path("x"))))
        areas = (indoor, 99.0 if indoor == 100 else 0.0)
        return Photo(f"{key}.jpg", image_id=key, width=100, height=100, segments=tuple(segments), areas=areas)

    images = [
        animals(1, 300.0, (1, 50, 50)),
        animals(2, 300.0, (2, 50, 50), (2, 60, 10)),
        animals(3, 300.0, (1, 50, 50), (2, 50, 50)),
        animals(4, 100.0, (1, 50, 50)),
        animals(5, 300.0, (1, 10, 9)),
        animals(6, 300.0, (1, 100, 100)),
    ]
    photos, left_out = select(images, {2: (0.0, 301.0), 9: (1e6, 0.0)})
    assert [(photo.image_id, 2 * photo.y + photo.scene) for photo in photos] == [(1, 0), (2, 3)]
    assert left_out == {"several classes": 1, "unknown scene": 1, "foreground not within 1% and 99%": 2}


@pytest.fixture(scope="module")
def golden_groups():
    """The groups of the golden photos, by id."""
    return {photo.image_id: 2 * photo.y + photo.scene for photo in read_selection(GOLDEN)[0]}


@pytest.mark.parametrize("rho", [0.5, 0.7, 0.9, 0.95])
def test_golden_splits(golden_groups, rho):
    expected = json.loads((GOLDEN / "expected_splits.json").read_text())
    sizes = {"n_val": expected["val_per_group"], "n_test": expected["test_per_group"]}
    result = reference_split(list(golden_groups), list(golden_groups.values()), rho=rho, **sizes)
    for part, listed in expected["splits"][f"{rho}"].items():
        wanted_groups = sorted(zip(listed["image_id"], listed["group_id"], strict=True))
        assert sorted((i, golden_groups[i]) for i in result[part.replace("val", "validation")]) == wanted_groups


# As many photos of each group as the released ids tell: no others give their pattern of train, val and test.
GROUPS = np.repeat(np.arange(4), (2943, 592, 1480, 1989)).tolist()


@pytest.mark.parametrize(
    ("rho", "common", "rare"), [(0.5, 417, 417), (0.75, 1251, 417), (0.95, 792, 42), (1.0, 1814, 0)]
)
def test_reference_sizes(rho, common, rare):
    """At 0.5 and 0.75 cats outdoors are the fewest (592 - 175), and at 0.95 the cap holds."""
    train = reference_split(range(len(GROUPS)), GROUPS, rho=rho)["train"]
    counts = np.bincount([GROUPS[i] for i in train], minlength=4)
    assert counts.tolist() == [common, rare, rare, common]


def test_too_few_photos_for_the_reference_split_are_refused():
    with pytest.raises(ValueError, match="coco_cd"):
        reference_split([1, 2], [0, 1])


def test_pixels(tmp_path, capsys):
    """The golden annotations, and photos of the sizes that they tell; some are greyscale."""
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
    photo = read_selection(golden)[0][3]
    index = catalog.object_names.index(str(photo.image_id))
    stored = read_image(golden / photo.name).convert("RGB")
    assert pool.aspects[index] == np.float32(stored.width / stored.height)
    stored = stored.resize((16, 16), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(pool.images[index], np.asarray(stored))
    mask = Image.fromarray(label_mask(photo.segments, photo.width, photo.height))
    mask = mask.resize((16, 16), Image.Resampling.NEAREST)
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
    assert "files are missing for 16 images: 12 problems" in refused(root, tmp_path, capsys, "--split", "free")
    (root / "annotations/stuff_val2017.json").unlink()  # Which is seen before any photo is opened.
    assert "stuff_val2017.json" in refused(root, tmp_path, capsys, "--split", "free").splitlines()[-1]


def in_both_years(instances):
    instances["images"][0]["id"] = instances["annotations"][0]["image_id"] = 0


ODD = [
    ("instances_val2017", in_both_years),
    ("instances_train2017", lambda v: v["images"].pop(0)),
    ("instances_val2017", lambda v: v["images"][0].update(width=40_000, height=40_000)),
    ("stuff_train2017", lambda v: v.update(categories=[{"id": 1, "name": "x"}])),
]
# What the items of a list need, and which of that are numbers from 0 on.
NEEDED = {
    ("instances", "images"): ("id file_name width height", ("width", "height")),
    ("instances", "annotations"): ("image_id category_id area", ()),
    ("instances", "categories"): ("id name", ()),
    ("stuff", "annotations"): ("image_id category_id area", ("area",)),
    ("stuff", "categories"): ("id name", ()),
}


@pytest.fixture(scope="module")
def coco(tmp_path_factory):
    return copy_coco(tmp_path_factory.mktemp("whole") / "coco")


@st.composite
def spoiled(draw):
    """The name of a file of annotations, and what spoils its content: a list, or what one of its items needs."""
    (kind, table), year = draw(st.sampled_from([*NEEDED])), draw(st.sampled_from(YEARS))
    names, numbers = NEEDED[kind, table]
    field = draw(st.sampled_from([None, *names.split()]))
    wrong = [[], {}, "gone"] if field else [None, [], [1, 2], "gone"]
    value = draw(st.sampled_from([*wrong, *([None, "20", -1] if field in numbers else [])]))

    def edit(content):
        owner, key = (content[table][0], field) if field else (content, table)
        owner[key] = value
        if value == "gone":
            del owner[key]

    return f"{kind}_{year}", edit


@settings(max_examples=60)
@given(st.sampled_from(ODD) | spoiled(), st.floats(0, 0.999))
def test_spoiled_annotations_are_refused_by_name(coco, spoil, cut):
    name, edit = spoil
    path = coco / f"annotations/{name}.json"
    whole = path.read_text()
    change(coco, name, edit)
    for text in (path.read_text(), whole[: int(cut * len(whole))]):
        path.write_text(text)
        with pytest.raises(BadFileError, match=path.name):
            read_selection(coco)
    path.write_text(whole)


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
        for each in value["annotations"]:
            number = each["image_id"] // 1000 * 4 + each["image_id"] % 1000
            each["category_id"] = number // step % 3

    (tmp_path / "stuff").mkdir()
    for year in YEARS:
        change(root, f"instances_{year}", partial(relabel, names=("cat", "dog", "horse"), step=3))
        change(root, f"stuff_{year}", partial(relabel, names=("carpet", "grass", "sea"), step=1))
        (root / f"annotations/stuff_{year}.json").rename(tmp_path / f"stuff/stuff_{year}.json")
    named = ("--classes", "horse,cat,dog", "--scenes", "indoor,grass,water", "--stuff_dir", tmp_path / "stuff")
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
    "--size 20",
]


@pytest.mark.parametrize("options", MISUSE)
def test_usage_errors_end_with_2(coco, tmp_path, capsys, options):
    said = refused(coco, tmp_path, capsys, *options.split(), code=2)
    assert any(part in said for part in options.split() if part.startswith("--")) or "--split" in said


def test_groups_that_are_too_small_are_counted(coco, tmp_path, capsys):
    assert "outdoor 4" in refused(coco, tmp_path, capsys, code=2)


def test_an_animal_that_is_not_there_is_named_beside_those_that_are(coco, tmp_path, capsys):
    said = refused(coco, tmp_path, capsys, "--classes", "cat,cow", "--split", "free")
    assert "cow" in said and "cat, x, dog" in said


def test_without_pycocotools_its_package_is_named(coco, tmp_path, capsys, monkeypatch):
    for name in ("annotations", "coco_cd_dataset_builder"):
        monkeypatch.delitem(sys.modules, f"{coco_cd.__name__}.{name}")
        monkeypatch.delattr(coco_cd, name)
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    assert "pycocotools" in refused(coco, tmp_path, capsys, code=2)
