"""Groups of images from a CSV: classes in scenes, names of any kind, and what is refused."""

import csv
import json

import numpy as np
import pytest

from flipjax import metrics
from flipjax.audit import tables
from flipjax.audit.__main__ import main
from flipjax.groups import Groups, NamedGroups

CLASSES = ("cat", "dog", "cow")
SCENES = ("barn", "home", "sea")
CLASS, SCENE = np.arange(18) % 3, np.arange(18) // 3 % 3
OPTIONS = {"kind": "masks", "num_classes": 4}

pytestmark = pytest.mark.usefixtures("without_pictures")


@pytest.fixture(scope="module")
def masks(tmp_path_factory):
    """18 images of one class each, and where they are stored."""
    generator = np.random.default_rng(0)
    labels = np.zeros((18, 6, 6), int)
    labels[:, 2:, 2:] = (CLASS + 1)[:, None, None]
    predictions = np.where(generator.random(labels.shape) < 0.3, generator.integers(0, 4, labels.shape), labels)
    path = tmp_path_factory.mktemp("masks") / "in.npz"
    np.savez(path, masks=predictions, labels=labels, names=[f"i{k}" for k in range(18)])
    return path, predictions, labels


def run(path, folder, groups, *more, code=0, training=""):
    (folder / "groups.csv").write_text(groups)
    options = [f"--groups={folder / 'groups.csv'}", f"--out={folder / 'out'}", *more]
    if training:
        (folder / "training.csv").write_text(training)
        options.append(f"--training_groups={folder / 'training.csv'}")
    own = ["--kind=masks", f"--class_names={','.join(CLASSES)}", f"--predictions={path}", f"--labels={path}"]
    assert main([*own, *options]) == code
    return json.loads((folder / "out/summary.json").read_text())["summary"] if code == 0 else {}


ROWS = "".join(f"i{k},{CLASSES[CLASS[k]]},{SCENES[SCENE[k]]}\n" for k in range(18))


def test_classes_in_scenes_have_gaps_whatever_their_number(masks, tmp_path, capsys):
    path, predictions, labels = masks
    training = "class,scene,images\ncat,sea,9\ncat,home,4\ndog,sea,5\ncow,home,1\n"
    found = run(path, tmp_path, f"name,class,scene\n{ROWS}", training=training)
    all_groups = Groups(3, 3, ((2,), (2,), (1,)), partial=True)
    decomposition = metrics.decompose(predictions, labels, **OPTIONS)
    expected = metrics.summarize(decomposition, 3 * CLASS + SCENE, class_names=CLASSES, all_groups=all_groups)
    for key in ("gap/cat", "gap/mean", "worst_group_iou", "group/rare/fg_flip", "group/8/iou/cow", "scene_pull"):
        assert found[key] == pytest.approx(expected[key]), key
    said = capsys.readouterr().out
    assert "training.csv: cat in sea, dog in sea, cow in home." in said and "4: dog, home" in said
    with (tmp_path / "out/images.csv").open(newline="") as stream:
        rows = {row["name"]: (row["class"], row["scene"], row["group"]) for row in csv.DictReader(stream)}
    assert rows["i4"] == ("dog", "home", "4")
    # The images themselves hold each pair twice: no scene is the most frequent.
    found = run(path, tmp_path, f"name,class,scene\n{ROWS}")
    assert "gap/cat" not in found and found["group/dog in home/n_images"] == 2
    assert "Groups have no common side: no scene is the most frequent of cat, dog, cow" in capsys.readouterr().out
    found = run(path, tmp_path, f"name,class,scene\n{ROWS.replace('i0,cat,barn', 'i0,cat,sea')}", code=0)
    assert "gap/cat" not in found


def test_any_column_makes_groups(masks, tmp_path):
    path, predictions, labels = masks
    cities = ["Paris", "Rome/EUR"]
    found = run(path, tmp_path, "name,city\n" + "".join(f"i{k},{cities[k % 2]}\n" for k in range(18)))
    options = {"class_names": CLASSES, "all_groups": NamedGroups(("Paris", "Rome_EUR"))}
    metric = metrics.FlipMetric(**OPTIONS, **options)
    metric.update(predictions, labels, np.arange(18) % 2)
    assert found["group/Rome_EUR/fg_flip"] == pytest.approx(metric.compute()["group/Rome_EUR/fg_flip"])
    every = metrics.summarize(metrics.decompose(predictions[::2], labels[::2], **OPTIONS), class_names=CLASSES)
    assert found["group/Paris/iou/cow"] == pytest.approx(every["iou/cow"])
    with (tmp_path / "out/images.csv").open(newline="") as stream:
        assert {row["group"] for row in csv.DictReader(stream)} == {"Paris", "Rome_EUR"}


def test_of_many_groups_those_that_flip_most_come_first(masks, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(tables, "AT_ONCE", 8)
    found = run(masks[0], tmp_path, "name,site\n" + "".join(f"i{k},site{k}\n" for k in range(18)))
    said = capsys.readouterr().out
    order = sorted(range(18), key=lambda k: -found[f"group/site{k}/fg_flip"])
    listed = said.split("Groups, those with the largest shares of flips of 18")[1].split("\n\n")[0]
    assert {k for k in range(18) if f"site{k} " in listed} == set(order[:10])
    assert "The other groups" in (tmp_path / "out/summary.md").read_text()


@pytest.mark.parametrize(
    ("groups", "training", "message"),
    [
        (ROWS.replace("i4,dog", "i4,ox"), "", "expected classes of cat, dog, cow, found others, 1: i4 (ox)"),
        (ROWS, "class,images\ncat,2\n", "training.csv: expected a CSV with the columns class and scene"),
        (ROWS, "class,scene,images\ncat,sea,many\n", "training.csv: expected a CSV with the columns class and scene"),
    ],
)
def test_groups_that_do_not_fit_are_one_line(masks, tmp_path, capsys, groups, training, message):
    run(masks[0], tmp_path, f"name,class,scene\n{groups}", training=training, code=2)
    assert message in capsys.readouterr().err.splitlines()[-1]
