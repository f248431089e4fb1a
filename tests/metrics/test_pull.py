"""Gaps, the worst group and the pull of scenes on F x S groups: hand-computed, and against loops."""

import jax
import numpy as np
import pytest

from flipjax import metrics
from flipjax.groups import Groups
from flipjax.metrics import Decomposition
from flipjax.metrics.summary import flip_cube, pull_chance, pull_counts

MANY = Groups(3, 4, ((0,), (1, 3), (2,)))


@pytest.fixture(scope="module")
def case():
    """Five images of each of twelve groups, each of one class."""
    rng = np.random.default_rng(2)
    groups = np.repeat(np.arange(MANY.count), 5)
    confusion = np.zeros((len(groups), 4, 4), np.int64)
    confusion[:, 0] = rng.integers(0, 30, (len(groups), 4))
    confusion[np.arange(len(groups)), 1 + MANY.class_of(groups)] = rng.integers(0, 30, (len(groups), 4))
    return Decomposition(confusion, rng.uniform(0, 5, len(groups))), groups


def pull_of(confusion, groups):
    flips = pulled = 0
    for counts, group in zip(confusion, groups, strict=True):
        y, scene = divmod(int(group), 4)
        for d in range(3):
            if d != y and scene not in MANY.usual[y]:
                flips += counts[1 + y, 1 + d]
                pulled += counts[1 + y, 1 + d] * (scene in MANY.usual[d])
    return pulled / flips


def test_the_pull_of_three_images_by_hand():
    groups = Groups(3, 3)
    counts = np.zeros((4, 4, 4), int)
    counts[0, 1] = (5, 9, 6, 2)  # Class 0 in scene 1: 6 of 8 go to class 1, whose scene it is.
    counts[1, 1] = (0, 9, 1, 3)  # In scene 2: 3 of 4 to class 2.
    counts[2, 2] = (0, 5, 9, 5)  # Class 1 at home: counts nowhere.
    counts[3, 3] = (0, 0, 4, 9)  # Class 2 in scene 0: 0 of 4 to class 0.
    summary = metrics.summarize(Decomposition(counts, np.ones(4)), [1, 2, 4, 6], all_groups=groups)
    assert (summary["scene_pull"], pull_chance(groups)) == (9 / 16, 1 / 2)
    assert flip_cube(counts, [1, 2, 4, 6], all_groups=groups)[0].tolist() == [[0, 0, 0], [0, 6, 2], [0, 1, 3]]
    # Of two classes it is 1, and no quantity.
    assert "scene_pull" not in metrics.summarize(Decomposition(counts[:1, :3, :3], np.ones(1)), [1])
    two = Groups(2, 4, ((0, 1), (2, 3)))
    counts = np.array([[[9, 0, 0], [0, 4, 1], [0, 0, 0]]] * 4 + [[[9, 0, 0], [0, 0, 0], [0, 2, 3]]] * 4)
    flips, pulled = pull_counts(counts, np.arange(8), all_groups=two).T
    assert flips.tolist() == pulled.tolist() == [0, 0, 1, 1, 2, 2, 0, 0] and pull_chance(two) == 1


def test_what_compares_groups_equals_loops_over_them(case):
    decomposition, groups = case
    names = ("background", "a", "b", "c")
    summary = metrics.summarize(decomposition, groups, class_names=names, all_groups=MANY)
    assert summary["scene_pull"] == pytest.approx(pull_of(decomposition.confusion, groups), rel=1e-12)
    iou = {}
    for group in range(MANY.count):
        y = group // 4
        counts = decomposition.confusion[groups == group].sum(0)
        iou[group] = counts[1 + y, 1 + y] / (counts[1 + y].sum() + counts[:, 1 + y].sum() - counts[1 + y, 1 + y])
    gaps = []
    for y, name in enumerate("abc"):
        sides = [[iou[4 * y + s] for s in range(4) if (s in MANY.usual[y]) == common] for common in (True, False)]
        gaps.append(np.mean(sides[0]) - np.mean(sides[1]))
        assert summary[f"gap/{name}"] == pytest.approx(gaps[-1], rel=1e-12)
    assert summary["gap/mean"] == pytest.approx(np.mean(gaps)) and summary["worst_group_iou"] == min(iou.values())
    rare = [s not in MANY.usual[y] for y, s in zip(*divmod(groups, 4), strict=True)]
    counts = decomposition.confusion[rare].sum(0)[1:]
    assert summary["group/rare/fg_flip"] == (counts[:, 1:].sum() - np.trace(counts[:, 1:])) / counts.sum()


def test_resamples_of_the_pull_equal_pulls_of_resamples(case):
    decomposition, groups = case
    options = {"key": jax.random.key(1), "samples": 50, "groups": groups, "all_groups": MANY}
    keys = metrics.bootstrap(decomposition, ["scene_pull", "gap/mean"], **options)
    looped = metrics.bootstrap(decomposition, lambda part: pull_of(part.confusion, groups), **options)
    np.testing.assert_allclose(keys["scene_pull"], looped, rtol=1e-12)
    assert keys["scene_pull"].low < pull_of(decomposition.confusion, groups) < keys["scene_pull"].high


@pytest.mark.parametrize(("groups", "found"), [([12] * 60, r"4 \* y \+ scene in 0..11"), ([0] * 60, "of 2 classes")])
def test_groups_that_do_not_fit_are_refused(case, groups, found):
    counts = case[0].confusion if groups[0] else case[0].confusion[:, :3, :3]
    with pytest.raises(ValueError, match=found):
        metrics.summarize(Decomposition(counts, case[0].risk_sum), groups, all_groups=MANY)
