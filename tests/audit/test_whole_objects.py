"""Whole segments that flip or are missed: counted by hand, said with names of images, listed, limited, and compared."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from audited import audit, rows_of, save_masks

from flipjax.audit import stream
from flipjax.audit.counting.tally import count_image
from flipjax.audit.inputs.records import ImageRecord
from flipjax.audit.statistics.objects import count_segments
from flipjax.metrics.decomposition import Ratio
from flipjax.metrics.inputs.classes import LabelSpec
from flipjax.metrics.statistics.intervals import estimate_rate

pytestmark = pytest.mark.usefixtures("without_pictures")
NAMES = ("background", "liver", "spleen", "lesion")


def planted():
    """Ten images of three organs: the spleen is missed in images 2 and 5, the lesion of image 5 is taken for liver."""
    labels = np.zeros((10, 12, 12), np.uint8)
    for c in (1, 2, 3):
        labels[:, 4 * c - 4 : 4 * c - 1, 2:8] = c
    predictions = labels.copy()
    for image in (2, 5):
        predictions[image][labels[image] == 2] = 0
    predictions[5][labels[5] == 3] = 1
    return predictions, labels


@pytest.fixture
def case(tmp_path):
    return [*save_masks(tmp_path / "in", *planted()), f"--class_names={','.join(NAMES)}"]


def test_they_are_said_with_the_names_of_their_images(tmp_path, case, capsys):
    audit(tmp_path / "out", *case)
    printed = capsys.readouterr().out
    assert "A whole segment flips in 1 of 10 images, 10.0% [0.3%, 44.5%]; one is missed in 2, 20.0% [2.5%" in printed
    assert "spleen is missed whole in 2 of 10 images, 20.0% [2.5%, 55.6%] of its segments: i2, i5." in printed
    assert "lesion flips whole, mostly to liver, in 1 of 10 images, 10.0% [0.3%, 44.5%] of its segments: i5." in printed


@pytest.mark.parametrize(("image", "whole"), [(0, 0), (2, 1 / 3), (5, 2 / 3)], ids=["right", "a miss", "both"])
def test_an_image_is_ranked_by_its_segments_that_flip_or_are_missed(image, whole):
    predictions, labels = planted()
    spec = LabelSpec(kind="masks", num_classes=4)
    counts = count_image(ImageRecord("i", predictions[image], labels[image]), spec)
    assert counts.rank(spec) == pytest.approx((whole, whole))


def test_images_that_a_sentence_has_named_are_not_named_again(tmp_path):
    labels = np.ones((3, 4, 4), np.uint8)
    labels[:, :2] = 2
    swapped = labels.copy()
    swapped[0] = 3 - labels[0]
    with stream(tmp_path / "out", class_names=NAMES, kind="masks") as audited:
        audited.add(swapped, labels, names=["p0", "p1", "p2"], clusters=["x", "y", "y"])
    sentences = [line for line in (tmp_path / "out/summary.md").read_text().splitlines() if " whole, " in line]
    assert [line.rpartition(": ")[2] for line in sentences] == ["p0.", "the same ones."]
    assert "Intervals and q are over 2 clusters." in (tmp_path / "out/index.html").read_text()


def test_numbers_and_intervals_of_each_class(tmp_path, case):
    result = audit(tmp_path / "out", *case)
    shares = {
        "missed_segments/spleen": 0.2,
        "flipped_segments/lesion": 0.1,
        "missed_segments/liver": 0,
        "miss/spleen": 0.2,
    }
    assert {key: result["summary"][key] for key in shares} == pytest.approx(shares)
    hit = np.arange(10) == 5
    expected = estimate_rate(Ratio(hit * 1.0, np.ones(10)))
    assert result["intervals"]["flipped_segments/lesion"] == pytest.approx(expected[1:])
    assert result["summary"]["missed_object_images"] == pytest.approx(0.2)
    assert result["summary"]["flipped_object_images"] == pytest.approx(0.1)
    # Image 5 has both.
    assert result["summary"]["object_images"] == pytest.approx(0.2)


def test_images_csv_names_the_classes(tmp_path, case):
    audit(tmp_path / "out", *case)
    rows = {row["name"]: row for row in rows_of(tmp_path / "out/images.csv")}
    columns = ("flipped_segments", "missed_segments", "flipped_classes", "missed_classes")
    assert [rows["i5"][name] for name in columns] == ["1", "1", "lesion as liver", "spleen"]
    assert [rows["i0"][name] for name in columns] == ["0", "0", "", ""]


@pytest.mark.parametrize(
    ("limit", "passes"),
    [
        ("--fail_above=missed_segments/spleen=0", False),
        ("--fail_above=missed_segments/liver=0", True),
        ("--fail_above=missed_segments/liver:high=0.31", True),
        ("--fail_above=flipped_segments/lesion=0.05", False),
        ("--fail_above=miss/spleen=0.2", True),
    ],
)
def test_limits_on_classes(tmp_path, case, limit, passes):
    assert audit(tmp_path / "out", *case, limit, code=0 if passes else 1)["passed"] is passes


def test_a_class_that_no_image_shows_has_no_number_and_fails_its_limit(tmp_path, capsys):
    predictions, labels = planted()
    labels[labels == 3] = 1
    line = [*save_masks(tmp_path / "in", predictions, labels), f"--class_names={','.join(NAMES)}"]
    result = audit(tmp_path / "out", *line, "--fail_above=missed_segments/lesion=0", code=1)
    assert result["summary"]["missed_segments/lesion"] is None
    printed = capsys.readouterr()
    assert (
        "found no number" in printed.err
        and "Classes without rates of their own, since the labels lack them: lesion." in printed.out
    )


def test_the_table_of_the_page_has_all_names(tmp_path, case):
    audit(tmp_path / "out", *case)
    page = (tmp_path / "out" / "index.html").read_text()
    rows = [re.sub("<[^>]+>", " ", row).split() for row in re.findall("<tr>(.*?)</tr>", page, re.S)]
    assert ["spleen", "missed", "2", "of", "10", "i2,", "i5"] in rows
    assert ["lesion", "flips", "1", "of", "10", "i5"] in rows


def slow_counts(true, images, classes):
    counts = np.zeros((3, images, classes), int)
    for row in true.to_dict("records"):
        place = row["image"], row["class"]
        counts[0][place] += 1
        counts[1][place] += row["outcome"] == "flip"
        counts[2][place] += row["outcome"] == "miss"
    return counts


def test_segments_are_counted_as_one_by_one():
    generator = np.random.default_rng(0)
    rows = {"image": generator.integers(0, 5, 60), "class": generator.integers(1, 4, 60)}
    rows["outcome"] = generator.choice(["correct", "flip", "miss", "mixed"], 60)
    rows["matched"] = np.where(generator.random(60) < 0.5, rows["class"], np.nan)
    true = pd.DataFrame(rows)
    counts = count_segments(true, images=5, classes=4)
    found = np.stack([counts.segments, counts.flipped_segments, counts.missed_segments])
    np.testing.assert_array_equal(found, slow_counts(true, 5, 4))
    assert counts.matched_segments.sum() == true["matched"].notna().sum() and not counts.renamed_segments.any()


def test_summary_json_says_what_is_limited(tmp_path, case):
    audit(tmp_path / "out", *case, "--fail_above=missed_segments/spleen=0", "--fail_above=fg_flip=1", code=1)
    stored = json.loads((tmp_path / "out/summary.json").read_text())
    assert "Limit failed: --fail_above missed_segments/spleen=0: found 0.2." in stored["findings"]
    assert "Limits that hold: --fail_above fg_flip=1." in stored["findings"]
