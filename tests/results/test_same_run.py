"""A run folder with a file of another run: report, export and load refuse it by name."""

import json
import shutil

import pytest

from flipjax.report.__main__ import main as report
from flipjax.results import export, load
from flipjax.results.cells import load_cell, save_cell


def other_seed(folder):
    path = folder / "cells/000/decomposition.npz"
    cell = load_cell(path)
    object.__setattr__(cell, "program", "0" * 64 + "/000")
    save_cell(path, cell)
    return "decomposition.npz: expected a cell of the configuration"


def other_config(folder):
    stored = json.loads((folder / "config.json").read_text())
    stored["config"]["pool"]["identity_strength"] = 0.123
    (folder / "config.json").write_text(json.dumps(stored))
    return "decomposition.npz: expected a cell of the configuration"


def other_results(folder):
    path = folder / "results.csv"
    lines = path.read_text().splitlines()
    place = lines[0].split(",").index("fg_flip")
    cells = lines[1].split(",")
    cells[place] = "0.987654"
    path.write_text("\n".join([lines[0], ",".join(cells), *lines[2:]]) + "\n")
    (folder / "results.sha256").unlink()
    return "results.csv: expected the rows of"


def other_history(folder):
    path = folder / "history.csv"
    lines = path.read_text().splitlines()
    path.write_text(
        "\n".join([lines[0], ",".join([*lines[1].split(",")[:2], *lines[2].split(",")[2:]]), *lines[2:]]) + "\n"
    )
    return "history.csv: expected the rows of"


def damaged(folder):
    (folder / "cells/000/decomposition.npz").write_bytes(b"")
    return "decomposition.npz: damaged"


@pytest.mark.parametrize("change", [other_seed, other_config, other_results, other_history, damaged])
def test_what_is_not_of_this_run_is_refused_by_name(change, recorded, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(recorded, folder)
    words = change(folder)
    commands = [(report, [folder]), (report, ["--compare", recorded, folder])]
    commands += [(export.main, [folder, "--to", "csv", "--out", tmp_path / "out"])]
    for main, line in commands:
        assert main([str(word) for word in line]) == 2
        error = capsys.readouterr().err
        assert words in error and error.count("\n") == 1
    run = load(folder)
    with pytest.raises(ValueError, match=words):
        assert [run.summary, run.images, run.history]
