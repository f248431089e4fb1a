"""The report of a run folder: its gallery, its figures and its page, on a tiny run made here."""

import json
import re
from html import unescape
from pathlib import Path

import numpy as np
import pytest

from flipjax import results
from flipjax.metrics import Decomposition
from flipjax.report.__main__ import main
from flipjax.report.page import build
from flipjax.results import gallery

CLASSES, SCENES = ("background", "hopper", "skimmer"), ("land", "water")
GROUPS = np.arange(24) % 4


def decomposition_at(rho, seed):
    generator = np.random.default_rng([seed, int(100 * rho)])
    share = np.clip(np.where(np.isin(GROUPS, (1, 2)), rho - 0.4, 0.1) + generator.normal(0, 0.1, 24), 0, 1)
    flips = np.rint(100 * share).astype(int)
    confusion = np.zeros((24, 3, 3), np.int32)
    image, label = np.arange(24), 1 + GROUPS // 2
    confusion[image, label, label], confusion[image, label, 3 - label] = 100 - flips, flips
    confusion[:, 0, 0], confusion[image, label, 0] = 400, 5
    return Decomposition(confusion, (100 * generator.uniform(0, 0.69, 24)).astype(np.float32))


def fake_gallery(member, decomposition):
    indices, kinds = gallery.choose(decomposition, GROUPS, riskiest=2, typical=2)
    generator = np.random.default_rng(0)
    images, labels = generator.uniform(size=(4, 8, 8, 3)), generator.integers(0, 3, (4, 8, 8))
    logits = generator.normal(size=(4, 8, 8, 3))
    return gallery.make(images, labels, logits, groups=GROUPS[indices], kinds=kinds, member=member)


def make_run(folder: Path, *, settings, status="done", config=None):
    """Writes a run folder with a member per dict of axes in `settings`."""
    rows, found = [], []
    for axes in settings:
        member = {"member": "_".join(f"{k}={v}" for k, v in axes.items()), **axes}
        end = {"status": status, "epochs": 3, "best_epoch": 2, "selection": "val_loss"}
        found.append((member["member"], decomposition_at(axes.get("rho", 0.9), axes["seed"])))
        for part in ("val", "test"):
            rows += results.member_rows(member | end, found[-1][1], GROUPS, part=part, class_names=CLASSES)
    results.write_csv(folder / "results.csv", rows)
    part = results.Part(
        np.stack([d.confusion for _, d in found])[None],
        np.stack([d.risk_sum for _, d in found])[None],
        GROUPS,
        GROUPS * 0 - 1,
        np.zeros((24, 2), int),
    )
    cell = results.StoredCell(
        tuple(name for name, _ in found), ("val_loss",), CLASSES, SCENES, {"val": part, "test": part}
    )
    results.save_cell(folder / "cells" / "only" / "decomposition.npz", cell)
    gallery.save(folder / "cells" / "only" / "gallery.npz", fake_gallery(*found[0]))
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))


def images_of(folder: Path) -> list[str]:
    return [
        unescape(source) for source in re.findall(r'<img src="([^"]+)"', (folder / "report" / "index.html").read_text())
    ]


def test_choose_takes_the_riskiest_and_spreads_the_typical_over_groups():
    confusion = np.zeros((9, 3, 3), int)
    confusion[:, 1, 1] = 10
    confusion[[2, 8], 1, 1] = 0  # No predicted foreground: no flip-risk.
    risk = np.array([6.0, 3.0, 9.0, 3.1, 0.1, 5.0, 1.0, 3.3, 0.0])
    groups = np.array([0, 0, 0, 0, 1, 1, 2, 3, 3])
    indices, kinds = gallery.choose(Decomposition(confusion, risk), groups, riskiest=2, typical=5)
    # From the median, 3.1, outwards: images 3, 1, 7, 6, 4; but image 1 is the second of its group.
    assert indices.tolist() == [0, 5, 3, 7, 6, 4, 1]
    assert kinds.tolist() == ["riskiest"] * 2 + ["typical"] * 5
    indices, _ = gallery.choose(Decomposition(confusion, risk), groups, riskiest=20, typical=20)
    assert sorted(indices.tolist()) == [0, 1, 3, 4, 5, 6, 7]


def test_gallery_holds_what_the_member_made_of_its_images(tmp_path):
    labels = np.array([[[0, 1], [2, 1]]])
    predicted = np.array([[[0, 1], [1, 0]]])
    images = np.array([[[[0.0, 0.5, 1.0]] * 2] * 2])
    made = gallery.make(images, labels, np.eye(3)[predicted] * 9, groups=[3], kinds=["riskiest"], member="m")
    gallery.save(tmp_path / "gallery.npz", made)
    read = gallery.load(tmp_path / "gallery.npz")
    assert read.image[0, 0, 0].tolist() == [0, 128, 255]
    assert read.error_map.tolist() == [[[0, 1], [2, 3]]]
    assert read.prediction.tolist() == predicted.tolist()
    assert read.flip.tolist() == pytest.approx([1 / 3])
    assert (read.group.tolist(), read.kind.tolist(), read.member.tolist()) == ([3], ["riskiest"], ["m"])
    assert [a.dtype.kind for a in read] == ["u", "u", "u", "u", "f", "f", "f", "i", "U", "U"]


def test_report_of_a_grid(tmp_path, capsys):
    settings = [{"rho": rho, "seed": seed} for rho in (0.5, 0.9) for seed in (0, 1)]
    make_run(
        tmp_path, settings=settings, config={"name": "a <grid>", "command": "python -m flipjax.sweep --config x&y"}
    )
    assert main([str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("a <grid>: 4 members: 4 done.")
    assert "Flip in the rare groups rises from 0." in printed
    shown = images_of(tmp_path)
    assert [Path(source).stem for source in shown[:5]] == ["flip", "gap", "shares", "risk", "deciles"]
    assert len(shown) == 6
    for source in shown:
        assert (tmp_path / "report" / source).stat().st_size > 1000
    html = (tmp_path / "report" / "index.html").read_text()
    assert "a &lt;grid&gt;" in html
    assert "--config x&amp;y" in html
    assert not re.search(r'(src|href)="(https?:|/)', html)
    first = {path: path.read_bytes() for path in (tmp_path / "report").rglob("*") if path.is_file()}
    assert {path.name for path in first} >= {
        "summary.csv",
        "trend.csv",
        "summary.md",
        "index.html",
        "flip.png",
        "flip.svg",
    }
    build(tmp_path)
    assert first == {path: path.read_bytes() for path in (tmp_path / "report").rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("settings", "status", "says"),
    [
        (
            [{"rho": rho, "seed": 0} for rho in (0.5, 0.9)],
            "done",
            "One seed, 24 test images; 95% bootstrap interval over the test images",
        ),
        ([{"rho": 0.9, "seed": seed} for seed in (0, 1)], "diverged", "2 diverged. No seed"),
        (
            [{"seed": seed, "method": method} for method in ("ce", "dro") for seed in (0, 1)],
            "done",
            "Means over 2 seeds",
        ),
        ([{"seed": 0}], "done", "1 members: 1 done. One seed"),
    ],
    ids=["one seed", "all diverged", "no rho", "one member"],
)
def test_report_of_small_runs(tmp_path, settings, status, says):
    make_run(tmp_path, settings=settings, status=status)
    assert says in build(tmp_path)
    shown = images_of(tmp_path)
    assert all((tmp_path / "report" / source).is_file() for source in shown)
    assert ("figures/methods.svg" in shown) == any("method" in axes for axes in settings)


def test_report_without_results_is_a_usage_error(tmp_path, capsys):
    assert main([str(tmp_path / "nowhere")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "nowhere: expected a run folder whose results.csv has test rows" in lines[0]
