"""COCO-CD: annotations, selection, the reference's split, and the prepare command from archives to a finished sweep."""

import itertools
import json
import re
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from coco_tree import HEIGHT, SQUARE, WIDTH, YEARS, change, item, write_coco
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as mask_tools

from flipjax.config import PoolSpec
from flipjax.data import POOLS
from flipjax.data.__main__ import main
from flipjax.data.build import BadFilesError
from flipjax.data.coco_cd import categories
from flipjax.data.coco_cd.annotations import Animals, decode_runs, label_mask, run_lengths
from flipjax.data.coco_cd.scenes import scene_of
from flipjax.data.coco_cd.selection import read_selection, select
from flipjax.data.coco_cd.splits import reference_split
from flipjax.data.correlation import evaluation_table, largest_n_train, split_pool, training_table
from flipjax.data.images import BadFileError

SHARED = Path(__file__).parents[2] / "shared"
GOLDEN = SHARED / "golden/coco_tiny"


def needs(path):
    if not path.exists():
        pytest.skip(f"{path} is not there")


def prepare(root, data_dir, *options):
    return main(["prepare", "coco_cd", "--coco_root", str(root), "--data_dir", str(data_dir), *map(str, options)])


def refused(capsys, root, data_dir, *options):
    """Runs a command that must fail and leave nothing; returns what it says."""
    assert prepare(root, data_dir, *options) == 1
    assert not data_dir.exists() or not list(data_dir.iterdir())
    return capsys.readouterr().err


def open_pool(data_dir, root=""):
    spec = PoolSpec(name="coco_cd", root=root, data_dir=str(data_dir), size=16, cache=f"{data_dir}/.cache")
    return POOLS["coco_cd"](spec)


SMALL = ("--val_per_group", 1, "--test_per_group", 2)


@pytest.fixture(scope="session")
def golden(tmp_path_factory):
    """The golden annotations, and photos of the sizes that they tell; some are greyscale."""
    needs(GOLDEN)
    root = tmp_path_factory.mktemp("coco")
    (root / "annotations").symlink_to((GOLDEN / "annotations").resolve())
    rng = np.random.default_rng(5)
    for year in YEARS:
        (root / year).mkdir()
        for photo in json.loads((GOLDEN / f"annotations/instances_{year}.json").read_text())["images"]:
            pixels = rng.integers(0, 256, (photo["height"], photo["width"], 3)).astype(np.uint8)
            Image.fromarray(pixels if photo["id"] % 9 else pixels[..., 0]).save(root / year / photo["file_name"])
    return root


@pytest.fixture(scope="session")
def expected():
    needs(GOLDEN)
    return json.loads((GOLDEN / "expected_splits.json").read_text())


def test_the_lists_are_the_papers():
    needs(SHARED / "reference/paper.md")
    text = re.sub(r"\s+", " ", (SHARED / "reference/paper.md").read_text())
    for scene in ("indoor", "outdoor"):
        for what in ("things", "stuff"):
            names = re.search(rf"{scene.capitalize()} {what}: ([^.]*)\.", text)[1].split(", ")
            assert getattr(categories, f"{scene}_{what}".upper()) == set(names)


def test_scene_limits():
    assert scene_of(20, 20, 1000) == 0  # a tie is indoors
    assert scene_of(19.9, 0, 1000) is None and scene_of(20, 0, 1000) == 0
    assert scene_of(19, 21, 1000) == 1 and scene_of(0, 19.9, 1000) is None
    assert scene_of(15, 10, 1000) is None and scene_of(0, 0, 1000) is None


@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 2**32 - 1))
def test_run_lengths_are_those_of_pycocotools(height, width, seed):
    rng = np.random.default_rng(seed)
    mask = np.asfortranarray(rng.random((height, width)) < rng.random(), np.uint8)
    counts = mask_tools.encode(mask)["counts"]
    assert sum(decode_runs(counts)) == height * width
    np.testing.assert_array_equal(label_mask(((1, counts),), width, height), mask)


def test_polygons_runs_and_crowds_draw_the_same_square():
    square = np.zeros((HEIGHT, WIDTH), np.uint8, order="F")
    square[4:12, 4:12] = 1
    runs = [4 * HEIGHT + 4, *[8, 8] * 7, 8, 7 * HEIGHT + 16 + 4]
    size = [HEIGHT, WIDTH]
    shapes = [
        SQUARE,
        [[4, 4, 12, 4, 12, 8, 4, 8], [4, 8, 12, 8, 12, 12, 4, 12], [1, 1, 2, 2]],
        {"size": size, "counts": runs},
        {"size": size, "counts": mask_tools.encode(square)["counts"].decode()},
    ]
    for shape in shapes:
        counts = run_lengths(item(1, 1, 17, shape=shape, crowd=1), WIDTH, HEIGHT, Path("x.json"))
        np.testing.assert_array_equal(label_mask(((2, counts),), WIDTH, HEIGHT), 2 * square)
    assert run_lengths(item(1, 1, 17, shape=[]), WIDTH, HEIGHT, Path("x.json")) == b""


def test_the_higher_label_wins():
    rows = [(label, run_lengths(item(1, 1, 17, shape=[box]), 4, 2, Path("x"))) for label, box in BOXES]
    assert label_mask(tuple(rows), 4, 2).tolist() == [[1, 2, 2, 2]] * 2


BOXES = [(2, [1, 0, 4, 0, 4, 2, 1, 2]), (1, [0, 0, 3, 0, 3, 2, 0, 2])]


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        ({"size": [WIDTH, HEIGHT], "counts": [WIDTH * HEIGHT]}, r"mask of \[20, 16\] rows and columns.*\[16, 20\]"),
        ({"size": [HEIGHT, WIDTH], "counts": [5, 5]}, "runs do not fill 16 x 20"),
        ({"size": [HEIGHT, WIDTH], "counts": "0"}, "runs do not fill"),
        ([[0, 0, 1e9, 0, 1e9, 5]], "polygon far outside the image of 20 x 16"),
        ([["a"] * 6], "cannot be used"),
        ("polygons", "neither polygons nor run lengths"),
        (None, "neither polygons nor run lengths"),
    ],
)
def test_segmentations_that_cannot_be_drawn(shape, reason):
    with pytest.raises(BadFileError, match=r"f\.json: annotation 7 of image 3: .*" + reason):
        run_lengths(item(7, 3, 17, shape=shape), WIDTH, HEIGHT, Path("f.json"))


def test_selection_by_hand():
    def animals(key, boxes, areas, side=100):
        segments = [
            (label, run_lengths(item(1, key, 17, shape=[[0, 0, w, 0, w, h, 0, h]]), side, side, Path("x")))
            for label, w, h in boxes
        ]
        return Animals(key, f"train2017/{key}.jpg", side, side, tuple(segments), areas)

    selection = select(
        [
            animals(1, [(1, 50, 50)], (300.0, 0.0)),
            animals(2, [(2, 50, 50), (2, 60, 10)], (300.0, 0.0)),
            animals(3, [(1, 50, 50), (2, 50, 50)], (300.0, 0.0)),
            animals(4, [(1, 50, 50)], (100.0, 99.0)),
            animals(5, [(1, 10, 9)], (300.0, 0.0)),
            animals(6, [(1, 100, 100)], (300.0, 0.0)),
        ],
        {2: (0.0, 301.0), 9: (1e6, 0.0)},
        folder=Path("train2017"),
    )
    assert [(photo.animals.image_id, photo.group) for photo in selection.photos] == [(1, 0), (2, 3)]
    assert selection.left_out == {"both classes": 1, "unknown scene": 1, "foreground not within 1% and 99%": 2}


def test_golden_splits(expected):
    photos = read_selection(GOLDEN).photos
    group_of = {photo.animals.image_id: photo.group for photo in photos}
    sizes = {"n_val": expected["val_per_group"], "n_test": expected["test_per_group"]}
    for rho, wanted in expected["splits"].items():
        result = reference_split(list(group_of), list(group_of.values()), rho=float(rho), **sizes)
        for part, listed in wanted.items():
            assert {i: group_of[i] for i in result[part]} == dict(
                zip(listed["image_id"], listed["group_id"], strict=True)
            )
            assert len(result[part]) == len(listed["image_id"])


def test_the_released_splits_follow_the_rule():
    """The released ids, sorted, fall into train, val and test in the very pattern that the rule draws.

    Which other photos there were is not released, but the pattern tells how many: 2943, 592, 1989 in groups 0, 1 and 3
    and 1477 to 1484 in group 2; no other numbers of the first three give it.
    """
    path = SHARED / "reference/coco_cd_released_splits.json"
    needs(path)
    released = json.loads(path.read_text())
    groups = np.repeat(np.arange(4), (2943, 592, 1480, 1989)).tolist()
    drawn = reference_split(range(len(groups)), groups, rho=0.95)
    for group in range(4):
        pattern = sorted((i, part) for part, ids in drawn.items() for i in ids if groups[i] == group)
        wanted = sorted(
            (int(Path(name).stem), part.split("_")[0])
            for part, listed in released.items()
            for name, g in zip(listed["file_name"], listed["group_id"], strict=True)
            if g == group
        )
        assert [part for _, part in pattern] == [part for _, part in wanted]


def test_reference_sizes():
    groups = np.repeat(np.arange(4), (2943, 592, 1480, 1989)).tolist()
    counts = {}
    for rho in (0.5, 0.75, 0.95, 1.0):
        train = reference_split(range(len(groups)), groups, rho=rho)["train"]
        counts[rho] = np.bincount([groups[i] for i in train], minlength=4).tolist()
    # At 0.5 cats outdoors are the fewest (592 - 175), at 0.75 they still are (417 / 0.25), at 0.95 the cap holds.
    assert counts == {
        0.5: [417] * 4,
        0.75: [1251, 417, 417, 1251],
        0.95: [792, 42, 42, 792],
        1.0: [1814, 0, 0, 1814],
    }
    with pytest.raises(ValueError, match=r"needs 50 \+ 125 .* cat indoor 1, cat outdoor 1, dog indoor 0"):
        reference_split([1, 2], [0, 1])
    with pytest.raises(ValueError, match=r"\[0.5, 1\], found 0.4"):
        reference_split(range(4), range(4), rho=0.4)


def test_pixels_and_tables(golden, tmp_path, capsys):
    assert prepare(golden, tmp_path, "--split", "free") == 0
    captured = capsys.readouterr()
    assert "250 photos: cat indoor 65, cat outdoor 69, dog indoor 47, dog outdoor 69" in captured.err
    assert "both classes 25" in captured.err and "train 250" in captured.out
    pool, catalog = open_pool(tmp_path)
    assert pool.kind == "photo" and (catalog.class_names, catalog.scene_names) == (
        ("cat", "dog"),
        ("indoor", "outdoor"),
    )
    assert (catalog.object_split == -1).all()
    photo = read_selection(golden).photos[3]
    index = catalog.object_names.index(str(photo.animals.image_id))
    stored = Image.open(golden / photo.item.name).convert("RGB").resize((16, 16), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(pool.images[index], np.asarray(stored))
    size = [photo.animals.height, photo.animals.width]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole = sum(mask_tools.decode({"size": size, "counts": counts}) for _, counts in photo.animals.segments)
    mask = Image.fromarray(np.uint8(whole > 0) * np.uint8(1 + photo.item.y)).resize((16, 16), Image.Resampling.NEAREST)
    np.testing.assert_array_equal(pool.masks[index], np.asarray(mask))

    split = split_pool(catalog, n_val=20, n_test=32, seed=0)
    n_train = largest_n_train(catalog, split, rhos=[0.5, 0.7, 0.9])
    tables = [training_table(catalog, split, rho=rho, seed=0, n_train=n_train) for rho in (0.5, 0.7, 0.9)]
    assert {len(table.rows) for table in tables} == {n_train}
    same = [np.sum(a.rows == b.rows) // 2 for a, b in itertools.pairwise(tables)]
    assert all(count >= 0.75 * n_train for count in same)
    assert np.bincount(evaluation_table(catalog, split, "test").groups).tolist() == [8] * 4


def test_the_reference_split_fixes_the_parts(golden, expected, tmp_path):
    assert prepare(golden, tmp_path, "--val_per_group", 5, "--test_per_group", 8, "--rho", 0.9) == 0
    _, catalog = open_pool(tmp_path)
    assert catalog.source.endswith("coco_cd/corr0.9_5_8/1.0.0")
    for index, part in enumerate(("train", "val", "test")):
        names = [name for name, fixed in zip(catalog.object_names, catalog.object_split, strict=True) if fixed == index]
        assert sorted(map(int, names)) == sorted(expected["splits"]["0.9"][part]["image_id"])
    split = split_pool(catalog, n_val=20, n_test=32, seed=0)
    table = training_table(catalog, split, rho=0.9, seed=0, n_train=largest_n_train(catalog, split, rhos=[0.9]))
    assert np.bincount(table.groups).tolist() == [51, 6, 6, 51]


def test_bad_photos_are_all_named_and_leave_nothing(tmp_path, capsys):
    root = write_coco(tmp_path / "coco")
    paths = sorted(root.glob("*2017/*.jpg"))
    paths[0].write_bytes(paths[0].read_bytes()[:200])
    paths[1].write_bytes(b"no photo")
    Image.fromarray(np.zeros((WIDTH, HEIGHT, 3), np.uint8)).save(paths[2])
    said = refused(capsys, root, tmp_path / "out", "--split", "free")
    assert f"{paths[0]}: unreadable" in said and f"{paths[1]}: " in said
    assert f"{paths[2]}: the photo has 16 x 20 pixels, its annotation 20 x 16" in said
    for path in (root / "train2017").glob("*.jpg"):
        path.unlink()
    said = refused(capsys, root, tmp_path / "out", "--split", "free")
    assert "files are missing for 16 images: 12 problems" in said


def test_missing_annotations_and_folders_are_listed(tmp_path, capsys):
    root = write_coco(tmp_path / "coco")
    (root / "annotations/instances_val2017.json").unlink()
    (root / "train2017").rename(root / "train2014")
    said = refused(capsys, root, tmp_path / "out", "--stuff_dir", tmp_path / "elsewhere")
    assert "parts of COCO are missing: 2 problems" in said
    assert "train2017: no such folder" in said and "instances_val2017.json: no such file" in said


def test_damaged_annotations_are_named(tmp_path, capsys):
    root = write_coco(tmp_path / "coco")
    path = root / "annotations/stuff_val2017.json"
    text = path.read_text()
    for damaged in (text[: len(text) // 2], text[:-1], "", "no json"):
        path.write_text(damaged)
        with pytest.raises(BadFilesError, match=rf"{path}: truncated or damaged JSON \({len(damaged):,} bytes\)"):
            read_selection(root)
    path.write_text("[" * 9000)
    with pytest.raises(BadFilesError, match=rf"{path}: damaged JSON: lists nested deeper than 1000"):
        read_selection(root)
    path.write_text(text)
    cases = [
        ("instances_train2017", lambda value: value["annotations"][0].pop("image_id"), "'annotations' lacks image_id"),
        ("instances_train2017", lambda value: value.pop("categories"), "'categories' list is missing or empty"),
        (
            "instances_train2017",
            lambda value: value["images"].pop(0),
            "annotations of image 0, which 'images' does not",
        ),
        ("stuff_train2017", lambda value: value["annotations"][0].pop("area"), "annotation 0: expected a number"),
        (
            "stuff_train2017",
            lambda value: value.update(categories=[{"id": 1, "name": "x"}]),
            "none of its 1 categories",
        ),
        ("stuff_train2017", lambda value: value.update(annotations=[1, 2]), "lacks category_id, image_id: 1"),
        ("instances_val2017", lambda value: value["images"][0].update(width="20"), "image 3: expected whole numbers"),
        ("instances_val2017", lambda value: value["images"][0].update(file_name="../../x.jpg"), "leads out of val2017"),
        ("instances_val2017", lambda value: value["images"][0].update(file_name="/etc/x.jpg"), "leads out of val2017"),
    ]
    for name, edit, reason in cases:
        whole = (root / f"annotations/{name}.json").read_text()
        change(root, name, edit)
        with pytest.raises(BadFilesError, match=f"{name}.json") as raised:
            read_selection(root)
        assert reason in str(raised.value)
        (root / f"annotations/{name}.json").write_text(whole)
    assert prepare(root, tmp_path / "out", *SMALL, "--rho", 0.5) == 0


def test_photos_of_which_no_pixel_is_left_are_left_out(tmp_path, capsys):
    root = write_coco(tmp_path / "coco")
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


def test_usage_errors_end_with_2(tmp_path, capsys, monkeypatch):
    root = write_coco(tmp_path / "coco", per_group=(4, 1, 3, 3))
    cases = [(("--rho", 2), "found 2.0"), (("--split", "free", "--rho", 0.9), "--rho: expected")]
    cases += [(("--val_per_group", 0), "--val_per_group: expected"), (("--size", 20), "--size: expected a multiple")]
    cases += [(SMALL, "cat indoor 4, cat outdoor 1, dog indoor 3, dog outdoor 3")]
    for options, reason in cases:
        assert prepare(root, tmp_path / "out", *options) == 2
        assert reason in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    assert prepare(root, tmp_path / "out") == 2
    assert "needs the package pycocotools: python -m pip install 'flipjax[coco]'" in capsys.readouterr().err
    assert not list((tmp_path / "out").iterdir())
