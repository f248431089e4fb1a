"""Groups compared by permutation: p beside all divisions of the units, and when a test ends."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import false_discovery_control, hypergeom

from flipjax.metrics.statistics import permutation
from flipjax.metrics.statistics.permutation import (
    PermutationUnits,
    false_discovery_q,
    group_p_values,
    make_units,
    permute_within,
)


def units_of(shares, sizes):
    """Units of one class whose groups have these sizes, in order."""
    return make_units(np.array(shares), np.ones(len(shares)), np.repeat(np.arange(len(sizes)), sizes))


def slow_p(shares, size):
    """The fraction of all choices of `size` units whose mean differs from the others' at least as much."""
    shares = np.array(shares)

    def difference(inside):
        rest = np.setdiff1d(np.arange(len(shares)), inside)
        return abs(shares[list(inside)].mean() - shares[rest].mean())

    seen = difference(range(size))
    choices = itertools.combinations(range(len(shares)), size)
    return np.mean([difference(inside) >= seen - 1e-12 for inside in choices])


@pytest.mark.parametrize(
    "shares",
    [[0.9, 0.8, 0.7, 0.1, 0.2, 0.3, 0.4], [0.5, 0.1, 0.6, 0.4, 0.2, 0.3, 0.7], [1, 1, 0, 0, 1, 0, 0]],
    ids=["apart", "mixed", "whole"],
)
def test_p_is_that_of_all_divisions(shares):
    [p] = group_p_values([units_of(shares, (3, 4))])
    # Drawn, so within a few standard errors of 199 permutations or of more.
    np.testing.assert_allclose(p, slow_p(shares, 3), atol=0.1 if p[0] > 0.1 else 0.02)


@pytest.mark.parametrize("size", [2, 3, 5])
@pytest.mark.parametrize("high", [(0, 3), (0, 1, 4, 5, 6), (0, 1, 2, 3, 4, 5)], ids=["few", "many", "all but one"])
def test_p_of_whole_objects_is_exact(high, size):
    shares = np.zeros(7)
    shares[list(high)] = 1
    [p] = group_p_values([units_of(shares, (size, 7 - size))])
    assert p == pytest.approx([slow_p(shares, size), slow_p(shares[::-1], 7 - size)], rel=1e-9)


def test_values_change_places_within_their_stratum_alone():
    strata = np.array([0, 1, 0, 1, 1])
    rows = permute_within(np.arange(5), strata, permutations=600, generator=np.random.default_rng(0))
    for stratum in (0, 1):
        inside = np.flatnonzero(strata == stratum)
        orders, times = np.unique(rows[:, inside], axis=0, return_counts=True)
        # Each order of two is drawn about 300 times, of three about 100.
        assert orders.tolist() == sorted(map(list, itertools.permutations(inside.tolist())))
        assert times.min() > 65


@given(st.lists(st.sampled_from([0.0, 0.001, 0.01, 0.02, 0.04, 0.3, 0.9, 1.0]), min_size=1, max_size=12))
def test_q_is_that_of_scipy(p_values):
    np.testing.assert_array_equal(false_discovery_q(p_values), false_discovery_control(p_values))


@pytest.mark.parametrize(("total", "high", "size"), [(7, 3, 3), (40, 1, 20), (5000, 70, 1900)], ids=str)
def test_chances_of_whole_objects_are_scipy_s(total, high, size):
    counts = np.arange(max(0, high - (total - size)), min(size, high) + 1)
    expected = hypergeom.pmf(counts, total, high, size)
    np.testing.assert_allclose(permutation._hypergeometric(counts, total, high, size), expected, rtol=1e-9)


def test_a_single_unit_has_no_p():
    [p] = group_p_values([units_of([1.0, 0.2, 0.3, 0.1], (1, 3))])
    assert np.isnan(p).all()


def drawn_by(classes, monkeypatch) -> list[int]:
    """Returns how many permutations each stage of each class drew."""
    drawn: list[int] = []
    count = permutation._count_extreme

    def counted(units: PermutationUnits, permutations: int, generator: np.random.Generator) -> np.ndarray:
        drawn.append(permutations)
        return count(units, permutations, generator)

    monkeypatch.setattr(permutation, "_count_extreme", counted)
    group_p_values(classes)
    return drawn


def test_a_test_that_has_ended_is_not_drawn_again(monkeypatch):
    generator = np.random.default_rng(0)
    alike = units_of([0.1, 0.3, 0.5, 0.7, 0.9, 0.1, 0.3, 0.5, 0.7, 0.9], (5, 5))
    apart = units_of(np.sort(generator.random(20)), (10, 10))
    assert drawn_by([alike, apart], monkeypatch) == [199, 199, 1_800, 8_000]


def test_the_budget_bounds_all_tests(monkeypatch):
    monkeypatch.setattr(permutation, "BUDGET", 20 * 1_000)
    apart = units_of(np.sort(np.random.default_rng(0).random(20)), (10, 10))
    assert sum(drawn_by([apart], monkeypatch)) == 1_000
