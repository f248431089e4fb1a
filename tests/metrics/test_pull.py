"""Gaps, the worst group and the pull of scenes on F x S groups: hand-computed, and against loops."""

import numpy as np
import pytest

from flipjax import metrics
from flipjax.groups import Groups
from flipjax.metrics import Decomposition

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


@pytest.mark.parametrize(("groups", "found"), [([12] * 60, r"4 \* y \+ scene in 0..11"), ([0] * 60, "of 2 classes")])
def test_groups_that_do_not_fit_are_refused(case, groups, found):
    counts = case[0].confusion if groups[0] else case[0].confusion[:, :3, :3]
    with pytest.raises(ValueError, match=found):
        metrics.summarize(Decomposition(counts, case[0].risk_sum), groups, all_groups=MANY)
