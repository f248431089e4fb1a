"""The contrast cancels classes and values, has an honest interval, and is nothing under permuted attributes."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from flipjax.assays.statistics.association import usual_mask, usual_values
from flipjax.assays.statistics.contrast import contrast_weights, measure_contrast
from flipjax.assays.statistics.estimates import estimate_flip
from flipjax.assays.statistics.interim import level_of_analysis, p_over_analyses, spent_level
from flipjax.assays.statistics.outcomes import Outcomes, group_shares
from flipjax.assays.statistics.units import AssayUnits, permuted_values

TWO = ((0,), (1,))


def images(counts, clusters=None):
    """Units with as many images of each group."""
    counts = np.asarray(counts)
    y, value = np.divmod(np.repeat(np.arange(counts.size), counts.ravel()), counts.shape[1])
    cluster = np.arange(len(y)) if clusters is None else np.asarray(clusters)
    return AssayUnits(y, value, cluster, *counts.shape)


def outcomes(flips, *, pixels=10.0):
    """What networks made of images with a Flip (S, n)."""
    flips = np.asarray(flips, np.float64)
    foreground = np.full(flips.shape[1], pixels)
    return Outcomes((1 - flips) * pixels, flips * pixels, np.zeros_like(flips), foreground)


def drawn(units, of_groups, *, seeds, key):
    """Whole-image flips with the probabilities (F, V) of the groups."""
    random = np.random.default_rng(key)
    chance = np.asarray(of_groups)[units.class_, units.value]
    return outcomes(random.random((seeds, len(chance))) < chance)


@given(
    classes=st.lists(st.floats(-1, 1), min_size=3, max_size=3),
    values=st.lists(st.floats(-1, 1), min_size=3, max_size=3),
    size=st.floats(-1, 1),
)
def test_effects_of_classes_and_values_cancel(classes, values, size):
    usual = ((0,), (1,), (2,))
    rare = ~usual_mask(usual, 3)
    flips = np.array(classes)[:, None] + np.array(values) + size * rare
    weights = contrast_weights(np.ones((3, 3), int), usual)
    assert (weights * flips).sum() == pytest.approx(size, abs=1e-9)


def test_a_group_without_images_is_left_out_where_others_tell():
    usual = ((0,), (1,), (2,))
    counts = np.ones((3, 3), int)
    counts[0, 1] = 0
    flips = np.arange(3)[:, None] + 0.3 * ~usual_mask(usual, 3)
    weights = contrast_weights(counts, usual)
    assert weights[0, 1] == 0
    assert (weights * flips).sum() == pytest.approx(0.3)


@pytest.mark.parametrize("empty", [(0, 1), (1, 0), (0, 0), (1, 1)], ids=str)
def test_two_by_two_needs_every_group(empty):
    counts = np.full((2, 2), 5)
    counts[empty] = 0
    assert contrast_weights(counts, TWO) is None


def test_a_value_that_is_harder_for_every_class_has_no_contrast():
    units = images([[90, 10], [10, 90]])
    flips = np.where(units.value == 1, 0.6, 0.1)[None].repeat(4, 0)
    assert measure_contrast(units, TWO, outcomes(flips), permutations=50).estimate.value == pytest.approx(0, abs=1e-9)


def test_group_shares_equal_a_loop():
    random = np.random.default_rng(0)
    units = images([[7, 3], [2, 8]])
    pixels = random.integers(1, 50, 20).astype(float)
    flips = random.random((3, 20)) * pixels
    flips[1, 4] = np.nan
    tested = Outcomes(pixels - flips, flips, np.zeros((3, 20)), pixels)
    shares = group_shares(units, pixels, tested.flip)
    for seed in range(3):
        for y in range(2):
            for value in range(2):
                chosen = (units.class_ == y) & (units.value == value) & np.isfinite(flips[seed])
                expected = flips[seed, chosen].sum() / pixels[chosen].sum()
                assert shares[seed, y, value] == pytest.approx(expected)


def test_a_planted_contrast_is_found():
    units = images([[90, 10], [10, 90]])
    contrast = measure_contrast(units, TWO, drawn(units, [[0.1, 0.7], [0.7, 0.1]], seeds=4, key=0), permutations=200)
    assert contrast.estimate.value == pytest.approx(0.6, abs=0.15)
    assert contrast.estimate.low > 0.2
    assert contrast.p < 0.01
    assert abs(contrast.permuted) < 0.3


def test_permuted_attributes_reject_as_often_as_they_say():
    units = images([[40, 20], [20, 40]])
    p = [
        measure_contrast(units, TWO, drawn(units, np.full((2, 2), 0.3), seeds=1, key=key), permutations=99).p
        for key in range(120)
    ]
    # 6 of 120 are expected below 0.05, and 14 or more have a probability of 0.003.
    assert (np.array(p) <= 0.05).sum() < 14


def test_the_interval_covers_what_was_planted():
    units = images([[60, 20], [20, 60]])
    inside = 0
    for key in range(200):
        random = np.random.default_rng(key)
        # Each seed has its own Flip in the rare groups, and each image its own difficulty for all seeds.
        rare = 0.5 + random.normal(0, 0.1, 4)
        hard = random.normal(0, 0.2, 160)
        is_rare = units.class_ != units.value
        flips = np.where(is_rare, rare[:, None], 0.1) + hard
        estimate = estimate_flip(units, outcomes(flips), contrast_weights(units.counts, TWO))
        inside += estimate.low <= 0.4 <= estimate.high
    assert inside >= 186  # 0.93 of 200


@pytest.mark.parametrize("rare", [2, 4, 10], ids=lambda rare: f"{rare} patients in each rare group")
def test_the_interval_covers_what_was_planted_with_few_patients(rare):
    of_groups = np.array([[30 - rare, rare], [rare, 30 - rare]])
    units = images(5 * of_groups, np.repeat(np.arange(60), 5))
    inside = 0
    for key in range(200):
        random = np.random.default_rng(key)
        # Images of a patient are alike: each patient has a difficulty, and each image little of its own.
        hard = np.repeat(random.normal(0, 0.2, 60), 5) + random.normal(0, 0.05, 300)
        is_rare = units.class_ != units.value
        flips = np.where(is_rare, 0.4 + random.normal(0, 0.03, (4, 1)), 0.1) + hard
        estimate = estimate_flip(units, outcomes(flips), contrast_weights(units.counts, TWO))
        inside += estimate.low <= 0.3 <= estimate.high
    assert inside >= 182  # 0.91 of 200; with the variance of all patients together it is 0.80, 0.87 and 0.94.


def test_the_variance_of_groups_of_two_images_by_hand():
    # Shares of 0.3, 0.3, 0.3 and 0.5; in each group two images 0.1 from it: a variance of 0.01 over two, times 1/4.
    units = images([[2, 2], [2, 2]])
    flips = np.array([[0.2, 0.4, 0.2, 0.4, 0.2, 0.4, 0.4, 0.6]]).repeat(4, axis=0)
    estimate = estimate_flip(units, outcomes(flips), np.array([[-0.5, 0.5], [0.5, -0.5]]))
    half = stats.t.ppf(0.975, 4) * math.sqrt(4 * 0.25 * 0.01)
    assert estimate.value == pytest.approx(-0.1)
    assert (estimate.low, estimate.high) == pytest.approx((-0.1 - half, -0.1 + half))


def test_a_group_of_one_patient_has_an_interval_without_information():
    patients = np.concatenate([np.arange(10), np.full(4, 10), np.arange(11, 25)])
    units = images([[10, 4], [4, 10]], patients)
    flips = np.random.default_rng(0).random((4, 28))
    estimate = estimate_flip(units, outcomes(flips), contrast_weights(units.counts, TWO))
    assert (estimate.low, estimate.high) == (-1.0, 1.0)


def test_one_seed_has_an_interval_without_information():
    units = images([[9, 3], [3, 9]])
    estimate = estimate_flip(units, outcomes(np.full((1, 24), 0.5)), contrast_weights(units.counts, TWO))
    assert (estimate.low, estimate.high) == (-1.0, 1.0)


def test_clusters_widen_the_interval():
    counts = [[60, 20], [20, 60]]
    flips = np.repeat(np.random.default_rng(0).random((1, 16)) < 0.3, 10, axis=1).repeat(4, axis=0)
    lengths = []
    for clusters in (None, np.arange(160) // 10):
        units = images(counts, clusters)
        estimate = estimate_flip(units, outcomes(flips), contrast_weights(units.counts, TWO))
        lengths.append(estimate.high - estimate.low)
    assert lengths[1] > 1.2 * lengths[0]


@given(st.integers(0, 100))
def test_permutations_within_classes_keep_the_counts_of_images(seed):
    units = images([[9, 3], [4, 6]])
    unit, drawn_values = permuted_values(units, np.random.default_rng(seed), 3, within_classes=True)
    assert unit == "images"
    for values in drawn_values:
        assert (dataclasses.replace(units, value=values).counts == units.counts).all()


def test_whole_clusters_are_permuted_where_each_has_one_value():
    value = np.repeat([0, 1, 1, 0, 0, 1], 4)
    units = AssayUnits(np.repeat([0, 1], 12), value, np.repeat(np.arange(6), 4), 2, 2)
    unit, drawn_values = permuted_values(units, np.random.default_rng(0), 5, within_classes=True)
    assert unit == "clusters"
    for values in drawn_values:
        assert all(len(set(block)) == 1 for block in values.reshape(6, 4))


@pytest.mark.parametrize(
    ("counts", "usual"),
    [
        ([[95, 5], [85, 15]], ((0,), (1,))),
        ([[10, 10], [10, 10]], ((0,), (1,))),
        ([[5, 95], [95, 5]], ((1,), (0,))),
        ([[8, 1, 1], [1, 8, 1], [1, 1, 8]], ((0,), (1,), (2,))),
        ([[5, 5, 0], [0, 1, 9]], ((0, 1), (2,))),
        ([[9, 9, 9], [9, 9, 9]], ((0, 2), (1,))),
        ([[5, 1, 3], [1, 5, 3]], ((0, 2), (1,))),
        ([[8, 8], [8, 8], [8, 8]], ((0,), (1,), (0,))),
    ],
    ids=[
        "one frequent value",
        "independent",
        "swapped",
        "three",
        "two usual values",
        "three equal values",
        "a value of no class",
        "three equal classes",
    ],
)
def test_usual_values_are_those_above_independence(counts, usual):
    assert usual_values(np.array(counts)) == usual


def null_of(seeds, *, key, images=60, permutations=199):
    """A statistic of noise, its permutations, and both at each look: rows of one image's noise, shared by all seeds."""
    random = np.random.default_rng(key)
    noise = random.normal(size=images) + 0.7 * random.normal(size=(max(seeds), images))
    labels = np.arange(images) % 2 * 2 - 1.0
    means = np.stack([noise[:count].mean(0) for count in seeds])
    null = np.stack([means @ random.permutation(labels) for _ in range(permutations)])
    return means @ labels, null


def test_p_over_analyses_counts_what_an_earlier_look_would_have_stopped():
    # By hand: of 99 permutations and the data, 2.26% is spent by four seeds: the one largest stops there.
    first = np.arange(99.0)
    last = -np.arange(99.0)
    null = np.stack([first, last], axis=1)
    # At the last look 0, -1 and -2 are as large as -2; the one that stopped is counted, too.
    assert p_over_analyses(null, -2.0, [4, 8]) == pytest.approx((1 + 1 + 3) / 100)


def test_one_analysis_is_an_ordinary_permutation_test():
    observed, null = null_of([4], key=0)
    assert p_over_analyses(null, observed[0], [4]) == (1 + (null[:, 0] >= observed[0]).sum()) / 200


def test_interim_analyses_do_not_accuse_more_often_than_their_level():
    seeds = [4, 6, 8, 12, 16]
    accused = 0
    for key in range(400):
        observed, null = null_of(seeds, key=key)
        for look in range(len(seeds)):
            so_far = seeds[: look + 1]
            if p_over_analyses(null[:, : look + 1], observed[look], so_far) <= spent_level(so_far[-1]):
                accused += 1
                break
    # 17 are expected at 0.0433, and 31 or more have a probability of 0.002.
    assert accused <= 30


def test_the_levels_of_analyses_spend_what_they_may():
    seeds = [4, 6, 8, 16]
    random = np.random.default_rng(0)
    sums = np.cumsum(random.normal(size=(200_000, 16)), axis=1)[:, [count - 1 for count in seeds]]
    z = sums / np.sqrt(seeds)
    stopped = np.zeros(len(z), bool)
    for look, count in enumerate(seeds):
        stopped |= stats.norm.sf(z[:, look]) <= level_of_analysis(seeds[: look + 1])
        assert stopped.mean() == pytest.approx(spent_level(count), abs=0.0012)


def test_the_spread_is_told_by_its_parts():
    units = images([[40, 20], [20, 40]])
    random = np.random.default_rng(0)
    hard = random.normal(0, 0.2, 120)
    alike = outcomes(0.4 + hard + np.zeros((4, 1)))
    differing = outcomes(0.4 + (units.class_ != units.value) * np.array([[-0.3], [-0.1], [0.1], [0.3]]) + np.zeros(120))
    weights = contrast_weights(units.counts, TWO)
    of_images = estimate_flip(units, alike, weights).spread
    of_seeds = estimate_flip(units, differing, weights).spread
    assert of_images.over_seeds == pytest.approx(0, abs=1e-12) and of_images.over_images > 1e-4
    assert of_seeds.over_seeds == pytest.approx(np.var([-0.3, -0.1, 0.1, 0.3], ddof=1) / 4)
    assert of_seeds.over_images == pytest.approx(0, abs=1e-12)
    assert of_images.of_groups.sum() == pytest.approx(of_images.over_images)
