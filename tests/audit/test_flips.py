"""Flip by class and group: intervals over images and clusters, and what is called a difference."""

import numpy as np
import pytest

from flipjax.audit.statistics.flips import compare_groups, flip_gap, flip_pairs, group_table
from flipjax.metrics import Decomposition

NAMES = ("background", "cat", "dog", "cow")


def counts_of(generator, images, *, flips=0.2, more=0.0):
    """Counts of four classes: each image flips its own share of a class; `more` for cats in the odd images."""
    confusion = np.zeros((images, 4, 4), np.int64)
    for c in (1, 2, 3):
        pixels = generator.integers(0, 200, images)
        share = generator.beta(1, 1 / flips - 1, images)
        share = np.clip(share + more * (c == 1) * (np.arange(images) % 2), 0, 1)
        flipped = np.round(pixels * share).astype(int)
        confusion[:, c, c], confusion[:, c, 1 + c % 3] = pixels - flipped, flipped
    return Decomposition(confusion, np.ones(images, np.float32))


def whole_flips(groups, flipped):
    """Counts of three classes where a cat of 100 pixels is a dog in the `flipped` images; each group's images."""
    groups = np.asarray(groups)
    confusion = np.zeros((len(groups), 3, 3), np.int64)
    confusion[:, 0, 0] = 900
    confusion[:, 1, 1] = 100 * ~np.asarray(flipped)
    confusion[:, 1, 2] = 100 * np.asarray(flipped)
    places = {f"site {group}": {1: np.flatnonzero(groups == group)} for group in np.unique(groups)}
    return Decomposition(confusion, np.zeros(len(groups))), places


def halves(images):
    return {name: dict.fromkeys((1, 2, 3), np.arange(side, images, 2)) for side, name in enumerate(("even", "odd"))}


def test_null_groups_differ_in_one_of_twenty_tables():
    generator = np.random.default_rng(2)
    least = []
    for _ in range(200):
        compared = compare_groups(counts_of(generator, 40), halves(40), NAMES)
        least.append(min(row.q for row in compared))
    assert np.mean(np.array(least) < 0.05) <= 0.08


def test_a_difference_is_found():
    counts = counts_of(np.random.default_rng(2), 40, more=0.4)
    first = group_table(compare_groups(counts, halves(40), NAMES)).iloc[0]
    assert (first["class"], first["group"]) == ("cat", "odd") and first["q"] < 0.05
    assert 0 < first["difference_low"] < first["difference"] < first["difference_high"]


def test_seven_of_twenty_patients_against_none_of_sixty():
    """As in a hospital: whole organs of one scanner flip."""
    groups = np.repeat([0, 1, 2, 3], 20)
    counts, places = whole_flips(groups, np.arange(80) < 7)
    table = group_table(compare_groups(counts, places, NAMES[:3]))
    first = table.iloc[0]
    assert (first["class"], first["group"], first["flip"], first["others"]) == ("cat", "site 0", 0.35, 0)
    # 7 of 20 by Clopper and Pearson; by permutation p is C(20, 7) / C(80, 7), 2.4e-5.
    np.testing.assert_allclose([first["low"], first["high"]], [0.1539, 0.5922], atol=1e-4)
    assert first["p"] <= 2e-4 and first["q"] < 0.001
    rest = table[table["group"] != "site 0"]
    assert len(rest) == 3 and (rest["difference"] < 0).all()


def test_two_groups_are_one_comparison():
    counts, places = whole_flips(np.arange(40) % 2, (np.arange(40) % 2 == 1) & (np.arange(40) < 24))
    compared = compare_groups(counts, places, NAMES[:3])
    assert [row.repeats for row in compared] == [True, False]
    assert compared[0].p == compared[1].p == compared[0].q == compared[1].q
    table = group_table(compared)
    assert list(table["group"]) == ["site 1"]


def test_a_class_that_never_flips_is_no_test():
    counts, places = whole_flips(np.arange(40) % 4, np.zeros(40, bool))
    compared = compare_groups(counts, places, NAMES[:3])
    assert [(row.p, row.q, row.flips) for row in compared] == [(1.0, 1.0, False)] * 4
    # 0 of 10 by Clopper and Pearson.
    np.testing.assert_allclose([row.here.high for row in compared], 1 - 0.025**0.1)


def test_clusters_count_as_one():
    """Five slices of each of sixteen patients: those of two patients at one site flip."""
    patient = np.repeat(np.arange(16), 5)
    counts, places = whole_flips(patient % 2, np.isin(patient, (1, 3)))
    alone = compare_groups(counts, places, NAMES[:3])
    together = compare_groups(counts, places, NAMES[:3], clusters=patient)
    assert alone[1].q < 0.01 < 0.2 < together[1].q
    assert together[1].here.high > alone[1].here.high


def test_a_cluster_in_both_groups_is_compared_within_itself():
    """Each patient has slices of both scanners; one scanner flips half of the patients."""
    patient = np.repeat(np.arange(20), 4)
    scanner = np.tile([0, 0, 1, 1], 20)
    counts, places = whole_flips(scanner, (scanner == 1) & (patient % 2 == 0))
    compared = compare_groups(counts, places, NAMES[:3], clusters=patient)
    # Of ten patients who differ all differ the same way: 2 / 2 ** 10.
    assert compared[1].p == pytest.approx(2 / 2**10, abs=1.5e-3)


@pytest.mark.parametrize("films", [2, 3], ids=["one film a group", "one film against two"])
def test_a_group_of_one_film_gives_no_verdict(films):
    counts = counts_of(np.random.default_rng(3), 40, more=0.6)
    film = np.arange(40) % 2
    if films == 3:
        film = np.where((film == 0) & (np.arange(40) < 20), 2, film)
    compared = compare_groups(counts, halves(40), NAMES, clusters=film)
    assert all(np.isnan(row.q) for row in compared)


def test_pairs_are_ranked_by_the_lower_bound():
    confusion = counts_of(np.random.default_rng(4), 30).confusion
    confusion[:, 3] = 0
    confusion[0, 3] = [0, 0, 9, 1]
    pairs = flip_pairs(Decomposition(confusion, np.ones(30)), NAMES)
    assert pairs["low"].is_monotonic_decreasing
    last = pairs[pairs["truth"] == "cow"].iloc[0]
    assert (last["share"], last["images"], last["flipped_images"]) == (0.9, 1, 1)


def test_the_gap_is_the_mean_over_classes_of_rare_minus_common():
    counts = counts_of(np.random.default_rng(5), 24)
    places = {"common": dict.fromkeys((1, 2), np.arange(0, 24, 2)), "rare": dict.fromkeys((1, 2), np.arange(1, 24, 2))}
    mean, low, high = flip_gap(counts, places)
    confusion = counts.confusion
    flips = []
    for c in (1, 2):
        for images in (np.arange(0, 24, 2), np.arange(1, 24, 2)):
            flips.append(1 - confusion[images, c, c].sum() / confusion[images, c].sum())
    assert mean == pytest.approx(np.mean(np.diff(np.reshape(flips, (2, 2))))) and low < mean < high
