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


def test_a_run_is_loaded_as_data_frames_with_units(recorded):
    run = results.load(recorded)
    assert [len(table) for table in (run.members, run.history, run.images)] == [8 * 2 * 2 * 7, 8 * 3, 8 * 2 * (24 + 48)]
    assert "8 members, 2 selections, 2 splits" in repr(run) and ".summary" in repr(run)
    # The rows of images and of members are of the same counts.
    here = (run.images["member"] == "m003") & (run.images["selection"] == "val_loss") & (run.images["split"] == "test")
    rows = run.members
    there = (rows["member"] == "m003") & (rows["selection"] == "val_loss") & (rows["split"] == "test")
    (mean,) = rows["flip_image_mean"][there & (rows["group"] == "all")]
    assert np.nanmean(run.images["flip"][here]) == pytest.approx(mean, abs=1e-6)
    assert sorted(np.unique(run.images["pair"][here], return_counts=True)[1]) == [2] * 24
    # Repair gives the whole region one class: pixels mend or flip, none is missed anew.
    repaired = run.images["repaired_flip"][here]
    after = repaired * run.images["foreground_pixels"][here]
    (flipped,) = rows["repair_flip"][there & (rows["group"] == "all")]
    assert after.sum() / run.images["foreground_pixels"][here].sum() == pytest.approx(flipped, abs=1e-6)
    assert np.isfinite(run.images["swap_risk"][here]).any()
    of_images = units(run.images)
    assert (of_images["flip_risk"], of_images["swap_risk"], of_images["repaired_flip"]) == ("nats", "log-odds", "share")
    assert {name for name in rows if name.startswith(("fg_", "gap_", "worst", "risk_"))} <= set(units(rows))
    with pytest.raises(FileNotFoundError, match=r"results\.csv"):
        results.load(recorded.parent)


def test_images_as_parquet_hold_what_load_gives(recorded, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    run = shutil.copytree(recorded, tmp_path / "run")
    table = parquet.read_table(write_images(run))
    images = results.load(run).images
    assert table.column_names == list(images)
    for name, values in images.items():
        np.testing.assert_array_equal(table[name].to_numpy(), values.to_numpy())
    assert table.schema.field("flip_risk").metadata == {b"unit": b"nats"}


def test_what_the_first_rule_alone_is_asked_is_blank_for_later_ones(recorded):
    images = results.load(recorded).images
    later = images["selection"] == "val_flip"
    predicted = ~np.isnan(images["flip_risk"])
    for name in ("swap_risk", "repaired_flip", "grey_fill"):
        assert np.isnan(images[name][later]).all()
        assert np.isfinite(images[name][~later & predicted]).mean() > 0.9
    assert np.isfinite(images["flip_risk"][later]).any()


def test_export_to_csv(recorded, tmp_path, capsys):
    assert export.main([str(recorded), "--to", "csv", "--out", str(tmp_path / "out")]) == 0
    assert len(read_csv(tmp_path / "out/images.csv")) == 8 * 2 * (24 + 48)
    names = {f"{name}.csv" for name in export.TABLES}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names | {"export.sha256"}
    assert export.main([str(tmp_path), "--to", "csv"]) == 2
    assert "results.csv" in capsys.readouterr().err


def test_export_replaces_no_table_but_its_own(recorded, tmp_path, capsys):
    line = [str(recorded), "--to", "csv", "--out", str(tmp_path)]
    path = tmp_path / "members.csv"
    path.write_text("mine")
    assert export.main(line) == 2 and path.read_text() == "mine" and len(list(tmp_path.iterdir())) == 1
    assert f"--out: expected a folder without tables, or those of an export; found {path}" in capsys.readouterr().err
    path.unlink()
    assert export.main(line) == export.main(line) == 0
    path.write_text(path.read_text() + "mine\n")
    assert export.main(line) == 2 and path.read_text().endswith("mine\n")


def test_a_tracker_that_is_not_installed_is_one_line(recorded, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert export.main([str(recorded), "--to", "wandb"]) == 2
    err = capsys.readouterr().err
    assert "flipjax[export]" in err and err.count("\n") == 1


@pytest.mark.parametrize("tracker", ["mlflow", "trackio", "wandb"])
def test_export_to_a_real_tracker_offline(recorded, tmp_path, tracker):
    pytest.importorskip(tracker)
    places = {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db", "TRACKIO_DIR": str(tmp_path / "trackio")}
    places |= {"WANDB_MODE": "offline", "WANDB_DIR": str(tmp_path), "WANDB_SILENT": "true"}
    line = [sys.executable, "-m", "flipjax.results.export", str(recorded), "--to", tracker, "--project", "demo"]
    done = subprocess.run(line, capture_output=True, text=True, cwd=tmp_path, env={**os.environ, **places})
    assert done.returncode == 0, done.stderr
    if tracker == "wandb":
        assert len(list(tmp_path.glob("wandb/offline-run-*/*.wandb"))) == 8
        return
    file, names = {
        "mlflow": ("mlflow.db", "select name from runs"),
        "trackio": ("trackio/demo.db", "select distinct run_name from metrics"),
    }[tracker]
    with contextlib.closing(sqlite3.connect(tmp_path / file)) as database:
        assert sorted(database.execute(names).fetchall()) == [(f"m{index:03d}",) for index in range(8)]
        if tracker == "mlflow":
            query = "select m.value, m.step from metrics m join runs r using (run_uuid) where r.name = 'm000'"
            stored = database.execute(f"{query} and m.key = 'valid_loss' order by m.step").fetchall()
            history = results.load(recorded).history
            chosen = history["member"] == "m000"
            assert stored == list(zip(history["valid_loss"][chosen], history["epoch"][chosen], strict=True))


def test_import_needs_no_matplotlib():
    code = "import sys, flipjax.results; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
