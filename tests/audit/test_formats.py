"""Label maps of other programs: COCO's panoptic JSON with PNGs, NIfTI volumes."""

import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import pytest
from audited import audit, refused, segments_of
from PIL import Image
from scipy import ndimage

from flipjax import metrics
from flipjax.audit.formats.names import suffix_of
from flipjax.audit.formats.problems import BrokenFileError, naming
from flipjax.audit.formats.registry import FORMATS, read_header, read_values
from flipjax.data.decoding import masks

pytestmark = pytest.mark.usefixtures("without_pictures")
CATEGORIES = [{"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}, {"id": 20, "name": "sky"}]


def segment(number, category, **more):
    return {"id": number, "category_id": category, **more}


def blocks(*rows):
    return np.kron(np.array(rows), np.ones((10, 10), int))


# Two dogs side by side, sky, a crowd and void; of the dogs one is taken for a cat, of the sky a part for void.
TRUTH = blocks([70000, 70001, 5], [70000, 70001, 5], [6, 0, 5])
FOUND = blocks([1, 2, 9], [1, 2, 0], [9, 9, 9])
INFO = [segment(70000, 3), segment(70001, 3), segment(5, 20), segment(6, 7, iscrowd=1)]
PREDICTED = [segment(1, 7), segment(2, 3), segment(9, 20)]


def save_panoptic(folder, *, info=INFO, predicted=PREDICTED):
    """Writes labels and predictions of one image, and returns the options that name them."""
    for name, ids, segments in (("truth", TRUTH, info), ("model", FOUND, predicted)):
        (folder / name).mkdir()
        parts = np.stack([ids % 256, ids // 256 % 256, ids // 65536], -1)
        Image.fromarray(parts.astype(np.uint8)).save(folder / name / "a.png")
        stored = {"annotations": [{"file_name": "a.png", "image_id": 1, "segments_info": segments}]}
        stored |= {"categories": CATEGORIES} if name == "truth" else {}
        (folder / f"{name}.json").write_text(json.dumps(stored))
    return [f"--labels={folder / 'truth.json'}", f"--predictions={folder / 'model.json'}", "--kind=masks"]


def test_panoptic_segments_are_instances(tmp_path, capsys):
    options = save_panoptic(tmp_path)
    result = audit(tmp_path / "out", *options)
    assert result["class_names"] == ["cat", "dog", "sky", "void"] and result["options"]["background"] == 3
    assert result["summary"]["fg_flip"] == pytest.approx(200 / 700)
    assert result["summary"]["fg_miss"] == pytest.approx(100 / 700)
    assert result["segments"]["dog"]["segments"] == 2 and result["segments"]["dog"]["seg_flip"] == 0.5
    # As in panoptic quality: both dogs are matched, one by a cat.
    assert (result["segments"]["all"]["matched"], result["summary"]["strict_flip"]) == (3, pytest.approx(1 / 3))
    assert "is taken for the background" not in capsys.readouterr().err
    assert segments_of(tmp_path / "out")["instance"].tolist() == [5, 70000, 70001]
    # By class the two dogs are one segment, half of it a cat.
    mixed = audit(tmp_path / "out", *options, "--unit=class")
    assert mixed["flip_matrix"] == result["flip_matrix"] and mixed["segments"]["dog"]["segments"] == 1


MISFITS = [
    ({"info": [segment(5, 20)]}, ["truth/a.png", "truth.json", "70000, 70001"]),
    ({"predicted": [segment(1, 8)]}, ["model.json: a.png: segment 1", "7, 3, 20"]),
    ({"predicted": [segment(1, 7), segment(1, 3)]}, ["model.json: a.png", "found 1"]),
]


@pytest.mark.parametrize(("change", "named"), MISFITS)
def test_panoptic_files_that_do_not_fit_are_one_line(tmp_path, capsys, change, named):
    line = refused(capsys, *save_panoptic(tmp_path, **change), f"--out={tmp_path / 'out'}")
    assert not [name for name in named if name not in line], line


def test_volumes_are_images_with_one_more_axis(tmp_path):
    nibabel = pytest.importorskip("nibabel", reason="nibabel is no dependency")
    generator = np.random.default_rng(0)
    truth = np.kron(generator.integers(0, 3, (2, 3, 3, 2)), np.ones((1, 6, 6, 5), int))
    found = np.where(generator.random(truth.shape) < 0.2, 2, truth)

    def save(name, volume, dtype):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(volume.astype(dtype), np.eye(4)), tmp_path / name)

    for i in range(2):
        save(f"truth/v{i}.nii.gz", truth[i], np.float32)
        save(f"model/v{i}.nii.gz", found[i], np.int16)
    options = [f"--labels={tmp_path / 'truth'}", f"--predictions={tmp_path / 'model'}", "--kind=masks"]
    result = audit(tmp_path / "out", *options, "--unit=component")
    expected = metrics.summarize(metrics.decompose(found, truth, kind="masks", spatial_ndim=3))
    assert result["flip_matrix"] == expected["flip_matrix"] and result["summary"]["n_images"] == 2
    parts = sum(ndimage.label(volume == c, np.ones((3, 3, 3)))[1] for volume in truth for c in (1, 2))
    assert result["segments"]["all"]["segments"] == parts


@pytest.mark.parametrize(("shift", "spacing"), [(0.5, 1.0), (0, 2.0)], ids=["no whole classes", "another spacing"])
def test_a_volume_that_does_not_fit_its_prediction_is_named(tmp_path, capsys, shift, spacing):
    nibabel = pytest.importorskip("nibabel", reason="nibabel is no dependency")
    truth = np.random.default_rng(0).integers(0, 3, (6, 6, 5))
    for name, volume, affine in (("truth", truth + shift, np.diag([spacing, 1, 1, 1])), ("model", truth, np.eye(4))):
        (tmp_path / name).mkdir()
        nibabel.save(nibabel.Nifti1Image(volume.astype(np.float64), affine), tmp_path / name / "v0.nii.gz")
    options = [f"--labels={tmp_path / 'truth'}", f"--predictions={tmp_path / 'model'}", "--kind=masks"]
    assert "v0.nii.gz: " in refused(capsys, *options, f"--out={tmp_path / 'out'}")


SUFFIXES = [suffix for entry in FORMATS for suffix in entry.suffixes]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_suffix_of_a_format_is_that_of_its_files(suffix):
    assert suffix_of(Path(f"a/v.0{suffix}")) == suffix, "audit.names.DOUBLE_SUFFIXES"


def test_pictures_of_masks_are_of_the_same_formats_in_audits_and_in_pools():
    extensions = Image.registered_extensions()
    assert {extensions[suffix] for suffix in SUFFIXES if suffix in extensions} == {*masks.FORMATS}, "data.masks.FORMATS"


@pytest.fixture(params=["isal", "gzip"])
def inflated_by(request, monkeypatch):
    """Reads compressed volumes with isal, and as if it were not installed."""
    if request.param == "isal":
        pytest.importorskip("isal", reason="isal is no dependency")
        return
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "isal" else found(name, *rest))


def test_compressed_volumes_are_read_alike_by_isal_and_gzip(tmp_path, inflated_by):
    nibabel = pytest.importorskip("nibabel", reason="nibabel is no dependency")
    scores = np.random.default_rng(0).random((4, 5, 6, 3)).astype(np.float32)
    path = tmp_path / "v.nii.gz"
    nibabel.save(nibabel.Nifti1Image(scores, np.diag([1.0, 2.0, 3.0, 1.0])), path)
    header = read_header(path, "probabilities")
    assert header.shape == (4, 5, 6, 3) and header.spacing == (1, 2, 3)
    np.testing.assert_array_equal(read_values(path, "probabilities", header.shape), scores)


@pytest.mark.parametrize("end", [-40, 200], ids=["cut", "cut in the header"])
def test_a_compressed_volume_that_ends_early_is_broken(tmp_path, inflated_by, end):
    nibabel = pytest.importorskip("nibabel", reason="nibabel is no dependency")
    path = tmp_path / "v.nii.gz"
    values = np.random.default_rng(0).integers(0, 9, (20, 20, 20)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), path)
    path.write_bytes(path.read_bytes()[:end])
    with pytest.raises(BrokenFileError, match=re.escape(str(path))), naming(path):
        read_values(path, "labels", values.shape)
