"""Flip by class and group: intervals over images and clusters, and what is called a difference."""

import numpy as np
import pytest

from flipjax.audit.results import flip_gap, flip_pairs, flips_by_group, ratios
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


def halves(images):
    return {name: dict.fromkeys((1, 2, 3), np.arange(side, images, 2)) for side, name in enumerate(("even", "odd"))}


def test_an_image_cut_into_pieces_of_one_cluster_gives_the_same_interval():
    generator = np.random.default_rng(0)
    part = generator.integers(0, 9, (12, 2))
    whole = part + generator.integers(1, 9, (12, 2))
    pieces = [np.repeat(counts / 3, 3, axis=0) for counts in (part, whole)]
    expected, cut = ratios(part, whole), ratios(*pieces, clusters=np.repeat(np.arange(12), 3))
    np.testing.assert_allclose(cut, expected)
    assert (ratios(*pieces).variance < expected.variance).all()


def test_the_interval_of_a_rate_holds_it():
    generator = np.random.default_rng(1)
    held = 0
    for _ in range(400):
        size = generator.integers(1, 50, (20, 1))
        low, high = ratios(size * generator.beta(2, 6, (20, 1)), size).interval()
        held += low[0] <= 0.25 <= high[0]
    assert 0.92 <= held / 400 <= 0.98


def test_null_groups_differ_in_one_of_twenty_tables_and_a_difference_is_found():
    generator = np.random.default_rng(2)
    found = [flips_by_group(counts_of(generator, 40), halves(40), NAMES)["q"].min() < 0.05 for _ in range(200)]
    assert np.mean(found) <= 0.08
    first = flips_by_group(counts_of(generator, 40, more=0.4), halves(40), NAMES).iloc[0]
    assert (first["class"], first["group"]) == ("cat", "odd") and first["q"] < 0.05
    assert 0 < first["difference_low"] < first["difference"] < first["difference_high"]


def test_one_film_a_group_gives_no_verdict():
    counts = counts_of(np.random.default_rng(3), 40, more=0.6)
    table = flips_by_group(counts, halves(40), NAMES, clusters=np.arange(40) % 2)
    assert table["q"].isna().all() and table["difference_low"].isna().all() and len(table) == 3


def test_pairs_are_ranked_by_the_lower_bound():
    confusion = counts_of(np.random.default_rng(4), 30).confusion
    confusion[:, 3] = 0
    confusion[0, 3] = [0, 0, 9, 1]
    pairs = flip_pairs(Decomposition(confusion, np.ones(30)), NAMES)
    assert pairs["low"].fillna(0).is_monotonic_decreasing
    last = pairs.iloc[-1]
    assert (last["truth"], last["share"], last["images"], last["flipped_images"]) == ("cow", 0.9, 1, 1)


def test_the_gap_is_the_mean_over_classes_of_rare_minus_common():
    counts = counts_of(np.random.default_rng(5), 24)
    sides = {c: (np.arange(0, 24, 2), np.arange(1, 24, 2)) for c in (1, 2)}
    mean, low, high = flip_gap(counts, sides)
    confusion = counts.confusion
    flips = [1 - confusion[each, c, c].sum() / confusion[each, c].sum() for c in sides for each in sides[c]]
    assert mean == pytest.approx(np.mean(np.diff(np.reshape(flips, (2, 2))))) and low < mean < high
