"""Kinds of flips by place: counted by hand, weighed, and drawn."""

import json
import re

import numpy as np
import pytest

from flipjax import metrics
from flipjax.audit import stream
from flipjax.audit.counting.measurements import Measurements
from flipjax.audit.statistics.kinds import kinds_table, place_table

NAMES = ("background", "cat", "dog")


def measured_of(predictions, labels, **given):
    masks = {"kind": "masks", "num_classes": 3}
    return Measurements(
        names=tuple(f"i{number}" for number in range(len(labels))),
        class_names=NAMES,
        decomposition=metrics.decompose(predictions, labels, **masks),
        ignored_pixels=np.zeros(len(labels), np.int64),
        segments=metrics.segment_tables(predictions, labels, **masks),
        **given,
    )


def halves(images=2):
    """Labels of a cat of 20 x 12 pixels beside a dog of the same size."""
    labels = np.ones((images, 20, 24), int)
    labels[:, :, 12:] = 2
    return labels


@pytest.fixture
def three_places():
    """A whole cat of image 0 flips; of image 1 one pixel beside the dog, and two far from it."""
    labels = halves()
    predictions = labels.copy()
    predictions[0][labels[0] == 1] = 2
    predictions[1, 0, 11] = 2
    predictions[1, 4:6, 1] = 2
    return predictions, labels


def test_places_are_counted_by_hand(three_places):
    table = place_table(measured_of(*three_places)).set_index("kind")
    assert (table["share"] * 2 * 480).round(9).to_dict() == {
        "whole segments": 240,
        "near borders": 1,
        "inside segments": 2,
    }
    assert table["images"].to_dict() == {"whole segments": 1, "near borders": 1, "inside segments": 1}
    assert ((table["low"] < table["share"]) & (table["share"] < table["high"])).all()


def test_places_sum_to_flip_where_pixels_differ_in_size(three_places):
    measured = measured_of(*three_places, spacing=np.array([[1.0, 1.0], [3.0, 3.0]]))
    table = place_table(measured).set_index("kind")
    # 480 pixels of 1 mm2 and 480 of 9 mm2.
    assert table.loc["near borders", "share"] == pytest.approx(9 / 4800)
    flips = np.asarray(measured.weighted_decomposition.confusion).sum(0)[[1, 2], [2, 1]].sum()
    assert table["share"].sum() == pytest.approx(flips / np.asarray(measured.weighted_decomposition.confusion).sum())


def test_without_an_anatomy_there_are_places_alone(three_places):
    assert kinds_table(measured_of(*three_places), None)["by"].tolist() == ["place"] * 3


def test_the_page_says_the_kinds_once(tmp_path, without_pictures, three_places):
    predictions, labels = three_places
    with stream(tmp_path / "out", class_names=NAMES, kind="masks") as audit:
        audit.add(predictions, labels)
    page = (tmp_path / "out/index.html").read_text()
    assert page.count("<caption><span>Kinds of flips") == 1
    rows = [re.sub("<[^>]+>", " ", row).split() for row in re.findall("<tr>(.*?)</tr>", page, re.S)]
    # The whole cat is in one image, not in 1.0.
    assert [row[-1] for row in rows if row[:3] == ["whole", "segments", "place"]] == ["1"]
    assert json.loads((tmp_path / "out/summary.json").read_text())["summary"]["fg_flip"] == pytest.approx(243 / 960)


def test_without_flips_there_are_no_kinds(tmp_path, without_pictures):
    with stream(tmp_path / "out", class_names=NAMES, kind="masks") as audit:
        audit.add(halves(), halves())
    assert "Kinds of flips" not in (tmp_path / "out/index.html").read_text()
