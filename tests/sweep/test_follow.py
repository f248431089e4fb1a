"""A run that is followed while it trains: by a function, by trackers, and by its page."""

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys

import faults
import numpy as np
import pandas as pd
import pytest

import flipjax
from flipjax.data import POOLS
from flipjax.report import progress
from flipjax.report.page import build_report
from flipjax.results.tracking import follow, trackers
from flipjax.results.tracking.follow import Tracking
from flipjax.results.tracking.trackers import Sender, TrackedMember
from flipjax.support import files
from flipjax.support.terminal import Bar
from flipjax.sweep.__main__ import main
from flipjax.sweep.folder.workdir import Workdir


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch, without_pictures):
    """An empty folder; a pool is drawn once, and the whole run is trained before a test changes anything."""
    faults.whole_run()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(POOLS, "synthetic", faults.DRAWN)


def config():
    """The configuration of the whole run: a program of two members and three epochs."""
    return faults.whole_run()[1]


# By on_epoch.


def test_each_epoch_is_passed_with_its_rows_of_history(without_page):
    epochs = []
    run = flipjax.run(config(), workdir="run", on_epoch=epochs.append)
    assert [(epoch.program, epoch.number) for epoch in epochs] == [("000", 1), ("000", 2), ("000", 3)]
    assert epochs[0].curves["member"].tolist() == ["m000", "m001"]
    rows = pd.concat([epoch.curves for epoch in epochs]).sort_values(["member", "epoch"], ignore_index=True)
    pd.testing.assert_frame_equal(rows, run.history)


def test_an_epoch_has_the_members_that_trained_in_it():
    curves = follow.Curves(
        member=np.array(["a", "b"]),
        epochs=np.array([1, 2]),
        measure=np.array(["train_loss"]),
        curves=np.array([[[0.5], [np.nan]], [[0.4], [0.3]]]),
    )
    assert follow.epoch_of("000", 2, curves).curves.to_dict("records") == [
        {"member": "b", "epoch": 2, "train_loss": 0.3}
    ]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, MemoryError])
def test_an_error_of_the_function_ends_the_run_and_the_same_call_continues(error, without_page):
    numbers = []

    def raise_at_2(epoch):
        numbers.append(epoch.number)
        if epoch.number == 2:
            raise error("pruned")

    with pytest.raises(error, match="pruned"):
        flipjax.run(config(), workdir="run", on_epoch=raise_at_2)
    run = flipjax.run(config(), workdir="run", on_epoch=raise_at_2)
    assert numbers == [1, 2, 3]
    assert faults.same(run.folder, "results.csv", "history.csv")


# By a tracker.

UNKNOWN = {
    "mlflo": "--track: expected one of mlflow, trackio, wandb; the nearest is mlflow; found mlflo\n",
    "tensorboard": "--track: expected one of mlflow, trackio, wandb; found tensorboard\n",
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_an_unknown_tracker_is_refused_with_the_nearest_one(name, tmp_path, capsys):
    assert main(["--config", str(config()), "--workdir", "run", "--track", name]) == 2
    assert capsys.readouterr().err == f"flipjax sweep: {UNKNOWN[name]}" and not list(tmp_path.iterdir())


def test_a_tracker_that_is_not_installed_is_refused_with_its_extra(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert main(["--config", str(config()), "--workdir", "run", "--track", "wandb"]) == 2
    error = capsys.readouterr().err
    assert "wandb" in error and "'flipjax[export]'" in error and error.count("\n") == 1 and not list(tmp_path.iterdir())


class Lines:
    """A tracker of lists, which can fail."""

    def __init__(self, *, most=10**6):
        """It raises an error at the row after `most` rows."""
        self.most = most
        self.opened = []
        self.rows = []
        self.ended = []

    def open(self, member, identity):
        """Begins or continues a run."""
        self.opened.append((member.name, identity))
        return LinesRun(self, member.name, f"run of {member.name}")


class LinesRun:
    """A run of `Lines`."""

    def __init__(self, lines, member, identity):
        """Takes the tracker, the member and the identity."""
        self.lines = lines
        self.member = member
        self.identity = identity

    def log(self, measures, *, step):
        """Takes a row, or fails."""
        if len(self.lines.rows) == self.lines.most:
            raise ConnectionError("no network")
        self.lines.rows.append((self.member, step, measures["valid_loss"]))

    def log_results(self, member):
        """Takes the status."""
        self.lines.rows.append((self.member, member.status, member.test["test/fg_flip"]))

    def end(self):
        """Ends the run."""
        self.lines.ended.append(self.member)


def track(lines, monkeypatch):
    """Lets `--track mlflow` send to lines."""
    monkeypatch.setattr(trackers, "find_tracker", lambda name, **_: lines)


def rows_of(folder):
    """What a tracker is to have of a finished run."""
    run = flipjax.open_run(folder)
    rows = list(run.history[["member", "epoch", "valid_loss"]].itertuples(index=False, name=None))
    test = run.results.query("split == 'test' and group == 'all'")
    return sorted([*rows, *test[["member", "status", "fg_flip"]].itertuples(index=False, name=None)], key=str)


def test_an_interrupted_run_that_goes_on_sends_each_row_once_to_the_run_of_its_member(tmp_path, monkeypatch):
    first, second = Lines(), Lines()
    with monkeypatch.context() as patch:
        track(first, patch)
        patch.setattr(Bar, "advance", lambda *_, **__: signal.raise_signal(signal.SIGTERM))
        assert faults.run(tmp_path / "run", "--track", "mlflow")[0] == 75
    assert first.opened == [("m000", ""), ("m001", "")] and {row[1] for row in first.rows} == {1}
    assert sorted(first.ended) == ["m000", "m001"]
    track(second, monkeypatch)
    assert faults.run(tmp_path / "run", "--track", "mlflow")[0] == 0
    assert second.opened == [("m000", "run of m000"), ("m001", "run of m001")]
    assert sorted([*first.rows, *second.rows], key=str) == rows_of(tmp_path / "run")
    assert sorted(second.ended) == ["m000", "m001"]
    assert faults.same(tmp_path / "run", "results.csv", "history.csv")


def test_a_tracker_that_fails_costs_a_line_and_the_same_command_sends_what_it_lacks(tmp_path, monkeypatch):
    broken, whole = Lines(most=3), Lines()
    with monkeypatch.context() as patch:
        track(broken, patch)
        code, text = faults.run(tmp_path / "run", "--track", "mlflow")
    assert code == 0 and text.count("mlflow follows the run no longer (no network); the run goes on") == 1
    assert faults.same(tmp_path / "run", "results.csv", "history.csv", "report/summary.csv")
    track(whole, monkeypatch)
    assert faults.run(tmp_path / "run", "--track", "mlflow")[0] == 0
    assert set(broken.rows + whole.rows) == set(rows_of(tmp_path / "run"))


def test_a_tracker_that_hangs_does_not_keep_the_process(tmp_path, monkeypatch, capsys):
    class Hanging(Lines):
        def open(self, member, identity):
            follow.threading.Event().wait(3600)

    monkeypatch.setattr(follow, "SECONDS_TO_SEND", 0.1)
    tracking = Tracking("mlflow", Hanging(), tmp_path)
    tracking.finish(flipjax.open_run(faults.whole_run()[0]).cells["000"].results)
    tracking.close()
    assert capsys.readouterr().err == "mlflow has not taken all rows within 0 s; the same command sends the others\n"


def test_shards_send_their_own_members_and_no_row_twice(tmp_path, monkeypatch):
    lines = Lines()
    track(lines, monkeypatch)
    for shard in ("0/2", "1/2"):
        assert faults.run(tmp_path / "run", "--shard", shard, "--track", "mlflow")[0] == 0
    assert faults.run(tmp_path / "run", "--collect", "--track", "mlflow")[0] == 0
    assert sorted(lines.opened) == [("m000", ""), ("m001", "")]
    assert sorted(lines.rows, key=str) == rows_of(tmp_path / "run")


def test_what_a_tracker_is_writing_stays_when_a_run_concludes(tmp_path):
    workdir = Workdir(tmp_path)
    # A thread holds the file of a member while the run removes what killed processes left.
    with files.replacing(workdir.tracked / "mlflow/m000.json") as stream:
        stream.write(b"{}")
        stream.flush()
        (tmp_path / ".results.csv.tmp").touch()
        workdir.remove_partial()
    assert (tmp_path / "tracked/mlflow/m000.json").read_bytes() == b"{}"
    assert not (tmp_path / ".results.csv.tmp").exists()


def test_a_record_of_what_was_sent_that_is_damaged_is_named(tmp_path):
    (tmp_path / "m000.json").write_text("{")
    with pytest.raises(ValueError, match=r"m000\.json: damaged"):
        Sender(Lines(), tmp_path).send([TrackedMember("m000", {}, {1: {"valid_loss": 0.5}})])


# Interrupted after each epoch of the first start, and continued; or run once.
FOLLOWED = """
import signal, sys
from flipjax.page import charts
from flipjax.support.terminal import Bar
from flipjax.sweep.__main__ import main

starts, *line = sys.argv[1:]
charts.draw_chart = lambda chart: {"svg": b""}
advance = Bar.advance
if starts == "2":
    Bar.advance = lambda *_, **__: signal.raise_signal(signal.SIGTERM)
    assert main(line) == 75
    Bar.advance = advance
sys.exit(main(line))
"""


def followed(folder, tracker, *, starts, **variables):
    """What a run says in a process of its own that a tracker follows, and the losses that its history has."""
    places = {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db", "TRACKIO_DIR": str(folder / "trackio")}
    line = ["--config", str(config()), "--workdir", "run", "--track", tracker]
    line = [sys.executable, "-c", FOLLOWED, str(starts), *line]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    environment |= places | {"WANDB_DIR": str(folder)} | variables
    done = subprocess.run(line, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert faults.same(folder / "run", "results.csv", "history.csv")
    # The tracker's own lines are not among the run's.
    assert done.stdout.startswith("run: 2 members"), done.stdout
    return done.stderr


def losses_of(folder):
    """The member, the epoch and the validation loss of each row of history.csv."""
    return sorted(
        flipjax.open_run(folder).history[["member", "epoch", "valid_loss"]].itertuples(index=False, name=None)
    )


def rows_in(path, query):
    """The rows of a database, sorted."""
    with contextlib.closing(sqlite3.connect(path)) as database:
        return sorted(database.execute(query).fetchall())


def test_mlflow_follows_a_run_that_is_interrupted_and_goes_on(tmp_path):
    pytest.importorskip("mlflow", reason="it is no dependency")
    assert "follows the run no longer" not in followed(tmp_path, "mlflow", starts=2)
    query = "select r.name, m.step, m.value from metrics m join runs r using (run_uuid) where m.key = 'valid_loss'"
    assert rows_in(tmp_path / "mlflow.db", query) == losses_of(tmp_path / "run")
    ended = [("m000", "FINISHED"), ("m001", "FINISHED")]
    assert rows_in(tmp_path / "mlflow.db", "select name, status from runs") == ended


def test_trackio_follows_a_run_that_is_interrupted_and_goes_on(tmp_path):
    pytest.importorskip("trackio", reason="it is no dependency")
    assert "follows the run no longer" not in followed(tmp_path, "trackio", starts=2)
    database = tmp_path / "trackio/run.db"
    rows = [(name, step, json.loads(text)) for name, step, text in rows_in(database, METRICS)]
    losses = [(name, step, row["valid_loss"]) for name, step, row in rows if "valid_loss" in row]
    assert losses == losses_of(tmp_path / "run")
    assert [(name, step) for name, step, row in rows if "test/fg_flip" in row] == [("m000", 3), ("m001", 3)]
    configs = [json.loads(text) for (text,) in rows_in(database, "select config from configs")]
    assert sorted(config["rho"] for config in configs) == [0.5, 1.0] and all(config["status"] for config in configs)


METRICS = "select run_name, step, metrics from metrics"
"""The rows of Trackio's members."""


def test_wandb_follows_a_run_that_is_interrupted_and_goes_on(tmp_path):
    pytest.importorskip("wandb", reason="it is no dependency")
    assert "follows the run no longer" not in followed(tmp_path, "wandb", starts=2, WANDB_MODE="offline")
    records = [json.loads(path.read_text()) for path in (tmp_path / "run/tracked/wandb").iterdir()]
    # Offline each start of a run has a file, which the server joins by the id of the run.
    files = sorted(path.stem.removeprefix("run-") for path in tmp_path.glob("wandb/offline-run-*/*.wandb"))
    assert files == sorted(2 * [record["run"] for record in records])


def test_wandb_without_a_key_costs_a_line(tmp_path):
    pytest.importorskip("wandb", reason="it is no dependency")
    said = followed(tmp_path, "wandb", starts=1, HOME=str(tmp_path))
    assert said.count("wandb follows the run no longer (wandb: expected a key") == 1


# By its page.


@pytest.fixture
def two(tmp_path):
    """The configuration of two programs of two members."""
    path = tmp_path / "two.py"
    path.write_text(
        faults.CONFIG.replace('{"axes.rho": (0.5, 1.0)}', '{"axes.rho": (0.5, 1.0), "axes.model.depth": (1, 2)}')
    )
    return path


PAGE = "report/index.html"


def test_the_page_exists_from_the_first_finished_program_on_and_shows_the_curves_so_far(two, tmp_path, monkeypatch):
    monkeypatch.setattr(progress, "SHARE_OF_TIME", 1e6)
    folder, pages = tmp_path / "run", {}

    def read(epoch):
        if (folder / PAGE).exists():
            pages[epoch.program, epoch.number] = (folder / PAGE).read_text()
        if (epoch.program, epoch.number) == ("001", 2):
            raise InterruptedError

    with pytest.raises(InterruptedError):
        flipjax.run(two, workdir=folder, on_epoch=read)
    assert list(pages) == [("001", 1), ("001", 2)]
    for page in pages.values():
        assert "1 of 2 programs finished; members below are still training." in page
        assert "m002" in page and "The latest epoch of each member" in page
        # At the top.
        assert page.partition('<main id="content">')[2].lstrip().startswith('<section aria-labelledby="progress">')
    assert 'alt="' in pages["001", 2].partition("</section>")[0]  # Curves need two epochs.
    assert sorted(path.name for path in (folder / "report").iterdir()) == ["index.html"]
    # Continued: the page is there again with the first epoch, and in the end it is that of a run without any of this.
    (folder / PAGE).unlink()
    run = flipjax.run(two, workdir=folder, on_epoch=read)
    assert "1 of 2 programs finished" in pages["001", 3]
    last = (folder / PAGE).read_text()
    assert "programs finished" not in last
    shutil.rmtree(folder / "report")
    build_report(run.folder)
    assert (folder / PAGE).read_text() == last


def test_the_page_between_programs_says_that_the_others_are_to_be_trained(two, tmp_path, monkeypatch):
    # Too little time to draw curves.
    monkeypatch.setattr(progress, "SHARE_OF_TIME", 1e-9)
    pages = []
    flipjax.run(two, workdir="run", on_epoch=lambda epoch: pages.append(page_or_none(tmp_path / "run")))
    assert pages[:3] == [None] * 3
    assert "1 of 2 programs finished; the others are still to be trained." in pages[3]


def page_or_none(folder):
    """The page of a run folder, if it has one."""
    if not (folder / PAGE).exists():
        return None
    return (folder / PAGE).read_text()


def test_a_page_that_cannot_be_drawn_in_between_costs_a_line(two, tmp_path, monkeypatch, capsys):
    def fail(*_, **__):
        raise RuntimeError("no font")

    with monkeypatch.context() as patch:
        patch.setattr(progress, "make_document", fail)
        run = flipjax.run(two, workdir="run")
    line = "report/index.html is not drawn before the end (no font); the run goes on"
    assert capsys.readouterr().err.count(line) == 1
    assert (run.folder / PAGE).exists() and len(run.members) == 4


def test_shards_draw_no_page_before_the_last_collects(two, tmp_path):
    line = ["--config", str(two), "--workdir", "run"]
    assert main([*line, "--shard", "0/2"]) == 0
    assert not (tmp_path / "run/report").exists()
    assert main([*line, "--shard", "1/2"]) == 0
    assert (tmp_path / "run" / PAGE).exists()
