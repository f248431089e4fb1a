"""Pools of a user's folder: pixels, parts, names, the store that finds them again, and what is said about bad files."""

import os
import re
import shlex

import jax
import numpy as np
import pytest
from damage import damaged
from PIL import Image

from data.folder.pixels import BLUE, GREEN, RED, encoded, palette, place, save, solid, square
from data.folder.tree import SIZE, composite, photos, problems_of, spec, write_metadata
from flipjax.config import ConfigError, PoolSpec
from flipjax.config.groups import Groups
from flipjax.data import store
from flipjax.data.__main__ import main
from flipjax.data.decoding import images
from flipjax.data.decoding.images import read_image
from flipjax.data.sources.folder import load_folder
from flipjax.sweep.__main__ import main as sweep


@pytest.fixture
def root(tmp_path):
    """A folder of objects and scenes."""
    return composite(tmp_path / "data")


def test_composite_folder(root):
    place(root, dict.fromkeys(("cutouts/.DS_Store", "cutouts/cat/.DS_Store", "scenes/land/Thumbs.db"), b""))
    pool, catalog = load_folder(spec(root))
    assert (pool.kind, catalog.class_names, catalog.scene_names) == ("composite", ("cat", "dog"), ("land", "water"))
    assert pool.images.shape == (12, SIZE, SIZE, 3) and pool.scenes.shape == (8, SIZE, SIZE, 3)
    assert catalog.object_names[6] == "cutouts/dog/00.jpg" and catalog.scene_photo_names[4] == "scenes/water/0.png"
    assert pool.labels.tolist() == [1] * 6 + [2] * 6 and (catalog.object_scene == -1).all()
    assert (np.asarray(pool.images) <= np.asarray(pool.masks)[..., None]).all()
    assert pool.scenes[:, 0, 0].tolist() == [list(GREEN)] * 4 + [list(BLUE)] * 4
    assert (np.asarray(pool.masks) > 127).sum((1, 2)).tolist() == [(SIZE // 2) ** 2] * 12


def test_no_background_bleeds_into_a_soft_edge(root):
    """A red object on a blue ground, mask with a soft edge: the composite over black holds no blue."""
    photo = solid((0, 0, 255), 37, 23)
    photo[square(37, 23) > 0] = (255, 0, 0)
    alpha = np.asarray(Image.fromarray(square(37, 23)).resize((9, 9)).resize((37, 23), Image.Resampling.BILINEAR))
    alpha = np.minimum(alpha, square(37, 23))
    save(root / "cutouts" / "cat" / "soft.png", np.dstack([photo, alpha]))
    pool, catalog = load_folder(spec(root))
    index = catalog.object_names.index("cutouts/cat/soft.png")
    image, mask = np.asarray(pool.images[index]), np.asarray(pool.masks[index])
    assert image[..., 2].max() == 0 and len(np.unique(mask)) > 4
    np.testing.assert_allclose(image[..., 0].astype(int), mask, atol=1)


def test_masks_of_zero_and_one_and_grey_photos_are_fine(root):
    files = {"00.png": square(value=1), "01.png": Image.fromarray(square()).convert("1"), "00.jpg": square() // 3}
    place(root / "cutouts" / "cat", files)
    pool, _ = load_folder(spec(root))
    np.testing.assert_array_equal(pool.masks[0], pool.masks[2])
    np.testing.assert_array_equal(pool.masks[1], pool.masks[2])
    assert np.ptp(np.asarray(pool.images[0]), axis=-1).max() == 0


def test_exif_orientation_and_scene_crop(root):
    """Stored lying, shown standing: what is left in the file is on top in the pool."""
    stored = np.hstack([solid(RED, 20, 20), solid(BLUE, 20, 20)])
    exif = Image.Exif()
    exif[0x0112] = 6
    save(root / "cutouts/cat/00.jpg", stored, exif=exif.tobytes(), quality=95)
    scene = np.hstack([solid(RED, 10), solid(GREEN, 20), solid(RED, 10)])
    place(root, {"cutouts/cat/00.png": np.full((40, 20), 255, np.uint8), "scenes/land/0.png": scene})
    pool, _ = load_folder(spec(root))
    assert pool.aspects[0] == 0.5
    np.testing.assert_allclose(pool.images[0, [1, -2], 8].astype(int), (RED, BLUE), atol=6)
    np.testing.assert_array_equal(pool.scenes[0], np.broadcast_to(np.uint8(GREEN), (SIZE, SIZE, 3)))


def test_photo_folder_with_splits(tmp_path):
    root = tmp_path / "data"
    photos(root, per_group=(9, 6, 6, 9), splits=("train", "val", "test"))
    pool, catalog = load_folder(spec(root))
    assert (pool.kind, catalog.class_names, catalog.scene_names) == ("photo", ("cat", "dog"), ("indoor", "outdoor"))
    widths, heights = zip(*(read_image(root / name).size for name in catalog.object_names), strict=True)
    np.testing.assert_allclose(pool.aspects, np.divide(widths, heights))
    assert pool.scenes.shape == (0, SIZE, SIZE, 3) and len(catalog.scene_photo_names) == 0
    assert catalog.object_split.tolist() == [0, 1, 2] * 10
    for image, mask, y, scene in zip(pool.images, pool.masks, catalog.object_class, catalog.object_scene, strict=True):
        np.testing.assert_allclose(image[0, 0].astype(int), (GREEN, BLUE)[scene], atol=2)
        assert np.unique(mask).tolist() == [0, 1 + y]


def test_names_can_be_given_in_order(root):
    save(root / "cutouts" / "ant" / "0.png", np.dstack([solid(RED), square()]))
    _, catalog = load_folder(spec(root, classes=("dog", "cat"), scene_kinds=("water", "land")))
    assert catalog.class_names == ("dog", "cat") and catalog.object_names[0] == "cutouts/dog/00.jpg"
    assert catalog.scene_names == ("water", "land") and catalog.scene_photo_names[0] == "scenes/water/0.png"
    assert load_folder(spec(root, usual=("water", "water", "land")))[1].groups == Groups(3, 2, ((1,), (1,), (0,)))


@pytest.mark.parametrize("classes", [("cat", "cow"), ("cat", "cat"), ("cat",)], ids=["unknown", "twice", "one"])
def test_names_of_classes_that_cannot_be_are_refused(root, classes):
    assert "classes: " in problems_of(root, classes=classes)[0]


def test_a_stored_pool_is_found_again_and_a_damaged_one_is_made_again(root, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    pools = tmp_path / "home/flipjax/pools"
    first, catalog = load_folder(spec(root))
    (folder,) = pools.iterdir()
    with monkeypatch.context() as patch:
        patch.setattr(store, "build_pool", None)
        again, result = load_folder(spec(root))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    assert result.content == catalog.content and result.object_names == catalog.object_names
    for path in sorted(folder.iterdir()):
        whole = path.read_bytes()
        for content in (damaged(whole, "bit", 2 * len(whole) // 3, 0), whole[:-20], b"", None):
            place(folder, {path.name: content})
            rebuilt, described = load_folder(spec(root))
            assert described.content == catalog.content and path.read_bytes() == whole, path
            np.testing.assert_array_equal(rebuilt.images, first.images)
        assert f"the stored pool {folder} is damaged" in capsys.readouterr().err
    save(root / "scenes" / "land" / "0.png", solid(RED))
    other, described = load_folder(spec(root))
    assert (np.asarray(other.scenes[0, 0, 0]) == RED).all() and described.content != catalog.content
    assert len(list(pools.iterdir())) == 2
    monkeypatch.setenv("XDG_CACHE_HOME", str(root / "cutouts/cat/00.jpg"))
    load_folder(spec(root))
    assert "XDG_CACHE_HOME" in capsys.readouterr().err


@pytest.fixture(scope="module")
def many_photos(tmp_path_factory):
    """A folder of 30 objects a class."""
    return composite(tmp_path_factory.mktemp("photos"), objects=30)


EVALUATED = ["--config.split.n_val=12", "--config.split.n_test=44"]
FITS = [*EVALUATED, "--config.split.n_train=32"]


@pytest.mark.parametrize(
    ("options", "code", "named"),
    [
        ([], 2, "config.split.n_test 400"),
        (EVALUATED, 2, "n_train 800 at rho 0.5"),
        ([*FITS, "--config.pool.classes=('cat','emu')"], 1, "emu"),
        (FITS, 0, ""),
    ],
    ids=["too few to test", "too few to train", "an unknown class", "enough"],
)
def test_a_dry_run_checks_the_pool_and_ends_as_the_sweep_would(many_photos, capsys, options, code, named):
    line = ["--config", "photos_grid", "--dry_run", f"--config.pool.root={many_photos}", "--config.pool.size=16"]
    assert sweep([*line, *options]) == code
    out, err = capsys.readouterr()
    assert "nothing was trained" in out and named in err and err.count("\n") <= 2, err


@pytest.mark.parametrize(
    ("options", "named"),
    [([], "config.pool.root"), (["--config.pool.root=nowhere"], "nowhere")],
    ids=["no folder", "another"],
)
def test_a_dry_run_without_its_folder_ends_with_2(capsys, options, named):
    assert sweep(["--config", "photos_grid", "--dry_run", *options]) == 2
    out, err = capsys.readouterr()
    assert "nothing was trained" in out and named in err and err.count("\n") <= 2, err


JPEG = encoded(Image.fromarray(solid(RED)), "JPEG", quality=95)
FRAMES = encoded(Image.fromarray(square()), "PNG", save_all=True, append_images=[Image.fromarray(square(value=200))])
BAD = {  # Files, None where one is taken away. Some would start a program or take gigabytes.
    "cutouts/cat/00.jpg": JPEG[: len(JPEG) // 2],
    "cutouts/cat/01.png": square(20, 30),
    "cutouts/cat/02.png": palette(8),
    "cutouts/cat/03.png": np.dstack([square(), square(), square(value=7)]),
    "cutouts/cat/04.png": None,
    "cutouts/cat/05.jpg": None,
    "cutouts/cat/06.png": np.full((20, 20), 15, np.uint8),
    "cutouts/cat/07.jpeg": solid(RED),
    "cutouts/cat/notes.txt": b"x",
    "cutouts/cat/09.png": np.zeros((20, 20), np.uint16),
    "cutouts/cat/10.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n",
    "cutouts/cat/11.png": FRAMES,
    "cutouts/cat/12.png": encoded(Image.fromarray(square().astype(np.float32)), "TIFF"),
    "cutouts/cat/13.png": encoded(Image.fromarray(square()), "PNG").replace(b"IDAT", b"IDAU", 1),
    "cutouts/cat/14.png": square(64, 64),
    "cutouts/cat/15.jpg": bytes(9000),
    "cutouts/cat/a\x1b[2Jb.png": np.dstack([solid(RED), square()]),
    "scenes/land/0.png": np.dstack([solid(GREEN), square()]),
    "metadata.csv": b"filename,split\n",
}


def test_every_bad_composite_file_is_listed_once(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(images, "MAX_PIXELS", 1000)
    root = composite(tmp_path / "data", objects=17)
    place(root, BAD | {"cutouts/cat/16.jpg": None})
    os.mkfifo(root / "cutouts/cat/16.jpg")
    (root / "scenes" / "water" / "more").mkdir()
    stems = [name.rpartition(".")[0].replace("\x1b", r"\x1b") for name in BAD]
    stems += ["cutouts/cat/16", "scenes/water/more"]
    problems = problems_of(root)
    for stem in stems:
        assert sum(problem.startswith(stem) for problem in problems) == 1, (stem, problems)
    assert len(problems) == len(stems) and "\x1b" not in "".join(problems)
    assert main(["check", str(root), "--size", "16"]) == 1 and f"Bad files: {len(stems)}" in capsys.readouterr().out


def test_every_bad_photo_row_and_mask_is_listed_once(tmp_path):
    root = tmp_path / "data"
    rows = photos(root)
    masks = {
        "cat_0_0.png": square(value=2),
        "cat_0_1.png": square(value=255),
        "cat_0_2.png": np.maximum(square(value=1), 255 * np.eye(20, dtype=np.uint8)),
        "cat_0_3.png": np.dstack([square()] * 3),
        "cat_0_4.png": square(18, 20, value=1),
        "dog_1_0.png": square(value=7),
        "dog_1_1.png": square(value=0),
    }
    place(root / "masks", masks | {"cat_0_5.png": None, "dog_1_2.png": palette(2)})  # Whose pixels are labels, here.
    (root / "images" / ".ipynb").mkdir()
    place(root / "images", {"stray.jpg": solid(RED), ".ipynb/hidden.jpg": solid(RED)})
    kept = [row for row in rows if row[0] != "dog_0_0.jpg"]
    wrong = [("ghost.jpg", "cat", "indoor", ""), ("dog_0_0.jpg", "", "indoor", ""), ("a,b.jpg", "cat")]
    wrong += [("/etc/passwd", "cat", "indoor"), ("a/../../b.jpg", "cat", "indoor"), rows[-1]]
    write_metadata(root, [*kept, *wrong])
    first = len(kept) + 2
    named = [f"metadata.csv line {number}" for number in (7, first, *range(first, first + len(wrong)))]
    # The files of dog_0_0 have a row, which lacks its class.
    named += [*(f"masks/{name}" for name in masks), "images/stray.jpg"]
    assert sorted(problem.partition(": ")[0] for problem in problems_of(root)) == sorted(named)
    write_metadata(root, [*kept, ("x", "y", "z", "", "more")])
    assert f"line {first}" in problems_of(root)[0]


def test_unknown_class_and_missing_column_in_metadata(tmp_path):
    root = tmp_path / "data"
    rows = photos(root)
    write_metadata(root, [*rows[:-1], (rows[-1][0], "dgo", "outdoor", "")])
    assert len(problems_of(root)) == 8  # Masks of the third class, which dog is by the alphabet, should hold 3.
    assert "metadata.csv line 19: 'dog_1_5.jpg': class 'dgo'" in problems_of(root, classes=("cat", "dog"))[0]
    write_metadata(root, [(name, "cat", *rest) for name, _, *rest in rows])
    assert "cat (18)" in problems_of(root)[0]
    write_metadata(root, [(*row[:3], "dev") for row in rows[:1]] + rows[1:])
    assert [problem.partition(": split")[0] for problem in problems_of(root)] == ["metadata.csv line 2"]
    write_metadata(root, [row[:2] for row in rows], columns=("filename", "label"))
    assert "no column class, scene" in problems_of(root)[0]


def test_metadata_without_rows_is_refused(tmp_path):
    root = tmp_path / "data"
    photos(root)
    write_metadata(root, [])
    assert "metadata.csv: no row below its header" in problems_of(root)[0]


@pytest.mark.parametrize("asked", [PoolSpec(size=SIZE), spec("absent")], ids=["none", "absent"])
def test_no_folder_is_refused(asked):
    with pytest.raises(ConfigError, match=r"config\.pool\.root: expected a folder"):
        load_folder(asked)


def test_a_folder_of_cut_outs_without_scenes_is_refused(tmp_path):
    (tmp_path / "half" / "cutouts").mkdir(parents=True)
    assert "found cutouts/" in problems_of(tmp_path / "half")[0]


def test_a_class_without_objects_is_counted(root):
    for path in (root / "cutouts" / "cat").iterdir():
        path.unlink()
    assert "cat (0), dog (12)" in problems_of(root)[0]


@pytest.mark.parametrize("name", ["foreground", "$x^$", "a\x1b[2J"])
def test_classes_that_results_cannot_name_are_refused_at_once(root, name):
    (root / "cutouts" / "cat").rename(root / "cutouts" / name)
    (line,) = problems_of(root)
    assert line.startswith("classes: the name ") and "\x1b" not in line


def test_check_reports_a_photo_folder(tmp_path, capsys):
    """12, 6, 6, 12 photos: 1 + 2 of each group evaluate in a folder this small, and train holds 9, 3, 3, 9."""
    root = tmp_path / "data"
    photos(root, per_group=(12, 6, 6, 12))
    assert main(["check", str(root)]) == 0
    report = capsys.readouterr().out
    assert "36 objects" in report and "n_val 4, n_test 8" in report
    table = {row.split()[0]: row.split()[1:] for row in report.splitlines() if row.strip()}
    assert table["all"] == ["12", "6", "6", "12", "0.667", "0.667"]
    assert table["train"] == ["9", "3", "3", "9", "0.750", "0.750"]
    assert table["val"][:4] == ["1"] * 4 and table["test"][:4] == ["2"] * 4
    assert table["rho"] == ["0.5", "0.7", "0.8", "0.9", "0.95", "0.99"]
    assert table["n_train"] == ["14", "22", "22", "20", "18", "18"]
    # Ready to paste, for the levels that leave a batch.
    command = shlex.split(report.splitlines()[-1])[2:]
    assert {"--config.split.n_train=18", "--config.axes.rho=(0.7, 0.8, 0.9, 0.95, 0.99)"} <= {*command}
    assert sweep([*command, "--dry_run"]) == 0
    capsys.readouterr()
    assert main(["check", str(root), "--scene_kinds", "outdoor,indoor"]) == 0
    assert "try --usual indoor,outdoor" in capsys.readouterr().out
    photos(tmp_path / "few", per_group=(1, 1, 1, 1))
    assert main(["check", str(tmp_path / "few")]) == 1
    assert "the largest n_val + n_test is 4" in capsys.readouterr().out


def test_check_of_three_classes_in_four_scenes_ends_in_a_command_that_runs(tmp_path, capsys):
    """Splits 12 cut-outs of a class into 1 for validation, 4 for the test and 7 for training."""
    root = composite(tmp_path / "data", 12, 4, ("cat", "cow", "dog"), ("field", "road", "sand", "sea"))
    usual = ["--usual", "field+road,sand,sea"]
    assert main(["check", str(root), *usual]) == 0
    report = capsys.readouterr().out
    line = shlex.split(report.splitlines()[-1])[2:]
    assert re.search(r"train( +7){3}( +2){4}\n +val( +1){7}\n +test( +4){3}( +1){4}\n", report), report
    assert "class cat, usual in field, road\n" in report and "--config.split.n_train=21" in line
    assert sweep([*line, "--dry_run"]) == 0


@pytest.mark.parametrize(
    ("line", "named"), [("absent", "DIR"), (". --size 5", "--size"), (". --scene_kinds a", "--scene_kinds")]
)
def test_misuse_exits_with_2(capsys, line, named):
    assert main(["check", *line.split()]) == 2
    assert f"{named}: expected" in capsys.readouterr().err
