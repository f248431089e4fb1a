"""A run folder as data frames, Parquet, CSV and in trackers; one with a file of another run is refused by name."""

import contextlib
import dataclasses
import importlib.util
import os
import re
import shutil
import sqlite3
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from run_folder import IMAGES, SETTINGS, make_run

import flipjax
from flipjax import results
from flipjax.report.__main__ import main as report
from flipjax.results import export, load
from flipjax.results.arrays import ImageResults, MemberResults
from flipjax.results.run import units, write_images
from flipjax.results.tracking.trackers import tracked_members
from flipjax.support.files import DamagedError
from flipjax.support.frames import read_csv
from flipjax.support.npz import read_arrays, write_arrays
from results.tables import RECORDED


@pytest.fixture(scope="module")
def run():
    return results.load(RECORDED)


@pytest.fixture
def small(tmp_path):
    """The folder of a run of two members."""
    make_run(tmp_path / "small", SETTINGS[:2])
    return tmp_path / "small"


def test_a_run_is_loaded_as_data_frames_with_units(run):
    rows, images = run.results, run.images
    assert [len(table) for table in (rows, run.history, images)] == [8 * 2 * 2 * 7, 8 * 3, 8 * 2 * (24 + 48)]
    assert (images[["image", "object", "pair", "group", "pixels"]].dtypes == np.int64).all()
    # The rows of images and of members are of the same counts.
    chosen = {"member": "m003", "selection": "val_loss", "split": "test"}
    images, rows = (table[(table[list(chosen)] == list(chosen.values())).all(axis=1)] for table in (images, rows))
    (row,) = rows[rows["group"] == "all"].to_dict("records")
    assert np.nanmean(images["flip"]) == pytest.approx(row["flip_image_mean"], abs=1e-6)
    assert (images["pair"].value_counts() == 2).all() and images["pair"].nunique() == 24
    # Repair gives the whole region one class: pixels mend or flip, none is missed anew.
    after = images["repaired_flip"] * images["foreground_pixels"]
    assert after.sum() / images["foreground_pixels"].sum() == pytest.approx(row["repair_flip"], abs=1e-6)
    assert np.isfinite(images["swap_risk"]).any()
    of_images = units(images)
    assert (of_images["flip_risk"], of_images["swap_risk"]) == ("nats", "log-odds")
    assert {name for name in rows if name.startswith(("fg_", "gap_", "worst", "risk_"))} <= set(units(rows))


def test_a_tracker_has_the_axes_epochs_and_test_numbers_of_each_member(run):
    first, *others = tracked_members(run.results, run.history)
    assert len(others) == 7 and first.name == "m000" and {"rho", "seed"} <= first.config.keys() and first.status
    assert [*first.history] == [1, 2, 3]
    assert "valid_loss" in first.history[1]
    assert first.last_epoch == 3
    assert all(key.startswith("test/") and np.isfinite(value) for key, value in first.test.items())


def test_images_as_parquet_hold_what_load_gives(run, folder):
    pytest.importorskip("pyarrow", reason="it is no dependency")
    pd.testing.assert_frame_equal(pd.read_parquet(write_images(load(folder))), run.images, check_dtype=False)


def test_export_to_csv_replaces_no_table_but_its_own(small, tmp_path, capsys):
    line, path = [str(small), "--to", "csv", "--out", str(tmp_path)], tmp_path / "results.csv"
    assert export.main(line) == export.main(line) == 0
    assert len(read_csv(tmp_path / "images.csv")) == 2 * 2 * IMAGES
    path.write_text("mine")
    assert export.main(line) == 2 and path.read_text() == "mine" and str(path) in capsys.readouterr().err


def test_what_the_first_rule_alone_is_asked_is_blank_for_later_ones(run):
    later = run.images["selection"] == "val_flip"
    predicted = run.images["flip_risk"].notna()
    for name in ("swap_risk", "repaired_flip", "grey_fill"):
        assert run.images[name][later].isna().all()
        assert run.images[name][~later & predicted].notna().mean() > 0.9
    assert predicted[later].any()


@pytest.mark.parametrize("files", [[], ["results.csv"], ["results.csv", "history.csv", "config.json"]])
def test_a_folder_that_is_no_run_is_one_line(files, tmp_path, capsys):
    for name in files:
        (tmp_path / name).write_text("a,b\n1,2\n")
    assert export.main([str(tmp_path), "--to", "wandb"]) == 2
    assert re.fullmatch(rf".*{re.escape(str(tmp_path))}.*: expected .*\n", capsys.readouterr().err)


def test_a_tracker_that_is_not_installed_is_named(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert export.main([str(RECORDED), "--to", "wandb"]) == 2 and "wandb" in capsys.readouterr().err


@pytest.mark.parametrize("tracker", ["mlflow", "trackio", "wandb"])
def test_export_to_a_real_tracker_offline(small, tmp_path, tracker):
    pytest.importorskip(tracker, reason="it is no dependency")
    places = {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db", "TRACKIO_DIR": str(tmp_path / "trackio")}
    places |= {"WANDB_MODE": "offline", "WANDB_DIR": str(tmp_path), "WANDB_SILENT": "true"}
    line = [sys.executable, "-m", "flipjax.results.export", str(small), "--to", tracker, "--project", "demo"]
    done = subprocess.run(line, capture_output=True, text=True, cwd=tmp_path, env={**os.environ, **places})
    assert done.returncode == 0, done.stderr
    if tracker == "wandb":
        assert len(list(tmp_path.glob("wandb/offline-run-*/*.wandb"))) == 2
    if tracker == "mlflow":
        query = "select r.name, m.step, m.value from metrics m join runs r using (run_uuid) where m.key = 'valid_loss'"
        with contextlib.closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
            losses = sorted(database.execute(query).fetchall())
        history = load(small).history[["member", "epoch", "valid_loss"]]
        assert losses == sorted(history.itertuples(index=False, name=None))


def edit(name, change):
    """Changes a file of the run as bytes."""
    return lambda folder: (folder / name).write_bytes(change((folder / name).read_bytes()))


CELL = "cells/000/results.npz"
OTHER = {
    "results.npz: expected results of the configuration": edit(
        "config.json", lambda text: text.replace(b'"size": 24', b'"size": 32')
    ),
    "cells: expected the results of 8 members; found 0": lambda folder: (folder / CELL).unlink(),
    "results.npz: damaged": edit(CELL, lambda text: b""),
}
"""Changes of a run, by what is said of them."""


@pytest.fixture
def folder(tmp_path):
    return shutil.copytree(RECORDED, tmp_path / "run")


@pytest.mark.parametrize("words", OTHER)
def test_what_is_not_of_this_run_is_refused_by_name(words, folder, capsys):
    OTHER[words](folder)
    assert report(["--compare", str(folder), str(RECORDED)]) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1
    with pytest.raises(ValueError, match=words):
        load(folder)


@pytest.mark.parametrize("name", ["results.csv", "history.csv", "scores.csv"])
def test_an_edited_table_changes_no_number(run, folder, name):
    (folder / name).write_text("a,b\n1,2\n")
    again = load(folder)
    for table in ("results", "history", "scores"):
        pd.testing.assert_frame_equal(getattr(again, table), getattr(run, table))


def test_members_of_a_shard_that_is_not_collected_have_their_intervals(small):
    whole, place = load(small).summary, small / "cells/only"
    (place / "parts").mkdir()
    (place / "results.npz").rename(place / "parts/abc.npz")
    summary = load(small).summary
    assert summary["low"].equals(whole["low"]) and summary["low"].notna().any()


def test_images_as_parquet_are_those_of_the_results(folder):
    pytest.importorskip("pyarrow", reason="it is no dependency")
    path = write_images(load(folder))
    cell = load(folder).cells["000"]
    images = cell.read_images()
    write_arrays(cell.path, cell.results, dataclasses.replace(images, risk_sum=images.risk_sum * 2))
    whole = load(folder).images
    assert write_images(load(folder)) == path
    pd.testing.assert_frame_equal(pd.read_parquet(path), whole, check_dtype=False)


def test_images_of_earlier_results_are_removed_without_pyarrow(folder, monkeypatch):
    pytest.importorskip("pyarrow", reason="it is no dependency")
    path = write_images(load(folder))
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "pyarrow" else found(name, *rest)
    )
    assert write_images(load(folder)) is None
    assert not path.exists()


NOT_RECORDS = {"nothing": b"", "a brace": b"{", "a list": b"[]", "no JSON": b"\xff"}


@pytest.mark.parametrize("content", NOT_RECORDS.values(), ids=NOT_RECORDS)
def test_a_damaged_record_is_one_sentence_and_costs_no_result(run, folder, content):
    (folder / "config.json").write_bytes(content)
    opened = flipjax.open_run(folder)
    pd.testing.assert_frame_equal(opened.results, run.results)
    with pytest.raises(
        DamagedError, match=r"config\.json: expected the record of a run, found (no JSON|another)"
    ) as error:
        assert opened.config is None
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["report/index.html", "report/summary.csv", "scores.csv"])
def test_a_report_writes_no_file_outside_the_folder(small, tmp_path, without_pictures, name):
    outside = tmp_path / "outside"
    (outside / "figures").mkdir(parents=True)
    for file in ("index.html", "summary.csv", "scores.csv", "figures/flip.svg"):
        (outside / file).write_text("mine")
    link = small / name
    link.parent.mkdir(exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(outside / name.removeprefix("report/"))
    assert report([str(small)]) == 0
    assert {path.read_text() for path in outside.rglob("*") if path.is_file()} == {"mine"}
    assert len([*outside.rglob("*")]) == 5


def test_a_name_of_control_characters_moves_no_cursor(tmp_path, capsys, without_pictures):
    make_run(tmp_path, SETTINGS[:2], config={"name": "run\x1b]0;mine\x07\x1b[2J", "command": "\x1b[2J"})
    assert report([str(tmp_path)]) == 0
    said = "".join(capsys.readouterr())
    assert "\x1b" not in said and "\x07" not in said
    assert "\x1b" not in (tmp_path / "report/index.html").read_text()


HOSTILE = {
    "an attribute of control characters": {"config": {"pool": {"attribute": "\x1b[2Jlight"}}},
    "a number of members in words": {"members": "many"},
    "no number of members": {"members": None},
}


@pytest.mark.parametrize("config", HOSTILE.values(), ids=HOSTILE)
def test_a_page_is_made_whatever_the_record_says(config, tmp_path, capsys, without_pictures):
    make_run(tmp_path, SETTINGS[:2], config=config)
    assert report([str(tmp_path)]) == 0
    said = "".join(capsys.readouterr())
    assert "\x1b" not in said and "Traceback" not in said


def test_a_class_may_be_two_words_with_a_slash(tmp_path, capsys, without_pictures):
    make_run(tmp_path, SETTINGS[:2], classes=("background", "car/truck", "bus"))
    assert report([str(tmp_path)]) == 0
    assert "car/truck" in (tmp_path / "report/index.html").read_text() and "Traceback" not in capsys.readouterr().err


def test_a_page_of_members_that_all_diverged_has_no_number_of_images(tmp_path, capsys, without_pictures):
    make_run(tmp_path, SETTINGS[:2], status="diverged")
    path = tmp_path / "cells/only/results.npz"
    results = read_arrays(path, MemberResults)
    blank = dataclasses.replace(results, values=np.full_like(results.values, np.nan))
    write_arrays(path, blank, read_arrays(path, ImageResults))
    assert report([str(tmp_path)]) == 0
    assert "test images: none" in capsys.readouterr().out
