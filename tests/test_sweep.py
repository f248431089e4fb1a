import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import faults
import numpy as np
import pytest
from PIL import Image

from flipjax.plan import plan
from flipjax.results.cells import load_cell
from flipjax.results.frames import read_csv, records_of
from flipjax.sweep.__main__ import main

# What is made of it has the shapes of faults.CONFIG's, and so its programs.
CONFIG = """
from flipjax.config import default_config

def get_config():
    config = default_config()
    config.pool.name, config.pool.root, config.pool.size = "folder", {root!r}, 16
    config.split.n_train, config.split.n_val, config.split.n_test = 16, 8, 8
    config.model.width, config.model.depth = 4, 1
    config.train.epochs, config.train.batch_size = 3, 8
    config.gallery.images = 2
    config.axes.rho = (0.5, 1.0)
    return config
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A folder with photos of two classes and two scenes, and a config for it."""
    folder = tmp_path_factory.mktemp("study")
    rng = np.random.default_rng(0)
    for y, name in enumerate(("cat", "dog")):
        (folder / "photos/cutouts" / name).mkdir(parents=True)
        for index in range(12):
            colour = np.zeros((20, 20, 4), np.uint8)
            colour[4:16, 4:16] = (*rng.integers(0, 200, 2), 255 * y, 255)
            Image.fromarray(colour).save(folder / f"photos/cutouts/{name}/{index:02d}.png")
    for y, name in enumerate(("land", "water")):
        (folder / "photos/scenes" / name).mkdir(parents=True)
        for index in range(6):
            Image.fromarray(rng.integers(100 * y, 100 * y + 100, (20, 20, 3)).astype(np.uint8)).save(
                folder / f"photos/scenes/{name}/{index}.png"
            )
    (folder / "tiny.py").write_text(CONFIG.format(root=str(folder / "photos")))
    return folder


def start(study, folder, *before, stderr=None):
    environment = {**os.environ, "PYTHONWARNINGS": "error::UserWarning:flipjax"}
    command = [*before, sys.executable, "-m", "flipjax.sweep", "--config", study / "tiny.py", "--workdir", folder]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=stderr)


def run(study, *arguments):
    """Exit code and all that the command prints, in this process: its programs are those of the others."""
    return faults.sweep("--config", study / "tiny.py", *arguments)


@pytest.fixture(scope="module")
def unbroken(study):
    """The folder of a run that nothing disturbed, pictures and all, and what it printed."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(["--config", str(study / "tiny.py"), "--workdir", str(study / "unbroken")])
    assert code == 0, err.getvalue()
    return study / "unbroken", out.getvalue(), err.getvalue()


def wait_for(condition, process):
    deadline = time.monotonic() + 300
    while not condition():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_run_writes_what_the_contract_names(unbroken):
    folder, out, err = unbroken
    rows = records_of(read_csv(folder / "results.csv"))
    axes = "rho seed method learning_rate weight_decay warmup schedule clip_norm"
    assert list(rows[0])[:11] == ["member", *axes.split(), "split", "group"]
    wanted = (
        "n_images fg_correct fg_flip fg_miss flip_image_mean iou_background iou_cat iou_dog iou_foreground risk_auroc"
    )
    wanted += " top_decile_flip_share status epochs best_epoch selection"
    assert [name for name in rows[0] if name in wanted.split()] == wanted.split()
    assert len(rows) == 2 * 2 * 7
    assert [row["group"] for row in rows[:7]] == ["all", "0", "1", "2", "3", "common", "rare"]
    assert {row["status"] for row in rows} <= {"finished", "stopped"}
    whole = [row for row in rows if row["group"] == "all"]
    assert all(row["n_images"] == 8 for row in whole)
    assert all(abs(row["fg_correct"] + row["fg_flip"] + row["fg_miss"] - 1) < 2e-6 for row in whole)
    history = records_of(read_csv(folder / "history.csv"))
    assert len(history) == sum(row["epochs"] for row in whole if row["split"] == "test")
    stored = json.loads((folder / "config.json").read_text())
    assert stored["config"]["axes"]["rho"] == [0.5, 1.0]
    cell = load_cell(folder / "cells/000/decomposition.npz")
    assert cell.parts["test"].confusion.shape == (1, 2, 8, 3, 3)
    assert np.array_equal(cell.parts["test"].pairs, np.repeat(np.arange(4), 2))
    for name in ("index.html", "summary.csv", "trend.csv", "figures/flip.png", "figures/gallery.png"):
        assert (folder / "report" / name).stat().st_size > 0
    assert "flip, rare" in out
    assert "epoch 3/3" in err


def test_the_same_command_again_has_nothing_to_do(study, unbroken, capsys):
    folder, out, _ = unbroken
    stamps = {path: path.stat().st_mtime_ns for path in folder.glob("cells/*/*")}
    code, again, err = command(capsys, "--config", study / "tiny.py", "--workdir", folder)
    assert (code, again) == (0, out)
    assert "epoch" not in err
    assert stamps == {path: path.stat().st_mtime_ns for path in folder.glob("cells/*/*")}


def test_killed_then_interrupted_then_continued_gives_the_same_bytes(study, unbroken):
    folder = study / "killed"
    # As daemons and cron start it: without any standard stream.
    process = start(study, folder, "sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh")
    wait_for(lambda: (folder / "checkpoints/000/1").is_dir(), process)
    process.kill()
    process.wait()
    assert not (folder / "results.csv").exists()

    process = start(study, folder, stderr=subprocess.PIPE)
    wait_for(lambda: (folder / "checkpoints/000/2").is_dir(), process)
    # Who read its words is gone, as `head` is, or a terminal that was closed.
    process.stderr.close()
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=120) in (75, 0)  # 0: the last epoch was done before the signal came
    assert run(study, "--workdir", folder)[0] == 0
    for name in ("results.csv", "history.csv", "report/summary.csv"):
        assert (folder / name).read_bytes() == (unbroken[0] / name).read_bytes()


def test_history_is_whole_though_killed_behind_the_last_checkpoint(study, unbroken):
    folder = study / "short"
    shutil.copytree(unbroken[0], folder)
    kept = (folder / "history.csv").read_bytes()
    for path in (folder / "history.csv", folder / "cells/000/decomposition.npz"):
        path.unlink()
    code, text = run(study, "--workdir", folder)
    assert code == 0, text
    assert (folder / "history.csv").read_bytes() == kept
    assert (folder / "results.csv").read_bytes() == (unbroken[0] / "results.csv").read_bytes()


def test_members_that_fail_or_diverge_do_not_stop_the_others(study):
    folder = study / "diverged"
    # As many members as elsewhere: the same program.
    code, text = run(study, "--workdir", folder, "--config.axes.rho=(0.5,)", "--config.axes.learning_rate=(1e-3,1e30)")
    assert code == 1, text
    rows = [
        row for row in records_of(read_csv(folder / "results.csv")) if row["group"] == "all" and row["split"] == "test"
    ]
    assert [row["status"] for row in rows] == ["finished", "diverged"]

    code, text = run(study, "--workdir", study / "impossible", "--config.split.n_train=64")
    assert code == 1
    assert "n_train" in text and "64" in text and ": 16" in text
    assert "no cell finished" in text

    automatic = ("--config.split.n_train=0", "--config.train.batch_size=64")
    code, text = run(study, "--workdir", study / "batch", *automatic)
    assert code == 2
    assert "config.train.batch_size: expected at most n_train (" in text and "found 64" in text


def test_every_kind_of_method_and_rule_from_the_command_line(study):
    folder = study / "methods"
    methods = "('ce', 'group_dro', 'balanced+bg_swap', 'bg_cutmix', 'dfr', 'jtt+ema')"
    rules = "('val_loss', 'val_worst_group_iou', 'val_flip', 'label_free_risk', 'last')"
    changes = ["axes.rho=(1.0,)", "axes.seed=(0, 1)", f"axes.method={methods}", f"train.selection={rules}"]
    changes += ["train.epochs=2", "train.crop=1.0", "train.jitter=0.5", "axes.schedule=('cosine',)"]
    changes += ["knobs.jtt_epochs=1"]
    options = [f"--config.{change}" for change in changes]
    whole = study / "methods unbroken"
    assert run(study, "--workdir", whole, *options)[0] == 0
    # As killed amid the second run of JTT: one epoch, then two.
    shutil.copytree(whole / "checkpoints", folder / "checkpoints", ignore=shutil.ignore_patterns("3"))
    shutil.copy(whole / "config.json", folder)
    code, text = run(study, "--workdir", folder, *options)
    assert code == 0, text
    assert "continues after epoch 2" in text and "bg_cutmix at rho 1.0: a group has no training image" in text
    rows = [
        row for row in records_of(read_csv(folder / "results.csv")) if (row["split"], row["group"]) == ("test", "all")
    ]
    assert len(rows) == 2 * 6 * 5
    assert {row["epochs"] for row in rows if row["method"] == "jtt+ema"} == {3}
    assert all(row["best_epoch"] == row["epochs"] for row in rows if row["selection"] == "last")
    history = records_of(read_csv(folder / "history.csv"))
    assert len(history) == 2 * (5 * 2 + 3)
    moved = {row["member"] for row in history if row["group_weight_0"] != 0.25}
    assert moved == {row["member"] for row in rows if row["method"] == "group_dro"}
    for title in ("Difference from ce, paired by seed", "Selection: what a rule loses"):
        assert title in text
    for name in ("results.csv", "history.csv", "report/comparison.csv", "report/regret.csv"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes()

    swapped = ("--config.knobs.jtt_epochs=9", "--config.axes.method=('jtt',)", "--workdir", study / "late")
    code, text = run(study, *swapped)
    assert code == 2 and "config.knobs.jtt_epochs: expected at most config.train.epochs (3); found 9" in text


def command(capsys, *arguments):
    code = main([*map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_usage_errors_name_the_field_and_end_with_2(study, unbroken, capsys, tmp_path):
    config = ("--config", study / "tiny.py")
    cases = [
        ((), "--config"),
        ((*config, "--config.train.epoch=3"), "--config.train.epochs"),
        ((*config, "--config.axes.rho=(0.2,)"), "expected a number in [0.5, 1]; found 0.2"),
        ((*config, "--config.model.norm=layer"), "one of batch, group, none; found 'layer'"),
        ((*config, "--workdri=x"), "workdir"),
        ((*config, "stray"), "stray"),
        (("--config", tmp_path / "none.py"), "none.py"),
        ((*config, "--dry_run", "--config.pool.size=20", "--config.model.depth=4"), "multiple of 8"),
    ]
    for arguments, expected in cases:
        code, _, err = command(capsys, *arguments)
        assert code == 2, arguments
        assert expected in err and err.count("\n") == 1, err


def test_a_folder_of_another_run_is_left_alone(study, unbroken):
    before = (unbroken[0] / "results.csv").read_bytes()
    code, text = run(study, "--workdir", unbroken[0], "--config.train.epochs=2")
    assert code == 2
    assert "config.train.epochs: 3 there, 2 now" in text and "--fresh" in text
    (study / "other").mkdir()
    (study / "other/thesis.txt").write_text("mine")
    assert run(study, "--workdir", study / "other", "--fresh")[0] == 2
    assert (study / "other/thesis.txt").read_text() == "mine"
    assert (unbroken[0] / "results.csv").read_bytes() == before


def test_dry_run_lists_cells_and_starts_no_backend(study):
    code = (
        "import sys; from flipjax.sweep.__main__ import main; from jax._src import xla_bridge\n"
        f"code = main(['--config', {str(study / 'tiny.py')!r}, '--dry_run'])\n"
        "sys.exit(code or 3 * xla_bridge.backends_are_initialized())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "cell 000: 2 members, rho [0.5, 1.0]" in done.stdout


def test_the_plan_is_the_product_of_grid_and_axes(study):
    from flipjax.config import default_config

    config = default_config()
    config.grid.model = {"width": (4, 8), "depth": (2,)}
    config.axes.seed = (0, 1, 2)
    cells = plan(config)
    assert [len(cell.settings) for cell in cells] == [6, 6]
    assert [cell.experiment.model.width for cell in cells] == [4, 8]
    names = [name for cell in cells for name in cell.names]
    assert len(set(names)) == 12
    assert dict(cells[1].settings[0].axes)["model.width"] == 8
