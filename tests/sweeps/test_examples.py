"""The examples run as they stand, and no key of a configuration is without use."""

import contextlib
import io
import json
import os
import pathlib
import re
import runpy
import subprocess
import sys

import matplotlib
import pandas as pd
import pytest

from flipjax.__main__ import main
from flipjax.config import KEYS, PLACES, default_config, set_paper_recipe
from flipjax.config.values import leaves, points_of

ROOT = pathlib.Path(__file__).parents[2]
EXAMPLES = ROOT / "sweeps/examples"
pytestmark = pytest.mark.skipif(not EXAMPLES.is_dir(), reason="sweeps/ is not part of a source distribution")


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs an example in an empty folder, and returns what it prints."""

    def run_example(name, *arguments):
        for package in ("torch", "lightning", "optuna"):
            if f"\nimport {package}\n" in (EXAMPLES / name).read_text():
                pytest.importorskip(package, reason="it is no dependency")
        monkeypatch.chdir(tmp_path)
        monkeypatch.syspath_prepend((EXAMPLES / name).parent)
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        with contextlib.redirect_stdout(io.StringIO()) as said, contextlib.suppress(SystemExit):
            runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return said.getvalue()

    return run_example


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("script", "prefix"), [("pytorch_loop.py", "fg_"), ("lightning_loop.py", "val_fg_")])
def test_a_loop(run, script, prefix):
    lines = dict(line.split(" ")[:2] for line in run(script).splitlines())
    assert sum(float(lines[f"{prefix}{name}"]) for name in ("correct", "flip", "miss")) == pytest.approx(1, abs=0.002)


def test_a_loop_of_nnx(run):
    _, *line = run("nnx_loop.py", 1).split("  ")
    values = dict(each.split(" ") for each in line)
    assert sum(float(values[name]) for name in ("correct", "flip", "miss")) == pytest.approx(1, abs=0.002)


def test_an_audit_of_a_pytorch_model(run, tmp_path):
    assert "fg_flip 0." in run("audit_my_model.py", "out")
    assert (tmp_path / "out/index.html").stat().st_size > 10_000
    assert len((tmp_path / "out/images.csv").read_text().splitlines()) == 13
    assert "predicted_name" in run("worst_segments.py", "out")


def test_own_loss_augmentation_and_network(run):
    said = run("own_method.py", "--dry_run")
    assert "model Flat (own): " in said and said.count("method (ce, focal, grey, focal+grey)") == 2


def test_a_pytorch_model_on_the_benchmark(run):
    table = run("benchmark_pytorch.py", ROOT / "tests/recorded/smoke_run.py", 1).splitlines()
    assert table[0].split()[:3] == ["method", "rho", "group"] and len(table) == 8
    assert sum(map(float, table[-1].split()[-3:])) == pytest.approx(1, abs=1e-5)


def test_a_search_with_optuna_prunes_trials_and_finishes_others(run):
    *trials, best = run("optuna_search.py", 2, ROOT / "tests/recorded/smoke_run.py").splitlines()
    assert len(trials) == 8 and best.startswith("best: trial ")
    # A pruned trial trains for fewer epochs than one that goes on to the end.
    ends = {line.partition(" after ")[2] for line in trials}
    assert "6 epochs, complete" in ends and ends & {"2 epochs, pruned", "4 epochs, pruned"}


def test_images_in_memory_and_the_page_that_names_their_attribute(run, tmp_path, without_pictures):
    assert "rare" in run("own_arrays.py")
    assert json.loads((tmp_path / "runs/own_arrays/config.json").read_text())["config"]["pool"]["attribute"] == "site"


def test_an_assay_of_slices_of_patients(run, tmp_path, without_pictures):
    said = run("assay_slices.py", "epochs=2", "seeds=2", "folds=2", "size=16")
    assert "60 patients" in said and "may learn them" in said  # What the answer advises.
    assert (tmp_path / "runs/assay_slices/assay.json").is_file()


def test_scene_swap_of_a_pytorch_model(run):
    said = run("scene_swap_pytorch.py")
    assert "reliance on the scene" in said and "repaired labels (40, 12, 12)" in said and "to look at" in said


def test_a_monitor_sees_the_change_after_it(run):
    assert int(run("monitor.py").split()[-1]) in range(60, 120)


def test_a_plot_of_a_run(run, tmp_path):
    matplotlib.use("Agg")
    assert "rare" in run("pandas_plot.py", ROOT / "tests/recorded/run")
    assert (tmp_path / "flip.png").stat().st_size > 1000


def test_a_run_as_a_data_set(run):
    pytest.importorskip("xarray", reason="it is no dependency")
    said = run("dataset.py", ROOT / "tests/recorded/run").splitlines()
    assert said[0].startswith("flip - Share of the true foreground") and said[1].split() == ["group", "common", "rare"]


def test_a_quantity_of_ones_own_is_taken(run):
    assert "members" in run("own_quantity.py", "--dry_run")


def test_what_a_card_did_in_time_is_written(run, tmp_path):
    run("../benchmarks/throughput/gpu.py", "--device", "cpu", "--tiny", "--minutes", "0.02", "--out", "gpu.csv")
    rows = pd.read_csv(tmp_path / "gpu.csv")
    assert rows["what"][:2].tolist() == ["decompose", "read"] and (rows["seconds"] > 0).all()


def test_a_tfds_data_set_and_its_sweep(run):
    _, *command = run("tfds_builder.py").splitlines()[-1].split()
    assert main([*command, "--dry_run"]) == 0


def test_own_photos_from_a_folder_to_a_plan(tmp_path, monkeypatch, capsys):
    (tmp_path / "flipjax").write_text('#!/bin/sh\nprintf "%s\\n" "$@" "" >> commands\n')
    (tmp_path / "flipjax").chmod(0o755)
    path = f"{tmp_path}:{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}"
    line = ["bash", EXAMPLES / "own_photos.sh", "", "runs/own_photos", "--dry_run"]
    subprocess.run(line, cwd=tmp_path, env=os.environ | {"PATH": path, "TMPDIR": str(tmp_path)}, check=True)
    monkeypatch.chdir(tmp_path)
    for arguments in (tmp_path / "commands").read_text().split("\n\n")[:-1]:
        assert main(arguments.splitlines()) == 0
    said = capsys.readouterr().out
    assert "Largest n_train" in said and "nothing was trained" in said


def test_every_key_is_set_by_a_configuration_or_script_or_says_for_whom_it_is():
    paths = [path for folder in ("configs", "sweeps") for path in (ROOT / folder).rglob("*")]
    text = "".join(path.read_text() for path in paths if path.suffix in (".py", ".sh"))
    set_paper_recipe(paper := default_config())
    plain = leaves(default_config())
    changed = [name for name, value in leaves(paper).items() if value != plain.get(name)]
    names = [*re.findall(r"config\.([a-z_.]+)", text), *changed, *points_of(paper)[0].values]
    known = {PLACES[name].name for name in names if name in PLACES}
    unused = {name: key.meaning for name, key in KEYS.items() if name not in known}
    assert [name for name, meaning in unused.items() if not re.search(r"\. (Set|Vary) it ", meaning)] == []
