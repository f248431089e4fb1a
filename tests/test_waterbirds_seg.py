"""Waterbirds-Seg: pixels against golden cases and slow twins, lists against released manifests, the commands."""

import csv
import os
import resource
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from flipjax.config import ConfigError, PoolSpec
from flipjax.data import POOLS, images
from flipjax.data.__main__ import main
from flipjax.data.correlation import count_groups, evaluation_table, largest_n_train, split_pool, training_table
from flipjax.data.pool import Listing, catalog_of, gather
from flipjax.data.waterbirds_seg import archives, manifest, pixels, selection
from flipjax.data.waterbirds_seg.archives import Bird, bird_files, class_of, read_birds, read_scenes, scene_file

SHARED = Path(__file__).parents[2] / "shared"
GOLDEN = SHARED / "golden/waterbirds_tiny"
RELEASED = {rho: SHARED / f"reference/metadata_corr{rho}.csv" for rho in (0.5, 0.95)}
SIZE = 16
FIXED = {"021.Eastern_Towhee", "088.Western_Meadowlark", "102.Western_Wood_Pewee"}

needs_golden = pytest.mark.skipif(not GOLDEN.is_dir(), reason="../shared/golden is absent")
needs_released = pytest.mark.skipif(not RELEASED[0.5].is_file(), reason="../shared/reference is absent")


def save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


def draw_photo(rng, width, height):
    small = rng.integers(0, 256, (4, 4, 3)).astype(np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def draw_mask(rng, width, height):
    y, x = np.mgrid[:height, :width]
    distance = np.hypot((x - width / 2) / width, (y - height / 2) / height)
    return np.clip(255 * (0.4 - distance) / rng.uniform(0.1, 0.2), 0, 255).astype(np.uint8)


SPECIES = ("001.Black_footed_Albatross", "021.Eastern_Towhee", "110.Geococcyx", "118.House_Sparrow")


def make_tree(root, birds=24, scenes=8):
    """A tree like CUB and Places: birds of four species in turn, two of five for test; scenes in both layouts."""
    rng = np.random.default_rng(11)
    names = [f"{SPECIES[i % 4]}/{SPECIES[i % 4][4:]}_{i:04d}_{1000 + i}.jpg" for i in range(birds)]
    for i, name in enumerate(names):
        photo, segmentation = bird_files(root / "cub", name)
        size = (20 + i % 3, 18 + i % 2)
        save(photo, draw_photo(rng, *size) if i % 7 else draw_photo(rng, *size)[..., 0], quality=90)
        save(segmentation, draw_mask(rng, *size))
    (root / "cub/images.txt").write_text("".join(f"{i + 1} {name}\n" for i, name in enumerate(names)))
    (root / "cub/train_test_split.txt").write_text("".join(f"{i + 1} {int(i % 5 < 3)}\n" for i in range(birds)))
    for folder in ("b/bamboo_forest", "train/forest-broadleaf", "o/ocean", "val/lake-natural"):
        for i in range(scenes):
            save(root / "places" / folder / f"{i:08d}.jpg", draw_photo(rng, 24, 24 + i % 3), quality=90)
    return root


@pytest.fixture(scope="module")
def shared_tree(tmp_path_factory):
    """A tree that no test changes."""
    return make_tree(tmp_path_factory.mktemp("tree"))


@pytest.fixture
def tree(tmp_path):
    """A tree of the test's own."""
    return make_tree(tmp_path / "tree")


def arguments(tree, *more, command="prepare"):
    folders = ["--cub_dir", str(tree / "cub"), "--places_dir", str(tree / "places")]
    return [command, "waterbirds_seg", *folders, *map(str, more)]


def prepare(tree, data_dir, *more):
    return main(arguments(tree, "--data_dir", data_dir, *more))


def open_pool(data_dir, root="", size=SIZE):
    spec = PoolSpec(name="waterbirds_seg", root=root, data_dir=str(data_dir), size=size, cache=f"{data_dir}/cache")
    return POOLS["waterbirds_seg"](spec)


# Pixels


@needs_golden
def test_composites_equal_the_reference():
    rows = manifest.read_manifest(GOLDEN / "metadata.csv")
    assert len(rows) == 16
    for row in rows:
        bird, alpha = pixels.read_bird(*bird_files(GOLDEN / "cub", row.img_filename))
        scene = images.read_image(scene_file(GOLDEN / "places", row.place_filename))
        expected = (GOLDEN / "expected_images" / row.img_filename).with_suffix(".png")
        np.testing.assert_array_equal(pixels.composite(bird, alpha, scene), Image.open(expected))
        expected = (GOLDEN / "expected_masks" / row.img_filename).with_suffix(".png")
        np.testing.assert_array_equal(pixels.label_mask(alpha, 1 + row.y, 0), Image.open(expected))


def test_every_product_is_rounded_as_in_float64():
    """All 256 x 256 pairs of a grey value and an alpha, on black and behind black."""
    values, alphas = np.meshgrid(np.arange(256), np.arange(256))
    image = Image.fromarray(np.repeat(values[..., None], 3, axis=-1).astype(np.uint8))
    alpha, black = Image.fromarray(alphas.astype(np.uint8)), Image.new("RGB", (256, 256))
    front, back = pixels.composite(image, alpha, black), pixels.composite(black, alpha, image)
    np.testing.assert_array_equal(np.asarray(front)[..., 1], np.around(values * (alphas / 255)))
    np.testing.assert_array_equal(np.asarray(back)[..., 1], np.around(values * (1 - alphas / 255)))


def test_a_segmentation_of_three_channels_is_taken_channel_by_channel():
    rng = np.random.default_rng(2)
    bird, alpha, scene = (Image.fromarray(rng.integers(0, 256, (6, 8, 3)).astype(np.uint8)) for _ in range(3))
    b, a, s = (np.asarray(image).astype(float) for image in (bird, alpha, scene))
    expected = np.around(b * (a / 255)) + np.around(s * (1 - a / 255))
    np.testing.assert_array_equal(pixels.composite(bird, alpha, scene), expected)


def twin_fit(scene, size):
    """The rule in words: enlarge until it covers, cut what is too wide or too high off both sides, resize."""
    (w, h), (width, height) = scene.size, size
    if w < width or h < height:
        larger = (width, int(width / w * h))
        larger = larger if larger[1] >= height else (int(height / h * w), height)
        return twin_fit(scene.resize(larger, Image.Resampling.LANCZOS), size)
    array = np.asarray(scene)
    if w / h > width / height:
        cut = (w - int(width / height * h)) // 2
        array = array[:, cut : w - cut]
    else:
        cut = (h - int(w / (width / height))) // 2
        array = array[cut : h - cut]
    return Image.fromarray(array).resize(size, Image.Resampling.LANCZOS)


@settings(max_examples=40, deadline=None)
@given(st.tuples(*[st.integers(8, 40)] * 4))
def test_fit_equals_its_twin(sides):
    scene = Image.fromarray(draw_photo(np.random.default_rng(1), *sides[:2]))
    fitted = pixels.fit(scene, sides[2:])
    assert fitted.size == sides[2:]
    np.testing.assert_array_equal(fitted, twin_fit(scene, sides[2:]))


def test_a_cut_out_holds_nothing_of_its_background():
    photo = np.full((12, 12, 3), (0, 0, 255), np.uint8)
    alpha = np.zeros((12, 12), np.uint8)
    photo[3:9, 3:9], alpha[3:9, 3:9] = (255, 0, 0), 255
    image, mask = map(np.asarray, images.cut_out(Image.fromarray(photo), Image.fromarray(alpha), 8))
    assert image.shape == (8, 8, 3) and image[..., 2].max() == 0
    np.testing.assert_array_equal(image[..., 0], mask)
    assert 0 < mask[1, 3] < 255
    whole, _ = images.cut_out(Image.fromarray(photo), Image.fromarray(alpha), 0)
    assert whole.size == (12, 12)


# Lists and manifests


@needs_released
def test_classes_are_the_released_ones_and_the_fix_moves_three_species():
    for path in RELEASED.values():
        rows = manifest.read_manifest(path)
        assert [class_of(row.img_filename) for row in rows] == [row.y for row in rows]
        moved = [
            (before, after)
            for before, after in zip(rows, manifest.read_manifest(path, fix_labels=True), strict=True)
            if before != after
        ]
        assert len(moved) == 180 and sum(row.split == 2 for row, _ in moved) == 90
        assert sum(row.split == 2 and row.y == 1 for row in rows) == 1284
        assert {row.img_filename.split("/")[0] for row, _ in moved} == FIXED
        assert all((b.y, a.y, a.group_id) == (1, 0, b.place) for b, a in moved)


@pytest.fixture(scope="module")
def released_lists():
    """All birds and scenes of the released manifests, as archives would list them."""
    birds, scenes = {}, {}
    for path in RELEASED.values():
        for row in manifest.read_manifest(path):
            part = 2 if row.split == 2 else -1
            birds[row.img_filename] = Bird(row.img_id, row.img_filename, class_of(row.img_filename), part)
            scenes[row.place_filename] = row.place
    return [birds[name] for name in sorted(birds)], sorted(scenes.items())


@needs_released
@pytest.mark.parametrize("rho", [0.5, 0.95])
def test_own_manifests_have_the_released_counts(released_lists, rho):
    own = manifest.count_groups(manifest.make_manifest(*released_lists, rho=rho, seed=0))
    assert own == manifest.count_groups(manifest.read_manifest(RELEASED[rho]))
    assert own["train"] == {0.5: [615] * 4, 0.95: [1167, 62, 62, 1167]}[rho]


@needs_released
def test_released_manifests_make_pools_with_the_papers_parts(released_lists):
    """Photo pool: its parts and sizes; composite pool of both manifests: no scene and no bird in two parts."""

    def listed(kind, objects, scenes=()):
        names = {"class_names": archives.CLASS_NAMES, "scene_names": archives.SCENE_NAMES}
        return catalog_of(Listing(source="", kind=kind, objects=objects, scenes=scenes, **names))

    rows = manifest.read_manifest(RELEASED[0.95])
    composites = selection.composites_of(rows, Path("cub"), Path("places"))
    catalog = listed("photo", [item for items in composites.values() for item in items])
    split = split_pool(catalog, n_val=296, n_test=2568, seed=0)
    counts = {"train": (1167, 62, 62, 1167), "val": (74,) * 4, "test": (642,) * 4}
    assert count_groups(catalog, split) == counts
    assert largest_n_train(catalog, split, rhos=[0.95]) == 2456  # round(0.95 * 1229) is 1168, one more than there are.
    rows = [row for path in RELEASED.values() for row in manifest.read_manifest(path)]
    splits = selection.parts_of(rows, Path("cub"), Path("places"))
    catalog = listed("composite", splits["birds"], splits["scenes"])
    assert (len(catalog.object_names), len(catalog.scene_photo_names)) == (6741, 5324)
    assert len(set(catalog.scene_photo_names)) == 5324
    waterbirds = Counter(catalog.object_split[catalog.object_class == 1].tolist())
    assert waterbirds == {0: 1230, 1: 149, 2: 1284}
    # A sweep over it tests on the paper's waterbirds, each in both scenes, and on as many of its landbirds.
    split = split_pool(catalog, n_val=592, n_test=5136, seed=0)
    assert (catalog.object_split[split.test.objects] == 2).all() and len(split.test.objects) == 2568
    assert (catalog.scene_split[split.train.scenes] == 0).all()


def test_draws_are_nested_and_show_every_photo_once(shared_tree):
    birds, scenes = read_birds(shared_tree / "cub"), read_scenes(shared_tree / "places")
    low, high = (manifest.make_manifest(birds, scenes, rho=rho, seed=3) for rho in (0.5, 0.75))
    for rows in (low, high):
        for field in ("img_filename", "place_filename"):
            assert max(Counter(getattr(row, field) for row in rows).values()) == 1
        assert all(row.group_id == 2 * row.y + row.place for row in rows)
        assert rows == sorted(rows, key=lambda row: (row.split, row.group_id))
    assert {row for row in low if row.split} == {row for row in high if row.split}
    before, after = ({row.img_filename: row.place_filename for row in rows if not row.split} for rows in (low, high))
    both = before.keys() & after.keys()
    usual = [row for row in low if not row.split and row.y == row.place]
    assert len(both) >= len(before) - 2 and all(before[r.img_filename] == after[r.img_filename] for r in usual)
    official = {bird.name for bird in birds if bird.part == 2}
    assert {row.img_filename for row in low if row.split == 2} <= official
    assert not {row.img_filename for row in low if row.split < 2} & official
    assert manifest.make_manifest(birds, scenes, rho=0.5, seed=4) != low


@settings(max_examples=200, deadline=None)
@given(st.integers(2, 3000), st.integers(50, 100))
def test_image_counts_keep_to_rho(birds, percent):
    total, usual = manifest.images_per_class(birds, percent / 100)
    assert 0 <= usual <= total <= birds
    assert usual * 100 <= percent * total < (usual + 1) * 100
    assert birds - total <= 1 + 100 / percent


def test_the_manifest_command(shared_tree, tmp_path, capsys):
    out = tmp_path / "own.csv"
    assert main(arguments(shared_tree, "--rho", 0.75, "--out", out, command="manifest")) == 0
    assert "train  groups 0 1 2 3:" in capsys.readouterr().out
    rows = manifest.read_manifest(out)
    assert rows == manifest.make_manifest(
        read_birds(shared_tree / "cub"), read_scenes(shared_tree / "places"), rho=0.75, seed=0
    )
    header = out.read_text().splitlines()[0]
    assert header == "img_id,img_filename,y,split,place,group_id,place_filename"
    assert all(scene_file(shared_tree / "places", row.place_filename).is_file() for row in rows)
    fixed = read_birds(shared_tree / "cub", fix_labels=True)
    assert Counter(bird.y for bird in fixed) == {0: 18, 1: 6}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--rho", 0.3), "rho: expected a number in [0.5, 1]; found 0.3"),
        (("--rho", 0.8, "--seed", -1), "seed: expected a whole number >= 0"),
    ],
)
def test_misuse_of_the_manifest_command(shared_tree, more, message, capsys):
    assert main(arguments(shared_tree, *more, "--out", "never.csv", command="manifest")) == 2
    assert message in capsys.readouterr().err
    assert not Path("never.csv").exists()


def test_too_few_scenes_say_what_there_is(shared_tree):
    birds, scenes = read_birds(shared_tree / "cub"), read_scenes(shared_tree / "places")
    few = [scene for scene in scenes if scene[1] == 0] + [scene for scene in scenes if scene[1] == 1][:2]
    with pytest.raises(ConfigError, match=r"11 scene photos of each kind are needed.*; there are land 16, water 2"):
        manifest.make_manifest(birds, few, rho=0.5, seed=0)
    with pytest.raises(ConfigError, match=r"test needs at least 2 birds of each class; there are landbird 0"):
        manifest.make_manifest([b for b in birds if b.y or b.part != 2], scenes, rho=0.5, seed=0)


def test_bad_manifests_are_refused(tmp_path):
    path = tmp_path / "metadata.csv"
    good = "1,a/b.jpg,0,0,1,1,/o/ocean/1.jpg"
    bad = ["1,a/c.jpg,2,0,1,1,/o/x.jpg", "1,a/d.jpg,0,0,1,0,/o/x.jpg", good, "1,../x.jpg,0,0,1,1,/o/x.jpg", "1,a/e.j"]
    bad += ["1,/etc/x.jpg,0,0,1,1,/o/x.jpg", "1,a/f.jpg,0,0,1,1,//etc/x.jpg"]
    path.write_text("\n".join([",".join(manifest.Row._fields), good, *bad]))
    with pytest.raises(ConfigError, match=r"7 bad rows of 8\n  line 3: y: expected a whole") as raised:
        manifest.read_manifest(path)
    for text in ("2 * y + place = 1, found 0", "is listed twice", "below its archive", "7 fields, found fewer"):
        assert text in str(raised.value)
    path.write_text("img_id,y\n1,0\n")
    with pytest.raises(ConfigError, match="no img_filename, split"):
        manifest.read_manifest(path)
    path.write_text(",".join(manifest.Row._fields) + "\n1," + "a" * (csv.field_size_limit() + 1))
    with pytest.raises(ConfigError, match=r"cannot read .*metadata.csv: field larger than field limit"):
        manifest.read_manifest(path)


# The data set


def test_cutouts_serve_sweeps_of_any_size(shared_tree, tmp_path, capsys):
    """Photos keep their size in the data set; a pool holds cut-outs and scenes as if they had never been in it."""
    assert prepare(shared_tree, tmp_path) == 0
    written = capsys.readouterr()
    assert "birds: 24 of 24" in written.err and "birds 24, scenes 32" in written.out
    assert sorted(path.name for path in (tmp_path / "waterbirds_seg").iterdir()) == ["cutouts"]
    pool, catalog = open_pool(tmp_path)
    assert pool.kind == "composite" and pool.images.shape == (24, SIZE, SIZE, 3) and pool.scenes.shape[0] == 32
    names = [bird.name for bird in read_birds(shared_tree / "cub")]
    order = [names.index(name) for name in catalog.object_names]
    assert catalog.object_class.tolist() == [[1, 1, 0, 0][i % 4] for i in order]
    assert catalog.object_split.tolist() == [2 if i % 5 > 2 else -1 for i in order]
    assert np.bincount(catalog.scene_kind).tolist() == [16, 16] and (catalog.scene_split == -1).all()
    assert (np.asarray(pool.images) <= np.asarray(pool.masks)[..., None]).all()
    for index in range(24):
        bird, alpha = pixels.read_bird(*bird_files(shared_tree / "cub", catalog.object_names[index]))
        image, alpha = images.cut_out(bird, alpha, SIZE)
        np.testing.assert_array_equal(pool.images[index], image)
        np.testing.assert_array_equal(pool.masks[index], alpha)
    scene = images.read_image(scene_file(shared_tree / "places", catalog.scene_photo_names[20]))
    np.testing.assert_array_equal(pool.scenes[20], images.middle_square(scene, SIZE))
    assert open_pool(tmp_path, size=24)[0].images.shape[1] == 24
    assert prepare(shared_tree, tmp_path) == 0
    assert "nothing to do" in capsys.readouterr().out
    split = split_pool(catalog, n_val=4, n_test=8, seed=0)
    official = {bird.name for bird in read_birds(shared_tree / "cub") if bird.part == 2}
    shown = {catalog.object_names[i] for i in evaluation_table(catalog, split, "test").rows[:, 0]}
    assert shown <= official and len(shown) == 4
    for rho, counts in ((0.5, [2, 2, 2, 2]), (1.0, [4, 0, 0, 4])):
        table = training_table(catalog, split, rho=rho, seed=0, n_train=8)
        assert np.bincount(table.groups, minlength=4).tolist() == counts


def test_options_have_data_sets_of_their_own(shared_tree, tmp_path):
    assert prepare(shared_tree, tmp_path, "--size", SIZE, "--fix_labels", "--scenes", 4) == 0
    pool, catalog = open_pool(tmp_path)  # The only one that is there.
    assert catalog.source.endswith("cutouts_scenes4_16_fixed/1.0.0")
    assert catalog.object_class.sum() == 6 and pool.scenes.shape[0] == 8
    assert prepare(shared_tree, tmp_path, "--scenes", 8) == 0
    with pytest.raises(ConfigError, match=r"root: no data set .*/cutouts' .*cutouts_scenes4_16_fixed:1.0.0.*prepare"):
        open_pool(tmp_path)
    assert open_pool(tmp_path, "cutouts_scenes8")[0].scenes.shape[0] == 16


def test_the_two_kinds_of_pool_show_the_same_image(tmp_path):
    """Birds and scenes of SIZE x SIZE need no resizing: a row of a manifest is a pair of indices, within a level."""
    tree = make_tree(tmp_path / "tree")
    rng = np.random.default_rng(4)
    for path in [*(tree / "cub/images").rglob("*.jpg"), *(tree / "places").rglob("*.jpg")]:
        save(path, draw_photo(rng, SIZE, SIZE))
    for path in (tree / "cub/segmentations").rglob("*.png"):
        save(path, draw_mask(rng, SIZE, SIZE))
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
    name = read_birds(tree / "cub")[5].name
    save(bird_files(tree / "cub", name)[1], np.zeros((19, 22), np.uint8))
    assert prepare(tree, tmp_path) == 0
    assert f"1 birds left out, nothing of them is left: {name}" in capsys.readouterr().err
    pool, catalog = open_pool(tmp_path)
    assert len(catalog.object_names) == len(pool.images) == 23 and name not in catalog.object_names


# What goes wrong


def bad_photo(tree):
    path = bird_files(tree / "cub", read_birds(tree / "cub")[3].name)[0]
    path.write_bytes(path.read_bytes()[:100])
    return path, "1 cannot be used"


def other_size(tree):
    path = bird_files(tree / "cub", read_birds(tree / "cub")[3].name)[1]
    save(path, np.full((9, 9), 255, np.uint8))
    return path, "the mask has 9 x 9 pixels"


def missing_mask(tree):
    path = bird_files(tree / "cub", read_birds(tree / "cub")[3].name)[1]
    path.unlink()
    return path, "files are missing for 56 images"


def damaged_scene(tree):
    path = tree / "places/o/ocean/00000002.jpg"
    os.truncate(path, 200)
    return path, "1 cannot be used"


@pytest.mark.parametrize("harm", [bad_photo, other_size, missing_mask, damaged_scene])
def test_a_bad_file_is_named_and_leaves_nothing(tree, tmp_path, capsys, harm):
    path, message = harm(tree)
    assert prepare(tree, tmp_path / "out") == 1
    said = capsys.readouterr().err
    assert message in said and str(path) in said and "Traceback" not in said
    assert not list((tmp_path / "out").iterdir())


def test_a_disk_that_cannot_be_written_to_is_one_line(tree, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert prepare(tree, tmp_path / "file/pool") == 1
    said = capsys.readouterr().err
    assert "Not a directory" in said.splitlines()[-1] and "Traceback" not in said
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        assert prepare(tree, tmp_path / "pool") == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list((tmp_path / "pool").iterdir())
    assert prepare(tree, tmp_path / "pool") == 0


SLOW = """
import sys, time
from flipjax.data.waterbirds_seg import pixels
draw, made = pixels.draw, []

def slow(item, size):
    made.append(item)
    if len(made) == 9:
        print("half done", file=sys.stderr, flush=True)
    time.sleep(0 if len(made) < 9 else 2)
    return draw(item, size)

pixels.draw = slow
from flipjax.data.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


def start(tree, data_dir, *, script=None):
    command = [sys.executable, "-c", script] if script else [sys.executable, "-m", "flipjax.data"]
    command += arguments(tree, "--data_dir", data_dir)
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_what_a_killed_prepare_leaves_is_gone_after_the_next(shared_tree, tmp_path):
    """A .DS_Store is no reason to refuse; SIGTERM says how to go on; two at once both end well."""
    (tmp_path / "waterbirds_seg").mkdir()
    (tmp_path / "waterbirds_seg/.DS_Store").write_text("")
    for number in (signal.SIGTERM, signal.SIGKILL):
        process = start(shared_tree, tmp_path, script=SLOW)
        assert "half done\n" in iter(process.stderr.readline, "")
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
        assert process.returncode == (75 if number == signal.SIGTERM else -number)
        assert ("the same command starts anew" in err) == (number == signal.SIGTERM)
    left = list((tmp_path / "waterbirds_seg/cutouts").iterdir())
    assert left and all(path.name.startswith(".") for path in left)
    both = [start(shared_tree, tmp_path) for _ in range(2)]
    for process in both:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        assert "birds 24, scenes 32" in out
    assert [path.name for path in (tmp_path / "waterbirds_seg/cutouts").iterdir()] == ["1.0.0"]
    assert len(open_pool(tmp_path)[1].object_names) == 24


@pytest.mark.parametrize(
    ("absent", "message"),
    [
        ("cub", "cub_dir: expected a folder; found"),
        ("places", "places_dir: expected a folder; found"),
        ("cub/segmentations", "has no segmentations/ (segmentations.tgz, an archive of its own)"),
        ("cub/images.txt", "cub_dir: expected CUB's images.txt"),
        ("cub/train_test_split.txt", "cub_dir: expected CUB's train_test_split.txt"),
    ],
)
def test_missing_parts_of_the_archives(tree, tmp_path, capsys, absent, message):
    (tree / absent).rename(tree / "away")
    assert prepare(tree, tmp_path / "pool") == 2
    assert message in capsys.readouterr().err and not list((tmp_path / "pool").rglob("*"))


def test_malformed_lists(tree):
    path = tree / "cub/train_test_split.txt"
    for text in ("1 1\n2 0\n", path.read_text().replace("1 1\n", "1 x\n", 1), "", "1 1\n1 0\n", "one 1\n"):
        path.write_text(text)
        with pytest.raises(ConfigError, match="cub_dir: expected"):
            read_birds(tree / "cub")
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ConfigError, match="a regular file"):
        read_birds(tree / "cub")
    with pytest.raises(ConfigError, match="places_dir: expected scenes of land in any of b/bamboo_forest/"):
        archives.read_scenes(tree / "cub")


@needs_golden
def test_the_golden_tree_through_the_data_set_to_a_pool(tmp_path):
    """It has no images.txt, so its manifest's own composites are taken: the reference's, to the bit."""
    assert prepare(GOLDEN, tmp_path) == 0
    pool, catalog = open_pool(tmp_path)
    assert len(catalog.object_names) == 16 and (catalog.object_split == -1).all()
    for name, image, mask in zip(catalog.object_names, np.asarray(pool.images), np.asarray(pool.masks), strict=True):
        expected = Image.open((GOLDEN / "expected_images" / name).with_suffix(".png"))
        np.testing.assert_array_equal(image, expected.resize((SIZE, SIZE), Image.Resampling.BILINEAR))
        expected = Image.open((GOLDEN / "expected_masks" / name).with_suffix(".png"))
        np.testing.assert_array_equal(mask, expected.resize((SIZE, SIZE), Image.Resampling.NEAREST))
