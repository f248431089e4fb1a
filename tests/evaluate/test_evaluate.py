"""`flipjax evaluate` end to end, and a dry run of the paper's grid."""

import json
import os
import pathlib
import shutil
from unittest import mock

import faults
import jax
import networks
import numpy as np
import pytest

from flipjax import metrics
from flipjax.config import PoolSpec
from flipjax.data.correlation import evaluation_table
from flipjax.data.pool import gather
from flipjax.data.sources import synthetic
from flipjax.data.split import split_pool
from flipjax.evaluate import __main__ as command
from flipjax.evaluate import converted
from flipjax.metrics.decomposition import Ratio
from flipjax.metrics.statistics.intervals import estimate_rate
from flipjax.models.weights.files import save_weights
from flipjax.support.frames import read_csv, records_of

ROOT = pathlib.Path(__file__).parents[2]
POOL, SPLIT = {"size": 32, "objects": 16, "scenes": 6}, {"n_train": 16, "n_val": 8, "n_test": 12}
OVERRIDES = [f"--config.pool.{name}={value}" for name, value in POOL.items()]
OVERRIDES += [f"--config.split.{name}={value}" for name, value in SPLIT.items()]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A U-Net of two narrow stages, and the folder that holds its weights, converted."""
    folder = tmp_path_factory.mktemp("evaluate")
    with pytest.MonkeyPatch.context() as patch:
        networks.shrink(patch)
        model = networks.make("resnet50")
    save_weights(folder / "weights", model.state_dict)
    return model, folder


def test_every_number_is_that_of_the_model_itself(small, monkeypatch, capsys):
    model, folder = small
    networks.shrink(monkeypatch)
    line = ["--model", "smp_resnet50", "--weights", folder / "weights", "--config", ROOT / "configs/smoke.py"]
    line += [*OVERRIDES, "--intervene", "--config.intervene.scenes=both", "--samples", "50", "--out", folder / "out"]
    assert command.main([*map(str, line)]) == 0
    printed = capsys.readouterr()
    assert "12 of 12 images" in printed.err and "20 of 20 images" in printed.err
    pool, catalog = synthetic.load_synthetic(PoolSpec(**POOL))
    table = evaluation_table(catalog, split_pool(catalog, n_val=8, n_test=12, seed=0), "test")
    images, labels = gather(pool, table.rows)
    logits = np.concatenate([model.logits(images[i : i + 2]) for i in range(0, 12, 2)])
    result = jax.tree.map(np.asarray, metrics.decompose(logits, labels))
    summary = metrics.summarize(result, table.groups, class_names=catalog.class_names)
    stored = json.loads((folder / "out/summary.json").read_text())
    known = {key for key in summary if not key.startswith("group/")} - {"flip_matrix"}
    assert known <= set(stored["summary"])
    for key in known:
        found, expected = (np.array(value, float) for value in (stored["summary"][key], summary[key]))
        # A pixel whose two largest logits nearly tie may fall either way in the other program.
        np.testing.assert_allclose(found, expected, atol=2e-3, err_msg=key)
    images = records_of(read_csv(folder / "out/images.csv"))
    named = {f"{catalog.object_names[y]} on {catalog.scene_photo_names[s]}" for y, s in table.rows.tolist()}
    assert {row["name"] for row in images} == named
    assert (stored["summary"]["n_images"], stored["options"]["model"]) == (12, "smp_resnet50")
    assert (folder / "out/index.html").is_file()
    values = {key: value for key, value in stored["summary"].items() if key not in summary}
    further = {"swap_auroc", "group/rare/repair_flip", "scene_reliance", "counterfactual_flip", "fg_ece", "rim_flip"}
    assert further <= set(values) and stored["intervals"]["repair_flip"][0] <= values["repair_flip"]
    # Repair gives a region another label and leaves the region.
    after = values["repair_flip"] + values["repair_correct"]
    assert after + stored["summary"]["fg_miss"] == pytest.approx(1, abs=1e-5)
    assert np.mean([row["repaired_flip"] for row in images]) == pytest.approx(values["repair_flip"], abs=0.3)
    confusion = np.asarray(result.confusion)[:, 1:]
    flipped = confusion[:, 0, 2] + confusion[:, 1, 1]
    # Both images of a pair count as one.
    _, low, high = estimate_rate(Ratio(flipped, confusion.sum((1, 2))), clusters=table.pairs)
    assert stored["intervals"]["fg_flip"] == pytest.approx([low, high], abs=0.02)


SMOKE = f"--config={ROOT / 'configs/smoke.py'}"
MODEL = "--model=smp_resnet50"
STORED = "--weights=weights"


@pytest.fixture
def here(small, tmp_path, monkeypatch):
    """A folder with weights, damaged ones, and a file that is the user's; nothing is computed."""
    _, folder = small
    shutil.copy(folder / "weights.safetensors", tmp_path)
    damaged = shutil.copy(folder / "weights.safetensors", tmp_path / "damaged.safetensors")
    os.truncate(damaged, damaged.stat().st_size - 20)
    (tmp_path / "file").write_text("mine")
    monkeypatch.setattr(converted, "start_backend", lambda spec, members: "CPU")  # The tests' own has started.
    monkeypatch.chdir(tmp_path)
    networks.shrink(monkeypatch)
    return tmp_path


MISUSE = {
    "no weights": ([MODEL], "--weights"),
    "a model without encoder": ([STORED, "--model=unet"], "unet"),
    "a size that does not fit": ([MODEL, STORED, "--config.pool.size=40"], "multiple of 32"),
    "a file for a folder": ([MODEL, "--weights=damaged.safetensors", "--out=file"], "--out: expected a folder"),
    "no scenes to intervene with": (
        [MODEL, STORED, "--intervene", "--config.intervene.scenes=none"],
        "config.intervene.scenes: ",
    ),
    "damaged weights": ([MODEL, "--weights=damaged.safetensors"], "damaged.safetensors cannot be read"),
    "too few images": ([MODEL, STORED, *OVERRIDES, "--config.split.n_test=400"], "n_test 400: each"),
}


@pytest.mark.parametrize(("options", "expected"), MISUSE.values(), ids=MISUSE)
def test_misuse_is_one_line_and_2(here, capsys, options, expected):
    assert command.main(["--out=none", SMOKE, *options]) == 2
    err = capsys.readouterr().err
    assert expected in err and err.count("\n") == 1, err
    assert (here / "file").read_text() == "mine" and not (here / "none").exists()


def test_an_interruption_is_75(here, capsys, monkeypatch):
    monkeypatch.setattr(converted, "start_backend", mock.Mock(side_effect=KeyboardInterrupt))
    assert command.main([SMOKE, MODEL, STORED, *OVERRIDES, "--out=none"]) == 75
    assert capsys.readouterr().err == "flipjax evaluate: interrupted; the same command starts anew\n"


def test_a_dry_run_of_the_papers_grid(small, monkeypatch):
    networks.shrink(monkeypatch)
    code, text = faults.sweep("--config", "waterbirds:paper", "--dry_run")
    # As the sweep would end.
    assert code == 2 and "config.pool.root: " in text and "waterbirds_seg" in text
    parameters = sum(leaf.size for leaf in jax.tree.leaves(small[0].model.weights.params))
    assert f"smp_resnet50 in bfloat16, weights weights/resnet50 (no such file yet): {parameters:,} parameters" in text
    assert "smp_mit_b2 in bfloat16, weights weights/mit_b2 (no such file yet): " in text
