"""Drawn intervals of differences of two models and of mean rates: by hand, their laws, and their coverage."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from flipjax.metrics.drawn_rates import RateSums, mean_rate, paired_difference, paired_mean_difference, pooled_sums
from flipjax.metrics.rates import pooled_rate

SAMPLES = 400


def difference_of(old, new, whole, *, samples=SAMPLES, clusters=None):
    """Returns value, low and high of one rate of images with these numerators."""
    sums = [
        pooled_sums(np.reshape(part, (-1, 1)), np.reshape(whole, (-1, 1)), clusters=clusters) for part in (old, new)
    ]
    estimate = paired_difference(*sums, generator=np.random.default_rng(0), samples=samples)
    return [float(end[0]) for end in estimate]


@pytest.mark.parametrize("images", [1, 3, 20, 60])
@pytest.mark.parametrize("flipped", ["none", "all"])
def test_where_no_image_differs_the_interval_is_that_of_zero_in_n(images, flipped):
    whole = np.full(images, 40)
    part = whole if flipped == "all" else 0 * whole
    value, low, high = difference_of(part, part, whole, samples=10_000)
    # Clopper and Pearson's upper end of none in n; by the rule of three, 3.7 / n.
    expected = 1 - 0.025 ** (1 / images)
    assert value == 0 and low == pytest.approx(-high)
    assert high == pytest.approx(expected, rel=0.03)


def test_one_image_that_flips_newly():
    value, low, high = difference_of([0], [8], [8], samples=10_000)
    # With weights u and 1 - u of it and of the further image the lower end is 2 u - 1.
    assert value == 1 and high == 1 and low == pytest.approx(2 * 0.025 - 1, abs=0.01)


@pytest.mark.parametrize(("newly", "is_sure"), [(3, False), (5, False), (7, True), (9, True)])
def test_newly_flipped_organs_of_twenty_are_sure_as_by_the_exact_test(newly, is_sure):
    flips = np.arange(20) < newly
    _, low, _ = difference_of(np.zeros(20), flips, np.ones(20), samples=10_000)
    # McNemar's exact test of the images that changed.
    assert (binomtest(newly, newly).pvalue < 0.05) == is_sure
    assert (low > 0) is is_sure


def slow_ends(old, new, whole):
    """The ends of one rate, draw by draw and image by image."""
    generator = np.random.default_rng(0)
    weights = generator.standard_exponential((SAMPLES, len(whole) + 1))
    size = sum(w * w for w in whole) / sum(whole)
    lower = []
    upper = []
    for row in weights:
        total = sum(weight * w for weight, w in zip(row, whole, strict=False)) + row[-1] * size
        changed = sum(weight * (b - a) for weight, a, b in zip(row, old, new, strict=False))
        lower.append((changed - row[-1] * size) / total)
        upper.append((changed + row[-1] * size) / total)
    return np.quantile(lower, 0.025), np.quantile(upper, 0.975)


counts_of_images = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(1, 9)), min_size=1, max_size=8)


def of_images(rows):
    """Returns old and new numerators, each at most the denominator, and the denominators."""
    old, new, further = np.array(rows).T
    return old, new, np.maximum(old, new) + further


@given(counts_of_images)
def test_the_slow_twin(rows):
    old, new, whole = of_images(rows)
    value, low, high = difference_of(old, new, whole)
    np.testing.assert_allclose(value, (new.sum() - old.sum()) / whole.sum(), atol=1e-12)
    np.testing.assert_allclose([low, high], slow_ends(old.tolist(), new.tolist(), whole.tolist()), atol=1e-9)


@given(counts_of_images)
def test_models_that_change_places_mirror_the_interval(rows):
    old, new, whole = of_images(rows)
    value, low, high = difference_of(old, new, whole)
    other_value, other_low, other_high = difference_of(new, old, whole)
    np.testing.assert_allclose([value, low, high], [-other_value, -other_high, -other_low], atol=1e-9)


@given(counts_of_images)
def test_the_interval_is_within_one_and_holds_the_difference(rows):
    old, new, whole = of_images(rows)
    value, low, high = difference_of(old, new, whole, samples=2000)
    assert -1 <= low <= value + 0.02 and value - 0.02 <= high <= 1


def test_an_image_cut_into_pieces_of_one_cluster_gives_the_same_interval():
    old, new, whole = np.array([[0, 2, 9], [3, 2, 1], [9, 9, 9]])
    pieces = [np.repeat(counts / 3, 3) for counts in (old, new, whole)]
    cut = difference_of(*pieces, clusters=np.repeat(np.arange(3), 3))
    np.testing.assert_allclose(cut, difference_of(old, new, whole))


def test_a_rate_that_a_model_lacks_has_no_difference():
    known, lacking = pooled_sums([[1], [2]], [[4], [4]]), pooled_sums([[0], [0]], [[0], [0]])
    difference = paired_difference(known, lacking, generator=np.random.default_rng(0), samples=SAMPLES)
    assert np.isnan([end[0] for end in difference]).all()


def test_denominators_may_differ_as_those_of_iou():
    # Two images: IoU 2 of 4 with the old model, 3 of 6 and then 3 of 4 with the new one.
    old = pooled_sums([[2], [2]], [[4], [4]])
    new = pooled_sums([[3], [3]], [[6], [4]])
    difference = paired_difference(old, new, generator=np.random.default_rng(0), samples=SAMPLES)
    assert difference.value.tolist() == pytest.approx([0.6 - 0.5])


def test_the_mean_over_classes_leaves_out_what_a_model_lacks():
    old = RateSums(np.array([[2.0, 0.0], [2.0, 0.0]]), np.array([[4.0, 0.0], [4.0, 0.0]]))
    new = RateSums(np.array([[4.0, 1.0], [4.0, 1.0]]), np.array([[4.0, 4.0], [4.0, 4.0]]))
    mean = paired_mean_difference(old, new, generator=np.random.default_rng(0), samples=SAMPLES)
    assert mean.value.tolist() == pytest.approx([(1 + 0.25) / 2 - 0.5])
    alone = paired_mean_difference(
        old.columns([0]), new.columns([0]), generator=np.random.default_rng(0), samples=SAMPLES
    )
    one = paired_difference(old.columns([0]), new.columns([0]), generator=np.random.default_rng(0), samples=SAMPLES)
    np.testing.assert_allclose(alone, one)


@pytest.mark.parametrize(("old_rate", "new_rate"), [(0.0, 0.05), (0.1, 0.1), (0.3, 0.1)])
def test_the_interval_of_a_difference_holds_it(old_rate, new_rate):
    generator = np.random.default_rng(1)
    shape = (20, 400)
    whole = generator.integers(1, 50, shape)
    sums = [pooled_sums(whole * (generator.random(shape) < rate), whole) for rate in (old_rate, new_rate)]
    _, low, high = paired_difference(*sums, generator=generator, samples=1000)
    truth = new_rate - old_rate
    assert ((low <= truth) & (truth <= high)).mean() >= 0.95


@pytest.mark.parametrize("flipped", [0, 2, 7, 20])
def test_the_mean_of_one_rate_has_that_rate_s_interval(flipped):
    part = (np.arange(20) < flipped)[:, None].astype(float)
    mean = mean_rate(pooled_sums(part, np.ones((20, 1))), generator=np.random.default_rng(0))
    np.testing.assert_allclose(mean, pooled_rate(part, np.ones((20, 1))), atol=0.01)


def test_three_perfect_images_do_not_make_a_mean_of_one_sure():
    whole = np.array([[40, 9], [30, 9], [50, 9]])
    value, low, high = mean_rate(pooled_sums(whole, whole), generator=np.random.default_rng(0))
    assert value.tolist() == high.tolist() == [1.0]
    # Clopper and Pearson's lower end of three in three.
    assert low[0] == pytest.approx(0.025 ** (1 / 3), abs=0.03)


def test_a_mean_leaves_out_classes_without_pixels():
    part = np.array([[1.0, 0.0], [3.0, 0.0]])
    whole = np.array([[4.0, 0.0], [4.0, 0.0]])
    both = mean_rate(pooled_sums(part, whole), generator=np.random.default_rng(0))
    alone = mean_rate(pooled_sums(part[:, :1], whole[:, :1]), generator=np.random.default_rng(0))
    np.testing.assert_allclose(both, alone)


def test_a_mean_of_no_class_is_undefined():
    mean = mean_rate(pooled_sums(np.zeros((2, 1)), np.zeros((2, 1))), generator=np.random.default_rng(0))
    assert np.isnan([end[0] for end in mean]).all()
