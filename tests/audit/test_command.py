"""The audit's command line: anyone's predictions in, the reference's numbers out."""

import re

import numpy as np
import pytest
from audited import audit, rows_of, save_pictures
from PIL import Image

from flipjax import metrics
from flipjax.audit.metadata.image_groups import with_names
from flipjax.audit.statistics import results
from flipjax.audit.statistics.objects import SegmentCounts
from flipjax.metrics.images import read_images
from flipjax.metrics.summary.evaluate import summary_of

GROUPS = ("cat+land", "cat+sea", "dog+land", "dog+sea")
USUAL = {"cat": "land", "dog": "sea"}


@pytest.fixture(scope="session")
def case():
    """Logits (12, 8, 10, 3), labels with ignored pixels, groups."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 3, (12, 8, 10)).astype(np.uint8)
    logits = generator.normal(0, 1.5, (12, 8, 10, 3)).astype(np.float32) + 2 * np.eye(3, dtype=np.float32)[labels]
    labels[:, 0, :3] = 255
    return logits, labels, np.arange(12) % 4


def write_folder(folder, images, groups):
    """A folder of npy files, channels first, and one of PNG masks, palette and grey, and groups by file name."""
    names = [f"img_{i:02d}" for i in range(len(images))]
    (folder / "logits").mkdir()
    for name, (scores, _) in zip(names, images, strict=True):
        np.save(folder / f"logits/{name}.npy", np.moveaxis(scores, -1, 0))
    save_pictures(folder / "labels", [mask for _, mask in images], names)
    Image.fromarray(images[0][1]).save(folder / "labels/img_00.png")
    # In another order than the images: it is names that count.
    lines = []
    for name, group in zip(names, groups, strict=True):
        class_name, scene = GROUPS[group].split("+")
        lines.append(f"photos/{name}.jpg,{class_name},{scene},{USUAL[class_name]}\n")
    (folder / "groups.csv").write_text("name,class,scene,usual\n" + "".join(lines[::-1]))
    return [f"--logits={folder}/logits", f"--labels={folder}/labels"]


def write_stack(folder, case):
    for name, array in zip(("logits", "labels"), case, strict=False):
        np.save(folder / f"{name}.npy", array)
    return [f"--logits={folder}/logits.npy", f"--labels={folder}/labels.npy"]


def test_a_folder_of_several_sizes_by_name(case, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(results, "FEWEST_IN_TENTHS", 12)
    images = [(scores[: 8 - i % 3], mask[: 8 - i % 3]) for i, (scores, mask) in enumerate(zip(*case[:2], strict=True))]
    inputs = write_folder(tmp_path, images, case[2])
    options = [
        *inputs,
        "--table",
        tmp_path / "groups.csv",
        "--groups=class,scene",
        "--ignore_index",
        255,
        "--class_names",
        "cat,dog",
    ]
    result, rows = audit(tmp_path / "out", *options), rows_of(tmp_path / "out/images.csv")
    alone = [(scores[None], mask[None]) for scores, mask in images]
    decomposition = metrics.concatenate([metrics.decompose(*image, ignore_index=255) for image in alone])
    sums = [metrics.region_sums(*image, ignore_index=255) for image in alone]
    regions = metrics.RegionSums(*map(np.concatenate, zip(*sums, strict=True)))
    expected = summary_of(read_images(decomposition, case[2], class_names=["cat", "dog"], regions=regions))
    expected = with_names(expected, dict(enumerate(GROUPS)))
    for key, value in expected.items():
        np.testing.assert_allclose(np.array(result["summary"][key], float), value, rtol=1e-5, err_msg=key)
    further = {"flip_gap/mean", "least_group_q"}
    further |= SegmentCounts.empty(3).ratios(["background", "cat", "dog"], foreground=[1, 2]).keys()
    for key in ("group_difference", "group_q"):
        further |= {f"{key}/{name}/{scene}" for name in ("cat", "dog") for scene in ("land", "sea")}
    assert set(result["summary"]) == further | set(expected)
    order = np.argsort(-np.asarray(decomposition.flip_risk))
    assert [row["name"] for row in rows] == [f"img_{i:02d}" for i in order]
    assert [row["group"] for row in rows] == [GROUPS[group] for group in case[2][order]]
    for name in ("flip", "correct", "miss", "spill", "flip_risk"):
        column = [float(row[name]) for row in rows]
        np.testing.assert_allclose(column, np.asarray(getattr(decomposition, name))[order], atol=1e-6, err_msg=name)
    assert {(row["pixels"], row["ignored_pixels"]) for row in rows} == {("77", "3"), ("67", "3"), ("57", "3")}
    assert result["class_names"] == ["background", "cat", "dog"]
    assert np.array_equal(result["flip_matrix"], np.asarray(decomposition.confusion).sum(0))
    written = (tmp_path / "out" / "summary.md").read_text()
    printed = capsys.readouterr()
    for text in ("12 images of 3 different sizes, 3 classes (logits, channels first).", "true segments"):
        assert text in printed.out
    assert "The tenth" in written
    assert ", 00:00 left] 12 of 12 images" in printed.err
    assert not re.search(r'(src|href)="(?!#|data:)', (tmp_path / "out" / "index.html").read_text())
    figures = {path.stem for path in (tmp_path / "out" / "figures").iterdir()}
    assert figures >= {"coverage", "deciles", "flip_by_group"}


def test_more_classes_another_background_and_groups_by_position(tmp_path, without_pictures):
    generator = np.random.default_rng(1)
    labels = generator.integers(0, 11, (6, 5, 7))
    logits = generator.normal(size=(6, 5, 7, 11)).astype(np.float32) + 3 * np.eye(11)[labels]
    inputs = write_stack(tmp_path, (logits, labels))
    (tmp_path / "groups.csv").write_text("name,group\n" + "".join(f"{i}.jpg,{41 * (i % 2) - 1}\n" for i in range(6)))
    result = audit(tmp_path / "out", *inputs, "--background", 10, "--table", tmp_path / "groups.csv", "--groups=group")
    expected = metrics.summarize(metrics.decompose(logits, labels, background=10), 41 * (np.arange(6) % 2) - 1)
    assert result["summary"]["group/-1/fg_flip"] == pytest.approx(expected["group/-1/fg_flip"])
    assert result["class_names"][10] == "background" and {"iou/class0", "iou/background"} <= {*expected}
    assert not any("common" in key or "gap/" in key for key in expected)
    written = (tmp_path / "out" / "summary.md").read_text()
    # A tenth of six images is none.
    assert "Flips by pair of classes" in written and "top-decile" not in written


@pytest.mark.parametrize(
    ("options", "background", "flip"),
    [([], 0, 0), (["--background=none"], None, 1 / 4), (["--background=0,2"], [0, 2], 0)],
    ids=["the first class", "none", "two"],
)
def test_a_background_of_one_class_of_none_and_of_several(
    tmp_path, capsys, without_pictures, options, background, flip
):
    """A model takes every sidewalk for road, four classes of equal size: a flip, unless road is background."""
    labels = np.repeat(np.arange(4), 6).reshape(1, 4, 6)
    logits = 9 * np.eye(4, dtype=np.float32)[np.where(labels == 1, 0, labels)]
    line = [*write_stack(tmp_path, (logits, labels)), "--class_names", "road,sidewalk,building,sky"]
    result = audit(tmp_path / "out", *line, *options)
    assert (result["summary"]["fg_flip"], result["options"]["background"]) == (flip, background)
    assert ("class 0, 'road', is taken for the background" in capsys.readouterr().err) == (not options)


def test_nothing_to_rank(tmp_path, capsys, without_pictures):
    """One image of background alone, predicted as such: no share exists, and the audit says so."""
    inputs = write_stack(tmp_path, (4 * np.eye(3)[np.zeros((1, 4, 5), int)], np.zeros((1, 4, 5), int)))
    result, (row,) = audit(tmp_path / "out", *inputs), rows_of(tmp_path / "out/images.csv")
    assert result["summary"]["fg_flip"] is None and result["intervals"] == {}
    assert row["flip"] == row["flip_risk"] == ""
    assert "1 of 1 images lack true or predicted foreground" in capsys.readouterr().out


def test_what_looks_wrong_is_said(tmp_path, capsys, without_pictures):
    """Labels in another order, and probabilities that were rounded."""
    generator = np.random.default_rng(2)
    labels = generator.integers(0, 3, (4, 32, 32))
    inputs = write_stack(tmp_path, (np.eye(3)[labels], labels[::-1]))
    audit(tmp_path / "out", *inputs, "--kind", "probabilities")
    printed = capsys.readouterr().out
    assert "agree hardly better than chance" in printed and "flip-risk is 0 in every image" in printed
