"""Few images and classes that are absent: numbers that are undefined and say so, or a sentence."""

import json

import numpy as np
import pytest
from audited import audit, refused, save_masks

from flipjax.audit import stream
from flipjax.audit.compare import compare_audits
from flipjax.audit.formats.problems import AuditError

pytestmark = pytest.mark.usefixtures("without_pictures")
NAMES = ("background", "liver", "spleen", "lesion")


def masks(images=4, classes=(1, 2, 3)):
    """Masks of images that show these classes."""
    labels = np.zeros((images, 12, 12), np.uint8)
    for c in classes:
        labels[:, 4 * c - 4 : 4 * c - 1, 2:8] = c
    return labels


def streamed(folder, predictions, labels, **batch):
    with stream(folder, class_names=NAMES, kind="masks") as audit:
        audit.add(predictions, labels, **batch)
    return json.loads((folder / "summary.json").read_text())


def test_no_image_is_a_sentence(tmp_path, capsys):
    for name in ("p", "l"):
        (tmp_path / name).mkdir()
    line = [f"--predictions={tmp_path / 'p'}", f"--labels={tmp_path / 'l'}", "--kind=masks", f"--out={tmp_path / 'o'}"]
    assert "expected" in refused(capsys, *line) and not (tmp_path / "o").exists()


def test_one_patient_has_numbers_without_intervals(tmp_path):
    found = streamed(tmp_path / "out", masks(1), masks(1))
    assert found["summary"]["fg_correct"] == 1 and found["intervals"] == {}
    assert "A whole segment flips in 0 of 1 images, 0.0%; one is missed in 0, 0.0%." in found["findings"]


ABSENT = {
    "in truth": (masks(), masks(classes=(1, 2)), {"flip": None, "miss": None, "missed_segments": None, "iou": 0}),
    "in predictions": (masks(classes=(1, 2)), masks(), {"flip": 0, "miss": 1, "missed_segments": 1, "iou": 0}),
    "in both": (masks(classes=(1, 2)), masks(classes=(1, 2)), {"flip": None, "miss": None, "iou": None}),
}


@pytest.mark.parametrize(("predictions", "labels", "expected"), ABSENT.values(), ids=ABSENT)
def test_a_class_that_is_absent(tmp_path, predictions, labels, expected):
    found = streamed(tmp_path / "out", predictions, labels)
    assert {key: found["summary"][f"{key}/lesion"] for key in expected} == expected
    said = (tmp_path / "out" / "summary.md").read_text()
    absent = "Classes without rates of their own, since the labels lack them: lesion." in said
    assert absent == (expected["miss"] is None)
    assert ("lesion is missed whole in 4 of 4 images" in said) == (expected["miss"] == 1)


def test_groups_of_one_cannot_be_compared_and_it_is_said(tmp_path):
    predictions = masks()
    predictions[0][predictions[0] == 3] = 1
    found = streamed(tmp_path / "out", predictions, masks(), groups=["a", "b", "c", "d"])
    assert found["summary"]["group_q/lesion/a"] is None
    sentence = "Groups cannot be compared: a group and the rest of its class need two images, or two clusters, each."
    assert sentence in found["findings"]


def test_labels_without_foreground_have_no_rate(tmp_path):
    found = streamed(tmp_path / "out", masks(), 0 * masks())
    assert found["summary"]["fg_flip"] is None and found["summary"]["object_images"] is None
    assert found["findings"][0] == "Of the true foreground: - correct, - flipped, - missed."


def test_scans_of_another_shape_are_refused_with_their_file(tmp_path, capsys):
    nibabel = pytest.importorskip("nibabel", reason="nibabel is no dependency")
    labels = np.repeat(masks()[..., None], 5, axis=-1)
    predictions = labels.copy()
    predictions[predictions == 3] = 1
    for folder, values in (("p", predictions), ("l", labels), ("scans", labels[..., :4])):
        (tmp_path / folder).mkdir()
        for image, volume in enumerate(values):
            nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), tmp_path / folder / f"v{image}.nii.gz")
    line = [f"--predictions={tmp_path / 'p'}", f"--labels={tmp_path / 'l'}", "--kind=masks"]
    line += [f"--class_names={','.join(NAMES)}", f"--images={tmp_path / 'scans'}", f"--out={tmp_path / 'out'}"]
    said = refused(capsys, *line)
    assert "scans" in said and "expected the shape of its labels, (12, 12, 5), found (12, 12, 4)" in said


def test_scans_lie_beneath_the_contours_of_the_page(tmp_path, monkeypatch):
    nibabel = pytest.importorskip("nibabel", reason="nibabel is no dependency")
    labels = np.repeat(masks()[..., None], 5, axis=-1)
    predictions = labels.copy()
    predictions[predictions == 3] = 1
    scans = (100 * labels.astype(np.float32)) - 50
    for folder, values in (("p", predictions), ("l", labels), ("scans", scans)):
        (tmp_path / folder).mkdir()
        for image, volume in enumerate(values):
            nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), tmp_path / folder / f"v{image}.nii.gz")
    line = [f"--predictions={tmp_path / 'p'}", f"--labels={tmp_path / 'l'}", "--kind=masks"]
    line += [f"--class_names={','.join(NAMES)}", f"--images={tmp_path / 'scans'}"]
    audit(tmp_path / "out", *line)
    page = (tmp_path / "out" / "index.html").read_text()
    assert 'alt="image"' in page and '<b class="side">R</b><b class="side">L</b>' in page


def test_an_audit_that_was_not_finished_is_not_compared(tmp_path):
    with pytest.raises(AuditError, match="expected the folder of an audit"):
        compare_audits(tmp_path, tmp_path, out=tmp_path / "out")


SPACINGS = {
    "zero": ("0,1", "2 distances above 0"),
    "below": ("-1,1", "2 distances"),
    "nan": ("nan,1", "2 distances"),
    "word": ("thin", "distances in mm such as 0.8,0.8,3; found 'thin'"),
}


@pytest.mark.parametrize(("spacing", "expected"), SPACINGS.values(), ids=SPACINGS)
def test_spacings_that_are_none_are_refused(tmp_path, capsys, spacing, expected):
    line = [*save_masks(tmp_path / "in", masks(), masks()), f"--class_names={','.join(NAMES)}"]
    said = refused(capsys, *line, f"--spacing={spacing}", f"--out={tmp_path / 'o'}")
    assert f"--spacing: expected {expected}" in said and not (tmp_path / "o").exists()


@pytest.mark.parametrize("limit", ["fg_flip", "fg_flip=low", "fg_flip=nan", "0.05"])
def test_a_limit_without_key_or_number_is_refused(tmp_path, capsys, limit):
    line = [*save_masks(tmp_path / "in", masks(), masks()), f"--class_names={','.join(NAMES)}"]
    said = refused(capsys, *line, f"--fail_above={limit}", f"--out={tmp_path / 'o'}")
    assert f"expected KEY=LIMIT with a number, such as fg_flip=0.05; found {limit!r}" in said
    assert not (tmp_path / "o").exists()


def test_a_header_of_spacing_zero_is_refused_with_its_file(tmp_path, capsys):
    nibabel = pytest.importorskip("nibabel", reason="nibabel is no dependency")
    labels = np.repeat(masks(2)[..., None], 5, axis=-1)
    for folder in ("p", "l"):
        (tmp_path / folder).mkdir()
        for image, volume in enumerate(labels):
            nifti = nibabel.Nifti1Image(volume, np.eye(4))
            nifti.header["pixdim"][3] = 0
            nibabel.save(nifti, tmp_path / folder / f"v{image}.nii")
    line = [f"--predictions={tmp_path / 'p'}", f"--labels={tmp_path / 'l'}", "--kind=masks"]
    said = refused(capsys, *line, f"--class_names={','.join(NAMES)}", f"--out={tmp_path / 'out'}")
    assert "v0.nii: expected voxel sizes above 0 mm in its header" in said and not (tmp_path / "out").exists()


GROUPS = {"four groups of one": list("abcd"), "one against three": list("abbb"), "one group of all": list("aaaa")}


@pytest.mark.parametrize("groups", GROUPS.values(), ids=GROUPS)
def test_groups_that_cannot_be_compared_have_no_verdict(tmp_path, groups):
    predictions = masks()
    predictions[0][predictions[0] == 3] = 1
    found = streamed(tmp_path / "out", predictions, masks(), groups=groups)
    assert found["summary"]["group/a/fg_flip"] > 0 and not any("flips more in" in line for line in found["findings"])
    q_values = [value for key, value in found["summary"].items() if key.startswith("group_q/lesion")]
    assert all(value is None for value in q_values)


def test_one_patient_of_many_slices_cannot_be_resampled(tmp_path, capsys):
    line = [*save_masks(tmp_path / "in", masks(), masks(), [f"p_{i}" for i in range(4)]), "--clusters=^p"]
    said = refused(capsys, *line, f"--class_names={','.join(NAMES)}", f"--out={tmp_path / 'o'}")
    assert "--clusters: expected at least two clusters, which are resampled, found p" in said


def test_one_image_has_a_page_and_fails_a_limit_on_its_interval(tmp_path):
    line = [*save_masks(tmp_path / "in", masks(1), masks(1)), f"--class_names={','.join(NAMES)}"]
    found = audit(tmp_path / "out", *line, "--fail_above=fg_flip:high=0.5", code=1)
    assert found["gates"][0]["value"] is None and (tmp_path / "out/index.html").is_file()


# Flip of lesions, new less old: undefined where no label shows them, unless no image differs.
DIFFERENCES = {"in truth": None, "in predictions": 0, "in both": 0}


@pytest.mark.parametrize("absent", DIFFERENCES)
def test_a_class_that_is_absent_in_a_comparison(tmp_path, absent):
    predictions, labels, _ = ABSENT[absent]
    streamed(tmp_path / "old", predictions, labels)
    streamed(tmp_path / "new", labels, labels)
    compare_audits(tmp_path / "old", tmp_path / "new", out=tmp_path / "compared")
    stored = json.loads((tmp_path / "compared/compare.json").read_text())
    assert stored["differences"]["flip/lesion"]["difference"] == DIFFERENCES[absent]
    assert stored["identical"] == (absent == "in both")
