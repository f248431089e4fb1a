"""A sweep from Python: the command line's bytes, its tables, and models that give the stored numbers."""

import json
import pathlib
from concurrent.futures import ThreadPoolExecutor

import faults
import jax
import numpy as np
import pytest
from conftest import compiling

import flipjax
from flipjax import configurations
from flipjax.config import ConfigError
from flipjax.data import from_arrays
from flipjax.models.weights import WeightsError
from flipjax.results.frames import read_csv
from flipjax.support.terminal import Bar
from flipjax.sweep.run import Sweep


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch, without_pictures):
    monkeypatch.chdir(tmp_path)


def test_a_run_has_the_bytes_of_the_command_line_and_continues_what_was_interrupted(tmp_path, monkeypatch):
    config = faults.whole_run()[1]

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Bar, "advance", interrupt)
        with pytest.raises(KeyboardInterrupt):
            flipjax.run(config, workdir="run")
    assert not (tmp_path / "run/results.csv").exists() and (tmp_path / "run/checkpoints/000/1").is_dir()
    assert len(read_csv(tmp_path / "run/history.csv")) == 2
    # As in a notebook's thread, where no signal arrives.
    with ThreadPoolExecutor() as threads:
        run = threads.submit(flipjax.run, config, workdir="run").result()
    names = "results.csv", "history.csv", "report/summary.csv", "cells/000/results.npz"
    assert faults.same(run.folder, *names)
    assert not (run.folder / "checkpoints").exists()
    # Nothing to do.
    monkeypatch.setattr(Sweep, "train", None)
    again = flipjax.run(config, workdir="run")
    assert again.members["rho"].tolist() == [0.5, 1.0] and set(again.members["status"]) <= {"finished", "stopped"}
    assert len(again.history) == again.members["epochs"].sum() and "Flip, rare" in again._repr_html_()
    with pytest.raises(ConfigError, match="m000"):
        again.member("m9")


def test_the_readme_from_python(tmp_path, monkeypatch):
    text = (pathlib.Path(__file__).parents[1] / "README.md").read_text().partition("## From Python\n")[2]
    code = text.partition("```python\n")[2].partition("```")[0]
    monkeypatch.setattr(configurations, "shipped_configs", lambda: {"smoke": faults.whole_run()[1]})
    with compiling(quick=True):
        exec(code.replace('"train.epochs": 4', '"train.epochs": 3'), {})  # The finished run's programs.
    assert (tmp_path / "model.safetensors").is_file()


def test_a_reloaded_model_gives_the_stored_decomposition_of_every_rule(without_page):
    changes = {"axes.rho": (1.0,), "axes.method": ("ce", "dfr"), "train.selection": ("val_loss", "last")}
    changes |= {"population.keep": "all", "intervene.scenes": "none", "intervene.scores": "none"}
    run = flipjax.run(faults.whole_run()[1], changes)
    assert run.folder.name.startswith("tiny-")
    opened = flipjax.open_run(run.folder)
    for name in run.members.index:
        member = opened.member(name)
        images = member.images()
        for rule in ("val_loss", "last"):
            model = member.model(rule)
            for part in ("val", "test"):
                own, stored = getattr(images, part), member.decomposition(part, rule)
                found = model.decompose(own.images, own.masks)
                jax.tree.map(np.testing.assert_array_equal, found, stored)
    path = next(run.folder.glob("cells/*/weights/*"))
    path.unlink()
    with pytest.raises(FileNotFoundError, match=path.name):
        opened.member(path.name.split(".")[0]).model(path.name.split(".")[1])


def test_photos_in_memory_and_a_loss_augmentation_and_network_of_ones_own(quick_compilation, without_page):
    from test_arrays import NAMES, PHOTOS
    from test_own import Net, dark, mine

    data = from_arrays(**PHOTOS, **NAMES)
    changes = {"model.width": 8, "model.depth": 3, "model.build": Net, "train.epochs": 1, "axes.rho": (0.75,)}
    changes |= {"split.n_train": 8, "split.n_val": 8, "split.n_test": 8, "intervene.scores": "none"}
    changes |= {"train.loss": mine, "train.augment": dark, "axes.method": ("mine+dark",)}
    run = flipjax.run(faults.whole_run()[1], changes, data=data)
    functions = json.loads((run.folder / "config.json").read_text())["functions"]
    assert "scale=1.0" in functions["mine"] and "dark.SCALE = 3.0" in functions["dark"] and "Net" in functions
    assert run.members["status"].tolist() == ["finished"]
    assert run.config.pool.root and data.catalog.content.startswith(run.config.pool.root)
    member = run.member("m000")
    test = member.images().test
    found = member.model().decompose(test.images, test.masks)
    # Compiled quickly, a pixel whose classes tie may turn.
    assert np.abs(found.confusion - member.decomposition().confusion).sum() <= 4
    np.testing.assert_allclose(found.risk_sum, member.decomposition().risk_sum, rtol=1e-3)
    with pytest.raises(WeightsError, match="build"):
        flipjax.open_run(run.folder).member("m000").model()
