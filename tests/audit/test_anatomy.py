"""Mirrored and shifted labels in an audit: found in names, given in a file, told, listed and limited."""

import json

import numpy as np
import pytest
from audited import audit, refused, rows_of, save_masks

from flipjax import metrics
from flipjax.audit import stream
from flipjax.audit.counting.measurements import Measurements
from flipjax.audit.statistics.kinds import class_table, count_kinds

NAMES = ("background", "kidney_left", "kidney_right", "L1", "L2", "L3")


def draw(mirrored=(), shifted=()):
    """Labels of eight images with two kidneys and three vertebrae, and predictions with planted faults."""
    labels = np.zeros((8, 12, 12), np.uint8)
    for c in range(1, 6):
        labels[:, 2 * c : 2 * c + 2, 3:6] = c
    predictions = labels.copy()
    swap = np.array([0, 2, 1, 3, 4, 5], np.uint8)
    for image in mirrored:
        predictions[image] = swap[labels[image]]
    for image in shifted:
        # L1 is called L2, and L2 is called L3.
        predictions[image][labels[image] == 3] = 4
        predictions[image][labels[image] == 4] = 5
    return predictions, labels


@pytest.fixture
def case(tmp_path, without_pictures):
    return [*save_masks(tmp_path / "in", *draw([0, 1, 2], [5])), f"--class_names={','.join(NAMES)}"]


def test_anatomy_is_found_in_names_and_told(tmp_path, case, capsys):
    result = audit(tmp_path / "out", *case, "--fail_above=flip_mirror=0.1", "--fail_above=flip_shift=0.1", code=1)
    printed = capsys.readouterr().out
    assert "Anatomy, found in the class names: mirror pair kidney_left and kidney_right; chain L1 to L3" in printed
    assert "Left and right exchanged in 3 of 8 images, which explains 100% of their flips: i0, i1, i2." in printed
    # L1 is called L2, and L2 is called L3.
    assert "Labelled one vertebra too low in 1 of 8 images, which explains 50% of their flips: i5." in printed
    # Two of five classes of three of eight images are mirrored; two of five of one are shifted.
    shares = {"flip_mirror": 2 / 5 * 3 / 8, "flip_shift": 2 / 5 / 8, "flip_other": 0}
    assert {key: result["summary"][key] for key in shares} == pytest.approx(shares)
    assert result["summary"]["fg_flip"] == pytest.approx(sum(shares.values()))
    assert [limit["passed"] for limit in result["gates"]] == [False, True]


def test_each_image_has_its_fault(tmp_path, case):
    audit(tmp_path / "out", *case)
    rows = {row["name"]: row for row in rows_of(tmp_path / "out/images.csv")}
    assert [rows[f"i{i}"]["fault"] for i in range(8)] == ["left and right exchanged"] * 3 + ["none"] * 2 + [
        "labelled one vertebra too low",
        *["none"] * 2,
    ]
    first = rows["i0"]
    assert (float(first["flip_mirror"]), float(first["mended"]), float(first["renamed_flip"])) == (0.4, 1, 0)
    assert (float(first["renamed_dice"]), rows["i3"]["mended"]) == (1, "")


def test_a_stream_finds_it_too(tmp_path, case):
    by_command = audit(tmp_path / "out", *case)["summary"]
    with stream(tmp_path / "stream", class_names=list(NAMES), kind="masks") as batches:
        batches.add(*draw([0, 1, 2], [5]), names=[f"i{i}" for i in range(8)])
    assert json.loads((tmp_path / "stream/summary.json").read_text())["summary"] == by_command


@pytest.mark.parametrize("anatomy", [None, metrics.Anatomy(mirror=((1, 3),))], ids=["left out", "given"])
def test_the_anatomy_of_a_stream(tmp_path, without_pictures, anatomy):
    with stream(tmp_path / "out", class_names=list(NAMES), kind="masks", anatomy=anatomy) as batches:
        batches.add(*draw([0]))
    assert batches.summary.get("flip_mirror") == (None if anatomy is None else 0)


def test_it_can_be_turned_off(tmp_path, case):
    result = audit(tmp_path / "out", *case, "--anatomy=none")
    assert "flip_mirror" not in result["summary"] and "renamed" not in result
    assert "fault" not in rows_of(tmp_path / "out/images.csv")[0]


def test_it_can_be_given(tmp_path, case):
    (tmp_path / "anatomy.json").write_text(json.dumps({"chains": [["kidney_left", "kidney_right"]]}))
    result = audit(tmp_path / "out", *case, f"--anatomy={tmp_path / 'anatomy.json'}")
    assert result["summary"]["flip_mirror"] == 0
    assert result["summary"]["flip_shift"] == pytest.approx(2 / 5 * 3 / 8)


BAD = {
    "no file": (None, "expected a JSON file"),
    "no JSON": ("{", "expected a JSON file"),
    "other keys": ('{"mirrors": []}', "found other content"),
    "a list": ("[]", "found other content"),
    "a class that does not exist": ('{"mirror": [["kidney_left", "kidney"]]}', "found 'kidney'"),
    "a name unlike all": ('{"chains": [["T12", "L1"]]}', "found 'T12'; the classes are background, "),
    "a class twice": ('{"mirror": [["L1", "L2"], ["L2", "L3"]]}', "mirror: expected each class once, found 'L2' twice"),
    "a class beside itself": ('{"mirror": [["L1", "L1"]]}', "mirror: expected each class once, found 'L1' twice"),
    "background": ('{"mirror": [["background", "L2"]]}', "expected foreground classes"),
}


@pytest.mark.parametrize(("text", "said"), BAD.values(), ids=BAD)
def test_files_that_are_no_anatomy(tmp_path, case, capsys, text, said):
    path = tmp_path / "anatomy.json"
    if text is not None:
        path.write_text(text)
    line = refused(capsys, *case, f"--anatomy={path}", f"--out={tmp_path / 'out'}")
    assert "--anatomy: " in line and said in line and not (tmp_path / "out").exists()


def test_rows_of_shifts_sum_to_their_kind_where_pixels_differ_in_size():
    labels = np.array([[[1, 1, 1, 2]], [[1, 1, 1, 3]]])
    # One pixel of image 0 shifts by +1, and two of image 1, nine times as large, by +2.
    predictions = np.array([[[2, 1, 1, 2]], [[3, 3, 1, 3]]])
    decomposition = metrics.decompose(predictions, labels, kind="masks", num_classes=4)
    measured = Measurements(
        names=("a", "b"),
        class_names=("background", "L1", "L2", "L3"),
        decomposition=decomposition,
        ignored_pixels=np.zeros(2, np.int64),
        segments=metrics.segment_tables(predictions, labels, kind="masks", num_classes=4),
        spacing=np.array([[1.0, 1.0], [3.0, 3.0]]),
    )
    flips = count_kinds(measured, metrics.Anatomy(chains=((1, 2, 3),)))
    table = class_table(flips, measured.class_names).set_index("kind")
    # The foreground is 4 pixels of 1 mm2 and 4 of 9 mm2.
    assert table["share"].to_dict() == pytest.approx(
        {
            "shift along a chain": 19 / 40,
            "one vertebra too low": 1 / 40,
            "2 vertebrae too low": 18 / 40,
            "other": 0,
        }
    )
    # Without mirror pairs there is no row of them.
    assert table["images"].to_dict() == {
        "shift along a chain": 2,
        "one vertebra too low": 1,
        "2 vertebrae too low": 1,
        "other": 0,
    }
