"""What is said about bad files and rows of a user's folder."""

import os
import re
import shlex

import numpy as np
import pytest
from PIL import Image

from flipjax.config import ConfigError, PoolSpec
from flipjax.data import images
from flipjax.data.__main__ import main
from flipjax.data.folder import check_folder, load_folder
from flipjax.sweep.__main__ import main as sweep
from folder.pixels import GREEN, RED, encoded, palette, place, save, solid, square
from folder.tree import SIZE, composite, photos, problems_of, spec, write_metadata

JPEG = encoded(Image.fromarray(solid(RED)), "JPEG", quality=95)
PNG = encoded(Image.fromarray(square()), "PNG")
FRAMES = encoded(Image.fromarray(square()), "PNG", save_all=True, append_images=[Image.fromarray(square(value=200))])
FLOATS = encoded(Image.fromarray(square().astype(np.float32)), "TIFF")
DAMAGED = PNG.replace(b"IDAT", b"IDAU", 1)
BAD = {  # Files, None where one is taken away. Some would start a program or take gigabytes.
    "cutouts/cat/00.jpg": JPEG[: len(JPEG) // 2],
    "cutouts/cat/01.png": square(20, 30),
    "cutouts/cat/02.png": palette(8),
    "cutouts/cat/03.png": np.dstack([square()] * 3),
    "cutouts/cat/04.png": None,
    "cutouts/cat/05.jpg": None,
    "cutouts/cat/06.png": square(value=15),
    "cutouts/cat/07.jpeg": solid(RED),
    "cutouts/cat/notes.txt": b"x",
    "cutouts/cat/08.png": b"",
    "cutouts/cat/09.png": np.zeros((20, 20), np.uint16),
    "cutouts/cat/10.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n",
    "cutouts/cat/11.png": FRAMES,
    "cutouts/cat/12.png": FLOATS,
    "cutouts/cat/13.png": DAMAGED,
    "cutouts/cat/14.png": square(64, 64),
    "cutouts/cat/15.jpg": bytes(9000),
    "cutouts/cat/a\x1b[2Jb.png": np.dstack([solid(RED), square()]),
    "scenes/land/0.png": np.dstack([solid(GREEN), square()]),
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
    assert main(["check", str(root), "--size", "16"]) == 1
    assert f"Bad files: {len(stems)}" in capsys.readouterr().out


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
    lines = [f"metadata.csv line {number}" for number in (7, first, *range(first, first + len(wrong)))]
    named = [
        *lines,
        *(f"masks/{name}" for name in masks),
        "images/dog_0_0.jpg",
        "images/stray.jpg",
        "masks/dog_0_0.png",
    ]
    assert sorted(problem.partition(": ")[0] for problem in problems_of(root)) == sorted(named)
    write_metadata(root, [*kept, ("x", "y", "z", "", "more")])
    (line,) = problems_of(root)
    assert f"line {len(kept) + 2}" in line
    os.truncate(root / "metadata.csv", 1 << 30)  # Holes alone, which take no room on the disk.
    (line,) = problems_of(root)
    assert "1,073,741,824 bytes" in line


def test_unknown_class_and_missing_column_in_metadata(tmp_path):
    root = tmp_path / "data"
    rows = photos(root)
    write_metadata(root, [*rows[:-1], (rows[-1][0], "dgo", "outdoor", "")])
    assert len(problems_of(root)) == 8  # Masks of the third class, which dog is by the alphabet, should hold 3.
    (line,) = problems_of(root, classes=("cat", "dog"))
    assert line.startswith("metadata.csv line 19: ") and "dgo" in line
    write_metadata(root, [(name, "cat", *rest) for name, _, *rest in rows])
    assert "cat (18)" in problems_of(root)[0]
    write_metadata(root, [row[:2] for row in rows], columns=("filename", "label"))
    assert "no column class, scene" in problems_of(root)[0]


def test_folders_that_are_no_pool(root, tmp_path):
    for asked in (PoolSpec(size=SIZE), spec(tmp_path / "absent")):
        with pytest.raises(ConfigError, match=r"config\.pool\.root: expected a folder"):
            load_folder(asked)
    (tmp_path / "half" / "cutouts").mkdir(parents=True)
    assert "found cutouts/" in problems_of(tmp_path / "half")[0]
    for path in (root / "cutouts" / "cat").iterdir():
        path.unlink()
    assert "cat (0), dog (12)" in problems_of(root)[0]


@pytest.mark.parametrize("name", ["foreground", "$x^$", "a\x1b[2J"])
def test_classes_that_results_cannot_name_are_refused_at_once(root, name):
    (root / "cutouts" / "cat").rename(root / "cutouts" / name)
    (line,) = problems_of(root)
    assert line.startswith("classes: the name ") and "\x1b" not in line


def test_check_reports_a_photo_folder(tmp_path, capsys):
    """12, 6, 6, 12 photos: 1 + 3 of each group evaluate in a folder this small, and train holds 8, 2, 2, 8."""
    root = tmp_path / "data"
    photos(root, per_group=(12, 6, 6, 12))
    assert main(["check", str(root), "--n_val", "4", "--n_test", "12"]) == 0
    report = capsys.readouterr().out
    for line in (
        "a photo folder, 36 photos, read at 48 x 48 pixels",
        "class 1 dog, usual scene outdoor",
        "Bad files: none",
        "18 values 0, 1",
        "all     cat 0.667 (12 of 18), dog 0.667 (12 of 18)",
        "train   cat 0.800 (8 of 10), dog 0.800 (8 of 10)",
    ):
        assert line in report, report
    assert re.search(r"train +8 +2 +2 +8\n +val +1 +1 +1 +1\n +test +3 +3 +3 +3\n", report)
    levels = dict(line.split(maxsplit=1) for line in report.splitlines() if line.strip().startswith(("rho", "n_train")))
    assert levels["rho"].split() == ["0.5", "0.6", "0.7", "0.8", "0.9", "0.95", "0.99", "1"]
    assert levels["n_train"].split() == ["8", "12", "16", "20", "18", "16", "16", "16"]
    # Ready to paste, for the levels that leave a batch.
    command = report.splitlines()[-1].strip()
    assert command.startswith(f"flipjax sweep --config photos_grid --config.pool.root={root} --config.split.n_train=16")
    assert "--config.split.n_val=4 --config.split.n_test=12 '--config.axes.rho=(0.7,0.8,0.9,0.95,0.99)'" in command
    assert sweep([*shlex.split(command)[2:], "--dry_run"]) == 0
    capsys.readouterr()
    assert main(["check", str(root), "--scene_kinds", "outdoor,indoor"]) == 0
    report = capsys.readouterr().out
    assert "below 0.5: the usual scenes may be others; try --usual indoor,outdoor" in report
    assert "Counts for n_val 4, n_test 8, split seed 0 (too small for the default 128 and 400)" in report
    assert main(["check", str(root), "--n_val", "400"]) == 1
    assert "the largest n_val + n_test is 24" in capsys.readouterr().out


def test_check_of_a_small_composite_folder(root):
    report, fine = check_folder(spec(root))
    assert fine and "too small for the default" in report
    assert re.search(r"train +3 +3 +2 +2\n +val +1 +1 +1 +1\n +test +2 +2 +1 +1\n", report), report
    assert "scenes/land/0.png" not in report
    save(root / "scenes" / "land" / "copy.png", solid(GREEN, 30, 20))
    assert "scenes/land/0.png, scenes/land/copy.png" in check_folder(spec(root))[0]


def test_check_of_three_classes_in_four_scenes_ends_in_a_command_that_runs(tmp_path, capsys):
    """Of 12 cut-outs a class, 1 + 4 evaluate in a folder this small, and 7 train."""
    root = composite(tmp_path / "data", 12, 4, ("cat", "cow", "dog"), ("field", "road", "sand", "sea"))
    usual = ["--usual", "field+road,sand,sea"]
    assert main(["check", str(root), *usual]) == 0
    report = capsys.readouterr().out
    for line in ("class 0 cat, usual scenes field, road\n", "any in [0.5, 1]: a cut-out can stand in any scene"):
        assert line in report, report
    line = shlex.split(report.splitlines()[-1])[2:]
    assert "--config.split.n_train=21" in line
    assert sweep([*line, "--dry_run"]) == 0


MISUSE = {"absent": "DIR", ". --size 5": "--size", ". --scene_kinds a": "--scene_kinds", ". --n_val 3": "--n_val"}


@pytest.mark.parametrize(("options", "named"), MISUSE.items())
def test_misuse_exits_with_2(options, named, capsys):
    assert main(["check", *options.split()]) == 2
    assert f"{named}: expected" in capsys.readouterr().err
