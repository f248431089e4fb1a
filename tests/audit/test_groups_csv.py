"""Groups of images from a CSV: classes in scenes, names of any kind, and what is refused."""

import numpy as np
import pytest
from audited import audit, refused, rows_of

from flipjax import metrics
from flipjax.config.groups import Groups

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


def options(path, folder, table):
    """Writes a table whose last columns are the groups, and returns the options that name all inputs."""
    (folder / "groups.csv").write_text(table)
    columns = table.partition("\n")[0].removeprefix("name,").removesuffix(",usual")
    yield from (f"--table={folder / 'groups.csv'}", f"--groups={columns}")
    yield from ("--kind=masks", f"--class_names={','.join(CLASSES)}", f"--predictions={path}", f"--labels={path}")


def run(path, folder, table):
    return audit(folder / "out", *options(path, folder, table))["summary"]


ROWS = "name,class,scene\n" + "".join(f"i{k},{CLASSES[CLASS[k]]},{SCENES[SCENE[k]]}\n" for k in range(18))


def with_usual(scenes):
    """Returns the table with the scene that training shows most with each class."""
    header, *rows = ROWS.splitlines()
    lines = [f"{header},usual", *(f"{row},{scenes[row.split(',')[1]]}" for row in rows)]
    return "\n".join(lines) + "\n"


def test_classes_in_scenes_have_gaps_whatever_their_number(masks, tmp_path, capsys):
    path, predictions, labels = masks
    found = run(path, tmp_path, with_usual({"cat": "sea", "dog": "sea", "cow": "home"}))
    all_groups = Groups(3, 3, ((2,), (2,), (1,)), partial=True)
    decomposition = metrics.decompose(predictions, labels, **OPTIONS)
    expected = metrics.summarize(decomposition, 3 * CLASS + SCENE, class_names=CLASSES, all_groups=all_groups)
    for key in ("gap/cat", "gap/mean", "worst_group_iou", "group/rare/fg_flip", "scene_pull"):
        assert found[key] == pytest.approx(expected[key]), key
    assert found["group/cow+sea/iou/cow"] == pytest.approx(expected["group/8/iou/cow"])
    assert -1 <= found["flip_gap/mean"] <= 1
    said = capsys.readouterr().out
    assert "Common, by the column usual: cat in sea, dog in sea, cow in home." in said
    (row,) = (row for row in rows_of(tmp_path / "out/images.csv") if row["name"] == "i4")
    assert (row["class"], row["scene"], row["group"]) == ("dog", "home", "dog+home")


def test_a_class_without_one_most_frequent_scene_is_neither_common_nor_rare(masks, tmp_path, capsys):
    """The images hold each pair twice, but for a cat: its scene is sea, and dogs and cows have no usual one."""
    path, predictions, labels = masks
    found = run(path, tmp_path, ROWS.replace("i0,cat,barn", "i0,cat,sea"))
    scene = np.where(np.arange(18) == 0, 2, SCENE)
    sides = [(CLASS == 0) & chosen for chosen in (scene == 2, scene != 2)]
    flips = [metrics.summarize(metrics.decompose(predictions[s], labels[s], **OPTIONS))["fg_flip"] for s in sides]
    assert found["flip_gap/mean"] == pytest.approx(flips[1] - flips[0])
    assert found["gap/mean"] == found["gap/cat"] and "gap/dog" not in found
    assert found["group/rare/n_images"] == sides[1].sum() and found["group/dog+home/n_images"] == 2
    assert "neither common nor rare: cow, dog" in capsys.readouterr().out
    found = run(path, tmp_path, ROWS)
    assert "gap/mean" not in found and "flip_gap/mean" not in found and found["group/dog in home/n_images"] == 2


def in_cities(cities):
    return "name,city\n" + "".join(f"i{k},{cities[k % 2]}\n" for k in range(18))


def test_any_column_makes_groups(masks, tmp_path):
    path, predictions, labels = masks
    found = run(path, tmp_path, in_cities(["Paris", "Rome/EUR"]))
    assert {row["group"] for row in rows_of(tmp_path / "out/images.csv")} == {"Paris", "Rome_EUR"}
    every = metrics.summarize(metrics.decompose(predictions[::2], labels[::2], **OPTIONS), class_names=CLASSES)
    assert found["group/Paris/iou/cow"] == pytest.approx(every["iou/cow"])
    # Of many groups those that flip most come first.
    found = run(path, tmp_path, "name,site\n" + "".join(f"i{k},site{k}\n" for k in range(18)))
    order = sorted(range(18), key=lambda k: -found[f"group/site{k}/fg_flip"])
    shown = (tmp_path / "out/summary.md").read_text().split("## Groups, those with")[1].split("## The other groups")[0]
    assert {k for k in range(18) if f"site{k} " in shown} == set(order[:10])


MISFITS = [
    pytest.param(ROWS.replace("i4,dog", "i4,ox"), "classes of cat, dog, cow, found others, i4 (ox)", id="class"),
    pytest.param(ROWS.replace("i4,dog", "i4,"), "a class and a scene for each image, found none for i4", id="none"),
    pytest.param(in_cities(["x y", '"x\ny"']), "names that differ in more than spaces", id="names"),
    pytest.param(
        with_usual({"cat": "sea", "dog": "sea", "cow": "home"}).replace("i3,cat,home,sea", "i3,cat,home,home"),
        "expected one usual scene of cat, found home, sea",
        id="usual",
    ),
]


@pytest.mark.parametrize(("groups", "message"), MISFITS)
def test_groups_that_do_not_fit_are_one_line(masks, tmp_path, capsys, groups, message):
    line = refused(capsys, *options(masks[0], tmp_path, groups), f"--out={tmp_path / 'out'}")
    assert message in line


def opposite_signs():
    """Cats of 4 or 324 pixels that flip whole: in group a all 19 small ones, in group b the two large ones of 20."""
    labels = np.zeros((40, 20, 20), int)
    labels[:, 1:3, 1:3] = 1
    labels[[19, 38, 39], 1:19, 1:19] = 1
    flips = np.arange(40) < 19
    flips[38:] = True
    return np.where(flips[:, None, None] & (labels == 1), 2, labels), labels


def too_small_to_print():
    """Cats of 3,600 pixels, of which one flips in each image of group a."""
    labels = np.ones((40, 60, 60), int)
    predictions = labels.copy()
    predictions[:20, 0, 0] = 2
    return predictions, labels


@pytest.mark.parametrize(
    ("images", "margin"),
    [
        pytest.param(opposite_signs, " by 0.001 or more over pixels and over images alike", id="opposite signs"),
        pytest.param(too_small_to_print, " by 0.001 or more", id="0 in print"),
    ],
)
def test_a_significant_difference_that_is_not_told_does_not_make_the_sentence_untrue(images, margin, tmp_path, capsys):
    predictions, labels = images()
    names = [f"{group}{number}" for group in "ab" for number in range(20)]
    np.savez(tmp_path / "in.npz", masks=predictions, labels=labels, names=names)
    inputs = [f"--{field}={tmp_path / 'in.npz'}" for field in ("predictions", "labels")]
    audit(tmp_path / "out", *inputs, "--kind=masks", "--class_names=cat,dog", "--groups=^.")
    said = capsys.readouterr().out
    assert f"No class flips significantly more in one group than in the others{margin} (least q 0.00)." in said
