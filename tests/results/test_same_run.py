"""A run folder with a file of another run: report, export and load refuse it by name."""

import json
import shutil

import pandas as pd
import pytest

from flipjax.report.__main__ import main as report
from flipjax.results import export, load
from flipjax.results.frames import read_csv, write_csv
from results.tables import RECORDED


def other_config(folder):
    stored = json.loads((folder / "config.json").read_text())
    stored["config"]["pool"]["identity_strength"] = 0.123
    (folder / "config.json").write_text(json.dumps(stored))
    return "decomposition.npz: expected a cell of the configuration"


def other_results(folder):
    table = read_csv(folder / "results.csv")
    table.loc[0, "fg_flip"] = 0.987654
    write_csv(folder / "results.csv", table)
    (folder / "results.sha256").unlink()
    return "results.csv: expected the rows of"


def other_history(folder):
    write_csv(folder / "history.csv", read_csv(folder / "history.csv")[1:])
    return "history.csv: expected the rows of"


def foreign_history(folder):
    (folder / "history.csv").write_text("a,b\n1,2\n")
    return "history.csv: expected the columns member, epoch; found a, b"


def missing(folder):
    (folder / "cells/000/decomposition.npz").unlink()
    return "cells: expected the decompositions of m000, m001"


def damaged(folder):
    (folder / "cells/000/decomposition.npz").write_bytes(b"")
    return "decomposition.npz: damaged"


@pytest.fixture
def folder(tmp_path):
    return shutil.copytree(RECORDED, tmp_path / "run")


@pytest.mark.parametrize("change", [other_config, other_results, other_history, foreign_history, missing, damaged])
def test_what_is_not_of_this_run_is_refused_by_name(change, folder, capsys):
    words = change(folder)
    commands = [(report, [folder]), (report, ["--compare", folder, RECORDED])]
    commands += [(export.main, [folder, "--to", "csv", "--out", folder / "out"])]
    for main, line in commands:
        assert main([str(word) for word in line]) == 2
        error = capsys.readouterr().err
        assert words in error and error.count("\n") == 1
    run = load(folder)
    with pytest.raises(ValueError, match=words):
        assert [run.history, run.images, run.summary]


def test_scores_are_those_of_the_cells_whatever_the_file_says(folder):
    whole = read_csv(folder / "scores.csv")
    (folder / "scores.csv").write_text("member,score\nzzz,1\n")
    pd.testing.assert_frame_equal(load(folder).scores, whole, check_dtype=False)


def test_members_of_a_shard_that_is_not_collected_have_their_intervals(folder):
    place = folder / "cells/000"
    (place / "parts").mkdir()
    (place / "decomposition.npz").rename(place / "parts/abc.npz")
    summary = load(folder).summary
    assert summary["low"].equals(load(RECORDED).summary["low"]) and summary["low"].notna().any()
