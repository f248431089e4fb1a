"""Whatever the members of a run did, the run, its comparison with another and an audit end with a page."""

import dataclasses
import itertools
import re
import tempfile
from pathlib import Path

import numpy as np
import pytest
from conftest import draw_panels
from damage import FUZZ
from hypothesis import given, settings
from hypothesis import strategies as st
from run_folder import IMAGES, make_run

import flipjax
from flipjax.audit.audit_files import audit_files
from flipjax.config.groups import Groups
from flipjax.data import from_arrays
from flipjax.metrics import Decomposition
from flipjax.page import charts
from flipjax.report.compare import compare_runs
from flipjax.report.page import build_report
from flipjax.results.arrays import EVALUATED, MemberResults
from flipjax.results.rows import CLASSES_NOT_LEARNT
from flipjax.results.statistics import setting_tables
from flipjax.results.store import BLANK
from flipjax.results.tables import blank_results
from flipjax.support.npz import read_arrays, write_arrays

BEHAVIOURS = ("learns", "guesses", "never the last class", "no flip", "no miss", "all flip", "misses all")
"""What a member makes of the true foreground."""
STATUSES = ("finished", "stopped", "diverged", "diverged at once")
OBJECT = 100
"""Foreground pixels of an image."""


@dataclasses.dataclass(frozen=True)
class Members:
    """The members of a run."""

    classes: int = 2
    scenes: int = 2
    levels: int = 2
    seeds: int = 2
    methods: int = 1
    folds: int = 0
    """Folds of images as they are found, each a cell; 0: one balanced test set."""
    behaviours: tuple[str, ...] = ("learns",)
    """Of the members, in turn."""
    statuses: tuple[str, ...] = ("finished",)
    """Of the members, in turn."""
    failed: bool = False
    """Whether a program failed, whose members have no results."""
    measured: bool = True
    """Whether regions, scores and other scenes were measured."""


def one_or_several(values):
    """One value for all members, or several in turn."""
    value = st.sampled_from(values)
    return st.tuples(value) | st.lists(value, min_size=2, max_size=4).map(tuple)


MEMBERS = st.builds(
    Members,
    classes=st.integers(2, 5),
    scenes=st.integers(2, 5),
    levels=st.integers(1, 2),
    seeds=st.sampled_from([1, 2, 4]),
    methods=st.integers(1, 2),
    folds=st.sampled_from([0, 0, 2]),
    behaviours=one_or_several(BEHAVIOURS),
    statuses=one_or_several(STATUSES),
    failed=st.booleans(),
    measured=st.booleans(),
)


def groups_of(members):
    """Each class with its usual scenes, all of which are usual for a class."""
    usual = []
    for y in range(members.classes):
        usual.append(tuple(range(y, members.scenes, members.classes)) or (y % members.scenes,))
    return Groups(members.classes, members.scenes, tuple(usual))


def confusion_of(behaviour, groups, all_groups, generator):
    """Returns the confusion matrices (n, C, C) of a member that behaves so."""
    count, classes = len(groups), all_groups.classes
    truth = all_groups.class_of(groups)
    rivals = (truth + 1) % classes
    flipped = np.where(np.isin(groups, all_groups.rare), generator.integers(0, 60, count), 0)
    missed = generator.integers(0, 10, count)
    if behaviour == "guesses":
        flipped = np.full(count, OBJECT // 2)
        rivals = generator.integers(0, classes, count)
    if behaviour == "never the last class":
        flipped = np.where(truth == classes - 1, OBJECT - missed, 0)
    if behaviour == "no flip":
        flipped = np.zeros(count, int)
    if behaviour == "no miss":
        missed = np.zeros(count, int)
    if behaviour == "all flip":
        flipped, missed = np.full(count, OBJECT), np.zeros(count, int)
    if behaviour == "misses all":
        flipped, missed = np.zeros(count, int), np.full(count, OBJECT)
    confusion = np.zeros((count, classes + 1, classes + 1), np.int32)
    image = np.arange(count)
    confusion[:, 0, 0] = 400
    confusion[image, 1 + truth, 1 + truth] = OBJECT - missed - flipped
    confusion[image, 1 + truth, 1 + rivals] += flipped.astype(np.int32)
    confusion[image, 1 + truth, 0] = missed
    return confusion


def further_arrays(decompositions, all_groups):
    """Returns arrays of regions and of other scenes, of the images of both parts."""
    generator = np.random.default_rng(1)
    classes = all_groups.classes
    confusion = np.tile(np.stack([each.confusion for each in decompositions]), (1, len(EVALUATED), 1, 1))[None]
    shape = confusion.shape[:3]
    found = confusion[..., 1:, 1:].sum((-2, -1))
    true = confusion[..., 1:, :].sum((-2, -1))
    flips = found - np.trace(confusion[..., 1:, 1:], axis1=-2, axis2=-1)
    members = shape[1]
    return {
        "region_true": np.stack([true // 2, true - true // 2], -1),
        "region_flips": np.stack([flips // 2, flips - flips // 2], -1),
        "region_predicted": np.stack([found // 2, found - found // 2], -1),
        "region_risk": np.stack([found / 4, found / 3], -1),
        "region_shared": found,
        "gaps": generator.normal(size=(*shape, 15)) * found[..., None],
        "trained": np.ones((members, all_groups.count), np.int32),
        "log_odds": generator.normal(size=(*shape[1:], 2 * all_groups.scenes, classes)),
        "center": np.zeros((members, classes)),
        "scene_share": np.full(2 * all_groups.scenes, 1 / (2 * all_groups.scenes)),
    }


def make_members(folder, members):
    """Writes the run folder: a cell, or one a fold."""
    all_groups = groups_of(members)
    generator = np.random.default_rng(0)
    levels = np.linspace(all_groups.independence, 1, members.levels).tolist()
    if members.folds:
        levels = levels[-1:]
    axes = itertools.product(levels, ("ce", "dro", "ema")[: members.methods], range(members.seeds))
    grid = [dict(zip(("rho", "method", "seed"), values, strict=True)) for values in axes]
    statuses = [members.statuses[number % len(members.statuses)] for number in range(len(grid))]
    behaviours = itertools.cycle(members.behaviours)

    def counts(groups, **_):
        confusion = confusion_of(next(behaviours), groups, all_groups, generator)
        predicted = confusion[:, :, 1:].sum((1, 2))
        return Decomposition(confusion, (predicted * generator.uniform(0, 0.69, len(groups))).astype(np.float32))

    def further(decompositions):
        return further_arrays(decompositions, all_groups)

    for fold in range(max(members.folds, 1)):
        settings = grid
        groups = np.arange(IMAGES) % all_groups.count
        if members.folds:
            settings = [{"split.fold": fold, **axes} for axes in grid]
            # As they are found: a fold may have no image of a group.
            groups = generator.integers(0, all_groups.count, IMAGES)
        make_run(
            folder,
            settings,
            classes=("background", *(f"class {y}" for y in range(members.classes))),
            scenes=tuple(f"scene {s}" for s in range(members.scenes)),
            all_groups=all_groups,
            groups=groups,
            counts=counts,
            status=[status.removesuffix(" at once") for status in statuses],
            best_epoch=[0 if status.endswith("at once") else 2 for status in statuses],
            stored=members.measured,
            further=further if members.measured else None,
            cell_name=f"{fold:03}",
        )
    if members.failed:
        alike = read_arrays(folder / "cells/000/results.npz", MemberResults)
        lost = [{**axes, "seed": 9} for axes in alike.settings()[:1]]
        write_arrays(folder / f"cells/900/{BLANK}", blank_results(alike, ["lost"], lost, "failed"))


@pytest.fixture(scope="module")
def drawn():
    """Every panel of a chart is drawn, and no picture is laid out."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(charts, "draw_chart", draw_panels)
        patch.setattr(setting_tables, "MOST_RESAMPLED_MEMBERS", 0)
        yield


CASES = {
    "all diverged": Members(statuses=("diverged",), methods=2),
    "all diverged at once": Members(statuses=("diverged at once",), seeds=1),
    "none learnt, five classes": Members(classes=5, scenes=3, behaviours=("guesses",)),
    "one class never predicted": Members(classes=3, scenes=5, behaviours=("never the last class",)),
    "no flip": Members(classes=3, behaviours=("no flip",)),
    "no miss": Members(behaviours=("no miss",)),
    "no foreground found": Members(classes=4, scenes=4, behaviours=("misses all",)),
    "one seed": Members(seeds=1, methods=2),
    "one level": Members(levels=1, scenes=3),
    "one member": Members(classes=3, levels=1, seeds=1),
    "folds": Members(classes=3, scenes=4, folds=3),
    "a program failed": Members(failed=True),
}


def page_of(folder):
    page = (folder / "index.html").read_text()
    assert page.count("<h1>") == 1
    # No number is shown that is none; what a gallery is sorted by is not shown.
    shown = re.sub(r'data-[a-z]+="nan"', "", page)
    assert [shown[place.start() - 40 : place.end() + 40] for place in re.finditer(r"\bnan\b", shown)] == []


@pytest.mark.parametrize("members", CASES.values(), ids=CASES)
def test_a_run_has_a_page_and_so_has_its_comparison_with_one_that_learnt(drawn, tmp_path, members):
    learnt = dataclasses.replace(members, behaviours=("learns",), statuses=("finished",), failed=False)
    make_members(tmp_path / "run", members)
    make_members(tmp_path / "learnt", learnt)
    assert build_report(tmp_path / "run")
    page_of(tmp_path / "run/report")
    assert compare_runs(tmp_path / "learnt", tmp_path / "run", tmp_path / "compared")
    page_of(tmp_path / "compared")


@given(members=MEMBERS)
@settings(max_examples=FUZZ // 10)
def test_whatever_its_members_did_a_run_has_a_page(drawn, members):
    with tempfile.TemporaryDirectory() as place:
        make_members(Path(place), members)
        assert build_report(Path(place))
        page_of(Path(place, "report"))


def noise_of_three_classes():
    """Photos of noise, eight of each of nine groups."""
    count = 72
    masks = np.zeros((count, 16, 16), bool)
    masks[:, 4:12, 4:12] = True
    return from_arrays(
        np.random.default_rng(0).integers(0, 256, (count, 16, 16, 3), np.uint8),
        masks,
        np.arange(count) % 3,
        np.arange(count) // 3 % 3,
        class_names=("cat", "dog", "cow"),
        scene_names=("land", "sea", "snow"),
    )


def test_of_three_classes_that_are_not_learnt_a_sweep_ends_with_its_page(drawn, tmp_path):
    """One image of each group."""
    changes = {"split.n_train": 18, "split.n_val": 9, "split.n_test": 9, "train.epochs": 1, "train.batch_size": 8}
    changes |= {"model.width": 4, "model.depth": 1, "axes.seed": (0,), "axes.rho": (0.5,)}
    run = flipjax.run("smoke", changes, data=noise_of_three_classes(), workdir=tmp_path / "run")
    assert set(run.members["status"]) == {CLASSES_NOT_LEARNT}
    page_of(run.folder / "report")


def masks_of(behaviour, labels, generator):
    """Returns the masks of a model that behaves so, of labels with classes 1 to C - 1 on background."""
    last = labels.max()
    masks = labels.copy()
    if behaviour == "guesses":
        masks = np.where(labels > 0, generator.integers(1, max(last, 1) + 1, labels.shape), 0)
    if behaviour == "never the last class":
        masks[labels == last] = max(last - 1, 0)
    if behaviour in ("learns", "no miss"):
        masks[::2, :3] = np.where(labels[::2, :3] > 0, 1, 0)
    if behaviour == "all flip":
        masks = np.where(labels > 0, labels % last + 1, 0)
    if behaviour == "misses all":
        masks = np.zeros_like(labels)
    return masks


@pytest.mark.parametrize(("images", "kind"), [(1, "logits"), (12, "masks"), (12, "logits")])
@pytest.mark.parametrize("behaviour", [*BEHAVIOURS, "no foreground"])
def test_whatever_a_model_does_an_audit_has_a_page(drawn, tmp_path, behaviour, images, kind):
    generator = np.random.default_rng(0)
    classes = 4
    labels = np.zeros((images, 8, 8), np.uint8)
    if behaviour != "no foreground":
        labels[:, 2:6, 1:4] = 1 + np.arange(images)[:, None, None] % (classes - 1)
        labels[:, 2:6, 5:7] = 1
    predictions = masks_of(behaviour, labels, generator)
    if kind == "logits":
        predictions = 4 * np.eye(classes, dtype=np.float32)[predictions]
    np.save(tmp_path / "predictions.npy", predictions)
    np.save(tmp_path / "labels.npy", labels)
    rows = [f"{number},{number % 2}\n" for number in range(images)]
    (tmp_path / "groups.csv").write_text("name,group\n" + "".join(rows))
    audit_files(
        tmp_path / "predictions.npy",
        tmp_path / "labels.npy",
        kind=kind,
        class_names=[f"class {y}" for y in range(classes)],
        table=tmp_path / "groups.csv",
        groups="group",
        out=tmp_path / "audit",
    )
    page_of(tmp_path / "audit")
