"""A run folder survives damage, a full disk, two processes, strange places, and being split into shards."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys

import faults
import pandas as pd
import pytest

from flipjax import results
from flipjax.config import ConfigError
from flipjax.config.plan import plan
from flipjax.config.program import shard_members
from flipjax.support.frames import read_csv, records_of
from flipjax.support.terminal import Bar
from flipjax.sweep.folder.claim import claim
from flipjax.sweep.folder.workdir import Workdir
from flipjax.sweep.lock import Lock, Shard


@pytest.fixture
def run(tmp_path):
    """Runs the command on a copy of the finished run, or of a part of it."""

    def call(*arguments, folder=tmp_path / "run"):
        return faults.run(folder, *arguments)

    shutil.copytree(faults.whole_run()[0], tmp_path / "run")
    call.folder = tmp_path / "run"
    return call


def test_damage_gives_the_same_bytes_or_a_refusal_in_words(tmp_path):
    faults.trials(tmp_path, int(os.environ.get("FLIPJAX_FAULTS", 5)), seed=3)


def test_the_checkpoint_before_a_damaged_one_continues(run):
    shutil.rmtree(run.folder / "cells")
    data = max((run.folder / "checkpoints/000/3").rglob("*"), key=lambda path: path.stat().st_size)
    data.write_bytes(data.read_bytes()[:-20])
    stored = json.loads((run.folder / "config.json").read_text())
    now = stored["jax"]
    (run.folder / "config.json").write_text(json.dumps(stored | {"jax": "0.4.30", "device": "8 x TPU v4 (tpu)"}))
    differs = f"jax {now} (before 0.4.30), backend cpu (cpu) (before TPU v4 (tpu))"
    for strict in (("--strict_versions",), ()):
        code, text = run(*strict)
        assert differs in text and code == (2 if strict else 0), text
    assert [start["jax"] for start in json.loads((run.folder / "config.json").read_text())["sessions"]] == [now, now]
    assert differs.split(", ")[0] in (run.folder / "report/index.html").read_text()
    assert "checkpoints/000/3: removed a damaged" in text and "continues after epoch 2" in text
    assert faults.same(run.folder)


@pytest.mark.parametrize("name", ["cells/000/results.npz", "cells/000/gallery.npz"])
def test_a_whole_file_of_another_run_is_not_taken_for_this_ones(run, name):
    other = faults.whole_run("--config.axes.seed=(1,)")[0]
    shutil.copy(other / name, run.folder / name)
    code, text = run()
    assert code == 0 and f"{name}: expected" in text and "done again" in text
    assert faults.same(run.folder, "results.csv", name)


def test_a_whole_checkpoint_of_another_run_is_refused_and_stays(run):
    other = faults.whole_run("--config.axes.seed=(1,)")[0]
    shutil.rmtree(run.folder / "cells")
    place = run.folder / "checkpoints/000/3"
    shutil.rmtree(place)
    shutil.copytree(other / "checkpoints/000/3", place)
    code, text = run()
    assert code == 2 and f"{place}: expected a checkpoint of this run, found one of another" in text and place.is_dir()


@pytest.fixture
def held(run):
    """The folder of the run, which another has."""
    other = Lock(run.folder)
    other.acquire()
    yield run.folder
    other.release()


@pytest.mark.parametrize("options", [(), ("--fresh",), ("--shard", "0/2")], ids=["as it is", "fresh", "a shard"])
def test_a_second_process_is_refused(run, held, options):
    before = sorted(held.rglob("*"))
    code, text = run(*options)
    assert code == 2 and f"{held} is in use by another process" in text
    assert sorted(held.rglob("*")) == before


def test_fresh_renames_the_earlier_runs_each_to_a_name_of_its_own(run, tmp_path, monkeypatch):
    (run.folder / "thesis.txt").write_text("mine")
    for _ in range(2):
        code, text = run("--fresh")
        assert code == 0 and "the earlier run is now" in text and faults.same(run.folder)
    assert (tmp_path / "run.old/thesis.txt").read_text() == "mine"
    assert faults.same(tmp_path / "run.old") and faults.same(tmp_path / "run.old2")
    assert not (run.folder / "thesis.txt").exists() and not list(tmp_path.glob("*/.lock*"))
    monkeypatch.chdir(run.folder / "cells")
    assert run("--fresh")[0] == 2 and (run.folder / "cells").is_dir()


def test_a_folder_of_another_run_is_left_alone(run):
    text = run("--config.train.epochs=2")[1]
    assert "config.train.epochs: 3 there, 2 now" in text and "--fresh" in text and faults.same(run.folder)


OTHER_RECORDS = {
    "another table": '{"a": 1}',
    "no configuration": '{"name": "x", "config": {}}',
    "a list": "[]",
    "no JSON": "text",
    "empty": "",
    "none": None,
}


@pytest.mark.parametrize("options", [(), ("--fresh",)], ids=["as it is", "fresh"])
@pytest.mark.parametrize("record", OTHER_RECORDS.values(), ids=OTHER_RECORDS)
def test_a_folder_of_another_program_is_left_alone(run, record, options):
    (run.folder / "config.json").unlink()
    if record is not None:
        (run.folder / "config.json").write_text(record)
    before = {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")}
    code, message = run(*options)
    assert code == 2 and str(run.folder) in message and "Traceback" not in message
    assert {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")} == before


def test_a_folder_in_which_nothing_was_trained_is_taken_over(tmp_path):
    def start(config, lock):
        try:
            claim(lock, config, fresh=False)
            Workdir(tmp_path).record.describe(
                config, {"name": "x", "command": "x"}, {"device": "x", "flipjax": "x"}, strict=True
            )
        finally:
            lock.release()
        return json.loads((tmp_path / "config.json").read_text())["config"]["a"]

    assert start({"a": 1}, Lock(tmp_path)) == 1
    (tmp_path / "checkpoints/000").mkdir(parents=True)
    assert start({"a": 2}, Lock(tmp_path)) == 2
    # Another shard may be about to train.
    other = Shard(0, 2, "0/2").lock(tmp_path)
    other.acquire()
    refused = r"config\.a: 2 there, 3 now\); pass another --workdir=DIR"
    with pytest.raises(ConfigError, match=refused):
        start({"a": 3}, Shard(1, 2, "1/2").lock(tmp_path))
    other.release()
    (tmp_path / "checkpoints/000/file").write_text("")
    with pytest.raises(ConfigError, match=refused):
        start({"a": 3}, Lock(tmp_path))


def test_a_folder_of_a_run_may_lie_elsewhere(run, tmp_path):
    shutil.move(run.folder / "cells", tmp_path / "scratch")
    (run.folder / "cells").symlink_to(tmp_path / "scratch")
    assert run()[0] == 0 and (run.folder / "cells").is_symlink()


PLACES = {
    "a file": "file",
    "below a file": "file/below",
    "a device": "/dev/null",
    "a link to nothing": "dangling",
    "below a loop": "loop/below",
    "a bucket": "gs:/bucket",
    "no text": os.fsdecode(b"\xff"),
}


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_places_where_no_folder_can_be(tmp_path, monkeypatch, place):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    faults.whole_run()
    monkeypatch.chdir(tmp_path)
    code, text = faults.run(place)
    assert code == 2 and "--workdir: expected a folder" in text and text.count("\n") == 2, text
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("name", ["results.csv", "history.csv"])
def test_an_edited_table_changes_no_number_and_is_written_again_by_its_command(run, name):
    whole = results.load(run.folder)
    table = run.folder / name
    table.write_bytes(edited := table.read_bytes().replace(b",0.", b",0.9", 1))
    again = results.load(run.folder)
    pd.testing.assert_frame_equal(again.members, whole.members)
    pd.testing.assert_frame_equal(again.history, whole.history)
    assert table.read_bytes() == edited
    assert run()[0] == 0 and faults.same(run.folder, "results.csv", "history.csv")


@pytest.mark.parametrize("name", ["results.npz", "index.html"])
def test_a_full_disk_is_one_sentence_and_costs_nothing(run, monkeypatch, name):
    def replace(old, new, replace=os.replace):
        if new.name == name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(new))
        replace(old, new)

    shutil.rmtree(run.folder / "cells")
    shutil.rmtree(run.folder / "checkpoints/000/3")
    # The same results would leave the page as it is.
    shutil.rmtree(run.folder / "report")
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace)
        code, text = run()
    assert code == 1 and "No space left on device" in text and "Traceback" not in text
    assert text.splitlines()[-1].endswith("the same command continues")
    assert run()[0] == 0 and faults.same(run.folder)


def test_a_folder_that_is_removed_while_running_is_not_made_again(run, monkeypatch):
    shutil.rmtree(run.folder / "cells")
    shutil.rmtree(run.folder / "checkpoints")
    monkeypatch.setattr(Bar, "advance", lambda *arguments, **options: shutil.rmtree(run.folder))
    code, text = run()
    assert code == 1 and str(run.folder) in text and "removed or moved while" in text
    assert not run.folder.exists()


SIGNALS = {
    "an interrupt at the first import": (signal.SIGINT, "flipjax.sweep", "argparse"),
    "an end while JAX is imported": (signal.SIGTERM, "flipjax sweep", "jax"),
}


@pytest.mark.parametrize(("number", "command", "moment"), SIGNALS.values(), ids=SIGNALS)
def test_a_signal_in_the_first_seconds_ends_as_later_ones_do(tmp_path, number, command, moment):
    # What is imported, and when, Python says itself.
    line = [sys.executable, "-X", "importtime", "-m", *command.split(), "--config=smoke", "--workdir", tmp_path]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        for text in process.stderr:
            if text.split("|")[-1].strip() == moment:
                process.send_signal(number)
                break
        out, err = process.communicate(timeout=60)
    said = [text for text in err.splitlines() if not text.startswith(("import time:", "smoke: members 4"))]
    assert (process.returncode, out, said) == (75, "", ["interrupted; the same command continues"])


def test_shards_in_any_order_give_the_bytes_of_the_whole_run(run):
    shutil.rmtree(run.folder)
    code, text = run("--shard", "2/3")
    assert code == 0 and "shard 2/3: " in text and "members of the run are not done" in text
    assert not (run.folder / "results.csv").exists()
    # Another count from here on: what is done is not done again.
    assert run("--shard", "1/2")[0] == 0
    code, text = run("--collect")
    assert code == 1 and "1 members are not done" in text
    assert "not done, and left out of all means" in text and "failed" not in text
    alone = shard_members(plan(faults.read_config()).programs, index=1, count=2)
    rows = records_of(read_csv(run.folder / "results.csv"))
    assert {row["member"] for row in rows if row["status"] != "not done"} == alone
    code, text = run("--shard", "2/2")
    assert code == 0 and "shard 2/2: " in text and "Flip" in text
    assert faults.same(run.folder, "results.csv", "history.csv", "report/summary.csv")
    assert not list(run.folder.glob("cells/*/parts"))
    assert run()[0] == 0 and faults.same(run.folder)
