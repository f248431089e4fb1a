"""A run folder as columns: arrays, Parquet, data frames, CSV and trackers."""

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys

import numpy as np
import pytest

from flipjax import results
from flipjax.results import export
from flipjax.results.frames import read_csv
from flipjax.results.run_data import units, write_images
from results.tables import RECORDED


@pytest.fixture(scope="module")
def run():
    return results.load(RECORDED)


def test_a_run_is_loaded_as_data_frames_with_units(run):
    rows, images = run.members, run.images
    assert [len(table) for table in (rows, run.history, images)] == [8 * 2 * 2 * 7, 8 * 3, 8 * 2 * (24 + 48)]
    assert "8 members, 2 selections, 2 splits" in repr(run) and ".summary" in repr(run)
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
    assert (of_images["flip_risk"], of_images["swap_risk"], of_images["repaired_flip"]) == ("nats", "log-odds", "share")
    assert {name for name in rows if name.startswith(("fg_", "gap_", "worst", "risk_"))} <= set(units(rows))


def test_a_tracker_has_the_axes_epochs_and_test_numbers_of_each_member(run):
    members = list(export.records(run))
    first = members[0]
    assert len(members) == 8 and first.name == "m000" and {"rho", "seed", "status"} <= first.config.keys()
    assert [epoch for epoch, _ in first.history] == [1, 2, 3] and "valid_loss" in first.history[0][1]
    assert all(name.startswith("test/") and np.isfinite(value) for name, value in first.test.items())


def test_images_as_parquet_hold_what_load_gives(run, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.read_table(write_images(shutil.copytree(RECORDED, tmp_path / "run")))
    assert table.column_names == list(run.images)
    for name, values in run.images.items():
        np.testing.assert_array_equal(table[name].to_numpy(), values.to_numpy())
    assert table.schema.field("flip_risk").metadata == {b"unit": b"nats"}


def test_what_the_first_rule_alone_is_asked_is_blank_for_later_ones(run):
    later = run.images["selection"] == "val_flip"
    predicted = run.images["flip_risk"].notna()
    for name in ("swap_risk", "repaired_flip", "grey_fill"):
        assert run.images[name][later].isna().all()
        assert run.images[name][~later & predicted].notna().mean() > 0.9
    assert predicted[later].any()


def test_export_to_csv_replaces_no_table_but_its_own(tmp_path, capsys):
    line = [str(RECORDED), "--to", "csv", "--out", str(tmp_path)]
    path = tmp_path / "members.csv"
    path.write_text("mine")
    assert export.main(line) == 2 and path.read_text() == "mine" and len(list(tmp_path.iterdir())) == 1
    assert f"--out: expected a folder without tables, or those of an export; found {path}" in capsys.readouterr().err
    path.unlink()
    assert export.main(line) == export.main(line) == 0
    assert len(read_csv(tmp_path / "images.csv")) == 8 * 2 * (24 + 48)
    assert {path.name for path in tmp_path.iterdir()} == {f"{name}.csv" for name in export.TABLES} | {"export.sha256"}
    path.write_text(path.read_text() + "mine\n")
    assert export.main(line) == 2 and path.read_text().endswith("mine\n")


def test_a_folder_or_a_tracker_that_is_not_there_is_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    files = {"none": None, "blank": "", "bytes": "\udcff", "other": "a,b\n1,2\n"}
    words = ("results.csv", "expected a table", "expected a table", "the columns of results.csv; found a, b")
    for name, text in files.items():
        (tmp_path / name).mkdir()
        if text is not None:
            (tmp_path / name / "results.csv").write_text(text, errors="surrogateescape")
    cases = [(tmp_path / name, "csv", word) for name, word in zip(files, words, strict=True)]
    for folder, tracker, word in (*cases, (RECORDED, "wandb", "flipjax[export]")):
        assert export.main([str(folder), "--to", tracker]) == 2
        err = capsys.readouterr().err
        assert word in err and err.count("\n") == 1


@pytest.mark.parametrize("tracker", ["mlflow", "trackio", "wandb"])
def test_export_to_a_real_tracker_offline(run, tmp_path, tracker):
    pytest.importorskip(tracker)
    places = {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db", "TRACKIO_DIR": str(tmp_path / "trackio")}
    places |= {"WANDB_MODE": "offline", "WANDB_DIR": str(tmp_path), "WANDB_SILENT": "true"}
    line = [sys.executable, "-m", "flipjax.results.export", str(RECORDED), "--to", tracker, "--project", "demo"]
    done = subprocess.run(line, capture_output=True, text=True, cwd=tmp_path, env={**os.environ, **places})
    assert done.returncode == 0, done.stderr
    if tracker == "wandb":
        assert len(list(tmp_path.glob("wandb/offline-run-*/*.wandb"))) == 8
        return
    stored = {"mlflow": ("mlflow.db", "select name from runs")}
    stored["trackio"] = ("trackio/demo.db", "select distinct run_name from metrics")
    file, names = stored[tracker]
    with contextlib.closing(sqlite3.connect(tmp_path / file)) as database:
        assert sorted(database.execute(names).fetchall()) == [(f"m{index:03d}",) for index in range(8)]
        if tracker == "mlflow":
            query = "select m.value, m.step from metrics m join runs r using (run_uuid) where r.name = 'm000'"
            losses = database.execute(f"{query} and m.key = 'valid_loss' order by m.step").fetchall()
            own = run.history[run.history["member"] == "m000"]
            assert losses == list(zip(own["valid_loss"], own["epoch"], strict=True))
