"""The command on a tiny grid: what it writes, and that a run that is killed or interrupted goes on."""

import dataclasses
import errno
import pathlib
import shutil
import signal
import subprocess
import sys
import traceback

import faults
import jax
import numpy as np
import pytest
from run_folder import TRAINED

import flipjax
from flipjax.__main__ import main as every_command
from flipjax.config import Recipe
from flipjax.report import page
from flipjax.results import load
from flipjax.support.frames import read_csv, records_of
from flipjax.support.terminal import Bar
from flipjax.sweep import lock
from flipjax.sweep.__main__ import main
from flipjax.sweep.run import Sweep
from flipjax.training.network import forward


def rows_of(folder):
    """The rows of the whole test set in results.csv."""
    frame = read_csv(folder / "results.csv")
    return records_of(frame[(frame.split == "test") & (frame.group == "all")])


def test_a_run_writes_what_the_contract_names():
    folder = faults.whole_run()[0]
    rows = records_of(read_csv(folder / "results.csv"))
    # Momentum has a column where it varies.
    numbers = [field.name for field in dataclasses.fields(Recipe) if field.name != "momentum"]
    first = ["member", "rho", "seed", "method", *numbers, "split", "group"]
    assert list(rows[0])[: len(first)] == first
    assert len(rows) == 2 * 2 * 7
    assert [row["group"] for row in rows[:7]] == ["all", "0", "1", "2", "3", "common", "rare"]
    assert {row["status"] for row in rows} <= TRAINED
    assert all(row["n_images"] == 8 for row in rows_of(folder))
    assert all(abs(row["fg_correct"] + row["fg_flip"] + row["fg_miss"] - 1) < 2e-6 for row in rows_of(folder))
    history = read_csv(folder / "history.csv")
    assert len(history) == sum(row["epochs"] for row in rows_of(folder)) == history.valid_loss.dropna().nunique()
    assert flipjax.open_run(folder).config.axes.rho == (0.5, 1.0)
    cell = load(folder).cells["000"]
    inside = cell.images.inside("test")
    assert cell.images.confusion[:, :, inside].shape == (1, 2, 8, 3, 3)
    assert np.array_equal(cell.images_of("m000", "test").pair, np.repeat(np.arange(4), 2))
    assert len(list(folder.glob("cells/000/weights/m00?.val_loss.safetensors"))) == 2
    assert all((folder / "report" / name).stat().st_size > 0 for name in ("index.html", "summary.csv"))
    said = (folder.parent / "said").read_text()
    assert "epoch 3/3" in said and "flip, rare" in said


def test_few_programs_are_compiled_and_none_twice():
    # The tests before have compiled some of them.
    jax.clear_caches()
    counts = faults.make_run()[2]
    assert counts.total() <= 45, counts
    assert [counts[name] for name in ("_epoch", "_map_selected", "init_state", "_show")] == [1] * 4, counts


# A dry run, and the run itself.
DAEMON = """
import pathlib, runpy, sys
config, folder = sys.argv[1:]
for options in (["--dry_run"], ["--workdir", folder]):
    sys.argv[1:] = ["--config", config, *options]
    try:
        runpy.run_module("flipjax.sweep", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        from jax._src import xla_bridge
        pathlib.Path(folder + ".txt").write_text(f"{end.code} {xla_bridge.backends_are_initialized()}")
"""


def test_killed_then_interrupted_then_continued_gives_the_same_bytes(two_devices, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    # As daemons and cron start it: without any standard stream.
    line = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, "-c", DAEMON, faults.whole_run()[1], folder]
    with subprocess.Popen(line) as process:
        faults.wait_for(folder / "checkpoints/000/1", process)
        process.kill()
    assert (tmp_path / "run.txt").read_text() == "0 False"  # The dry run started no backend.
    assert not (folder / "results.csv").exists()
    with monkeypatch.context() as patch:
        patch.setattr(Bar, "advance", lambda *_, **__: signal.raise_signal(signal.SIGTERM))
        code, text = faults.run(folder)
    assert code == 75 and "continues after epoch" in text and "the same command continues in" in text
    assert faults.run(folder)[0] == 0
    assert faults.same(folder, "results.csv", "history.csv", "report/summary.csv")


def test_a_finished_run_on_a_read_only_disk_has_its_tables(monkeypatch):
    def acquire(self, **_):
        raise OSError(errno.EROFS, "Read-only file system", str(self.folder))

    folder = faults.whole_run()[0]
    monkeypatch.setattr(lock.Lock, "acquire", acquire)
    code, text = faults.run(folder)
    assert code == 0 and "flip, rare" in text
    assert faults.run(folder, "--fresh")[0] == 1


def test_members_that_fail_or_diverge_do_not_stop_the_others(tmp_path, without_page):
    # As many members as elsewhere: the same program.
    code, text = faults.run(
        tmp_path / "run", "--config.axes.rho=(0.5,)", "--config.axes.train.learning_rate=(1e-3,1e30)"
    )
    assert code == 1, text
    first, second = (row["status"] for row in rows_of(tmp_path / "run"))
    assert first in TRAINED and second == "diverged"


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        (["split.n_train=64"], "config.split: n_train 64 at rho 0.5 needs 16 images of each class in usual scenes"),
        (["axes.split.n_train=16,64"], "config.split: n_train 64 at rho 0.5 needs 16 images of each class"),
        (["axes.split.n_test=8,64"], "config.split: config.split.n_val 8, config.split.n_test 64: each must hold"),
        (["split.n_train=0", "axes.train.batch_size=8,64"], "config.train.batch_size: expected at most n_train ("),
    ],
    ids=["training", "of the second program", "test", "a batch of the second program"],
)
def test_a_pool_that_is_too_small_is_refused_before_anything_compiles(changes, cause, tmp_path, monkeypatch):
    faults.whole_run()
    monkeypatch.setattr(Sweep, "train", None)
    code, text = faults.run(tmp_path / "run", *[f"--config.{change}" for change in changes])
    assert code == 2 and cause in text and text.count(cause) == 1
    assert not [*tmp_path.iterdir()]


def test_every_kind_of_method_and_rule_from_the_command_line(tmp_path, monkeypatch):
    methods = "('ce', 'group_dro', 'balanced+bg_swap', 'bg_cutmix+dfr', 'jtt+ema')"
    changes = ["axes.rho=(1.0,)", "axes.seed=(0, 1)", f"axes.method={methods}", "axes.train.schedule=('cosine',)"]
    changes += ["train.selection=('val_loss', 'label_free_risk', 'last')", "train.epochs=2", "train.crop=1.0"]
    changes += ["train.jitter=0.5", "knobs.jtt_epochs=1", "intervene.scenes=none", "intervene.scores=none"]
    options = [f"--config.{change}" for change in changes]
    whole, folder = tmp_path / "whole", tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(page, "build_report", lambda folder: "")
        assert faults.run(whole, *options)[0] == 0
    # As killed amid the second run of JTT: one epoch, then two.
    shutil.copytree(whole / "checkpoints", folder / "checkpoints", ignore=shutil.ignore_patterns("3"))
    shutil.copy(whole / "config.json", folder)
    code, text = faults.run(folder, *options)
    assert code == 0, text
    assert "continues after epoch 2" in text and "bg_cutmix+dfr at rho 1.0: a group has no training image" in text
    assert text.count(": a group has no training image") == 3  # Once for each method that needs all groups.
    rows = rows_of(folder)
    assert len(rows) == 2 * 5 * 3
    assert {row["epochs"] for row in rows if row["method"] == "jtt+ema"} == {3}
    frame = read_csv(folder / "results.csv")
    # The other half of the validation images fitted the head.
    validated = frame[(frame.split == "val") & (frame.group == "all")].groupby("method").n_images.unique()
    assert validated["bg_cutmix+dfr"] == [4] and validated["ce"] == [8]
    assert all(row["best_epoch"] == row["epochs"] for row in rows if row["selection"] == "last")
    history = records_of(read_csv(folder / "history.csv"))
    assert len(history) == 2 * (4 * 2 + 3)
    moved = {row["member"] for row in history if row["group_weight_0"] != 0.25}
    assert moved == {row["member"] for row in rows if row["method"] == "group_dro"}
    assert faults.same(folder, "results.csv", "history.csv", whole=whole)
    said = (folder / "report/summary.md").read_text()
    assert "difference from ce" in said and "difference from val_loss" in said


@pytest.fixture
def tiny_file(tmp_path, monkeypatch):
    """The configuration of the whole run, as tiny.py of this folder."""
    shutil.copy(faults.whole_run()[1], tmp_path / "tiny.py")
    monkeypatch.chdir(tmp_path)


TINY = ("--config", "tiny.py")
MISUSE = {
    "no configuration": ((), "--config"),
    "a variant alone": (("--config", ":pretrained"), "--config: "),
    "an unknown key": ((*TINY, "--config.train.epoch=3"), "nearest is --config.train.epochs"),
    "an unknown axis": ((*TINY, "--config.axes.lr=1"), "nearest is --config.axes.train.learning_rate"),
    "a key without a value": ((*TINY, "--config.train.epochs"), "--config.train.epochs: expected a value"),
    "an unknown option": ((*TINY, "--workdri=x"), "nearest is --workdir"),
    "a word": ((*TINY, "stray"), "stray"),
    "a file that is none": (("--config", "none.py"), "none.py"),
    "keys that do not fit": (
        (*TINY, "--dry_run", "--config.pool.size=20", "--config.model.depth=4"),
        "multiple of 8",
    ),
    "a shard of a fresh run": ((*TINY, "--fresh", "--shard=0/2"), "a run of all members by one process"),
    "a launcher that collects": ((*TINY, "--launcher=local", "--collect"), "neither --shard nor --collect"),
}


@pytest.mark.parametrize(("arguments", "expected"), MISUSE.values(), ids=MISUSE)
def test_usage_errors_name_the_field_and_end_with_2(tiny_file, capsys, arguments, expected):
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert expected in err and err.count("\n") == 1, err


def test_a_loss_of_another_shape_is_refused_before_training(tmp_path, capsys):
    own = faults.CONFIG.replace("sizes | {", 'sizes | {"train.loss": mean, "axes.method": ("mean",), ')
    (tmp_path / "own.py").write_text(f"{own}\ndef mean(logits, *_):\n    return logits.mean()\n")
    assert main(("--config", str(tmp_path / "own.py"), "--dry_run")) == 2
    err = capsys.readouterr().err
    assert "config.train.loss: expected mean to return float32[8]" in err and err.count("\n") == 1, err


def test_at_most_18_frames_lie_between_the_command_line_and_the_network(tmp_path, monkeypatch):
    class Reached(BaseException):
        """Ends the command where nothing of it catches."""

    def reach(*_, **__):
        package = str(pathlib.Path(flipjax.__file__).parent)
        raise Reached(sum(frame.filename.startswith(package) for frame in traceback.extract_stack()))

    config = ["--config", str(faults.whole_run()[1]), "--config.model.width=5"]  # Not traced before.
    monkeypatch.setattr(forward, "apply", reach)
    with pytest.raises(Reached) as reached:
        every_command(["sweep", *config, "--workdir", str(tmp_path / "run")])
    (frames,) = reached.value.args
    assert frames <= 18


def test_dry_run_lists_cells(tmp_path):
    code, text = faults.run(tmp_path / "run", "--dry_run")
    assert code == 0 and text.startswith("program 000: 2 members, rho (0.5, 1), ") and not [*tmp_path.iterdir()]
    assert "unet, width 4, depth 1: " in text and "memory: pool 0.0 MB, shared; states 0.0 MB" in text
