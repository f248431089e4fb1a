"""The report of a run folder: its gallery, its figures and its page, on a tiny run made here."""

import contextlib
import dataclasses
import io
import itertools
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from run_folder import CLASSES, make_run

from flipjax.groups import Groups
from flipjax.metrics import Decomposition
from flipjax.report import html
from flipjax.report.__main__ import main
from flipjax.report.front import findings
from flipjax.report.page import build_report, terminal_text
from flipjax.report.pulls import pull_charts
from flipjax.report.run import read_run
from flipjax.results import gallery
from flipjax.results.cells import StoredCell, StoredSplit, load_cell, save_cell
from flipjax.results.frames import read_csv, records_of, write_csv, write_results
from flipjax.results.quantities import RANGES, quantity_of
from flipjax.results.rows import member_rows
from flipjax.results.text import TextTable

SETTINGS = [{"rho": rho, "seed": seed} for rho in (0.5, 0.9) for seed in (0, 1)]
FIGURES = {"flip", "gap", "shares", "risk", "top_decile", "coverage", "deciles", "flip_matrix", "training"}
FIGURES |= {"coverage_scores"}


def test_choose_takes_the_riskiest_and_spreads_the_typical_over_groups():
    confusion = np.zeros((9, 3, 3), int)
    confusion[:, 1, 1] = 10
    confusion[[2, 8], 1, 1] = 0  # No predicted foreground: no flip-risk.
    risk = np.array([6.0, 3.0, 9.0, 3.1, 0.1, 5.0, 1.0, 3.3, 0.0])
    groups = np.array([0, 0, 0, 0, 1, 1, 2, 3, 3])
    indices, kinds = gallery.choose_images(Decomposition(confusion, risk), groups, riskiest=2, typical=5)
    # From the median, 3.1, outwards: images 3, 1, 7, 6, 4; but image 1 is the second of its group.
    assert indices.tolist() == [0, 5, 3, 7, 6, 4, 1]
    assert kinds.tolist() == ["riskiest"] * 2 + ["typical"] * 5
    indices, _ = gallery.choose_images(Decomposition(confusion, risk), groups, riskiest=20, typical=20)
    assert sorted(indices.tolist()) == [0, 1, 3, 4, 5, 6, 7]


def test_choose_takes_the_pairs_whose_label_the_scene_changes_most():
    confusion = np.zeros((6, 3, 3), int)
    confusion[:, 1, 1] = [10, 0, 10, 8, 10, 10]
    confusion[:, 1, 2] = [0, 10, 0, 2, 0, 0]
    pairs = np.array([0, 0, 1, 1, -1, -1])
    chosen = Decomposition(confusion, np.arange(6.0))
    indices, kinds = gallery.choose_images(chosen, np.zeros(6, int), pairs, riskiest=0, typical=0, paired=1)
    assert indices.tolist() == [0, 1]
    assert kinds.tolist() == ["pair 0", "pair 0"]
    indices, _ = gallery.choose_images(chosen, np.zeros(6, int), pairs, riskiest=0, typical=0, paired=5)
    assert indices.tolist() == [0, 1, 2, 3]


def test_gallery_holds_what_the_member_made_of_its_images(tmp_path):
    labels = np.array([[[0, 1], [2, 1]]])
    predicted = np.array([[[0, 1], [1, 0]]])
    images = np.array([[[[0.0, 0.5, 1.0]] * 2] * 2])
    made = gallery.make_gallery(
        images, labels, np.eye(3)[predicted] * 9, indices=[7], groups=[3], kinds=["riskiest"], member="m"
    )
    gallery.save_gallery(tmp_path / "gallery.npz", made)
    read = gallery.load_gallery(tmp_path / "gallery.npz")
    assert read.image[0, 0, 0].tolist() == [0, 128, 255]
    assert read.error_map.tolist() == [[[0, 1], [2, 3]]]
    assert read.prediction.tolist() == predicted.tolist()
    assert read.flip.tolist() == pytest.approx([1 / 3])
    assert (read.group.tolist(), read.kind.tolist(), read.member.tolist()) == ([3], ["riskiest"], ["m"])
    assert [a.dtype.kind for a in read] == ["u", "u", "u", "u", "f", "f", "f", "i", "i", "U", "U"]


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    """A run whose names are hard to show, with its report, and what the command printed."""
    folder, out = tmp_path_factory.mktemp("grid"), io.StringIO()
    classes = ("background", "<img src=x onerror=alert(1)>", "\u202egnp.$x^$" + "a" * 200)
    config = {"name": 'a <grid>"><script>alert(1)</script>', "command": "python -m flipjax.sweep --config x&y"}
    make_run(folder, settings=SETTINGS, classes=classes, config=config)
    with contextlib.redirect_stdout(out):
        assert main([str(folder)]) == 0
    return folder, out.getvalue()


@pytest.fixture
def sketched(monkeypatch):
    """Panels are drawn, and neither laid out nor written, which takes most of the time."""

    def sketch(chart):
        for panel in chart.drawn:
            panel.draw(Figure().subplots())
        return {"svg": b"", "png": b""}

    monkeypatch.setattr(html, "draw_chart", sketch)


def files_of(folder):
    return {path: path.read_bytes() for path in (folder / "report").rglob("*") if path.is_file()}


def test_report_of_a_grid(grid):
    folder, printed = grid
    assert printed.startswith('a <grid>"><script>alert(1)</script>: 4 members: 4 finished.')
    first = files_of(folder)
    names = {path.name for path in first}
    assert names >= {f"{name}.{kind}" for name in FIGURES for kind in ("svg", "png")}
    assert names >= {"summary.csv", "trend.csv", "summary.md", "summary.tex", "index.html", "gallery.png"}
    assert all(first.values()), "an empty file"
    page = (folder / "report/index.html").read_text()
    assert "--config x&amp;y" in page
    assert "Not in this run: scene swap (config.intervene.scenes is none)." in page
    scores = records_of(read_csv(folder / "scores.csv"))
    aurocs = [row["auroc_all"] for row in scores if row["score"] == "mirror" and row["rho"] == 0.9]
    assert re.search(rf">mirror<.*?<td><bdi>{np.mean(aurocs):.3f}", page, re.S)
    # The first screen: of the pair in which the scene changes flip most both images, and the chart of flip.
    front = page[page.index('class="front"') : page.index('id="results"')]
    assert (
        front.count('class="pair"') == 2 and "the stored pair in which" in front and "Flip of common and rare" in front
    )
    # Nothing beside the page, and nothing from elsewhere.
    assert not re.search(r'(src|href)="(?!#|data:)', page)
    ids = re.findall(r'\bid="([^"]*)"', page)
    assert len(ids) == len(set(ids))


def test_hard_names_are_shown_as_text(grid):
    page = (grid[0] / "report/index.html").read_text()
    assert "a &lt;grid&gt;" in page and "<script>alert" not in page and "<img src=x" not in page
    assert "\u202e" not in page and r"\u202egnp.$x^$" in page
    assert CLASSES[1] not in page


def test_report_needs_neither_jax_nor_a_pool_and_gives_the_same_bytes(grid, tmp_path):
    """As on a machine where JAX is not installed."""
    before = files_of(grid[0])
    for name in ("jax", "jaxlib", "flax", "tensorflow_datasets"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise ImportError('not here')\n")
    path = os.pathsep.join([str(tmp_path), str(Path(gallery.__file__).parents[2])])
    command = [sys.executable, "-m", "flipjax.report", str(grid[0])]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert files_of(grid[0]) == before


@pytest.mark.parametrize(
    "settings",
    [
        [{"rho": rho, "seed": 0} for rho in (0.5, 0.9)],
        [{"seed": seed, "method": method} for method in ("ce", "dro") for seed in (0, 1)],
        [{"seed": 0}],
    ],
    ids=["one seed", "no rho", "one member"],
)
def test_report_of_small_runs(tmp_path, settings, sketched):
    make_run(tmp_path, settings=settings)
    build_report(tmp_path)
    figures = {path.name for path in (tmp_path / "report" / "figures").iterdir()}
    assert ("methods.svg" in figures) == any("method" in axes for axes in settings)
    several = len({axes["seed"] for axes in settings}) > 1
    assert ("no setting has two seeds" in (tmp_path / "report" / "index.html").read_text()) != several
    assert (tmp_path / "report" / "comparison.csv").is_file() == any("method" in axes for axes in settings)


@pytest.mark.parametrize("seeds", [1, 2, 4, 8])
def test_shares_and_their_intervals_lie_between_0_and_1(tmp_path, seeds):
    make_run(tmp_path, settings=[{"rho": rho, "seed": seed} for rho in (0.5, 0.99) for seed in range(seeds)])
    run = read_run(tmp_path)
    for row in records_of(run.summary):
        low, high = RANGES[quantity_of(row["quantity"]).unit]
        for name in ("mean", "low", "high"):
            assert np.isnan(row[name]) or low <= row[name] <= high, row


def test_report_of_a_damaged_run_says_what_is_missing(tmp_path, capsys, sketched):
    make_run(tmp_path, settings=SETTINGS, config={"config": {"axes": {"rho": [0.5, 0.9], "seed": [0, 1, 2]}}})
    path = tmp_path / "cells/only/decomposition.npz"
    save_cell(path, dataclasses.replace(load_cell(path), rows=()))  # As of a version that wrote none.
    (tmp_path / "history.csv").unlink()
    lines = (tmp_path / "results.csv").read_text().splitlines(keepends=True)
    (tmp_path / "results.csv").write_text("".join(lines[:-3]) + "half a row")
    assert main([str(tmp_path)]) == 1 and "results.csv: not as the sweep wrote it" in capsys.readouterr().err
    (tmp_path / "results.sha256").unlink()
    assert main([str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    for name in ("history.csv", "incomplete", "planned members"):
        assert name in printed, name
    (tmp_path / "results.csv").write_bytes(b"\xff\xfe\x00")
    assert main([str(tmp_path)]) in (1, 2)
    (tmp_path / "results.csv").write_text("a,b\n1,2\n")
    assert main([str(tmp_path)]) == 1
    error = capsys.readouterr().err.splitlines()
    assert "results.csv" in error[-1]
    assert len(error) == 2


def make_many(folder, groups):
    """Writes a run of three classes in four scenes at two rhos: at .9 every flip goes to the scene's class."""
    names = ("background", "cat", "dog", "cow"), ("land", "sea", "snow", "sand")
    of_image = np.tile(np.arange(groups.count), 2)
    image, y, scene = np.arange(len(of_image)), groups.class_of(of_image), groups.scene_of(of_image)
    usual = np.array([next(d for d in range(3) if s in groups.usual[d]) for s in scene])
    rows, members = [], []
    for rho, seed in itertools.product((0.25, 0.9), (0, 1)):
        confusion = np.zeros((len(image), 4, 4), np.int32)
        confusion[image, 1 + y, 1 + (y + 1) % 3] = confusion[image, 1 + y, 1 + (y + 2) % 3] = 10 * (rho < 0.5)
        confusion[image, 1 + y, 1 + usual] += 30
        counts = Decomposition(confusion, np.full(len(image), 9.0, np.float32))
        axes = {"member": f"m{len(members)}", "rho": rho, "seed": seed, "status": "finished", "selection": "val_loss"}
        members.append(counts)
        for part in ("val", "test"):
            rows += member_rows(axes, counts, of_image, part=part, class_names=names[0], all_groups=groups)
    arrays = (np.stack([getattr(m, name) for m in members])[None] for name in ("confusion", "risk_sum"))
    sets = y + 3 * (image // groups.count)
    part = StoredSplit(*arrays, of_image, sets, np.zeros((len(image), 2), int))
    where = {"val": part, "test": part}, tuple(rows)
    cell = StoredCell(("m0", "m1", "m2", "m3"), ("val_loss",), *names, *where, usual=groups.usual)
    write_results(folder, rows)
    write_csv(folder / "history.csv", [])
    save_cell(folder / "cells" / "000" / "decomposition.npz", cell)


def test_of_many_classes_the_page_says_where_flips_go(tmp_path, sketched):
    make_many(tmp_path, Groups(3, 4, ((0,), (1, 3), (2,))))
    text = build_report(tmp_path)
    summary = (tmp_path / "report/summary.md").read_text()
    assert "pull of the scene" in text and "Cochran's Q" in summary
    by_rho = {row["rho"]: row for row in records_of(read_run(tmp_path).summary) if row["quantity"] == "scene_pull/all"}
    # Of 50 flipped pixels 40 go to the scene's class at .25; two rivals: 1/2 by chance.
    assert (by_rho[0.25]["mean"], by_rho[0.9]["mean"], by_rho[0.9]["interval"]) == (0.8, 1.0, "images")
    over_rho, matrix = pull_charts(read_run(tmp_path))
    assert [panel.text for panel in matrix.panels] == ["rho 0.25: 80% in the frames.", "rho 0.9: 100% in the frames."]
    assert len(over_rho.panels) == 1 and "put 50% of all" in matrix.caption
    tests = read_csv(tmp_path / "report/scenes.csv")
    assert tests[tests["rho"] == 0.9].set_index("class").loc["dog", ["right_land", "right_sea"]].tolist() == [0, 1]


def test_report_where_all_diverged_and_of_a_run_that_has_not_ended(tmp_path, capsys, sketched):
    make_run(tmp_path, settings=SETTINGS[:2], status="diverged")
    assert "2 diverged" in build_report(tmp_path)
    assert "left out of all means" in (tmp_path / "report" / "index.html").read_text()
    (tmp_path / "results.csv").unlink()
    assert main([str(tmp_path)]) == 0
    assert "the run has not ended" in capsys.readouterr().out
    assert "What is missing" in (tmp_path / "report" / "index.html").read_text()


def test_members_that_miss_the_object_are_said_first_and_make_no_sentence(tmp_path):
    settings = [{"rho": rho, "seed": seed} for rho in (0.5, 0.9) for seed in range(5)]
    make_run(tmp_path, settings=settings)
    whole = findings(read_run(tmp_path))
    assert whole[0].startswith("Flip in the rare groups rises") and "5 seeds" in whole[0]
    run = read_run(tmp_path)
    run.records.loc[run.records["member"] == "rho=0.5_seed=0", "fg_miss/all"] = 0.6
    warning, first, *_ = findings(run)
    assert warning.startswith("Warning: 1 of the 10 members") and warning.endswith("rho=0.5_seed=0.")
    # A trend is paired by seed.
    assert first.startswith("Flip in the rare groups rises") and "4 seeds" in first
    # Foreground everywhere would reach the share of the foreground, 105 of 505 pixels.
    run.records["iou_foreground/all"] = 0.2
    assert [line[:40] for line in findings(run)] == ["Warning: All 10 members hardly find the "] and "0.21" in findings(
        run
    )[0]


def test_a_terminal_gets_sentences_first_and_at_most_48_lines():
    table = TextTable(["rho", "flip, common " * 3, "flip"], [["0.5", "1" * 60, "2" * 60]] * 20)
    text = terminal_text(["run"], {"first": table, "second": table}, ["word " * 30] * 20, ["lost"] * 9)
    lines = text.splitlines()
    assert len(lines) <= 48 and lines[2].startswith("word") and lines[8:10] == ["14 more in summary.md", "lost"]
    assert lines.count("first") == 1 and "2" * 60 not in text
    assert lines[-1] == "1 more table on the page and in summary.md"


def test_report_without_results_is_a_usage_error(tmp_path, capsys):
    assert main([str(tmp_path / "nowhere")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "nowhere" in lines[0]


def test_two_runs_are_compared_by_seed(tmp_path, capsys, sketched):
    make_run(tmp_path / "a", settings=SETTINGS, config={"name": "first", "config": {"model": {"width": 8}}})
    make_run(
        tmp_path / "b",
        settings=[axes | {"method": "dro"} for axes in SETTINGS[:3]],
        shift=0.2,
        config={"name": "second", "config": {"model": {"width": 16}}},
    )
    assert main(["--compare", str(tmp_path / "a"), str(tmp_path / "b"), "--out", str(tmp_path / "c")]) == 0
    rows = records_of(read_csv(tmp_path / "c" / "comparison.csv"))
    chosen = {(row["rho"], row["quantity"]): row for row in rows}
    assert (chosen[0.5, "fg_flip/rare"]["n"], chosen[0.9, "fg_flip/rare"]["n"]) == (2, 1)
    assert chosen[0.5, "fg_flip/rare"]["difference"] == pytest.approx(0.2, abs=0.02)
    html = (tmp_path / "c" / "index.html").read_text()
    assert "model.width" in html
    assert "same images" in capsys.readouterr().out
    more = [axes | {"method": method} for method in ("ce", "dro") for axes in SETTINGS]
    make_run(tmp_path / "f", settings=more, config={"name": "third"})
    make_run(tmp_path / "g", settings=[axes | {"method": "ce"} for axes in SETTINGS[1:3]], config={"name": "fourth"})
    assert main(["--compare", str(tmp_path / "g"), str(tmp_path / "f"), "--out", str(tmp_path / "h")]) == 0
    said = capsys.readouterr().out.splitlines()
    compared = [line for line in said if line.startswith(("Compared", "Only", "third against fourth, "))]
    assert compared[:3] == [
        "Compared: method ce rho 0.5 (seeds 1); method ce rho 0.9 (seeds 0).",
        "Only in third: method ce rho 0.5 (seeds 0); method ce rho 0.9 (seeds 1); method dro rho 0.5, method dro "
        "rho 0.9 (seeds 0, 1).",
        "third against fourth, method ce: Flip (rare) +0.00 [+0.00, +0.00] at rho 0.9: cannot be told apart "
        "for this seed alone.",
    ]
    assert any(line.split()[:3] == ["run", "method", "rho"] for line in said)
    make_run(tmp_path / "d", settings=[{"rho": 0.7, "seed": 5}])
    assert main(["--compare", str(tmp_path / "a"), str(tmp_path / "d"), "--out", str(tmp_path / "e")]) == 1
