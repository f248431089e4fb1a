"""Intervals over images: by hand, beside slow twins, their laws, and their coverage."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta, binomtest, norm, t

from flipjax.metrics.decomposition import Ratio
from flipjax.metrics.statistics.intervals import (
    Estimate,
    difference_of,
    estimate_mean,
    estimate_rate,
    estimate_rates,
    mean_of_estimates,
)
from flipjax.metrics.statistics.paired import (
    paired_difference,
    paired_differences,
    paired_mean_difference,
    paired_p_values,
)
from flipjax.metrics.statistics.units import pool_clusters

counts_of_images = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=12)


def ratio_of(rows):
    """Returns the ratio of pairs of numbers, of which the smaller is the part."""
    part, whole = np.sort(np.array(rows, float), axis=1).T
    return Ratio(part, whole)


@pytest.mark.parametrize(("flipped", "images"), [(0, 3), (0, 20), (60, 60), (1, 1), (1, 20), (7, 20), (3, 200)])
def test_whole_objects_have_the_interval_of_clopper_and_pearson(flipped, images):
    whole = np.full(images, 100)
    value, low, high = estimate_rate(Ratio(whole * (np.arange(images) < flipped), whole))
    exact = binomtest(flipped, images).proportion_ci(method="exact")
    np.testing.assert_allclose([value, low, high], [flipped / images, exact.low, exact.high])


def slow_rate(part, whole):
    """The ends of one rate by the formula, image by image."""
    units = [(x, w) for x, w in zip(part, whole, strict=True) if w > 0]
    n, total = len(units), sum(w for _, w in units)
    rate = sum(x for x, _ in units) / total
    kish = total**2 / sum(w * w for _, w in units)
    variance = 0.0
    if n > 1:
        variance = sum(((x - rate * w) / total) ** 2 for x, w in units) * n / (n - 1)
    number = 1e9
    if rate in (0, 1) or n == 1:
        number = kish
    elif variance > 0:
        number = rate * (1 - rate) / variance * (norm.ppf(0.975) / t.ppf(0.975, n - 1)) ** 2
        number = min(max(number, kish), 1e9)
    x = rate * number
    low = beta.ppf(0.025, x, number - x + 1) if x > 0 else 0
    high = beta.ppf(0.975, x + 1, number - x) if x < number else 1
    return low, high


@given(counts_of_images)
def test_the_slow_twin(rows):
    ratio = ratio_of(rows)
    _, low, high = estimate_rate(ratio)
    if not ratio.whole.any():
        assert math.isnan(low) and math.isnan(high)
        return
    np.testing.assert_allclose([low, high], slow_rate(*map(np.ndarray.tolist, ratio)), rtol=1e-5, atol=1e-6)


@given(counts_of_images)
def test_the_interval_holds_the_rate_and_mirrors(rows):
    ratio = ratio_of(rows)
    one = estimate_rate(ratio)
    other = estimate_rate(Ratio(ratio.whole - ratio.part, ratio.whole))
    if ratio.whole.any():
        assert 0 <= one.low <= one.value + 1e-9 and one.value - 1e-9 <= one.high <= 1
    np.testing.assert_allclose([one.low, one.high], [1 - other.high, 1 - other.low], atol=1e-7)


@pytest.mark.parametrize("share", [0.25, 0.1, 1 / 3])
def test_shares_that_do_not_vary_are_sure_whether_or_not_rounding_makes_them_vary(share):
    whole = np.array([7.0, 13.0, 29.0, 31.0])
    _, low, high = estimate_rate(Ratio(whole * share, whole))
    assert share - 1e-4 < low < share < high < share + 1e-4


@pytest.mark.parametrize("flips", [0, 1], ids=["nothing", "everything"])
def test_images_of_unequal_sizes_say_less_where_all_agree(flips):
    whole = np.array([30.0, 10.0, 10.0])
    # Kish's number: 50^2 / 1100.
    end = 0.025 ** (1100 / 2500)
    expected = (0, 1 - end) if not flips else (end, 1)
    np.testing.assert_allclose(estimate_rate(Ratio(whole * flips, whole))[1:], expected)


def test_one_image_says_little():
    _, low, high = estimate_rate(Ratio(np.array([3]), np.array([10])))
    assert low < 0.001 and high > 0.99


def test_an_image_cut_into_pieces_of_one_cluster_gives_the_same_interval():
    generator = np.random.default_rng(0)
    part = generator.integers(0, 9, (12, 2))
    whole = part + generator.integers(1, 9, (12, 2))
    pieces = Ratio(np.repeat(part / 3, 3, axis=0), np.repeat(whole / 3, 3, axis=0))
    clusters = np.repeat(np.arange(12), 3)
    np.testing.assert_allclose(estimate_rates(pieces, clusters=clusters), estimate_rates(Ratio(part, whole)))
    np.testing.assert_allclose(estimate_mean(pieces, clusters=clusters), estimate_mean(Ratio(part, whole)))
    changed = Ratio(part[::-1], whole)
    cut = Ratio(np.repeat(part[::-1] / 3, 3, axis=0), pieces.whole)
    expected = paired_differences(Ratio(part, whole), changed)
    np.testing.assert_allclose(paired_differences(pieces, cut, clusters=clusters), expected)


def test_images_without_the_class_do_not_count():
    part, whole = np.array([1, 0, 3]), np.array([4, 9, 4])
    with_empty = Ratio(np.append(part, np.zeros(5)), np.append(whole, np.zeros(5)))
    np.testing.assert_allclose(estimate_rate(with_empty), estimate_rate(Ratio(part, whole)))
    changed = Ratio(np.append(part + 1, np.zeros(5)), with_empty.whole)
    expected = paired_difference(Ratio(part, whole), Ratio(part + 1, whole))
    np.testing.assert_allclose(paired_difference(with_empty, changed), expected)


def test_pixels_that_weigh_double_are_two_pixels():
    part, whole = np.array([1, 0, 3]), np.array([4, 9, 4])
    np.testing.assert_allclose(estimate_rate(Ratio(part * 2.5, whole * 2.5)), estimate_rate(Ratio(part, whole)))


def shares_of(generator, kind, rate, shape):
    """Draws shares of images: organs that flip as a whole, nearly the same share of each image, or skewed shares."""
    if kind == "organs":
        return (generator.random(shape) < rate).astype(float)
    if kind == "constant":
        return generator.normal(rate, 0.004, shape).clip(0, 1)
    return generator.lognormal(-4.2, 1.2, shape).clip(0, 1)


@pytest.mark.parametrize(
    ("kind", "rate", "images", "coverage", "width"),
    [
        ("organs", 0.05, 40, 0.971, 0.175),
        ("organs", 0.2, 20, 0.949, 0.409),
        ("organs", 0.2, 60, 0.967, 0.257),
        ("constant", 0.027, 60, 0.951, 0.002),
        ("skewed", 0.0306, 60, 0.888, 0.030),
    ],
    ids=str,
)
def test_the_interval_of_a_rate_holds_it_as_often_as_was_measured(kind, rate, images, coverage, width):
    """Of 1,000 samples, so within 0.03; the logarithm of the sizes of organs has a standard deviation of 0.6."""
    generator = np.random.default_rng(0)
    whole = generator.lognormal(5, 0.6, (images, 1000))
    _, low, high = estimate_rates(Ratio(whole * shares_of(generator, kind, rate, whole.shape), whole))
    assert ((low <= rate) & (rate <= high)).mean() == pytest.approx(coverage, abs=0.03)
    assert (high - low).mean() == pytest.approx(width, abs=0.015)


def test_the_mean_of_one_rate_has_that_rate_s_interval():
    part = (np.arange(20) < 7)[:, None]
    ratio = Ratio(part, np.ones((20, 1)))
    np.testing.assert_allclose(estimate_mean(ratio), estimate_rates(ratio).at(0))


def test_a_mean_leaves_out_classes_without_pixels_and_is_undefined_without_any():
    ratio = Ratio(np.array([[1.0, 0.0], [3.0, 0.0]]), np.array([[4.0, 0.0], [4.0, 0.0]]))
    np.testing.assert_allclose(estimate_mean(ratio), estimate_rate(Ratio(ratio.part[:, 0], ratio.whole[:, 0])))
    assert np.isnan(estimate_mean(Ratio(np.zeros((2, 1)), np.zeros((2, 1))))).all()


def test_a_mean_is_as_unsure_as_a_class_of_one_image_makes_it():
    part = np.array([[9.0, 0.0], [9.1, 0.0], [8.9, 3.0]])
    whole = np.array([[10.0, 0.0], [10.0, 0.0], [10.0, 4.0]])
    _, low, high = estimate_mean(Ratio(part, whole))
    # Of the class of one image nearly all is possible, and it is half of the mean.
    assert low < 0.9 / 2 + 0.02 and high > 0.9 / 2 + 0.99 / 2


def test_three_perfect_images_do_not_make_a_mean_of_one_sure():
    whole = np.array([[40, 9], [40, 9], [40, 9]])
    np.testing.assert_allclose(estimate_mean(Ratio(whole, whole)), [1, 0.025 ** (1 / 3), 1])


@pytest.mark.parametrize("images", [1, 3, 60])
def test_equal_predictions_do_not_differ(images):
    flips = Ratio(np.arange(images) % 3, np.full(images, 40))
    assert paired_difference(flips, flips)[1:] == (0, 0)
    classes = Ratio(np.ones((images, 2)), np.full((images, 2), 4))
    assert paired_mean_difference(classes, classes) == (0, 0, 0)


def slow_difference(old, new, whole):
    """The ends of one difference, with two more images, by the formula of a rate whose denominator is shared."""
    n, size = len(whole), sum(whole) / len(whole)
    most = max(abs(b - a) / w for a, b, w in zip(old, new, whole, strict=True))
    changes = [*(b - a for a, b in zip(old, new, strict=True)), most * size, -most * size]
    wholes = [*whole, size, size]
    middle = sum(changes) / sum(wholes)
    moved = [(change - middle * w) / size for change, w in zip(changes, wholes, strict=True)]
    half = t.ppf(0.975, n + 1) * math.sqrt(sum(m * m for m in moved) / (n + 1) / (n + 2))
    return max(middle - half, -1), min(middle + half, 1)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(1, 9)), min_size=1, max_size=8))
def test_the_slow_twin_of_a_difference(rows):
    old, new, further = np.array(rows).T
    whole = np.maximum(old, new) + further
    value, low, high = paired_difference(Ratio(old, whole), Ratio(new, whole))
    assert -1 <= low <= value + 1e-9 and value - 1e-9 <= high <= 1
    np.testing.assert_allclose([low, high], slow_difference(old.tolist(), new.tolist(), whole.tolist()), atol=1e-9)
    other = paired_difference(Ratio(new, whole), Ratio(old, whole))
    np.testing.assert_allclose(other, [-value, -high, -low], atol=1e-9)


def test_denominators_may_differ_as_those_of_iou():
    # Two images: IoU 2 of 4 with the old model, 3 of 6 and then 3 of 4 with the new one.
    old = Ratio(np.array([2, 2]), np.array([4, 4]))
    new = Ratio(np.array([3, 3]), np.array([6, 4]))
    value, low, high = paired_difference(old, new)
    assert value == pytest.approx(0.1) and low < 0.1 < high


def test_a_rate_that_a_model_lacks_has_no_difference():
    known, lacking = Ratio(np.array([1, 2]), np.array([4, 4])), Ratio(np.zeros(2), np.zeros(2))
    assert np.isnan(paired_difference(known, lacking)).all()


def test_the_difference_of_a_mean_of_one_rate_is_that_of_the_rate():
    old = Ratio(np.array([[2.0], [2.0], [1.0]]), np.full((3, 1), 4.0))
    new = Ratio(np.array([[4.0], [3.0], [1.0]]), np.full((3, 1), 5.0))
    np.testing.assert_allclose(paired_mean_difference(old, new), paired_differences(old, new).at(0))


@pytest.mark.parametrize(
    ("old_rate", "new_rate", "images", "coverage", "width", "power"),
    [
        (0.05, 0.05, 60, 0.986, 0.198, 0.02),
        (0.1, 0.0, 40, 0.955, 0.242, 0.13),
        (0.2, 0.0, 60, 0.943, 0.249, 0.98),
    ],
    ids=str,
)
def test_the_interval_of_a_difference_holds_it_as_often_as_was_measured(
    old_rate, new_rate, images, coverage, width, power
):
    """Of 1,000 samples, so within 0.03: organs that one model flips, or the other."""
    generator = np.random.default_rng(0)
    whole = generator.lognormal(5, 0.6, (images, 1000))
    drawn = generator.random(whole.shape)
    old = Ratio(whole * (drawn < old_rate), whole)
    new = Ratio(whole * ((drawn >= old_rate) & (drawn < old_rate + new_rate)), whole)
    _, low, high = paired_differences(old, new)
    truth = new_rate - old_rate
    assert ((low <= truth) & (truth <= high)).mean() == pytest.approx(coverage, abs=0.03)
    assert (high - low).mean() == pytest.approx(width, abs=0.015)
    assert ((low > 0) | (high < 0)).mean() == pytest.approx(power, abs=0.05)


def slow_mean_difference(old, new, whole):
    """The ends of one difference of means over classes with pixels in every image, image by image."""
    n, classes = whole.shape
    totals = whole.sum(0)
    changes = (new - old).sum(0) / totals
    moved = []
    for i in range(n):
        # What the difference would be if every image changed it as this one does.
        change = sum((new[i, k] - old[i, k] - changes[k] * whole[i, k]) / totals[k] for k in range(classes))
        moved.append(changes.mean() + n * change / classes)
    own = [sum((new[i, k] - old[i, k]) / whole[i, k] for k in range(classes)) / classes for i in range(n)]
    largest = max(map(abs, own + moved))
    values = [*moved, largest, -largest]
    half = t.ppf(0.975, n + 1) * math.sqrt(np.var(values, ddof=1) / (n + 2))
    middle = sum(values) / (n + 2)
    return max(middle - half, -1), min(middle + half, 1)


@given(st.integers(1, 8), st.integers(0, 2**16))
def test_the_slow_twin_of_a_difference_of_means(images, seed):
    generator = np.random.default_rng(seed)
    whole = generator.integers(1, 20, (images, 3))
    old, new = generator.integers(0, whole + 1), generator.integers(0, whole + 1)
    value, low, high = paired_mean_difference(Ratio(old, whole), Ratio(new, whole))
    np.testing.assert_allclose([low, high], slow_mean_difference(old, new, whole), atol=1e-9)
    assert -1 <= low <= value + 1e-9 and value - 1e-9 <= high <= 1
    other = paired_mean_difference(Ratio(new, whole), Ratio(old, whole))
    np.testing.assert_allclose(other, [-value, -high, -low], atol=1e-9)


def test_a_change_of_mean_iou_is_found_in_sixty_images():
    """Five organs, of which the new model flips a twentieth: found in nearly all of 100 samples, and covered."""
    generator = np.random.default_rng(0)
    found = held = 0
    for _ in range(100):
        whole = generator.lognormal(5, 0.6, (60, 5))
        flipped = generator.random(whole.shape) < 0.05
        _, low, high = paired_mean_difference(Ratio(whole, whole), Ratio(whole * ~flipped, whole))
        found += high < 0
        held += low <= -0.05 <= high
    assert found >= 80 and held >= 88


def test_clusters_are_summed_in_order_of_their_numbers():
    assert pool_clusters([[1, 0], [2, 1], [5, 2]], [7, 3, 7]).tolist() == [[2, 1], [6, 2]]


def test_a_difference_of_equal_rates_of_other_images_holds_zero():
    rate = estimate_rate(Ratio(np.array([1, 3]), np.array([4, 4])))
    value, low, high = difference_of(rate, rate)
    assert value == 0 and low == pytest.approx(-high) and low < 0


def test_a_mean_of_estimates_leaves_out_what_is_undefined():
    known = Estimate(0.2, 0.1, 0.4)
    unknown = Estimate(math.nan, math.nan, math.nan)
    np.testing.assert_allclose(mean_of_estimates([known, unknown]), known)
    assert np.isnan(mean_of_estimates([unknown])).all()


@pytest.mark.parametrize("clusters", [None, np.arange(24) // 2], ids=["images", "clusters"])
def test_p_of_a_difference_is_small_where_its_interval_does_not_hold_0(clusters):
    generator = np.random.default_rng(5)
    whole = generator.integers(5, 40, (24, 60))
    chance = generator.uniform(0, 0.4, 60)
    old = Ratio(generator.binomial(whole, 0.2), whole)
    new = Ratio(generator.binomial(whole, chance), whole)
    change = paired_differences(old, new, clusters=clusters)
    p = paired_p_values(old, new, clusters=clusters)
    excludes_zero = (change.low > 0) | (change.high < 0)
    assert excludes_zero.any() and not excludes_zero.all()
    np.testing.assert_array_equal(p < 0.05, excludes_zero)
    assert paired_p_values(old, old, clusters=clusters).tolist() == [1] * 60
