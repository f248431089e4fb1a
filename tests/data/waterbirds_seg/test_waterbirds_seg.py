"""Waterbirds-Seg from archives and manifests to pools, against golden cases and twins, and what it says of damage."""

import csv
import os
import resource
import shutil
import signal
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from data.folder.pixels import place
from data.waterbirds_seg.tree import CUB, GOLDEN, PLACES, SIZE, TREE, arguments, open_pool, prepare
from flipjax.config import ConfigError
from flipjax.data.__main__ import main
from flipjax.data.decoding import images
from flipjax.data.decoding.images import BadFileError
from flipjax.data.pool import PoolItem, gather
from flipjax.data.prepare.waterbirds_seg import manifest
from flipjax.data.prepare.waterbirds_seg import waterbirds_seg_dataset_builder as pixels
from flipjax.data.prepare.waterbirds_seg.manifest import bird_files, class_of, read_birds, read_scenes, scene_file
from flipjax.support import files
from flipjax.support.files import adding_folder


@pytest.mark.parametrize("channels", [1, 3])
def test_every_product_is_rounded_as_in_float64(channels):
    """All 256 x 256 pairs of a value and an alpha, before and behind black; alpha may have three channels."""
    values, alphas = (np.repeat(each[..., None], 3, -1).astype(np.uint8) for each in np.meshgrid(*[np.arange(256)] * 2))
    image, alpha = Image.fromarray(values), Image.fromarray(alphas if channels == 3 else alphas[..., 0])
    black = Image.new("RGB", (256, 256))
    front, back = pixels.composite(image, alpha, black), pixels.composite(black, alpha, image)
    np.testing.assert_array_equal(front, np.around(values * (alphas / 255)))
    np.testing.assert_array_equal(back, np.around(values * (1 - alphas / 255)))


# A scene of 40 x 24 pixels is cut at its sides, or enlarged and then cut above and below.
FITTED = {
    "cut at its sides": ((8, 8), (40, 24), (8, 0, 32, 24)),
    "enlarged": ((80, 20), (80, 48), (0, 14, 80, 34)),
}


@pytest.mark.parametrize(("size", "larger", "box"), FITTED.values(), ids=FITTED)
def test_a_scene_covers_the_photo_and_loses_both_sides_alike(size, larger, box):
    scene = Image.fromarray(np.random.default_rng(1).integers(0, 256, (24, 40, 3), np.uint8))
    middle = scene.resize(larger, Image.Resampling.LANCZOS).crop(box)
    np.testing.assert_array_equal(pixels.fit_scene(scene, size), middle.resize(size, Image.Resampling.LANCZOS))


def test_the_composites_of_a_manifest_are_the_references(tmp_path):
    folders = ["--cub_dir", GOLDEN / "cub", "--places_dir", GOLDEN / "places", "--manifest", GOLDEN / "metadata.csv"]
    assert main(["prepare", "waterbirds_seg", *map(str, folders), "--data_dir", str(tmp_path)]) == 0
    (folder,) = tmp_path.glob("waterbirds_seg/manifest*/1.0.0")
    examples = [each for split in tfds.builder_from_directory(folder).as_data_source().values() for each in split]
    assert len(examples) == 16 and {example["part"] for example in examples} == {-1}
    for example in examples:
        name = Path(example["id"].decode()).with_suffix(".png")
        np.testing.assert_array_equal(example["image"], Image.open(GOLDEN / "expected_images" / name))
        np.testing.assert_array_equal(example["mask"][..., 0], Image.open(GOLDEN / "expected_masks" / name))


def test_cutouts_serve_sweeps_of_any_size(tmp_path, capsys):
    """Photos keep their size in the data set; a pool holds cut-outs and scenes as if they had never been in it."""
    assert prepare(TREE, tmp_path) == 0
    written = capsys.readouterr()
    assert "birds: 20 of 20" in written.err and "birds 20, scenes 20" in written.out
    pool, catalog = open_pool(tmp_path)
    assert pool.kind == "composite" and pool.images.shape == (20, SIZE, SIZE, 3) and pool.scenes.shape[0] == 20
    names = [bird.name for bird in read_birds(TREE / CUB).values()]
    order = [names.index(name) for name in catalog.object_names]
    assert catalog.object_class.tolist() == [[1, 1, 0, 0][i % 4] for i in order]
    assert catalog.object_split.tolist() == [2 if i % 5 > 2 else -1 for i in order]
    assert np.bincount(catalog.scene_kind).tolist() == [10, 10] and (catalog.scene_split == -1).all()
    for index in range(20):
        bird, alpha = pixels.read_bird(*bird_files(TREE / CUB, catalog.object_names[index]))
        image, alpha, *_ = images.cut_out(bird, alpha, name="it", size=SIZE)
        np.testing.assert_array_equal(pool.images[index], image)
        np.testing.assert_array_equal(pool.masks[index], alpha)
        assert pool.aspects[index] == np.float32(bird.width / bird.height)
    scene = images.read_image(scene_file(TREE / PLACES, catalog.scene_photo_names[12]))
    np.testing.assert_array_equal(pool.scenes[12], images.read_scene(scene, name="it", size=SIZE).image)
    assert open_pool(tmp_path, size=24)[0].images.shape[1] == 24
    assert prepare(TREE, tmp_path) == 0
    assert "nothing to do" in capsys.readouterr().out


def test_options_have_data_sets_of_their_own(tmp_path):
    assert prepare(TREE, tmp_path, "--size", SIZE, "--fix_labels", "--scenes", 4) == 0
    pool, catalog = open_pool(tmp_path)  # The only one that is there.
    birds = [images.read_image(bird_files(TREE / CUB, name)[0]) for name in catalog.object_names]
    np.testing.assert_allclose(pool.aspects, [bird.width / bird.height for bird in birds])
    assert catalog.source.endswith("cutouts_scenes4_16_fixed/1.0.0") and catalog.object_class.sum() == 5
    assert pool.scenes.shape[0] == 8
    assert prepare(TREE, tmp_path, "--fix_labels") == 0
    with pytest.raises(ConfigError, match=r"root: .*cutouts_scenes4_16_fixed:1.0.0.*prepare.*/cutouts'"):
        open_pool(tmp_path)


@pytest.fixture
def tree(tmp_path):
    """A tree of the test's own."""
    return shutil.copytree(TREE, tmp_path / "tree", ignore=shutil.ignore_patterns("metadata.csv"))


def test_the_two_kinds_of_pool_show_the_same_image(tree, tmp_path):
    """Birds and scenes of SIZE x SIZE need no resizing: a row of a manifest is a pair of indices, within a level."""
    for path in [*tree.rglob("*.jpg"), *tree.rglob("*.png")]:
        Image.open(path).resize((SIZE, SIZE)).save(path)
    csv_path = tmp_path / "own.csv"
    assert main(arguments(tree, "--rho", 0.75, "--out", csv_path, command="manifest")) == 0
    assert prepare(tree, tmp_path / "photos", "--manifest", csv_path) == 0
    assert prepare(tree, tmp_path / "parts", "--split_by", csv_path) == 0
    photos, shown = open_pool(tmp_path / "photos")
    parts, catalog = open_pool(tmp_path / "parts")
    rows = sorted(manifest.read_manifest(csv_path), key=lambda row: row.img_filename)
    assert photos.kind == "photo" and shown.object_names == tuple(row.img_filename for row in rows)
    assert shown.object_scene.tolist() == [row.place for row in rows]
    assert shown.object_split.tolist() == catalog.object_split.tolist() == [row.split for row in rows]
    index = [catalog.scene_photo_names.index(row.place_filename) for row in rows]
    assert catalog.scene_split[index].tolist() == [row.split for row in rows]
    composites, masks = gather(parts, np.stack([np.arange(len(rows)), index], axis=1))
    np.testing.assert_allclose(255 * composites, photos.images, atol=1.01)
    np.testing.assert_array_equal(masks, photos.masks)


def test_a_bird_of_which_nothing_is_left_is_left_out(tree, tmp_path, capsys):
    name, (_, segmentation) = read_birds(tree / CUB)[6].name, files_of(tree, 6)
    place(tree, {segmentation: np.zeros((19, 22), np.uint8)})
    assert prepare(tree, tmp_path) == 0
    assert f"1 birds left out, nothing of them is left: {name}" in capsys.readouterr().err
    pool, catalog = open_pool(tmp_path)
    assert len(catalog.object_names) == len(pool.images) == 19 and name not in catalog.object_names


def files_of(tree, number=4):
    """The photo and the segmentation of a bird."""
    return read_birds(tree / CUB)[number].files


SCENE = f"{PLACES}/b/bamboo_forest/00000000.jpg"


@pytest.fixture
def assert_named(tree, tmp_path, capsys):
    """Prepares the data set, which must fail with the name of a file and leave nothing."""

    def check(path, *options):
        assert prepare(tree, tmp_path / "out", *options) == 1
        text = capsys.readouterr().err
        assert str(path) in text and "Traceback" not in text and not list((tmp_path / "out").iterdir())

    return check


def cut(path):
    path.write_bytes(path.read_bytes()[:100])


@pytest.mark.parametrize("name", ["photo", "scene"])
def test_a_photo_that_is_cut_off_is_named_and_leaves_nothing(tree, assert_named, name):
    path = files_of(tree)[0] if name == "photo" else tree / SCENE
    cut(path)
    assert_named(path)


@pytest.mark.parametrize("content", [None, np.full((9, 9), 255, np.uint8)], ids=["absent", "of another size"])
def test_a_bad_segmentation_is_named_and_leaves_nothing(tree, assert_named, content):
    _, segmentation = files_of(tree)
    place(tree, {segmentation: content})
    assert_named(segmentation)


def test_a_scene_that_would_have_gigapixels_is_named(tree, assert_named):
    """Enlarged to the width of its bird."""
    photo, segmentation = files_of(tree)
    tall, large, whole = np.zeros((30_000, 1, 3), np.uint8), np.zeros((400, 400, 3), np.uint8), np.full((400, 400), 255)
    place(tree, {tree / SCENE: tall, photo: large, segmentation: whole.astype(np.uint8)})
    row = f"4,{photo.parent.name}/{photo.name},0,0,0,0,/b/bamboo_forest/00000000.jpg"
    (tree / "own.csv").write_text(f"{','.join(manifest.ManifestRow._fields)}\n{row}\n")
    assert_named(tree / SCENE, "--manifest", tree / "own.csv")


def test_a_disk_that_cannot_be_written_to_is_one_line(tree, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert prepare(tree, tmp_path / "file/pool") == 1
    assert "Traceback" not in capsys.readouterr().err
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        assert prepare(tree, tmp_path / "pool") == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list((tmp_path / "pool").iterdir())
    assert prepare(tree, tmp_path / "pool") == 0


def test_what_an_interrupted_or_killed_prepare_leaves_is_gone(tmp_path, capsys, monkeypatch):
    """A .DS_Store is no reason to refuse; SIGTERM says how to go on; of two at once the first is kept."""
    cutouts = tmp_path / "waterbirds_seg/cutouts"
    killed = cutouts / f".1.0.0.{files._machine()}.{2**22 + 1}.0.tmp"  # No process has such a number.
    killed.mkdir(parents=True)
    (tmp_path / "waterbirds_seg/.DS_Store").write_text("")
    signals, draw = iter([signal.SIGTERM]), pixels.draw_item

    def interrupted(item, size):
        for number in signals:
            os.kill(os.getpid(), number)
        return draw(item, size)

    with monkeypatch.context() as patch:
        patch.setattr(pixels, "draw_item", interrupted)
        assert prepare(TREE, tmp_path) == 75
    assert "the same command starts anew" in capsys.readouterr().err and not cutouts.exists()
    killed.mkdir(parents=True)
    assert prepare(TREE, tmp_path) == 0
    assert [path.name for path in cutouts.iterdir()] == ["1.0.0"]
    with adding_folder(cutouts / "2.0.0") as folder:
        (folder / "slow").touch()
        (cutouts / "2.0.0/fast").mkdir(parents=True)
    assert [path.name for path in (cutouts / "2.0.0").iterdir()] == ["fast"] and len(list(cutouts.iterdir())) == 2


NAMES, PARTS = f"{CUB}/images.txt", f"{CUB}/train_test_split.txt"


@pytest.mark.parametrize(
    ("absent", "named"),
    [(CUB, "cub_dir"), (PLACES, "places_dir"), (NAMES, NAMES), (PARTS, PARTS)],
    ids=["the birds", "the scenes", "the list of birds", "the list of parts"],
)
def test_a_missing_part_of_the_archives_is_named(tree, tmp_path, capsys, absent, named):
    (tree / absent).rename(tree / "away")
    assert prepare(tree, tmp_path / "pool") == 2
    assert named in capsys.readouterr().err and not list((tmp_path / "pool").rglob("*"))


def test_a_missing_manifest_is_named(tmp_path, capsys):
    assert prepare(TREE, tmp_path / "pool", "--manifest", tmp_path / "absent.csv") == 1
    assert "absent.csv" in capsys.readouterr().err


BAD_PARTS = {
    "too few birds": "1 1\n2 0\n",
    "a part that is no number": (TREE / PARTS).read_text().replace("1 1\n", "1 x\n", 1),
    "a bird twice": "1 1\n1 0\n",
    "a bird that is no number": "one 1\n",
}


@pytest.mark.parametrize("text", BAD_PARTS.values(), ids=BAD_PARTS)
def test_a_malformed_list_of_parts_is_refused(tree, text):
    (tree / PARTS).write_text(text)
    with pytest.raises(ConfigError, match="cub_dir"):
        read_birds(tree / CUB)


def test_a_list_that_names_a_bird_twice_is_refused(tree):
    (tree / NAMES).write_text("1 a/b.jpg\n2 a/b.jpg\n")
    (tree / PARTS).write_text("1 1\n2 0\n")
    with pytest.raises(ConfigError, match="cub_dir"):
        read_birds(tree / CUB)


def test_a_folder_without_scenes_is_refused():
    with pytest.raises(ConfigError, match=r"places_dir: .*b/bamboo_forest"):
        manifest.read_scenes(TREE / CUB)


def test_a_list_of_a_gigabyte_is_not_read(tree):
    os.truncate(tree / PARTS, 1 << 30)  # Holes alone, which take no room on the disk.
    with pytest.raises(ValueError, match="1,073,741,824 bytes"):
        read_birds(tree / CUB)


def test_a_manifest_of_a_gigabyte_is_not_read(tmp_path):
    (tmp_path / "metadata.csv").touch()
    os.truncate(tmp_path / "metadata.csv", 1 << 30)
    with pytest.raises(ValueError, match="1,073,741,824 bytes"):
        manifest.read_manifest(tmp_path / "metadata.csv")


RELEASED = (0.5, 0.95)
"""Each rho at which a manifest was released."""
FIXED = {"021.Eastern_Towhee", "088.Western_Meadowlark", "102.Western_Wood_Pewee"}


def write_released(rho, path):
    """Writes a released manifest, with numbers for the names of photos and scenes."""
    lines = ["img_id,img_filename,y,split,place,group_id,place_filename"]
    with np.load(GOLDEN.with_name(f"waterbirds_released_{rho}.npz")) as released:
        names = released["species_names"]
        columns = [released[name].tolist() for name in ("image", "species", "y", "split", "place", "scene")]
    for image, species, y, split, background, scene in zip(*columns, strict=True):
        lines.append(f"{image},{names[species]}/{image}.jpg,{y},{split},{background},{2 * y + background},{scene}.jpg")
    path.write_text("\n".join(lines) + "\n")


def test_released_classes_and_counts_and_the_fix_moves_three_species(tmp_path):
    birds, scenes, released = {}, {}, {}
    for rho in RELEASED:
        path = tmp_path / f"{rho}.csv"
        write_released(rho, path)
        rows = released[rho] = manifest.read_manifest(path)
        for row in rows:
            part = 2 if row.split == 2 else -1
            birds[row.img_id] = PoolItem(row.img_filename, y=class_of(row.img_filename), part=part)
            scenes[row.place_filename] = PoolItem(row.place_filename, scene=row.place)
        assert [class_of(row.img_filename) for row in rows] == [row.y for row in rows]
        pairs = zip(rows, manifest.read_manifest(path, fix_labels=True), strict=True)
        moved = [(before, after) for before, after in pairs if before != after]
        assert len(moved) == 180 and sum(row.split == 2 for row, _ in moved) == 90
        assert {row.img_filename.split("/")[0] for row, _ in moved} == FIXED
        assert all((b.y, a.y, a.group_id) == (1, 0, b.place) for b, a in moved)
    for rho, train in ((0.5, [615] * 4), (0.95, [1167, 62, 62, 1167])):
        own = manifest.make_manifest(birds, [*scenes.values()], rho=rho, seed=0)
        counts = [Counter((row.split, row.group_id) for row in rows) for rows in (own, released[rho])]
        assert counts[0] == counts[1] and [counts[0][0, group] for group in range(4)] == train


def test_draws_are_nested_and_show_every_photo_once():
    birds, scenes = read_birds(TREE / CUB), read_scenes(TREE / PLACES)
    low, high = (manifest.make_manifest(birds, scenes, rho=rho, seed=3) for rho in (0.5, 0.75))
    for rows in (low, high):
        for field in ("img_filename", "place_filename"):
            assert max(Counter(getattr(row, field) for row in rows).values()) == 1
        assert rows == sorted(rows, key=lambda row: (row.split, row.group_id))
    assert {row for row in low if row.split} == {row for row in high if row.split}
    before, after = ({row.img_filename: row.place_filename for row in rows if not row.split} for rows in (low, high))
    both = before.keys() & after.keys()
    usual = [row for row in low if not row.split and row.y == row.place]
    assert len(both) >= len(before) - 2 and all(before[r.img_filename] == after[r.img_filename] for r in usual)
    official = {bird.name for bird in birds.values() if bird.part == 2}
    assert {row.img_filename for row in low if row.split == 2} <= official
    assert not {row.img_filename for row in low if row.split < 2} & official
    assert manifest.make_manifest(birds, scenes, rho=0.5, seed=4) != low


@settings(max_examples=200)
@given(st.integers(2, 3000), st.integers(50, 100))
def test_image_counts_keep_to_rho(birds, percent):
    total, usual = manifest.images_per_class(birds, percent / 100)
    assert 0 <= usual <= total <= birds
    assert usual * 100 <= percent * total < (usual + 1) * 100
    assert birds - total <= 1 + 100 / percent


@pytest.mark.parametrize("options", [("--rho", 0.3), ("--rho", 0.8, "--seed", -1)], ids=["rho", "seed"])
def test_misuse_of_the_manifest_command_names_the_option(tmp_path, capsys, options):
    out = tmp_path / "own.csv"
    assert main(arguments(TREE, *options, "--out", out, command="manifest")) == 2
    assert f"{options[-2]}: expected" in capsys.readouterr().err and not out.exists()


def test_the_manifest_command(tmp_path, capsys):
    out = tmp_path / "own.csv"
    assert main(arguments(TREE, "--rho", 0.75, "--out", out, command="manifest")) == 0
    assert "train" in capsys.readouterr().out
    rows = manifest.read_manifest(out)
    birds, scenes = read_birds(TREE / CUB), read_scenes(TREE / PLACES)
    assert rows == manifest.make_manifest(birds, scenes, rho=0.75, seed=0)
    assert out.read_text().splitlines()[0] == "img_id,img_filename,y,split,place,group_id,place_filename"
    assert all(scene_file(TREE / PLACES, row.place_filename).is_file() for row in rows)


def test_too_few_scenes_are_counted():
    scenes = read_scenes(TREE / PLACES)
    few = [item for item in scenes if item.scene == 0] + [item for item in scenes if item.scene == 1][:2]
    with pytest.raises(ConfigError, match=r"places_dir: .*found land 10, water 2"):
        manifest.make_manifest(read_birds(TREE / CUB), few, rho=0.5, seed=0)


def test_too_few_birds_are_counted():
    few = {number: bird for number, bird in read_birds(TREE / CUB).items() if bird.y or bird.part != 2}
    with pytest.raises(ConfigError, match=r"cub_dir: .*found landbird 0"):
        manifest.make_manifest(few, read_scenes(TREE / PLACES), rho=0.5, seed=0)


HEAD, ROW = ",".join(manifest.ManifestRow._fields), "1,a/b.jpg,0,0,1,1,/o/ocean/1.jpg"
BAD = {  # Lines below each other, and what is named.
    "a class that is none": (f"{HEAD}\n{ROW}\n1,a/c.jpg,2,0,1,1,/o/x.jpg", "line 3: y"),
    "a group that is another": (f"{HEAD}\n{ROW}\n1,a/d.jpg,0,0,1,0,/o/x.jpg", "line 3: group_id"),
    "a row twice": (f"{HEAD}\n{ROW}\n{ROW}", "line 3: img_filename"),
    "no name": (f"{HEAD}\n{ROW}\n1,,0,0,1,1,/o/x.jpg", "line 3: img_filename"),
    "a row that is cut off": (f"{HEAD}\n{ROW}\n1,a/e.j", "line 3: y"),
    "columns that are missing": ("img_id,y\n1,0\n", "img_filename"),
    "a column twice": (HEAD.replace("place,", "y,") + "\n", "y"),
    "no row": (HEAD, "no row below its header"),
    "a field too long": (HEAD + "\n1," + "a" * (csv.field_size_limit() + 1), "field"),
}


@pytest.mark.parametrize(("text", "named"), BAD.values(), ids=BAD)
def test_a_bad_manifest_is_refused(tmp_path, text, named):
    path = tmp_path / "metadata.csv"
    path.write_text(text)
    with pytest.raises(BadFileError, match=f"metadata.csv.*{named}"):
        manifest.read_manifest(path)
