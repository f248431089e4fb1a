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
BAD = [  # A file, None where it is taken away, and what is said. Some would start a program or take gigabytes.
    ("cutouts/cat/00.jpg", JPEG[: len(JPEG) // 2], "cat/00.jpg: unreadable: (?i:.*truncated)"),
    ("cutouts/cat/01.png", square(20, 30), "cat/01.png: the mask has 20 x 30 pixels, cutouts/cat/01.jpg has 20 x 20"),
    ("cutouts/cat/02.png", palette(8), "cat/02.png: a palette mask, whose pixels are ids of colours: 0, 8; expected"),
    ("cutouts/cat/03.png", np.dstack([square()] * 3), "cat/03.png: an RGB mask; expected one grey"),
    ("cutouts/cat/04.png", None, "cat/04.jpg: no mask; expected 04.png beside it"),
    ("cutouts/cat/05.jpg", None, "cat/05.png: no alpha channel, and no photo of that name"),
    ("cutouts/cat/06.png", square(value=15), "cat/06.png: the mask has no object: its values are 0, 15"),
    ("cutouts/cat/07.jpeg", solid(RED), "cat/07.jpeg: the name 07 stands for more than one photo"),
    ("cutouts/cat/notes.txt", b"x", "cat/notes.txt: no image; expected .jpg"),
    ("cutouts/cat/08.png", b"", "cat/08.png: unreadable: no image"),
    ("cutouts/cat/09.png", np.zeros((20, 20), np.uint16), "cat/09.png: a mask of mode I;16; expected one grey"),
    ("cutouts/cat/10.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n", "10.png: .*no image of JPEG, PNG"),
    ("cutouts/cat/11.png", FRAMES, "11.png: .*2 frames"),
    ("cutouts/cat/12.png", FLOATS, "12.png: .*mode F"),
    ("cutouts/cat/13.png", DAMAGED, "13.png: unreadable"),
    ("cutouts/cat/14.png", square(64, 64), "14.png: .*64 x 64 pixels, more than 1,000"),
    ("cutouts/cat/15.jpg", bytes(9000), "15.jpg: .*9,000 bytes, more than the 8,000 of 1,000 pixels"),
    ("cutouts/cat/a\x1b[2Jb.png", np.dstack([solid(RED), square()]), r"cat/a\\x1b\[2Jb.png: .*control characters"),
    ("scenes/land/0.png", np.dstack([solid(GREEN), square()]), "land/0.png: .*has transparent pixels"),
]


def test_every_bad_composite_file_is_listed(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(images, "MAX_PIXELS", 1000)
    root = composite(tmp_path / "data", objects=17)
    place(root, {name: content for name, content, _ in BAD} | {"cutouts/cat/16.jpg": None})
    os.mkfifo(root / "cutouts/cat/16.jpg")
    (root / "scenes" / "water" / "more").mkdir()
    reasons = [reason for *_, reason in BAD]
    reasons += ["16.jpg: .*no regular file", "water/more: a folder; images must lie in scenes/water/ itself"]
    problems = problems_of(root)
    for reason in reasons:
        assert any(re.search(reason, problem) for problem in problems), (reason, problems)
    assert len(problems) == len(reasons)
    assert main(["check", str(root), "--size", "16"]) == 1
    assert f"Bad files: {len(reasons)}" in capsys.readouterr().out


def test_every_bad_photo_row_and_mask_is_listed(tmp_path):
    root = tmp_path / "data"
    rows = photos(root)
    void = np.maximum(square(value=1), 255 * np.eye(20, dtype=np.uint8))
    masks = {
        "cat_0_0.png": (square(value=2), "the mask has the values 0, 2; expected 0 and 1"),
        "cat_0_1.png": (square(value=255), "the mask has the values 0, 255; expected 0 and 1"),
        "cat_0_2.png": (void, "the mask has the values 0, 1, 255; expected 0 and 1"),
        "cat_0_3.png": (np.dstack([square()] * 3), "a mask of mode RGB; expected one channel of labels 0, 1 and 2"),
        "cat_0_4.png": (square(18, 20, value=1), "the mask has 18 x 20 pixels, images/cat_0_4.jpg has 20 x 20"),
        "dog_1_0.png": (square(value=7), "the mask has the values 0, 7; expected 0 and 2"),
        "dog_1_1.png": (square(value=0), "the mask has the values 0; expected 0 and 2"),
    }
    place(root / "masks", {name: mask for name, (mask, _) in masks.items()})
    place(root / "masks", {"cat_0_5.png": None, "dog_1_2.png": palette(2)})  # Whose pixels are labels, here.
    (root / "images" / ".ipynb").mkdir()
    place(root / "images", {"stray.jpg": solid(RED), ".ipynb/hidden.jpg": solid(RED)})
    kept = [row for row in rows if row[0] != "dog_0_0.jpg"]
    last = len(kept) + 1
    bad_rows = [
        (rows[-1], f"'dog_1_5.jpg': images/dog_1_5.jpg is that of metadata.csv line {last}, too"),
        (("ghost.jpg", "cat", "indoor", ""), "'ghost.jpg': no such file: images/ghost.jpg"),
        (("dog_0_0.jpg", "", "indoor", ""), "no class"),
        (("a,b.jpg", "cat"), "no scene"),
        (("/etc/passwd", "cat", "indoor"), "'/etc/passwd': expected a name below the folder"),
        (("a/../../b.jpg", "cat", "indoor"), "'a/../../b.jpg': expected a name below the folder"),
    ]
    write_metadata(root, [*kept, *(row for row, _ in bad_rows)])
    expected = [f"metadata.csv line {last + 1 + i}: {reason}" for i, (_, reason) in enumerate(bad_rows)]
    expected += [f"masks/{name}: {reason}" for name, (_, reason) in masks.items()]
    expected += [
        f"metadata.csv line {last + 2}: 'ghost.jpg': no such file: masks/ghost.png",
        "metadata.csv line 7: 'cat_0_5.jpg': no such file: masks/cat_0_5.png",
        "images/dog_0_0.jpg: no row of metadata.csv names it",
        "images/stray.jpg: no row of metadata.csv names it",
        "masks/dog_0_0.png: no row of metadata.csv names it",
    ]
    assert sorted(problems_of(root)) == sorted(expected)
    write_metadata(root, [*kept, ("x", "y", "z", "", "more")])
    (line,) = problems_of(root)
    assert line == f"metadata.csv: no CSV in UTF-8 (line {last + 1} has more fields than there are columns)"
    os.truncate(root / "metadata.csv", 1 << 30)  # Holes alone, which take no room on the disk.
    (line,) = problems_of(root)
    assert "1,073,741,824 bytes, more than" in line


def test_unknown_class_and_missing_column_in_metadata(tmp_path):
    root = tmp_path / "data"
    rows = photos(root)
    write_metadata(root, [*rows[:-1], (rows[-1][0], "dgo", "outdoor", "")])
    assert len(problems_of(root)) == 8  # Masks of the third class, which dog is by the alphabet, should hold 3.
    (line,) = problems_of(root, classes=("cat", "dog"))
    assert line == "metadata.csv line 19: 'dog_1_5.jpg': class 'dgo' is none of cat, dog"
    write_metadata(root, [(name, "cat", *rest) for name, _, *rest in rows])
    assert problems_of(root) == ("classes: expected two or more that differ; found cat (18)",)
    write_metadata(root, [row[:2] for row in rows], columns=("filename", "label"))
    (line,) = problems_of(root)
    assert "no column class, scene; expected the columns filename, class, scene; found filename, label" in line


def test_folders_that_are_no_pool(root, tmp_path):
    absent = spec(tmp_path / "absent")
    for asked, said in ((PoolSpec(size=SIZE), "a folder of photos"), (absent, "a folder with cutouts/")):
        with pytest.raises(ConfigError, match=rf"config\.pool\.root: expected {said}"):
            load_folder(asked)
    (tmp_path / "empty").mkdir()
    assert "found nothing" in problems_of(tmp_path / "empty")[0]
    (tmp_path / "half" / "cutouts").mkdir(parents=True)
    assert "whole; found cutouts/" in problems_of(tmp_path / "half")[0]
    for path in (root / "cutouts" / "cat").iterdir():
        path.unlink()
    assert problems_of(root) == ("classes: no image of cat; found cat (0), dog (12)",)


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


MISUSE = {
    "absent": "DIR: expected a folder",
    ". --size 5": "--size: expected a multiple of 8",
    ". --scene_kinds a": "--scene_kinds: expected two or more different names",
    ". --n_val 3": "--n_val: expected a number in [4",
}


def test_misuse_exits_with_2(capsys):
    for arguments, message in MISUSE.items():
        assert main(["check", *arguments.split()]) == 2
        assert message in capsys.readouterr().err
