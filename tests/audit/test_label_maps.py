"""The audit of label maps: files of classes, label maps, segments, limits."""

import importlib.util
import re

import numpy as np
import pandas as pd
import pytest
from audited import audit, refused, rows_of, save_masks, save_pictures, segments_of
from PIL import Image

from flipjax import metrics
from flipjax.audit.formats.label_maps import read_label_map

pytestmark = pytest.mark.usefixtures("without_pictures")


@pytest.fixture(scope="module")
def masks():
    """Predictions and labels (5, 24, 32), 21 classes: blocks, of which some flip; a rim of 255."""
    generator = np.random.default_rng(0)
    labels = np.kron(generator.integers(0, 21, (5, 3, 4)), np.ones((8, 8), int)).astype(np.uint8)
    flipped = np.kron(generator.integers(0, 3, (5, 3, 4)) == 0, np.ones((8, 8), bool))
    predictions = np.where(flipped, (labels + 1) % 21, labels).astype(np.uint8)
    labels[:, 0] = 255
    return predictions, labels


def test_png_masks_agree_with_the_arrays_and_the_tables_of_segments(masks, tmp_path, capsys):
    arguments = [*save_masks(tmp_path, *masks), "--ignore_index", 255, "--fail_above"]
    result = audit(tmp_path / "out", *arguments, "fg_flip=0.05", "--fail_above", "seg_flip=1", code=1)
    options = {"kind": "masks", "num_classes": 21, "ignore_index": 255}
    expected = metrics.summarize(metrics.decompose(*masks, **options))
    for name in ("fg_correct", "fg_flip", "fg_miss", "mean_iou"):
        assert result["summary"][name] == pytest.approx(expected[name])
    tables = metrics.segment_tables(*masks, **options)
    flips = metrics.segment_flips(tables.true)
    assert result["summary"]["seg_flip"] == flips.loc["all", "seg_flip"]
    budget = metrics.error_budget(tables.pixels, num_classes=21)
    assert result["budget"]["whole"]["gain"] == pytest.approx(budget.loc["whole", "gain"], abs=1e-6)
    stored = segments_of(tmp_path / "out")
    assert stored["name"].tolist() == [f"i{i}" for i in tables.true["image"]]
    if importlib.util.find_spec("pyarrow"):
        pd.testing.assert_frame_equal(stored[list(tables.true)], tables.true, check_dtype=False)
    rows = rows_of(tmp_path / "out/images.csv")
    shares = [float(row["flip"]) for row in rows]
    assert shares == sorted(shares, reverse=True)
    printed, said = capsys.readouterr()
    assert "--fail_above fg_flip=0.05: found 0." in said and len(printed.splitlines()) < 60
    assert "Classes by Flip: shares of pixels, and of whole segments" in (tmp_path / "out" / "index.html").read_text()


def test_a_label_map_of_a_csv(masks, tmp_path):
    predictions, labels = masks
    (tmp_path / "map.csv").write_text("from,to\n" + "".join(f"{c + 30},{c}\n" for c in range(21)) + "7,ignore\n")
    shifted = np.where(labels == 255, 7, labels + 30).astype(np.uint8)
    inputs = save_masks(tmp_path, predictions, shifted)
    result = audit(tmp_path / "out", *inputs, "--label_map", tmp_path / "map.csv")
    options = {"kind": "masks", "num_classes": 21, "ignore_index": 255}
    assert result["flip_matrix"] == metrics.summarize(metrics.decompose(*masks, **options))["flip_matrix"]


@pytest.mark.parametrize(
    ("name", "count", "labels", "classes"),
    [
        ("cityscapes", 19, [[0, 7, 33], [26, 18, 255]], [[255, 0, 18], [13, 255, 255]]),
        ("cityscapes_train", 19, [0, 18, 255], [0, 18, 255]),
        ("ade20k", 150, [0, 1, 150], [255, 0, 149]),
    ],
    ids=["cityscapes", "cityscapes_train", "ade20k"],
)
def test_label_maps_have_names(name, count, labels, classes):
    found = read_label_map(name)
    assert found.count == count
    assert found.apply(np.array(labels), source="", ignore_index=255).tolist() == classes


def test_flipped_segments_have_pictures(masks, tmp_path, capsys):
    photos = np.arange(5).repeat(24 * 32 * 3).reshape(5, 24, 32, 3).astype(np.uint8)
    save_pictures(tmp_path / "photos", photos, [f"i{i}" for i in range(5)], "jpg")
    options = [*save_masks(tmp_path, *masks), "--ignore_label", 255, "--images", tmp_path / "photos"]
    audit(tmp_path / "out", *options)
    capsys.readouterr()
    true = metrics.segments(*masks, kind="masks", num_classes=21, ignore_index=255)
    flips = true[true["outcome"] == "flip"]
    page = (tmp_path / "out/index.html").read_text()
    assert 'alt="image"' in page
    linked = re.findall(r'href="#(flip-\d+-\d+)">(\d+)<', page)
    counts = flips.groupby(["class", "predicted"]).size()
    expected = {f"flip-{t}-{p}": n for (t, p), n in counts.items()}
    assert all(expected[name] == int(count) and f'id="{name}"' in page for name, count in linked)
    assert len(linked) > 1
    Image.new("RGB", (9, 8)).save(tmp_path / "photos" / "i3.jpg")
    assert "labels, (24, 32), found (8, 9)" in refused(capsys, *options, f"--out={tmp_path / 'other'}")
