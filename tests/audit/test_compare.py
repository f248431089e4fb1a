"""`flipjax audit --compare`: paired differences of two audits, their intervals, limits and refusals."""

import json

import numpy as np
import pandas as pd
import pytest

from flipjax.audit import stream
from flipjax.audit.__main__ import main
from flipjax.audit.compare import compare_audits
from flipjax.audit.formats.problems import AuditError
from flipjax.metrics.decomposition import Ratio
from flipjax.metrics.statistics.paired import paired_difference

pytestmark = pytest.mark.usefixtures("without_pictures")
NAMES = ("background", "cat", "dog")


def true_labels(images=3):
    labels = np.zeros((images, 8, 8), int)
    labels[:, 1:4, 1:5] = 1
    labels[:, 5:7, 1:5] = 2
    return labels


def audited(folder, predictions, labels, **given):
    """Writes an audit of masks and returns its folder."""
    names = [f"i{number}" for number in range(len(labels))]
    with stream(folder, class_names=NAMES, kind="masks", spatial_ndim=labels.ndim - 1) as audit:
        audit.add(predictions, labels, **{"names": names, **given})
    return folder


def flipped(labels, image):
    """Returns predictions whose cat is a dog in one image."""
    predictions = labels.copy()
    predictions[image][labels[image] == 1] = 2
    return predictions


def compared(folder, *options):
    return main(["--compare", str(folder / "old"), str(folder / "new"), f"--out={folder / 'compared'}", *options])


def test_equal_predictions_pass_a_limit_on_the_upper_end_and_are_said_to_be_equal(tmp_path, capsys):
    labels = true_labels()
    for name in ("old", "new"):
        audited(tmp_path / name, flipped(labels, 1), labels)
    assert compared(tmp_path, "--fail_above=fg_flip=0", "--fail_above=fg_flip:high=0.001") == 0
    out, _ = capsys.readouterr()
    assert "+0.0000 [+0.0000, +0.0000]" in out and "Both predictions are the same in every image" in out
    stored = json.loads((tmp_path / "compared" / "compare.json").read_text())
    assert stored["passed"] is True
    for key in ("fg_flip", "fg_correct", "iou/cat", "flip/dog", "mean_iou", "dice/cat", "mean_dice", "flipped_images"):
        assert stored["differences"][key]["difference"] == 0
        assert [stored["differences"][key][end] for end in ("low", "high")] == [0, 0]


@pytest.mark.parametrize("clusters", [None, [0, 0, 1, 1]], ids=["images", "clusters"])
def test_what_counts_as_one(tmp_path, clusters):
    labels = true_labels(4)
    given = {} if clusters is None else {"clusters": clusters}
    audited(tmp_path / "old", labels, labels, **given)
    audited(tmp_path / "new", flipped(labels, 1), labels, **given)
    table = compare_audits(tmp_path / "old", tmp_path / "new", out=tmp_path / "compared").table
    flip = np.array([0, 0.6, 0, 0])
    if clusters:
        flip = np.array([0.3, 0])
    _, low, high = paired_difference(Ratio(0 * flip, flip * 0 + 1), Ratio(flip, flip * 0 + 1))
    np.testing.assert_allclose(table.loc["fg_flip", ["low", "high"]].tolist(), [low, high])


def test_one_image_of_three_that_flips_newly(tmp_path):
    labels = true_labels()
    audited(tmp_path / "old", labels, labels)
    audited(tmp_path / "new", flipped(labels, 1), labels)
    table = compare_audits(tmp_path / "old", tmp_path / "new", out=tmp_path / "compared").table
    # 12 of the 60 pixels of foreground, all of the cats in one of three images; no image loses or mends a dog.
    assert table.loc["fg_flip", ["old", "new", "difference"]].tolist() == [0, 0.2, 0.2]
    assert table.loc["flip/cat", "difference"] == pytest.approx(1 / 3)
    assert table.loc["flip/cat", "low"] < 0 < table.loc["flip/cat", "high"] <= 1
    assert table.loc["flip/dog", "low"] == pytest.approx(-table.loc["flip/dog", "high"])
    # Of 36 pixels of cats 24 are still predicted.
    assert table.loc["dice/cat", ["old", "new"]].tolist() == [1, pytest.approx(48 / 60)]
    assert table.loc["mean_dice", "low"] < table.loc["mean_dice", "difference"] < 0
    stored = pd.read_csv(tmp_path / "compared" / "compare.csv", index_col="quantity")
    np.testing.assert_allclose(stored, table, rtol=1e-5)


def test_groups_have_intervals_of_their_own_images(tmp_path):
    labels = true_labels(5)
    audited(tmp_path / "old", labels, labels, groups=[0, 0, 0, 1, 1])
    audited(tmp_path / "new", flipped(labels, 1), labels, groups=[0, 0, 0, 1, 1])
    table = compare_audits(tmp_path / "old", tmp_path / "new", out=tmp_path / "compared").table
    assert table.loc["group/0/fg_flip", "low"] < 0.2 < table.loc["group/0/fg_flip", "high"]
    assert table.loc["group/1/fg_flip", ["low", "high"]].tolist() == [0, 0]


def test_a_ranking_that_no_resample_changes_has_no_interval(tmp_path, capsys):
    labels = true_labels()
    scores = np.eye(3)[flipped(labels, 0)] * 5
    scores[0] /= 4
    for name, factor in (("old", 1), ("new", 1.1)):
        with stream(tmp_path / name, class_names=NAMES) as audit:
            audit.add(factor * scores, labels)
    assert compared(tmp_path, "--fail_below=risk_auroc=0", "--fail_below=risk_auroc:low=-0.1") == 1
    assert capsys.readouterr().err.count("--fail_below risk_auroc:low=-0.1: found no number") == 1
    stored = json.loads((tmp_path / "compared" / "compare.json").read_text())["differences"]["risk_auroc"]
    assert stored == {"old": 1.0, "new": 1.0, "difference": 0.0, "low": None, "high": None}


EVERY_KIND_OF_LIMIT = [
    "--fail_above=fg_flip:high=0",
    "--fail_below=mean_iou:low=0",
    "--fail_below=risk_auroc:low=0",
    "--fail_above=missed_segments/cat:high=0",
    "--fail_above=group/0/flip/dog:high=0",
    "--fail_below=iou/cow:low=0",
]


def test_an_unchanged_model_passes_every_limit(tmp_path, capsys):
    """Also one on a class that no image shows."""
    labels = true_labels(4)
    scores = 3 * np.eye(4)[flipped(labels, 1)]
    for name in ("old", "new"):
        with stream(tmp_path / name, class_names=(*NAMES, "cow")) as audit:
            audit.add(scores, labels, groups=[0, 0, 1, 1])
    assert compared(tmp_path, *EVERY_KIND_OF_LIMIT) == 0
    assert "Both predictions are the same in every image: no number differs." in capsys.readouterr().out
    stored = json.loads((tmp_path / "compared" / "compare.json").read_text())
    assert stored["identical"] is True and stored["findings"][0].startswith("Both predictions are the same")


@pytest.fixture
def worse(tmp_path):
    """Thirty images of two sites: in 8 of the 15 of south cats newly flip, and dogs are found again in all of them."""
    labels = true_labels(30)
    south = np.arange(30) % 2 == 1
    old = labels.copy()
    old[south] = np.where(labels[south] == 2, 0, labels[south])
    new = labels.copy()
    for image in np.flatnonzero(south)[:8]:
        new[image][labels[image] == 1] = 2
    given = {"groups": np.where(south, "south", "north")}
    audited(tmp_path / "old", old, labels, **given)
    audited(tmp_path / "new", new, labels, **given)
    return tmp_path


def test_a_class_that_got_worse_in_a_site_is_said_with_its_images(worse, capsys):
    assert compared(worse) == 0
    said = capsys.readouterr().out
    assert "Worse: cat flips more in south, 53.3% after 0.0% (15 images): +0.533 [" in said
    assert "it newly flips whole in 8: i1, i11, i13, i15, i3 and 3 more." in said
    assert "Better: dog is missed less in south, 0.0% after 100.0% (15 images): -1.000 [" in said
    assert "it no longer is missed whole in 15: i1, " in said
    # Cats flip and dogs are missed, each in all images and in one of two sites; nothing else differs.
    assert "q is over 4 comparisons that can differ" in said
    assert "north" not in said.split("Main differences")[0]


def test_q_is_corrected_over_the_family_that_is_named(worse):
    from scipy.stats import false_discovery_control

    changes = compare_audits(worse / "old", worse / "new", out=worse / "compared").changes
    tests = [change for change in changes if change.p < 1]
    expected = false_discovery_control([change.p for change in tests])
    assert [change.q for change in tests] == pytest.approx(expected)
    assert all(change.q == 1 for change in changes if change.p == 1)


def test_the_page_and_the_files_of_a_comparison(worse):
    compare_audits(worse / "old", worse / "new", out=worse / "compared", fail_above={"group/south/flip/cat": 0.1})
    page = (worse / "compared" / "index.html").read_text()
    assert "Worse: cat flips more in south" in page and "Limit failed: --fail_above group/south/flip/cat=0.1" in page
    stored = json.loads((worse / "compared" / "compare.json").read_text())
    assert stored["passed"] is False
    [row] = [
        row for row in stored["changes"] if (row["class"], row["group"], row["outcome"]) == ("cat", "south", "flip")
    ]
    assert (row["old"], row["newly_whole"], row["no_longer_whole"]) == (0, 8, 0)
    table = pd.read_csv(worse / "compared" / "changes.csv")
    assert table["q"].is_monotonic_increasing and len(table) == len(stored["changes"])


def test_limits_on_whole_segments_and_on_groups(worse, capsys):
    limits = ["--fail_above=flipped_segments/cat:high=0.1", "--fail_above=group/south/missed_segments/dog=-0.5"]
    assert compared(worse, *limits) == 1
    assert capsys.readouterr().err.count("flipped_segments/cat:high=0.1: found") == 1


def test_totals_that_hide_a_class_are_said(tmp_path, capsys):
    """One cat of four flips newly in every image, and all large dogs are mended in one of ten."""
    labels = np.zeros((20, 20, 20), int)
    labels[:, :2, :2] = 1
    labels[:, 4:, :] = 2
    old = labels.copy()
    old[:2, 4:] = 1
    new = labels.copy()
    new[:, 0, :2] = 2
    audited(tmp_path / "old", old, labels)
    audited(tmp_path / "new", new, labels)
    assert compared(tmp_path) == 0
    said = capsys.readouterr().out
    assert "Over all classes flip changes by -0.0" in said and "which hides cat." in said


def test_an_audit_without_counts_of_segments_is_compared_without_them(worse):
    """One that was written before they, and a schema, were stored."""
    path = worse / "old" / "decomposition.npz"
    with np.load(path) as stored:
        arrays = {name: array for name, array in stored.items() if name != "schema" and not name.endswith("segments")}
    np.savez_compressed(path, **arrays)
    comparison = compare_audits(worse / "old", worse / "new", out=worse / "compared")
    assert "seg_flip" not in comparison.table.index and "fg_flip" in comparison.table.index
    assert not any(change.newly for change in comparison.changes)


def test_volumes_count_by_their_size_as_in_their_audits(tmp_path):
    labels = np.repeat(true_labels(2)[:, None], 2, axis=1)
    spacing = [[1.0, 1.0, 1.0], [1.0, 1.0, 3.0]]
    audited(tmp_path / "old", labels, labels, spacing=spacing)
    audited(tmp_path / "new", flipped(labels, 1), labels, spacing=spacing)
    table = compare_audits(tmp_path / "old", tmp_path / "new", out=tmp_path / "compared").table
    # Cats are 12 of 20 voxels of foreground; those of the second volume are three times as large.
    assert table.loc["fg_flip", "new"] == pytest.approx(0.6 * 3 / 4)
    summary = json.loads((tmp_path / "new" / "summary.json").read_text())["summary"]
    assert table.loc["fg_flip", "new"] == pytest.approx(summary["fg_flip"])


def refused(tmp_path):
    with pytest.raises(AuditError) as caught:
        compare_audits(tmp_path / "old", tmp_path / "new", out=tmp_path / "compared")
    assert not (tmp_path / "compared").exists()
    return str(caught.value)


def test_other_spacings_are_refused(tmp_path):
    labels = np.repeat(true_labels()[:, None], 2, axis=1)
    audited(tmp_path / "old", labels, labels, spacing=(1, 1, 1))
    audited(tmp_path / "new", labels, labels, spacing=[[1, 1, 1], [1, 1, 2], [1, 1, 1]])
    assert "expected the same spacing" in refused(tmp_path)
    assert refused(tmp_path).endswith("have others in i1")


def test_other_labels_are_refused(tmp_path):
    labels = true_labels()
    audited(tmp_path / "old", labels, labels)
    audited(tmp_path / "new", labels, flipped(labels, 2))
    assert refused(tmp_path).endswith("have others in i2")


def test_other_images_are_refused(tmp_path):
    labels = true_labels()
    audited(tmp_path / "old", labels, labels)
    audited(tmp_path / "new", labels[:2], labels[:2])
    assert refused(tmp_path).endswith("in one alone are i2")


def test_a_key_that_comparisons_lack_is_refused_with_those_that_they_have(tmp_path, capsys):
    labels = true_labels()
    for name in ("old", "new"):
        audited(tmp_path / name, labels, labels)
    assert compared(tmp_path, "--fail_above=group_q/cat/0=0.05") == 2
    line = capsys.readouterr().err
    assert "found 'group_q/cat/0'" in line and "group/GROUP/KEY)" in line and "group_difference" not in line
