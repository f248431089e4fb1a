"""Label maps of other programs: COCO's panoptic JSON with PNGs, NIfTI volumes."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from flipjax import metrics
from flipjax.audit.__main__ import main

pytestmark = pytest.mark.usefixtures("without_pictures")
CATEGORIES = [{"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}, {"id": 20, "name": "sky"}]


def segment(number, category, **more):
    return {"id": number, "category_id": category, **more}


def save_panoptic(path, images, *, categories=True):
    """Writes {name: (ids, segments)}."""
    path.with_suffix("").mkdir()
    entries = []
    for name, (ids, segments) in images.items():
        parts = np.stack([ids % 256, ids // 256 % 256, ids // 65536], -1)
        Image.fromarray(parts.astype(np.uint8)).save(path.with_suffix("") / f"{name}.png")
        entries.append({"file_name": f"{name}.png", "image_id": 1, "segments_info": segments})
    path.write_text(json.dumps({"annotations": entries} | ({"categories": CATEGORIES} if categories else {})))
    return path


def blocks(*rows):
    return np.kron(np.array(rows), np.ones((10, 10), int))


@pytest.fixture
def case(tmp_path):
    """Two dogs side by side, sky, a crowd and void; of the dogs one is taken for a cat, of the sky a part for void."""
    truth = blocks([70000, 70001, 5], [70000, 70001, 5], [6, 0, 5])
    found = blocks([1, 2, 9], [1, 2, 0], [9, 9, 9])
    info = [segment(70000, 3), segment(70001, 3), segment(5, 20), segment(6, 7, iscrowd=1)]
    told = [segment(1, 7), segment(2, 3), segment(9, 20)]
    return truth, found, info, told


def run(tmp_path, *arguments, code=0):
    assert main([*map(str, arguments), "--kind=masks", f"--out={tmp_path / 'out'}"]) == code
    return json.loads((tmp_path / "out/summary.json").read_text()) if code == 0 else None


def test_panoptic_segments_are_instances(case, tmp_path, capsys):
    truth, found, info, told = case
    labels = save_panoptic(tmp_path / "truth.json", {"a": (truth, info)})
    predictions = save_panoptic(tmp_path / "model.json", {"a": (found, told)}, categories=False)
    result = run(tmp_path, f"--labels={labels}", f"--predictions={predictions}")
    assert result["class_names"] == ["cat", "dog", "sky", "void"] and result["options"]["background"] == 3
    assert result["summary"]["fg_flip"] == pytest.approx(200 / 700)
    assert result["summary"]["fg_miss"] == pytest.approx(100 / 700)
    assert result["segments"]["dog"]["segments"] == 2 and result["segments"]["dog"]["seg_flip"] == 0.5
    # As in panoptic quality: both dogs are matched, one by a cat.
    assert (result["segments"]["all"]["matched"], result["summary"]["strict_flip"]) == (3, pytest.approx(1 / 3))
    assert "is taken for the background" not in capsys.readouterr().err
    stored = tmp_path / "out/segments.parquet"
    table = pd.read_parquet(stored) if stored.is_file() else pd.read_csv(stored.with_suffix(".csv"))
    assert table["instance"].tolist() == [5, 70000, 70001]
    # By class the two dogs are one segment, half of it a cat; predicted masks of classes go with panoptic labels, too.
    (tmp_path / "masks").mkdir()
    Image.fromarray(np.array([3, 0, 1, 2])[np.searchsorted([0, 1, 2, 9], found)].astype(np.uint8)).save(
        tmp_path / "masks/a.png"
    )
    mixed = run(tmp_path, f"--labels={labels}", f"--predictions={tmp_path / 'masks'}", "--unit=class")
    assert mixed["flip_matrix"] == result["flip_matrix"] and mixed["segments"]["dog"]["segments"] == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"info": [segment(5, 20)]},
            "truth/a.png.*: expected labels that .*truth.json: a.png names, found .*70000, 70001",
        ),
        ({"told": [segment(1, 8)]}, r"model.json: a.png: segment 1: expected a category of the labels \(3: 7, 3, 20\)"),
        ({"told": [segment(1, 7), segment(1, 3)]}, "model.json: a.png: expected different ids .* found 1"),
        ({"told": [{"id": 1}]}, "model.json: expected COCO's panoptic JSON.*KeyError: 'category_id'"),
        ({"size": 20}, r"found others, 1: a \(20, 30\) with labels \(30, 30\)"),
        ({"file": "truth.json"}, "truth/a.png: .*No such file"),
        ({"option": "--unit=instance"}, "--unit instance: expected labels in COCO's panoptic format"),
    ],
)
def test_panoptic_files_that_do_not_fit_are_one_line(case, tmp_path, capsys, change, message):
    truth, found, info, told = case
    found = found[: change.get("size", 30)]
    labels = save_panoptic(tmp_path / "truth.json", {"a": (truth, change.get("info", info))})
    predictions = save_panoptic(tmp_path / "model.json", {"a": (found, change.get("told", told))})
    if "file" in change:
        (tmp_path / "truth/a.png").unlink()
    if "option" in change:
        np.savez(tmp_path / "in.npz", labels=truth % 3, masks=found % 3)
        labels = predictions = tmp_path / "in.npz"
    options = [change["option"]] if "option" in change else []
    run(tmp_path, f"--labels={labels}", f"--predictions={predictions}", *options, code=2)
    *_, line = capsys.readouterr().err.strip().splitlines()
    assert re.search(message, line), line


def test_volumes_are_images_with_one_more_axis(tmp_path, capsys):
    nibabel = pytest.importorskip("nibabel", reason="nibabel is no dependency")
    generator = np.random.default_rng(0)
    truth = np.kron(generator.integers(0, 3, (2, 3, 3, 2)), np.ones((1, 6, 6, 5), int))
    found = np.where(generator.random(truth.shape) < 0.2, 2, truth)
    for folder, stack in ("truth", truth), ("model", found):
        (tmp_path / folder).mkdir()
        for i, volume in enumerate(stack):
            image = nibabel.Nifti1Image(volume.astype(np.float32 if folder == "truth" else np.int16), np.eye(4))
            nibabel.save(image, tmp_path / folder / f"v{i}.nii.gz")
    inputs = [f"--labels={tmp_path / 'truth'}", f"--predictions={tmp_path / 'model'}"]
    result = run(tmp_path, *inputs, "--unit=component")
    expected = metrics.summarize(metrics.decompose(found, truth, kind="masks", spatial_ndim=3))
    assert result["flip_matrix"] == expected["flip_matrix"] and result["summary"]["n_images"] == 2
    assert "2 images of 18 x 18 x 10 pixels" in capsys.readouterr().out
    from scipy import ndimage

    parts = sum(ndimage.label(volume == c, np.ones((3, 3, 3)))[1] for volume in truth for c in (1, 2))
    assert result["segments"]["all"]["segments"] == parts
    nibabel.save(nibabel.Nifti1Image(truth[0] + 0.5, np.eye(4)), tmp_path / "truth/v0.nii.gz")
    run(tmp_path, *inputs, code=2)
    assert "v0.nii.gz: expected class indices, found other values of float64" in capsys.readouterr().err
    (tmp_path / "truth/v0.nii.gz").write_bytes(b"none")
    run(tmp_path, *inputs, code=2)
    assert "v0.nii.gz: damaged" in capsys.readouterr().err
