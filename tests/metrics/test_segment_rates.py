"""Rates of segments and how well scores rank them, by hand and against slow twins."""

import jax
import numpy as np
import pandas as pd
import pytest

from flipjax import metrics


def test_segment_flips_and_intervals_by_hand():
    truth = np.array([[[1, 1, 2, 2]], [[1, 1, 2, 2]], [[1, 1, 3, 3]]])
    prediction = np.array([[[2, 2, 2, 2]], [[1, 1, 0, 0]], [[3, 3, 3, 3]]])
    table = metrics.segments(prediction, truth, kind="masks", num_classes=5, min_pixels=1)
    rates = metrics.segment_flips(
        table, key=jax.random.key(0), samples=400, class_names=["b", "cat", "dog", "cow", "ox"]
    )
    assert rates.index.tolist() == ["cat", "dog", "cow", "all"]
    assert rates["seg_flip"].tolist() == [2 / 3, 0, 0, 2 / 6]
    assert rates["flip_of_found"].tolist() == [2 / 3, 0, 0, 2 / 5]
    assert rates.loc["cat", "bleeding"] == 1 and np.isnan(rates.loc["dog", "bleeding"])
    assert rates["matched"].tolist() == [1, 0, 0, 1] and np.isnan(rates.loc["cow", "strict_flip"])
    assert rates.loc["cat", ["seg_flip_low", "seg_flip_high"]].tolist() == [0, 1]
    assert rates.loc["cow", ["seg_flip_low", "seg_flip_high"]].tolist() == [0, 0]
    counts = metrics.segment_confusion(table, num_classes=4)
    assert counts.tolist() == [[0, 0, 0, 0], [0, 1, 1, 1], [1, 0, 1, 0], [0, 0, 0, 1]]
    empty = metrics.segments(truth, truth, kind="masks", num_classes=5)
    assert np.isnan(metrics.segment_flips(empty, key=jax.random.key(0))["seg_flip"]).all()


def test_the_bootstrap_is_over_images():
    """A class flips in all its segments of one image of two: every resample has 0, 1/2 or 1 of it."""
    rng = np.random.default_rng(0)
    truth = np.ones((40, 1, 3), int)
    prediction = np.where(np.arange(40)[:, None, None] < 10, 2, truth)
    table = metrics.segments(prediction, truth, kind="masks", min_pixels=1)
    rates = metrics.segment_flips(table, key=jax.random.key(1), samples=4000)
    draws = rng.binomial(40, 0.25, 4000) / 40
    low, high = np.percentile(draws, [2.5, 97.5])
    assert rates.loc["1", "seg_flip"] == 0.25
    np.testing.assert_allclose(rates.loc["1", ["seg_flip_low", "seg_flip_high"]].tolist(), [low, high], atol=0.026)


def test_scores_are_judged_within_strata_of_size():
    # Small segments are wrong and uncertain; within a stratum the score is no better than chance.
    risk, wrong = [0.8, 0.9, 0.9, 0.8, 0.1, 0.2, 0.2, 0.1], [1, 1, 0, 1, 0, 0, 1, 0]
    table = pd.DataFrame({"flip_risk": risk, "right": 1 - np.array(wrong), "pixels": [70] * 4 + [700] * 4})
    table["stratum"] = [0] * 4 + [1] * 4
    judged = metrics.segment_auroc(table)
    pairs = [(a, b) for a in range(8) for b in range(8) if wrong[a] and not wrong[b]]
    score = [(risk[a] > risk[b]) + 0.5 * (risk[a] == risk[b]) for a, b in pairs]
    inside = [s for s, (a, b) in zip(score, pairs, strict=True) if a // 4 == b // 4]
    assert judged.loc["all", "auroc"] == pytest.approx(np.mean(score))
    assert judged.loc["within strata", "auroc"] == pytest.approx(np.mean(inside))
    assert judged.loc["within strata", "size_auroc"] == 0.5
