"""Selective prediction against hand-computed cases and slow twins."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flipjax.metrics import selective

ROWS = st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=12)


def columns(rows):
    return np.array([score for score, _ in rows], float), np.array([loss for _, loss in rows], float)


@given(ROWS)
def test_auroc_is_the_share_of_ordered_pairs(rows):
    scores, events = columns(rows)
    pairs = [(a > b) + 0.5 * (a == b) for a in scores[events == 1] for b in scores[events == 0]]
    np.testing.assert_allclose(selective.auroc(scores, events), np.mean(pairs) if pairs else np.nan)


@given(st.permutations(range(8)), st.lists(st.booleans(), min_size=8, max_size=8))
def test_areas_are_the_mean_and_the_trapezoids_of_their_curves(scores, losses):
    losses = np.array(losses, float)
    rates = np.cumsum(losses[np.argsort(scores)]) / np.arange(1, 9)
    coverage = np.arange(1, 9) / 8
    np.testing.assert_allclose(selective.aurc(scores, losses), rates.mean())
    areas = selective.areas(np.array(scores, float)[None], losses)
    np.testing.assert_allclose(areas.augrc, np.trapezoid(rates * coverage, coverage) / (7 / 8))
    best = np.cumsum(np.sort(losses)) / np.arange(1, 9)
    np.testing.assert_allclose(areas.excess_aurc, (rates - best).mean(), atol=1e-12)


@given(ROWS, st.floats(0, 1))
def test_a_threshold_keeps_its_risk_and_no_larger_one_does(rows, risk):
    scores, losses = columns(rows)
    threshold = selective.threshold_at_risk(scores, losses, risk=risk)
    if threshold > -math.inf:
        assert selective.accepted(scores, losses, threshold=threshold)[1] <= risk + 1e-12
    for larger in np.unique(scores[scores > threshold]):
        assert selective.accepted(scores, losses, threshold=larger)[1] > risk - 1e-12


def test_the_order_of_equal_scores_is_nobodys():
    assert selective.aurc([1, 1, 1], [1, 0, 0]) == selective.aurc([1, 1, 1], [0, 0, 1]) == pytest.approx(1 / 3)
    assert selective.auroc([1, 1], [True, False]) == 0.5


def test_images_without_score_have_no_rank():
    assert selective.auroc([0.1, np.nan, 0.9], [False, True, True]) == 1.0
    assert selective.accepted([0.1, np.nan], [0.5, 1.0], threshold=1.0) == (1.0, 0.5)
    assert selective.aurc([np.nan, 1.0], [1, 0]) == 0.0
    assert np.isnan([selective.aurc([np.nan], [1]), *selective.areas(np.ones((1, 1)), np.ones(1)).augrc]).all()
