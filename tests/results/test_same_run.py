"""A run folder with a file of another run: report, export and load refuse it by name."""

import json
import shutil

import pytest

from flipjax.report.__main__ import main as report
from flipjax.results import export, gallery, load
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


def foreign_history(folder):
    (folder / "history.csv").write_text("a,b\n1,2\n")
    return "history.csv: expected the columns member, epoch; found a, b"


def other_gallery(folder):
    path = folder / "cells/000/gallery.npz"
    gallery.save_gallery(path, gallery.load_gallery(path), program="0" * 64 + "/000")
    return "gallery.npz: expected the images of this run"


def missing(folder):
    (folder / "cells/000/decomposition.npz").unlink()
    return "cells: expected the decompositions of m000, m001"


def damaged(folder):
    (folder / "cells/000/decomposition.npz").write_bytes(b"")
    return "decomposition.npz: damaged"


CHANGES = [other_seed, other_config, other_results, other_history, foreign_history, other_gallery, missing, damaged]


@pytest.mark.parametrize("change", CHANGES)
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


def test_scores_of_another_run_are_refused_and_made_again_by_the_report(recorded, tmp_path):
    folder = shutil.copytree(recorded, tmp_path / "run")
    path = folder / "scores.csv"
    whole = path.read_text()
    first, second, *rest = whole.splitlines()
    cells = second.split(",")
    cells[-1] = "0.987654"
    for text in ("\n".join([first, ",".join(cells), *rest]), "member,score\nzzz,1"):
        path.write_text(text + "\n")
        with pytest.raises(ValueError, match=r"scores\.csv: expected the"):
            assert len(load(folder).scores)
        assert export.main([str(folder), "--to", "csv"]) == 2
    assert report([str(folder)]) == 0 and path.read_text() == whole
    assert len(load(folder).scores) == len(load(recorded).scores)


def test_members_of_a_shard_that_is_not_collected_have_their_intervals(recorded, tmp_path):
    folder = shutil.copytree(recorded, tmp_path / "run")
    place = folder / "cells/000"
    (place / "parts").mkdir()
    (place / "decomposition.npz").rename(place / "parts/abc.npz")
    summary = load(folder).summary
    assert summary["low"].equals(load(recorded).summary["low"]) and summary["low"].notna().any()
