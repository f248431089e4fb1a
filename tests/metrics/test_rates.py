"""Rates over images: intervals by hand, their laws, and their coverage."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta, binomtest

from flipjax.metrics.rates import Estimate, difference_of, mean_of, pool_clusters, pooled_rate


@pytest.mark.parametrize(("flipped", "images"), [(0, 3), (1, 20), (7, 20), (60, 60), (3, 200)])
def test_whole_objects_have_the_interval_of_clopper_and_pearson(flipped, images):
    whole = np.full((images, 1), 100)
    part = whole * (np.arange(images) < flipped)[:, None]
    value, low, high = pooled_rate(part, whole)
    exact = binomtest(flipped, images).proportion_ci(method="exact")
    np.testing.assert_allclose([value[0], low[0], high[0]], [flipped / images, exact.low, exact.high])


def slow_bound(part, whole, further):
    """The end towards 0 or 1, by the formula, one rate at a time."""
    units = [(x, w) for x, w in zip(part, whole, strict=True) if w > 0]
    n, total = len(units), sum(w for _, w in units)
    size = sum(w * w for _, w in units) / total
    units.append((further * size, size))
    rate = sum(x for x, _ in units) / sum(w for _, w in units)
    if rate in (0, 1):
        return rate
    variance = sum((x - rate * w) ** 2 for x, w in units) / (total + size) ** 2 * (n + 1) / (n + 2)
    strength = rate * (1 - rate) / variance - 1
    return beta.ppf(0.975 if further else 0.025, rate * strength, (1 - rate) * strength)


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=12))
def test_the_slow_twin(counts):
    part = np.array([[min(pair)] for pair in counts])
    whole = np.array([[max(pair)] for pair in counts])
    estimate = pooled_rate(part, whole)
    if not whole.any():
        assert np.isnan([end[0] for end in estimate]).all()
        return
    expected = [slow_bound(part[:, 0].tolist(), whole[:, 0].tolist(), further) for further in (0.0, 1.0)]
    np.testing.assert_allclose([estimate.low[0], estimate.high[0]], expected, rtol=1e-6, atol=1e-9)


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 50)), min_size=1, max_size=12))
def test_the_interval_holds_the_rate_and_mirrors(counts):
    part = np.array([[min(pair)] for pair in counts])
    whole = np.array([[max(pair)] for pair in counts])
    one, other = pooled_rate(part, whole), pooled_rate(whole - part, whole)
    assert 0 <= one.low[0] <= one.value[0] + 1e-12 and one.value[0] <= one.high[0] + 1e-12 <= 1 + 1e-9
    np.testing.assert_allclose([one.low[0], one.high[0]], [1 - other.high[0], 1 - other.low[0]], atol=1e-9)


def test_an_image_cut_into_pieces_of_one_cluster_gives_the_same_interval():
    generator = np.random.default_rng(0)
    part = generator.integers(0, 9, (12, 2))
    whole = part + generator.integers(1, 9, (12, 2))
    pieces = [np.repeat(counts / 3, 3, axis=0) for counts in (part, whole)]
    expected, cut = pooled_rate(part, whole), pooled_rate(*pieces, clusters=np.repeat(np.arange(12), 3))
    np.testing.assert_allclose(cut, expected)
    alone = pooled_rate(*pieces)
    assert (alone.high - alone.low < expected.high - expected.low).all()


def test_images_without_the_class_do_not_count():
    part, whole = np.array([[1], [0], [3]]), np.array([[4], [9], [4]])
    with_empty = pooled_rate(np.vstack([part, np.zeros((5, 1))]), np.vstack([whole, np.zeros((5, 1))]))
    np.testing.assert_allclose(with_empty, pooled_rate(part, whole))


@pytest.mark.parametrize(("kind", "rate"), [("whole", 0.03), ("whole", 0.1), ("pixels", 0.1), ("pixels", 0.3)])
def test_the_interval_of_a_rate_holds_it(kind, rate):
    generator = np.random.default_rng(1)
    held = 0
    for _ in range(400):
        size = generator.integers(1, 50, (20, 1))
        share = generator.random((20, 1)) < rate if kind == "whole" else generator.beta(2 * rate, 2 - 2 * rate, (20, 1))
        _, low, high = pooled_rate(size * share, size)
        held += low[0] <= rate <= high[0]
    assert held / 400 >= 0.95


def test_clusters_are_summed_in_order_of_their_numbers():
    assert pool_clusters([[1, 0], [2, 1], [5, 2]], [7, 3, 7]).tolist() == [[2, 1], [6, 2]]


def test_a_difference_of_equal_rates_holds_zero():
    rate = pooled_rate(np.array([[1], [3]]), np.array([[4], [4]]))
    value, low, high = difference_of(rate, rate)
    assert value[0] == 0 and low[0] == pytest.approx(-high[0]) and low[0] < 0


def test_a_mean_leaves_out_what_is_undefined():
    known = Estimate(*np.array([[0.2], [0.1], [0.4]]))
    unknown = Estimate(*np.full((3, 1), np.nan))
    np.testing.assert_allclose(mean_of([known, unknown]), known)
