"""The studies: pages whose numbers are those of their csv files, what a dry run lists, and the test of equivalence."""

import importlib
import math
import pathlib
import re
import runpy
import shutil
import sys

import numpy as np
import pandas as pd
import pytest

import flipjax

STUDIES = pathlib.Path(__file__).parents[2] / "sweeps" / "studies"
RECORDED = pathlib.Path(__file__).parents[1] / "recorded" / "run"
if not STUDIES.is_dir():
    pytest.skip("the source distribution has no studies", allow_module_level=True)


def load(name):
    """A module of the studies' folder, which is no package."""
    sys.path.insert(0, str(STUDIES))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(STUDIES))


pages = load("pages")
studies = load("studies")
equivalence = load("equivalence")


def page_of(study):
    return (pages.folder_of(study) / "README.md").read_text()


@pytest.mark.parametrize("study", pages.tables.TABLES)
def test_the_tables_of_a_page_are_those_of_its_csv_files(study):
    page = page_of(study)
    assert "<!-- table: " in page
    assert pages.renewed(page, study) == page


@pytest.mark.parametrize("study", pages.tables.TABLES)
def test_every_table_has_a_marker(study):
    page = page_of(study)
    assert len(pages.MARK.findall(page)) == len(re.findall(r"^\| ---", page, re.MULTILINE))


@pytest.mark.parametrize("study", pages.tables.TABLES)
def test_a_sentence_has_no_number_that_no_table_has(study):
    assert pages.strangers(page_of(study)) == []


@pytest.mark.parametrize("study", pages.MADE)
def test_a_page_names_one_commit(study):
    assert set(re.findall(r"commit ([0-9a-f]{7,})", page_of(study))) == {pages.MADE[study].commit}


def test_an_edited_csv_file_changes_its_page(tmp_path, monkeypatch):
    table = pd.read_csv(STUDIES / "mirror/mirror_longer.csv")
    kept = (table["labels"] == "keep") & (table["hflip"] == 0.5)
    table.loc[kept, "fg_flip"] = 0.25
    (tmp_path / "mirror").mkdir()
    table.to_csv(tmp_path / "mirror/mirror_longer.csv", index=False)
    page = page_of("mirror")
    monkeypatch.setattr(pages, "HERE", tmp_path)
    assert "| keep | 0.5 | 0.5 | 0.25 [0.25, 0.25] |" in pages.renewed(page, "mirror")


def test_members_trained_by_sgd_are_compared_with_those_of_adam(tmp_path):
    table = pd.read_csv(STUDIES / "methods_grid/results.csv", dtype={"group": str})
    for name in ("results.csv", "comparison.csv"):
        (tmp_path / name).write_bytes((STUDIES / "methods_grid" / name).read_bytes())
    by_sgd = table[table["method"] == "ce"]
    by_sgd.assign(fg_flip=by_sgd["fg_flip"] - 0.1, status="finished").to_csv(tmp_path / "sgd.csv", index=False)
    last = pages.tables.methods_differences(tmp_path)[-1]
    assert last == "| ce, SGD | -0.10 | -0.10 | -0.10 [-0.10, -0.10] | -0.10 | 5 of 5 |"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A copy of the recorded run, since a study's folder belongs to it alone."""
    return shutil.copytree(RECORDED, tmp_path_factory.mktemp("runs") / "run")


def run_script(script, run, folder, monkeypatch):
    """Runs a copy of a study's script, which writes beside itself, on a run."""
    copied = shutil.copy(STUDIES / script, folder)
    monkeypatch.setattr(sys, "argv", [copied, str(run)])
    runpy.run_path(copied, run_name="__main__")


def test_the_choices_of_methods_are_made_from_a_run(recorded, tmp_path, monkeypatch):
    run_script("methods_grid/choices.py", recorded, tmp_path, monkeypatch)
    table = pd.read_csv(tmp_path / "method_regret.csv")
    assert set(table["quantity"]) == {"worst_group_iou", "fg_flip"}
    assert {"least validation loss", "any method"} <= set(table["selection"])


def test_scenes_are_swapped_for_the_members_of_a_run(recorded, tmp_path, monkeypatch, capsys):
    run_script("scene_swap/study.py", recorded, tmp_path, monkeypatch)
    printed = capsys.readouterr().out
    table = pd.read_csv(recorded / "results.csv")
    chosen = (table["split"] == "test") & (table["selection"] == "val_loss") & (table["group"] == "all")
    flips = table[chosen].groupby("rho")["fg_flip"].mean()
    for rho, flip in flips.items():
        assert re.search(rf"rho {rho}: .*none/all {flip:.3f} ", printed)
    assert "Spearman over 8 members" in printed


def test_scores_of_the_drift_alarm_are_those_of_a_run(recorded):
    drawn = list(runpy.run_path(str(STUDIES / "monitor/study.py"))["members"](recorded))
    run = flipjax.open_run(recorded)
    assert len(drawn) == len(run.members) == 8
    for member, (name, groups, scores) in zip(run.members.itertuples(), drawn, strict=True):
        test = run.member(member.Index).decomposition()
        assert name == f"run rho {member.rho} seed {member.seed}"
        np.testing.assert_array_equal(scores["flip-risk"], test.flip_risk)
        assert groups.shape == scores["scene-swap risk"].shape == test.flip_risk.shape


def test_a_number_of_a_sentence_alone_is_found():
    page = "Flip is 0.85.\n\n| rho | Flip |\n| --- | ---: |\n| 0.95 | 0.84 |\n\n## What was done\n\nAdam at 0.002.\n"
    assert pages.strangers(page) == ["0.85"]


def test_a_study_that_goes_on_adds_to_the_minutes_of_its_commit(tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "HERE", tmp_path)
    monkeypatch.setattr(pages, "MADE", {})
    pages.record("dose", commit="0123abcd", minutes=3)
    pages.record("dose", commit="0123abcd", minutes=4)
    assert pages.read_made()["dose"].minutes == 7
    pages.record("dose", commit="4567abcd", minutes=5)
    assert pages.read_made()["dose"] == pages.MADE["dose"]
    assert (pages.MADE["dose"].commit, pages.MADE["dose"].minutes) == ("4567abcd", 5)


def test_every_folder_is_a_study():
    folders = {path.parent.name for path in STUDIES.glob("*/README.md")}
    assert folders == studies.STUDIES.keys() - studies.ELSEWHERE


def test_the_sweeps_of_studies_are_there():
    assert {run for study in studies.STUDIES.values() for run in study.runs} == studies.SWEEPS.keys()


def test_a_dry_run_lists_studies_hours_and_needs(capsys, monkeypatch):
    make = load("make")
    monkeypatch.setattr(sys, "argv", ["make.py", "all", "--dry_run"])
    make.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["study", *studies.STUDIES, "all"]
    (photos,) = (line for line in lines if line.startswith("photos_grid "))
    assert photos.split() == ["photos_grid", "1.0", "-", "--photos,", "flipjax[pretrained]"]
    assert lines[-1].endswith("hours of two cores; nothing was trained")


def test_a_study_without_what_it_needs_says_so_first(capsys, monkeypatch):
    make = load("make")
    monkeypatch.setattr(sys, "argv", ["make.py", "all"])
    with pytest.raises(SystemExit):
        make.main()
    assert "--photos: photos_grid needs a folder of cut-outs and scenes" in capsys.readouterr().err


def test_two_seeds_are_tested_by_hand():
    """The mean is 0.01, its error 0.01 and the distance from the margin four errors; t of one degree is Cauchy's."""
    test = equivalence.two_one_sided_tests([0.0, 0.02], margin=0.05)
    assert test.p == pytest.approx(0.5 - math.atan(4) / math.pi)
    assert not test.shown
    # tan(0.45 pi) is the 95th percentile.
    half = 0.01 * math.tan(0.45 * math.pi)
    assert (test.low, test.high) == pytest.approx((0.01 - half, 0.01 + half))


def test_four_seeds_are_tested_by_hand():
    """The mean is 0.01 and its error sqrt(0.0006 / 3 / 4); t of three degrees has a closed form."""
    test = equivalence.two_one_sided_tests([0.01, -0.01, 0.02, 0.02], margin=0.05)
    x = 0.04 / math.sqrt(0.0006 / 12) / math.sqrt(3)
    assert test.p == pytest.approx(0.5 - (x / (1 + x * x) + math.atan(x)) / math.pi)
    assert test.shown


@pytest.mark.parametrize("sign", [-1, 1])
def test_equivalence_is_shown_where_the_90_percent_interval_lies_within_the_margin(sign):
    differences = sign * np.array([0.01, 0.03, 0.02, 0.05])
    test = equivalence.two_one_sided_tests(differences, margin=0.05)
    reach = max(abs(test.low), abs(test.high))
    assert equivalence.two_one_sided_tests(differences, margin=reach + 1e-6).shown
    assert not equivalence.two_one_sided_tests(differences, margin=reach - 1e-6).shown


@pytest.mark.parametrize(("differences", "shown"), [([0.01, 0.01], True), ([0.05, 0.05], False)])
def test_seeds_without_spread(differences, shown):
    assert equivalence.two_one_sided_tests(differences, margin=0.05).shown is shown


def test_one_seed_is_refused():
    with pytest.raises(ValueError, match=r"two seeds or more, found shape \(1,\)"):
        equivalence.two_one_sided_tests([0.1], margin=0.05)


def flips_1_rows(source):
    script = runpy.run_path(str(STUDIES.parent / "benchmarks/flips-1/table.py"))
    return script["rows_of"]("U-Net", source, "a command")


def test_the_table_of_flips_1_says_how_many_networks_learnt(tmp_path):
    rows = []
    for seed, status in enumerate(["finished", "stopped", "classes not learnt", "not learnt"]):
        for group in ("all", "common", "rare", "0", "1", "2", "3"):
            row = {"rho": 0.95, "method": "ce", "seed": seed, "group": group, "status": status}
            flip = 0.1 if status == "not learnt" else 0.5
            rows.append(row | {"fg_flip": flip, "fg_correct": 0.4, "iou_foreground": 0.9})
    pd.DataFrame(rows).to_csv(tmp_path / "rows.csv", index=False)
    (row,) = flips_1_rows(tmp_path / "rows.csv").to_dict("records")
    assert (row["form"], row["seeds"], row["learnt"], row["flip_rare"]) == ("2 x 2", 4, 2, 0.5)


def test_the_table_of_flips_1_is_made_of_a_run(recorded):
    table = flips_1_rows(recorded)
    assert table[["rho", "entry", "seeds"]].to_numpy().tolist() == [
        [rho, f"U-Net, {method}", 2] for rho in (0.5, 0.95) for method in ("bg_swap", "ce")
    ]
    last = table.iloc[-1]
    rows = pd.read_csv(recorded / "results.csv").query(
        "split == 'test' and selection == 'val_loss' and group == 'rare'"
    )
    # The other network of these two misses most of the object.
    (flip,) = rows.query("method == 'ce' and rho == 0.95 and fg_miss < 0.5")["fg_flip"]
    assert (last["learnt"], last["flip_rare"]) == (1, pytest.approx(flip))
    assert math.isnan(last["low"]) and math.isnan(last["high"])
