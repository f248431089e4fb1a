"""The paper's table and figure, on a recorded run against `summarize`."""

import shutil

import numpy as np
import pytest

from flipjax.metrics import summarize
from flipjax.report import paper
from flipjax.report.__main__ import main
from flipjax.report.paper import TITLES
from flipjax.report.run import read_run
from flipjax.results.cells import load_cell
from flipjax.results.estimates import aggregate
from flipjax.results.frames import read_csv
from flipjax.results.rows import member_quantities
from results.tables import RECORDED


def test_the_table_holds_means_of_summaries_of_a_recorded_run(tmp_path, capsys):
    assert main(["--table", "paper", str(RECORDED), "--out", str(tmp_path)]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {f"paper.{k}" for k in ("csv", "md", "tex")} | {
        f"paper_deciles.{k}" for k in ("svg", "png")
    }
    table = read_csv(tmp_path / "paper.csv").set_index(["method", "rho"])
    cell = load_cell(RECORDED / "cells/000/decomposition.npz")
    options = {"class_names": cell.class_names, "all_groups": cell.groups}
    members = read_csv(RECORDED / "results.csv").drop_duplicates("member")
    assert len(table) == 4 and set(table["seeds"]) <= {1, 2}
    for (method, rho), row in table[table["seeds"] == 2].iterrows():
        names = members["member"][(members["method"] == method) & (members["rho"] == rho)]
        groups = cell.parts["test"].groups
        summaries = [summarize(cell.decomposition(name, "test"), groups, **options) for name in names]
        keys = {key: key for key in TITLES}
        keys |= {f"{kind}/{i}": f"{kind}/{cell.class_names[i]}" for kind in ("iou", "gap") for i in (1, 2)}
        for column, key in keys.items():
            assert row[column] == pytest.approx(np.mean([each[key] for each in summaries]), abs=2e-6)


def test_encoders_of_one_run_have_rows_and_curves_of_their_own():
    run = read_run(RECORDED)
    encoders = np.where(run.rows["seed"] == 0, "smp_resnet50", "smp_mit_b2")
    run.rows.insert(1, "model.name", encoders)
    run = run._replace(summary=aggregate(run.rows), records=member_quantities(run.rows))
    assert set(paper.paper_means([run])["encoder"]) == {"resnet50", "mit_b2"}
    (curves,) = paper.rankings([run]).values()
    assert {name: len(curve["flip_by_risk_decile"]) for name, curve in curves.items()} == {"resnet50": 10, "mit_b2": 10}


def test_runs_of_one_setting_or_other_classes_are_refused(tmp_path, capsys):
    shutil.copytree(RECORDED, tmp_path / "twice")
    assert main(["--table", "paper", str(RECORDED), str(tmp_path / "twice"), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert main(["--table", "paper", "--compare", "a", "b"]) == 2
    assert "--table" in error and error.count("\n") == 1 and not (tmp_path / "out").exists()
