"""The script for the authors' checkpoints, from end to end on stand-ins: a narrow network, and tiny data sets."""

import importlib.util
import pathlib

import networks
import numpy as np
import pandas as pd
import pytest
from data.coco_cd import tree as coco
from data.waterbirds_seg import tree as birds
from models.test_old_pytorch import content, state, tensor

from flipjax.support.files import read_json

SCRIPT = pathlib.Path(__file__).parents[2] / "sweeps/studies/paper/compare.py"
if not SCRIPT.is_file():
    pytest.skip("the source distribution has no studies", allow_module_level=True)
spec = importlib.util.spec_from_file_location("compare_with_paper", SCRIPT)
script = importlib.util.module_from_spec(spec)
spec.loader.exec_module(script)

SIZE = 64
CHANGES = {"pool.size": SIZE, "split.n_val": 4, "split.n_test": 8}
STORAGES = {np.dtype("float32"): "FloatStorage", np.dtype("int64"): "LongStorage"}


def strides_of(shape):
    return [int(np.prod(shape[axis + 1 :])) for axis in range(len(shape))]


def checkpoint_of(state_dict):
    """A file of PyTorch, of its old form, as `torch.save(model.state_dict(), path)` made them: a storage a tensor."""
    tensors, storages = {}, {}
    for number, (name, array) in enumerate(state_dict.items()):
        key = str(number)
        storages[key] = array.ravel()
        kind, shape = STORAGES[array.dtype], array.shape
        tensors[name] = tensor(key, kind, array.size, offset=0, shape=shape, stride=strides_of(shape))
    return content(state(**tensors), storages=storages)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """What the script writes, and its folder."""
    folder = tmp_path_factory.mktemp("paper")
    assert birds.prepare(birds.TREE, folder / "data", "--manifest", birds.TREE / "metadata.csv", "--size", SIZE) == 0
    assert coco.prepare(coco.copy_coco(folder / "coco"), folder / "data", "--split", "free") == 0
    (manifest,) = (folder / "data/waterbirds_seg").iterdir()
    (photos,) = (folder / "data/coco_cd").iterdir()
    with pytest.MonkeyPatch.context() as patch:
        networks.shrink(patch)
        for data_set in script.CONFIGS:
            path = folder / "checkpoints" / data_set / script.CHECKPOINT
            path.parent.mkdir(parents=True)
            path.write_bytes(checkpoint_of(networks.make("resnet50").state_dict))
        names = ["--waterbirds_seg", f"waterbirds_seg/{manifest.name}", "--coco_cd", f"coco_cd/{photos.name}"]
        places = ["--data_dir", str(folder / "data"), "--out", str(folder / "out")]
        script.main([str(folder / "checkpoints"), *names, *places], CHANGES)
    return pd.read_csv(folder / "out/results.csv"), folder / "out"


@pytest.mark.parametrize("data_set", script.CONFIGS)
def test_the_figures_are_those_of_the_audit(table, data_set):
    rows, out = table
    rows = rows[rows["data_set"] == data_set].set_index("figure")
    summary = read_json(out / data_set / "audit/summary.json")["summary"]
    assert rows.loc["Flip (mean over images)", "flipjax"] == pytest.approx(summary["flip_image_mean"], abs=1e-5)
    assert rows.loc["top-decile share", "flipjax"] == pytest.approx(summary["top_decile_flip_share"], abs=1e-5)
    assert rows["images"].unique() == [8]


def test_the_papers_figures_stand_beside(table):
    rows, _ = table
    rows = rows.set_index(["data_set", "figure"])["paper"]
    assert len(rows) == 24
    assert rows["coco_cd", "Flip (mean over images)"] == 0.098
    assert rows["waterbirds_seg", "Flip, decile 10 of flip-risk"] == 0.4257


def test_the_mean_of_the_papers_deciles_is_its_mean_over_images():
    for data_set in script.CONFIGS:
        printed = script.printed_of(data_set)
        deciles = [value for name, value in printed.items() if name.startswith("Flip, decile")]
        assert np.mean(deciles) == pytest.approx(printed["Flip (mean over images)"], abs=5e-4)
        assert deciles[-1] / sum(deciles) == pytest.approx(printed["top-decile share"], abs=5e-3)


def test_figures_by_hand():
    """Twenty images of rising risk, of which the last two flip by halves, and one without a prediction."""
    flip = np.array([0.0] * 18 + [0.5, 1.0, 0.0])
    risk = np.array([*range(20), np.nan])
    figures = script.figures_of(flip, risk)
    assert figures["Flip (mean over images)"] == 1.5 / 21
    assert figures["top-decile share"] == 1
    assert figures["Flip, decile 10 of flip-risk"] == 0.75
    assert figures["Flip, decile 9 of flip-risk"] == 0


def test_a_difference_is_in_half_widths():
    images = pd.DataFrame({"flip": np.tile([0.0, 0.2], 50), "flip_risk": np.tile([0.1, 0.2], 50)})
    row = script.compare(images, dict.fromkeys(script.printed_of("coco_cd"), 0.08)).set_index("figure").iloc[0]
    # The standard error of the mean is 0.01, so that its interval is 0.0196 to each side.
    assert row["difference"] == pytest.approx(0.02 / 0.0196, abs=0.1)


def test_without_the_released_manifests_composites_the_command_says_what_to_prepare(tmp_path, capsys):
    with pytest.raises(SystemExit):
        script.main([str(tmp_path), "--data_dir", str(tmp_path)])
    said = capsys.readouterr().err
    assert "--waterbirds_seg: expected one data set waterbirds_seg/manifest_metadata_corr0.95_*" in said
    assert "found 0" in said
